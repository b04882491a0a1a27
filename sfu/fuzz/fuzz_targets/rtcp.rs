//! Any RTCP: every view is read to its end, which the length of the packet bounds.
#![no_main]

use confab_sfu::inside::rtp::rtcp::{MAX_STATUS_COUNT, Packet, Packets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|compound: &[u8]| {
    for packet in Packets::new(compound).flatten() {
        let (items, most) = match packet {
            Packet::SenderReport(report) => (report.blocks().count(), 31),
            Packet::ReceiverReport(report) => (report.blocks().count(), 31),
            Packet::Goodbye(goodbye) => (goodbye.ssrcs().count(), 31),
            Packet::Nack(nack) => (nack.lost().count(), compound.len() / 4 * 17),
            Packet::FullIntraRequest(request) => (request.entries().count(), compound.len() / 8),
            Packet::Remb(remb) => (remb.ssrcs().count(), 255),
            Packet::ExtendedReport(report) => (report.blocks().count(), compound.len() / 8),
            Packet::TransportFeedback(feedback) => {
                (feedback.statuses().count(), MAX_STATUS_COUNT.into())
            }
            Packet::PictureLoss(_) | Packet::SourceDescription | Packet::Unknown { .. } => (0, 0),
        };
        assert!(items <= most);
    }
});
