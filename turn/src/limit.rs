//! How often a source may have an answer before it has proven anything.
//!
//! In: the time and a source address. Out: yes or no. Memory is bounded however many sources
//! there are, or seem to be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use confab_sockets::subscriber::subscriber;

/// Answers to one source in one [`WINDOW`], unless it is set otherwise.
pub(crate) const DEFAULT_MAX_ANSWERS: u32 = 100;

/// The time that is counted over.
const WINDOW: Duration = Duration::from_secs(1);

/// Sources counted in one [`WINDOW`], about 1 MB of table. Beyond them nobody new is answered
/// until the next: that many at once are forged.
const MAX_SOURCES: usize = 16_384;

/// Counts answers by source.
#[derive(Debug)]
pub(crate) struct RateLimit {
    max_answers: u32,
    window_start: Option<Instant>,
    answers: HashMap<IpAddr, u32>,
}

impl Default for RateLimit {
    fn default() -> Self {
        RateLimit::new(DEFAULT_MAX_ANSWERS)
    }
}

impl RateLimit {
    /// At most `max_answers` a second to one source.
    pub(crate) fn new(max_answers: u32) -> Self {
        RateLimit {
            max_answers,
            window_start: None,
            answers: HashMap::new(),
        }
    }

    /// Whether `source` may have one more answer, which is then counted.
    pub(crate) fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        if self
            .window_start
            .is_none_or(|start| now.saturating_duration_since(start) >= WINDOW)
        {
            self.window_start = Some(now);
            self.answers.clear();
        }
        let source = subscriber(source);
        if let Some(answers) = self.answers.get_mut(&source) {
            *answers = answers.saturating_add(1);
            return *answers <= self.max_answers;
        }
        let has_room = self.answers.len() < MAX_SOURCES && self.max_answers > 0;
        if has_room {
            self.answers.insert(source, 1);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_source_has_its_answers_again_in_the_next_window() {
        let mut limit = RateLimit::default();
        let start = Instant::now();
        for (at, admitted) in [(0, 100), (999, 0), (1000, 100), (1500, 0), (2000, 100)] {
            let now = start + Duration::from_millis(at);
            let count = (0..150).filter(|_| limit.admit(now, v4(1))).count();
            assert_eq!(count, admitted, "after {at} ms");
        }
    }

    #[test]
    fn the_table_is_bounded_and_known_sources_keep_their_place() {
        let mut limit = RateLimit::default();
        let now = Instant::now();
        for n in 0..MAX_SOURCES as u32 {
            assert!(limit.admit(now, v4(n)));
        }
        assert!(!limit.admit(now, v4(u32::MAX)));
        assert!(limit.admit(now, v4(0)));
        assert_eq!(limit.answers.len(), MAX_SOURCES);
        assert!(limit.admit(now + WINDOW, v4(u32::MAX)));
    }
}
