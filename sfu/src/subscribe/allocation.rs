//! An allocation, its middle step: divides a subscriber's estimate among its slots.
//!
//! In: the estimate without audio, and for every slot the layers its track has, what the client
//! shows of it, and how important it is. Out: a layer for every slot, or none, and why it is not a
//! better one. A pure function but for [`SwitchHistory`], which each slot keeps.
//!
//! 1. Every visible slot gets its lowest layer, the important first; if that does not fit, the least
//!    important are paused.
//! 2. If none is paused, slots rise step by step, the one that has least for its weight first, until
//!    each has what it shows or nothing more fits.
//! 3. A slot that has just been switched down rises at most once within [`SETTLING`], one that was
//!    paused comes back at most once within [`RESUMING`], and only if there is [`MARGIN`] to spare:
//!    video that flaps is worse than video that is small.

use std::time::{Duration, Instant};

use crate::api::{Priority, Reason, SETTLING};
use crate::media::Codec;
use crate::units::Bitrate;

/// But a video that was paused waits only this long: nothing is worse than nothing.
pub(crate) const RESUMING: Duration = Duration::from_secs(3);

/// A rise above what a slot has must fit into this share of the estimate: as much as rate control
/// gives up on overuse (draft-ietf-rmcat-gcc-02 section 5.5: beta), so that the rise survives it.
pub(crate) const MARGIN: f64 = 0.85;

/// Most slots that are looked at: a client has no more m-lines.
pub(crate) const MAX_SLOTS: usize = crate::negotiated::MAX_LINES;

/// Most layers of each: three encodings of three temporal layers are nine.
pub(crate) const MAX_LAYERS: usize = 16;

/// A quality that a track can be forwarded in: an encoding, up to a spatial and a temporal layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layer {
    /// Which, as the caller numbers them.
    pub id: u8,
    pub bitrate: Bitrate,
    /// Lines.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: u32,
}

/// What a client shows of a slot, in lines of the track it shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct View {
    /// Whether it is on the screen at all.
    pub visible: bool,
    /// Lines on the screen; none is as good as hidden.
    pub height: u32,
    /// Frames a second; none means any.
    pub frame_rate: Option<u32>,
}

impl Default for View {
    /// The client has said nothing: all there is.
    fn default() -> Self {
        View {
            visible: true,
            height: u32::MAX,
            frame_rate: None,
        }
    }
}

/// One slot that shows a track.
#[derive(Clone, Debug)]
pub(crate) struct Demand<'a> {
    /// What is offered now, in any order.
    pub layers: &'a [Layer],
    /// How the track is coded, if the client can receive nothing of it for that.
    pub unreceivable: Option<Codec>,
    pub view: View,
    /// How important it is.
    pub priority: Priority,
    /// The layer it has.
    pub current: Option<u8>,
    pub switches: SwitchHistory,
}

/// What a slot gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Allocation {
    /// The layer; paused without.
    pub layer: Option<u8>,
    pub bitrate: Bitrate,
    /// What the best would take that would be seen.
    pub wanted: Bitrate,
    pub reason: Reason,
}

/// The switches of one slot, as far as they matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SwitchHistory {
    last_down: Option<Instant>,
    /// The last downward switch that was followed by an upward one.
    used: Option<Instant>,
}

impl SwitchHistory {
    /// Notes that the slot got worse for lack of bandwidth. What the client has asked for is no
    /// such switch.
    pub(crate) fn handle_down(&mut self, now: Instant) {
        self.last_down = Some(now);
    }

    /// Notes that the slot got better, now that there is bandwidth.
    pub(crate) fn handle_up(&mut self) {
        self.used = self.last_down.or(self.used);
    }

    /// Whether the slot may get better now.
    #[must_use]
    pub(crate) fn may_rise(&self, now: Instant) -> bool {
        self.used
            .is_none_or(|at| now.saturating_duration_since(at) >= SETTLING)
    }

    /// Whether the slot may come back now, if it is paused.
    #[must_use]
    pub(crate) fn may_resume(&self, now: Instant) -> bool {
        self.used
            .is_none_or(|at| now.saturating_duration_since(at) >= RESUMING)
    }
}

/// A slot while the estimate is divided.
struct Ladder {
    /// What may be chosen, the cheapest first, each better than the one before and worth having.
    rungs: Vec<Layer>,
    /// Whether there is better that would not be seen.
    is_capped: bool,
    /// Which of the rungs it has.
    at: Option<usize>,
    current: Option<usize>,
    priority: Priority,
    may_rise: bool,
    may_resume: bool,
    reason: Reason,
}

impl Ladder {
    fn new(now: Instant, demand: &Demand<'_>) -> Self {
        let mut rungs = better_and_better(demand.layers);
        let all = rungs.len();
        keep_what_is_seen(&mut rungs, demand.view);
        let current = demand
            .layers
            .iter()
            .find(|layer| Some(layer.id) == demand.current);
        let current = current.map(|current| {
            // If it is no rung any more, the one below.
            let at = rungs
                .iter()
                .rposition(|rung| rung.bitrate <= current.bitrate);
            at.unwrap_or(0)
        });
        Ladder {
            is_capped: rungs.len() < all,
            at: None,
            current,
            rungs,
            priority: demand.priority,
            may_rise: demand.switches.may_rise(now),
            may_resume: demand.switches.may_resume(now),
            reason: match (demand.view, demand.unreceivable) {
                (View { visible: false, .. } | View { height: 0, .. }, _) => Reason::Hidden,
                (_, Some(codec)) => Reason::Codec(codec),
                _ if demand.layers.is_empty() => Reason::NotOffered,
                _ => Reason::NoBandwidth,
            },
        }
    }

    fn bitrate(&self) -> Bitrate {
        self.at.map_or(Bitrate::ZERO, |at| self.rungs[at].bitrate)
    }

    fn wanted(&self) -> Bitrate {
        match self.reason {
            Reason::Hidden => Bitrate::ZERO,
            _ => self.rungs.last().map_or(Bitrate::ZERO, |best| best.bitrate),
        }
    }

    /// What it has, for its weight.
    fn share(&self) -> u64 {
        self.bitrate().as_bps() / self.priority.weight()
    }

    fn next(&self) -> usize {
        self.at.map_or(0, |at| at + 1)
    }

    /// What the next rung costs beyond this one.
    fn step(&self) -> Bitrate {
        let next = self.rungs.get(self.next());
        next.map_or(Bitrate::ZERO, |next| next.bitrate - self.bitrate())
    }

    /// Whether the next rung is above what it had, which takes a margin and patience.
    fn rises(&self) -> bool {
        self.current.is_none_or(|current| self.next() > current)
    }
}

fn better_and_better(layers: &[Layer]) -> Vec<Layer> {
    let mut rungs: Vec<Layer> = layers.iter().take(MAX_LAYERS).copied().collect();
    rungs.sort_by_key(|layer| (layer.bitrate, layer.height, layer.frame_rate));
    let mut best: Option<(u32, u32)> = None;
    rungs.retain(|layer| {
        let quality = (layer.height, layer.frame_rate);
        // What costs more and is no better is no step up.
        let is_better = best.is_none_or(|best| quality > best);
        if is_better {
            best = Some(quality);
        }
        is_better
    });
    rungs
}

/// Nothing larger than the smallest that is as large as the video is shown, and no more frames
/// than are wanted; but something in any case.
fn keep_what_is_seen(rungs: &mut Vec<Layer>, view: View) {
    let heights = rungs.iter().map(|layer| layer.height);
    let height = heights.filter(|height| *height >= view.height).min();
    let height = height.unwrap_or(u32::MAX);
    let frames = view.frame_rate.unwrap_or(u32::MAX);
    let lowest = rungs.first().copied();
    rungs.retain(|layer| {
        let is_seen = layer.height <= height && layer.frame_rate <= frames;
        is_seen || Some(*layer) == lowest
    });
}

/// Divides an estimate, of which audio has had its part, among slots. `carried` is what the path has
/// carried of late, at least the estimate: what slots have already may take up to that. The answers are
/// in the order of the demands.
#[must_use]
pub(crate) fn allocate(
    now: Instant,
    estimate: Bitrate,
    carried: Bitrate,
    demands: &[Demand<'_>],
) -> Vec<Allocation> {
    let mut ladders: Vec<Ladder> = demands
        .iter()
        .take(MAX_SLOTS)
        .map(|demand| Ladder::new(now, demand))
        .collect();
    let mut budget = Budget {
        left: carried,
        beyond: carried - estimate,
        reserve: estimate - estimate.scale(MARGIN),
    };
    let all_have_one = give_each_its_lowest(&mut ladders, &mut budget);
    if all_have_one {
        raise(&mut ladders, budget);
    }
    let answers = ladders.iter().map(|ladder| Allocation {
        layer: ladder.at.map(|at| ladder.rungs[at].id),
        bitrate: ladder.bitrate(),
        wanted: ladder.wanted(),
        reason: ladder.reason,
    });
    let beyond = Allocation {
        layer: None,
        bitrate: Bitrate::ZERO,
        wanted: Bitrate::ZERO,
        reason: Reason::NoBandwidth,
    };
    let missing = demands.len().saturating_sub(MAX_SLOTS);
    answers
        .chain(std::iter::repeat_n(beyond, missing))
        .collect()
}

/// What is still to be given.
#[derive(Clone, Copy)]
struct Budget {
    /// For what slots have already.
    left: Bitrate,
    /// How much of that is more than the estimate.
    beyond: Bitrate,
    /// What a rise is to leave.
    reserve: Bitrate,
}

impl Budget {
    /// For what is new.
    fn for_new(self) -> Bitrate {
        self.left - self.beyond
    }
}

/// Whether everyone who is to see something does.
fn give_each_its_lowest(ladders: &mut [Ladder], budget: &mut Budget) -> bool {
    let mut order: Vec<usize> = (0..ladders.len())
        .filter(|index| ladders[*index].reason == Reason::NoBandwidth)
        .collect();
    // Of equals the one that is shown already: whom nobody sees nobody misses.
    order.sort_by_key(|index| {
        let ladder = &ladders[*index];
        (
            std::cmp::Reverse((ladder.priority, ladder.current.is_some())),
            *index,
        )
    });
    let mut all = true;
    for index in order {
        let ladder = &mut ladders[index];
        // One that was paused comes back with a margin and patience, or it would not stay.
        let is_back = ladder.current.is_none();
        let room = match is_back {
            true => budget.for_new().scale(MARGIN),
            false => budget.left,
        };
        if ladder.step() > room {
            all = false;
        } else if is_back && !ladder.may_resume {
            ladder.reason = Reason::Settling;
            all = false;
        } else {
            budget.left -= ladder.step();
            ladder.at = Some(0);
            ladder.reason = Reason::Estimate;
        }
    }
    all
}

/// Raises slots until nothing more fits.
fn raise(ladders: &mut [Ladder], mut budget: Budget) {
    let mut rising: Vec<usize> = (0..ladders.len())
        .filter(|index| ladders[*index].at.is_some())
        .collect();
    while let Some(position) = (0..rising.len()).min_by_key(|position| {
        let ladder = &ladders[rising[*position]];
        (ladder.share(), std::cmp::Reverse(ladder.priority))
    }) {
        let ladder = &mut ladders[rising[position]];
        let rises = ladder.rises();
        let room = match rises {
            true => budget.for_new() - budget.reserve,
            false => budget.left,
        };
        let stop = if ladder.next() >= ladder.rungs.len() {
            Some(if ladder.is_capped {
                Reason::Wanted
            } else {
                Reason::Best
            })
        } else if ladder.step() > room {
            Some(Reason::Estimate)
        } else if rises && !ladder.may_rise {
            Some(Reason::Settling)
        } else {
            None
        };
        if let Some(reason) = stop {
            ladder.reason = reason;
            rising.swap_remove(position);
        } else {
            budget.left -= ladder.step();
            ladder.at = Some(ladder.next());
        }
    }
}

#[cfg(test)]
mod tests;
