//! What the bot offers to send and to take, as the `webrtc` crate wants it told.

use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters};

use crate::codec::VideoCodec;
use crate::protocol::Kind;

/// The profile_idc of H.264's High profile.
const HIGH_PROFILE: u8 = 100;
const H264_HIGH: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640032";
const H264_CONSTRAINED_BASELINE: &str =
    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
/// RED with Opus in it, as browsers offer it: the payload types, and the parameters that name the
/// Opus ones (RFC 2198 section 5).
const RED_PAYLOAD_TYPE: u8 = 63;
const RED_PARAMETERS: &str = "111/111";

/// What an m-line sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendCodec {
    Opus,
    /// For H.264 with the profile_idc of the stream (ITU-T H.264 section 7.4.2.1.1).
    Video(VideoCodec, Option<u8>),
}

impl SendCodec {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            SendCodec::Opus => Kind::Audio,
            SendCodec::Video(..) => Kind::Video,
        }
    }

    /// Whether packets of this codec may carry the payload type negotiated as `other`.
    pub(crate) fn matches(&self, other: &RTCRtpCodec) -> bool {
        let own = self.rtc();
        // All but the level, which the answer may lower.
        let h264 = |codec: &RTCRtpCodec| {
            let profile = parameter(codec, "profile-level-id").and_then(|id| id.get(..4));
            let mode = parameter(codec, "packetization-mode");
            (
                profile.map(str::to_ascii_lowercase),
                mode.map(str::to_owned),
            )
        };
        let same_parameters = match self {
            SendCodec::Video(VideoCodec::H264, _) => h264(&own) == h264(other),
            // The files are of VP9 profile 0 or AV1 profile 0, the default where none is named.
            _ => matches!(parameter(other, "profile-id"), None | Some("0")),
        };
        own.mime_type.eq_ignore_ascii_case(&other.mime_type) && same_parameters
    }

    pub(crate) fn rtc(&self) -> RTCRtpCodec {
        let (mime_type, clock_rate, channels) = match self {
            SendCodec::Opus => ("audio/opus", 48_000, 2),
            SendCodec::Video(codec, _) => (codec.mime_type(), 90_000, 0),
        };
        // As the crate registers them; the payloader writes packetization mode 1.
        let sdp_fmtp_line = match self {
            SendCodec::Video(VideoCodec::H264, Some(HIGH_PROFILE)) => H264_HIGH,
            SendCodec::Video(VideoCodec::H264, _) => H264_CONSTRAINED_BASELINE,
            _ => "",
        };
        RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: sdp_fmtp_line.to_owned(),
            ..Default::default()
        }
    }
}

/// A parameter of an `a=fmtp` line.
fn parameter<'a>(codec: &'a RTCRtpCodec, name: &str) -> Option<&'a str> {
    codec.sdp_fmtp_line.split(';').find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

pub(crate) fn red() -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: "audio/red".to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: RED_PARAMETERS.to_owned(),
            ..Default::default()
        },
        payload_type: RED_PAYLOAD_TYPE,
    }
}
