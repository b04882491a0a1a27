//! Any payload of any codec; rewriting the counters there and back changes nothing.
#![no_main]

use confab_sfu::media::Codec;
use confab_sfu::inside::rtp::codec::dependency::Dependencies;
use confab_sfu::inside::rtp::codec::{PictureId, inspect, vp8, vp9};
use confab_sfu::inside::rtp::sequence::SequenceNumber;
use libfuzzer_sys::fuzz_target;

const H264: Codec = Codec::H264 {
    profile_idc: 0x42,
    profile_iop: 0xe0,
    packetization_mode: 1,
};

const H265: Codec = Codec::H265 {
    profile: 1,
    is_high_tier: false,
};

fuzz_target!(|input: (&[u8], Option<&[u8]>, u16, u8)| {
    let (payload, dependency_descriptor, picture_id, tl0) = input;
    let (vp9, av1) = (Codec::Vp9 { profile: 0 }, Codec::Av1 { profile: 0 });
    for codec in [Codec::Opus, Codec::Pcma, Codec::Vp8, vp9, H264, H265, av1] {
        let mut dependencies = Dependencies::default();
        let frame = dependency_descriptor.and_then(|d| dependencies.read(SequenceNumber(1), d));
        let _ = inspect(codec, payload, frame.as_ref());
    }
    let old = |id: Option<PictureId>| id.map_or(0, PictureId::value);
    let mut copy = payload.to_vec();
    if let Some(before) = vp8::Descriptor::parse(payload) {
        vp8::rewrite(&mut copy, &before, picture_id, tl0);
        let tl0 = before.tl0_picture_index.unwrap_or(0);
        vp8::rewrite(&mut copy, &before, old(before.picture_id), tl0);
        assert_eq!(copy, payload);
    }
    if let Some(before) = vp9::Descriptor::parse(payload) {
        vp9::rewrite(&mut copy, &before, picture_id, tl0);
        let tl0 = before.tl0_picture_index.unwrap_or(0);
        vp9::rewrite(&mut copy, &before, old(before.picture_id), tl0);
        assert_eq!(copy, payload);
    }
});
