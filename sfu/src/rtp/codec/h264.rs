//! H.264: where pictures and key frames start, by the NAL unit types (RFC 6184 section 5), and how
//! large they are.
//!
//! In: an RTP payload in packetization mode 0 or 1. Out: [`NalUnits`], what is in it.

use super::sps;

/// NAL unit types (ITU-T H.264 table 7-1, RFC 6184 table 3).
mod nal_type {
    pub(super) const SLICE: u8 = 1;
    pub(super) const IDR_SLICE: u8 = 5;
    pub(super) const SEI: u8 = 6;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
    pub(super) const ACCESS_UNIT_DELIMITER: u8 = 9;
    pub(super) const STAP_A: u8 = 24;
    pub(super) const FU_A: u8 = 28;
}

/// What a payload holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NalUnits {
    /// Something that can only be at the start of a picture's packets: a parameter set, SEI, a
    /// delimiter or the first slice. Several packets of one picture may have such; the first with
    /// a new timestamp is the start.
    pub starts_access_unit: bool,
    /// A sequence parameter set or the first packet of an IDR slice.
    pub starts_key_frame: bool,
    /// Width and height in pixels, if a sequence parameter set says.
    pub size: Option<(u16, u16)>,
}

impl NalUnits {
    /// Reads the unit types; `None` when a unit is empty, runs past the end, or is of a type that
    /// modes 0 and 1 do not have.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<NalUnits> {
        let (&header, rest) = payload.split_first()?;
        let mut found = NalUnits::default();
        match header & 0x1f {
            1..=23 => found.add(header, rest),
            nal_type::STAP_A => {
                let mut rest = rest;
                while !rest.is_empty() {
                    let (len, after) = rest.split_first_chunk()?;
                    let len = usize::from(u16::from_be_bytes(*len));
                    let (unit, after) = after.split_at_checked(len)?;
                    let (&header, body) = unit.split_first()?;
                    found.add(header, body);
                    rest = after;
                }
            }
            nal_type::FU_A => {
                let (&fragment, rest) = rest.split_first()?;
                if fragment & 0x80 != 0 {
                    found.add(fragment, rest);
                }
            }
            _ => return None,
        }
        Some(found)
    }

    /// `body` is what comes after the unit's header. A slice's begins with the number of its first
    /// macroblock, and 0 is coded as a single 1 bit.
    fn add(&mut self, header: u8, body: &[u8]) {
        let first_slice = body.first().is_some_and(|byte| byte & 0x80 != 0);
        let unit = header & 0x1f;
        self.starts_access_unit |= match unit {
            nal_type::SLICE | nal_type::IDR_SLICE => first_slice,
            nal_type::SEI | nal_type::SPS | nal_type::PPS | nal_type::ACCESS_UNIT_DELIMITER => true,
            _ => false,
        };
        self.starts_key_frame |=
            unit == nal_type::SPS || unit == nal_type::IDR_SLICE && first_slice;
        if unit == nal_type::SPS {
            self.size = sps::size(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether it starts an access unit, and whether a key frame.
    type Starts = (bool, bool);

    fn parse(payload: &[u8]) -> Option<Starts> {
        NalUnits::parse(payload).map(|units| (units.starts_access_unit, units.starts_key_frame))
    }

    #[test]
    fn known_payloads() {
        let table: [(&str, &[u8], Option<Starts>); 16] = [
            ("first slice", &[0x61, 0x9a], Some((true, false))),
            ("later slice", &[0x61, 0x1a], Some((false, false))),
            ("IDR", &[0x65, 0x88], Some((true, true))),
            ("later IDR slice", &[0x65, 0x08], Some((false, false))),
            ("SPS", &[0x67, 0x42], Some((true, true))),
            ("PPS", &[0x68, 0xce], Some((true, false))),
            (
                "SPS and PPS",
                &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68],
                Some((true, true)),
            ),
            (
                "SEI and slice",
                &[0x78, 0, 1, 0x06, 0, 2, 0x61, 0x9a],
                Some((true, false)),
            ),
            ("FU-A, IDR, first", &[0x7c, 0x85, 0x88], Some((true, true))),
            (
                "FU-A, IDR, middle",
                &[0x7c, 0x05, 0x88],
                Some((false, false)),
            ),
            (
                "FU-A, slice, last",
                &[0x7c, 0x41, 0x88],
                Some((false, false)),
            ),
            ("empty", &[], None),
            ("FU-A cut", &[0x7c], None),
            ("STAP-A cut", &[0x78, 0, 3, 0x67, 0x42], None),
            ("STAP-A with an empty unit", &[0x78, 0, 0], None),
            ("FU-B", &[0x7d, 0x85, 0, 0], None),
        ];
        for (name, payload, wanted) in table {
            assert_eq!(parse(payload), wanted, "{name}");
        }
    }

    #[test]
    fn a_parameter_set_tells_the_size_alone_and_among_others() {
        let sps = [
            0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x28, 0x02, 0xdd, 0x80,
        ];
        let size = |payload: &[u8]| NalUnits::parse(payload).and_then(|units| units.size);
        assert_eq!(size(&sps), Some((1280, 720)));
        let aggregate = [&[0x78, 0, 11], &sps[..], &[0, 2, 0x68, 0xce]].concat();
        assert_eq!(size(&aggregate), Some((1280, 720)));
        assert_eq!(size(&[0x65, 0x88]), None);
    }

    proptest! {
        #[test]
        fn a_key_frame_starts_an_access_unit(payload in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(units) = NalUnits::parse(&payload) {
                prop_assert!(units.starts_access_unit || !units.starts_key_frame);
            }
        }
    }
}
