//! What a client tells once a second about its call, one JSON object a line, whatever the client
//! is: a bot, a browser in a test, a simulated one.
//!
//! Counters grow from the beginning of the call and have the meaning of the W3C's WebRTC statistics
//! (<https://www.w3.org/TR/webrtc-stats/>), whose names are in the comments where ours differ.
//! Figures are made of them elsewhere, and in one place for all clients.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use serde::{Deserialize, Serialize};

/// One line from a client. Times (`at`) are milliseconds of the machine's clock since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The client is ready to be told to join, with the word `join` on a line of its own.
    Ready,
    /// It asked to join.
    Joining { at: f64 },
    /// The server let it in.
    Joined { at: f64 },
    /// ICE and DTLS succeeded, for the first time or again.
    Connected { at: f64 },
    /// The first picture of a participant was shown.
    FirstFrame { at: f64, from: String },
    /// How the call stands; once a second.
    Sample(Sample),
    /// It could not go on. Nothing follows.
    Failed {
        at: f64,
        /// A sentence that says why.
        why: String,
    },
}

/// How the call stands at one client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    pub at: f64,
    /// `currentRoundTripTime` of the candidate pair in use, milliseconds.
    pub rtt_ms: Option<f64>,
    /// `availableOutgoingBitrate`, bits a second.
    pub available_outgoing: Option<f64>,
    /// What the server believes that the client's downlink carries, bits a second, if it tells.
    pub downlink_estimate: Option<f64>,
    /// The way in use: `udp`, `tcp`, `relay-udp`, `relay-tcp` or `relay-tls`.
    pub path: Option<String>,
    /// Bytes that a flow beside the call has carried. Only a client that is such a flow says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_bytes: Option<u64>,
    pub sent: Sent,
    /// What it receives, of each participant.
    pub received: Vec<Received>,
}

/// What a client sends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// Bytes of audio payload.
    pub audio_bytes: u64,
    /// Bytes of video payload, all encodings, retransmissions among them (`bytesSent`).
    pub video_bytes: u64,
    /// Of these, retransmissions (`retransmittedBytesSent`).
    pub video_retransmitted_bytes: u64,
    /// Frames encoded, of the largest encoding that is sent.
    pub frames_encoded: u64,
    pub height: Option<u32>,
    /// What the encoders aim at together (`targetBitrate`), bits a second.
    pub target_bitrate: Option<f64>,
}

/// What a client receives of one participant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Received {
    pub from: String,
    pub audio: Option<AudioReceived>,
    pub video: Option<VideoReceived>,
}

/// A voice, as received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AudioReceived {
    pub packets: u64,
    /// RTP packets lost for good (`packetsLost`); less than nothing when duplicates came.
    pub lost: i64,
    pub bytes: u64,
    /// `totalSamplesReceived`: everything played, concealed or not.
    pub samples: u64,
    pub concealed: u64,
    pub silent_concealed: u64,
    /// `jitterBufferDelay`: seconds that emitted samples have waited, all added up.
    pub jitter_buffer_delay: f64,
    pub jitter_buffer_emitted: u64,
    /// How intelligible it was against what was sent, 0 to 1, over the run so far; of bots only.
    pub score: Option<f64>,
}

/// A picture, as received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VideoReceived {
    pub packets: u64,
    /// RTP packets lost for good (`packetsLost`); less than nothing when duplicates came.
    pub lost: i64,
    /// Payload bytes, retransmissions and FEC among them (`bytesReceived`).
    pub bytes: u64,
    /// Of these, retransmissions (`retransmittedBytesReceived`).
    pub retransmitted_bytes: u64,
    /// Of these, FEC (`fecBytesReceived`).
    pub fec_bytes: u64,
    pub frames: u64,
    pub key_frames: u64,
    pub freezes: u64,
    /// `totalFreezesDuration`, seconds. A freeze counts when it ends.
    pub frozen: f64,
    /// Size of the last frame.
    pub width: Option<u32>,
    /// Size of the last frame.
    pub height: Option<u32>,
    pub nacks: u64,
    /// Requests for a key frame: `pliCount` and `firCount` together.
    pub key_frame_requests: u64,
    /// `jitterBufferDelay`: seconds that emitted frames have waited, all added up.
    pub jitter_buffer_delay: f64,
    pub jitter_buffer_emitted: u64,
    /// Times from capture to rendering since the sample before, milliseconds, read from the time
    /// code in the pictures.
    pub picture_delays: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_is_and_may_leave_out_what_it_does_not_know() {
        let line =
            r#"{"type":"sample","at":1000.5,"received":[{"from":"alice","video":{"frames":30}}]}"#;
        let Ok(Line::Sample(sample)) = serde_json::from_str(line) else {
            panic!("no sample");
        };
        let video = sample.received[0].video.as_ref();
        assert_eq!(video.map(|video| video.frames), Some(30));
        assert_eq!(sample.rtt_ms, None);
        let written = serde_json::to_string(&Line::Joined { at: 3.0 }).ok();
        assert_eq!(written.as_deref(), Some(r#"{"type":"joined","at":3.0}"#));
    }
}
