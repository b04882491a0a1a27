//! What the receiver gets: the bitrate at which packets arrive.
//!
//! In: packets that arrived, by the receiver's clock. Out: the rate over half a second, and over the
//! last moments. A link that is full delivers evenly at its capacity, so a short time tells it, and
//! tells it soon; a link that is not delivers what is sent, frame by frame, and takes longer to
//! average.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::{Bitrate, DataSize};

/// Over how long arrivals are averaged (gcc-02 section 5.5: T, half a second to a
/// second).
const WINDOW: Duration = Duration::from_millis(500);

/// The last moments: the shortest window of libwebrtc M125's `BitrateEstimator`
/// (`kMinRateWindowMs`), and enough packets that one more or less is a tenth.
const RECENT: Duration = Duration::from_millis(150);
const RECENT_PACKETS: usize = 10;

/// Fewer packets are no rate.
const MIN_PACKETS: usize = 5;

/// Arrivals spread over less time are no rate either.
const MIN_SPAN: Duration = Duration::from_millis(20);

/// Most packets kept: more than 20 Mbit/s within the window.
const MAX_PACKETS: usize = 1024;

/// The arrivals of one connection.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// In the order of arrival.
    arrivals: VecDeque<(Duration, DataSize)>,
}

impl Acknowledged {
    pub(crate) fn handle_arrival(&mut self, at: Duration, size: DataSize) {
        if let Some(&(newest, _)) = self.arrivals.back()
            && at + WINDOW < newest
        {
            // The receiver's clock was set back.
            self.arrivals.clear();
        }
        let later = self
            .arrivals
            .iter()
            .rev()
            .take_while(|(other, _)| *other > at);
        let index = self.arrivals.len() - later.count();
        self.arrivals.insert(index, (at, size));
        let newest = self.arrivals.back().map_or(at, |&(newest, _)| newest);
        while self.arrivals.len() > MAX_PACKETS
            || self
                .arrivals
                .front()
                .is_some_and(|&(oldest, _)| oldest + WINDOW < newest)
        {
            self.arrivals.pop_front();
        }
    }

    /// The rate over half a second.
    #[must_use]
    pub(crate) fn rate(&self) -> Option<Bitrate> {
        self.rate_from(0)
    }

    /// The rate over the last moments.
    #[must_use]
    pub(crate) fn recent(&self) -> Option<Bitrate> {
        let &(newest, _) = self.arrivals.back()?;
        let recent = self.arrivals.iter().rev();
        let recent = recent.take_while(|(at, _)| *at + RECENT >= newest).count();
        self.rate_from(
            self.arrivals
                .len()
                .saturating_sub(recent.max(RECENT_PACKETS)),
        )
    }

    fn rate_from(&self, index: usize) -> Option<Bitrate> {
        let (first, last) = (self.arrivals.get(index)?.0, self.arrivals.back()?.0);
        let span = last.saturating_sub(first);
        if self.arrivals.len() - index < MIN_PACKETS || span < MIN_SPAN {
            return None;
        }
        // The first only marks the beginning.
        let size: DataSize = self
            .arrivals
            .range(index + 1..)
            .map(|(_, size)| *size)
            .sum();
        Some(size.over(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(rates: &[(u64, u64)]) -> Acknowledged {
        let mut acknowledged = Acknowledged::default();
        let mut at = Duration::from_secs(1);
        for &(kbps, ms) in rates {
            let size = DataSize::bytes(1200);
            let end = at + Duration::from_millis(ms);
            while at < end {
                acknowledged.handle_arrival(at, size);
                at += size.time_at(Bitrate::kbps(kbps));
            }
        }
        acknowledged
    }

    fn close(rate: Option<Bitrate>, kbps: u64) -> bool {
        rate.is_some_and(|rate| (0.95..1.05).contains(&rate.ratio(Bitrate::kbps(kbps))))
    }

    #[test]
    fn the_rate_is_that_of_half_a_second_and_the_recent_one_of_less() {
        let steady = feed(&[(2000, 1000)]);
        assert!(close(steady.rate(), 2000) && close(steady.recent(), 2000));
        let dropped = feed(&[(5000, 1000), (1000, 160)]);
        assert!(close(dropped.recent(), 1000), "{:?}", dropped.recent());
        assert!(dropped.rate() > Some(Bitrate::kbps(3000)));
        assert!(close(feed(&[(5000, 1000), (1000, 550)]).rate(), 1000));
    }

    #[test]
    fn too_little_is_no_rate() {
        assert_eq!(feed(&[]).rate(), None);
        assert_eq!(feed(&[(300, 100)]).rate(), None);
        let mut burst = Acknowledged::default();
        for _ in 0..100 {
            burst.handle_arrival(Duration::from_secs(1), DataSize::bytes(1200));
        }
        assert_eq!((burst.rate(), burst.recent()), (None, None));
    }

    #[test]
    fn a_clock_set_back_starts_anew() {
        let mut acknowledged = feed(&[(5000, 1000)]);
        acknowledged.handle_arrival(Duration::from_millis(10), DataSize::bytes(1200));
        assert_eq!(acknowledged.rate(), None);
    }

    proptest! {
        #[test]
        fn memory_is_bounded(arrivals in prop::collection::vec((0u64..1 << 50, any::<u64>()), 0..2000)) {
            let mut acknowledged = Acknowledged::default();
            for (at, size) in arrivals {
                acknowledged.handle_arrival(Duration::from_micros(at), DataSize::bytes(size));
                let _ = (acknowledged.rate(), acknowledged.recent());
                prop_assert!(acknowledged.arrivals.len() <= MAX_PACKETS);
            }
        }
    }
}
