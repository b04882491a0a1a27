//! The way to this process's own media plane, past the kernel.
//!
//! In: what is relayed to one of its addresses. Out: a packet in the queue of that address, with the
//! relay address as its sender, as it would have come over the wire.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use confab_sockets::memory::{Relayed, Sender};

use crate::client::Client;

/// The media plane's queues, by its addresses.
#[derive(Debug, Default)]
pub(super) struct MediaLink {
    queues: Vec<Sender>,
    /// Which queue an address has.
    addresses: HashMap<SocketAddr, usize>,
}

impl MediaLink {
    pub(super) fn new(queues: Vec<(Vec<SocketAddr>, Sender)>) -> Self {
        let mut link = MediaLink::default();
        for (addresses, queue) in queues {
            let index = link.queues.len();
            let addresses = addresses.into_iter().map(|address| (address, index));
            link.addresses.extend(addresses);
            link.queues.push(queue);
        }
        link
    }

    /// Gives the queues, in their order, other addresses.
    pub(super) fn set_addresses(&mut self, addresses: &[Vec<SocketAddr>]) {
        let of_queues = addresses.iter().take(self.queues.len()).enumerate();
        self.addresses = of_queues
            .flat_map(|(index, addresses)| addresses.iter().map(move |at| (*at, index)))
            .collect();
    }

    /// Hands a packet over that comes from this relay address of the allocation with this number;
    /// `false` if its address has no queue, and the kernel is to take it.
    pub(super) fn hand_over(
        &self,
        now: Instant,
        client: &Client,
        (relay, allocation): (SocketAddr, u64),
        media: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let queue = self.addresses.get(&media);
        let Some(queue) = queue.and_then(|&index| self.queues.get(index)) else {
            return false;
        };
        let relayed = Relayed {
            allocation,
            is_of_stream: client.is_stream(),
        };
        queue.send_relayed(now, (relay, media), relayed, payload);
        true
    }

    /// Packets lost for want of room.
    pub(super) fn drops(&self) -> u64 {
        self.queues.iter().map(Sender::drops).sum()
    }
}
