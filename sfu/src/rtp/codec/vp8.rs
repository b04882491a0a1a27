//! VP8: the payload descriptor (RFC 7741 section 4.2) and the start of a key frame.
//!
//! In: an RTP payload. Out: [`Descriptor`], and [`rewrite`] for the two counters that a forwarder
//! must keep continuous when it drops layers or changes the source.

use super::PictureId;

/// The frame header: 3 bytes, and 7 more in a key frame (RFC 6386 section 9.1).
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

/// What the descriptor says, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Bytes of descriptor; the VP8 data starts here.
    pub len: usize,
    /// The packet starts a partition of the frame.
    pub starts_partition: bool,
    /// The partition the packet starts or continues, 0 to 15; the first one holds the header.
    pub partition: u8,
    /// No other frame refers to this one, so it can be dropped.
    pub non_reference: bool,
    /// Counts the frames.
    pub picture_id: Option<PictureId>,
    /// Counts the frames of temporal layer 0.
    pub tl0_picture_index: Option<u8>,
    /// The temporal layer, 0 to 3.
    pub temporal_id: Option<u8>,
    /// This frame refers to layer 0 only, so a receiver can join its layer here.
    pub layer_sync: bool,
    /// Counts the key frames, 0 to 31.
    pub key_index: Option<u8>,
    picture_id_at: usize,
    tl0_at: usize,
}

impl Descriptor {
    /// Reads a descriptor; `None` when it runs past the end or no data follows it.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Descriptor> {
        let first = *payload.first()?;
        let mut descriptor = Descriptor {
            len: 1,
            starts_partition: first & 0x10 != 0,
            partition: first & 0x0f,
            non_reference: first & 0x20 != 0,
            picture_id: None,
            tl0_picture_index: None,
            temporal_id: None,
            layer_sync: false,
            key_index: None,
            picture_id_at: 0,
            tl0_at: 0,
        };
        if first & 0x80 != 0 {
            descriptor.parse_extension(payload)?;
        }
        (descriptor.len < payload.len()).then_some(descriptor)
    }

    fn parse_extension(&mut self, payload: &[u8]) -> Option<()> {
        let flags = *payload.get(1)?;
        let (has_picture_id, has_tl0) = (flags & 0x80 != 0, flags & 0x40 != 0);
        let (has_layer, has_key_index) = (flags & 0x20 != 0, flags & 0x10 != 0);
        let mut at = 2;
        if has_picture_id {
            let id = PictureId::parse(payload.get(at..)?)?;
            self.picture_id = Some(id);
            self.picture_id_at = at;
            at += id.wire_len();
        }
        if has_tl0 {
            self.tl0_picture_index = Some(*payload.get(at)?);
            self.tl0_at = at;
            at += 1;
        }
        if has_layer || has_key_index {
            let byte = *payload.get(at)?;
            at += 1;
            if has_layer {
                self.temporal_id = Some(byte >> 6);
                self.layer_sync = byte & 0x20 != 0;
            }
            self.key_index = has_key_index.then_some(byte & 0x1f);
        }
        self.len = at;
        Some(())
    }

    /// Whether the packet is the first of a frame.
    #[must_use]
    pub fn starts_frame(&self) -> bool {
        self.starts_partition && self.partition == 0
    }

    /// Whether the packet is the first of a key frame (RFC 6386 section 9.1).
    #[must_use]
    pub fn starts_key_frame(&self, payload: &[u8]) -> bool {
        let first = payload.get(self.len);
        self.starts_frame() && first.is_some_and(|byte| byte & 1 == 0)
    }

    /// Width and height of the picture, if the packet starts a key frame and holds its header.
    #[must_use]
    pub fn dimensions(&self, payload: &[u8]) -> Option<(u16, u16)> {
        if !self.starts_key_frame(payload) {
            return None;
        }
        let header = payload.get(self.len..)?.first_chunk::<10>()?;
        // The top two bits of each ask for upscaling.
        let [_, _, _, start_code @ .., w0, w1, h0, h1] = *header;
        let side = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
        (start_code == START_CODE).then_some((side(w0, w1), side(h0, h1)))
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
        old.replace(payload, descriptor.picture_id_at, picture_id);
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
    fn a_bare_descriptor() {
        let descriptor = Descriptor::parse(&[0x10, 0x00, 1]).unwrap();
        assert_eq!(descriptor.len, 1);
        assert!(descriptor.starts_key_frame(&[0x10, 0x00, 1]));
        assert!(!descriptor.starts_key_frame(&[0x10, 0x01, 1]));
        assert_eq!(descriptor.picture_id, None);
    }

    #[test]
    fn a_full_descriptor() {
        let mut payload = vec![0xb0, 0xf0, 0x92, 0x34, 0x56, 0xa7];
        payload.extend([0x50, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 0x01]);
        let descriptor = Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.len, 6);
        assert!(descriptor.non_reference && descriptor.starts_frame());
        assert_eq!(descriptor.picture_id, Some(PictureId::Bits15(0x1234)));
        assert_eq!(descriptor.tl0_picture_index, Some(0x56));
        assert_eq!(descriptor.temporal_id, Some(2));
        assert!(descriptor.layer_sync);
        assert_eq!(descriptor.key_index, Some(7));
        assert_eq!(descriptor.dimensions(&payload), Some((640, 480)));
        payload[9] = 0;
        assert_eq!(descriptor.dimensions(&payload), None, "no start code");
    }

    #[test]
    fn later_partitions_and_packets_start_nothing() {
        for payload in [[0x00, 0], [0x11, 0], [0x01, 0]] {
            let descriptor = Descriptor::parse(&payload).unwrap();
            assert!(!descriptor.starts_frame() && !descriptor.starts_key_frame(&payload));
        }
    }

    #[test]
    fn every_cut_descriptor_is_refused() {
        let payload = [0x90, 0xf0, 0x92, 0x34, 0x56, 0xa7, 0];
        assert!(Descriptor::parse(&payload).is_some());
        for len in 0..payload.len() {
            assert_eq!(Descriptor::parse(&payload[..len]), None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn rewriting_changes_the_counters_and_nothing_else(
            before in prop::collection::vec(any::<u8>(), 0..20),
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
