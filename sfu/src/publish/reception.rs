//! What of an encoding has arrived: the counts and the jitter of a reception report.
//!
//! In: each packet that arrives. Out: report blocks (RFC 3550 section 6.4).

use std::time::Instant;

use crate::rtp::rtcp::ReportBlock;
use crate::rtp::sequence::SequenceNumber;
use crate::types::Ssrc;

/// RFC 3550 appendices A.3 and A.8.
#[derive(Debug, Default)]
pub(super) struct Reception {
    first: Option<SequenceNumber>,
    highest: SequenceNumber,
    pub(super) received: u64,
    expected_before: u64,
    received_before: u64,
    /// In timestamp units.
    jitter: f64,
    last_transit: Option<f64>,
    started: Option<Instant>,
}

impl Reception {
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        number: SequenceNumber,
        timestamp: u32,
        clock_rate: u32,
    ) {
        if !self.handle_number(number) {
            return;
        }
        let started = *self.started.get_or_insert(now);
        let arrival = now.saturating_duration_since(started).as_secs_f64() * f64::from(clock_rate);
        let transit = arrival - f64::from(timestamp);
        if let Some(last) = self.last_transit {
            let difference = (transit - last).abs();
            // A timestamp that jumps (or wraps) says nothing of the network.
            if difference < f64::from(clock_rate) {
                self.jitter += (difference - self.jitter) / 16.0;
            }
        }
        self.last_transit = Some(transit);
    }

    /// Notes a packet of which only the number counts. Says whether it is the newest.
    pub(super) fn handle_number(&mut self, number: SequenceNumber) -> bool {
        self.received += 1;
        if self.first.is_none() {
            self.first = Some(number);
            self.highest = number;
        }
        let is_newest = number >= self.highest;
        if is_newest {
            self.highest = number;
        }
        is_newest
    }

    pub(super) fn recovered(&mut self) {
        self.received += 1;
    }

    fn expected(&self) -> u64 {
        self.first
            .map_or(0, |first| self.highest.0.saturating_sub(first.0) + 1)
    }

    pub(super) fn lost(&self) -> i64 {
        // Differences of packet counts are far below 2^63.
        self.expected() as i64 - self.received as i64
    }

    pub(super) fn block(&mut self, ssrc: Ssrc) -> Option<ReportBlock> {
        self.first?;
        let expected = self.expected() - self.expected_before;
        let received = self.received - self.received_before;
        self.expected_before = self.expected();
        self.received_before = self.received;
        let lost = expected.saturating_sub(received);
        // 24 bits, signed (RFC 3550 section 6.4.1).
        let cumulative = self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32;
        Some(ReportBlock {
            ssrc,
            fraction_lost: (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8,
            cumulative_lost: cumulative,
            extended_highest: self.highest.0 as u32,
            jitter: self.jitter as u32,
            last_sender_report: 0,
            delay_since_last: 0,
        })
    }
}
