//! Packets in a byte stream (RFC 4571): each behind its length in two bytes.
//!
//! In: bytes as the stream gives them, one at a time or many frames at once. Out: whole packets; or
//! an error, after which the stream cannot be understood any more and is to be closed. What has
//! arrived whole is not copied; no more is kept than one frame that has not.

use crate::api::DropReason;
use crate::rtp::packet::PacketClass;

/// Bytes before each packet.
pub const HEADER_LEN: usize = 2;

/// The longest packet that is accepted, in bytes. On UDP nobody sends more than an Ethernet frame
/// holds, and nobody has a reason to on TCP.
pub const MAX_PACKET: usize = 2048;

/// Why a stream cannot be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FramingError {
    /// It does not begin with a connectivity check.
    #[error("the stream does not begin with STUN; is its client doing ICE?")]
    NotStun,
    /// A packet longer than is accepted.
    #[error("the stream announces a packet of {0} bytes, more than the {MAX_PACKET} accepted")]
    TooLong(usize),
}

impl FramingError {
    /// As what it is counted.
    #[must_use]
    pub fn reason(self) -> DropReason {
        match self {
            FramingError::NotStun => DropReason::TcpNotStun,
            FramingError::TooLong(_) => DropReason::TcpTooLong,
        }
    }
}

/// The first packet of a stream that begins with these bytes, once it is whole; empty ones do not
/// count.
///
/// # Errors
/// When the stream is not what it should be, at the first byte that says so.
pub fn first_packet(mut bytes: &[u8]) -> Result<Option<&[u8]>, FramingError> {
    while let Some(len) = frame_len(bytes, false)? {
        let Some((frame, rest)) = bytes.split_at_checked(len) else {
            return Ok(None);
        };
        match frame.get(HEADER_LEN..) {
            None | Some([]) => bytes = rest,
            Some(packet) => return Ok(Some(packet)),
        }
    }
    Ok(None)
}

/// Cuts one direction of a stream into packets.
#[derive(Debug, Default)]
pub struct Deframer {
    /// A frame of which not everything has come.
    partial: Vec<u8>,
    /// Whether a packet has been seen.
    has_spoken: bool,
}

impl Deframer {
    /// Takes what was read and gives each packet that is whole to `handle`.
    ///
    /// # Errors
    /// When the stream is not what it should be, at the first byte that says so.
    pub fn handle(
        &mut self,
        mut input: &mut [u8],
        mut handle: impl FnMut(&mut [u8]),
    ) -> Result<(), FramingError> {
        loop {
            let is_whole = self.partial.is_empty();
            let known = if is_whole { &*input } else { &self.partial };
            let len = frame_len(known, self.has_spoken)?;
            if let Some(len) = len
                && len <= known.len()
            {
                let frame = if is_whole {
                    let (frame, rest) = input.split_at_mut(len);
                    input = rest;
                    frame
                } else {
                    self.partial.as_mut_slice()
                };
                // An empty one means nothing (RFC 4571 section 2).
                if let Some(packet) = frame.get_mut(HEADER_LEN..)
                    && !packet.is_empty()
                {
                    self.has_spoken = true;
                    handle(packet);
                }
                self.partial.clear();
                continue;
            }
            if input.is_empty() {
                return Ok(());
            }
            let missing = len.unwrap_or(HEADER_LEN) - known.len();
            let (next, rest) = input.split_at_mut(missing.min(input.len()));
            self.partial.extend_from_slice(next);
            input = rest;
        }
    }
}

/// The length of the frame that `bytes` begin with, its header included, as soon as it can be told.
fn frame_len(bytes: &[u8], has_spoken: bool) -> Result<Option<usize>, FramingError> {
    let Some((header, packet)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes(*header));
    if len > MAX_PACKET {
        return Err(FramingError::TooLong(len));
    }
    let is_first = !has_spoken && len > 0 && !packet.is_empty();
    if is_first && PacketClass::of(packet) != PacketClass::Stun {
        return Err(FramingError::NotStun);
    }
    Ok(Some(HEADER_LEN + len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, len: usize) -> Vec<u8> {
        let mut frame = (len as u16).to_be_bytes().to_vec();
        frame.extend((0..len).map(|n| if n == 0 { first } else { n as u8 }));
        frame
    }

    /// What comes out of a stream that is read in pieces of a size.
    fn read(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, Result<(), FramingError>) {
        let (mut deframer, mut packets) = (Deframer::default(), Vec::new());
        for piece in bytes.chunks(size) {
            let mut piece = piece.to_vec();
            let outcome = deframer.handle(&mut piece, |packet| packets.push(packet.to_vec()));
            assert!(deframer.partial.capacity() <= 2 * (HEADER_LEN + MAX_PACKET));
            if outcome.is_err() {
                return (packets, outcome);
            }
        }
        (packets, Ok(()))
    }

    #[test]
    fn packets_come_out_whole_however_they_are_cut() {
        let frames = [frame(0, 20), frame(0x80, 1), frame(0x90, MAX_PACKET)];
        let frames = [&frames[..], &[frame(22, 1200), frame(1, 100)]].concat();
        let bytes = frames.concat();
        for size in [1, 2, 3, 7, 1000, bytes.len()] {
            let (packets, outcome) = read(&bytes, size);
            assert_eq!(outcome, Ok(()));
            let expected: Vec<_> = frames.iter().map(|f| f[HEADER_LEN..].to_vec()).collect();
            assert!(packets == expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_ice_is_told_at_once() {
        use FramingError::*;
        for (bytes, error) in [
            (&b"GET / HTTP/1.1\r\n"[..], TooLong(0x4745)),
            (b"SSH-2.0", TooLong(0x5353)),
            (&[0x16, 3, 1, 0, 0xc8, 1], TooLong(0x1603)),
            (&[0xff, 0xff], TooLong(65_535)),
            (&[8, 1], TooLong(2049)),
            (&[0, 20, 0x80], NotStun),
            (&[0, 20, 22], NotStun),
            (&[0, 0, 0, 0, 0, 1, 4], NotStun),
        ] {
            for size in [1, bytes.len()] {
                let (packets, outcome) = read(bytes, size);
                assert_eq!((packets, outcome), (vec![], Err(error)), "{bytes:02x?}");
            }
        }
        let late = [frame(0, 20), vec![0xff, 0xff]].concat();
        let (packets, outcome) = read(&late, late.len());
        assert_eq!((packets.len(), outcome), (1, Err(TooLong(65_535))));
    }

    #[test]
    fn many_empty_frames_are_nothing_and_a_length_that_lies_waits() {
        let mut bytes = vec![0; 64 * 1024];
        bytes.extend(frame(0, 20));
        bytes.extend([8, 0, 1, 2, 3]);
        for size in [1, bytes.len()] {
            let (packets, outcome) = read(&bytes, size);
            assert_eq!((packets.len(), outcome), (1, Ok(())));
        }
    }

    #[test]
    fn the_first_packet_is_told_as_soon_as_it_is_whole() {
        let check = frame(0, 20);
        let bytes = [&[0; 4], &check[..], &frame(0x80, 7)].concat();
        for len in 0..=bytes.len() {
            let is_whole = len >= 4 + check.len();
            let expected = is_whole.then_some(&check[HEADER_LEN..]);
            assert_eq!(first_packet(&bytes[..len]), Ok(expected), "{len}");
        }
        assert_eq!(first_packet(&[0, 9, 22]), Err(FramingError::NotStun));
        assert_eq!(first_packet(b"GE"), Err(FramingError::TooLong(0x4745)));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_say_the_same(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            starts in proptest::collection::vec(0_usize..60, 0..4),
            size in 1_usize..50,
        ) {
            let mut bytes: Vec<u8> = starts.into_iter().flat_map(|len| frame(0, len)).collect();
            bytes.extend(&noise);
            prop_assert_eq!(read(&bytes, size), read(&bytes, bytes.len().max(1)));
        }
    }
}
