//! Transport-wide congestion control feedback for what a peer sends us
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! In: transport-wide sequence numbers and when they arrived. Out: every [`INTERVAL`], the arrivals
//! since the last feedback. The sender estimates its bandwidth from them.

use std::time::{Duration, Instant};

/// Time between two feedbacks. libwebrtc's own default; the draft says 50 to 250 ms.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Most packets in one feedback. At 100 ms this is 10,000 packets a second; what is over it is
/// reported lost, which is what a sender at such a rate needs to hear.
const MAX_PACKETS: usize = 1000;

/// What one peer sends.
#[derive(Debug, Default)]
pub struct FeedbackRecorder {
    arrivals: Vec<(u16, Instant)>,
    next: Option<Instant>,
}

impl FeedbackRecorder {
    /// Notes an arrival.
    pub fn handle_packet(&mut self, now: Instant, sequence: u16) {
        if self.arrivals.len() < MAX_PACKETS {
            self.arrivals.push((sequence, now));
        }
        if self.next.is_none() {
            self.next = Some(now + INTERVAL);
        }
    }

    /// When the next feedback is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The arrivals to report now, in the order of their sequence numbers, if any are due.
    pub fn poll(&mut self, now: Instant) -> Option<&[(u16, Instant)]> {
        self.next.take_if(|due| now >= *due)?;
        let &(first, _) = self.arrivals.first()?;
        // Within one interval numbers are far less than half a cycle apart.
        self.arrivals
            .sort_by_key(|&(sequence, _)| sequence.wrapping_sub(first) as i16);
        self.arrivals.dedup_by_key(|&mut (sequence, _)| sequence);
        Some(&self.arrivals)
    }

    /// The feedback is sent.
    pub fn clear(&mut self) {
        self.arrivals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_reported_in_order_over_the_wrap() {
        let start = Instant::now();
        let mut recorder = FeedbackRecorder::default();
        assert_eq!(recorder.next_deadline(), None);
        for sequence in [65_534, 0, 65_535, 0, 2] {
            recorder.handle_packet(start, sequence);
        }
        assert!(recorder.poll(start).is_none());
        let sequences: Vec<u16> = recorder
            .poll(start + INTERVAL)
            .into_iter()
            .flatten()
            .map(|&(sequence, _)| sequence)
            .collect();
        assert_eq!(sequences, [65_534, 65_535, 0, 2]);
        recorder.clear();
        assert!(recorder.poll(start + 10 * INTERVAL).is_none());
    }

    #[test]
    fn a_flood_is_bounded() {
        let start = Instant::now();
        let mut recorder = FeedbackRecorder::default();
        for sequence in 0..u16::MAX {
            recorder.handle_packet(start, sequence);
        }
        assert_eq!(recorder.poll(start + INTERVAL).map(<[_]>::len), Some(MAX_PACKETS));
    }
}
