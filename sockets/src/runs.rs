//! Datagrams on their way out, gathered over one turn of a worker.
//!
//! In: datagrams for any destination. Out: runs of datagrams of equal size to one destination, which the
//! kernel can take as one (UDP generic segmentation offload). One buffer holds them all and is kept, so
//! gathering does not allocate once it is warm.

use std::ops::Range;

/// Most datagrams in a run (Linux's `UDP_MAX_SEGMENTS` before 6.9 is 64).
pub const MAX_SEGMENTS: usize = 64;

/// Most bytes in a run: a UDP payload's limit over IPv4, with room for a tunnel's headers.
pub const MAX_RUN: usize = 60_000;

/// Datagrams of equal size, but for the last which may be shorter, to one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run<D> {
    /// Where they go.
    pub destination: D,
    /// The size of each datagram in bytes, but for the last.
    pub segment_size: usize,
    bytes: Range<usize>,
    /// Nothing may follow, whatever its size.
    is_closed: bool,
}

/// Datagrams waiting to be sent.
#[derive(Debug)]
pub struct Runs<D> {
    /// Longer than what waits in it, so that room for the next need not be zeroed each time.
    buffer: Vec<u8>,
    end: usize,
    runs: Vec<Run<D>>,
}

impl<D> Default for Runs<D> {
    fn default() -> Self {
        Runs {
            buffer: Vec::new(),
            end: 0,
            runs: Vec::new(),
        }
    }
}

impl<D: Copy + PartialEq> Runs<D> {
    /// Adds a datagram that `write` puts into a buffer of `room` bytes, which hold anything; it returns
    /// the length, or none for nothing to send. Returns how many bytes were added.
    pub fn push(
        &mut self,
        destination: D,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        let most = self.end + room;
        if self.buffer.len() < most {
            self.buffer.resize(most, 0);
        }
        let len = write(self.buffer.get_mut(self.end..most)?);
        let len = len.filter(|&len| len > 0 && len <= room)?;
        self.add(destination, len);
        Some(len)
    }

    /// Adds what `write` appends to the buffer it is given, for the destination it returns. What it
    /// returns none for is taken back.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<D>) {
        self.buffer.truncate(self.end);
        if let Some(destination) = write(&mut self.buffer) {
            self.add(destination, self.buffer.len().saturating_sub(self.end));
        }
    }

    fn add(&mut self, destination: D, len: usize) {
        let start = self.end;
        self.end += len;
        match self.runs.last_mut() {
            Some(run) if run.takes(destination, len) => run.bytes.end = self.end,
            _ => self.runs.push(Run {
                destination,
                segment_size: len,
                bytes: start..self.end,
                is_closed: false,
            }),
        }
    }

    /// The datagram added last, of this length.
    #[must_use]
    pub fn last(&self, len: usize) -> &[u8] {
        let start = self.end.saturating_sub(len);
        self.buffer.get(start..self.end).unwrap_or_default()
    }

    /// Has the datagram added last, of this length, leave by itself.
    pub fn isolate(&mut self, len: usize) {
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        if run.bytes.len() == len {
            run.is_closed = true;
            return;
        }
        let end = run.bytes.end;
        run.bytes.end = end.saturating_sub(len);
        let alone = Run {
            destination: run.destination,
            segment_size: len,
            bytes: run.bytes.end..end,
            is_closed: true,
        };
        self.runs.push(alone);
    }

    /// A run, with its bytes.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&Run<D>, &[u8])> {
        let run = self.runs.get(index)?;
        Some((run, self.buffer.get(run.bytes.clone())?))
    }

    /// The runs waiting, with their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&Run<D>, &[u8])> {
        (0..self.runs.len()).filter_map(|index| self.get(index))
    }

    /// How many runs wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes waiting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.end
    }

    /// Takes note that all of them have left.
    pub fn clear(&mut self) {
        self.end = 0;
        self.runs.clear();
    }
}

impl<D: Copy + PartialEq> Run<D> {
    /// A run of so many bytes in datagrams of this size.
    #[must_use]
    pub fn new(destination: D, segment_size: usize, len: usize) -> Self {
        Run {
            destination,
            segment_size,
            bytes: 0..len,
            is_closed: false,
        }
    }

    /// Whether a datagram can be the next of the run.
    fn takes(&self, destination: D, len: usize) -> bool {
        let bytes = self.bytes.len();
        // A shorter one has ended the run; an empty one has no place in it.
        let is_open = len > 0 && self.segment_size > 0 && bytes.is_multiple_of(self.segment_size);
        self.destination == destination
            && is_open
            && !self.is_closed
            && len <= self.segment_size
            && bytes / self.segment_size < MAX_SEGMENTS
            && bytes + len <= MAX_RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(runs: &mut Runs<u8>, destination: u8, len: usize) {
        runs.push(destination, 1500, |buffer| {
            buffer[..len].fill(destination);
            Some(len)
        });
    }

    fn append(runs: &mut Runs<u8>, destination: u8, len: usize) {
        runs.append(|buffer| {
            buffer.resize(buffer.len() + len, destination);
            Some(destination)
        });
    }

    fn lens(runs: &Runs<u8>) -> Vec<(u8, usize, usize)> {
        let runs = runs.iter().map(|(run, bytes)| {
            assert!(bytes.iter().all(|&b| b == run.destination));
            (run.destination, run.segment_size, bytes.len())
        });
        runs.collect()
    }

    #[test]
    fn equal_datagrams_to_one_destination_make_a_run() {
        let pushed = [
            (1, 100),
            (1, 100),
            (1, 60),
            (1, 100),
            (1, 101),
            (2, 101),
            (1, 101),
        ];
        let expected = [
            (1, 100, 260),
            (1, 100, 100),
            (1, 101, 101),
            (2, 101, 101),
            (1, 101, 101),
        ];
        let mut runs = Runs::default();
        for add in [push, append] {
            for (to, len) in pushed {
                add(&mut runs, to, len);
            }
            assert_eq!(lens(&runs), expected);
            runs.clear();
            assert_eq!(lens(&runs), []);
        }
        for (to, len) in [(2, 10), (2, 0), (2, 9)] {
            append(&mut runs, to, len);
        }
        assert_eq!(lens(&runs), [(2, 10, 10), (2, 0, 0), (2, 9, 9)]);
    }

    #[test]
    fn one_that_is_to_leave_alone_does() {
        let mut runs = Runs::default();
        for (len, is_alone) in [
            (100, false),
            (100, true),
            (100, false),
            (100, false),
            (200, true),
            (100, false),
        ] {
            push(&mut runs, 1, len);
            assert_eq!(runs.last(len), vec![1; len]);
            if is_alone {
                runs.isolate(len);
            }
        }
        let lens = lens(&runs).into_iter().map(|(_, size, len)| (size, len));
        let expected = [(100, 100), (100, 100), (100, 200), (200, 200), (100, 100)];
        assert_eq!(lens.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn runs_are_bounded_and_what_was_not_written_leaves_nothing() {
        let mut runs = Runs::default();
        for _ in 0..65 {
            push(&mut runs, 1, 10);
        }
        runs.append(|buffer| {
            buffer.extend_from_slice(&[7; 100]);
            None
        });
        assert_eq!(runs.push(7, 10, |_| None), None);
        assert_eq!(runs.push(7, 10, |_| Some(11)), None);
        assert_eq!(lens(&runs), [(1, 10, 640), (1, 10, 10)]);
        assert_eq!((runs.len(), runs.bytes()), (2, 650));
        runs.clear();
        for _ in 0..60 {
            push(&mut runs, 1, 1200);
        }
        assert_eq!(lens(&runs), [(1, 1200, 60_000), (1, 1200, 12_000)]);
    }
}
