//! Frames become RTP packets of one stream.
//!
//! In: a frame and how much media time it takes. Out: its packets, numbered and stamped.

use bytes::{BufMut, Bytes, BytesMut};
use rtp::packetizer::Payloader;

use crate::BotError;
use crate::codec::VideoCodec;

/// The most bytes of payload in a packet: with the RTP header, its extensions, SRTP's tag, UDP and
/// IPv6 it stays below the 1280 bytes every link carries (RFC 8200 section 5).
const MAX_PAYLOAD: usize = 1160;
/// Bytes of the VP9 descriptor written here: flags and a picture id of 15 bits.
const VP9_DESCRIPTOR: usize = 3;

/// One outgoing RTP stream.
pub(crate) struct Packetizer {
    ssrc: u32,
    payload_type: u8,
    sequence_number: u16,
    timestamp: u32,
    /// Video marks the last packet of a frame; Opus marks the start of a talk spurt, and a bot's
    /// never ends (RFC 7587 section 4.1).
    marks_frame_ends: bool,
    payloader: Box<dyn Payloader>,
}

impl Packetizer {
    /// A stream of Opus packets.
    pub(crate) fn opus(ssrc: u32, payload_type: u8) -> Packetizer {
        let payloader = Box::new(rtp::codec::opus::OpusPayloader);
        Self::new(ssrc, payload_type, false, payloader)
    }

    /// A stream of video frames.
    pub(crate) fn video(codec: VideoCodec, ssrc: u32, payload_type: u8) -> Packetizer {
        let payloader: Box<dyn Payloader> = match codec {
            VideoCodec::Vp8 => {
                let mut payloader = rtp::codec::vp8::Vp8Payloader::default();
                payloader.enable_picture_id = true;
                Box::new(payloader)
            }
            VideoCodec::Vp9 => Box::new(Vp9Payloader {
                picture_id: rand::random(),
            }),
            VideoCodec::H264 => Box::new(rtp::codec::h264::H264Payloader::default()),
            VideoCodec::Av1 => Box::new(rtp::codec::av1::Av1Payloader::default()),
        };
        Self::new(ssrc, payload_type, true, payloader)
    }

    fn new(
        ssrc: u32,
        payload_type: u8,
        marks_frame_ends: bool,
        payloader: Box<dyn Payloader>,
    ) -> Packetizer {
        Packetizer {
            ssrc,
            payload_type,
            sequence_number: rand::random(),
            timestamp: rand::random(),
            marks_frame_ends,
            payloader,
        }
    }

    /// The packets of a frame. `ticks` of the RTP clock pass before the next one.
    pub(crate) fn packetize(
        &mut self,
        frame: &Bytes,
        ticks: u32,
    ) -> Result<Vec<rtp::Packet>, BotError> {
        let payloads = self
            .payloader
            .payload(MAX_PAYLOAD, frame)
            .map_err(|error| BotError::WebRtc(error.to_string()))?;
        let count = payloads.len();
        let packets = payloads
            .into_iter()
            .enumerate()
            .map(|(index, payload)| {
                let header = rtp::Header {
                    version: 2,
                    marker: index + 1 == count && self.marks_frame_ends,
                    payload_type: self.payload_type,
                    sequence_number: self.sequence_number,
                    timestamp: self.timestamp,
                    ssrc: self.ssrc,
                    ..Default::default()
                };
                self.sequence_number = self.sequence_number.wrapping_add(1);
                rtp::Packet { header, payload }
            })
            .collect();
        self.skip(ticks);
        Ok(packets)
    }

    /// Lets media time pass without a frame.
    pub(crate) fn skip(&mut self, ticks: u32) {
        self.timestamp = self.timestamp.wrapping_add(ticks);
    }
}

/// VP9 in non-flexible mode with one layer (RFC 9628 section 4.2). The payloader of `rtc-rtp`
/// never sets the P bit, which makes every frame look like a key frame.
#[derive(Clone, Debug)]
struct Vp9Payloader {
    picture_id: u16,
}

impl Payloader for Vp9Payloader {
    fn payload(&mut self, mtu: usize, frame: &Bytes) -> rtc::shared::error::Result<Vec<Bytes>> {
        const PICTURE_ID: u8 = 0x80;
        const INTER_PREDICTED: u8 = 0x40;
        const START: u8 = 0x08;
        const END: u8 = 0x04;
        let Some(first_byte) = frame.first() else {
            return Ok(vec![]);
        };
        let inter = first_byte & 0b1100_1100 != 0b1000_0000;
        let size = mtu - VP9_DESCRIPTOR;
        let count = frame.len().div_ceil(size);
        let payloads = frame
            .chunks(size)
            .enumerate()
            .map(|(index, chunk)| {
                let mut flags = PICTURE_ID;
                flags |= if inter { INTER_PREDICTED } else { 0 };
                flags |= if index == 0 { START } else { 0 };
                flags |= if index + 1 == count { END } else { 0 };
                let mut out = BytesMut::with_capacity(VP9_DESCRIPTOR + chunk.len());
                out.put_u8(flags);
                out.put_u16(0x8000 | self.picture_id);
                out.put_slice(chunk);
                out.freeze()
            })
            .collect();
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        Ok(payloads)
    }

    fn clone_to(&self) -> Box<dyn Payloader> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    #[test]
    fn packets_are_numbered_stamped_and_marked() {
        let mut packetizer = Packetizer::video(VideoCodec::Vp8, 7, 96);
        let first = packetizer.packetize(&vec![1; 3000].into(), 3000).unwrap();
        let second = packetizer.packetize(&vec![1; 10].into(), 3000).unwrap();
        let start = first[0].header.sequence_number;
        let markers: Vec<bool> = first.iter().map(|packet| packet.header.marker).collect();
        assert_eq!(markers, [false, false, true]);
        assert_eq!(second[0].header.sequence_number, start.wrapping_add(3));
        let elapsed = second[0]
            .header
            .timestamp
            .wrapping_sub(first[2].header.timestamp);
        assert_eq!(elapsed, 3000);
        let mut audio = Packetizer::opus(7, 111);
        assert!(
            !audio.packetize(&vec![1].into(), 960).unwrap()[0]
                .header
                .marker
        );
    }

    #[test]
    fn every_codec_marks_its_key_frames_and_stays_below_the_mtu() {
        let body = vec![0x55u8; 4000];
        let frame = |start: &[u8]| Bytes::from([start, &body].concat());
        for (codec, key, inter) in [
            (VideoCodec::Vp8, frame(&[0x00]), frame(&[0x01])),
            (VideoCodec::Vp9, frame(&[0x82]), frame(&[0x86])),
            (
                VideoCodec::H264,
                frame(&[0, 0, 1, 0x65]),
                frame(&[0, 0, 1, 0x41]),
            ),
            (
                VideoCodec::Av1,
                // A sequence header of two bytes, then a frame without a size.
                frame(&[0x12, 0, 0x0a, 2, 9, 9, 0x30]),
                frame(&[0x12, 0, 0x30]),
            ),
        ] {
            let mut packetizer = Packetizer::video(codec, 7, 96);
            for (frame, is_key) in [(key, true), (inter, false)] {
                let packets = packetizer.packetize(&frame, 3000).unwrap();
                assert!(packets.len() > 3, "{codec:?}");
                assert!(
                    packets
                        .iter()
                        .all(|packet| packet.payload.len() <= MAX_PAYLOAD)
                );
                assert_eq!(
                    codec.starts_key_frame(&packets[0].payload),
                    is_key,
                    "{codec:?}"
                );
                assert!(!codec.starts_key_frame(&packets[1].payload), "{codec:?}");
            }
        }
    }
}
