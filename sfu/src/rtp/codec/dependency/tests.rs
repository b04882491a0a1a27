//! Descriptors of the structures in section A.6 of the specification and of libwebrtc's encoders.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use super::super::bits::BitWriter;
use super::*;
use proptest::prelude::*;

/// A structure as the specification's tables print them.
pub(crate) struct Table {
    /// Spatial layer, temporal layer, indications as letters, frame differences.
    templates: &'static [(u8, u8, &'static str, &'static [u32])],
    chains: u32,
    size: &'static [(u32, u32)],
}

/// Section A.6.1, the first target with all layers.
pub(crate) const L1T3: Table = Table {
    templates: &[
        (0, 0, "SSS", &[]),
        (0, 0, "SSS", &[4]),
        (0, 1, "SD-", &[2]),
        (0, 2, "D--", &[1]),
        (0, 2, "D--", &[3, 1]),
    ],
    chains: 1,
    size: &[],
};

/// Section A.6.3 with fewer templates.
pub(crate) const L3T3: Table = Table {
    templates: &[
        (0, 0, "SSSSSSSSS", &[]),
        (0, 0, "RRRRRRSSS", &[12]),
        (0, 1, "RR-RR-SD-", &[6]),
        (0, 2, "R--R--D--", &[3]),
        (1, 0, "SSSSSS---", &[1]),
        (1, 0, "RRRSSS---", &[12, 1]),
        (1, 1, "RR-SD----", &[6, 1]),
        (1, 2, "R--D-----", &[3, 1]),
        (2, 0, "SSS------", &[1]),
        (2, 0, "SSS------", &[12, 1]),
        (2, 1, "SD-------", &[6, 1]),
        (2, 2, "D--------", &[3, 1]),
    ],
    chains: 3,
    size: &[(320, 180), (640, 360), (1280, 720)],
};

/// Layers depend on each other in key frames only.
pub(crate) const L3T3_KEY: Table = Table {
    templates: &[
        (0, 0, "SSSSSSSSS", &[]),
        (0, 0, "------SSS", &[12]),
        (0, 1, "------SD-", &[6]),
        (0, 2, "------D--", &[3]),
        (1, 0, "SSSSSS---", &[1]),
        (1, 0, "---SSS---", &[12]),
        (1, 1, "---SD----", &[6]),
        (1, 2, "---D-----", &[3]),
        (2, 0, "SSS------", &[1]),
        (2, 0, "SSS------", &[12]),
        (2, 1, "SD-------", &[6]),
        (2, 2, "D--------", &[3]),
    ],
    chains: 3,
    size: &[(320, 180), (640, 360), (1280, 720)],
};

impl Table {
    fn structure(&self, mut bits: BitWriter, offset: u32) -> BitWriter {
        let targets = self.templates[0].2.len() as u32;
        bits = bits.put(offset, 6).put(targets - 1, 5);
        for pair in self.templates.windows(2) {
            let next = match (pair[0], pair[1]) {
                ((s, t, ..), (s2, t2, ..)) if (s, t) == (s2, t2) => 0,
                ((s, ..), (s2, ..)) if s == s2 => 1,
                _ => 2,
            };
            bits = bits.put(next, 2);
        }
        bits = bits.put(3, 2);
        for (.., indications, _) in self.templates {
            for letter in indications.bytes() {
                bits = bits.put("-DSR".bytes().position(|l| l == letter).unwrap() as u32, 2);
            }
        }
        for (.., differences) in self.templates {
            for difference in *differences {
                bits = bits.put(1, 1).put(difference - 1, 4);
            }
            bits = bits.put(0, 1);
        }
        bits = bits.below(self.chains, targets + 1);
        for _ in 0..targets {
            bits = bits.below(0, self.chains + 1);
        }
        for _ in 0..self.templates.len() as u32 * self.chains {
            bits = bits.put(1, 4);
        }
        bits = bits.put(u32::from(!self.size.is_empty()), 1);
        for (width, height) in self.size {
            bits = bits.put(width - 1, 16).put(height - 1, 16);
        }
        bits
    }

    /// The descriptor of a packet that is the whole key frame of the lowest spatial layer.
    pub(crate) fn key_frame(&self) -> Vec<u8> {
        self.key_frame_from(0)
    }

    /// The same with other template ids.
    fn key_frame_from(&self, offset: u32) -> Vec<u8> {
        let head = BitWriter::default().put(0b11, 2).put(offset, 6).put(1, 16);
        self.structure(head.put(0b10000, 5), offset).bytes()
    }
}

/// What is said of a packet that goes by a template, of the first key frame's structure.
fn place(table: &Table, template: u8) -> Place {
    let mut dependencies = Dependencies::default();
    dependencies.read(SequenceNumber(1), &table.key_frame());
    let frame = dependencies.read(SequenceNumber(2), &[template, 0, 2]);
    frame.unwrap().place.unwrap()
}

#[test]
fn the_head_needs_no_structure() {
    let read = |bytes: &[u8]| Dependencies::default().read(SequenceNumber(1), bytes);
    let found = read(&[0xc5, 0x12, 0x34, 0x80]).unwrap();
    assert!(found.starts && found.ends && found.has_structure);
    assert_eq!((found.number, found.place), (0x1234, None), "cut short");
    let found = read(&[0x05, 0, 1]).unwrap();
    assert!(!found.starts && !found.ends && !found.has_structure);
    assert!(!read(&[0x05, 0, 1, 0x7f]).unwrap().has_structure);
    assert_eq!(read(&[0xc5, 0x12]), None);
}

#[test]
fn templates_tell_the_layers_and_where_to_go_up() {
    let story = [
        // (structure, template, layers, opens temporal layers, is independent)
        (&L1T3, 0, (0, 0), 0b111, true),
        (&L1T3, 1, (0, 0), 0b111, false),
        (&L1T3, 2, (0, 1), 0b100, false),
        (&L1T3, 3, (0, 2), 0b000, false),
        (&L3T3, 0, (0, 0), 0b111, true),
        (&L3T3, 1, (0, 0), 0b111, false),
        (&L3T3, 4, (1, 0), 0b111, true),
        (&L3T3, 5, (1, 0), 0b111, false),
        (&L3T3, 8, (2, 0), 0b111, true),
        (&L3T3, 10, (2, 1), 0b100, false),
        (&L3T3_KEY, 4, (1, 0), 0b111, true),
        (&L3T3_KEY, 5, (1, 0), 0b111, false),
        (&L3T3_KEY, 9, (2, 0), 0b111, false),
    ];
    for (table, template, layers, opens_temporal, is_independent) in story {
        let place = place(table, template);
        let size = (!table.size.is_empty()).then_some((1280, 720));
        let expected = Place {
            spatial_id: layers.0,
            temporal_id: layers.1,
            opens_temporal,
            is_independent,
            size,
        };
        assert_eq!(place, expected, "template {template}");
    }
}

#[test]
fn a_frame_may_differ_from_its_template() {
    let mut dependencies = Dependencies::default();
    dependencies.read(SequenceNumber(1), &L1T3.key_frame());
    let mut read = |bits: BitWriter| {
        // A frame of temporal layer 1, whose flags and fields follow.
        let bytes = [vec![2, 0, 2], bits.bytes()].concat();
        let frame = dependencies.read(SequenceNumber(2), &bytes).unwrap();
        frame.place.map(|p| (p.opens_temporal, p.is_independent))
    };
    let head = |flags| BitWriter::default().put(flags, 5);
    // Active targets, then own indications: S for two targets.
    let own = head(0b01100).put(0b111, 3).put(0b101000, 6);
    assert_eq!(read(own), Some((0b110, false)));
    // Own differences: none at all; one of 300.
    let none = head(0b00110).put(0b101010, 6).put(0, 2);
    assert_eq!(read(none), Some((0b111, true)));
    let one = head(0b00110)
        .put(0b101010, 6)
        .put(3, 2)
        .put(299, 12)
        .put(0, 2);
    assert_eq!(read(one), Some((0b111, false)));
    assert_eq!(read(head(0b00100)), None, "cut short");
}

#[test]
fn a_late_key_frame_does_not_bring_back_its_structure() {
    let mut dependencies = Dependencies::default();
    let mut layers = |sequence, bytes: &[u8]| {
        let frame = dependencies.read(SequenceNumber(sequence), bytes);
        let place = frame.unwrap().place;
        place.map(|p| (p.spatial_id, p.temporal_id))
    };
    assert_eq!(layers(10, &[2, 0, 0]), None, "no structure yet");
    assert_eq!(layers(20, &L3T3.key_frame_from(60)), Some((0, 0)));
    assert_eq!(layers(21, &[(60 + 9) % 64, 0, 0]), Some((2, 0)), "ids wrap");
    assert_eq!(layers(22, &[8, 0, 0]), None, "no such template");
    assert_eq!(layers(15, &L1T3.key_frame()), Some((0, 0)), "its own");
    assert_eq!(layers(23, &[(60 + 9) % 64, 0, 0]), Some((2, 0)));
    assert_eq!(layers(30, &L1T3.key_frame()), Some((0, 0)));
    assert_eq!(layers(31, &[2, 0, 0]), Some((0, 1)));
}

#[test]
fn a_structure_that_is_cut_short_is_none() {
    let whole = L3T3.key_frame();
    for len in 3..whole.len() {
        let mut dependencies = Dependencies::default();
        let frame = dependencies.read(SequenceNumber(1), &whole[..len]).unwrap();
        assert_eq!(frame.place, None, "{len}");
        assert!(dependencies.structure.is_none());
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(
        descriptors in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..255), 0..4),
        begins_well: bool,
    ) {
        let mut dependencies = Dependencies::default();
        if begins_well {
            dependencies.read(SequenceNumber(0), &L3T3.key_frame());
        }
        for (descriptor, sequence) in descriptors.iter().zip(1..) {
            let frame = dependencies.read(SequenceNumber(sequence), descriptor);
            if let Some(place) = frame.and_then(|frame| frame.place) {
                prop_assert!(place.spatial_id <= MAX_SPATIAL_ID);
                prop_assert!(place.temporal_id <= MAX_TEMPORAL_ID);
            }
        }
    }
}
