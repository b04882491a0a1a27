//! Where pictures begin and end among the numbers of an encoding, to tell what was lost between two
//! of them from what never was: libwebrtc spends numbers on ULPFEC between pictures, and never sends
//! it again.
//!
//! In: where each media packet lies in its picture, in any order. Out: numbers between the end of a
//! picture and the beginning of the next under which there was no media.

use std::ops::Range;

use crate::rtp::codec::{PictureId, PictureInfo};
use crate::rtp::sequence::SequenceNumber;

/// Numbers remembered: those of the second for which a packet is asked for, at 10 Mbit/s. When it
/// comes at last, it tells what the numbers after it held.
const REMEMBERED: usize = 1024;

/// What is known of a number.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sequence: SequenceNumber,
    /// None: it held repair.
    media: Option<Media>,
}

#[derive(Clone, Copy, Debug)]
struct Media {
    picture: Option<PictureId>,
    starts: bool,
    ends: bool,
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

    /// Notes a media packet; `ends` says that it is the last of its picture. Returns the numbers
    /// before and after it that held no media, those that are known already among them.
    pub(super) fn handle_media(
        &mut self,
        sequence: SequenceNumber,
        ends: bool,
        picture: &PictureInfo,
    ) -> [Range<u64>; 2] {
        let media = Media {
            picture: picture.picture_id,
            // Before a higher spatial layer comes the rest of the same picture.
            starts: picture.starts_frame && picture.spatial_id.unwrap_or_default() == 0,
            ends,
        };
        self.note(sequence, Some(media));
        let nothing = sequence.0..sequence.0;
        let before = (1..REMEMBERED as u64)
            .map_while(|back| sequence.0.checked_sub(back))
            .find_map(|number| Some((number, self.media(number)?)))
            .filter(|(_, before)| media.starts && follows(before, &media));
        // Nothing has come after the newest.
        let after = (sequence.0 + 1..=self.newest.0)
            .take(REMEMBERED - 1)
            .find_map(|number| Some((number, self.media(number)?)))
            .filter(|(_, after)| after.starts && follows(&media, after));
        [
            before.map_or(nothing.clone(), |(number, _)| number + 1..sequence.0),
            after.map_or(nothing, |(number, _)| sequence.0 + 1..number),
        ]
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
        let seen = self.seen.get(number as usize % REMEMBERED).copied()??;
        seen.media.filter(|_| seen.sequence.0 == number)
    }
}

/// Whether one picture ends where the next begins.
fn follows(before: &Media, after: &Media) -> bool {
    let (Some(one), Some(next)) = (before.picture, after.picture) else {
        return false;
    };
    before.ends && one.precedes(next)
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
    fn codecs_without_picture_ids_tell_nothing() {
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
