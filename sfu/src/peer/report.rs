//! RTCP: what a client reports and asks for, and what it is told.
//!
//! In: SRTCP datagrams from a validated address, and time. Out: what the worker has to do for the
//! client's requests; feedback to publishers (NACK, PLI, arrivals), reports to both sides.

use std::time::{Duration, Instant};

use super::{Context, Peer};
use crate::api::DropReason;
use crate::bandwidth::estimator::MAX;
use crate::bandwidth::sent::{Fate, PacketKind};
use crate::media::{KeyFrameRequest, Kind};
use crate::path::Path;
use crate::publish::encoding::SenderReportSeen;
use crate::publish::feed::Feed;
use crate::rtp::rtcp::{
    DlrrReport, ExtendedBlock, Packet, Packets, ReportBlock, SenderInfo, Writer, compact_ntp,
    round_trip,
};
use crate::subscribe::slot::Slot;
use crate::types::{EncodingIndex, SlotIndex, Ssrc, TrackId};
use crate::units::Bitrate;

/// Time between two reports. libwebrtc reports once a second for video; RFC 3550's five seconds
/// are for multicast.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time to the first reports, early so that audio and video are in step soon.
pub(crate) const FIRST_INTERVAL: Duration = Duration::from_millis(250);

/// What a publisher is allowed for each of its other tracks when it is asked for less of one: audio with
/// all its repair, and what browsers make of one camera at most (libwebrtc of 1280×720).
const SOUND: Bitrate = Bitrate::kbps(64);
const PICTURE: Bitrate = Bitrate::kbps(2500);

/// Streams named beside a limit, which is of all: it fits a packet with them.
const MAX_LIMITED: usize = 64;

/// A limit that is lower by less is told with the next report.
const LOWER: f64 = 0.95;

/// Most bytes of an RTCP packet before encryption: with SRTCP's, UDP's and IPv6's own it stays below
/// 1280 bytes, which every IPv6 path carries.
const MAX_RTCP: usize = 1160;

/// Most requests taken from one datagram. A NACK for a whole second at 10 Mbit/s has as many.
const MAX_ACTIONS: usize = 1024;

/// How far a clock offset moves towards a later sample: one 64th per report follows a drift of a
/// second a minute, and a delayed report hardly moves it.
const OFFSET_SMOOTHING: i64 = 64;

/// Why a packet is to be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The client asks for it.
    Nack,
    /// Its transport-wide feedback says that it is lost.
    Feedback,
}

/// What a client's RTCP asks of the worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// A key frame for what this slot shows.
    KeyFrame { slot: SlotIndex },
    /// A packet is to be sent again.
    Resend {
        slot: SlotIndex,
        /// As the subscriber counts.
        sequence: u16,
        cause: Cause,
    },
    /// A listener loses this much of a track, of 256, without repair that would make up for it.
    ListenerLoss { track: TrackId, fraction_lost: u8 },
    /// A publisher's clock, by the server's time.
    SenderReport {
        track: TrackId,
        encoding: EncodingIndex,
        report: SenderReportSeen,
    },
}

impl Peer {
    /// Takes an RTCP datagram; what is to be done for it is added to `actions`.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn handle_rtcp(
        &mut self,
        from: Path,
        datagram: &mut [u8],
        cx: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), DropReason> {
        if !self.flood.admit(cx.now) {
            return Err(DropReason::RtcpFlood);
        }
        let secured = self.secured.as_mut().ok_or(DropReason::RtcpBeforeDtls)?;
        let len = secured
            .receiver
            .open_rtcp(datagram)
            .map_err(crate::srtp::SrtpError::reason)?;
        self.silence.handle_packet(cx.now);
        self.handle_authenticated(cx.now, from);
        for packet in Packets::new(datagram.get(..len).unwrap_or_default()) {
            match packet.map_err(|_| DropReason::RtcpMalformed)? {
                Packet::SenderReport(report) => {
                    let info = report.info;
                    self.handle_sender_report(info, cx, actions);
                    report
                        .blocks()
                        .for_each(|block| self.handle_block(block, cx, actions));
                }
                Packet::ReceiverReport(report) => {
                    report
                        .blocks()
                        .for_each(|block| self.handle_block(block, cx, actions));
                }
                Packet::Nack(nack) => {
                    if let Some(slot) = self.slot_of(nack.media) {
                        let room = MAX_ACTIONS.saturating_sub(actions.len());
                        let requests = nack.lost().take(room);
                        actions.extend(requests.map(|sequence| Action::Resend {
                            slot,
                            sequence,
                            cause: Cause::Nack,
                        }));
                    }
                }
                Packet::PictureLoss(request) => {
                    actions.extend(
                        self.slot_of(request.media)
                            .map(|slot| Action::KeyFrame { slot }),
                    );
                }
                Packet::FullIntraRequest(request) => {
                    for (ssrc, number) in request.entries() {
                        let slot = self.slot_of(ssrc).filter(|_| actions.len() < MAX_ACTIONS);
                        let Some(index) = slot else { continue };
                        let slot = self.slots.get_mut(index.0).and_then(Option::as_mut);
                        if slot.is_some_and(|slot| slot.handle_full_intra(cx.now, number)) {
                            actions.push(Action::KeyFrame { slot: index });
                        }
                    }
                }
                Packet::ExtendedReport(report) => {
                    let reference = report.blocks().find_map(|block| match block {
                        ExtendedBlock::ReferenceTime(ntp) => Some(ntp),
                        ExtendedBlock::Dlrr(_) => None,
                    });
                    if let Some(ntp) = reference {
                        self.answer_reference_time(report.ssrc, ntp, cx);
                    }
                }
                Packet::TransportFeedback(feedback) => {
                    let ends_silence = self.pacing.handle_feedback(cx.now, &feedback);
                    if let Some(over) = self.pacing.take_outage() {
                        let slots = self.slots.iter_mut().flatten();
                        slots.for_each(|slot| slot.handle_outage(over));
                    }
                    self.handle_settled(actions);
                    // A key frame is sooner there than all that was lost.
                    if ends_silence {
                        self.slots.iter_mut().flatten().for_each(Slot::pass_over);
                    }
                    let slots = (0..self.slots.len()).map(SlotIndex);
                    let slots = slots.filter(|_| ends_silence);
                    let room = MAX_ACTIONS.saturating_sub(actions.len());
                    actions.extend(slots.take(room).map(|slot| Action::KeyFrame { slot }));
                }
                Packet::Remb(remb) => self.pacing.handle_remb(cx.now, remb.bitrate),
                // Streams end by signaling, not by RTCP.
                _ => {}
            }
        }
        if let Some(estimate) = self.pacing.estimate() {
            self.allocator.handle_estimate(cx.now, estimate);
        }
        Ok(())
    }

    /// Has what feedback says is lost sent again.
    fn handle_settled(&mut self, actions: &mut Vec<Action>) {
        for result in self.pacing.settled() {
            let is_again = result.packet.kind == PacketKind::Retransmission;
            let has_arrived = match result.fate {
                Fate::Lost => false,
                Fate::Arrived(_) if is_again => true,
                Fate::ArrivedLate(_) => true,
                Fate::Arrived(_) | Fate::Unknown => continue,
            };
            let Some(media) = result.packet.media else {
                continue;
            };
            let Some(slot) = self.slot_of(media.ssrc) else {
                continue;
            };
            if has_arrived {
                if let Some(Some(slot)) = self.slots.get_mut(slot.0) {
                    slot.handle_arrival(media.sequence);
                }
            } else if actions.len() < MAX_ACTIONS {
                actions.push(Action::Resend {
                    slot,
                    sequence: media.sequence,
                    cause: Cause::Feedback,
                });
            }
        }
    }

    fn slot_of(&self, ssrc: Ssrc) -> Option<SlotIndex> {
        self.slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|s| s.ssrc == ssrc))
            .map(SlotIndex)
    }

    fn handle_block(&mut self, block: ReportBlock, cx: &Context<'_>, actions: &mut Vec<Action>) {
        let now_ntp = cx.clock.ntp(cx.now);
        let sample = round_trip(now_ntp, block.last_sender_report, block.delay_since_last);
        if let Some(index) = self.slot_of(block.ssrc)
            && let Some(Some(slot)) = self.slots.get_mut(index.0)
        {
            slot.handle_report(cx.now, sample, &block);
            let unprotected = slot.track().filter(|_| slot.relies_on_the_encoder());
            if let Some(track) = unprotected.filter(|_| actions.len() < MAX_ACTIONS) {
                actions.push(Action::ListenerLoss {
                    track,
                    fraction_lost: block.fraction_lost,
                });
            }
            self.round_trip = slot.round_trip.or(self.round_trip);
            let round_trip = slot.round_trip;
            if let Some(loss) = slot.loss().filter(|_| slot.kind == Kind::Video) {
                // Audio goes over the same link, and libwebrtc reports on it once in five seconds.
                let sounds = self.slots.iter_mut().flatten();
                for sound in sounds.filter(|slot| slot.kind == Kind::Audio) {
                    sound.hear_of_link(loss, round_trip);
                }
            }
        }
    }

    fn handle_sender_report(
        &mut self,
        info: SenderInfo,
        cx: &Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let Some((publication, encoding)) = self.media_route(info.ssrc) else {
            return;
        };
        let Some(state) = self.publications.get_mut(publication) else {
            return;
        };
        let Some(stream) = state.encodings.get_mut(usize::from(encoding)) else {
            return;
        };
        stream.handle_sender_report(cx.now, info.ntp, info.rtp_timestamp);
        let Some((track, seen)) = state.track.zip(stream.sender_report) else {
            return;
        };
        // All of a publisher's streams share one clock, so they share the offset too: whatever
        // error it has, audio and video stay in step.
        let sample = cx.clock.ntp(cx.now).wrapping_sub(info.ntp);
        let offset = match self.clock_offset {
            None => sample,
            Some(offset) => match sample.wrapping_sub(offset) as i64 {
                // The report that was under way the shortest tells the offset best.
                earlier if earlier < 0 => sample,
                later => offset.wrapping_add((later / OFFSET_SMOOTHING) as u64),
            },
        };
        self.clock_offset = Some(offset);
        actions.push(Action::SenderReport {
            track,
            encoding,
            report: SenderReportSeen {
                ntp: seen.ntp.wrapping_add(offset),
                ..seen
            },
        });
    }

    /// Answers a receiver that sends no media and wants to know its round trip (RFC 3611 section
    /// 4.5).
    fn answer_reference_time(&mut self, ssrc: Ssrc, ntp: u64, cx: &mut Context<'_>) {
        let sender = self.rtcp_ssrc;
        self.send_rtcp(cx, |writer| {
            writer.dlrr(
                sender,
                &[DlrrReport {
                    ssrc,
                    last_receiver_report: compact_ntp(ntp),
                    delay_since_last: 0,
                }],
            )
        });
    }

    /// Asks publishers for what is due: lost packets and key frames.
    #[allow(
        clippy::indexing_slicing,
        reason = "it goes through what there is, between whose turns the peer sends"
    )]
    pub(super) fn send_requests(&mut self, cx: &mut Context<'_>) {
        let sender = self.rtcp_ssrc;
        let round_trip = self.round_trip;
        let mut lost = Vec::new();
        for publication in 0..self.publications.len() {
            for encoding in 0..self.publications[publication].encodings.len() {
                let state = &mut self.publications[publication];
                let may_nack = state.may_nack();
                let key_frame_request = state.key_frame_request();
                let is_live = state.track.is_some() && !state.muted;
                let stream = &mut state.encodings[encoding];
                let Some(media) = stream.ssrc else {
                    // There is nobody to ask until its first packet has come. The request is taken as
                    // uttered, so that it is not due all the time; it will be repeated.
                    stream.key_frames.poll(cx.now);
                    continue;
                };
                lost.clear();
                let given_up = stream.nack.poll(cx.now, round_trip, &mut lost);
                cx.stats.packets_given_up += given_up as u64;
                if given_up > 0 && is_live && state.kind == Kind::Video {
                    stream.key_frames.request(cx.now);
                }
                let wants_key_frame = stream.key_frames.poll(cx.now);
                let request = key_frame_request.filter(|_| wants_key_frame);
                let is_unasked = wants_key_frame && key_frame_request.is_none();
                let number = stream.key_frames.number();
                if is_unasked && !std::mem::replace(&mut state.is_known_deaf, true) {
                    tracing::info!(
                        peer = self.id.0,
                        mid = %state.mid,
                        "this publisher has negotiated neither PLI nor FIR, so it cannot be asked for \
                         key frames: viewers wait for the next one that it sends by itself"
                    );
                }
                if may_nack && !lost.is_empty() {
                    cx.stats.nacks_sent += lost.len() as u64;
                    self.send_rtcp(cx, |writer| writer.nack(sender, media, &lost));
                }
                if let Some(request) = request {
                    cx.stats.key_frame_requests_sent += 1;
                    self.send_rtcp(cx, |writer| match request {
                        KeyFrameRequest::PictureLoss => writer.picture_loss(sender, media),
                        KeyFrameRequest::FullIntra => {
                            writer.full_intra_request(sender, &[(media, number)])
                        }
                    });
                }
            }
        }
    }

    /// Tells the publisher what has arrived, if that is due.
    pub(super) fn send_feedback(&mut self, cx: &mut Context<'_>) {
        // Any stream of the peer's will do, and so will none when no packet could be bound to one:
        // what has arrived is acknowledged all the same, or the feedback would stay due for ever.
        let encodings = || self.publications.iter().flat_map(|p| &p.encodings);
        let media = encodings().find_map(|e| e.ssrc).unwrap_or(Ssrc(0));
        let missing_since = encodings().filter_map(|e| e.nack.missing_since()).min();
        let sender = self.rtcp_ssrc;
        let round_trip = self.round_trip;
        let slots = self.slots.iter().flatten();
        let told = slots.filter_map(Slot::loss).fold(0.0, f64::max);
        let return_loss = self.pacing.estimator().link_loss().max(told);
        let mut feedback = std::mem::take(&mut self.feedback);
        feedback.set_return_loss(return_loss);
        if let Some((mut egress, _)) = self.egress(cx) {
            let now = egress.now;
            let ssrcs = (sender, media);
            feedback.poll(
                now,
                round_trip,
                missing_since,
                ssrcs,
                &mut [0; MAX_RTCP],
                |packet| {
                    egress.send_rtcp(packet);
                },
            );
        }
        // Until it says what it loses, it is taken to lose as much as we do on the way from it.
        let mut slots = self.slots.iter().flatten();
        if slots.all(|slot| slot.kind == Kind::Audio || slot.loss().is_none()) {
            for slot in self.slots.iter_mut().flatten() {
                slot.hear_of_link(feedback.loss(), round_trip);
            }
        }
        self.feedback = feedback;
    }

    /// Asks for no more of a track than its subscribers can be sent. Returns what is asked for then: of
    /// several encodings each subscriber gets the one that fits.
    pub(crate) fn set_ceiling(
        &mut self,
        now: Instant,
        track: TrackId,
        ceiling: Option<Bitrate>,
    ) -> Option<Bitrate> {
        let publication = self.publication_of(track)?;
        let ceiling = ceiling.filter(|_| publication.encodings.len() == 1);
        if !publication.heeds_limits() {
            return ceiling;
        }
        let before = std::mem::replace(&mut publication.ceiling, ceiling);
        let is_lower = ceiling.is_some_and(|rate| rate < before.unwrap_or(MAX).scale(LOWER));
        if is_lower && self.next_report.is_some() {
            self.next_report = Some(now);
        }
        self.is_limited |= ceiling.is_some();
        ceiling
    }

    /// The most that the client is to send, once there has been a limit: it holds until another is told.
    fn limit(&self) -> Option<Bitrate> {
        let published = || self.publications.iter().filter(|p| p.track.is_some());
        if published().all(|p| p.ceiling.is_none()) {
            return self.is_limited.then_some(MAX);
        }
        let allowed = published().map(|publication| match publication.kind {
            Kind::Audio => SOUND,
            Kind::Video => publication.ceiling.unwrap_or(PICTURE),
        });
        Some(allowed.sum())
    }

    /// Whether reports are due.
    #[must_use]
    pub(crate) fn reports_due(&self, now: Instant) -> bool {
        self.next_report.is_some_and(|due| now >= due)
    }

    /// Sends sender reports for the slots and reception reports for the publications. `feed` finds
    /// the feed of a track.
    pub(crate) fn send_reports<'f>(
        &mut self,
        cx: &mut Context<'_>,
        feed: impl Fn(TrackId) -> Option<&'f Feed>,
    ) {
        self.next_report = Some(cx.now + INTERVAL);
        let now = cx.now;
        let ntp = cx.clock.ntp(now);
        let reports: Vec<SenderInfo> = self
            .slots
            .iter()
            .flatten()
            .filter_map(|slot| {
                let rtp_timestamp = slot.sender_timestamp(now, feed(slot.track()?)?)?;
                let (packets, bytes) = slot.totals();
                Some(SenderInfo {
                    ssrc: slot.ssrc,
                    ntp,
                    rtp_timestamp,
                    // Both wrap (RFC 3550 section 6.4.1).
                    packet_count: packets as u32,
                    octet_count: bytes as u32,
                })
            })
            .collect();
        let blocks: Vec<ReportBlock> = self
            .publications
            .iter_mut()
            .flat_map(|p| &mut p.encodings)
            .filter_map(|e| e.report_block(now))
            .collect();
        let (own, cname) = (self.rtcp_ssrc, self.cname.clone());
        if let Some(limit) = self.limit() {
            let encodings = self.publications.iter().flat_map(|p| &p.encodings);
            let ssrcs: Vec<Ssrc> = encodings.filter_map(|e| e.ssrc).take(MAX_LIMITED).collect();
            self.send_rtcp(cx, |writer| writer.remb(own, limit.as_bps(), &ssrcs));
        }
        // A report holds 31 blocks (RFC 3550 section 6.4.2).
        for chunk in blocks.chunks(31) {
            self.send_rtcp(cx, |writer| {
                writer.receiver_report(own, chunk)?;
                writer.cname(own, &cname)
            });
        }
        // A report with its name is 28 + 28 bytes, so that sixteen fit well.
        for chunk in reports.chunks(16) {
            self.send_rtcp(cx, |writer| {
                for &info in chunk {
                    writer.sender_report(info, &[])?;
                }
                chunk
                    .iter()
                    .try_for_each(|info| writer.cname(info.ssrc, &cname))
            });
        }
    }

    fn send_rtcp(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), crate::rtp::rtcp::NoRoom>,
    ) {
        let mut buffer = [0; MAX_RTCP];
        let mut writer = Writer::new(&mut buffer);
        let written = write(&mut writer);
        let len = writer.len();
        if written.is_err() {
            cx.stats.drop(DropReason::RtcpTooLong);
            return;
        }
        if let Some((mut egress, _)) = self.egress(cx) {
            egress.send_rtcp(buffer.get(..len).unwrap_or_default());
        }
    }
}
