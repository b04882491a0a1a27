//! Which packets of one RTP stream came, which came twice and which never came.
//!
//! In: sequence numbers as they arrive. Out: their extended form, and counts.

use std::collections::BTreeSet;

/// How many missing packets are remembered while they may still come, retransmitted or late.
const MAX_MISSING: usize = 4096;

/// What has become of a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// New, with its sequence number extended to 64 bits.
    New(u64),
    /// It was there already.
    Duplicate,
}

/// The sequence numbers of one stream.
#[derive(Debug, Default)]
pub(crate) struct Continuity {
    highest: Option<u64>,
    missing: BTreeSet<u64>,
    given_up: u64,
    /// Packets that came after one with a higher number.
    pub(crate) late: u64,
    /// Packets that came more than once.
    pub(crate) duplicates: u64,
}

impl Continuity {
    /// Takes note of a packet.
    pub(crate) fn handle_packet(&mut self, sequence_number: u16) -> Arrival {
        let Some(highest) = self.highest else {
            // Far enough from zero that a number from before the first does not wrap.
            let first = 1 << 32 | u64::from(sequence_number);
            self.highest = Some(first);
            return Arrival::New(first);
        };
        let distance = sequence_number.wrapping_sub(highest as u16) as i16;
        let extended = highest.wrapping_add_signed(i64::from(distance));
        if distance > 0 {
            self.missing.extend(highest + 1..extended);
            while self.missing.len() > MAX_MISSING {
                self.missing.pop_first();
                self.given_up += 1;
            }
            self.highest = Some(extended);
        } else if self.missing.remove(&extended) {
            self.late += 1;
        } else {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        Arrival::New(extended)
    }

    /// Packets that have not come, between the first and the last that did.
    pub(crate) fn lost(&self) -> u64 {
        self.missing.len() as u64 + self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_lost_until_filled_and_repeats_are_counted() {
        let mut continuity = Continuity::default();
        let mut arrive = |numbers: &[u16]| {
            for number in numbers {
                continuity.handle_packet(*number);
            }
            (continuity.lost(), continuity.late, continuity.duplicates)
        };
        assert_eq!(arrive(&[65_534, 65_535, 0]), (0, 0, 0));
        assert_eq!(arrive(&[3]), (2, 0, 0));
        assert_eq!(arrive(&[1]), (1, 1, 0));
        assert_eq!(arrive(&[1, 3]), (1, 1, 2));
        assert_eq!(arrive(&[2]), (0, 2, 2));
    }

    #[test]
    fn numbers_are_extended_across_the_wrap() {
        let mut continuity = Continuity::default();
        let first = continuity.handle_packet(65_535);
        assert_eq!(first, Arrival::New(0x1_0000_ffff));
        assert_eq!(continuity.handle_packet(1), Arrival::New(0x1_0001_0001));
        assert_eq!(continuity.handle_packet(0), Arrival::New(0x1_0001_0000));
    }

    #[test]
    fn memory_is_bounded() {
        let mut continuity = Continuity::default();
        for number in [0, 30_000, 60_000] {
            continuity.handle_packet(number);
        }
        assert_eq!(continuity.missing.len(), MAX_MISSING);
        assert_eq!(continuity.lost(), 59_998);
    }
}
