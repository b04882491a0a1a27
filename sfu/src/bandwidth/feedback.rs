//! Transport-wide congestion control feedback for what a peer sends us
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! In: transport-wide sequence numbers, when they were sent and when they arrived. Out: every
//! [`INTERVAL`], RTCP packets that tell of the arrivals since the last ones. The sender estimates its
//! bandwidth from them, so loss that is not congestion is not told: see
//! [`link_loss`](super::link_loss).

use std::time::{Duration, Instant};

use super::link_loss::LinkLoss;
use crate::rtp::rtcp::{ArrivalReport, Writer};
use crate::types::Ssrc;

/// Time between two feedbacks: libwebrtc's own default; the draft says 50 to 250 ms.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Most arrivals between two feedbacks. At 100 ms this is 10,000 packets a second; what is over it
/// is reported lost, which is what a sender at such a rate needs to hear.
const MAX_ARRIVALS: usize = 1000;

/// What one peer sends.
#[derive(Debug, Default)]
pub struct FeedbackRecorder {
    /// With the time since `epoch`.
    arrivals: Vec<(u16, Duration)>,
    epoch: Option<Instant>,
    next: Option<Instant>,
    next_sequence: Option<u16>,
    count: u8,
    link_loss: LinkLoss,
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

    /// When the next feedback is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Writes the feedback that is due, as many packets as it takes, and gives each to `send`.
    /// `sender` is our SSRC, `media` one of the peer's.
    pub fn poll(
        &mut self,
        now: Instant,
        sender: Ssrc,
        media: Ssrc,
        buffer: &mut [u8],
        mut send: impl FnMut(&[u8]),
    ) {
        if self.next.take_if(|due| now >= *due).is_none() {
            return;
        }
        let Some(&(first, _)) = self.arrivals.first() else {
            return;
        };
        self.sort_arrivals(first);
        self.arrivals.dedup_by_key(|&mut (sequence, _)| sequence);
        self.forgive_link_loss();
        let mut rest = &self.arrivals[..];
        while let Some(&(first, _)) = rest.first() {
            let mut writer = Writer::new(buffer);
            let written = writer.transport_feedback(ArrivalReport {
                sender,
                media,
                feedback_count: self.count,
                base_sequence: self.next_sequence.unwrap_or(first),
                arrivals: rest,
            });
            let Ok(written @ 1..) = written else {
                break;
            };
            let len = writer.len();
            send(&buffer[..len]);
            self.count = self.count.wrapping_add(1);
            let (reported, more) = rest.split_at(written);
            self.next_sequence = reported.last().map(|&(last, _)| last.wrapping_add(1));
            rest = more;
        }
        self.arrivals.clear();
    }

    /// Enters packets that the link lost as arrived, each with the one after it.
    fn forgive_link_loss(&mut self) {
        let (Some(&(first, _)), Some(&(last, _))) = (self.arrivals.first(), self.arrivals.last())
        else {
            return;
        };
        let expected = self.next_sequence.unwrap_or(first);
        let sent = usize::from(last.wrapping_sub(expected)) + 1;
        // What is older than the last report has been told of.
        let came = |&&(sequence, _): &&(u16, Duration)| sequence.wrapping_sub(expected) < 0x8000;
        let lost = sent.saturating_sub(self.arrivals.iter().filter(came).count());
        if sent > MAX_ARRIVALS {
            return;
        }
        let mut forgiven = self.link_loss.forgive(sent, lost);
        if forgiven == 0 {
            return;
        }
        let mut expected = expected;
        for index in 0..self.arrivals.len() {
            let (sequence, at) = self.arrivals[index];
            if sequence.wrapping_sub(expected) >= 0x8000 {
                continue;
            }
            while forgiven > 0 && expected != sequence {
                self.arrivals.push((expected, at));
                expected = expected.wrapping_add(1);
                forgiven -= 1;
            }
            expected = sequence.wrapping_add(1);
        }
        self.sort_arrivals(first);
    }

    /// Within one interval numbers are far less than half a cycle apart.
    fn sort_arrivals(&mut self, near: u16) {
        self.arrivals
            .sort_unstable_by_key(|&(sequence, _)| sequence.wrapping_sub(near) as i16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp::{Packet, PacketStatus, Packets};

    fn poll(recorder: &mut FeedbackRecorder, now: Instant) -> Vec<(u16, bool)> {
        let mut statuses = Vec::new();
        let mut buffer = [0; 400];
        recorder.poll(now, Ssrc(1), Ssrc(2), &mut buffer, |packet| {
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
        let mut lost = Vec::new();
        for interval in 0..50u32 {
            let now = start + INTERVAL * interval;
            for packet in (0..20).filter(|packet| packet % 4 != 1) {
                let ticks = (interval * 100 * 262_144 / 1000) & 0xff_ffff;
                recorder.handle_packet(now, (interval * 20 + packet) as u16, Some(ticks));
            }
            let statuses = poll(&mut recorder, now + INTERVAL);
            if interval > 0 {
                assert_eq!(statuses.len(), 20);
            }
            lost.extend(statuses.iter().filter(|(_, came)| !came).map(|_| interval));
        }
        // At first it is not known to be usual.
        assert!(lost.iter().all(|interval| *interval < 2), "{lost:?}");
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
