//! What can be asked of the media plane, and what it answers.

use super::{
    Answer, CommandError, Content, Offer, OfferError, PeerStats, SlotChoice, SlotView, Stats,
    TrackInfo,
};
use crate::types::{Mid, PeerId, RoomId, TrackId};

/// What the control plane asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Answers an offer with [`Reply::Answered`]. The first one of a peer makes it, in `room`; later ones
    /// renegotiate it. A peer that was there goes on as before if it is refused.
    Offer {
        /// Where the peer is, or is to be.
        room: RoomId,
        /// Whose offer.
        peer: PeerId,
        /// What it offers.
        offer: Offer,
    },
    /// Publishes an m-line that is negotiated for sending, with [`Reply::Published`]; again, it is the same
    /// track.
    Publish {
        /// The publisher.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// What is on it.
        content: Content,
    },
    /// Takes a track back; its m-line stays negotiated.
    Unpublish {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
    },
    /// Stops or resumes forwarding of a track.
    Mute {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
        /// Whether it is muted from now on.
        muted: bool,
    },
    /// Decides what a slot shows. Answered with [`Reply::Shows`].
    Subscribe {
        /// The subscriber.
        peer: PeerId,
        /// Its slot.
        mid: Mid,
        /// What it is to show.
        to: SlotChoice,
    },
    /// Notes what a client shows of its slots, so that it is not sent more than is seen: of all of these,
    /// or, if one does not exist, of none.
    SetView {
        /// The subscriber.
        peer: PeerId,
        /// Its slots.
        views: Vec<(Mid, SlotView)>,
    },
    /// Takes new ICE credentials from an `application/trickle-ice-sdpfrag` (RFC 9725 section 4.3.3).
    /// Answered with [`Reply::IceRestarted`].
    RestartIce {
        /// Whose connection.
        peer: PeerId,
        /// The client's fragment.
        fragment: String,
    },
    /// Forgets a peer, if there is one, and tells it on the wire.
    Close {
        /// Who.
        peer: PeerId,
    },
    /// Answered with [`Reply::PeerStats`].
    PeerStats {
        /// Whose.
        peer: PeerId,
    },
    /// Answered with [`Reply::Stats`].
    Stats,
}

/// What a [`Request`] is answered with.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// An offer has been answered.
    Answered(Answer),
    /// An m-line is published.
    Published(TrackInfo),
    /// What a slot shows now.
    Shows(Option<TrackId>),
    /// The fragment to answer an ICE restart with.
    IceRestarted(String),
    /// Counters of one peer, and what its path carries.
    PeerStats(Box<PeerStats>),
    /// Counters of everything.
    Stats(Stats),
    /// It has been done, and there is no more to say of it.
    Done,
    /// It has not been done.
    Refused(Refusal),
}

/// Why a [`Request`] was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// An offer, or new ICE credentials.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// Anything else.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Offer(error) => error.code(),
            Refusal::Command(error) => error.code(),
        }
    }
}

impl Reply {
    /// What `done` makes of a result, or the refusal.
    pub fn of<T, E: Into<Refusal>>(result: Result<T, E>, done: impl FnOnce(T) -> Reply) -> Reply {
        result.map_or_else(|error| Reply::Refused(error.into()), done)
    }
}

impl<E: Into<Refusal>> From<Result<(), E>> for Reply {
    fn from(result: Result<(), E>) -> Reply {
        Reply::of(result, |()| Reply::Done)
    }
}
