//! The link to a relay in the same process, past the kernel.
//!
//! In: packets that the relay hands over, and datagrams of its own clients that have come to a socket
//! which it shares with this worker. Out: packets for clients behind the relay, and those datagrams.
//! Each has the addresses that it would have on the wire; queues that are full lose packets, as links do.

use std::net::SocketAddr;
use std::time::Instant;

use confab_sockets::memory::{Packet, Receiver, Relayed, Sender, queue};

use crate::path::Path;
use crate::peer::stun::{is_binding, local_ufrag_of};
use crate::rtp::packet::PacketClass;
use crate::send::outbox::Run;

/// The first bytes of ChannelData messages (RFC 8656 section 12).
const CHANNELS: std::ops::RangeInclusive<u8> = 64..=79;

/// What a media plane beside a relay is started with.
#[derive(Clone, Debug)]
pub struct RelayQueues {
    /// Takes packets for the relay's addresses.
    pub media: Sender,
    /// Takes datagrams of the relay's clients.
    pub clients: Sender,
    /// The workers' addresses that clients of the relay come to as well.
    pub shared: Vec<SocketAddr>,
}

/// How a relay reaches one worker.
#[derive(Debug)]
pub struct MediaLink {
    /// Where the worker's socket is bound.
    pub address: SocketAddr,
    /// Takes packets from the relay's addresses.
    pub queue: Sender,
    /// Sends to the clients of the relay that have come to the worker's socket, if it is shared.
    pub socket: Option<std::net::UdpSocket>,
}

#[derive(Debug)]
pub(crate) struct RelayLink {
    from_relay: Receiver,
    to_relay: Sender,
    clients: Option<Sender>,
}

impl RelayLink {
    /// A link that nothing comes through.
    #[must_use]
    pub(crate) fn none() -> Self {
        RelayLink {
            from_relay: queue().1,
            to_relay: queue().0,
            clients: None,
        }
    }

    /// The link of the worker that is bound there, and its other end.
    #[must_use]
    pub(crate) fn new(queues: &RelayQueues, address: SocketAddr) -> (Self, Sender) {
        let (sender, receiver) = queue();
        let is_shared = queues.shared.contains(&address);
        let link = RelayLink {
            from_relay: receiver,
            to_relay: queues.media.clone(),
            clients: is_shared.then(|| queues.clients.clone()),
        };
        (link, sender)
    }

    /// Waits for a packet from the relay.
    pub(crate) async fn next(&mut self) -> Packet {
        self.from_relay.next().await
    }

    /// A packet that waits, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Packet> {
        self.from_relay.take(now)
    }

    /// Sends a run of datagrams from an address of ours to one of an allocation.
    pub(crate) fn send(
        &self,
        now: Instant,
        (media, relay): (SocketAddr, SocketAddr),
        through: Relayed,
        run: &Run,
        bytes: &[u8],
    ) {
        for datagram in bytes.chunks(run.segment_size.max(1)) {
            let addresses = (media, relay);
            self.to_relay
                .send_relayed(now, addresses, through, datagram);
        }
    }

    /// Hands a datagram to the relay if it is one of its client's; `false` if it is the worker's.
    pub(crate) fn take_over(
        &self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        let clients = self.clients.as_ref().filter(|_| is_for_relay(datagram));
        if let Some(clients) = clients {
            clients.send(now, from, to, datagram);
        }
        clients.is_some()
    }
}

/// The path of a packet that the relay has handed over.
#[must_use]
pub(crate) fn path_of(packet: &Packet) -> Path {
    Path::Relayed {
        relay: packet.from,
        media: packet.to,
        through: packet.relayed,
    }
}

/// Whether a datagram is TURN, or STUN without ICE. Connectivity checks are Binding requests with the
/// name of a peer; the answers to ours are the only other messages of that method that mean anything.
fn is_for_relay(datagram: &[u8]) -> bool {
    match PacketClass::of(datagram) {
        PacketClass::Stun => match is_binding(datagram) {
            Some(is_request) => is_request && local_ufrag_of(datagram).is_none(),
            None => true,
        },
        PacketClass::Unknown => datagram
            .first()
            .is_some_and(|first| CHANNELS.contains(first)),
        PacketClass::Rtp | PacketClass::Rtcp | PacketClass::Dtls => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A STUN message of this type without attributes.
    fn stun(kind: u16) -> Vec<u8> {
        let mut message = kind.to_be_bytes().to_vec();
        message.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
        message.resize(20, 7);
        message
    }

    /// With a USERNAME.
    fn named(kind: u16, username: &str) -> Vec<u8> {
        let mut message = stun(kind);
        let len = username.len().next_multiple_of(4);
        message.extend([0, 6, 0, username.len() as u8]);
        message.extend(username.as_bytes());
        message.resize(24 + len, 0);
        message[3] = 4 + len as u8;
        message
    }

    #[test]
    fn turn_and_media_on_one_port_are_told_apart() {
        const ALLOCATE: u16 = 0x0003;
        const SEND_INDICATION: u16 = 0x0016;
        for (is_for_the_relay, datagram) in [
            (true, stun(0x0001)),
            (true, stun(ALLOCATE)),
            (true, named(ALLOCATE, "1700000000:alice")),
            (true, stun(SEND_INDICATION)),
            (true, vec![0x40, 0, 0, 4, 1, 2, 3, 4]),
            (true, vec![0x4f, 0xff, 0, 0]),
            (false, named(0x0001, "ours:theirs")),
            (false, stun(0x0101)),
            (false, stun(0x0111)),
            (false, stun(0x0011)),
            (false, vec![22, 254, 253, 0]),
            (false, vec![128, 96, 0, 0]),
            (false, vec![128, 200, 0, 0]),
            (false, vec![0x50, 0, 0, 0]),
            (false, vec![]),
        ] {
            assert_eq!(is_for_relay(&datagram), is_for_the_relay, "{datagram:x?}");
        }
    }

    #[test]
    fn only_a_shared_port_has_datagrams_for_the_relay() {
        let [client, shared, other] = [1, 7000, 7001].map(|port| ([127, 0, 0, 1], port).into());
        let (clients, mut received) = queue();
        let queues = RelayQueues {
            media: queue().0,
            clients,
            shared: vec![shared],
        };
        let now = Instant::now();
        let request = stun(0x0003);
        let (link, _) = RelayLink::new(&queues, other);
        assert!(!link.take_over(now, client, other, &request));
        let (link, _) = RelayLink::new(&queues, shared);
        assert!(!link.take_over(now, client, shared, &[128, 96, 0, 0]));
        assert!(link.take_over(now, client, shared, &request));
        let packet = received.take(now).map(|p| (p.from, p.to, p.payload));
        assert_eq!(packet, Some((client, shared, request)));
    }

    #[test]
    fn the_next_holder_of_a_relay_address_is_somebody_else() {
        let [relay, media] = [50_000, 7000].map(|port| ([127, 0, 0, 1], port).into());
        let queues = RelayQueues {
            media: queue().0,
            clients: queue().0,
            shared: Vec::new(),
        };
        let (mut link, from_relay) = RelayLink::new(&queues, media);
        let now = Instant::now();
        let mut paths = Vec::new();
        for allocation in 1..=2 {
            let relayed = Relayed {
                allocation,
                is_of_stream: false,
            };
            from_relay.send_relayed(now, (relay, media), relayed, b"check");
            let path = path_of(&link.take(now).expect("a packet"));
            assert_eq!(path.address(), relay);
            paths.push(path);
        }
        assert_ne!(paths[0], paths[1]);
    }
}
