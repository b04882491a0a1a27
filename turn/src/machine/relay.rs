//! What is relayed: Send indications (RFC 8656 section 11), ChannelData (section 12), and what comes
//! back. No answer ever tells that something was not relayed; counters do.

use std::net::{SocketAddr, SocketAddrV6};
use std::time::Instant;

use rand::Rng;
use stun_types::message::TransactionId;

use super::allocation::{Allocation, Id, RelayId, Socket};
use super::{Output, Turn};
use crate::channel::ChannelData;
use crate::client::Client;
use crate::message::{DATA, Family, ICMP, Incoming, write_data_indication};
use crate::policy::Verdict;

/// The ICMP types that are passed on: destination unreachable and time exceeded (RFC 8656 section
/// 11.6, RFC 792).
const ICMP_V4: [u8; 2] = [3, 11];

/// For ICMPv6, also packet too big (RFC 4443).
const ICMP_V6: [u8; 3] = [1, 2, 3];

/// A payload to be sent to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forward<'p> {
    /// The relay address that it leaves from.
    pub relay: RelayId,
    /// The peer it is for.
    pub peer: SocketAddr,
    /// What the peer is sent.
    pub payload: &'p [u8],
    /// Whether the peer is this server's own media plane, and may be handed the payload in memory.
    pub is_own_media: bool,
}

/// What a router said of a packet that was relayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmp {
    /// Its type, of ICMP or ICMPv6 after the family of the peer.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The path's MTU in bytes if that was exceeded, or else 0.
    pub mtu: u32,
}

impl Turn {
    pub(super) fn channel_data<'p>(
        &mut self,
        now: Instant,
        client: &Client,
        packet: &'p [u8],
    ) -> Option<Forward<'p>> {
        let Some(message) = ChannelData::parse(packet) else {
            self.counters.malformed += 1;
            return None;
        };
        let bound = self.allocations.id_of(client).and_then(|id| {
            let allocation = self.allocations.get(id)?;
            Some((id, allocation.channels.peer(now, message.number)?))
        });
        let Some((id, peer)) = bound else {
            self.counters.unpermitted += 1;
            return None;
        };
        self.forward(now, id, peer, message.payload)
    }

    pub(super) fn send_indication<'p>(
        &mut self,
        now: Instant,
        client: &Client,
        message: &Incoming<'p>,
    ) -> Option<Forward<'p>> {
        let fields = &message.fields;
        let (Some(peer), Some(payload)) = (fields.peer, fields.data) else {
            self.counters.malformed += 1;
            return None;
        };
        let is_understood = message.unknown().is_empty() && !fields.is_malformed;
        if !is_understood || (fields.dont_fragment && !self.settings.dont_fragment) {
            self.counters.malformed += 1;
            return None;
        }
        let permitted = self.allocations.id_of(client).filter(|&id| {
            let allocation = self.allocations.get(id);
            allocation.is_some_and(|a| a.permissions.has(now, peer.ip()) && a.has_family_of(peer))
        });
        let Some(id) = permitted else {
            self.counters.unpermitted += 1;
            return None;
        };
        self.forward(now, id, peer, payload)
    }

    fn forward<'p>(
        &mut self,
        now: Instant,
        id: Id,
        peer: SocketAddr,
        payload: &'p [u8],
    ) -> Option<Forward<'p>> {
        let verdict = self.verdict(peer);
        if verdict == Verdict::Deny {
            self.counters.forbidden += 1;
            return None;
        }
        let grant = self.allocations.get(id)?.grant;
        if !self.quotas.spend(now, grant, payload.len()) {
            self.counters.over_quota += 1;
            return None;
        }
        self.counters.to_peers.add(payload.len());
        let family = Family::of(peer.ip());
        let relay = RelayId { id, family };
        // A port of an address of our media: a permission alone has not said so.
        if verdict == Verdict::Relay
            && self.allocations.get(id)?.socket(family) == Some(Socket::None)
        {
            self.bind(relay);
        }
        Some(Forward {
            relay,
            peer,
            payload,
            is_own_media: verdict == Verdict::OwnMedia,
        })
    }

    /// Takes a packet that came to a relay address. What it appends to `out` is to be sent to the
    /// client that it returns.
    pub fn handle_peer(
        &mut self,
        now: Instant,
        relay: RelayId,
        peer: SocketAddr,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Client> {
        let peer = without_scope(peer);
        let permitted = self.permitted(now, relay, peer);
        let Some(allocation) = permitted else {
            self.counters.unpermitted += 1;
            return None;
        };
        let (client, grant) = (allocation.client, allocation.grant);
        let channel = allocation.channels.number(now, peer);
        if self.verdict(peer) == Verdict::Deny {
            self.counters.forbidden += 1;
            return None;
        }
        if !self.quotas.spend(now, grant, payload.len()) {
            self.counters.over_quota += 1;
            return None;
        }
        let written = match channel {
            Some(number) => ChannelData { number, payload }.write(client.is_stream(), out),
            None => write_data_indication(self.transaction(), peer, DATA, payload, out),
        };
        if !written {
            self.counters.malformed += 1;
            return None;
        }
        self.counters.to_clients.add(payload.len());
        Some(client)
    }

    /// Takes an ICMP error for a packet that went from a relay address to a peer.
    pub fn handle_icmp(&mut self, now: Instant, relay: RelayId, peer: SocketAddr, icmp: Icmp) {
        let peer = without_scope(peer);
        let is_passed_on = match relay.family {
            Family::V4 => ICMP_V4.contains(&icmp.kind),
            Family::V6 => ICMP_V6.contains(&icmp.kind),
        };
        let permitted = self.permitted(now, relay, peer);
        let Some(client) = permitted.filter(|_| is_passed_on).map(|a| a.client) else {
            return;
        };
        // RFC 8656 section 18.13: 16 bits of nothing, 7 of type, 9 of code, 32 of data.
        let [high, low] = (u16::from(icmp.kind) << 9 | u16::from(icmp.code)).to_be_bytes();
        let [a, b, c, d] = icmp.mtu.to_be_bytes();
        let (mut message, value) = (Vec::new(), [0, 0, high, low, a, b, c, d]);
        if write_data_indication(self.transaction(), peer, ICMP, &value, &mut message) {
            self.send_message(client, message);
        }
    }

    fn send_message(&mut self, client: Client, message: Vec<u8>) {
        self.outputs.push_back(Output::Send { client, message });
    }

    /// What is to be done with packets to and from a peer; not [`Verdict::OwnHost`].
    pub(super) fn verdict(&mut self, peer: SocketAddr) -> Verdict {
        let verdict = match self.last_verdict {
            Some((last, verdict)) if last == peer => verdict,
            _ => {
                let verdict = self.settings.policy.verdict(peer);
                self.last_verdict = Some((peer, verdict));
                verdict
            }
        };
        // Allocations come and go, so that whether there is one is asked each time.
        match verdict {
            Verdict::OwnHost if self.relay_at(peer).is_some() => Verdict::Relay,
            Verdict::OwnHost => Verdict::Deny,
            verdict => verdict,
        }
    }

    /// The allocation of a relay address, if it has a permission for the peer.
    fn permitted(&self, now: Instant, relay: RelayId, peer: SocketAddr) -> Option<&Allocation> {
        let allocation = self.allocations.get(relay.id)?;
        let is_its_own = allocation.relays[relay.family as usize].is_some();
        (is_its_own && allocation.permissions.has(now, peer.ip())).then_some(allocation)
    }

    fn transaction(&mut self) -> TransactionId {
        TransactionId::from(self.rng.random::<u128>() & (u128::MAX >> 32))
    }
}

/// The address as STUN has it: without the scope and flow that the system adds.
fn without_scope(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0).into(),
    }
}
