//! What simulated cameras and microphones produce: bytes that say where they come from and when,
//! so that a receiver can tell that every one of them arrived as it was sent.
//!
//! In: a [`Stamp`]. Out: a payload that looks like Opus or VP8 to whoever only reads headers; and
//! back.

/// The first byte of an Opus packet (RFC 6716 section 3.1): full band, mono, one frame of 20 ms.
const OPUS_TOC: u8 = 0xf8;

/// Bytes of an audio packet: 32 kbit/s in 20 ms.
pub(super) const AUDIO_LEN: u32 = 80;

/// A VP8 inter frame's header.
const INTER_FRAME_HEADER: [u8; 3] = [0x11, 0, 0];

/// Bytes of a stamp.
const STAMP_LEN: usize = 22;

/// Most bytes of a VP8 payload: what libwebrtc makes of an MTU of 1200, extensions deducted.
const MAX_PAYLOAD: usize = 1100;

/// Bytes of the payload descriptor that every packet has.
const DESCRIPTOR_LEN: usize = 6;

/// Width and height in pixels.
pub type Size = [u16; 2];

/// Where and when something was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The camera or microphone.
    pub source: u32,
    /// Which of its simulcast encodings.
    pub encoding: u8,
    /// Counts the encoding's frames, or the packets of audio.
    pub number: u32,
    /// When it was recorded, microseconds since the call began.
    pub captured: u64,
    /// Bytes of the frame or packet.
    pub len: u32,
    /// How many frames before it the one is that it was predicted from; none of a key frame and of
    /// audio.
    pub back: u8,
}

impl Stamp {
    fn to_bytes(self) -> [u8; STAMP_LEN] {
        let mut bytes = [0; STAMP_LEN];
        bytes[..4].copy_from_slice(&self.source.to_be_bytes());
        bytes[4] = self.encoding;
        bytes[5..9].copy_from_slice(&self.number.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.captured.to_be_bytes());
        bytes[17..21].copy_from_slice(&self.len.to_be_bytes());
        bytes[21] = self.back;
        bytes
    }

    fn from_bytes(bytes: &[u8; STAMP_LEN]) -> Self {
        let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        Stamp {
            source: word(0),
            encoding: bytes[4],
            number: word(5),
            captured: u64::from(word(9)) << 32 | u64::from(word(13)),
            len: word(17),
            back: bytes[21],
        }
    }

    /// A header, the stamp, and bytes that follow from both.
    fn fill(self, header: &[u8]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(&self.to_bytes());
        // FNV-1a: every byte changes everything that follows.
        let mut state = bytes.iter().fold(0x811c_9dc5, |state: u32, &byte| {
            (state ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        }) | 1;
        while bytes.len() < self.len as usize {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let missing = self.len as usize - bytes.len();
            bytes.extend_from_slice(&state.to_be_bytes()[..missing.min(4)]);
        }
        bytes
    }

    /// The stamp after a header, if every byte is as it was sent.
    fn read(bytes: &[u8], header: &[u8]) -> Option<Self> {
        let stamp = Stamp::from_bytes(bytes.strip_prefix(header)?.first_chunk()?);
        (stamp.len as usize == bytes.len() && stamp.fill(header) == bytes).then_some(stamp)
    }
}

/// A VP8 key frame's header (RFC 6386 section 9.1): shown, start code, width and height.
fn key_frame_header(size: Size) -> [u8; 10] {
    let [width, height] = size.map(u16::to_le_bytes);
    [
        0x10, 0, 0, 0x9d, 0x01, 0x2a, width[0], width[1], height[0], height[1],
    ]
}

/// A packet of audio.
#[must_use]
pub fn audio(stamp: Stamp) -> Vec<u8> {
    Stamp {
        len: AUDIO_LEN,
        ..stamp
    }
    .fill(&[OPUS_TOC])
}

/// The stamp of a packet of audio; `None` when a byte of it has changed.
#[must_use]
pub fn read_audio(payload: &[u8]) -> Option<Stamp> {
    Stamp::read(payload, &[OPUS_TOC])
}

/// A frame of video; a key frame says its size.
#[must_use]
pub fn video(stamp: Stamp, key: Option<Size>) -> Vec<u8> {
    match key {
        Some(size) => stamp.fill(&key_frame_header(size)),
        None => stamp.fill(&INTER_FRAME_HEADER),
    }
}

/// The stamp of a frame and, if it is a key frame, its size; `None` when a byte of it has changed.
#[must_use]
pub fn read_video(frame: &[u8]) -> Option<(Stamp, Option<Size>)> {
    let is_key = frame.first()? & 1 == 0;
    if !is_key {
        return Some((Stamp::read(frame, &INTER_FRAME_HEADER)?, None));
    }
    let [_, _, _, _, _, _, size @ ..] = *frame.first_chunk::<10>()?;
    let size = [[size[0], size[1]], [size[2], size[3]]].map(u16::from_le_bytes);
    Some((Stamp::read(frame, &key_frame_header(size))?, Some(size)))
}

/// What a VP8 payload descriptor says (RFC 7741 section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// The payload is the first of its frame.
    pub starts_frame: bool,
    /// Counts frames, 15 bits.
    pub picture_id: u16,
    /// Counts frames of the lowest temporal layer.
    pub tl0_picture_index: u8,
    /// The temporal layer.
    pub temporal: u8,
    /// Nothing above the lowest layer is needed for it (Y).
    pub is_sync: bool,
}

/// Cuts a frame into VP8 payloads; in which of them it starts is not for the caller to say.
#[must_use]
pub fn packetize(frame: &[u8], descriptor: Descriptor) -> Vec<Vec<u8>> {
    let [high, low] = (descriptor.picture_id | 0x8000).to_be_bytes();
    let layer = descriptor.temporal << 6 | u8::from(descriptor.is_sync) << 5;
    frame
        .chunks(MAX_PAYLOAD - DESCRIPTOR_LEN)
        .enumerate()
        .map(|(index, piece)| {
            // X, and S in the first; I, L and T.
            let first = 0x80 | u8::from(index == 0) << 4;
            let tl0 = descriptor.tl0_picture_index;
            let mut payload = vec![first, 0xe0, high, low, tl0, layer];
            payload.extend_from_slice(piece);
            payload
        })
        .collect()
}

/// Takes a VP8 payload apart; `None` when it does not look like one of [`packetize`]'s.
#[must_use]
pub fn depacketize(payload: &[u8]) -> Option<(Descriptor, &[u8])> {
    let (&[first, flags, high, low, tl0_picture_index, layer], piece) =
        payload.split_first_chunk::<DESCRIPTOR_LEN>()?;
    let as_sent = first & !0x10 == 0x80 && flags == 0xe0 && high & 0x80 != 0 && layer & 0x1f == 0;
    let descriptor = Descriptor {
        starts_frame: first & 0x10 != 0,
        picture_id: u16::from_be_bytes([high & 0x7f, low]),
        tl0_picture_index,
        temporal: layer >> 6,
        is_sync: layer & 0x20 != 0,
    };
    as_sent.then_some((descriptor, piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        source: 0x0102_0304,
        encoding: 2,
        number: 77,
        captured: 0x0506_0708_090a_0b0c,
        len: 3000,
        back: 1,
    };
    const SIZE: Size = [640, 360];

    #[test]
    fn content_survives_and_every_changed_byte_is_noticed() {
        let frame = video(STAMP, Some(SIZE));
        let descriptor = Descriptor {
            starts_frame: false,
            picture_id: 0x7abc,
            tl0_picture_index: 9,
            temporal: 2,
            is_sync: true,
        };
        let payloads = packetize(&frame, descriptor);
        let pieces: Vec<_> = payloads.iter().filter_map(|p| depacketize(p)).collect();
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().enumerate().all(|(n, (d, _))| {
            let starts_frame = n == 0;
            *d == Descriptor {
                starts_frame,
                ..descriptor
            }
        }));
        let whole: Vec<u8> = pieces.iter().flat_map(|(_, p)| p.to_vec()).collect();
        assert_eq!(read_video(&whole), Some((STAMP, Some(SIZE))));
        assert_eq!(read_video(&video(STAMP, None)), Some((STAMP, None)));
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 0x40;
            assert_eq!(read_video(&changed), None, "byte {at}");
        }
        let sound = Stamp { len: 80, ..STAMP };
        assert_eq!(read_audio(&audio(sound)), Some(sound));
        assert_eq!(read_audio(&audio(sound)[..79]), None);
    }
}
