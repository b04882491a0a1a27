//! AV1: the aggregation header (RTP Payload Format For AV1, section 4.4) and the size in the sequence
//! header.
//!
//! In: an RTP payload. Out: where frames and coded video sequences start. Which layer a packet is of
//! only the dependency descriptor says for all packets of a frame.

use super::bits::BitReader;

/// OBU types that a frame can start with (AV1 bitstream specification, section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const METADATA: u8 = 5;
const FRAME: u8 = 6;

/// Most bytes of a `leb128()` (AV1 bitstream specification, section 4.10.5).
const MAX_LEB128_LEN: usize = 8;

/// Highest level that has but one tier (AV1 bitstream specification, section 5.5.1).
const MAX_LEVEL_WITHOUT_TIER: u32 = 7;

/// What the aggregation header and the first OBU say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aggregation {
    /// The first OBU goes on from the packet before (Z).
    pub continues: bool,
    /// The packet is the first of a coded video sequence (N), so of a key frame.
    pub starts_sequence: bool,
    /// The packet begins with an OBU that a frame can start with.
    pub starts_frame: bool,
    /// Width and height in pixels, where a sequence header comes first.
    pub size: Option<(u16, u16)>,
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
            sized(rest)?
        };
        let &obu_header = element.first()?;
        if continues && starts_sequence {
            return None;
        }
        let obu_type = obu_header >> 3 & 0x0f;
        let starts_frame = matches!(
            obu_type,
            SEQUENCE_HEADER | TEMPORAL_DELIMITER | FRAME_HEADER | METADATA | FRAME
        );
        let has_size = !continues && obu_type == SEQUENCE_HEADER;
        Some(Aggregation {
            continues,
            starts_sequence,
            starts_frame: !continues && starts_frame,
            size: has_size.then(|| max_frame_size(element)).flatten(),
        })
    }
}

/// The bytes after a `leb128()` length, as many as it says.
fn sized(bytes: &[u8]) -> Option<&[u8]> {
    let mut len = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(MAX_LEB128_LEN) {
        len |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..)?.get(..usize::try_from(len).ok()?);
        }
    }
    None
}

/// The picture size in a sequence header OBU, header and all (AV1 bitstream specification, section
/// 5.5.1): the most that any of its layers has.
fn max_frame_size(obu: &[u8]) -> Option<(u16, u16)> {
    let (&header, mut rest) = obu.split_first()?;
    if header & 0x04 != 0 {
        rest = rest.get(1..)?;
    }
    if header & 0x02 != 0 {
        rest = sized(rest)?;
    }
    let reader = &mut BitReader::new(rest);
    let _profile_and_still_picture = reader.bits(4)?;
    let is_reduced = reader.flag()?;
    if is_reduced {
        let _level = reader.bits(5)?;
    } else {
        skip_operating_points(reader)?;
    }
    let width_bits = reader.bits(4)? + 1;
    let height_bits = reader.bits(4)? + 1;
    let side = |bits: u32| {
        bits.checked_add(1)
            .and_then(|side| u16::try_from(side).ok())
    };
    Some((
        side(reader.bits(width_bits)?)?,
        side(reader.bits(height_bits)?)?,
    ))
}

/// From `timing_info_present_flag` up to the size.
fn skip_operating_points(reader: &mut BitReader<'_>) -> Option<()> {
    let mut delay_bits = None;
    if reader.flag()? {
        let _display_tick = reader.bits(32)?;
        let _time_scale = reader.bits(32)?;
        if reader.flag()? {
            let _ticks_per_picture = reader.exp_golomb()?;
        }
        if reader.flag()? {
            delay_bits = Some(reader.bits(5)? + 1);
            let _decoding_tick = reader.bits(32)?;
            let _lengths = reader.bits(10)?;
        }
    }
    let has_display_delay = reader.flag()?;
    for _ in 0..=reader.bits(5)? {
        let _layers = reader.bits(12)?;
        if reader.bits(5)? > MAX_LEVEL_WITHOUT_TIER {
            let _tier = reader.flag()?;
        }
        if let Some(delay_bits) = delay_bits
            && reader.flag()?
        {
            let _decoder_delay = reader.bits(delay_bits)?;
            let _encoder_delay = reader.bits(delay_bits)?;
            let _is_low_delay = reader.flag()?;
        }
        if has_display_delay && reader.flag()? {
            let _display_delay = reader.bits(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_payloads() {
        // W=1, N=1: a sequence header alone.
        let found = Aggregation::parse(&[0x18, 0x0a, 0x0b]).unwrap();
        assert!(found.starts_sequence && found.starts_frame && !found.continues);
        assert_eq!(found.size, None, "cut short");
        // W=2: a frame header of 2 bytes, and more.
        let found = Aggregation::parse(&[0x20, 2, 0x1c, 0x30, 0x22]).unwrap();
        assert!(found.starts_frame && !found.starts_sequence);
        // W=0, Z=1: the middle of a frame, whose first byte is anything.
        let found = Aggregation::parse(&[0x80, 1, 0x34]).unwrap();
        assert!(found.continues && !found.starts_frame);
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
    fn the_sequence_header_tells_the_size() {
        // From libaom: 640x360, one operating point, no timing; 10 and 9 bits of size.
        let mut bits = String::from("000 0 0 0 0 00000 000000000000 00101 1001 1000");
        bits += &format!("{:010b} {:09b} 0000000", 639, 359);
        let bits: Vec<bool> = bits
            .chars()
            .filter(|c| *c != ' ')
            .map(|c| c == '1')
            .collect();
        let byte = |bits: &[bool]| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
        let bytes: Vec<u8> = bits.chunks_exact(8).map(byte).collect();
        let size = |head: &[u8]| Aggregation::parse(&[head, &bytes].concat()).unwrap().size;
        let len = bytes.len() as u8;
        assert_eq!(size(&[0x18, 0x08]), Some((640, 360)));
        assert_eq!(size(&[0x18, 0x0a, len]), Some((640, 360)), "with a length");
        assert_eq!(size(&[0x18, 0x0c, 0]), Some((640, 360)), "with layers");
        assert_eq!(size(&[0x18, 0x30]), None, "a frame");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(found) = Aggregation::parse(&payload) {
                prop_assert!(!(found.continues && found.starts_frame));
            }
        }
    }
}
