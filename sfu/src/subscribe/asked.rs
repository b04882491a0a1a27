//! What the publisher of a video in one size is asked for, for the sake of one subscriber.
//!
//! In: how much there is for the video, and what it takes. Out: the rate to ask for, and how long that is
//! expected to come.

use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// The share that is asked for of what there is, so that it goes on when the estimate gives way
/// ([`MARGIN`](super::allocation::MARGIN)) or the encoder exceeds it a little.
const SHARE: f64 = 0.8;

/// No less is asked for than what the lowest encoding of a simulcast takes, for the sake of the others who
/// see it: whoever cannot be sent that does without.
const LEAST: Bitrate = Bitrate::kbps(100);

/// For so long what was asked for is expected: it takes a round trip, an encoder to follow, and two seconds
/// to be measured.
const PATIENCE: Duration = Duration::from_secs(4);

/// Much less is asked for if it is less than this share.
const MUCH_LESS: f64 = 0.7;

/// Who sends this much more than was asked for does not listen.
const DEAF: f64 = 1.25;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Asked {
    ceiling: Bitrate,
    since: Instant,
    /// The most that has been asked for since.
    most: Bitrate,
}

impl Asked {
    /// What is asked for when there is so much `room` for a video that takes so much, after what was
    /// asked for `before`.
    #[must_use]
    pub(crate) fn next(
        before: Option<Asked>,
        now: Instant,
        room: Bitrate,
        takes: Bitrate,
    ) -> Asked {
        let ceiling = room.scale(SHARE).max(LEAST);
        let is_less = |before: &Asked| ceiling < before.most.scale(MUCH_LESS);
        let is_heeded = |before: &Asked| takes <= before.most.scale(DEAF);
        match before.filter(|before| !(is_less(before) && is_heeded(before))) {
            None => Asked {
                ceiling,
                since: now,
                most: ceiling,
            },
            Some(before) => Asked {
                ceiling,
                most: before.most.max(ceiling),
                ..before
            },
        }
    }

    /// The most to send.
    #[must_use]
    pub(crate) fn ceiling(&self) -> Bitrate {
        self.ceiling
    }

    /// What the video soon takes that takes so much now.
    #[must_use]
    pub(crate) fn expected(&self, now: Instant, takes: Bitrate) -> Bitrate {
        match now.saturating_duration_since(self.since) < PATIENCE {
            true => takes.min(self.ceiling),
            false => takes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_expected_for_a_while_and_again_only_of_who_heeds_it() {
        let start = Instant::now();
        let kbps = Bitrate::kbps;
        let [soon, later] = [PATIENCE / 2, PATIENCE].map(|wait| start + wait);
        let first = Asked::next(None, start, kbps(500), kbps(1000));
        assert_eq!(first.ceiling(), kbps(400));
        assert_eq!(first.expected(soon, kbps(1000)), kbps(400));
        assert_eq!(first.expected(later, kbps(1000)), kbps(1000));
        for (takes, expected) in [(400, 160), (1000, 1000)] {
            let less = Asked::next(Some(first), later, kbps(200), kbps(takes));
            assert_eq!(less.ceiling(), kbps(160));
            assert_eq!(less.expected(later, kbps(takes)), kbps(expected));
        }
        let little = Asked::next(Some(first), later, kbps(10), kbps(400));
        assert_eq!(little.ceiling(), LEAST);
    }
}
