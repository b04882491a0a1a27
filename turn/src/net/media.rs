//! The way to this process's own media plane, past the kernel.
//!
//! In: what is relayed to one of its addresses. Out: a packet in its queue, with the relay address as
//! its sender, as it would have come over the wire. A queue that is full loses packets, as a link
//! would; the media plane answers through a queue of its own.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::sync::mpsc::{self, error::TrySendError};

/// Packets in each queue: 200 ms at 40 Mbit/s.
pub(super) const QUEUE_LEN: usize = 1024;

/// A packet between a relay address and the media plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaPacket {
    /// The relay address, as clients are told it: the sender, or who it is for.
    pub relay: SocketAddr,
    /// The media plane's address that it is for, or from.
    pub media: SocketAddr,
    /// What a datagram would carry.
    pub payload: Vec<u8>,
}

/// The media plane's queues, by its addresses.
#[derive(Debug, Default)]
pub(super) struct MediaLink {
    queues: HashMap<SocketAddr, mpsc::Sender<MediaPacket>>,
    drops: u64,
}

impl MediaLink {
    pub(super) fn new(queues: HashMap<SocketAddr, mpsc::Sender<MediaPacket>>) -> Self {
        MediaLink { queues, drops: 0 }
    }

    /// Hands a packet over; `false` if its address has no queue, and the kernel is to take it.
    pub(super) fn hand_over(
        &mut self,
        relay: SocketAddr,
        media: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let Some(queue) = self.queues.get(&media) else {
            return false;
        };
        let room = queue.try_reserve();
        match room {
            Ok(place) => place.send(MediaPacket {
                relay,
                media,
                payload: payload.to_vec(),
            }),
            Err(TrySendError::Full(())) => self.drops += 1,
            // A worker that is gone takes nothing; neither would its socket.
            Err(TrySendError::Closed(())) => self.drops += 1,
        }
        true
    }

    /// Packets lost for want of room.
    pub(super) fn drops(&self) -> u64 {
        self.drops
    }
}
