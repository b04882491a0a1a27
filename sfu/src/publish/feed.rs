//! One track as one worker has it: its packets, and who on this worker gets them.
//!
//! In: packets, from a local publisher or from the worker that has the publisher. Out: for each
//! receive batch, what is to be forwarded; the layers that a subscriber can be sent, and the pictures
//! since the last key frame. The worker that has the publisher also hands each packet on to the other
//! workers that have a subscriber.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::encoding::SenderReportSeen;
use super::history::{History, Kept, PacketMeta};
use super::media_clock::MediaClock;
use super::meter::Meter;
use super::wanted_layers::{Encodings, WantedLayers};
use crate::api::LayerInfo;
use crate::clock::Clock;
use crate::media::{Codec, Kind};
use crate::rtp::sequence::SequenceNumber;
use crate::types::{EncodingIndex, PeerId, SlotIndex, WorkerIndex};
use crate::units::{Bitrate, DataSize};

/// Most packets between two flushes; a worker flushes after each receive batch, far below this.
const MAX_PENDING: usize = 4096;

/// How long a publisher may take to send an encoding again that it has stopped for want of
/// receivers: a round trip of signaling, and a key frame.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(3);

/// An encoding stutters that has less than this share of the frames of a smaller one, which moves if it
/// has so many a second. Encoders leave out a third to keep to a rate, and temporal layers halve it.
const STARVED: f64 = 0.45;
const MOVES: u32 = 8;

/// A group of pictures older than this takes longer to send than a key frame would take to come.
const MAX_GROUP_AGE: Duration = Duration::from_secs(1);

/// A slot on this worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Subscriber {
    pub peer: PeerId,
    /// Which of the peer's slots.
    pub slot: SlotIndex,
}

/// Where a track is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// By a peer of this worker.
    Local(PeerId),
    Remote(WorkerIndex),
}

/// A track on a worker.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Where it comes from.
    pub origin: Origin,
    /// The slots that show it, each group of one peer's together so that its packets stay together.
    pub subscribers: BTreeSet<Subscriber>,
    /// The other workers that get its packets, and which encodings their slots want. Empty when it is
    /// not local.
    pub workers: BTreeMap<WorkerIndex, Encodings>,
    /// What the publisher has been told of what is received.
    pub wanted_layers: WantedLayers,
    /// What the publisher's worker has been told that is wanted here, when that is another.
    pub wants_here: Option<Encodings>,
    /// The most that the slots of other workers can be sent, where there is a limit.
    pub ceilings: BTreeMap<WorkerIndex, Bitrate>,
    /// The same of the slots here, as the publisher's worker has been told.
    pub ceiling_here: Option<Bitrate>,
    kind: Kind,
    /// Of the newest packet of media.
    codec: Option<Codec>,
    encodings: Vec<Stream>,
    pending: Vec<(EncodingIndex, SequenceNumber)>,
}

#[derive(Debug)]
struct Stream {
    history: History,
    /// Of the newest packet of media.
    codec: Option<Codec>,
    /// Of the newest numbering.
    epoch: u32,
    sender_report: Option<SenderReportSeen>,
    clock: MediaClock,
    meter: Meter,
    /// The publisher has been told that nobody receives it.
    is_off: bool,
    /// Until when it may take to come back, after the publisher has been told otherwise.
    awaited: Option<Instant>,
    /// The first packet of the last key frame, and bytes since.
    group: Option<(SequenceNumber, DataSize)>,
}

impl Stream {
    /// Whether it can be had: it comes, or would if the publisher were told.
    fn is_offered(&self, now: Instant) -> bool {
        self.meter.is_alive(now) || self.is_off || self.awaited.is_some_and(|until| now < until)
    }
}

impl Feed {
    /// A track without packets and subscribers.
    #[must_use]
    pub(crate) fn new(kind: Kind, origin: Origin) -> Self {
        Feed {
            origin,
            subscribers: BTreeSet::new(),
            workers: BTreeMap::new(),
            wanted_layers: WantedLayers::default(),
            wants_here: None,
            ceilings: BTreeMap::new(),
            ceiling_here: None,
            kind,
            codec: None,
            encodings: Vec::new(),
            pending: Vec::new(),
        }
    }

    fn stream(&mut self, encoding: EncodingIndex) -> &mut Stream {
        let index = usize::from(encoding);
        while self.encodings.len() <= index {
            self.encodings.push(Stream {
                history: History::new(self.kind),
                codec: None,
                epoch: 0,
                sender_report: None,
                clock: MediaClock::default(),
                meter: Meter::default(),
                is_off: false,
                awaited: None,
                group: None,
            });
        }
        &mut self.encodings[index]
    }

    /// Takes a packet in. Says whether it is to be forwarded; it comes out of the next flush then.
    pub(crate) fn insert(&mut self, now: Instant, meta: PacketMeta, packet: &[u8]) -> bool {
        let key = (meta.encoding, meta.sequence);
        if self.pending.len() >= MAX_PENDING {
            return false;
        }
        let stream = self.stream(key.0);
        stream.meter.handle_packet(now, &meta, packet.len());
        let starts_group = meta.codec.kind() == Kind::Video && meta.starts_decoding();
        // An event has the timestamp of when it began (RFC 4733 section 2.1).
        if !meta.is_void && meta.codec.stands_alone() {
            let rate = meta.codec.clock_rate();
            stream
                .clock
                .handle_packet(meta.arrival, meta.epoch, rate, meta.timestamp);
        }
        let codec = Some(meta.codec).filter(|codec| codec.stands_alone() && !meta.is_void);
        if meta.epoch > stream.epoch {
            stream.epoch = meta.epoch;
            // It speaks of timestamps that are over.
            stream.sender_report = None;
        }
        if !stream.history.insert(meta, packet) {
            return false;
        }
        // A first packet that is not kept any more may be of numbers that are over.
        let is_newer = |(first, _)| key.1 > first || stream.history.get(first).is_none();
        if starts_group && stream.group.is_none_or(is_newer) {
            stream.group = Some((key.1, DataSize::ZERO));
        }
        if let Some((_, size)) = &mut stream.group {
            *size += DataSize::bytes(packet.len() as u64);
        }
        stream.codec = codec.or(stream.codec);
        self.codec = codec.or(self.codec);
        self.pending.push(key);
        true
    }

    /// The packets since the last flush, in the order they came.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Kept<'_>> {
        self.pending.iter().filter_map(|&(encoding, sequence)| {
            self.encodings
                .get(usize::from(encoding))?
                .history
                .get(sequence)
        })
    }

    /// The flush is done.
    pub(crate) fn clear_pending(&mut self) {
        self.pending.clear();
    }

    /// A packet of an encoding, as long as it is kept.
    #[must_use]
    pub(crate) fn get(
        &self,
        encoding: EncodingIndex,
        sequence: SequenceNumber,
    ) -> Option<Kept<'_>> {
        let stream = self.encodings.get(usize::from(encoding))?;
        stream.history.get(sequence)
    }

    /// A packet for sending again, if it is still of use.
    #[must_use]
    pub(crate) fn get_fresh(
        &self,
        now: Instant,
        encoding: EncodingIndex,
        sequence: SequenceNumber,
    ) -> Option<Kept<'_>> {
        self.encodings
            .get(usize::from(encoding))?
            .history
            .get_fresh(now, sequence)
    }

    /// The packets of the same encoding and numbering that follow a pending packet and came before it;
    /// `index` is the packet's among those pending.
    pub(crate) fn overtook(
        &self,
        index: usize,
        meta: &PacketMeta,
    ) -> impl Iterator<Item = Kept<'_>> {
        let (encoding, epoch, first) = (meta.encoding, meta.epoch, meta.sequence);
        let stream = self.encodings.get(usize::from(encoding));
        let newest = stream.and_then(|stream| stream.history.highest());
        let numbers = (first.0 + 1..=newest.unwrap_or(first).0).map(SequenceNumber);
        let to_come = self.pending.get(index..).unwrap_or_default();
        let overtook = numbers.filter(move |number| !to_come.contains(&(encoding, *number)));
        let kept = overtook.filter_map(move |number| stream?.history.get(number));
        kept.filter(move |kept| kept.meta.epoch == epoch)
    }

    /// The pictures of an encoding since its last key frame, if all of them are kept, were recent, and
    /// are no more than `most` together.
    pub(crate) fn group(
        &self,
        now: Instant,
        encoding: EncodingIndex,
        most: DataSize,
    ) -> Option<impl Iterator<Item = Kept<'_>>> {
        let stream = self.encodings.get(usize::from(encoding))?;
        let (first, size) = stream.group?;
        let newest = stream.history.highest()?;
        let all = move || (first.0..=newest.0).map(SequenceNumber);
        let is_recent = stream.history.get(first).is_some_and(|kept| {
            now.saturating_duration_since(kept.meta.arrival) <= MAX_GROUP_AGE
                && kept.meta.starts_decoding()
        });
        let is_whole = || all().all(|sequence| stream.history.get(sequence).is_some());
        let is_usable = self.is_idle() && size <= most && is_recent && is_whole();
        is_usable.then(|| all().filter_map(|sequence| stream.history.get(sequence)))
    }

    /// Notes a sender report of an encoding, its time already by the server's clock.
    pub(crate) fn set_sender_report(
        &mut self,
        encoding: EncodingIndex,
        report: SenderReportSeen,
        clock: &Clock,
    ) {
        let stream = self.stream(encoding);
        stream.sender_report = Some(report);
        if let Some(at) = clock.instant(report.ntp) {
            stream.clock.handle_report(at, report.timestamp);
        }
    }

    /// The timestamp, in the numbering of an epoch, of what is being captured now.
    #[must_use]
    pub(crate) fn timestamp(
        &self,
        now: Instant,
        encoding: EncodingIndex,
        epoch: u32,
    ) -> Option<u64> {
        let stream = self.encodings.get(usize::from(encoding))?;
        stream.clock.timestamp(now, epoch)
    }

    /// What a subscriber can be sent: the encodings that come or could, each up to any of its layers.
    /// Of temporal layers only those of the lowest, for when nothing else fits, unless a client wants
    /// few frames: pictures that stutter are no step between two that move. Nor is an encoding that its
    /// publisher has no rate for.
    pub(crate) fn layers(&self, now: Instant, wants_few_frames: bool, out: &mut Vec<LayerInfo>) {
        out.clear();
        let offered = EncodingIndex::all()
            .zip(&self.encodings)
            .filter_map(|(encoding, stream)| {
                let (spatial, temporal) = stream.meter.highest()?;
                let all = stream.meter.measured(spatial, temporal);
                let is_offered = stream.is_offered(now) && all.bitrate > Bitrate::ZERO;
                is_offered.then_some((encoding, &stream.meter, spatial, temporal))
            });
        for (encoding, meter, top, temporal) in offered {
            for spatial in 0..=top {
                let (width, height) = meter.size().unwrap_or_default();
                for temporal in (0..=temporal).rev() {
                    let measured = meter.measured(spatial, temporal);
                    // Each spatial layer has half the width and height of the next one, as in all
                    // modes of W3C's scalability modes that are called L2 and L3.
                    let halved = top - spatial;
                    out.push(LayerInfo {
                        encoding,
                        spatial,
                        temporal,
                        width: u32::from(width >> halved),
                        height: u32::from(height >> halved),
                        frame_rate: measured.frame_rate,
                        bitrate: measured.bitrate,
                    });
                }
            }
        }
        let comes = |encoding: EncodingIndex| {
            let stream = self.encodings.get(usize::from(encoding));
            stream.is_some_and(|stream| !stream.is_off && stream.meter.is_alive(now))
        };
        leave_out_starved(out, comes);
        if !wants_few_frames {
            keep_whole_pictures(out);
        }
        if out.iter().any(|layer| layer.height == 0) {
            rank(out);
        }
    }

    /// Notes what the publisher has been told that it need not send.
    pub(crate) fn set_off(&mut self, now: Instant, off: Encodings) {
        for (encoding, stream) in EncodingIndex::all().zip(&mut self.encodings) {
            let is_off = off.contains(encoding);
            if std::mem::replace(&mut stream.is_off, is_off) && !is_off {
                stream.awaited = Some(now + COMES_BACK_WITHIN);
            }
        }
    }

    /// The encodings of which nothing is known.
    #[must_use]
    pub(crate) fn unmeasured(&self) -> Encodings {
        let measured = EncodingIndex::all().zip(&self.encodings);
        let measured = measured.filter(|(_, stream)| stream.meter.highest().is_some());
        let known = measured.fold(Encodings::NONE, |all, (n, _)| all.with(Encodings::one(n)));
        known.others()
    }

    #[must_use]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// How it is coded, once anything has come.
    #[must_use]
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// How an encoding is coded, once anything of it has come.
    #[must_use]
    pub(crate) fn codec_of(&self, encoding: EncodingIndex) -> Option<Codec> {
        self.encodings.get(usize::from(encoding))?.codec
    }

    /// How it is coded, if a client that can receive what `receives` says can receive nothing of it: none
    /// of the encodings that come, or of those that did when none does.
    #[must_use]
    pub(crate) fn unreceivable(
        &self,
        now: Instant,
        receives: impl Fn(Codec) -> bool,
    ) -> Option<Codec> {
        let known = |is_wanted: &dyn Fn(&Stream) -> bool| -> Vec<Codec> {
            let wanted = self.encodings.iter().filter(|stream| is_wanted(stream));
            wanted.filter_map(|stream| stream.codec).collect()
        };
        let mut codecs = known(&|stream| stream.is_offered(now));
        if codecs.is_empty() {
            codecs = known(&|_| true);
        }
        let first = codecs.first().copied();
        first.filter(|_| !codecs.into_iter().any(receives))
    }

    /// Whether anything comes of it.
    #[must_use]
    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        let mut meters = self.encodings.iter().map(|stream| &stream.meter);
        meters.any(|meter| meter.is_alive(now))
    }

    /// The encoding to begin with before any has been measured, by a client that can receive what
    /// `receives` says.
    #[must_use]
    pub(crate) fn first_encoding(
        &self,
        now: Instant,
        receives: impl Fn(Codec) -> bool,
    ) -> EncodingIndex {
        let mut streams = EncodingIndex::all().zip(&self.encodings);
        let alive = streams
            .find(|(_, stream)| stream.meter.is_alive(now) && stream.codec.is_none_or(&receives));
        alive.map_or(EncodingIndex(0), |(encoding, _)| encoding)
    }

    /// What the track takes as a whole: of audio, which has one encoding.
    #[must_use]
    pub(crate) fn bitrate(&self, now: Instant) -> Bitrate {
        let alive = self.encodings.iter().map(|stream| &stream.meter);
        alive
            .filter(|meter| meter.is_alive(now))
            .map(|meter| meter.measured(0, 0).bitrate)
            .max()
            .unwrap_or_default()
    }

    /// Whether nothing is pending.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// The latest sender report of every encoding that has one.
    pub(crate) fn sender_reports(&self) -> impl Iterator<Item = (EncodingIndex, SenderReportSeen)> {
        let reports = EncodingIndex::all().zip(&self.encodings);
        reports.filter_map(|(encoding, stream)| Some((encoding, stream.sender_report?)))
    }

    /// The latest sender report of an encoding, its time by the server's clock.
    #[must_use]
    pub(crate) fn sender_report(&self, encoding: EncodingIndex) -> Option<SenderReportSeen> {
        self.encodings.get(usize::from(encoding))?.sender_report
    }
}

fn picture(layer: &LayerInfo) -> (EncodingIndex, u8) {
    (layer.encoding, layer.spatial)
}

/// The layers that are all of their picture: the first of each, as [`Feed::layers`] lays them out.
fn wholes(layers: &[LayerInfo]) -> impl Iterator<Item = LayerInfo> {
    let pictures = layers.chunk_by(|a, b| picture(a) == picture(b));
    pictures.filter_map(|layers| layers.first().copied())
}

/// Leaves out temporal layers but those of the lowest picture.
fn keep_whole_pictures(layers: &mut Vec<LayerInfo>) {
    let Some(lowest) = wholes(layers).min_by_key(|layer| layer.bitrate) else {
        return;
    };
    let mut last = None;
    layers.retain(|layer| {
        let is_whole = last.replace(picture(layer)) != Some(picture(layer));
        is_whole || picture(layer) == picture(&lowest)
    });
}

/// Leaves out encodings that stutter while a smaller one moves, of those that come: a publisher whose
/// estimate is low spends what is left over on the larger, which may be a frame or two a second.
fn leave_out_starved(layers: &mut Vec<LayerInfo>, comes: impl Fn(EncodingIndex) -> bool) {
    let frames_of = |layers: &[LayerInfo], encoding: EncodingIndex| {
        let own = layers.iter().filter(|layer| layer.encoding == encoding);
        own.map(|layer| layer.frame_rate).max().unwrap_or_default()
    };
    let is_starved = |layer: &LayerInfo| {
        let frames = frames_of(layers, layer.encoding);
        comes(layer.encoding)
            && layers.iter().any(|smaller| {
                let is_smaller = (1..layer.height).contains(&smaller.height);
                is_smaller
                    && smaller.encoding != layer.encoding
                    && smaller.frame_rate >= MOVES
                    && f64::from(frames) < f64::from(smaller.frame_rate) * STARVED
            })
    };
    let starved: Vec<EncodingIndex> = layers
        .iter()
        .filter(|layer| is_starved(layer))
        .map(|layer| layer.encoding)
        .collect();
    layers.retain(|layer| !starved.contains(&layer.encoding));
}

/// Where a publisher's payloads do not say how large pictures are, what takes more is taken for
/// larger, and smaller than any place on a screen, so that all of it can be wanted.
fn rank(layers: &mut [LayerInfo]) {
    let wholes: Vec<LayerInfo> = wholes(layers).collect();
    for layer in layers {
        let own = wholes.iter().find(|whole| picture(whole) == picture(layer));
        let own = own.map_or(Bitrate::ZERO, |whole| whole.bitrate);
        let lower = wholes.iter().filter(|whole| whole.bitrate < own).count();
        (layer.width, layer.height) = (0, lower as u32 + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::history::tests::video;

    #[test]
    fn what_can_be_received_is_looked_for_among_all_that_comes() {
        let start = Instant::now();
        let h265 = Codec::H265 {
            profile: 1,
            is_high_tier: false,
        };
        let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
        let take = |feed: &mut Feed, now, encoding, sequence, codec| {
            let mut meta = video(encoding, 0, sequence, true);
            meta.codec = codec;
            assert!(feed.insert(now, meta, &[0; 20]));
        };
        let has = |codec| move |other| other == codec;
        assert_eq!(
            feed.unreceivable(start, has(Codec::Vp8)),
            None,
            "who knows?"
        );
        take(&mut feed, start, EncodingIndex(0), 100, h265);
        assert_eq!(feed.unreceivable(start, has(Codec::Vp8)), Some(h265));
        // Nothing is under that number.
        let mut void = video(EncodingIndex(0), 0, 101, false).emptied();
        void.codec = Codec::Vp8;
        assert!(feed.insert(start, void, &[]));
        assert_eq!(feed.codec(), Some(h265));
        take(&mut feed, start, EncodingIndex(1), 100, Codec::Vp8);
        assert_eq!(feed.unreceivable(start, has(Codec::Vp8)), None);
        assert_eq!(
            feed.first_encoding(start, has(Codec::Vp8)),
            EncodingIndex(1)
        );
        assert_eq!(feed.first_encoding(start, has(h265)), EncodingIndex(0));
        let nothing = |_| false;
        assert_eq!(feed.unreceivable(start, nothing), Some(h265));
        // The encoding that could be received has ended, then all of it.
        let later = start + Duration::from_secs(60);
        take(&mut feed, later, EncodingIndex(0), 102, h265);
        assert_eq!(feed.unreceivable(later, has(Codec::Vp8)), Some(h265));
        let muted = later + Duration::from_secs(60);
        assert!(!feed.is_alive(muted));
        assert_eq!(feed.unreceivable(muted, has(Codec::Vp8)), None);
    }

    #[test]
    fn an_encoding_that_stutters_is_no_step_up_from_one_that_moves() {
        let layer = |encoding, height, frame_rate| LayerInfo {
            encoding: EncodingIndex(encoding),
            height,
            frame_rate,
            ..LayerInfo::default()
        };
        let left = |mut layers: Vec<LayerInfo>, comes: &dyn Fn(EncodingIndex) -> bool| {
            leave_out_starved(&mut layers, comes);
            let encodings = layers.iter().map(|layer| layer.encoding.0);
            encodings.collect::<Vec<_>>()
        };
        let always = |_| true;
        let camera = |frames| {
            vec![
                layer(0, 180, 25),
                layer(1, 360, frames),
                layer(1, 360, frames / 2),
            ]
        };
        assert_eq!(left(camera(3), &always), [0]);
        assert_eq!(left(camera(15), &always), [0, 1, 1]);
        assert_eq!(
            left(camera(3), &|encoding| encoding == EncodingIndex(0)),
            [0, 1, 1],
            "it is off"
        );
        // A still screen, and a publisher whose sizes are not known.
        assert_eq!(
            left(vec![layer(0, 360, 3), layer(1, 1080, 1)], &always),
            [0, 1]
        );
        assert_eq!(left(vec![layer(0, 0, 30), layer(1, 0, 2)], &always), [0, 1]);
    }
}
