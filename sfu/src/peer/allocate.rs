//! Dividing what the way to a client carries among its slots.
//!
//! In: the estimate, what the client shows, the layers of the tracks its slots show. Out: the layer
//! that each slot forwards, the key frames that takes, and a record of why.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Peer;
use crate::api::{Decision, LayerInfo, PeerQuality, Reason, SlotQuality, SlotView};
use crate::bandwidth::estimator::{Limit, MAX};
use crate::media::Kind;
use crate::publish::feed::Feed;
use crate::subscribe::allocation::{Allocation, Demand, Layer, SwitchHistory, View, allocate};
use crate::subscribe::layer::Target;
use crate::subscribe::share::Change;
use crate::subscribe::slot::Slot;
use crate::types::{Mid, TrackId};
use crate::units::Bitrate;

/// How often the estimate is divided at least: the layers change as well.
const INTERVAL: Duration = Duration::from_millis(250);

/// An estimate that has moved by this share is divided at once.
const FALL: f64 = 0.95;
const RISE: f64 = 1.1;

/// What an encoding is taken for until it has been measured: the lowest of a simulcast.
const UNMEASURED: Bitrate = Bitrate::kbps(100);

/// And for what it could put to use: a picture as most cameras have it. What the way carries is better
/// known early than late.
const UNMEASURED_WANTED: Bitrate = Bitrate::kbps(1000);

/// The picture of a slot whose lowest layer does not fit goes on for so long: at the beginning nothing
/// is known of the way, and an estimate that dips is soon back. Loss without a queue hurts nobody else,
/// and takes longer to tell from congestion.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_WITH_LOSS: Duration = Duration::from_secs(4);

/// What changes within this time of pointing a slot at a track is no flapping: much becomes known then.
const BEGINNING: Duration = Duration::from_secs(5);

/// But only up to this multiple of the estimate, so that the way is not flooded.
const OVERDRAFT: f64 = 2.0;

/// While the way has not been overused for so long, there is no end to patience: an estimate that is low
/// for want of evidence, or for loss without a queue, is no reason to take a picture away. Up to this,
/// which is what browsers make of one camera at most (libwebrtc of 1280×720), whatever the estimate says.
const CALM: Duration = Duration::from_secs(10);
const CALM_GRANT: Bitrate = Bitrate::kbps(2500);

/// The share of the estimate that may be spent on sending packets again.
const RETRANSMITTED: f64 = 0.5;

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
pub enum Consequence {
    /// A key frame of an encoding.
    KeyFrame(TrackId, u8),
    /// A slot's picture has been paused for this reason, or goes on.
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

    /// Takes an estimate.
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
    pub fn reallocate(&mut self, now: Instant) {
        self.allocator.hurry(now);
    }

    /// Whether the estimate is to be divided now.
    #[must_use]
    pub fn allocation_due(&self, now: Instant) -> bool {
        self.is_connected() && self.allocator.next.is_some_and(|due| now >= due)
    }

    /// Divides the estimate. `feed` finds the feed of a track; what it takes is added to
    /// `consequences`.
    pub fn allocate<'f>(
        &mut self,
        now: Instant,
        feed: impl Fn(TrackId) -> Option<&'f Feed>,
        consequences: &mut Vec<Consequence>,
    ) {
        let shown = |slot: &Slot| slot.track().and_then(&feed);
        let estimate = self.pacing.estimate().unwrap_or(MAX);
        let pictures = lowest_rate(now, &self.slots, shown);
        let audio = share_sound(now, estimate - pictures, &mut self.slots, shown);
        self.allocator.divided = estimate;
        self.allocator.audio = audio;
        let left = estimate - audio;

        let is_video = |slot: &&mut Slot| slot.kind == Kind::Video;
        let slots: Vec<&mut Slot> = self.slots.iter_mut().flatten().filter(is_video).collect();
        let mut showing: Vec<(&mut Slot, TrackId, Vec<LayerInfo>)> = slots
            .into_iter()
            .filter_map(|slot| {
                let (track, feed) = (slot.track()?, shown(slot)?);
                let offered = offered(now, slot, feed);
                Some((slot, track, offered))
            })
            .collect();
        self.allocator.next = (!showing.is_empty()).then_some(now + INTERVAL);
        let layers: Vec<Vec<Layer>> = showing.iter().map(|(_, _, o)| numbered(o)).collect();
        let demands: Vec<Demand<'_>> = showing
            .iter()
            .zip(&layers)
            .map(|((slot, _, offered), layers)| Demand {
                layers,
                view: view(slot.view, offered),
                priority: slot.priority,
                current: current(slot, offered),
                switches: slot.share.history,
            })
            .collect();
        let mut allocations = allocate(now, left, &demands);
        let estimator = self.pacing.estimator();
        let overused = estimator.overused();
        let is_calm = overused.is_none_or(|at| now.saturating_duration_since(at) >= CALM);
        let (limit, patience) = match estimator.limit() {
            _ if is_calm => (left.scale(OVERDRAFT).max(CALM_GRANT), Duration::MAX),
            Limit::Loss => (left.scale(OVERDRAFT), PATIENCE_WITH_LOSS),
            _ => (left.scale(OVERDRAFT), PATIENCE),
        };
        be_patient(
            now,
            limit,
            patience,
            &mut showing,
            &layers,
            &mut allocations,
        );

        let wanted = showing.iter().zip(&allocations);
        let wanted: Bitrate = wanted
            .map(
                |((slot, _, offered), allocation)| match offered.as_slice() {
                    [only] if only.bitrate == UNMEASURED => {
                        allocation.wanted.max(UNMEASURED_WANTED)
                    }
                    // Its repair has not been counted, and is to have its place.
                    [only] => only.bitrate.scale(1.0 + slot.repair_share()),
                    _ => allocation.wanted,
                },
            )
            .sum();
        self.allocator.wanted = wanted + audio;
        self.pacing.set_wanted(now, wanted + audio);
        let again = estimate.scale(RETRANSMITTED / showing.len().max(1) as f64);
        let spare = spare_for_repair(left, &allocations, &layers);
        let decided = allocations.iter().zip(spare);
        for ((slot, track, offered), (allocation, spare)) in showing.into_iter().zip(decided) {
            slot.set_spare(spare);
            slot.set_retransmission_limit(now, again);
            let was_paused = slot.share.is_paused();
            let change = slot.share.take(now, allocation, &offered);
            if slot.shown_for(now) < BEGINNING {
                slot.share.history = SwitchHistory::default();
            }
            slot.aim();
            if let Some(change) = change {
                self.allocator.note(now, slot.mid, change);
                consequences.push(Consequence::Wanted(track));
                if let Some(encoding) = slot.needs_key_frame() {
                    consequences.push(Consequence::KeyFrame(track, encoding));
                }
            }
            let is_paused = slot.share.is_paused();
            if was_paused != is_paused {
                let reason = is_paused.then_some(slot.share.reason);
                consequences.push(Consequence::Paused(slot.mid, reason));
            }
        }
    }

    /// What the way carries, and what is made of it.
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
            slots: slots
                .filter(|slot| slot.kind == Kind::Video)
                .filter_map(|slot| {
                    Some(SlotQuality {
                        mid: slot.mid,
                        track: slot.track()?,
                        priority: slot.priority,
                        view: slot.view,
                        layer: slot.share.layer,
                        reason: slot.share.reason,
                        switches: slot.share.switches,
                    })
                })
                .collect(),
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

/// What the lowest layers of all pictures take that are on screen.
fn lowest_rate<'f>(
    now: Instant,
    slots: &[Option<Slot>],
    shown: impl Fn(&Slot) -> Option<&'f Feed>,
) -> Bitrate {
    let videos = slots.iter().flatten().filter(|s| s.kind == Kind::Video);
    let mut layers = Vec::new();
    videos
        .filter(|slot| slot.view.visible)
        .filter_map(|slot| {
            shown(slot)?.layers(now, false, &mut layers);
            layers.iter().map(|layer| layer.bitrate).min()
        })
        .sum()
}

/// Sound is outside the contest, but what repeats it is not to take a picture's place: it may take
/// what is `left` when every picture has its lowest layer. Returns what sound takes.
fn share_sound<'f>(
    now: Instant,
    left: Bitrate,
    slots: &mut [Option<Slot>],
    shown: impl Fn(&Slot) -> Option<&'f Feed>,
) -> Bitrate {
    let bare = |slot: &Slot| shown(slot).map_or(Bitrate::ZERO, |feed| feed.bitrate(now));
    let sounds = slots.iter().flatten().filter(|s| s.kind == Kind::Audio);
    let all: Bitrate = sounds.map(bare).sum();
    let spare = (left - all).ratio(all);
    let slots = slots.iter_mut().flatten();
    slots
        .filter(|slot| slot.kind == Kind::Audio)
        .map(|slot| {
            slot.set_spare(spare);
            bare(slot).scale(1.0 + slot.repair_share())
        })
        .sum()
}

/// What the slot could be sent, with what its repair takes.
fn offered(now: Instant, slot: &Slot, feed: &Feed) -> Vec<LayerInfo> {
    let mut layers = Vec::new();
    feed.layers(now, slot.view.frame_rate.is_some(), &mut layers);
    if layers.is_empty() {
        // A track that is muted takes nothing, and comes back as it was.
        let muted = slot.share.layer.map(|layer| LayerInfo {
            bitrate: Bitrate::ZERO,
            ..layer
        });
        layers.push(muted.unwrap_or(LayerInfo {
            encoding: feed.first_encoding(now),
            spatial: u8::MAX,
            temporal: u8::MAX,
            width: 0,
            height: 1,
            frame_rate: 1,
            bitrate: UNMEASURED,
        }));
    }
    leave_out_equals(slot, &mut layers);
    // Nobody is left without a picture for the sake of its repair.
    let lowest = layers.iter().map(|layer| layer.bitrate).min();
    let repair = slot.repair_share();
    for layer in layers.iter_mut().filter(|l| Some(l.bitrate) > lowest) {
        layer.bitrate = layer.bitrate.scale(1.0 + repair);
    }
    layers
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

/// What each slot whose repair has not been counted may spend on it, for each bit of media.
fn spare_for_repair(left: Bitrate, allocations: &[Allocation], layers: &[Vec<Layer>]) -> Vec<f64> {
    let granted: Bitrate = allocations.iter().map(|a| a.bitrate).sum();
    let is_lowest = |allocation: &Allocation, layers: &[Layer]| {
        let lowest = layers.iter().map(|layer| layer.bitrate).min();
        Some(allocation.bitrate) == lowest
    };
    let both = || allocations.iter().zip(layers);
    let lowest: Bitrate = both()
        .filter(|(allocation, layers)| is_lowest(allocation, layers))
        .map(|(allocation, _)| allocation.bitrate)
        .sum();
    let spare = (left - granted).ratio(lowest);
    both()
        .map(|(allocation, layers)| match is_lowest(allocation, layers) {
            true => spare,
            false => f64::INFINITY,
        })
        .collect()
}

fn numbered(offered: &[LayerInfo]) -> Vec<Layer> {
    let layers = (0u8..).zip(offered).map(|(id, layer)| Layer {
        id,
        bitrate: layer.bitrate,
        height: layer.height,
        frame_rate: layer.frame_rate,
    });
    layers.collect()
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

/// What is shown, in lines of this track: a picture that is as wide or as high as its place fills it.
fn view(view: SlotView, offered: &[LayerInfo]) -> View {
    let largest = offered.iter().max_by_key(|layer| layer.height);
    let by_width = largest.filter(|l| l.width > 0).map_or(u32::MAX, |l| {
        let height = u64::from(view.width) * u64::from(l.height) / u64::from(l.width);
        u32::try_from(height).unwrap_or(u32::MAX)
    });
    let height = match (view.width, view.height) {
        (0, _) | (_, 0) => 0,
        // A place of a single line is as good as none, but it was not said to be none.
        (_, height) => height.min(by_width).max(1),
    };
    View {
        visible: view.visible,
        height,
        frame_rate: view.frame_rate.map(|frames| frames.max(1)),
    }
}

/// Lets pictures go on for a while that would have to be paused.
fn be_patient(
    now: Instant,
    limit: Bitrate,
    patience: Duration,
    showing: &mut [(&mut Slot, TrackId, Vec<LayerInfo>)],
    layers: &[Vec<Layer>],
    allocations: &mut [Allocation],
) {
    let mut granted: Bitrate = allocations.iter().map(|a| a.bitrate).sum();
    for (((slot, _, _), layers), allocation) in showing.iter_mut().zip(layers).zip(allocations) {
        if allocation.layer.is_some() || allocation.reason != Reason::NoBandwidth {
            slot.starved = None;
            continue;
        }
        let since = *slot.starved.get_or_insert(now);
        let lowest = layers.iter().min_by_key(|layer| layer.bitrate);
        let is_patient = now.saturating_duration_since(since) < patience;
        if let Some(lowest) = lowest.filter(|l| is_patient && granted + l.bitrate <= limit) {
            granted += lowest.bitrate;
            allocation.layer = Some(lowest.id);
            allocation.bitrate = lowest.bitrate;
            allocation.reason = Reason::Estimate;
        }
    }
}
