//! What a slot sends, read by the receiving side of a publication: what is lost between the two
//! comes back.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::Instant;

use super::*;
use crate::api::LayerInfo;
use crate::media::{Extension, ExtensionMap, PayloadMap, RepairFormats};
use crate::negotiated::{ReceiveSection, Section, SendSection};
use crate::publish::feed::Origin;
use crate::publish::history::tests::video;
use crate::publish::publication::Publication;
use crate::rtp::codec::{PictureId, PictureInfo};
use crate::rtp::packet::RtpHeader;
use crate::rtp::rtcp::ReportBlock;
use crate::subscribe::testing::{DESTINATION, Exit};
use crate::types::{EncodingIndex, WorkerIndex};
use crate::types::{Mid, Ssrc, TrackId};

const VP8: u8 = 96;
const OPUS: u8 = 111;
const RED: u8 = 118;
const ULPFEC: u8 = 120;
const FLEXFEC: u8 = 121;
const SSRC: Ssrc = Ssrc(77);

/// An m-line with one codec on both sides of the server.
pub(in crate::subscribe) fn section(kind: Kind, repair: RepairFormats) -> Section {
    let mut extensions = ExtensionMap::default();
    for (extension, id) in [
        (Extension::Mid, 1),
        (Extension::TransportSequence, 2),
        (Extension::AbsSendTime, 3),
        (Extension::PlayoutDelay, 4),
    ] {
        extensions.set(extension, id);
    }
    let (codec, payload_type) = match kind {
        Kind::Audio => (Codec::Opus, OPUS),
        Kind::Video => (Codec::Vp8, VP8),
    };
    Section {
        index: 0,
        mid: Mid::new("0").unwrap(),
        kind,
        receive: Some(ReceiveSection {
            rids: Vec::new(),
            ssrcs: vec![(SSRC, None)],
            is_sim_group: false,
            cname: None,
            extensions,
        }),
        send: Some(SendSection {
            ssrc: SSRC,
            rtx_ssrc: None,
            flexfec_ssrc: repair.flexfec.map(|_| Ssrc(78)),
            msid: String::new(),
            extensions,
        }),
        payloads: vec![PayloadMap {
            codec,
            payload_type,
            rtx_payload_type: None,
            nack: true,
            transport_cc: true,
            remb: true,
            key_frames: None,
        }],
        repair,
        extmap_allow_mixed: true,
        rtcp_rsize: true,
    }
}

/// The `n`-th packet of a publisher: a whole picture, or 20 ms of audio.
fn packet(kind: Kind, n: u64) -> (PacketMeta, Vec<u8>) {
    let mut bytes = vec![0; 12];
    let mut meta = video(EncodingIndex(0), 0, 70_000 + n, n == 0);
    bytes.extend(match kind {
        Kind::Audio => vec![n as u8; 3 + n as usize % 5],
        Kind::Video => {
            let mut vp8 = vec![0x90, 0x80, 0x80, n as u8, u8::from(n > 0)];
            vp8.resize(20 + n as usize % 7, n as u8);
            vp8
        }
    });
    match kind {
        Kind::Audio => {
            meta.codec = Codec::Opus;
            meta.picture = None;
            meta.timestamp = 960 * n;
        }
        Kind::Video => {
            meta.picture = Some(PictureInfo {
                starts_frame: true,
                key_frame: n == 0,
                picture_id: Some(PictureId::Bits15(n as u16)),
                ..PictureInfo::default()
            });
            meta.marker = true;
            meta.timestamp = 3000 * n;
        }
    }
    meta.payload = 12..bytes.len();
    (meta, bytes)
}

/// Sends `count` packets to a subscriber that reports 30 % loss and a round trip of 200 ms, and
/// gives back the datagrams in the clear.
fn send(section: &Section, count: u64) -> Vec<Vec<u8>> {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let mut slot = Slot::new(section, section.send.as_ref().unwrap(), 0x7ffe_0003);
    slot.show(start, TrackId(1));
    slot.share.layer = Some(LayerInfo::default());
    if section.kind == Kind::Video {
        slot.aim();
    }
    for report in 0..8u32 {
        let report = ReportBlock {
            ssrc: SSRC,
            fraction_lost: 77,
            cumulative_lost: 30 * report as i32,
            extended_highest: 100 * report,
            jitter: 0,
            last_sender_report: 0,
            delay_since_last: 0,
        };
        slot.handle_report(Instant::now(), Some(Duration::from_millis(200)), &report);
    }
    let mut feed = Feed::new(section.kind, Origin::Remote(WorkerIndex(0)));
    for n in 0..count {
        let (meta, bytes) = packet(section.kind, n);
        assert!(feed.insert(start, meta, &bytes));
        let now = start + Duration::from_millis(20) * n as u32;
        assert_eq!(exit.forward(now, &mut slot, &mut feed), 1);
    }
    exit.datagrams()
}

/// What a receiver makes of datagrams: payloads, in the order of their numbers.
fn receive(section: &Section, datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let receive = section.receive.as_ref().unwrap();
    let mut publication = Publication::new(section, receive);
    let mut found = Vec::new();
    for mut datagram in datagrams {
        let header = RtpHeader::parse(&datagram).unwrap();
        let extensions = HeaderExtensions::parse(&datagram, &header, &receive.extensions);
        let now = Instant::now();
        let taken = publication.handle_rtp(
            now,
            EncodingIndex(0),
            header,
            extensions,
            &mut datagram,
            |meta, packet| {
                if !meta.is_void {
                    found.push((meta.sequence, packet[meta.payload.clone()].to_vec()));
                }
            },
        );
        taken.unwrap();
    }
    found.sort();
    found.into_iter().map(|(_, payload)| payload).collect()
}

fn originals(kind: Kind, count: u64) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| packet(kind, n).1.split_off(12))
        .collect()
}

fn is_repair(datagram: &[u8]) -> bool {
    let header = RtpHeader::parse(datagram).unwrap();
    let first = header.payload(datagram).first();
    header.payload_type == FLEXFEC || (header.payload_type == RED && first == Some(&ULPFEC))
}

#[test]
fn one_picture_of_every_block_may_be_lost() {
    let none = RepairFormats::default();
    let ulpfec = RepairFormats {
        red: Some(RED),
        ulpfec: Some(ULPFEC),
        ..none
    };
    let flexfec = RepairFormats {
        flexfec: Some(FLEXFEC),
        ..none
    };
    for repair in [ulpfec, flexfec] {
        let section = section(Kind::Video, repair);
        let sent = send(&section, 60);
        let repairs = sent.iter().filter(|d| is_repair(d)).count();
        // As many as there are at this round trip.
        assert!((58..=60).contains(&repairs), "{repairs} for 60 pictures");
        let last = sent.iter().rposition(|d| is_repair(d)).unwrap();
        let mut lost = 0;
        let mut blocks = 0;
        let mut arrived = Vec::new();
        for (at, datagram) in sent.iter().enumerate() {
            let follows_repair = at > 0 && is_repair(&sent[at - 1]);
            blocks += u32::from(follows_repair);
            // The first repair packets only tell the receiver to keep what it gets.
            if blocks >= 2 && follows_repair && !is_repair(datagram) && at < last {
                lost += 1;
            } else {
                arrived.push(datagram.clone());
            }
        }
        assert!(lost >= 10, "{lost}");
        assert_eq!(
            receive(&section, arrived),
            originals(Kind::Video, 60),
            "{repair:?}"
        );
    }
}

/// A slot for video that gets as much FEC as there can be.
fn fully_protected(start: Instant, section: &Section) -> Slot {
    let mut slot = Slot::new(section, section.send.as_ref().unwrap(), 0);
    slot.show(start, TrackId(1));
    slot.share.layer = Some(LayerInfo::default());
    slot.aim();
    slot.protection.fec_ratio = 1.0;
    slot.protection.key_frame_fec_ratio = 1.0;
    slot
}

/// The number that repair takes would be missing within the picture for good.
#[test]
fn no_repair_cuts_a_picture_in_two_when_ends_come_late() {
    let start = Instant::now();
    let formats = RepairFormats {
        red: Some(RED),
        ulpfec: Some(ULPFEC),
        ..RepairFormats::default()
    };
    let section = section(Kind::Video, formats);
    let mut exit = Exit::new(start);
    let mut slot = fully_protected(start, &section);
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    // Pictures of two packets each, and the ends of the second and third come late.
    for n in [0, 1, 2, 4, 3, 5, 6, 7] {
        let (mut meta, bytes) = packet(Kind::Video, n);
        let is_end = n % 2 == 1;
        meta.marker = is_end;
        meta.timestamp = 3000 * (n / 2);
        if let Some(picture) = meta.picture.as_mut().filter(|_| is_end) {
            (picture.starts_frame, picture.picture_id) =
                (false, Some(PictureId::Bits15(n as u16 - 1)));
        }
        assert!(feed.insert(start, meta, &bytes));
        assert_eq!(exit.forward(start, &mut slot, &mut feed), 1);
    }
    let datagrams = exit.datagrams();
    let (repair, mut media): (Vec<_>, Vec<_>) = datagrams.iter().partition(|d| is_repair(d));
    let sequence = |datagram: &&Vec<u8>| RtpHeader::parse(datagram).unwrap().sequence;
    media.sort_by_key(sequence);
    let numbers: Vec<u16> = media.iter().map(sequence).collect();
    for picture in numbers.chunks(2) {
        assert_eq!(picture[1], picture[0] + 1, "{numbers:?}");
    }
    assert!((4..=8).contains(&repair.len()), "{}", repair.len());
}

#[test]
fn without_repair_everything_is_plain() {
    let section = section(Kind::Video, RepairFormats::default());
    let sent = send(&section, 10);
    assert_eq!(sent.len(), 10);
    assert_eq!(receive(&section, sent), originals(Kind::Video, 10));
}

#[test]
fn three_packets_of_sound_in_a_row_may_be_lost() {
    let red = RepairFormats {
        red: Some(RED),
        ..RepairFormats::default()
    };
    let section = section(Kind::Audio, red);
    let sent = send(&section, 41);
    assert_eq!(sent.len(), 41);
    let arrived = sent.into_iter().enumerate().filter(|(at, _)| at % 4 == 0);
    let arrived = arrived.map(|(_, datagram)| datagram).collect();
    assert_eq!(receive(&section, arrived), originals(Kind::Audio, 41));
}

#[test]
fn the_delay_rises_quickly_and_falls_slowly() {
    let pictures = |from: u64, to: u64| {
        let (mut delay, target) = (Duration::from_millis(from), Duration::from_millis(to));
        let mut pictures = 0;
        while delay != target {
            delay = approach(delay, target);
            pictures += 1;
        }
        pictures
    };
    assert_eq!(pictures(300, 300), 0);
    assert!(
        (15..30).contains(&pictures(0, 600)),
        "within a second at 30 a second"
    );
    assert_eq!(pictures(600, 0), 60);
}

#[test]
fn no_repair_packet_is_longer_than_the_path_takes() {
    const LIMIT: usize = 1252;
    let start = Instant::now();
    for (ulpfec, flexfec) in [(Some(ULPFEC), None), (None, Some(FLEXFEC))] {
        let formats = RepairFormats {
            red: ulpfec.map(|_| RED),
            ulpfec,
            flexfec,
            ..RepairFormats::default()
        };
        let section = section(Kind::Video, formats);
        let repaired = |payload: usize| {
            let mut exit = Exit::new(start);
            exit.path_size.select(DESTINATION.into());
            exit.path_size.set_mtu(DESTINATION.into(), LIMIT + 28);
            let mut slot = fully_protected(start, &section);
            let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
            for n in 0..4 {
                let (mut meta, mut bytes) = packet(Kind::Video, n);
                bytes.resize(12 + payload, 1);
                meta.payload = 12..bytes.len();
                assert!(feed.insert(start, meta, &bytes));
                assert_eq!(exit.forward(start, &mut slot, &mut feed), 1);
            }
            assert!(exit.sealed().iter().all(|datagram| datagram.len() <= LIMIT));
            exit.sealed().len() - 4
        };
        // Header, extensions and tag take 44 bytes, RED one of them.
        let protected: Vec<usize> = (1100..=LIMIT - 45).map(repaired).collect();
        assert_eq!(protected.first(), Some(&4));
        assert_eq!(
            protected.last(),
            Some(&0),
            "what protects it would be longer"
        );
        assert!(protected.is_sorted_by(|a, b| a >= b));
        let longest = 1100 + protected.iter().filter(|n| **n > 0).count() - 1;
        assert!(longest >= LIMIT - 100, "{longest}");
    }
}
