//! The numbers of a stream whose sources change, and which is thinned and mended on the way.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use super::*;
use crate::publish::history::tests::video;
use crate::types::EncodingIndex;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn source(n: u64) -> Source {
    Source {
        track: TrackId(n),
        encoding: EncodingIndex(0),
        epoch: 0,
    }
}

proptest! {
    /// However often the source changes, in whatever order packets come, and whatever is taken back
    /// of them, the subscriber's numbers are all different, have no hole that the source did not
    /// have, and lead back.
    #[test]
    fn the_rewrite_is_a_bijection(
        first in any::<u16>(),
        sources in proptest::collection::vec((1u64 << 16..1 << 40, 1usize..40, any::<u64>(), 0usize..60), 1..MAX_STRETCHES),
    ) {
        let start = Instant::now();
        let mut rewriter = Rewriter::new(first);
        let mut seen = BTreeSet::new();
        let mut sent = Vec::new();
        for (n, (base, count, shuffle, unused)) in sources.into_iter().enumerate() {
            let source = source(n as u64);
            let mut offsets: Vec<u64> = (0..count as u64).collect();
            rewriter.start(start, source, &video(EncodingIndex(0), 0, base, true), None);
            // Any order but for the first packet.
            offsets[1..].sort_by_key(|o| o.wrapping_mul(shuffle | 1));
            for offset in offsets {
                let meta = video(EncodingIndex(0), 0, base + offset, offset == 0);
                let mapped = rewriter.forward(start, &meta).unwrap();
                prop_assert!(seen.insert(mapped.sequence), "a number used twice");
                sent.push((mapped, source, meta));
            }
            // Some of the latest have not left, and perhaps others that were followed by one that has.
            let kept = sent.len().saturating_sub(unused);
            let mut back: Vec<_> = sent[kept..].iter().map(|(mapped, ..)| mapped.sequence).collect();
            back.sort_unstable();
            let taken = rewriter.take_back(&back);
            let end = seen.last().unwrap().next().0 - taken;
            seen.split_off(&SequenceNumber(end));
            sent.retain(|(mapped, ..)| mapped.sequence.0 < end);
        }
        prop_assume!(!seen.is_empty());
        let (lowest, highest) = (*seen.first().unwrap(), *seen.last().unwrap());
        prop_assert_eq!((highest - lowest) as usize + 1, seen.len(), "a hole");
        for (mapped, source, meta) in sent {
            let found = rewriter.find(mapped.sequence.wire()).unwrap();
            prop_assert_eq!((found.source, found.sequence), (source, meta.sequence));
            prop_assert_eq!(found.map(&meta), Some(mapped));
        }
    }
}

/// A packet that is a whole picture.
fn picture(sequence: u64, id: u16) -> PacketMeta {
    let mut meta = video(EncodingIndex(0), 0, sequence, false);
    meta.timestamp = u64::from(id);
    let info = meta.picture.get_or_insert_default();
    info.picture_id = Some(PictureId::Bits15(id & 0x7fff));
    meta
}

fn picture_id(meta: &PacketMeta) -> u16 {
    meta.picture
        .and_then(|p| p.picture_id)
        .map_or(0, PictureId::value)
}

/// What becomes of the next number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    SendLate,
    /// A picture of a layer that is left out.
    Omit,
    OmitLate,
    Skip,
    /// Repair of one's own, which takes no number of the publisher's.
    Insert,
}

proptest! {
    /// Whatever is put in and left out, no number is sent twice, what was sent is found again, and
    /// a stream that arrives in order and whole has no hole, neither in numbers nor in pictures.
    #[test]
    fn layers_and_repair_are_put_in_and_left_out(
        first_picture: u16,
        steps in proptest::collection::vec(
            proptest::sample::select(&[
                Step::Send, Step::Send, Step::SendLate, Step::Omit,
                Step::OmitLate, Step::Skip, Step::Insert,
            ][..]),
            1..MAX_STRETCHES,
        ),
        is_whole: bool,
    ) {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(9);
        let (mut next, mut id) = (100u64, first_picture);
        let mut late = Vec::new();
        let (mut sent, mut own) = (Vec::new(), Vec::new());
        rewriter.start(now, source(1), &picture(next, id), None);
        let mut handle = |rewriter: &mut Rewriter, meta: PacketMeta, is_omitted: bool| {
            if is_omitted && rewriter.omit(&meta) {
                return;
            }
            // Those before the beginning get none.
            let mapped = rewriter.forward(now, &meta);
            sent.extend(mapped.map(|mapped| (mapped, meta, is_omitted)));
        };
        handle(&mut rewriter, picture(next, id), false);
        for step in steps {
            if let Step::Insert = step {
                own.extend(rewriter.insert().map(|(number, _)| number));
                continue;
            }
            next += 1;
            if let Step::Skip = step {
                prop_assert!(rewriter.skip(SequenceNumber(next)));
                continue;
            }
            id = id.wrapping_add(1);
            let meta = picture(next, id);
            match step {
                Step::SendLate if !is_whole => late.push((meta, false)),
                Step::OmitLate if !is_whole => late.push((meta, true)),
                Step::Omit | Step::OmitLate => handle(&mut rewriter, meta, true),
                _ => {
                    handle(&mut rewriter, meta, false);
                    for (meta, is_omitted) in late.drain(..) {
                        handle(&mut rewriter, meta, is_omitted);
                    }
                }
            }
        }
        let numbers = sent.iter().map(|(mapped, ..)| mapped.sequence);
        let mut numbers: Vec<_> = numbers.chain(own.iter().copied()).collect();
        let count = numbers.len();
        numbers.sort();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), count, "a number used twice");
        if is_whole {
            prop_assert_eq!((numbers[count - 1] - numbers[0]) as usize + 1, count, "a hole");
        }
        let seen = |meta: &PacketMeta, mapped: &Mapped| {
            picture_id(meta).wrapping_add(mapped.pictures.picture_id) & 0x7fff
        };
        sent.sort_by_key(|(mapped, ..)| mapped.sequence);
        for pair in sent.windows(2) {
            let [(one, before, _), (next, after, _)] = pair else {
                unreachable!("windows of two");
            };
            let apart = seen(after, next).wrapping_sub(seen(before, one)) & 0x7fff;
            let were_apart = picture_id(after).wrapping_sub(picture_id(before)) & 0x7fff;
            prop_assert!((1..=were_apart).contains(&apart), "pictures out of order");
            prop_assert!(!is_whole || apart == 1, "a picture is missing");
        }
        for (mapped, meta, _) in sent {
            let number = mapped.sequence;
            let found = rewriter.find(number.wire()).unwrap();
            prop_assert_eq!((found.source, found.sequence), (source(1), meta.sequence));
            prop_assert_eq!(found.map(&meta), Some(mapped));
        }
        for number in own {
            prop_assert!(rewriter.find(number.wire()).is_none());
        }
    }
}

#[test]
fn a_picture_of_several_packets_is_left_out_once() {
    let now = Instant::now();
    let mut rewriter = Rewriter::new(7);
    rewriter.start(now, source(1), &picture(100, 5), None);
    let story = [
        // (number, picture, is left out, number and picture that are seen)
        (100, 5, false, Some((7, 5))),
        (101, 6, true, None),
        (102, 6, true, None),
        (103, 7, true, None),
        (104, 8, false, Some((8, 6))),
        // The first of picture 9 is late, and another packet has been sent then.
        (106, 9, true, None),
        (107, 10, false, Some((10, 7))),
        (105, 9, true, Some((9, 0))),
        (108, 11, false, Some((11, 8))),
        // The middle of picture 12 is not waited for, nor sent when it comes.
        (109, 12, true, None),
        (111, 12, true, None),
        (110, 12, true, None),
        (112, 13, false, Some((12, 9))),
    ];
    for (number, id, is_omitted, seen) in story {
        let meta = picture(number, id);
        let is_left_out = is_omitted && rewriter.omit(&meta);
        let mapped = match is_left_out {
            true => None,
            false => rewriter.forward(now, &meta),
        };
        let shown = mapped.map(|mapped| {
            let id = picture_id(&meta).wrapping_add(mapped.pictures.picture_id);
            // What is left out and has a number still is empty.
            (mapped.sequence.0, if is_omitted { 0 } else { id })
        });
        assert_eq!(shown, seen, "{number}");
    }
}

#[test]
fn pictures_that_refer_to_each_other_by_number_keep_their_distances() {
    let now = Instant::now();
    let mut rewriter = Rewriter::new(7);
    let of = |n: u64| PacketMeta {
        codec: Codec::Vp9 { profile: 0 },
        ..picture(n, n as u16)
    };
    rewriter.start(now, source(1), &of(1), None);
    let before = rewriter.forward(now, &of(1)).unwrap();
    assert!(rewriter.omit(&of(2)));
    let after = rewriter.forward(now, &of(3)).unwrap();
    assert_eq!(after.sequence, before.sequence.next());
    assert_eq!(after.pictures, before.pictures);
}

#[test]
fn sender_reports_align_a_new_source_unless_they_are_absurd() {
    const LATER_MS: u64 = 100;
    let start = Instant::now();
    // By the clock the new source is 9000 ticks on.
    let table = [
        (Some(3_000), 3_000),
        (Some(20_000), 20_000),
        (Some(0), 1),
        (Some(-5_000), 1),
        (Some(9_000 + 90_000), 99_000),
        (Some(9_000 + 90_001), 9_000),
        (Some(9_000 - 90_001), 9_000),
        (Some(i32::MIN), 9_000),
        (None, 9_000),
    ];
    for (aligned, expected) in table {
        let mut rewriter = Rewriter::new(7);
        let first = video(EncodingIndex(0), 0, 100_000, true);
        rewriter.start(start, source(1), &first, None);
        let before = rewriter.forward(start, &first).unwrap().timestamp;
        let second = video(EncodingIndex(1), 0, 5, true);
        let later = start + Duration::from_millis(LATER_MS);
        let aligned = aligned.map(|ticks| before.wrapping_add_signed(ticks));
        rewriter.start(later, source(2), &second, aligned);
        let after = rewriter.forward(later, &second).unwrap().timestamp;
        assert_eq!(after.wrapping_sub(before), expected, "{aligned:?}");
    }
}

#[test]
fn time_goes_on_over_a_change_of_source() {
    let start = Instant::now();
    let mut rewriter = Rewriter::new(7);
    let first = video(EncodingIndex(0), 0, 100_000, true);
    rewriter.start(start, source(1), &first, None);
    let before = rewriter.forward(start, &first).unwrap();
    let mut second = video(EncodingIndex(1), 0, 5, true);
    second.timestamp = 77;
    let later = start + Duration::from_millis(100);
    rewriter.start(later, source(2), &second, None);
    let after = rewriter.forward(later, &second).unwrap();
    assert_eq!(after.timestamp.wrapping_sub(before.timestamp), 9_000);
    assert_eq!(after.sequence, before.sequence.next());
    assert_eq!(rewriter.timestamp(source(2), 77), Some(after.timestamp));
    assert_eq!(rewriter.timestamp(source(1), 77), None);
}

#[test]
fn pictures_of_the_past_follow_each_other_closely() {
    let now = Instant::now();
    let mut rewriter = Rewriter::new(7);
    let picture = |sequence: u64, n: u64| {
        let mut meta = video(EncodingIndex(0), 0, sequence, n == 0);
        meta.timestamp = 3000 * n;
        meta
    };
    rewriter.start(now, source(1), &picture(100, 0), None);
    let mut seen = Vec::new();
    for (sequence, n) in [(100, 0), (101, 0), (102, 1), (103, 1), (104, 2)] {
        let meta = picture(sequence, n);
        rewriter.hasten(&meta);
        seen.push(rewriter.forward(now, &meta).unwrap());
    }
    // And the present goes on from there.
    seen.push(rewriter.forward(now, &picture(105, 3)).unwrap());
    let timestamps: Vec<u32> = seen.iter().map(|mapped| mapped.timestamp).collect();
    assert_eq!(timestamps, [0, 0, 90, 90, 180, 3180]);
    let first = seen[0].sequence.0;
    let numbers: Vec<u64> = seen.iter().map(|m| m.sequence.0 - first).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    let found = rewriter.find(seen[2].sequence.wire()).unwrap();
    let again = found.map(&picture(102, 1));
    assert_eq!(again, Some(seen[2]), "as it was sent");
    // A pause, and the same pictures once more: each number still finds what was sent with it.
    rewriter.start(now, source(1), &picture(100, 0), None);
    let twice = rewriter.forward(now, &picture(102, 1)).unwrap();
    assert_ne!(twice.sequence, seen[2].sequence);
    for sent in [seen[2], twice] {
        let found = rewriter.find(sent.sequence.wire()).unwrap();
        assert_eq!(found.map(&picture(102, 1)), Some(sent));
    }
}

#[test]
fn packets_from_before_the_start_and_numbers_never_sent_are_refused() {
    let now = Instant::now();
    let mut rewriter = Rewriter::new(7);
    assert!(rewriter.find(7).is_none());
    rewriter.start(now, source(1), &video(EncodingIndex(0), 0, 100, true), None);
    rewriter
        .forward(now, &video(EncodingIndex(0), 0, 100, true))
        .unwrap();
    assert_eq!(
        rewriter.forward(now, &video(EncodingIndex(0), 0, 99, false)),
        None
    );
    assert!(rewriter.find(6).is_none());
    assert!(rewriter.find(8).is_none());
}
