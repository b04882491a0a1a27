//! Both schemes: what is protected comes back, and no bytes do harm.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use super::*;
use proptest::prelude::*;

const SSRC: Ssrc = Ssrc(0x1234_5678);

/// Bytes of a packet with any header a sender can make: marker, padding flag, extension, sources.
pub(crate) fn packet(sequence: u16, fill: &[u8], timestamp: u32, kind: u8, flags: u8) -> Vec<u8> {
    let mut packet = vec![VERSION | flags & FLAGS, kind];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(SSRC.0.to_be_bytes());
    packet.extend(fill);
    packet
}

#[derive(Clone, Copy, Debug)]
enum Scheme {
    Ulpfec,
    Flexfec,
}

impl Scheme {
    fn write(self, base: u16, mask: Mask, parity: &Parity) -> Vec<u8> {
        let mut buffer = [0xaa; 2 * MAX_PACKET];
        let len = match self {
            Scheme::Ulpfec => ulpfec::write(&mut buffer, base, mask, parity),
            Scheme::Flexfec => flexfec::write(&mut buffer, SSRC, base, mask, parity),
        };
        buffer[..len.unwrap()].to_vec()
    }

    fn parse(self, payload: &[u8]) -> Result<Repair<'_>, MalformedRepair> {
        match self {
            Scheme::Ulpfec => ulpfec::parse(payload),
            Scheme::Flexfec => flexfec::parse(payload),
        }
    }

    fn max_span(self) -> usize {
        match self {
            Scheme::Ulpfec => ulpfec::MAX_SPAN,
            Scheme::Flexfec => flexfec::MAX_SPAN,
        }
    }
}

fn scheme() -> impl Strategy<Value = Scheme> {
    prop_oneof![Just(Scheme::Ulpfec), Just(Scheme::Flexfec)]
}

prop_compose! {
    fn packets()(
        base: u16,
        distances in prop::collection::btree_set(0..MAX_PROTECTED, 1..20),
        contents in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..90), any::<u32>(), any::<u8>(), any::<u8>()), 20),
    ) -> (u16, Vec<(usize, Vec<u8>)>) {
        let made = distances.into_iter().zip(contents).map(|(distance, (fill, timestamp, kind, flags))| {
            let sequence = base.wrapping_add(distance as u16);
            (distance, packet(sequence, &fill, timestamp, kind, flags))
        });
        (base, made.collect())
    }
}

proptest! {
    /// Whichever packet is missing, all its bytes come back.
    #[test]
    fn the_missing_packet_is_recovered(scheme in scheme(), (base, packets) in packets(), pick: prop::sample::Index) {
        let packets: Vec<_> = packets.into_iter().filter(|p| p.0 < scheme.max_span()).collect();
        prop_assume!(!packets.is_empty());
        let (mut mask, mut parity) = (Mask::default(), Parity::default());
        for (distance, packet) in &packets {
            prop_assert!(mask.insert(*distance) && parity.add(packet));
        }
        let sent = scheme.write(base, mask, &parity);
        let repair = scheme.parse(&sent).unwrap();
        prop_assert_eq!((repair.base, repair.mask), (base, mask));
        prop_assert!(repair.ssrc.is_none_or(|ssrc| ssrc == SSRC));

        let missing = pick.index(packets.len());
        let mut parity = Parity::default();
        parity.start(repair.header, repair.body);
        for (_, packet) in packets.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, p)| p) {
            parity.add(packet);
        }
        let mut recovered = Vec::new();
        let sequence = base.wrapping_add(packets[missing].0 as u16);
        prop_assert!(parity.recover(sequence, SSRC, &mut recovered));
        prop_assert_eq!(&recovered, &packets[missing].1);
    }

    #[test]
    fn no_bytes_panic(
        scheme in scheme(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
        others in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..4),
    ) {
        if let Ok(repair) = scheme.parse(&payload) {
            prop_assert!(repair.mask.count() > 0 && repair.mask.span() <= scheme.max_span());
            let mut parity = Parity::default();
            parity.start(repair.header, repair.body);
            for packet in &others {
                parity.add(packet);
            }
            let mut recovered = Vec::new();
            if parity.recover(1, SSRC, &mut recovered) {
                prop_assert!(recovered.len() <= FIXED_HEADER_LEN + parity.body().len());
            }
        }
    }

    #[test]
    fn a_packet_in_two_parts_is_the_same_packet(fill in prop::collection::vec(any::<u8>(), 0..99), at: prop::sample::Index) {
        let packet = packet(1, &fill, 2, 3, 4);
        let at = FIXED_HEADER_LEN + at.index(fill.len() + 1);
        let (mut whole, mut parts) = (Parity::default(), Parity::default());
        prop_assert!(whole.add(&packet) && parts.add_parts(&packet[..at], &packet[at..]));
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn a_mask_is_a_set(distances in prop::collection::btree_set(0..MAX_PROTECTED, 0..40)) {
        let mut mask = Mask::default();
        distances.iter().for_each(|&d| assert!(mask.insert(d)));
        prop_assert_eq!(mask.iter().collect::<Vec<_>>(), distances.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(mask.count(), distances.len());
        prop_assert_eq!(mask.span(), distances.last().map_or(0, |last| last + 1));
        distances.iter().for_each(|&d| assert!(mask.remove(d) && !mask.remove(d)));
        prop_assert_eq!(mask, Mask::default());
    }
}

#[test]
fn the_headers_are_those_of_the_documents() {
    let mut parity = Parity::default();
    assert!(parity.add(&packet(0x0102, &[0xee, 0xff], 0x0506_0708, 0x80 | 96, 0x10)));
    let mut mask = Mask::default();
    mask.insert(0);
    mask.insert(15);
    let ulpfec = [
        0x10,
        0xe0,
        0x01,
        0x02,
        5,
        6,
        7,
        8,
        0,
        2,
        0,
        2,
        0b1000_0000,
        0b0000_0001,
        0xee,
        0xff,
    ];
    assert_eq!(Scheme::Ulpfec.write(0x0102, mask, &parity), ulpfec);
    // Bit 15 is the first of the second group, after its k.
    let flexfec = [
        0x10, 0xe0, 0, 2, 5, 6, 7, 8, 1, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x01, 0x02, 0x40, 0,
        0xc0, 0, 0, 0, 0xee, 0xff,
    ];
    assert_eq!(Scheme::Flexfec.write(0x0102, mask, &parity), flexfec);
    mask.insert(16);
    let long = Scheme::Ulpfec.write(0x0102, mask, &parity);
    assert_eq!((long[0], long.len()), (0x50, 12 + 6 + 2));
}

#[test]
fn lies_are_refused() {
    let mut parity = Parity::default();
    parity.add(&packet(7, &[1; 20], 0, 96, 0));
    let mut mask = Mask::default();
    mask.insert(0);
    for scheme in [Scheme::Ulpfec, Scheme::Flexfec] {
        let good = scheme.write(7, mask, &parity);
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            scheme.parse(&bytes).map(|_| ())
        };
        assert_eq!(changed(0, 0), Ok(()));
        assert_eq!(changed(0, 0x80), Err(MalformedRepair::Unsupported));
        assert_eq!(
            scheme.parse(&good[..17]).err(),
            Some(MalformedRepair::Truncated)
        );
        let (mask_at, empty) = match scheme {
            Scheme::Ulpfec => (12, 0),
            Scheme::Flexfec => (18, 0x80),
        };
        assert_eq!(
            changed(mask_at, empty),
            Err(MalformedRepair::ProtectsNothing)
        );
        match scheme {
            Scheme::Ulpfec => {
                assert_eq!(changed(11, 21), Err(MalformedRepair::Truncated));
                assert_eq!(changed(0, LONG), Err(MalformedRepair::Truncated));
            }
            Scheme::Flexfec => {
                assert_eq!(changed(8, 2), Err(MalformedRepair::Unsupported));
                assert_eq!(changed(18, 0), Err(MalformedRepair::Unsupported));
            }
        }
        // A parity that says its packet is longer than the parity is.
        let repair = scheme.parse(&good).unwrap();
        let mut parity = Parity::default();
        parity.start(
            ParityHeader {
                length: 21,
                ..repair.header
            },
            repair.body,
        );
        assert!(!parity.recover(7, SSRC, &mut Vec::new()));
    }
    assert!(!Parity::default().add(&[0x80; 11]));
    assert!(!Parity::default().add(&[0x80; MAX_PACKET + 1]));
    assert_eq!(
        ulpfec::write(&mut [0; 99], 7, Mask::default(), &parity),
        None
    );
    assert_eq!(ulpfec::write(&mut [0; 30], 7, mask, &parity), None);
}

/// The bit of ULPFEC that makes its mask four bytes longer: more than there are.
const LONG: u8 = 0x40;
