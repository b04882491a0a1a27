//! Whose a session or a place in a room is, as the limits count it.

use std::net::IpAddr;

use confab_sockets::subscriber::subscriber;

use crate::auth::Access;

/// Whose something is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Where they come from.
    pub address: IpAddr,
    /// Who they are, as an access token says it: what clients say themselves counts for nothing.
    pub identity: Option<String>,
}

/// What limits of an identity count. All who come by one link have its identity, so that it is another one
/// on every subscriber line.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Proven {
    identity: String,
    line: IpAddr,
}

impl Holder {
    /// Who comes from there with a token that allows this.
    #[must_use]
    pub fn new(address: IpAddr, access: &Access) -> Holder {
        Holder {
            address,
            identity: access.identity.clone(),
        }
    }

    /// Who they are to the limits of an identity; none if nobody vouches for who they are.
    pub(crate) fn proven(&self) -> Option<Proven> {
        Some(Proven {
            identity: self.identity.clone()?,
            line: subscriber(self.address),
        })
    }
}
