#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use super::*;
use crate::types::Ssrc;
use ::rtcp as other;
use other::extended_report::{
    DLRRReport, DLRRReportBlock, ExtendedReport as OtherExtended, ReceiverReferenceTimeReportBlock,
};
use other::goodbye::Goodbye as OtherGoodbye;
use other::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest as OtherFir};
use other::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use other::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use other::receiver_report::ReceiverReport as OtherReceiverReport;
use other::reception_report::ReceptionReport;
use other::sender_report::SenderReport as OtherSenderReport;
use other::source_description::SourceDescription;
use other::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};
use other::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use proptest::prelude::*;
use std::time::Duration;

const US: Ssrc = Ssrc(0x1111_2222);
const THEM: Ssrc = Ssrc(0x3333_4444);

/// What is written by `f`.
fn written(f: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut buffer = [0xaa; 4000];
    let mut writer = Writer::new(&mut buffer);
    f(&mut writer).unwrap();
    let len = writer.len();
    buffer[..len].to_vec()
}

/// The only packet of a compound.
fn parsed(compound: &[u8]) -> Packet<'_> {
    let mut packets = Packets::new(compound);
    let packet = packets.next().unwrap().unwrap();
    assert!(packets.next().is_none());
    packet
}

/// The only packet of a compound, by the other implementation.
fn parsed_by_other<T: Clone + 'static>(compound: &[u8]) -> T {
    let packets = other::packet::unmarshal(&mut &compound[..]).unwrap();
    assert_eq!(packets.len(), 1);
    packets[0].as_any().downcast_ref::<T>().unwrap().clone()
}

/// What the other implementation writes.
fn written_by_other(packet: &dyn other::Packet) -> Vec<u8> {
    other::packet::marshal(&[packet.cloned()]).unwrap().to_vec()
}

fn block(ssrc: u32) -> ReportBlock {
    ReportBlock {
        ssrc: Ssrc(ssrc),
        fraction_lost: 7,
        cumulative_lost: 0x12_3456,
        extended_highest: 0x0001_fffe,
        jitter: 90,
        last_sender_report: 0xaabb_ccdd,
        delay_since_last: 65_536,
    }
}

fn other_block(block: ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc.0,
        fraction_lost: block.fraction_lost,
        total_lost: block.cumulative_lost as u32,
        last_sequence_number: block.extended_highest,
        jitter: block.jitter,
        last_sender_report: block.last_sender_report,
        delay: block.delay_since_last,
    }
}

const INFO: SenderInfo = SenderInfo {
    ssrc: US,
    ntp: 0x0123_4567_89ab_cdef,
    rtp_timestamp: 90_000,
    packet_count: 5,
    octet_count: 600,
};

#[test]
fn sender_reports_agree_with_another_implementation() {
    let theirs = OtherSenderReport {
        ssrc: INFO.ssrc.0,
        ntp_time: INFO.ntp,
        rtp_time: INFO.rtp_timestamp,
        packet_count: INFO.packet_count,
        octet_count: INFO.octet_count,
        reports: vec![other_block(block(1)), other_block(block(2))],
        profile_extensions: Default::default(),
    };
    let bytes = written(|w| w.sender_report(INFO, &[block(1), block(2)]));
    assert_eq!(bytes, written_by_other(&theirs));
    let Packet::SenderReport(report) = parsed(&bytes) else {
        panic!("not a sender report");
    };
    assert_eq!(report.info, INFO);
    assert!(report.blocks().eq([block(1), block(2)]));
}

#[test]
fn receiver_reports_agree_with_another_implementation() {
    let theirs = OtherReceiverReport {
        ssrc: US.0,
        reports: vec![other_block(block(9))],
        profile_extensions: Default::default(),
    };
    let bytes = written(|w| w.receiver_report(US, &[block(9)]));
    assert_eq!(bytes, written_by_other(&theirs));
    let Packet::ReceiverReport(report) = parsed(&bytes) else {
        panic!("not a receiver report");
    };
    assert_eq!(report.ssrc, US);
    assert!(report.blocks().eq([block(9)]));
}

#[test]
fn blocks_beyond_31_go_into_more_packets() {
    let blocks: Vec<_> = (0..70).map(block).collect();
    for bytes in [
        written(|w| w.receiver_report(US, &blocks)),
        written(|w| w.sender_report(INFO, &blocks)),
    ] {
        let seen: Vec<Vec<_>> = Packets::new(&bytes)
            .map(|packet| match packet.unwrap() {
                Packet::SenderReport(report) => report.blocks().collect(),
                Packet::ReceiverReport(report) => report.blocks().collect(),
                other => panic!("{other:?}"),
            })
            .collect();
        let lens: Vec<_> = seen.iter().map(Vec::len).collect();
        assert_eq!(lens, [31, 31, 8]);
        assert_eq!(seen.concat(), blocks);
    }
}

#[test]
fn loss_has_a_sign_and_24_bits() {
    let table = [
        (-1, -1),
        (-(1 << 23), -(1 << 23)),
        (i32::MIN, -(1 << 23)),
        (i32::MAX, (1 << 23) - 1),
    ];
    for (put, seen) in table {
        let mut block = block(1);
        block.cumulative_lost = put;
        let bytes = written(|w| w.receiver_report(US, &[block]));
        let Packet::ReceiverReport(report) = parsed(&bytes) else {
            panic!("not a receiver report");
        };
        assert_eq!(report.blocks().next().unwrap().cumulative_lost, seen);
    }
}

#[test]
fn names_and_goodbyes_agree_with_another_implementation() {
    for name in ["", "a", "ab", "abc", "confab@example"] {
        let bytes = written(|w| w.cname(US, name));
        let theirs: SourceDescription = parsed_by_other(&bytes);
        assert_eq!(theirs.chunks.len(), 1);
        assert_eq!(theirs.chunks[0].source, US.0);
        assert_eq!(theirs.chunks[0].items[0].text, name.as_bytes());
        assert!(matches!(parsed(&bytes), Packet::SourceDescription));
    }
    let bytes = written(|w| w.goodbye(&[US, THEM]));
    let theirs = OtherGoodbye {
        sources: vec![US.0, THEM.0],
        reason: Default::default(),
    };
    assert_eq!(parsed_by_other::<OtherGoodbye>(&bytes), theirs);
    // Theirs adds an empty reason and padding.
    for bytes in [bytes, written_by_other(&theirs)] {
        let Packet::Goodbye(goodbye) = parsed(&bytes) else {
            panic!("not a goodbye");
        };
        assert!(goodbye.ssrcs().eq([US, THEM]));
    }
}

#[test]
fn picture_requests_agree_with_another_implementation() {
    let bytes = written(|w| w.picture_loss(US, THEM));
    let theirs = PictureLossIndication {
        sender_ssrc: US.0,
        media_ssrc: THEM.0,
    };
    assert_eq!(bytes, written_by_other(&theirs));
    assert!(matches!(
        parsed(&bytes),
        Packet::PictureLoss(PictureLoss {
            sender: US,
            media: THEM
        })
    ));

    let bytes = written(|w| w.full_intra_request(US, &[(THEM, 3), (Ssrc(5), 255)]));
    let entry = |ssrc, sequence_number| FirEntry {
        ssrc,
        sequence_number,
    };
    let theirs = OtherFir {
        sender_ssrc: US.0,
        media_ssrc: 0,
        fir: vec![entry(THEM.0, 3), entry(5, 255)],
    };
    assert_eq!(bytes, written_by_other(&theirs));
    let Packet::FullIntraRequest(request) = parsed(&bytes) else {
        panic!("not a full intra request");
    };
    assert!(request.entries().eq([(THEM, 3), (Ssrc(5), 255)]));
}

#[test]
fn extended_reports_agree_with_another_implementation() {
    let report = DlrrReport {
        ssrc: THEM,
        last_receiver_report: 0x4567_89ab,
        delay_since_last: 99,
    };
    let bytes = written(|w| w.dlrr(US, &[report, report]));
    let their_report = DLRRReport {
        ssrc: THEM.0,
        last_rr: 0x4567_89ab,
        dlrr: 99,
    };
    let theirs = OtherExtended {
        sender_ssrc: US.0,
        reports: vec![
            Box::new(DLRRReportBlock {
                reports: vec![their_report.clone(), their_report],
            }),
            Box::new(ReceiverReferenceTimeReportBlock { ntp_timestamp: 77 }),
        ],
    };
    let their_bytes = written_by_other(&theirs);
    assert_eq!(bytes[4..], their_bytes[4..bytes.len()]);
    let Packet::ExtendedReport(extended) = parsed(&their_bytes) else {
        panic!("not an extended report");
    };
    assert_eq!(extended.ssrc, US);
    let dlrr = ExtendedBlock::Dlrr(report);
    let wanted = [dlrr, dlrr, ExtendedBlock::ReferenceTime(77)];
    assert!(extended.blocks().eq(wanted));
}

#[test]
fn remb_is_clamped_and_keeps_18_bits() {
    let table = [
        (0, 0),
        (250_000, 250_000),
        ((1 << 18) - 1, (1 << 18) - 1),
        ((1 << 18) + 1, 1 << 18),
        (1_234_567_890, 1_234_567_168),
        (u64::MAX, u64::MAX << 46),
    ];
    for (put, wanted) in table {
        let bytes = written(|w| w.remb(US, put, &[THEM]));
        let Packet::Remb(remb) = parsed(&bytes) else {
            panic!("not a REMB");
        };
        assert_eq!((remb.sender, remb.bitrate), (US, wanted));
        assert!(remb.ssrcs().eq([THEM]));
        let theirs: ReceiverEstimatedMaximumBitrate = parsed_by_other(&bytes);
        // Theirs takes a bitrate of 0 for 2^23.
        assert!(theirs.bitrate == wanted as f32 || wanted == 0);
        assert_eq!(theirs.ssrcs, [THEM.0]);
    }
    let mut bytes = written(|w| w.remb(US, u64::MAX, &[]));
    bytes[17] = 0xff;
    let Packet::Remb(remb) = parsed(&bytes) else {
        panic!("not a REMB");
    };
    assert_eq!(remb.bitrate, u64::MAX, "the largest exponent");
}

#[test]
fn unknown_types_are_named_and_skipped() {
    let mut compound = vec![0x81, 204, 0, 1, 0, 0, 0, 1];
    compound.extend([
        0x8f, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, b'N', b'O', b'P', b'E',
    ]);
    compound.extend(written(|w| w.picture_loss(US, THEM)));
    let packets: Vec<_> = Packets::new(&compound).map(Result::unwrap).collect();
    let unknown = |at: usize| match packets[at] {
        Packet::Unknown {
            packet_type,
            format,
        } => (packet_type, format),
        ref other => panic!("{other:?}"),
    };
    assert_eq!((unknown(0), unknown(1)), ((204, 1), (206, 15)));
    assert!(matches!(packets[2], Packet::PictureLoss(_)));
}

#[test]
fn a_malformed_packet_does_not_hide_the_next_and_a_wrong_length_ends_all() {
    let mut compound = vec![0x81, 201, 0, 1, 0, 0, 0, 1]; // a block is claimed, none is there
    compound.extend(written(|w| w.picture_loss(US, THEM)));
    compound.extend([0x80, 201, 0, 9, 0, 0, 0, 1]);
    let seen: Vec<_> = Packets::new(&compound).map(|p| p.is_ok()).collect();
    assert_eq!(seen, [false, true, false]);
}

#[test]
fn padding_is_left_out() {
    let with_padding = |last| [0xa1, 203, 0, 2, 0, 0, 0, 1, 0, 0, 0, last];
    let padded = with_padding(4);
    let Packet::Goodbye(goodbye) = parsed(&padded) else {
        panic!("not a goodbye");
    };
    assert!(goodbye.ssrcs().eq([Ssrc(1)]));
    for bad in [0, 9, 8] {
        assert!(Packets::new(&with_padding(bad)).next().unwrap().is_err());
    }
}

#[test]
fn what_does_not_fit_leaves_the_rest() {
    let mut buffer = [0; 100];
    let mut writer = Writer::new(&mut buffer);
    writer.picture_loss(US, THEM).unwrap();
    let blocks: Vec<_> = (0..40).map(block).collect();
    assert_eq!(writer.receiver_report(US, &blocks), Err(NoRoom));
    assert_eq!(writer.sender_report(INFO, &blocks), Err(NoRoom));
    assert_eq!(writer.goodbye(&[US; 32]), Err(NoRoom));
    assert_eq!(writer.cname(US, &"x".repeat(256)), Err(NoRoom));
    assert_eq!(writer.len(), 12);
    writer.goodbye(&[US]).unwrap();
    assert_eq!(writer.len(), 20);
    assert_eq!(Writer::new(&mut []).picture_loss(US, THEM), Err(NoRoom));
}

#[test]
fn delays_and_round_trips() {
    let second = 1u64 << 32;
    let now = 1000 * second;
    let sent = compact_ntp(now - 3 * second / 2);
    let held = compact_delay(Duration::from_secs(1));
    assert_eq!(held, 65_536);
    assert_eq!(
        round_trip(now, sent, held),
        Some(Duration::from_millis(500))
    );
    assert_eq!(round_trip(now, 0, held), None);
    assert_eq!(round_trip(now, compact_ntp(now), held), None);
    assert_eq!(compact_delay(Duration::MAX), u32::MAX);
}

/// A feedback packet with these chunks and deltas, and how it reads.
fn feedback(base: u16, count: u16, rest: &[u8]) -> Option<Vec<(u16, PacketStatus)>> {
    let mut packet = vec![0x8f, 205, 0, (4 + rest.len() / 4) as u8];
    packet.extend([0, 0, 0, 1, 0, 0, 0, 2]);
    packet.extend(base.to_be_bytes());
    packet.extend(count.to_be_bytes());
    packet.extend([0, 0, 5, 7]);
    packet.extend(rest);
    match Packets::new(&packet).next()?.ok()? {
        Packet::TransportFeedback(feedback) => {
            assert_eq!((feedback.reference_time, feedback.feedback_count), (5, 7));
            Some(feedback.statuses().collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn known_bytes_of_transport_feedback() {
    use PacketStatus::{Lost, Received};
    // A run of 3 small deltas.
    let seen = feedback(9, 3, &[0x20, 3, 1, 2, 3, 0, 0, 0]).unwrap();
    assert_eq!(seen, [(0, Received(1)), (1, Received(2)), (2, Received(3))]);
    // One bit each: received, lost, received.
    let seen = feedback(9, 3, &[0xa8, 0, 4, 5]).unwrap();
    assert_eq!(seen, [(0, Received(4)), (1, Lost), (2, Received(5))]);
    // Two bits each: large, lost, small.
    let seen = feedback(9, 3, &[0xe1, 0, 0xff, 0xfe, 6, 0, 0, 0]).unwrap();
    assert_eq!(seen, [(0, Received(-2)), (1, Lost), (2, Received(6))]);
    // The reserved symbol, too few deltas, too few chunks, too many packets.
    assert_eq!(feedback(9, 3, &[0xe3, 0, 1, 2]), None);
    assert_eq!(feedback(9, 3, &[0x20, 3, 1, 2]), None);
    assert_eq!(feedback(9, 9, &[0xa8, 0, 0, 3]).unwrap().len(), 9);
    assert_eq!(feedback(9, 8192, &[0x1f, 0xff, 0, 0]), None);
    assert_eq!(feedback(9, 65_535, &[0x1f, 0xff, 0x1f, 0xff]), None);
}

#[test]
fn feedback_with_a_gap_too_long_starts_at_the_arrival() {
    let bytes = written(|w| {
        let arrivals = [(50_000, Duration::from_millis(64))];
        w.transport_feedback(ArrivalReport {
            sender: US,
            media: THEM,
            feedback_count: 0,
            base_sequence: 1,
            arrivals: &arrivals,
        })
        .map(|written| assert_eq!(written, 1))
    });
    let Packet::TransportFeedback(feedback) = parsed(&bytes) else {
        panic!("not a feedback");
    };
    assert_eq!((feedback.base_sequence, feedback.status_count), (50_000, 1));
    assert_eq!(feedback.reference_time, 1);
}

/// Writes feedback until every arrival is reported, into packets of at most `room` bytes.
fn feedback_packets(base: u16, arrivals: &[(u16, Duration)], room: usize) -> Vec<Vec<u8>> {
    let (mut base_sequence, mut rest, mut packets) = (base, arrivals, vec![]);
    while !rest.is_empty() {
        let mut buffer = vec![0xaa; room];
        let mut writer = Writer::new(&mut buffer);
        let written = writer
            .transport_feedback(ArrivalReport {
                sender: US,
                media: THEM,
                feedback_count: packets.len() as u8,
                base_sequence,
                arrivals: rest,
            })
            .unwrap();
        let len = writer.len();
        base_sequence = rest[written - 1].0.wrapping_add(1);
        rest = &rest[written..];
        buffer.truncate(len);
        packets.push(buffer);
    }
    packets
}

/// Every symbol a feedback of the other implementation holds.
fn other_symbols(feedback: &TransportLayerCc) -> Vec<SymbolTypeTcc> {
    let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
        PacketStatusChunk::RunLengthChunk(run) => {
            vec![run.packet_status_symbol; run.run_length.into()]
        }
        PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
    });
    symbols.take(feedback.packet_status_count.into()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nacks_agree_with_another_implementation(
        start in any::<u16>(),
        gaps in prop::collection::vec(1u16..30, 1..100),
    ) {
        let mut lost = vec![start];
        for gap in gaps {
            lost.push(lost[lost.len() - 1].wrapping_add(gap));
        }
        let bytes = written(|w| w.nack(US, THEM, &lost));
        let Packet::Nack(nack) = parsed(&bytes) else {
            panic!("not a NACK");
        };
        prop_assert_eq!((nack.sender, nack.media), (US, THEM));
        prop_assert!(nack.lost().eq(lost.iter().copied()));
        let theirs: TransportLayerNack = parsed_by_other(&bytes);
        let their_lost: Vec<u16> = theirs.nacks.iter().flat_map(|n| n.packet_list()).collect();
        prop_assert_eq!(&their_lost, &lost);

        let theirs = TransportLayerNack {
            sender_ssrc: US.0,
            media_ssrc: THEM.0,
            nacks: nack_pairs_from_sequence_numbers(&lost),
        };
        let bytes = written_by_other(&theirs);
        let Packet::Nack(nack) = parsed(&bytes) else {
            panic!("not a NACK");
        };
        prop_assert!(nack.lost().eq(lost.iter().copied()));
    }

    /// However packets are lost, delayed and reordered, and however small the packets of feedback
    /// are, each arrival is reported once, with its time, and the rest as lost; and another
    /// implementation reads the same.
    #[test]
    fn feedback_reports_every_arrival(
        base in any::<u16>(),
        epoch_ms in 0u64..1 << 40,
        steps in prop::collection::vec(
            (prop_oneof![80 => Just(1u16), 30 => 1u16..12, 1 => 1u16..9000], prop_oneof![
                80 => 0i64..2_000, 20 => -20_000i64..100_000, 1 => 0i64..20_000_000,
            ]),
            1..200,
        ),
        room in 60usize..1200,
    ) {
        let mut arrivals = vec![];
        let (mut sequence, mut micros) = (base, epoch_ms as i64 * 1000 + 1_000_000);
        for (gap, micros_later) in steps {
            sequence = sequence.wrapping_add(gap - 1);
            micros += micros_later;
            arrivals.push((sequence, Duration::from_micros(micros as u64)));
            sequence = sequence.wrapping_add(1);
        }

        let mut seen = vec![];
        for (number, bytes) in feedback_packets(base, &arrivals, room).iter().enumerate() {
            prop_assert!(bytes.len() <= room && bytes.len() % 4 == 0);
            let Packet::TransportFeedback(feedback) = parsed(bytes) else {
                panic!("not a feedback");
            };
            prop_assert_eq!(feedback.feedback_count, number as u8);
            let theirs: TransportLayerCc = parsed_by_other(bytes);
            prop_assert_eq!(theirs.base_sequence_number, feedback.base_sequence);
            prop_assert_eq!(theirs.reference_time, feedback.reference_time);
            let mut their_deltas = theirs.recv_deltas.iter();
            let symbols = other_symbols(&theirs);
            prop_assert_eq!(symbols.len(), usize::from(feedback.status_count));

            let mut ticks = i64::from(feedback.reference_time) * 256;
            for ((offset, status), symbol) in feedback.statuses().zip(symbols) {
                if let PacketStatus::Received(delta) = status {
                    prop_assert_ne!(symbol, SymbolTypeTcc::PacketNotReceived);
                    prop_assert_eq!(their_deltas.next().unwrap().delta, i64::from(delta) * 250);
                    ticks += i64::from(delta);
                    seen.push((feedback.base_sequence.wrapping_add(offset), ticks));
                } else {
                    prop_assert_eq!(symbol, SymbolTypeTcc::PacketNotReceived);
                }
            }
        }
        // The reference time wraps at 24 bits.
        let wrap = |ticks: i64| ticks & ((1 << 32) - 1);
        let seen: Vec<_> = seen.into_iter().map(|(s, t)| (s, wrap(t))).collect();
        let sent: Vec<_> = arrivals.iter()
            .map(|&(s, t)| (s, wrap((t.as_micros() / 250) as i64)))
            .collect();
        prop_assert_eq!(seen, sent);
    }

    /// Random bytes behind every known header, read to the end.
    #[test]
    fn no_bytes_panic(
        count in 0u8..64,
        packet_type in 200u8..=208,
        body in prop::collection::vec(any::<u8>(), 0..200),
        garbled in any::<bool>(),
    ) {
        let body = &body[..body.len() / 4 * 4];
        let mut packet = vec![0x80 | count, packet_type, 0, (body.len() / 4) as u8];
        packet.extend(body);
        if garbled && packet.len() > 12 {
            packet[3] ^= packet[9] & 3;
        }
        read_everything(&packet);
    }

    #[test]
    fn no_change_of_real_packets_panics(changes in prop::collection::vec((0usize..400, any::<u8>()), 1..6)) {
        let mut packet = written(|w| {
            w.sender_report(INFO, &[block(1)])?;
            w.cname(US, "name")?;
            w.nack(US, THEM, &[1, 2, 30])?;
            w.full_intra_request(US, &[(THEM, 1)])?;
            w.remb(US, 1_000_000, &[THEM])?;
            let report = DlrrReport { ssrc: THEM, last_receiver_report: 1, delay_since_last: 2 };
            w.dlrr(US, &[report])?;
            let arrivals: Vec<_> = (0..40).map(|n| (n * 2, Duration::from_millis(n.into()))).collect();
            let report = ArrivalReport {
                sender: US, media: THEM, feedback_count: 0, base_sequence: 0, arrivals: &arrivals,
            };
            w.transport_feedback(report).map(|_| ())
        });
        for (at, byte) in changes {
            let len = packet.len();
            packet[at % len] = byte;
        }
        read_everything(&packet);
    }
}

/// Walks every iterator; the number of items stays within what the bytes can hold.
fn read_everything(compound: &[u8]) {
    for packet in Packets::new(compound).flatten() {
        let items = match packet {
            Packet::SenderReport(report) => report.blocks().count(),
            Packet::ReceiverReport(report) => report.blocks().count(),
            Packet::Goodbye(goodbye) => goodbye.ssrcs().count(),
            Packet::Nack(nack) => nack.lost().count() / 17,
            Packet::FullIntraRequest(request) => request.entries().count(),
            Packet::Remb(remb) => remb.ssrcs().count(),
            Packet::ExtendedReport(report) => report.blocks().count(),
            Packet::TransportFeedback(feedback) => {
                let statuses = feedback.statuses();
                assert_eq!(statuses.count(), usize::from(feedback.status_count));
                0
            }
            Packet::PictureLoss(_) | Packet::SourceDescription | Packet::Unknown { .. } => 0,
        };
        assert!(items * 4 <= compound.len());
    }
}
