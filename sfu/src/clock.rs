//! Wall-clock time for RTP, out of the monotonic time that everything else runs on.

use std::time::{Duration, Instant, SystemTime};

/// Seconds from 1900, where NTP starts counting, to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// The server's wall clock, read once: a jump of the system's clock never reaches a call.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    since_unix_epoch: Duration,
}

impl Clock {
    /// A clock that shows `wall` at `start`.
    #[must_use]
    pub fn new(start: Instant, wall: SystemTime) -> Self {
        Clock {
            start,
            since_unix_epoch: wall
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// Time since 1970.
    #[must_use]
    pub fn since_unix_epoch(&self, now: Instant) -> Duration {
        self.since_unix_epoch + now.saturating_duration_since(self.start)
    }

    /// NTP time: 32.32 fixed-point seconds since 1900 (RFC 5905 section 6).
    #[must_use]
    pub fn ntp(&self, now: Instant) -> u64 {
        ntp_span(self.since_unix_epoch(now)).wrapping_add(NTP_TO_UNIX << 32)
    }

    /// The time of an NTP time of this clock, within 68 years; none before the machine was started.
    #[must_use]
    pub fn instant(&self, ntp: u64) -> Option<Instant> {
        let since = ntp.wrapping_sub(self.ntp(self.start)) as i64;
        let nanos = (u128::from(since.unsigned_abs()) * 1_000_000_000) >> 32;
        let span = Duration::from_nanos(u64::try_from(nanos).ok()?);
        match since < 0 {
            true => self.start.checked_sub(span),
            false => self.start.checked_add(span),
        }
    }
}

/// A span of time in 32.32 fixed-point seconds.
#[must_use]
pub fn ntp_span(span: Duration) -> u64 {
    // Seconds past 2^32 wrap, as NTP eras do.
    (span.as_secs() << 32) | ((u64::from(span.subsec_nanos()) << 32) / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_two_to_the_thirty_second() {
        let start = Instant::now();
        let clock = Clock::new(start, SystemTime::UNIX_EPOCH + Duration::from_secs(10));
        let at = |seconds| clock.ntp(start + Duration::from_secs_f64(seconds));
        assert_eq!(at(0.0), (NTP_TO_UNIX + 10) << 32);
        assert_eq!(at(1.5) - at(0.0), 3 << 31);
        for seconds in [0.0, 1.5, 86_400.25] {
            let instant = start + Duration::from_secs_f64(seconds);
            let back = clock.instant(at(seconds));
            assert_eq!(back, Some(instant), "{seconds}");
        }
        assert_eq!(
            clock.instant(at(0.0) - (1 << 31)),
            start.checked_sub(Duration::from_millis(500))
        );
    }
}
