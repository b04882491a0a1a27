//! What the control plane says to the media plane, and hears from it.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

pub use crate::bandwidth::estimator::Limit;
use crate::media::Kind;
pub use crate::peer::sdp::OfferError as SdpError;
pub use crate::publish::meter::LayerInfo;
pub use crate::room::{Content, SlotChoice};
pub use crate::subscribe::allocation::{Priority, Reason, SETTLING, SlotView};
use crate::types::{Mid, PeerId, PersonId, RoomId, TrackId};
use crate::units::Bitrate;
use crate::way::Protocol;

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
    /// Nothing is heard of a peer any more that was heard of all the time: the way to it may be cut.
    PeerSilent {
        /// Whose.
        peer: PeerId,
    },
    /// A peer that was silent is heard again.
    PeerHeard {
        /// Whose.
        peer: PeerId,
    },
    /// The way to or from a peer has lost a quarter of all packets, or more, for most of half a minute,
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
        }
    }
}

/// Counters of the media plane.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Rooms with a peer in them.
    pub rooms: usize,
    /// Peers.
    pub peers: usize,
    /// Published tracks.
    pub tracks: usize,
    /// Each worker that answered, with its number.
    pub workers: Vec<(usize, WorkerStats)>,
}

impl Stats {
    /// The counters of all workers together.
    #[must_use]
    pub fn total(&self) -> WorkerStats {
        let mut total = WorkerStats::default();
        for (_, worker) in &self.workers {
            total.add(worker);
        }
        total
    }
}

/// Packets, by the kind of repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairCounts {
    /// Retransmissions (RFC 4588).
    pub rtx: u64,
    /// Repair packets of ULPFEC and FlexFEC.
    pub fec: u64,
    /// Sound that is repeated in RED (RFC 2198).
    pub red: u64,
}

impl AddAssign for RepairCounts {
    fn add_assign(&mut self, other: RepairCounts) {
        self.rtx += other.rtx;
        self.fec += other.fec;
        self.red += other.red;
    }
}

/// Counters of one worker since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Peers on it now.
    pub peers: u64,
    /// TCP connections to it now.
    pub tcp_connections: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes of datagrams received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of datagrams sent.
    pub bytes_sent: u64,
    /// RTP packets received that authenticated.
    pub rtp_received: u64,
    /// Media packets sent to subscribers, retransmissions not included.
    pub packets_forwarded: u64,
    /// Packets sent again for a NACK.
    pub packets_retransmitted: u64,
    /// Packets sent to subscribers to repair others, or that repeat others.
    pub repair_sent: RepairCounts,
    /// Packets from publishers that were lost and came after all, by what brought them.
    pub packets_repaired: RepairCounts,
    /// Packets that publishers sent and that never came.
    pub packets_given_up: u64,
    /// Packets asked for again from publishers.
    pub nacks_sent: u64,
    /// Key frames asked for from publishers.
    pub key_frame_requests_sent: u64,
    /// Slots that began with the pictures since a key frame instead of another key frame.
    pub groups_sent: u64,
    /// Changes of the layer that a slot is sent.
    pub layer_switches: u64,
    /// Pictures paused, for whatever reason.
    pub pictures_paused: u64,
    /// Packets sent to find out what a way carries: media once more, or padding.
    pub probe_fillers_sent: u64,
    /// What was dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// DTLS handshakes completed, by SRTP profile.
    pub srtp_profiles: BTreeMap<&'static str, u64>,
}

impl WorkerStats {
    /// Counts a drop.
    pub fn drop(&mut self, reason: &'static str) {
        self.drop_many(reason, 1);
    }

    /// Counts so many drops.
    pub fn drop_many(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count;
        }
    }

    fn add(&mut self, other: &WorkerStats) {
        self.peers += other.peers;
        self.tcp_connections += other.tcp_connections;
        self.datagrams_received += other.datagrams_received;
        self.bytes_received += other.bytes_received;
        self.datagrams_sent += other.datagrams_sent;
        self.bytes_sent += other.bytes_sent;
        self.rtp_received += other.rtp_received;
        self.packets_forwarded += other.packets_forwarded;
        self.packets_retransmitted += other.packets_retransmitted;
        self.repair_sent += other.repair_sent;
        self.packets_repaired += other.packets_repaired;
        self.packets_given_up += other.packets_given_up;
        self.nacks_sent += other.nacks_sent;
        self.key_frame_requests_sent += other.key_frame_requests_sent;
        self.groups_sent += other.groups_sent;
        self.layer_switches += other.layer_switches;
        self.pictures_paused += other.pictures_paused;
        self.probe_fillers_sent += other.probe_fillers_sent;
        for (ours, theirs) in [
            (&mut self.dropped, &other.dropped),
            (&mut self.srtp_profiles, &other.srtp_profiles),
        ] {
            for (name, count) in theirs {
                *ours.entry(name).or_default() += count;
            }
        }
    }
}

/// What is known of one peer's connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerStats {
    /// Whether DTLS is up.
    pub connected: bool,
    /// The client's address, as last selected.
    pub remote_address: Option<std::net::SocketAddr>,
    /// What it is reached over.
    pub protocol: Option<Protocol>,
    /// The SRTP profile in use.
    pub srtp_profile: Option<&'static str>,
    /// Packets received, by published m-line.
    pub received: Vec<StreamStats>,
    /// Packets sent, by slot.
    pub sent: Vec<StreamStats>,
    /// What the way to the client can carry, and what is made of it.
    pub quality: PeerQuality,
}

/// What the way to a client can carry, and how that is divided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerQuality {
    /// What it can carry.
    pub estimate: Bitrate,
    /// What sets the estimate.
    pub limit: Limit,
    /// The least round trip of late, if known.
    pub round_trip: Option<Duration>,
    /// The share of packets that the way loses whatever is sent, 0 to 1.
    pub link_loss: f64,
    /// What sound takes.
    pub audio: Bitrate,
    /// What could be put to use: sound, and the best of each picture that is shown.
    pub wanted: Bitrate,
    /// What each slot of video that shows a track gets, and each of sound that cannot be received.
    pub slots: Vec<SlotQuality>,
    /// The latest decisions, the oldest first.
    pub decisions: Vec<Decision>,
}

/// What a slot gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotQuality {
    /// The m-line.
    pub mid: Mid,
    /// What it shows.
    pub track: TrackId,
    /// How important it is.
    pub priority: Priority,
    /// What the client shows of it.
    pub view: SlotView,
    /// The layer it gets; none while it is paused.
    pub layer: Option<LayerInfo>,
    /// Why not a better one.
    pub reason: Reason,
    /// How often the layer has changed since the slot was made.
    pub switches: u64,
}

/// A change of what a slot gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How long ago.
    pub ago: Duration,
    /// The m-line.
    pub mid: Mid,
    /// The layer it had.
    pub from: Option<LayerInfo>,
    /// The layer it got.
    pub to: Option<LayerInfo>,
    /// Why not a better one.
    pub reason: Reason,
    /// The estimate at that time.
    pub estimate: Bitrate,
}

/// Counters of one stream of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStats {
    /// The m-line.
    pub mid: Mid,
    /// The track on it, if any.
    pub track: Option<TrackId>,
    /// The simulcast layer, 0 without simulcast.
    pub encoding: u8,
    /// Media packets, retransmissions not included.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets that were lost and not recovered, as the receiving side counts.
    pub lost: i64,
}
