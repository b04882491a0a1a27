//! A slot: one receive m-line of one subscriber, and the track it shows.
//!
//! In: the packets of the track it is pointed at, and the subscriber's feedback. Out: one
//! continuous RTP stream in the subscriber's own numbering, whatever it is pointed at, with
//! retransmissions on the side.

use std::time::Duration;

use super::layer::{LayerSelector, Verdict};
use super::retransmit::Retransmitter;
use super::rewrite::{Mapped, Rewriter, Source};
use crate::clock::ntp_span;
use crate::media::{Codec, ExtensionMap, Kind, PayloadMap};
use crate::peer::egress::{Egress, Outgoing};
use crate::peer::sdp::{Section, SendSection, match_payload};
use crate::publish::feed::Feed;
use crate::publish::history::{Kept, PacketMeta};
use crate::rtp::codec::{PictureId, vp8, vp9};
use crate::rtp::packet::HeaderFields;
use crate::rtp::sequence::SequenceNumber;
use crate::types::{Mid, Ssrc, TrackId};

/// What a slot shows.
#[derive(Debug)]
struct Subscription {
    track: TrackId,
    layer: LayerSelector,
}

/// One receive m-line.
#[derive(Debug)]
pub struct Slot {
    /// Its name.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// The SSRC of its stream.
    pub ssrc: Ssrc,
    /// The round trip to the subscriber, from its reports.
    pub round_trip: Option<Duration>,
    /// The packets the subscriber says it has lost, as of its last report.
    pub lost: i64,
    rtx_ssrc: Option<Ssrc>,
    payloads: Vec<PayloadMap>,
    extensions: ExtensionMap,
    allows_two_byte: bool,
    rewriter: Rewriter,
    subscription: Option<Subscription>,
    retransmitter: Retransmitter,
    rtx_sequence: SequenceNumber,
    packets: u64,
    bytes: u64,
}

impl Slot {
    /// For an m-line as negotiated. `seed` is random.
    #[must_use]
    pub fn new(section: &Section, send: &SendSection, seed: u32) -> Self {
        let [a, b, c, d] = seed.to_be_bytes();
        let mut slot = Slot {
            mid: section.mid,
            kind: section.kind,
            ssrc: send.ssrc,
            round_trip: None,
            lost: 0,
            rtx_ssrc: None,
            payloads: Vec::new(),
            extensions: ExtensionMap::default(),
            allows_two_byte: false,
            rewriter: Rewriter::new(u16::from_be_bytes([a, b])),
            subscription: None,
            retransmitter: Retransmitter::default(),
            rtx_sequence: SequenceNumber(u64::from(u16::from_be_bytes([c, d]) & 0x7fff)),
            packets: 0,
            bytes: 0,
        };
        slot.renegotiate(section, send);
        slot
    }

    /// Takes over what another offer has changed.
    pub fn renegotiate(&mut self, section: &Section, send: &SendSection) {
        self.rtx_ssrc = send.rtx_ssrc;
        self.payloads.clone_from(&section.payloads);
        self.extensions = send.extensions;
        self.allows_two_byte = section.extmap_allow_mixed;
    }

    /// Points the slot at a track, or at nothing.
    pub fn show(&mut self, track: Option<TrackId>) {
        self.subscription = track.map(|track| Subscription {
            track,
            layer: LayerSelector::default(),
        });
    }

    /// What the slot shows.
    #[must_use]
    pub fn track(&self) -> Option<TrackId> {
        Some(self.subscription.as_ref()?.track)
    }

    /// The track has a pause: what comes after it starts anew.
    pub fn interrupt(&mut self) {
        if let Some(subscription) = &mut self.subscription {
            subscription.layer.interrupt();
        }
    }

    /// The encoding of which a key frame is needed before the wanted picture can be shown.
    #[must_use]
    pub fn needs_key_frame(&self) -> Option<u8> {
        let layer = &self.subscription.as_ref()?.layer;
        (self.kind == Kind::Video && layer.needs_key_frame()).then(|| layer.target())
    }

    /// The encoding that the subscriber decodes or waits for, to ask a key frame of.
    #[must_use]
    pub fn wanted_encoding(&self) -> Option<u8> {
        Some(self.subscription.as_ref()?.layer.target())
    }

    /// Packets and payload bytes sent so far, retransmissions not included.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }

    /// The negotiated payload for a codec.
    fn payload_for(&self, codec: Codec) -> Option<PayloadMap> {
        match_payload(codec, &self.payloads).copied()
    }

    /// Forwards a packet of the track the slot shows; `best` is the encoding to show. Returns
    /// whether it was sent.
    pub fn forward(&mut self, kept: Kept<'_>, best: u8, egress: &mut Egress<'_>) -> bool {
        let meta = kept.meta;
        let Some(payload_map) = self.payload_for(meta.codec) else {
            return false;
        };
        let Some(subscription) = &mut self.subscription else {
            return false;
        };
        subscription.layer.set_target(best);
        let source = Source {
            track: subscription.track,
            encoding: meta.encoding,
            epoch: meta.epoch,
        };
        match subscription.layer.judge(meta) {
            Verdict::Drop => return false,
            Verdict::Start => self.rewriter.start(meta.arrival, source, meta),
            Verdict::Forward => {}
        }
        if meta.is_void {
            self.rewriter.skip(meta.sequence);
            return false;
        }
        let Some(mapped) = self.rewriter.forward(meta.arrival, meta) else {
            return false;
        };
        let fields = HeaderFields {
            marker: meta.marker,
            payload_type: payload_map.payload_type,
            sequence: 0,
            timestamp: mapped.timestamp,
            ssrc: self.ssrc,
        };
        let Some(sent) = self.send(kept, mapped, fields, mapped.sequence, None, egress) else {
            return false;
        };
        self.retransmitter.sent(sent);
        self.packets += 1;
        self.bytes += kept.payload().len() as u64;
        true
    }

    /// Answers a NACK for one packet from the track's history. Returns whether it was sent again.
    pub fn retransmit(&mut self, sequence: u16, feed: &Feed, egress: &mut Egress<'_>) -> bool {
        let Some((source, original)) = self.rewriter.find(sequence) else {
            return false;
        };
        if self.track() != Some(source.track) {
            return false;
        }
        let kept = feed.get_fresh(egress.now, source.encoding, original);
        let Some(kept) = kept.filter(|kept| !kept.meta.is_void) else {
            return false;
        };
        let Some(mapped) = self.rewriter.again(source, kept.meta) else {
            return false;
        };
        let payload_map = self.payload_for(kept.meta.codec);
        let rtx_payload_type = payload_map.and_then(|map| map.rtx_payload_type);
        // Without RTX the packet would go out under its own number once more, but with other header
        // extensions: two packets sealed with one nonce, which gives the key away.
        let Some((ssrc, payload_type)) = self.rtx_ssrc.zip(rtx_payload_type) else {
            return false;
        };
        let size = kept.packet.len();
        if !self
            .retransmitter
            .allow(egress.now, sequence, size, self.round_trip)
        {
            return false;
        }
        let fields = HeaderFields {
            marker: kept.meta.marker,
            payload_type,
            sequence: 0,
            timestamp: mapped.timestamp,
            ssrc,
        };
        self.rtx_sequence = self.rtx_sequence.next();
        let number = self.rtx_sequence;
        self.send(kept, mapped, fields, number, Some(sequence), egress)
            .is_some()
    }

    fn send(
        &self,
        kept: Kept<'_>,
        mapped: Mapped,
        fields: HeaderFields,
        sequence: SequenceNumber,
        original: Option<u16>,
        egress: &mut Egress<'_>,
    ) -> Option<usize> {
        let meta = kept.meta;
        let mut extensions = meta.extensions;
        extensions.mid = Some(self.mid);
        extensions.rid = None;
        extensions.repaired_rid = None;
        let mut descriptor = [0; u8::MAX as usize];
        let descriptor = self.descriptor(kept, mapped, &mut descriptor);
        let outgoing = Outgoing {
            fields,
            sequence,
            map: &self.extensions,
            extensions,
            descriptor,
            original,
            payload: kept.payload(),
        };
        egress.send_rtp(&outgoing, |payload| patch_payload(meta, mapped, payload))
    }

    /// The packet's dependency descriptor with the subscriber's frame number. Empty where the
    /// subscriber cannot be sent one: longer than 16 bytes it needs the two-byte form, which may
    /// not be mixed in unless that was negotiated (RFC 8285 section 4.1.2).
    fn descriptor<'a>(&self, kept: Kept<'_>, mapped: Mapped, buffer: &'a mut [u8]) -> &'a [u8] {
        let span = kept.meta.extensions.dependency_descriptor;
        let original = span.map_or(&[][..], |span| span.of(kept.packet));
        if original.is_empty() || !self.allows_two_byte {
            return &[];
        }
        let Some(copy) = buffer.get_mut(..original.len()) else {
            return &[];
        };
        copy.copy_from_slice(original);
        // After the first byte come the 16 bits of the frame number.
        if let (Some(place), Some(picture)) = (copy.get_mut(1..3), &kept.meta.picture) {
            let frame = picture.frame_number.unwrap_or_default();
            let frame = frame.wrapping_add(mapped.pictures.frame_number);
            place.copy_from_slice(&frame.to_be_bytes());
        }
        copy
    }

    /// What to say in a sender report: the subscriber's RTP timestamp for the time `now_ntp`, if
    /// the publisher has said how its timestamps and times belong together.
    #[must_use]
    pub fn sender_timestamp(&self, now_ntp: u64, feed: &Feed) -> Option<u32> {
        let source = self.rewriter.current()?;
        if self.track() != Some(source.track) {
            return None;
        }
        let report = feed.sender_report(source.encoding)?;
        let elapsed = now_ntp.wrapping_sub(report.ntp) as i64;
        // A publisher that has not reported for long may have stopped its clock.
        if elapsed.unsigned_abs() > ntp_span(Duration::from_secs(30)) {
            return None;
        }
        let rate = match self.kind {
            Kind::Audio => Codec::Opus.clock_rate(),
            Kind::Video => Codec::Vp8.clock_rate(),
        };
        let ticks = (i128::from(elapsed) * i128::from(rate)) >> 32;
        self.rewriter
            .timestamp(source, report.timestamp.wrapping_add(ticks as u64))
    }

    /// Notes a reception report of the subscriber.
    pub fn handle_report(&mut self, round_trip: Option<Duration>, lost: i32) {
        self.lost = i64::from(lost);
        if let Some(sample) = round_trip {
            // The smoothing of RFC 6298 section 2.
            self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        }
    }
}

/// Puts the subscriber's picture numbers into a payload that carries some.
fn patch_payload(meta: &PacketMeta, mapped: Mapped, payload: &mut [u8]) {
    let offset = mapped.pictures;
    let ids = |picture: Option<PictureId>, tl0: Option<u8>| {
        (
            picture
                .map_or(0, PictureId::value)
                .wrapping_add(offset.picture_id),
            tl0.unwrap_or_default().wrapping_add(offset.tl0_pic_idx),
        )
    };
    match meta.codec {
        Codec::Vp8 => {
            if let Some(descriptor) = vp8::Descriptor::parse(payload) {
                let (id, tl0) = ids(descriptor.picture_id, descriptor.tl0_picture_index);
                vp8::rewrite(payload, &descriptor, id, tl0);
            }
        }
        Codec::Vp9 { .. } => {
            if let Some(descriptor) = vp9::Descriptor::parse(payload) {
                let (id, tl0) = ids(descriptor.picture_id, descriptor.tl0_picture_index);
                vp9::rewrite(payload, &descriptor, id, tl0);
            }
        }
        Codec::Opus | Codec::H264 { .. } | Codec::Av1 { .. } => {}
    }
}
