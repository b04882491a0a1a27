//! Whatever comes, the server stays as it is.

use proptest::prelude::*;

use super::*;

#[test]
fn what_a_client_does_not_send_is_dropped() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let mut noise = vec![
        vec![],
        vec![0; 20],
        vec![0x80; 40],
        vec![0xff; 1400],
        vec![0x40],
    ];
    noise.push(alice.unsigned(Method::new(0x00a), &[]));
    noise.push(alice.message(MessageClass::Success, ALLOCATE, &[]).finish());
    noise.push(alice.message(MessageClass::Error, BINDING, &[]).finish());
    noise.push(
        alice
            .message(MessageClass::Indication, ALLOCATE, &[])
            .finish(),
    );
    noise.push(
        alice
            .message(MessageClass::Indication, DATA_METHOD, &[])
            .finish(),
    );
    let mut trailing = alice.unsigned(ALLOCATE, &[]);
    trailing.extend_from_slice(&[0; 4]);
    noise.push(trailing);
    noise.push(alice.unsigned(ALLOCATE, &[value(DATA, &[0; 5000])]));
    noise.push(alice.unsigned(BINDING, &[value(DATA, &[0; 600])]));
    let count = noise.len() as u64;
    for packet in noise {
        assert!(
            world.exchange(&alice.client, &packet).is_none(),
            "{packet:02x?}"
        );
    }
    assert_eq!(world.turn.counters().malformed, count);
    let keepalive = alice
        .message(MessageClass::Indication, BINDING, &[])
        .finish();
    assert!(world.exchange(&alice.client, &keepalive).is_none());
    assert_eq!(world.turn.counters().malformed, count);
}

#[test]
fn bindings_are_answered_without_credentials() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let packet = alice.unsigned(BINDING, &[]);
    let answer = world.exchange(&alice.client, &packet).unwrap();
    assert_eq!((answer.code(), answer.0.len()), (0, packet.len() + 12));
}

#[test]
fn thousands_of_attributes_are_not_looked_at() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    alice.relayed(&mut world);
    let mut attrs = vec![value(AttributeType::new(0x8abc), &[]); 200];
    attrs.push(peer("8.8.8.8:1"));
    assert_eq!(alice.ask(&mut world, CREATE_PERMISSION, &attrs).code(), 401);
    attrs.drain(..150);
    assert_eq!(alice.ask(&mut world, CREATE_PERMISSION, &attrs).code(), 0);
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let mut world = World::new();
    for n in 0..500_u16 {
        let minted = Secret::new("north").mint(UNIX_NOW + 60, &n.to_string());
        let [a, b] = n.to_be_bytes();
        let mut caller = Caller::new("", &format!("203.0.{a}.{b}:1000"));
        (caller.username, caller.password) = (minted.username, minted.password);
        let attrs = match n % 2 {
            0 => vec![value(EVEN_PORT, &[0x80])],
            _ => vec![family(ADDITIONAL_ADDRESS_FAMILY, 2)],
        };
        assert_eq!(caller.allocate(&mut world, &attrs).code(), 0);
        caller.bind(&mut world, 0x4000, "8.8.8.8:1");
    }
    assert_eq!((world.turn.allocations(), world.sockets.len()), (500, 750));
    world.wait(600);
    assert_eq!((world.turn.allocations(), world.sockets.len()), (0, 0));
    assert!(world.turn.next_deadline().is_none());
    assert!(world.turn.reservations.is_empty());
}

proptest! {
    #[test]
    fn mutated_packets_do_no_harm(
        which in 0_usize..6,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut world = World::new();
        let mut alice = Caller::new("alice", "203.0.113.1:1000");
        alice.relayed(&mut world);
        alice.bind(&mut world, 0x4000, "8.8.8.8:1");
        let mut packet = match which {
            0 => alice.signed(ALLOCATE, &[value(REQUESTED_TRANSPORT, &UDP), lifetime(9)]),
            1 => alice.signed(REFRESH, &[lifetime(700)]),
            2 => alice.signed(CREATE_PERMISSION, &[peer("8.8.8.8:1"), peer("8.8.4.4:1")]),
            3 => alice.signed(CHANNEL_BIND, &[channel(0x4001), peer("8.8.8.8:2")]),
            4 => alice.sends("8.8.8.8:1", b"payload"),
            _ => vec![0x40, 0, 0, 3, 1, 2, 3],
        };
        for (index, byte) in &edits {
            let index = index.index(packet.len());
            packet[index] = *byte;
        }
        if let Some(cut) = cut {
            packet.truncate(cut.index(packet.len()));
        }
        let _ = world.turn.handle_client(world.now, &alice.client, &packet);
        world.run();
        world.sent.clear();
        prop_assert_eq!(world.turn.allocations(), 1);
        prop_assert!(alice.refresh(&mut world, 600).code() == 0);
    }
}
