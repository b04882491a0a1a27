//! The receiving end of a video stream: packets become frames, frames become a picture, or not.
//!
//! In: the pieces of frames by extended sequence number. Out: the frames that a decoder could show,
//! in order. It is as strict as a decoder whose reference frames must be right: an inter frame
//! counts only if the very frame it was predicted from was decoded, and nothing but a key frame may
//! begin another source or encoding.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::media::{self, Descriptor, Size, Stamp};

/// How long the first picture is waited for until a key frame is asked for, and asked for again:
/// libwebrtc's `kMaxWaitForKeyFrame`.
const FIRST_PATIENCE: Duration = Duration::from_millis(200);

/// The same for any later picture: libwebrtc's `kMaxWaitForFrame`. Until then, retransmission is
/// trusted.
const PATIENCE: Duration = Duration::from_secs(3);

/// A stream of which nothing has come for so long is not waited for, as in libwebrtc.
const INACTIVE: Duration = Duration::from_secs(5);

/// Packets kept while waiting for others.
const MAX_PIECES: usize = 2000;

/// Frames that later ones may have been predicted from: more than temporal layers reach back.
const REFERENCES: usize = 8;

/// A packet of a frame.
#[derive(Debug)]
pub struct Piece {
    /// The last of its frame.
    pub marker: bool,
    pub timestamp: u32,
    pub descriptor: Descriptor,
    /// Its part of the frame.
    pub bytes: Vec<u8>,
    /// It came only after it had been asked for.
    pub was_asked_for: bool,
    pub came: Instant,
}

/// A frame that was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Where it comes from.
    pub stamp: Stamp,
    /// It needs no other.
    pub is_key: bool,
    /// Its width and height.
    pub size: Size,
    pub timestamp: u32,
    /// A part of it came only after it had been asked for.
    pub was_repaired: bool,
    /// When the last of its packets came, however long it waited for others.
    pub came: Instant,
    descriptor: Descriptor,
}

#[derive(Debug, Default)]
pub struct Decoder {
    pieces: BTreeMap<u64, Piece>,
    /// Where the next frame begins.
    next: Option<u64>,
    last: Option<Frame>,
    /// The numbers of the latest frames since the last key frame.
    references: VecDeque<u32>,
    /// Frames were skipped before `next`.
    after_gap: bool,
    /// Numbers between two pictures may be of something else.
    counts_pictures: bool,
    /// Since the last frame, or the last request for a key frame.
    waiting_since: Option<Instant>,
    last_packet: Option<Instant>,
}

impl Decoder {
    /// Tells by their ids that one picture follows another, and not by the numbers of packets, of which
    /// repair has some (libwebrtc's `RtpVp8RefFinder`).
    pub fn count_pictures(&mut self) {
        self.counts_pictures = true;
    }

    pub fn insert(&mut self, now: Instant, sequence: u64, piece: Piece) {
        self.last_packet = Some(now);
        // Whoever was away for longer begins to wait anew.
        let patience = self.patience();
        self.waiting_since = self.waiting_since.filter(|&since| since + patience >= now);
        self.waiting_since.get_or_insert(now);
        if self.next.is_none_or(|next| sequence >= next) {
            self.pieces.insert(sequence, piece);
        }
        if self.pieces.len() > MAX_PIECES {
            self.pieces.pop_first();
        }
    }

    /// The next frame, if it is complete.
    ///
    /// # Errors
    /// What a decoder would stumble over.
    pub fn poll(&mut self, now: Instant) -> Result<Option<Frame>, String> {
        if let Some(first) = self.next_picture() {
            self.next = Some(first);
        }
        let mut complete = self.next.and_then(|next| self.complete_at(next));
        if complete.is_none() {
            // A key frame further on makes what is missing before it needless.
            let starts = self.pieces.iter().filter(|(_, p)| p.starts_key_frame());
            let found: Option<(u64, u64)> = starts
                .filter_map(|(&first, _)| Some((first, self.complete_at(first)?)))
                .next();
            if let Some((first, end)) = found {
                self.pieces = self.pieces.split_off(&first);
                self.after_gap = self.next.replace(first).is_some();
                complete = Some(end);
            }
        }
        let Some((first, end)) = self.next.zip(complete) else {
            return Ok(None);
        };
        self.waiting_since = Some(now);
        let rest = self.pieces.split_off(&end);
        let pieces = std::mem::replace(&mut self.pieces, rest);
        self.next = Some(end);
        self.decode(first, &pieces).map(Some)
    }

    /// Whether a key frame is to be asked for; if so, it is taken as done.
    pub fn wants_key_frame(&mut self, now: Instant) -> bool {
        let is_due = self.next_deadline().is_some_and(|due| now >= due);
        if is_due {
            self.waiting_since = Some(now);
        }
        is_due
    }

    /// When [`Decoder::wants_key_frame`] may say yes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = self.waiting_since? + self.patience();
        (due <= self.last_packet? + INACTIVE).then_some(due)
    }

    fn patience(&self) -> Duration {
        match self.last {
            Some(_) => PATIENCE,
            None => FIRST_PATIENCE,
        }
    }

    /// Where the next frame begins, once there was one.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// Where the picture begins that follows the last, if its first packet has come.
    fn next_picture(&self) -> Option<u64> {
        let last = self.last.filter(|_| self.counts_pictures)?;
        let id = last.descriptor.picture_id.wrapping_add(1) & 0x7fff;
        let mut pieces = self.pieces.range(self.next?..);
        let first = pieces.find(|(_, piece)| piece.descriptor.starts_frame);
        Some(
            *first
                .filter(|(_, piece)| piece.descriptor.picture_id == id)?
                .0,
        )
    }

    /// Where the frame that begins at `first` ends, if it is all there.
    fn complete_at(&self, first: u64) -> Option<u64> {
        for (expected, (&at, piece)) in (first..).zip(self.pieces.range(first..)) {
            if at != expected || piece.descriptor.starts_frame != (at == first) {
                return None;
            }
            if piece.marker {
                return Some(at + 1);
            }
        }
        None
    }

    fn decode(&mut self, first: u64, pieces: &BTreeMap<u64, Piece>) -> Result<Frame, String> {
        let head = &pieces[&first];
        let bytes: Vec<&[u8]> = pieces.values().map(|p| p.bytes.as_slice()).collect();
        let bytes = bytes.concat();
        let (stamp, key) =
            media::read_video(&bytes).ok_or("a frame does not have the bytes it was sent with")?;
        let is_key = key.is_some();
        let one_of_a_kind = pieces.values().all(|p| {
            p.timestamp == head.timestamp && p.descriptor.picture_id == head.descriptor.picture_id
        });
        if !one_of_a_kind {
            return Err("the packets of a frame disagree on its timestamp or picture id".into());
        }
        let frame = Frame {
            stamp,
            is_key,
            size: key.or(self.last.map(|last| last.size)).unwrap_or_default(),
            timestamp: head.timestamp,
            was_repaired: pieces.values().any(|p| p.was_asked_for),
            came: pieces.values().map(|p| p.came).max().unwrap_or(head.came),
            descriptor: head.descriptor,
        };
        let after_gap = std::mem::take(&mut self.after_gap);
        match self.last.replace(frame) {
            None if !is_key => return Err("the first frame is no key frame".into()),
            None => {}
            Some(last) => frame.follows(&last, after_gap)?,
        }
        self.refer(&frame)?;
        Ok(frame)
    }

    /// Checks that what the frame was predicted from was decoded.
    fn refer(&mut self, frame: &Frame) -> Result<(), String> {
        let stamp = frame.stamp;
        let reference = stamp.number.wrapping_sub(stamp.back.into());
        if frame.is_key {
            self.references.clear();
        } else if !self.references.contains(&reference) {
            let known = &self.references;
            return Err(format!(
                "{stamp:?} is shown without frame {reference}, after {known:?}"
            ));
        }
        if self.references.len() == REFERENCES {
            self.references.pop_front();
        }
        self.references.push_back(stamp.number);
        Ok(())
    }
}

impl Piece {
    fn starts_key_frame(&self) -> bool {
        self.descriptor.starts_frame && self.bytes.first().is_some_and(|byte| byte & 1 == 0)
    }
}

impl Frame {
    fn follows(&self, last: &Frame, after_gap: bool) -> Result<(), String> {
        let (now, before) = (self.descriptor, last.descriptor);
        let ids = (now.picture_id.wrapping_sub(before.picture_id)) & 0x7fff;
        let layers = now.tl0_picture_index.wrapping_sub(before.tl0_picture_index);
        let time = self.timestamp.wrapping_sub(last.timestamp);
        if time == 0 || time > u32::MAX / 2 {
            return Err(format!(
                "the timestamp goes from {} to {}",
                last.timestamp, self.timestamp
            ));
        }
        let is_base = u8::from(now.temporal == 0);
        if ids == 0 || ids > 0x3fff || (!after_gap && (ids, layers) != (1, is_base)) {
            return Err(format!("the picture numbers go from {before:?} to {now:?}"));
        }
        let (stamp, old) = (self.stamp, last.stamp);
        let continues = (stamp.source, stamp.encoding) == (old.source, old.encoding);
        if !self.is_key && (after_gap || !continues) {
            return Err(format!("an inter frame of {stamp:?} comes after {old:?}"));
        }
        Ok(())
    }
}
