//! How loud the packets of audio are that a worker receives, until the controller is told.
//!
//! In: the level of each packet (RFC 6464). Out: all of them together, now and then: the controller looks
//! for who speaks a few times a second only.

use std::time::{Duration, Instant};

use crate::control::messages::Level;
use crate::types::TrackId;

/// How often the controller is told, counted from the first level that it does not know.
const INTERVAL: Duration = Duration::from_millis(100);

/// Most levels told at once: what 1600 people send within [`INTERVAL`] in packets of 20 ms.
const MAX_LEVELS: usize = 8192;

/// The levels that the controller does not know yet.
#[derive(Debug, Default)]
pub(super) struct Levels {
    levels: Vec<Level>,
}

impl Levels {
    /// Notes the level of a packet. Says no when there are too many.
    pub(super) fn push(&mut self, at: Instant, track: TrackId, level: u8) -> bool {
        let has_room = self.levels.len() < MAX_LEVELS;
        if has_room {
            self.levels.push(Level { at, track, level });
        }
        has_room
    }

    /// When the controller is to be told.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        Some(self.levels.first()?.at + INTERVAL)
    }

    /// What to tell the controller, if it is time to.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Vec<Level>> {
        if self.next_deadline()? > now {
            return None;
        }
        // The next interval brings about as many.
        let next = Vec::with_capacity(self.levels.len());
        Some(std::mem::replace(&mut self.levels, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_told_together_and_are_bounded() {
        let mut levels = Levels::default();
        let start = Instant::now();
        assert_eq!((levels.next_deadline(), levels.poll(start)), (None, None));
        for n in 0..5 {
            let at = start + n * Duration::from_millis(20);
            assert_eq!(levels.poll(at), None);
            assert!(levels.push(at, TrackId(7), 30));
        }
        assert_eq!(levels.next_deadline(), Some(start + INTERVAL));
        assert_eq!(levels.poll(start + INTERVAL).map(|l| l.len()), Some(5));
        assert_eq!(levels.next_deadline(), None);
        let taken = (0..2 * MAX_LEVELS).filter(|_| levels.push(start, TrackId(7), 0));
        assert_eq!(taken.count(), MAX_LEVELS);
    }
}
