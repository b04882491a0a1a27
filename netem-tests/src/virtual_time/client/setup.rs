//! How a simulated client is set up: what it has, and whose habits.

use super::media::Size;
use super::sdp::{self, Dialect};
use super::send::Beginning;

/// Bytes of an inter frame: 600 kbit/s at 30 frames a second.
const FRAME_LEN: u32 = 2500;

/// The size of a picture, and of the largest of a simulcast.
const SIZE: Size = [640, 360];
const SIMULCAST_SIZE: Size = [1280, 720];

/// Bytes of an inter frame in each encoding of a simulcast, smallest first.
const SIMULCAST_FRAME_LENS: [u32; 3] = [500, 1600, 5000];

/// The same at the web SDK's highest rates of 150, 500 and 1700 kbit/s
/// (`SIMULCAST_ENCODINGS` in client-demo/sdk/media.js).
const SDK_FRAME_LENS: [u32; 3] = [625, 2083, 7083];

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
    pub(super) simulcast_frame_lens: [u32; 3],
    pub(super) size: Option<Size>,
    pub(super) is_layered: bool,
    pub(super) has_one_size: bool,
    pub(super) sends_remb: bool,
    pub(super) has_rtx: bool,
    pub(super) has_pli: bool,
    pub(super) has_fec: bool,
    pub(super) sends_reports: bool,
    pub(super) is_tolerant: bool,
    pub(super) is_patient: bool,
    pub(super) answers_checks: bool,
    /// The value of `a=setup` in offers.
    pub(super) dtls: &'static str,
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
        simulcast_frame_lens: SIMULCAST_FRAME_LENS,
        size: None,
        is_layered: false,
        has_one_size: false,
        sends_remb: false,
        has_rtx: true,
        has_pli: true,
        has_fec: false,
        sends_reports: true,
        is_tolerant: false,
        is_patient: false,
        answers_checks: true,
        dtls: "actpass",
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

    /// With a camera in three encodings and at the rates that Chromium sends with the web SDK.
    #[must_use]
    pub fn simulcast_as_sdk(self) -> Self {
        Setup {
            simulcast_frame_lens: SDK_FRAME_LENS,
            ..self.simulcast().temporal_layers()
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

    /// With a picture of this size, the largest of a simulcast.
    #[must_use]
    pub fn size(self, width: u16, height: u16) -> Self {
        Setup {
            size: Some([width, height]),
            ..self
        }
    }

    /// With three temporal layers in each encoding of its camera.
    #[must_use]
    pub fn temporal_layers(self) -> Self {
        Setup {
            is_layered: true,
            ..self
        }
    }

    /// With a simulcast whose encodings are all of one size and rate.
    #[must_use]
    pub fn all_alike(self) -> Self {
        Setup {
            has_one_size: true,
            ..self
        }
    }

    /// Knows no transport-wide feedback, only REMB.
    #[must_use]
    pub fn remb(self) -> Self {
        Setup {
            sends_remb: true,
            ..self
        }
    }

    /// Has lost packets sent again on their own stream: it knows no RTX.
    #[must_use]
    pub fn no_rtx(self) -> Self {
        Setup {
            has_rtx: false,
            ..self
        }
    }

    /// Is asked for key frames by FIR alone, not by PLI.
    #[must_use]
    pub fn fir_only(self) -> Self {
        Setup {
            has_pli: false,
            ..self
        }
    }

    /// Knows FEC for video: ULPFEC in RED.
    #[must_use]
    pub fn fec(self) -> Self {
        Setup {
            has_fec: true,
            ..self
        }
    }

    /// Sends media without sender reports.
    #[must_use]
    pub fn no_reports(self) -> Self {
        Setup {
            sends_reports: false,
            ..self
        }
    }

    /// Bytes of an inter frame and the size of each encoding, the smallest first.
    pub(super) fn pictures(&self, simulcast: bool) -> Vec<(u32, Size)> {
        let [small, middle, large] = self.simulcast_frame_lens;
        let size = self
            .size
            .unwrap_or(if simulcast { SIMULCAST_SIZE } else { SIZE });
        match (simulcast, self.has_one_size) {
            (false, _) => vec![(self.frame_len, size)],
            (true, true) => vec![(middle, size); 3],
            (true, false) => [(small, 2), (middle, 1), (large, 0)]
                .map(|(len, halved)| (len, size.map(|side| side >> halved)))
                .into(),
        }
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

    /// Leaves checks of the server without an answer.
    #[must_use]
    pub fn unanswering(self) -> Self {
        Setup {
            answers_checks: false,
            ..self
        }
    }

    /// That wants to be the DTLS server.
    #[must_use]
    pub fn passive(self) -> Self {
        Setup {
            dtls: "passive",
            ..self
        }
    }
}
