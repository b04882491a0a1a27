//! An allocation, its first step and its last: gathers what a client's slots could be sent of the estimate,
//! has it divided ([`subscribe::allocation`](crate::subscribe::allocation)), and applies what each gets.
//!
//! In: the estimate, what the client shows, the layers of the tracks its slots show. Out: the layer
//! that each slot forwards, the key frames that takes, and a record of why.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Peer;
use crate::api::{Decision, LayerInfo, Limit, PeerQuality, Reason, SlotQuality, SlotView};
use crate::bandwidth::estimator::{BandwidthEstimator, MAX, START};
use crate::media::{Codec, Kind};
use crate::path::Path;
use crate::publish::feed::Feed;
use crate::subscribe::allocation::{
    Allocation, Demand, Layer, MARGIN, SwitchHistory, View, allocate,
};
use crate::subscribe::asked::Asked;
use crate::subscribe::layer::Target;
use crate::subscribe::share::Change;
use crate::subscribe::slot::Slot;
use crate::types::{EncodingIndex, Mid, TrackId};
use crate::units::Bitrate;

/// How often the estimate is divided at least: the layers change as well.
const INTERVAL: Duration = Duration::from_millis(250);

/// An estimate that has moved by this share is divided at once.
const FALL: f64 = 0.95;
const RISE: f64 = 1.1;

/// What an encoding is taken for until it has been measured: the lowest of a simulcast.
const UNMEASURED: Bitrate = Bitrate::kbps(100);

/// And for what it could put to use: a video as most cameras have it. What the path carries is better
/// known early than late.
const UNMEASURED_WANTED: Bitrate = Bitrate::kbps(1000);

/// The video of a slot whose lowest layer does not fit goes on for so long: at the beginning nothing
/// is known of the path, and an estimate that dips is soon back. It goes on longer while there is loss
/// without a queue, which hurts nobody else and takes longer to tell from congestion, and while a queue
/// is drained, which ends by itself.
const PATIENCE: Duration = Duration::from_secs(1);
const LONG_PATIENCE: Duration = Duration::from_secs(4);

/// What changes within this time of pointing a slot at a track is no flapping: much becomes known then.
const BEGINNING: Duration = Duration::from_secs(5);

/// But only up to this multiple of the estimate, so that the path is not flooded.
const OVERDRAFT: f64 = 2.0;

/// Over TCP one lost segment holds all up that follows, and what that does to the estimate says little of
/// the path: video goes on, whatever the estimate is, while nothing has been lost for so long, and then for
/// the longer patience. TCP itself sees to it that the path is not flooded, and what waits for too long is
/// given up there, which is the only loss there is.
const TCP_WITHOUT_LOSS: Duration = Duration::from_secs(10);

/// While the path is calm there is no end to patience: an estimate that is low for want of evidence, or
/// for loss without a queue, is no reason to take a video away. Up to this, which is what browsers make
/// of one camera at most (libwebrtc of 1280×720), whatever the estimate says.
const CALM_GRANT: Bitrate = Bitrate::kbps(2500);

/// The share of the estimate that may be spent on sending packets again.
const RETRANSMITTED: f64 = 0.5;

/// While a publisher has been asked for less, more is tried for: twice as much.
const HOPED: f64 = 2.0;

/// Of all layers of an encoding the lowest takes this share at least.
const LEAST_SHARE: f64 = 0.1;

/// Frame rates that differ by no more than this share are taken for the same.
const SAME: f64 = 0.2;

/// Decisions that are remembered: what a person can read.
const DECISIONS: usize = 32;

/// What is remembered of allocations.
#[derive(Debug, Default)]
pub(super) struct Allocator {
    next: Option<Instant>,
    /// The estimate that was divided last.
    divided: Bitrate,
    audio: Bitrate,
    wanted: Bitrate,
    decisions: VecDeque<(Instant, Mid, Change, Bitrate)>,
}

/// What an allocation asks of the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Consequence {
    /// A key frame of an encoding.
    KeyFrame(TrackId, EncodingIndex),
    /// A slot's video has been paused for this reason, or goes on.
    Paused(Mid, Option<Reason>),
    /// Another encoding of a track is received now.
    Wanted(TrackId),
}

impl Allocator {
    /// It is to be done at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next = Some(now);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn handle_estimate(&mut self, now: Instant, estimate: Bitrate) {
        let (low, high) = (self.divided.scale(FALL), self.divided.scale(RISE));
        if estimate < low || estimate > high {
            self.hurry(now);
        }
    }

    fn note(&mut self, now: Instant, mid: Mid, change: Change) {
        if self.decisions.len() == DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back((now, mid, change, self.divided));
    }
}

impl Peer {
    /// What a slot's client shows or how important it is has changed, or what it shows.
    pub(crate) fn reallocate(&mut self, now: Instant) {
        self.allocator.hurry(now);
    }

    /// Whether the estimate is to be divided now.
    #[must_use]
    pub(crate) fn allocation_due(&self, now: Instant) -> bool {
        self.is_connected() && self.allocator.next.is_some_and(|due| now >= due)
    }

    /// Divides the estimate. `feed` finds the feed of a track; what it takes is added to
    /// `consequences`.
    pub(crate) fn allocate<'f>(
        &mut self,
        now: Instant,
        feed: impl Fn(TrackId) -> Option<&'f Feed>,
        consequences: &mut Vec<Consequence>,
    ) {
        let estimate = self.pacing.estimate().unwrap_or(MAX);
        let showing = self.slots.iter_mut().flatten().filter_map(|slot| {
            let feed = slot.track().and_then(&feed)?;
            Some((slot, feed))
        });
        let (sounds, pictures): (Vec<_>, Vec<_>) =
            showing.partition(|(slot, _)| slot.kind == Kind::Audio);
        let mut pictures: Vec<Picture<'_>> = pictures
            .into_iter()
            .filter_map(|(slot, feed)| Picture::new(now, slot, feed))
            .collect();
        let seen = pictures.iter().filter(|p| !p.slot.view.is_hidden());
        let lowest: Bitrate = seen.map(Picture::lowest).sum();
        let audio = share_sound(now, estimate - lowest, sounds);
        let left = estimate - audio;
        self.allocator.divided = estimate;
        self.allocator.audio = audio;
        self.allocator.next = (!pictures.is_empty()).then_some(now + INTERVAL);

        let demands: Vec<Demand<'_>> = pictures.iter().map(Picture::demand).collect();
        let estimator = self.pacing.estimator();
        // On overuse rate control gives up more than was too much: what fitted before still does.
        let carried = match estimator.limit() {
            Limit::Delay => estimate.scale(1.0 / MARGIN) - audio,
            Limit::Loss | Limit::Draining | Limit::Receiver => left,
        };
        let mut allocations = allocate(now, left, carried, &demands);
        if self.pacing.estimate().is_some() {
            // For the moment that draining a queue takes, nobody is asked for less.
            let left = left + (estimator.lasting() - estimator.estimate());
            let is_contradicted = !estimator.is_calm(now);
            ask_for_less(now, left, is_contradicted, &mut pictures, consequences);
        }
        let is_stream = self.ice.selected().is_some_and(Path::is_of_stream);
        let (limit, patience) = patience(now, left, estimator, is_stream);
        be_patient(now, limit, patience, &mut pictures, &mut allocations);

        let both = || pictures.iter().zip(&allocations);
        let wanted: Bitrate = both().map(|(p, allocation)| p.wanted(allocation)).sum();
        self.allocator.wanted = wanted + audio;
        // What the lowest layers may be repaired with, for each bit of theirs: nothing was set aside.
        let granted: Bitrate = allocations.iter().map(|a| a.bitrate).sum();
        let each = RETRANSMITTED / pictures.len().max(1) as f64;
        // What is sent though the estimate is low for want of evidence is of no use without its repair.
        let (again, regardless) = match is_stream || self.pacing.estimator().is_calm(now) {
            true => (MAX, granted + audio),
            false => (estimate.scale(each), Bitrate::ZERO),
        };
        self.pacing.set_demand(now, wanted + audio, regardless);
        let lowest = both().filter(|(p, allocation)| p.has_lowest(allocation));
        let lowest: Bitrate = lowest.map(|(_, allocation)| allocation.bitrate).sum();
        let spare = (left - granted).ratio(lowest);
        for (picture, allocation) in pictures.into_iter().zip(&allocations) {
            let spare = match picture.has_lowest(allocation) {
                true => spare,
                false => f64::INFINITY,
            };
            picture.slot.set_spare(spare);
            picture.slot.set_retransmission_limit(now, again);
            picture.apply(now, allocation, &mut self.allocator, consequences);
        }
    }

    /// What the path carries, and what is made of it.
    #[must_use]
    pub(super) fn quality(&self, now: Instant) -> PeerQuality {
        let estimator = self.pacing.estimator();
        let slots = self.slots.iter().flatten();
        let ago = |at| now.saturating_duration_since(at);
        PeerQuality {
            estimate: self.pacing.estimate().unwrap_or(MAX),
            limit: estimator.limit(),
            round_trip: estimator.round_trip().or(self.round_trip),
            link_loss: estimator.link_loss(),
            audio: self.allocator.audio,
            wanted: self.allocator.wanted,
            slots: slots.filter_map(slot_quality).collect(),
            decisions: self
                .allocator
                .decisions
                .iter()
                .map(|&(at, mid, change, estimate)| Decision {
                    ago: ago(at),
                    mid,
                    from: change.from,
                    to: change.to,
                    reason: change.reason,
                    estimate,
                })
                .collect(),
        }
    }
}

/// What is to be said of a slot: of audio only that it cannot be received.
fn slot_quality(slot: &Slot) -> Option<SlotQuality> {
    let share = &slot.share;
    let (layer, reason) = match slot.kind {
        Kind::Audio => (None, slot.pause()?),
        Kind::Video => share.reported(),
    };
    Some(SlotQuality {
        mid: slot.mid,
        track: slot.track()?,
        priority: slot.priority,
        view: slot.view,
        layer,
        reason,
        switches: share.switches,
    })
}

/// A slot of video that shows something, and what there is to be had of that.
struct Picture<'s> {
    slot: &'s mut Slot,
    track: TrackId,
    /// How the track is coded, if the client can receive nothing of it for that.
    unreceivable: Option<Codec>,
    /// Whether the publisher sends anything.
    is_sent: bool,
    /// What could be sent, with what its repair takes.
    offered: Vec<LayerInfo>,
    /// The same, as the allocation numbers it.
    layers: Vec<Layer>,
    /// What repair adds to the media, as a share of it.
    repair: f64,
}

impl<'s> Picture<'s> {
    fn new(now: Instant, slot: &'s mut Slot, feed: &Feed) -> Option<Self> {
        let track = slot.track()?;
        let repair = slot.repair_share(feed.codec());
        let unreceivable = feed.unreceivable(now, |codec| slot.receives(codec));
        let (offered, is_sent) = match unreceivable {
            None => offered(now, slot, feed, repair),
            Some(_) => (Vec::new(), feed.is_alive(now)),
        };
        let layers = (0u8..).zip(&offered).map(|(id, layer)| Layer {
            id,
            bitrate: layer.bitrate,
            height: layer.height,
            frame_rate: layer.frame_rate,
        });
        Some(Picture {
            layers: layers.collect(),
            slot,
            track,
            unreceivable,
            is_sent,
            offered,
            repair,
        })
    }

    /// Has the slot forward what it gets, and says what that takes.
    fn apply(
        self,
        now: Instant,
        allocation: &Allocation,
        allocator: &mut Allocator,
        consequences: &mut Vec<Consequence>,
    ) {
        let Picture { slot, track, .. } = self;
        slot.share.is_sent = self.is_sent;
        let before = slot.pause();
        let change = slot.share.take(now, allocation, &self.offered);
        if slot.shown_for(now) < BEGINNING {
            slot.share.history = SwitchHistory::default();
        }
        slot.aim();
        if let Some(change) = change {
            allocator.note(now, slot.mid, change);
            consequences.push(Consequence::Wanted(track));
            if let Some(encoding) = slot.needs_key_frame() {
                consequences.push(Consequence::KeyFrame(track, encoding));
            }
        }
        let pause = slot.pause();
        // One that the client has asked for is another matter than one that it has not, and so is one
        // that will not pass.
        let kind = |pause: Option<Reason>| {
            pause.map(|reason| match reason {
                Reason::Hidden | Reason::Codec(_) => Some(reason),
                _ => None,
            })
        };
        if kind(before) != kind(pause) {
            consequences.push(Consequence::Paused(slot.mid, pause));
        }
    }

    fn demand(&self) -> Demand<'_> {
        Demand {
            layers: &self.layers,
            unreceivable: self.unreceivable,
            view: view(self.slot.view, &self.offered),
            priority: self.slot.priority,
            current: current(self.slot, &self.offered),
            switches: self.slot.share.history,
        }
    }

    /// What the lowest layer takes.
    fn lowest(&self) -> Bitrate {
        let rates = self.layers.iter().map(|layer| layer.bitrate);
        rates.min().unwrap_or_default()
    }

    fn has_lowest(&self, allocation: &Allocation) -> bool {
        allocation.bitrate == self.lowest()
    }

    /// What its publisher is to be asked for when there is so much `room` for its lowest layer: something
    /// if it is of one encoding and all videos together are too much, or have been.
    fn asked(&self, now: Instant, room: Bitrate, is_too_much: bool) -> Option<Asked> {
        let first = self.offered.first()?;
        let is_one = self.offered.iter().all(|o| o.encoding == first.encoding);
        let is_measured = first.bitrate != UNMEASURED && !self.slot.view.is_hidden();
        let before = self.slot.asked;
        // Nothing comes of it now.
        if self.lowest() == Bitrate::ZERO {
            return before;
        }
        let is_limited = is_one && is_measured && (before.is_some() || is_too_much);
        let room = room.scale(1.0 / self.share_of_lowest());
        let asked = is_limited.then(|| Asked::next(before, now, room, self.highest()));
        asked.filter(|asked| asked.ceiling() < CALM_GRANT)
    }

    /// What its lowest layer is soon to take.
    fn expected(&self, now: Instant) -> Bitrate {
        let Some(asked) = self.slot.asked else {
            return self.lowest();
        };
        let expected = asked.expected(now, self.highest());
        expected.scale(self.share_of_lowest()).min(self.lowest())
    }

    /// What all of its layers take together.
    fn highest(&self) -> Bitrate {
        let rates = self.offered.iter().map(|layer| layer.bitrate);
        rates.max().unwrap_or_default()
    }

    /// The share of that which its lowest layer takes: all of it, of a video without layers.
    fn share_of_lowest(&self) -> f64 {
        self.lowest().ratio(self.highest()).clamp(LEAST_SHARE, 1.0)
    }

    /// What could be put to use.
    fn wanted(&self, allocation: &Allocation) -> Bitrate {
        match self.offered.as_slice() {
            [only] if only.bitrate == UNMEASURED => allocation.wanted.max(UNMEASURED_WANTED),
            // Its publisher sends no more than it was asked for.
            [_, ..] if self.slot.asked.is_some() => self.highest().scale(HOPED),
            // Its repair has not been counted, and is to have its place.
            [only] => only.bitrate.scale(1.0 + self.repair),
            _ => allocation.wanted,
        }
    }
}

/// Audio is outside the contest, but what repeats it is not to take a video's place: it may take
/// what is `left` when every video has its lowest layer. Returns what audio takes.
fn share_sound(now: Instant, left: Bitrate, sounds: Vec<(&mut Slot, &Feed)>) -> Bitrate {
    let all: Bitrate = sounds.iter().map(|(_, feed)| feed.bitrate(now)).sum();
    let spare = (left - all).ratio(all);
    let shares = sounds.into_iter().map(|(slot, feed)| {
        slot.set_spare(spare);
        let repair = slot.repair_share(feed.codec());
        feed.bitrate(now).scale(1.0 + repair)
    });
    shares.sum()
}

/// What the slot could be sent, with what its repair takes, and whether there is anything to send.
fn offered(now: Instant, slot: &Slot, feed: &Feed, repair: f64) -> (Vec<LayerInfo>, bool) {
    let mut layers = Vec::new();
    feed.layers(now, slot.view.frame_rate.is_some(), &mut layers);
    // Encodings of one track may be coded each in its own way.
    let receives = |codec| slot.receives(codec);
    layers.retain(|layer| feed.codec_of(layer.encoding).is_none_or(receives));
    let is_sent = !layers.is_empty() || feed.is_alive(now);
    if layers.is_empty() {
        // A track that is muted takes nothing, and comes back as it was.
        let muted = slot.share.layer.map(|layer| LayerInfo {
            bitrate: Bitrate::ZERO,
            ..layer
        });
        layers.push(muted.unwrap_or(LayerInfo {
            encoding: feed.first_encoding(now, receives),
            spatial: u8::MAX,
            temporal: u8::MAX,
            width: 0,
            height: 1,
            frame_rate: 1,
            bitrate: UNMEASURED,
        }));
    }
    leave_out_equals(slot, &mut layers);
    // Nobody is left without a video for the sake of its repair.
    let lowest = layers.iter().map(|layer| layer.bitrate).min();
    for layer in layers.iter_mut().filter(|l| Some(l.bitrate) > lowest) {
        layer.bitrate = layer.bitrate.scale(1.0 + repair);
    }
    (layers, is_sent)
}

/// Leaves out layers that are no better or worse than the one the slot has: measurements differ a
/// little from second to second, and a switch between equals is a key frame for nothing.
fn leave_out_equals(slot: &Slot, layers: &mut Vec<LayerInfo>) {
    let had = slot.share.target();
    let current = layers
        .iter()
        .find(|layer| Some(Target::from(*layer)) == had);
    let Some(current) = current.copied() else {
        return;
    };
    let is_near = |a: f64, b: f64| (a - b).abs() <= SAME * b;
    layers.retain(|layer| {
        let is_equal = (layer.width, layer.height) == (current.width, current.height)
            && is_near(layer.frame_rate.into(), current.frame_rate.into());
        Some(Target::from(layer)) == had || !is_equal
    });
}

/// The layer that the slot has, among those on offer.
fn current(slot: &Slot, offered: &[LayerInfo]) -> Option<u8> {
    let target = slot.share.target()?;
    let find =
        |is_it: &dyn Fn(Target) -> bool| offered.iter().position(|layer| is_it(layer.into()));
    // One that was begun with before it was measured, or whose highest layer has gone.
    let alike = || find(&|layer| layer.encoding == target.encoding);
    let index = find(&|layer| layer == target).or_else(alike)?;
    u8::try_from(index).ok()
}

/// What is shown, in lines of this track: a video that is as wide or as high as its place fills it.
fn view(view: SlotView, offered: &[LayerInfo]) -> View {
    let largest = offered.iter().max_by_key(|layer| layer.height);
    let by_width = largest.zip(view.width).filter(|(l, _)| l.width > 0);
    let by_width = by_width.map_or(u32::MAX, |(l, width)| {
        let height = u64::from(width) * u64::from(l.height) / u64::from(l.width);
        u32::try_from(height).unwrap_or(u32::MAX)
    });
    let height = view.height.unwrap_or(u32::MAX).min(by_width);
    View {
        visible: !view.is_hidden(),
        // A place of a single line is as good as none, but it was not said to be none.
        height: height.max(1),
        frame_rate: view.frame_rate.map(|frames| frames.max(1)),
    }
}

/// Up to which rate, and for how long, video goes on that would have to be paused.
fn patience(
    now: Instant,
    left: Bitrate,
    estimator: &BandwidthEstimator,
    is_stream: bool,
) -> (Bitrate, Duration) {
    // For the moment that draining a queue takes, no video is taken away.
    let left = left + (estimator.lasting() - estimator.estimate());
    match estimator.limit() {
        // Giving way for good to a flow that fills the queue is to leave it the link: all that is taken in
        // any case is what every connection begins with. TCP gives way by itself.
        _ if estimator.is_competing() && !is_stream => {
            (left.scale(OVERDRAFT).max(START), Duration::MAX)
        }
        _ if estimator.is_calm(now) => (left.scale(OVERDRAFT).max(CALM_GRANT), Duration::MAX),
        _ if is_stream && !estimator.has_lost(now, TCP_WITHOUT_LOSS) => (MAX, Duration::MAX),
        _ if is_stream => (MAX, LONG_PATIENCE),
        Limit::Loss | Limit::Draining => (left.scale(OVERDRAFT), LONG_PATIENCE),
        _ => (left.scale(OVERDRAFT), PATIENCE),
    }
}

/// Finds out which publishers are to be asked for less: each video gets a share by what it takes.
fn ask_for_less(
    now: Instant,
    left: Bitrate,
    is_contradicted: bool,
    pictures: &mut [Picture<'_>],
    consequences: &mut Vec<Consequence>,
) {
    let seen = || pictures.iter().filter(|p| !p.slot.view.is_hidden());
    let all: Bitrate = seen().map(Picture::lowest).sum();
    // Repair in advance is left out first, and what is lost is sent again.
    let again = |p: &Picture<'_>| p.lowest().scale(p.slot.loss().unwrap_or_default());
    let with_repair = all + seen().map(again).sum();
    // Of an estimate that nothing contradicts it is not known that more would not fit.
    let is_too_much = is_contradicted && with_repair > left;
    let for_each_bit = left.ratio(with_repair);
    for picture in pictures {
        let room = picture.lowest().scale(for_each_bit);
        let asked = picture.asked(now, room, is_too_much);
        let before = std::mem::replace(&mut picture.slot.asked, asked);
        if before.is_none() && asked.is_some() {
            consequences.push(Consequence::Wanted(picture.track));
        }
    }
}

/// Lets video go on for a while that would have to be paused.
fn be_patient(
    now: Instant,
    limit: Bitrate,
    patience: Duration,
    pictures: &mut [Picture<'_>],
    allocations: &mut [Allocation],
) {
    let mut granted: Bitrate = allocations.iter().map(|a| a.bitrate).sum();
    for (picture, allocation) in pictures.iter_mut().zip(allocations) {
        if allocation.layer.is_some() || allocation.reason != Reason::NoBandwidth {
            picture.slot.starved = None;
            continue;
        }
        if patience == Duration::MAX {
            picture.slot.starved = None;
        }
        let since = *picture.slot.starved.get_or_insert(now);
        let expected = picture.expected(now);
        let is_asked = expected < picture.lowest();
        let is_patient = is_asked || now.saturating_duration_since(since) < patience;
        let lowest = picture.layers.iter().min_by_key(|layer| layer.bitrate);
        if let Some(lowest) = lowest.filter(|_| is_patient && granted + expected <= limit) {
            granted += expected;
            allocation.layer = Some(lowest.id);
            allocation.bitrate = lowest.bitrate;
            allocation.reason = Reason::Estimate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandwidth::sent::tests::{picture, with_feedback};
    use crate::rtp::sequence::SequenceNumber;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn over_tcp_what_takes_ever_longer_is_no_reason_to_pause_and_what_is_lost_is() {
        let mut estimator = BandwidthEstimator::default();
        let (mut now, mut arrival) = (Instant::now(), 20 * MS);
        for number in 1..=200_u16 {
            estimator.handle_sent(SequenceNumber(number.into()), picture(now, 1200));
            now += 20 * MS;
            arrival += 25 * MS;
            with_feedback(number, &[(number, arrival)], |feedback| {
                estimator.handle_feedback(now, feedback);
            });
        }
        assert!(!estimator.is_calm(now));
        let patience =
            |estimator: &_, is_stream| patience(now, Bitrate::ZERO, estimator, is_stream);
        assert!(patience(&estimator, false).0 < MAX);
        assert_eq!(patience(&estimator, true), (MAX, Duration::MAX));

        for number in 201..=203 {
            estimator.handle_sent(SequenceNumber(number), picture(now, 1200));
        }
        with_feedback(201, &[(201, arrival), (203, arrival + MS)], |feedback| {
            estimator.handle_feedback(now, feedback);
        });
        assert_eq!(patience(&estimator, true), (MAX, LONG_PATIENCE));
    }
}
