//! One track as its publisher sends it: an m-line with one encoding, or several in simulcast.
//!
//! In: what is negotiated for the m-line, and its packets (`receive.rs`). Out: what each payload type
//! stands for, and what to ask the publisher for.

use std::time::Instant;

use super::encoding::Encoding;
use super::pictures::Frames;
use super::receive::Repaired;
use super::sources::Sources;
use crate::api::RepairCounts;
use crate::media::{ExtensionMap, KeyFrameRequest, Kind, PayloadMap, RepairFormats};
use crate::negotiated::{MAX_ENCODINGS, ReceiveSection, Section};
use crate::rtp::sequence::SequenceNumber;
use crate::types::{Mid, Rid, Ssrc, TrackId};
use crate::units::Bitrate;

#[derive(Debug)]
pub(crate) struct Publication {
    pub mid: Mid,
    pub kind: Kind,
    /// The track it is published as, if it is.
    pub track: Option<TrackId>,
    pub muted: bool,
    /// Its encodings, in the order they were negotiated.
    pub encodings: Vec<Encoding>,
    /// Which id each header extension has.
    pub extensions: ExtensionMap,
    pub(super) payloads: Vec<PayloadMap>,
    pub(super) repair: RepairFormats,
    pub(super) repaired: Repaired,
    pub(super) sources: Sources,
    /// The encodings that the latest frames are of.
    pub(super) frames: Frames,
    /// Lent to what finds numbers without media.
    pub(super) voids_found: Vec<SequenceNumber>,
    /// How many packets came after all, since somebody counted them last.
    pub repaired_by: RepairCounts,
    /// The most that its subscribers can be sent of it, if it is of one encoding and that is too much.
    pub ceiling: Option<Bitrate>,
    /// The log has told that it cannot be asked for key frames.
    pub is_known_deaf: bool,
}

/// What a payload type of the m-line stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Media(PayloadMap),
    /// RTX of this payload type.
    Retransmission(u8),
    /// RED, with whatever it carries.
    Red,
    /// ULPFEC, which comes in RED only.
    Ulpfec,
    /// FlexFEC, on an SSRC of its own.
    Flexfec,
}

impl Publication {
    /// For an m-line as negotiated.
    #[must_use]
    pub(crate) fn new(section: &Section, receive: &ReceiveSection) -> Self {
        let unnamed = |place: usize| {
            let (ssrc, rtx) = receive.ssrcs.get(place).copied().unzip();
            Encoding::new(section.kind, None, ssrc, rtx.flatten())
        };
        let encodings = if !receive.rids.is_empty() {
            // Which SSRC is which their packets say, if anything does.
            let named = |&rid: &Rid| Encoding::new(section.kind, Some(rid), None, None);
            receive.rids.iter().map(named).collect()
        } else if receive.is_sim_group {
            let count = receive.ssrcs.len().min(MAX_ENCODINGS);
            (0..count).map(unnamed).collect()
        } else {
            vec![unnamed(0)]
        };
        Publication {
            mid: section.mid,
            kind: section.kind,
            track: None,
            muted: false,
            encodings,
            extensions: receive.extensions,
            payloads: section.payloads.clone(),
            repair: section.repair,
            repaired: Repaired::default(),
            sources: Sources::new(&receive.ssrcs),
            frames: Frames::default(),
            voids_found: Vec::new(),
            repaired_by: RepairCounts::default(),
            ceiling: None,
            is_known_deaf: false,
        }
    }

    /// Takes over what another offer has changed. Returns the SSRCs that it newly announces.
    pub(crate) fn renegotiate(&mut self, section: &Section, receive: &ReceiveSection) -> Vec<Ssrc> {
        self.payloads.clone_from(&section.payloads);
        self.repair = section.repair;
        self.extensions = receive.extensions;
        let announced = self.sources.announce(&receive.ssrcs);
        let known: Vec<Option<Rid>> = self.encodings.iter().map(|e| e.rid).collect();
        let fresh = Publication::new(section, receive);
        if fresh.encodings.iter().map(|e| e.rid).ne(known) {
            self.encodings = fresh.encodings;
        }
        announced
    }

    /// What a payload type stands for.
    #[must_use]
    pub(crate) fn format(&self, payload_type: u8) -> Option<Format> {
        let is = |agreed: Option<u8>| agreed == Some(payload_type);
        let codec = self.payloads.iter().find_map(|map| {
            if is(map.rtx_payload_type) {
                Some(Format::Retransmission(map.payload_type))
            } else {
                (map.payload_type == payload_type).then_some(Format::Media(*map))
            }
        });
        let repair = &self.repair;
        let retransmitted = repair.red.filter(|_| is(repair.red_rtx));
        codec
            .or(retransmitted.map(Format::Retransmission))
            .or(is(repair.red).then_some(Format::Red))
            .or(is(repair.ulpfec).then_some(Format::Ulpfec))
            .or(is(repair.flexfec).then_some(Format::Flexfec))
    }

    /// The SSRCs that its encodings have, of media and of repair.
    pub(crate) fn ssrcs(&self) -> impl Iterator<Item = Ssrc> {
        let all = |e: &Encoding| [e.ssrc, e.rtx_ssrc, e.flexfec_ssrc];
        self.encodings.iter().flat_map(all).flatten()
    }

    /// When something is to be asked of the publisher.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.encodings
            .iter()
            .flat_map(|e| [e.nack.next_deadline(), e.key_frames.next_deadline()])
            .flatten()
            .min()
    }

    /// How the publisher is asked for a key frame, if it can be (RFC 4585 section 4.2: only by what was
    /// negotiated). One that cannot be sends them when it likes, and its viewers wait for that.
    #[must_use]
    pub(crate) fn key_frame_request(&self) -> Option<KeyFrameRequest> {
        self.payloads.iter().filter_map(|p| p.key_frames).min()
    }

    /// Whether the publisher heeds a limit that it is told by REMB.
    #[must_use]
    pub(crate) fn heeds_limits(&self) -> bool {
        self.payloads.iter().any(|p| p.remb)
    }

    /// Whether lost packets may be asked for again on an encoding.
    #[must_use]
    pub(crate) fn may_nack(&self) -> bool {
        self.payloads.iter().any(|p| p.nack)
    }
}
