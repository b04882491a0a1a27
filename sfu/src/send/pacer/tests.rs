use super::PacketKind::{Audio, Fec, Padding, Retransmission, Video};
use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const PACKET: DataSize = DataSize::bytes(1250);

/// Polls whenever it is due until a time; returns what left, with the milliseconds.
fn run<T>(pacer: &mut Pacer<T>, start: Instant, until: Duration) -> Vec<(u128, Departure<T>)> {
    let mut left = Vec::new();
    let mut now = start;
    while let Some(due) = pacer.next_deadline() {
        now = now.max(due);
        if now > start + until {
            break;
        }
        let before = left.len();
        while let Some(departure) = pacer.poll(now) {
            left.push(((now - start).as_millis(), departure));
        }
        // A timer that rounds down would spin.
        if left.len() == before {
            now += Duration::from_micros(100);
        }
    }
    left
}

fn items<T: Copy>(left: &[(u128, Departure<T>)]) -> Vec<T> {
    let items = left.iter().filter_map(|(_, departure)| match departure {
        Departure::Packet { item, .. } => Some(*item),
        Departure::Filler { .. } => None,
    });
    items.collect()
}

#[test]
fn packets_are_spread_over_time_in_small_bursts() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Bitrate::kbps(2000));
    pacer.allowance = DataSize::ZERO;
    for n in 0..20 {
        pacer.handle_packet(start, n, PACKET, Video);
    }
    let left = run(&mut pacer, start, 1000 * MS);
    // Five milliseconds each: one at 0, one at 5, and so on.
    let times: Vec<u128> = left.iter().map(|(at, _)| *at).collect();
    assert!(
        times.iter().zip(0..).all(|(at, n)| at.abs_diff(5 * n) <= 1),
        "{times:?}"
    );
    assert_eq!(items(&left), (0..20).collect::<Vec<_>>());
    assert_eq!(
        (pacer.queued(), pacer.next_deadline()),
        (DataSize::ZERO, None)
    );
}

#[test]
fn the_important_leaves_first_and_sound_does_not_wait() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Bitrate::kbps(1000));
    pacer.allowance = DataSize::ZERO;
    for kind in [Padding, Fec, Video, Retransmission, Audio, Video, Audio] {
        pacer.handle_packet(start, kind, PACKET, kind);
    }
    let left = run(&mut pacer, start, 400 * MS);
    assert_eq!(
        items(&left),
        [Audio, Audio, Retransmission, Video, Video, Fec, Padding]
    );
    assert!(left[1].0 == 0 && left[2].0 >= 19, "{left:?}");
}

#[test]
fn a_long_queue_drains_in_bounded_time() {
    for kbps in [1, 30, 300, 3000] {
        let start = Instant::now();
        let mut pacer = Pacer::new(Bitrate::kbps(kbps));
        for n in 0..200 {
            pacer.handle_packet(start, n, PACKET, Video);
        }
        let left = run(&mut pacer, start, 10_000 * MS);
        assert_eq!(left.len(), 200);
        let last = left.last().map_or(0, |(at, _)| *at);
        assert!(last <= 2 * MAX_QUEUE_TIME.as_millis(), "{kbps}: {last}");
    }
}

#[test]
fn without_room_the_oldest_of_the_least_important_goes() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Bitrate::kbps(100));
    pacer.handle_packet(start, 0, PACKET, Fec);
    pacer.handle_packet(start, 1, PACKET, Audio);
    let most = MAX_QUEUE.as_bytes() / PACKET.as_bytes();
    for n in 2..=most {
        pacer.handle_packet(start, n, PACKET, Video);
    }
    pacer.handle_packet(start, most + 1, PACKET, Video);
    let dropped: Vec<u64> = std::iter::from_fn(|| pacer.poll_dropped()).collect();
    assert_eq!(dropped, [0, 2]);
    assert!(pacer.queued() <= MAX_QUEUE);
}

#[test]
fn stale_repair_is_dropped() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Bitrate::kbps(100));
    pacer.handle_packet(start, 1, PACKET, Fec);
    assert_eq!(pacer.poll(start + STALE + MS), None);
    assert_eq!(pacer.poll_dropped(), Some(1));
}

fn probe(kbps: u64) -> ProbeCluster {
    let rate = Bitrate::kbps(kbps);
    ProbeCluster {
        id: ClusterId(3),
        rate,
        size: rate.during(15 * MS),
        packets: 5,
    }
}

#[test]
fn a_probe_leaves_at_its_rate_media_first_and_then_fillers() {
    for (kbps, packets) in [(8000, 3), (8000, 0), (600, 1), (50_000, 100)] {
        let start = Instant::now();
        let mut pacer = Pacer::new(Bitrate::kbps(1000));
        for n in 0..packets {
            pacer.handle_packet(start, n, PACKET, Video);
        }
        pacer.handle_probe(start, probe(kbps));
        let left = run(&mut pacer, start, 400 * MS);
        let cluster = |departure: &Departure<u32>| match departure {
            Departure::Packet { cluster, .. } => cluster.map(|_| PACKET),
            Departure::Filler { size, .. } => Some(*size),
        };
        let burst: Vec<_> = left
            .iter()
            .filter_map(|(at, departure)| Some((*at, cluster(departure)?)))
            .collect();
        let size: DataSize = burst.iter().map(|(_, size)| *size).sum();
        assert!(burst.len() >= 5 && size >= probe(kbps).size, "{burst:?}");
        assert!(size <= probe(kbps).size + DataSize::bytes(6250), "{size}");
        let took = burst.last().map_or(0, |(at, _)| *at);
        let expected = size.time_at(Bitrate::kbps(kbps)).as_millis();
        assert!(
            took <= expected && took + 20 >= expected,
            "{took} {expected}"
        );
    }
}

#[test]
fn a_probe_that_gets_nothing_ends() {
    let start = Instant::now();
    let mut pacer = Pacer::<u32>::new(Bitrate::kbps(1000));
    let slow = ProbeCluster {
        rate: Bitrate::bps(1),
        ..probe(1000)
    };
    pacer.handle_probe(start, slow);
    assert!(pacer.poll(start).is_some());
    assert_eq!(pacer.poll(start + PROBE_TIMEOUT), None);
    assert_eq!(pacer.next_deadline(), None);
}

#[test]
fn the_first_flight_leaves_at_once() {
    let start = Instant::now();
    let mut pacer = Pacer::<u32>::new(Bitrate::kbps(300));
    let left = (0..20)
        .filter(|_| pacer.admit(start, PACKET, Video))
        .count();
    assert_eq!(left, 12, "14,600 bytes, and the packet that goes beyond");
    assert!(pacer.admit(start, PACKET, Audio));
}

#[test]
fn fillers_that_are_smaller_are_made_up_for() {
    let start = Instant::now();
    let mut pacer = Pacer::<u32>::new(Bitrate::kbps(1000));
    pacer.handle_probe(start, probe(8000));
    let mut sent = DataSize::ZERO;
    let mut now = start;
    while let Some(due) = pacer.next_deadline() {
        now = now.max(due);
        while let Some(departure) = pacer.poll(now) {
            let Departure::Filler { size, .. } = departure else {
                panic!("nothing was queued")
            };
            let actual = DataSize::bytes(300);
            pacer.handle_filler(size, Some(actual));
            sent += actual;
        }
        now += MS;
    }
    assert!(sent >= probe(8000).size, "{sent}");
    pacer.handle_probe(now, probe(8000));
    assert!(pacer.poll(now).is_some());
    pacer.handle_filler(DataSize::bytes(1200), None);
    assert_eq!(pacer.poll(now), None, "there is nothing to fill it with");
}

proptest! {
    /// Whatever is queued when, everything leaves or is dropped, and the counts add up.
    #[test]
    fn nothing_is_forgotten(
        steps in prop::collection::vec((0u64..50, 0usize..5, 1u64..3000, 1u64..10_000_000), 1..300)
    ) {
        let kinds = [Audio, Retransmission, Video, Fec, Padding];
        let start = Instant::now();
        let mut now = start;
        let mut pacer = Pacer::new(Bitrate::kbps(100));
        let mut out = 0;
        for (n, (ms, kind, size, rate)) in steps.iter().enumerate() {
            now += MS * *ms as u32;
            pacer.set_rate(now, Bitrate::bps(*rate));
            pacer.handle_packet(now, n, DataSize::bytes(*size), kinds[*kind]);
            out += std::iter::from_fn(|| pacer.poll(now)).count();
            out += std::iter::from_fn(|| pacer.poll_dropped()).count();
            prop_assert!(pacer.queued() <= MAX_QUEUE);
        }
        out += run(&mut pacer, now, 60_000 * MS).len();
        out += std::iter::from_fn(|| pacer.poll_dropped()).count();
        prop_assert_eq!(out, steps.len());
        prop_assert_eq!((pacer.queued(), pacer.packets, pacer.since), (DataSize::ZERO, 0, Duration::ZERO));
    }
}
