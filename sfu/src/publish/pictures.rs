//! Where pictures begin and end among the numbers of an encoding, to tell what was lost between two
//! of them from what never was: libwebrtc spends numbers on ULPFEC between pictures, and never sends
//! it again.
//!
//! In: where each media packet lies in its picture, in any order. Out: numbers between the end of a
//! picture and the beginning of the next under which there was no media.
//!
//! Pictures are counted by VP8 and VP9 themselves, or by the dependency descriptor, with which libwebrtc
//! leaves the codec's own count out (`MinimizeDescriptor`). The descriptor's goes on over all encodings
//! of a camera (`RtpVideoSender::shared_frame_id_`), so that from one picture of an encoding to its next
//! it takes a step that has to be learned from pictures with nothing between them.

use std::num::NonZeroU16;
use std::ops::Range;

use crate::rtp::codec::{PictureId, PictureInfo};
use crate::rtp::sequence::SequenceNumber;

/// Numbers remembered: those of the second for which a packet is asked for, at 10 Mbit/s. When it
/// comes at last, it tells what the numbers after it held.
const REMEMBERED: usize = 1024;

/// Steps of the descriptor's count that are remembered: the smallest is taken for that of a picture, since
/// a larger one may have been over a picture that was lost whole. Enough for encodings that leave out
/// pictures now and then.
const STEPS: usize = 8;

/// What is known of a number.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sequence: SequenceNumber,
    /// None: it held repair.
    media: Option<Media>,
}

#[derive(Clone, Copy, Debug)]
struct Media {
    count: Option<Count>,
    starts: bool,
    ends: bool,
}

/// Which picture it is.
#[derive(Clone, Copy, Debug)]
enum Count {
    Codec(PictureId),
    Descriptor(u16),
}

impl Count {
    fn of(picture: &PictureInfo) -> Option<Self> {
        let by_codec = picture.picture_id.map(Count::Codec);
        by_codec.or_else(|| picture.frame_number.map(Count::Descriptor))
    }
}

/// The latest numbers of an encoding.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// By sequence number. Empty until there is something to remember.
    seen: Vec<Option<Seen>>,
    newest: SequenceNumber,
    /// How far the descriptor's count went between the latest pictures with nothing between them.
    steps: [Option<NonZeroU16>; STEPS],
}

impl Pictures {
    /// Notes a number that held repair.
    pub(super) fn handle_void(&mut self, sequence: SequenceNumber) {
        self.note(sequence, None);
    }

    /// Notes a media packet; `ends` says that it is the last of its picture. Returns the numbers
    /// before and after it that held no media, those that are known already among them.
    pub(super) fn handle_media(
        &mut self,
        sequence: SequenceNumber,
        ends: bool,
        picture: &PictureInfo,
    ) -> [Range<u64>; 2] {
        let media = Media {
            count: Count::of(picture),
            // Before a higher spatial layer comes the rest of the same picture.
            starts: picture.starts_frame && picture.spatial_id.unwrap_or_default() == 0,
            ends,
        };
        self.note(sequence, Some(media));
        let nothing = sequence.0..sequence.0;
        let before = (1..REMEMBERED as u64)
            .map_while(|back| sequence.0.checked_sub(back))
            .find_map(|number| Some((number, self.media(number)?)));
        // Nothing has come after the newest.
        let after = (sequence.0 + 1..=self.newest.0)
            .take(REMEMBERED - 1)
            .find_map(|number| Some((number, self.media(number)?)));
        if let Some((number, before)) = before {
            self.learn(number..sequence.0, &before, &media);
        }
        if let Some((number, after)) = after {
            self.learn(sequence.0..number, &media, &after);
        }
        let before = before.filter(|(_, before)| self.follows(before, &media));
        let after = after.filter(|(_, after)| self.follows(&media, after));
        [
            before.map_or(nothing.clone(), |(number, _)| number + 1..sequence.0),
            after.map_or(nothing, |(number, _)| sequence.0 + 1..number),
        ]
    }

    /// Notes how far the count went from the end of a picture to the next beginning, where all numbers
    /// between are known to have held repair.
    fn learn(&mut self, numbers: Range<u64>, end: &Media, beginning: &Media) {
        let (Some(Count::Descriptor(one)), Some(Count::Descriptor(next))) =
            (end.count, beginning.count)
        else {
            return;
        };
        let is_known = |number| self.seen(number).is_some();
        if end.ends && beginning.starts && numbers.skip(1).all(is_known) {
            self.steps.rotate_right(1);
            self.steps[0] = NonZeroU16::new(next.wrapping_sub(one));
        }
    }

    /// Whether the one ends a picture, and the other begins the next.
    fn follows(&self, end: &Media, beginning: &Media) -> bool {
        end.ends
            && beginning.starts
            && match (end.count, beginning.count) {
                (Some(Count::Codec(one)), Some(Count::Codec(next))) => one.precedes(next),
                (Some(Count::Descriptor(one)), Some(Count::Descriptor(next))) => {
                    let step = self.steps.iter().flatten().min();
                    step.is_some_and(|step| (1..=step.get()).contains(&next.wrapping_sub(one)))
                }
                _ => false,
            }
    }

    fn note(&mut self, sequence: SequenceNumber, media: Option<Media>) {
        if self.seen.is_empty() {
            self.seen.resize(REMEMBERED, None);
        }
        self.newest = self.newest.max(sequence);
        let place = &mut self.seen[sequence.0 as usize % REMEMBERED];
        if place.is_none_or(|seen| seen.sequence <= sequence) {
            *place = Some(Seen { sequence, media });
        }
    }

    fn seen(&self, number: u64) -> Option<Seen> {
        let seen = self.seen.get(number as usize % REMEMBERED).copied()?;
        seen.filter(|seen| seen.sequence.0 == number)
    }

    fn media(&self, number: u64) -> Option<Media> {
        self.seen(number)?.media
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_between_two_pictures_held_no_media() {
        let story = [
            // (number, starts a picture, ends it, picture, numbers before and after without media)
            (10, true, false, 0x7fff, [10..10, 10..10]),
            (11, false, true, 0x7fff, [11..11, 11..11]),
            (14, true, true, 0, [12..14, 14..14]),
            // Picture 1 is lost.
            (16, true, true, 2, [16..16, 16..16]),
            // A packet of picture 3 is late: 20 and 21 are found out when it comes.
            (18, true, false, 3, [17..18, 18..18]),
            (22, true, false, 4, [22..22, 22..22]),
            (19, false, true, 3, [19..19, 20..22]),
            // The end of picture 4 is lost, then the beginning of 5 is late.
            (24, false, true, 4, [24..24, 24..24]),
            (28, false, true, 5, [28..28, 28..28]),
            (26, true, false, 5, [25..26, 26..26]),
        ];
        let mut pictures = Pictures::default();
        for (number, starts_frame, ends, id, expected) in story {
            let picture = PictureInfo {
                starts_frame,
                picture_id: Some(PictureId::Bits15(id)),
                ..PictureInfo::default()
            };
            let found = pictures.handle_media(SequenceNumber(number), ends, &picture);
            assert_eq!(found, expected, "{number}");
        }
    }

    #[test]
    fn repair_that_came_does_not_end_the_search() {
        let picture = |id| PictureInfo {
            starts_frame: true,
            picture_id: Some(PictureId::Bits7(id)),
            ..PictureInfo::default()
        };
        let mut pictures = Pictures::default();
        pictures.handle_media(SequenceNumber(300), true, &picture(126));
        pictures.handle_void(SequenceNumber(301));
        let [before, _] = pictures.handle_media(SequenceNumber(303), true, &picture(127));
        assert_eq!(before, 301..303);
    }

    #[test]
    fn the_descriptor_counts_for_all_encodings_of_a_camera() {
        let picture = |frame_number| PictureInfo {
            starts_frame: true,
            frame_number: Some(frame_number),
            ..PictureInfo::default()
        };
        let mut pictures = Pictures::default();
        let mut found = |number, count| {
            let [before, after] =
                pictures.handle_media(SequenceNumber(number), true, &picture(count));
            (before, after)
        };
        // Two encodings. It is not known yet how far a step goes.
        assert_eq!(found(10, 0xfffc), (10..10, 10..10));
        assert_eq!(found(12, 0xfffe), (12..12, 12..12));
        assert_eq!(found(13, 0), (13..13, 13..13), "learned");
        assert_eq!(found(15, 2), (14..15, 15..15));
        assert_eq!(found(18, 6), (18..18, 18..18), "a picture is lost");
        assert_eq!(found(17, 4), (16..17, 18..18), "it was late");
        // One of the encodings ends.
        assert_eq!(found(19, 7), (19..19, 19..19));
        assert_eq!(found(21, 9), (21..21, 21..21), "a picture is lost");
        assert_eq!(found(23, 10), (22..23, 23..23));
    }

    #[test]
    fn codecs_without_a_count_tell_nothing() {
        let picture = PictureInfo {
            starts_frame: true,
            ..PictureInfo::default()
        };
        let mut pictures = Pictures::default();
        pictures.handle_media(SequenceNumber(5), true, &picture);
        let [before, _] = pictures.handle_media(SequenceNumber(7), true, &picture);
        assert!(before.is_empty());
    }
}
