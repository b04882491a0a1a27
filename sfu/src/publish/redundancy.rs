//! Which of the packets that are missing a redundant block is (RFC 2198).
//!
//! In: the packet before a gap, the packet after it, and the blocks that the latter repeats, which
//! say how old they are but not which number they had. Out: the number of each, where there is only
//! one that it can have.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::rtp::red::{Block, MAX_BLOCKS};
use crate::rtp::sequence::SequenceNumber;

/// Where a packet is in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    pub sequence: SequenceNumber,
    /// Extended, in ticks of the codec's clock.
    pub timestamp: u64,
}

/// The places in the gap between two packets that blocks of the second one belong in, with their
/// data. `blocks` are oldest first.
///
/// As many blocks as packets are missing fill the gap in their order. With fewer, all packets of the
/// gap must be equally long for a block's age to say which it is.
pub(crate) fn positions<'a>(
    before: Position,
    after: Position,
    blocks: impl Iterator<Item = Block<'a>>,
) -> impl Iterator<Item = (Position, &'a [u8])> {
    let missing = u64::try_from(after.sequence - before.sequence - 1).unwrap_or(0);
    let elapsed = after.timestamp.saturating_sub(before.timestamp);
    let mut found: [Option<(Position, &[u8])>; MAX_BLOCKS] = [None; MAX_BLOCKS];
    let mut count = 0;
    let mut youngest = elapsed;
    for block in blocks {
        let age = u64::from(block.offset);
        let is_usable = age > 0 && age < youngest && !block.data.is_empty();
        if missing > 0
            && is_usable
            && let Some(place) = found.get_mut(count)
        {
            youngest = age;
            count += 1;
            let position = Position {
                // For now; see below.
                sequence: after.sequence,
                timestamp: after.timestamp - age,
            };
            *place = Some((position, block.data));
        }
    }
    let fills = count as u64 == missing;
    let steps = missing.saturating_add(1);
    let step = elapsed.is_multiple_of(steps).then_some(elapsed / steps);
    found
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(move |(index, (position, data))| {
            let age = after.timestamp - position.timestamp;
            let number = if fills {
                Some(before.sequence + 1 + index as u64)
            } else {
                step.filter(|&step| (count as u64) < missing && age.is_multiple_of(step))
                    .map(|step| SequenceNumber(after.sequence.0 - age / step))
            };
            Some((
                Position {
                    sequence: number?,
                    ..position
                },
                data,
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(sequence: u64, timestamp: u64) -> Position {
        Position {
            sequence: SequenceNumber(sequence),
            timestamp,
        }
    }

    fn numbers(before: Position, after: Position, ages: &[u16]) -> Vec<(u64, u64)> {
        let blocks = ages.iter().map(|&offset| Block {
            payload_type: 111,
            offset,
            data: &[1],
        });
        positions(before, after, blocks)
            .map(|(p, _)| (p.sequence.0, p.timestamp))
            .collect()
    }

    #[test]
    fn a_block_finds_the_one_place_it_can_have() {
        type Case = (
            &'static str,
            u64,
            u64,
            &'static [u16],
            &'static [(u64, u64)],
        );
        let table: [Case; 9] = [
            ("one lost, one repeated", 12, 1920, &[960], &[(11, 960)]),
            ("nothing lost", 11, 960, &[960], &[]),
            (
                "two lost, both repeated",
                13,
                2880,
                &[1920, 960],
                &[(11, 960), (12, 1920)],
            ),
            (
                "two lost, the last repeated",
                13,
                2880,
                &[960],
                &[(12, 1920)],
            ),
            ("a pause is no step", 13, 3000, &[960], &[]),
            (
                "of a pause all is known when all is repeated",
                12,
                9600,
                &[960],
                &[(11, 8640)],
            ),
            (
                "one lost, older ones repeated too",
                12,
                1920,
                &[2880, 1920, 960],
                &[(11, 960)],
            ),
            ("an age between two packets", 13, 2880, &[1000], &[]),
            (
                "more blocks than packets are missing",
                12,
                1920,
                &[1000, 960],
                &[],
            ),
        ];
        for (what, sequence, timestamp, ages, expected) in table {
            let found = numbers(place(10, 0), place(sequence, timestamp), ages);
            assert_eq!(found, expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_place_is_outside_the_gap_or_given_twice(
            before in any::<(u32, u32)>(),
            after in any::<(u32, u32)>(),
            near: bool,
            ages in prop::collection::vec(any::<u16>(), 0..20),
        ) {
            let before = place(before.0.into(), before.1.into());
            let after = match near {
                true => place(before.sequence.0 + u64::from(after.0 % 8), before.timestamp + u64::from(after.1 % 9600)),
                false => place(after.0.into(), after.1.into()),
            };
            let found = numbers(before, after, &ages);
            for pair in found.windows(2) {
                prop_assert!(pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
            }
            for (sequence, timestamp) in found {
                prop_assert!((before.sequence.0 + 1..after.sequence.0).contains(&sequence));
                prop_assert!((before.timestamp + 1..after.timestamp).contains(&timestamp));
            }
        }
    }
}
