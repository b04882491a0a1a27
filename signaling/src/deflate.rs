//! Messages in binary frames: their text, compressed with DEFLATE (RFC 1951).
//!
//! An offer of a dozen m-lines is 20 kB of text that repeats itself and 2 kB compressed: two packets
//! to be lost instead of fifteen, which on a bad link is the difference between joining in a second
//! and in ten. Not the WebSocket extension for it (RFC 7692), which keeps state for each socket; here
//! each message stands for itself, and what it may grow to is bounded.

use std::io::Read;

use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};

use crate::connection::MAX_MESSAGE_BYTES;

/// From how many bytes on a message is compressed: shorter ones fit a packet as they are.
pub(crate) const WORTH_BYTES: usize = 1024;

/// What is in a binary frame is not a compressed text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotDeflated;

pub(crate) fn deflate(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = DeflateEncoder::new(text.as_bytes(), Compression::default()).read_to_end(&mut bytes);
    debug_assert!(read.is_ok(), "memory can always be read");
    bytes
}

/// The text of a binary frame, cut off one byte beyond [`MAX_MESSAGE_BYTES`].
///
/// # Errors
/// When it is not compressed text.
pub(crate) fn inflate(bytes: &[u8]) -> Result<String, NotDeflated> {
    let mut text = Vec::new();
    DeflateDecoder::new(bytes)
        .take(MAX_MESSAGE_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|_| NotDeflated)?;
    if text.len() > MAX_MESSAGE_BYTES {
        // Refused for its length; a character cut in two must not make it something else.
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    String::from_utf8(text).map_err(|_| NotDeflated)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_offer_becomes_a_tenth() {
        let line = "a=rtcp-fb:96 transport-cc\r\na=rtcp-fb:97 ccm fir\r\na=rtpmap:98 VP9/90000\r\n";
        let text = line.repeat(300);
        let bytes = deflate(&text);
        assert!(bytes.len() * 10 < text.len(), "{}", bytes.len());
        assert_eq!(inflate(&bytes).unwrap(), text);
    }

    #[test]
    fn a_bomb_goes_off_at_the_limit() {
        let bomb = deflate(&"é".repeat(64 * MAX_MESSAGE_BYTES));
        let text = inflate(&bomb).unwrap();
        assert!((MAX_MESSAGE_BYTES + 1..MAX_MESSAGE_BYTES + 4).contains(&text.len()));
    }

    #[test]
    fn what_is_not_compressed_text_is_refused() {
        assert_eq!(inflate(b"{\"id\": 1}"), Err(NotDeflated));
        let mut cut = deflate(&"abc".repeat(1000));
        cut.truncate(5);
        assert_eq!(inflate(&cut), Err(NotDeflated));
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in ".{0,2000}") {
            prop_assert_eq!(inflate(&deflate(&text)), Ok(text));
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(text) = inflate(&bytes) {
                prop_assert!(text.len() < MAX_MESSAGE_BYTES + 4);
            }
        }
    }
}
