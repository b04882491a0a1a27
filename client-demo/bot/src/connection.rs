//! The media connection: one `PeerConnection` with the m-lines the bot sends and receives on.
//!
//! In: a plan of m-lines, the server's answer, RTP packets to send. Out: offers, the tracks that
//! arrive, requests for key frames from those who watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::NackResponderBuilder;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
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
use crate::codec::Format;
use crate::feedback::{Feedback, Losses};
use crate::protocol::Kind;
use crate::send::codec::{SendCodec, red};

/// The header extension that names the m-line (RFC 8843 section 15).
const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// Behind every interceptor that acts on RTCP, so that each has seen all of it.
const LAST_INTERCEPTOR: usize = 14_000;
/// Tracks that may wait to be served; more slots than any test opens at once.
const TRACK_QUEUE: usize = 256;

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

    /// The slot in which a track arrived.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use std::time::Duration;

    use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use webrtc::media_stream::track_local::TrackLocal;
    use webrtc::media_stream::track_remote::TrackRemoteEvent;

    use super::*;
    use crate::codec::VideoCodec;
    use crate::feedback::asks_for_key_frame;
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
