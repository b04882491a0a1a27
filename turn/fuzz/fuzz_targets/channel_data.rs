//! Any packet as ChannelData; what is read can be written again and says the same.
#![no_main]

use confab_turn::channel::ChannelData;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    let Some(message) = ChannelData::parse(packet) else {
        return;
    };
    let mut copy = Vec::new();
    assert!(message.write(false, &mut copy));
    assert_eq!(copy, packet[..copy.len()]);
    copy.clear();
    assert!(message.write(true, &mut copy));
    assert_eq!(copy.len() % 4, 0);
    assert_eq!(ChannelData::parse(&copy), Some(message));
});
