//! What was sent, until the receiver has told how it fared.
//!
//! In: every packet that has truly left, with its transport-wide sequence number, and the receiver's
//! feedback. Out: one [`PacketResult`] for each packet that the feedback settles, and how much is in
//! flight. Feedback about packets that were never sent is counted and otherwise ignored.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rtp::rtcp::{DELTA_TICK, PacketStatus, REFERENCE_TICK, TransportFeedback};
use crate::rtp::sequence::SequenceNumber;
use crate::types::Ssrc;
use crate::units::DataSize;

/// Most packets remembered: two seconds of 4,000 packets a second, some 40 Mbit/s of video.
pub const MAX_PACKETS: usize = 8192;

/// How long a packet is remembered: longer than what a link that has lost nearly all of its capacity
/// can hold in a bloated queue.
const MAX_AGE: Duration = Duration::from_secs(10);

/// Values of the reference time: 24 bits (draft-holmer-rmcat-transport-wide-cc-extensions-01
/// section 3.1).
const REFERENCE_CYCLE: u64 = 1 << 24;

/// What a packet carries; also the order in which a pacer prefers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PacketKind {
    /// Audio.
    Audio,
    /// A packet sent again.
    Retransmission,
    /// Pictures.
    Video,
    /// Forward error correction.
    Fec,
    /// Nothing of use.
    Padding,
}

/// A burst of packets sent faster than usual to see whether the link takes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ClusterId(pub u32);

/// A packet of media, as its receiver knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaPacket {
    /// The stream it is of, also where it is sent again over another.
    pub ssrc: Ssrc,
    /// Its number there.
    pub sequence: u16,
}

/// A packet that has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentPacket {
    /// When it left.
    pub at: Instant,
    /// Its size on the wire.
    pub size: DataSize,
    /// What it carried.
    pub kind: PacketKind,
    /// The probe it was part of.
    pub cluster: Option<ClusterId>,
    /// What is sent again if this is lost.
    pub media: Option<MediaPacket>,
}

/// How a packet fared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrived, at this time of the receiver's clock, whose zero is arbitrary.
    Arrived(Duration),
    /// It arrived after it had been reported lost.
    ArrivedLate(Duration),
    /// It had not arrived when a later one had.
    Lost,
    /// The feedback that would have told was lost.
    Unknown,
}

/// What feedback says of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketResult {
    /// Its transport-wide number.
    pub sequence: SequenceNumber,
    /// The packet.
    pub packet: SentPacket,
    /// How it fared.
    pub fate: Fate,
}

impl PacketResult {
    /// When it arrived, if it did.
    #[must_use]
    pub fn arrival(&self) -> Option<Duration> {
        match self.fate {
            Fate::Arrived(at) | Fate::ArrivedLate(at) => Some(at),
            Fate::Lost | Fate::Unknown => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    InFlight,
    /// Feedback has passed it by, because the one that told of it was lost.
    Unknown,
    Lost,
    Arrived,
    /// No packet was sent under this number.
    Skipped,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    packet: SentPacket,
    state: State,
}

/// The packets of one connection.
#[derive(Debug, Default)]
pub struct SentHistory {
    /// Consecutive numbers from `first` on.
    entries: VecDeque<Entry>,
    first: SequenceNumber,
    in_flight: DataSize,
    /// Everything before has been passed by feedback.
    passed: Option<SequenceNumber>,
    /// The last reference time, unwrapped.
    reference: Option<u64>,
    ignored: u64,
}

impl SentHistory {
    /// Notes a packet that has left. Numbers go up; one that does not is not noted.
    pub fn handle_sent(&mut self, sequence: SequenceNumber, packet: SentPacket) {
        self.forget_old(packet.at);
        let end = self.end();
        if !self.entries.is_empty() && sequence < end {
            return;
        }
        let gap = sequence.0.saturating_sub(end.0);
        if self.entries.is_empty() || gap >= MAX_PACKETS as u64 {
            self.entries.clear();
            self.in_flight = DataSize::ZERO;
            self.first = sequence;
        } else {
            let skipped = Entry {
                packet,
                state: State::Skipped,
            };
            (0..gap).for_each(|_| self.push(skipped));
        }
        self.push(Entry {
            packet,
            state: State::InFlight,
        });
        self.in_flight += packet.size;
    }

    /// Notes that a packet leaves once more as it is: what is told of it from now on says nothing of when
    /// it was sent first.
    pub fn handle_repeated(&mut self, sequence: SequenceNumber) {
        let index = sequence.0.checked_sub(self.first.0);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) else {
            return;
        };
        if std::mem::replace(&mut entry.state, State::Skipped) == State::InFlight {
            self.in_flight -= entry.packet.size;
        }
    }

    /// Appends to `results` what the feedback settles, in the order of the numbers.
    pub fn handle_feedback(
        &mut self,
        feedback: &TransportFeedback<'_>,
        results: &mut Vec<PacketResult>,
    ) {
        let reference = self.unwrap_reference(feedback.reference_time);
        let end = self.end();
        let base = end.nearest(feedback.base_sequence);
        if self.entries.is_empty()
            || base >= end
            || base + u64::from(feedback.status_count) < self.first
        {
            self.ignored += u64::from(feedback.status_count);
            return;
        }
        self.pass(base, results);
        let mut ticks = reference.saturating_mul(ticks_per_reference());
        for (offset, status) in feedback.statuses() {
            if let PacketStatus::Received(delta) = status {
                ticks = ticks.saturating_add_signed(delta.into());
            }
            let sequence = base + u64::from(offset);
            if sequence >= end {
                self.ignored += u64::from(feedback.status_count - offset);
                break;
            }
            let arrival = match status {
                PacketStatus::Received(_) => Some(arrival_time(ticks)),
                PacketStatus::Lost => None,
            };
            results.extend(self.settle(sequence, arrival));
        }
        let next = (base + u64::from(feedback.status_count)).min(end);
        self.passed = self.passed.max(Some(next));
    }

    /// How many bytes have left that feedback has not passed yet.
    #[must_use]
    pub fn in_flight(&self) -> DataSize {
        self.in_flight
    }

    /// How many numbers feedback has named that were not sent, or too long ago.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// How many packets are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number after the last that was sent.
    fn end(&self) -> SequenceNumber {
        self.first + self.entries.len() as u64
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() == MAX_PACKETS {
            self.drop_first();
        }
        self.entries.push_back(entry);
    }

    fn drop_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.first = self.first.next();
            if entry.state == State::InFlight {
                self.in_flight -= entry.packet.size;
            }
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(entry) = self.entries.front()
            && now.saturating_duration_since(entry.packet.at) > MAX_AGE
        {
            self.drop_first();
        }
    }

    fn settle(
        &mut self,
        sequence: SequenceNumber,
        arrival: Option<Duration>,
    ) -> Option<PacketResult> {
        let index = sequence.0.checked_sub(self.first.0);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) else {
            self.ignored += 1;
            return None;
        };
        let before = entry.state;
        let (state, fate) = match (before, arrival) {
            (State::InFlight | State::Unknown, Some(at)) => (State::Arrived, Fate::Arrived(at)),
            (State::Lost, Some(at)) => (State::Arrived, Fate::ArrivedLate(at)),
            (State::InFlight | State::Unknown, None) => (State::Lost, Fate::Lost),
            (State::Skipped, Some(_)) => {
                self.ignored += 1;
                return None;
            }
            (State::Lost | State::Skipped, None) | (State::Arrived, _) => return None,
        };
        entry.state = state;
        let packet = entry.packet;
        if before == State::InFlight {
            self.in_flight -= packet.size;
        }
        Some(PacketResult {
            sequence,
            packet,
            fate,
        })
    }

    /// Takes everything before a number out of flight.
    fn pass(&mut self, next: SequenceNumber, results: &mut Vec<PacketResult>) {
        let from = self.passed.unwrap_or(self.first).max(self.first);
        if next <= from || next > self.end() {
            return;
        }
        let (start, end) = (from.0 - self.first.0, next.0 - self.first.0);
        let passed = self.entries.range_mut(start as usize..end as usize);
        for (entry, sequence) in passed.zip(from.0..) {
            if entry.state == State::InFlight {
                entry.state = State::Unknown;
                self.in_flight -= entry.packet.size;
                results.push(PacketResult {
                    sequence: SequenceNumber(sequence),
                    packet: entry.packet,
                    fate: Fate::Unknown,
                });
            }
        }
    }

    /// The reference time nearest to the last one. The first is taken to be in cycle 1.
    fn unwrap_reference(&mut self, wire: u32) -> u64 {
        let wire = u64::from(wire) % REFERENCE_CYCLE;
        let reference = match self.reference {
            None => REFERENCE_CYCLE + wire,
            Some(last) => {
                let ahead = wire.wrapping_sub(last) % REFERENCE_CYCLE;
                if ahead < REFERENCE_CYCLE / 2 {
                    last + ahead
                } else {
                    (last + ahead).saturating_sub(REFERENCE_CYCLE)
                }
            }
        };
        self.reference = Some(reference);
        reference
    }
}

fn ticks_per_reference() -> u64 {
    (REFERENCE_TICK.as_micros() / DELTA_TICK.as_micros()) as u64
}

fn arrival_time(ticks: u64) -> Duration {
    Duration::from_micros(ticks.saturating_mul(DELTA_TICK.as_micros() as u64))
}

#[cfg(test)]
pub(crate) mod tests;
