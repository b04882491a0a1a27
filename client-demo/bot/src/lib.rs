//! The library half of the bot, on which `netem-tests` and `bench` stand.
//!
//! A headless participant: it joins a room over the WebSocket protocol, publishes real Opus and
//! real video files, and judges what it receives as a person would.
//!
//! It stands on the `webrtc` crate, another implementation of ICE, DTLS and SRTP than the server's,
//! and has its own protocol types, so that no shared mistake can hide. For tests, load and demos.
//!
//! - `bot`: [`Bot`], a participant, and what it can be told to do; `config`: how it takes part
//! - `call`, `state`: its call, and what it knows of it
//! - `signaling`, `protocol`: the WebSocket and what travels on it
//! - `connection`: the PeerConnection and its m-lines; `feedback`: what is said of what it sends
//! - `send`: audio and video sources, RTP packets
//! - `receive`: what a slot got: loss, audio, pictures, recordings
//! - `report`: a bot's call in numbers
//! - [`sample`]: what any client tells about its call, once a second; [`lines`]: a bot that tells it
//! - [`score`]: how intelligible a voice is

mod bot;
mod call;
mod codec;
mod config;
mod connection;
mod feedback;
pub mod lines;
mod protocol;
mod receive;
mod report;
pub mod sample;
pub mod score;
mod send;
mod signaling;
mod state;
mod sync;
mod tracks;

use std::path::PathBuf;

pub use bot::Bot;
pub use codec::VideoCodec;
pub use config::BotConfig;
pub use protocol::{Event, Kind, OwnTrack, Participant, RemoteTrack, SlotChoice};
pub use receive::SlotStats;
pub use receive::audio::AudioStats;
pub use receive::video::VideoStats;
pub use report::{Report, SentStats};
pub use send::audio::AudioSource;
pub use send::made_up::MadeUpVideo;
pub use send::video::VideoSource;

/// Why a bot cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BotError {
    /// The WebSocket could not be opened.
    #[error("cannot connect to {url}: {reason}; is the server running there?")]
    Unreachable {
        /// Where to.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The WebSocket closed while a reply was awaited.
    #[error("the server closed the connection before it answered")]
    Disconnected,
    /// The server answered with an error.
    #[error("the server refused ({code}): {message}")]
    Refused {
        /// The protocol's stable code.
        code: String,
        /// The server's sentence.
        message: String,
    },
    /// The server answered one request with the reply of another.
    #[error("the server answered {request} with another reply: {reply}")]
    WrongReply {
        /// What was asked.
        request: &'static str,
        /// What came.
        reply: String,
    },
    /// The answer has none of the codecs a sending m-line needs.
    #[error("the server's answer has no codec for what m-line {mid} sends")]
    CodecRefused {
        /// The m-line.
        mid: String,
    },
    /// A file to send or record cannot be used.
    #[error("cannot use {}: {reason}", path.display())]
    Media {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The `webrtc` crate failed.
    #[error("the webrtc crate failed: {0}")]
    WebRtc(String),
    /// libopus failed.
    #[error("libopus failed: {0}")]
    Opus(#[from] opus::Error),
}

impl From<webrtc::error::Error> for BotError {
    fn from(error: webrtc::error::Error) -> BotError {
        BotError::WebRtc(error.to_string())
    }
}
