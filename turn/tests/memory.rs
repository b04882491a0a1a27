//! What ten thousand allocations cost beside their sockets, and that nothing of them stays. A test
//! target of its own: what it measures is the process.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::{Duration, Instant};

use confab_turn::credentials::{Secret, Users};
use confab_turn::machine::{MAX_LIFETIME, Output, RelayAddress, Settings, Turn};
use confab_turn::{Client, Transport};
use stun_types::attribute::{
    AttributeStaticType, AttributeType, Nonce, RawAttribute, Realm, Username, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageWrite, MessageWriteExt, MessageWriteVec, Method,
};

/// Allocations made.
const COUNT: u32 = 10_000;

/// Bytes that one may cost, with a permission and a channel.
const MAX_BYTES: usize = 2048;

const NOW: u64 = 1_700_000_000;

/// Bytes of memory that the process has.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    resident * 4096
}

/// CPU time of this thread so far.
fn cpu() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = schedstat.split(' ').next().unwrap();
    Duration::from_nanos(nanos.parse().unwrap())
}

/// The answer to a packet.
fn exchange(turn: &mut Turn, now: Instant, client: &Client, packet: &[u8]) -> Vec<u8> {
    assert_eq!(turn.handle_client(now, client, packet), None);
    let mut answer = Vec::new();
    while let Some(output) = turn.poll_output() {
        match output {
            Output::Bind { relay, .. } => turn.handle_bound(now, relay, true),
            Output::Send { message, .. } => answer = message,
            _ => {}
        }
    }
    answer
}

fn request(method: u16, attributes: &[(u16, &[u8])]) -> MessageWriteVec {
    let mut message = Message::builder_request(Method::new(method), MessageWriteVec::new());
    for &(kind, value) in attributes {
        let attribute = RawAttribute::new(AttributeType::new(kind), value);
        message.add_attribute(&attribute).unwrap();
    }
    message
}

/// Allocates, and binds a channel to a peer.
fn call(turn: &mut Turn, now: Instant, n: u32) {
    let client = Client {
        transport: Transport::Udp,
        server: ([8, 8, 0, 1], 3478).into(),
        address: ((0x0b00_0000 + n).to_be_bytes(), 5000).into(),
    };
    let transport: (u16, &[u8]) = (0x0019, &[17, 0, 0, 0]);
    let hour: (u16, &[u8]) = (0x000d, &[0, 0, 0x0e, 0x10]);
    let challenge = exchange(turn, now, &client, &request(3, &[transport]).finish());
    let challenge = Message::from_bytes(&challenge).unwrap();
    let nonce = challenge.attribute::<Nonce>().unwrap();
    let minted = Secret::new("north").mint(NOW + 60, &format!("participant-{n}"));
    let key = LongTermKeyCredentials::new(minted.username.clone(), minted.password, "r".into());
    let key = MessageIntegrityCredentials::from(key);
    let channel: (u16, &[u8]) = (0x000c, &[0x40, 0, 0, 0]);
    for (method, attributes) in [(3, [transport, hour]), (9, [channel, channel])] {
        let mut message = request(method, &attributes);
        if method == 9 {
            let peer = XorSocketAddr::new(([8, 8, 8, 8], 9).into(), message.transaction_id());
            message
                .add_attribute(&peer.to_raw(AttributeType::new(0x0012)))
                .unwrap();
        }
        let mut add = |kind, value: &[u8]| {
            message
                .add_attribute(&RawAttribute::new(kind, value))
                .unwrap();
        };
        add(Username::TYPE, minted.username.as_bytes());
        add(Realm::TYPE, b"r");
        add(Nonce::TYPE, nonce.nonce().as_bytes());
        message
            .add_message_integrity(&key, IntegrityAlgorithm::Sha1)
            .unwrap();
        let answer = exchange(turn, now, &client, &message.finish());
        assert!(
            Message::from_bytes(&answer)
                .unwrap()
                .has_class(MessageClass::Success)
        );
    }
}

#[test]
fn ten_thousand_allocations_are_small_and_all_go() {
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
    let mut turn = Turn::new(start, NOW, settings, users, [7; 32]);
    // What is loaded and grown on first use is not theirs.
    call(&mut turn, start, 0);
    let (before, cpu_before) = (memory(), cpu());
    for n in 1..COUNT {
        call(&mut turn, start + Duration::from_micros(n.into()), n);
    }
    let each = (memory() - before) / COUNT as usize;
    let each_cpu = (cpu() - cpu_before) / COUNT;
    println!("{COUNT} allocations cost {each} bytes each beside their sockets");
    println!("each took {each_cpu:?} of CPU time, with a channel and its client's own work");
    assert!(each < MAX_BYTES, "{each} bytes each");
    assert_eq!(turn.allocations(), COUNT);
    turn.handle_timeout(start + Duration::from_secs(1) + MAX_LIFETIME);
    assert_eq!((turn.allocations(), turn.next_deadline()), (0, None));
}
