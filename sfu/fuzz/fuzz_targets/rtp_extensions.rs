//! Any header extensions: what is understood survives being forwarded.
#![no_main]

use confab_sfu::media::{Extension, ExtensionMap};
use confab_sfu::inside::rtp::extension::HeaderExtensions;
use confab_sfu::inside::rtp::packet::{HeaderFields, RtpHeader, write_header};
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
        .expect("fifteen elements of at most 255 bytes fit, and only two are so long");
    let went = &buffer[..len];
    let header = RtpHeader::parse(went).expect("what was written is a packet");
    let seen = HeaderExtensions::parse(went, &header, &map);
    let without_place = |extensions| HeaderExtensions {
        mid: None,
        dependency_descriptor: None,
        ..extensions
    };
    assert_eq!(without_place(seen), without_place(came));
    let placed = |extensions: HeaderExtensions, packet| {
        [extensions.mid, extensions.dependency_descriptor].map(|span| {
            let data: Option<&[u8]> = span.map(|span| span.of(packet));
            data.filter(|data| !data.is_empty()).map(<[u8]>::to_vec)
        })
    };
    assert_eq!(placed(seen, went), placed(came, packet));
});
