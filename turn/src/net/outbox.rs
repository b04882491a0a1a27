//! Datagrams on their way out, gathered over one turn of the worker.
//!
//! In: datagrams for any destination. Out: runs of datagrams of equal size to one destination, which
//! the kernel can take in one call (UDP generic segmentation offload). One buffer holds them all and
//! is kept, so a warm outbox does not allocate.

use std::ops::Range;

/// Most datagrams in a run (Linux's `UDP_MAX_SEGMENTS` before 6.9 is 64).
const MAX_SEGMENTS: usize = 64;

/// Most bytes in a run: a UDP payload's limit over IPv4, with room for a tunnel's headers.
const MAX_RUN: usize = 60_000;

/// What a run weighs beside its bytes: a call costs about as much as copying a full packet or two.
const RUN_WEIGHT: usize = 1200;

/// Datagrams of equal size, but for the last which may be shorter, to one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run<D> {
    pub(super) destination: D,
    /// Bytes of each datagram, but for the last.
    pub(super) segment_size: usize,
    bytes: Range<usize>,
}

/// Datagrams waiting to be sent.
#[derive(Debug)]
pub(super) struct Outbox<D> {
    buffer: Vec<u8>,
    runs: Vec<Run<D>>,
}

impl<D: Copy + PartialEq> Outbox<D> {
    pub(super) fn new() -> Self {
        Outbox {
            buffer: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Adds what `write` appends to the buffer it is given, for the destination it returns. What it
    /// returns none for is taken back.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<D>) {
        let start = self.buffer.len();
        let Some(destination) = write(&mut self.buffer) else {
            self.buffer.truncate(start);
            return;
        };
        let len = self.buffer.len() - start;
        match self.runs.last_mut() {
            Some(run) if run.takes(destination, len) => run.bytes.end += len,
            _ => self.runs.push(Run {
                destination,
                segment_size: len,
                bytes: start..start + len,
            }),
        }
    }

    /// The runs waiting, with their bytes.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&Run<D>, &[u8])> {
        let bytes = |run: &Run<D>| &self.buffer[run.bytes.clone()];
        self.runs.iter().map(move |run| (run, bytes(run)))
    }

    /// Bytes waiting; each run, which is a call of its own, counts for 1200 more.
    pub(super) fn weight(&self) -> usize {
        self.buffer.len() + self.runs.len() * RUN_WEIGHT
    }

    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.runs.clear();
    }
}

impl<D: Copy + PartialEq> Run<D> {
    /// Whether a datagram can be the next of the run.
    fn takes(&self, destination: D, len: usize) -> bool {
        let bytes = self.bytes.len();
        // A shorter one has ended the run; an empty one has no place in it.
        let is_open = len > 0 && self.segment_size > 0 && bytes.is_multiple_of(self.segment_size);
        self.destination == destination
            && is_open
            && len <= self.segment_size
            && bytes / self.segment_size < MAX_SEGMENTS
            && bytes + len <= MAX_RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &mut Outbox<u8>, destination: u8, len: usize) {
        outbox.push(|buffer| {
            buffer.resize(buffer.len() + len, destination);
            Some(destination)
        });
    }

    fn runs(outbox: &Outbox<u8>) -> Vec<(u8, usize, usize)> {
        let runs = outbox.runs();
        runs.map(|(run, bytes)| {
            assert!(bytes.iter().all(|&b| b == run.destination));
            (run.destination, run.segment_size, bytes.len())
        })
        .collect()
    }

    #[test]
    fn equal_datagrams_to_one_destination_make_a_run() {
        let mut outbox = Outbox::new();
        for (to, len) in [
            (1, 9),
            (1, 9),
            (1, 5),
            (1, 9),
            (1, 10),
            (2, 10),
            (2, 0),
            (2, 9),
        ] {
            push(&mut outbox, to, len);
        }
        let expected = [
            (1, 9, 23),
            (1, 9, 9),
            (1, 10, 10),
            (2, 10, 10),
            (2, 0, 0),
            (2, 9, 9),
        ];
        assert_eq!(runs(&outbox), expected);
        outbox.clear();
        assert_eq!(runs(&outbox), []);
    }

    #[test]
    fn runs_are_bounded_and_what_has_no_destination_is_taken_back() {
        let mut outbox = Outbox::new();
        for _ in 0..65 {
            push(&mut outbox, 1, 10);
        }
        outbox.push(|buffer| {
            buffer.extend_from_slice(&[7; 100]);
            None
        });
        assert_eq!(runs(&outbox), [(1, 10, 640), (1, 10, 10)]);
        outbox.clear();
        for _ in 0..60 {
            push(&mut outbox, 1, 1200);
        }
        assert_eq!(runs(&outbox), [(1, 1200, 60_000), (1, 1200, 12_000)]);
    }
}
