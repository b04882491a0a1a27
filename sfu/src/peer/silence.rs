//! Whether a client that was heard of all the time is heard of no more.
//!
//! In: when its packets arrive. Out: that it has fallen silent, told once, and that it is heard again: long
//! before its consent ends (RFC 7675: 30 s), but late enough for what is usual between its packets. Somebody
//! who sends audio is missed within a second; of somebody whose only packets are connectivity checks much is
//! not expected.

use std::time::{Duration, Instant};

/// Least and most silence that is remarkable. A cut is to be over within three seconds, with a restart
/// of ICE in them; loss in bursts seldom lasts as long.
const LEAST: Duration = Duration::from_millis(750);
const MOST: Duration = Duration::from_secs(10);

/// So many times the usual time between two packets are remarkable.
const GAPS: f64 = 25.0;

/// How far the usual time moves with each packet.
const SMOOTHING: f64 = 0.05;

/// Time between two remarks: a path that stalls again and again is not helped by more.
const PAUSE: Duration = Duration::from_secs(15);

/// What is heard of one client.
#[derive(Debug)]
pub(super) struct Silence {
    last: Option<Instant>,
    /// The usual time between two packets, seconds.
    gap: f64,
    reported: Option<Instant>,
    /// Whether the end of the silence that was told has not been.
    is_reported: bool,
}

impl Default for Silence {
    fn default() -> Self {
        Silence {
            last: None,
            // Nobody is missed soon who has just come.
            gap: MOST.as_secs_f64() / GAPS,
            reported: None,
            is_reported: false,
        }
    }
}

impl Silence {
    /// Notes a packet of the client's.
    pub(super) fn handle_packet(&mut self, now: Instant) {
        let gap = self.last.map_or(Duration::ZERO, |last| {
            now.saturating_duration_since(last).min(MOST)
        });
        self.gap += SMOOTHING * (gap.as_secs_f64() - self.gap);
        self.last = Some(now);
    }

    /// When [`Silence::poll`] or [`Silence::poll_end`] may say yes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.ends_at().or_else(|| self.begins_at())
    }

    /// When the client was heard again.
    fn ends_at(&self) -> Option<Instant> {
        let reported = self.reported.filter(|_| self.is_reported)?;
        self.last.filter(|last| *last > reported)
    }

    fn begins_at(&self) -> Option<Instant> {
        self.last
            .filter(|last| self.reported.is_none_or(|at| at < *last))?;
        let remarkable = self.remarkable_from()?;
        let pause_ends = self.reported.map(|at| at + PAUSE);
        Some(pause_ends.map_or(remarkable, |end| end.max(remarkable)))
    }

    /// Whether the client is silent now, told or not.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.remarkable_from().is_some_and(|from| now >= from)
    }

    fn remarkable_from(&self) -> Option<Instant> {
        let remarkable = Duration::from_secs_f64(self.gap * GAPS).clamp(LEAST, MOST);
        Some(self.last? + remarkable)
    }

    /// Whether the client has fallen silent; said once for each silence.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_due = !self.is_reported && self.begins_at().is_some_and(|due| now >= due);
        if is_due {
            self.reported = Some(now);
            self.is_reported = true;
        }
        is_due
    }

    /// Whether a silence that was told is over; said once.
    pub(super) fn poll_end(&mut self, now: Instant) -> bool {
        let is_over = self.ends_at().is_some_and(|at| now >= at);
        self.is_reported &= !is_over;
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Packets every so often for ten seconds; returns the time of the last.
    fn talk(silence: &mut Silence, start: Instant, interval: Duration) -> Instant {
        let times = std::iter::successors(Some(start), |at| Some(*at + interval));
        let mut last = start;
        for at in times.take_while(|at| *at < start + 10_000 * MS) {
            assert!(!silence.poll(at));
            silence.handle_packet(at);
            last = at;
        }
        last
    }

    #[test]
    fn the_more_somebody_sends_the_sooner_it_is_missed() {
        for (interval, missed_after) in [(20, 750), (100, 2500), (2500, 10_000)] {
            let mut silence = Silence::default();
            let last = talk(&mut silence, Instant::now(), MS * interval);
            let due = silence.next_deadline().expect("a deadline") - last;
            let tolerance = missed_after / 5;
            let expected = MS * (missed_after - tolerance)..=MS * (missed_after + tolerance);
            assert!(expected.contains(&due), "{due:?}");
        }
    }

    #[test]
    fn a_silence_is_told_once_and_the_next_after_a_pause() {
        let mut silence = Silence::default();
        assert!(!silence.poll(Instant::now()), "nothing was heard yet");
        let last = talk(&mut silence, Instant::now(), 20 * MS);
        assert!(!silence.poll(last + 700 * MS));
        assert!(silence.poll(last + 800 * MS));
        assert!(!silence.poll(last + 5000 * MS));
        assert!(!silence.poll_end(last + 5000 * MS));
        silence.handle_packet(last + 6000 * MS);
        assert_eq!(silence.next_deadline(), Some(last + 6000 * MS));
        assert!(silence.poll_end(last + 6000 * MS));
        assert!(!silence.poll_end(last + 6000 * MS), "said once");
        assert!(!silence.poll(last + 15_700 * MS));
        assert!(silence.poll(last + 15_800 * MS));
    }
}
