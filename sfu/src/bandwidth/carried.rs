//! What is handed on from one connection of a client to the next.

use std::net::IpAddr;

use crate::units::Bitrate;

/// What the path to a peer carried when it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Where the path led.
    pub address: IpAddr,
    /// The estimate, of before an outage if there was one.
    pub rate: Bitrate,
}
