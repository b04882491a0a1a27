//! The `confab` binary as a child process on loopback, on ports of its own.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::metrics::{Metrics, get};

/// How long the server may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to stop when asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Below the range that Linux picks ephemeral ports from, so that nobody is given one of ours.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How often a free port is looked for.
const PORT_ATTEMPTS: usize = 200;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    authority: String,
    media_port: u16,
}

impl Server {
    /// Starts a server with this many media workers and further settings as `CONFAB_*` variables,
    /// and waits until it is ready.
    pub async fn start(
        binary: &Path,
        workers: u16,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Server> {
        let authority = format!("127.0.0.1:{}", free_tcp_port()?);
        let media_port = free_udp_ports(workers)?;
        let mut command = Command::new(binary);
        // The server refuses variables of ours that it does not know, and must not have others.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONFAB_") {
                command.env_remove(name);
            }
        }
        let child = command
            .env("CONFAB_HTTP_LISTEN", &authority)
            .env("CONFAB_MEDIA_PORT", media_port.to_string())
            .env("CONFAB_MEDIA_WORKERS", workers.to_string())
            .env("CONFAB_TURN_LISTEN", "off")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let mut server = Server {
            child,
            authority,
            media_port,
        };
        let deadline = Instant::now() + START_PATIENCE;
        while get(&server.authority, "/health/ready").await.is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended at once: {status}", binary.display());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} was not ready within {START_PATIENCE:?}",
                    binary.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// The WebSocket to join through.
    pub fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.authority)
    }

    /// Host and port of its HTTP side.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The UDP port of its first worker.
    pub fn media_port(&self) -> u16 {
        self.media_port
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it counts.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        Metrics::fetch(&self.authority).await
    }

    /// Asks it to stop, as an operator does, and says how it ended.
    pub async fn stop(mut self) -> anyhow::Result<std::process::ExitStatus> {
        let signalled = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()?;
        if !signalled.success() {
            bail!("kill -TERM {} failed: {signalled}", self.pid());
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the server did not stop within {STOP_PATIENCE:?} of SIGTERM");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server to test: `CONFAB_BIN`, or what was built last in `target`.
pub fn find_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CONFAB_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("CONFAB_BIN names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let built = ["release", "debug"].map(|profile| target.join(profile).join("confab"));
    let modified = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).ok();
    built
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(modified)
        .with_context(|| {
            format!(
                "there is no confab binary in {}: run `cargo build -p confab` or set CONFAB_BIN",
                target.display()
            )
        })
}

/// A free TCP port that nobody is given by chance.
pub(crate) fn free_tcp_port() -> anyhow::Result<u16> {
    for _ in 0..PORT_ATTEMPTS {
        let port = rand::random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!(
        "found no free TCP port from {} to {}",
        PORTS.start,
        PORTS.end
    )
}

/// The first of `count` free UDP ports in a row.
fn free_udp_ports(count: u16) -> anyhow::Result<u16> {
    for _ in 0..PORT_ATTEMPTS {
        let first = rand::random_range(PORTS);
        let free = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + count).all(free) {
            return Ok(first);
        }
    }
    bail!(
        "found no {count} free UDP ports in a row from {} to {}",
        PORTS.start,
        PORTS.end
    )
}
