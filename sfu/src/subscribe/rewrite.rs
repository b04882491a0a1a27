//! One continuous stream out of many: the numbers a subscriber sees.
//!
//! In: packets of one source after another (another track, another encoding, a numbering that
//! starts anew). Out: a sequence number, timestamp and picture numbers for each, that go on where
//! the last source ended. Within a source the mapping only adds constants, so it neither loses nor
//! merges packets, and a NACK finds its way back. Numbers that the publisher spent on repair are
//! left out, and numbers for the subscriber's own repair are put in.

use std::collections::VecDeque;
use std::time::Instant;

use crate::bandwidth::outage::is_outage;
use crate::media::Codec;
use crate::publish::history::PacketMeta;
use crate::rtp::codec::{PictureId, PictureInfo};
use crate::rtp::sequence::SequenceNumber;
use crate::types::{EncodingIndex, TrackId};

/// Stretches remembered for the sake of NACKs: a receiver asks for what is at most three seconds old
/// ([`MAX_AGE`](crate::publish::history::MAX_AGE)), 180 pictures at 60 a second. Sources change at key
/// frames, of which there are two a second at most, but a picture left out begins a stretch as well,
/// and so does repair put in or left out. Where every second picture is left out and loss is heavy on
/// both ways, those are three to each of the 90 pictures that are sent. What is late is sent by its
/// stretch, too, and without one it is lost.
const MAX_STRETCHES: usize = 512;

/// Pictures remembered in case they are taken back: all that can wait to be sent, at 60 a second
/// ([`MAX_QUEUE_TIME`](crate::send::pacer::MAX_QUEUE_TIME)).
const MAX_PICTURES: usize = 32;

/// How far the timestamps jump where another clock begins. Receivers put audio and video in step by a
/// line through the latest sender reports (libwebrtc's `RtpToNtpEstimator`: twenty), which means nothing
/// across two clocks; reports further apart than 2^25 ticks have it begin a new one.
const CLOCK_CHANGE_JUMP: u32 = 1 << 26;

/// How far sender reports and the time of arrival may disagree about a new source, in seconds, before
/// the reports are not believed. Jitter and the delays of encoders stay below that.
const MAX_MISALIGNED_S: u64 = 1;

/// Where packets come from. Their numbers continue within a source and only there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    pub track: TrackId,
    pub encoding: EncodingIndex,
    pub epoch: u32,
}

/// The numbers by which a decoder tells pictures apart, or what to add to them. They wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PictureIds {
    /// Picture id of VP8 and VP9; 15 bits of it, or 7 where the payload carries no more.
    pub picture_id: u16,
    /// Index of temporal base layer frames of VP8 and VP9.
    pub tl0_pic_idx: u8,
    /// Frame number of the dependency descriptor.
    pub frame_number: u16,
}

impl PictureIds {
    fn of(picture: &PictureInfo) -> Self {
        PictureIds {
            picture_id: picture.picture_id.map_or(0, PictureId::value),
            tl0_pic_idx: picture.tl0.unwrap_or_default(),
            frame_number: picture.frame_number.unwrap_or_default(),
        }
    }

    fn plus(self, offset: PictureIds) -> Self {
        PictureIds {
            picture_id: self.picture_id.wrapping_add(offset.picture_id),
            tl0_pic_idx: self.tl0_pic_idx.wrapping_add(offset.tl0_pic_idx),
            frame_number: self.frame_number.wrapping_add(offset.frame_number),
        }
    }

    fn successor(self) -> Self {
        self.plus(PictureIds {
            picture_id: 1,
            tl0_pic_idx: 1,
            frame_number: 1,
        })
    }

    fn minus(self, other: PictureIds) -> Self {
        PictureIds {
            picture_id: self.picture_id.wrapping_sub(other.picture_id),
            tl0_pic_idx: self.tl0_pic_idx.wrapping_sub(other.tl0_pic_idx),
            frame_number: self.frame_number.wrapping_sub(other.frame_number),
        }
    }
}

/// What the subscriber sees of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapped {
    /// Its sequence number, extended.
    pub sequence: SequenceNumber,
    pub timestamp: u32,
    /// What to add to its picture numbers.
    pub pictures: PictureIds,
}

/// The packets of one source, as far as they were forwarded.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    source: Source,
    first_in: SequenceNumber,
    /// The first number that is not of this stretch any more, when another one follows.
    end_in: Option<SequenceNumber>,
    first_out: SequenceNumber,
    timestamp_offset: u32,
    pictures: PictureIds,
}

impl Stretch {
    fn contains(&self, sequence: SequenceNumber) -> bool {
        self.first_in <= sequence && self.end_in.is_none_or(|end| sequence < end)
    }

    /// The subscriber's number for one at or after the first.
    fn number(&self, sequence: SequenceNumber) -> SequenceNumber {
        self.first_out + sequence.0.saturating_sub(self.first_in.0)
    }

    fn map(&self, meta: &PacketMeta) -> Option<Mapped> {
        self.contains(meta.sequence).then(|| Mapped {
            sequence: self.number(meta.sequence),
            // Timestamps are modulo 2^32 on the wire.
            timestamp: (meta.timestamp as u32).wrapping_add(self.timestamp_offset),
            pictures: self.pictures,
        })
    }
}

/// A packet that was sent, as [`Rewriter::find`] finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Where it came from.
    pub source: Source,
    pub sequence: SequenceNumber,
    stretch: Stretch,
}

impl Found {
    /// The numbers it was sent with, for sending it again. None if this is another packet.
    #[must_use]
    pub(crate) fn map(&self, meta: &PacketMeta) -> Option<Mapped> {
        let is_it = meta.sequence == self.sequence && meta.epoch == self.source.epoch;
        self.stretch.map(meta).filter(|_| is_it)
    }
}

/// Where the stream ends so far.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// The highest number of the latest source that was forwarded, as its publisher counts.
    source: SequenceNumber,
    /// The highest number that was sent.
    sequence: SequenceNumber,
    timestamp: u32,
    /// Of the timestamp, in Hz.
    clock_rate: u32,
    sent: Instant,
}

/// The numbering of one slot.
#[derive(Debug)]
pub(crate) struct Rewriter {
    first: SequenceNumber,
    stretches: VecDeque<Stretch>,
    tail: Option<Tail>,
    /// The latest pictures, each with its first number, in order.
    pictures: VecDeque<(SequenceNumber, PictureIds)>,
    /// The picture of the latest source that was left out last, by its timestamp.
    omitted: Option<u64>,
}

impl Rewriter {
    /// A stream whose first packet has this sequence number. RFC 3550 section 5.1 wants it random;
    /// in its lower half no early reordering can reach below zero.
    #[must_use]
    pub(crate) fn new(first: u16) -> Self {
        Rewriter {
            first: SequenceNumber(u64::from(first & 0x7fff)),
            stretches: VecDeque::new(),
            tail: None,
            pictures: VecDeque::new(),
            omitted: None,
        }
    }

    /// Begins a new source at a packet, which becomes the next in the stream. `aligned` is the
    /// timestamp that the source before would have for the same time, if that can be told; otherwise
    /// the stream goes on by as much as has passed since it was sent last.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        source: Source,
        meta: &PacketMeta,
        aligned: Option<u32>,
    ) {
        let (first_out, timestamp) = match self.tail {
            None => (self.first, meta.timestamp as u32),
            Some(tail) => {
                let rate = meta.codec.clock_rate();
                let jump = match rate == tail.clock_rate {
                    true => 0,
                    false => CLOCK_CHANGE_JUMP,
                };
                let elapsed = now.saturating_duration_since(tail.sent).as_secs_f64();
                let passed = (elapsed * f64::from(rate)) as u32;
                let by_clock = tail.timestamp.wrapping_add(passed).wrapping_add(jump);
                let is_credible = |aligned: &u32| {
                    let error = aligned.wrapping_sub(by_clock) as i32;
                    u64::from(error.unsigned_abs()) <= u64::from(rate) * MAX_MISALIGNED_S
                };
                let timestamp = aligned.filter(is_credible).unwrap_or(by_clock);
                // Two pictures never share a timestamp, however quickly sources change.
                let ahead = timestamp.wrapping_sub(tail.timestamp) as i32;
                (
                    tail.sequence.next(),
                    tail.timestamp.wrapping_add(ahead.max(1) as u32),
                )
            }
        };
        self.omitted = None;
        let last = self.pictures.back();
        let pictures = match (last, meta.picture.as_ref().map(PictureIds::of)) {
            (Some((_, last)), Some(first)) => last.successor().minus(first),
            _ => PictureIds::default(),
        };
        // A source that goes on after a pause has two stretches that must not claim each other's numbers.
        if let (Some(last), Some(tail)) = (self.stretches.back_mut(), self.tail)
            && last.source == source
        {
            last.end_in = Some(tail.source.next().max(last.first_in));
        }
        self.push(Stretch {
            source,
            first_in: meta.sequence,
            end_in: None,
            first_out,
            timestamp_offset: timestamp.wrapping_sub(meta.timestamp as u32),
            pictures,
        });
    }

    /// Has the next picture follow the one before within a millisecond: it is of the past, and a receiver
    /// that showed it at its own pace would stay behind.
    pub(crate) fn hasten(&mut self, meta: &PacketMeta) {
        let (Some(&last), Some(tail)) = (self.stretches.back(), self.tail) else {
            return;
        };
        let timestamp = (meta.timestamp as u32).wrapping_add(last.timestamp_offset);
        if timestamp == tail.timestamp || !last.contains(meta.sequence) {
            return;
        }
        let number = last.number(meta.sequence);
        self.go_on(meta.sequence, meta.sequence, number);
        let step = meta.codec.clock_rate() / 1000;
        if let Some(next) = self.stretches.back_mut() {
            let hastened = tail.timestamp.wrapping_add(step);
            next.timestamp_offset = hastened.wrapping_sub(meta.timestamp as u32);
        }
    }

    fn push(&mut self, stretch: Stretch) {
        if self.stretches.len() == MAX_STRETCHES {
            self.stretches.pop_front();
        }
        self.stretches.push_back(stretch);
    }

    /// The stretches of the latest source, latest first.
    fn latest(&self) -> impl Iterator<Item = &Stretch> {
        let source = self.current();
        let stretches = self.stretches.iter().rev();
        stretches.take_while(move |s| Some(s.source) == source)
    }

    /// From this number on the latest source goes on with another number of the subscriber's.
    fn go_on(
        &mut self,
        end_in: SequenceNumber,
        first_in: SequenceNumber,
        first_out: SequenceNumber,
    ) {
        let Some(last) = self.stretches.back_mut() else {
            return;
        };
        if last.first_in == end_in {
            // Nothing was sent of it.
            last.first_in = first_in;
            last.first_out = first_out;
            return;
        }
        last.end_in = Some(end_in);
        let next = Stretch {
            first_in,
            end_in: None,
            first_out,
            ..*last
        };
        self.push(next);
    }

    /// Leaves out a number of the latest source under which no media will come. Says whether that was
    /// possible: not any more, when something after it has been sent.
    pub(crate) fn skip(&mut self, sequence: SequenceNumber) -> bool {
        self.leave_out(sequence, sequence)
    }

    fn leave_out(&mut self, from: SequenceNumber, to: SequenceNumber) -> bool {
        let (Some(last), Some(tail)) = (self.stretches.back(), self.tail) else {
            return false;
        };
        if from <= tail.source || !last.contains(from) {
            return false;
        }
        let number = last.number(from);
        self.go_on(from, to.next(), number);
        true
    }

    /// Leaves out a packet of the latest source. VP8's pictures are counted on without it: libwebrtc's
    /// receiver holds pictures back for those whose ids are missing before them. Pictures of VP9 and
    /// frames of the dependency descriptor refer to each other by their numbers, so those stay. Says
    /// whether the packet could be left out: not any more, when something after it has been sent.
    pub(crate) fn omit(&mut self, meta: &PacketMeta) -> bool {
        let (Some(last), Some(tail)) = (self.stretches.back(), self.tail) else {
            return false;
        };
        let goes_on = self.omitted == Some(meta.timestamp);
        // What is missing between two packets of the picture need not be waited for.
        let has_gap = goes_on && tail.source < last.first_in && last.contains(meta.sequence);
        let from = if has_gap {
            last.first_in
        } else {
            meta.sequence
        };
        if !self.leave_out(from, meta.sequence) {
            return false;
        }
        if meta.codec == Codec::Vp8
            && !goes_on
            && let Some(last) = self.stretches.back_mut()
        {
            last.pictures.picture_id = last.pictures.picture_id.wrapping_sub(1);
        }
        self.omitted = Some(meta.timestamp);
        true
    }

    /// Takes the next number of the stream for a packet of the subscriber's own, which goes with the
    /// timestamp that was sent last.
    pub(crate) fn insert(&mut self) -> Option<(SequenceNumber, u32)> {
        let last = self.stretches.back()?;
        let mut tail = self.tail?;
        let next_in = tail.source.next().max(last.first_in);
        let number = last.number(next_in);
        self.go_on(next_in, next_in, number.next());
        tail.sequence = number;
        self.tail = Some(tail);
        Some((number, tail.timestamp))
    }

    /// Takes back the latest numbers that were given, the highest of these, which are in order and were
    /// not used after all. Returns how many.
    pub(crate) fn take_back(&mut self, unused: &[SequenceNumber]) -> u64 {
        let Some(mut tail) = self.tail else {
            return 0;
        };
        let before = tail.sequence;
        let mut first = before.next();
        for number in unused.iter().rev().filter(|number| **number <= before) {
            // Those below have been seen to be followed by others.
            if number.next() != first {
                break;
            }
            first = *number;
        }
        if first > before {
            return 0;
        }
        while self
            .stretches
            .pop_back_if(|s| s.first_out >= first)
            .is_some()
        {}
        if let Some(last) = self.stretches.back_mut() {
            let end_in = last.first_in + (first.0 - last.first_out.0);
            last.end_in = Some(last.end_in.map_or(end_in, |end| end.min(end_in)));
            tail.source = SequenceNumber(end_in.0 - 1);
        }
        let is_taken = |(number, _): &mut (SequenceNumber, _)| *number >= first;
        while self.pictures.pop_back_if(is_taken).is_some() {}
        tail.sequence = SequenceNumber(first.0.saturating_sub(1));
        self.tail = Some(tail).filter(|_| first > self.first);
        before.next().0 - first.0
    }

    /// The highest number that was sent.
    #[must_use]
    pub(crate) fn last_sequence(&self) -> Option<SequenceNumber> {
        Some(self.tail?.sequence)
    }

    /// The timestamp that was sent last.
    #[must_use]
    pub(crate) fn last_timestamp(&self) -> Option<u32> {
        Some(self.tail?.timestamp)
    }

    /// Whether an outage of the publisher's swallowed what is missing before a packet of the latest source.
    #[must_use]
    pub(crate) fn is_after_outage(&self, meta: &PacketMeta) -> bool {
        self.tail.is_some_and(|tail| {
            let missing = meta.sequence.0.saturating_sub(tail.source.0 + 1);
            is_outage(meta.arrival.saturating_duration_since(tail.sent), missing)
        })
    }

    /// The numbers of a packet of the latest source. None for a packet from before its start.
    pub(crate) fn forward(&mut self, now: Instant, meta: &PacketMeta) -> Option<Mapped> {
        let mapped = self.latest().find_map(|stretch| stretch.map(meta))?;
        if self.tail.is_none_or(|tail| mapped.sequence > tail.sequence) {
            self.tail = Some(Tail {
                source: meta.sequence,
                sequence: mapped.sequence,
                timestamp: mapped.timestamp,
                clock_rate: meta.codec.clock_rate(),
                sent: now,
            });
            if let Some(picture) = &meta.picture {
                let picture = PictureIds::of(picture).plus(mapped.pictures);
                if self
                    .pictures
                    .back()
                    .is_none_or(|(_, last)| *last != picture)
                {
                    if self.pictures.len() == MAX_PICTURES {
                        self.pictures.pop_front();
                    }
                    self.pictures.push_back((mapped.sequence, picture));
                }
            }
        }
        Some(mapped)
    }

    /// Which packet was sent with a sequence number, from a NACK.
    #[must_use]
    pub(crate) fn find(&self, sequence: u16) -> Option<Found> {
        let tail = self.tail?;
        let out = tail.sequence.nearest(sequence);
        if out > tail.sequence {
            return None;
        }
        let stretch = self.stretches.iter().rev().find(|s| s.first_out <= out)?;
        let sequence = stretch.first_in + (out.0 - stretch.first_out.0);
        // Otherwise it was put in.
        stretch.contains(sequence).then_some(Found {
            source: stretch.source,
            sequence,
            stretch: *stretch,
        })
    }

    #[must_use]
    pub(crate) fn current(&self) -> Option<Source> {
        self.stretches.back().map(|s| s.source)
    }

    /// The subscriber's timestamp for one of the latest source, for sender reports.
    #[must_use]
    pub(crate) fn timestamp(&self, source: Source, timestamp: u64) -> Option<u32> {
        let stretch = self.stretches.back().filter(|s| s.source == source)?;
        Some((timestamp as u32).wrapping_add(stretch.timestamp_offset))
    }
}

#[cfg(test)]
mod tests;
