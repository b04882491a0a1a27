//! The server of a scenario, in its namespace: ours, or another on the same bench.
//!
//! In: which server, where. Out: a process that accepts calls, the address to join at, and, for
//! ours, tokens to join with.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use super::{RunError, program};
use crate::lab::{Lab, Node};

/// How long a server may take until it accepts calls.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Our signaling port in the namespace: what the strictest firewall lets through. TURN over TLS has it
/// too, on the server's IPv6 address.
const CONFAB_PORT: u16 = 443;

/// The port of TURN over TLS where there is no IPv6 (RFC 8656 section 18).
const TURNS_PORT: u16 = 5349;

/// The port of Janus's WebSocket transport, as its documentation has it.
const JANUS_PORT: u16 = 8188;

/// Nobody beyond the namespaces can reach the server that this opens, but it wants one.
const API_KEY: &str = "netem";
const API_SECRET: &str = "only-for-a-server-inside-a-namespace";

/// The origin of the pages in the browsers; it is not served from anywhere.
const PAGE_ORIGIN: &str = "http://localhost";

/// Which server is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerKind {
    /// Ours.
    Confab,
    /// Janus with its VideoRoom plugin.
    Janus,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerKind::Confab => "confab",
            ServerKind::Janus => "janus",
        })
    }
}

impl FromStr for ServerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "confab" => Ok(ServerKind::Confab),
            "janus" => Ok(ServerKind::Janus),
            _ => Err(format!("\"{text}\" is no server: give confab or janus")),
        }
    }
}

/// Where the programs are that a run starts, and what they play.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Our server.
    pub confab: PathBuf,
    /// The directory of the browser participant and of what starts Janus and iperf3.
    pub browser: PathBuf,
    /// The headless participant.
    pub bot: PathBuf,
    /// What browsers say, a WAV file; they make their own if it is not there.
    pub speech: PathBuf,
    /// Where the pictures of bots are kept from run to run; it exists.
    pub media: PathBuf,
}

/// A server that accepts calls. The lab ends its process.
#[derive(Debug)]
pub struct Server {
    kind: ServerKind,
    address: Ipv4Addr,
    confab: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a server in the lab and waits until it accepts calls. `workers` is for ours, none is
    /// one for each core; `dir` is for what it writes.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(
        lab: &Lab,
        node: Node,
        kind: ServerKind,
        workers: Option<u32>,
        programs: &Programs,
        dir: &Path,
    ) -> Result<Self, RunError> {
        let address = lab.addresses(node).v4;
        let command = match kind {
            ServerKind::Confab => {
                let mut command = lab.command(node, &programs.confab.to_string_lossy());
                configure_confab(&mut command, address, workers);
                let turns = match lab.addresses(node).v6 {
                    Some(v6) => SocketAddr::from((v6, CONFAB_PORT)),
                    None => SocketAddr::from((address, TURNS_PORT)),
                };
                configure_tls(&mut command, turns, dir)?;
                command
            }
            ServerKind::Janus => {
                let mut command = lab.command(node, "node");
                configure_janus(&mut command, address, &programs.browser, dir);
                command
            }
        };
        let log = dir.join(format!("{kind}.log"));
        let (child, stdout) = program::start(command, &log)?;
        let (said, lines) = mpsc::channel();
        // Both servers say one line when they are ready; what follows must be read all the same.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        lines
            .recv_timeout(START_PATIENCE)
            .map_err(|_| RunError::Server { kind, log })?;
        Ok(Server {
            kind,
            address,
            confab: programs.confab.clone(),
            child,
        })
    }

    /// Where the server is.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where clients join.
    #[must_use]
    pub fn url(&self) -> String {
        let address = self.address;
        match self.kind {
            ServerKind::Confab => format!("ws://{address}:{CONFAB_PORT}/v1/ws"),
            ServerKind::Janus => format!("ws://{address}:{JANUS_PORT}"),
        }
    }

    /// What lets a participant into a room; none where none is needed.
    ///
    /// # Errors
    /// When our server makes none.
    pub fn token(&self, room: &str, name: &str) -> Result<Option<String>, RunError> {
        if self.kind == ServerKind::Janus {
            return Ok(None);
        }
        let mut command = Command::new(&self.confab);
        set_key(&mut command);
        let output = command
            .args(["token", "--room", room, "--identity", name, "--name", name])
            .output()
            .map_err(|error| RunError::Program {
                program: self.confab.clone(),
                error,
            })?;
        let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || token.is_empty() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(RunError::Token { why });
        }
        Ok(Some(token))
    }

    /// Its process, for those who measure what it costs.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Has a command obey none of the user's settings of our server, and know the key.
fn set_key(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONFAB_") {
            command.env_remove(name);
        }
    }
    command
        .env("CONFAB_AUTH_API_KEY", API_KEY)
        .env("CONFAB_AUTH_API_SECRET", API_SECRET);
}

fn configure_confab(command: &mut Command, address: Ipv4Addr, workers: Option<u32>) {
    set_key(command);
    command
        .env("CONFAB_HTTP_LISTEN", format!("{address}:{CONFAB_PORT}"))
        .env("CONFAB_HTTP_ALLOWED_ORIGINS", PAGE_ORIGIN)
        .env("CONFAB_MEDIA_LISTEN", address.to_string())
        .env("CONFAB_MEDIA_WORKERS", workers.unwrap_or(0).to_string());
}

/// Serves TURN over TLS, with a certificate made for it.
fn configure_tls(command: &mut Command, turns: SocketAddr, dir: &Path) -> Result<(), RunError> {
    let certified = rcgen::generate_simple_self_signed([turns.ip().to_string()])?;
    let write = |name: &str, pem: String| {
        let path = dir.join(name);
        match std::fs::write(&path, pem) {
            Ok(()) => Ok(path),
            Err(error) => Err(RunError::Write { path, error }),
        }
    };
    let certificate = write("turn-certificate.pem", certified.cert.pem())?;
    let key = write("turn-key.pem", certified.signing_key.serialize_pem())?;
    command
        .env("CONFAB_TURN_TLS_LISTEN", turns.to_string())
        .env("CONFAB_TURN_TLS_CERTIFICATE", certificate)
        .env("CONFAB_TURN_TLS_KEY", key);
    Ok(())
}

fn configure_janus(command: &mut Command, address: Ipv4Addr, browser: &Path, dir: &Path) {
    command
        .arg(browser.join("janus.mjs"))
        .args(["--address", &address.to_string()])
        .args(["--ws-port", &JANUS_PORT.to_string()])
        .arg("--dir")
        .arg(dir.join("janus"));
}
