//! Any payload as RED; what is read of it can be written again and says the same.
#![no_main]

use confab_sfu::inside::rtp::red::{parse, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let Ok(blocks) = parse(payload) else {
        return;
    };
    let blocks: Vec<_> = blocks.collect();
    let (own, redundant) = blocks.split_last().expect("there is always one");
    let mut copy = vec![0; payload.len()];
    let len = write(&mut copy, redundant.iter().copied(), own.payload_type).expect("it fitted");
    copy[len..].copy_from_slice(own.data);
    assert_eq!(copy, payload);
});
