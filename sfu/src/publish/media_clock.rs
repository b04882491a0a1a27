//! Which RTP timestamp of an encoding belongs to which time, for the sender reports of those who watch it.
//!
//! In: when its packets arrive, and the publisher's own reports, if it sends any. Out: the timestamp of
//! any time. The packet that was under way the shortest tells the time best; a publisher's reports tell
//! it better, and all of a publisher's streams by one clock. From the one to the other it goes in small
//! steps: a receiver that keeps audio and video together would jump as well.

use std::time::{Duration, Instant};

/// How long the packet counts that was under way the shortest: clocks of two machines drift apart by
/// less than a millisecond in it, and a burst of delay ends in it.
const WINDOW: Duration = Duration::from_secs(10);

/// How far the time moves towards what is known better, in seconds for each second. Receivers move audio
/// against video by 80 ms a second at most (libwebrtc's `kMaxChangeMs`).
const SLEW: f64 = 0.02;

/// From this disagreement on, in seconds, timestamps and time do not belong together any more: the
/// publisher was suspended, or has set its timestamps anew.
const MAX_JUMP: f64 = 3.0;

/// A publisher's reports and the arrival of its packets disagree by no more than this, in seconds, or
/// the reports are not believed. Encoders and queues of publishers stay below it.
const MAX_MISALIGNED: f64 = 5.0;

/// How long reports and packets count: without new ones the publisher may have stopped its clock.
const MAX_AGE: Duration = Duration::from_secs(30);

/// The clock of one encoding.
#[derive(Debug, Default)]
pub(crate) struct MediaClock {
    running: Option<Running>,
    /// What the publisher's last report says.
    reported: Option<Reported>,
}

#[derive(Clone, Copy, Debug)]
struct Reported {
    at: Instant,
    timestamp: u64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    epoch: u32,
    /// Hz.
    rate: u32,
    origin: Instant,
    timestamp: u64,
    last: Instant,
    /// The least delay of this window and of the one before, in seconds more than that of the first
    /// packet.
    least: [f64; 2],
    window_ends: Instant,
    /// The delay that the reports go by.
    delay: f64,
}

/// Seconds from one time to another; below zero when it is earlier.
fn seconds(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(later) => later.as_secs_f64(),
        None => -from.saturating_duration_since(to).as_secs_f64(),
    }
}

impl Running {
    fn new(epoch: u32, rate: u32, now: Instant, timestamp: u64) -> Self {
        Running {
            epoch,
            rate,
            origin: now,
            timestamp,
            last: now,
            least: [0.0; 2],
            window_ends: now + WINDOW,
            delay: 0.0,
        }
    }

    /// How much longer something with a timestamp has been under way at a time than the first packet.
    fn delay_at(&self, at: Instant, timestamp: u64) -> f64 {
        let ticks = timestamp.wrapping_sub(self.timestamp) as i64;
        seconds(self.origin, at) - ticks as f64 / f64::from(self.rate)
    }

    fn by_arrival(&self) -> f64 {
        self.least[0].min(self.least[1])
    }

    /// The delay that is known best.
    fn target(&self, now: Instant, reported: Option<Reported>) -> f64 {
        let by_arrival = self.by_arrival();
        let reported =
            reported.filter(|reported| now.saturating_duration_since(reported.at) <= MAX_AGE);
        let reported = reported.map(|reported| self.delay_at(reported.at, reported.timestamp));
        reported
            .filter(|delay| (delay - by_arrival).abs() <= MAX_MISALIGNED)
            .unwrap_or(by_arrival)
    }

    fn handle_delay(&mut self, now: Instant, delay: f64) {
        if now >= self.window_ends {
            self.least = [delay, self.least[0]];
            self.window_ends = now + WINDOW;
        }
        self.least[0] = self.least[0].min(delay);
    }
}

impl MediaClock {
    /// Takes a packet of the encoding, whose numbering is of this epoch. The rate is in Hz.
    pub(crate) fn handle_packet(&mut self, now: Instant, epoch: u32, rate: u32, timestamp: u64) {
        if self.running.is_some_and(|running| running.epoch > epoch) {
            // It was under way while the numbering began anew.
            return;
        }
        let rate = rate.max(1);
        let goes_on = self.running.as_mut().filter(|running| {
            running.epoch == epoch
                && running.rate == rate
                && (running.delay_at(now, timestamp) - running.by_arrival()).abs() < MAX_JUMP
        });
        let Some(running) = goes_on else {
            // What was reported of another numbering says nothing of this one.
            let is_other = self.running.is_some_and(|running| running.epoch != epoch);
            self.reported = self.reported.filter(|_| !is_other);
            let mut running = Running::new(epoch, rate, now, timestamp);
            running.delay = running.target(now, self.reported);
            self.running = Some(running);
            return;
        };
        running.handle_delay(now, running.delay_at(now, timestamp));
        let most = SLEW * now.saturating_duration_since(running.last).as_secs_f64();
        let missing = running.target(now, self.reported) - running.delay;
        running.delay += missing.clamp(-most, most);
        running.last = running.last.max(now);
    }

    /// Takes a report of the publisher's: which extended timestamp belongs to which time.
    pub(crate) fn handle_report(&mut self, at: Instant, timestamp: u64) {
        self.reported = Some(Reported { at, timestamp });
    }

    /// The extended timestamp, in the numbering of an epoch, of what is being captured now; none when
    /// nothing has come for long.
    #[must_use]
    pub(crate) fn timestamp(&self, now: Instant, epoch: u32) -> Option<u64> {
        let running = self.running.as_ref().filter(|r| r.epoch == epoch)?;
        if now.saturating_duration_since(running.last) > MAX_AGE {
            return None;
        }
        let elapsed = seconds(running.origin, now) - running.delay;
        let ticks = (elapsed * f64::from(running.rate)).round() as i64;
        Some(running.timestamp.wrapping_add(ticks as u64))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RATE: u32 = 90_000;

    /// Pictures every 40 ms for some time, the nth with this delay. Returns the time of the next.
    fn play(
        clock: &mut MediaClock,
        start: Instant,
        frames: std::ops::Range<u32>,
        delay: impl Fn(u32) -> Duration,
    ) -> Instant {
        let end = frames.end;
        for n in frames {
            let captured = start + n * 40 * MS;
            clock.handle_packet(captured + delay(n), 0, RATE, u64::from(n) * 3600);
        }
        start + end * 40 * MS
    }

    /// By how many milliseconds the clock is behind what was captured at a time.
    fn behind(clock: &MediaClock, start: Instant, now: Instant) -> f64 {
        let reported = clock.timestamp(now, 0).unwrap() as f64 / f64::from(RATE);
        (seconds(start, now) - reported) * 1000.0
    }

    #[test]
    fn the_packet_that_was_under_way_the_shortest_tells_the_time() {
        let start = Instant::now();
        let mut clock = MediaClock::default();
        assert_eq!(clock.timestamp(start, 0), None);
        let jitter = |n: u32| (20 + (n * 7919) % 50) * MS;
        let now = play(&mut clock, start, 0..500, jitter);
        let late = behind(&clock, start, now);
        assert!((19.0..24.0).contains(&late), "{late} ms");
        assert_eq!(clock.timestamp(now, 1), None, "of another numbering");
        assert_eq!(
            clock.timestamp(now + 31_000 * MS, 0),
            None,
            "it may have stopped"
        );
    }

    #[test]
    fn a_drifting_clock_is_followed() {
        let start = Instant::now();
        let mut clock = MediaClock::default();
        // A second in a thousand, which no crystal does.
        let now = play(&mut clock, start, 0..1500, |n| n * MS / 25);
        let late = behind(&clock, start, now);
        assert!((35.0..60.0).contains(&late), "{late} ms");
    }

    #[test]
    fn a_report_is_approached_in_small_steps_and_kept() {
        let start = Instant::now();
        let mut clock = MediaClock::default();
        let delay = |_| 100 * MS;
        let mut now = play(&mut clock, start, 0..50, delay);
        let mut last = behind(&clock, start, now);
        assert!((last - 100.0).abs() < 0.1, "{last} ms");
        // It was captured 60 ms earlier than it seemed.
        clock.handle_report(start + 40 * MS, 0);
        for n in 50..200 {
            now = play(&mut clock, start, n..n + 1, delay);
            let late = behind(&clock, start, now);
            assert!((-0.1..=0.9).contains(&(last - late)), "{last} to {late} ms");
            last = late;
        }
        assert!((last - 40.0).abs() < 0.1, "{last} ms");
        // Once the publisher reports no more, the arrival counts again.
        now = play(&mut clock, start, 200..1500, delay);
        let late = behind(&clock, start, now);
        assert!((late - 100.0).abs() < 0.1, "{late} ms");
    }

    #[test]
    fn a_report_before_the_first_packet_counts_from_the_first_on() {
        let start = Instant::now();
        let mut clock = MediaClock::default();
        clock.handle_report(start + 5 * MS, 0);
        let now = play(&mut clock, start, 0..2, |_| 100 * MS);
        assert!((behind(&clock, start, now) - 5.0).abs() < 0.1);
    }

    #[test]
    fn an_absurd_report_is_not_believed() {
        let start = Instant::now();
        for at in [start + 3_600_000 * MS, start] {
            let mut clock = MediaClock::default();
            clock.handle_report(at, 3600 * u64::from(RATE));
            let now = play(&mut clock, start, 0..50, |_| 10 * MS);
            let is_told = at > start;
            let expected = if is_told { 0.0 } else { 10.0 };
            assert!((behind(&clock, start, now) - expected).abs() < 0.1);
        }
    }

    #[test]
    fn a_new_numbering_and_a_jump_begin_anew() {
        let start = Instant::now();
        let mut clock = MediaClock::default();
        let now = play(&mut clock, start, 0..50, |_| Duration::ZERO);
        clock.handle_report(now, 50 * 3600);
        clock.handle_packet(now, 1, RATE, 7);
        assert_eq!(clock.timestamp(now, 1), Some(7));
        clock.handle_packet(now, 0, RATE, 50 * 3600);
        assert_eq!(clock.timestamp(now, 1), Some(7), "the former one is over");
        assert_eq!(clock.timestamp(now, 0), None);
        // It was suspended for a minute, and its timestamps with it.
        let later = now + 60_000 * MS;
        clock.handle_packet(later, 1, RATE, 7 + 3600);
        assert_eq!(clock.timestamp(later, 1), Some(7 + 3600));
    }
}
