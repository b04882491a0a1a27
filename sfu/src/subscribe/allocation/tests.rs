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
        unreceivable: None,
        view: View::default(),
        priority,
        current,
        switches: SwitchHistory::default(),
    }
}

fn kbps(estimate: u64, demands: &[Demand<'_>]) -> Vec<(Option<u8>, Reason)> {
    let answers = allocate(
        Instant::now(),
        Bitrate::kbps(estimate),
        Bitrate::kbps(estimate),
        demands,
    );
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
    let of_no_use = |view| {
        let demands = [Demand {
            unreceivable: Some(Codec::Vp8),
            view,
            ..demand(&[], Priority::Pinned, None)
        }];
        kbps(9000, &demands)[0]
    };
    assert_eq!(of_no_use(shown(720)), (None, Reason::Codec(Codec::Vp8)));
    assert_eq!(of_no_use(shown(0)), (None, Reason::Hidden));
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
        let got = allocate(
            now,
            Bitrate::kbps(estimate),
            Bitrate::kbps(estimate),
            &demands,
        )[0];
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
        at(12, 2000, 0),
        (0, Reason::Settling),
        "since the fall at 3 s"
    );
    assert_eq!(at(13, 2000, 0), (2, Reason::Best));
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
        (0u8..20, any::<u32>(), 0u32..4000, 0u32..100).prop_map(|(id, bps, height, rate)| Layer {
            id,
            bitrate: Bitrate::bps(bps.into()),
            height,
            frame_rate: rate,
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
            unreceivable: None,
            view: *view,
            priority: *priority,
            current: *current,
            switches: SwitchHistory::default(),
        }).collect();
        let estimate = Bitrate::bps(estimate.into());
        let got = allocate(Instant::now(), estimate, estimate, &demands);
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
            let got = allocate(Instant::now(), Bitrate::kbps(estimate), Bitrate::kbps(estimate), demands);
            for (demand, answer) in demands.iter_mut().zip(&got) {
                demand.current = answer.layer;
            }
            got.iter().map(|a| a.layer).collect::<Vec<_>>()
        };
        let first = decide(&mut demands);
        prop_assert_eq!(decide(&mut demands), first);
    }
}

#[test]
fn what_was_carried_goes_on_and_only_what_is_new_keeps_to_the_estimate() {
    let kept = |current, estimate, carried| {
        let demands = [demand(&CAMERA, Priority::Rest, current)];
        let (estimate, carried) = (Bitrate::kbps(estimate), Bitrate::kbps(carried));
        allocate(Instant::now(), estimate, carried, &demands)[0].layer
    };
    let best = CAMERA[2].bitrate.as_bps() / 1000;
    assert_eq!(kept(Some(2), best - 1, best), Some(2));
    assert_eq!(kept(Some(2), best - 1, best - 1), Some(1));
    assert_eq!(kept(Some(1), best - 1, best), Some(1), "no rise by that");
    let least = CAMERA[0].bitrate.as_bps() / 1000;
    assert_eq!(kept(Some(0), least - 1, least), Some(0));
    assert_eq!(kept(None, least - 1, least), None, "nor back from a pause");
}
