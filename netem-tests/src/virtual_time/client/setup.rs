//! How a simulated client is set up: what it has, and whose habits.

use super::sdp::{self, Dialect};
use super::send::Beginning;

/// Bytes of an inter frame: 600 kbit/s at 30 frames a second.
const FRAME_LEN: u32 = 2500;

/// How a client is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub(super) dialect: &'static Dialect,
    pub(super) audio: bool,
    pub(super) video: bool,
    pub(super) simulcast: bool,
    pub(super) audio_slots: usize,
    pub(super) video_slots: usize,
    pub(super) beginning: Option<Beginning>,
    pub(super) frame_len: u32,
    pub(super) is_tolerant: bool,
    pub(super) is_patient: bool,
}

/// A client that publishes nothing yet and has two slots of each kind.
#[must_use]
pub fn publish() -> Setup {
    Setup {
        dialect: &sdp::CHROMIUM,
        audio: false,
        video: false,
        simulcast: false,
        audio_slots: 2,
        video_slots: 2,
        beginning: None,
        frame_len: FRAME_LEN,
        is_tolerant: false,
        is_patient: false,
    }
}

/// A client that only watches and listens.
#[must_use]
pub fn watch() -> Setup {
    publish()
}

impl Setup {
    /// With a microphone.
    #[must_use]
    pub fn audio(self) -> Self {
        Setup {
            audio: true,
            ..self
        }
    }

    /// With a camera.
    #[must_use]
    pub fn video(self) -> Self {
        Setup {
            video: true,
            ..self
        }
    }

    /// With a camera in three encodings.
    #[must_use]
    pub fn simulcast(self) -> Self {
        Setup {
            video: true,
            simulcast: true,
            ..self
        }
    }

    /// With so many receive slots of each kind.
    #[must_use]
    pub fn slots(self, audio: usize, video: usize) -> Self {
        Setup {
            audio_slots: audio,
            video_slots: video,
            ..self
        }
    }

    /// Numbers everything as Firefox does, not as Chromium does.
    #[must_use]
    pub fn firefox(self) -> Self {
        Setup {
            dialect: &sdp::FIREFOX,
            ..self
        }
    }

    /// Begins its streams with these numbers, not with random ones.
    #[must_use]
    pub fn beginning(self, beginning: Beginning) -> Self {
        Setup {
            beginning: Some(beginning),
            ..self
        }
    }

    /// With so many bytes in an inter frame of its camera.
    #[must_use]
    pub fn frame_len(self, frame_len: u32) -> Self {
        Setup { frame_len, ..self }
    }

    /// Puts up with media that is not as negotiated or not as sent: it watches an attacker.
    #[must_use]
    pub fn tolerant(self) -> Self {
        Setup {
            is_tolerant: true,
            ..self
        }
    }

    /// Lets its network take as long as it likes: how late something comes is no fault of the
    /// server.
    #[must_use]
    pub fn patient(self) -> Self {
        Setup {
            is_patient: true,
            ..self
        }
    }
}
