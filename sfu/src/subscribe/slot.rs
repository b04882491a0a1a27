//! A slot: one receive m-line of one subscriber, and the track it shows.
//!
//! In: the packets of the track it is pointed at, its share of the subscriber's estimate, and the
//! subscriber's feedback. Out: one continuous RTP stream in the subscriber's own numbering, whatever
//! it is pointed at, with retransmissions on the side, and what fills probes.

mod again;
mod forward;

use std::time::{Duration, Instant};

pub(super) use forward::{patch_payload, repeats};

use super::asked::Asked;
use super::layer::{LayerSelector, Target};
use super::monitor::Monitor;
use super::policy::{Conditions, Protection, UNKNOWN_ROUND_TRIP, decide};
use super::protect::Protector;
use super::retransmit::Retransmitter;
use super::rewrite::Rewriter;
use super::share::Share;
use crate::api::{Priority, Reason, SlotView};
use crate::media::{Codec, Extension, ExtensionMap, Kind, PayloadMap, RepairFormats};
use crate::negotiated::{Section, SendSection, match_payload};
use crate::publish::feed::Feed;
use crate::publish::wanted_layers::Encodings;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::sequence::SequenceNumber;
use crate::send::pacing::Pacing;
use crate::types::{EncodingIndex, Mid, Ssrc, TrackId};
use crate::units::Bitrate;

/// A subscriber that does not report on a stream has seen its name by then: so many packets have had it.
const NAMED_PACKETS: u64 = 100;

/// What a slot shows.
#[derive(Debug)]
struct Subscription {
    track: TrackId,
    layer: LayerSelector,
    /// What the latest packet of audio carried, if the client cannot receive that.
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
            // Of audio there is no choice to be made.
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
                let again = self.loss().unwrap_or_default() * f64::from(protection.first_copies);
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
            hears_losses: self.gives_feedback(),
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

#[cfg(test)]
mod tests;
