//! A cap on what one connection may cost before its packets are even decrypted.
//!
//! In: the arrival of each datagram. Out: whether to look at it.

use std::time::Instant;

/// Packets a second that a connection may send for long. A publisher of 4K video at 50 Mbit/s and
/// all else it may send comes to half of it.
const PER_SECOND: f64 = 10_000.0;

/// Packets that may come at once: a large key frame, or what a stalled network lets go together.
const BURST: f64 = 3_000.0;

#[derive(Debug)]
pub(crate) struct FloodGuard {
    tokens: f64,
    last: Option<Instant>,
}

impl Default for FloodGuard {
    fn default() -> Self {
        FloodGuard {
            tokens: BURST,
            last: None,
        }
    }
}

impl FloodGuard {
    /// Whether a datagram that arrives now is within the cap.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        if let Some(last) = self.last {
            let elapsed = now.saturating_duration_since(last).as_secs_f64();
            self.tokens = (self.tokens + elapsed * PER_SECOND).min(BURST);
        }
        self.last = Some(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_cap_and_a_busy_publisher_is_not_touched() {
        let start = Instant::now();
        let admitted = |per_second: u32| {
            let mut guard = FloodGuard::default();
            (0..per_second)
                .filter(|&n| guard.admit(start + Duration::from_secs(1) * n / per_second))
                .count()
        };
        assert_eq!(admitted(6_000), 6_000);
        let flood = admitted(100_000);
        assert!((12_900..=13_100).contains(&flood), "{flood}");
    }
}
