//! One track as one worker has it: its packets, and who on this worker gets them.
//!
//! In: packets, from a local publisher or from the worker that has the publisher. Out: for each
//! receive batch, what is to be forwarded. The worker that has the publisher also hands each packet
//! on to the other workers that have a subscriber.

use std::collections::BTreeSet;
use std::time::Instant;

use super::encoding::SenderReportSeen;
use super::history::{History, Kept, PacketMeta};
use crate::media::Kind;
use crate::rtp::sequence::SequenceNumber;
use crate::types::{Mid, PeerId};

/// Most packets between two flushes; a worker flushes after each receive batch, far below this.
const MAX_PENDING: usize = 4096;

/// A slot on this worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Subscriber {
    /// Whose.
    pub peer: PeerId,
    /// Which of the peer's slots.
    pub slot: usize,
}

/// Where a track is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// By a peer of this worker, on this m-line.
    Local(PeerId, Mid),
    /// On another worker.
    Remote(usize),
}

/// A track on a worker.
#[derive(Debug)]
pub struct Feed {
    /// Where it comes from.
    pub origin: Origin,
    /// The slots that show it, each group of one peer's together so that its packets stay together.
    pub subscribers: BTreeSet<Subscriber>,
    /// The other workers that get its packets. Empty when it is not local.
    pub workers: BTreeSet<usize>,
    /// The encoding to forward.
    pub best: u8,
    kind: Kind,
    encodings: Vec<Stream>,
    pending: Vec<(u8, SequenceNumber)>,
}

#[derive(Debug)]
struct Stream {
    history: History,
    sender_report: Option<SenderReportSeen>,
}

impl Feed {
    /// A track without packets and subscribers.
    #[must_use]
    pub fn new(kind: Kind, origin: Origin) -> Self {
        Feed {
            origin,
            subscribers: BTreeSet::new(),
            workers: BTreeSet::new(),
            best: 0,
            kind,
            encodings: Vec::new(),
            pending: Vec::new(),
        }
    }

    fn stream(&mut self, encoding: u8) -> &mut Stream {
        let index = usize::from(encoding);
        while self.encodings.len() <= index {
            self.encodings.push(Stream {
                history: History::new(self.kind),
                sender_report: None,
            });
        }
        &mut self.encodings[index]
    }

    /// Takes a packet in. Says whether it is to be forwarded; it comes out of the next flush then.
    pub fn insert(&mut self, meta: PacketMeta, packet: &[u8]) -> bool {
        let key = (meta.encoding, meta.sequence);
        if self.pending.len() >= MAX_PENDING || !self.stream(key.0).history.insert(meta, packet) {
            return false;
        }
        self.pending.push(key);
        true
    }

    /// The packets since the last flush, in the order they came.
    pub fn pending(&self) -> impl Iterator<Item = Kept<'_>> {
        self.pending.iter().filter_map(|&(encoding, sequence)| {
            self.encodings
                .get(usize::from(encoding))?
                .history
                .get(sequence)
        })
    }

    /// The flush is done.
    pub fn clear_pending(&mut self) {
        self.pending.clear();
    }

    /// A packet of an encoding, as long as it is kept.
    #[must_use]
    pub fn get(&self, encoding: u8, sequence: SequenceNumber) -> Option<Kept<'_>> {
        let stream = self.encodings.get(usize::from(encoding))?;
        stream.history.get(sequence)
    }

    /// A packet for sending again, if it is still of use.
    #[must_use]
    pub fn get_fresh(
        &self,
        now: Instant,
        encoding: u8,
        sequence: SequenceNumber,
    ) -> Option<Kept<'_>> {
        self.encodings
            .get(usize::from(encoding))?
            .history
            .get_fresh(now, sequence)
    }

    /// Notes a sender report of an encoding, its time already by the server's clock.
    pub fn set_sender_report(&mut self, encoding: u8, report: SenderReportSeen) {
        self.stream(encoding).sender_report = Some(report);
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// The latest sender report of every encoding that has one.
    pub fn sender_reports(&self) -> impl Iterator<Item = (u8, SenderReportSeen)> {
        let reports = self.encodings.iter().enumerate();
        reports.filter_map(|(index, stream)| Some((index as u8, stream.sender_report?)))
    }

    /// The latest sender report of an encoding, its time by the server's clock.
    #[must_use]
    pub fn sender_report(&self, encoding: u8) -> Option<SenderReportSeen> {
        self.encodings.get(usize::from(encoding))?.sender_report
    }
}
