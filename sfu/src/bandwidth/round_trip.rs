//! The round trip, of which the least is without queues.
//!
//! In: how long after a packet left its feedback came. Out: the last of these times and the least of
//! late.

use std::time::{Duration, Instant};

/// Over how long the least round trip is looked for.
const ROUND_TRIP_WINDOW: Duration = Duration::from_secs(10);

/// The least round trip in this window and in the one before, and the last one.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    last: Duration,
    least: [Option<Duration>; 2],
    window_ends: Option<Instant>,
}

impl RoundTrip {
    pub(crate) fn handle(&mut self, now: Instant, round_trip: Duration) {
        self.last = round_trip;
        if self.window_ends.is_none_or(|end| now >= end) {
            self.window_ends = Some(now + ROUND_TRIP_WINDOW);
            self.least = [None, self.least[0]];
        }
        self.least[0] = Some(self.least[0].map_or(round_trip, |least| least.min(round_trip)));
    }

    #[must_use]
    pub(crate) fn last(&self) -> Duration {
        self.last
    }

    /// The least of late, if there was any.
    #[must_use]
    pub(crate) fn least(&self) -> Option<Duration> {
        self.least.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_forgotten_in_time() {
        let start = Instant::now();
        let (ms, second) = (Duration::from_millis(1), Duration::from_secs(1));
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.least(), None);
        for (at, sample, least) in [(0, 50, 50), (1, 200, 50), (11, 90, 50), (22, 120, 90)] {
            round_trip.handle(start + second * at, ms * sample);
            assert_eq!(
                (round_trip.last(), round_trip.least()),
                (ms * sample, Some(ms * least))
            );
        }
    }
}
