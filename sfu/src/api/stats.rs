//! What the media plane counts, and what it knows of a peer.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

use super::drops::DropReason;
use super::slots::{LayerInfo, Limit, Priority, Reason, SlotView};
use crate::path::Protocol;
use crate::types::{EncodingIndex, Mid, TrackId};
use crate::units::Bitrate;

/// Counters of the media plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Audio that is repeated in RED (RFC 2198).
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
    /// Packets sent again: asked for by a NACK, or lost as transport-wide feedback says.
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
    /// Slots that began with the frames since a key frame instead of another key frame.
    pub groups_sent: u64,
    /// Changes of the layer that a slot is sent.
    pub layer_switches: u64,
    /// Pictures paused, for whatever reason.
    pub pictures_paused: u64,
    /// Packets sent to find out what a path carries: media once more, or padding.
    pub probe_fillers_sent: u64,
    /// What was dropped, by the label of its [`DropReason`].
    pub dropped: BTreeMap<&'static str, u64>,
    /// DTLS handshakes completed, by SRTP profile.
    pub srtp_profiles: BTreeMap<&'static str, u64>,
}

impl WorkerStats {
    /// Counts a drop.
    pub fn drop(&mut self, reason: DropReason) {
        self.drop_many(reason, 1);
    }

    /// Counts so many drops.
    pub fn drop_many(&mut self, reason: DropReason, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason.label()).or_default() += count;
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
    /// What the path to the client can carry, and what is made of it.
    pub quality: PeerQuality,
}

/// What the path to a client can carry, and how that is divided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerQuality {
    /// What it can carry.
    pub estimate: Bitrate,
    /// What sets the estimate.
    pub limit: Limit,
    /// The least round trip of late, if known.
    pub round_trip: Option<Duration>,
    /// The share of packets that the path loses whatever is sent, 0 to 1.
    pub link_loss: f64,
    /// What audio takes.
    pub audio: Bitrate,
    /// What could be put to use: audio, and the best of each video that is shown.
    pub wanted: Bitrate,
    /// What each slot of video that shows a track gets, and each of audio that cannot be received.
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
    pub encoding: EncodingIndex,
    /// Media packets, retransmissions not included.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets that were lost and not recovered, as the receiving side counts.
    pub lost: i64,
}
