//! Which packets of video a browser asks for again, and when: the rules of libwebrtc's
//! `NackRequester`.
//!
//! In: the numbers that arrive, the round-trip time. Out: the numbers to ask for now. A gap is asked
//! for at once, or after as many packets as reordering usually takes, and then once a round trip.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Requests for one packet, after which nothing more is hoped for.
const MAX_TRIES: u32 = 10;

/// Numbers after which a missing packet is forgotten.
const MAX_AGE: u64 = 10_000;

/// Missing packets beyond which a key frame is cheaper.
const MAX_MISSING: usize = 1000;

/// Time between two looks at what has been asked for.
const INTERVAL: Duration = Duration::from_millis(20);

/// The round-trip time of a client that sends nothing and therefore never measures it.
pub const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Reordered packets whose distances are remembered, and the largest distance that counts.
const REORDERINGS: (usize, u64) = (128, 9);

#[derive(Debug)]
struct Missing {
    /// The highest number at which it is no longer taken for reordering.
    overdue_at: u64,
    last_asked: Option<Instant>,
    tries: u32,
}

/// What is missing of one stream.
#[derive(Debug, Default)]
pub struct NackRequester {
    missing: BTreeMap<u64, Missing>,
    highest: Option<u64>,
    /// By how many packets others were overtaken.
    reorderings: VecDeque<u64>,
    /// Something new is missing since.
    news: Option<Instant>,
    next_look: Option<Instant>,
    wants_key_frame: bool,
    /// Packets asked for, each as often as it was.
    pub requested: u64,
}

/// What a packet is to its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Higher than any before.
    Newest,
    /// It fills a gap; whether it had been asked for.
    Late {
        /// It had.
        was_asked_for: bool,
    },
    /// It came before, or is no longer waited for.
    Needless,
}

impl Arrival {
    /// Whether it fills a gap that had been asked for.
    #[must_use]
    pub fn was_asked_for(self) -> bool {
        let asked = Arrival::Late {
            was_asked_for: true,
        };
        self == asked
    }
}

impl NackRequester {
    /// Takes the extended sequence number of a packet that came, as media or retransmitted.
    pub fn handle_packet(&mut self, now: Instant, sequence: u64, is_repair: bool) -> Arrival {
        let Some(highest) = self.highest.filter(|&highest| sequence <= highest) else {
            self.note_gap(now, sequence);
            return Arrival::Newest;
        };
        let Some(missing) = self.missing.remove(&sequence) else {
            return Arrival::Needless;
        };
        if !is_repair {
            self.reorderings
                .push_back((highest - sequence).min(REORDERINGS.1));
            if self.reorderings.len() > REORDERINGS.0 {
                self.reorderings.pop_front();
            }
        }
        Arrival::Late {
            was_asked_for: missing.tries > 0,
        }
    }

    fn note_gap(&mut self, now: Instant, sequence: u64) {
        let Some(highest) = self.highest.replace(sequence) else {
            return;
        };
        self.missing = self.missing.split_off(&sequence.saturating_sub(MAX_AGE));
        let gap = highest + 1..sequence;
        if self.missing.len() as u64 + (gap.end - gap.start) > MAX_MISSING as u64 {
            self.missing.clear();
            self.wants_key_frame = true;
            return;
        }
        let patience = self.usual_reordering();
        self.missing.extend(gap.map(|lost| {
            let missing = Missing {
                overdue_at: lost + patience,
                last_asked: None,
                tries: 0,
            };
            (lost, missing)
        }));
        if !self.missing.is_empty() {
            self.news = Some(now);
        }
    }

    /// The median distance of reordered packets.
    fn usual_reordering(&self) -> u64 {
        let mut distances: Vec<u64> = self.reorderings.iter().copied().collect();
        distances.sort_unstable();
        distances
            .get(distances.len() / 2)
            .copied()
            .unwrap_or_default()
    }

    /// Forgets what comes before this number: the decoder is past it.
    pub fn clear_up_to(&mut self, sequence: u64) {
        self.missing = self.missing.split_off(&sequence);
    }

    /// The highest number that came.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The numbers to ask for now.
    pub fn poll(&mut self, now: Instant, round_trip: Duration) -> Vec<u16> {
        self.news = None;
        let is_look = self.next_look.take_if(|due| now >= *due).is_some();
        let highest = self.highest.unwrap_or_default();
        let mut due = Vec::new();
        let hopeful = self.missing.iter_mut().filter(|(_, m)| m.tries < MAX_TRIES);
        for (&sequence, missing) in hopeful {
            let is_due = match missing.last_asked {
                None => is_look || highest >= missing.overdue_at,
                Some(at) => is_look && now >= at + round_trip,
            };
            if is_due {
                missing.last_asked = Some(now);
                missing.tries += 1;
                due.push(sequence as u16);
            }
            self.next_look.get_or_insert(now + INTERVAL);
        }
        self.requested += due.len() as u64;
        due
    }

    /// Whether so much is missing that a key frame is to be asked for; if so, it is taken as done.
    pub fn poll_key_frame(&mut self) -> bool {
        std::mem::take(&mut self.wants_key_frame)
    }

    /// When [`NackRequester::poll`] may have something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.news.into_iter().chain(self.next_look).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    #[test]
    fn a_gap_is_asked_for_at_once_and_ten_times_in_all() {
        let start = Instant::now();
        let mut nack = NackRequester::default();
        nack.handle_packet(start, 100, false);
        nack.handle_packet(start, 103, false);
        let mut asked = Vec::new();
        for ms in (0..3000).step_by(20) {
            let now = start + Duration::from_millis(ms);
            let numbers = nack.poll(now, ROUND_TRIP);
            assert!(numbers.is_empty() || numbers == [101, 102]);
            asked.extend((!numbers.is_empty()).then_some(ms));
        }
        assert_eq!(asked, (0..10).map(|n| n * 100).collect::<Vec<_>>());
        let late = nack.handle_packet(start, 101, true);
        assert_eq!(
            late,
            Arrival::Late {
                was_asked_for: true
            }
        );
        assert_eq!(nack.handle_packet(start, 101, true), Arrival::Needless);
    }

    #[test]
    fn where_packets_overtake_each_other_a_gap_is_given_time() {
        let start = Instant::now();
        let mut nack = NackRequester::default();
        nack.handle_packet(start, 0, false);
        for n in 0..10 {
            nack.handle_packet(start, 3 * n + 3, false);
            nack.handle_packet(start, 3 * n + 1, false);
            nack.handle_packet(start, 3 * n + 2, false);
        }
        nack.handle_packet(start, 32, false);
        assert_eq!(nack.poll(start, ROUND_TRIP), [0_u16; 0]);
        nack.handle_packet(start, 33, false);
        assert_eq!(nack.poll(start, ROUND_TRIP), [31]);
    }

    #[test]
    fn too_many_gaps_are_a_key_frame() {
        let start = Instant::now();
        let mut nack = NackRequester::default();
        nack.handle_packet(start, 1, false);
        nack.handle_packet(start, 1 + MAX_MISSING as u64 + 2, false);
        assert!(nack.poll_key_frame());
        assert!(!nack.poll_key_frame());
        assert_eq!(nack.poll(start, ROUND_TRIP), [0_u16; 0]);
    }
}
