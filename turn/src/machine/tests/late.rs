//! Relay sockets that are bound when the first peer outside needs one.

use super::*;

const MEDIA: &str = "9.9.9.9:7000";
/// The address of our media, and another port.
const BESIDE_MEDIA: &str = "9.9.9.9:50000";
const PEER: &str = "8.8.8.8:5000";
const PEER_V6: &str = "[2600::8]:5000";

/// A server whose media is reached in memory, and a client with an allocation.
fn world_with(attrs: &[Attr]) -> (World, Caller, Vec<SocketAddr>) {
    world_of(World::new(), attrs)
}

fn world_that_allows(ranges: &[&str]) -> (World, Caller, Vec<SocketAddr>) {
    let mut settings = settings();
    settings.policy.allow = ranges.iter().map(|range| range.parse().unwrap()).collect();
    world_of(World::with(settings), &[])
}

fn world_of(mut world: World, attrs: &[Attr]) -> (World, Caller, Vec<SocketAddr>) {
    world.turn.set_own_media([MEDIA.parse().unwrap()].into());
    world.turn.set_media_in_memory();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let answer = alice.allocate(&mut world, attrs);
    assert_eq!(answer.code(), 0);
    assert!(world.sockets.is_empty(), "nobody needs one");
    let relays = answer.addresses(XOR_RELAYED_ADDRESS);
    (world, alice, relays)
}

#[test]
fn our_own_media_needs_no_socket() {
    let (mut world, mut alice, relays) = world_with(&[]);
    assert_eq!(alice.permit(&mut world, &[MEDIA]), 0);
    assert_eq!(alice.bind(&mut world, 0x4000, MEDIA), 0);
    let packet = alice.sends(MEDIA, b"check");
    let forward = world.turn.handle_client(world.now, &alice.client, &packet);
    assert!(forward.unwrap().is_own_media);
    let relay = world.turn.relay_at(relays[0]).unwrap();
    let media = MEDIA.parse().unwrap();
    let mut out = Vec::new();
    let to = world
        .turn
        .handle_peer(world.now, relay, media, b"answer", &mut out);
    assert_eq!(to, Some(alice.client));
    world.run();
    assert!(world.sockets.is_empty());
    alice.refresh(&mut world, 0);
    assert_eq!(world.turn.relay_at(relays[0]), None);
}

#[test]
fn the_first_peer_outside_has_one_bound_and_the_answer_waits_for_it() {
    let (mut world, mut alice, relays) = world_with(&[]);
    assert_eq!(alice.permit(&mut world, &[PEER]), 0);
    assert_eq!(world.sockets.values().collect::<Vec<_>>(), [&relays[0]]);
    assert_eq!(alice.permit(&mut world, &["8.8.4.4:1"]), 0);
    assert_eq!(alice.bind(&mut world, 0x4000, PEER), 0);
    assert_eq!(world.sockets.len(), 1);
    assert!(world.peer_sends(PEER, relays[0], b"hello").is_some());
    alice.refresh(&mut world, 0);
    assert!(world.sockets.is_empty());
}

#[test]
fn each_family_has_its_own() {
    let both = [family(ADDITIONAL_ADDRESS_FAMILY, 2)];
    let (mut world, mut alice, relays) = world_with(&both);
    assert_eq!(alice.permit(&mut world, &[PEER_V6]), 0);
    assert_eq!(world.sockets.values().collect::<Vec<_>>(), [&relays[1]]);
    assert_eq!(alice.permit(&mut world, &[PEER, PEER_V6]), 0);
    assert_eq!(world.sockets.len(), 2);
}

#[test]
fn a_port_that_another_program_has_is_an_error_until_it_is_free() {
    let (mut world, mut alice, relays) = world_with(&[]);
    world.bind_failures = 2;
    assert_eq!(alice.permit(&mut world, &[PEER]), 508);
    assert_eq!(alice.bind(&mut world, 0x4000, PEER), 508);
    assert_eq!(alice.permit(&mut world, &[MEDIA]), 0, "that needs none");
    assert_eq!(alice.bind(&mut world, 0x4000, PEER), 0);
    assert_eq!(world.sockets.values().collect::<Vec<_>>(), [&relays[0]]);
}

#[test]
fn one_family_that_fails_does_not_fail_the_other() {
    let both = [family(ADDITIONAL_ADDRESS_FAMILY, 2)];
    let (mut world, mut alice, relays) = world_with(&both);
    world.bind_failures = 1;
    assert_eq!(alice.permit(&mut world, &[PEER_V6]), 508);
    assert_eq!(alice.permit(&mut world, &[PEER]), 0);
    assert_eq!(world.sockets.values().collect::<Vec<_>>(), [&relays[0]]);
    assert_eq!(alice.bind(&mut world, 0x4000, PEER), 0);
    world.bind_failures = 1;
    assert_eq!(alice.permit(&mut world, &[PEER, PEER_V6]), 508);
    assert_eq!(alice.permit(&mut world, &[PEER, PEER_V6]), 0);
}

#[test]
fn other_services_of_this_host_are_not_relayed_to() {
    let (mut world, mut alice, _) = world_with(&[]);
    assert_eq!(
        alice.permit(&mut world, &[BESIDE_MEDIA]),
        0,
        "media is there"
    );
    let packet = alice.sends(BESIDE_MEDIA, b"hello");
    let forward = world.turn.handle_client(world.now, &alice.client, &packet);
    assert_eq!(forward, None);
    assert_eq!(alice.bind(&mut world, 0x4000, BESIDE_MEDIA), 403);
    assert_eq!(world.turn.counters().forbidden, 2);
}

#[test]
fn other_ports_of_our_own_address_are_peers_outside_if_they_are_allowed() {
    let (mut world, mut alice, relays) = world_that_allows(&["9.9.9.9"]);
    assert_eq!(alice.permit(&mut world, &[BESIDE_MEDIA]), 0);
    assert!(world.sockets.is_empty(), "it may be about media");
    let packet = alice.sends(BESIDE_MEDIA, b"hello");
    for _ in 0..3 {
        let forward = world.turn.handle_client(world.now, &alice.client, &packet);
        assert!(!forward.unwrap().is_own_media);
        world.run();
        assert_eq!(world.sockets.values().collect::<Vec<_>>(), [&relays[0]]);
    }
    let (mut world, mut alice, relays) = world_that_allows(&["9.9.9.9"]);
    assert_eq!(alice.bind(&mut world, 0x4000, BESIDE_MEDIA), 0);
    assert_eq!(world.sockets.values().collect::<Vec<_>>(), [&relays[0]]);
}

#[test]
fn the_next_holder_of_a_relay_address_gets_nothing_of_the_last() {
    let mut settings = settings();
    settings.ports = 50_000..=50_000;
    let (mut world, mut alice, relays) = world_of(World::with(settings), &[]);
    let relay = world.turn.relay_at(relays[0]).unwrap();
    let first = world.turn.number(relay).unwrap();
    assert_eq!(world.turn.relay_of(relays[0], first), Some(relay));
    alice.refresh(&mut world, 0);
    let mut bob = Caller::new("bob", "203.0.113.2:1000");
    assert_eq!(bob.relayed(&mut world), relays[0], "there is but one port");
    assert_eq!(world.turn.relay_of(relays[0], first), None);
    let next = world.turn.relay_at(relays[0]).unwrap();
    let second = world.turn.number(next).unwrap();
    assert_eq!(world.turn.relay_of(relays[0], second), Some(next));
    world.turn.restart(world.now);
    let mut carol = Caller::new("alice", "203.0.113.3:1000");
    carol.relayed(&mut world);
    for number in [first, second] {
        assert_eq!(world.turn.relay_of(relays[0], number), None);
    }
}

#[test]
fn a_port_rests_before_it_is_somebody_elses() {
    let mut settings = settings();
    settings.ports = 50_000..=50_099;
    let mut world = World::with(settings);
    let mut former = VecDeque::new();
    for n in 0..300_u16 {
        let address = format!("203.0.{}.{}:1000", n / 200, n % 200);
        let mut client = Caller::new("alice", &address);
        let port = client.relayed(&mut world).port();
        assert!(!former.contains(&port), "{port} again after {former:?}");
        client.refresh(&mut world, 0);
        former.push_back(port);
        if former.len() > 20 {
            former.pop_front();
        }
    }
}

#[test]
fn who_drains_makes_no_allocations_and_keeps_those_there_are() {
    let (mut world, mut alice, _) = world_with(&[]);
    world.turn.drain();
    let mut bob = Caller::new("bob", "203.0.113.2:1000");
    assert_eq!(bob.allocate(&mut world, &[]).code(), 508);
    assert_eq!(alice.refresh(&mut world, 600).code(), 0);
    assert_eq!(alice.permit(&mut world, &[PEER]), 0);
}

#[test]
fn a_restart_keeps_what_was_said_and_nothing_else() {
    let (mut world, mut alice, _) = world_with(&[]);
    world.turn.revoke(world.now, "north-1", UNIX_NOW + 3600);
    world.turn.restart(world.now);
    assert_eq!(world.turn.allocations(), 0);
    alice.nonce.clear();
    assert_eq!(alice.ask(&mut world, REFRESH, &[lifetime(600)]).code(), 437);
    let minted = Secret::new("north").mint(UNIX_NOW + 3600, "north-1");
    let mut gone = Caller::new("alice", "203.0.113.9:1000");
    gone.username = minted.username;
    gone.password = minted.password;
    assert_eq!(gone.allocate(&mut world, &[]).code(), 401);
    let answer = alice.allocate(&mut world, &[]);
    assert_eq!(answer.code(), 0);
    assert!(world.sockets.is_empty(), "media is still reached in memory");
}
