//! What workers say to each other and to the controller.

use std::ops::Range;

use crate::control::messages::{Command, Report};
use crate::publish::encoding::SenderReportSeen;
use crate::publish::history::PacketMeta;
use crate::publish::wanted_layers::Encodings;
use crate::types::{EncodingIndex, TrackId, WorkerIndex};
use crate::units::Bitrate;

/// Where mail goes.
#[derive(Debug)]
pub enum Mail {
    /// To another worker.
    Worker(WorkerIndex, Message),
    /// To the controller.
    Controller(Report),
}

/// What a worker is sent.
#[derive(Debug)]
pub enum Message {
    /// From the controller.
    Command(Command),
    /// Packets of tracks that another worker publishes.
    Media(MediaBatch),
    /// An emptied batch, given back for reuse.
    Recycle(MediaBatch),
    /// A worker wants a track's packets.
    Attach {
        /// The track.
        track: TrackId,
        /// Who wants it.
        worker: WorkerIndex,
    },
    /// A worker wants them no more.
    Detach {
        /// The track.
        track: TrackId,
        /// Who wanted it.
        worker: WorkerIndex,
    },
    /// A subscriber needs a key frame.
    KeyFrame {
        /// The track.
        track: TrackId,
        /// Of this encoding.
        encoding: EncodingIndex,
    },
    /// A listener loses this much of a track, of 256.
    ListenerLoss {
        /// The track.
        track: TrackId,
        /// As reported.
        fraction_lost: u8,
    },
    /// The track has a pause: what follows does not continue what was.
    Interrupted {
        /// The track.
        track: TrackId,
    },
    /// What a worker's slots receive of a track, or wait for.
    Wanted {
        /// The track.
        track: TrackId,
        /// Whose slots.
        worker: WorkerIndex,
        /// These.
        encodings: Encodings,
    },
    /// The most that a worker's slots can be sent of a track of one encoding, or that there is no limit.
    Ceiling {
        /// The track.
        track: TrackId,
        /// Whose slots.
        worker: WorkerIndex,
        /// So much.
        ceiling: Option<Bitrate>,
    },
    /// What the publisher has been told that it need not send.
    Off {
        /// The track.
        track: TrackId,
        /// These.
        encodings: Encodings,
    },
    /// The track goes on after a pause.
    Resumed {
        /// The track.
        track: TrackId,
    },
    /// A sender report of an encoding, its time by the server's clock.
    SenderReport {
        /// The track.
        track: TrackId,
        /// The encoding.
        encoding: EncodingIndex,
        /// What it says.
        report: SenderReportSeen,
    },
    /// Say goodbye to every peer and end.
    Stop,
    /// Fail.
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
    /// An empty one.
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
