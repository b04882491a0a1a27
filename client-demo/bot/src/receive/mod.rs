//! What a bot receives in one slot: packets counted, sound decoded, pictures put together.
//!
//! In: RTP packets of the slot, in the order they arrive. Out: `SlotStats`, requests for key frames
//! and, if asked for, a recording.

pub(crate) mod audio;
pub(crate) mod continuity;
pub(crate) mod record;
pub(crate) mod video;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::BotError;
use crate::codec::VideoCodec;
use crate::protocol::Kind;
use audio::{AudioReceiver, AudioStats};
use continuity::{Arrival, Continuity};
use record::Recorder;
use video::{VideoReceiver, VideoStats};

/// One slot as it stands. Times are in milliseconds since the bot began to join.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotStats {
    /// The m-line.
    pub mid: String,
    /// What it carries.
    pub kind: Kind,
    /// The track the server says it shows.
    pub track: Option<String>,
    /// RTP packets, retransmitted ones among them, duplicates not.
    pub packets: u64,
    /// Their payload, in bytes.
    pub bytes: u64,
    /// Packets between the first and the last that never came, by sequence number.
    pub lost: u64,
    /// Packets that came after a later one: reordered or retransmitted.
    pub late: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// When the first packet came.
    pub first_packet_ms: Option<u64>,
    /// When the first frame that can be shown, or the first sound, was complete.
    pub first_frame_ms: Option<u64>,
    /// The longest time between two packets, but for pauses by mute or a change of track.
    pub longest_gap_ms: u64,
    /// The sound, of an audio slot that is decoded.
    pub audio: Option<AudioStats>,
    /// The picture, of a video slot.
    pub video: Option<VideoStats>,
}

/// How a slot treats what it receives.
#[derive(Clone, Debug)]
pub(crate) struct ReceiveOptions {
    /// When the bot began to join.
    pub(crate) joined: Instant,
    /// Whether to decode sound and join frames; if not, packets are only counted.
    pub(crate) decode: bool,
    /// Where to write the pictures.
    pub(crate) record: Option<PathBuf>,
}

enum Media {
    Counted,
    Audio(Box<AudioReceiver>),
    Video(Box<VideoReceiver>),
}

/// Receives what one slot shows.
pub(crate) struct SlotReceiver {
    mid: String,
    kind: Kind,
    joined: Instant,
    track: Option<String>,
    continuity: Continuity,
    media: Media,
    recorder: Option<Recorder>,
    packets: u64,
    bytes: u64,
    first_packet: Option<Duration>,
    first_frame: Option<Duration>,
    last_packet: Option<Instant>,
    longest_gap: Duration,
}

impl SlotReceiver {
    pub(crate) fn new(
        mid: &str,
        kind: Kind,
        options: &ReceiveOptions,
    ) -> Result<SlotReceiver, BotError> {
        let media = match kind {
            _ if !options.decode => Media::Counted,
            Kind::Audio => Media::Audio(Box::new(AudioReceiver::new()?)),
            Kind::Video => Media::Video(Box::default()),
        };
        let recorder = match (&options.record, kind) {
            (Some(directory), Kind::Video) => Some(Recorder::new(directory.clone(), mid)),
            _ => None,
        };
        Ok(SlotReceiver {
            mid: mid.to_owned(),
            kind,
            joined: options.joined,
            track: None,
            continuity: Continuity::default(),
            media,
            recorder,
            packets: 0,
            bytes: 0,
            first_packet: None,
            first_frame: None,
            last_packet: None,
            longest_gap: Duration::ZERO,
        })
    }

    /// Takes a packet. `codec` is what its payload type was negotiated as, if that is video.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        codec: Option<VideoCodec>,
        packet: rtp::Packet,
    ) -> Result<(), BotError> {
        let Arrival::New(sequence_number) =
            self.continuity.handle_packet(packet.header.sequence_number)
        else {
            return Ok(());
        };
        let since_join = now - self.joined;
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.first_packet.get_or_insert(since_join);
        if let Some(last) = self.last_packet.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        match &mut self.media {
            Media::Counted => {}
            Media::Audio(audio) => {
                audio.handle_packet(sequence_number, packet.payload);
                self.first_frame.get_or_insert(since_join);
            }
            Media::Video(video) => {
                let Some(codec) = codec else { return Ok(()) };
                video.handle_packet(now, sequence_number, codec, &packet);
                while let Some(frame) = video.poll_frame() {
                    self.first_frame.get_or_insert(since_join);
                    if let Some(recorder) = &mut self.recorder {
                        recorder.write(&frame)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether to ask for a key frame now.
    pub(crate) fn poll_key_frame_request(&mut self, now: Instant) -> bool {
        match &mut self.media {
            Media::Video(video) => video.poll_key_frame_request(now),
            Media::Counted | Media::Audio(_) => false,
        }
    }

    /// The server says what the slot shows from now on.
    pub(crate) fn handle_track(&mut self, track: Option<String>) {
        if self.track != track {
            self.track = track;
            self.handle_discontinuity();
        }
    }

    /// What the slot shows is about to pause, or to go on after a pause.
    pub(crate) fn handle_discontinuity(&mut self) {
        self.last_packet = None;
        if let Media::Video(video) = &mut self.media {
            video.handle_discontinuity();
        }
    }

    /// The track shown.
    pub(crate) fn track(&self) -> Option<&str> {
        self.track.as_deref()
    }

    pub(crate) fn stats(&self, now: Instant) -> SlotStats {
        let ms = |duration: Duration| duration.as_millis() as u64;
        let (audio, video) = match &self.media {
            Media::Counted => (None, None),
            Media::Audio(audio) => (Some(audio.stats()), None),
            Media::Video(video) => (None, Some(video.stats(now))),
        };
        SlotStats {
            mid: self.mid.clone(),
            kind: self.kind,
            track: self.track.clone(),
            packets: self.packets,
            bytes: self.bytes,
            lost: self.continuity.lost(),
            late: self.continuity.late,
            duplicates: self.continuity.duplicates,
            first_packet_ms: self.first_packet.map(ms),
            first_frame_ms: self.first_frame.map(ms),
            longest_gap_ms: ms(self.longest_gap),
            audio,
            video,
        }
    }
}
