//! What a slot forwards: whether a packet goes to the subscriber, and as what.
//!
//! In: the packets of the track that it shows. Out: those that it is to get, each in its place in the
//! subscriber's numbering, with what protects it.

use std::time::Duration;

use super::Slot;
use crate::bandwidth::sent::{MediaPacket, PacketKind};
use crate::media::{Codec, Kind, PayloadMap};
use crate::path::Protocol;
use crate::publish::feed::Feed;
use crate::publish::history::{Kept, PacketMeta};
use crate::rtp::codec::{PictureId, vp8, vp9};
use crate::rtp::extension::{HeaderExtensions, PlayoutDelay};
use crate::rtp::packet::HeaderFields;
use crate::rtp::sequence::SequenceNumber;
use crate::send::egress::{Egress, Outgoing};
use crate::subscribe::layer::Verdict;
use crate::subscribe::reinforce::{MAX_REDUNDANCY, Scheme};
use crate::subscribe::rewrite::{Mapped, Rewriter, Source};
use crate::types::EncodingIndex;
use crate::units::Bitrate;
/// Says that there is no upper limit: what libwebrtc takes for one when it is not told.
const MAX_PLAYOUT_DELAY_MS: u16 = 10_000;

/// The pictures since a key frame are sent instead of another one if they take no longer than this: a
/// round trip to the publisher, and a key frame.
const BRIDGE_TIME: Duration = Duration::from_millis(250);

/// Whatever the estimate says, they are taken to be sent no faster.
const MAX_BRIDGE_RATE: Bitrate = Bitrate::kbps(2000);

/// When a packet's turn came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// When it came.
    Now,
    /// Before it could be judged: it has overtaken what it can be decoded with.
    Overtook,
    /// Long ago, as that of all pictures since a key frame, which are whole.
    Past,
}

/// A packet that has a place in the subscriber's numbering.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    verdict: Verdict,
    mapped: Mapped,
    /// As what it is sent.
    payload: PayloadMap,
    /// It is the last of its picture that the subscriber gets.
    marker: bool,
    /// The place was left open for it, and nothing of it is sent.
    is_empty: bool,
}

impl Slot {
    /// Begins with the pictures since the last key frame, if nothing of the track is being forwarded and
    /// they are few: that is sooner there than another key frame, and costs nobody else anything. Says
    /// whether it could.
    pub(crate) fn bridge(
        &mut self,
        encoding: EncodingIndex,
        feed: &Feed,
        egress: &mut Egress<'_>,
    ) -> bool {
        let layer = self.subscription.as_ref().map(|s| &s.layer);
        if layer.is_none_or(|layer| layer.current().is_some()) {
            return false;
        }
        let rate = egress.pacing.estimate().unwrap_or(MAX_BRIDGE_RATE);
        let most = rate.min(MAX_BRIDGE_RATE).during(BRIDGE_TIME);
        let Some(group) = feed.group(egress.now, encoding, most) else {
            return false;
        };
        let forwarded = group.filter(|kept| self.pass(*kept, feed, egress, Turn::Past).is_some());
        forwarded.count() > 0
    }

    /// Forwards what has come of the track the slot shows. Returns how many packets were sent.
    ///
    /// A key frame may come with its first packet last, repaired: what came before it could not be judged
    /// then, and follows it now.
    pub(crate) fn forward(&mut self, feed: &Feed, egress: &mut Egress<'_>) -> u64 {
        let mut forwarded = 0;
        for (index, kept) in feed.pending().enumerate() {
            let Some(verdict) = self.pass(kept, feed, egress, Turn::Now) else {
                continue;
            };
            forwarded += 1;
            if verdict == Verdict::Start && self.kind == Kind::Video {
                for later in feed.overtook(index, kept.meta) {
                    let is_sent = self.pass(later, feed, egress, Turn::Overtook).is_some();
                    forwarded += u64::from(is_sent);
                }
            }
        }
        forwarded
    }

    /// Sends a packet if it is for the subscriber; says how it was judged then.
    fn pass(
        &mut self,
        kept: Kept<'_>,
        feed: &Feed,
        egress: &mut Egress<'_>,
        turn: Turn,
    ) -> Option<Verdict> {
        let admitted = self.admit(kept.meta, feed, egress, turn)?;
        if admitted.is_empty {
            self.fill(
                kept.meta,
                admitted.mapped,
                admitted.payload.payload_type,
                egress,
            );
            return None;
        }
        self.deliver(kept, feed, egress, &admitted)?;
        let meta = kept.meta;
        let lateness = egress.now.saturating_duration_since(meta.arrival);
        if turn == Turn::Now && self.monitor.handle_sent(lateness) && self.kind == Kind::Video {
            // It has been asked for already, and what was asked for before it came is answered by it.
            let Admitted {
                mapped, payload, ..
            } = admitted;
            let number = mapped.sequence.wire();
            self.retransmitter.handle_late(egress.now, number);
            // Everything after it waits for it.
            let copies = self.protection.late_copies.saturating_sub(1);
            if copies > 0 && self.retransmitter.spend_on_copy(kept.packet.len()) {
                self.send_again(kept, mapped, payload, copies, egress);
            }
        }
        Some(admitted.verdict)
    }

    /// Judges a packet, and gives it a place in the subscriber's numbering if it is to have one.
    fn admit(
        &mut self,
        meta: &PacketMeta,
        feed: &Feed,
        egress: &mut Egress<'_>,
        turn: Turn,
    ) -> Option<Admitted> {
        self.set_reliable(egress.destination.protocol() == Protocol::Tcp);
        let payload_map = self.payload_for(meta.codec).filter(|_| !meta.is_void);
        // What only goes with the audio can be done without.
        let is_void = meta.is_void || payload_map.is_none() && !meta.codec.stands_alone();
        let subscription = self.subscription.as_mut()?;
        if !is_void && self.kind == Kind::Audio && meta.codec.stands_alone() {
            subscription.unreceivable = Some(meta.codec).filter(|_| payload_map.is_none());
        }
        if payload_map.is_none() && !is_void {
            // Audio that can be received starts anew, as its numbers have gone on meanwhile.
            if self.kind == Kind::Audio {
                subscription.layer.interrupt();
            }
            return None;
        }
        let source = Source {
            track: subscription.track,
            encoding: meta.encoding,
            epoch: meta.epoch,
        };
        let verdict = subscription.layer.judge(meta);
        let marker = subscription.layer.ends_picture(meta);
        let is_left_out = match verdict {
            Verdict::Drop => return None,
            Verdict::Start => {
                // Of what it showed before nothing is waited for any more.
                self.drop_waiting(egress.pacing);
                let aligned = same_time(&self.rewriter, source, meta, feed);
                self.rewriter.start(meta.arrival, source, meta, aligned);
                false
            }
            Verdict::Forward => false,
            Verdict::Omit => self.rewriter.omit(meta),
        };
        if is_left_out || is_void && self.rewriter.skip(meta.sequence) {
            return None;
        }
        if turn == Turn::Past && verdict == Verdict::Forward {
            self.rewriter.hasten(meta);
        }
        let is_after_outage = verdict == Verdict::Forward && self.rewriter.is_after_outage(meta);
        let mapped = self.rewriter.forward(meta.arrival, meta)?;
        if is_after_outage {
            self.monitor
                .handle_outage(egress.now, mapped.sequence.wire());
        }
        let payload = payload_map.or(self.sent_as())?;
        let has_rtx = self.rtx_ssrc.is_some() && payload.rtx_payload_type.is_some();
        self.is_kept = payload.nack && !has_rtx && !self.is_reliable;
        Some(Admitted {
            verdict,
            mapped,
            payload,
            marker,
            is_empty: is_void || verdict == Verdict::Omit,
        })
    }

    /// Sends a packet in its place, with what protects it.
    fn deliver(
        &mut self,
        kept: Kept<'_>,
        feed: &Feed,
        egress: &mut Egress<'_>,
        admitted: &Admitted,
    ) -> Option<()> {
        let (meta, mapped) = (kept.meta, admitted.mapped);
        if let Some(subscription) = &mut self.subscription
            && meta.codec.stands_alone()
        {
            subscription.sent_as = Some(admitted.payload);
        }
        let starts_picture = meta.picture.as_ref().is_some_and(|p| p.starts_frame);
        let starts_key_frame = starts_picture && meta.starts_decoding();
        if starts_key_frame {
            self.key_frame = self.key_frame.max(Some((mapped.sequence, egress.now)));
        }
        if starts_picture {
            self.move_playout_delay();
        }
        let plain = admitted.payload.payload_type;
        let scheme = self.scheme(meta, starts_key_frame);
        let mut old = [0; MAX_REDUNDANCY];
        let most = egress.largest_payload();
        let (payload_type, prefix) = match (self.kind, self.repair.red) {
            (Kind::Audio, Some(red)) if repeats(meta.codec) => {
                match self.repeat(kept, feed, plain, most, &mut old) {
                    Some(len) => {
                        egress.stats.repair_sent.red += 1;
                        (red, &old[..len])
                    }
                    None => (plain, &[][..]),
                }
            }
            (Kind::Video, Some(red)) if scheme == Some(Scheme::Ulpfec) => (red, &[plain][..]),
            _ => (plain, &[][..]),
        };
        let fields = HeaderFields {
            marker: admitted.marker,
            payload_type,
            sequence: 0,
            timestamp: mapped.timestamp,
            ssrc: self.ssrc,
        };
        let (number, kind) = (mapped.sequence, self.packet_kind());
        let sent = self.send(kept, mapped, fields, number, prefix, kind, egress)?;
        if let Some(scheme) = scheme {
            let fields = HeaderFields {
                payload_type: plain,
                ..fields
            };
            self.protect(scheme, kept, mapped, fields, prefix.len(), egress);
        }
        self.retransmitter.sent(sent);
        self.packets += 1;
        self.bytes += kept.payload().len() as u64;
        Some(())
    }

    pub(super) fn packet_kind(&self) -> PacketKind {
        match self.kind {
            Kind::Audio => PacketKind::Audio,
            Kind::Video => PacketKind::Video,
        }
    }

    /// Puts an empty packet under a number that was left open for media and turned out to be repair
    /// of the publisher's, or of a layer that is left out: the receiver would ask for it again and
    /// again, and count it as lost.
    fn fill(
        &mut self,
        meta: &PacketMeta,
        mapped: Mapped,
        payload_type: u8,
        egress: &mut Egress<'_>,
    ) {
        let fields = HeaderFields {
            marker: false,
            payload_type,
            sequence: 0,
            timestamp: mapped.timestamp,
            ssrc: self.ssrc,
        };
        let empty = Kept {
            meta: &meta.emptied(),
            packet: &[],
        };
        let (number, kind) = (mapped.sequence, self.packet_kind());
        self.send(empty, mapped, fields, number, &[], kind, egress);
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "a packet is made of as many things"
    )]
    pub(super) fn send(
        &self,
        kept: Kept<'_>,
        mapped: Mapped,
        fields: HeaderFields,
        sequence: SequenceNumber,
        prefix: &[u8],
        kind: PacketKind,
        egress: &mut Egress<'_>,
    ) -> Option<usize> {
        let meta = kept.meta;
        let mut descriptor = [0; u8::MAX as usize];
        let descriptor = self.descriptor(kept, mapped, &mut descriptor);
        let payload = kept.payload();
        let media = MediaPacket {
            ssrc: self.ssrc,
            sequence: mapped.sequence.wire(),
        };
        let outgoing = Outgoing {
            media: (self.kind == Kind::Video).then_some(media),
            ..self.outgoing(meta, fields, sequence, descriptor, prefix, payload)
        };
        egress.send_rtp(&outgoing, kind, |payload| {
            patch_payload(meta, mapped, payload)
        })
    }

    pub(in crate::subscribe) fn outgoing<'a>(
        &'a self,
        meta: &PacketMeta,
        fields: HeaderFields,
        sequence: SequenceNumber,
        descriptor: &'a [u8],
        prefix: &'a [u8],
        payload: &'a [u8],
    ) -> Outgoing<'a> {
        let mut extensions = HeaderExtensions {
            rid: None,
            repaired_rid: None,
            ..meta.extensions
        };
        if let Some(delay) = self.playout_delay {
            let asked = extensions.playout_delay.unwrap_or(PlayoutDelay {
                min_ms: 0,
                max_ms: MAX_PLAYOUT_DELAY_MS,
            });
            let min_ms = asked.min_ms.max(delay.as_millis() as u16);
            extensions.playout_delay = Some(PlayoutDelay {
                min_ms,
                max_ms: asked.max_ms.max(min_ms),
            });
        }
        Outgoing {
            extensions,
            descriptor,
            ..self.bare(fields, sequence, prefix, payload)
        }
    }

    /// The packet's dependency descriptor with the subscriber's frame number. Empty where the
    /// subscriber cannot be sent one: longer than 16 bytes it needs the two-byte form, which may
    /// not be mixed in unless that was negotiated (RFC 8285 section 4.1.2).
    pub(in crate::subscribe) fn descriptor<'a>(
        &self,
        kept: Kept<'_>,
        mapped: Mapped,
        buffer: &'a mut [u8],
    ) -> &'a [u8] {
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
}

/// The subscriber's timestamp for a packet of a new source, if that source and the one it was sent so
/// far are encodings of one track and the publisher has said how their timestamps belong together.
fn same_time(rewriter: &Rewriter, source: Source, meta: &PacketMeta, feed: &Feed) -> Option<u32> {
    let before = rewriter.current().filter(|b| b.track == source.track)?;
    let from = feed.sender_report(source.encoding)?;
    let to = feed.sender_report(before.encoding)?;
    let timestamp = from.corresponding(meta.timestamp, &to, meta.codec.clock_rate());
    rewriter.timestamp(before, timestamp)
}

/// Whether a codec of audio is repeated in RED: what was negotiated is RED of Opus.
pub(in crate::subscribe) fn repeats(codec: Codec) -> bool {
    codec == Codec::Opus
}

/// Puts the subscriber's picture numbers into a payload that carries some.
pub(in crate::subscribe) fn patch_payload(meta: &PacketMeta, mapped: Mapped, payload: &mut [u8]) {
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
        _ => {}
    }
}
