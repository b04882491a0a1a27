//! When to ask a publisher for a key frame.
//!
//! In: wishes of any number of subscribers, key frames that arrived, time. Out: at most one
//! request per [`MIN_INTERVAL`], repeated until a key frame comes or nobody has wished for long.

use std::time::{Duration, Instant};

/// Least time between two requests for one encoding: a storm of a thousand PLI a second must cost
/// the publisher no more than two key frames a second.
pub const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// How often an unanswered wish is repeated before it is given up: a publisher that does not
/// answer in five seconds is muted, gone, or will hear of it from a subscriber's next PLI.
const MAX_REQUESTS: u32 = 10;

/// The state of one encoding's requests.
#[derive(Debug, Default)]
pub struct KeyFrameRequester {
    last_sent: Option<Instant>,
    wish: Option<Wish>,
}

#[derive(Clone, Copy, Debug)]
struct Wish {
    since: Instant,
    requests: u32,
}

impl KeyFrameRequester {
    /// Someone needs a key frame.
    pub fn wish(&mut self, now: Instant) {
        self.wish = Some(Wish {
            since: now,
            requests: 0,
        });
    }

    /// A key frame has arrived: every wish made before it is granted.
    pub fn granted(&mut self) {
        self.wish = None;
    }

    /// When [`KeyFrameRequester::poll`] next has something to say.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let wish = self.wish?;
        Some(match self.last_sent {
            Some(sent) => wish.since.max(sent + MIN_INTERVAL),
            None => wish.since,
        })
    }

    /// Whether a request is to be sent now; the caller sends it.
    pub fn poll(&mut self, now: Instant) -> bool {
        if self.next_deadline().is_none_or(|due| now < due) {
            return false;
        }
        self.last_sent = Some(now);
        self.wish = self.wish.and_then(|wish| {
            let requests = wish.requests + 1;
            (requests < MAX_REQUESTS).then_some(Wish { requests, ..wish })
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_storm_of_wishes_is_two_requests_a_second() {
        let start = Instant::now();
        let mut requester = KeyFrameRequester::default();
        let mut sent = 0;
        for ms in 0..1000 {
            requester.wish(start + ms * MS);
            sent += u32::from(requester.poll(start + ms * MS));
        }
        assert_eq!(sent, 2);
    }

    #[test]
    fn the_first_wish_goes_out_at_once_and_is_repeated_until_granted() {
        let start = Instant::now();
        let mut requester = KeyFrameRequester::default();
        assert!(!requester.poll(start), "nobody wishes");
        requester.wish(start);
        assert!(requester.poll(start));
        assert!(!requester.poll(start + 499 * MS));
        assert_eq!(requester.next_deadline(), Some(start + 500 * MS));
        assert!(requester.poll(start + 500 * MS));
        requester.granted();
        assert_eq!(requester.next_deadline(), None);
        assert!(!requester.poll(start + 5000 * MS));
    }

    #[test]
    fn a_deaf_publisher_is_not_asked_for_ever() {
        let start = Instant::now();
        let mut requester = KeyFrameRequester::default();
        requester.wish(start);
        let sent = (0..100)
            .filter(|i| requester.poll(start + *i * MIN_INTERVAL))
            .count();
        assert_eq!(sent, MAX_REQUESTS as usize);
    }
}
