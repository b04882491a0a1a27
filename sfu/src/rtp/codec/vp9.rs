//! VP9: the payload descriptor (RFC 9628 section 4.2), flexible and not.
//!
//! In: an RTP payload. Out: [`Descriptor`], and [`rewrite`] for the counters that a forwarder must
//! keep continuous.

use super::PictureId;
use super::dependency::largest;

/// Most reference indices of a frame in flexible mode (RFC 9628 section 4.2).
const MAX_REFERENCES: usize = 3;

/// What the descriptor says, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Bytes of descriptor; the VP9 data starts here.
    pub len: usize,
    /// The packet is the first of a frame of one spatial layer (B).
    pub starts_frame: bool,
    /// The packet is the last of a frame of one spatial layer (E).
    pub ends_frame: bool,
    /// The frame refers to earlier pictures (P).
    pub inter_picture: bool,
    /// The frame's references are in the descriptor (F).
    pub flexible: bool,
    /// No higher spatial layer refers to this frame (Z).
    pub not_for_higher_spatial: bool,
    /// Counts the pictures.
    pub picture_id: Option<PictureId>,
    /// The layers the frame belongs to, if the stream has layers.
    pub layers: Option<Layers>,
    /// Counts the pictures of temporal layer 0; only outside flexible mode.
    pub tl0_picture_index: Option<u8>,
    /// A description of the layers follows (V).
    pub has_scalability_structure: bool,
    /// Width and height of the largest spatial layer in pixels, if the description says.
    pub size: Option<(u16, u16)>,
    tl0_at: usize,
}

/// Where a frame stands among the layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layers {
    /// The temporal layer, 0 to 7.
    pub temporal_id: u8,
    /// The spatial layer, 0 to 7.
    pub spatial_id: u8,
    /// A receiver can go up to this temporal layer here (U).
    pub switching_up: bool,
    /// The frame refers to the spatial layer below, of the same picture (D).
    pub inter_layer: bool,
}

impl Descriptor {
    /// Reads a descriptor; `None` when it runs past the end or no data follows it.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Descriptor> {
        let first = *payload.first()?;
        let flag = |bit: u8| first >> bit & 1 != 0;
        let mut reader = Reader { payload, at: 1 };
        let mut descriptor = Descriptor {
            len: 0,
            starts_frame: flag(3),
            ends_frame: flag(2),
            inter_picture: flag(6),
            flexible: flag(4),
            not_for_higher_spatial: flag(0),
            picture_id: None,
            layers: None,
            tl0_picture_index: None,
            has_scalability_structure: flag(1),
            size: None,
            tl0_at: 0,
        };
        if flag(7) {
            let id = PictureId::parse(payload.get(reader.at..)?)?;
            descriptor.picture_id = Some(id);
            reader.at += id.wire_len();
        }
        if flag(5) {
            let byte = reader.byte()?;
            descriptor.layers = Some(Layers {
                temporal_id: byte >> 5,
                spatial_id: byte >> 1 & 7,
                switching_up: byte & 0x10 != 0,
                inter_layer: byte & 1 != 0,
            });
            if !descriptor.flexible {
                descriptor.tl0_at = reader.at;
                descriptor.tl0_picture_index = Some(reader.byte()?);
            }
        }
        if descriptor.flexible && descriptor.inter_picture {
            reader.skip_references()?;
        }
        if descriptor.has_scalability_structure {
            descriptor.size = reader.scalability_structure()?;
        }
        descriptor.len = reader.at;
        (reader.at < payload.len()).then_some(descriptor)
    }

    /// Whether the packet is the first of a key frame: of a picture that refers to no other, in
    /// its lowest spatial layer.
    #[must_use]
    pub fn starts_key_frame(&self) -> bool {
        let lowest = self
            .layers
            .is_none_or(|layers| layers.spatial_id == 0 && !layers.inter_layer);
        self.starts_frame && !self.inter_picture && lowest
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The distances to the pictures referred to; the low bit says that another follows.
    fn skip_references(&mut self) -> Option<()> {
        for _ in 0..MAX_REFERENCES {
            if self.byte()? & 1 == 0 {
                return Some(());
            }
        }
        None
    }

    /// The size of the largest layer, if it is there.
    fn scalability_structure(&mut self) -> Option<Option<(u16, u16)>> {
        let flags = self.byte()?;
        let mut size = None;
        if flags & 0x10 != 0 {
            let sizes = self.payload.get(self.at..)?.as_chunks().0;
            let sizes = sizes.get(..usize::from(flags >> 5) + 1)?;
            self.at += sizes.as_flattened().len();
            let side = |high, low| u16::from_be_bytes([high, low]);
            size = largest(sizes.iter().map(|&[a, b, c, d]| (side(a, b), side(c, d))));
        }
        if flags & 0x08 != 0 {
            for _ in 0..self.byte()? {
                let picture = self.byte()?;
                self.at += usize::from(picture >> 2 & 3);
            }
        }
        Some(size)
    }
}

/// Puts new counters into a payload, in the width they have there. Those it does not have stay
/// absent. `descriptor` must be the payload's own.
pub fn rewrite(
    payload: &mut [u8],
    descriptor: &Descriptor,
    picture_id: u16,
    tl0_picture_index: u8,
) {
    if let Some(old) = descriptor.picture_id {
        old.replace(payload, 1, picture_id);
    }
    if descriptor.tl0_picture_index.is_some()
        && let Some(byte) = payload.get_mut(descriptor.tl0_at)
    {
        *byte = tl0_picture_index;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_frame_with_layers_outside_flexible_mode() {
        // I, L, B, V; 15-bit id; tid 0, sid 0; tl0; one spatial layer with size, two pictures.
        let payload = [
            0xaa, 0x81, 0x23, 0x00, 0x09, // descriptor up to tl0
            0x18, 0x02, 0x80, 0x01, 0xe0, 0x02, 0x00, 0x24, 1, // structure
            0x82, 0x49, // VP9
        ];
        let descriptor = Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.len, 14);
        assert!(descriptor.starts_key_frame() && !descriptor.ends_frame);
        assert_eq!(descriptor.picture_id, Some(PictureId::Bits15(0x123)));
        assert_eq!(descriptor.tl0_picture_index, Some(9));
        assert_eq!(descriptor.size, Some((640, 480)));
        for len in 0..=14 {
            assert_eq!(Descriptor::parse(&payload[..len]), None, "{len}");
        }
    }

    #[test]
    fn an_inter_frame_in_flexible_mode() {
        // I, P, L, F, E, Z; 7-bit id; tid 2 U, sid 1 D; two references.
        let payload = [0xf5, 0x11, 0x53, 0x03, 0x04, 0xff];
        let descriptor = Descriptor::parse(&payload).unwrap();
        assert_eq!((descriptor.len, descriptor.flexible), (5, true));
        assert!(!descriptor.starts_frame && descriptor.ends_frame);
        assert!(descriptor.not_for_higher_spatial);
        assert_eq!(descriptor.picture_id, Some(PictureId::Bits7(0x11)));
        assert_eq!(descriptor.tl0_picture_index, None);
        let layers = Layers {
            temporal_id: 2,
            spatial_id: 1,
            switching_up: true,
            inter_layer: true,
        };
        assert_eq!(descriptor.layers, Some(layers));
        let four_references = [0xf5, 0x11, 0x53, 0x03, 0x05, 0x07, 0x08, 0xff];
        assert_eq!(Descriptor::parse(&four_references), None);
    }

    #[test]
    fn only_the_lowest_spatial_layer_starts_a_key_frame() {
        let starts = |layers: u8| {
            let descriptor = Descriptor::parse(&[0x28, layers, 0, 0xff]).unwrap();
            descriptor.starts_key_frame()
        };
        assert!(starts(0x00) && !starts(0x02) && !starts(0x03));
    }

    proptest! {
        #[test]
        fn rewriting_changes_the_counters_and_nothing_else(
            before in prop::collection::vec(any::<u8>(), 0..40),
            picture_id in any::<u16>(),
            tl0 in any::<u8>(),
        ) {
            let Some(descriptor) = Descriptor::parse(&before) else {
                return Ok(());
            };
            let mut payload = before.clone();
            rewrite(&mut payload, &descriptor, picture_id, tl0);
            let wanted = Descriptor {
                picture_id: descriptor.picture_id.map(|id| id.with(picture_id)),
                tl0_picture_index: descriptor.tl0_picture_index.map(|_| tl0),
                ..descriptor
            };
            prop_assert_eq!(Descriptor::parse(&payload), Some(wanted));
            prop_assert_eq!(&payload[descriptor.len..], &before[descriptor.len..]);

            let old_id = descriptor.picture_id.map_or(0, PictureId::value);
            rewrite(&mut payload, &wanted, old_id, descriptor.tl0_picture_index.unwrap_or(0));
            prop_assert_eq!(payload, before);
        }
    }
}
