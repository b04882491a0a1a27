//! Packets as browsers wrap them, and what comes of them.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use super::*;
use crate::media::{Extension, ExtensionMap, RepairFormats};
use crate::negotiated::{ReceiveSection, Section};
use crate::rtp::fec::{Mask, Parity};
use crate::types::EncodingIndex;
use crate::types::Mid;
use proptest::prelude::*;

const SSRC: Ssrc = Ssrc(7);
const VP8: u8 = 96;
const OPUS: u8 = 111;
const RTX: u8 = 97;
const RED: u8 = 118;
const ULPFEC: u8 = 120;
const FLEXFEC: u8 = 121;
const TRANSPORT_ID: u8 = 3;
const PCMA: u8 = 8;
const EVENT: u8 = 101;
/// Of audio, by another clock than all of it.
const EVENT_OF_OPUS: u8 = 110;
const UNKNOWN: u8 = 126;

fn publication(codec: Codec) -> Publication {
    let kind = codec.kind();
    let mut extensions = ExtensionMap::default();
    extensions.set(Extension::TransportSequence, TRANSPORT_ID);
    let receive = ReceiveSection {
        rids: Vec::new(),
        ssrcs: vec![(SSRC, Some(Ssrc(8)))],
        is_sim_group: false,
        cname: None,
        extensions,
    };
    let video = |payload_type| Some(payload_type).filter(|_| kind == Kind::Video);
    let section = Section {
        index: 0,
        mid: Mid::new("0").unwrap(),
        kind,
        receive: Some(receive.clone()),
        send: None,
        payloads: vec![PayloadMap {
            codec,
            payload_type: if kind == Kind::Audio { OPUS } else { VP8 },
            rtx_payload_type: Some(RTX),
            nack: true,
            transport_cc: true,
            remb: true,
            key_frames: None,
        }],
        repair: RepairFormats {
            red: Some(RED),
            red_rtx: None,
            ulpfec: video(ULPFEC),
            flexfec: video(FLEXFEC),
        },
        extmap_allow_mixed: true,
        rtcp_rsize: true,
    };
    Publication::new(&section, &receive)
}

/// A packet as it is on the wire, with a transport-wide number of its own.
fn packet(payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 64];
    let fields = HeaderFields {
        marker: payload_type != ULPFEC,
        payload_type,
        sequence,
        timestamp,
        ssrc: match payload_type {
            RTX => Ssrc(8),
            FLEXFEC => Ssrc(9),
            _ => SSRC,
        },
    };
    let len = write_header(&mut packet, fields, |w| {
        w.put(TRANSPORT_ID, &(sequence ^ 0x5555).to_be_bytes());
    });
    packet.truncate(len.unwrap());
    packet.extend_from_slice(payload);
    packet
}

/// A picture of one packet, plain.
fn picture(sequence: u16, id: u8) -> Vec<u8> {
    let vp8 = [0x90, 0x80, 0x80, id, u8::from(id > 0), id, id];
    packet(VP8, sequence, u32::from(id) * 3000, &vp8)
}

/// The same in RED.
fn in_red(plain: &[u8]) -> Vec<u8> {
    let header = RtpHeader::parse(plain).unwrap();
    let mut packet = plain[..header.header_len].to_vec();
    packet[1] = packet[1] & 0x80 | RED;
    packet.push(header.payload_type);
    packet.extend_from_slice(header.payload(plain));
    packet
}

/// What a sender computes, before it fills in the last extensions.
fn parity(packets: &[&[u8]], publication: &Publication) -> (u16, Mask, Parity) {
    let (mut mask, mut parity) = (Mask::default(), Parity::default());
    let sequence = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
    for packet in packets {
        let mut cleared = packet.to_vec();
        let header = RtpHeader::parse(packet).unwrap();
        clear_mutable(&mut cleared, &header, &publication.extensions);
        parity.add(&cleared);
        mask.insert(usize::from(sequence(packet) - sequence(packets[0])));
    }
    (sequence(packets[0]), mask, parity)
}

fn ulpfec_packet(sequence: u16, packets: &[&[u8]], publication: &Publication) -> Vec<u8> {
    let (base, mask, parity) = parity(packets, publication);
    let mut payload = [0; 200];
    let len = ulpfec::write(&mut payload[1..], base, mask, &parity).unwrap();
    payload[0] = ULPFEC;
    packet(RED, sequence, 0, &payload[..=len])
}

/// Has a publication take a packet of its first encoding, and hands on what comes of it.
fn handle(
    publication: &mut Publication,
    mut bytes: Vec<u8>,
    take: impl FnMut(PacketMeta, &[u8]),
) -> Result<(), Unusable> {
    let header = RtpHeader::parse(&bytes).unwrap();
    let extensions = HeaderExtensions::parse(&bytes, &header, &publication.extensions);
    let (now, first) = (Instant::now(), EncodingIndex(0));
    publication.handle_rtp(now, first, header, extensions, &mut bytes, take)
}

/// What comes of a packet: the 16-bit numbers, with the payload, or without for a void.
fn take(publication: &mut Publication, bytes: Vec<u8>) -> Vec<(u16, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    let taken = handle(publication, bytes, |meta, packet| {
        let payload = packet[meta.payload.clone()].to_vec();
        all.push((meta.sequence.wire(), (!meta.is_void).then_some(payload)));
    });
    taken.unwrap();
    all
}

fn payload(plain: &[u8]) -> Option<Vec<u8>> {
    Some(RtpHeader::parse(plain).unwrap().payload(plain).to_vec())
}

#[test]
fn ulpfec_gives_back_what_was_lost_and_leaves_its_own_numbers_empty() {
    let mut publication = publication(Codec::Vp8);
    let p: Vec<_> = [10, 12, 13, 16]
        .into_iter()
        .zip(0..)
        .map(|(s, id)| picture(s, id))
        .collect();
    assert_eq!(
        take(&mut publication, in_red(&p[0])),
        [(10, payload(&p[0]))]
    );
    let first = ulpfec_packet(11, &[&p[0]], &publication);
    assert_eq!(take(&mut publication, first), [(11, None)]);
    assert_eq!(
        take(&mut publication, in_red(&p[1])),
        [(12, payload(&p[1]))]
    );
    // 13 is lost.
    let second = ulpfec_packet(14, &[&p[1], &p[2]], &publication);
    assert_eq!(
        take(&mut publication, second),
        [(13, payload(&p[2])), (14, None)]
    );
    assert_eq!(publication.encodings[0].nack.missing(), 0);
}

#[test]
fn a_lost_repair_packet_is_not_waited_for() {
    let mut publication = publication(Codec::Vp8);
    let (before, after) = (picture(10, 5), picture(13, 6));
    take(&mut publication, in_red(&before));
    let seen = take(&mut publication, in_red(&after));
    assert_eq!(seen, [(11, None), (12, None), (13, payload(&after))]);
    assert_eq!(publication.encodings[0].nack.missing(), 0);
    // A picture is missing: what is lost may be that.
    let later = picture(15, 8);
    assert_eq!(
        take(&mut publication, in_red(&later)),
        [(15, payload(&later))]
    );
    assert_eq!(publication.encodings[0].nack.missing(), 1);
}

#[test]
fn flexfec_gives_back_what_was_lost() {
    let mut publication = publication(Codec::Vp8);
    let p: Vec<_> = (10..14).map(|n| picture(n, n as u8)).collect();
    let repair = |sequence, packets: &[&[u8]], publication: &Publication| {
        let (base, mask, parity) = parity(packets, publication);
        let mut payload = [0; 200];
        let len = flexfec::write(&mut payload, SSRC, base, mask, &parity).unwrap();
        packet(FLEXFEC, sequence, 0, &payload[..len])
    };
    take(&mut publication, p[0].clone());
    let first = repair(900, &[&p[0]], &publication);
    assert_eq!(take(&mut publication, first), []);
    take(&mut publication, p[1].clone());
    take(&mut publication, p[3].clone());
    let second = repair(901, &[&p[1], &p[2], &p[3]], &publication);
    assert_eq!(take(&mut publication, second), [(12, payload(&p[2]))]);
}

#[test]
fn sound_that_was_lost_is_taken_from_the_next_packet() {
    let mut publication = publication(Codec::Opus);
    let sound = |n: u16, old: &[u16]| {
        let blocks = old.iter().map(|&o| red::Block {
            payload_type: OPUS,
            offset: (n - o) * 960,
            data: if o % 2 == 0 { &[2, 2] } else { &[1] },
        });
        let mut payload = [0; 99];
        let len = red::write(&mut payload, blocks, OPUS).unwrap();
        payload[len] = 9;
        packet(RED, n, u32::from(n) * 960, &payload[..=len])
    };
    assert_eq!(
        take(&mut publication, sound(10, &[9])),
        [(10, Some(vec![9]))]
    );
    let seen = take(&mut publication, sound(13, &[11, 12]));
    assert_eq!(
        seen,
        [
            (11, Some(vec![1])),
            (12, Some(vec![2, 2])),
            (13, Some(vec![9]))
        ]
    );
    // Of three that are missing, the one that is repeated.
    let seen = take(&mut publication, sound(17, &[16]));
    assert_eq!(seen, [(16, Some(vec![2, 2])), (17, Some(vec![9]))]);
    assert_eq!(publication.encodings[0].nack.missing(), 2);
}

/// An m-line with A-law and events beside it.
fn telephone() -> Publication {
    let mut publication = publication(Codec::Pcma);
    let first = publication.payloads[0];
    let map = |codec, payload_type| PayloadMap {
        codec,
        payload_type,
        rtx_payload_type: None,
        ..first
    };
    let event = |clock_rate| Codec::TelephoneEvent { clock_rate };
    publication.payloads = vec![
        map(Codec::Pcma, PCMA),
        map(Codec::Opus, OPUS),
        map(event(8000), EVENT),
        map(event(48_000), EVENT_OF_OPUS),
    ];
    publication.repair = RepairFormats::default();
    publication
}

/// What comes of a packet that nothing can be made of.
fn refuse(publication: &mut Publication, bytes: Vec<u8>) -> (Unusable, Vec<u16>) {
    let mut empty = Vec::new();
    let taken = handle(publication, bytes, |meta, _| {
        assert!(meta.is_void);
        empty.push(meta.sequence.wire());
    });
    (taken.unwrap_err(), empty)
}

#[test]
fn what_nothing_can_be_made_of_has_come_all_the_same() {
    let mut publication = publication(Codec::Vp8);
    let [a, b] = [picture(10, 1), picture(15, 2)];
    assert_eq!(take(&mut publication, a.clone()), [(10, payload(&a))]);
    let story = [
        (
            packet(UNKNOWN, 11, 5, &[1]),
            Unusable::PayloadType,
            vec![11],
        ),
        // RED of RED, RED of something unknown, a descriptor that is cut short.
        (
            packet(RED, 12, 5, &[RED, RED, 0]),
            Unusable::Malformed,
            vec![12],
        ),
        (
            packet(RED, 13, 5, &[UNKNOWN, 0]),
            Unusable::PayloadType,
            vec![13],
        ),
        (packet(VP8, 14, 5, &[0x80]), Unusable::Malformed, vec![14]),
        // These are not of the media's numbers.
        (packet(FLEXFEC, 900, 5, &[0]), Unusable::Malformed, vec![]),
        (packet(RTX, 700, 5, &[]), Unusable::Unneeded, vec![]),
    ];
    for (bytes, unusable, empty) in story {
        let seen = refuse(&mut publication, bytes);
        assert_eq!(seen, (unusable, empty));
    }
    assert_eq!(take(&mut publication, b.clone()), [(15, payload(&b))]);
    assert_eq!(publication.encodings[0].nack.missing(), 0);
    assert_eq!(publication.encodings[0].totals().2, 0);
}

#[test]
fn key_presses_go_with_the_sound_whose_clock_they_have() {
    let mut publication = telephone();
    let event = |number, payload_type| packet(payload_type, number, 160, &[5, 10, 3, 192]);
    let key = Some(vec![5, 10, 3, 192]);
    let early = refuse(&mut publication, event(9, EVENT));
    assert_eq!(early.0, Unusable::PayloadType, "beside which sound?");
    let sound = packet(PCMA, 10, 160, &[0xd5; 3]);
    assert_eq!(
        take(&mut publication, sound.clone()),
        [(10, payload(&sound))]
    );
    assert_eq!(
        take(&mut publication, event(11, EVENT)),
        [(11, key.clone())]
    );
    let foreign = refuse(&mut publication, event(12, EVENT_OF_OPUS));
    assert_eq!(foreign, (Unusable::PayloadType, vec![12]));
    let epoch = |publication: &mut Publication, bytes: Vec<u8>| {
        let mut epoch = None;
        handle(publication, bytes, |meta, _| epoch = Some(meta.epoch)).unwrap();
        epoch.unwrap()
    };
    // The publisher goes over to Opus: another clock, and other events.
    let before = epoch(&mut publication, packet(PCMA, 13, 320, &[0xd5; 3]));
    let after = epoch(&mut publication, packet(OPUS, 14, 960, &[0xf8, 1, 2]));
    assert_eq!(after, before + 1);
    assert_eq!(
        take(&mut publication, event(15, EVENT_OF_OPUS)),
        [(15, key)]
    );
    assert_eq!(refuse(&mut publication, event(16, EVENT)).1, [16]);
}

proptest! {
    #[test]
    fn no_packet_does_harm(
        is_audio: bool,
        input in prop::collection::vec(
            (0u8..6, 0u16..300, prop::collection::vec(any::<u8>(), 0..60), 0u8..4), 0..60),
    ) {
        let mut publication = publication(if is_audio { Codec::Opus } else { Codec::Vp8 });
        for (at, sequence, mut payload, inner) in input {
            let own = if is_audio { OPUS } else { VP8 };
            if let Some(first) = payload.first_mut().filter(|_| inner > 0) {
                *first = [own, ULPFEC, RED][usize::from(inner - 1)];
            }
            let payload_type = [own, RTX, RED, ULPFEC, FLEXFEC, 100][usize::from(at)];
            let bytes = packet(payload_type, sequence, u32::from(sequence) * 960, &payload);
            let mut is_whole = true;
            let _ = handle(&mut publication, bytes, |meta, packet| {
                is_whole &= meta.payload.end <= packet.len();
            });
            prop_assert!(is_whole);
        }
    }
}
