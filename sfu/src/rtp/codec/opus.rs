//! Opus: how long a packet lasts (RFC 6716 section 3.1).

use std::time::Duration;

/// Longest packet the format allows (RFC 6716 section 3.2.5, requirement R5).
const MAX_DURATION: Duration = Duration::from_millis(120);

/// How much audio the payload holds, or `None` when it is empty or claims more than 120 ms.
#[must_use]
pub fn duration(payload: &[u8]) -> Option<Duration> {
    let toc = *payload.first()?;
    let config = toc >> 3;
    let frame_us = match config {
        // SILK
        0..=11 if config % 4 == 3 => 60_000,
        0..=11 => 10_000 << (config % 4),
        // Hybrid
        12..=15 => 10_000 << (config % 2),
        // CELT
        _ => 2_500 << (config % 4),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(*payload.get(1)? & 0x3f),
    };
    let duration = Duration::from_micros(frame_us * frames);
    (frames > 0 && duration <= MAX_DURATION).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let table: [(&[u8], Option<u64>); 9] = [
            (&[0x00], Some(10_000)),
            (&[0x18], Some(60_000)),
            (&[0x68], Some(20_000)),
            (&[0x80], Some(2_500)),
            (&[0xf9], Some(40_000)),
            (&[0xfb, 6], Some(120_000)),
            (&[0xfb, 7], None),
            (&[0xfb, 0], None),
            (&[0xfb], None),
        ];
        for (payload, micros) in table {
            assert_eq!(duration(payload), micros.map(Duration::from_micros));
        }
        assert_eq!(duration(&[]), None);
    }

    proptest! {
        #[test]
        fn a_duration_is_positive_and_bounded(payload in prop::collection::vec(any::<u8>(), 0..4)) {
            if let Some(duration) = duration(&payload) {
                prop_assert!(duration > Duration::ZERO && duration <= MAX_DURATION);
            }
        }
    }
}
