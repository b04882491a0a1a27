//! Any bytes as a stream of RFC 4571, in any pieces: packets come out as if it had been read at once,
//! and are those that were announced.
#![no_main]

use confab_sfu::inside::net::framing::{Deframer, FramingError, MAX_PACKET};
use libfuzzer_sys::fuzz_target;

type Outcome = (Vec<Vec<u8>>, Option<FramingError>);

fn read(bytes: &[u8], size: usize) -> Outcome {
    let (mut deframer, mut packets) = (Deframer::default(), Vec::new());
    for piece in bytes.chunks(size) {
        let mut piece = piece.to_vec();
        let outcome = deframer.handle(&mut piece, |packet| packets.push(packet.to_vec()));
        if let Err(error) = outcome {
            return (packets, Some(error));
        }
    }
    (packets, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let at_once = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, usize::from(size).max(1)), at_once);
    let mut rest = bytes;
    for packet in at_once.0 {
        assert!((1..=MAX_PACKET).contains(&packet.len()));
        while let [0, 0, after @ ..] = rest {
            rest = after;
        }
        let (header, after) = rest.split_at(2);
        assert_eq!(header, (packet.len() as u16).to_be_bytes());
        assert_eq!(packet, after[..packet.len()]);
        rest = &after[packet.len()..];
    }
});
