//! How long packets waited in queues on their way.
//!
//! In: when packets were sent by our clock and arrived by the receiver's. Out: how much longer each
//! took than the quickest did; what the clocks differ by cancels out.

use std::time::{Duration, Instant};

/// Over how long the quickest is looked for: the route does not change often, and at 100 ppm two
/// clocks drift apart by 6 ms in two windows.
const WINDOW: Duration = Duration::from_secs(30);

/// The delay of one connection.
#[derive(Debug, Default)]
pub(crate) struct QueueingDelay {
    epoch: Option<Instant>,
    /// The least transit in this window and in the one before, in microseconds of which only
    /// differences mean anything.
    least: [Option<i64>; 2],
    window_ends: Option<Instant>,
}

impl QueueingDelay {
    /// How long a packet that arrived was held up.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        sent: Instant,
        arrival: Duration,
    ) -> Duration {
        let epoch = *self.epoch.get_or_insert(sent);
        let sent = sent.saturating_duration_since(epoch).as_micros() as i64;
        let transit = (arrival.as_micros() as i64).saturating_sub(sent);
        if self.window_ends.is_none_or(|end| now >= end) {
            self.window_ends = Some(now + WINDOW);
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

    #[test]
    fn the_quickest_packet_sets_the_measure_until_it_is_long_ago() {
        let start = Instant::now();
        let mut queueing = QueueingDelay::default();
        let mut held = |secs: u64, transit: u64| {
            let at = Duration::from_secs(secs);
            // The receiver's clock began earlier.
            let arrival = at + Duration::from_millis(5000 + transit);
            let held = queueing.handle_packet(start + at, start + at, arrival);
            held.as_millis()
        };
        assert_eq!(held(0, 50), 0);
        assert_eq!(held(1, 250), 200);
        assert_eq!(held(2, 30), 0);
        assert_eq!(held(3, 50), 20);
        assert_eq!(held(31, 80), 50);
        assert_eq!(held(62, 80), 0, "another route");
    }
}
