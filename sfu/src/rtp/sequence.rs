//! Wire counters that wrap, made into counters that do not.
//!
//! In: the 16-bit sequence numbers and 32-bit timestamps of packets in the order they arrived.
//! Out: 64-bit numbers that only arithmetic touches from there on.

use std::ops::{Add, Sub};

/// Where an [`Unwrapper`] starts: one full cycle up, so that packets which overtook the first one
/// still get a number.
const FIRST_CYCLE: u64 = 1 << 16;

/// The same for a [`TimestampUnwrapper`].
const FIRST_TIMESTAMP_CYCLE: u64 = 1 << 32;

/// A sequence number that never wraps: the rollover count above, the 16 bits of the wire below.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// The 16 bits that go on the wire.
    #[must_use]
    pub fn wire(self) -> u16 {
        self.0 as u16
    }

    /// How often the wire number has wrapped, which SRTP calls the ROC (RFC 3711 section 3.2.1).
    #[must_use]
    pub fn rollover(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        SequenceNumber(self.0.wrapping_add(1))
    }

    /// The number with these wire bits that is closest to `self`, as RFC 3711 appendix A guesses
    /// it. Never negative: near zero, a number that would lie below it is the one a cycle later.
    #[must_use]
    pub fn nearest(self, wire: u16) -> Self {
        const HALF: i32 = 1 << 15;
        const CYCLE: u64 = 1 << 16;
        let same_cycle = (self.0 & !(CYCLE - 1)) | u64::from(wire);
        let ahead = i32::from(wire) - i32::from(self.wire());
        SequenceNumber(if ahead > HALF {
            same_cycle.checked_sub(CYCLE).unwrap_or(same_cycle)
        } else if ahead < -HALF {
            same_cycle.wrapping_add(CYCLE)
        } else {
            same_cycle
        })
    }
}

impl Add<u64> for SequenceNumber {
    type Output = SequenceNumber;

    fn add(self, count: u64) -> SequenceNumber {
        SequenceNumber(self.0.wrapping_add(count))
    }
}

impl Sub for SequenceNumber {
    type Output = i64;

    /// How far `self` is ahead of `other`; negative when it is behind.
    fn sub(self, other: SequenceNumber) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }
}

/// Extends the sequence numbers of one stream. The first is taken to be in cycle 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwrapper {
    newest: Option<SequenceNumber>,
}

impl Unwrapper {
    /// The extended number of the packet that just arrived.
    pub fn unwrap(&mut self, wire: u16) -> SequenceNumber {
        let number = match self.newest {
            None => SequenceNumber(FIRST_CYCLE + u64::from(wire)),
            Some(newest) => newest.nearest(wire),
        };
        self.newest = self.newest.max(Some(number));
        number
    }

    /// The highest number so far, if any packet arrived.
    #[must_use]
    pub fn newest(&self) -> Option<SequenceNumber> {
        self.newest
    }
}

/// Extends the RTP timestamps of one stream. The first is taken to be in cycle 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimestampUnwrapper {
    newest: Option<u64>,
}

impl TimestampUnwrapper {
    /// The extended timestamp of the packet that just arrived, in ticks of the stream's clock.
    pub fn unwrap(&mut self, wire: u32) -> u64 {
        let timestamp = match self.newest {
            None => FIRST_TIMESTAMP_CYCLE + u64::from(wire),
            Some(newest) => {
                let ahead = wire.wrapping_sub(newest as u32) as i32;
                newest.saturating_add_signed(i64::from(ahead))
            }
        };
        self.newest = self.newest.max(Some(timestamp));
        timestamp
    }
}

/// Whether sequence number `a` comes after `b`, within half a cycle (RFC 1982).
#[must_use]
pub fn is_newer(a: u16, b: u16) -> bool {
    (a.wrapping_sub(b) as i16) > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unwrap_all(wire: &[u16]) -> Vec<u64> {
        let mut unwrapper = Unwrapper::default();
        wire.iter().map(|&w| unwrapper.unwrap(w).0).collect()
    }

    #[test]
    fn wraps_and_reordering_are_seen_through() {
        assert_eq!(
            unwrap_all(&[65534, 65535, 1, 0, 65533, 2]),
            [131_070, 131_071, 131_073, 131_072, 131_069, 131_074]
        );
    }

    #[test]
    fn a_packet_that_overtook_the_first_one_lies_before_it() {
        assert_eq!(unwrap_all(&[1, 65535, 0]), [65537, 65535, 65536]);
    }

    #[test]
    fn nearest_never_goes_below_zero_and_keeps_the_cycle_halfway() {
        let near = |from, wire| SequenceNumber(from).nearest(wire).0;
        assert_eq!(near(3, 65535), 65535);
        assert_eq!(near(0x1_0003, 0xffff), 0xffff);
        assert_eq!(near(0x1_fff0, 2), 0x2_0002);
        assert_eq!(near(0x1_0000, 0x8000), 0x1_8000);
        assert_eq!(near(0x1_8000, 0), 0x1_0000);
    }

    #[test]
    fn timestamps_wrap() {
        let mut unwrapper = TimestampUnwrapper::default();
        let first = unwrapper.unwrap(u32::MAX - 10);
        assert_eq!(unwrapper.unwrap(10) - first, 21);
        assert_eq!(unwrapper.unwrap(u32::MAX - 10), first);
    }

    #[test]
    fn newer_means_less_than_half_a_cycle_ahead() {
        assert!(is_newer(0, 65535) && !is_newer(65535, 0) && !is_newer(7, 7));
        assert!(is_newer(0x7fff, 0) && !is_newer(0x8000, 0));
    }

    proptest! {
        /// Whatever order the packets come in, as long as none is half a cycle off, the distance
        /// between any two is the true one.
        #[test]
        fn distances_are_true(start in 0u64..1 << 40, steps in prop::collection::vec(-30_000i64..30_000, 1..200)) {
            let mut unwrapper = Unwrapper::default();
            let mut newest = start + (1 << 20);
            let offset = unwrapper.unwrap(newest as u16).0 as i64 - newest as i64;
            for step in steps {
                let truth = newest.saturating_add_signed(step).max(start + (1 << 20) - 30_000);
                prop_assert_eq!(unwrapper.unwrap(truth as u16).0 as i64 - truth as i64, offset);
                newest = newest.max(truth);
            }
        }
    }
}
