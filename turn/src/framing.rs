//! TURN over a byte stream (RFC 8656 sections 3.7 and 12.5): where each message ends.
//!
//! In: bytes as the stream gives them, one at a time or many messages at once. Out: whole STUN and
//! ChannelData messages, told apart by their first two bits; or an error, after which the stream
//! cannot be understood any more and is to be closed.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::channel;

/// Bytes of a STUN header (RFC 8489 section 5).
const STUN_HEADER_LEN: usize = 20;

/// STUN's magic cookie (RFC 8489 section 5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The longest message there can be, in bytes: a STUN message of 65,532 and its header.
pub const MAX_MESSAGE_LEN: usize = STUN_HEADER_LEN + 65_532;

/// The longest message from somebody who has no allocation, in bytes. A request with every
/// attribute of RFC 8489 and RFC 8656 at its longest realistic size is under half of it.
pub const MAX_UNPROVEN_LEN: usize = 2048;

/// Bytes of buffer that a stream keeps while nothing is under way.
const KEPT_LEN: usize = 512;

/// Why a stream cannot be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FramingError {
    /// Neither STUN nor ChannelData.
    #[error("the stream does not carry STUN or ChannelData; is its client a TURN client?")]
    NotTurn,
    /// ChannelData before any STUN message: no channel can have been bound.
    #[error("the stream begins with ChannelData, for which no channel can be bound yet")]
    ChannelFirst,
    /// A message longer than is accepted.
    #[error("the stream announces a message of {0} bytes, which is more than is accepted")]
    TooLong(usize),
}

/// Cuts one direction of a stream into messages.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// Whether a STUN message has been seen.
    has_spoken: bool,
}

impl Deframer {
    /// Adds what was read. Call [`next`](Self::next) until it has no more before adding again:
    /// then no more is kept than one message and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message of at most `max_len` bytes, without the padding of the stream.
    ///
    /// # Errors
    /// When the stream is not TURN; it says the same again if asked again.
    pub fn next(&mut self, max_len: usize) -> Result<Option<&[u8]>, FramingError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let frame = Frame::of(rest, self.has_spoken, max_len)?;
        let Some(frame) = frame.filter(|frame| frame.padded_len <= rest.len()) else {
            if rest.is_empty() {
                self.buffer.clear();
                self.buffer.shrink_to(KEPT_LEN);
                self.start = 0;
            }
            return Ok(None);
        };
        self.has_spoken = true;
        let start = self.start;
        self.start += frame.padded_len;
        Ok(self.buffer.get(start..start + frame.len))
    }
}

/// The extent of a message.
struct Frame {
    len: usize,
    padded_len: usize,
}

impl Frame {
    /// The extent of the message that `bytes` begin with, as soon as it can be told. What can
    /// never become a message is refused at the first byte that says so.
    fn of(bytes: &[u8], has_spoken: bool, max_len: usize) -> Result<Option<Frame>, FramingError> {
        let Some(first) = bytes.first() else {
            return Ok(None);
        };
        let header_len = match first >> 6 {
            0 => STUN_HEADER_LEN,
            1 if !has_spoken => return Err(FramingError::ChannelFirst),
            1 => channel::HEADER_LEN,
            _ => return Err(FramingError::NotTurn),
        };
        let Some(&[_, _, l0, l1]) = bytes.first_chunk() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let is_stun = header_len == STUN_HEADER_LEN;
        let cookie = bytes.get(4..bytes.len().min(8)).unwrap_or_default();
        if is_stun && (length % 4 != 0 || !MAGIC_COOKIE.starts_with(cookie)) {
            return Err(FramingError::NotTurn);
        }
        let len = header_len + length;
        if len > max_len {
            return Err(FramingError::TooLong(len));
        }
        Ok(Some(Frame {
            len,
            padded_len: len.next_multiple_of(channel::ALIGNMENT),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stun(body: usize) -> Vec<u8> {
        let mut message = vec![0, 1];
        message.extend_from_slice(&(body as u16).to_be_bytes());
        message.extend_from_slice(&MAGIC_COOKIE);
        message.resize(STUN_HEADER_LEN + body, 0xab);
        message
    }

    fn channel(len: usize) -> Vec<u8> {
        let mut message = vec![0x40, 0];
        message.extend_from_slice(&(len as u16).to_be_bytes());
        message.resize(4 + len, 0xcd);
        message
    }

    fn padded(message: &[u8]) -> Vec<u8> {
        let mut padded = message.to_vec();
        padded.resize(message.len().next_multiple_of(4), 0);
        padded
    }

    fn drain(deframer: &mut Deframer) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut messages = Vec::new();
        while let Some(message) = deframer.next(MAX_MESSAGE_LEN)? {
            messages.push(message.to_vec());
        }
        Ok(messages)
    }

    fn conversation() -> Vec<Vec<u8>> {
        let mut messages: Vec<_> = [0, 4, 200, 65_532].into_iter().map(stun).collect();
        messages.extend([0, 1, 2, 3, 4, 1200, 65_535].into_iter().map(channel));
        messages.push(stun(8));
        messages
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let messages = conversation();
        let bytes: Vec<u8> = messages.iter().flat_map(|m| padded(m)).collect();
        for size in [1, 2, 3, 7, 1000, 16_384, bytes.len()] {
            let (mut deframer, mut seen) = (Deframer::default(), Vec::new());
            for piece in bytes.chunks(size) {
                deframer.push(piece);
                seen.extend(drain(&mut deframer).expect("it is TURN"));
                assert!(deframer.buffer.len() <= MAX_MESSAGE_LEN + 4 + size);
            }
            assert!(seen == messages, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_turn_is_told_at_once() {
        let mut cookie = stun(0);
        cookie[7] = 0;
        for (bytes, error) in [
            (&b"GET / HTTP/1.1\r\n"[..], FramingError::ChannelFirst),
            (b"POST", FramingError::ChannelFirst),
            (&[0x16, 3, 1, 0, 0xc8, 1], FramingError::NotTurn),
            (&[0x80], FramingError::NotTurn),
            (&[0xff], FramingError::NotTurn),
            (&[0x40], FramingError::ChannelFirst),
            (&[0, 1, 0, 3], FramingError::NotTurn),
            (&cookie[..8], FramingError::NotTurn),
            (&[0, 1, 0xff, 0xfc], FramingError::TooLong(65_552)),
        ] {
            let mut deframer = Deframer::default();
            deframer.push(bytes);
            assert_eq!(deframer.next(MAX_UNPROVEN_LEN), Err(error), "{bytes:02x?}");
            assert_eq!(deframer.next(MAX_UNPROVEN_LEN), Err(error), "asked again");
        }
        let mut deframer = Deframer::default();
        deframer.push(&[stun(0), vec![0x80, 0, 0, 0]].concat());
        assert!(deframer.next(MAX_MESSAGE_LEN).is_ok_and(|m| m.is_some()));
        assert_eq!(
            deframer.next(MAX_MESSAGE_LEN),
            Err(FramingError::NotTurn),
            "it may go wrong later, too"
        );
    }

    #[test]
    fn a_length_that_lies_waits_and_costs_nothing() {
        let mut deframer = Deframer::default();
        deframer.push(&stun(0));
        deframer.push(&[0x40, 0, 0xff, 0xff, 1, 2, 3]);
        assert_eq!(drain(&mut deframer), Ok(vec![stun(0)]));
        assert_eq!(drain(&mut deframer), Ok(vec![]));
        assert!(deframer.buffer.capacity() < 100);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_say_the_same(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            start in 0_usize..3,
            size in 1_usize..50,
        ) {
            let mut bytes: Vec<u8> = (0..start).flat_map(|n| stun(4 * n)).collect();
            bytes.extend(&noise);
            let mut whole = Deframer::default();
            whole.push(&bytes);
            let (mut at_once, mut pieces) = (Vec::new(), Vec::new());
            while let Ok(Some(message)) = whole.next(MAX_MESSAGE_LEN) {
                at_once.push(message.to_vec());
            }
            let mut deframer = Deframer::default();
            for piece in bytes.chunks(size) {
                deframer.push(piece);
                while let Ok(Some(message)) = deframer.next(MAX_MESSAGE_LEN) {
                    pieces.push(message.to_vec());
                }
            }
            prop_assert_eq!(at_once, pieces);
        }
    }
}
