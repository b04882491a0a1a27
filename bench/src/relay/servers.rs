//! `confab turn` and coturn as child processes on loopback, set to do the same.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls::pki_types::CertificateDer;

use super::client::NAME;
use super::wire::{Transport, Wire};
use crate::cpu::CpuTimes;
use crate::server::free_tcp_port;

/// How long a server may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// More than any load here asks for: limits are not what is measured.
const NO_LIMIT: &str = "100000";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Confab,
    Coturn,
}

/// A certificate for localhost and its key, in files of their own.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    chain: PathBuf,
    key: PathBuf,
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Relay {
    child: Child,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Certificate {
    pub(super) fn make() -> anyhow::Result<Certificate> {
        let made = rcgen::generate_simple_self_signed(["localhost".into()])?;
        let file = |kind| {
            let name = format!("confab-bench-{}-{kind}.pem", std::process::id());
            std::env::temp_dir().join(name)
        };
        let (chain, key) = (file("certificate"), file("key"));
        std::fs::write(&chain, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Certificate {
            der: made.cert.der().clone(),
            chain,
            key,
        })
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        for file in [&self.chain, &self.key] {
            // What is left in the temporary directory does no harm.
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Relay {
    /// Starts a server and waits until it is ready.
    pub(super) fn start(
        kind: Kind,
        binary: &Path,
        certificate: &Certificate,
    ) -> anyhow::Result<Relay> {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (plain, tls) = (address(free_tcp_port()?), address(free_tcp_port()?));
        let mut command = Command::new(binary);
        match kind {
            Kind::Confab => set_confab(&mut command, plain, tls, certificate),
            Kind::Coturn => set_coturn(&mut command, plain, tls, certificate),
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let mut relay = Relay { child, plain, tls };
        let deadline = Instant::now() + START_PATIENCE;
        while [plain, tls]
            .iter()
            .any(|&at| TcpStream::connect(at).is_err())
        {
            if let Some(status) = relay.child.try_wait()? {
                bail!("{} ended at once: {status}", binary.display());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} was not ready within {START_PATIENCE:?}",
                    binary.display()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(relay)
    }

    /// Connects a client to it from an address of loopback.
    pub(super) fn connect(
        &self,
        transport: Transport,
        from: Ipv4Addr,
        certificate: &Certificate,
    ) -> anyhow::Result<Wire> {
        let server = match transport {
            Transport::Udp | Transport::Tcp => self.plain,
            Transport::Tls => self.tls,
        };
        Wire::connect(transport, from, server, &certificate.der)
    }

    /// The CPU time that it has used so far.
    pub(super) fn cpu(&self) -> anyhow::Result<CpuTimes> {
        CpuTimes::of_process(self.child.id())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_confab(
    command: &mut Command,
    plain: SocketAddr,
    tls: SocketAddr,
    certificate: &Certificate,
) {
    // The server refuses variables of ours that it does not know, and must not have others.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONFAB_") {
            command.env_remove(name);
        }
    }
    command
        .arg("turn")
        .env("CONFAB_TURN_LISTEN", plain.to_string())
        .env("CONFAB_TURN_TLS_LISTEN", tls.to_string())
        .env("CONFAB_TURN_TLS_CERTIFICATE", &certificate.chain)
        .env("CONFAB_TURN_TLS_KEY", &certificate.key)
        .env("CONFAB_TURN_RELAY_IPS", plain.ip().to_string())
        .env("CONFAB_TURN_ALLOW", "127.0.0.0/8")
        .env("CONFAB_TURN_REALM", NAME)
        .env("CONFAB_TURN_USERS", format!("{NAME}:{NAME}"))
        .env("CONFAB_TURN_MAX_USER_ALLOCATIONS", NO_LIMIT)
        .env("CONFAB_TURN_MAX_USER_MBITS", NO_LIMIT);
}

fn set_coturn(
    command: &mut Command,
    plain: SocketAddr,
    tls: SocketAddr,
    certificate: &Certificate,
) {
    command
        // No configuration file; the relay in one thread, as ours.
        .args(["-n", "--relay-threads", "1", "--allow-loopback-peers"])
        .args(["--no-cli", "--no-dtls", "--no-software-attribute"])
        .args(["--log-file", "/dev/null", "--no-stdout-log"])
        .args(["--lt-cred-mech", "--user", &format!("{NAME}:{NAME}")])
        .args(["--realm", NAME])
        .args(["--listening-ip", &plain.ip().to_string()])
        .args(["--relay-ip", &plain.ip().to_string()])
        .args(["--listening-port", &plain.port().to_string()])
        .args(["--tls-listening-port", &tls.port().to_string()])
        .arg("--cert")
        .arg(&certificate.chain)
        .arg("--pkey")
        .arg(&certificate.key)
        .args(["--pidfile", "/dev/null"]);
}
