//! A bot's call in numbers, as JSON and as text for people.

use std::fmt;

use serde::Serialize;

use crate::protocol::{Event, Kind, OwnTrack, Participant};
use crate::receive::SlotStats;

/// A bot and its call as they stand. Times are in milliseconds since the bot began to join.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the bot calls itself.
    pub name: String,
    /// Its participant id.
    pub participant: String,
    /// When the server had answered `join`.
    pub joined_ms: Option<u64>,
    /// When ICE and DTLS had succeeded.
    pub connected_ms: Option<u64>,
    /// Whether they hold now.
    pub connected: bool,
    /// The others in the room.
    pub participants: Vec<Participant>,
    /// What the bot publishes.
    pub tracks: Vec<OwnTrack>,
    /// What it sent, by m-line.
    pub sent: Vec<SentStats>,
    /// What it received, by slot.
    pub slots: Vec<SlotStats>,
    /// What the server told, in order.
    pub events: Vec<Event>,
    /// What went wrong without ending the call.
    pub errors: Vec<String>,
}

/// What one m-line sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SentStats {
    /// The m-line.
    pub mid: String,
    /// RTP packets, without retransmissions.
    pub packets: u64,
    /// Their payload, in bytes.
    pub bytes: u64,
    /// Video frames, or Opus packets.
    pub frames: u64,
    /// Requests for a key frame that came and were obeyed.
    pub key_frame_requests: u64,
}

impl Report {
    /// The slot that shows this track.
    pub fn slot_of(&self, track: &str) -> Option<&SlotStats> {
        self.slots
            .iter()
            .find(|slot| slot.track.as_deref() == Some(track))
    }

    /// The slots of a kind, in the order of their m-lines.
    pub fn slots_of(&self, kind: Kind) -> impl Iterator<Item = &SlotStats> {
        self.slots.iter().filter(move |slot| slot.kind == kind)
    }

    /// The bot's own track of a kind.
    pub fn track_of(&self, kind: Kind) -> Option<&OwnTrack> {
        self.tracks.iter().find(|track| track.kind == kind)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Option<u64>| time.map_or("never".to_owned(), |time| format!("{time} ms"));
        writeln!(
            f,
            "{} ({}): joined {}, connected {}, {} others in the room",
            self.name,
            self.participant,
            ms(self.joined_ms),
            ms(self.connected_ms),
            self.participants.len()
        )?;
        for sent in &self.sent {
            writeln!(
                f,
                "  sent on {}: {} packets, {} bytes, {} frames, {} key frames on request",
                sent.mid, sent.packets, sent.bytes, sent.frames, sent.key_frame_requests
            )?;
        }
        for slot in &self.slots {
            let track = slot.track.as_deref().unwrap_or("nothing");
            write!(
                f,
                "  slot {} ({track}): {} packets, {} lost, {} late, first frame {}",
                slot.mid,
                slot.packets,
                slot.lost,
                slot.late,
                ms(slot.first_frame_ms)
            )?;
            if let Some(audio) = &slot.audio {
                write!(
                    f,
                    "; {:.1} s of sound, {:.2} % concealed, {:.1} dBFS, {:.0} Hz",
                    audio.total_samples as f64 / 48_000.0,
                    100.0 * audio.concealed(),
                    audio.level_dbfs,
                    audio.tone_hz
                )?;
            }
            if let Some(video) = &slot.video {
                write!(
                    f,
                    "; {} frames ({} key), {} undecodable, {:.0} a second, {} freezes of {} ms in all",
                    video.frames,
                    video.key_frames,
                    video.undecodable_frames,
                    video.frames_per_second,
                    video.freezes,
                    video.freeze_ms
                )?;
            }
            writeln!(f)?;
        }
        for error in &self.errors {
            writeln!(f, "  error: {error}")?;
        }
        Ok(())
    }
}
