//! Any datagram: its class, and its header whose parts make up the whole.
#![no_main]

use confab_sfu::inside::rtp::packet::{PacketClass, RtpHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let _ = PacketClass::of(datagram);
    if let Ok(header) = RtpHeader::parse(datagram) {
        let parts = header.header_len + header.payload_len + header.padding_len;
        assert_eq!(parts, datagram.len());
        assert_eq!(header.payload(datagram).len(), header.payload_len);
    }
});
