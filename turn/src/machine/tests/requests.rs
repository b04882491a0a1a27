//! Refresh, CreatePermission and ChannelBind.

use super::*;

fn world_with_alice(attrs: &[Attr]) -> (World, Caller) {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    assert_eq!(alice.allocate(&mut world, attrs).code(), 0);
    (world, alice)
}

#[test]
fn without_an_allocation_there_is_nothing_to_change() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    assert_eq!(alice.refresh(&mut world, 600).code(), 437);
    assert_eq!(alice.refresh(&mut world, 0).code(), 437);
    assert_eq!(alice.permit(&mut world, &["8.8.8.8:1"]), 437);
    assert_eq!(alice.bind(&mut world, 0x4000, "8.8.8.8:1"), 437);
}

#[test]
fn a_refresh_lengthens_and_zero_ends() {
    let (mut world, mut alice) = world_with_alice(&[]);
    world.wait(500);
    let answer = alice.refresh(&mut world, 1000);
    assert_eq!((answer.code(), answer.lifetime()), (0, 1000));
    world.wait(999);
    assert_eq!(alice.ask(&mut world, REFRESH, &[]).lifetime(), 600);
    world.wait(599);
    assert_eq!(world.turn.allocations(), 1);
    alice.learn_nonce(&mut world);
    let packet = alice.signed(REFRESH, &[lifetime(0)]);
    let answer = world.exchange(&alice.client, &packet).unwrap();
    assert_eq!((answer.code(), answer.lifetime()), (0, 0));
    assert_eq!((world.turn.allocations(), world.sockets.len()), (0, 0));
    assert!(world.turn.next_deadline().is_none());
    let again = world.exchange(&alice.client, &packet).unwrap();
    assert_eq!(again.code(), 437, "which a client takes for success");
    assert_eq!(alice.allocate(&mut world, &[]).code(), 0);
}

#[test]
fn one_family_of_two_can_be_given_back() {
    let (mut world, mut alice) = world_with_alice(&[family(ADDITIONAL_ADDRESS_FAMILY, 2)]);
    let end = |number| [family(REQUESTED_ADDRESS_FAMILY, number), lifetime(0)];
    for (number, code, left) in [(3, 440, 2), (2, 0, 1), (2, 443, 1), (1, 0, 0), (1, 437, 0)] {
        let answer = alice.ask(&mut world, REFRESH, &end(number));
        assert_eq!(
            (answer.code(), world.sockets.len()),
            (code, left),
            "{number}"
        );
    }
    let (mut world, mut alice) = world_with_alice(&[]);
    let other = [family(REQUESTED_ADDRESS_FAMILY, 2)];
    assert_eq!(alice.ask(&mut world, REFRESH, &other).code(), 443);
}

#[test]
fn permissions_are_for_peers_of_the_right_family_that_the_policy_allows() {
    let (mut world, mut alice) = world_with_alice(&[]);
    for (peers, code) in [
        (&[][..], 400),
        (&["8.8.8.8:1"], 0),
        (&["8.8.8.8:0"], 0),
        (&["8.8.8.8:1", "1.1.1.1:1"], 0),
        (&["[2600::8]:1"], 443),
        (&["8.8.8.8:1", "[2600::8]:1"], 443),
        (&["127.0.0.1:1"], 403),
        (&["9.9.9.9:1", "10.0.0.1:1"], 403),
    ] {
        assert_eq!(alice.permit(&mut world, peers), code, "{peers:?}");
    }
    let packet = alice.sends("9.9.9.9:1", b"hello");
    assert_eq!(
        world.relay(&alice.client, &packet),
        None,
        "one forbidden, none installed"
    );
    let half = [peer("8.8.8.8:1"), value(XOR_PEER_ADDRESS, &[0, 1, 0])];
    assert_eq!(alice.ask(&mut world, CREATE_PERMISSION, &half).code(), 400);
}

#[test]
fn sixty_four_permissions_and_as_many_channels() {
    let (mut world, mut alice) = world_with_alice(&[]);
    for n in 0..64 {
        let address = format!("8.8.8.{n}:1");
        assert_eq!(alice.bind(&mut world, 0x4000 + n, &address), 0);
    }
    assert_eq!(alice.bind(&mut world, 0x4040, "8.8.8.0:2"), 508);
    assert_eq!(alice.permit(&mut world, &["8.8.8.64:1"]), 508);
    let all: Vec<_> = (0..64).map(|n| format!("8.8.8.{n}:1")).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    assert_eq!(alice.permit(&mut world, &all), 0, "all at once, again");
}

#[test]
fn channels_are_bound_as_the_rfc_says() {
    let (mut world, mut alice) = world_with_alice(&[]);
    for (number, to, code) in [
        (0x4000, "8.8.8.8:1", 0),
        (0x4000, "8.8.8.8:1", 0),
        (0x7fff, "8.8.8.8:2", 0),
        (0x3fff, "8.8.8.8:3", 400),
        (0x8000, "8.8.8.8:3", 400),
        (0x4000, "8.8.8.8:3", 400),
        (0x4001, "8.8.8.8:1", 400),
        (0x4002, "[2600::8]:1", 443),
        (0x4003, "192.168.0.1:1", 403),
        (0x4003, "8.8.8.8:0", 403),
    ] {
        assert_eq!(alice.bind(&mut world, number, to), code, "{number:x} {to}");
    }
    assert_eq!(
        alice
            .ask(&mut world, CHANNEL_BIND, &[channel(0x4005)])
            .code(),
        400
    );
    assert_eq!(
        alice
            .ask(&mut world, CHANNEL_BIND, &[peer("8.8.8.8:1")])
            .code(),
        400
    );
}

#[test]
fn our_own_media_is_a_peer_by_its_port_even_on_loopback() {
    let (mut world, mut alice) = world_with_alice(&[]);
    let media: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    world.turn.set_own_media([media].into());
    assert_eq!(alice.permit(&mut world, &["127.0.0.1:7000"]), 0);
    assert_eq!(alice.permit(&mut world, &["127.0.0.2:7000"]), 403);
    assert_eq!(alice.bind(&mut world, 0x4000, "127.0.0.1:7000"), 0);
    assert_eq!(alice.bind(&mut world, 0x4001, "127.0.0.1:22"), 403);
    let packet = alice.sends("127.0.0.1:7000", b"check");
    let forward = world.turn.handle_client(world.now, &alice.client, &packet);
    assert!(forward.unwrap().is_own_media);
    let packet = alice.sends("127.0.0.1:22", b"attack");
    assert_eq!(world.relay(&alice.client, &packet), None);
    let (&relay, _) = world.sockets.iter().next().unwrap();
    let mut out = Vec::new();
    for (from, passes) in [("127.0.0.1:7000", true), ("127.0.0.1:22", false)] {
        let from = from.parse().unwrap();
        let client = world
            .turn
            .handle_peer(world.now, relay, from, b"answer", &mut out);
        assert_eq!(client.is_some(), passes);
    }
    assert_eq!(world.turn.counters().forbidden, 4);
}

#[test]
fn a_stream_that_ends_takes_its_allocation_along() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000").over_stream();
    alice.relayed(&mut world);
    world.turn.handle_closed(&alice.client);
    world.run();
    assert_eq!((world.turn.allocations(), world.sockets.len()), (0, 0));
    assert_eq!(world.ended, [(alice.client, false)]);
    let mut bob = Caller::new("bob", "203.0.113.2:1000").over_stream();
    bob.relayed(&mut world);
    world.wait(600);
    assert_eq!(
        world.ended[1],
        (bob.client, true),
        "time is up: its stream is closed"
    );
}
