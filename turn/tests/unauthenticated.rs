//! Who has proven nothing costs nothing: a hundred thousand requests without credentials, each from
//! an address of its own. A test target of its own: what it measures is the process.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::{Duration, Instant};

use confab_turn::credentials::{Secret, Users};
use confab_turn::machine::{Output, RelayAddress, Settings, Turn};
use confab_turn::{Client, Transport};
use stun_types::attribute::{AttributeType, RawAttribute};
use stun_types::message::{Message, MessageWrite, MessageWriteExt, MessageWriteVec, Method};

/// Requests, and addresses that they come from.
const COUNT: u32 = 100_000;

/// Bytes that all of them may leave behind: the table of those who are answered this second holds
/// 16,384 addresses and doubles as it grows.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of memory that the process has.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    resident * 4096
}

#[test]
fn nothing_is_kept_of_who_has_proven_nothing() {
    let start = Instant::now();
    let address = [8, 8, 0, 1].into();
    let settings = Settings {
        relays: vec![RelayAddress {
            bind: address,
            public: address,
        }],
        ..Settings::default()
    };
    let users = Users::new("r", Some(Secret::new("north")));
    let mut turn = Turn::new(start, 1_700_000_000, settings, users, [7; 32]);
    let mut ask = |from: std::ops::Range<u32>| {
        let mut answers = 0;
        for n in from {
            let client = Client {
                transport: Transport::Udp,
                server: ([8, 8, 0, 1], 3478).into(),
                address: ((0x0b00_0000 + n).to_be_bytes(), 5000).into(),
            };
            let mut request = Message::builder_request(Method::new(3), MessageWriteVec::new());
            let transport = RawAttribute::new(AttributeType::new(0x0019), &[17, 0, 0, 0]);
            request.add_attribute(&transport).unwrap();
            let now = start + Duration::from_micros(n.into());
            assert_eq!(turn.handle_client(now, &client, &request.finish()), None);
            while let Some(output) = turn.poll_output() {
                assert!(matches!(output, Output::Send { .. }), "{output:?}");
                answers += 1;
            }
        }
        answers
    };
    // What is loaded and grown on first use is not theirs.
    assert_eq!(ask(0..1), 1);
    let before = memory();
    let answers = ask(1..COUNT);
    let kept = memory().saturating_sub(before);
    println!("{COUNT} requests left {kept} bytes; {answers} were answered with a challenge");
    assert!(kept < MAX_BYTES, "{kept} bytes");
    assert!(
        (10_000..COUNT).contains(&answers),
        "{answers}: forged floods are cut off"
    );
    let counters = turn.counters();
    assert_eq!(counters.unauthenticated, COUNT.into());
    assert_eq!(counters.rate_limited, u64::from(COUNT - answers - 1));
    assert_eq!((turn.allocations(), turn.next_deadline()), (0, None));
}
