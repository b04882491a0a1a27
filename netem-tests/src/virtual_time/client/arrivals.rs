//! What a browser tells of the packets that arrive: transport-wide feedback, after libwebrtc's
//! `TransportSequenceNumberFeedbackGenerator`.
//!
//! In: transport-wide numbers as they arrive. Out: every [`INTERVAL`], what came since and what is
//! missing in between, all of it.

use std::time::{Duration, Instant};

use confab_sfu::inside::rtp::rtcp::{ArrivalReport, Writer};
use confab_sfu::types::Ssrc;

/// Time between two feedbacks: libwebrtc's default.
const INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of an RTCP packet.
const MAX_RTCP: usize = 1200;

/// The arrivals of one connection.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Not told yet, by the time since the first of all.
    fresh: Vec<(u16, Duration)>,
    epoch: Option<Instant>,
    next: Option<Instant>,
    next_sequence: Option<u16>,
    count: u8,
}

impl Arrivals {
    /// Notes an arrival.
    pub fn handle_packet(&mut self, now: Instant, sequence: u16) {
        let epoch = *self.epoch.get_or_insert(now);
        self.fresh.push((sequence, now - epoch));
        self.next.get_or_insert(now + INTERVAL);
    }

    /// When there is something to tell.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The feedback that is due. `sender` is the client's SSRC, `media` one of the server's.
    pub fn poll(&mut self, now: Instant, sender: Ssrc, media: Ssrc) -> Vec<Vec<u8>> {
        if self.next.take_if(|due| now >= *due).is_none() {
            return Vec::new();
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        let near = self.next_sequence.unwrap_or(fresh[0].0);
        fresh.sort_by_key(|(sequence, _)| sequence.wrapping_sub(near) as i16);
        fresh.dedup_by_key(|(sequence, _)| *sequence);
        let (mut rest, mut packets) = (&fresh[..], Vec::new());
        while let Some(&(first, _)) = rest.first() {
            let expected = self.next_sequence.unwrap_or(first);
            // What comes late is told once more, and what was told in between is not told again.
            let base_sequence = match first.wrapping_sub(expected) < 0x8000 {
                true => expected,
                false => first,
            };
            let mut buffer = [0; MAX_RTCP];
            let mut writer = Writer::new(&mut buffer);
            let written = writer.transport_feedback(ArrivalReport {
                sender,
                media,
                feedback_count: self.count,
                base_sequence,
                arrivals: rest,
            });
            let (Ok(written @ 1..), len) = (written, writer.len()) else {
                break;
            };
            packets.push(buffer[..len].to_vec());
            self.count = self.count.wrapping_add(1);
            let next = rest[written - 1].0.wrapping_add(1);
            if next.wrapping_sub(expected) < 0x8000 {
                self.next_sequence = Some(next);
            }
            rest = &rest[written..];
        }
        packets
    }
}
