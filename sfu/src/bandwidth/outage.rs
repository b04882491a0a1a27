//! When a path was cut, and not lossy.
//!
//! A link that loses packets lets others through, and so does a full queue. Where nothing at all has
//! arrived for a while of what was sent, the network was gone: a new address, a device asleep, a tunnel.
//! What falls into that says nothing of the path before or after: it was neither lost nor held up.
//!
//! In: how far apart two arrivals were, and how many packets were lost between them. Out: whether that
//! was an outage.

use std::time::Duration;

/// The shortest outage: bursts on the radio are over by then.
pub(super) const LEAST: Duration = Duration::from_millis(250);

/// Fewest packets that an outage swallows. Where one in two is lost, which is the worst that a call goes
/// on with, chance takes as many in a row once in a million times.
const LEAST_PACKETS: u64 = 20;

/// Whether there was an outage between two packets that arrived so far apart, of whose numbers `missing`
/// lie between. Both times are the sender's, or both the receiver's.
#[must_use]
pub(crate) fn is_outage(apart: Duration, missing: u64) -> bool {
    apart >= LEAST && missing >= LEAST_PACKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_long_and_takes_all() {
        let ms = Duration::from_millis;
        for (apart, missing, expected) in [
            (ms(249), 100, false),
            (ms(250), 19, false),
            (ms(250), 20, true),
            // Somebody was silent.
            (ms(10_000), 0, false),
        ] {
            assert_eq!(is_outage(apart, missing), expected, "{apart:?} {missing}");
        }
    }
}
