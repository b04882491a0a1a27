//! How one stream arrives, as receiver reports tell it (RFC 3550, sections 6.4.1, A.3 and A.8).
//!
//! In: the packets of the stream itself; what another stream brings again is none of them. Out:
//! report blocks.

use std::time::{Duration, Instant};

use confab_sfu::inside::rtp::rtcp::{ReportBlock, compact_delay, compact_ntp};
use confab_sfu::types::Ssrc;

/// The reception of one stream.
#[derive(Debug)]
pub struct Reception {
    clock_rate: u32,
    began: Option<Instant>,
    first: u64,
    highest: u64,
    received: u64,
    /// Expected and received at the last report.
    reported: (u64, u64),
    transit: Option<u32>,
    /// In sixteenths of a tick of the clock.
    jitter: u32,
    sender_report: Option<SenderReport>,
}

/// What the last sender report said, and when it came.
#[derive(Clone, Copy, Debug)]
pub struct SenderReport {
    /// The sender's NTP time.
    pub ntp: u64,
    /// The same instant in the stream's timestamps.
    pub timestamp: u32,
    /// When it came.
    pub at: Instant,
}

impl Reception {
    /// The highest number so far, as the sender counts.
    #[must_use]
    pub fn newest(&self) -> u16 {
        self.highest as u16
    }

    /// Of a stream with this clock rate, of which nothing has come.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Reception {
            clock_rate,
            began: None,
            first: 0,
            highest: 0,
            received: 0,
            reported: (0, 0),
            transit: None,
            jitter: 0,
            sender_report: None,
        }
    }

    /// Takes a packet's extended sequence number and timestamp.
    pub fn handle_packet(&mut self, now: Instant, sequence: u64, timestamp: u32) {
        let began = *self.began.get_or_insert(now);
        if self.received == 0 {
            (self.first, self.highest) = (sequence, sequence);
        }
        self.first = self.first.min(sequence);
        self.highest = self.highest.max(sequence);
        self.received += 1;
        let ticks = (now - began).as_micros() * u128::from(self.clock_rate) / 1_000_000;
        let transit = (ticks as u32).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let change = (transit.wrapping_sub(before) as i32).unsigned_abs();
            // Over a second, the stream shows something else.
            if change < self.clock_rate {
                self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
            }
        }
    }

    /// Takes a sender report.
    pub fn handle_sender_report(&mut self, report: SenderReport) {
        self.sender_report = Some(report);
    }

    /// The last sender report.
    #[must_use]
    pub fn sender_report(&self) -> Option<SenderReport> {
        self.sender_report
    }

    /// Packets that came.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets that should have come.
    #[must_use]
    pub fn expected(&self) -> u64 {
        match self.received {
            0 => 0,
            _ => self.highest - self.first + 1,
        }
    }

    /// Packets lost, less duplicates.
    #[must_use]
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// The stream's part of a receiver report.
    #[must_use]
    pub fn report_block(&mut self, now: Instant, ssrc: Ssrc) -> Option<ReportBlock> {
        if self.received == 0 {
            return None;
        }
        let (expected, received) = (self.expected(), self.received);
        let before = std::mem::replace(&mut self.reported, (expected, received));
        let (expected, received) = (expected - before.0, received - before.1);
        let lost = expected.saturating_sub(received) * 256;
        let (ntp, held) = self
            .sender_report
            .map_or((0, Duration::ZERO), |report| (report.ntp, now - report.at));
        Some(ReportBlock {
            ssrc,
            fraction_lost: lost.checked_div(expected).unwrap_or(0).min(255) as u8,
            cumulative_lost: self.lost() as i32,
            extended_highest: self.highest as u32,
            jitter: self.jitter >> 4,
            last_sender_report: compact_ntp(ntp),
            delay_since_last: compact_delay(held),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_told_of_the_interval_and_of_all() {
        let start = Instant::now();
        let mut reception = Reception::new(48_000);
        assert!(reception.report_block(start, Ssrc(1)).is_none());
        for n in (0..100_u64).filter(|n| n % 4 != 3) {
            let now = start + Duration::from_millis(20 * n);
            reception.handle_packet(now, n, 960 * n as u32);
        }
        // The last number has not come, so nobody knows that it should have.
        let block = reception.report_block(start, Ssrc(1));
        let told = block.map(|b| (b.fraction_lost, b.cumulative_lost, b.jitter));
        assert_eq!(told, Some((24 * 256_u32 / 99) as u8).map(|f| (f, 24, 0)));
        reception.handle_packet(start, 100, 96_000);
        let block = reception.report_block(start, Ssrc(1));
        assert_eq!(
            block.map(|b| (b.fraction_lost, b.cumulative_lost)),
            Some((128, 25))
        );
    }
}
