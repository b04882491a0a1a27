//! What of an encoding has arrived: the counts and the jitter of a reception report.
//!
//! In: each packet that arrives. Out: report blocks (RFC 3550 section 6.4). What an outage swallowed is
//! not lost: see [`outage`](crate::bandwidth::outage).

use std::ops::Range;
use std::time::Instant;

use crate::bandwidth::outage::is_outage;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::sequence::SequenceNumber;
use crate::types::Ssrc;

/// RFC 3550 appendices A.3 and A.8.
#[derive(Debug, Default)]
pub(super) struct Reception {
    first: Option<SequenceNumber>,
    highest: SequenceNumber,
    pub(super) received: u64,
    last_arrival: Option<Instant>,
    /// How many packets outages have swallowed, and which the last one did.
    swallowed: u64,
    outage: Range<SequenceNumber>,
    expected_before: u64,
    received_before: u64,
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
        if !self.handle_number(now, number) {
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
    pub(super) fn handle_number(&mut self, now: Instant, number: SequenceNumber) -> bool {
        let last = self.last_arrival.replace(now).unwrap_or(now);
        if self.first.is_none() {
            self.first = Some(number);
            self.highest = number;
        }
        let is_newest = number >= self.highest;
        if is_newest {
            let missing = number.0.saturating_sub(self.highest.0 + 1);
            if is_outage(now.saturating_duration_since(last), missing) {
                self.swallowed += missing;
                self.outage = self.highest + 1..number;
            }
            self.highest = number;
        }
        self.handle_arrival(number);
        is_newest
    }

    /// Notes a packet that was missing and has been sent again.
    pub(super) fn recovered(&mut self, number: SequenceNumber) {
        self.handle_arrival(number);
    }

    fn handle_arrival(&mut self, number: SequenceNumber) {
        self.received += 1;
        if self.outage.contains(&number) {
            self.swallowed = self.swallowed.saturating_sub(1);
        }
    }

    /// How many packets were to come, but for those that an outage has swallowed.
    fn expected(&self) -> u64 {
        let sent = self
            .first
            .map_or(0, |first| self.highest.0.saturating_sub(first.0) + 1);
        sent.saturating_sub(self.swallowed)
    }

    pub(super) fn lost(&self) -> i64 {
        // Differences of packet counts are far below 2^63.
        self.expected() as i64 - self.received as i64
    }

    pub(super) fn block(&mut self, ssrc: Ssrc) -> Option<ReportBlock> {
        self.first?;
        let expected = self.expected().saturating_sub(self.expected_before);
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
