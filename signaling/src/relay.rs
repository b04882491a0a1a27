//! The relay that takes media past firewalls, as the control plane sees it.
//!
//! What comes in is a user's name; what goes out are servers for its WebRTC client with credentials
//! of its own. Which program relays is the caller's: it implements [`Relay`]. A session is one user,
//! from its `hello` or its last `leave` to its next; a WHIP or WHEP participant is one, too.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};

use crate::protocol::{IceServer, IceServers};

/// How long credentials are good. A revoked user is remembered as long, and a relay ends the
/// allocations of credentials that have run out, so clients ask for others in good time.
pub const LIFETIME: Duration = Duration::from_secs(4 * 60 * 60);

/// Makes credentials and takes them back.
pub trait Relay: Debug + Send + Sync {
    /// The servers, with credentials for `user` that are good for `lifetime` from now.
    fn mint(&self, user: &str, lifetime: Duration) -> Vec<IceServer>;

    /// Ends at once what `user` relays, and takes no credentials of it for `lifetime` from now.
    fn revoke(&self, user: &str, lifetime: Duration);

    /// Whether it still relays. One that does not is told of to nobody.
    fn is_alive(&self) -> bool {
        true
    }

    /// What it counts; nothing, if it does not count.
    fn stats(&self) -> BoxFuture<'_, RelayStats> {
        ready(RelayStats::default()).boxed()
    }
}

/// What a relay has done since its start, and what it holds now.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RelayStats {
    /// Allocations now.
    pub allocations: u64,
    /// TCP and TLS connections now.
    pub connections: u64,
    /// Allocations made.
    pub allocated: u64,
    /// Packets relayed, by where to.
    pub packets: Vec<(&'static str, u64)>,
    /// Bytes of their payload.
    pub bytes: Vec<(&'static str, u64)>,
    /// Packets and requests that came to nothing, by the reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// How often it has begun anew after a fault of its own.
    pub restarts: u64,
}

/// The relay, if there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relays(Option<Arc<dyn Relay>>);

impl Relays {
    pub(crate) fn new(relay: Arc<dyn Relay>) -> Relays {
        Relays(Some(relay))
    }

    /// What a client may use; `None` without a relay.
    pub(crate) fn mint(&self, user: &str) -> Option<IceServers> {
        let relay = self.0.as_ref().filter(|relay| relay.is_alive())?;
        Some(IceServers {
            ice_servers: relay.mint(user, LIFETIME),
            expires_in: LIFETIME.as_secs(),
        })
    }

    pub(crate) fn revoke(&self, user: &str) {
        if let Some(relay) = &self.0 {
            relay.revoke(user, LIFETIME);
        }
    }
}
