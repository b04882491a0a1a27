use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What became of datagrams of 100 bytes sent every so often: the number of each that arrived, and
/// how long it took.
fn run(link: &mut Link<Vec<u8>>, count: u32, every: Duration) -> Vec<(u32, Duration)> {
    let start = Instant::now();
    let sent_at = |n: u32| start + every * n;
    let mut arrived = Vec::new();
    let mut drain = |link: &mut Link<Vec<u8>>, until: Instant| {
        while let Some(at) = link.next_deadline().filter(|at| *at <= until) {
            while let Some(datagram) = link.poll(at) {
                let n = datagram.first_chunk().map_or(0, |n| u32::from_be_bytes(*n));
                arrived.push((n, at.saturating_duration_since(sent_at(n))));
            }
        }
    };
    for n in 0..count {
        drain(link, sent_at(n));
        let mut datagram = vec![0; 100];
        datagram[..4].copy_from_slice(&n.to_be_bytes());
        link.send(sent_at(n), datagram);
    }
    drain(link, start + Duration::from_secs(3600));
    arrived
}

fn numbers(arrived: &[(u32, Duration)]) -> Vec<u32> {
    arrived.iter().map(|(n, _)| *n).collect()
}

fn lossy(loss: Loss) -> Impairment {
    Impairment {
        loss,
        ..Impairment::default()
    }
}

#[test]
fn the_seed_decides_what_is_lost() {
    let run = |seed| {
        numbers(&run(
            &mut Link::new(seed, lossy(Loss::Random(0.1))),
            20_000,
            MS,
        ))
    };
    let lost = 20_000 - run(7).len();
    assert!((1900..2100).contains(&lost), "{lost}");
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn other_settings_do_not_move_what_is_lost() {
    let lossy = lossy(Loss::Random(0.1));
    let jittery = Impairment {
        delay: 50 * MS,
        jitter: 20 * MS,
        corrupt: 0.0,
        ..lossy.clone()
    };
    let mut sorted = numbers(&run(&mut Link::new(7, jittery), 1000, MS));
    sorted.sort_unstable();
    assert_eq!(sorted, numbers(&run(&mut Link::new(7, lossy), 1000, MS)));
}

#[test]
fn bursts_have_the_share_and_the_length_asked_for() {
    for (share, length) in [(0.05, 4.0), (0.1, 4.0), (0.2, 4.0), (0.1, 1.5)] {
        let model = Loss::GilbertElliott(GilbertElliott::bursts(share, length));
        let arrived = numbers(&run(&mut Link::new(3, lossy(model)), 100_000, MS));
        let lost = 100_000 - arrived.len();
        let bursts = arrived
            .windows(2)
            .filter(|pair| pair[1] > pair[0] + 1)
            .count();
        let measured = lost as f64 / 100_000.0;
        assert!((measured / share - 1.0).abs() < 0.1, "{share}: {measured}");
        let mean = lost as f64 / bursts as f64;
        assert!((mean / length - 1.0).abs() < 0.1, "{length}: {mean}");
    }
}

#[test]
fn a_trace_is_replayed_and_begins_anew() {
    let trace: Arc<[bool]> = [false, true, true, false, false].into();
    let arrived = numbers(&run(&mut Link::new(1, lossy(Loss::Trace(trace))), 10, MS));
    assert_eq!(arrived, [0, 3, 4, 5, 8, 9]);
    let arrived = run(&mut Link::new(1, lossy(Loss::Trace([].into()))), 3, MS);
    assert_eq!(arrived.len(), 3);
}

#[test]
fn jitter_reorders_only_where_it_may() {
    for reorders in [false, true] {
        let impairment = Impairment {
            delay: 50 * MS,
            jitter: 20 * MS,
            reorders,
            ..Impairment::default()
        };
        let arrived = run(&mut Link::new(5, impairment), 5000, MS);
        let in_order = arrived.is_sorted_by_key(|(n, _)| *n);
        assert_eq!(in_order, !reorders);
        let delays = arrived.iter().map(|(_, delay)| *delay);
        assert!(delays.clone().min().is_some_and(|least| least >= 30 * MS));
        assert!(delays.clone().max().is_some_and(|most| most <= 70 * MS));
        if reorders {
            let mean = delays.sum::<Duration>() / 5000;
            assert!(mean.abs_diff(50 * MS) < MS, "{mean:?}");
        }
    }
}

#[test]
fn a_bottleneck_is_as_fast_as_it_says_and_drops_what_its_queue_cannot_hold() {
    // 100 bytes a millisecond against half of that.
    let rate = |queue| Impairment {
        rate: Some(Rate {
            bits_per_second: 400_000,
            queue,
        }),
        ..Impairment::default()
    };
    for queue in [Queue::Bytes(1000), Queue::Time(20 * MS)] {
        let mut link = Link::new(1, rate(queue));
        let arrived = run(&mut link, 1000, MS);
        // Half, and the queue full at the end.
        assert!((505..=512).contains(&arrived.len()), "{}", arrived.len());
        let longest = arrived.iter().map(|(_, delay)| *delay).max();
        // Ten waiting, and itself; some of the one in the bottleneck.
        assert!(
            longest.is_some_and(|d| (21 * MS..=24 * MS).contains(&d)),
            "{longest:?}"
        );
        assert_eq!(link.counters().overflowed, 1000 - arrived.len() as u64);
    }
}

#[test]
fn a_change_of_rate_is_obeyed_by_what_waits() {
    let slow = |bits_per_second| Impairment {
        rate: Some(Rate {
            bits_per_second,
            queue: Queue::Bytes(10_000),
        }),
        ..Impairment::default()
    };
    let now = Instant::now();
    let mut link = Link::new(1, slow(8_000));
    for _ in 0..3 {
        link.send(now, vec![0; 100]);
    }
    assert_eq!(link.queueing_delay(now), 300 * MS);
    link.set(now, slow(80_000));
    // The one in the bottleneck at the old rate, the others at the new one.
    assert_eq!(link.queueing_delay(now), 120 * MS);
    // The third one had to wait for the two before it; what waits longer now is for the next to tell.
    assert_eq!(link.take_reading(now).longest_wait, 200 * MS);
    assert_eq!(link.take_reading(now).longest_wait, Duration::ZERO);
    assert!(link.poll(now + 99 * MS).is_none());
    assert!(link.poll(now + 100 * MS).is_some());
    assert!(link.poll(now + 110 * MS).is_some());
    link.set(now + 110 * MS, Impairment::default());
    assert!(link.poll(now + 120 * MS).is_some());
    assert_eq!(link.next_deadline(), None);
}

#[test]
fn a_link_that_is_down_takes_everything_and_delivers_what_was_on_the_way() {
    let now = Instant::now();
    let slow = Impairment {
        delay: 50 * MS,
        ..Impairment::default()
    };
    let mut link = Link::new(1, slow.clone());
    link.send(now, vec![1]);
    link.set(
        now + MS,
        Impairment {
            is_up: false,
            ..slow
        },
    );
    link.send(now + MS, vec![2]);
    assert_eq!(link.poll(now + 50 * MS), Some(vec![1]));
    assert_eq!(link.next_deadline(), None);
    assert_eq!(link.counters().cut, 1);
}

#[test]
fn a_stall_holds_everything_and_delivers_it_at_once() {
    let stall = Stall {
        every: 100 * MS,
        length: 30 * MS,
    };
    let impairment = Impairment {
        stall: Some(stall),
        ..Impairment::default()
    };
    let arrived = run(&mut Link::new(9, impairment), 1000, MS);
    let held = arrived.iter().filter(|(_, delay)| !delay.is_zero()).count();
    assert!((290..=310).contains(&held), "{held}");
    let longest = arrived.iter().map(|(_, delay)| *delay).max();
    assert!(longest.is_some_and(|longest| longest <= 30 * MS && longest > 28 * MS));
    assert!(arrived.is_sorted_by_key(|(n, _)| *n));
}

#[test]
fn duplicates_and_flipped_bits_are_as_many_as_asked_for() {
    let impairment = Impairment {
        duplicate: 0.1,
        corrupt: 0.2,
        ..Impairment::default()
    };
    let mut link = Link::new(2, impairment);
    let now = Instant::now();
    let mut flipped = 0;
    let mut arrived = 0;
    for _ in 0..10_000 {
        link.send(now, vec![0; 100]);
        while let Some(datagram) = link.poll(now) {
            arrived += 1;
            flipped += datagram.iter().map(|byte| byte.count_ones()).sum::<u32>();
        }
    }
    assert!((10_900..11_100).contains(&arrived), "{arrived}");
    // One bit of each, and of the twins of some.
    assert!((2_000..2_400).contains(&flipped), "{flipped}");
}

proptest! {
    /// Whatever the settings, nothing is made or kept.
    #[test]
    fn every_datagram_is_accounted_for(
        seed in any::<u64>(), loss in 0.0..=1.0f64, duplicate in 0.0..=1.0f64, rate in 1_000u64..10_000_000,
        queue in 0usize..5_000, delay in 0u64..100, jitter in 0u64..200, reorders in any::<bool>(),
    ) {
        let impairment = Impairment {
            loss: Loss::Random(loss),
            duplicate,
            delay: MS * delay as u32,
            jitter: MS * jitter as u32,
            reorders,
            rate: Some(Rate { bits_per_second: rate, queue: Queue::Bytes(queue) }),
            ..Impairment::default()
        };
        let mut link = Link::new(seed, impairment);
        let arrived = run(&mut link, 200, MS).len() as u64;
        let counters = link.counters();
        prop_assert_eq!(arrived, counters.delivered);
        let once = counters.delivered - counters.duplicated;
        prop_assert_eq!(200, once + counters.lost + counters.overflowed);
        prop_assert_eq!(link.next_deadline(), None);
    }
}
