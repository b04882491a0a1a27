//! What the payload of an audio packet tells without decoding it.
//!
//! In: payloads of Opus (RFC 6716) and of RED around it (RFC 2198). Out: how long the audio is,
//! whether the one before is in it once more, and the packets inside RED.

use bytes::Bytes;

use crate::send::audio::SAMPLE_RATE;

/// Configurations of Opus below this have a SILK layer, where in-band FEC lives (RFC 6716 section
/// 3.1, table 2).
const FIRST_CELT_CONFIG: u8 = 16;
/// The bit of RED's header that says another block follows (RFC 2198 section 3).
const RED_FOLLOWS: u8 = 0x80;
/// Blocks in a RED packet, at most; libwebrtc sends up to ten.
const MAX_RED_BLOCKS: usize = 16;

/// How many samples an Opus packet holds at 48 kHz. None if it is no Opus.
pub(crate) fn samples(opus: &[u8]) -> Option<usize> {
    opus::packet::get_nb_samples(opus, SAMPLE_RATE)
        .ok()
        .filter(|samples| *samples > 0)
}

/// Whether an Opus packet carries low-bitrate redundancy of the packet before (RFC 6716 sections
/// 4.2.3 and 4.2.4): a flag for each channel, behind those for voice activity of each SILK frame.
pub(crate) fn has_fec(opus: &[u8]) -> bool {
    let Some(toc) = opus.first() else {
        return false;
    };
    let config = toc >> 3;
    if config >= FIRST_CELT_CONFIG {
        return false;
    }
    // SILK frames last 20 ms; hybrid configurations, from 12 on, hold at most one.
    let silk_frames = match (config, config % 4) {
        (12.., _) | (_, 0 | 1) => 1,
        (_, frames) => u32::from(frames),
    };
    let Some(header) = opus::packet::parse(opus).ok().and_then(|packet| {
        packet
            .frames
            .first()
            .and_then(|frame| frame.first().copied())
    }) else {
        return false;
    };
    let channels = 1 + u32::from(toc >> 2 & 1);
    (1..=channels).any(|channel| {
        let bit = channel * (silk_frames + 1) - 1;
        header & 0x80 >> bit != 0
    })
}

/// The packets in a RED payload, each with how many ticks before the RTP timestamp it was said;
/// the last is the packet itself. None if the payload is cut short.
pub(crate) fn red_blocks(payload: &Bytes) -> Option<Vec<(u32, Bytes)>> {
    let mut headers = Vec::new();
    let mut at = 0;
    while payload.get(at)? & RED_FOLLOWS != 0 {
        let header = payload.get(at..at + 4)?;
        let fields = u32::from_be_bytes(header.try_into().ok()?);
        headers.push((fields >> 10 & 0x3fff, (fields & 0x3ff) as usize));
        at += 4;
        if headers.len() == MAX_RED_BLOCKS {
            return None;
        }
    }
    at += 1;
    let mut blocks = Vec::with_capacity(headers.len() + 1);
    for (before, length) in headers {
        payload.get(at..at + length)?;
        blocks.push((before, payload.slice(at..at + length)));
        at += length;
    }
    blocks.push((0, payload.slice(at.min(payload.len())..)));
    Some(blocks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;
    use crate::send::audio::{AudioEncoder, AudioSource};

    #[test]
    fn redundancy_is_there_once_losses_are_expected() {
        let speech = AudioSource::Speech(None);
        let mut encoder = AudioEncoder::open(&speech, "alice").unwrap().unwrap();
        let mut share = |loss: f64| {
            for _ in 0..20 {
                encoder.handle_loss(loss).unwrap();
            }
            let packets = (0..200).map(|_| encoder.next_packet().unwrap());
            packets.filter(|packet| has_fec(packet)).count()
        };
        assert_eq!(share(0.0), 0);
        assert!(share(0.2) > 100, "too little of the speech is repeated");
    }

    #[test]
    fn packets_without_silk_have_none_and_what_is_no_opus_is_told() {
        let toc = |config: u8| [config << 3, 0xff];
        assert!(has_fec(&toc(1)) && has_fec(&toc(9)) && has_fec(&toc(15)));
        assert!(!has_fec(&toc(16)) && !has_fec(&toc(31)) && !has_fec(&[]));
        assert!(!has_fec(&[9 << 3, 0x80]), "voice alone");
        assert!(has_fec(&[9 << 3, 0x40]), "redundancy alone");
        assert_eq!(samples(&toc(9)), Some(960));
        assert_eq!(samples(&[]), None);
    }

    #[test]
    fn red_is_taken_apart_and_garbage_is_refused() {
        let payload = Bytes::from_static(&[0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 2, 3, 4, 5]);
        let blocks = red_blocks(&payload).unwrap();
        assert_eq!(
            blocks,
            [(960, payload.slice(5..7)), (0, payload.slice(7..))]
        );
        for end in 0..7 {
            assert_eq!(red_blocks(&payload.slice(..end)), None, "cut after {end}");
        }
        assert_eq!(red_blocks(&Bytes::from(vec![0x80; 200])), None);
    }
}
