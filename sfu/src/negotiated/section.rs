//! What an offer and its answer have agreed on, one m-line at a time.

use crate::media::{ExtensionMap, Kind, PayloadMap, RepairFormats};
use crate::types::{Mid, Rid, Ssrc};

/// One accepted m-line. Stopped and refused m-lines have no section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// Position of the m-line in the SDP, from 0. Stays the same for the life of the m-line.
    pub index: usize,
    /// Its name, unique on the connection. One of our own where the client gives none.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// The client sends here: a publication.
    pub receive: Option<ReceiveSection>,
    /// The client receives here: a slot.
    pub send: Option<SendSection>,
    /// The codecs, in the client's order of preference and with its numbers. Never empty.
    pub payloads: Vec<PayloadMap>,
    /// What repairs beside retransmission.
    pub repair: RepairFormats,
    /// One-byte and two-byte header extensions may be mixed in a stream (RFC 8285 section 4.1.2).
    pub extmap_allow_mixed: bool,
    /// RTCP packets need not be compound (RFC 5506).
    pub rtcp_rsize: bool,
}

/// What the client sends on an m-line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveSection {
    /// The simulcast encodings, at most [`MAX_ENCODINGS`](crate::negotiated::MAX_ENCODINGS), in the order the
    /// client lists them. Empty when the client sends one stream without a `rid`.
    pub rids: Vec<Rid>,
    /// The announced SSRCs, each with that of its retransmissions: of `rids` in their order, for
    /// packets that do not say theirs. Empty when the client announces none and is known by its
    /// `mid` alone.
    pub ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
    /// Each of the first of `ssrcs`, at most [`MAX_ENCODINGS`](crate::negotiated::MAX_ENCODINGS), is an encoding of
    /// one source, by `a=ssrc-group:SIM`. Not together with `rids`.
    pub is_sim_group: bool,
    /// The client's canonical name (RFC 3550 section 6.5.1), if announced.
    pub cname: Option<String>,
    /// The header extensions that the client may put on packets.
    pub extensions: ExtensionMap,
}

/// What the client receives on an m-line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendSection {
    /// Our SSRC. Stays the same for the life of the m-line.
    pub ssrc: Ssrc,
    /// The SSRC of our retransmissions, when a payload has them. As stable as `ssrc`.
    pub rtx_ssrc: Option<Ssrc>,
    /// The SSRC of our FlexFEC, where that was negotiated. As stable as `ssrc`.
    pub flexfec_ssrc: Option<Ssrc>,
    /// The id of the `MediaStream` that the client makes of it.
    pub msid: String,
    /// The header extensions that we may put on packets.
    pub extensions: ExtensionMap,
}

/// One m-line as a worker has negotiated it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionInfo {
    pub mid: Mid,
    pub kind: Kind,
    /// The client sends on it.
    pub publishes: bool,
    /// The client receives on it: it is a slot.
    pub is_slot: bool,
}
