//! What the far side says about what the bot sends: how much of it was lost, and that a key frame
//! is wanted.
//!
//! In: RTCP, as an interceptor of the `webrtc` crate sees it. Out: losses to be taken by SSRC, and
//! requests for key frames marked for the application.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rtc::interceptor::{Attribute, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;

use crate::sync::lock;

/// Streams whose losses are remembered; a bot sends two.
const MAX_LOSSES: usize = 16;

/// The share of packets lost that the far side last reported of each stream, by SSRC, until it is
/// taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses(Arc<Mutex<HashMap<u32, f64>>>);

impl Losses {
    /// What was reported since the last call.
    pub(crate) fn take(&self, ssrc: u32) -> Option<f64> {
        lock(&self.0).remove(&ssrc)
    }

    /// Takes note of receiver reports (RFC 3550 section 6.4).
    fn handle_rtcp(&self, packet: &dyn rtcp::Packet) {
        let packet = packet.as_any();
        let reports: &[ReceptionReport] = if let Some(report) = packet.downcast_ref() {
            let report: &ReceiverReport = report;
            &report.reports
        } else if let Some(report) = packet.downcast_ref() {
            let report: &SenderReport = report;
            &report.reports
        } else {
            &[]
        };
        let mut losses = lock(&self.0);
        for report in reports {
            if losses.len() < MAX_LOSSES || losses.contains_key(&report.ssrc) {
                losses.insert(report.ssrc, f64::from(report.fraction_lost) / 256.0);
            }
        }
    }
}

/// Notes the losses reported and marks requests for key frames for the application; all other RTCP
/// ends with the interceptors.
pub(crate) struct Feedback {
    losses: Losses,
    incoming: VecDeque<TaggedPacket>,
    outgoing: VecDeque<TaggedPacket>,
}

impl Feedback {
    pub(crate) fn new(losses: Losses) -> Feedback {
        Feedback {
            losses,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
        }
    }
}

/// Whether any of the packets asks for a key frame.
pub(crate) fn asks_for_key_frame(packets: &[Box<dyn rtcp::Packet>]) -> bool {
    packets.iter().any(|packet| {
        let packet = packet.as_any();
        packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>()
    })
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Feedback {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc::shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(packets) = &mut packet.message.packet {
            for packet in packets.iter() {
                self.losses.handle_rtcp(packet.as_ref());
            }
            packets.retain(|packet| asks_for_key_frame(std::slice::from_ref(packet)));
            if packets.is_empty() {
                return Ok(());
            }
            packet.message.add(Attribute::DeliverToApplication);
        }
        self.incoming.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.incoming.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.outgoing.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outgoing.pop_front()
    }
}

impl Interceptor for Feedback {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_once_and_strangers_take_no_room() {
        let losses = Losses::default();
        let report = |ssrc| ReceiverReport {
            reports: vec![ReceptionReport {
                ssrc,
                fraction_lost: 64,
                ..Default::default()
            }],
            ..Default::default()
        };
        losses.handle_rtcp(&report(7));
        assert_eq!((losses.take(7), losses.take(7)), (Some(0.25), None));
        for ssrc in 0..100 {
            losses.handle_rtcp(&report(ssrc));
        }
        assert_eq!(lock(&losses.0).len(), MAX_LOSSES);
    }
}
