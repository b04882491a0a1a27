//! Which of the packets a subscriber asks for again it is sent again.
//!
//! In: the sequence numbers of its NACKs. Out: yes or no for each. A storm of NACKs gets each packet
//! once a round trip, and never more bytes than a share of what was sent anyway, nor faster than the
//! path has room for.

use std::time::{Duration, Instant};

use crate::publish::history::MAX_AGE;
use crate::units::Bitrate;

/// Packets whose last retransmission is remembered; as many as a NACK storm can ask for within a
/// round trip without repeating itself, at the rates one slot has.
const REMEMBERED: usize = 256;

/// The least time between two retransmissions of a packet while no round trip is known.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(50);

/// The least time between two retransmissions of a packet, as a share of the round trip. A receiver
/// asks again after just one round trip as it measures it (libwebrtc's NACK module): waiting for a
/// whole one as we measure it would refuse every second request.
const ROUND_TRIP_SHARE: f64 = 0.6;

/// A request that comes so long after an answer says that the answer is lost, as a share of the round
/// trip: receivers take that for a little shorter than we do.
const ANSWER_SHARE: f64 = 0.8;

/// The least time at all: two requests within it are duplicates of one another.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Bytes that may be sent again for each byte of media sent; beyond that it is a storm.
const SHARE: f64 = 1.0;

/// Bytes that may be sent again beyond the share, so that the first lost frame is not held up: a
/// large key frame.
const BURST: f64 = 128.0 * 1024.0;

/// What of that is kept for packets that have not been sent again yet: a second copy of one is not to
/// be paid for with the first of another.
const RESERVE: f64 = 64.0 * 1024.0;

/// What the path has room for may be used at once for so long, and this much in any case: a small key
/// frame that was lost.
const LIMIT_WINDOW: Duration = Duration::from_secs(1);
const LEAST_BURST: u64 = 16 * 1024;

/// A packet that was sent again.
#[derive(Clone, Copy, Debug)]
struct Again {
    sequence: u16,
    /// When that was last.
    at: Instant,
    /// The receiver has it.
    has_arrived: bool,
}

/// What has become of the last answer to a request, when another one comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// There was none.
    None,
    /// The receiver can have asked again before it came.
    Underway,
    /// It was lost.
    Lost,
}

/// The retransmissions of one slot.
#[derive(Debug)]
pub(crate) struct Retransmitter {
    /// By the low bits of the sequence number.
    recent: Vec<Option<Again>>,
    /// What the media sent pays for, bytes.
    budget: f64,
    /// What the path has room for: how fast, how much now in bytes, and as of when.
    limit: Option<(Bitrate, f64, Instant)>,
}

impl Default for Retransmitter {
    fn default() -> Self {
        Retransmitter {
            recent: Vec::new(),
            budget: BURST,
            limit: None,
        }
    }
}

impl Retransmitter {
    /// Notes media sent, which pays for retransmissions.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.budget = (self.budget + bytes as f64 * SHARE).min(BURST);
    }

    /// Says how fast may be sent again, whatever was sent before.
    pub(crate) fn set_limit(&mut self, now: Instant, limit: Bitrate) {
        let most = limit.during(LIMIT_WINDOW).as_bytes().max(LEAST_BURST) as f64;
        let left = match self.limit {
            None => most,
            Some((former, left, at)) => {
                let since = now.saturating_duration_since(at);
                (left + former.during(since).as_bytes() as f64).min(most)
            }
        };
        self.limit = Some((limit, left, now));
    }

    /// Whether a packet has been sent again before, and lately.
    #[must_use]
    pub(crate) fn was_sent(&self, now: Instant, sequence: u16) -> bool {
        self.again(now, sequence).is_some()
    }

    /// What has become of the last answer to a request for a packet, which is asked for again.
    #[must_use]
    pub(crate) fn last(&self, now: Instant, sequence: u16, round_trip: Option<Duration>) -> Answer {
        let round_trip = round_trip.unwrap_or(DEFAULT_ROUND_TRIP);
        let again = self.again(now, sequence);
        match again.map(|again| now.saturating_duration_since(again.at)) {
            None => Answer::None,
            Some(since) if since < round_trip.mul_f64(ANSWER_SHARE) => Answer::Underway,
            Some(_) => Answer::Lost,
        }
    }

    /// Notes that the receiver has a packet: when feedback comes to what else was sent of it, that may be
    /// lost.
    pub(crate) fn handle_arrival(&mut self, sequence: u16) {
        let entry = self.recent.get_mut(usize::from(sequence) % REMEMBERED);
        if let Some(Some(again)) = entry
            && again.sequence == sequence
        {
            again.has_arrived = true;
        }
    }

    /// Whether the receiver has a packet that was sent again.
    #[must_use]
    pub(crate) fn has_arrived(&self, now: Instant, sequence: u16) -> bool {
        self.again(now, sequence)
            .is_some_and(|again| again.has_arrived)
    }

    /// What is remembered of a packet. What is older is of another that had the same number.
    fn again(&self, now: Instant, sequence: u16) -> Option<Again> {
        let entry = self.recent.get(usize::from(sequence) % REMEMBERED);
        entry.copied().flatten().filter(|again| {
            again.sequence == sequence && now.saturating_duration_since(again.at) < MAX_AGE
        })
    }

    /// Whether a packet is to be sent again now; if so, it is taken as done.
    pub(crate) fn allow(
        &mut self,
        now: Instant,
        sequence: u16,
        bytes: usize,
        round_trip: Option<Duration>,
    ) -> bool {
        let interval = round_trip
            .unwrap_or(DEFAULT_ROUND_TRIP)
            .mul_f64(ROUND_TRIP_SHARE)
            .max(MIN_INTERVAL);
        let again = self.again(now, sequence);
        let too_soon =
            again.is_some_and(|again| now.saturating_duration_since(again.at) < interval);
        if too_soon || !self.spend(bytes) {
            return false;
        }
        self.note(now, sequence);
        true
    }

    /// Notes that a packet was sent for the first time when it was late already, and asked for: it is
    /// as good as sent again.
    pub(crate) fn handle_late(&mut self, now: Instant, sequence: u16) {
        self.note(now, sequence);
    }

    fn note(&mut self, now: Instant, sequence: u16) {
        if self.recent.is_empty() {
            self.recent.resize(REMEMBERED, None);
        }
        self.recent[usize::from(sequence) % REMEMBERED] = Some(Again {
            sequence,
            at: now,
            has_arrived: false,
        });
    }

    /// Takes the bytes of another copy out of the budget, if it can spare them.
    pub(crate) fn spend_on_copy(&mut self, bytes: usize) -> bool {
        self.budget >= RESERVE && self.spend(bytes)
    }

    fn spend(&mut self, bytes: usize) -> bool {
        let bytes = bytes as f64;
        let has_room = self.limit.is_none_or(|(_, left, _)| left >= bytes);
        let is_affordable = self.budget >= bytes && has_room;
        if is_affordable {
            self.budget -= bytes;
            if let Some((_, left, _)) = &mut self.limit {
                *left -= bytes;
            }
        }
        is_affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_packet_is_sent_again_when_a_receiver_may_ask_again() {
        let start = Instant::now();
        let mut retransmitter = Retransmitter::default();
        let sent = (0..1000)
            .filter(|ms| retransmitter.allow(start + *ms * MS, 5, 100, Some(100 * MS)))
            .count();
        assert_eq!(sent, 17, "every 60 ms");
    }

    #[test]
    fn what_came_late_answers_what_was_asked_before_it_came() {
        let start = Instant::now();
        let mut retransmitter = Retransmitter::default();
        retransmitter.handle_late(start, 5);
        assert!(!retransmitter.allow(start + 59 * MS, 5, 100, Some(100 * MS)));
        assert!(retransmitter.was_sent(start + 59 * MS, 5));
        assert!(retransmitter.allow(start + 60 * MS, 5, 100, Some(100 * MS)));
    }

    #[test]
    fn a_request_on_the_way_does_not_say_that_the_answer_is_lost() {
        let start = Instant::now();
        let mut retransmitter = Retransmitter::default();
        let last = |retransmitter: &Retransmitter, ms: u32| {
            retransmitter.last(start + ms * MS, 5, Some(100 * MS))
        };
        assert_eq!(last(&retransmitter, 0), Answer::None);
        assert!(retransmitter.allow(start, 5, 100, Some(100 * MS)));
        assert_eq!(last(&retransmitter, 79), Answer::Underway);
        assert_eq!(last(&retransmitter, 80), Answer::Lost);
        assert_eq!(last(&retransmitter, 60_000), Answer::None);
    }

    #[test]
    fn what_arrived_is_forgotten_before_its_number_comes_again() {
        let start = Instant::now();
        let mut retransmitter = Retransmitter::default();
        assert!(retransmitter.allow(start, 5, 100, Some(100 * MS)));
        retransmitter.handle_arrival(5);
        assert!(retransmitter.has_arrived(start + 100 * MS, 5));
        assert!(!retransmitter.has_arrived(start + MAX_AGE, 5));
    }

    #[test]
    fn copies_leave_the_first_of_each_its_place() {
        let mut retransmitter = Retransmitter::default();
        let copies = (0..1000).filter(|_| retransmitter.spend_on_copy(1000));
        assert_eq!(copies.count(), 66);
        assert!(retransmitter.allow(Instant::now(), 5, 1000, None));
    }

    #[test]
    fn a_storm_is_bounded_by_what_is_sent_anyway() {
        let start = Instant::now();
        let mut retransmitter = Retransmitter::default();
        let storm = |retransmitter: &mut Retransmitter, from: u32| {
            (0..1000)
                .filter(|n| retransmitter.allow(start + (from + n) * MS, *n as u16, 1000, Some(MS)))
                .count()
        };
        assert_eq!(storm(&mut retransmitter, 0), 131, "the burst");
        assert!(!retransmitter.spend_on_copy(100));
        retransmitter.sent(20_000);
        assert_eq!(storm(&mut retransmitter, 1000), 20);
        // And by what the path has room for.
        retransmitter.sent(1_000_000);
        retransmitter.set_limit(start, Bitrate::kbps(400));
        assert_eq!(storm(&mut retransmitter, 3000), 50);
        retransmitter.set_limit(start + 100 * MS, Bitrate::kbps(400));
        assert_eq!(storm(&mut retransmitter, 4000), 5);
    }
}
