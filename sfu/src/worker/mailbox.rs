//! What workers say to each other and to the controller.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use std::ops::Range;

use crate::control::messages::{Command, Report};
use crate::publish::encoding::SenderReportSeen;
use crate::publish::history::PacketMeta;
use crate::publish::wanted_layers::Encodings;
use crate::types::{EncodingIndex, TrackId, WorkerIndex};
use crate::units::Bitrate;

#[derive(Debug)]
pub enum Mail {
    Worker(WorkerIndex, Message),
    Controller(Report),
}

/// What a worker is sent.
#[derive(Debug)]
pub enum Message {
    Command(Command),
    /// Packets of tracks that another worker publishes.
    Media(MediaBatch),
    /// An emptied batch, given back for reuse.
    Recycle(MediaBatch),
    /// A worker wants a track's packets.
    Attach {
        track: TrackId,
        worker: WorkerIndex,
    },
    /// A worker wants them no more.
    Detach {
        track: TrackId,
        worker: WorkerIndex,
    },
    /// A subscriber needs a key frame.
    KeyFrame {
        track: TrackId,
        encoding: EncodingIndex,
    },
    /// A listener loses this much of a track, of 256.
    ListenerLoss {
        track: TrackId,
        fraction_lost: u8,
    },
    /// The track has a pause: what follows does not continue what was.
    Interrupted {
        track: TrackId,
    },
    /// What a worker's slots receive of a track, or wait for.
    Wanted {
        track: TrackId,
        worker: WorkerIndex,
        encodings: Encodings,
    },
    /// The most that a worker's slots can be sent of a track of one encoding, or that there is no limit.
    Ceiling {
        track: TrackId,
        worker: WorkerIndex,
        ceiling: Option<Bitrate>,
    },
    /// What the publisher has been told that it need not send.
    Off {
        track: TrackId,
        encodings: Encodings,
    },
    /// The track goes on after a pause.
    Resumed {
        track: TrackId,
    },
    /// A sender report of an encoding, its time by the server's clock.
    SenderReport {
        track: TrackId,
        encoding: EncodingIndex,
        report: SenderReportSeen,
    },
    /// Say goodbye to every peer and end.
    Stop,
    #[cfg(test)]
    Panic,
}

impl Message {
    /// Whether it may be lost when the receiver cannot keep up: media may, as on the network.
    #[must_use]
    pub fn may_be_lost(&self) -> bool {
        matches!(
            self,
            Message::Media(_)
                | Message::Recycle(_)
                | Message::SenderReport { .. }
                | Message::ListenerLoss { .. }
        )
    }
}

/// The packets of one receive batch for one other worker.
#[derive(Debug)]
pub struct MediaBatch {
    /// The worker that filled it, to which it goes back.
    pub from: WorkerIndex,
    packets: Vec<(TrackId, PacketMeta, Range<usize>)>,
    bytes: Vec<u8>,
}

impl MediaBatch {
    #[must_use]
    pub fn new(from: WorkerIndex) -> Self {
        MediaBatch {
            from,
            packets: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Adds a plaintext packet.
    pub fn push(&mut self, track: TrackId, meta: PacketMeta, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.packets.push((track, meta, start..self.bytes.len()));
    }

    /// Takes the packets out one by one.
    pub fn drain(&mut self, mut each: impl FnMut(TrackId, PacketMeta, &[u8])) {
        for (track, meta, range) in self.packets.drain(..) {
            each(track, meta, &self.bytes[range]);
        }
        self.bytes.clear();
    }
}
