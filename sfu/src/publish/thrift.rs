//! Which encodings a publisher need not send, because nobody receives them.
//!
//! In: which encodings are received, or waited for, now. Out: what the publisher is to be told, at
//! once when one is wanted again, and after a while when one is not: encoders are slow to start, and
//! people turn pages back.

use std::time::{Duration, Instant};

/// Encodings told apart; there are three in a simulcast, and no client offers more than this.
pub const MAX_ENCODINGS: usize = 8;

/// How long an encoding goes on without a receiver: half of what an upward switch may take again
/// ([`SETTLING`](crate::subscribe::allocation::SETTLING)).
pub const OFF_AFTER: Duration = Duration::from_secs(5);

/// A set of encodings, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encodings(u8);

impl Encodings {
    /// None of them.
    pub const NONE: Encodings = Encodings(0);
    /// All of them.
    pub const ALL: Encodings = Encodings(u8::MAX);

    /// One of them; nothing beyond [`MAX_ENCODINGS`].
    #[must_use]
    pub fn one(encoding: u8) -> Self {
        Encodings(1u8.checked_shl(u32::from(encoding)).unwrap_or(0))
    }

    /// The first so many.
    #[must_use]
    pub fn first(count: usize) -> Self {
        (0..count.min(MAX_ENCODINGS) as u8).fold(Self::NONE, |all, n| all.with(Self::one(n)))
    }

    /// These and others.
    #[must_use]
    pub fn with(self, others: Encodings) -> Self {
        Encodings(self.0 | others.0)
    }

    /// All that are not among these.
    #[must_use]
    pub fn others(self) -> Self {
        Encodings(!self.0)
    }

    /// Whether an encoding is among them.
    #[must_use]
    pub fn contains(self, encoding: u8) -> bool {
        self.0 & Self::one(encoding).0 != 0
    }
}

/// What one publisher has been told of its track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thrift {
    told: Encodings,
    /// Since when each of them has not been wanted.
    unwanted: [Option<Instant>; MAX_ENCODINGS],
}

impl Default for Thrift {
    /// A publisher sends all it has until it is told otherwise.
    fn default() -> Self {
        Thrift {
            told: Encodings::ALL,
            unwanted: [None; MAX_ENCODINGS],
        }
    }
}

impl Thrift {
    /// Says what is wanted. Returns what the publisher is to be told, if it is something else than it
    /// was told last.
    pub fn handle_wanted(&mut self, now: Instant, wanted: Encodings) -> Option<Encodings> {
        let mut told = self.told;
        for (encoding, unwanted) in (0u8..).zip(&mut self.unwanted) {
            if wanted.contains(encoding) {
                *unwanted = None;
                told = told.with(Encodings::one(encoding));
                continue;
            }
            let since = *unwanted.get_or_insert(now);
            if now.saturating_duration_since(since) >= OFF_AFTER {
                told = Encodings(told.0 & !Encodings::one(encoding).0);
            }
        }
        (std::mem::replace(&mut self.told, told) != told).then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_at_once_and_off_after_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut thrift = Thrift::default();
        let low = Encodings::one(0);
        let story = [
            (0, Encodings::ALL, None),
            (1, low, None),
            (5, low, None),
            (6, low, Some(low)),
            (7, low, None),
            (
                8,
                low.with(Encodings::one(2)),
                Some(low.with(Encodings::one(2))),
            ),
            (9, low, None),
            // Wanted again before it is off.
            (12, Encodings::ALL, Some(Encodings::ALL)),
            (13, Encodings::NONE, None),
            (18, Encodings::NONE, Some(Encodings::NONE)),
        ];
        for (seconds, wanted, told) in story {
            assert_eq!(thrift.handle_wanted(at(seconds), wanted), told, "{seconds}");
        }
    }

    #[test]
    fn sets_are_bounded() {
        assert_eq!(Encodings::one(200), Encodings::NONE);
        assert_eq!(Encodings::first(3), Encodings(7));
        assert_eq!(Encodings::first(100), Encodings::ALL);
        assert!(Encodings::first(1).others().contains(1));
    }
}
