//! Bitrates and sizes as types, so that bits cannot be added to bytes.
//!
//! All arithmetic saturates: what the network says goes into it, and no input may overflow.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

/// Bits per second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Bitrate(u64);

/// Bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DataSize(u64);

impl Bitrate {
    /// Nothing.
    pub const ZERO: Bitrate = Bitrate(0);
    /// More than anything.
    pub const MAX: Bitrate = Bitrate(u64::MAX);

    /// From bits per second.
    #[must_use]
    pub const fn bps(bits: u64) -> Self {
        Bitrate(bits)
    }

    /// From thousands of bits per second.
    #[must_use]
    pub const fn kbps(kilobits: u64) -> Self {
        Bitrate(kilobits.saturating_mul(1000))
    }

    /// In bits per second.
    #[must_use]
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// In bits per second, for arithmetic.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// Times a factor; what is negative or not a number makes zero.
    #[must_use]
    pub fn scale(self, factor: f64) -> Self {
        Bitrate((self.0 as f64 * factor) as u64)
    }

    /// What is carried in a time.
    #[must_use]
    pub fn during(self, time: Duration) -> DataSize {
        let bits = u128::from(self.0).saturating_mul(time.as_nanos()) / 1_000_000_000;
        DataSize(u64::try_from(bits / 8).unwrap_or(u64::MAX))
    }

    /// This share of another bitrate; infinite for a share of nothing.
    #[must_use]
    pub fn ratio(self, of: Bitrate) -> f64 {
        if of.0 == 0 {
            f64::INFINITY
        } else {
            self.0 as f64 / of.0 as f64
        }
    }
}

impl DataSize {
    /// Nothing.
    pub const ZERO: DataSize = DataSize(0);

    /// From bytes.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        DataSize(bytes)
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// In bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The bitrate at which it is carried in a time; in no time at all, [`Bitrate::MAX`].
    #[must_use]
    pub fn over(self, time: Duration) -> Bitrate {
        let bits = u128::from(self.0) * 8 * 1_000_000_000;
        let rate = bits.checked_div(time.as_nanos());
        Bitrate(rate.map_or(u64::MAX, |rate| u64::try_from(rate).unwrap_or(u64::MAX)))
    }

    /// How long a bitrate takes to carry it; at none, for ever.
    #[must_use]
    pub fn time_at(self, rate: Bitrate) -> Duration {
        let nanos = (u128::from(self.0) * 8 * 1_000_000_000).checked_div(u128::from(rate.0));
        nanos.map_or(Duration::MAX, |nanos| {
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        })
    }
}

macro_rules! saturating {
    ($unit:ident) => {
        impl Add for $unit {
            type Output = $unit;

            fn add(self, other: $unit) -> $unit {
                $unit(self.0.saturating_add(other.0))
            }
        }

        impl Sub for $unit {
            type Output = $unit;

            fn sub(self, other: $unit) -> $unit {
                $unit(self.0.saturating_sub(other.0))
            }
        }

        impl AddAssign for $unit {
            fn add_assign(&mut self, other: $unit) {
                *self = *self + other;
            }
        }

        impl SubAssign for $unit {
            fn sub_assign(&mut self, other: $unit) {
                *self = *self - other;
            }
        }

        impl Sum for $unit {
            fn sum<I: Iterator<Item = $unit>>(all: I) -> $unit {
                all.fold($unit(0), Add::add)
            }
        }
    };
}

saturating!(Bitrate);
saturating!(DataSize);

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} bit/s", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kbit/s", self.0 as f64 / 1e3),
            _ => write!(f, "{:.2} Mbit/s", self.0 as f64 / 1e6),
        }
    }
}

impl fmt::Display for DataSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn size_is_bitrate_times_time() {
        for (kbps, ms, bytes) in [(8, 1000, 1000), (300, 40, 1500), (0, 1000, 0), (5000, 0, 0)] {
            let time = Duration::from_millis(ms);
            assert_eq!(Bitrate::kbps(kbps).during(time), DataSize::bytes(bytes));
        }
        let packet = DataSize::bytes(1250);
        assert_eq!(packet.over(Duration::from_millis(10)), Bitrate::kbps(1000));
        assert_eq!(packet.time_at(Bitrate::kbps(1000)).as_millis(), 10);
    }

    #[test]
    fn the_ends_of_the_scale_are_harmless() {
        let size = DataSize::bytes(1);
        assert_eq!(size.over(Duration::ZERO), Bitrate::MAX);
        assert_eq!(size.time_at(Bitrate::ZERO), Duration::MAX);
        assert_eq!(Bitrate::MAX + Bitrate::MAX, Bitrate::MAX);
        assert_eq!(Bitrate::ZERO - Bitrate::MAX, Bitrate::ZERO);
        assert_eq!(Bitrate::kbps(1).scale(-1.0), Bitrate::ZERO);
        assert_eq!(Bitrate::kbps(1).scale(f64::NAN), Bitrate::ZERO);
        assert_eq!(Bitrate::kbps(1).scale(f64::INFINITY), Bitrate::MAX);
    }

    #[test]
    fn people_can_read_them() {
        for (bps, text) in [
            (999, "999 bit/s"),
            (30_000, "30.0 kbit/s"),
            (2_500_000, "2.50 Mbit/s"),
        ] {
            assert_eq!(Bitrate::bps(bps).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn no_input_overflows(rate: u64, bytes: u64, secs: u64, nanos in 0u32..1_000_000_000, factor: f64) {
            let (rate, size) = (Bitrate::bps(rate), DataSize::bytes(bytes));
            let time = Duration::new(secs, nanos);
            let _ = (rate.during(time), size.over(time), size.time_at(rate), rate.scale(factor));
        }

        #[test]
        fn there_and_back_loses_a_rounding_only(kbps in 10u64..100_000, ms in 1u64..100_000) {
            let (rate, time) = (Bitrate::kbps(kbps), Duration::from_millis(ms));
            let back = rate.during(time).time_at(rate);
            prop_assert!(back <= time && time - back < Duration::from_millis(1));
        }
    }
}
