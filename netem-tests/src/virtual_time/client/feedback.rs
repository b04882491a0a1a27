//! What a client tells the server of what it receives, and what it does when the server tells it.

use std::time::{Duration, Instant};

use confab_sfu::inside::rtp::rtcp::{
    Packet, PacketStatus, Packets, ReportBlock, SenderInfo, round_trip,
};
use confab_sfu::media::Kind;
use confab_sfu::types::Ssrc;

use super::Client;
use super::nack::DEFAULT_ROUND_TRIP;
use super::reception::SenderReport;
use super::send::Source;

/// Time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What of a limit is left for what is encoded: headers are not.
const ENCODED: f64 = 0.9;

/// Time to the first reports, as libwebrtc's, which halves the interval for the first.
pub(super) const FIRST_REPORT: Duration = Duration::from_millis(500);

impl Client {
    pub(super) fn handle_rtcp(&mut self, now: Instant, bytes: &mut [u8]) -> Result<(), String> {
        // The end of the server's handshake was lost: it will come again, this will not.
        let Some(secured) = &mut self.secured else {
            return Ok(());
        };
        let len = secured
            .receiver
            .open_rtcp(bytes)
            .map_err(|e| e.to_string())?;
        for packet in Packets::new(&bytes[..len]) {
            match packet.map_err(|e| e.to_string())? {
                Packet::SenderReport(report) => {
                    let info = report.info;
                    let slot = self.slots.iter_mut().find(|slot| slot.ssrc == info.ssrc);
                    if let Some(slot) = slot {
                        slot.handle_sender_report(SenderReport {
                            ntp: info.ntp,
                            timestamp: info.rtp_timestamp,
                            at: now,
                        });
                    }
                    self.handle_blocks(now, report.blocks());
                }
                Packet::ReceiverReport(report) => self.handle_blocks(now, report.blocks()),
                Packet::Nack(nack) => {
                    let lost: Vec<u16> = nack.lost().collect();
                    for source in &mut self.sources {
                        let round_trip = self.round_trip.unwrap_or_default();
                        source.resend(now, nack.media, &lost, round_trip, &mut self.outgoing);
                    }
                }
                Packet::PictureLoss(_) if !self.setup.has_pli => {
                    return Err("PLI was not negotiated".into());
                }
                Packet::PictureLoss(request) => {
                    let is_sound = self
                        .sources
                        .iter()
                        .any(|s| s.kind == Kind::Audio && s.encodings[0].ssrc == request.media);
                    if is_sound && !self.setup.is_tolerant {
                        return Err("a key frame was asked of sound".into());
                    }
                    for source in &mut self.sources {
                        source.key_frame_wanted(now, request.media);
                    }
                }
                Packet::FullIntraRequest(request) => {
                    for (ssrc, _) in request.entries() {
                        for source in &mut self.sources {
                            source.key_frame_wanted(now, ssrc);
                        }
                    }
                }
                Packet::TransportFeedback(feedback) => {
                    let all = feedback.statuses().count() as u64;
                    let statuses = feedback.statuses();
                    let lost = statuses.filter(|(_, status)| *status == PacketStatus::Lost);
                    let lost = lost.count() as u64;
                    self.packets_acknowledged += all - lost;
                    self.packets_denied += lost;
                }
                Packet::Remb(remb) => self.heed(remb.bitrate),
                Packet::Unknown { packet_type, .. } => {
                    return Err(format!("RTCP packet type {packet_type}"));
                }
                _ => {}
            }
        }
        self.send_outgoing();
        Ok(())
    }

    /// Sends no more than it is told to, bits a second.
    fn heed(&mut self, most: u64) {
        let (sounds, pictures): (Vec<_>, Vec<_>) =
            self.sources.iter_mut().partition(|s| s.kind == Kind::Audio);
        let sound: f64 = sounds.iter().map(|source| source.target_bitrate()).sum();
        let each = (most as f64 * ENCODED - sound).max(0.0) / pictures.len().max(1) as f64;
        pictures.into_iter().for_each(|source| source.limit(each));
    }

    /// Measures the round trip (RFC 3550 section 6.4.1).
    fn handle_blocks(&mut self, now: Instant, blocks: impl Iterator<Item = ReportBlock>) {
        let now_ntp = self.clock.ntp(now);
        for block in blocks {
            let measured = round_trip(now_ntp, block.last_sender_report, block.delay_since_last);
            self.round_trip = measured.or(self.round_trip);
            let is_of =
                |source: &&mut Source| source.encodings.iter().any(|e| e.ssrc == block.ssrc);
            if let Some(source) = self.sources.iter_mut().find(is_of) {
                source.loss = f64::from(block.fraction_lost) / 256.0;
            }
        }
    }

    /// Sends what feedback is due.
    pub(super) fn send_feedback(&mut self, now: Instant) {
        self.ask_again(now);
        self.tell_arrivals(now);
        self.tell_estimate(now);
        if self.next_report.is_some_and(|due| now >= due) {
            self.next_report = Some(now + REPORT_INTERVAL);
            self.report(now);
        }
    }

    fn ask_again(&mut self, now: Instant) {
        let sender = self.rtcp_ssrc;
        let round_trip = self.round_trip.unwrap_or(DEFAULT_ROUND_TRIP);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let (ssrc, lost) = (slot.ssrc, slot.poll_nack(now, round_trip));
            let wants_key_frame = slot.poll_key_frame(now);
            if !lost.is_empty() {
                self.send_rtcp(|writer| writer.nack(sender, ssrc, &lost));
            }
            if wants_key_frame {
                self.send_rtcp(|writer| writer.picture_loss(sender, ssrc));
            }
        }
    }

    fn tell_arrivals(&mut self, now: Instant) {
        let Some(media) = self.slots.first().map(|slot| slot.ssrc) else {
            return;
        };
        for packet in self.arrivals.poll(now, self.rtcp_ssrc, media) {
            self.send_plain_rtcp(&packet);
        }
    }

    fn tell_estimate(&mut self, now: Instant) {
        let Some(estimate) = self.remb.poll(now) else {
            return;
        };
        let sender = self.rtcp_ssrc;
        let ssrcs: Vec<Ssrc> = self.slots.iter().map(|slot| slot.ssrc).collect();
        self.send_rtcp(|writer| writer.remb(sender, estimate, &ssrcs));
    }

    fn report(&mut self, now: Instant) {
        let ntp = self.clock.ntp(now);
        let since_beginning = now - self.epoch;
        let sources = self.sources.iter();
        let infos: Vec<SenderInfo> = sources
            .filter(|_| self.setup.sends_reports)
            .flat_map(|source| {
                let rtp_timestamp = source.timestamp(since_beginning);
                source
                    .reports()
                    .map(move |(ssrc, packets, octets)| SenderInfo {
                        ssrc,
                        ntp,
                        rtp_timestamp,
                        packet_count: packets,
                        octet_count: octets,
                    })
            })
            .collect();
        let blocks: Vec<_> = self
            .slots
            .iter_mut()
            .filter_map(|s| s.report_block(now))
            .collect();
        let own = self.rtcp_ssrc;
        for info in infos {
            self.send_rtcp(|writer| {
                writer.sender_report(info, &[])?;
                writer.cname(info.ssrc, "client")
            });
        }
        self.send_rtcp(|writer| {
            writer.receiver_report(own, &blocks)?;
            writer.cname(own, "client")
        });
    }
}
