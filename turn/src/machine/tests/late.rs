//! Relay sockets that are bound when the first peer outside needs one.

use super::*;

const MEDIA: &str = "9.9.9.9:7000";
/// The address of our media, and another port.
const BESIDE_MEDIA: &str = "9.9.9.9:50000";
const PEER: &str = "8.8.8.8:5000";
const PEER_V6: &str = "[2600::8]:5000";

/// A server whose media is reached in memory, and a client with an allocation.
fn world_with(attrs: &[Attr]) -> (World, Caller, Vec<SocketAddr>) {
    let mut world = World::new();
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
fn other_ports_of_our_own_address_are_peers_outside() {
    let (mut world, mut alice, relays) = world_with(&[]);
    assert_eq!(alice.permit(&mut world, &[BESIDE_MEDIA]), 0);
    assert!(world.sockets.is_empty(), "it may be about media");
    let packet = alice.sends(BESIDE_MEDIA, b"hello");
    for _ in 0..3 {
        let forward = world.turn.handle_client(world.now, &alice.client, &packet);
        assert!(!forward.unwrap().is_own_media);
        world.run();
        assert_eq!(world.sockets.values().collect::<Vec<_>>(), [&relays[0]]);
    }
    let (mut world, mut alice, relays) = world_with(&[]);
    assert_eq!(alice.bind(&mut world, 0x4000, BESIDE_MEDIA), 0);
    assert_eq!(world.sockets.values().collect::<Vec<_>>(), [&relays[0]]);
}
