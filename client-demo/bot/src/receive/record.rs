//! The pictures of one slot as files a player opens: IVF for VP8, VP9 and AV1, Annex B for H.264.
//!
//! In: complete frames as RTP payloads. Out: `DIRECTORY/slot-MID-N.ivf` or `.h264`, a new N whenever
//! the slot changes to another codec.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use bytes::{BufMut, Bytes, BytesMut};
use rtp::packetizer::Depacketizer;

use super::video::ShownFrame;
use crate::BotError;
use crate::codec::VideoCodec;

/// An AV1 temporal unit in a file begins with a temporal delimiter OBU, which RTP leaves out (AV1
/// RTP specification section 5).
const AV1_TEMPORAL_DELIMITER: [u8; 2] = [0x12, 0x00];
/// What IVF headers are given for a size that is not parsed: decoders take it from the stream.
const NOMINAL_SIZE: (u16, u16) = (640, 360);
/// Frames a second in the IVF time base.
const NOMINAL_RATE: u32 = 30;

pub(crate) struct Recorder {
    directory: PathBuf,
    mid: String,
    files: u32,
    current: Option<Recording>,
}

struct Recording {
    codec: VideoCodec,
    path: PathBuf,
    file: File,
    depacketizer: Box<dyn Depacketizer + Send>,
    frames: u64,
}

impl Recorder {
    pub(crate) fn new(directory: PathBuf, mid: &str) -> Recorder {
        Recorder {
            directory,
            mid: mid.to_owned(),
            files: 0,
            current: None,
        }
    }

    pub(crate) fn write(&mut self, frame: &ShownFrame) -> Result<(), BotError> {
        let recording = match &mut self.current {
            Some(recording) if recording.codec == frame.codec => recording,
            current => {
                let extension = match frame.codec {
                    VideoCodec::H264 => "h264",
                    VideoCodec::Vp8 | VideoCodec::Vp9 | VideoCodec::Av1 => "ivf",
                };
                let name = format!("slot-{}-{}.{extension}", self.mid, self.files);
                self.files += 1;
                current.insert(Recording::create(frame.codec, self.directory.join(name))?)
            }
        };
        recording.write(frame).map_err(|reason| BotError::Media {
            path: recording.path.clone(),
            reason,
        })
    }
}

impl Recording {
    fn create(codec: VideoCodec, path: PathBuf) -> Result<Recording, BotError> {
        let failed = |error: std::io::Error| BotError::Media {
            path: path.clone(),
            reason: error.to_string(),
        };
        let mut file = File::create(&path).map_err(failed)?;
        let (fourcc, depacketizer): (&[u8; 4], Box<dyn Depacketizer + Send>) = match codec {
            VideoCodec::Vp8 => (b"VP80", Box::new(rtp::codec::vp8::Vp8Packet::default())),
            VideoCodec::Vp9 => (b"VP90", Box::new(rtp::codec::vp9::Vp9Packet::default())),
            VideoCodec::Av1 => (b"AV01", Box::new(rtp::codec::av1::Av1Depacketizer::new())),
            VideoCodec::H264 => (b"H264", Box::new(rtp::codec::h264::H264Packet::default())),
        };
        if codec != VideoCodec::H264 {
            file.write_all(&ivf_header(fourcc)).map_err(failed)?;
        }
        Ok(Recording {
            codec,
            path,
            file,
            depacketizer,
            frames: 0,
        })
    }

    fn write(&mut self, frame: &ShownFrame) -> Result<(), String> {
        let mut data = BytesMut::new();
        if self.codec == VideoCodec::Av1 {
            data.put_slice(&AV1_TEMPORAL_DELIMITER);
        }
        for payload in &frame.payloads {
            let part = self.depacketizer.depacketize(payload);
            data.put(part.map_err(|error| format!("frame {}: {error}", self.frames))?);
        }
        self.write_frame(&data.freeze())
            .map_err(|error| error.to_string())?;
        self.frames += 1;
        Ok(())
    }

    fn write_frame(&mut self, data: &Bytes) -> std::io::Result<()> {
        if self.codec != VideoCodec::H264 {
            self.file.write_all(&(data.len() as u32).to_le_bytes())?;
            self.file.write_all(&self.frames.to_le_bytes())?;
        }
        self.file.write_all(data)
    }
}

fn ivf_header(fourcc: &[u8; 4]) -> Bytes {
    let mut header = BytesMut::new();
    header.put_slice(b"DKIF\0\0\x20\0");
    header.put_slice(fourcc);
    header.put_u16_le(NOMINAL_SIZE.0);
    header.put_u16_le(NOMINAL_SIZE.1);
    header.put_u32_le(NOMINAL_RATE);
    header.put_u32_le(1);
    // The number of frames is not known yet; readers go on to the end of the file.
    header.put_u64_le(0);
    header.freeze()
}
