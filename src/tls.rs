//! The doors with TLS: one port for pages, WebSockets and TURN.
//!
//! In: connections to the addresses that are set. Out: streams for signaling and for the relay,
//! neither of which knows of certificates, or of the other. What a client wants is told by what it
//! says in the handshake (ALPN), or else by the first byte after it.

mod certificate;
mod door;

use std::net::SocketAddr;

use confab_signaling::Entrance;
use confab_turn::net::Handle;

pub(crate) use certificate::{CertificateError, Source};
use door::{Behind, Door, DoorError, Limits};

/// What one door is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// Whether pages and signaling are behind it.
    pub(crate) http: bool,
    /// Whether the relay is.
    pub(crate) turn: bool,
    pub(crate) source: Source,
}

/// All doors, which have their addresses.
#[derive(Debug)]
pub(crate) struct Doors(Vec<(Plan, Door)>);

impl Doors {
    /// Takes the addresses.
    ///
    /// # Errors
    /// When one cannot be had, or a certificate cannot be used.
    pub(crate) fn bind(plans: Vec<Plan>) -> Result<Doors, DoorError> {
        let doors = plans.into_iter().map(|plan| {
            let door = Door::bind(&plan)?;
            Ok((plan, door))
        });
        Ok(Doors(doors.collect::<Result<_, DoorError>>()?))
    }

    /// Where pages are served.
    pub(crate) fn http(&self) -> Vec<SocketAddr> {
        self.addresses(|plan| plan.http)
    }

    /// Where TURN is served.
    pub(crate) fn turn(&self) -> Vec<SocketAddr> {
        self.addresses(|plan| plan.turn)
    }

    fn addresses(&self, is_one: fn(&Plan) -> bool) -> Vec<SocketAddr> {
        let doors = self.0.iter().filter(|(plan, _)| is_one(plan));
        doors.map(|(_, door)| door.address()).collect()
    }

    /// Lets clients through, in tasks of their own, for as long as the runtime lives.
    pub(crate) fn open(self, http: Option<&Entrance>, turn: Option<&Handle>, max_sessions: usize) {
        let limits = Limits::new(max_sessions);
        for (plan, door) in self.0 {
            let address = door.address();
            let behind = Behind {
                http: http.filter(|_| plan.http).cloned(),
                turn: turn.filter(|_| plan.turn).cloned(),
            };
            tracing::info!(%address, http = plan.http, turn = plan.turn, "TLS listens");
            if matches!(plan.source, Source::SelfSigned(_)) {
                tracing::warn!(
                    %address,
                    "the certificate is self-signed, so browsers warn of it and take it for pages \
                     once you tell them to, and never for TURN; for real use, set \
                     http.tls_certificate and http.tls_key to a certificate for your host name, \
                     such as certbot makes"
                );
            }
            let limits = limits.clone();
            tokio::spawn(async move {
                if let Err(error) = door.open(behind, limits).await {
                    tracing::error!(%address, %error, "TLS has stopped");
                }
            });
        }
    }
}
