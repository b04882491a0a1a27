//! Any stream, in any pieces: the messages do not depend on the pieces, and are within bounds.
#![no_main]

use confab_turn::framing::{Deframer, MAX_MESSAGE_LEN, MAX_UNPROVEN_LEN};
use libfuzzer_sys::fuzz_target;

fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>, max_len: usize) -> Vec<Vec<u8>> {
    let (mut deframer, mut messages) = (Deframer::default(), Vec::new());
    for piece in pieces {
        deframer.push(piece);
        while let Ok(Some(message)) = deframer.next(max_len) {
            assert!((4..=max_len).contains(&message.len()));
            messages.push(message.to_vec());
        }
    }
    messages
}

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, size) = input;
    for max_len in [MAX_UNPROVEN_LEN, MAX_MESSAGE_LEN] {
        let whole = messages(std::iter::once(bytes), max_len);
        assert_eq!(messages(bytes.chunks(1), max_len), whole);
        assert_eq!(messages(bytes.chunks(usize::from(size).max(1)), max_len), whole);
    }
});
