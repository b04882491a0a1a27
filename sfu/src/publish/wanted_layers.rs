//! Which encodings a publisher need not send, because nobody receives them, and how much at most.
//!
//! In: which encodings are received, or waited for, now, and what can be sent to all who receive them. Out:
//! what the publisher is to be told, at once when one is wanted again, and after a while when one is not:
//! encoders are slow to start, and people turn pages back.

use std::time::{Duration, Instant};

use crate::types::EncodingIndex;
use crate::units::Bitrate;

/// Encodings told apart; there are three in a simulcast, and no client offers more than this.
pub(crate) const MAX_ENCODINGS: usize = 8;

/// How long an encoding goes on without a receiver: half of what an upward switch may take again
/// ([`SETTLING`](crate::api::SETTLING)).
pub(crate) const OFF_AFTER: Duration = Duration::from_secs(5);

/// The most to send is told anew when it is less by this share, or more by that.
const LESS: f64 = 0.85;
const MORE: f64 = 1.15;

/// What a publisher is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// The encodings that are wanted.
    pub encodings: Encodings,
    /// The most to send of a track of one encoding, if there is a limit.
    pub ceiling: Option<Bitrate>,
}

/// A set of encodings, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encodings(u8);

impl Encodings {
    pub const NONE: Encodings = Encodings(0);
    pub const ALL: Encodings = Encodings(u8::MAX);

    /// One of them; nothing beyond [`MAX_ENCODINGS`].
    #[must_use]
    pub fn one(encoding: EncodingIndex) -> Self {
        Encodings(1u8.checked_shl(u32::from(encoding.0)).unwrap_or(0))
    }

    /// The first so many.
    #[must_use]
    pub fn first(count: usize) -> Self {
        let first = EncodingIndex::all().take(count.min(MAX_ENCODINGS));
        first.fold(Self::NONE, |all, n| all.with(Self::one(n)))
    }

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
    pub fn contains(self, encoding: EncodingIndex) -> bool {
        self.0 & Self::one(encoding).0 != 0
    }
}

/// What one publisher has been told of its track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WantedLayers {
    told: Wanted,
    /// Since when each of them has not been wanted.
    unwanted: [Option<Instant>; MAX_ENCODINGS],
}

impl Default for WantedLayers {
    /// A publisher sends all it has until it is told otherwise.
    fn default() -> Self {
        WantedLayers {
            told: Wanted {
                encodings: Encodings::ALL,
                ceiling: None,
            },
            unwanted: [None; MAX_ENCODINGS],
        }
    }
}

impl WantedLayers {
    /// Says what is wanted. Returns what the publisher is to be told, if it is something else than it
    /// was told last.
    pub(crate) fn handle_wanted(&mut self, now: Instant, wanted: Wanted) -> Option<Wanted> {
        let Wanted {
            encodings: wanted,
            ceiling,
        } = wanted;
        let before = self.told;
        let mut told = before.encodings;
        for (encoding, unwanted) in EncodingIndex::all().zip(&mut self.unwanted) {
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
        let is_near = |(a, b): (Bitrate, Bitrate)| (LESS..=MORE).contains(&a.ratio(b));
        let is_as_before = ceiling.zip(before.ceiling).is_some_and(is_near);
        self.told = Wanted {
            encodings: told,
            ceiling: if is_as_before {
                before.ceiling
            } else {
                ceiling
            },
        };
        (self.told != before).then_some(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_at_once_and_off_after_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut wanted_layers = WantedLayers::default();
        let low = Encodings::one(EncodingIndex(0));
        let story = [
            (0, Encodings::ALL, None),
            (1, low, None),
            (5, low, None),
            (6, low, Some(low)),
            (7, low, None),
            (
                8,
                low.with(Encodings::one(EncodingIndex(2))),
                Some(low.with(Encodings::one(EncodingIndex(2)))),
            ),
            (9, low, None),
            // Wanted again before it is off.
            (12, Encodings::ALL, Some(Encodings::ALL)),
            (13, Encodings::NONE, None),
            (18, Encodings::NONE, Some(Encodings::NONE)),
        ];
        let just = |encodings| Wanted {
            encodings,
            ceiling: None,
        };
        for (seconds, wanted, told) in story {
            let said = wanted_layers.handle_wanted(at(seconds), just(wanted));
            assert_eq!(said, told.map(just), "{seconds}");
        }
    }

    #[test]
    fn a_limit_is_told_when_it_has_moved() {
        let now = Instant::now();
        let mut wanted_layers = WantedLayers::default();
        let mut told = |kbps: Option<u64>| {
            let wanted = Wanted {
                encodings: Encodings::ALL,
                ceiling: kbps.map(Bitrate::kbps),
            };
            wanted_layers
                .handle_wanted(now, wanted)
                .map(|told| told.ceiling)
        };
        for (kbps, is_told) in [(500, true), (430, false), (570, false), (420, true)] {
            let expected = is_told.then(|| Some(Bitrate::kbps(kbps)));
            assert_eq!(told(Some(kbps)), expected, "{kbps}");
        }
        assert_eq!(told(None), Some(None));
        assert_eq!(told(None), None);
    }

    #[test]
    fn sets_are_bounded() {
        assert_eq!(Encodings::one(EncodingIndex(200)), Encodings::NONE);
        assert_eq!(Encodings::first(3), Encodings(7));
        assert_eq!(Encodings::first(100), Encodings::ALL);
        assert!(Encodings::first(1).others().contains(EncodingIndex(1)));
    }
}
