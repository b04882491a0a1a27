//! RED (RFC 2198): a packet that carries earlier payloads beside its own.
//!
//! In: the payload of a RED packet. Out: its [`Block`]s, oldest first, the packet's own last;
//! nothing is copied. [`write()`] goes the other way. Audio uses it for redundancy (`audio/red`),
//! video only to tell media from ULPFEC within one SSRC (RFC 5109 section 14.1): one block.

/// Bytes of the header of a block that another one follows (RFC 2198 section 3).
pub const HEADER_LEN: usize = 4;

/// Says that another block header follows.
const FOLLOWS: u8 = 0x80;

/// Largest age of a redundant block, in ticks of the RTP clock: 14 bits.
pub const MAX_OFFSET: u16 = (1 << 14) - 1;

/// Largest redundant block, bytes: 10 bits.
pub const MAX_BLOCK_LEN: usize = (1 << 10) - 1;

/// Most blocks of a packet that is read. Browsers add nine redundant ones at most; a header costs
/// four bytes, so that without a bound one packet could make hundreds.
pub const MAX_BLOCKS: usize = 16;

/// One payload in a RED packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// What the data is, 0 to 127.
    pub payload_type: u8,
    /// How much older than the packet it is, in ticks of the RTP clock. 0 for the packet's own.
    pub offset: u16,
    /// The payload.
    pub data: &'a [u8],
}

/// The payload breaks RFC 2198 section 3, or has more than [`MAX_BLOCKS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the RED payload breaks RFC 2198 section 3")]
pub struct MalformedRed;

/// The blocks of a RED payload; see [`parse`].
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    headers: &'a [u8],
    data: &'a [u8],
}

/// Splits a RED payload. The iterator ends with the packet's own block, which there always is.
///
/// # Errors
/// When a length runs past the end, or there are more than [`MAX_BLOCKS`].
pub fn parse(payload: &[u8]) -> Result<Blocks<'_>, MalformedRed> {
    let mut headers_len = 0;
    let mut redundant_len = 0;
    for _ in 0..MAX_BLOCKS {
        let rest = payload.get(headers_len..).ok_or(MalformedRed)?;
        if rest.first().ok_or(MalformedRed)? & FOLLOWS == 0 {
            let (headers, data) = payload.split_at(headers_len + 1);
            return match redundant_len <= data.len() {
                true => Ok(Blocks { headers, data }),
                false => Err(MalformedRed),
            };
        }
        let header = rest.first_chunk().ok_or(MalformedRed)?;
        redundant_len += unpack(*header).1;
        headers_len += HEADER_LEN;
    }
    Err(MalformedRed)
}

/// Age and length of a redundant block.
fn unpack([_, a, b, c]: [u8; HEADER_LEN]) -> (u16, usize) {
    let bits = u32::from_be_bytes([0, a, b, c]);
    ((bits >> 10) as u16, (bits & 0x3ff) as usize)
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        let payload_type = self.headers.first()? & !FOLLOWS;
        let (offset, len) = match self.headers.split_first_chunk() {
            Some((header, rest)) => {
                self.headers = rest;
                unpack(*header)
            }
            None => {
                self.headers = &[];
                (0, self.data.len())
            }
        };
        let (data, rest) = self.data.split_at_checked(len)?;
        self.data = rest;
        Some(Block {
            payload_type,
            offset,
            data,
        })
    }
}

/// Writes all of a RED payload but the data of the packet's own block, which follows it directly, and
/// returns its length. `redundant` is oldest first.
///
/// None when the buffer is too short, or a redundant block is too old or too long for its header.
pub fn write<'a>(
    buffer: &mut [u8],
    redundant: impl Iterator<Item = Block<'a>> + Clone,
    payload_type: u8,
) -> Option<usize> {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        let place = buffer.get_mut(at..at + bytes.len())?;
        place.copy_from_slice(bytes);
        at += bytes.len();
        Some(())
    };
    for block in redundant.clone() {
        if block.offset > MAX_OFFSET || block.data.len() > MAX_BLOCK_LEN {
            return None;
        }
        let bits = u32::from(block.offset) << 10 | block.data.len() as u32;
        let [_, a, b, c] = bits.to_be_bytes();
        put(&[FOLLOWS | block.payload_type, a, b, c])?;
    }
    put(&[payload_type & !FOLLOWS])?;
    for block in redundant {
        put(block.data)?;
    }
    Some(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chromiums_video_is_one_block() {
        let blocks: Vec<_> = parse(&[96, 0x90, 0x80, 1]).unwrap().collect();
        let own = Block {
            payload_type: 96,
            offset: 0,
            data: &[0x90, 0x80, 1],
        };
        assert_eq!(blocks, [own]);
    }

    #[test]
    fn the_sound_of_the_last_packet_comes_first() {
        // 20 ms at 48 kHz are 960 ticks.
        let payload = [0x80 | 111, 0x0f, 0x00, 0x02, 111, 1, 2, 3, 4, 5];
        let blocks: Vec<_> = parse(&payload).unwrap().collect();
        let block = |offset, data| Block {
            payload_type: 111,
            offset,
            data,
        };
        assert_eq!(blocks, [block(960, &[1, 2]), block(0, &[3, 4, 5])]);
    }

    #[test]
    fn lying_lengths_are_refused() {
        let table: [&[u8]; 5] = [
            &[],
            &[0x80 | 111],
            &[0x80 | 111, 0, 0, 1],
            &[0x80 | 111, 0, 0, 1, 111],
            &[0x80 | 111, 0, 3, 0xff, 111, 1, 2],
        ];
        for payload in table {
            assert_eq!(parse(payload).err(), Some(MalformedRed), "{payload:?}");
        }
        let mut endless = [0x80 | 111, 0, 0, 0].repeat(MAX_BLOCKS);
        endless.push(111);
        assert!(parse(&endless).is_err());
        assert!(parse(&endless[HEADER_LEN..]).is_ok());
    }

    #[test]
    fn what_does_not_fit_its_header_is_not_written() {
        let block = Block {
            payload_type: 111,
            offset: MAX_OFFSET,
            data: &[0; MAX_BLOCK_LEN + 1],
        };
        let write = |len, offset, room: usize| {
            let redundant = Block {
                offset,
                data: &block.data[..len],
                ..block
            };
            write(&mut vec![0; room], std::iter::once(redundant), 111)
        };
        assert_eq!(write(MAX_BLOCK_LEN, MAX_OFFSET, 2000), Some(4 + 1 + 1023));
        assert_eq!(write(MAX_BLOCK_LEN + 1, MAX_OFFSET, 2000), None);
        assert_eq!(write(1, MAX_OFFSET + 1, 2000), None);
        assert_eq!(write(1, 0, 5), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(blocks) = parse(&payload) {
                let blocks: Vec<_> = blocks.collect();
                prop_assert!((1..=MAX_BLOCKS).contains(&blocks.len()));
                prop_assert!(blocks.iter().map(|b| b.data.len()).sum::<usize>() < payload.len());
            }
        }

        #[test]
        fn what_is_written_is_read(
            redundant in prop::collection::vec(
                (0u8..128, 0..=MAX_OFFSET, prop::collection::vec(any::<u8>(), 0..40)), 0..MAX_BLOCKS),
            own in (0u8..128, prop::collection::vec(any::<u8>(), 0..40)),
        ) {
            let expected: Vec<_> = redundant.iter()
                .map(|(payload_type, offset, data)| Block { payload_type: *payload_type, offset: *offset, data })
                .chain([Block { payload_type: own.0, offset: 0, data: &own.1 }])
                .collect();
            let mut buffer = [0; 2000];
            let redundant = expected[..redundant.len()].iter().copied();
            let len = write(&mut buffer, redundant, own.0).unwrap();
            let mut payload = buffer[..len].to_vec();
            payload.extend_from_slice(&own.1);
            let read: Vec<_> = parse(&payload).unwrap().collect();
            prop_assert_eq!(read, expected);
        }
    }
}
