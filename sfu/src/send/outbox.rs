//! Datagrams on their way out, gathered over one receive batch.
//!
//! In: packets for any destination. Out: runs of datagrams of equal size to one destination; and once
//! they have left, whose packets they were, for the estimate of what the path carries.

use std::time::Instant;

use confab_sockets::runs::{self, Runs};

use crate::bandwidth::sent::{PacketKind, SentPacket};
use crate::path::{Path, Protocol};
use crate::rtp::sequence::SequenceNumber;
use crate::types::PeerId;

/// Datagrams of equal size, but for the last which may be shorter, to one destination.
pub(crate) type Run = runs::Run<Destination>;

/// Where a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The path there.
    pub path: Path,
    /// Over TCP: whether it is of pictures, which may be dropped for newer ones.
    pub is_picture: bool,
}

/// A packet that its receiver gives feedback on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tracked {
    pub peer: PeerId,
    /// Its transport-wide sequence number.
    pub sequence: SequenceNumber,
    /// What is to be known of it.
    pub packet: SentPacket,
}

/// Datagrams waiting to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    runs: Runs<Destination>,
    /// The packets with feedback, and which run each is in.
    tracked: Vec<(usize, Tracked)>,
}

impl Outbox {
    /// Adds a datagram that `write` puts into a buffer of `room` bytes, which hold anything; it returns
    /// the length, or none for nothing to send. `kind` is of what RTP it is, if it is RTP. Says how many
    /// bytes were added.
    pub fn push(
        &mut self,
        path: Path,
        kind: Option<PacketKind>,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        // Datagrams that are sent cannot be dropped any more, and any can follow each other.
        let is_picture =
            path.protocol() == Protocol::Tcp && kind.is_some_and(|kind| kind != PacketKind::Audio);
        self.runs
            .push(Destination { path, is_picture }, room, write)
    }

    /// The datagram added last, of this length.
    #[must_use]
    pub fn last(&self, len: usize) -> &[u8] {
        self.runs.last(len)
    }

    /// Has the datagram added last, of this length, leave by itself: it is longer than its path takes. The
    /// kernel fragments such a one alone, and would refuse a whole run of them.
    pub fn isolate(&mut self, len: usize) {
        self.runs.isolate(len);
    }

    /// The runs waiting.
    #[must_use]
    pub fn runs(&self) -> &Runs<Destination> {
        &self.runs
    }

    /// Notes that the datagram added last is one that its receiver gives feedback on.
    pub fn track(&mut self, tracked: Tracked) {
        if let Some(run) = self.runs.len().checked_sub(1) {
            self.tracked.push((run, tracked));
        }
    }

    /// The packets with feedback that have left, in their order. `left` says of each run when that was,
    /// or that it did not leave.
    pub fn tracked(&self, left: &[Option<Instant>]) -> impl Iterator<Item = Tracked> {
        self.tracked.iter().filter_map(|(run, tracked)| {
            let at = left.get(*run).copied().flatten()?;
            let packet = SentPacket {
                at,
                ..tracked.packet
            };
            Some(Tracked { packet, ..*tracked })
        })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn clear(&mut self) {
        self.runs.clear();
        self.tracked.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::path::ConnectionId;

    #[test]
    fn pictures_over_tcp_have_runs_of_their_own_and_over_udp_they_have_not() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let tcp = |n| Path::Tcp {
            connection: ConnectionId(n),
            address,
        };
        use PacketKind::*;
        for (paths, lens) in [
            ([Path::from(address); 4], &[400][..]),
            ([tcp(1); 4], &[100, 200, 100]),
            (
                [tcp(1), tcp(2), tcp(2), Path::from(address)],
                &[100, 200, 100],
            ),
        ] {
            let mut outbox = Outbox::default();
            for (path, kind) in paths.into_iter().zip([Audio, Video, Retransmission, Audio]) {
                outbox.push(path, Some(kind), 100, |_| Some(100));
            }
            let runs: Vec<usize> = outbox.runs().iter().map(|(_, bytes)| bytes.len()).collect();
            assert_eq!(runs, lens);
        }
    }
}
