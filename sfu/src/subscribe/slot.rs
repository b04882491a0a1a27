//! A slot: one receive m-line of one subscriber, and the track it shows.
//!
//! In: the packets of the track it is pointed at, its share of the subscriber's estimate, and the
//! subscriber's feedback. Out: one continuous RTP stream in the subscriber's own numbering, whatever
//! it is pointed at, with retransmissions on the side, and what fills probes.

mod again;

use std::time::{Duration, Instant};

use super::asked::Asked;
use super::layer::{LayerSelector, Target, Verdict};
use super::monitor::Monitor;
use super::policy::{Conditions, Protection, UNKNOWN_ROUND_TRIP, decide};
use super::protect::Protector;
use super::reinforce::{MAX_REDUNDANCY, Scheme};
use super::retransmit::Retransmitter;
use super::rewrite::{Mapped, Rewriter, Source};
use super::share::Share;
use crate::api::{Priority, Reason, SlotView};
use crate::bandwidth::sent::PacketKind;
use crate::media::{Codec, Extension, ExtensionMap, Kind, PayloadMap, RepairFormats};
use crate::negotiated::{Section, SendSection, match_payload};
use crate::path::Protocol;
use crate::publish::feed::Feed;
use crate::publish::history::{Kept, PacketMeta};
use crate::publish::wanted_layers::Encodings;
use crate::rtp::codec::{PictureId, vp8, vp9};
use crate::rtp::extension::{HeaderExtensions, PlayoutDelay};
use crate::rtp::packet::HeaderFields;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::sequence::SequenceNumber;
use crate::send::egress::{Egress, Outgoing};
use crate::send::pacing::Pacing;
use crate::types::{EncodingIndex, Mid, Ssrc, TrackId};
use crate::units::Bitrate;

/// Says that there is no upper limit: what libwebrtc takes for one when it is not told.
const MAX_PLAYOUT_DELAY_MS: u16 = 10_000;

/// The pictures since a key frame are sent instead of another one if they take no longer than this: a
/// round trip to the publisher, and a key frame.
const BRIDGE_TIME: Duration = Duration::from_millis(250);

/// Whatever the estimate says, they are taken to be sent no faster.
const MAX_BRIDGE_RATE: Bitrate = Bitrate::kbps(2000);

/// A subscriber that does not report on a stream has seen its name by then: so many packets have had it.
const NAMED_PACKETS: u64 = 100;

/// What a slot shows.
#[derive(Debug)]
struct Subscription {
    track: TrackId,
    layer: LayerSelector,
    /// What the latest packet of sound carried, if the client cannot receive that.
    unreceivable: Option<Codec>,
    /// What was forwarded last.
    sent_as: Option<PayloadMap>,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub mid: Mid,
    pub kind: Kind,
    /// The SSRC of its stream.
    pub ssrc: Ssrc,
    /// The round trip to the subscriber, from its reports.
    pub round_trip: Option<Duration>,
    /// The packets the subscriber says it has lost, as of its last report.
    pub lost: i64,
    /// What it gets of the estimate.
    pub share: Share,
    /// Since when not even the lowest layer has fitted.
    pub starved: Option<Instant>,
    /// What the publisher is asked for, of a track of one encoding that is too much.
    pub asked: Option<Asked>,
    /// What the client shows of it.
    pub view: SlotView,
    /// How important it is.
    pub priority: Priority,
    /// Since when it has shown what it shows.
    shown: Option<Instant>,
    rtx_ssrc: Option<Ssrc>,
    pub(super) flexfec_ssrc: Option<Ssrc>,
    payloads: Vec<PayloadMap>,
    pub(super) repair: RepairFormats,
    pub(super) extensions: ExtensionMap,
    allows_two_byte: bool,
    pub(super) rewriter: Rewriter,
    subscription: Option<Subscription>,
    retransmitter: Retransmitter,
    rtx_sequence: SequenceNumber,
    /// Which of the latest packets filled a probe last.
    filler: u16,
    pub(super) flexfec_sequence: SequenceNumber,
    monitor: Monitor,
    /// What may be spent on repair for each bit of media.
    spare: f64,
    pub(super) protection: Protection,
    pub(super) protector: Protector,
    /// The number of the last key frame's first packet, and when that was sent.
    key_frame: Option<(SequenceNumber, Instant)>,
    /// The number of the subscriber's last FIR, and when it came first.
    full_intra: Option<(u8, Instant)>,
    /// The path to the subscriber loses nothing by itself.
    is_reliable: bool,
    /// The subscriber has reported on the stream.
    is_reported: bool,
    /// The subscriber asks for lost packets of what is sent now and has no RTX: they are kept as they
    /// leave.
    pub(super) is_kept: bool,
    /// Up to this number nothing is sent again.
    discarded: Option<SequenceNumber>,
    /// The highest that was sent over RTX, perhaps before it was itself.
    sent_again: Option<SequenceNumber>,
    /// What the receiver was last asked for, if anything.
    pub(super) playout_delay: Option<Duration>,
    packets: u64,
    bytes: u64,
}

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
    /// For an m-line as negotiated. `seed` is random.
    #[must_use]
    pub(crate) fn new(section: &Section, send: &SendSection, seed: u32) -> Self {
        let [a, b, c, d] = seed.to_be_bytes();
        let mut slot = Slot {
            mid: section.mid,
            kind: section.kind,
            ssrc: send.ssrc,
            round_trip: None,
            lost: 0,
            share: Share::default(),
            starved: None,
            asked: None,
            view: SlotView::default(),
            priority: Priority::default(),
            shown: None,
            rtx_ssrc: None,
            flexfec_ssrc: None,
            payloads: Vec::new(),
            repair: RepairFormats::default(),
            extensions: ExtensionMap::default(),
            allows_two_byte: false,
            rewriter: Rewriter::new(u16::from_be_bytes([a, b])),
            subscription: None,
            retransmitter: Retransmitter::default(),
            rtx_sequence: SequenceNumber(u64::from(u16::from_be_bytes([c, d]) & 0x7fff)),
            flexfec_sequence: SequenceNumber(u64::from(u16::from_be_bytes([b, c]) & 0x7fff)),
            filler: 0,
            monitor: Monitor::default(),
            spare: f64::INFINITY,
            protection: Protection::default(),
            protector: Protector::default(),
            key_frame: None,
            full_intra: None,
            is_reliable: false,
            is_reported: false,
            is_kept: false,
            discarded: None,
            sent_again: None,
            playout_delay: None,
            packets: 0,
            bytes: 0,
        };
        slot.renegotiate(section, send);
        slot
    }

    /// Whether the client gives transport-wide feedback on it.
    #[must_use]
    pub(crate) fn gives_feedback(&self) -> bool {
        let is_carried = self.extensions.id(Extension::TransportSequence).is_some();
        is_carried && self.payloads.iter().any(|payload| payload.transport_cc)
    }

    /// Takes over what another offer has changed.
    pub(crate) fn renegotiate(&mut self, section: &Section, send: &SendSection) {
        self.rtx_ssrc = send.rtx_ssrc;
        self.flexfec_ssrc = send.flexfec_ssrc;
        self.repair = section.repair;
        self.payloads.clone_from(&section.payloads);
        self.extensions = send.extensions;
        self.allows_two_byte = section.extmap_allow_mixed;
    }

    /// Points the slot at a track.
    pub(crate) fn show(&mut self, now: Instant, track: TrackId) {
        self.clear();
        self.shown = Some(now);
        let mut layer = LayerSelector::default();
        // Of pictures it is the allocation that says.
        layer.set_target((self.kind == Kind::Audio).then(|| Target::whole(EncodingIndex(0))));
        self.subscription = Some(Subscription {
            track,
            layer,
            unreceivable: None,
            sent_as: None,
        });
    }

    /// Points the slot at nothing.
    pub(crate) fn clear(&mut self) {
        self.shown = None;
        self.share.reset();
        self.starved = None;
        self.asked = None;
        self.subscription = None;
    }

    /// Forwards from now on, or as soon as that is possible, what the slot gets of the estimate.
    pub(crate) fn aim(&mut self) {
        if let Some(subscription) = &mut self.subscription {
            subscription.layer.set_target(self.share.target());
        }
    }

    /// How long it has shown what it shows.
    #[must_use]
    pub(crate) fn shown_for(&self, now: Instant) -> Duration {
        let shown = self.shown;
        shown.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// The encodings that it forwards, or wants to.
    #[must_use]
    pub(crate) fn encodings(&self) -> Encodings {
        let Some(Subscription { layer, .. }) = &self.subscription else {
            return Encodings::NONE;
        };
        let both = [layer.target(), layer.current()];
        let both = both.into_iter().flatten();
        both.fold(Encodings::NONE, |all, target| {
            all.with(Encodings::one(target.encoding))
        })
    }

    /// What the slot shows.
    #[must_use]
    pub(crate) fn track(&self) -> Option<TrackId> {
        Some(self.subscription.as_ref()?.track)
    }

    /// The track has a pause: what comes after it starts anew.
    pub(crate) fn interrupt(&mut self) {
        if let Some(subscription) = &mut self.subscription {
            subscription.layer.interrupt();
        }
    }

    /// The encoding of which a key frame is needed before the wanted picture can be shown.
    #[must_use]
    pub(crate) fn needs_key_frame(&self) -> Option<EncodingIndex> {
        let layer = &self.subscription.as_ref()?.layer;
        let target = layer.target().filter(|_| layer.needs_key_frame());
        Some(target.filter(|_| self.kind == Kind::Video)?.encoding)
    }

    /// The encoding that the subscriber decodes or waits for, to ask a key frame of.
    #[must_use]
    pub(crate) fn wanted_encoding(&self) -> Option<EncodingIndex> {
        Some(self.subscription.as_ref()?.layer.target()?.encoding)
    }

    /// Takes a FIR with a number. Says whether a key frame is to be asked for: not when it repeats one
    /// whose answer may still be on its way (RFC 5104 section 4.3.1.2).
    pub(crate) fn handle_full_intra(&mut self, now: Instant, number: u8) -> bool {
        let asked = match self.full_intra {
            Some((last, asked)) if last == number => asked,
            _ => {
                self.full_intra = Some((number, now));
                return true;
            }
        };
        let on_its_way = 2 * self.round_trip.unwrap_or(UNKNOWN_ROUND_TRIP);
        self.key_frame.is_none_or(|(_, sent)| {
            sent < asked || now.saturating_duration_since(sent) > on_its_way
        })
    }

    /// Whether the subscriber knows which m-line the stream is of, and need not be told with every packet.
    pub(super) fn is_known(&self) -> bool {
        self.is_reported || self.packets >= NAMED_PACKETS
    }

    /// Packets and payload bytes sent so far, retransmissions not included.
    #[must_use]
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }

    /// Whether the client can receive a codec.
    #[must_use]
    pub(crate) fn receives(&self, codec: Codec) -> bool {
        self.payload_for(codec).is_some()
    }

    /// Why nothing is forwarded, though something is shown, if that is so.
    #[must_use]
    pub(crate) fn pause(&self) -> Option<Reason> {
        let unreceivable = self.subscription.as_ref().and_then(|s| s.unreceivable);
        match self.kind {
            // Of sound there is no choice to be made.
            Kind::Audio => unreceivable.map(Reason::Codec),
            Kind::Video => self.share.pause(),
        }
    }

    /// What was forwarded last of what it shows.
    fn sent_as(&self) -> Option<PayloadMap> {
        self.subscription.as_ref()?.sent_as
    }

    /// The negotiated payload for a codec.
    fn payload_for(&self, codec: Codec) -> Option<PayloadMap> {
        match_payload(codec, &self.payloads).copied()
    }

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
        // What only goes with the sound can be done without.
        let is_void = meta.is_void || payload_map.is_none() && !meta.codec.stands_alone();
        let subscription = self.subscription.as_mut()?;
        if !is_void && self.kind == Kind::Audio && meta.codec.stands_alone() {
            subscription.unreceivable = Some(meta.codec).filter(|_| payload_map.is_none());
        }
        if payload_map.is_none() && !is_void {
            // Sound that can be received starts anew, as its numbers have gone on meanwhile.
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

    /// Takes back what the pacer has not let go yet.
    fn drop_waiting(&mut self, pacing: &mut Pacing) {
        let others = [self.rtx_ssrc, self.flexfec_ssrc];
        let mut unused = pacing.drop_waiting(self.ssrc, others);
        unused.retain(|number| Some(*number) > self.sent_again);
        let taken_back = self.rewriter.take_back(&unused);
        self.packets = self.packets.saturating_sub(taken_back);
        let last = self.rewriter.last_sequence();
        self.key_frame = self.key_frame.filter(|(first, _)| Some(*first) <= last);
    }

    /// Discards what is on its way: nothing more is sent until a key frame, and what has been sent is
    /// not sent again.
    pub(crate) fn discard(&mut self, pacing: &mut Pacing) {
        self.drop_waiting(pacing);
        self.discarded = self.rewriter.last_sequence();
        self.interrupt();
    }

    /// What has been sent is not sent again: an outage has swallowed it, and a key frame is on its way.
    pub(crate) fn pass_over(&mut self) {
        self.discarded = self.rewriter.last_sequence();
    }

    fn packet_kind(&self) -> PacketKind {
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
    fn send(
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
        let outgoing = self.outgoing(meta, fields, sequence, descriptor, prefix, payload);
        egress.send_rtp(&outgoing, kind, |payload| {
            patch_payload(meta, mapped, payload)
        })
    }

    pub(super) fn outgoing<'a>(
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
            fields,
            sequence,
            map: &self.extensions,
            extensions,
            mid: &self.mid,
            descriptor,
            prefix,
            payload,
            is_padding: false,
            is_known: self.is_known(),
            is_kept: self.is_kept && fields.ssrc == self.ssrc,
        }
    }

    /// The packet's dependency descriptor with the subscriber's frame number. Empty where the
    /// subscriber cannot be sent one: longer than 16 bytes it needs the two-byte form, which may
    /// not be mixed in unless that was negotiated (RFC 8285 section 4.1.2).
    pub(super) fn descriptor<'a>(
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

    /// What to say in a sender report: the subscriber's RTP timestamp of what is being captured now.
    #[must_use]
    pub(crate) fn sender_timestamp(&self, now: Instant, feed: &Feed) -> Option<u32> {
        let source = self.rewriter.current()?;
        if self.track() != Some(source.track) {
            return None;
        }
        let timestamp = feed.timestamp(now, source.encoding, source.epoch)?;
        self.rewriter.timestamp(source, timestamp)
    }

    /// Whether only the publisher's encoder can protect what is heard here: it is Opus, and RED is not
    /// understood.
    #[must_use]
    pub(crate) fn relies_on_the_encoder(&self) -> bool {
        let is_opus = |map: PayloadMap| map.codec == Codec::Opus;
        self.repair.red.is_none() && self.sent_as().is_some_and(is_opus)
    }

    /// Notes a reception report of the subscriber.
    pub(crate) fn handle_report(
        &mut self,
        now: Instant,
        round_trip: Option<Duration>,
        block: &ReportBlock,
    ) {
        self.is_reported = true;
        self.lost = i64::from(block.cumulative_lost);
        self.monitor.handle_report(now, self.packets, block);
        if let Some(sample) = round_trip {
            // The smoothing of RFC 6298 section 2.
            self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        }
        self.decide();
    }

    /// Learns that there was an outage, and that a packet arrived again that was sent at `over`.
    pub(crate) fn handle_outage(&mut self, over: Instant) {
        self.monitor.handle_outage(over, self.newest());
        self.decide();
    }

    /// The last number that was sent.
    fn newest(&self) -> u16 {
        let last = self.rewriter.last_sequence();
        last.map_or(0, SequenceNumber::wire)
    }

    /// Packets take another path to the subscriber now.
    pub(crate) fn begin_anew(&mut self) {
        self.monitor.begin_anew(self.newest());
        self.round_trip = None;
        self.decide();
    }

    /// What repair adds to media of a codec, as a share of it; of none that has not come yet.
    #[must_use]
    pub(crate) fn repair_share(&self, codec: Option<Codec>) -> f64 {
        let protection = &self.protection;
        let only_if = |is_sent: bool, share: f64| if is_sent { share } else { 0.0 };
        match self.kind {
            Kind::Audio => only_if(
                self.repair.red.is_some() && codec.is_some_and(repeats),
                f64::from(protection.red_distance),
            ),
            Kind::Video => {
                let again = self.loss().unwrap_or_default();
                let scheme = codec.and_then(|codec| self.scheme_for(codec));
                only_if(scheme.is_some(), protection.fec_ratio)
                    + only_if(self.rtx_ssrc.is_some(), again)
            }
        }
    }

    /// Says what may be spent on repair for each bit of media.
    pub(crate) fn set_spare(&mut self, spare: f64) {
        self.spare = spare;
        self.decide();
    }

    /// Bounds what is sent again, whatever is asked for.
    pub(crate) fn set_retransmission_limit(&mut self, now: Instant, limit: Bitrate) {
        self.retransmitter.set_limit(now, limit);
    }

    fn set_reliable(&mut self, is_reliable: bool) {
        if self.is_reliable != is_reliable {
            self.is_reliable = is_reliable;
            self.decide();
        }
    }

    fn decide(&mut self) {
        let conditions = Conditions {
            is_reliable: self.is_reliable,
            ..self
                .monitor
                .conditions(self.kind, self.round_trip, self.spare)
        };
        self.protection = decide(&conditions);
    }

    /// The share of packets the subscriber loses, 0 to 1, once it has said so.
    #[must_use]
    pub(crate) fn loss(&self) -> Option<f64> {
        self.monitor.loss()
    }

    /// Notes how others fare over the same link.
    pub(crate) fn hear_of_link(&mut self, loss: f64, round_trip: Option<Duration>) {
        self.monitor.hear_of_link(loss);
        self.round_trip = self.round_trip.or(round_trip);
        self.decide();
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

/// Whether a codec of sound is repeated in RED: what was negotiated is RED of Opus.
pub(super) fn repeats(codec: Codec) -> bool {
    codec == Codec::Opus
}

/// Puts the subscriber's picture numbers into a payload that carries some.
pub(super) fn patch_payload(meta: &PacketMeta, mapped: Mapped, payload: &mut [u8]) {
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

#[cfg(test)]
mod tests;
