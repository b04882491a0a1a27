//! What each slot of a subscriber gets of its estimate.
//!
//! In: the estimate without sound, and for every slot the layers its track has, what the client
//! shows of it, and how important it is. Out: a layer for every slot, or none, and why it is not a
//! better one. A pure function but for [`SwitchHistory`], which each slot keeps.
//!
//! 1. Every visible slot gets its lowest layer, the important first; if that does not fit, the least
//!    important are paused.
//! 2. If none is paused, slots rise step by step, the one that has least for its weight first, until
//!    each has what it shows or nothing more fits.
//! 3. A slot that has just been switched down rises at most once within [`SETTLING`], and only if
//!    there is [`MARGIN`] to spare: pictures that flap are worse than pictures that are small.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// After a downward switch a slot rises at most once within this time.
pub const SETTLING: Duration = Duration::from_secs(10);

/// A rise above what a slot has must fit into this share of the estimate: as much as rate control
/// gives up on overuse (draft-ietf-rmcat-gcc-02 section 5.5: beta), so that the rise survives it.
pub const MARGIN: f64 = 0.85;

/// Most slots that are looked at: a client has no more m-lines.
pub const MAX_SLOTS: usize = 64;

/// Most layers of each: three encodings of three temporal layers are nine.
pub const MAX_LAYERS: usize = 16;

/// How important a slot is: the more, the more of the estimate it gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Priority {
    /// None of the others.
    #[default]
    Rest,
    /// Who speaks.
    Speaker,
    /// A screen, on which there is something to read.
    Screen,
    /// What the client asked for by name.
    Pinned,
}

impl Priority {
    /// How much more than the rest: each twice as much as the one below.
    fn weight(self) -> u64 {
        1 << self as u8
    }
}

/// A quality that a track can be forwarded in: an encoding, up to a temporal layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layer {
    /// Which, as the caller numbers them.
    pub id: u8,
    /// What it takes.
    pub bitrate: Bitrate,
    /// Lines.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: u32,
}

/// What a client shows of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
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
pub struct Demand<'a> {
    /// What is offered now, in any order.
    pub layers: &'a [Layer],
    /// What is shown.
    pub view: View,
    /// How important it is.
    pub priority: Priority,
    /// The layer it has.
    pub current: Option<u8>,
    /// Its switches.
    pub switches: SwitchHistory,
}

/// Why a slot does not get more, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It has the best that is offered.
    Best,
    /// More would not be seen at the size it is shown, or at the frame rate that is wanted.
    Wanted,
    /// More does not fit into the estimate.
    Estimate,
    /// More would fit, but it was switched down not long ago. Paused, if it has no layer.
    Settling,
    /// Paused: it is not visible.
    Hidden,
    /// Paused: the track has no layer now.
    NotOffered,
    /// Paused: not even the lowest layer fits beside those of more important slots.
    NoBandwidth,
}

/// What a slot gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allocation {
    /// The layer; paused without.
    pub layer: Option<u8>,
    /// What it takes.
    pub bitrate: Bitrate,
    /// Why not more.
    pub reason: Reason,
}

/// The switches of one slot, as far as they matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwitchHistory {
    last_down: Option<Instant>,
    /// The last downward switch that was followed by an upward one.
    used: Option<Instant>,
}

impl SwitchHistory {
    /// Notes that the slot got worse for lack of bandwidth. What the client has asked for is no
    /// such switch.
    pub fn handle_down(&mut self, now: Instant) {
        self.last_down = Some(now);
    }

    /// Notes that the slot got better, now that there is bandwidth.
    pub fn handle_up(&mut self) {
        self.used = self.last_down.or(self.used);
    }

    /// Whether the slot may get better now.
    #[must_use]
    pub fn may_rise(&self, now: Instant) -> bool {
        self.used
            .is_none_or(|at| now.saturating_duration_since(at) >= SETTLING)
    }

    /// When the slot may get better, if not now.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let until = self.used.map(|at| at + SETTLING);
        until.filter(|until| *until > now)
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
    /// Which it had.
    current: Option<usize>,
    priority: Priority,
    may_rise: bool,
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
            reason: match demand.view {
                View { visible: false, .. } | View { height: 0, .. } => Reason::Hidden,
                _ if demand.layers.is_empty() => Reason::NotOffered,
                _ => Reason::NoBandwidth,
            },
        }
    }

    fn bitrate(&self) -> Bitrate {
        self.at.map_or(Bitrate::ZERO, |at| self.rungs[at].bitrate)
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

/// Nothing larger than the smallest that is as large as the picture is shown, and no more frames
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

/// Divides an estimate, of which sound has had its part, among slots. The answers are in the order
/// of the demands.
#[must_use]
pub fn allocate(now: Instant, estimate: Bitrate, demands: &[Demand<'_>]) -> Vec<Allocation> {
    let mut ladders: Vec<Ladder> = demands
        .iter()
        .take(MAX_SLOTS)
        .map(|demand| Ladder::new(now, demand))
        .collect();
    let mut left = estimate;
    let all_have_one = give_each_its_lowest(&mut ladders, &mut left);
    if all_have_one {
        raise(&mut ladders, left, estimate);
    }
    let answers = ladders.iter().map(|ladder| Allocation {
        layer: ladder.at.map(|at| ladder.rungs[at].id),
        bitrate: ladder.bitrate(),
        reason: ladder.reason,
    });
    let beyond = Allocation {
        layer: None,
        bitrate: Bitrate::ZERO,
        reason: Reason::NoBandwidth,
    };
    let missing = demands.len().saturating_sub(MAX_SLOTS);
    answers
        .chain(std::iter::repeat_n(beyond, missing))
        .collect()
}

/// Says whether everyone who is to see something does.
fn give_each_its_lowest(ladders: &mut [Ladder], left: &mut Bitrate) -> bool {
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
        let room = if is_back { left.scale(MARGIN) } else { *left };
        if ladder.step() > room {
            all = false;
        } else if is_back && !ladder.may_rise {
            ladder.reason = Reason::Settling;
            all = false;
        } else {
            *left -= ladder.step();
            ladder.at = Some(0);
            ladder.reason = Reason::Estimate;
        }
    }
    all
}

/// Raises slots until nothing more fits.
fn raise(ladders: &mut [Ladder], mut left: Bitrate, estimate: Bitrate) {
    let reserve = estimate - estimate.scale(MARGIN);
    let mut rising: Vec<usize> = (0..ladders.len())
        .filter(|index| ladders[*index].at.is_some())
        .collect();
    while let Some(position) = (0..rising.len()).min_by_key(|position| {
        let ladder = &ladders[rising[*position]];
        (ladder.share(), std::cmp::Reverse(ladder.priority))
    }) {
        let ladder = &mut ladders[rising[position]];
        let rises = ladder.rises();
        let room = if rises { left - reserve } else { left };
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
            left -= ladder.step();
            ladder.at = Some(ladder.next());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn layer(id: u8, kbps: u64, height: u32, frame_rate: u32) -> Layer {
        Layer {
            id,
            bitrate: Bitrate::kbps(kbps),
            height,
            frame_rate,
        }
    }

    /// A camera in three sizes.
    const CAMERA: [Layer; 3] = [
        layer(0, 150, 180, 30),
        layer(1, 500, 360, 30),
        layer(2, 1500, 720, 30),
    ];

    /// The same with temporal layers below each.
    const SCALABLE: [Layer; 6] = [
        layer(0, 100, 180, 15),
        layer(1, 150, 180, 30),
        layer(2, 350, 360, 15),
        layer(3, 500, 360, 30),
        layer(4, 1000, 720, 15),
        layer(5, 1500, 720, 30),
    ];

    fn shown(height: u32) -> View {
        View {
            height,
            ..View::default()
        }
    }

    fn demand(layers: &[Layer], priority: Priority, current: Option<u8>) -> Demand<'_> {
        Demand {
            layers,
            view: View::default(),
            priority,
            current,
            switches: SwitchHistory::default(),
        }
    }

    fn kbps(estimate: u64, demands: &[Demand<'_>]) -> Vec<(Option<u8>, Reason)> {
        let answers = allocate(Instant::now(), Bitrate::kbps(estimate), demands);
        answers.iter().map(|a| (a.layer, a.reason)).collect()
    }

    #[test]
    fn one_slot_gets_the_best_that_fits_with_a_margin_for_a_rise() {
        for (estimate, current, layer, reason) in [
            (100, None, None, Reason::NoBandwidth),
            (160, None, None, Reason::NoBandwidth),
            (160, Some(0), Some(0), Reason::Estimate),
            (180, None, Some(0), Reason::Estimate),
            (550, Some(0), Some(0), Reason::Estimate),
            (600, Some(0), Some(1), Reason::Estimate),
            (510, Some(1), Some(1), Reason::Estimate),
            (490, Some(1), Some(0), Reason::Estimate),
            (1500, Some(2), Some(2), Reason::Best),
            (160, Some(2), Some(0), Reason::Estimate),
            (9000, None, Some(2), Reason::Best),
        ] {
            let demands = [demand(&CAMERA, Priority::Rest, current)];
            assert_eq!(
                kbps(estimate, &demands),
                [(layer, reason)],
                "{estimate} {current:?}"
            );
        }
    }

    #[test]
    fn nobody_gets_more_than_they_see() {
        let view = |visible, height, frame_rate| View {
            visible,
            height,
            frame_rate,
        };
        for (view, layer, reason) in [
            (view(true, 720, None), Some(5), Reason::Best),
            (view(true, u32::MAX, None), Some(5), Reason::Best),
            (view(true, 361, None), Some(5), Reason::Best),
            (view(true, 360, None), Some(3), Reason::Wanted),
            (view(true, 360, Some(15)), Some(2), Reason::Wanted),
            (view(true, 1, Some(1)), Some(0), Reason::Wanted),
            (view(true, 720, Some(0)), Some(0), Reason::Wanted),
            (view(true, 0, None), None, Reason::Hidden),
            (view(false, 720, None), None, Reason::Hidden),
        ] {
            let demands = [Demand {
                view,
                ..demand(&SCALABLE, Priority::Rest, Some(5))
            }];
            assert_eq!(kbps(9000, &demands), [(layer, reason)], "{view:?}");
        }
        let gone = [demand(&[], Priority::Pinned, Some(0))];
        assert_eq!(kbps(9000, &gone), [(None, Reason::NotOffered)]);
    }

    #[test]
    fn equals_get_the_same_and_the_important_more() {
        use Priority::{Pinned, Rest, Screen, Speaker};
        for (estimate, priorities, layers) in [
            (1200, [Rest, Rest, Rest], [1, 0, 0]),
            (2000, [Rest, Rest, Rest], [1, 1, 1]),
            (3000, [Rest, Rest, Rest], [2, 1, 1]),
            (2200, [Rest, Pinned, Rest], [0, 2, 0]),
            (3000, [Rest, Pinned, Rest], [1, 2, 1]),
            (2000, [Speaker, Rest, Screen], [1, 1, 1]),
            (3100, [Speaker, Rest, Screen], [1, 1, 2]),
        ] {
            let demands = priorities.map(|priority| demand(&CAMERA, priority, Some(0)));
            let got: Vec<_> = kbps(estimate, &demands)
                .iter()
                .map(|(layer, _)| *layer)
                .collect();
            assert_eq!(got, layers.map(Some), "{estimate} {priorities:?}");
        }
    }

    #[test]
    fn everyone_is_seen_before_anyone_is_large_and_the_least_important_pauses_first() {
        let twelve = vec![demand(&CAMERA, Priority::Rest, None); 12];
        let got = kbps(2200, &twelve);
        assert!(got.iter().all(|(layer, _)| layer.is_some()), "{got:?}");
        let mut five = vec![demand(&CAMERA, Priority::Rest, Some(2)); 5];
        five[3].priority = Priority::Speaker;
        five[4].priority = Priority::Pinned;
        let got = kbps(500, &five);
        assert_eq!(got[0], (Some(0), Reason::Estimate));
        assert_eq!(got[1..3], [(None, Reason::NoBandwidth); 2]);
        assert_eq!(got[3..], [(Some(0), Reason::Estimate); 2]);
        five[0].current = None;
        assert_eq!(
            kbps(500, &five)[0].0,
            None,
            "whom nobody sees nobody misses"
        );
    }

    #[test]
    fn after_a_fall_one_rise_is_allowed_and_the_next_waits() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut switches = SwitchHistory::default();
        let mut at = |seconds: u32, estimate, current| {
            let now = start + second * seconds;
            let demands = [Demand {
                switches,
                ..demand(&CAMERA, Priority::Rest, Some(current))
            }];
            let got = allocate(now, Bitrate::kbps(estimate), &demands)[0];
            match got.layer {
                Some(layer) if layer > current => switches.handle_up(),
                Some(layer) if layer < current => switches.handle_down(now),
                _ => {}
            }
            (got.layer.unwrap_or(9), got.reason)
        };
        assert_eq!(at(0, 600, 2), (1, Reason::Estimate), "falls");
        assert_eq!(at(2, 2000, 1), (2, Reason::Best), "rises once");
        assert_eq!(at(3, 600, 2), (1, Reason::Estimate), "falls again");
        assert_eq!(at(4, 2000, 1), (1, Reason::Settling));
        assert_eq!(at(9, 2000, 1), (1, Reason::Settling));
        assert_eq!(at(10, 2000, 1), (2, Reason::Best));
        assert_eq!(at(11, 160, 2), (0, Reason::Estimate), "falls at any time");
        assert_eq!(
            switches.next_deadline(start + second * 11),
            Some(start + second * 13)
        );
    }

    #[test]
    fn layers_that_are_one_are_no_steps() {
        let same = [
            layer(0, 500, 360, 30),
            layer(1, 500, 360, 30),
            layer(2, 510, 360, 30),
        ];
        for current in [None, Some(0), Some(2)] {
            let demands = [demand(&same, Priority::Rest, current)];
            assert_eq!(kbps(9000, &demands), [(Some(0), Reason::Best)]);
        }
    }

    #[test]
    fn too_many_slots_are_bounded() {
        let demands = vec![demand(&CAMERA, Priority::Rest, None); 1000];
        let got = kbps(1_000_000, &demands);
        assert_eq!(got.len(), 1000);
        assert_eq!(got[MAX_SLOTS], (None, Reason::NoBandwidth));
    }

    fn any_demand() -> impl Strategy<Value = (Vec<Layer>, View, Priority, Option<u8>)> {
        let layers = prop::collection::vec(
            (0u8..20, any::<u32>(), 0u32..4000, 0u32..100).prop_map(|(id, bps, height, rate)| {
                Layer {
                    id,
                    bitrate: Bitrate::bps(bps.into()),
                    height,
                    frame_rate: rate,
                }
            }),
            0..20,
        );
        let view = (any::<bool>(), any::<u32>(), any::<Option<u32>>()).prop_map(
            |(visible, height, frame_rate)| View {
                visible,
                height,
                frame_rate,
            },
        );
        let priority = prop::sample::select(vec![
            Priority::Rest,
            Priority::Speaker,
            Priority::Screen,
            Priority::Pinned,
        ]);
        (layers, view, priority, any::<Option<u8>>())
    }

    proptest! {
        #[test]
        fn the_estimate_is_never_exceeded_and_nobody_starves_beside_a_top_layer(
            estimate in any::<u32>(), slots in prop::collection::vec(any_demand(), 0..20)
        ) {
            let demands: Vec<Demand<'_>> = slots.iter().map(|(layers, view, priority, current)| Demand {
                layers,
                view: *view,
                priority: *priority,
                current: *current,
                switches: SwitchHistory::default(),
            }).collect();
            let estimate = Bitrate::bps(estimate.into());
            let got = allocate(Instant::now(), estimate, &demands);
            prop_assert_eq!(got.len(), demands.len());
            prop_assert!(got.iter().map(|a| a.bitrate).sum::<Bitrate>() <= estimate);
            let starves = got.iter().any(|a| a.reason == Reason::NoBandwidth);
            for (answer, demand) in got.iter().zip(&demands) {
                let cheapest = demand.layers.iter().take(MAX_LAYERS).map(|layer| layer.bitrate).min();
                if let Some(layer) = answer.layer {
                    prop_assert!(demand.layers.iter().any(|l| l.id == layer));
                    prop_assert!(!starves || Some(answer.bitrate) == cheapest);
                }
            }
        }

        /// What was decided stays when nothing changes.
        #[test]
        fn a_decision_is_stable(estimate in 0u64..20_000, count in 1usize..12, heights in prop::collection::vec(1u32..1000, 12)) {
            let mut demands: Vec<Demand<'_>> = (0..count).map(|n| Demand {
                view: shown(heights[n]),
                ..demand(&SCALABLE, Priority::Rest, None)
            }).collect();
            let decide = |demands: &mut Vec<Demand<'_>>| {
                let got = allocate(Instant::now(), Bitrate::kbps(estimate), demands);
                for (demand, answer) in demands.iter_mut().zip(&got) {
                    demand.current = answer.layer;
                }
                got.iter().map(|a| a.layer).collect::<Vec<_>>()
            };
            let first = decide(&mut demands);
            prop_assert_eq!(decide(&mut demands), first);
        }
    }
}
