//! Whatever is wanted when, a decoder can decode what it gets: streams of three temporal layers, and
//! one or three spatial ones, with what each frame refers to.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::collections::BTreeSet;

use super::*;
use crate::media::Codec;
use crate::publish::history::tests::video;
use crate::rtp::codec::dependency::Dependencies;
use crate::rtp::codec::dependency::tests::{L1T3, L3T3, L3T3_KEY, Table};
use crate::rtp::codec::{PictureId, inspect};
use crate::rtp::sequence::SequenceNumber;
use crate::subscribe::rewrite::{Rewriter, Source};
use crate::types::EncodingIndex;
use crate::types::TrackId;
use proptest::prelude::*;
use std::time::Instant;

/// Temporal layers of four pictures in a row.
const PATTERN: [u8; 4] = [0, 2, 1, 2];

/// How frames tell what they depend on.
#[derive(Clone, Copy, Debug)]
enum Signal {
    /// The payload descriptor of VP8. In every second group of pictures the higher layers refer to
    /// their own layer, too.
    Vp8,
    /// The payload descriptor of VP9 as libwebrtc writes it in flexible mode.
    Vp9,
    /// The unit types of H.265: TSA pictures in layer 1, STSA pictures in layer 2.
    H265,
    /// A dependency descriptor before an encrypted payload.
    Descriptor,
}

/// How spatial layers depend on each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    L1T3,
    L3T3,
    L3T3Key,
}

/// The frame of a picture in a spatial layer.
type FrameId = (u64, u8);

struct Frame {
    id: FrameId,
    meta: PacketMeta,
    references: Vec<FrameId>,
}

struct Encoder {
    signal: Signal,
    layout: Layout,
    picture: u64,
    /// Pictures since the last key picture.
    position: u64,
    tl0: u8,
    dependencies: Dependencies,
}

impl Encoder {
    fn new(signal: Signal, layout: Layout) -> Self {
        Encoder {
            signal,
            layout,
            picture: 0,
            position: 0,
            tl0: 0,
            dependencies: Dependencies::default(),
        }
    }

    /// The frames of the next picture, lowest layer first.
    fn encode(&mut self, is_key: bool) -> Vec<Frame> {
        self.picture += 1;
        self.position = if is_key { 0 } else { self.position + 1 };
        let temporal = PATTERN[(self.position % 4) as usize];
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal == 0));
        let spatial_layers = if self.layout == Layout::L1T3 { 1 } else { 3 };
        (0..spatial_layers)
            .map(|spatial| self.frame(spatial, temporal, is_key))
            .collect()
    }

    fn frame(&mut self, spatial: u8, temporal: u8, is_key: bool) -> Frame {
        // How many pictures back the one is that the picture builds on.
        let back = [4, 2, 1][usize::from(temporal)];
        let mut references = Vec::new();
        if !is_key {
            references.push((self.picture - back, spatial));
        }
        if spatial > 0 && (is_key || self.layout == Layout::L3T3) {
            references.push((self.picture, spatial - 1));
        }
        let is_sync = self.position % 8 < 4;
        if matches!(self.signal, Signal::Vp8) && temporal > 0 && !is_sync {
            // The latest of the own layer and of those below.
            let of = |layer: u8| {
                let is_of = |n: &u64| PATTERN[((self.position - n) % 4) as usize] == layer;
                (1..=4).find(is_of).map(|n| (self.picture - n, spatial))
            };
            references = (0..=temporal).filter_map(of).collect();
        }
        let meta = self.meta(spatial, temporal, is_key, is_sync);
        Frame {
            id: (self.picture, spatial),
            meta,
            references,
        }
    }

    fn meta(&mut self, spatial: u8, temporal: u8, is_key: bool, is_sync: bool) -> PacketMeta {
        let sequence = 100 + self.picture * 3 + u64::from(spatial);
        let mut meta = video(EncodingIndex(0), 0, sequence, false);
        meta.timestamp = self.picture;
        let id = (self.picture as u16 | 0x8000).to_be_bytes();
        let (codec, payload, descriptor) = match self.signal {
            Signal::Vp8 => {
                let layer = temporal << 6 | u8::from(is_sync) << 5;
                let first = u8::from(!is_key);
                let payload = vec![0x90, 0xe0, id[0], id[1], self.tl0, layer, first];
                (Codec::Vp8, payload, None)
            }
            Signal::Vp9 => {
                let is_inter_layer = spatial > 0 && (is_key || self.layout == Layout::L3T3);
                let first = 0b1011_1100 | u8::from(!is_key) << 6;
                let layers = temporal << 5
                    | u8::from(temporal > 0) << 4
                    | spatial << 1
                    | u8::from(is_inter_layer);
                let mut payload = vec![first, id[0], id[1], layers];
                if !is_key {
                    payload.push([4, 2, 1][usize::from(temporal)] << 1);
                }
                payload.push(0);
                (Codec::Vp9 { profile: 0 }, payload, None)
            }
            Signal::H265 => {
                let unit = match temporal {
                    0 if is_key => 19,
                    0 => 1,
                    1 => 3,
                    _ => 4,
                };
                let codec = Codec::H265 {
                    profile: 1,
                    is_high_tier: false,
                };
                (codec, vec![unit << 1, temporal + 1, 0x80], None)
            }
            Signal::Descriptor => {
                let table: &Table = match self.layout {
                    Layout::L1T3 => &L1T3,
                    Layout::L3T3 => &L3T3,
                    Layout::L3T3Key => &L3T3_KEY,
                };
                let template = 4 * spatial + if is_key { 0 } else { temporal + 1 };
                let descriptor = match is_key && spatial == 0 {
                    true => table.key_frame(),
                    false => vec![0xc0 | template, id[0], id[1]],
                };
                (Codec::Av1 { profile: 0 }, vec![0xff; 5], Some(descriptor))
            }
        };
        let frame =
            descriptor.and_then(|bytes| self.dependencies.read(SequenceNumber(sequence), &bytes));
        meta.codec = codec;
        meta.picture = inspect(codec, &payload, frame.as_ref());
        assert!(meta.picture.is_some());
        meta
    }
}

fn streams() -> impl Strategy<Value = (Signal, Layout)> {
    prop::sample::select(
        &[
            (Signal::Vp8, Layout::L1T3),
            (Signal::Vp9, Layout::L1T3),
            (Signal::Vp9, Layout::L3T3),
            (Signal::Vp9, Layout::L3T3Key),
            (Signal::H265, Layout::L1T3),
            (Signal::Descriptor, Layout::L1T3),
            (Signal::Descriptor, Layout::L3T3),
            (Signal::Descriptor, Layout::L3T3Key),
        ][..],
    )
}

proptest! {
    #[test]
    fn everything_that_is_sent_can_be_decoded(
        (signal, layout) in streams(),
        // What is wanted before each frame, and whether a key frame comes though nobody asked.
        steps in prop::collection::vec(((0u8..4, 0u8..4), 0u8..20), 1..120),
    ) {
        let mut encoder = Encoder::new(signal, layout);
        let mut layer = LayerSelector::default();
        let mut rewriter = Rewriter::new(7);
        let source = Source { track: TrackId(1), encoding: EncodingIndex(0), epoch: 0 };
        let mut decoded = BTreeSet::new();
        let (now, mut last) = (Instant::now(), None);
        let mut wanted = steps.iter().copied();
        let mut is_first = true;
        // At the end all is wanted, and what takes a key frame gets one.
        let mut whole = 0;
        while whole < 12 {
            let step = wanted.next();
            let (target, chance) = step.unwrap_or(((u8::MAX, u8::MAX), 1));
            let is_key = is_first || chance == 0 || step.is_none() && layer.needs_key_frame();
            is_first = false;
            for frame in encoder.encode(is_key) {
                let target = Target { encoding: EncodingIndex(0), spatial: target.0, temporal: target.1 };
                layer.set_target(Some(target));
                match layer.judge(&frame.meta) {
                    Verdict::Start => rewriter.start(now, source, &frame.meta, None),
                    Verdict::Forward => {}
                    Verdict::Omit | Verdict::Drop => {
                        prop_assert!(rewriter.omit(&frame.meta));
                        prop_assert!(whole < 8, "everything is wanted");
                        continue;
                    }
                }
                for reference in &frame.references {
                    let is_there = decoded.contains(reference);
                    prop_assert!(is_there, "{:?} lacks {:?}", frame.id, reference);
                }
                let mapped = rewriter.forward(now, &frame.meta).unwrap();
                let numbered = frame.meta.picture.unwrap().picture_id;
                if let (Signal::Vp8, Some(id)) = (signal, numbered) {
                    // libwebrtc's receiver waits for pictures that are missing by their ids.
                    let id = id.with(id.value().wrapping_add(mapped.pictures.picture_id));
                    prop_assert!(last.is_none_or(|last: PictureId| last.precedes(id)));
                    last = Some(id);
                }
                decoded.insert(frame.id);
            }
            whole += u32::from(step.is_none());
        }
        prop_assert!(!layer.needs_key_frame());
    }
}
