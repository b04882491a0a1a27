//! What the control plane, the controller and the workers say to each other.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use std::time::Instant;

use crate::api::{
    Event, GoneReason, OfferError, PeerStats, Priority, Reason, Reply, SdpError, SlotView,
    WorkerStats,
};
use crate::bandwidth::carried::Carried;
use crate::negotiated::SectionInfo;
use crate::types::{Mid, PeerId, TrackId, WorkerIndex};
use crate::units::Bitrate;

/// Tells replies apart; chosen by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Answer an offer with [`Report::Answered`]; the peer is made if `create`.
    Offer {
        /// Comes back in the report.
        request: RequestId,
        peer: PeerId,
        /// Whether the peer is new.
        create: bool,
        sdp: String,
        /// Sending m-lines are accepted.
        may_publish: bool,
        /// Receiving m-lines are accepted.
        may_subscribe: bool,
        /// As in [`Offer`](crate::api::Offer).
        is_whole: bool,
        /// As in [`Offer`](crate::api::Offer).
        avoid_udp: bool,
    },
    /// Forward what arrives on an m-line as a track.
    Publish {
        peer: PeerId,
        mid: Mid,
        /// The name of the track from now on.
        track: TrackId,
    },
    /// Stop forwarding a track.
    Unpublish { peer: PeerId, track: TrackId },
    /// Stop or resume forwarding a track.
    Mute {
        peer: PeerId,
        track: TrackId,
        /// Whether it is muted.
        muted: bool,
    },
    SetSlot {
        peer: PeerId,
        mid: Mid,
        /// The track to show and the worker it is published on.
        source: Option<(TrackId, WorkerIndex)>,
    },
    /// Note what a client shows of a slot.
    SetView {
        peer: PeerId,
        mid: Mid,
        view: SlotView,
    },
    /// Note how important a slot is.
    SetPriority {
        peer: PeerId,
        mid: Mid,
        priority: Priority,
    },
    RestartIce {
        /// Comes back in the report.
        request: RequestId,
        peer: PeerId,
        fragment: String,
    },
    /// Begin with what the path to a peer's former connection carried, if it is the same path.
    Begin {
        peer: PeerId,
        /// What the former one reported.
        carried: Carried,
    },
    /// Forget a peer and all it published and received.
    Close { peer: PeerId },
    Stats {
        /// Comes back in the report.
        request: RequestId,
        /// Also the details of this peer.
        peer: Option<PeerId>,
    },
}

/// What a worker has made of an offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    pub sdp: String,
    pub sections: Vec<SectionInfo>,
    /// The m-lines that were offered and are not served, and why.
    pub refused: Vec<(Mid, SdpError)>,
}

/// How loud a packet of audio was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    pub at: Instant,
    pub track: TrackId,
    /// Its level (RFC 6464: 0 is the loudest, 127 silence).
    pub level: u8,
}

/// What a worker says.
#[derive(Debug)]
pub enum Report {
    Answered {
        request: RequestId,
        /// What was agreed on.
        result: Result<Answered, OfferError>,
    },
    IceRestarted {
        request: RequestId,
        /// The fragment to answer with.
        result: Result<String, OfferError>,
    },
    Stats {
        request: RequestId,
        stats: WorkerStats,
        /// The peer asked for, if it is there.
        peer: Option<Box<PeerStats>>,
    },
    /// DTLS is up: media can flow.
    Connected {
        peer: PeerId,
    },
    Silent {
        peer: PeerId,
    },
    Heard {
        peer: PeerId,
    },
    Hopeless {
        peer: PeerId,
    },
    LayersWanted {
        peer: PeerId,
        track: TrackId,
        /// One for each encoding.
        encodings: Vec<bool>,
        /// The most to send, if there is a limit.
        bitrate: Option<Bitrate>,
    },
    SlotPaused {
        peer: PeerId,
        mid: Mid,
        /// Why, or that it goes on.
        reason: Option<Reason>,
    },
    /// How loud every packet of audio since the last report was, in their order.
    Levels(Vec<Level>),
    /// A peer has ended whose path was known.
    Carried {
        peer: PeerId,
        carried: Carried,
    },
    /// The worker has forgotten a peer of itself.
    Gone {
        peer: PeerId,
        reason: GoneReason,
    },
    /// The worker has failed and starts anew, empty.
    Failed,
}

impl Report {
    /// Whether it may be lost when the controller cannot keep up: levels are soon out of date.
    #[must_use]
    pub fn may_be_lost(&self) -> bool {
        matches!(self, Report::Levels(_))
    }
}

#[derive(Debug)]
pub enum Output {
    /// For a worker's mailbox.
    Command(WorkerIndex, Command),
    Reply(RequestId, Reply),
    /// For the control plane.
    Event(Event),
}
