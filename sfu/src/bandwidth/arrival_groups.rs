//! Packets that were sent together, and how much longer each group took than the one before.
//!
//! In: when packets were sent and when they arrived. Out: for each group that is complete, how far
//! it was sent and arrived after the one before it, of which [`trendline`](super::trendline) makes
//! out whether a queue grows (gcc-02 sections 5.1 and 5.2).

use std::time::{Duration, Instant};

/// Packets sent within this time make one group (gcc-02 section 5.6: burst_time).
const GROUP_LENGTH: Duration = Duration::from_millis(5);

/// Packets that arrive within this time of each other, having caught up on the way, were held up
/// together and join one group (libwebrtc M125: `kBurstDeltaThreshold`).
const BURST_GAP: Duration = Duration::from_millis(5);

/// Longest group made in that way (libwebrtc M125: `kMaxBurstDuration`).
const MAX_BURST: Duration = Duration::from_millis(100);

/// A receiver's clock that runs off from ours by more has been set (libwebrtc M125:
/// `kArrivalTimeOffsetThreshold`).
const MAX_CLOCK_JUMP: Duration = Duration::from_secs(3);

/// What lies between two groups.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct GroupDelta {
    /// How long after the group before it the last packet was sent.
    pub sent: Duration,
    /// How long after it the last packet arrived.
    pub arrived: Duration,
    /// When that was, by the receiver's clock.
    pub arrival: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: Instant,
    last_sent: Instant,
    first_arrival: Duration,
    last_arrival: Duration,
    /// By our clock, when we heard of it.
    told: Instant,
}

impl Group {
    fn takes(&self, sent: Instant, arrival: Duration) -> bool {
        sent.saturating_duration_since(self.first_sent) <= GROUP_LENGTH
            || self.is_burst(sent, arrival)
    }

    fn is_burst(&self, sent: Instant, arrival: Duration) -> bool {
        let apart = arrival.saturating_sub(self.last_arrival);
        let caught_up = sent.saturating_duration_since(self.last_sent) > apart;
        let since_first = arrival.checked_sub(self.first_arrival);
        caught_up && apart <= BURST_GAP && since_first.is_some_and(|since| since < MAX_BURST)
    }
}

/// The groups of one connection.
#[derive(Debug, Default)]
pub(crate) struct ArrivalGroups {
    before: Option<Group>,
    current: Option<Group>,
}

impl ArrivalGroups {
    /// Notes that a packet arrived, of which we hear `now`. Packets come in the order they were
    /// sent; one that is older than its group is passed over.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        sent: Instant,
        arrival: Duration,
    ) -> Option<GroupDelta> {
        let fresh = Group {
            first_sent: sent,
            last_sent: sent,
            first_arrival: arrival,
            last_arrival: arrival,
            told: now,
        };
        let Some(current) = &mut self.current else {
            self.current = Some(fresh);
            return None;
        };
        if sent < current.first_sent {
            return None;
        }
        if current.takes(sent, arrival) {
            current.last_sent = current.last_sent.max(sent);
            current.last_arrival = current.last_arrival.max(arrival);
            current.told = now;
            return None;
        }
        let complete = *current;
        let before = self.before.replace(complete);
        self.current = Some(fresh);
        delta(before?, complete)
    }
}

/// Nothing when the groups arrived in the wrong order, or the receiver's clock was set.
fn delta(before: Group, complete: Group) -> Option<GroupDelta> {
    let arrived = complete.last_arrival.checked_sub(before.last_arrival)?;
    let told = complete.told.saturating_duration_since(before.told);
    (arrived <= told + MAX_CLOCK_JUMP).then(|| GroupDelta {
        sent: complete
            .last_sent
            .saturating_duration_since(before.last_sent),
        arrived,
        arrival: complete.last_arrival,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    /// Packets as (sent, arrived) in milliseconds; returns the deltas as (sent, arrived).
    fn deltas(packets: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let start = Instant::now();
        let mut groups = ArrivalGroups::default();
        let mut deltas = Vec::new();
        for &(sent, arrived) in packets {
            let sent = start + Duration::from_millis(sent);
            let arrived = Duration::from_millis(arrived);
            let delta = groups.handle_packet(start + arrived, sent, arrived);
            deltas.extend(delta.map(|d| (d.sent.as_millis() as u64, d.arrived.as_millis() as u64)));
        }
        deltas
    }

    #[test]
    fn packets_sent_within_five_milliseconds_are_one() {
        assert_eq!(
            deltas(&[(0, 50), (5, 55), (20, 70), (24, 75), (40, 91), (60, 110)]),
            [(19, 20), (16, 16)]
        );
    }

    #[test]
    fn packets_that_were_held_up_and_arrive_together_are_one() {
        assert_eq!(
            deltas(&[
                (0, 50),
                (20, 120),
                (40, 121),
                (60, 122),
                (80, 140),
                (100, 160)
            ]),
            [(60, 72), (20, 18)]
        );
        // A burst without end is cut.
        let burst: Vec<_> = (0..90).map(|n| (n * 6, 400 + n * 5)).collect();
        assert!(deltas(&burst).len() >= 2);
    }

    #[test]
    fn reordering_and_a_clock_that_was_set_cost_one_delta() {
        assert_eq!(
            deltas(&[(0, 50), (20, 70), (10, 72), (40, 90), (60, 110)]),
            [(20, 20), (20, 20)]
        );
        let clock_set = |by_third: u64, before: u64| {
            let start = Instant::now();
            let mut groups = ArrivalGroups::default();
            let deltas = (0..6u64).filter_map(|n| {
                let at = start + MS * 20 * n as u32;
                let clock = if n < 3 { before } else { by_third };
                groups.handle_packet(at, at, Duration::from_millis(clock + 20 * n))
            });
            deltas
                .map(|d| (d.sent / 20, d.arrived / 20))
                .collect::<Vec<_>>()
        };
        assert_eq!(clock_set(9000, 0), [(MS, MS); 3]);
        assert_eq!(clock_set(0, 9000), [(MS, MS); 3]);
    }

    proptest! {
        #[test]
        fn no_times_break_it(packets in prop::collection::vec((0u64..1 << 40, any::<u64>()), 0..100)) {
            let start = Instant::now();
            let mut groups = ArrivalGroups::default();
            for (sent, arrival) in packets {
                let sent = start + Duration::from_micros(sent);
                groups.handle_packet(start, sent, Duration::from_micros(arrival));
            }
        }
    }
}
