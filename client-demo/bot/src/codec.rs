//! What the bot must know of each payload format: its name, and of video where a key frame starts,
//! so that a receiver can tell what a decoder could show.
//!
//! In: an RTP payload. Out: a yes or no, never an error: what cannot be read starts no key frame.

use serde::Serialize;

/// VP8 payload descriptor, RFC 7741 section 4.2.
const VP8_EXTENDED: u8 = 0x80;
const VP8_START_OF_PARTITION: u8 = 0x10;
const VP8_PARTITION_INDEX: u8 = 0x07;
/// VP8 frame tag, RFC 6386 section 9.1: zero in a key frame.
const VP8_INTER_FRAME: u8 = 0x01;

/// VP9 payload descriptor, RFC 9628 section 4.2.
const VP9_INTER_PREDICTED: u8 = 0x40;
const VP9_START_OF_FRAME: u8 = 0x08;

/// NAL unit types, RFC 6184 section 5.2 and ITU-T H.264 table 7-1.
pub(crate) const NAL_TYPE: u8 = 0x1f;
pub(crate) const NAL_SLICE: u8 = 1;
pub(crate) const NAL_IDR: u8 = 5;
pub(crate) const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;
const FU_START: u8 = 0x80;

/// AV1 aggregation header, AV1 RTP specification section 4.4.
const AV1_CONTINUES_OBU: u8 = 0x80;
const AV1_NEW_CODED_SEQUENCE: u8 = 0x08;

/// VP8 start code and what follows it in a key frame, RFC 6386 section 9.1.
const VP8_START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
const VP8_SIZE_MASK: u16 = 0x3fff;

/// What a payload type was negotiated as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Audio(AudioFormat),
    Video(VideoCodec),
}

impl Format {
    /// The format of a media type, whatever its case; none for RTX, FEC and strangers.
    pub(crate) fn from_mime_type(mime_type: &str) -> Option<Format> {
        let is = |name: &str| mime_type.eq_ignore_ascii_case(name);
        match VideoCodec::from_mime_type(mime_type) {
            Some(codec) => Some(Format::Video(codec)),
            None if is("audio/opus") => Some(Format::Audio(AudioFormat::Opus)),
            None if is("audio/red") => Some(Format::Audio(AudioFormat::Red)),
            None => None,
        }
    }
}

/// How audio is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AudioFormat {
    /// RFC 7587.
    Opus,
    /// RFC 2198, with Opus in it.
    Red,
}

/// A video codec that Confab forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum VideoCodec {
    /// RFC 7741.
    #[serde(rename = "VP8")]
    Vp8,
    /// RFC 9628.
    #[serde(rename = "VP9")]
    Vp9,
    /// RFC 6184.
    #[serde(rename = "H264")]
    H264,
    /// AV1 RTP specification 1.0.
    #[serde(rename = "AV1")]
    Av1,
}

impl VideoCodec {
    /// The media type in SDP, as in `a=rtpmap:96 VP8/90000`, with `video/` before it.
    pub fn mime_type(self) -> &'static str {
        match self {
            VideoCodec::Vp8 => "video/VP8",
            VideoCodec::Vp9 => "video/VP9",
            VideoCodec::H264 => "video/H264",
            VideoCodec::Av1 => "video/AV1",
        }
    }

    /// The codec of a media type, whatever its case; none for RTX, RED, FEC and strangers.
    pub fn from_mime_type(mime_type: &str) -> Option<VideoCodec> {
        [
            VideoCodec::Vp8,
            VideoCodec::Vp9,
            VideoCodec::H264,
            VideoCodec::Av1,
        ]
        .into_iter()
        .find(|codec| codec.mime_type().eq_ignore_ascii_case(mime_type))
    }

    /// Whether this payload is the first of a key frame.
    pub fn starts_key_frame(self, payload: &[u8]) -> bool {
        let key_frame = match self {
            VideoCodec::Vp8 => vp8_starts_key_frame(payload),
            VideoCodec::Vp9 => payload.first().map(|first| {
                first & (VP9_INTER_PREDICTED | VP9_START_OF_FRAME) == VP9_START_OF_FRAME
            }),
            VideoCodec::H264 => h264_starts_key_frame(payload),
            VideoCodec::Av1 => payload.first().map(|first| {
                first & (AV1_CONTINUES_OBU | AV1_NEW_CODED_SEQUENCE) == AV1_NEW_CODED_SEQUENCE
            }),
        };
        key_frame.unwrap_or(false)
    }
}

/// Width and height in the first payload of a VP8 key frame (RFC 6386 section 9.1).
pub(crate) fn vp8_size(payload: &[u8]) -> Option<(u32, u32)> {
    let frame = payload.get(vp8_descriptor(payload)?..)?;
    if frame.get(3..6)? != VP8_START_CODE {
        return None;
    }
    // The upper two bits say how to scale.
    let size = |at: usize| {
        let bytes = frame.get(at..at + 2)?.try_into().ok()?;
        Some(u32::from(u16::from_le_bytes(bytes) & VP8_SIZE_MASK))
    };
    Some((size(6)?, size(8)?))
}

fn vp8_starts_key_frame(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let starts_frame = first & VP8_START_OF_PARTITION != 0 && first & VP8_PARTITION_INDEX == 0;
    let tag = payload.get(vp8_descriptor(payload)?)?;
    Some(starts_frame && tag & VP8_INTER_FRAME == 0)
}

/// The length of the payload descriptor (RFC 7741 section 4.2).
fn vp8_descriptor(payload: &[u8]) -> Option<usize> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & VP8_EXTENDED != 0 {
        let extensions = *payload.get(at)?;
        at += 1;
        if extensions & 0x80 != 0 {
            // The picture id is one byte, or two if its first bit says so.
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extensions & 0x40 != 0);
        at += usize::from(extensions & 0x30 != 0);
    }
    Some(at)
}

fn h264_starts_key_frame(payload: &[u8]) -> Option<bool> {
    let is_key = |nal: u8| matches!(nal & NAL_TYPE, NAL_SPS | NAL_IDR);
    let first = *payload.first()?;
    Some(match first & NAL_TYPE {
        // The first unit of an aggregate follows the aggregate's header and its own length.
        NAL_STAP_A => is_key(*payload.get(3)?),
        NAL_FU_A => {
            let header = *payload.get(1)?;
            header & FU_START != 0 && is_key(header)
        }
        _ => is_key(first),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_told_from_their_first_payload() {
        let table: &[(VideoCodec, &[u8], bool, &str)] = &[
            (VideoCodec::Vp8, &[0x10, 0x00], true, "no extensions"),
            (VideoCodec::Vp8, &[0x10, 0x01], false, "inter frame"),
            (VideoCodec::Vp8, &[0x00, 0x00], false, "not the start"),
            (VideoCodec::Vp8, &[0x12, 0x00], false, "third partition"),
            (VideoCodec::Vp8, &[0x90, 0x80, 0x05, 0x00], true, "7-bit id"),
            (
                VideoCodec::Vp8,
                &[0x90, 0x80, 0x85, 0x05, 0x01],
                false,
                "15-bit id",
            ),
            (
                VideoCodec::Vp8,
                &[0x90, 0xf0, 0x85, 5, 1, 2, 0x00],
                true,
                "all fields",
            ),
            (VideoCodec::Vp8, &[0x90, 0x80], false, "cut short"),
            (VideoCodec::Vp9, &[0x88], true, "start"),
            (VideoCodec::Vp9, &[0xc8], false, "inter frame"),
            (VideoCodec::Vp9, &[0x80], false, "not the start"),
            (
                VideoCodec::H264,
                &[0x78, 0, 4, 0x67],
                true,
                "STAP-A with SPS",
            ),
            (VideoCodec::H264, &[0x65], true, "IDR"),
            (VideoCodec::H264, &[0x7c, 0x85], true, "FU-A, IDR, start"),
            (VideoCodec::H264, &[0x7c, 0x05], false, "FU-A, IDR, middle"),
            (VideoCodec::H264, &[0x41], false, "slice"),
            (VideoCodec::Av1, &[0x18], true, "new coded sequence"),
            (VideoCodec::Av1, &[0x10], false, "inter frame"),
            (VideoCodec::Av1, &[0x90], false, "continuation"),
        ];
        for (codec, payload, expected, case) in table {
            assert_eq!(
                codec.starts_key_frame(payload),
                *expected,
                "{codec:?}: {case}"
            );
        }
        for codec in ["VIDEO/vp8", "video/VP9", "video/h264", "video/AV1"] {
            let codec = VideoCodec::from_mime_type(codec).expect("a known codec");
            assert!(!codec.starts_key_frame(&[]), "{codec:?}: empty");
        }
        assert_eq!(VideoCodec::from_mime_type("video/rtx"), None);
        let red = Some(Format::Audio(AudioFormat::Red));
        assert_eq!(Format::from_mime_type("AUDIO/RED"), red);
    }

    #[test]
    fn a_vp8_key_frame_tells_its_size() {
        let frame = [0x90, 0x80, 5, 0, 0, 0, 0x9d, 1, 0x2a, 0x80, 0x42, 0x68, 1];
        assert_eq!(vp8_size(&frame), Some((640, 360)));
        for end in 0..frame.len() {
            assert_eq!(vp8_size(&frame[..end]), None, "cut after {end}");
        }
    }
}
