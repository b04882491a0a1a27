//! Datagrams on their way to clients, gathered over one turn of the worker.
//!
//! In: packets for any client. Out: runs of packets of equal size to one client, which the kernel can
//! take in one call (UDP generic segmentation offload). One buffer holds them all and is kept, so a
//! warm outbox does not allocate.

use std::ops::Range;

use crate::client::Client;

/// Most datagrams in a run (Linux's `UDP_MAX_SEGMENTS` before 6.9 is 64).
const MAX_SEGMENTS: usize = 64;

/// Most bytes in a run: a UDP payload's limit over IPv4, with room for a tunnel's headers.
const MAX_RUN: usize = 60_000;

/// Datagrams of equal size, but for the last which may be shorter, to one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) client: Client,
    /// Bytes of each datagram, but for the last.
    pub(super) segment_size: usize,
    bytes: Range<usize>,
}

/// Datagrams waiting to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    buffer: Vec<u8>,
    runs: Vec<Run>,
}

impl Outbox {
    /// Adds what `write` appends to the buffer it is given, for the client it returns. What it
    /// returns no client for is taken back.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<Client>) {
        let start = self.buffer.len();
        let client = write(&mut self.buffer);
        let len = self.buffer.len() - start;
        let Some(client) = client.filter(|_| len > 0) else {
            self.buffer.truncate(start);
            return;
        };
        match self.runs.last_mut() {
            Some(run) if run.takes(&client, len) => run.bytes.end += len,
            _ => self.runs.push(Run {
                client,
                segment_size: len,
                bytes: start..start + len,
            }),
        }
    }

    /// The runs waiting, with their bytes.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&Run, &[u8])> {
        let bytes = |run: &Run| &self.buffer[run.bytes.clone()];
        self.runs.iter().map(move |run| (run, bytes(run)))
    }

    /// Everything is sent.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.runs.clear();
    }
}

impl Run {
    /// Whether a datagram can be the next of the run.
    fn takes(&self, client: &Client, len: usize) -> bool {
        let bytes = self.bytes.len();
        // A shorter one has ended the run.
        let is_open = bytes.is_multiple_of(self.segment_size);
        self.client == *client
            && is_open
            && len <= self.segment_size
            && bytes / self.segment_size < MAX_SEGMENTS
            && bytes + len <= MAX_RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Transport;

    fn client(port: u16) -> Client {
        Client {
            transport: Transport::Udp,
            server: ([127, 0, 0, 1], 3478).into(),
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    fn push(outbox: &mut Outbox, port: u16, len: usize) {
        outbox.push(|buffer| {
            buffer.resize(buffer.len() + len, port as u8);
            Some(client(port))
        });
    }

    fn runs(outbox: &Outbox) -> Vec<(u16, usize, usize)> {
        let runs = outbox.runs();
        runs.map(|(run, bytes)| {
            let port = run.client.address.port();
            assert!(bytes.iter().all(|&b| u16::from(b) == port));
            (port, run.segment_size, bytes.len())
        })
        .collect()
    }

    #[test]
    fn equal_datagrams_to_one_client_make_a_run() {
        let mut outbox = Outbox::default();
        for (port, len) in [(1, 9), (1, 9), (1, 5), (1, 9), (1, 10), (2, 10), (1, 10)] {
            push(&mut outbox, port, len);
        }
        let expected = [(1, 9, 23), (1, 9, 9), (1, 10, 10), (2, 10, 10), (1, 10, 10)];
        assert_eq!(runs(&outbox), expected);
        outbox.clear();
        assert_eq!(runs(&outbox), []);
    }

    #[test]
    fn runs_are_bounded_and_what_has_no_client_is_taken_back() {
        let mut outbox = Outbox::default();
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
