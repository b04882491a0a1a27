//! Any packets of a client that has no credentials: however many come, it gets short answers and
//! nothing is kept of it.
#![no_main]

use std::time::Instant;

use confab_turn::credentials::{Secret, Users};
use confab_turn::machine::{Output, RelayAddress, Settings, Turn};
use confab_turn::{Client, Transport};
use libfuzzer_sys::fuzz_target;

/// The longest answer to somebody who has proven nothing, in bytes: a challenge with a fingerprint.
const MAX_ANSWER_LEN: usize = 128;

fuzz_target!(|packets: Vec<&[u8]>| {
    let now = Instant::now();
    let address = [8, 8, 0, 1].into();
    let settings = Settings {
        relays: vec![RelayAddress {
            bind: address,
            public: address,
        }],
        ..Settings::default()
    };
    let users = Users::new("example.org", Some(Secret::new("north")));
    let mut turn = Turn::new(now, 1_700_000_000, settings, users, [7; 32]);
    let client = Client {
        transport: Transport::Udp,
        server: ([8, 8, 0, 1], 3478).into(),
        address: ([8, 8, 4, 4], 5000).into(),
    };
    for packet in packets {
        assert_eq!(turn.handle_client(now, &client, packet), None);
        while let Some(output) = turn.poll_output() {
            let Output::Send { message, .. } = output else {
                panic!("{output:?} without credentials");
            };
            assert!(message.len() <= MAX_ANSWER_LEN);
        }
    }
    assert_eq!((turn.allocations(), turn.next_deadline()), (0, None));
});
