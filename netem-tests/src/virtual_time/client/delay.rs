//! How long audio waits before it is played: the rules of libwebrtc's `DelayManager`.
//!
//! In: when each packet came and when it was recorded. Out: the target for the level of the jitter
//! buffer. Two histograms decide: one of the worst delay of every half second, of which a high
//! percentile is waited for, and one of packets that others have overtaken, retransmissions among
//! them, for which waiting is weighed against losing them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The width of a histogram's bucket: a packet of Opus.
const BUCKET: Duration = Duration::from_millis(20);

/// Buckets: 2 s.
const BUCKETS: usize = 100;

/// The target before anything is known.
const START: Duration = Duration::from_millis(80);

/// Delays are relative to the fastest packet of this time.
const HISTORY: Duration = Duration::from_secs(2);

/// The time of which the worst delay counts.
const RESAMPLE: Duration = Duration::from_millis(500);

/// The share of half seconds in which nothing may come too late.
const QUANTILE: f64 = 0.95;

/// How slowly the delays of half seconds are forgotten, and how much the first ones weigh.
const DELAY_FORGET: (f64, f64) = (0.983, 2.0);

/// The same for reordered packets.
const REORDER_FORGET: (f64, f64) = (0.9993, 1.0);

/// Milliseconds of delay that are worth one percent of packets.
const MS_PER_LOSS_PERCENT: f64 = 20.0;

#[derive(Debug)]
struct Histogram {
    shares: [f64; BUCKETS],
    forget: (f64, f64),
    values: u32,
}

impl Histogram {
    fn new(forget: (f64, f64)) -> Self {
        Histogram {
            shares: [0.0; BUCKETS],
            forget,
            values: 0,
        }
    }

    fn add(&mut self, bucket: usize) {
        self.values += 1;
        let (limit, start) = self.forget;
        let keep = limit.min((1.0 - start / f64::from(self.values + 1)).max(0.0));
        self.shares.iter_mut().for_each(|share| *share *= keep);
        self.shares[bucket.min(BUCKETS - 1)] += 1.0 - keep;
    }

    /// The bucket up to which this share of all lies.
    fn quantile(&self, quantile: f64) -> usize {
        let total: f64 = self.shares.iter().sum();
        let mut sum = 0.0;
        let reached = self.shares.iter().position(|share| {
            sum += share;
            sum >= quantile * total
        });
        reached.unwrap_or(BUCKETS - 1)
    }

    /// The bucket that costs least, when waiting longer than `base` buckets costs time and waiting
    /// shorter costs packets.
    fn cheapest(&self, base: usize) -> usize {
        let mut late: f64 = self.shares.iter().sum();
        let mut best = (f64::INFINITY, 0);
        for (bucket, share) in self.shares.iter().enumerate() {
            late -= share;
            let wait = bucket.saturating_sub(base) as f64 * BUCKET.as_millis() as f64;
            let cost = wait + 100.0 * MS_PER_LOSS_PERCENT * late.max(0.0);
            if cost < best.0 {
                best = (cost, bucket);
            }
        }
        best.1
    }
}

fn bucket(delay: Duration) -> usize {
    (delay.as_micros() / BUCKET.as_micros()) as usize
}

/// The target of one jitter buffer.
#[derive(Debug)]
pub struct DelayTarget {
    epoch: Option<Instant>,
    /// Each arrival, and how much later it was than its recording, in microseconds and up to a
    /// constant.
    history: VecDeque<(Instant, i64)>,
    newest: Option<u64>,
    delays: Histogram,
    reorderings: Histogram,
    /// The half second that is under way: since when, and its worst delay.
    interval: Option<(Instant, Duration)>,
    target: Duration,
}

impl Default for DelayTarget {
    fn default() -> Self {
        DelayTarget {
            epoch: None,
            history: VecDeque::new(),
            newest: None,
            delays: Histogram::new(DELAY_FORGET),
            reorderings: Histogram::new(REORDER_FORGET),
            interval: None,
            target: START,
        }
    }
}

impl DelayTarget {
    /// Takes the arrival of a packet whose first sample has this number, at this many samples a
    /// second.
    pub fn handle_packet(&mut self, now: Instant, sample: u64, clock_rate: u32) {
        let epoch = *self.epoch.get_or_insert(now);
        let recorded = sample * 1_000_000 / u64::from(clock_rate);
        let offset = (now - epoch).as_micros() as i64 - recorded as i64;
        let is_reordered = self.newest.is_some_and(|newest| sample < newest);
        self.newest = self.newest.max(Some(sample));
        self.history.push_back((now, offset));
        while self.history.front().is_some_and(|h| h.0 + HISTORY < now) {
            self.history.pop_front();
        }
        let fastest = self.history.iter().map(|h| h.1).min().unwrap_or(offset);
        let delay = Duration::from_micros((offset - fastest).unsigned_abs());

        if !is_reordered {
            self.note_delay(now, delay);
        }
        if self.delays.values > 0 {
            self.target = BUCKET * (1 + self.delays.quantile(QUANTILE) as u32);
        }
        let late = if is_reordered { bucket(delay) } else { 0 };
        self.reorderings.add(late);
        let worth = self.reorderings.cheapest(bucket(self.target));
        self.target = self.target.max(BUCKET * (1 + worth as u32));
    }

    fn note_delay(&mut self, now: Instant, delay: Duration) {
        let (since, worst) = self.interval.get_or_insert((now, delay));
        if now >= *since + RESAMPLE {
            self.delays.add(bucket(*worst));
            self.interval = Some((now, delay));
        } else {
            *worst = delay.max(*worst);
        }
    }

    /// What the buffer should hold.
    #[must_use]
    pub fn get(&self) -> Duration {
        self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(delay_ms: impl Fn(u64) -> u64) -> Duration {
        let start = Instant::now();
        let mut target = DelayTarget::default();
        let mut arrivals: Vec<(u64, u64)> = (0..1500).map(|n| (20 * n + delay_ms(n), n)).collect();
        arrivals.sort_unstable();
        for (ms, n) in arrivals {
            target.handle_packet(start + Duration::from_millis(ms), n * 960, 48_000);
        }
        target.get()
    }

    #[test]
    fn the_target_follows_the_delays() {
        type Case = (&'static str, fn(u64) -> u64, u64);
        let cases: [Case; 5] = [
            ("on time", |_| 0, 20),
            ("15 ms of jitter", |n| n % 2 * 15, 20),
            ("80 ms once in half a second", |n| (n % 20 / 18) * 80, 100),
            ("one of ten is overtaken", |n| (n % 10 / 9) * 110, 120),
            // A percent of packets is worth 20 ms.
            (
                "one of twenty is overtaken by far",
                |n| (n % 20 / 19) * 200,
                20,
            ),
        ];
        for (what, delay, expected) in cases {
            assert_eq!(target_of(delay), Duration::from_millis(expected), "{what}");
        }
    }
}
