use super::super::sent::ClusterId;
use super::super::sent::tests::{picture, with_feedback};
use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn packet(at: Instant) -> SentPacket {
    picture(at, 1200)
}

#[test]
fn remb_is_obeyed_within_reason() {
    let start = Instant::now();
    let mut estimator = BandwidthEstimator::default();
    for (bitrate, estimate) in [(1, MIN), (1 << 60, MAX), (800_000, Bitrate::kbps(800))] {
        estimator.handle_remb(start, bitrate);
        assert_eq!(
            (estimator.estimate(), estimator.limit()),
            (estimate, Limit::Receiver)
        );
    }
}

#[test]
fn remb_lowers_what_feedback_says_for_a_while() {
    let start = Instant::now();
    let mut estimator = BandwidthEstimator::default();
    estimator.handle_sent(SequenceNumber(1), packet(start));
    with_feedback(1, &[(1, 20 * MS)], |feedback| {
        estimator.handle_feedback(start + 50 * MS, feedback);
    });
    estimator.handle_remb(start, 100_000);
    assert_eq!(estimator.estimate(), Bitrate::kbps(100));
    estimator.handle_remb(start, 10_000_000);
    assert_eq!(estimator.estimate(), START);
    estimator.handle_remb(start, 100_000);
    estimator.handle_timeout(start + REMB_LIFETIME, false);
    assert_eq!(estimator.estimate(), START);
}

#[test]
fn missing_feedback_halves_it_again_and_again() {
    let start = Instant::now();
    let mut estimator = BandwidthEstimator::default();
    estimator.handle_sent(SequenceNumber(1), packet(start));
    assert_eq!(estimator.next_deadline(), None, "it may not give any");
    with_feedback(1, &[(1, 20 * MS)], |feedback| {
        estimator.handle_feedback(start + 50 * MS, feedback);
    });
    assert_eq!(estimator.next_deadline(), None, "nothing is in flight");
    estimator.handle_sent(SequenceNumber(2), packet(start + 100 * MS));
    for share in [0.5, 0.25, 0.125] {
        let due = estimator.next_deadline();
        estimator.handle_timeout(due.unwrap_or(start), false);
        assert_eq!(estimator.estimate(), START.scale(share));
    }
}

/// Two packets arrive a second after each other, of whose numbers so many lie between, told as lost, and
/// feedback stays away meanwhile, perhaps with all else. What is left of the estimate then must be so much.
fn after_silence(missing: u16, is_silent: bool, left: Bitrate, now: Instant) -> BandwidthEstimator {
    let mut estimator = BandwidthEstimator::new(Bitrate::kbps(2000));
    for number in 1..=missing + 2 {
        let at = now + 1500 * MS * u32::from(number - 1) / u32::from(missing + 1);
        estimator.handle_sent(SequenceNumber(number.into()), packet(at));
        if number == 1 {
            with_feedback(1, &[(1, 20 * MS)], |feedback| {
                estimator.handle_feedback(now + 20 * MS, feedback);
            });
        }
        estimator.handle_timeout(at, is_silent);
    }
    assert_eq!(estimator.estimate(), left);
    let arrivals = [(1, 20 * MS), (missing + 2, 1520 * MS)];
    with_feedback(1, &arrivals, |feedback| {
        estimator.handle_feedback(now + 1540 * MS, feedback);
    });
    estimator
}

#[test]
fn after_an_outage_the_estimate_is_as_it_was() {
    let now = Instant::now();
    let [half, whole] = [1000, 2000].map(Bitrate::kbps);
    let mut estimator = after_silence(200, false, half, now);
    assert_eq!(estimator.estimate(), whole);
    assert_eq!(estimator.take_outage(), Some(now + 1500 * MS));
    assert_eq!(estimator.take_outage(), None);
    let estimator = after_silence(200, true, whole, now);
    assert_eq!(estimator.estimate(), whole);
    let mut estimator = after_silence(10, false, half, now);
    assert!(estimator.estimate() < Bitrate::kbps(1500));
    assert_eq!(estimator.take_outage(), None);
}

#[test]
fn after_a_pause_in_sending_feedback_is_waited_for_anew() {
    let start = Instant::now();
    let mut estimator = BandwidthEstimator::default();
    estimator.handle_sent(SequenceNumber(1), packet(start));
    with_feedback(1, &[(1, 20 * MS)], |feedback| {
        estimator.handle_feedback(start + 50 * MS, feedback);
    });
    let later = start + 10_000 * MS;
    estimator.handle_sent(SequenceNumber(2), packet(later));
    let due = estimator.next_deadline();
    assert!(due >= Some(later + FEEDBACK_TIMEOUT), "{due:?}");
}

#[test]
fn nothing_is_probed_for_that_nobody_wants() {
    let mut estimator = BandwidthEstimator::default();
    assert_eq!(estimator.poll_probe(Instant::now()), None);
}

proptest! {
    /// Hostile feedback, at any time, for any packets.
    #[test]
    fn whatever_is_told_the_estimate_stays_in_range(
        steps in prop::collection::vec(
            (0u32..2000, 0u8..20, any::<u16>(), prop::collection::vec((any::<u8>(), 0u64..1 << 36), 0..20), prop::option::of(any::<u64>())),
            1..60,
        )
    ) {
        let mut now = Instant::now();
        let mut estimator = BandwidthEstimator::default();
        estimator.set_wanted(Bitrate::MAX);
        let mut next = 65_500u64;
        for (ms, count, lie, arrivals, remb) in steps {
            now += MS * ms;
            for n in 0..count {
                let cluster = Some(ClusterId(n.into())).filter(|_| n % 3 == 0);
                estimator.handle_sent(SequenceNumber(next), SentPacket { cluster, ..packet(now) });
                next += 1;
            }
            let base = if lie % 4 == 0 { lie } else { (next as u16).wrapping_sub(lie % 64) };
            let mut at = base;
            let arrivals: Vec<_> = arrivals.into_iter().map(|(step, us)| {
                at = at.wrapping_add(u16::from(step % 8) + 1);
                (at, Duration::from_micros(us))
            }).collect();
            with_feedback(base, &arrivals, |feedback| estimator.handle_feedback(now, feedback));
            if let Some(remb) = remb {
                estimator.handle_remb(now, remb);
            }
            while estimator.poll_probe(now).is_some() {}
            estimator.handle_timeout(now, false);
            prop_assert!((MIN..=MAX).contains(&estimator.estimate()));
        }
    }
}
