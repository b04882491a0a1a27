//! The media connection: one `PeerConnection` with the m-lines the bot sends and receives on.
//!
//! In: a plan of m-lines, the server's answer, RTP packets to send. Out: offers, the tracks that
//! arrive, requests for key frames from those who watch.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{
    Attribute, Interceptor, NackResponderBuilder, Packet, StreamInfo, TaggedPacket,
};
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
    RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use tokio::sync::{mpsc, watch};
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCPeerConnectionState, RTCSessionDescription, RTCStatsReport, Registry, SettingEngineBuilder,
    Slot, StatsSelector, configure_rtcp_reports, configure_simulcast_extension_headers,
    configure_twcc,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, RtpTransceiver};

use crate::BotError;
use crate::codec::{Format, VideoCodec};
use crate::protocol::Kind;
use crate::sync::lock;

/// The header extension that names the m-line (RFC 8843 section 15).
const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// Behind every interceptor that acts on RTCP, so that each has seen all of it.
const LAST_INTERCEPTOR: usize = 14_000;
/// The profile_idc of H.264's High profile.
const HIGH_PROFILE: u8 = 100;
const H264_HIGH: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640032";
const H264_CONSTRAINED_BASELINE: &str =
    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
/// RED with Opus in it, as browsers offer it: the payload types, and the parameters that name the
/// Opus ones (RFC 2198 section 5).
const RED_PAYLOAD_TYPE: u8 = 63;
const RED_PARAMETERS: &str = "111/111";
/// Streams whose losses are remembered; a bot sends two.
const MAX_LOSSES: usize = 16;
/// Tracks that may wait to be served; more slots than any test opens at once.
const TRACK_QUEUE: usize = 256;

/// What an m-line sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendCodec {
    Opus,
    /// For H.264 with the profile_idc of the stream (ITU-T H.264 section 7.4.2.1.1).
    Video(VideoCodec, Option<u8>),
}

impl SendCodec {
    fn kind(&self) -> Kind {
        match self {
            SendCodec::Opus => Kind::Audio,
            SendCodec::Video(..) => Kind::Video,
        }
    }

    /// Whether packets of this codec may carry the payload type negotiated as `other`.
    fn matches(&self, other: &RTCRtpCodec) -> bool {
        let own = self.rtc();
        // All but the level, which the answer may lower.
        let h264 = |codec: &RTCRtpCodec| {
            let profile = parameter(codec, "profile-level-id").and_then(|id| id.get(..4));
            let mode = parameter(codec, "packetization-mode");
            (
                profile.map(str::to_ascii_lowercase),
                mode.map(str::to_owned),
            )
        };
        let same_parameters = match self {
            SendCodec::Video(VideoCodec::H264, _) => h264(&own) == h264(other),
            // The files are of VP9 profile 0 or AV1 profile 0, the default where none is named.
            _ => matches!(parameter(other, "profile-id"), None | Some("0")),
        };
        own.mime_type.eq_ignore_ascii_case(&other.mime_type) && same_parameters
    }

    fn rtc(&self) -> RTCRtpCodec {
        let (mime_type, clock_rate, channels) = match self {
            SendCodec::Opus => ("audio/opus", 48_000, 2),
            SendCodec::Video(codec, _) => (codec.mime_type(), 90_000, 0),
        };
        // As the crate registers them; the payloader writes packetization mode 1.
        let sdp_fmtp_line = match self {
            SendCodec::Video(VideoCodec::H264, Some(HIGH_PROFILE)) => H264_HIGH,
            SendCodec::Video(VideoCodec::H264, _) => H264_CONSTRAINED_BASELINE,
            _ => "",
        };
        RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: sdp_fmtp_line.to_owned(),
            ..Default::default()
        }
    }
}

/// A parameter of an `a=fmtp` line.
fn parameter<'a>(codec: &'a RTCRtpCodec, name: &str) -> Option<&'a str> {
    codec.sdp_fmtp_line.split(';').find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

/// One m-line.
pub(crate) struct Line {
    /// Given by the first offer that holds it.
    pub(crate) mid: String,
    pub(crate) kind: Kind,
    /// What it sends; a line that sends nothing is a slot.
    pub(crate) outgoing: Option<Outgoing>,
    transceiver: Arc<dyn RtpTransceiver>,
}

/// A stream that the bot sends.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) ssrc: u32,
    pub(crate) track: Arc<TrackLocalStaticRTP>,
    codec: SendCodec,
}

/// A track that has begun to arrive in a slot.
pub(crate) struct ArrivedTrack {
    pub(crate) mid: String,
    pub(crate) track: Arc<dyn TrackRemote>,
    /// What each payload type was negotiated as.
    pub(crate) formats: HashMap<u8, Format>,
}

/// The PeerConnection and its m-lines.
pub(crate) struct Connection {
    peer_connection: Arc<dyn PeerConnection>,
    pub(crate) lines: Vec<Line>,
}

/// What happens on a connection of its own accord.
pub(crate) struct ConnectionEvents {
    pub(crate) tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
    pub(crate) state: watch::Receiver<RTCPeerConnectionState>,
    pub(crate) losses: Losses,
}

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

impl Connection {
    /// A connection without m-lines that will send and receive on `bind`, an address and port.
    pub(crate) async fn new(bind: &str) -> Result<(Connection, ConnectionEvents), BotError> {
        let mut media_engine = MediaEngine::default();
        media_engine.register_default_codecs()?;
        media_engine.register_codec(red(), RtpCodecKind::Audio)?;
        for parameter in ["", "pli"] {
            let nack = RTCPFeedback {
                typ: "nack".to_owned(),
                parameter: parameter.to_owned(),
            };
            media_engine.register_feedback(nack, RtpCodecKind::Video);
        }
        // What the bot sends is sent again on request; what it misses the slots ask for themselves,
        // as browsers do.
        let responder = NackResponderBuilder::new().build();
        let registry = Registry::new().with(Slot::NackResponder, responder);
        let losses = Losses::default();
        configure_simulcast_extension_headers(&mut media_engine)?;
        let mid = RTCRtpHeaderExtensionCapability {
            uri: MID_URI.to_owned(),
        };
        media_engine.register_header_extension(mid, RtpCodecKind::Audio, None)?;
        let registry = configure_twcc(registry, &mut media_engine)?;
        let registry = configure_rtcp_reports(registry)
            .with(Slot::from(LAST_INTERCEPTOR), Feedback::new(losses.clone()));
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .build();

        let (tracks_in, tracks) = mpsc::channel(TRACK_QUEUE);
        let (state_in, state) = watch::channel(RTCPeerConnectionState::New);
        let peer_connection = PeerConnectionBuilder::new()
            .with_media_engine(media_engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Handler {
                tracks: tracks_in,
                state: state_in,
            }))
            .with_udp_addrs(vec![bind.to_owned()])
            .build()
            .await?;
        let connection = Connection {
            peer_connection: Arc::new(peer_connection),
            lines: Vec::new(),
        };
        let events = ConnectionEvents {
            tracks,
            state,
            losses,
        };
        Ok((connection, events))
    }

    /// Adds an m-line that sends.
    pub(crate) async fn add_outgoing(&mut self, codec: SendCodec) -> Result<(), BotError> {
        let ssrc = rand::random();
        let kind = codec.kind();
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                rtx: (kind == Kind::Video).then(|| RTCRtpRtxParameters {
                    ssrc: rand::random(),
                }),
                ..Default::default()
            },
            active: true,
            codec: codec.rtc(),
            ..Default::default()
        };
        let name = format!("bot-{ssrc:08x}");
        let track = MediaStreamTrack::new(
            "bot".to_owned(),
            name.clone(),
            name,
            rtc_kind(kind),
            vec![encoding],
        );
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let transceiver = self
            .peer_connection
            .add_transceiver_from_track(
                track.clone(),
                Some(init(RTCRtpTransceiverDirection::Sendonly)),
            )
            .await?;
        self.lines.push(Line {
            mid: String::new(),
            kind,
            outgoing: Some(Outgoing { ssrc, track, codec }),
            transceiver,
        });
        Ok(())
    }

    /// Adds m-lines that receive.
    pub(crate) async fn add_slots(&mut self, kind: Kind, count: usize) -> Result<(), BotError> {
        for _ in 0..count {
            let transceiver = self
                .peer_connection
                .add_transceiver_from_kind(
                    rtc_kind(kind),
                    Some(init(RTCRtpTransceiverDirection::Recvonly)),
                )
                .await?;
            self.lines.push(Line {
                mid: String::new(),
                kind,
                outgoing: None,
                transceiver,
            });
        }
        Ok(())
    }

    /// The next offer has new ICE credentials.
    pub(crate) async fn restart_ice(&self) -> Result<(), BotError> {
        Ok(self.peer_connection.restart_ice().await?)
    }

    /// An offer of all m-lines; from here on each has its mid. The server learns the bot's address
    /// from its first check, so the offer does not wait for candidates.
    pub(crate) async fn offer(&mut self) -> Result<String, BotError> {
        let offer = self.peer_connection.create_offer(None).await?;
        self.peer_connection.set_local_description(offer).await?;
        for line in &mut self.lines {
            line.mid = line.transceiver.mid().await?.unwrap_or_default();
        }
        let description = self.peer_connection.local_description().await;
        Ok(description
            .map(|description| description.sdp)
            .unwrap_or_default())
    }

    /// Takes the server's answer to the last offer.
    pub(crate) async fn accept(&self, answer: String) -> Result<(), BotError> {
        let answer = RTCSessionDescription::answer(answer)?;
        Ok(self.peer_connection.set_remote_description(answer).await?)
    }

    /// The payload type the server accepted for what this m-line sends.
    pub(crate) async fn payload_type(&self, line: &Line) -> Result<u8, BotError> {
        let refused = || BotError::CodecRefused {
            mid: line.mid.clone(),
        };
        let outgoing = line.outgoing.as_ref().ok_or_else(refused)?;
        let sender = line.transceiver.sender().await?.ok_or_else(refused)?;
        let parameters = sender.get_parameters().await?;
        let codecs = parameters.rtp_parameters.codecs;
        codecs
            .iter()
            .find(|codec| outgoing.codec.matches(&codec.rtp_codec))
            .map(|codec| codec.payload_type)
            .ok_or_else(refused)
    }

    /// In which slot a track arrived.
    pub(crate) async fn locate(
        &self,
        track: Arc<dyn TrackRemote>,
    ) -> Result<Option<ArrivedTrack>, BotError> {
        let track_id = track.track_id().await;
        for line in &self.lines {
            let Some(receiver) = line.transceiver.receiver().await? else {
                continue;
            };
            if receiver.track().track_id().await != track_id {
                continue;
            }
            let parameters = receiver.get_parameters().await?;
            let formats = parameters
                .rtp_parameters
                .codecs
                .iter()
                .filter_map(|codec| {
                    let format = Format::from_mime_type(&codec.rtp_codec.mime_type)?;
                    Some((codec.payload_type, format))
                })
                .collect();
            let mid = line.mid.clone();
            return Ok(Some(ArrivedTrack {
                mid,
                track,
                formats,
            }));
        }
        Ok(None)
    }

    /// The connection in numbers.
    pub(crate) async fn stats(&self, now: Instant) -> RTCStatsReport {
        self.peer_connection
            .get_stats(now, StatsSelector::None)
            .await
    }

    /// Ends the connection, telling the server.
    pub(crate) async fn close(&self) {
        // An error here means that it was closed already.
        let _ = self.peer_connection.close().await;
    }
}

fn red() -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: "audio/red".to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: RED_PARAMETERS.to_owned(),
            ..Default::default()
        },
        payload_type: RED_PAYLOAD_TYPE,
        ..Default::default()
    }
}

fn rtc_kind(kind: Kind) -> RtpCodecKind {
    match kind {
        Kind::Audio => RtpCodecKind::Audio,
        Kind::Video => RtpCodecKind::Video,
    }
}

fn init(direction: RTCRtpTransceiverDirection) -> RTCRtpTransceiverInit {
    RTCRtpTransceiverInit {
        direction,
        streams: vec![],
        send_encodings: vec![],
    }
}

/// Hands on what the crate calls back with.
struct Handler {
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
    state: watch::Sender<RTCPeerConnectionState>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        if self.tracks.try_send(track).is_err() {
            tracing::warn!("a track arrived that nobody serves");
        }
    }
}

/// Notes the losses reported and marks requests for key frames for the application; all other RTCP
/// ends with the interceptors.
struct Feedback {
    losses: Losses,
    incoming: VecDeque<TaggedPacket>,
    outgoing: VecDeque<TaggedPacket>,
}

impl Feedback {
    fn new(losses: Losses) -> Feedback {
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
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use webrtc::media_stream::track_local::TrackLocal;
    use webrtc::media_stream::track_remote::TrackRemoteEvent;

    use super::*;
    use crate::send::packetize::Packetizer;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// The far end: another PeerConnection of the same crate, which answers.
    async fn answer(offer: String) -> (Connection, ConnectionEvents, String) {
        let (far, events) = Connection::new("127.0.0.1:0").await.unwrap();
        let offer = RTCSessionDescription::offer(offer).unwrap();
        far.peer_connection
            .set_remote_description(offer)
            .await
            .unwrap();
        let answer = far.peer_connection.create_answer(None).await.unwrap();
        far.peer_connection
            .set_local_description(answer)
            .await
            .unwrap();
        // Unlike the SFU this end must name its candidates in the answer.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = far.peer_connection.local_description().await.unwrap().sdp;
        (far, events, answer)
    }

    #[tokio::test]
    async fn what_is_offered_is_sent_and_key_frames_can_be_asked_for() {
        let (mut near, mut near_events) = Connection::new("127.0.0.1:0").await.unwrap();
        near.add_outgoing(SendCodec::Opus).await.unwrap();
        let h264 = SendCodec::Video(VideoCodec::H264, Some(66));
        near.add_outgoing(h264).await.unwrap();
        near.add_slots(Kind::Audio, 1).await.unwrap();
        near.add_slots(Kind::Video, 2).await.unwrap();
        let offer = near.offer().await.unwrap();
        let mids: Vec<&str> = near.lines.iter().map(|line| line.mid.as_str()).collect();
        assert_eq!(mids, ["0", "1", "2", "3", "4"]);
        assert_eq!(offer.matches("a=sendonly").count(), 2);
        assert_eq!(offer.matches("a=recvonly").count(), 3);
        assert_eq!(offer.matches("a=ssrc-group:FID").count(), 1, "{offer}");
        assert!(
            offer.contains("m=video 9 UDP/TLS/RTP/SAVPF 125 105\r\n"),
            "{offer}"
        );

        let (_far, mut far_events, answer) = answer(offer).await;
        near.accept(answer).await.unwrap();
        let connected =
            |state: &RTCPeerConnectionState| *state == RTCPeerConnectionState::Connected;
        tokio::time::timeout(PATIENCE, near_events.state.wait_for(connected))
            .await
            .unwrap()
            .unwrap();

        let video = &near.lines[1];
        let payload_type = near.payload_type(video).await.unwrap();
        let outgoing = video.outgoing.clone().unwrap();
        let mut packetizer = Packetizer::video(VideoCodec::H264, outgoing.ssrc, payload_type);
        let frame = [&[0, 0, 1, 0x65][..], &[0x55; 3000]].concat();
        let (track, request) = tokio::time::timeout(PATIENCE, async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let mut received = None;
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        for packet in packetizer.packetize(&frame.clone().into(), 3000).unwrap() {
                            outgoing.track.write_rtp(packet).await.unwrap();
                        }
                    }
                    track = far_events.tracks.recv() => {
                        let track = track.unwrap();
                        let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: outgoing.ssrc };
                        track.write_rtcp(vec![Box::new(request)]).await.unwrap();
                        received = Some(track);
                    }
                    event = outgoing.track.poll() => break (received.unwrap(), event.unwrap()),
                }
            }
        })
        .await
        .unwrap();
        let webrtc::media_stream::track_local::TrackLocalEvent::OnRtcpPacket(packets) = request
        else {
            panic!("no RTCP");
        };
        assert!(asks_for_key_frame(&packets));
        loop {
            let event = tokio::time::timeout(PATIENCE, track.poll())
                .await
                .unwrap()
                .unwrap();
            if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                assert_eq!(packet.header.payload_type, payload_type);
                assert!(VideoCodec::H264.starts_key_frame(&packet.payload));
                break;
            }
        }
    }
}
