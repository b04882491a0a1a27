//! H.265: where pictures and key frames start, their temporal layers, and how large they are.
//!
//! In: an RTP payload (RFC 7798 section 4.4) of a single stream in the order of decoding, so that no
//! unit has a decoding order number before it. Out: [`NalUnits`], what is in it.

use super::bits::{BitReader, unescape};
use super::sps::cropped;

/// NAL unit types (ITU-T H.265 table 7-1, RFC 7798 section 4.4).
mod nal_type {
    use std::ops::RangeInclusive;

    pub(super) const TSA: RangeInclusive<u8> = 2..=3;
    pub(super) const STSA: RangeInclusive<u8> = 4..=5;
    /// Slices of pictures that a decoder can start at: BLA, IDR, CRA and what is reserved for such.
    pub(super) const IRAP: RangeInclusive<u8> = 16..=23;
    pub(super) const SLICE: RangeInclusive<u8> = 0..=31;
    pub(super) const VPS: u8 = 32;
    pub(super) const SPS: u8 = 33;
    pub(super) const PPS: u8 = 34;
    pub(super) const ACCESS_UNIT_DELIMITER: u8 = 35;
    pub(super) const PREFIX_SEI: u8 = 39;
    pub(super) const LAST: u8 = 47;
    pub(super) const AGGREGATION: u8 = 48;
    pub(super) const FRAGMENTATION: u8 = 49;
    pub(super) const PACI: u8 = 50;
}

/// Bytes of a parameter set that are looked at: what precedes the size takes some twenty, and of seven
/// temporal layers with levels of their own a hundred more.
const MAX_SPS_LEN: usize = 160;

/// What a payload holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NalUnits {
    /// Something that can only be at the start of a picture's packets: a parameter set, SEI, a
    /// delimiter or the first slice. Several packets of one picture may have such; the first with
    /// a new timestamp is the start.
    pub starts_access_unit: bool,
    /// A video or sequence parameter set, or the first packet of a picture that a decoder can start at.
    pub starts_key_frame: bool,
    /// The temporal layer, 0 to 6.
    pub temporal_id: u8,
    /// Bit `t` is set when a receiver of fewer temporal layers can go up to layer `t` here.
    pub opens_temporal: u8,
    /// Width and height in pixels, if a sequence parameter set says.
    pub size: Option<(u16, u16)>,
}

/// The header of a unit (ITU-T H.265 section 7.3.1.2).
#[derive(Clone, Copy)]
struct Header {
    unit: u8,
    temporal_id: u8,
}

impl Header {
    /// None where its temporal layer is none, which is forbidden.
    fn parse(bytes: [u8; 2]) -> Option<Self> {
        Some(Header {
            unit: bytes[0] >> 1 & 0x3f,
            temporal_id: (bytes[1] & 0x07).checked_sub(1)?,
        })
    }
}

impl NalUnits {
    /// Reads the headers of the units; `None` when a unit is cut short, runs past the end, or is of a
    /// type that RTP does not have.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<NalUnits> {
        let (bytes, rest) = payload.split_first_chunk()?;
        let header = Header::parse(*bytes)?;
        let mut found = NalUnits {
            temporal_id: header.temporal_id,
            ..NalUnits::default()
        };
        match header.unit {
            0..=nal_type::LAST => found.add(header, rest),
            nal_type::AGGREGATION => {
                let mut rest = rest;
                while !rest.is_empty() {
                    let (len, after) = rest.split_first_chunk()?;
                    let len = usize::from(u16::from_be_bytes(*len));
                    let (unit, after) = after.split_at_checked(len)?;
                    let (bytes, body) = unit.split_first_chunk()?;
                    found.add(Header::parse(*bytes)?, body);
                    rest = after;
                }
            }
            nal_type::FRAGMENTATION => {
                let (&fragment, rest) = rest.split_first()?;
                let unit = fragment & 0x3f;
                let is_first = fragment & 0x80 != 0;
                found.add(Header { unit, ..header }, if is_first { rest } else { &[] });
            }
            // Nothing is told of what is inside, but it is to be forwarded.
            nal_type::PACI => {}
            _ => return None,
        }
        Some(found)
    }

    /// `body` is what comes after the unit's header, nothing if the unit begins in another packet. A
    /// slice's begins with a bit that says whether it is the first of its picture.
    fn add(&mut self, header: Header, body: &[u8]) {
        let Header { unit, temporal_id } = header;
        let first_slice = body.first().is_some_and(|byte| byte & 0x80 != 0);
        let begins = !body.is_empty();
        self.starts_access_unit |= match unit {
            nal_type::VPS
            | nal_type::SPS
            | nal_type::PPS
            | nal_type::ACCESS_UNIT_DELIMITER
            | nal_type::PREFIX_SEI => begins,
            unit => nal_type::SLICE.contains(&unit) && first_slice,
        };
        self.starts_key_frame |= match unit {
            nal_type::VPS | nal_type::SPS => begins,
            unit => nal_type::IRAP.contains(&unit) && first_slice,
        };
        // ITU-T H.265 section 7.4.2.2: after a TSA picture nothing of its layer or a higher one refers
        // to what came before it, after an STSA picture nothing of its own layer does.
        self.opens_temporal |= match unit {
            unit if nal_type::TSA.contains(&unit) => u8::MAX << temporal_id,
            unit if nal_type::STSA.contains(&unit) => 1 << temporal_id,
            unit if nal_type::IRAP.contains(&unit) => u8::MAX,
            _ => 0,
        };
        if unit == nal_type::SPS {
            self.size = size(body).or(self.size);
        }
    }
}

/// Width and height in pixels that a sequence parameter set tells (ITU-T H.265 section 7.3.2.2.1);
/// `None` when it is cut short or contradicts itself.
fn size(sps: &[u8]) -> Option<(u16, u16)> {
    let mut plain = [0; MAX_SPS_LEN];
    let len = unescape(sps, &mut plain);
    let mut reader = BitReader::new(plain.get(..len)?);
    let _vps_id = reader.bits(4)?;
    let layers_above = reader.bits(3)?;
    let _is_nested = reader.flag()?;
    skip_profile_tier_level(&mut reader, layers_above)?;
    let _id = reader.exp_golomb()?;
    let chroma_format = reader.exp_golomb()?;
    if chroma_format == 3 {
        let _has_separate_planes = reader.flag()?;
    }
    let width = reader.exp_golomb()?;
    let height = reader.exp_golomb()?;
    cropped(&mut reader, (width, height), chroma_format, 1)
}

/// Section 7.3.3.
fn skip_profile_tier_level(reader: &mut BitReader<'_>, layers_above: u32) -> Option<()> {
    // Profile space, tier, profile, its compatibilities and constraints; then the level.
    const PROFILE: [u32; 3] = [32, 32, 24];
    const LEVEL: u32 = 8;
    let profile = |reader: &mut BitReader<'_>| {
        for bits in PROFILE {
            reader.bits(bits)?;
        }
        Some(())
    };
    profile(reader)?;
    reader.bits(LEVEL)?;
    if layers_above == 0 {
        return Some(());
    }
    // Which of the lower layers have profiles and levels of their own, of eight.
    let present = reader.bits(16)?;
    for layer in 0..layers_above {
        let is_set = |bit: u32| present >> (15 - 2 * layer - bit) & 1 != 0;
        if is_set(0) {
            profile(reader)?;
        }
        if is_set(1) {
            reader.bits(LEVEL)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::bits::BitWriter;
    use super::*;
    use proptest::prelude::*;

    // From libx265 3.5: main profile, 640×360, one temporal layer.
    const VPS: &[u8] = b"\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x3f\x92\x80\x90";
    const SPS: &[u8] = b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x3f\xa0\x05\x02\x01\x69\x65\x92\xa4\x93\x2b\xc0\x5a\x02\x00\x00\x03\x00\x02\x00\x00\x03\x00\x3c\x10";
    const PPS: &[u8] = b"\x44\x01\xc1\x72\xb4\x62\x40";
    const IDR: &[u8] = b"\x28\x01\xaf\x08\x4c\x2d\x27\x19";
    const CRA: &[u8] = b"\x2a\x01\xad\xe0\x58";
    const TRAIL: &[u8] = b"\x02\x01\xd0\x09\x7e\x10\xc6\x10";
    /// The second slice of a picture.
    const LATER_IDR: &[u8] = b"\x28\x01\x27\x87\x84\x08\x2a\x5a";
    /// Main 10, 1918×1078 cropped out of 1920×1080.
    const CROPPED_SPS: &[u8] = b"\x42\x01\x01\x02\x20\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x78\xa0\x03\xc0\x80\x10\xe7\x54\xd9\x65\x65\x92\x4c\xaf\x01\x68\x08\x00\x00\x03\x00\x08\x00\x00\x03\x00\xf0\x40";

    fn aggregate(units: &[&[u8]]) -> Vec<u8> {
        let mut payload = vec![0x60, 0x01];
        for unit in units {
            payload.extend((unit.len() as u16).to_be_bytes());
            payload.extend_from_slice(unit);
        }
        payload
    }

    /// The `n`-th part of a unit of a type, in a temporal layer.
    fn fragment(unit: u8, temporal_id: u8, is_first: bool) -> [u8; 5] {
        [
            0x62,
            temporal_id + 1,
            u8::from(is_first) << 7 | unit,
            0xaf,
            0,
        ]
    }

    #[test]
    fn what_an_encoder_writes() {
        let starts = |payload: &[u8]| {
            let units = NalUnits::parse(payload);
            units.map(|units| (units.starts_access_unit, units.starts_key_frame))
        };
        type Row<'a> = (&'a str, &'a [u8], Option<(bool, bool)>);
        let table: [Row<'_>; 17] = [
            ("VPS", VPS, Some((true, true))),
            ("SPS", SPS, Some((true, true))),
            ("PPS", PPS, Some((true, false))),
            ("IDR", IDR, Some((true, true))),
            ("later IDR slice", LATER_IDR, Some((false, false))),
            ("CRA", CRA, Some((true, true))),
            ("BLA", &[0x20, 0x01, 0x80], Some((true, true))),
            ("picture", TRAIL, Some((true, false))),
            ("delimiter", &[0x46, 0x01, 0x50], Some((true, false))),
            ("suffix SEI", &[0x50, 0x01, 0x84], Some((false, false))),
            (
                "parameter sets and picture",
                &aggregate(&[VPS, SPS, PPS, IDR]),
                Some((true, true)),
            ),
            (
                "two slices",
                &aggregate(&[LATER_IDR, LATER_IDR]),
                Some((false, false)),
            ),
            (
                "first part of an IDR",
                &fragment(19, 0, true),
                Some((true, true)),
            ),
            (
                "later part of an IDR",
                &fragment(19, 0, false),
                Some((false, false)),
            ),
            (
                "later part of a parameter set",
                &fragment(33, 0, false),
                Some((false, false)),
            ),
            (
                "first part of a picture",
                &fragment(1, 0, true),
                Some((true, false)),
            ),
            ("PACI", &[0x64, 0x01, 0x26, 0x00], Some((false, false))),
        ];
        for (name, payload, wanted) in table {
            assert_eq!(starts(payload), wanted, "{name}");
        }
        let bad: [(&str, &[u8]); 8] = [
            ("empty", &[]),
            ("half a header", &[0x40]),
            ("no temporal layer", &[0x02, 0x00, 0xd0]),
            ("a type of nothing", &[0x7e, 0x01, 0x00]),
            ("aggregate cut", &[0x60, 0x01, 0, 9, 0x40, 0x01]),
            ("aggregate with half a header", &[0x60, 0x01, 0, 1, 0x40]),
            ("aggregate with an empty unit", &[0x60, 0x01, 0, 0]),
            ("fragment cut", &[0x62, 0x01]),
        ];
        for (name, payload) in bad {
            assert_eq!(starts(payload), None, "{name}");
        }
    }

    #[test]
    fn temporal_layers_and_where_to_go_up() {
        let layers = |payload: &[u8]| {
            let units = NalUnits::parse(payload);
            units.map(|units| (units.temporal_id, units.opens_temporal))
        };
        let table: [(&str, &[u8], (u8, u8)); 7] = [
            ("picture of the lowest layer", TRAIL, (0, 0)),
            ("picture of layer 2", &[0x02, 0x03, 0x80], (2, 0)),
            ("TSA of layer 1", &[0x06, 0x02, 0x80], (1, 0xfe)),
            ("STSA of layer 2", &[0x08, 0x03, 0x80], (2, 0b100)),
            (
                "part of a TSA of layer 1",
                &fragment(2, 1, false),
                (1, 0xfe),
            ),
            ("IDR", IDR, (0, 0xff)),
            ("parameter set", SPS, (0, 0)),
        ];
        for (name, payload, wanted) in table {
            assert_eq!(layers(payload), Some(wanted), "{name}");
        }
        let mut of_layer_1 = aggregate(&[&[0x06, 0x02, 0x80]]);
        of_layer_1[1] = 0x02;
        assert_eq!(layers(&of_layer_1), Some((1, 0xfe)));
    }

    #[test]
    fn parameter_sets_tell_the_size() {
        let size = |payload: &[u8]| NalUnits::parse(payload).and_then(|units| units.size);
        assert_eq!(size(SPS), Some((640, 360)));
        assert_eq!(size(CROPPED_SPS), Some((1918, 1078)));
        assert_eq!(size(&aggregate(&[VPS, SPS, PPS, IDR])), Some((640, 360)));
        assert_eq!(
            size(&[&[0x62, 0x01, 0x80 | 33], &SPS[2..]].concat()),
            Some((640, 360))
        );
        assert_eq!(size(IDR), None);
        for len in 2..22 {
            assert_eq!(size(&SPS[..len]), None, "{len}");
        }
    }

    #[test]
    fn lower_layers_may_have_profiles_and_levels_of_their_own() {
        let sps = |sides: (u32, u32), crop: Option<[u32; 4]>| {
            let header = BitWriter::default().put(0, 4).put(2, 3).put(1, 1);
            let general = header.put(0x0160_0000, 32).put(0, 32).put(0, 24).put(93, 8);
            // The first has both, the second a level.
            let present = general.put(0b1101, 4).put(0, 12);
            let own = present
                .put(0, 32)
                .put(0, 32)
                .put(0, 24)
                .put(60, 8)
                .put(90, 8);
            let sides = own
                .exp_golomb(0)
                .exp_golomb(1)
                .exp_golomb(sides.0)
                .exp_golomb(sides.1);
            let bits = sides.put(u32::from(crop.is_some()), 1);
            let crop = crop.into_iter().flatten();
            crop.fold(bits, BitWriter::exp_golomb).put(1, 1).bytes()
        };
        assert_eq!(size(&sps((1280, 720), None)), Some((1280, 720)));
        assert_eq!(
            size(&sps((1920, 1088), Some([0, 0, 0, 4]))),
            Some((1920, 1080))
        );
        assert_eq!(size(&sps((16, 16), Some([8, 0, 0, 0]))), None);
        assert_eq!(size(&sps((70_000, 16), None)), None, "too wide");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(units) = NalUnits::parse(&payload) {
                prop_assert!(units.starts_access_unit || !units.starts_key_frame);
                prop_assert!(units.temporal_id < 7);
                prop_assert!(units.size.is_none_or(|(width, height)| width > 0 && height > 0));
            }
        }

        #[test]
        fn no_parameter_set_panics(sps in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = size(&sps);
        }
    }
}
