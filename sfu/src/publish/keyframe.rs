//! When to ask a publisher for a key frame.
//!
//! In: requests of any number of subscribers, key frames that arrived, time. Out: at most one
//! request per [`MIN_INTERVAL`], repeated until a key frame comes or nobody has requested for long.

use std::time::{Duration, Instant};

/// Least time between two requests for one encoding: a storm of a thousand PLI a second must cost
/// the publisher no more than two key frames a second.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// How often an unanswered request is repeated before it is given up: a publisher that does not
/// answer in five seconds is muted, gone, or will hear of it from a subscriber's next PLI.
const MAX_REQUESTS: u32 = 10;

/// How often a request is repeated under one number. An encoder may ignore a number that it has
/// answered already (libwebrtc does), and the key frame that it sent may have been lost.
const REQUESTS_PER_NUMBER: u32 = 3;

/// The state of one encoding's requests.
#[derive(Debug, Default)]
pub(crate) struct KeyFrameRequester {
    last_sent: Option<Instant>,
    request: Option<Request>,
    number: u8,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    since: Instant,
    requests: u32,
    /// How many of them have had the number of the last.
    under_number: u32,
}

impl KeyFrameRequester {
    /// Someone needs a key frame.
    pub(crate) fn request(&mut self, now: Instant) {
        let before = self.request.map_or(0, |request| request.under_number);
        self.request = Some(Request {
            since: now,
            requests: 0,
            under_number: before,
        });
    }

    /// The number of the last request, for FIR: another for each that is new, the same for one that is
    /// repeated (RFC 5104 section 4.3.1.2). Wraps.
    #[must_use]
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// A key frame has arrived: every request made before it is granted.
    pub(crate) fn granted(&mut self) {
        self.request = None;
    }

    /// When [`KeyFrameRequester::poll`] next has something to say.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let request = self.request?;
        Some(match self.last_sent {
            Some(sent) => request.since.max(sent + MIN_INTERVAL),
            None => request.since,
        })
    }

    /// Whether a request is to be sent now; the caller sends it.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        if self.next_deadline().is_none_or(|due| now < due) {
            return false;
        }
        self.last_sent = Some(now);
        let Some(request) = &mut self.request else {
            return false;
        };
        request.requests += 1;
        if request.under_number.is_multiple_of(REQUESTS_PER_NUMBER) {
            self.number = self.number.wrapping_add(1);
        }
        request.under_number += 1;
        self.request = self
            .request
            .filter(|request| request.requests < MAX_REQUESTS);
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
            requester.request(start + ms * MS);
            sent += u32::from(requester.poll(start + ms * MS));
        }
        assert_eq!(sent, 2);
    }

    #[test]
    fn the_first_wish_goes_out_at_once_and_is_repeated_until_granted() {
        let start = Instant::now();
        let mut requester = KeyFrameRequester::default();
        assert!(!requester.poll(start), "nobody requests");
        requester.request(start);
        assert!(requester.poll(start));
        assert!(!requester.poll(start + 499 * MS));
        assert_eq!(requester.next_deadline(), Some(start + 500 * MS));
        assert!(requester.poll(start + 500 * MS));
        requester.granted();
        assert_eq!(requester.next_deadline(), None);
        assert!(!requester.poll(start + 5000 * MS));
    }

    #[test]
    fn a_repeated_request_keeps_its_number_and_a_new_one_has_another() {
        let start = Instant::now();
        let mut requester = KeyFrameRequester::default();
        let mut now = start;
        let mut ask = |requester: &mut KeyFrameRequester| {
            now += MIN_INTERVAL;
            requester.request(now);
            assert!(requester.poll(now));
            requester.number()
        };
        let first = ask(&mut requester);
        assert_eq!([ask(&mut requester), ask(&mut requester)], [first; 2]);
        // What answered it may have been lost.
        assert_eq!(ask(&mut requester), first.wrapping_add(1));
        requester.granted();
        assert_eq!(ask(&mut requester), first.wrapping_add(2));
        assert_eq!(ask(&mut requester), first.wrapping_add(2));
    }

    #[test]
    fn a_deaf_publisher_is_not_asked_for_ever() {
        let start = Instant::now();
        let mut requester = KeyFrameRequester::default();
        requester.request(start);
        let sent = (0..100)
            .filter(|i| requester.poll(start + *i * MIN_INTERVAL))
            .count();
        assert_eq!(sent, MAX_REQUESTS as usize);
    }
}
