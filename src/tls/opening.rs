//! What the first bytes of a connection say, on a port that TLS shares with what has its own.
//!
//! In: bytes, as many as there are. Out: who is to go on reading, as soon as that can be told.

use std::ops::RangeInclusive;

/// The most that is needed to tell: the length before an ICE-TCP packet, and eight bytes of STUN.
pub(super) const MAX_LEN: usize = 10;

/// The longest first byte of an ICE-TCP length (RFC 4571) that the SFU accepts, 2048; STUN's is 0.
const MAX_FIRST: u8 = 8;

/// Bytes of a STUN header (RFC 8489 section 5): no check is shorter.
const STUN_HEADER_LEN: u16 = 20;

/// What every STUN message has after its type and its length (RFC 8489 section 5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The STUN messages that a connection may begin with: requests for a binding and for an allocation
/// (RFC 8489 section 18.2, RFC 8656 section 17).
const BINDING: u8 = 1;
const ALLOCATE: u8 = 3;

/// What a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    /// TLS, or what TLS refuses.
    Tls,
    /// Plain TURN or STUN over TCP.
    Turn,
    Media,
    /// Neither, although it began like one.
    Nothing,
}

impl Opening {
    /// What a connection is that begins like this; `None` if it takes more bytes to tell.
    pub(super) fn of(bytes: &[u8]) -> Option<Opening> {
        match bytes {
            [] => None,
            // A record of TLS, of which the first says handshake, 22 (RFC 8446 section 5.1).
            [first, ..] if *first > MAX_FIRST => Some(Opening::Tls),
            [_] => None,
            [high, low, packet @ ..] => {
                let is_turn = *high == 0 && [BINDING, ALLOCATE].contains(low);
                let is_check = u16::from_be_bytes([*high, *low]) >= STUN_HEADER_LEN;
                let is_binding = packet.iter().zip([0, BINDING]).all(|(is, be)| *is == be);
                match (is_turn, is_check && is_binding) {
                    (true, _) => told_by_cookie(bytes, 4..=7, Opening::Turn),
                    (_, true) => told_by_cookie(bytes, 6..=9, Opening::Media),
                    _ => Some(Opening::Nothing),
                }
            }
        }
    }
}

fn told_by_cookie(bytes: &[u8], place: RangeInclusive<usize>, then: Opening) -> Option<Opening> {
    let cookie = bytes.get(*place.start()..).unwrap_or_default();
    if cookie.iter().zip(MAGIC_COOKIE).any(|(is, be)| *is != be) {
        return Some(Opening::Nothing);
    }
    (bytes.len() > *place.end()).then_some(then)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_and_no_more_are_waited_for_than_it_takes() {
        use Opening::{Media, Nothing, Tls, Turn};
        for (bytes, needed, expected) in [
            (&[0x16, 3, 1, 2, 0, 1][..], 1, Tls),
            (b"GET / HTTP/1.1\r\n", 1, Tls),
            (&[0xff; 4], 1, Tls),
            // An allocation and a binding, plain.
            (&[0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 9], 8, Turn),
            (&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], 8, Turn),
            // Checks, a short and a long one.
            (&[0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], 10, Media),
            (&[8, 0, 0, 1, 7, 0xec, 0x21, 0x12, 0xa4, 0x42], 10, Media),
            // Whose cookie is wrong, at its first and at its last byte.
            (&[0, 3, 0, 8, 0x22], 5, Nothing),
            (&[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x43], 8, Nothing),
            (&[0, 20, 0, 1, 0, 0, 0x22], 7, Nothing),
            (&[0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43], 10, Nothing),
            // Another message of STUN, a length that none can have, DTLS in a frame.
            (&[0, 4, 0, 8], 2, Nothing),
            (&[0, 19, 0, 1], 2, Nothing),
            (&[0, 100, 22, 0xfe], 3, Nothing),
            (&[0, 100, 0, 0x11], 4, Nothing),
        ] {
            for len in 0..=bytes.len() {
                let told = Opening::of(&bytes[..len]);
                let expected = (len >= needed).then_some(expected);
                assert_eq!(told, expected, "{:02x?}", &bytes[..len]);
            }
            assert!(needed <= MAX_LEN);
        }
    }
}
