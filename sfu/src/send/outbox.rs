//! Datagrams on their way out, gathered over one receive batch.
//!
//! In: packets for any destination. Out: runs of datagrams of equal size to one destination, which
//! the kernel can take in one call (UDP generic segmentation offload); and once they have left, whose
//! packets they were, for the estimate of what the path carries. One buffer holds them all and is
//! kept, so a warm outbox does not allocate.

use std::ops::Range;
use std::time::Instant;

use crate::bandwidth::sent::{PacketKind, SentPacket};
use crate::path::{Path, Protocol};
use crate::rtp::sequence::SequenceNumber;
use crate::types::PeerId;

/// Most datagrams in a run (Linux's `UDP_MAX_SEGMENTS` before 6.9 is 64).
const MAX_SEGMENTS: usize = 64;

/// Most bytes in a run: a UDP payload's limit over IPv4, with room for a tunnel's headers.
const MAX_RUN: usize = 60_000;

/// Datagrams of equal size, but for the last which may be shorter, to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub destination: Path,
    /// Over TCP: whether they are of pictures, which may be given up for newer ones.
    pub is_picture: bool,
    /// The size of each datagram in bytes, but for the last.
    pub segment_size: usize,
    /// Where in the buffer.
    pub bytes: Range<usize>,
    /// It is one datagram, longer than its path takes: the kernel fragments such a one alone, and would
    /// refuse a whole run of them.
    is_long: bool,
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
    buffer: Vec<u8>,
    runs: Vec<Run>,
    /// The packets with feedback, and which run each is in.
    tracked: Vec<(usize, Tracked)>,
}

impl Outbox {
    /// Adds a datagram that `write` puts into a buffer of `room` bytes; it returns the length, or
    /// none for nothing to send. `kind` is of what RTP it is, if it is RTP. Says how many bytes were
    /// added.
    pub fn push(
        &mut self,
        destination: Path,
        kind: Option<PacketKind>,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        let start = self.buffer.len();
        self.buffer.resize(start + room, 0);
        let len = write(&mut self.buffer[start..]).filter(|&len| len > 0 && len <= room);
        self.buffer.truncate(start + len.unwrap_or(0));
        let len = len?;
        let end = start + len;
        // Datagrams that are sent cannot be given up, and any can follow each other.
        let is_picture = destination.protocol() == Protocol::Tcp
            && kind.is_some_and(|kind| kind != PacketKind::Audio);
        match self.runs.last_mut() {
            Some(run) if run.takes(destination, is_picture, len) => run.bytes.end = end,
            _ => self.runs.push(Run {
                destination,
                is_picture,
                segment_size: len,
                bytes: start..end,
                is_long: false,
            }),
        }
        Some(len)
    }

    /// The datagram added last, of this length.
    #[must_use]
    pub fn last(&self, len: usize) -> &[u8] {
        let start = self.buffer.len().saturating_sub(len);
        &self.buffer[start..]
    }

    /// Has the datagram added last, of this length, leave by itself.
    pub fn isolate(&mut self, len: usize) {
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        if run.bytes.len() == len {
            run.is_long = true;
            return;
        }
        let end = run.bytes.end;
        run.bytes.end = end.saturating_sub(len);
        let alone = Run {
            segment_size: len,
            bytes: run.bytes.end..end,
            is_long: true,
            ..*run
        };
        self.runs.push(alone);
    }

    /// The runs waiting, with their bytes.
    pub fn runs(&self) -> impl Iterator<Item = (&Run, &[u8])> {
        self.runs
            .iter()
            .map(|run| (run, &self.buffer[run.bytes.clone()]))
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
        self.buffer.clear();
        self.runs.clear();
        self.tracked.clear();
    }
}

impl Run {
    /// So many bytes in datagrams of this size.
    #[cfg(test)]
    pub(crate) fn of(destination: Path, segment_size: usize, len: usize) -> Self {
        Run {
            destination,
            is_picture: false,
            segment_size,
            bytes: 0..len,
            is_long: false,
        }
    }

    /// Whether a datagram can be the next of the run.
    fn takes(&self, destination: Path, is_picture: bool, len: usize) -> bool {
        let bytes = self.bytes.len();
        // A shorter one has ended the run.
        let is_open = bytes.is_multiple_of(self.segment_size);
        self.destination == destination
            && !self.is_long
            && self.is_picture == is_picture
            && is_open
            && len <= self.segment_size
            && bytes / self.segment_size < MAX_SEGMENTS
            && bytes + len <= MAX_RUN
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::path::ConnectionId;

    fn push(outbox: &mut Outbox, port: u16, len: usize) {
        let destination = Path::from(SocketAddr::from(([127, 0, 0, 1], port)));
        outbox.push(destination, None, 1500, |buffer| {
            buffer[..len].fill(port as u8);
            Some(len)
        });
    }

    #[test]
    fn equal_datagrams_to_one_destination_make_a_run() {
        let mut outbox = Outbox::default();
        for (port, len) in [
            (1, 100),
            (1, 100),
            (1, 60),
            (1, 100),
            (1, 101),
            (2, 101),
            (1, 101),
        ] {
            push(&mut outbox, port, len);
        }
        let runs: Vec<_> = outbox
            .runs()
            .map(|(run, bytes)| {
                (
                    run.destination.address().port(),
                    run.segment_size,
                    bytes.len(),
                )
            })
            .collect();
        assert_eq!(
            runs,
            [
                (1, 100, 260),
                (1, 100, 100),
                (1, 101, 101),
                (2, 101, 101),
                (1, 101, 101)
            ]
        );
        assert!(outbox.runs().all(|(run, bytes)| {
            bytes
                .iter()
                .all(|&b| u16::from(b) == run.destination.address().port())
        }));
    }

    #[test]
    fn one_that_is_too_long_leaves_alone() {
        let mut outbox = Outbox::default();
        for (len, is_long) in [
            (100, false),
            (100, true),
            (100, false),
            (100, false),
            (200, true),
            (100, false),
        ] {
            push(&mut outbox, 1, len);
            assert_eq!(outbox.last(len), vec![1; len]);
            if is_long {
                outbox.isolate(len);
            }
        }
        let runs = outbox
            .runs()
            .map(|(run, bytes)| (run.segment_size, bytes.len()));
        let expected = [(100, 100), (100, 100), (100, 200), (200, 200), (100, 100)];
        assert_eq!(runs.collect::<Vec<_>>(), expected);
        assert!(
            outbox
                .runs()
                .all(|(_, bytes)| bytes.iter().all(|b| *b == 1))
        );
    }

    #[test]
    fn runs_are_bounded_and_a_failed_write_leaves_nothing() {
        let mut outbox = Outbox::default();
        for _ in 0..200 {
            push(&mut outbox, 1, 1200);
        }
        assert!(outbox.runs().all(|(_, bytes)| bytes.len() <= MAX_RUN));
        outbox.clear();
        for _ in 0..65 {
            push(&mut outbox, 1, 10);
        }
        assert_eq!(
            outbox.runs().map(|(_, b)| b.len()).collect::<Vec<_>>(),
            [640, 10]
        );
        outbox.clear();
        assert_eq!(
            outbox.push(
                Path::from(SocketAddr::from(([127, 0, 0, 1], 1))),
                None,
                10,
                |_| None
            ),
            None
        );
        assert!(outbox.is_empty());
    }

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
            let runs: Vec<usize> = outbox.runs().map(|(_, bytes)| bytes.len()).collect();
            assert_eq!(runs, lens);
        }
    }
}
