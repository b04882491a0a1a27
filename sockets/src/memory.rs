//! Datagrams between the parts of one process, past the kernel.
//!
//! In: packets, each with the addresses that it would have on the wire. Out: the same, in their order,
//! in the task that reads the queue. It behaves as a link does: what finds no room, or has waited for
//! too long, is lost, and only a count says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// How long a packet may wait. Audio that is later is of no use, and a reader that is so far behind
/// has to be seen as congested.
pub const MAX_WAIT: Duration = Duration::from_millis(200);

/// Packets that may wait: [`MAX_WAIT`] at 50 Mbit/s, in packets of 1200 bytes.
pub const MAX_PACKETS: usize = 1024;

/// A datagram that the kernel has not seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Whom it is from.
    pub from: SocketAddr,
    /// Whom it is for.
    pub to: SocketAddr,
    /// What it has come through, or goes through.
    pub relayed: Relayed,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The allocation that a packet goes through. Nothing, for one that goes through none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Relayed {
    /// Its number, from 1; never used twice. An address is: its next holder is somebody else.
    pub allocation: u64,
    /// Whether its client is on a TCP connection, on which nothing is lost and all waits for what is late.
    pub is_of_stream: bool,
}

/// The end that packets go in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: mpsc::Sender<(Instant, Packet)>,
    drops: Arc<AtomicU64>,
}

/// The end that they come out.
#[derive(Debug)]
pub struct Receiver {
    queue: mpsc::Receiver<(Instant, Packet)>,
    drops: Arc<AtomicU64>,
}

/// An empty queue.
#[must_use]
pub fn queue() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(MAX_PACKETS);
    let drops = Arc::new(AtomicU64::new(0));
    let sender = Sender {
        queue: sender,
        drops: drops.clone(),
    };
    let receiver = Receiver {
        queue: receiver,
        drops,
    };
    (sender, receiver)
}

impl Sender {
    /// Sends a packet, whose payload is copied; it is lost when there is no room, or nobody reads.
    pub fn send(&self, now: Instant, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        self.send_relayed(now, (from, to), Relayed::default(), payload);
    }

    /// Sends a packet like [`Sender::send`] that goes through an allocation.
    pub fn send_relayed(
        &self,
        now: Instant,
        (from, to): (SocketAddr, SocketAddr),
        relayed: Relayed,
        payload: &[u8],
    ) {
        match self.queue.try_reserve() {
            Ok(place) => {
                let packet = Packet {
                    from,
                    to,
                    relayed,
                    payload: payload.to_vec(),
                };
                place.send((now, packet));
            }
            Err(_) => count(&self.drops),
        }
    }

    /// Packets of the queue that have been lost.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops.load(Ordering::Relaxed)
    }
}

impl Receiver {
    /// Packets of the queue that have been lost.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops.load(Ordering::Relaxed)
    }

    /// Waits for a packet; without anybody to send one, for ever.
    pub async fn next(&mut self) -> Packet {
        loop {
            let Some((sent, packet)) = self.queue.recv().await else {
                return std::future::pending().await;
            };
            if let Some(packet) = self.in_time(Instant::now(), sent, packet) {
                return packet;
            }
        }
    }

    /// A packet that waits, if there is one.
    pub fn take(&mut self, now: Instant) -> Option<Packet> {
        loop {
            let (sent, packet) = self.queue.try_recv().ok()?;
            if let Some(packet) = self.in_time(now, sent, packet) {
                return Some(packet);
            }
        }
    }

    fn in_time(&self, now: Instant, sent: Instant, packet: Packet) -> Option<Packet> {
        let is_late = now.saturating_duration_since(sent) > MAX_WAIT;
        if is_late {
            count(&self.drops);
        }
        (!is_late).then_some(packet)
    }
}

fn count(drops: &AtomicU64) {
    drops.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[tokio::test]
    async fn packets_come_out_as_they_went_in() {
        let (sender, mut receiver) = queue();
        let now = Instant::now();
        for n in 0..2_u8 {
            sender.send(now, address(1), address(2), &[n; 5]);
        }
        let relayed = Relayed {
            allocation: 7,
            is_of_stream: true,
        };
        sender.send_relayed(now, (address(1), address(2)), relayed, &[2; 5]);
        let expected = |n| Packet {
            from: address(1),
            to: address(2),
            relayed: if n == 2 { relayed } else { Relayed::default() },
            payload: vec![n; 5],
        };
        assert_eq!(receiver.next().await, expected(0));
        assert_eq!(receiver.take(now), Some(expected(1)));
        assert_eq!(receiver.take(now), Some(expected(2)));
        assert_eq!(receiver.take(now), None);
        assert_eq!(sender.drops(), 0);
    }

    #[test]
    fn what_finds_no_room_is_lost() {
        let (sender, mut receiver) = queue();
        let now = Instant::now();
        for _ in 0..MAX_PACKETS + 3 {
            sender.send(now, address(1), address(2), b"hello");
        }
        assert_eq!(sender.drops(), 3);
        let waiting = std::iter::from_fn(|| receiver.take(now));
        assert_eq!(waiting.count(), MAX_PACKETS);
        drop(receiver);
        sender.send(now, address(1), address(2), b"hello");
        assert_eq!(sender.drops(), 4);
    }

    #[test]
    fn what_has_waited_too_long_is_lost() {
        let (sender, mut receiver) = queue();
        let now = Instant::now();
        let millis = Duration::from_millis;
        sender.send(now, address(1), address(2), b"old");
        sender.send(now, address(1), address(2), b"old too");
        sender.send(now + millis(50), address(1), address(2), b"in time");
        let packet = receiver.take(now + MAX_WAIT + millis(1));
        assert_eq!(packet.map(|p| p.payload), Some(b"in time".to_vec()));
        assert_eq!((sender.drops(), receiver.drops()), (2, 2));
    }
}
