//! What a bot receives in one slot: packets counted, audio decoded, pictures put together.
//!
//! In: RTP packets of the slot, in the order they arrive. Out: `SlotStats`, what was received of
//! each participant, requests for packets and key frames and, if asked for, a recording.

pub(crate) mod audio;
mod continuity;
mod jitter;
pub(crate) mod listening;
mod meter;
mod nack;
mod payload;
mod record;
mod reference;
pub(crate) mod tally;
pub(crate) mod video;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::BotError;
use crate::codec::Format;
use crate::protocol::Kind;
use crate::sample::{AudioReceived, Received, VideoReceived};
use audio::{AudioReceiver, AudioStats};
use continuity::{Arrival, Continuity};
use listening::Scorer;
use nack::NackGenerator;
use record::Recorder;
use tally::Tally;
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
    /// When the first frame that can be shown, or the first audio, was complete.
    pub first_frame_ms: Option<u64>,
    /// The longest time between two packets, but for pauses by mute or a change of track.
    pub longest_gap_ms: u64,
    /// The audio, of an audio slot that is decoded.
    pub audio: Option<AudioStats>,
    /// The picture, of a video slot.
    pub video: Option<VideoStats>,
}

/// How a slot treats what it receives.
#[derive(Clone)]
pub(crate) struct ReceiveOptions {
    /// When the bot began to join.
    pub(crate) joined: Instant,
    /// Whether to decode audio and join frames; if not, packets are only counted.
    pub(crate) decode: bool,
    /// Where to write the pictures.
    pub(crate) record: Option<PathBuf>,
    /// Who judges the audio.
    pub(crate) scorer: Option<Arc<Scorer>>,
}

/// What to ask of the sender, of one stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// Packets to send again.
    pub(crate) nacks: Vec<u16>,
    pub(crate) key_frame: bool,
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
    nack: Option<NackGenerator>,
    media: Media,
    scorer: Option<Arc<Scorer>>,
    tally: Tally,
    recorder: Option<Recorder>,
    packets: u64,
    bytes: u64,
    retransmitted_bytes: u64,
    nacks: u64,
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
            // Audio that comes a round trip late is of no use, and browsers do not ask for it.
            nack: (kind == Kind::Video).then(NackGenerator::new),
            media,
            scorer: options.scorer.clone(),
            tally: Tally::default(),
            recorder,
            packets: 0,
            bytes: 0,
            retransmitted_bytes: 0,
            nacks: 0,
            first_packet: None,
            first_frame: None,
            last_packet: None,
            longest_gap: Duration::ZERO,
        })
    }

    /// Takes a packet. `format` is what its payload type was negotiated as.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        format: Option<Format>,
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
        if let Some(nack) = &mut self.nack {
            nack.handle_packet(now, sequence_number);
        }
        match (&mut self.media, format, &self.nack) {
            (Media::Audio(audio), Some(Format::Audio(format)), _) => {
                audio.handle_packet(now, format, packet.header.timestamp, packet.payload);
                self.first_frame.get_or_insert(since_join);
            }
            (Media::Video(video), Some(Format::Video(codec)), Some(nack)) => {
                video.handle_packet(now, sequence_number, codec, &packet, nack);
            }
            _ => {}
        }
        self.advance(now)
    }

    /// Shows and plays what is due.
    fn advance(&mut self, now: Instant) -> Result<(), BotError> {
        match (&mut self.media, &self.nack) {
            (Media::Audio(audio), _) => {
                audio.advance(now);
                while let Some(window) = audio.poll_window() {
                    if let Some(scorer) = &self.scorer {
                        scorer.handle_window(window);
                    }
                }
            }
            (Media::Video(video), Some(nack)) => {
                video.advance(now, nack);
                while let Some(frame) = video.poll_frame() {
                    self.first_frame.get_or_insert(now - self.joined);
                    if let Some(recorder) = &mut self.recorder {
                        recorder.write(&frame)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What to ask the sender for now.
    pub(crate) fn poll_requests(&mut self, now: Instant) -> Result<Requests, BotError> {
        let nacks = self.nack.as_mut().map(|nack| nack.poll_requests(now));
        let nacks = nacks.unwrap_or_default();
        self.nacks += u64::from(!nacks.is_empty());
        // What is no longer asked for holds up nothing.
        self.advance(now)?;
        let key_frame = match &mut self.media {
            Media::Video(video) => video.poll_key_frame_request(now),
            Media::Counted | Media::Audio(_) => false,
        };
        Ok(Requests { nacks, key_frame })
    }

    /// When to poll again though no packet comes.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.nack.as_ref().and_then(NackGenerator::next_deadline)
    }

    /// The server says what the slot shows from now on, and of whom.
    pub(crate) fn handle_track(
        &mut self,
        now: Instant,
        track: Option<String>,
        from: Option<String>,
    ) {
        if self.track != track {
            self.track = track;
            let counters = self.counters(now);
            if let Media::Audio(audio) = &mut self.media {
                audio.handle_speaker(from.clone().filter(|_| self.scorer.is_some()));
            }
            self.tally.handle_shown(from, counters);
            self.handle_discontinuity();
        }
    }

    /// What the slot shows is about to pause, or to go on after a pause.
    pub(crate) fn handle_discontinuity(&mut self) {
        self.last_packet = None;
        match &mut self.media {
            Media::Video(video) => video.handle_discontinuity(),
            Media::Audio(audio) => audio.handle_discontinuity(),
            Media::Counted => {}
        }
    }

    /// How long an answer from the server takes.
    pub(crate) fn handle_rtt(&mut self, rtt: Duration) {
        if let Some(nack) = &mut self.nack {
            nack.handle_rtt(rtt);
        }
    }

    /// How many of the bytes came in retransmissions, as the connection counts them.
    pub(crate) fn handle_retransmitted_bytes(&mut self, bytes: u64) {
        self.retransmitted_bytes = bytes;
    }

    pub(crate) fn track(&self) -> Option<&str> {
        self.track.as_deref()
    }

    /// Whose track that is, if it is known.
    pub(crate) fn from(&self) -> Option<&str> {
        self.tally.shown()
    }

    /// Frames shown so far, in a video slot.
    pub(crate) fn frames(&self) -> u64 {
        match &self.media {
            Media::Video(video) => video.counters().frames,
            Media::Counted | Media::Audio(_) => 0,
        }
    }

    /// What was received of each participant that the slot has shown.
    pub(crate) fn received(&mut self, now: Instant) -> Vec<Received> {
        let counters = self.counters(now);
        let mut received = self.tally.received(&counters);
        if let Some(scorer) = &self.scorer {
            for one in &mut received {
                if let Some(audio) = &mut one.audio {
                    audio.score = scorer.score(&one.from);
                }
            }
        }
        received
    }

    /// The slot's counters as they stand, whomever it shows.
    fn counters(&mut self, now: Instant) -> Received {
        let (packets, bytes) = (self.packets, self.bytes);
        let lost = self.continuity.lost() as i64;
        let (mut audio, mut video) = (None, None);
        match (self.kind, &mut self.media) {
            (Kind::Audio, media) => {
                let played = match media {
                    Media::Audio(played) => {
                        played.advance(now);
                        played.counters().clone()
                    }
                    Media::Counted | Media::Video(_) => AudioReceived::default(),
                };
                audio = Some(AudioReceived {
                    packets,
                    lost,
                    bytes,
                    ..played
                });
            }
            (Kind::Video, media) => {
                let shown = match media {
                    Media::Video(shown) => shown.counters(),
                    Media::Counted | Media::Audio(_) => VideoReceived::default(),
                };
                video = Some(VideoReceived {
                    packets,
                    lost,
                    bytes,
                    retransmitted_bytes: self.retransmitted_bytes,
                    nacks: self.nacks,
                    ..shown
                });
            }
        }
        Received {
            from: String::new(),
            audio,
            video,
        }
    }

    pub(crate) fn stats(&mut self, now: Instant) -> SlotStats {
        if let Media::Audio(audio) = &mut self.media {
            audio.advance(now);
        }
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
