//! Transport-wide congestion control feedback for what a peer sends us
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! In: transport-wide sequence numbers, when they were sent and when they arrived. Out: every
//! [`INTERVAL`], RTCP packets that tell of the arrivals since the last ones. The sender estimates its
//! bandwidth from them, so loss that is not congestion is not told: see
//! [`link_loss`](super::link_loss). What an outage swallowed is passed over in silence, as if the
//! feedback on it had been lost: see [`outage`](super::outage).
//!
//! On a link that loses packets by itself two things are different. What is told as arrived cannot be
//! had again: libwebrtc M125 takes it out of what it keeps for retransmission
//! (`RtpPacketHistory::CullAcknowledgedPackets`), so the feedback waits until what is missing has been
//! asked for several times; what is lost beside something that is still missing then is passed over in
//! silence too. And where the link to the peer loses packets, feedback is lost as well, so each interval
//! is told of twice.

use std::time::{Duration, Instant};

use super::link_loss::{LOSSY_FROM, LinkLoss};
use super::outage::is_outage;
use crate::rtp::rtcp::{ArrivalReport, Writer};
use crate::types::Ssrc;

/// Time between two feedbacks (libwebrtc M125: `kDefaultInterval` of `RemoteEstimatorProxy`, between
/// its `kMinInterval` of 50 ms and `kMaxInterval` of 250 ms).
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Most arrivals between two feedbacks. At 100 ms this is 10,000 packets a second; what is over it
/// is reported lost, which is what a sender at such a rate needs to hear.
const MAX_ARRIVALS: usize = 1000;

/// How many round trips feedback waits on a link with loss of its own: three or four requests for a
/// packet have been answered by then.
const HOLD_ROUND_TRIPS: u32 = 4;

/// The least and the most that it waits. Longer, and a sender would notice a queue too late.
const MIN_HOLD: Duration = Duration::from_millis(100);
const MAX_HOLD: Duration = Duration::from_millis(500);

/// The round trip until it is known.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// What one peer sends.
#[derive(Debug, Default)]
pub struct FeedbackRecorder {
    /// What has not been told yet, with the time since `epoch`.
    arrivals: Vec<(u16, Duration)>,
    /// What was told last, to be told again, and the number that began with.
    report: Vec<(u16, Duration)>,
    report_base: Option<u16>,
    epoch: Option<Instant>,
    next: Option<Instant>,
    next_sequence: Option<u16>,
    /// The newest arrival that was told.
    told: Option<(u16, Duration)>,
    /// Numbers in the report before which some are passed over.
    jumps: Vec<u16>,
    count: u8,
    link_loss: LinkLoss,
    /// Feedback is lost on its way.
    is_return_lossy: bool,
}

impl FeedbackRecorder {
    /// Notes an arrival. `send_time` is the packet's absolute send time, if it has one.
    pub fn handle_packet(&mut self, now: Instant, sequence: u16, send_time: Option<u32>) {
        if let Some(send_time) = send_time {
            self.link_loss.handle_packet(now, send_time);
        }
        let epoch = *self.epoch.get_or_insert(now);
        if self.arrivals.len() < MAX_ARRIVALS {
            self.arrivals
                .push((sequence, now.saturating_duration_since(epoch)));
        }
        self.next.get_or_insert(now + INTERVAL);
    }

    /// Packets take another path now: what was measured of the former does not hold for it, and what was
    /// lost when it was left is nobody's loss.
    pub fn begin_anew(&mut self) {
        self.link_loss = LinkLoss::default();
        self.report.clear();
        self.jumps.clear();
        self.report_base = None;
        self.next_sequence = None;
        self.told = None;
    }

    /// Says which share of what is sent to the peer is lost, 0 to 1.
    pub fn set_return_loss(&mut self, loss: f64) {
        self.is_return_lossy = loss >= LOSSY_FROM;
    }

    /// When the next feedback is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The share of the peer's packets that its link usually loses, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.link_loss.usual()
    }

    /// Writes the feedback that is due, as many packets as it takes, and gives each to `send`.
    /// `round_trip` is the peer's, if known; `missing_since` says when the oldest packet can have been
    /// sent first that is still being asked for; `sender` is our SSRC, `media` one of the peer's.
    pub fn poll(
        &mut self,
        now: Instant,
        round_trip: Option<Duration>,
        missing_since: Option<Instant>,
        (sender, media): (Ssrc, Ssrc),
        buffer: &mut [u8],
        mut send: impl FnMut(&[u8]),
    ) {
        if self.next.take_if(|due| now >= *due).is_none() {
            return;
        }
        let (Some(&(first, _)), Some(epoch)) = (self.arrivals.first(), self.epoch) else {
            return;
        };
        sort(&mut self.arrivals, first);
        let told_until = now
            .saturating_duration_since(epoch)
            .saturating_sub(self.hold(round_trip));
        let is_ripe = |(_, at): &(u16, Duration)| *at <= told_until;
        let ripe = self.arrivals.iter().take_while(|a| is_ripe(a)).count();
        if ripe < self.arrivals.len() {
            self.next = Some(now + INTERVAL);
        }
        if ripe == 0 {
            return;
        }
        let base = match self.link_loss.is_lossy() || self.is_return_lossy {
            true => self.report_base.or(self.next_sequence),
            false => {
                self.report.clear();
                self.next_sequence
            }
        };
        let again = self.report.len();
        self.report.extend(self.arrivals.drain(..ripe));
        let fresh_base = self.next_sequence.unwrap_or(first);
        let swallowed = self.note_outages(again);
        let missing_since = missing_since.map(|at| at.saturating_duration_since(epoch));
        self.forgive_link_loss(again, swallowed, missing_since);
        let near = self.report.first().map_or(first, |&(first, _)| first);
        let last = self.report.last().map_or(first, |&(last, _)| last);
        sort(&mut self.report, near);
        let mut rest = &self.report[..];
        let mut base = base;
        while let Some(&(first, _)) = rest.first() {
            if self.jumps.contains(&first) {
                base = Some(first);
            }
            let later = rest.iter().skip(1);
            let run = later.take_while(|(sequence, _)| !self.jumps.contains(sequence));
            let run = 1 + run.count();
            let mut writer = Writer::new(buffer);
            let written = writer.transport_feedback(ArrivalReport {
                sender,
                media,
                feedback_count: self.count,
                base_sequence: base.unwrap_or(first),
                arrivals: &rest[..run],
            });
            let Ok(written @ 1..) = written else {
                break;
            };
            let len = writer.len();
            send(&buffer[..len]);
            self.count = self.count.wrapping_add(1);
            let (reported, more) = rest.split_at(written);
            base = reported.last().map(|&(last, _)| last.wrapping_add(1));
            rest = more;
        }
        self.next_sequence = Some(last.wrapping_add(1));
        self.report_base = Some(fresh_base);
        let is_fresh = |sequence: u16| sequence.wrapping_sub(fresh_base) < 0x8000;
        self.report.retain(|&(sequence, _)| is_fresh(sequence));
        self.jumps.retain(|&sequence| is_fresh(sequence));
    }

    /// Notes the outages before what is told for the first time, which is sorted. Returns how many
    /// packets they swallowed.
    fn note_outages(&mut self, again: usize) -> usize {
        let mut swallowed = 0;
        for &(sequence, at) in &self.report[again..] {
            let (last, last_at) = *self.told.get_or_insert((sequence, at));
            let ahead = sequence.wrapping_sub(last);
            if ahead >= 0x8000 {
                continue;
            }
            let missing = ahead.saturating_sub(1);
            if is_outage(at.saturating_sub(last_at), missing.into()) {
                self.jumps.push(sequence);
                swallowed += usize::from(missing);
            }
            self.told = Some((sequence, at));
        }
        swallowed
    }

    /// How long to wait before packets are told of.
    fn hold(&self, round_trip: Option<Duration>) -> Duration {
        let is_new = self.link_loss.is_new() && has_gap(&self.arrivals);
        let is_lossy = self.link_loss.is_lossy() || is_new;
        if !is_lossy || self.link_loss.is_congested() || self.arrivals.len() > MAX_ARRIVALS / 2 {
            return Duration::ZERO;
        }
        (round_trip.unwrap_or(DEFAULT_ROUND_TRIP) * HOLD_ROUND_TRIPS).clamp(MIN_HOLD, MAX_HOLD)
    }

    /// Enters packets that the link lost as arrived, each with the one after it. What is told again
    /// comes first in the report, and has been seen to; outages have `swallowed` as many. From
    /// `missing_since` on they are passed over instead, since one of them, or its retransmission, is
    /// still needed.
    fn forgive_link_loss(
        &mut self,
        again: usize,
        swallowed: usize,
        missing_since: Option<Duration>,
    ) {
        let fresh = &self.report[again..];
        let (Some(&(first, _)), Some(&(last, _))) = (fresh.first(), fresh.last()) else {
            return;
        };
        let expected = self.next_sequence.unwrap_or(first);
        let sent = usize::from(last.wrapping_sub(expected)) + 1;
        let sent = sent.saturating_sub(swallowed);
        // What is older than the last report has been told of.
        let came = |&&(sequence, _): &&(u16, Duration)| sequence.wrapping_sub(expected) < 0x8000;
        let lost = sent.saturating_sub(fresh.iter().filter(came).count());
        if sent > MAX_ARRIVALS {
            return;
        }
        let mut forgiven = self.link_loss.forgive(sent, lost);
        let mut expected = expected;
        for index in again..self.report.len() {
            let (sequence, at) = self.report[index];
            if sequence.wrapping_sub(expected) >= 0x8000 {
                continue;
            }
            if self.jumps.contains(&sequence) {
                expected = sequence;
            }
            if missing_since.is_some_and(|since| at >= since) {
                let missing = usize::from(sequence.wrapping_sub(expected));
                if (1..=forgiven).contains(&missing) {
                    self.jumps.push(sequence);
                    forgiven -= missing;
                }
            } else {
                while forgiven > 0 && expected != sequence {
                    self.report.push((expected, at));
                    expected = expected.wrapping_add(1);
                    forgiven -= 1;
                }
            }
            expected = sequence.wrapping_add(1);
        }
        // The last that came stays the last.
        sort(&mut self.report, first);
    }
}

/// Puts arrivals in the order of their numbers, each once. Within one report they are far less than
/// half a cycle apart.
fn sort(arrivals: &mut Vec<(u16, Duration)>, near: u16) {
    arrivals.sort_unstable_by_key(|&(sequence, _)| sequence.wrapping_sub(near) as i16);
    arrivals.dedup_by_key(|&mut (sequence, _)| sequence);
}

/// Whether a number is missing between the first and the last.
fn has_gap(arrivals: &[(u16, Duration)]) -> bool {
    arrivals
        .array_windows()
        .any(|[(one, _), (next, _)]| one.wrapping_add(1) != *next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp::{Packet, PacketStatus, Packets};

    fn poll(recorder: &mut FeedbackRecorder, now: Instant) -> Vec<(u16, bool)> {
        poll_missing(recorder, now, None)
    }

    fn poll_missing(
        recorder: &mut FeedbackRecorder,
        now: Instant,
        missing_since: Option<Instant>,
    ) -> Vec<(u16, bool)> {
        let mut statuses = Vec::new();
        let mut buffer = [0; 400];
        let ssrcs = (Ssrc(1), Ssrc(2));
        recorder.poll(now, None, missing_since, ssrcs, &mut buffer, |packet| {
            for packet in Packets::new(packet) {
                let Ok(Packet::TransportFeedback(feedback)) = packet else {
                    panic!("not feedback: {packet:?}");
                };
                statuses.extend(feedback.statuses().map(|(offset, status)| {
                    let sequence = feedback.base_sequence.wrapping_add(offset);
                    (sequence, status != PacketStatus::Lost)
                }));
            }
        });
        statuses
    }

    #[test]
    fn every_number_is_reported_once_arrived_or_lost_over_the_wrap_and_between_reports() {
        let start = Instant::now();
        let mut recorder = FeedbackRecorder::default();
        assert_eq!(recorder.next_deadline(), None);
        for sequence in [65_534, 0, 65_535, 0] {
            recorder.handle_packet(start, sequence, None);
        }
        assert_eq!(poll(&mut recorder, start), []);
        let statuses = poll(&mut recorder, start + INTERVAL);
        assert_eq!(statuses, [(65_534, true), (65_535, true), (0, true)]);
        recorder.handle_packet(start + INTERVAL, 2, None);
        let statuses = poll(&mut recorder, start + 2 * INTERVAL);
        assert_eq!(statuses, [(1, false), (2, true)]);
        assert_eq!(poll(&mut recorder, start + 20 * INTERVAL), []);
    }

    #[test]
    fn what_an_idle_link_loses_is_reported_as_arrived_with_the_next() {
        let start = Instant::now();
        let mut recorder = FeedbackRecorder::default();
        let told = lose_one_in_four(&mut recorder, start, |_| None);
        // At first it is not known to be usual.
        let lost: Vec<_> = told.iter().filter(|(_, came)| !came).collect();
        assert!(lost.iter().all(|(number, _)| *number < 40), "{lost:?}");
        // The last intervals are held back: what is missing may still be asked for.
        let times = |number| told.iter().filter(|(n, _)| *n == number).count();
        assert_eq!([times(500), times(600), times(999)], [2, 2, 0]);
    }

    #[test]
    fn what_is_still_asked_for_is_not_told_as_arrived() {
        let start = Instant::now();
        let mut recorder = FeedbackRecorder::default();
        let missed = start + 25 * INTERVAL;
        let told = lose_one_in_four(&mut recorder, start, |now| (now > missed).then_some(missed));
        let is_lost = |(number, _): &&(u16, bool)| number % 4 == 1 && *number >= 40;
        let lost: Vec<_> = told.iter().filter(is_lost).collect();
        assert!(
            lost.iter().all(|(_, came)| *came),
            "none is told of as lost"
        );
        let last = lost.iter().map(|(number, _)| number / 20).max();
        assert_eq!(last, Some(24), "until it can have been sent");
    }

    /// Fifty intervals of twenty packets over an idle link that loses one in four; `missing` says since
    /// when a packet is asked for. Returns what was told.
    fn lose_one_in_four(
        recorder: &mut FeedbackRecorder,
        start: Instant,
        missing: impl Fn(Instant) -> Option<Instant>,
    ) -> Vec<(u16, bool)> {
        let mut told = Vec::new();
        for interval in 0..50u32 {
            let now = start + INTERVAL * interval;
            for packet in (0..20).filter(|packet| packet % 4 != 1) {
                let ticks = (interval * 100 * 262_144 / 1000) & 0xff_ffff;
                recorder.handle_packet(now, (interval * 20 + packet) as u16, Some(ticks));
            }
            let now = now + INTERVAL;
            told.extend(poll_missing(recorder, now, missing(now)));
        }
        told
    }

    #[test]
    fn what_an_outage_swallows_is_not_told_and_what_a_full_queue_drops_is() {
        let start = Instant::now();
        let gap = 1100..1400u16;
        for (silence, is_told) in [(400, false), (3000, false), (200, true)] {
            for is_lossy in [false, true] {
                let mut recorder = FeedbackRecorder::default();
                if is_lossy {
                    lose_one_in_four(&mut recorder, start, |_| None);
                }
                let after = start + 50 * INTERVAL;
                for number in 0..100u16 {
                    let at = after + Duration::from_millis(number.into());
                    recorder.handle_packet(at, 1000 + number, None);
                }
                for number in 0..100u16 {
                    let at = after + Duration::from_millis(silence + u64::from(number));
                    recorder.handle_packet(at, gap.end + number, None);
                }
                let polls = (1..60).map(|interval| after + INTERVAL * interval);
                let told: Vec<_> = polls.flat_map(|now| poll(&mut recorder, now)).collect();
                let what = format!("{silence} ms, lossy {is_lossy}");
                for number in gap.clone() {
                    assert!(!told.contains(&(number, true)), "{what}");
                    assert_eq!(told.contains(&(number, false)), is_told, "{what}");
                }
                assert!(told.contains(&(1099, true)), "{what}");
                assert!(told.contains(&(1499, true)), "{what}");
            }
        }
    }

    #[test]
    fn where_feedback_may_be_lost_each_interval_is_told_of_twice() {
        let start = Instant::now();
        let told = |return_loss| {
            let mut recorder = FeedbackRecorder::default();
            recorder.set_return_loss(return_loss);
            let mut told = Vec::new();
            for interval in 0..10u16 {
                let now = start + INTERVAL * u32::from(interval);
                for number in (0..10).filter(|number| *number != 5) {
                    recorder.handle_packet(now, interval * 10 + number, None);
                }
                told.extend(poll(&mut recorder, now + INTERVAL));
            }
            let times = |status| told.iter().filter(|told| **told == status).count();
            [times((33, true)), times((35, false))]
        };
        assert_eq!([told(0.0), told(0.3)], [[1, 1], [2, 2]]);
    }

    #[test]
    fn another_way_is_another_link() {
        let start = Instant::now();
        let mut recorder = FeedbackRecorder::default();
        lose_one_in_four(&mut recorder, start, |_| None);
        assert!(recorder.loss() > 0.2);
        recorder.begin_anew();
        assert_eq!(recorder.loss(), 0.0);
        let now = start + 60 * INTERVAL;
        recorder.handle_packet(now, 1100, None);
        recorder.handle_packet(now, 1101, None);
        let polls = (1..10).map(|interval| now + INTERVAL * interval);
        let told = polls.flat_map(|now| poll(&mut recorder, now));
        let since: Vec<_> = told.filter(|(n, _)| *n >= 1000).collect();
        assert_eq!(since, [(1100, true), (1101, true)]);
    }

    #[test]
    fn a_flood_is_bounded() {
        let start = Instant::now();
        let mut recorder = FeedbackRecorder::default();
        for sequence in 0..u16::MAX {
            recorder.handle_packet(start, sequence, None);
        }
        assert_eq!(poll(&mut recorder, start + INTERVAL).len(), MAX_ARRIVALS);
    }
}
