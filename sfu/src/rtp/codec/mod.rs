//! The first bytes of each codec's payload: what a forwarder must know of a picture.
//!
//! In: a codec, an RTP payload, and the packet's dependency descriptor if it has one. Out:
//! [`PictureInfo`], the same for every codec.

pub mod av1;
pub mod h264;
pub mod opus;
pub mod vp8;
pub mod vp9;

use crate::media::Codec;
use av1::DependencyDescriptor;

/// What a forwarder must know of a packet's picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PictureInfo {
    /// The packet can be the first of a frame. For H.264 and AV1 without a dependency descriptor
    /// several packets of one frame can say so; the first with a new timestamp is.
    pub starts_frame: bool,
    /// The packet starts a key frame, so a decoder can start here. True of every sound.
    pub key_frame: bool,
    /// The counter of pictures, in VP8 and VP9.
    pub picture_id: Option<PictureId>,
    /// The counter of pictures of temporal layer 0, in VP8 and VP9.
    pub tl0: Option<u8>,
    /// The temporal layer, if the payload says.
    pub temporal_id: Option<u8>,
    /// The spatial layer, if the payload says.
    pub spatial_id: Option<u8>,
    /// The counter of frames in the dependency descriptor.
    pub frame_number: Option<u16>,
    /// Width and height in pixels, where a key frame says.
    pub size: Option<(u16, u16)>,
}

/// Reads the start of a payload. `None` when it is malformed or empty; a packet of padding alone
/// has an empty payload.
#[must_use]
pub fn inspect(
    codec: Codec,
    payload: &[u8],
    dependency_descriptor: Option<&[u8]>,
) -> Option<PictureInfo> {
    let descriptor = dependency_descriptor.and_then(DependencyDescriptor::parse);
    let info = match codec {
        Codec::Opus => {
            opus::duration(payload)?;
            PictureInfo {
                starts_frame: true,
                key_frame: true,
                ..PictureInfo::default()
            }
        }
        Codec::Vp8 => {
            let vp8 = vp8::Descriptor::parse(payload)?;
            PictureInfo {
                starts_frame: vp8.starts_frame(),
                key_frame: vp8.starts_key_frame(payload),
                picture_id: vp8.picture_id,
                tl0: vp8.tl0_picture_index,
                temporal_id: vp8.temporal_id,
                ..PictureInfo::default()
            }
        }
        Codec::Vp9 { .. } => {
            let vp9 = vp9::Descriptor::parse(payload)?;
            PictureInfo {
                starts_frame: vp9.starts_frame,
                key_frame: vp9.starts_key_frame(),
                picture_id: vp9.picture_id,
                tl0: vp9.tl0_picture_index,
                temporal_id: vp9.layers.map(|layers| layers.temporal_id),
                spatial_id: vp9.layers.map(|layers| layers.spatial_id),
                ..PictureInfo::default()
            }
        }
        Codec::H264 { .. } => {
            let units = h264::NalUnits::parse(payload)?;
            PictureInfo {
                starts_frame: descriptor.map_or(units.starts_access_unit, |d| d.start_of_frame),
                key_frame: units.starts_key_frame,
                ..PictureInfo::default()
            }
        }
        Codec::Av1 { .. } => {
            let av1 = av1::Aggregation::parse(payload)?;
            PictureInfo {
                starts_frame: descriptor.map_or(av1.starts_frame, |d| d.start_of_frame),
                key_frame: av1.starts_sequence
                    || descriptor.is_some_and(|d| d.start_of_frame && d.has_structure),
                temporal_id: av1.layers.map(|(temporal, _)| temporal),
                spatial_id: av1.layers.map(|(_, spatial)| spatial),
                ..PictureInfo::default()
            }
        }
    };
    Some(PictureInfo {
        frame_number: descriptor.map(|d| d.frame_number),
        ..info
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
        let len = self.wire_len();
        if let Some(place) = payload.get_mut(at..at + len) {
            place.copy_from_slice(&bytes[..len]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Codec; 5] = [
        Codec::Opus,
        Codec::Vp8,
        Codec::Vp9 { profile: 0 },
        Codec::H264 {
            profile_idc: 0x42,
            profile_iop: 0xe0,
            packetization_mode: 1,
        },
        Codec::Av1 { profile: 0 },
    ];

    #[test]
    fn a_key_frame_of_each_codec() {
        let payloads: [&[u8]; 5] = [
            &[0xf8, 0xff, 0xfe],
            &[0x90, 0xe0, 0x11, 0x22, 0x40, 0x10],
            &[0xa8, 0x11, 0x00, 0x22, 0x82],
            &[0x67, 0x42],
            &[0x18, 0x0a, 0x0b],
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
            let info = inspect(av1, &tile_group, Some(descriptor)).unwrap();
            (info.starts_frame, info.key_frame)
        };
        assert_eq!(info(&[0x80, 0, 1, 0x80]), (true, true));
        assert_eq!(info(&[0x80, 0, 1]), (true, false));
        assert_eq!(info(&[0x40, 0, 1, 0x80]), (false, false));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            codec in prop::sample::select(&CODECS[..]),
            payload in prop::collection::vec(any::<u8>(), 0..60),
            descriptor in prop::option::of(prop::collection::vec(any::<u8>(), 0..8)),
        ) {
            let info = inspect(codec, &payload, descriptor.as_deref());
            prop_assert!(info.is_none() || !payload.is_empty());
        }
    }
}
