//! Any payload as ULPFEC; whatever it claims to protect, recovering it stays within bounds, and it can
//! be written again.
#![no_main]

use confab_sfu::inside::rtp::fec::{Parity, ulpfec};
use confab_sfu::types::Ssrc;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], Vec<&[u8]>)| {
    let (payload, packets) = input;
    let Ok(repair) = ulpfec::parse(payload) else {
        return;
    };
    assert!((1..=ulpfec::MAX_SPAN).contains(&repair.mask.span()));
    let mut parity = Parity::default();
    parity.start(repair.header, repair.body);
    let mut copy = vec![0; payload.len() + ulpfec::MAX_HEADER_LEN];
    let len = ulpfec::write(&mut copy, repair.base, repair.mask, &parity);
    assert_eq!(ulpfec::parse(&copy[..len.expect("it fits")]), Ok(repair));
    for packet in packets {
        parity.add(packet);
    }
    let mut recovered = Vec::new();
    if parity.recover(repair.base, Ssrc(1), &mut recovered) {
        assert!(recovered.len() <= 12 + parity.body().len());
    }
});
