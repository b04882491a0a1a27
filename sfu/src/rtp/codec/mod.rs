//! The first bytes of each codec's payload: what a forwarder must know of a picture.
//!
//! In: a codec, an RTP payload, and what the packet's dependency descriptor says if it has one. Out:
//! [`PictureInfo`], the same for every codec.

pub mod av1;
mod bits;
pub mod dependency;
pub mod h264;
pub mod h265;
pub mod opus;
mod sps;
pub mod vp8;
pub mod vp9;

use crate::media::Codec;
use dependency::Frame;

/// All temporal layers, in [`PictureInfo::opens_temporal`].
const ALL_LAYERS: u8 = u8::MAX;

/// What a forwarder must know of a packet's picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PictureInfo {
    /// The packet can be the first of a frame, of one spatial layer if there are several. For H.264,
    /// H.265 and AV1 without a dependency descriptor several packets of one frame can say so; the first
    /// with a new timestamp is.
    pub starts_frame: bool,
    /// The packet is known to be the last of a frame, of one spatial layer if there are several.
    pub ends_frame: bool,
    /// The packet starts a key frame, so a decoder can start here. True of every audio.
    pub key_frame: bool,
    /// The counter of pictures, in VP8 and VP9.
    pub picture_id: Option<PictureId>,
    /// The counter of pictures of temporal layer 0, in VP8 and VP9.
    pub tl0: Option<u8>,
    /// The temporal layer, if every packet of the picture says.
    pub temporal_id: Option<u8>,
    /// The spatial layer, if every packet of the picture says.
    pub spatial_id: Option<u8>,
    /// Bit `t` is set when a receiver of this spatial layer and of fewer temporal layers can go up to
    /// temporal layer `t`: at this picture when it is of the next higher layer, after it when the
    /// receiver has it anyway.
    pub opens_temporal: u8,
    /// The frame refers to no earlier picture, at most to lower spatial layers of its own: where a
    /// receiver can go up to its spatial layer. Of VP8 only the first packet of a picture says so.
    pub is_independent: bool,
    /// The counter of frames in the dependency descriptor.
    pub frame_number: Option<u16>,
    /// Width and height of the largest spatial layer in pixels, where a key frame says.
    pub size: Option<(u16, u16)>,
}

impl PictureInfo {
    /// The same, but for what the dependency descriptor knows better: the payload may be encrypted
    /// end to end.
    fn with(self, frame: &Frame) -> Self {
        let key_frame = frame.starts && frame.has_structure;
        let info = PictureInfo {
            starts_frame: frame.starts,
            ends_frame: frame.ends,
            frame_number: Some(frame.number),
            ..self
        };
        let Some(place) = frame.place else {
            return PictureInfo {
                key_frame: self.key_frame || key_frame,
                ..info
            };
        };
        PictureInfo {
            key_frame,
            temporal_id: Some(place.temporal_id),
            spatial_id: Some(place.spatial_id),
            // VP8 and VP9 have their own word for it, and with them libwebrtc says S of every frame's
            // own layer, whether or not it refers to earlier frames of that.
            opens_temporal: match self.temporal_id {
                Some(_) => self.opens_temporal,
                None => place.opens_temporal,
            },
            is_independent: place.is_independent,
            size: place.size.or(self.size).filter(|_| key_frame),
            ..info
        }
    }
}

/// Reads the start of a payload. `None` when it is empty, which a packet of padding alone is, or when
/// it is malformed and the dependency descriptor does not say enough either.
#[must_use]
pub fn inspect(codec: Codec, payload: &[u8], frame: Option<&Frame>) -> Option<PictureInfo> {
    if payload.is_empty() {
        return None;
    }
    let info = inspect_payload(codec, payload);
    let Some(frame) = frame else {
        return info;
    };
    match info {
        None => frame.place.map(|_| PictureInfo::default().with(frame)),
        Some(info) => Some(info.with(frame)),
    }
}

fn inspect_payload(codec: Codec, payload: &[u8]) -> Option<PictureInfo> {
    Some(match codec {
        Codec::Opus => {
            opus::duration(payload)?;
            PictureInfo {
                starts_frame: true,
                key_frame: true,
                ..PictureInfo::default()
            }
        }
        Codec::Pcmu
        | Codec::Pcma
        | Codec::G722
        | Codec::TelephoneEvent { .. }
        | Codec::ComfortNoise { .. } => PictureInfo {
            starts_frame: true,
            key_frame: true,
            ..PictureInfo::default()
        },
        Codec::Vp8 => {
            let vp8 = vp8::Descriptor::parse(payload)?;
            let key_frame = vp8.starts_key_frame(payload);
            let layer = vp8.temporal_id.filter(|_| vp8.layer_sync);
            PictureInfo {
                starts_frame: vp8.starts_frame(),
                key_frame,
                picture_id: vp8.picture_id,
                tl0: vp8.tl0_picture_index,
                temporal_id: vp8.temporal_id,
                opens_temporal: match key_frame {
                    true => ALL_LAYERS,
                    false => layer.map_or(0, |layer| 1 << layer),
                },
                is_independent: key_frame,
                size: vp8.dimensions(payload),
                ..PictureInfo::default()
            }
        }
        Codec::Vp9 { .. } => {
            let vp9 = vp9::Descriptor::parse(payload)?;
            // RFC 9628 section 4.2 lets a receiver of this layer go on to all above it. libwebrtc's
            // encoder means by the same bit that this picture refers to none of its own layer.
            let open = vp9.layers.filter(|layers| layers.switching_up);
            PictureInfo {
                starts_frame: vp9.starts_frame,
                ends_frame: vp9.ends_frame,
                key_frame: vp9.starts_key_frame(),
                picture_id: vp9.picture_id,
                tl0: vp9.tl0_picture_index,
                temporal_id: vp9.layers.map(|layers| layers.temporal_id),
                spatial_id: vp9.layers.map(|layers| layers.spatial_id),
                opens_temporal: open.map_or(0, |layers| ALL_LAYERS << layers.temporal_id),
                is_independent: !vp9.inter_picture,
                size: vp9.size.filter(|_| vp9.starts_key_frame()),
                ..PictureInfo::default()
            }
        }
        Codec::H264 { .. } => {
            let units = h264::NalUnits::parse(payload)?;
            PictureInfo {
                starts_frame: units.starts_access_unit,
                key_frame: units.starts_key_frame,
                size: units.size,
                ..PictureInfo::default()
            }
        }
        Codec::H265 { .. } => {
            let units = h265::NalUnits::parse(payload)?;
            PictureInfo {
                starts_frame: units.starts_access_unit,
                key_frame: units.starts_key_frame,
                temporal_id: Some(units.temporal_id),
                opens_temporal: units.opens_temporal,
                is_independent: units.starts_key_frame,
                size: units.size,
                ..PictureInfo::default()
            }
        }
        Codec::Av1 { .. } => {
            let av1 = av1::Aggregation::parse(payload)?;
            PictureInfo {
                starts_frame: av1.starts_frame,
                key_frame: av1.starts_sequence,
                size: av1.size,
                ..PictureInfo::default()
            }
        }
    })
}

/// A counter of pictures, in the width it has on the wire (RFC 7741 and RFC 9628, section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PictureId {
    /// 0 to 127, one byte.
    Bits7(u8),
    /// 0 to 32,767, two bytes.
    Bits15(u16),
}

impl PictureId {
    /// The bit of the first byte that says there is a second.
    const WIDE: u8 = 0x80;

    fn parse(bytes: &[u8]) -> Option<PictureId> {
        match *bytes {
            [first, second, ..] if first & Self::WIDE != 0 => {
                Some(PictureId::Bits15(u16::from_be_bytes([
                    first & !Self::WIDE,
                    second,
                ])))
            }
            [first, ..] if first & Self::WIDE == 0 => Some(PictureId::Bits7(first)),
            _ => None,
        }
    }

    /// The number, whatever its width.
    #[must_use]
    pub fn value(self) -> u16 {
        match self {
            PictureId::Bits7(id) => id.into(),
            PictureId::Bits15(id) => id,
        }
    }

    /// Another number in the same width, wrapped to it.
    #[must_use]
    pub fn with(self, value: u16) -> PictureId {
        match self {
            PictureId::Bits7(_) => PictureId::Bits7(value as u8 & 0x7f),
            PictureId::Bits15(_) => PictureId::Bits15(value & 0x7fff),
        }
    }

    /// Whether another picture is the next after this one.
    #[must_use]
    pub fn precedes(self, next: PictureId) -> bool {
        self.with(self.value().wrapping_add(1)) == next
    }

    fn wire_len(self) -> usize {
        match self {
            PictureId::Bits7(_) => 1,
            PictureId::Bits15(_) => 2,
        }
    }

    /// Puts a number in the place of this one.
    fn replace(self, payload: &mut [u8], at: usize, value: u16) {
        let bytes = match self.with(value) {
            PictureId::Bits7(id) => [id, 0],
            PictureId::Bits15(id) => (id | u16::from(Self::WIDE) << 8).to_be_bytes(),
        };
        if let Some(place) = payload.get_mut(at..at + self.wire_len()) {
            place
                .iter_mut()
                .zip(bytes)
                .for_each(|(old, new)| *old = new);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::dependency::Dependencies;
    use super::dependency::tests::L3T3_KEY;
    use super::*;
    use crate::rtp::sequence::SequenceNumber;
    use proptest::prelude::*;

    const CODECS: [Codec; 6] = [
        Codec::Opus,
        Codec::Vp8,
        Codec::Vp9 { profile: 0 },
        Codec::H264 {
            profile_idc: 0x42,
            profile_iop: 0xe0,
            packetization_mode: 1,
        },
        Codec::Av1 { profile: 0 },
        Codec::H265 {
            profile: 1,
            is_high_tier: false,
        },
    ];

    #[test]
    fn a_key_frame_of_each_codec() {
        let payloads: [&[u8]; 6] = [
            &[0xf8, 0xff, 0xfe],
            &[0x90, 0xe0, 0x11, 0x22, 0x40, 0x10],
            &[0xa8, 0x11, 0x00, 0x22, 0x82],
            &[0x67, 0x42],
            &[0x18, 0x0a, 0x0b],
            &[0x28, 0x01, 0xaf],
        ];
        for (codec, payload) in CODECS.into_iter().zip(payloads) {
            let info = inspect(codec, payload, None).unwrap();
            assert!(info.starts_frame && info.key_frame, "{codec}");
            let counted = matches!(codec, Codec::Vp8 | Codec::Vp9 { .. });
            assert_eq!(info.picture_id, counted.then_some(PictureId::Bits7(0x11)));
            assert_eq!(info.tl0, counted.then_some(0x22));
            assert_eq!(inspect(codec, &[], None), None);
        }
    }

    #[test]
    fn a_dependency_descriptor_tells_where_av1_frames_start() {
        let av1 = Codec::Av1 { profile: 0 };
        let tile_group = [0x10, 0x20];
        let info = |descriptor: &[u8]| {
            let frame = Dependencies::default().read(SequenceNumber(1), descriptor);
            let info = inspect(av1, &tile_group, frame.as_ref()).unwrap();
            (info.starts_frame, info.key_frame)
        };
        assert_eq!(info(&[0x80, 0, 1, 0x80]), (true, true));
        assert_eq!(info(&[0x80, 0, 1]), (true, false));
        assert_eq!(info(&[0x40, 0, 1, 0x80]), (false, false));
    }

    #[test]
    fn a_payload_may_be_encrypted_when_the_descriptor_tells_all() {
        let encrypted = [0xff; 9];
        for codec in &CODECS[1..] {
            let mut dependencies = Dependencies::default();
            let key = L3T3_KEY.key_frame();
            let frame = dependencies.read(SequenceNumber(1), &key);
            let info = inspect(*codec, &encrypted, frame.as_ref()).unwrap();
            assert!(
                info.starts_frame && info.key_frame && info.is_independent,
                "{codec}"
            );
            assert_eq!(info.size, Some((1280, 720)));
            // Template 4: the middle layer's frame of the same picture, whole.
            let frame = dependencies.read(SequenceNumber(2), &[0xc0 | 4, 0, 2]);
            let info = inspect(*codec, &encrypted, frame.as_ref()).unwrap();
            assert!(info.starts_frame && info.ends_frame && !info.key_frame);
            assert_eq!((info.spatial_id, info.temporal_id), (Some(1), Some(0)));
        }
    }

    #[test]
    fn the_payload_knows_better_which_temporal_layers_it_opens() {
        let mut dependencies = Dependencies::default();
        let key = L3T3_KEY.key_frame();
        dependencies.read(SequenceNumber(1), &key);
        // Template 1: opens all three.
        let frame = dependencies.read(SequenceNumber(2), &[0xc0 | 1, 0, 2]);
        let open = |codec, payload: &[u8]| {
            let info = inspect(codec, payload, frame.as_ref()).unwrap();
            info.opens_temporal
        };
        let layer_0 = [0x90, 0x20, 0x00, 0x01];
        assert_eq!(open(Codec::Vp8, &layer_0), 0);
        assert_eq!(open(Codec::Vp8, &[0x10, 0x01]), 0b111, "it does not say");
    }

    #[test]
    fn layers_and_where_to_go_up_from_the_payload() {
        let layers = |codec, payload: &[u8]| {
            let info = inspect(codec, payload, None).unwrap();
            (
                info.spatial_id,
                info.temporal_id,
                info.opens_temporal,
                info.is_independent,
            )
        };
        let vp9 = CODECS[2];
        let story: [(Codec, &[u8], _); 6] = [
            // Temporal layer 2, without and with Y.
            (
                Codec::Vp8,
                &[0x90, 0x20, 0x80, 0x01],
                (None, Some(2), 0, false),
            ),
            (
                Codec::Vp8,
                &[0x90, 0x20, 0xa0, 0x01],
                (None, Some(2), 0b100, false),
            ),
            (
                Codec::Vp8,
                &[0x90, 0x20, 0x20, 0x00],
                (None, Some(0), 0xff, true),
            ),
            // Layers 1 and 1 with U and D, with and without P.
            (vp9, &[0x68, 0x33, 0, 0x01], (Some(1), Some(1), 0xfe, false)),
            (vp9, &[0x28, 0x33, 0, 0x01], (Some(1), Some(1), 0xfe, true)),
            (vp9, &[0x28, 0x23, 0, 0x01], (Some(1), Some(1), 0, true)),
        ];
        for (codec, payload, expected) in story {
            assert_eq!(layers(codec, payload), expected, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            codec in prop::sample::select(&CODECS[..]),
            payload in prop::collection::vec(any::<u8>(), 0..60),
            descriptor in prop::option::of(prop::collection::vec(any::<u8>(), 0..8)),
        ) {
            let mut dependencies = Dependencies::default();
            let frame = descriptor.and_then(|d| dependencies.read(SequenceNumber(1), &d));
            let info = inspect(codec, &payload, frame.as_ref());
            prop_assert!(info.is_none() || !payload.is_empty());
        }
    }
}
