//! What a slot sends again: what its subscriber asks for, and what fills probes.
//!
//! In: numbers of NACKs, and the sizes of probes. Out: retransmissions (RFC 4588) from the track's
//! history, or padding.

use std::time::Instant;

use super::Slot;
use crate::bandwidth::sent::PacketKind;
use crate::media::{Kind, PayloadMap};
use crate::publish::feed::Feed;
use crate::publish::history::{Kept, PacketMeta};
use crate::rtp::packet::HeaderFields;
use crate::rtp::sequence::SequenceNumber;
use crate::send::egress::{Egress, Outgoing};
use crate::subscribe::policy::UNKNOWN_ROUND_TRIP;
use crate::subscribe::retransmit::Answer;
use crate::subscribe::rewrite::{Found, Mapped};
use crate::types::Ssrc;

/// How many of the latest packets take turns to fill probes, and the size that any probe takes.
const FILLERS: u16 = 16;
const MIN_FILLER: usize = 600;

/// Most padding of a packet: its length is in one byte (RFC 3550 section 5.1).
const MAX_PADDING: usize = u8::MAX as usize;

impl Slot {
    /// Answers a NACK for one packet from the track's history. Returns whether it was sent again.
    pub(crate) fn answer_nack(
        &mut self,
        sequence: u16,
        feed: &Feed,
        egress: &mut Egress<'_>,
    ) -> bool {
        match self
            .retransmitter
            .last(egress.now, sequence, self.round_trip)
        {
            Answer::None => self.monitor.handle_nack(sequence, false),
            Answer::Lost => self.monitor.handle_nack(sequence, true),
            Answer::Underway => {}
        }
        self.retransmit(sequence, feed, egress)
    }

    /// Notes that the receiver has a packet, whichever way it came.
    pub(crate) fn handle_arrival(&mut self, sequence: u16) {
        self.retransmitter.handle_arrival(sequence);
    }

    /// Sends a packet again that transport-wide feedback says is lost, if the receiver has it in no other
    /// way: its request may be lost as well, and it repeats that a round trip later. Says whether it was sent.
    pub(crate) fn answer_loss(
        &mut self,
        sequence: u16,
        feed: &Feed,
        egress: &mut Egress<'_>,
    ) -> bool {
        self.protection.heeds_feedback
            && self.sent_as().is_some_and(|payload| payload.nack)
            && !self.retransmitter.has_arrived(egress.now, sequence)
            && self.retransmit(sequence, feed, egress)
    }

    fn retransmit(&mut self, sequence: u16, feed: &Feed, egress: &mut Egress<'_>) -> bool {
        let again = self.retransmitter.was_sent(egress.now, sequence);
        if self.is_kept {
            return self.send_same(sequence, egress);
        }
        let Some((found, mut kept)) = self.sent_before(egress.now, sequence, feed) else {
            return false;
        };
        let empty;
        if self.omits(kept.meta) {
            // What had its number when it came too late to be left out.
            empty = kept.meta.emptied();
            kept = Kept {
                meta: &empty,
                packet: &[],
            };
        }
        let Some(mapped) = found.map(kept.meta) else {
            return false;
        };
        let is_discarded = self.discarded.is_some_and(|last| mapped.sequence <= last);
        let is_late = is_discarded || self.is_overtaken(egress.now, mapped.sequence);
        if is_late || !self.protection.retransmits {
            return false;
        }
        let Some(payload_map) = self.payload_for(kept.meta.codec) else {
            return false;
        };
        let size = kept.packet.len();
        if !self
            .retransmitter
            .allow(egress.now, sequence, size, self.round_trip)
        {
            return false;
        }
        let copies = match again {
            true => self.protection.later_copies,
            false => self.protection.first_copies,
        };
        self.send_again(kept, mapped, payload_map, copies, egress)
    }

    /// Sends a packet again under its own number, to a subscriber without RTX: the very same, or two would
    /// be sealed with one nonce. As often as over RTX, and no more.
    fn send_same(&mut self, sequence: u16, egress: &mut Egress<'_>) -> bool {
        let Some(last) = self.rewriter.last_sequence() else {
            return false;
        };
        let number = last.nearest(sequence);
        let is_discarded = self.discarded.is_some_and(|last| number <= last);
        let is_late = is_discarded || self.is_overtaken(egress.now, number);
        if number > last || is_late || !self.protection.retransmits {
            return false;
        }
        let Some(size) = egress.sealed.size(egress.now, self.ssrc, sequence) else {
            return false;
        };
        let round_trip = self.round_trip;
        self.retransmitter
            .allow(egress.now, sequence, size, round_trip)
            && egress.send_same(self.ssrc, sequence).is_some()
    }

    /// The packet that was sent with a number, while it is of use.
    fn sent_before<'f>(
        &self,
        now: Instant,
        sequence: u16,
        feed: &'f Feed,
    ) -> Option<(Found, Kept<'f>)> {
        let found = self.rewriter.find(sequence)?;
        let is_shown = self.track() == Some(found.source.track);
        let kept = feed.get_fresh(now, found.source.encoding, found.sequence);
        Some((found, kept.filter(|_| is_shown)?))
    }

    /// Whether a packet is of a layer that is left out.
    fn omits(&self, meta: &PacketMeta) -> bool {
        let layer = self.subscription.as_ref().map(|s| &s.layer);
        layer.is_some_and(|layer| layer.omits(meta))
    }

    /// Sends something of at most about this size to fill a probe: a packet of late once more, which may
    /// have been lost, or else padding. Says whether there was anything.
    pub(crate) fn fill_probe(
        &mut self,
        most: usize,
        feed: Option<&Feed>,
        egress: &mut Egress<'_>,
    ) -> bool {
        let Some(rtx) = self.rtx_ssrc.filter(|_| self.kind == Kind::Video) else {
            return false;
        };
        feed.is_some_and(|feed| self.repeat_latest(most, feed, egress).is_some())
            || self.pad(rtx, most, egress).is_some()
    }

    fn repeat_latest(&mut self, most: usize, feed: &Feed, egress: &mut Egress<'_>) -> Option<()> {
        let newest = self.rewriter.last_sequence()?;
        self.filler = (self.filler + 1) % FILLERS;
        let wanted = newest.wire().wrapping_sub(self.filler);
        let (found, kept) = self.sent_before(egress.now, wanted, feed)?;
        if self.omits(kept.meta) || kept.packet.len() > most.max(MIN_FILLER) {
            return None;
        }
        let mapped = found.map(kept.meta)?;
        let payload_map = self.payload_for(kept.meta.codec)?;
        self.send_again(kept, mapped, payload_map, 1, egress)
            .then_some(())
    }

    fn pad(&mut self, ssrc: Ssrc, most: usize, egress: &mut Egress<'_>) -> Option<usize> {
        let payload_type = self.payloads.iter().find_map(|p| p.rtx_payload_type)?;
        let mut padding = [0; MAX_PADDING];
        let len = most.clamp(1, MAX_PADDING);
        // The last byte says how many there are (RFC 3550 section 5.1).
        padding[len - 1] = len as u8;
        self.rtx_sequence = self.rtx_sequence.next();
        let fields = HeaderFields {
            marker: false,
            payload_type,
            sequence: 0,
            timestamp: self.rewriter.last_timestamp().unwrap_or_default(),
            ssrc,
        };
        let outgoing = Outgoing {
            is_padding: true,
            ..self.bare(fields, self.rtx_sequence, &[], &padding[..len])
        };
        egress.send_rtp(&outgoing, PacketKind::Padding, |_| ())
    }

    /// Whether a decoder can go on from a key frame that was sent after a packet. For a round trip
    /// after it the receiver may be quicker with what it has and lacks already.
    fn is_overtaken(&self, now: Instant, sequence: SequenceNumber) -> bool {
        self.key_frame.is_some_and(|(key, sent)| {
            let round_trip = self.round_trip.unwrap_or(UNKNOWN_ROUND_TRIP);
            sequence < key && now.saturating_duration_since(sent) > round_trip
        })
    }

    /// Sends a packet over RTX, several times where it is likely to be lost and the budget, from which
    /// the first has been taken, has room. Says whether it could.
    pub(super) fn send_again(
        &mut self,
        kept: Kept<'_>,
        mapped: Mapped,
        payload_map: PayloadMap,
        copies: u8,
        egress: &mut Egress<'_>,
    ) -> bool {
        let rtx = self.rtx_ssrc.zip(payload_map.rtx_payload_type);
        let Some((ssrc, payload_type)) = rtx else {
            return false;
        };
        let layer = self.subscription.as_ref().map(|s| &s.layer);
        let marker = layer.map_or(kept.meta.marker, |layer| layer.ends_picture(kept.meta));
        let fields = HeaderFields {
            marker,
            payload_type,
            sequence: 0,
            timestamp: mapped.timestamp,
            ssrc,
        };
        let prefix = mapped.sequence.wire().to_be_bytes();
        let mut is_sent = false;
        for copy in 0..copies {
            if copy > 0 && !self.retransmitter.spend_on_copy(kept.packet.len()) {
                break;
            }
            self.rtx_sequence = self.rtx_sequence.next();
            let number = self.rtx_sequence;
            let kind = PacketKind::Retransmission;
            let sent = self.send(kept, mapped, fields, number, &prefix, kind, egress);
            if sent.is_some() {
                is_sent = true;
                self.sent_again = self.sent_again.max(Some(mapped.sequence));
                egress.stats.repair_sent.rtx += 1;
            }
        }
        is_sent
    }
}
