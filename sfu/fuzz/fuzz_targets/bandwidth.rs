//! Any RTCP against an estimator that has sent packets: the estimate stays in range.
#![no_main]

use std::time::{Duration, Instant};

use confab_sfu::inside::bandwidth::estimator::{BandwidthEstimator, MAX, MIN};
use confab_sfu::inside::bandwidth::sent::{PacketKind, SentPacket};
use confab_sfu::inside::rtp::rtcp::{Packet, Packets};
use confab_sfu::inside::rtp::sequence::SequenceNumber;
use confab_sfu::units::{Bitrate, DataSize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|compound: &[u8]| {
    let mut now = Instant::now();
    let mut estimator = BandwidthEstimator::default();
    estimator.set_wanted(Bitrate::MAX);
    let mut sequence = SequenceNumber(1 << 16);
    for packet in Packets::new(compound).flatten() {
        for _ in 0..100 {
            now += Duration::from_millis(1);
            let packet = SentPacket {
                at: now,
                size: DataSize::bytes(1200),
                kind: PacketKind::Video,
                cluster: estimator.poll_probe(now).map(|cluster| cluster.id),
                media: None,
            };
            estimator.handle_sent(sequence, packet);
            sequence = sequence.next();
        }
        match packet {
            Packet::TransportFeedback(feedback) => estimator.handle_feedback(now, &feedback),
            Packet::Remb(remb) => estimator.handle_remb(now, remb.bitrate),
            _ => estimator.handle_timeout(now, sequence.0 % 200 == 0),
        }
        assert!((MIN..=MAX).contains(&estimator.estimate()));
    }
});
