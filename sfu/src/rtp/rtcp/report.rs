//! Sender, receiver and extended reports, and goodbyes.

use std::time::Duration;

use super::{split_words, words};
use crate::types::Ssrc;

/// One report block, 32-bit words (RFC 3550 section 6.4.1).
const REPORT_BLOCK_WORDS: usize = 6;

/// Ticks of the delays in reports, per second (RFC 3550 section 6.4.1).
const COMPACT_TICKS_PER_SECOND: u64 = 1 << 16;

/// Block types of extended reports (RFC 3611 section 4.4 and 4.5).
const REFERENCE_TIME_BLOCK: u8 = 4;
const DLRR_BLOCK: u8 = 5;

/// What a sender sent, and what it receives from others (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug)]
pub struct SenderReport<'a> {
    /// What it sent.
    pub info: SenderInfo,
    blocks: &'a [u8],
}

/// What a sender report says of the sender (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SenderInfo {
    /// Whose report this is.
    pub ssrc: Ssrc,
    /// The sender's wall clock, 32.32 fixed-point seconds since 1900.
    pub ntp: u64,
    /// The same instant in the stream's RTP time.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packet_count: u32,
    /// Bytes of payload sent.
    pub octet_count: u32,
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let (
            [
                ssrc,
                ntp_high,
                ntp_low,
                rtp_timestamp,
                packet_count,
                octet_count,
            ],
            rest,
        ) = split_words(body)?;
        Some(SenderReport {
            info: SenderInfo {
                ssrc: Ssrc(ssrc),
                ntp: u64::from(ntp_high) << 32 | u64::from(ntp_low),
                rtp_timestamp,
                packet_count,
                octet_count,
            },
            blocks: report_blocks(count, rest)?,
        })
    }

    /// What this sender receives from others.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        read_blocks(self.blocks)
    }
}

/// What somebody who sends nothing receives from others (RFC 3550 section 6.4.2).
#[derive(Clone, Copy, Debug)]
pub struct ReceiverReport<'a> {
    /// Whose report this is.
    pub ssrc: Ssrc,
    blocks: &'a [u8],
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let ([ssrc], rest) = split_words(body)?;
        Some(ReceiverReport {
            ssrc: Ssrc(ssrc),
            blocks: report_blocks(count, rest)?,
        })
    }

    /// What it receives from others.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        read_blocks(self.blocks)
    }
}

/// The bytes of as many blocks as the header counts. A profile's extension may follow them.
fn report_blocks(count: u8, rest: &[u8]) -> Option<&[u8]> {
    rest.get(..usize::from(count) * REPORT_BLOCK_WORDS * 4)
}

fn read_blocks(blocks: &[u8]) -> impl Iterator<Item = ReportBlock> + '_ {
    blocks
        .as_chunks::<{ REPORT_BLOCK_WORDS * 4 }>()
        .0
        .iter()
        .filter_map(|block| Some(ReportBlock::from_words(split_words(block)?.0)))
}

/// How one stream is received (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: Ssrc,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the start, less duplicates: 24 bits with sign.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with its wraps in the upper half.
    pub extended_highest: u32,
    /// Interarrival jitter, in ticks of the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, 0 before the first.
    pub last_sender_report: u32,
    /// How long ago that came, in 65536ths of a second.
    pub delay_since_last: u32,
}

impl ReportBlock {
    fn from_words(words: [u32; REPORT_BLOCK_WORDS]) -> Self {
        let [
            ssrc,
            lost,
            extended_highest,
            jitter,
            last_sender_report,
            delay_since_last,
        ] = words;
        ReportBlock {
            ssrc: Ssrc(ssrc),
            fraction_lost: (lost >> 24) as u8,
            // Up and down again to extend the sign of 24 bits.
            cumulative_lost: (lost << 8) as i32 >> 8,
            extended_highest,
            jitter,
            last_sender_report,
            delay_since_last,
        }
    }

    pub(super) fn to_words(self) -> [u32; REPORT_BLOCK_WORDS] {
        const MAX: i32 = (1 << 23) - 1;
        let lost = self.cumulative_lost.clamp(-MAX - 1, MAX) as u32 & 0xff_ffff;
        [
            self.ssrc.0,
            u32::from(self.fraction_lost) << 24 | lost,
            self.extended_highest,
            self.jitter,
            self.last_sender_report,
            self.delay_since_last,
        ]
    }
}

/// The middle 32 bits of an NTP time: 16.16 fixed-point seconds.
#[must_use]
pub fn compact_ntp(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// A delay in 65536ths of a second, as reports carry it; the longest is 18 hours.
#[must_use]
pub fn compact_delay(delay: Duration) -> u32 {
    let ticks = delay.as_nanos() * u128::from(COMPACT_TICKS_PER_SECOND) / 1_000_000_000;
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// The round-trip time to somebody who echoes the compact NTP time of our report and says how long
/// it was held (RFC 3550 section 6.4.1). `None` without a report or when the clocks contradict.
#[must_use]
pub fn round_trip(now_ntp: u64, last_report: u32, held: u32) -> Option<Duration> {
    if last_report == 0 {
        return None;
    }
    let ticks = compact_ntp(now_ntp)
        .wrapping_sub(last_report)
        .wrapping_sub(held);
    // Half of the range is the future: a report that was echoed before it was sent.
    (ticks < u32::MAX / 2)
        .then(|| Duration::from_nanos(u64::from(ticks) * 1_000_000_000 / COMPACT_TICKS_PER_SECOND))
}

/// Streams that end (RFC 3550 section 6.6).
#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a> {
    sources: &'a [u8],
}

impl<'a> Goodbye<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        Some(Goodbye {
            sources: body.get(..usize::from(count) * 4)?,
        })
    }

    /// The streams, at most 31.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + 'a {
        words(self.sources).map(Ssrc)
    }
}

/// An extended report (RFC 3611).
#[derive(Clone, Copy, Debug)]
pub struct ExtendedReport<'a> {
    /// Whose report this is.
    pub ssrc: Ssrc,
    blocks: &'a [u8],
}

/// A block of an extended report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtendedBlock {
    /// A receiver's NTP time, to be answered with a [`DlrrReport`] (RFC 3611 section 4.4).
    ReferenceTime(u64),
    /// An answer to such a time of ours (RFC 3611 section 4.5).
    Dlrr(DlrrReport),
}

/// How long ago a receiver's reference time came (RFC 3611 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DlrrReport {
    /// The receiver.
    pub ssrc: Ssrc,
    /// The middle 32 bits of the NTP time it sent.
    pub last_receiver_report: u32,
    /// How long ago that came, in 65536ths of a second.
    pub delay_since_last: u32,
}

impl<'a> ExtendedReport<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let ([ssrc], blocks) = split_words(body)?;
        Some(ExtendedReport {
            ssrc: Ssrc(ssrc),
            blocks,
        })
    }

    /// The blocks we understand. Stops at one that runs past the end.
    pub fn blocks(&self) -> impl Iterator<Item = ExtendedBlock> + 'a {
        let mut rest = self.blocks;
        let blocks = std::iter::from_fn(move || {
            let (&[block_type, _, l0, l1], after) = rest.split_first_chunk()?;
            let len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
            let (body, after) = after.split_at_checked(len)?;
            rest = after;
            Some((block_type, body))
        });
        blocks.flat_map(|(block_type, body)| {
            let time = (block_type == REFERENCE_TIME_BLOCK)
                .then(|| body.first_chunk().map(|ntp| u64::from_be_bytes(*ntp)))
                .flatten();
            let reports = if block_type == DLRR_BLOCK { body } else { &[] };
            let reports = reports.as_chunks::<12>().0.iter().filter_map(|report| {
                let ([ssrc, last_receiver_report, delay_since_last], _) = split_words(report)?;
                Some(DlrrReport {
                    ssrc: Ssrc(ssrc),
                    last_receiver_report,
                    delay_since_last,
                })
            });
            time.map(ExtendedBlock::ReferenceTime)
                .into_iter()
                .chain(reports.map(ExtendedBlock::Dlrr))
        })
    }
}

impl DlrrReport {
    pub(super) const BLOCK_TYPE: u8 = DLRR_BLOCK;

    pub(super) fn to_words(self) -> [u32; 3] {
        [
            self.ssrc.0,
            self.last_receiver_report,
            self.delay_since_last,
        ]
    }
}
