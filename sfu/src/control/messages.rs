//! What the control plane, the controller and the workers say to each other.

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
        /// Whose offer.
        peer: PeerId,
        /// Whether the peer is new.
        create: bool,
        /// The offer's SDP.
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
        /// The publisher.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// The name of the track from now on.
        track: TrackId,
    },
    /// Stop forwarding a track.
    Unpublish {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
    },
    /// Stop or resume forwarding a track.
    Mute {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
        /// Whether it is muted.
        muted: bool,
    },
    /// Re-point a slot.
    SetSlot {
        /// The subscriber.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// The track to show and the worker it is published on.
        source: Option<(TrackId, WorkerIndex)>,
    },
    /// Note what a client shows of a slot.
    SetView {
        /// The subscriber.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// What it shows.
        view: SlotView,
    },
    /// Note how important a slot is.
    SetPriority {
        /// The subscriber.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// How important.
        priority: Priority,
    },
    /// Answer with [`Report::IceRestarted`].
    RestartIce {
        /// Comes back in the report.
        request: RequestId,
        /// Whose connection.
        peer: PeerId,
        /// The client's `application/trickle-ice-sdpfrag`.
        fragment: String,
    },
    /// Begin with what the path to a peer's former connection carried, if it is the same path.
    Begin {
        /// Who.
        peer: PeerId,
        /// What the former one reported.
        carried: Carried,
    },
    /// Forget a peer and all it published and received.
    Close {
        /// Who.
        peer: PeerId,
    },
    /// Answer with [`Report::Stats`].
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
    /// The SDP answer.
    pub sdp: String,
    /// Every live m-line.
    pub sections: Vec<SectionInfo>,
    /// The m-lines that were offered and are not served, and why.
    pub refused: Vec<(Mid, SdpError)>,
}

/// How loud a packet of sound was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// When it came.
    pub at: Instant,
    /// Its track.
    pub track: TrackId,
    /// Its level (RFC 6464: 0 is the loudest, 127 silence).
    pub level: u8,
}

/// What a worker says.
#[derive(Debug)]
pub enum Report {
    /// To [`Command::Offer`].
    Answered {
        /// The command's.
        request: RequestId,
        /// What was agreed on.
        result: Result<Answered, OfferError>,
    },
    /// To [`Command::RestartIce`].
    IceRestarted {
        /// The command's.
        request: RequestId,
        /// The fragment to answer with.
        result: Result<String, OfferError>,
    },
    /// To [`Command::Stats`].
    Stats {
        /// The command's.
        request: RequestId,
        /// This worker's counters.
        stats: WorkerStats,
        /// The peer asked for, if it is there.
        peer: Option<Box<PeerStats>>,
    },
    /// DTLS is up: media can flow.
    Connected {
        /// Who.
        peer: PeerId,
    },
    /// As [`Event::PeerSilent`].
    Silent {
        /// Who.
        peer: PeerId,
    },
    /// As [`Event::PeerHeard`].
    Heard {
        /// Who.
        peer: PeerId,
    },
    /// As [`Event::PeerHopeless`].
    Hopeless {
        /// Who.
        peer: PeerId,
    },
    /// As [`Event::LayersWanted`].
    LayersWanted {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
        /// One for each encoding.
        encodings: Vec<bool>,
        /// The most to send, if there is a limit.
        bitrate: Option<Bitrate>,
    },
    /// As [`Event::SlotPaused`].
    SlotPaused {
        /// The subscriber.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// Why, or that it goes on.
        reason: Option<Reason>,
    },
    /// How loud every packet of sound since the last report was, in their order.
    Levels(Vec<Level>),
    /// A peer has ended whose path was known.
    Carried {
        /// Who.
        peer: PeerId,
        /// What it carried.
        carried: Carried,
    },
    /// The worker has forgotten a peer of itself.
    Gone {
        /// Who.
        peer: PeerId,
        /// Why.
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

/// What [`Controller::poll_output`](super::Controller::poll_output) gives.
#[derive(Debug)]
pub enum Output {
    /// For a worker's mailbox.
    Command(WorkerIndex, Command),
    /// To whoever asked.
    Reply(RequestId, Reply),
    /// For the control plane.
    Event(Event),
}
