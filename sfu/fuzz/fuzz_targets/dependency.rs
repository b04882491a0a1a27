//! Any dependency descriptors one after the other, from any packets.
#![no_main]

use confab_sfu::inside::rtp::codec::dependency::Dependencies;
use confab_sfu::inside::rtp::sequence::SequenceNumber;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|descriptors: Vec<(u64, &[u8])>| {
    let mut dependencies = Dependencies::default();
    for (sequence, descriptor) in descriptors {
        let frame = dependencies.read(SequenceNumber(sequence), descriptor);
        if let Some(place) = frame.and_then(|frame| frame.place) {
            assert!(place.spatial_id < 4 && place.temporal_id < 8);
        }
    }
});
