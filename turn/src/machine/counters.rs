//! What the server has done and refused, for metrics: a dropped packet is counted, not logged.

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Allocations made.
    pub allocated: u64,
    /// Packets and bytes relayed from clients to peers.
    pub to_peers: Traffic,
    /// Packets and bytes relayed from peers to clients.
    pub to_clients: Traffic,
    /// Packets that are not well-formed, or not what a client sends.
    pub malformed: u64,
    /// Requests without or with wrong credentials, and those over the limit for them.
    pub unauthenticated: u64,
    /// Of these, requests that got no answer because their source had too many.
    pub rate_limited: u64,
    /// Packets to or from peers that the policy forbids.
    pub forbidden: u64,
    /// Packets without a permission, a channel or an allocation.
    pub unpermitted: u64,
    /// Packets over a bandwidth quota.
    pub over_quota: u64,
}

/// Packets and their payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}
