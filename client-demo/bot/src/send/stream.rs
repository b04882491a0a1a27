//! The tasks that send: a source's frames at their pace, as RTP packets, while the connection lasts.
//!
//! In: a source, a track to write to, and what the rest of the bot and the far side want. Out: RTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::peer_connection::RTCPeerConnectionState;

use super::audio::{AudioEncoder, FRAME_SAMPLES};
use super::packetize::Packetizer;
use super::video::VideoFile;
use crate::BotError;
use crate::connection::Outgoing;
use crate::feedback::{Losses, asks_for_key_frame};
use crate::protocol::Kind;
use crate::report::SentStats;
use crate::sync::lock;

const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// The RTP clock of video, in Hz.
const VIDEO_CLOCK: f64 = 90_000.0;

/// What the rest of the bot tells a sending task.
pub(crate) struct Sender {
    kind: Kind,
    muted: AtomicBool,
    paused: AtomicBool,
    key_frame_wanted: AtomicBool,
    stats: Mutex<SentStats>,
}

impl Sender {
    pub(crate) fn new(mid: &str, kind: Kind) -> Sender {
        Sender {
            kind,
            muted: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            key_frame_wanted: AtomicBool::new(false),
            stats: Mutex::new(SentStats {
                mid: mid.to_owned(),
                ..Default::default()
            }),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn mid(&self) -> String {
        lock(&self.stats).mid.clone()
    }

    pub(crate) fn stats(&self) -> SentStats {
        lock(&self.stats).clone()
    }

    pub(crate) fn set_muted(&self, muted: bool) {
        self.muted.store(muted, Ordering::Relaxed);
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }
}

/// One outgoing stream and what its task needs.
pub(crate) struct Stream {
    pub(crate) outgoing: Outgoing,
    pub(crate) payload_type: u8,
    pub(crate) sender: Arc<Sender>,
    pub(crate) state: watch::Receiver<RTCPeerConnectionState>,
    pub(crate) losses: Losses,
    /// Hears why nothing more can be sent.
    pub(crate) on_error: Box<dyn Fn(String) + Send + Sync>,
}

impl Stream {
    pub(crate) async fn send_audio(mut self, mut encoder: AudioEncoder) {
        let mut packetizer = Packetizer::opus(self.outgoing.ssrc, self.payload_type);
        let mut ticks = self.start(AUDIO_INTERVAL).await;
        loop {
            ticks.tick().await;
            if self.is_silent() {
                packetizer.skip(FRAME_SAMPLES as u32);
                encoder.skip();
                continue;
            }
            let lost = self.losses.take(self.outgoing.ssrc);
            let told = lost.map_or(Ok(()), |lost| encoder.handle_loss(lost));
            let packets = told
                .and_then(|()| encoder.next_packet())
                .and_then(|frame| packetizer.packetize(&frame, FRAME_SAMPLES as u32));
            if !self.write(packets).await {
                return;
            }
        }
    }

    pub(crate) async fn send_video(mut self, mut file: VideoFile) {
        let mut packetizer = Packetizer::video(file.codec, self.outgoing.ssrc, self.payload_type);
        let ticks_per_frame = (file.interval.as_secs_f64() * VIDEO_CLOCK).round() as u32;
        let mut ticks = self.start(file.interval).await;
        let feedback = tokio::spawn(obey_feedback(self.outgoing.clone(), self.sender.clone()));
        let _ends_with_this_task = AbortOnDrop(feedback.abort_handle());
        loop {
            ticks.tick().await;
            if self.is_silent() {
                packetizer.skip(ticks_per_frame);
                // Those who watch need one when the picture comes back.
                self.sender.key_frame_wanted.store(true, Ordering::Relaxed);
                continue;
            }
            if self.sender.key_frame_wanted.swap(false, Ordering::Relaxed) {
                file.request_key_frame();
            }
            let frame = file.next_frame();
            if !self
                .write(packetizer.packetize(&frame.data, ticks_per_frame))
                .await
            {
                return;
            }
        }
    }

    /// Waits for the connection, and from then on ticks at the pace of the source.
    async fn start(&mut self, interval: Duration) -> tokio::time::Interval {
        let connected =
            |state: &RTCPeerConnectionState| *state == RTCPeerConnectionState::Connected;
        // An error means that the connection ended before; the first write will say so.
        let _ = self.state.wait_for(connected).await;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        ticks
    }

    fn is_silent(&self) -> bool {
        self.sender.muted.load(Ordering::Relaxed) || self.sender.paused.load(Ordering::Relaxed)
    }

    /// Sends the packets of a frame. False once that is no longer possible.
    async fn write(&self, packets: Result<Vec<rtp::Packet>, BotError>) -> bool {
        let packets = match packets {
            Ok(packets) => packets,
            Err(error) => {
                (self.on_error)(error.to_string());
                return false;
            }
        };
        let (mut count, mut bytes) = (0, 0);
        for packet in packets {
            count += 1;
            bytes += packet.payload.len() as u64;
            if self.outgoing.track.write_rtp(packet).await.is_err() {
                return false;
            }
        }
        let mut stats = lock(&self.sender.stats);
        stats.packets += count;
        stats.bytes += bytes;
        stats.frames += 1;
        true
    }
}

/// Takes requests for key frames until the connection closes.
async fn obey_feedback(outgoing: Outgoing, sender: Arc<Sender>) {
    while let Some(event) = outgoing.track.poll().await {
        if let TrackLocalEvent::OnRtcpPacket(packets) = event
            && asks_for_key_frame(&packets)
        {
            sender.key_frame_wanted.store(true, Ordering::Relaxed);
            lock(&sender.stats).key_frame_requests += 1;
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
