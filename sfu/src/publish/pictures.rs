//! Where pictures begin and end among the numbers of an encoding, to tell what was lost between two
//! of them from what never was: libwebrtc spends numbers on ULPFEC between pictures, and never sends
//! it again.
//!
//! In: where each media packet lies in its picture, in any order, and what is missing. Out: what of that
//! lies between the end of a picture and the beginning of the next, and so held no media.
//!
//! Pictures are counted by VP8 and VP9 themselves, or by the dependency descriptor, with which libwebrtc
//! leaves the codec's own count out (`MinimizeDescriptor`). The descriptor's goes on over all encodings
//! of a camera (`RtpVideoSender::shared_frame_id_`): a picture is the next one of its encoding if all
//! between are known to be of the others, however often each of them leaves one out.

use std::ops::Range;

use crate::rtp::codec::{PictureId, PictureInfo};
use crate::rtp::sequence::SequenceNumber;
use crate::types::EncodingIndex;

/// Numbers remembered: those of the second for which a packet is asked for, at 10 Mbit/s. When it
/// comes at last, it tells what the numbers after it held.
const REMEMBERED: usize = 1024;

/// Frames remembered of all encodings of a camera: those of the second for which a packet is asked for,
/// three encodings of 60 frames a second.
const FRAMES: usize = 256;

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

/// The encodings that the latest frames of a camera are of, by the dependency descriptor's count.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// By frame number. Empty until there is something to remember.
    owners: Vec<Option<Owner>>,
    /// For how many more frames the count is not taken for that of all encodings, since two of them had
    /// the same number: a client may count each encoding's frames by themselves.
    distrusted: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    frame: u16,
    encoding: EncodingIndex,
}

impl Frames {
    /// Notes of which encoding a packet's frame is. Says whether that was not known.
    pub(super) fn handle_media(&mut self, encoding: EncodingIndex, picture: &PictureInfo) -> bool {
        let Some(Count::Descriptor(frame)) = Count::of(picture) else {
            return false;
        };
        if self.owners.is_empty() {
            self.owners.resize(FRAMES, None);
        }
        let owner = Some(Owner { frame, encoding });
        let place = &mut self.owners[usize::from(frame) % FRAMES];
        let before = std::mem::replace(place, owner);
        if before == owner {
            return false;
        }
        self.distrusted = match before {
            Some(before) if before.frame == frame => FRAMES,
            _ => self.distrusted.saturating_sub(1),
        };
        true
    }

    /// Whether all frames after the one and before the other are known to be of other encodings.
    fn are_of_others(&self, one: u16, next: u16, encoding: EncodingIndex) -> bool {
        let between = next.wrapping_sub(one).wrapping_sub(1);
        let is_of_another = |ahead: u16| {
            let frame = one.wrapping_add(ahead);
            let owner = self.owners.get(usize::from(frame) % FRAMES).copied();
            owner
                .flatten()
                .is_some_and(|owner| owner.frame == frame && owner.encoding != encoding)
        };
        between == 0
            || self.distrusted == 0
                && usize::from(between) < FRAMES
                && (1..=between).all(is_of_another)
    }
}

/// The latest numbers of an encoding.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// By sequence number. Empty until there is something to remember.
    seen: Vec<Option<Seen>>,
    newest: SequenceNumber,
}

impl Pictures {
    /// Notes a number that held repair.
    pub(super) fn handle_void(&mut self, sequence: SequenceNumber) {
        self.note(sequence, None);
    }

    /// Notes a media packet; `ends` says that it is the last of its picture.
    pub(super) fn handle_media(
        &mut self,
        sequence: SequenceNumber,
        ends: bool,
        picture: &PictureInfo,
    ) {
        let media = Media {
            count: Count::of(picture),
            // Before a higher spatial layer comes the rest of the same picture.
            starts: picture.starts_frame && picture.spatial_id.unwrap_or_default() == 0,
            ends,
        };
        self.note(sequence, Some(media));
    }

    /// Which of the missing numbers, which are in order, held no media, as far as can be known now.
    pub(super) fn voids(
        &self,
        missing: impl Iterator<Item = SequenceNumber>,
        encoding: EncodingIndex,
        frames: &Frames,
    ) -> impl Iterator<Item = SequenceNumber> {
        let mut gap = 0..0;
        let mut is_void = false;
        missing.filter(move |number| {
            if !gap.contains(&number.0) {
                (gap, is_void) = self.gap(number.0, encoding, frames);
            }
            is_void
        })
    }

    /// The numbers around one, itself among them, under which no media has come; and whether none has been
    /// sent.
    fn gap(&self, number: u64, encoding: EncodingIndex, frames: &Frames) -> (Range<u64>, bool) {
        let before = (1..REMEMBERED as u64)
            .map_while(|back| number.checked_sub(back))
            .find_map(|number| Some((number, self.media(number)?)));
        // Nothing has come after the newest.
        let after = (number + 1..=self.newest.0)
            .take(REMEMBERED - 1)
            .find_map(|number| Some((number, self.media(number)?)));
        let end = after.map_or(u64::MAX, |(after, _)| after);
        let (Some((start, before)), Some((_, after))) = (before, after) else {
            return (number..end, false);
        };
        (start + 1..end, follows(&before, &after, encoding, frames))
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

    fn media(&self, number: u64) -> Option<Media> {
        let seen = self.seen.get(number as usize % REMEMBERED).copied()?;
        seen.filter(|seen| seen.sequence.0 == number)?.media
    }
}

/// Whether the one ends a picture, and the other begins the next of the encoding.
fn follows(end: &Media, beginning: &Media, encoding: EncodingIndex, frames: &Frames) -> bool {
    end.ends
        && beginning.starts
        && match (end.count, beginning.count) {
            (Some(Count::Codec(one)), Some(Count::Codec(next))) => one.precedes(next),
            (Some(Count::Descriptor(one)), Some(Count::Descriptor(next))) => {
                frames.are_of_others(one, next, encoding)
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a camera's encodings, and what it makes of what is missing.
    #[derive(Default)]
    struct Story {
        frames: Frames,
        encodings: [Pictures; 2],
    }

    impl Story {
        fn take(
            &mut self,
            encoding: EncodingIndex,
            number: u64,
            ends: bool,
            picture: &PictureInfo,
        ) {
            self.frames.handle_media(encoding, picture);
            self.encodings[usize::from(encoding)].handle_media(
                SequenceNumber(number),
                ends,
                picture,
            );
        }

        fn voids(&self, encoding: EncodingIndex, missing: &[u64]) -> Vec<u64> {
            let missing = missing.iter().copied().map(SequenceNumber);
            let pictures = &self.encodings[usize::from(encoding)];
            let voids = pictures.voids(missing, encoding, &self.frames);
            voids.map(|number| number.0).collect()
        }
    }

    #[test]
    fn a_gap_between_two_pictures_held_no_media() {
        let story = [
            // (number, starts a picture, ends it, picture, missing, those without media)
            (10, true, false, 0x7fff, vec![9], vec![]),
            (11, false, true, 0x7fff, vec![], vec![]),
            (14, true, true, 0, vec![12, 13, 15], vec![12, 13]),
            // Picture 1 is lost.
            (16, true, true, 2, vec![15], vec![]),
            // A packet of picture 3 is late: 20 and 21 are found out when it comes.
            (18, true, false, 3, vec![15, 17], vec![17]),
            (22, true, false, 4, vec![15, 19, 20, 21], vec![]),
            (19, false, true, 3, vec![15, 20, 21], vec![20, 21]),
            // The end of picture 4 is lost, then the beginning of 5 is late.
            (24, false, true, 4, vec![15, 23], vec![]),
            (28, false, true, 5, vec![25, 26, 27], vec![]),
            (26, true, false, 5, vec![25, 27], vec![25]),
        ];
        let mut told = Story::default();
        for (number, starts_frame, ends, id, missing, expected) in story {
            let picture = PictureInfo {
                starts_frame,
                picture_id: Some(PictureId::Bits15(id)),
                ..PictureInfo::default()
            };
            told.take(EncodingIndex(0), number, ends, &picture);
            assert_eq!(told.voids(EncodingIndex(0), &missing), expected, "{number}");
        }
    }

    #[test]
    fn repair_that_came_does_not_end_the_search() {
        let picture = |id| PictureInfo {
            starts_frame: true,
            picture_id: Some(PictureId::Bits7(id)),
            ..PictureInfo::default()
        };
        let mut told = Story::default();
        told.take(EncodingIndex(0), 300, true, &picture(126));
        told.encodings[0].handle_void(SequenceNumber(301));
        told.take(EncodingIndex(0), 303, true, &picture(127));
        assert_eq!(told.voids(EncodingIndex(0), &[302]), [302]);
    }

    /// A picture of one packet with a descriptor.
    fn described(frame_number: u16) -> PictureInfo {
        PictureInfo {
            starts_frame: true,
            frame_number: Some(frame_number),
            ..PictureInfo::default()
        }
    }

    #[test]
    fn the_descriptor_counts_for_all_encodings_of_a_camera() {
        let mut told = Story::default();
        told.take(EncodingIndex(0), 10, true, &described(0xfffe));
        told.take(EncodingIndex(1), 70, true, &described(0xffff));
        told.take(EncodingIndex(0), 12, true, &described(1));
        assert_eq!(
            told.voids(EncodingIndex(0), &[11]),
            [],
            "0 may be of either"
        );
        // It was late.
        told.take(EncodingIndex(1), 71, true, &described(0));
        assert_eq!(told.voids(EncodingIndex(0), &[11]), [11]);
        // A picture that this encoding leaves out.
        told.take(EncodingIndex(1), 73, true, &described(2));
        assert_eq!(
            told.voids(EncodingIndex(1), &[72]),
            [72],
            "1 is of the other"
        );
        // One of an encoding that goes on alone.
        told.take(EncodingIndex(1), 75, true, &described(3));
        assert_eq!(told.voids(EncodingIndex(1), &[74]), [74]);
        told.take(EncodingIndex(1), 77, true, &described(5));
        assert_eq!(told.voids(EncodingIndex(1), &[76]), [], "a picture is lost");
    }

    #[test]
    fn encodings_that_each_count_for_themselves_tell_nothing_of_each_other() {
        let mut told = Story::default();
        for frame in 0..3 {
            told.take(
                EncodingIndex(0),
                10 + u64::from(frame),
                true,
                &described(frame),
            );
            told.take(
                EncodingIndex(1),
                70 + u64::from(frame),
                true,
                &described(frame),
            );
        }
        told.take(EncodingIndex(1), 73, true, &described(3));
        told.take(EncodingIndex(0), 14, true, &described(4));
        assert_eq!(
            told.voids(EncodingIndex(0), &[13]),
            [],
            "3 is lost, though another has a 3"
        );
        told.take(EncodingIndex(0), 16, true, &described(5));
        assert_eq!(told.voids(EncodingIndex(0), &[15]), [15]);
    }

    #[test]
    fn codecs_without_a_count_tell_nothing() {
        let picture = PictureInfo {
            starts_frame: true,
            ..PictureInfo::default()
        };
        let mut told = Story::default();
        told.take(EncodingIndex(0), 5, true, &picture);
        told.take(EncodingIndex(0), 7, true, &picture);
        assert_eq!(told.voids(EncodingIndex(0), &[6]), []);
    }
}
