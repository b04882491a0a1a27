//! The TURN server, alone or beside the SFU.
//!
//! In: the settings, and where the SFU receives media. Out: a thread that relays until its end, and
//! what signaling tells clients of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use confab_signaling::protocol::IceServer;
use confab_signaling::session::new_secret;
use confab_turn::credentials::Secret;
use confab_turn::net::{Error, Handle, Server};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::tls::{Behind, Doors};
use crate::{Failure, Signals};

/// A relay that runs in a thread of its own; dropping it stops it.
pub(crate) struct Relay {
    /// For signaling.
    pub(crate) door: Arc<Door>,
    _stop: oneshot::Sender<()>,
}

/// Lets participants of calls use the relay, and keeps those out who have left.
#[derive(Debug)]
pub(crate) struct Door {
    urls: Vec<String>,
    secret: Secret,
    handle: Handle,
}

impl Door {
    /// The way to the relay.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl confab_signaling::relay::Relay for Door {
    fn mint(&self, user: &str, lifetime: Duration) -> Vec<IceServer> {
        let minted = self.secret.mint(unix_in(lifetime), user);
        vec![IceServer {
            urls: self.urls.clone(),
            username: minted.username,
            credential: minted.password,
        }]
    }

    fn revoke(&self, user: &str, lifetime: Duration) {
        self.handle.revoke(user, unix_in(lifetime));
    }
}

/// Seconds since 1970, so much later.
fn unix_in(lifetime: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    (now.unwrap_or_default() + lifetime).as_secs()
}

/// Starts a relay that knows the SFU's addresses as its own, and serves what comes through these
/// doors.
///
/// # Errors
/// When the settings contradict each other, or an address cannot be had.
pub(crate) fn start(
    config: &Config,
    media: &[SocketAddr],
    tls: &[SocketAddr],
) -> Result<Relay, Failure> {
    let secret = config.turn.secret.clone().unwrap_or_else(new_secret);
    let secret = Secret::new(&secret);
    let settings = confab_turn::net::Config {
        secret: Some(secret.clone()),
        ..config.turn(media, tls)
    };
    let server = Server::bind(settings).map_err(explain)?;
    log(&server);
    let door = Door {
        urls: config.relay_urls(server.addresses(), tls),
        secret,
        handle: server.handle(),
    };
    let runtime = runtime()?;
    let (_stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("turn".into())
        .spawn(move || {
            let stop = async {
                // Either way it is time to stop.
                let _ = stopped.await;
            };
            if let Err(error) = runtime.block_on(server.run(stop)) {
                tracing::error!(%error, "the relay has stopped");
            }
        })?;
    let door = Arc::new(door);
    Ok(Relay { door, _stop })
}

/// Who has not asked for a relay must be told how to go without.
fn explain(error: Error) -> Failure {
    match error {
        Error::Listen { .. } => format!(
            "{error}: --turn-listen sets where TURN is served, and --turn-listen off does without it"
        )
        .into(),
        error => error.into(),
    }
}

/// Runs a relay without anything else, until a signal.
///
/// # Errors
/// When the settings contradict each other, or an address cannot be had.
pub(crate) fn serve_alone(config: &Config) -> Result<(), Failure> {
    let doors = Doors::bind(config.tls_doors(false)?)?;
    let server = Server::bind(config.turn(&[], &doors.turn()))?;
    log(&server);
    runtime()?.block_on(async {
        let behind = Behind {
            turn: Some(server.handle()),
            ..Behind::default()
        };
        doors.open(&behind, config.control.max_sessions);
        println!("Confab's TURN server is ready.");
        let mut signals = Signals::new()?;
        server.run(signals.next()).await?;
        Ok(())
    })
}

/// One thread owns all sockets of the relay: nothing is gained by more.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn log(server: &Server) {
    let addresses = server.addresses();
    for (transport, addresses) in [("UDP", &addresses.udp), ("TCP", &addresses.tcp)] {
        for address in addresses {
            tracing::info!(%address, transport, "TURN listens");
        }
    }
}
