//! What a track is made of: its kind, its codec, and how a connection numbers them.
//!
//! SDP negotiation fills these tables once per m-line; the packet path only looks things up.

use std::fmt;

/// Audio or video.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Audio.
    Audio,
    /// Pictures.
    Video,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        })
    }
}

/// A codec with the parameters that decide whether one client's stream can be decoded by another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    /// RFC 7587. 48 kHz, any receiver decodes any stream.
    Opus,
    /// G.711 µ-law (RFC 3551 section 4.5.14).
    Pcmu,
    /// G.711 A-law (RFC 3551 section 4.5.14).
    Pcma,
    /// RFC 3551 section 4.5.2: sampled at 16 kHz, but its RTP clock has 8 kHz.
    G722,
    /// Key presses beside audio (RFC 4733), by the clock of that audio.
    TelephoneEvent {
        /// In Hz.
        clock_rate: u32,
    },
    /// What the silence between two talk spurts sounds like (RFC 3389), by the clock of the audio.
    ComfortNoise {
        /// In Hz.
        clock_rate: u32,
    },
    /// RFC 7741.
    Vp8,
    /// RFC 9628, with its profile (0 to 3).
    Vp9 {
        /// `profile-id`, 0 when absent.
        profile: u8,
    },
    /// RFC 6184.
    H264 {
        /// `profile_idc`, the first byte of `profile-level-id`.
        profile_idc: u8,
        /// The constraint flags that matter for matching: `profile-iop` masked as
        /// RFC 6184 section 8.1 table 5 asks. Baseline and constrained baseline differ here.
        profile_iop: u8,
        /// `packetization-mode`, 0 or 1.
        packetization_mode: u8,
    },
    /// RFC 7798, in a single stream and with its units in the order of decoding.
    H265 {
        /// `profile-id`, 0 to 31; 1 (main) when absent.
        profile: u8,
        /// `tier-flag`.
        is_high_tier: bool,
    },
    /// The AV1 RTP payload specification, with its profile (0 to 2).
    Av1 {
        /// `profile`, 0 when absent.
        profile: u8,
    },
}

impl Codec {
    /// The kind of media this codec carries.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Codec::Opus
            | Codec::Pcmu
            | Codec::Pcma
            | Codec::G722
            | Codec::TelephoneEvent { .. }
            | Codec::ComfortNoise { .. } => Kind::Audio,
            Codec::Vp8
            | Codec::Vp9 { .. }
            | Codec::H264 { .. }
            | Codec::H265 { .. }
            | Codec::Av1 { .. } => Kind::Video,
        }
    }

    /// Whether a track can be made of it: the others come between the packets of one that can, on its
    /// SSRC and in its numbers, and a receiver can do without them.
    #[must_use]
    pub fn stands_alone(self) -> bool {
        !matches!(
            self,
            Codec::TelephoneEvent { .. } | Codec::ComfortNoise { .. }
        )
    }

    /// Whether several packets of one frame may look like its first.
    #[must_use]
    pub fn starts_frames_often(self) -> bool {
        matches!(
            self,
            Codec::H264 { .. } | Codec::H265 { .. } | Codec::Av1 { .. }
        )
    }

    /// The RTP clock rate in Hz.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 8_000,
            Codec::TelephoneEvent { clock_rate } | Codec::ComfortNoise { clock_rate } => clock_rate,
            _ => 90_000,
        }
    }

    /// Its name with the profile, for a sentence.
    #[must_use]
    pub fn described(self) -> String {
        let profile = match self {
            Codec::Opus => return "Opus".into(),
            Codec::H264 {
                profile_idc,
                profile_iop,
                ..
            } => match (profile_idc, profile_iop) {
                (0x42, 0x40) => "constrained baseline profile",
                (0x42, _) => "baseline profile",
                (0x4d, _) => "main profile",
                (_, 0x0c) => "constrained high profile",
                _ => "high profile",
            },
            Codec::H265 {
                profile,
                is_high_tier,
            } => match (profile, is_high_tier) {
                (1, false) => "main profile",
                (2, false) => "main 10 profile",
                (_, true) => return format!("{self} profile {profile} in high tier"),
                _ => return format!("{self} profile {profile}"),
            },
            Codec::Vp9 { profile } | Codec::Av1 { profile } if profile > 0 => {
                return format!("{self} profile {profile}");
            }
            _ => return self.to_string(),
        };
        format!("{self} {profile}")
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Opus => "opus",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::TelephoneEvent { .. } => "telephone-event",
            Codec::ComfortNoise { .. } => "CN",
            Codec::Vp8 => "VP8",
            Codec::Vp9 { .. } => "VP9",
            Codec::H264 { .. } => "H264",
            Codec::H265 { .. } => "H265",
            Codec::Av1 { .. } => "AV1",
        })
    }
}

/// One codec as one m-line of one connection numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadMap {
    /// What it carries.
    pub codec: Codec,
    /// The payload type of the media, 0 to 127.
    pub payload_type: u8,
    /// The payload type of its retransmissions (RFC 4588), if negotiated.
    pub rtx_payload_type: Option<u8>,
    /// Generic NACK (RFC 4585 section 6.2.1) was negotiated.
    pub nack: bool,
    /// Transport-wide congestion control feedback was negotiated.
    pub transport_cc: bool,
    /// REMB (draft-alvestrand-rmcat-remb-03) was negotiated.
    pub remb: bool,
    /// How a key frame is asked for, if that was negotiated.
    pub key_frames: Option<KeyFrameRequest>,
}

/// How a sender is asked for a key frame. The lesser is preferred.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum KeyFrameRequest {
    /// PLI (RFC 4585 section 6.3.1), negotiated as `nack pli`.
    PictureLoss,
    /// FIR (RFC 5104 section 4.3.1), negotiated as `ccm fir`.
    FullIntra,
}

/// The payload types by which one m-line repairs beside retransmission, where negotiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RepairFormats {
    /// RED (RFC 2198): with Opus in it on an audio m-line, with any codec or ULPFEC on a video one.
    pub red: Option<u8>,
    /// The retransmissions of RED packets.
    pub red_rtx: Option<u8>,
    /// ULPFEC (RFC 5109), only ever within RED.
    pub ulpfec: Option<u8>,
    /// FlexFEC-03, on an SSRC of its own.
    pub flexfec: Option<u8>,
}

/// A header extension we understand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    RepairedRid,
    /// Transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportSequence,
    /// Absolute send time, 24 bits of 6.18 fixed-point seconds.
    AbsSendTime,
    /// Client-to-mixer audio level (RFC 6464).
    AudioLevel,
    /// Coordination of video orientation (3GPP TS 26.114).
    VideoOrientation,
    /// Playout delay limits.
    PlayoutDelay,
    /// AV1 dependency descriptor, used with every codec.
    DependencyDescriptor,
    /// Absolute capture time.
    AbsCaptureTime,
    /// Transmission time offset (RFC 5450). Agreed on and not read, as all that follow.
    TransmissionOffset,
    /// Camera or screen.
    VideoContentType,
    /// When each step of sending a frame was done.
    VideoTiming,
    /// Colour space of the pictures.
    ColorSpace,
    /// Which layers are sent, with their bitrates.
    VideoLayersAllocation,
}

impl Extension {
    /// Every extension, in the order of their discriminants.
    pub const ALL: [Extension; 15] = [
        Extension::Mid,
        Extension::Rid,
        Extension::RepairedRid,
        Extension::TransportSequence,
        Extension::AbsSendTime,
        Extension::AudioLevel,
        Extension::VideoOrientation,
        Extension::PlayoutDelay,
        Extension::DependencyDescriptor,
        Extension::AbsCaptureTime,
        Extension::TransmissionOffset,
        Extension::VideoContentType,
        Extension::VideoTiming,
        Extension::ColorSpace,
        Extension::VideoLayersAllocation,
    ];

    /// The URI it is negotiated by.
    #[must_use]
    pub fn uri(self) -> &'static str {
        match self {
            Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Extension::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Extension::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Extension::TransportSequence => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Extension::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Extension::VideoOrientation => "urn:3gpp:video-orientation",
            Extension::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Extension::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Extension::AbsCaptureTime => {
                "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
            }
            Extension::TransmissionOffset => "urn:ietf:params:rtp-hdrext:toffset",
            Extension::VideoContentType => {
                "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type"
            }
            Extension::VideoTiming => "http://www.webrtc.org/experiments/rtp-hdrext/video-timing",
            Extension::ColorSpace => "http://www.webrtc.org/experiments/rtp-hdrext/color-space",
            Extension::VideoLayersAllocation => {
                "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00"
            }
        }
    }

    /// The extension that a URI names, if we know it.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Extension> {
        Extension::ALL.into_iter().find(|e| e.uri() == uri)
    }
}

/// Which local identifier each extension has on one m-line (RFC 8285): 1 to 255, never 15 in the
/// one-byte form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExtensionMap {
    ids: [u8; Extension::ALL.len()],
}

impl ExtensionMap {
    /// Binds an extension to an id; an id of 0 unbinds it.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.ids[extension as usize] = id;
    }

    /// The id of an extension, if it was negotiated.
    #[must_use]
    pub fn id(&self, extension: Extension) -> Option<u8> {
        Some(self.ids[extension as usize]).filter(|&id| id != 0)
    }

    /// The extension that an id stands for, if any.
    #[must_use]
    pub fn extension(&self, id: u8) -> Option<Extension> {
        Extension::ALL
            .into_iter()
            .find(|&e| id != 0 && self.ids[e as usize] == id)
    }

    /// Every negotiated extension with its id.
    pub fn iter(&self) -> impl Iterator<Item = (Extension, u8)> + '_ {
        Extension::ALL
            .into_iter()
            .filter_map(|e| Some((e, self.id(e)?)))
    }
}
