//! Which of a publisher's losses are the link's own, and which are congestion.
//!
//! A browser that is told of thirty percent loss sends a video that nobody wants to see, however
//! much the link could carry. Loss that comes with an empty queue, and that has been there for a
//! while, does not go away when less is sent; we repair it instead.
//!
//! In: for every feedback interval, what was sent and lost, and how far the packets that came had
//! been held up. Out: how many of the lost packets the sender need not be told of.

use std::time::{Duration, Instant};

use crate::rtp::extension::{ABS_SEND_TIME_TICKS, unwrap_abs_send_time};

/// A queue that holds packets up for less is taken for empty. Above the jitter of an idle link, and
/// in the range in which the threshold for overuse moves (6 to 600 ms, gcc-02 section 5.4).
const EMPTY_QUEUE: Duration = Duration::from_millis(30);

/// Over how long the least delay is the delay of an empty queue: the route does not change often,
/// and at 100 ppm two clocks drift apart by 6 ms in two windows.
const BASE_WINDOW: Duration = Duration::from_secs(30);

/// Over how many packets the usual loss is averaged: some seconds of a call.
const AVERAGED_PACKETS: f64 = 400.0;

/// From how many packets on something is known.
const KNOWN_FROM: f64 = 50.0;

/// How much more than usual may be lost in one interval and still be the link's: loss comes in
/// clumps.
const HEADROOM: f64 = 1.5;

/// Above this share a link is not to be used at full rate, whatever the reason.
const MAX_SHARE: f64 = 0.5;

/// From this share of usual loss on a link counts as one that loses packets by itself.
pub(super) const LOSSY_FROM: f64 = 0.02;

/// Most packets that may be forgiven at once: a burst, not an outage.
const MAX_CREDIT: f64 = 50.0;

/// What is known of the path from one publisher.
#[derive(Debug, Default)]
pub(super) struct LinkLoss {
    delay: QueueingDelay,
    /// The least queueing delay since the last interval.
    least: Option<Duration>,
    /// The share of packets usually lost while the queue is empty.
    usual: f64,
    averaged: f64,
    credit: f64,
    /// There was a queue in the last interval.
    is_congested: bool,
}

impl LinkLoss {
    /// Notes when a packet was sent, by the sender's clock, and arrived.
    pub(super) fn handle_packet(&mut self, now: Instant, send_time: u32) {
        let queueing = self.delay.handle_packet(now, send_time);
        self.least = Some(self.least.map_or(queueing, |least| least.min(queueing)));
    }

    /// The share of packets that is usually lost while there is no queue.
    pub(super) fn usual(&self) -> f64 {
        self.usual
    }

    /// Whether packets are usually lost without a queue.
    pub(super) fn is_lossy(&self) -> bool {
        self.usual >= LOSSY_FROM
    }

    /// Whether too little is known yet to say so.
    pub(super) fn is_new(&self) -> bool {
        self.averaged < KNOWN_FROM
    }

    /// Whether packets were held up lately.
    pub(super) fn is_congested(&self) -> bool {
        self.is_congested
    }

    /// How many of the packets lost in an interval are the link's loss.
    pub(super) fn forgive(&mut self, sent: usize, lost: usize) -> usize {
        // Without send times nothing is known of the queue.
        let Some(least) = self.least.take() else {
            return 0;
        };
        self.is_congested = least > EMPTY_QUEUE;
        if self.is_congested || sent == 0 {
            self.credit = 0.0;
            return 0;
        }
        let is_new = self.is_new();
        let (sent, lost_share) = (sent as f64, lost as f64 / sent as f64);
        self.averaged = (self.averaged + sent).min(AVERAGED_PACKETS);
        self.usual += (lost_share - self.usual) * (sent / self.averaged).min(1.0);
        let share = (self.usual * HEADROOM).min(MAX_SHARE);
        self.credit = (self.credit + sent * share).min(MAX_CREDIT);
        // Nothing is known yet, and who begins small stays small for long.
        if is_new {
            self.credit = (self.credit - lost as f64).max(0.0);
            return lost;
        }
        let forgiven = lost.min(self.credit as usize);
        self.credit -= forgiven as f64;
        forgiven
    }
}

/// How much longer than the quickest a packet takes.
#[derive(Debug, Default)]
struct QueueingDelay {
    /// The first packet: when it arrived, and the last send time, unwrapped.
    origin: Option<(Instant, u64)>,
    /// Least transit in this window and in the one before, microseconds from the origin's.
    least: [Option<i64>; 2],
    window_ends: Option<Instant>,
}

impl QueueingDelay {
    fn handle_packet(&mut self, now: Instant, send_time: u32) -> Duration {
        let (arrived, last) = *self.origin.get_or_insert((now, u64::from(send_time)));
        let sent = unwrap_abs_send_time(last, send_time);
        self.origin = Some((arrived, last.max(sent)));
        let since = now.saturating_duration_since(arrived).as_micros() as i64;
        let transit = since - (sent as i64).wrapping_mul(1_000_000) / ABS_SEND_TIME_TICKS as i64;
        if self.window_ends.is_none_or(|end| now >= end) {
            self.window_ends = Some(now + BASE_WINDOW);
            self.least = [None, self.least[0]];
        }
        self.least[0] = Some(self.least[0].map_or(transit, |least| least.min(transit)));
        let base = self.least.iter().flatten().min().copied();
        Duration::from_micros(transit.saturating_sub(base.unwrap_or(transit)).max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Intervals of a tenth of a second with 20 packets each, of which some are lost and the others
    /// held up. Returns the share of the lost ones that was forgiven in the second half.
    fn run(lost: impl Fn(usize) -> usize, held_up: impl Fn(usize) -> Duration) -> f64 {
        let start = Instant::now();
        let mut link = LinkLoss::default();
        let (mut all, mut forgiven) = (0, 0);
        for interval in 0..400 {
            let lost = lost(interval);
            for packet in lost..20 {
                let sent = 100 * MS * interval as u32 + 5 * MS * packet as u32;
                let ticks = sent.as_micros() as u64 * ABS_SEND_TIME_TICKS / 1_000_000;
                // The sender's clock started at another time, and wraps on the way.
                let send_time = (ticks + 0xff_0000) as u32 & 0xff_ffff;
                link.handle_packet(start + sent + 50 * MS + held_up(interval), send_time);
            }
            let now = link.forgive(20, lost);
            if interval >= 200 {
                all += lost;
                forgiven += now;
            }
        }
        forgiven as f64 / all as f64
    }

    #[test]
    fn loss_that_is_always_there_is_the_links() {
        let jitter = |interval| MS * (interval as u32 % 5);
        assert!(run(|n| [6, 4, 8][n % 3], jitter) > 0.98);
        // In bursts, with nothing in between.
        assert!(run(|n| if n % 4 == 0 { 8 } else { 0 }, jitter) > 0.9);
    }

    #[test]
    fn loss_that_comes_with_a_queue_is_congestion() {
        let filling = |n: usize| if n < 100 { Duration::ZERO } else { 80 * MS };
        assert!(run(|n| if n < 100 { 0 } else { 4 }, filling) < 0.01);
    }

    #[test]
    fn more_loss_than_usual_is_told_until_it_is_usual() {
        let jump = |n: usize| if n < 200 { 0 } else { usize::from(n < 203) * 8 };
        assert!(run(jump, |_| Duration::ZERO) < 0.7);
    }

    #[test]
    fn a_link_that_loses_most_is_told_of() {
        assert!(run(|_| 16, |_| Duration::ZERO) < 0.7);
    }

    #[test]
    fn the_first_losses_are_the_links_whatever_their_share() {
        let start = Instant::now();
        let mut link = LinkLoss::default();
        let mut interval = |number: u32, lost: usize| {
            for packet in 0..10 - lost as u32 {
                let sent = 100 * MS * number + 5 * MS * packet;
                let ticks = sent.as_micros() as u64 * ABS_SEND_TIME_TICKS / 1_000_000;
                link.handle_packet(start + sent + 50 * MS, ticks as u32 & 0xff_ffff);
            }
            link.forgive(10, lost)
        };
        assert_eq!(interval(0, 9), 9);
        assert_eq!(interval(1, 0), 0);
        assert_eq!(interval(2, 8), 8);
        for number in 3..10 {
            interval(number, 0);
        }
        let forgiven: usize = (10..20).map(|number| interval(number, 9)).sum();
        assert!(forgiven < 85, "by now it is known: {forgiven}");
    }

    #[test]
    fn without_send_times_everything_is_told() {
        assert_eq!(LinkLoss::default().forgive(20, 10), 0);
    }
}
