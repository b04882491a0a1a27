//! A subscriber that is to get less than it is being sent: numbers, pictures and times go on.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::SystemTime;

use super::*;
use crate::api::LayerInfo;
use crate::clock::Clock;
use crate::publish::encoding::SenderReportSeen;
use crate::publish::feed::Origin;
use crate::publish::history::PacketMeta;
use crate::publish::history::tests::video;
use crate::rtp::codec;
use crate::rtp::packet::RtpHeader;
use crate::subscribe::reinforce::tests::section;
use crate::subscribe::testing::{DESTINATION, Exit};
use crate::types::{EncodingIndex, WorkerIndex};

const RTX: u8 = 97;
const TRACK: TrackId = TrackId(1);

/// A whole picture of a stream with two temporal layers. Both encodings have pictures of the same
/// numbers at the same times, but count their timestamps from elsewhere.
fn picture(encoding: EncodingIndex, n: u64, is_key: bool) -> (PacketMeta, Vec<u8>) {
    let layer = (n % 2) as u8;
    let vp8 = [
        0x90,
        0xe0,
        0x80,
        n as u8,
        n as u8 / 2,
        layer << 6,
        u8::from(!is_key),
        n as u8,
    ];
    let mut meta = video(encoding, 0, 500 + n, is_key);
    meta.picture = codec::inspect(Codec::Vp8, &vp8, None);
    meta.timestamp = 3000 * n + 1_000_000 * u64::from(encoding.0);
    meta.marker = true;
    meta.payload = 12..12 + vp8.len();
    (meta, [&[0; 12], &vp8[..]].concat())
}

/// What a subscriber sees of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    payload_type: u8,
    /// From the first on; of a retransmission, the original.
    number: u16,
    timestamp: u32,
    /// The picture id, and the number of the publisher's picture.
    picture: Option<(u8, u8)>,
}

#[test]
fn less_is_sent_at_once_and_the_lower_encoding_goes_on_in_time() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let section = with_rtx();
    let mut slot = Slot::new(&section, section.send.as_ref().unwrap(), 0);
    slot.show(start, TRACK);
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    let clock = Clock::new(start, SystemTime::UNIX_EPOCH);
    // The lower encoding arrives a little later, but its reports tell when it was taken.
    for encoding in 0..2u8 {
        let report = SenderReportSeen {
            ntp: 5 << 32,
            timestamp: 1_000_000 * u64::from(encoding),
            arrival: start,
        };
        feed.set_sender_report(EncodingIndex(encoding), report, &clock);
    }
    let story = [
        // (encoding, picture, is a key frame, wanted encoding, is sent)
        (1, 0, true, 1, true),
        (1, 1, false, 1, true),
        (1, 3, false, 0, false),
        (1, 2, false, 0, true),
        (1, 4, false, 0, true),
        (1, 6, false, 0, true),
        // Picture 5 is late.
        (1, 5, false, 0, false),
        (0, 7, false, 0, false),
        (0, 8, true, 0, true),
        (1, 8, false, 0, false),
        (0, 9, false, 0, true),
    ];
    for (encoding, n, is_key, wanted, is_sent) in story {
        let (mut meta, bytes) = picture(EncodingIndex(encoding), n, is_key);
        let delay = if encoding == 0 { 20 } else { 0 };
        meta.arrival = start + Duration::from_millis(n * 1000 / 30 + delay);
        slot.share.layer = Some(LayerInfo {
            encoding: EncodingIndex(wanted),
            spatial: u8::MAX,
            temporal: u8::MAX,
            ..LayerInfo::default()
        });
        slot.aim();
        let now = meta.arrival;
        assert!(feed.insert(now, meta, &bytes));
        assert_eq!(
            exit.forward(now, &mut slot, &mut feed),
            u64::from(is_sent),
            "{n}"
        );
        if n == 5 {
            let mut egress = exit.egress(now);
            assert!(slot.answer_nack(4, &feed, &mut egress));
            assert!(slot.answer_nack(5, &feed, &mut egress));
        }
    }
    let mut seen = Vec::new();
    for datagram in exit.datagrams() {
        let header = RtpHeader::parse(&datagram).unwrap();
        let mut payload = header.payload(&datagram);
        let mut number = header.sequence;
        if header.payload_type == RTX {
            number = u16::from_be_bytes(*payload.first_chunk().unwrap());
            payload = &payload[2..];
        }
        seen.push(Seen {
            payload_type: header.payload_type,
            number,
            timestamp: header.timestamp,
            picture: (!payload.is_empty()).then(|| (payload[3], payload[7])),
        });
    }
    let media = |number, n, id| Seen {
        payload_type: 96,
        number,
        timestamp: 1_000_000 + 3000 * u32::from(n),
        picture: Some((id, n)),
    };
    let empty = |payload_type| Seen {
        payload_type,
        number: 4,
        timestamp: 1_000_000 + 3000 * 5,
        picture: None,
    };
    let again = Seen {
        payload_type: RTX,
        ..media(5, 6, 5)
    };
    let expected = [
        media(0, 0, 0),
        media(1, 1, 1),
        // Picture 3 came before it and is left out.
        media(2, 2, 2),
        media(3, 4, 3),
        // Whether picture 5 will come is not known here: its number and its id stay free.
        media(5, 6, 5),
        empty(96),
        empty(RTX),
        again,
        media(6, 8, 6),
        media(7, 9, 7),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn what_has_overtaken_the_first_packet_of_a_key_frame_follows_it() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let section = section(Kind::Video, RepairFormats::default());
    let send = section.send.clone().unwrap();
    let mut slot = Slot::new(&section, &send, 0);
    slot.show(start, TRACK);
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    slot.share.layer = Some(LayerInfo {
        spatial: u8::MAX,
        temporal: u8::MAX,
        ..LayerInfo::default()
    });
    slot.aim();
    let story: [(&[(u64, bool)], u64); 4] = [
        // (packets that come together: picture, is a key frame; how many are sent)
        (&[(1, false), (2, false)], 0),
        // Its own batch has more that it was overtaken by, and one that comes behind it.
        (&[(3, false), (0, true), (4, false)], 5),
        (&[(5, false)], 1),
        // Something that comes twice is not sent twice.
        (&[(2, false), (6, false)], 1),
    ];
    for (n, (packets, sent)) in story.into_iter().enumerate() {
        let now = start + Duration::from_millis(200 + 20 * n as u64);
        for &(picture_number, is_key) in packets {
            let (mut meta, bytes) = picture(EncodingIndex(0), picture_number, is_key);
            meta.arrival = now;
            feed.insert(now, meta, &bytes);
        }
        assert_eq!(exit.forward(now, &mut slot, &mut feed), sent, "{packets:?}");
    }
    let datagrams = exit.datagrams();
    let headers = datagrams
        .iter()
        .map(|datagram| RtpHeader::parse(datagram).unwrap());
    let numbers: Vec<u16> = headers.clone().map(|header| header.sequence).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
    let timestamps: Vec<u32> = headers.map(|header| header.timestamp).collect();
    assert!(timestamps.is_sorted_by(|a, b| a < b), "{timestamps:?}");
}

const PCMA: u8 = 8;
const OPUS: u8 = 111;
const EVENT: u8 = 101;

/// A slot of audio with these codecs.
fn sound_slot(codecs: &[(Codec, u8)], repair: RepairFormats) -> Slot {
    let mut section = section(Kind::Audio, repair);
    let map = section.payloads[0];
    section.payloads = codecs
        .iter()
        .map(|&(codec, payload_type)| PayloadMap {
            codec,
            payload_type,
            ..map
        })
        .collect();
    let send = section.send.take().unwrap();
    Slot::new(&section, &send, 0)
}

/// Has a packet of 20 ms of audio come into a feed and go to a slot. Says whether it was sent.
fn sound(
    exit: &mut Exit,
    slot: &mut Slot,
    feed: &mut Feed,
    now: Instant,
    (codec, number, timestamp): (Codec, u64, u64),
) -> bool {
    let mut meta = video(EncodingIndex(0), 0, 70_000 + number, false);
    meta.picture = None;
    meta.codec = codec;
    meta.timestamp = timestamp;
    meta.arrival = now;
    meta.payload = 12..15;
    assert!(feed.insert(now, meta, &[7; 15]));
    exit.forward(now, slot, feed) == 1
}

fn seen_sound(exit: &mut Exit) -> Vec<(u8, u16, u32)> {
    let datagrams = exit.datagrams().into_iter();
    let headers = datagrams.map(|datagram| RtpHeader::parse(&datagram).unwrap());
    headers
        .map(|header| (header.payload_type, header.sequence, header.timestamp))
        .collect()
}

#[test]
fn a_slot_goes_from_one_clock_to_another_and_reports_by_it() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let red = RepairFormats {
        red: Some(63),
        ..RepairFormats::default()
    };
    let mut slot = sound_slot(&[(Codec::Opus, OPUS), (Codec::Pcma, PCMA)], red);
    // Would be repeated in RED, if it could.
    slot.protection.red_distance = 1;
    let ms = Duration::from_millis;
    let clock = Clock::new(start, SystemTime::UNIX_EPOCH);
    let report = |timestamp| SenderReportSeen {
        ntp: clock.ntp(start),
        timestamp,
        arrival: start,
    };
    let mut opus = Feed::new(Kind::Audio, Origin::Remote(WorkerIndex(0)));
    opus.set_sender_report(EncodingIndex(0), report(48_000), &clock);
    let mut pcma = Feed::new(Kind::Audio, Origin::Remote(WorkerIndex(0)));
    pcma.set_sender_report(EncodingIndex(0), report(1000), &clock);
    slot.show(start, TrackId(1));
    for n in 0..2 {
        let packet = (Codec::Opus, n, 48_000 + 960 * n);
        assert!(sound(
            &mut exit,
            &mut slot,
            &mut opus,
            start + ms(20 * n),
            packet
        ));
    }
    // A second after the report.
    let later = start + Duration::from_secs(1);
    assert_eq!(slot.sender_timestamp(later, &opus), Some(96_000));
    slot.show(start + ms(25), TrackId(2));
    assert_eq!(
        slot.sender_timestamp(later, &pcma),
        None,
        "nothing of it was sent"
    );
    for n in 0..3 {
        let packet = (Codec::Pcma, n, 1000 + 160 * n);
        assert!(sound(
            &mut exit,
            &mut slot,
            &mut pcma,
            start + ms(40 + 20 * n),
            packet
        ));
    }
    // 20 ms after what was sent last, in the new clock, and far from the old one.
    let begun = 48_960 + 160 + (1 << 26);
    assert_eq!(slot.sender_timestamp(later, &pcma), Some(begun + 8000));
    let seen = seen_sound(&mut exit);
    assert_eq!(
        seen,
        [
            (OPUS, 0, 48_000),
            (63, 1, 48_960),
            (PCMA, 2, begun),
            (PCMA, 3, begun + 160),
            (PCMA, 4, begun + 320),
        ]
    );
}

#[test]
fn key_presses_are_left_out_where_they_mean_nothing() {
    let start = Instant::now();
    let event = Codec::TelephoneEvent { clock_rate: 8000 };
    let pcma = (Codec::Pcma, PCMA);
    for knows_events in [true, false] {
        let mut exit = Exit::new(start);
        let codecs = [pcma, (event, EVENT)];
        let codecs = if knows_events {
            &codecs[..]
        } else {
            &codecs[..1]
        };
        let mut slot = sound_slot(codecs, RepairFormats::default());
        let mut feed = Feed::new(Kind::Audio, Origin::Remote(WorkerIndex(0)));
        slot.show(start, TRACK);
        let story = [
            // It cannot begin with one.
            (event, 0, false),
            (Codec::Pcma, 1, true),
            (event, 2, knows_events),
            (event, 3, knows_events),
            (Codec::Pcma, 4, true),
            // One that is late has left its number open.
            (Codec::Pcma, 6, true),
            (event, 5, knows_events),
        ];
        for (codec, n, is_sent) in story {
            let packet = (codec, n, 160 * n);
            let now = start + Duration::from_millis(20 * n);
            assert_eq!(
                sound(&mut exit, &mut slot, &mut feed, now, packet),
                is_sent,
                "{n}"
            );
            assert_eq!(slot.pause(), None);
        }
        let seen: Vec<_> = seen_sound(&mut exit).iter().map(|p| (p.0, p.1)).collect();
        if knows_events {
            let sent = [
                (PCMA, 0),
                (EVENT, 1),
                (EVENT, 2),
                (PCMA, 3),
                (PCMA, 5),
                (EVENT, 4),
            ];
            assert_eq!(seen, sent);
        } else {
            assert_eq!(seen, [(PCMA, 0), (PCMA, 1), (PCMA, 3), (PCMA, 2)]);
        }
    }
}

#[test]
fn sound_that_cannot_be_received_pauses_and_goes_on_without_a_hole() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let mut slot = sound_slot(&[(Codec::Opus, OPUS)], RepairFormats::default());
    let mut feed = Feed::new(Kind::Audio, Origin::Remote(WorkerIndex(0)));
    slot.show(start, TRACK);
    let lacks = Some(Reason::Codec(Codec::G722));
    let story = [
        (Codec::G722, lacks),
        (Codec::Opus, None),
        (Codec::Opus, None),
        (Codec::G722, lacks),
        (Codec::G722, lacks),
        (Codec::Opus, None),
    ];
    for (n, (codec, pause)) in (0..).zip(story) {
        let now = start + Duration::from_millis(20 * n);
        let packet = (codec, n, 960 * n);
        assert_eq!(
            sound(&mut exit, &mut slot, &mut feed, now, packet),
            pause.is_none()
        );
        assert_eq!(slot.pause(), pause, "{n}");
    }
    let numbers: Vec<_> = seen_sound(&mut exit).iter().map(|p| p.1).collect();
    assert_eq!(numbers, [0, 1, 2]);
    sound(&mut exit, &mut slot, &mut feed, start, (Codec::G722, 9, 0));
    slot.show(start, TrackId(2));
    assert_eq!(slot.pause(), None, "of another track nothing is known");
}

#[test]
fn what_is_given_up_is_not_sent_again_and_a_key_frame_goes_on_in_number() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let mut slot = slot_of(&with_rtx(), start);
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    let mut numbers = Vec::new();
    for (n, is_key, is_sent) in [
        (0, true, true),
        (1, false, true),
        // Given up.
        (2, false, false),
        (3, false, false),
        (4, true, true),
        (5, false, true),
    ] {
        let (mut meta, bytes) = picture(EncodingIndex(0), n, is_key);
        let now = start + Duration::from_millis(33 * n);
        meta.arrival = now;
        assert!(feed.insert(now, meta, &bytes));
        assert_eq!(
            exit.forward(now, &mut slot, &mut feed),
            u64::from(is_sent),
            "{n}"
        );
        let mut egress = exit.egress(now);
        numbers.extend(slot.rewriter.last_sequence().map(SequenceNumber::wire));
        match n {
            1 => {
                assert!(slot.answer_nack(1, &feed, &mut egress), "it may be lost");
                slot.discard(egress.pacing);
                assert_eq!(slot.needs_key_frame(), Some(EncodingIndex(0)));
            }
            3 => assert!(!slot.answer_nack(0, &feed, &mut egress), "it was given up"),
            5 => assert!(slot.answer_nack(3, &feed, &mut egress)),
            _ => {}
        }
    }
    assert_eq!(numbers, [0, 1, 1, 1, 2, 3]);
}

#[test]
fn a_number_that_was_sent_again_is_not_given_to_another_though_its_packet_waits() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let mut slot = slot_of(&with_rtx(), start);
    slot.protection.late_copies = 3;
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    let mut sent = Vec::new();
    for n in 0..40 {
        // What is late is sent over RTX as well.
        let (arrival, lateness) = match n {
            20 => (start, Duration::from_millis(150)),
            _ => (start, Duration::ZERO),
        };
        let (mut meta, bytes) = large_picture(n, 1000);
        meta.arrival = arrival;
        assert!(feed.insert(arrival, meta, &bytes));
        exit.egress(start).pacing.set_negotiated(start, true);
        exit.forward(arrival + lateness, &mut slot, &mut feed);
        sent.extend(slot.rewriter.last_sequence());
    }
    slot.drop_waiting(exit.egress(start).pacing);
    let last = slot.rewriter.last_sequence().unwrap();
    assert_eq!(last, sent[20], "those after it have been taken back");
}

/// A line of video that is repaired over RTX.
fn with_rtx() -> Section {
    let mut section = section(Kind::Video, RepairFormats::default());
    section.payloads[0].rtx_payload_type = Some(RTX);
    section.send.as_mut().unwrap().rtx_ssrc = Some(Ssrc(79));
    section
}

/// Has a picture come, the first of which is a key frame, and go to a slot.
fn forward_picture(exit: &mut Exit, slot: &mut Slot, feed: &mut Feed, now: Instant, n: u64) {
    let (mut meta, bytes) = picture(EncodingIndex(0), n, n == 0);
    meta.arrival = now;
    assert!(feed.insert(now, meta, &bytes));
    assert_eq!(exit.forward(now, slot, feed), 1);
}

/// A slot for whole pictures of one layer that is shown a track.
fn slot_of(section: &Section, start: Instant) -> Slot {
    let mut slot = Slot::new(section, section.send.as_ref().unwrap(), 0);
    slot.show(start, TRACK);
    slot.share.layer = Some(LayerInfo {
        spatial: u8::MAX,
        temporal: u8::MAX,
        ..LayerInfo::default()
    });
    if slot.kind == Kind::Video {
        slot.aim();
    }
    slot
}

#[test]
fn without_rtx_a_packet_is_sent_again_bit_for_bit_and_as_seldom_as_over_rtx() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let section = section(Kind::Video, RepairFormats::default());
    let mut slot = slot_of(&section, start);
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    for n in 0..3 {
        let now = start + Duration::from_millis(33 * n);
        forward_picture(&mut exit, &mut slot, &mut feed, now, n);
    }
    let sent = exit.sealed();
    assert_eq!(sent.len(), 3);
    let at = |millis| start + Duration::from_millis(millis);
    for (when, number, is_sent) in [
        (at(100), 1, true),
        (at(105), 1, false),
        (at(105), 2, true),
        (at(140), 1, true),
        // It was never sent.
        (at(200), 3, false),
        (at(5000), 2, false),
    ] {
        let again = slot.answer_nack(number, &feed, &mut exit.egress(when));
        assert_eq!(again, is_sent, "{number} at {:?}", when - start);
    }
    let again = exit.sealed().split_off(3);
    assert_eq!(again, [&sent[1], &sent[2], &sent[1]].map(Vec::clone));
}

#[test]
fn where_nack_is_not_negotiated_nothing_is_kept_to_be_sent_again() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let mut section = section(Kind::Video, RepairFormats::default());
    section.payloads[0].nack = false;
    let mut slot = slot_of(&section, start);
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    let (meta, bytes) = picture(EncodingIndex(0), 0, true);
    assert!(feed.insert(start, meta, &bytes));
    assert_eq!(exit.forward(start, &mut slot, &mut feed), 1);
    assert!(!slot.answer_nack(0, &feed, &mut exit.egress(start)));
}

/// A picture in one packet with so many bytes of payload.
fn large_picture(n: u64, len: usize) -> (PacketMeta, Vec<u8>) {
    let (mut meta, mut bytes) = picture(EncodingIndex(0), n, n == 0);
    bytes.resize(12 + len, 0);
    meta.payload = 12..12 + len;
    (meta, bytes)
}

#[test]
fn a_packet_leaves_out_what_it_can_to_fit_its_path_and_else_leaves_alone() {
    const LIMIT: usize = 1372;
    let start = Instant::now();
    // Around the payload are 12 bytes of header, 16 of the tag, and of extensions 16, or 12 without mid.
    for (is_known, payload, len, is_alone) in [
        (false, LIMIT - 44, LIMIT, false),
        (false, LIMIT - 43, LIMIT + 1, true),
        (true, LIMIT - 44, LIMIT, false),
        (true, LIMIT - 43, LIMIT - 3, false),
        (true, LIMIT - 40, LIMIT, false),
        // Fragmented in any case, it has all of them.
        (true, LIMIT - 39, LIMIT + 5, true),
    ] {
        let mut exit = Exit::new(start);
        exit.path_size.select(DESTINATION.into());
        exit.path_size.set_mtu(DESTINATION.into(), LIMIT + 28);
        let section = section(Kind::Video, RepairFormats::default());
        let mut slot = slot_of(&section, start);
        slot.is_reported = is_known;
        let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
        for n in 0..3 {
            let (meta, bytes) = large_picture(n, payload);
            assert!(feed.insert(start, meta, &bytes));
            assert_eq!(exit.forward(start, &mut slot, &mut feed), 1);
        }
        let sealed = exit.sealed();
        let lens = sealed.iter().map(Vec::len);
        assert_eq!(lens.collect::<Vec<_>>(), [len; 3], "{is_known} {payload}");
        let runs = if is_alone { 3 } else { 1 };
        assert_eq!(exit.runs(), runs, "{is_known} {payload}");
    }
}

#[test]
fn sound_is_repeated_as_far_as_the_path_has_room() {
    const RED: u8 = 63;
    let start = Instant::now();
    for (mtu, blocks) in [(1500, 4), (900, 3), (700, 2), (576, 1)] {
        let mut exit = Exit::new(start);
        exit.path_size.select(DESTINATION.into());
        exit.path_size.set_mtu(DESTINATION.into(), mtu);
        let red = RepairFormats {
            red: Some(RED),
            ..RepairFormats::default()
        };
        let section = section(Kind::Audio, red);
        let mut slot = slot_of(&section, start);
        slot.protection.red_distance = 3;
        let mut feed = Feed::new(Kind::Audio, Origin::Remote(WorkerIndex(0)));
        for n in 0..5 {
            let mut meta = video(EncodingIndex(0), 0, n, false);
            (meta.codec, meta.picture) = (Codec::Opus, None);
            meta.timestamp = 960 * n;
            meta.payload = 12..12 + 240;
            assert!(feed.insert(start, meta, &[n as u8; 12 + 240]));
            assert_eq!(exit.forward(start, &mut slot, &mut feed), 1);
        }
        let sealed = exit.sealed();
        assert!(sealed.iter().all(|datagram| datagram.len() + 28 <= mtu));
        let datagrams = exit.datagrams();
        let last = datagrams.last().unwrap();
        let header = RtpHeader::parse(last).unwrap();
        let found = match header.payload_type {
            RED => crate::rtp::red::parse(header.payload(last))
                .unwrap()
                .count(),
            _ => 1,
        };
        assert_eq!(found, blocks, "{mtu}");
    }
}

#[test]
fn a_repeated_fir_is_not_asked_again_while_its_key_frame_is_on_its_way() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let section = section(Kind::Video, RepairFormats::default());
    let mut slot = slot_of(&section, start);
    slot.round_trip = Some(Duration::from_millis(50));
    let at = |millis| start + Duration::from_millis(millis);
    assert!(slot.handle_full_intra(at(0), 7));
    assert!(
        slot.handle_full_intra(at(10), 7),
        "nothing has come of it yet"
    );
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    let (meta, bytes) = picture(EncodingIndex(0), 0, true);
    assert!(feed.insert(at(20), meta, &bytes));
    assert_eq!(exit.forward(at(20), &mut slot, &mut feed), 1);
    assert!(!slot.handle_full_intra(at(30), 7));
    assert!(!slot.handle_full_intra(at(120), 7));
    assert!(slot.handle_full_intra(at(121), 7), "it was lost");
    assert!(slot.handle_full_intra(at(122), 8), "another request");
}

#[test]
fn a_key_that_is_held_does_not_move_the_clock_of_the_sound() {
    let start = Instant::now();
    let mut feed = Feed::new(Kind::Audio, Origin::Remote(WorkerIndex(0)));
    for n in 0..500 {
        let mut meta = video(EncodingIndex(0), 0, n, false);
        (meta.codec, meta.picture) = (Codec::Opus, None);
        meta.arrival = start + Duration::from_millis(20 * n);
        meta.timestamp = 960 * n;
        if n % 10 == 9 {
            // Every packet of the event has the time of its beginning.
            meta.codec = Codec::TelephoneEvent { clock_rate: 48_000 };
            meta.timestamp = 0;
        }
        let now = meta.arrival;
        assert!(feed.insert(now, meta, &[0; 12]));
        feed.clear_pending();
        assert_eq!(
            feed.timestamp(now, EncodingIndex(0), 0),
            Some(960 * n),
            "{n}"
        );
    }
}

#[test]
fn what_feedback_says_is_lost_is_sent_again_unless_it_has_come_some_other_way() {
    let start = Instant::now();
    let mut exit = Exit::new(start);
    let mut slot = slot_of(&with_rtx(), start);
    let mut feed = Feed::new(Kind::Video, Origin::Remote(WorkerIndex(0)));
    for n in 0..4 {
        forward_picture(&mut exit, &mut slot, &mut feed, start, n);
    }
    let at = |millis| start + Duration::from_millis(millis);
    assert!(
        !slot.answer_loss(1, &feed, &mut exit.egress(at(100))),
        "so little is lost that requests come through"
    );
    slot.protection.heeds_feedback = true;
    slot.protection.first_copies = 2;
    for (when, number, is_sent) in [
        (at(100), 1, true),
        // The other copy of it.
        (at(101), 1, false),
        (at(200), 1, true),
        // It was asked for just now.
        (at(300), 2, true),
        (at(310), 2, false),
        // It was never sent.
        (at(310), 4, false),
    ] {
        let again = slot.answer_loss(number, &feed, &mut exit.egress(when));
        assert_eq!(again, is_sent, "{number} at {:?}", when - start);
    }
    slot.handle_arrival(1);
    slot.handle_arrival(3);
    assert!(!slot.answer_loss(1, &feed, &mut exit.egress(at(400))));
    assert!(
        slot.answer_loss(3, &feed, &mut exit.egress(at(400))),
        "it was not sent again before"
    );
    assert!(
        slot.answer_nack(1, &feed, &mut exit.egress(at(400))),
        "it is asked for"
    );
    slot.payloads[0].nack = false;
    slot.subscription.as_mut().unwrap().sent_as = Some(slot.payloads[0]);
    assert!(
        !slot.answer_loss(2, &feed, &mut exit.egress(at(500))),
        "no repair is wanted"
    );
}
