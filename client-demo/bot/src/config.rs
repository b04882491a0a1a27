//! How a bot takes part.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::send::audio::AudioSource;
use crate::send::video::VideoSource;

/// How a bot takes part.
#[derive(Clone, Debug)]
pub struct BotConfig {
    /// The server's WebSocket, as in `ws://127.0.0.1:8080/v1/ws`.
    pub url: String,
    /// The room.
    pub room: String,
    /// The name others see.
    pub name: String,
    /// The token, where the server wants one.
    pub token: Option<String>,
    /// What is said.
    pub audio: AudioSource,
    /// What is shown.
    pub video: VideoSource,
    /// Receive slots for audio.
    pub subscribe_audio: usize,
    /// Receive slots for video.
    pub subscribe_video: usize,
    /// Whether to decode audio and join frames; if not, packets are only counted.
    pub decode: bool,
    /// An existing directory for the pictures received.
    pub record: Option<PathBuf>,
    /// The local address and port of the media connection; port 0 is any.
    pub bind: String,
    /// Where to send media instead of to the candidates of the answer: a forwarder that makes a bad
    /// link between bot and server.
    pub media_through: Option<SocketAddr>,
    /// What the others are known to say, to judge how intelligible they are; nobody is judged if
    /// this says nothing. [`AudioSource::Speech`] without a name is the speech of each by its own.
    pub reference: AudioSource,
}

impl BotConfig {
    /// A bot that publishes nothing and has one slot of each kind, on loopback.
    pub fn new(url: &str, room: &str, name: &str) -> BotConfig {
        BotConfig {
            url: url.to_owned(),
            room: room.to_owned(),
            name: name.to_owned(),
            token: None,
            audio: AudioSource::None,
            video: VideoSource::None,
            subscribe_audio: 1,
            subscribe_video: 1,
            decode: true,
            record: None,
            bind: "127.0.0.1:0".to_owned(),
            media_through: None,
            reference: AudioSource::None,
        }
    }
}
