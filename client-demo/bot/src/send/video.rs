//! What a bot shows: a file of encoded video, held in memory and looped.
//!
//! In: an IVF file (VP8, VP9, AV1) or an Annex B stream (H.264). Out: one frame a call, with its
//! place in time; a key frame at once after `request_key_frame`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use crate::BotError;
use crate::codec::{NAL_IDR, NAL_SLICE, NAL_SPS, NAL_TYPE, VideoCodec};

/// Bytes of the IVF file header, and of the header before each frame.
const IVF_HEADER: usize = 32;
const IVF_FRAME_HEADER: usize = 12;
/// The largest video file read, in bytes.
const MAX_VIDEO_BYTES: u64 = 256 << 20;
/// The frame rate of a file that does not name its own, in frames per second.
const DEFAULT_FRAME_RATE: u32 = 30;
/// The AV1 OBU type of a sequence header (AV1 specification section 6.2.2).
const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;

/// What `--video` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoSource {
    /// No video is published.
    None,
    /// An IVF file with VP8, VP9 or AV1, or an Annex B file with H.264 at 30 frames a second.
    File(PathBuf),
}

impl FromStr for VideoSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('.').map(|(_, extension)| extension) {
            _ if text == "none" => Ok(VideoSource::None),
            Some("ivf" | "h264" | "264") => Ok(VideoSource::File(text.into())),
            _ => Err(format!(
                "\"{text}\" is no video source: give an .ivf file (VP8, VP9, AV1), an .h264 file or none"
            )),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) data: Bytes,
    pub(crate) key: bool,
}

/// A video file, played round and round.
#[derive(Clone, Debug)]
pub(crate) struct VideoFile {
    pub(crate) codec: VideoCodec,
    /// From one frame to the next.
    pub(crate) interval: Duration,
    frames: Vec<Frame>,
    next: usize,
}

impl VideoFile {
    /// Opens the source, or none if nothing is to be published.
    pub(crate) fn open(source: &VideoSource) -> Result<Option<VideoFile>, BotError> {
        let VideoSource::File(path) = source else {
            return Ok(None);
        };
        let bytes = Bytes::from(super::read_bounded(path, MAX_VIDEO_BYTES)?);
        let parsed = if bytes.starts_with(b"DKIF") {
            parse_ivf(&bytes)
        } else {
            parse_annex_b(&bytes)
        };
        parsed.map(Some).map_err(|reason| BotError::Media {
            path: path.clone(),
            reason,
        })
    }

    fn new(codec: VideoCodec, interval: Duration, frames: Vec<Frame>) -> Result<VideoFile, String> {
        if !frames.first().is_some_and(|frame| frame.key) {
            return Err("it does not start with a key frame".into());
        }
        Ok(VideoFile {
            codec,
            interval,
            frames,
            next: 0,
        })
    }

    pub(crate) fn next_frame(&mut self) -> Frame {
        let frame = self.frames[self.next].clone();
        self.next = (self.next + 1) % self.frames.len();
        frame
    }

    /// Makes the next frame a key frame: the following one in the file, or the first.
    pub(crate) fn request_key_frame(&mut self) {
        let following = self.frames[self.next..].iter().position(|frame| frame.key);
        self.next = following.map_or(0, |distance| self.next + distance);
    }

    /// The profile_idc of the file's H.264 sequence parameter set.
    pub(crate) fn h264_profile(&self) -> Option<u8> {
        nal_units(&self.frames[0].data)
            .into_iter()
            .find(|nal| nal[0] & NAL_TYPE == NAL_SPS)
            .and_then(|sps| sps.get(1).copied())
    }
}

fn parse_ivf(bytes: &Bytes) -> Result<VideoFile, String> {
    if bytes.len() < IVF_HEADER {
        return Err("its header is cut short".into());
    }
    let codec = match &bytes[8..12] {
        b"VP80" => VideoCodec::Vp8,
        b"VP90" => VideoCodec::Vp9,
        b"AV01" => VideoCodec::Av1,
        other => {
            return Err(format!(
                "it holds \"{}\"; give VP8, VP9 or AV1",
                other.escape_ascii()
            ));
        }
    };
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (denominator, numerator) = (word(16), word(20));
    let mut frames = Vec::new();
    let mut first_and_last_time = None;
    let mut at = IVF_HEADER;
    while at + IVF_FRAME_HEADER <= bytes.len() {
        let size = word(at) as usize;
        let time = u64::from(word(at + 4)) | u64::from(word(at + 8)) << 32;
        at += IVF_FRAME_HEADER;
        if size > bytes.len() - at {
            return Err(format!("frame {} is cut short", frames.len()));
        }
        let data = bytes.slice(at..at + size);
        at += size;
        if data.is_empty() {
            continue;
        }
        let key = is_key_frame(codec, &data);
        frames.push(Frame { data, key });
        let (first, _) = first_and_last_time.unwrap_or((time, time));
        first_and_last_time = Some((first, time));
    }
    let interval = match first_and_last_time {
        Some((first, last)) if last > first && denominator > 0 && frames.len() > 1 => {
            let ticks = (last - first) as f64 / (frames.len() - 1) as f64;
            Duration::from_secs_f64(ticks * f64::from(numerator) / f64::from(denominator))
        }
        _ => Duration::from_secs(1) / DEFAULT_FRAME_RATE,
    };
    if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&interval) {
        return Err(format!(
            "its frames are {interval:?} apart; 1 ms to 10 s is allowed"
        ));
    }
    VideoFile::new(codec, interval, frames)
}

fn parse_annex_b(bytes: &Bytes) -> Result<VideoFile, String> {
    let mut frames: Vec<Frame> = Vec::new();
    // Where the frame being read starts, and whether it has a slice and an IDR slice yet.
    let (mut start, mut has_slice, mut key) = (None, false, false);
    for (nal_start, nal) in start_codes(bytes) {
        let nal_type = nal.first().map_or(0, |first| first & NAL_TYPE);
        let is_slice = matches!(nal_type, NAL_SLICE..=NAL_IDR);
        // A slice whose first macroblock is 0 (Exp-Golomb "1") begins a new picture, and so does
        // anything else that follows a slice (ITU-T H.264 section 7.4.1.2.3).
        let begins_picture = !is_slice || nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
        if has_slice && begins_picture {
            let data = bytes.slice(start.unwrap_or(nal_start)..nal_start);
            frames.push(Frame { data, key });
            (start, has_slice, key) = (None, false, false);
        }
        start = start.or(Some(nal_start));
        has_slice |= is_slice;
        key |= nal_type == NAL_IDR;
    }
    if let (Some(start), true) = (start, has_slice) {
        let data = bytes.slice(start..);
        frames.push(Frame { data, key });
    }
    VideoFile::new(
        VideoCodec::H264,
        Duration::from_secs(1) / DEFAULT_FRAME_RATE,
        frames,
    )
}

/// Every NAL unit of an Annex B stream with the offset of its start code.
fn start_codes(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let find = |from: usize| {
        let found = bytes
            .get(from..)?
            .windows(3)
            .position(|code| code == [0, 0, 1])?;
        Some(from + found)
    };
    let mut code = find(0);
    std::iter::from_fn(move || {
        let at = code?;
        code = find(at + 3);
        let end = code.unwrap_or(bytes.len());
        let nal = &bytes[at + 3..end];
        // The zero byte of a four-byte start code belongs to the code, not to the unit before it.
        let nal = match nal {
            [unit @ .., 0] if code.is_some() => unit,
            nal => nal,
        };
        let at = if at > 0 && bytes[at - 1] == 0 {
            at - 1
        } else {
            at
        };
        Some((at, nal))
    })
}

/// The NAL units of an Annex B frame.
pub(crate) fn nal_units(frame: &[u8]) -> Vec<&[u8]> {
    start_codes(frame)
        .map(|(_, nal)| nal)
        .filter(|nal| !nal.is_empty())
        .collect()
}

fn is_key_frame(codec: VideoCodec, frame: &[u8]) -> bool {
    match codec {
        // RFC 6386 section 9.1.
        VideoCodec::Vp8 => frame[0] & 0x01 == 0,
        // Frame marker 2, profile below 3, show_existing_frame 0, frame_type 0 (VP9 specification
        // section 6.2).
        VideoCodec::Vp9 => frame[0] & 0b1100_1100 == 0b1000_0000,
        VideoCodec::H264 => nal_units(frame)
            .iter()
            .any(|nal| nal[0] & NAL_TYPE == NAL_IDR),
        VideoCodec::Av1 => starts_with_sequence_header(frame),
    }
}

fn starts_with_sequence_header(temporal_unit: &[u8]) -> bool {
    let obu_type = |header: u8| (header >> 3) & 0x0f;
    match temporal_unit {
        // A temporal delimiter has a size field of zero.
        [delimiter, 0, next, ..] if obu_type(*delimiter) == OBU_TEMPORAL_DELIMITER => {
            obu_type(*next) == OBU_SEQUENCE_HEADER
        }
        [first, ..] => obu_type(*first) == OBU_SEQUENCE_HEADER,
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    fn ivf(fourcc: &[u8; 4], frames: &[(u64, &[u8])]) -> Bytes {
        let mut out = b"DKIF\0\0\x20\0".to_vec();
        out.extend(fourcc);
        out.extend([0; 4]);
        out.extend(25u32.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend([0; 8]);
        for (time, data) in frames {
            out.extend((data.len() as u32).to_le_bytes());
            out.extend(time.to_le_bytes());
            out.extend(*data);
        }
        out.into()
    }

    #[test]
    fn an_ivf_file_loops_and_jumps_to_a_key_frame_on_request() {
        let mut file = parse_ivf(&ivf(
            b"VP80",
            &[
                (0, &[0, 1]),
                (1, &[1, 2]),
                (2, &[1, 3]),
                (3, &[0, 4]),
                (4, &[1, 5]),
            ],
        ))
        .unwrap();
        assert_eq!(file.codec, VideoCodec::Vp8);
        assert_eq!(file.interval, Duration::from_millis(40));
        let mut play =
            |count: usize| -> Vec<u8> { (0..count).map(|_| file.next_frame().data[1]).collect() };
        assert_eq!(play(6), [1, 2, 3, 4, 5, 1]);
        file.request_key_frame();
        assert_eq!(file.next_frame().data[1], 4);
        file.request_key_frame();
        assert_eq!(file.next_frame().data[1], 1);
    }

    #[test]
    fn files_that_cannot_be_played_are_refused() {
        for (bytes, word) in [
            (ivf(b"H263", &[]), "H263"),
            (ivf(b"VP80", &[(0, &[1])]), "key frame"),
            (ivf(b"VP80", &[]), "key frame"),
            (ivf(b"VP80", &[(0, &[0]), (1_000_000, &[1])]), "apart"),
            (ivf(b"VP80", &[(0, &[0; 9])]).slice(..48), "cut short"),
        ] {
            let error = parse_ivf(&bytes).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(parse_annex_b(&Bytes::from_static(b"no start code")).is_err());
    }

    #[test]
    fn an_annex_b_stream_is_cut_into_pictures() {
        // SPS, PPS and IDR in two slices; then two pictures of one slice, one behind a SEI.
        let stream: Vec<&[u8]> = vec![
            &[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e],
            &[0, 0, 0, 1, 0x68, 0xce],
            &[0, 0, 1, 0x65, 0x88, 9],
            &[0, 0, 1, 0x65, 0x08, 9],
            &[0, 0, 0, 1, 0x41, 0x9a, 7],
            &[0, 0, 0, 1, 0x06, 5],
            &[0, 0, 0, 1, 0x41, 0x9a, 8],
        ];
        let file = parse_annex_b(&stream.concat().into()).unwrap();
        assert_eq!(file.h264_profile(), Some(0x42));
        let expected = [
            (stream[..4].concat(), true),
            (stream[4].to_vec(), false),
            (stream[5..].concat(), false),
        ];
        assert_eq!(file.frames.len(), expected.len());
        for (frame, (data, key)) in file.frames.iter().zip(expected) {
            assert_eq!((&frame.data[..], frame.key), (&data[..], key));
        }
        assert_eq!(nal_units(&stream.concat())[1], [0x68, 0xce]);
    }

    #[test]
    fn key_frames_are_found_in_every_codec() {
        for (codec, frame, key) in [
            (VideoCodec::Vp9, &[0x82][..], true),
            (VideoCodec::Vp9, &[0x86], false),
            (VideoCodec::Vp9, &[0x88], false),
            (VideoCodec::Av1, &[0x12, 0x00, 0x0a, 0x0b], true),
            (VideoCodec::Av1, &[0x12, 0x00, 0x32, 0x0b], false),
            (VideoCodec::Av1, &[0x0a, 0x0b], true),
            (VideoCodec::H264, &[0, 0, 1, 0x65, 0x88], true),
            (VideoCodec::H264, &[0, 0, 1, 0x41, 0x9a], false),
        ] {
            assert_eq!(is_key_frame(codec, frame), key, "{codec:?} {frame:x?}");
        }
    }
}
