//! Which packets of an encoding are missing, and when to ask for them (RFC 4585 section 6.2.1).
//!
//! In: the extended sequence number of each packet that arrives. Out: batches of 16-bit sequence
//! numbers to put into a generic NACK. Work and memory are bounded however large a gap claims to be.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::bandwidth::outage::is_outage;
use crate::media::Kind;
use crate::rtp::sequence::SequenceNumber;

/// How long a gap may be mere reordering before it is asked for: at least and at most. Within these
/// it follows the reordering that has been seen.
const MIN_GRACE: Duration = Duration::from_millis(10);
const MAX_GRACE: Duration = Duration::from_millis(20);

/// How much the grace shrinks with each packet that comes in order.
const GRACE_DECAY: Duration = Duration::from_micros(10);

/// How long to wait for an answer before asking again, until a round trip has been measured.
const DEFAULT_RETRY: Duration = Duration::from_millis(100);

/// Shortest wait between two requests for one packet.
const MIN_RETRY: Duration = Duration::from_millis(20);

/// How often one packet is asked for and an answer waited for: as often as fits [`MAX_AGE`] over a round trip of
/// 100 ms. libwebrtc's `kMaxNackRetries` is 10, but it waits three seconds before it asks for a key frame.
const MAX_ROUNDS: u8 = 12;

/// Rounds that follow each other by a round trip; later ones take twice as long. At random loss of 30 % both
/// ways a round fails one time in three: one packet in 20,000 is left after so many.
const PATIENT_AFTER: u8 = 8;

/// Requests are lost like everything else. From this loss on each is repeated so often, so soon after
/// another. A publisher answers once in a round trip and this allowance, however often it is asked
/// (libwebrtc's `RtpPacketHistory::SetRtt`): what is repeated costs a few bytes of RTCP, and the next round
/// begins as soon as it would be answered.
const ASK_OFTEN_FROM: f64 = 0.04;
const OFTEN: u8 = 4;
const REPEAT_AFTER: Duration = Duration::from_millis(10);
const ANSWER_ALLOWANCE: Duration = Duration::from_millis(5);

/// Numbers over which the loss is averaged: some seconds of audio, one of video. Until there are as
/// many, over those that there are.
const AVERAGED: f64 = 128.0;

/// After this a packet is given up for a key frame, which is lost in part like everything else.
const MAX_AGE: Duration = Duration::from_millis(1500);

/// The same for audio, which no receiver holds up for as long as that.
const MAX_AUDIO_AGE: Duration = Duration::from_millis(400);

/// What was sent in an outage longer than this is not asked for: a key frame is sooner there.
const MAX_OUTAGE: Duration = Duration::from_secs(1);

/// Most packets missing at once; a larger gap is a restart of the stream, which only a key frame
/// mends.
pub(crate) const MAX_MISSING: usize = 256;

#[derive(Debug)]
struct Missing {
    sequence: SequenceNumber,
    /// When the last one before the gap came.
    after: Instant,
    noticed: Instant,
    next_request: Instant,
    requests: u8,
}

/// What the arrival of a packet meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// The next packet, or one after a gap that is now being repaired.
    New,
    /// A packet that was missing.
    Recovered,
    /// Older than what is tracked, or seen before.
    Old,
    /// After a gap too large to repair: what decodes the stream needs a key frame.
    Lost,
}

/// The gaps of one encoding.
#[derive(Debug)]
pub(crate) struct NackGenerator {
    kind: Kind,
    grace: Duration,
    /// The highest number, and when it came.
    highest: Option<(SequenceNumber, Instant)>,
    last_arrival: Option<Instant>,
    missing: VecDeque<Missing>,
    /// The share of numbers that did not come at first, smoothed, and over how many.
    loss: f64,
    averaged: f64,
}

impl NackGenerator {
    /// For an encoding of a kind, of which nothing is missing.
    #[must_use]
    pub(crate) fn new(kind: Kind) -> Self {
        NackGenerator {
            kind,
            grace: MIN_GRACE,
            highest: None,
            last_arrival: None,
            missing: VecDeque::new(),
            loss: 0.0,
            averaged: 0.0,
        }
    }

    /// Notes the arrival of a packet.
    pub(crate) fn handle_packet(&mut self, now: Instant, sequence: SequenceNumber) -> Arrival {
        let last_arrival = self.last_arrival.replace(now).unwrap_or(now);
        let Some((highest, after)) = self.highest else {
            self.highest = Some((sequence, now));
            return Arrival::New;
        };
        if sequence <= highest {
            return match self.missing.binary_search_by_key(&sequence, |m| m.sequence) {
                Ok(index) => {
                    let missing = self.missing.remove(index);
                    // What nobody has asked for was only overtaken.
                    if let Some(late) = missing.filter(|m| m.requests == 0) {
                        let by = now.saturating_duration_since(late.noticed);
                        self.grace = self.grace.max(by + by / 4).min(MAX_GRACE);
                        self.loss = (self.loss - 1.0 / self.averaged.max(1.0)).max(0.0);
                    }
                    Arrival::Recovered
                }
                Err(_) => Arrival::Old,
            };
        }
        self.highest = Some((sequence, now));
        self.grace = self.grace.saturating_sub(GRACE_DECAY).max(MIN_GRACE);
        let grace = self.grace;
        let gap = sequence.0 - highest.0 - 1;
        let silence = now.saturating_duration_since(last_arrival);
        let is_outage = is_outage(silence, gap);
        // Sent again it would be too late, and hold up what follows. Fewer packets are the beginning of a
        // frame of a slow screen share.
        let is_too_late = is_outage && silence > MAX_OUTAGE;
        if is_too_late || gap.saturating_add(self.missing.len() as u64) > MAX_MISSING as u64 {
            self.missing.clear();
            return Arrival::Lost;
        }
        let lost = if is_outage { 0 } else { gap };
        for is_lost in (0..lost).map(|_| 1.0).chain([0.0]) {
            self.averaged = (self.averaged + 1.0).min(AVERAGED);
            self.loss += (is_lost - self.loss) / self.averaged;
        }
        self.missing.extend((1..=gap).map(|ahead| Missing {
            sequence: highest + ahead,
            after,
            noticed: now,
            next_request: now + grace,
            requests: 0,
        }));
        Arrival::New
    }

    /// Packets take another path now: what the former lost says nothing of it.
    pub(crate) fn forget_loss(&mut self) {
        (self.loss, self.averaged) = (0.0, 0.0);
    }

    /// Takes a number out that turned out to be nothing to wait for. Says whether it was missing.
    pub(crate) fn forget(&mut self, sequence: SequenceNumber) -> bool {
        let found = self.missing.binary_search_by_key(&sequence, |m| m.sequence);
        found.is_ok_and(|index| self.missing.remove(index).is_some())
    }

    /// When the next request is due.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.missing.iter().map(|m| m.next_request).min()
    }

    /// Appends what to ask for now, in order. `round_trip` is that of the publisher, if known.
    /// Returns how many packets were given up, for each of which a decoder downstream needs a key frame.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        round_trip: Option<Duration>,
        requests: &mut Vec<u16>,
    ) -> usize {
        let copies = self.copies();
        let round = match (round_trip, copies) {
            (None, _) => DEFAULT_RETRY,
            (Some(round_trip), 1) => (round_trip + round_trip / 4).max(MIN_RETRY),
            (Some(round_trip), _) => round_trip + ANSWER_ALLOWANCE,
        };
        let repeats = REPEAT_AFTER * u32::from(copies - 1);
        let next_round = round.saturating_sub(repeats).max(REPEAT_AFTER);
        let max_age = match self.kind {
            Kind::Audio => MAX_AUDIO_AGE,
            Kind::Video => MAX_AGE,
        };
        let before = self.missing.len();
        self.missing.retain_mut(|m| {
            if m.next_request > now {
                return true;
            }
            if m.requests >= MAX_ROUNDS * copies
                || now.saturating_duration_since(m.noticed) > max_age
            {
                return false;
            }
            m.requests += 1;
            // What is lost more often than that is lost to congestion, which requests would feed.
            let backoff = 1 + u32::from(m.requests / (PATIENT_AFTER * copies));
            let wait = match m.requests % copies {
                0 => next_round,
                _ => REPEAT_AFTER,
            };
            m.next_request = now + wait * backoff;
            requests.push(m.sequence.wire());
            true
        });
        before - self.missing.len()
    }

    /// How often a round trip to ask for what is missing.
    fn copies(&self) -> u8 {
        match self.loss < ASK_OFTEN_FROM {
            true => 1,
            false => OFTEN,
        }
    }

    /// When the oldest packet that is missing now can have been sent first, as far as arrivals tell.
    #[must_use]
    pub(crate) fn missing_since(&self) -> Option<Instant> {
        self.missing.front().map(|m| m.after)
    }

    /// Which packets are missing now, in order.
    pub(crate) fn missing_numbers(&self) -> impl Iterator<Item = SequenceNumber> {
        self.missing.iter().map(|m| m.sequence)
    }

    /// How many packets are missing now.
    #[cfg(test)]
    pub(crate) fn missing(&self) -> usize {
        self.missing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn arrive(nack: &mut NackGenerator, now: Instant, sequence: u64) -> Arrival {
        nack.handle_packet(now, SequenceNumber(sequence))
    }

    fn ask(nack: &mut NackGenerator, now: Instant) -> Vec<u16> {
        let mut out = Vec::new();
        nack.poll(now, Some(40 * MS), &mut out);
        out
    }

    /// An encoding that has lost nothing so far; its last number is 1000.
    fn settled(kind: Kind, now: Instant) -> NackGenerator {
        let mut nack = NackGenerator::new(kind);
        for sequence in 500..=1000 {
            arrive(&mut nack, now, sequence);
        }
        nack
    }

    /// When a packet is asked for that never comes, milliseconds.
    fn requests(nack: &mut NackGenerator, start: Instant) -> Vec<u128> {
        let mut asked = Vec::new();
        while let Some(deadline) = nack.next_deadline() {
            if !ask(nack, deadline).is_empty() {
                asked.push((deadline - start).as_millis());
            }
        }
        asked
    }

    #[test]
    fn a_gap_is_asked_for_after_the_grace_and_every_round_trip() {
        let start = Instant::now();
        let mut nack = settled(Kind::Video, start);
        assert_eq!(arrive(&mut nack, start, 1003), Arrival::New);
        assert_eq!(ask(&mut nack, start), []);
        assert_eq!(ask(&mut nack, start + MIN_GRACE), [1001, 1002]);
        assert_eq!(ask(&mut nack, start + MIN_GRACE + 49 * MS), []);
        assert_eq!(arrive(&mut nack, start, 1002), Arrival::Recovered);
        assert_eq!(ask(&mut nack, start + MIN_GRACE + 50 * MS), [1001]);
        assert_eq!(arrive(&mut nack, start, 1002), Arrival::Old);
    }

    #[test]
    fn a_packet_may_have_been_sent_since_the_one_before_it_came() {
        let start = Instant::now();
        let mut nack = NackGenerator::new(Kind::Video);
        arrive(&mut nack, start, 1);
        arrive(&mut nack, start + 10 * MS, 2);
        // Of a slow encoding: the gap shows when its next picture comes.
        arrive(&mut nack, start + 200 * MS, 4);
        arrive(&mut nack, start + 210 * MS, 6);
        assert_eq!(nack.missing_since(), Some(start + 10 * MS));
        arrive(&mut nack, start + 220 * MS, 3);
        assert_eq!(nack.missing_since(), Some(start + 200 * MS));
    }

    #[test]
    fn reordering_within_the_grace_asks_for_nothing() {
        let start = Instant::now();
        let mut nack = NackGenerator::new(Kind::Video);
        for sequence in [1, 3, 2, 5, 4] {
            arrive(&mut nack, start, sequence);
        }
        assert_eq!(nack.next_deadline(), None);
    }

    #[test]
    fn a_packet_that_never_comes_is_given_up_and_said_so() {
        let start = Instant::now();
        let mut nack = settled(Kind::Video, start);
        arrive(&mut nack, start, 1002);
        let mut asked = 0;
        let mut given_up = 0;
        let mut now = start;
        while let Some(deadline) = nack.next_deadline() {
            now = deadline;
            let mut out = Vec::new();
            given_up += nack.poll(now, None, &mut out);
            asked += out.len();
        }
        assert_eq!(given_up, 1);
        assert!((4..=usize::from(MAX_ROUNDS)).contains(&asked), "{asked}");
        assert!(now - start <= MAX_AGE + 5 * DEFAULT_RETRY);
    }

    #[test]
    fn requests_are_spread_out_more_and_more() {
        let start = Instant::now();
        for (kind, expected) in [
            (
                Kind::Video,
                vec![10, 60, 110, 160, 210, 260, 310, 360, 460, 560, 660, 760],
            ),
            (Kind::Audio, vec![10, 60, 110, 160, 210, 260, 310, 360]),
        ] {
            let mut nack = settled(kind, start);
            arrive(&mut nack, start, 1002);
            assert_eq!(requests(&mut nack, start), expected, "{kind}");
        }
    }

    #[test]
    fn where_requests_are_lost_too_they_are_repeated_within_the_round_trip() {
        let start = Instant::now();
        let often = [10, 20, 30, 40, 55];
        for (one_in, first) in [(40, [10, 60, 110, 160, 210]), (15, often), (3, often)] {
            let mut nack = NackGenerator::new(Kind::Video);
            let arrives = |sequence: &u64| !sequence.is_multiple_of(one_in);
            for sequence in (1..=900).filter(arrives) {
                arrive(&mut nack, start, sequence);
                for lost in sequence.saturating_sub(2)..sequence {
                    nack.forget(SequenceNumber(lost));
                }
            }
            arrive(&mut nack, start, 902);
            assert_eq!(requests(&mut nack, start)[..5], first, "one in {one_in}");
        }
    }

    #[test]
    fn the_grace_follows_the_reordering() {
        let start = Instant::now();
        let mut nack = NackGenerator::new(Kind::Video);
        arrive(&mut nack, start, 1);
        arrive(&mut nack, start, 3);
        arrive(&mut nack, start + 9 * MS, 2);
        arrive(&mut nack, start + 20 * MS, 5);
        let grace = nack.next_deadline().map(|at| at - (start + 20 * MS));
        assert!(
            grace.is_some_and(|grace| grace > 11 * MS && grace < 12 * MS),
            "{grace:?}"
        );
        for sequence in 6..1000 {
            arrive(&mut nack, start + 20 * MS, sequence);
        }
        nack.forget(SequenceNumber(4));
        arrive(&mut nack, start + 20 * MS, 1001);
        assert_eq!(nack.next_deadline(), Some(start + 20 * MS + MIN_GRACE));
    }

    #[test]
    fn what_an_outage_has_swallowed_is_not_asked_for() {
        let start = Instant::now();
        let after = start + MAX_OUTAGE + MS;
        for (gap, arrival) in [(19, Arrival::New), (20, Arrival::Lost)] {
            let mut nack = NackGenerator::new(Kind::Video);
            arrive(&mut nack, start, 1);
            assert_eq!(arrive(&mut nack, after, 2 + gap), arrival);
            let mut nack = NackGenerator::new(Kind::Video);
            arrive(&mut nack, start, 1);
            assert_eq!(arrive(&mut nack, start + MAX_OUTAGE, 2 + gap), Arrival::New);
        }
    }

    #[test]
    fn a_gap_without_end_costs_nothing() {
        let start = Instant::now();
        let mut nack = NackGenerator::new(Kind::Video);
        arrive(&mut nack, start, 1);
        assert_eq!(arrive(&mut nack, start, u64::MAX / 2), Arrival::Lost);
        assert_eq!(nack.missing(), 0);
        for i in 0..10_000u64 {
            arrive(&mut nack, start, u64::MAX / 2 + 2 * i);
            assert!(nack.missing() <= MAX_MISSING);
        }
    }
}
