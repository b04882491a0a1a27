//! AV1: the aggregation header and the head of the dependency descriptor
//! (RTP Payload Format For AV1, sections 4.4 and appendix A).
//!
//! In: an RTP payload, or the bytes of the header extension. Out: where frames and coded video
//! sequences start.

/// OBU types that a frame can start with (AV1 bitstream specification, section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const METADATA: u8 = 5;
const FRAME: u8 = 6;

/// Most bytes of a `leb128()` (AV1 bitstream specification, section 4.10.5).
const MAX_LEB128_LEN: usize = 8;

/// What the aggregation header and the first OBU say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aggregation {
    /// The first OBU goes on from the packet before (Z).
    pub continues: bool,
    /// The packet is the first of a coded video sequence (N), so of a key frame.
    pub starts_sequence: bool,
    /// The packet begins with an OBU that a frame can start with.
    pub starts_frame: bool,
    /// The layers of the first OBU, if it says: temporal and spatial.
    pub layers: Option<(u8, u8)>,
}

impl Aggregation {
    /// Reads them; `None` when the payload is cut short or contradicts itself.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Aggregation> {
        let (&header, rest) = payload.split_first()?;
        let (continues, starts_sequence) = (header & 0x80 != 0, header & 0x08 != 0);
        // With a count of 1 the only element has no length before it.
        let element = if header >> 4 & 3 == 1 {
            rest
        } else {
            first_element(rest)?
        };
        let &obu_header = element.first()?;
        if continues && starts_sequence {
            return None;
        }
        let starts_frame = matches!(
            obu_header >> 3 & 0x0f,
            SEQUENCE_HEADER | TEMPORAL_DELIMITER | FRAME_HEADER | METADATA | FRAME
        );
        let has_layers = !continues && obu_header & 0x04 != 0;
        let layers = if has_layers { element.get(1) } else { None };
        Some(Aggregation {
            continues,
            starts_sequence,
            starts_frame: !continues && starts_frame,
            layers: layers.map(|&byte| (byte >> 5, byte >> 3 & 3)),
        })
    }
}

/// The bytes after a `leb128()` length, as many as it says.
fn first_element(bytes: &[u8]) -> Option<&[u8]> {
    let mut len = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(MAX_LEB128_LEN) {
        len |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes[at + 1..].get(..usize::try_from(len).ok()?);
        }
    }
    None
}

/// The part of a dependency descriptor that needs no state, used with every codec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DependencyDescriptor {
    /// The packet is the first of its frame.
    pub start_of_frame: bool,
    /// The packet is the last of its frame.
    pub end_of_frame: bool,
    /// Which template describes the frame, 0 to 63.
    pub template_id: u8,
    /// Counts the frames.
    pub frame_number: u16,
    /// The templates themselves follow, as with every key frame.
    pub has_structure: bool,
}

impl DependencyDescriptor {
    /// Reads it; `None` when there are fewer than 3 bytes.
    #[must_use]
    pub fn parse(descriptor: &[u8]) -> Option<DependencyDescriptor> {
        let (&[first, f0, f1], extended) = descriptor.split_first_chunk()?;
        Some(DependencyDescriptor {
            start_of_frame: first & 0x80 != 0,
            end_of_frame: first & 0x40 != 0,
            template_id: first & 0x3f,
            frame_number: u16::from_be_bytes([f0, f1]),
            has_structure: extended.first().is_some_and(|byte| byte & 0x80 != 0),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_payloads() {
        // W=1, N=1: a sequence header alone.
        let found = Aggregation::parse(&[0x18, 0x0a, 0x0b]).unwrap();
        assert!(found.starts_sequence && found.starts_frame && !found.continues);
        assert_eq!(found.layers, None);
        // W=2: a frame header of 2 bytes with temporal layer 1 and spatial layer 2, and more.
        let found = Aggregation::parse(&[0x20, 2, 0x1c, 0x30, 0x22]).unwrap();
        assert!(found.starts_frame && !found.starts_sequence);
        assert_eq!(found.layers, Some((1, 2)));
        // W=0, Z=1: the middle of a frame, whose first byte is anything.
        let found = Aggregation::parse(&[0x80, 1, 0x34]).unwrap();
        assert!(found.continues && !found.starts_frame && found.layers.is_none());
        // A tile group starts no frame.
        let found = Aggregation::parse(&[0x10, 0x20]).unwrap();
        assert!(!found.starts_frame && !found.continues);
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let table: [&[u8]; 7] = [
            &[],
            &[0x18],
            &[0x20],
            &[0x20, 3, 1, 2],
            &[0x20, 0],
            &[0x98, 0x0a], // Z and N
            &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0],
        ];
        for payload in table {
            assert_eq!(Aggregation::parse(payload), None, "{payload:?}");
        }
    }

    #[test]
    fn dependency_descriptors() {
        let found = DependencyDescriptor::parse(&[0xc5, 0x12, 0x34, 0x80]).unwrap();
        assert!(found.start_of_frame && found.end_of_frame && found.has_structure);
        assert_eq!((found.template_id, found.frame_number), (5, 0x1234));
        let found = DependencyDescriptor::parse(&[0x05, 0, 1]).unwrap();
        assert!(!found.start_of_frame && !found.end_of_frame && !found.has_structure);
        let found = DependencyDescriptor::parse(&[0x05, 0, 1, 0x7f]).unwrap();
        assert!(!found.has_structure);
        assert_eq!(DependencyDescriptor::parse(&[0xc5, 0x12]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = DependencyDescriptor::parse(&payload);
            if let Some(found) = Aggregation::parse(&payload) {
                prop_assert!(!(found.continues && found.starts_frame));
            }
        }
    }
}
