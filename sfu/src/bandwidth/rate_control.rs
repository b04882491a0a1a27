//! The rate that the delay allows: additive and multiplicative increase, multiplicative decrease.
//!
//! In: what the delay says ([`Usage`]) and what the receiver gets. Out: the rate to send at
//! (gcc-02 section 5.5, and libwebrtc M125's `AimdRateControl`).

use std::time::{Duration, Instant};

use super::trendline::Usage;
use crate::units::{Bitrate, DataSize};

/// What is kept of the measured rate on overuse (gcc-02 section 5.5: beta).
const BACKOFF: f64 = 0.85;

/// Growth while the capacity is not known, a second (gcc-02 section 5.5: eta).
const GROWTH: f64 = 1.08;

/// The rate may exceed what the receiver gets by this factor and this much (gcc-02 section 5.5; the
/// addend is libwebrtc M125's, in `ChangeBitrate`): one that nobody has tried out proves nothing.
const MAX_LEAD: f64 = 1.5;
const MAX_LEAD_ADDEND: Bitrate = Bitrate::kbps(10);

/// Near the capacity, the rate grows by half a packet in the time it takes to notice overuse: a
/// round trip and this, and not slower than the least (gcc-02 section 5.5; libwebrtc M125:
/// `GetNearMaxIncreaseRateBpsPerSecond`).
const REACTION: Duration = Duration::from_millis(100);
const MIN_ADDITIVE: Bitrate = Bitrate::kbps(4);
const PACKET: DataSize = DataSize::bytes(1200);
const FRAME: Duration = Duration::from_nanos(33_333_333);

/// Beside a flow that fills the queue, growth in packets a round trip and round trip, and what is
/// kept when packets are lost: TCP Cubic's, where it is friendly to Reno (RFC 9438 section 4.3).
const COMPETING_GROWTH: f64 = 0.53;
const COMPETING_BACKOFF: f64 = 0.7;

/// Least and longest time between two decreases, else the round trip (libwebrtc M125:
/// `TimeToReduceFurther`).
const MIN_DECREASE_INTERVAL: Duration = Duration::from_millis(10);
const MAX_DECREASE_INTERVAL: Duration = Duration::from_millis(200);

/// What the round trip is taken for until it is known (libwebrtc M125: `kDefaultRtt`).
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(200);

/// Weight of each overuse in the estimate of the capacity, and how many deviations from it a rate
/// may be until it is forgotten (gcc-02 section 5.5: smoothed by 0.95, three standard deviations).
const CAPACITY_WEIGHT: f64 = 0.05;
const CAPACITY_DEVIATIONS: f64 = 3.0;

/// Bounds of its variance, relative to the capacity in kbit/s (libwebrtc M125:
/// `LinkCapacityEstimator::Update`).
const MIN_VARIANCE: f64 = 0.4;
const MAX_VARIANCE: f64 = 2.5;

/// The control of one connection.
#[derive(Debug)]
pub(crate) struct RateControl {
    current: Bitrate,
    floor: Bitrate,
    /// After a decrease, until the delay is normal again.
    holds: bool,
    capacity: Option<Capacity>,
    throughput: Option<Bitrate>,
    changed: Option<Instant>,
    /// When packets were lost beside another flow.
    backed_off: Option<Instant>,
    round_trip: Duration,
}

impl RateControl {
    /// Begins at a rate, and never goes below a floor.
    #[must_use]
    pub(crate) fn new(start: Bitrate, floor: Bitrate) -> Self {
        RateControl {
            current: start.max(floor),
            floor,
            holds: false,
            capacity: None,
            throughput: None,
            changed: None,
            backed_off: None,
            round_trip: DEFAULT_ROUND_TRIP,
        }
    }

    #[must_use]
    pub(crate) fn rate(&self) -> Bitrate {
        self.current
    }

    /// Notes a round trip.
    pub(crate) fn handle_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// Takes over a rate that a probe has measured.
    pub(crate) fn set_rate(&mut self, now: Instant, rate: Bitrate) {
        self.current = rate.max(self.floor);
        self.changed = Some(now);
    }

    /// Goes on with what feedback says. `throughput` is what the receiver gets; on overuse, in the
    /// last moments. Says whether the rate was reduced.
    pub(crate) fn handle_feedback(
        &mut self,
        now: Instant,
        usage: Usage,
        throughput: Option<Bitrate>,
    ) -> bool {
        self.throughput = throughput.or(self.throughput);
        match usage {
            Usage::Over => self.decrease(now),
            // The queue that empties is to be empty before there is more.
            Usage::Under => {
                self.holds = true;
                false
            }
            Usage::Normal if self.holds => {
                self.holds = false;
                self.changed = Some(now);
                false
            }
            Usage::Normal => {
                self.increase(now);
                false
            }
        }
    }

    /// The same while the queue is another flow's: then it is no use to give way to the delay.
    pub(crate) fn handle_competition(
        &mut self,
        now: Instant,
        has_lost: bool,
        throughput: Option<Bitrate>,
    ) {
        self.throughput = throughput.or(self.throughput);
        // Near enough to divide by.
        let round_trip = self.round_trip.max(MIN_DECREASE_INTERVAL);
        let since = |at: Instant| now.saturating_duration_since(at);
        let since_change = since(*self.changed.get_or_insert(now));
        if has_lost {
            if self.backed_off.is_none_or(|at| since(at) >= round_trip) {
                self.current = self.current.scale(COMPETING_BACKOFF).max(self.floor);
                self.backed_off = Some(now);
            }
            self.changed = Some(now);
            return;
        }
        self.changed = Some(now);
        let Some(throughput) = self.throughput else {
            return;
        };
        let limit = throughput.scale(MAX_LEAD) + MAX_LEAD_ADDEND;
        let round_trips = since_change.as_secs_f64().min(1.0) / round_trip.as_secs_f64();
        let more = PACKET
            .over(round_trip)
            .scale(COMPETING_GROWTH * round_trips);
        if self.current < limit {
            self.current = (self.current + more).min(limit);
        }
    }

    fn increase(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.changed.replace(now).unwrap_or(now));
        let since = since.as_secs_f64().min(1.0);
        let Some(throughput) = self.throughput else {
            return;
        };
        if self
            .capacity
            .is_some_and(|capacity| capacity.is_below(throughput))
        {
            self.capacity = None;
        }
        let limit = throughput.scale(MAX_LEAD) + MAX_LEAD_ADDEND;
        // What a probe has shown stays.
        if self.current >= limit {
            return;
        }
        let more = match self.capacity {
            Some(_) => self.additive_growth().scale(since),
            None => self.current.scale(GROWTH.powf(since) - 1.0),
        };
        self.current = (self.current + more).min(limit);
    }

    /// Growth a second.
    fn additive_growth(&self) -> Bitrate {
        let frame = self.current.during(FRAME).as_bytes().max(1);
        let packets = frame.div_ceil(PACKET.as_bytes());
        let packet = DataSize::bytes(frame / packets);
        packet
            .over((self.round_trip + REACTION) * 2)
            .max(MIN_ADDITIVE)
    }

    fn decrease(&mut self, now: Instant) -> bool {
        let Some(throughput) = self.throughput else {
            return self.decrease_blindly(now);
        };
        let again = now.saturating_duration_since(self.changed.unwrap_or(now));
        let interval = self
            .round_trip
            .clamp(MIN_DECREASE_INTERVAL, MAX_DECREASE_INTERVAL);
        let is_due = self.changed.is_none() || again >= interval || !self.holds;
        if !is_due && throughput > self.current.scale(0.5) {
            return false;
        }
        let mut reduced = throughput.scale(BACKOFF);
        if reduced > self.current
            && let Some(capacity) = self.capacity
        {
            reduced = capacity.estimate().scale(BACKOFF);
        }
        if self
            .capacity
            .is_some_and(|capacity| capacity.is_above(throughput))
        {
            self.capacity = None;
        }
        self.capacity = Some(Capacity::updated(self.capacity, throughput));
        self.holds = true;
        self.changed = Some(now);
        let before = self.current;
        self.current = reduced.min(before).max(self.floor);
        self.current < before
    }

    /// Before anything has been measured: by half, every longest interval.
    fn decrease_blindly(&mut self, now: Instant) -> bool {
        let is_due = self
            .changed
            .is_none_or(|at| now.saturating_duration_since(at) >= MAX_DECREASE_INTERVAL);
        if !is_due {
            return false;
        }
        self.changed = Some(now);
        self.holds = true;
        self.current = self.current.scale(0.5).max(self.floor);
        true
    }
}

/// What the link carried when it was overused, in kbit/s.
#[derive(Clone, Copy, Debug)]
struct Capacity {
    mean: f64,
    variance: f64,
}

impl Capacity {
    fn updated(before: Option<Capacity>, throughput: Bitrate) -> Capacity {
        let sample = throughput.as_f64() / 1000.0;
        let Some(Capacity { mean, variance }) = before else {
            return Capacity {
                mean: sample,
                variance: MIN_VARIANCE,
            };
        };
        let mean = mean + CAPACITY_WEIGHT * (sample - mean);
        let error = (mean - sample).powi(2) / mean.max(1.0);
        let variance = variance + CAPACITY_WEIGHT * (error - variance);
        Capacity {
            mean,
            variance: variance.clamp(MIN_VARIANCE, MAX_VARIANCE),
        }
    }

    fn estimate(self) -> Bitrate {
        Bitrate::kbps(1).scale(self.mean)
    }

    fn deviation(self) -> f64 {
        CAPACITY_DEVIATIONS * (self.variance * self.mean).sqrt()
    }

    fn is_below(self, throughput: Bitrate) -> bool {
        throughput.as_f64() / 1000.0 > self.mean + self.deviation()
    }

    fn is_above(self, throughput: Bitrate) -> bool {
        throughput.as_f64() / 1000.0 < self.mean - self.deviation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const FLOOR: Bitrate = Bitrate::kbps(30);

    fn control(kbps: u64) -> RateControl {
        let mut control = RateControl::new(Bitrate::kbps(kbps), FLOOR);
        control.handle_round_trip(100 * MS);
        control
    }

    /// Feedback every 100 ms for some seconds, in which the receiver gets all that is sent. Returns
    /// the end.
    fn grow(control: &mut RateControl, mut now: Instant, seconds: u32) -> Instant {
        for _ in 0..seconds * 10 {
            now += 100 * MS;
            control.handle_feedback(now, Usage::Normal, Some(control.rate()));
        }
        now
    }

    #[test]
    fn without_overuse_it_grows_by_eight_percent_a_second() {
        let mut control = control(1000);
        let now = grow(&mut control, Instant::now(), 1);
        let before = control.rate();
        grow(&mut control, now, 10);
        let factor = control.rate().ratio(before);
        assert!((2.1..2.2).contains(&factor), "{factor}");
    }

    #[test]
    fn overuse_takes_it_below_what_the_receiver_gets_and_then_it_grows_slowly() {
        let mut control = control(3000);
        let now = Instant::now();
        let overuse = |control: &mut RateControl, now| {
            control.handle_feedback(now, Usage::Over, Some(Bitrate::kbps(1000)))
        };
        assert!(overuse(&mut control, now));
        assert_eq!(control.rate(), Bitrate::kbps(850));
        assert!(!overuse(&mut control, now + 50 * MS), "once a round trip");
        control.handle_feedback(now + 100 * MS, Usage::Under, Some(Bitrate::kbps(1000)));
        grow(&mut control, now + 100 * MS, 1);
        let grown = control.rate().as_bps() - 850_000;
        assert!((10_000..30_000).contains(&grown), "{grown}");
    }

    #[test]
    fn a_capacity_that_has_grown_is_found_fast() {
        let mut control = control(1000);
        let now = Instant::now();
        control.handle_feedback(now, Usage::Over, Some(Bitrate::kbps(500)));
        control.set_rate(now, Bitrate::kbps(2000));
        let now = grow(&mut control, now, 1);
        grow(&mut control, now, 5);
        assert!(control.rate() > Bitrate::kbps(2700), "{}", control.rate());
    }

    #[test]
    fn what_is_not_used_is_not_grown_but_what_a_probe_has_shown_stays() {
        let mut control = control(1000);
        let mut now = Instant::now();
        for _ in 0..100 {
            now += 100 * MS;
            control.handle_feedback(now, Usage::Normal, Some(Bitrate::kbps(500)));
        }
        assert!(control.rate() <= Bitrate::kbps(1000));
        control.set_rate(now, Bitrate::kbps(4000));
        control.handle_feedback(now + 100 * MS, Usage::Normal, Some(Bitrate::kbps(500)));
        assert_eq!(control.rate(), Bitrate::kbps(4000));
    }

    #[test]
    fn beside_another_flow_it_behaves_like_that() {
        let mut control = control(1000);
        let mut now = Instant::now();
        for n in 0..101 {
            now += 100 * MS;
            control.handle_competition(now, n == 50 || n == 51, Some(control.rate()));
        }
        // Half a packet more in each of fifty round trips, then 70 % of it, and so on again.
        let packet = 96.0 * COMPETING_GROWTH;
        let expected = (1000.0 + 49.0 * packet) * 0.7 * 0.7 + 49.0 * packet;
        let error = control.rate().as_f64() / 1000.0 - expected;
        assert!(error.abs() < 100.0, "{} {expected}", control.rate());
    }

    #[test]
    fn overuse_before_anything_is_measured_halves_it() {
        let mut control = control(1000);
        let now = Instant::now();
        for ms in [0, 100, 200, 300] {
            control.handle_feedback(now + MS * ms, Usage::Over, None);
        }
        assert_eq!(control.rate(), Bitrate::kbps(250));
    }

    proptest! {
        #[test]
        fn it_stays_above_the_floor_and_within_reach(steps in prop::collection::vec((0u8..3, prop::option::of(any::<u64>()), 0u64..1 << 34), 1..100)) {
            let mut control = control(300);
            let mut now = Instant::now();
            for (usage, throughput, ms) in steps {
                now += Duration::from_millis(ms);
                let usage = [Usage::Under, Usage::Normal, Usage::Over][usize::from(usage)];
                let before = control.rate();
                control.handle_feedback(now, usage, throughput.map(Bitrate::bps));
                prop_assert!(control.rate() >= FLOOR);
                prop_assert!(control.rate() <= before.scale(1.09) + Bitrate::kbps(1000));
            }
        }
    }
}
