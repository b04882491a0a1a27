//! Any header extensions: what is understood survives being forwarded.
#![no_main]

use confab_sfu::media::{Extension, ExtensionMap};
use confab_sfu::rtp::extension::HeaderExtensions;
use confab_sfu::rtp::packet::{HeaderFields, RtpHeader, write_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    let Ok(header) = RtpHeader::parse(packet) else {
        return;
    };
    let mut map = ExtensionMap::default();
    for (extension, id) in Extension::ALL.into_iter().zip(1..) {
        map.set(extension, id);
    }
    let came = HeaderExtensions::parse(packet, &header, &map);
    let fields = HeaderFields {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let mut buffer = [0; 1500];
    let len = write_header(&mut buffer, fields, |w| came.write(w, &map, packet))
        .expect("ten elements of at most 255 bytes fit, and only one is so long");
    let went = &buffer[..len];
    let header = RtpHeader::parse(went).expect("what was written is a packet");
    let seen = HeaderExtensions::parse(went, &header, &map);
    let without_place = |extensions| HeaderExtensions {
        dependency_descriptor: None,
        ..extensions
    };
    assert_eq!(without_place(seen), without_place(came));
    let descriptor = |extensions: HeaderExtensions, packet| {
        let span = extensions.dependency_descriptor?;
        Some(span.of(packet).to_vec()).filter(|data| !data.is_empty())
    };
    assert_eq!(descriptor(seen, went), descriptor(came, packet));
});
