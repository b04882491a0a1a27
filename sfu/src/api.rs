//! What the control plane says to the media plane and hears from it: plain data.
//!
//! In come an [`Offer`] and [`SlotChoice`]s, out go an [`Answer`] and [`Event`]s.

use crate::media::Kind;
use crate::types::{Mid, PeerId, TrackId};

/// An SDP offer and what its sender may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The session description (RFC 8866).
    pub sdp: String,
    /// Which of its sending m-lines become tracks.
    pub publish: Publish,
    /// Whether the sender may publish at all.
    pub may_publish: bool,
    /// Whether the sender may receive at all.
    pub may_subscribe: bool,
}

/// Which sending m-lines of an offer become tracks; the others are negotiated and stay silent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Publish {
    /// Every one.
    All,
    /// Those named.
    Mids(Vec<Mid>),
}

/// The answer to an [`Offer`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The session description to give to the client.
    pub sdp: String,
    /// The peer's published tracks.
    pub tracks: Vec<TrackInfo>,
    /// The peer's receiving m-lines.
    pub slots: Vec<SlotInfo>,
}

/// A published track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrackInfo {
    /// Its identifier.
    pub track: TrackId,
    /// The publisher's m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
}

/// A receiving m-line and what it shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotInfo {
    /// The subscriber's m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// The track it shows now.
    pub track: Option<TrackId>,
}

/// What a slot is to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotChoice {
    /// Whatever the server puts there.
    Auto,
    /// This track and no other.
    Pin(TrackId),
    /// Nothing.
    Off,
}

/// Something that happened without being asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// ICE and DTLS are up: media can flow.
    PeerConnected {
        /// Whose.
        peer: PeerId,
    },
    /// The media plane has forgotten the peer.
    PeerGone {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: GoneReason,
    },
    /// An offer stopped the m-line of a track.
    TrackUnpublished {
        /// The publisher.
        peer: PeerId,
        /// The track, which no longer exists.
        track: TrackId,
    },
    /// A slot shows something else now.
    SlotChanged {
        /// The subscriber.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// What the slot shows.
        track: Option<TrackId>,
    },
}

/// Why a peer is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GoneReason {
    /// The client stopped answering connectivity checks (RFC 7675).
    ConsentLost,
    /// The DTLS handshake failed, or the certificate was not the one the offer named.
    DtlsFailed,
    /// The worker that held the peer panicked.
    WorkerFailed,
    /// A newer connection took its place.
    Replaced,
    /// No authenticated connectivity check ever came.
    NeverConnected,
}

/// Why an offer was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OfferError {
    /// The text is not SDP.
    #[error("The offer is not valid SDP: {0}.")]
    BadSdp(String),
    /// The SDP asks for what this server does not do.
    #[error("The offer cannot be served: {0}.")]
    UnsupportedSdp(String),
    /// The sender lacks the permission.
    #[error("The offer asks for what its sender may not do: {0}.")]
    NotAllowed(String),
    /// No such peer.
    #[error("There is no such media connection any more; make a new one.")]
    UnknownPeer,
    /// The worker is full.
    #[error("The server has no room for another connection; try again later.")]
    Overloaded,
    /// The worker panicked.
    #[error("The media worker failed; make a new connection.")]
    WorkerFailed,
}

impl OfferError {
    /// The stable code of this error in the signaling protocol.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            OfferError::BadSdp(_) => "bad_sdp",
            OfferError::UnsupportedSdp(_) => "unsupported_sdp",
            OfferError::NotAllowed(_) => "not_allowed",
            OfferError::UnknownPeer => "unknown_peer",
            OfferError::Overloaded => "overloaded",
            OfferError::WorkerFailed => "worker_failed",
        }
    }
}

/// Why a command was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// The peer lacks the permission.
    #[error("The connection may not do this: {0}.")]
    NotAllowed(String),
    /// No such peer.
    #[error("There is no such media connection any more; make a new one.")]
    UnknownPeer,
    /// No such track.
    #[error("There is no track {0}.")]
    UnknownTrack(TrackId),
    /// No such m-line, or not one this command can act on.
    #[error("The connection has no m-line {0} that this can be done to.")]
    UnknownMid(Mid),
    /// The worker panicked.
    #[error("The media worker failed; make a new connection.")]
    WorkerFailed,
}

impl CommandError {
    /// The stable code of this error in the signaling protocol.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            CommandError::NotAllowed(_) => "not_allowed",
            CommandError::UnknownPeer => "unknown_peer",
            CommandError::UnknownTrack(_) => "unknown_track",
            CommandError::UnknownMid(_) => "unknown_mid",
            CommandError::WorkerFailed => "worker_failed",
        }
    }
}
