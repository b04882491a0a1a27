//! What the control plane says to the media plane, and hears from it.

mod drops;
mod requests;
mod sdp_error;
mod slots;
mod stats;

pub use drops::DropReason;
pub use requests::{Refusal, Reply, Request};
pub(crate) use sdp_error::quote;
pub use sdp_error::{LineName, SdpError};
pub use slots::{Content, LayerInfo, Limit, Priority, Reason, SETTLING, SlotChoice, SlotView};
pub use stats::{
    Decision, PeerQuality, PeerStats, RepairCounts, SlotQuality, Stats, StreamStats, WorkerStats,
};

use crate::media::Kind;
use crate::types::{Mid, PeerId, PersonId, RoomId, TrackId};
use crate::units::Bitrate;

/// Which of an offer's sending m-lines are published with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Publish {
    /// Every one; they carry people.
    All,
    /// These; the others are negotiated and can be published later. A track that is published
    /// already carries what it did.
    Mids(Vec<(Mid, Content)>),
}

impl Publish {
    /// What an m-line is to be published as, if it is.
    #[must_use]
    pub fn content(&self, mid: Mid) -> Option<Content> {
        match self {
            Publish::All => Some(Content::default()),
            Publish::Mids(mids) => {
                let line = mids.iter().find(|(wanted, _)| *wanted == mid)?;
                Some(line.1)
            }
        }
    }
}

/// A client's SDP offer, and what it may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The SDP.
    pub sdp: String,
    /// What to publish at once.
    pub publish: Publish,
    /// Whether sending m-lines are accepted.
    pub may_publish: bool,
    /// Whether receiving m-lines are accepted.
    pub may_subscribe: bool,
    /// Whether it is refused for an m-line to publish by that cannot be served, and for having nothing
    /// that can be done by it. Otherwise what can be served is, and [`Answer::refused`] has the rest.
    pub is_whole: bool,
    /// Whether the client is to leave UDP: its checks over UDP are not answered, but for those that come
    /// through our own relay, or it would prefer them.
    pub avoid_udp: bool,
    /// Who it is, if there may be other peers of the same person in the room: slots that are left to the
    /// server show none of what they publish.
    pub person: Option<PersonId>,
    /// The peer in whose place this one comes, if the client has made a new connection: from the same
    /// address it begins with the rate that was known to get to that.
    pub former: Option<PeerId>,
}

/// The answer to an [`Offer`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The SDP.
    pub sdp: String,
    /// Every track the peer publishes now.
    pub tracks: Vec<TrackInfo>,
    /// Every slot the peer has now.
    pub slots: Vec<SlotInfo>,
    /// The m-lines that were offered and are not served, and why.
    pub refused: Vec<(Mid, SdpError)>,
}

/// A published track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrackInfo {
    /// Its name in the room.
    pub track: TrackId,
    /// The publisher's m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
}

/// A receive m-line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotInfo {
    /// The subscriber's m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows.
    pub track: Option<TrackId>,
}

/// What happens without being asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The connection is up: media can flow.
    PeerConnected {
        /// Whose.
        peer: PeerId,
    },
    /// Nothing is heard of a peer any more that was heard of all the time: the path to it may be cut.
    PeerSilent {
        /// Whose.
        peer: PeerId,
    },
    /// A peer that was silent is heard again.
    PeerHeard {
        /// Whose.
        peer: PeerId,
    },
    /// The path to or from a peer has lost a quarter of all packets, or more, for most of half a minute,
    /// over UDP. Said again while it does.
    PeerHopeless {
        /// Whose.
        peer: PeerId,
    },
    /// The media plane has forgotten a peer.
    PeerGone {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: GoneReason,
    },
    /// An offer has stopped the m-line of a track.
    TrackUnpublished {
        /// The publisher.
        peer: PeerId,
        /// The track.
        track: TrackId,
    },
    /// A slot shows another track.
    SlotChanged {
        /// The subscriber.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// What it shows now.
        track: Option<TrackId>,
    },
    /// The encodings of a track that anybody receives, or could. The publisher may stop sending the
    /// others until it hears of them again.
    LayersWanted {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
        /// One for each encoding, in the order of the offer; a single one without simulcast.
        encodings: Vec<bool>,
        /// The most to send of a track of one encoding: what all can be sent who receive it. None without
        /// a limit.
        bitrate: Option<Bitrate>,
    },
    /// What a slot shows has been paused, or goes on.
    SlotPaused {
        /// The subscriber.
        peer: PeerId,
        /// Its m-line.
        mid: Mid,
        /// Why it is paused; it goes on if there is no reason any more.
        reason: Option<Reason>,
    },
    /// Other people speak.
    Speakers {
        /// The room.
        room: RoomId,
        /// Who has the floor, if anybody has.
        dominant: Option<PeerId>,
    },
}

/// Why a peer is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GoneReason {
    /// No authenticated connectivity check for 30 s (RFC 7675).
    ConsentLost,
    /// No first connectivity check within 30 s.
    NeverConnected,
    /// The DTLS handshake failed.
    DtlsFailed(DtlsFailure),
    /// The client closed its DTLS connection.
    Closed,
    /// The worker thread that held it has failed.
    WorkerFailed,
}

impl GoneReason {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            GoneReason::ConsentLost => "consent_lost",
            GoneReason::NeverConnected => "never_connected",
            GoneReason::DtlsFailed(_) => "dtls_failed",
            GoneReason::Closed => "closed",
            GoneReason::WorkerFailed => "worker_failed",
        }
    }
}

/// Why a DTLS handshake failed, as the client may be told: it knows how it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DtlsFailure {
    /// Another certificate than the SDP promises.
    #[error("the client's certificate is not the one that its a=fingerprint names")]
    WrongCertificate,
    /// No certificate.
    #[error("the client showed no certificate")]
    NoCertificate,
    /// A certificate whose key is of no use.
    #[error(
        "the client's certificate cannot be used; RSA of 2048 to 8192 bits, P-224, P-256, P-384, \
         P-521 and Ed25519 can"
    )]
    UnsupportedCertificate,
    /// Nothing in common to protect media with.
    #[error(
        "the client offers no SRTP profile that the server has: SRTP_AEAD_AES_256_GCM, \
         SRTP_AEAD_AES_128_GCM or SRTP_AES128_CM_HMAC_SHA1_80"
    )]
    NoSrtpProfile,
    /// Nothing in common to protect the handshake with.
    #[error(
        "the client offers no DTLS version, cipher suite, group or signature that the server has"
    )]
    NoCipherSuite,
    /// The client has given up.
    #[error("the client ended the DTLS handshake")]
    Refused,
    /// The handshake has begun, and has not ended.
    #[error("the DTLS handshake did not finish in time")]
    Timeout,
    /// What the client says is no DTLS, or something on the way alters it.
    #[error("the client's DTLS messages are wrong")]
    Protocol,
}

/// Why an offer was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OfferError {
    /// The SDP could not be served.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// No such peer.
    #[error("this connection is not known to the server any more; make a new one and offer again")]
    UnknownPeer,
    /// Another offer of this peer is being answered.
    #[error("another offer of this connection is still being answered; wait for its answer first")]
    OfferPending,
    /// Every worker is full.
    #[error("the server has as many connections as it can hold; try again later")]
    Overloaded,
    /// The worker failed or is stopping.
    #[error("the part of the server that held this connection has stopped; make a new connection")]
    WorkerFailed,
}

impl OfferError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            OfferError::Sdp(error) => error.code(),
            OfferError::UnknownPeer => "unknown_peer",
            OfferError::OfferPending => "offer_pending",
            OfferError::Overloaded => "overloaded",
            OfferError::WorkerFailed => "worker_failed",
        }
    }
}

/// Why a command was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// No such peer.
    #[error("there is no media connection yet; send an offer first")]
    UnknownPeer,
    /// No such track here.
    #[error("there is no track {0} that this can be done with")]
    UnknownTrack(TrackId),
    /// No such m-line, or of the other direction.
    #[error("the connection has no m-line \"{0}\" of the needed direction")]
    UnknownMid(Mid),
    /// The media plane is stopping.
    #[error("the media plane has stopped")]
    Stopped,
    /// Whoever was to ask for it has failed.
    #[error("the server has made a mistake")]
    Failed,
}

impl CommandError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            CommandError::UnknownPeer => "unknown_peer",
            CommandError::UnknownTrack(_) => "unknown_track",
            CommandError::UnknownMid(_) => "unknown_mid",
            CommandError::Stopped => "worker_failed",
            CommandError::Failed => "internal",
        }
    }
}
