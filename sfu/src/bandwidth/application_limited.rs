//! Whether less is sent than could be, because there is no more to send.
//!
//! In: what is sent, and the estimate. Out: since when the application, not the network, has been
//! the limit. An estimate that is not used proves nothing, so such times are when to probe
//! (libwebrtc M125's `AlrDetector`).

use std::time::{Duration, Instant};

use crate::units::{Bitrate, DataSize};

/// Of the estimate, what counts as using it (libwebrtc M125: `bandwidth_usage_ratio` of
/// `AlrDetectorConfig`, whose three values its screen share trial, on by default, sets to 0.8, 0.4
/// and -0.6).
const USED: f64 = 0.65;

/// Over how long use is looked at (libwebrtc M125: `kWindowMs` of `IntervalBudget`).
const WINDOW: Duration = Duration::from_millis(500);

/// How much of the window's budget lies idle when the application is found to be the limit, and
/// when not any more (libwebrtc M125: `start_budget_level_ratio` and `stop_budget_level_ratio`).
const BEGIN: f64 = 0.8;
const END: f64 = 0.5;

/// The use of one connection.
#[derive(Debug, Default)]
pub(crate) struct ApplicationLimited {
    /// What has not been used, in bytes; negative when more was sent.
    idle: f64,
    last: Option<Instant>,
    since: Option<Instant>,
}

impl ApplicationLimited {
    /// Notes a packet that left while the estimate was `estimate`.
    pub(crate) fn handle_sent(&mut self, now: Instant, size: DataSize, estimate: Bitrate) {
        let elapsed = now.saturating_duration_since(self.last.replace(now).unwrap_or(now));
        let budget = estimate.scale(USED);
        let window = budget.during(WINDOW).as_bytes().max(1) as f64;
        self.idle += budget.during(elapsed).as_bytes() as f64 - size.as_bytes() as f64;
        self.idle = self.idle.clamp(-window, window);
        let level = self.idle / window;
        if level > BEGIN {
            self.since.get_or_insert(now);
        } else if level < END {
            self.since = None;
        }
    }

    /// Since when the application has been the limit, if it is.
    #[must_use]
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_use_is_found_and_full_use_too() {
        let estimate = Bitrate::kbps(1000);
        let mut now = Instant::now();
        let mut limited = ApplicationLimited::default();
        let mut send = |kbps, seconds: u64| {
            let size = DataSize::bytes(1000);
            let end = now + Duration::from_secs(seconds);
            while now < end {
                limited.handle_sent(now, size, estimate);
                now += size.time_at(Bitrate::kbps(kbps));
            }
            limited.since().is_some()
        };
        for (kbps, seconds, expected) in [
            (950, 5, false),
            (700, 5, false),
            (300, 1, false),
            (300, 3, true),
            (950, 1, false),
            (10, 4, true),
        ] {
            assert_eq!(send(kbps, seconds), expected, "{kbps} kbit/s");
        }
    }
}
