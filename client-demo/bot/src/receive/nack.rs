//! Which packets to ask for again (RFC 4585 section 6.2.1), as browsers do: at once when one is
//! missing, and again every round trip until it comes or has been asked for ten times.
//!
//! In: extended sequence numbers as they arrive, and the time. Out: sequence numbers to ask for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Requests for one packet before it is given up (libwebrtc's `kMaxNackRetries`).
const MAX_REQUESTS: u8 = 10;
/// The round trip before one is known (libwebrtc's `kDefaultRttMs`), and the shortest time between
/// two requests for a packet (its `kUpdateInterval`).
pub(crate) const DEFAULT_RTT: Duration = Duration::from_millis(100);
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// Missing packets that are asked for; with more the picture is beyond repair (libwebrtc's
/// `kMaxNackPackets`).
const MAX_MISSING: usize = 1000;

struct Request {
    requests: u8,
    due: Instant,
}

/// Asks for the missing packets of one stream.
pub(crate) struct NackGenerator {
    highest: Option<u64>,
    missing: BTreeMap<u64, Request>,
    rtt: Duration,
}

impl NackGenerator {
    pub(crate) fn new() -> NackGenerator {
        NackGenerator {
            highest: None,
            missing: BTreeMap::new(),
            rtt: DEFAULT_RTT,
        }
    }

    pub(crate) fn handle_packet(&mut self, now: Instant, sequence_number: u64) {
        let highest = *self.highest.get_or_insert(sequence_number);
        if sequence_number <= highest {
            self.missing.remove(&sequence_number);
            return;
        }
        self.highest = Some(sequence_number);
        if sequence_number - highest > MAX_MISSING as u64 {
            self.missing.clear();
            return;
        }
        for number in highest + 1..sequence_number {
            let request = Request {
                requests: 0,
                due: now,
            };
            self.missing.insert(number, request);
        }
        if self.missing.len() > MAX_MISSING {
            self.missing.clear();
        }
    }

    /// How long an answer takes.
    pub(crate) fn handle_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// Whether a packet may still come because it is asked for.
    pub(crate) fn awaits(&self, sequence_number: u64) -> bool {
        self.missing.contains_key(&sequence_number)
    }

    /// What to ask for now, in one RTCP packet.
    pub(crate) fn poll_requests(&mut self, now: Instant) -> Vec<u16> {
        // The last request has a round trip to be answered, too.
        self.missing
            .retain(|_, request| request.requests < MAX_REQUESTS || now < request.due);
        let interval = self.rtt.max(MIN_INTERVAL);
        let due = self
            .missing
            .iter_mut()
            .filter(|(_, request)| request.due <= now);
        due.map(|(number, request)| {
            request.requests += 1;
            request.due = now + interval;
            *number as u16
        })
        .collect()
    }

    /// When to poll again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.missing.values().map(|request| request.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_packet_is_asked_for_at_once_and_every_round_trip_ten_times() {
        let start = Instant::now();
        let mut nack = NackGenerator::new();
        nack.handle_rtt(Duration::from_millis(60));
        nack.handle_packet(start, 1 << 32 | 65_534);
        nack.handle_packet(start, (1 << 32 | 65_534) + 3);
        let mut asked = Vec::new();
        for ms in 0..2000 {
            let now = start + Duration::from_millis(ms);
            for number in nack.poll_requests(now) {
                asked.push((ms, number));
            }
            if ms == 100 {
                nack.handle_packet(now, (1 << 32 | 65_534) + 1);
            }
        }
        let of = |wanted: u16| -> Vec<u64> {
            let wanted = asked.iter().filter(|(_, number)| *number == wanted);
            wanted.map(|(ms, _)| *ms).collect()
        };
        assert_eq!(of(65_535), [0, 60]);
        assert_eq!(of(0), (0..10).map(|time| 60 * time).collect::<Vec<u64>>());
        assert_eq!(nack.next_deadline(), None);
    }

    #[test]
    fn a_packet_is_awaited_until_the_last_request_had_its_time() {
        let start = Instant::now();
        let mut nack = NackGenerator::new();
        nack.handle_packet(start, 10);
        nack.handle_packet(start, 12);
        for time in 0..10 {
            assert_eq!(nack.poll_requests(start + time * DEFAULT_RTT), [11]);
        }
        nack.poll_requests(start + 10 * DEFAULT_RTT - Duration::from_millis(1));
        assert!(nack.awaits(11));
        nack.poll_requests(start + 10 * DEFAULT_RTT);
        assert!(!nack.awaits(11));
    }

    #[test]
    fn what_is_beyond_repair_is_not_asked_for() {
        let now = Instant::now();
        let mut nack = NackGenerator::new();
        nack.handle_packet(now, 0);
        nack.handle_packet(now, 1 << 40);
        assert_eq!(nack.poll_requests(now), [0; 0]);
        for number in 1..=2 * MAX_MISSING as u64 {
            nack.handle_packet(now, (1 << 40) + 2 * number);
        }
        assert!(nack.missing.len() <= MAX_MISSING);
    }
}
