//! The TURN server, alone or beside the SFU.
//!
//! In: the settings, and where the SFU receives media. Out: a thread that relays until its end.

use std::net::SocketAddr;

use confab_turn::net::{Handle, Server};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::{Failure, Signals};

/// A relay that runs in a thread of its own; dropping it stops it.
pub(crate) struct Relay {
    /// For minting's sake: what revokes credentials and tells how it is doing.
    #[expect(dead_code, reason = "signaling is going to take it")]
    pub(crate) handle: Handle,
    _stop: oneshot::Sender<()>,
}

/// Starts a relay that knows the SFU's addresses as its own.
///
/// # Errors
/// When the settings contradict each other, or an address cannot be had.
pub(crate) fn start(config: &Config, media: &[SocketAddr]) -> Result<Relay, Failure> {
    let server = Server::bind(config.turn(media)?)?;
    log(&server);
    let handle = server.handle();
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
    Ok(Relay { handle, _stop })
}

/// Runs a relay without anything else, until a signal.
///
/// # Errors
/// When the settings contradict each other, or an address cannot be had.
pub(crate) fn serve_alone(config: &Config) -> Result<(), Failure> {
    let server = Server::bind(config.turn(&[])?)?;
    log(&server);
    println!("Confab's TURN server is ready.");
    runtime()?.block_on(async {
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
    for (transport, addresses) in [
        ("UDP", &addresses.udp),
        ("TCP", &addresses.tcp),
        ("TLS", &addresses.tls),
    ] {
        for address in addresses {
            tracing::info!(%address, transport, "TURN listens");
        }
    }
}
