//! One encoding of a published track: its numbering and its reception.
//!
//! In: its RTP packets after decryption, and its sender reports. Out: extended numbers for each
//! packet, reception report blocks (RFC 3550 section 6.4), and what to ask the publisher for.

use std::time::{Duration, Instant};

use super::keyframe::KeyFrameRequester;
use super::nack::{Arrival, NackGenerator};
use super::pictures::Pictures;
use super::reception::Reception;
use super::redundancy::Position;
use super::repair::Repairer;
use crate::media::{Codec, Kind};
use crate::rtp::codec::dependency::Dependencies;
use crate::rtp::rtcp::{ReportBlock, compact_delay, compact_ntp};
use crate::rtp::sequence::{SequenceNumber, TimestampUnwrapper, Unwrapper};
use crate::types::{Rid, Ssrc};

/// How late a packet that was sent again can be; a timestamp that says more is not to be trusted.
const MAX_LATE: Duration = Duration::from_secs(2);

/// How long a listener's report counts: it reports once a second, and some reports are lost.
const LISTENER_MEMORY: Duration = Duration::from_secs(3);

/// Most loss of a listener that a publisher is told of, of 256. Opus protects against 30 % at most;
/// one listener with a broken link is not to spoil the audio of the others.
const MAX_LISTENER_LOSS: u8 = 77;

/// How a packet fits the encoding's numbering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Numbered {
    /// The extended sequence number.
    pub sequence: SequenceNumber,
    pub timestamp: u64,
    /// When it arrived, or would have if it had not been lost at first.
    pub due: Instant,
    /// Counts up whenever the numbering starts anew.
    pub epoch: u32,
    /// The packets before it will not come: a decoder needs a key frame.
    pub needs_key_frame: bool,
}

/// A publisher's statement which RTP timestamp belongs to which time.
#[derive(Clone, Copy, Debug)]
pub struct SenderReportSeen {
    /// NTP time by the publisher's clock, 32.32 fixed-point seconds.
    pub ntp: u64,
    /// The RTP timestamp at that time, extended.
    pub timestamp: u64,
    pub arrival: Instant,
}

impl SenderReportSeen {
    /// The timestamp at a time, which is NTP time by the clock of [`SenderReportSeen::ntp`]; the rate is
    /// in Hz.
    #[must_use]
    pub fn at(&self, ntp: u64, clock_rate: u32) -> u64 {
        let since = ntp.wrapping_sub(self.ntp) as i64;
        let ticks = (i128::from(since) * i128::from(clock_rate)) >> 32;
        self.timestamp.wrapping_add(ticks as u64)
    }

    /// The timestamp that another encoding of the same clock has for the time of one of this encoding.
    /// Both are extended, the rate is in Hz.
    #[must_use]
    pub fn corresponding(&self, timestamp: u64, other: &SenderReportSeen, clock_rate: u32) -> u64 {
        let since = timestamp.wrapping_sub(self.timestamp);
        other.at(self.ntp, clock_rate).wrapping_add(since)
    }
}

/// How far before the newest packet one that is sent again may be. More than a picture of it cannot
/// have been lost without a gap before it.
const MAX_LEAD: u64 = 64;

#[derive(Debug)]
pub(crate) struct Encoding {
    kind: Kind,
    /// What its newest packet of media carries, once any has come.
    pub codec: Option<Codec>,
    /// Its simulcast name, if it has one.
    pub rid: Option<Rid>,
    /// The SSRC it is sent with, once known.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of its retransmissions, once known.
    pub rtx_ssrc: Option<Ssrc>,
    /// The SSRC of its FlexFEC, once known.
    pub flexfec_ssrc: Option<Ssrc>,
    /// When to ask for key frames.
    pub key_frames: KeyFrameRequester,
    /// What is missing.
    pub nack: NackGenerator,
    /// What repair packets give back.
    pub repairer: Repairer,
    /// The latest sender report.
    pub sender_report: Option<SenderReportSeen>,
    sequence: Unwrapper,
    timestamp: TimestampUnwrapper,
    epoch: u32,
    /// It has another SSRC, of which nothing has come yet.
    is_replaced: bool,
    reception: Reception,
    /// Bytes of all packets.
    bytes: u64,
    last_packet: Option<Instant>,
    /// The newest timestamp, and when it arrived.
    newest: Option<(u64, Instant)>,
    /// The greatest loss that a listener has reported of late, of 256, and when.
    listener: Option<(u8, Instant)>,
    /// Where pictures begin and end.
    pub(super) pictures: Pictures,
    /// How its frames depend on each other.
    pub(super) dependencies: Dependencies,
    /// The timestamp of the frame that was begun last, and whether that was seen to be a key frame.
    begun: Option<(u64, bool)>,
}

impl Numbered {
    /// Where the packet is in its stream.
    #[must_use]
    pub(crate) fn position(&self) -> Position {
        Position {
            sequence: self.sequence,
            timestamp: self.timestamp,
        }
    }
}

impl Encoding {
    /// An encoding of which nothing has arrived yet.
    #[must_use]
    pub(crate) fn new(
        kind: Kind,
        rid: Option<Rid>,
        ssrc: Option<Ssrc>,
        rtx_ssrc: Option<Ssrc>,
    ) -> Self {
        Encoding {
            kind,
            codec: None,
            rid,
            ssrc,
            rtx_ssrc,
            flexfec_ssrc: None,
            key_frames: KeyFrameRequester::default(),
            nack: NackGenerator::new(kind),
            repairer: Repairer::default(),
            pictures: Pictures::default(),
            dependencies: Dependencies::default(),
            begun: None,
            listener: None,
            sender_report: None,
            sequence: Unwrapper::default(),
            timestamp: TimestampUnwrapper::default(),
            epoch: 0,
            is_replaced: false,
            reception: Reception::default(),
            bytes: 0,
            last_packet: None,
            newest: None,
        }
    }

    /// Whether a packet that could begin a frame does: it is the first of its frame that could, or the
    /// first by which that is a key frame, which may come after a delimiter.
    pub(super) fn starts_frame(&mut self, timestamp: u64, is_key: bool) -> bool {
        let is_begun = self
            .begun
            .is_some_and(|(begun, was_key)| begun == timestamp && was_key >= is_key);
        if !is_begun {
            self.begun = Some((timestamp, is_key));
        }
        !is_begun
    }

    /// Binds the encoding to another SSRC; its numbering starts anew, and with a key frame.
    pub(crate) fn set_ssrc(&mut self, ssrc: Ssrc) {
        if self.ssrc == Some(ssrc) {
            return;
        }
        if self.last_packet.is_some() {
            self.start_anew();
            self.is_replaced = true;
        }
        self.ssrc = Some(ssrc);
    }

    /// When its last packet came, if any has.
    #[must_use]
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Whether nothing has come of it for so long.
    #[must_use]
    pub(crate) fn is_silent(&self, now: Instant, long: Duration) -> bool {
        self.last_packet
            .is_none_or(|at| now.saturating_duration_since(at) >= long)
    }

    fn start_anew(&mut self) {
        self.epoch += 1;
        self.sequence = Unwrapper::default();
        self.timestamp = TimestampUnwrapper::default();
        self.nack = NackGenerator::new(self.kind);
        self.repairer = Repairer::default();
        self.pictures = Pictures::default();
        self.dependencies = Dependencies::default();
        self.begun = None;
        self.reception = Reception::default();
        self.sender_report = None;
        self.newest = None;
    }

    /// Notes what a packet carries that is about to be numbered. If that has another clock than what came
    /// before, the numbering starts anew: timestamps of two clocks have nothing to do with each other
    /// (RFC 7160 section 3).
    pub(super) fn set_codec(&mut self, codec: Codec, sequence: u16) {
        let newest = self.sequence.newest();
        if newest.is_some_and(|newest| newest.nearest(sequence) <= newest) {
            return;
        }
        let former = self.codec.replace(codec);
        if former.is_some_and(|former| former.clock_rate() != codec.clock_rate()) {
            self.start_anew();
        }
    }

    /// Numbers a packet that arrived on the encoding's own SSRC and that nothing can be made of: only
    /// its number is of use.
    pub(super) fn handle_unusable(
        &mut self,
        now: Instant,
        sequence: u16,
        bytes: usize,
    ) -> Numbered {
        let (number, is_lost) = self.arrive(now, sequence);
        self.reception.handle_number(now, number);
        self.bytes += bytes as u64;
        self.last_packet = Some(now);
        Numbered {
            needs_key_frame: is_lost,
            ..self.without_media(now, number)
        }
    }

    /// What is known of a number under which there is no media.
    fn without_media(&self, now: Instant, sequence: SequenceNumber) -> Numbered {
        Numbered {
            sequence,
            timestamp: self.newest.map_or(0, |(newest, _)| newest),
            due: now,
            epoch: self.epoch,
            needs_key_frame: false,
        }
    }

    /// The number of a packet that arrived on the encoding's own SSRC, and whether too much is missing
    /// before it.
    fn arrive(&mut self, now: Instant, sequence: u16) -> (SequenceNumber, bool) {
        let number = self.sequence.unwrap(sequence);
        let is_lost = self.nack.handle_packet(now, number) == Arrival::Lost;
        if !is_lost {
            return (number, is_lost);
        }
        self.start_anew();
        let number = self.sequence.unwrap(sequence);
        self.nack.handle_packet(now, number);
        (number, is_lost)
    }

    /// Numbers a packet that arrived on the encoding's own SSRC.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        sequence: u16,
        timestamp: u32,
        clock_rate: u32,
        bytes: usize,
    ) -> Numbered {
        let (number, is_lost) = self.arrive(now, sequence);
        self.reception
            .handle_packet(now, number, timestamp, clock_rate);
        self.bytes += bytes as u64;
        self.last_packet = Some(now);
        let timestamp = self.timestamp.unwrap(timestamp);
        if self.newest.is_none_or(|(newest, _)| timestamp > newest) {
            self.newest = Some((timestamp, now));
        }
        Numbered {
            sequence: number,
            timestamp,
            due: now,
            epoch: self.epoch,
            needs_key_frame: std::mem::take(&mut self.is_replaced) || is_lost,
        }
    }

    /// Numbers a packet that was sent again over RTX. None when it was not missing. One that was not
    /// missed yet is as good as if it had come at first: a browser that probes for bandwidth sends its
    /// latest packets again, and the first time they may have been lost.
    pub(crate) fn handle_repaired(
        &mut self,
        now: Instant,
        sequence: u16,
        timestamp: u32,
        clock_rate: u32,
    ) -> Option<Numbered> {
        let number = self.sequence.newest()?.nearest(sequence);
        if let Some(lead) = self.lead(number) {
            return (lead <= MAX_LEAD)
                .then(|| self.handle_packet(now, sequence, timestamp, clock_rate, 0));
        }
        if self.nack.handle_packet(now, number) != Arrival::Recovered {
            return None;
        }
        self.reception.recovered(number);
        let timestamp = self.timestamp.unwrap(timestamp);
        Some(Numbered {
            sequence: number,
            timestamp,
            due: self.due(now, timestamp, clock_rate),
            epoch: self.epoch,
            needs_key_frame: false,
        })
    }

    /// How far a number is ahead of all that came, if it is.
    fn lead(&self, number: SequenceNumber) -> Option<u64> {
        let lead = number.0.checked_sub(self.sequence.newest()?.0)?;
        (lead > 0).then_some(lead)
    }

    /// Numbers a packet that a repair packet gave back. None when it was not missing. It still
    /// counts as lost, so that the publisher goes on protecting.
    pub(crate) fn handle_recovered(
        &mut self,
        now: Instant,
        sequence: SequenceNumber,
        timestamp: u32,
        clock_rate: u32,
    ) -> Option<Numbered> {
        if let Some(lead) = self.lead(sequence) {
            return (lead <= MAX_LEAD)
                .then(|| self.handle_packet(now, sequence.wire(), timestamp, clock_rate, 0));
        }
        if !self.nack.forget(sequence) {
            return None;
        }
        let timestamp = self.timestamp.unwrap(timestamp);
        Some(Numbered {
            sequence,
            timestamp,
            due: self.due(now, timestamp, clock_rate),
            epoch: self.epoch,
            needs_key_frame: false,
        })
    }

    /// Numbers a packet that was never media, as has been found out. None when it was not missing.
    pub(super) fn handle_void(
        &mut self,
        now: Instant,
        sequence: SequenceNumber,
    ) -> Option<Numbered> {
        let was_missing = self.nack.forget(sequence);
        was_missing.then(|| self.without_media(now, sequence))
    }

    /// The highest number so far.
    #[must_use]
    pub(crate) fn newest_sequence(&self) -> Option<SequenceNumber> {
        self.sequence.newest()
    }

    /// Where the stream has got to.
    #[must_use]
    pub(crate) fn newest(&self) -> Option<Position> {
        Some(Position {
            sequence: self.sequence.newest()?,
            timestamp: self.newest?.0,
        })
    }

    /// When a packet that was sent again would have arrived, going by the newest one.
    fn due(&self, now: Instant, timestamp: u64, clock_rate: u32) -> Instant {
        let newest = self.newest.filter(|(newest, _)| *newest >= timestamp);
        let due = newest.and_then(|(newest, arrival)| {
            let ticks = u32::try_from(newest - timestamp).ok()?;
            let earlier = Duration::from_secs(1) * ticks / clock_rate;
            arrival.checked_sub(earlier).filter(|_| earlier < MAX_LATE)
        });
        due.unwrap_or(now)
    }

    /// Notes a sender report for the encoding's SSRC.
    pub(crate) fn handle_sender_report(&mut self, now: Instant, ntp: u64, timestamp: u32) {
        // A copy, so that a report with an absurd timestamp cannot bend the media's numbering.
        let mut unwrapper = self.timestamp;
        let timestamp = unwrapper.unwrap(timestamp);
        self.sender_report = Some(SenderReportSeen {
            ntp,
            timestamp,
            arrival: now,
        });
    }

    /// Packets and bytes received, and packets lost for good.
    #[must_use]
    pub(crate) fn totals(&self) -> (u64, u64, i64) {
        (self.reception.received, self.bytes, self.reception.lost())
    }

    /// Notes what a listener loses, of 256, that is not repaired for it: the publisher's encoder is to
    /// protect against that too (RFC 6716 section 2.1.7), and only learns of it from our reports.
    pub(crate) fn handle_listener(&mut self, now: Instant, fraction_lost: u8) {
        let lost = fraction_lost.min(MAX_LISTENER_LOSS);
        let is_worse = self
            .listener
            .is_none_or(|(worst, at)| lost >= worst || !is_recent(now, at));
        if is_worse {
            self.listener = Some((lost, now));
        }
    }

    /// The reception report block for the encoding, and the start of the next report's interval.
    pub(crate) fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        let ssrc = self.ssrc?;
        let mut block = self.reception.block(ssrc)?;
        if let Some((lost, _)) = self.listener.filter(|(_, at)| is_recent(now, *at)) {
            block.fraction_lost = block.fraction_lost.max(lost);
        }
        if let Some(report) = &self.sender_report {
            let held = now.saturating_duration_since(report.arrival);
            block.last_sender_report = compact_ntp(report.ntp);
            block.delay_since_last = compact_delay(held);
        }
        Some(block)
    }
}

fn is_recent(now: Instant, at: Instant) -> bool {
    now.saturating_duration_since(at) <= LISTENER_MEMORY
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const CLOCK: u32 = 48_000;

    fn encoding() -> Encoding {
        Encoding::new(Kind::Audio, None, Some(Ssrc(7)), Some(Ssrc(8)))
    }

    fn receive(encoding: &mut Encoding, now: Instant, sequence: u16) -> Numbered {
        encoding.handle_packet(now, sequence, u32::from(sequence) * 960, CLOCK, 100)
    }

    #[test]
    fn a_report_counts_what_was_lost_since_the_last_one() {
        let start = Instant::now();
        let mut encoding = encoding();
        assert_eq!(encoding.report_block(start), None);
        for sequence in (0..100).filter(|s| s % 4 != 3) {
            receive(
                &mut encoding,
                start + u32::from(sequence) * 20 * MS,
                sequence,
            );
        }
        let now = start + 2000 * MS;
        let block = encoding.report_block(now).unwrap();
        // The last packet of the hundred is not missed before another one comes.
        assert_eq!(
            (block.cumulative_lost, block.fraction_lost),
            (24, (24 * 256 / 99) as u8)
        );
        assert_eq!(block.jitter, 0);
        for sequence in 100..110 {
            receive(&mut encoding, now, sequence);
        }
        assert!(encoding.handle_repaired(now, 3, 3 * 960, CLOCK).is_some());
        assert!(
            encoding.handle_repaired(now, 3, 3 * 960, CLOCK).is_none(),
            "only once"
        );
        let block = encoding.report_block(now).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (24, 0));
    }

    #[test]
    fn what_an_outage_swallowed_is_not_lost_whether_it_is_sent_again_or_not() {
        let start = Instant::now();
        for (silence, missing, is_outage) in [(600, 30, true), (600, 19, false), (200, 30, false)] {
            let mut encoding = encoding();
            for sequence in 0..50 {
                receive(&mut encoding, start, sequence);
            }
            let back = start + silence * MS;
            let next = 50 + missing;
            receive(&mut encoding, back, next);
            let lost = i32::from(missing) * i32::from(!is_outage);
            let block = encoding.report_block(back).unwrap();
            let fraction = lost * 256 / (51 + lost);
            assert_eq!(
                (block.cumulative_lost, i32::from(block.fraction_lost)),
                (lost, fraction)
            );
            for sequence in (50..next).step_by(2) {
                let again = encoding.handle_repaired(back, sequence, sequence.into(), CLOCK);
                assert!(again.is_some(), "it is asked for all the same");
            }
            receive(&mut encoding, back, next + 1);
            let left = lost - i32::from(missing.div_ceil(2)) * i32::from(!is_outage);
            assert_eq!(encoding.report_block(back).unwrap().cumulative_lost, left);
        }
    }

    #[test]
    fn the_worst_listener_is_reported_for_a_while() {
        let start = Instant::now();
        let mut encoding = encoding();
        receive(&mut encoding, start, 1);
        assert_eq!(encoding.report_block(start).unwrap().fraction_lost, 0);
        for (reported, expected) in [(20, 20), (10, 20), (255, MAX_LISTENER_LOSS)] {
            encoding.handle_listener(start, reported);
            let mut lost = |now| encoding.report_block(now).unwrap().fraction_lost;
            assert_eq!(lost(start + LISTENER_MEMORY), expected);
            assert_eq!(lost(start + LISTENER_MEMORY + MS), 0);
        }
    }

    #[test]
    fn a_packet_sent_again_was_due_when_its_timestamp_says() {
        let start = Instant::now();
        let mut encoding = encoding();
        receive(&mut encoding, start, 0);
        receive(&mut encoding, start + 100 * MS, 5);
        let late = start + 300 * MS;
        let mut due = |sequence, timestamp| {
            let numbered = encoding.handle_repaired(late, sequence, timestamp, CLOCK);
            numbered.unwrap().due - start
        };
        assert_eq!(due(2, 2 * 960), 40 * MS);
        assert_eq!(
            due(3, 0u32.wrapping_sub(3600 * CLOCK)),
            300 * MS,
            "an hour ago"
        );
        assert_eq!(due(4, 6 * 960), 300 * MS, "not yet");
    }

    #[test]
    fn a_restart_of_the_numbering_is_a_new_epoch() {
        let now = Instant::now();
        let mut encoding = encoding();
        let first = receive(&mut encoding, now, 65_535);
        let second = receive(&mut encoding, now, 0);
        assert_eq!(second.sequence - first.sequence, 1);
        let jumped = receive(&mut encoding, now, 20_000);
        assert!(jumped.needs_key_frame && jumped.epoch == first.epoch + 1);
        encoding.set_ssrc(Ssrc(9));
        let replaced = receive(&mut encoding, now, 1);
        assert!(replaced.needs_key_frame && replaced.epoch == first.epoch + 2);
        assert!(!receive(&mut encoding, now, 2).needs_key_frame);
    }

    #[test]
    fn another_clock_is_a_new_epoch_but_not_of_what_is_late() {
        let now = Instant::now();
        let mut encoding = encoding();
        let story = [
            // (number, codec, epochs begun so far)
            (10, Codec::Opus, 0),
            (11, Codec::Pcma, 1),
            (12, Codec::Pcmu, 1),
            // Overtaken.
            (9, Codec::Opus, 1),
            (13, Codec::G722, 1),
            (14, Codec::Opus, 2),
        ];
        for (sequence, codec, epoch) in story {
            encoding.set_codec(codec, sequence);
            let rate = codec.clock_rate();
            let numbered = encoding.handle_packet(now, sequence, 960, rate, 100);
            assert_eq!(numbered.epoch, epoch, "{sequence}");
        }
    }

    #[test]
    fn what_nothing_can_be_made_of_is_not_missing() {
        let start = Instant::now();
        let mut encoding = encoding();
        receive(&mut encoding, start, 1);
        let unusable = encoding.handle_unusable(start, 2, 16);
        let next = receive(&mut encoding, start + 20 * MS, 3);
        assert_eq!(next.sequence - unusable.sequence, 1);
        assert_eq!((encoding.nack.missing(), encoding.totals().2), (0, 0));
        let jumped = encoding.handle_unusable(start + 20 * MS, 20_000, 16);
        assert!(jumped.needs_key_frame && jumped.epoch == next.epoch + 1);
    }

    #[test]
    fn timestamps_of_two_encodings_correspond_by_their_reports() {
        let arrival = Instant::now();
        let report = |ntp: u64, timestamp| SenderReportSeen {
            ntp,
            timestamp,
            arrival,
        };
        let second = 1 << 32;
        let one = report(10 * second, 1_000_000);
        let other = report(12 * second + second / 2, 77);
        // At 10 s the other one, which shows 77 at 12.5 s, shows 2.5 s less.
        let at_ten = 77u64.wrapping_sub(225_000);
        assert_eq!(one.corresponding(1_000_000, &other, 90_000), at_ten);
        let later = one.corresponding(1_000_000 + 225_000, &other, 90_000);
        assert_eq!(later, 77);
        let back = other.corresponding(later, &one, 90_000);
        assert_eq!(back, 1_225_000);
        assert_eq!(one.corresponding(999_999, &one, 90_000), 999_999);
    }

    #[test]
    fn a_frame_begins_once_and_a_key_frame_where_that_is_first_seen() {
        let mut encoding = encoding();
        let story = [
            // (timestamp, key frame, begins)
            (1, false, true),
            (1, true, true),
            (1, false, false),
            (1, true, false),
            (2, false, true),
            (2, false, false),
        ];
        for (step, (timestamp, is_key, begins)) in story.into_iter().enumerate() {
            let found = encoding.starts_frame(timestamp, is_key);
            assert_eq!(found, begins, "step {step}");
        }
    }

    #[test]
    fn an_absurd_sender_report_does_not_bend_the_timestamps() {
        let now = Instant::now();
        let mut encoding = encoding();
        let before = receive(&mut encoding, now, 1).timestamp;
        encoding.handle_sender_report(now, u64::MAX, 0x7fff_ffff);
        assert_eq!(receive(&mut encoding, now, 2).timestamp - before, 960);
    }
}
