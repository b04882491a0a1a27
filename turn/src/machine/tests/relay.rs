//! What is relayed, and how it is wrapped.

use super::*;
use crate::channel::ChannelData;

fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    assert!(ChannelData { number, payload }.write(false, &mut packet));
    packet
}

/// A client with a permission for 8.8.8.8 and a channel for its port 2.
fn call() -> (World, Caller, SocketAddr) {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let relayed = alice.relayed(&mut world);
    assert_eq!(alice.bind(&mut world, 0x4000, "8.8.8.8:2"), 0);
    (world, alice, relayed)
}

#[test]
fn to_a_peer_by_indication_and_by_channel() {
    let (mut world, mut alice, relayed) = call();
    for (packet, expected) in [
        (
            alice.sends("8.8.8.8:1", b"one"),
            Some(("8.8.8.8:1", &b"one"[..])),
        ),
        (alice.sends("8.8.8.8:1", b""), Some(("8.8.8.8:1", b""))),
        (alice.sends("8.8.4.4:1", b"one"), None),
        (alice.sends("[2600::8]:1", b"one"), None),
        (channel_data(0x4000, b"two"), Some(("8.8.8.8:2", b"two"))),
        (channel_data(0x4000, b""), Some(("8.8.8.8:2", b""))),
        (channel_data(0x4001, b"two"), None),
    ] {
        let expected = expected.map(|(to, data)| (relayed, to.parse().unwrap(), data.to_vec()));
        assert_eq!(
            world.relay(&alice.client, &packet),
            expected,
            "{packet:02x?}"
        );
    }
    let counters = world.turn.counters();
    assert_eq!((counters.to_peers.packets, counters.to_peers.bytes), (4, 6));
    assert_eq!((counters.unpermitted, counters.malformed), (3, 0));
}

#[test]
fn indications_that_are_not_whole_are_dropped() {
    let (mut world, mut alice, _) = call();
    for attrs in [
        vec![],
        vec![peer("8.8.8.8:1")],
        vec![value(DATA, b"x")],
        vec![
            peer("8.8.8.8:1"),
            value(DATA, b"x"),
            value(AttributeType::new(0x7777), b""),
        ],
        vec![value(XOR_PEER_ADDRESS, &[0, 9, 0, 0]), value(DATA, b"x")],
    ] {
        let packet = alice
            .message(MessageClass::Indication, SEND, &attrs)
            .finish();
        assert_eq!(world.relay(&alice.client, &packet), None, "{attrs:?}");
    }
    assert_eq!(world.turn.counters().malformed, 5);
    let attrs = [
        peer("8.8.8.8:1"),
        value(DATA, b"x"),
        value(DONT_FRAGMENT, b""),
    ];
    let packet = alice
        .message(MessageClass::Indication, SEND, &attrs)
        .finish();
    assert!(world.relay(&alice.client, &packet).is_some());
}

#[test]
fn from_a_peer_by_channel_if_it_has_one() {
    let (mut world, alice, relayed) = call();
    let (to, packet) = world.peer_sends("8.8.8.8:2", relayed, b"hi").unwrap();
    assert_eq!(to, alice.client);
    assert_eq!(packet, channel_data(0x4000, b"hi"), "unpadded over UDP");
    let (_, packet) = world.peer_sends("8.8.8.8:1", relayed, b"hello").unwrap();
    let indication = Answer(packet);
    assert!(indication.message().has_class(MessageClass::Indication));
    assert_eq!(indication.message().method(), DATA_METHOD);
    assert_eq!(indication.value(DATA).unwrap(), b"hello");
    let from = indication.addresses(XOR_PEER_ADDRESS);
    assert_eq!(from, ["8.8.8.8:1".parse().unwrap()]);
    assert!(world.peer_sends("8.8.4.4:1", relayed, b"hello").is_none());
    assert_eq!(world.turn.counters().unpermitted, 1);
    assert_eq!(world.turn.counters().to_clients.bytes, 7);
}

#[test]
fn over_a_stream_messages_are_padded() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000").over_stream();
    let relayed = alice.relayed(&mut world);
    alice.bind(&mut world, 0x4000, "8.8.8.8:2");
    for from in ["8.8.8.8:1", "8.8.8.8:2"] {
        for len in 0..9 {
            let (_, packet) = world.peer_sends(from, relayed, &vec![1; len]).unwrap();
            assert_eq!(packet.len() % 4, 0);
        }
    }
}

#[test]
fn packets_of_any_size_are_relayed_or_dropped_whole() {
    let (mut world, alice, relayed) = call();
    for (from, len, passes) in [
        ("8.8.8.8:2", 65_535, true),
        ("8.8.8.8:2", 65_536, false),
        ("8.8.8.8:1", 65_516, true),
        ("8.8.8.8:1", 65_517, false),
    ] {
        let got = world.peer_sends(from, relayed, &vec![1; len]);
        assert_eq!(got.is_some(), passes, "{from} {len}");
    }
    let packet = channel_data(0x4000, &[1; 65_503]);
    assert!(world.relay(&alice.client, &packet).is_some());
}

#[test]
fn permissions_and_channels_expire() {
    let (mut world, mut alice, relayed) = call();
    alice.refresh(&mut world, 3600);
    world.wait(299);
    assert!(world.peer_sends("8.8.8.8:1", relayed, b"in time").is_some());
    world.wait(1);
    let packet = alice.sends("8.8.8.8:1", b"late");
    assert!(world.relay(&alice.client, &packet).is_none());
    assert!(world.peer_sends("8.8.8.8:1", relayed, b"late").is_none());
    assert!(world.peer_sends("8.8.8.8:2", relayed, b"late").is_none());
    let packet = channel_data(0x4000, b"the channel lasts longer");
    assert!(world.relay(&alice.client, &packet).is_some());
    world.wait(300);
    assert!(world.relay(&alice.client, &packet).is_none());
    alice.permit(&mut world, &["8.8.8.8:9"]);
    let (_, packet) = world.peer_sends("8.8.8.8:2", relayed, b"hi").unwrap();
    assert_ne!(packet, channel_data(0x4000, b"hi"));
}

#[test]
fn a_late_packet_does_not_reach_the_next_owner_of_a_relay() {
    let (mut world, mut alice, _) = call();
    let (&old, _) = world.sockets.iter().next().unwrap();
    alice.refresh(&mut world, 0);
    alice.relayed(&mut world);
    alice.permit(&mut world, &["8.8.8.8:1"]);
    let from = "8.8.8.8:1".parse().unwrap();
    let mut out = Vec::new();
    let client = world
        .turn
        .handle_peer(world.now, old, from, b"late", &mut out);
    assert!(client.is_none() && out.is_empty());
}

#[test]
fn both_families_relay() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let answer = alice.allocate(&mut world, &[family(ADDITIONAL_ADDRESS_FAMILY, 2)]);
    let relayed = answer.addresses(XOR_RELAYED_ADDRESS);
    assert_eq!(alice.permit(&mut world, &["8.8.8.8:1", "[2600::8]:1"]), 0);
    for (to, from) in [("8.8.8.8:1", relayed[0]), ("[2600::8]:1", relayed[1])] {
        let packet = alice.sends(to, b"x");
        let (source, peer, _) = world.relay(&alice.client, &packet).unwrap();
        assert_eq!((source, peer), (from, to.parse().unwrap()));
        assert!(world.peer_sends(to, from, b"y").is_some());
    }
    let mut out = Vec::new();
    let (&relay, _) = world.sockets.iter().find(|(_, a)| a.is_ipv6()).unwrap();
    let scoped = "[2600::8%3]:1".parse().unwrap();
    assert!(
        world
            .turn
            .handle_peer(world.now, relay, scoped, b"z", &mut out)
            .is_some()
    );
}

#[test]
fn bandwidth_is_limited_both_ways_together() {
    let mut settings = settings();
    settings.limits.bytes_per_second_per_user = 1000;
    let mut world = World::with(settings);
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let relayed = alice.relayed(&mut world);
    alice.bind(&mut world, 0x4000, "8.8.8.8:2");
    let packet = channel_data(0x4000, &[1; 400]);
    assert!(world.relay(&alice.client, &packet).is_some());
    assert!(world.peer_sends("8.8.8.8:2", relayed, &[1; 400]).is_some());
    assert!(world.relay(&alice.client, &packet).is_none());
    assert!(world.peer_sends("8.8.8.8:2", relayed, &[1; 400]).is_none());
    world.wait(1);
    assert!(world.relay(&alice.client, &packet).is_some());
    assert_eq!(world.turn.counters().over_quota, 2);
}

#[test]
fn icmp_errors_are_passed_on() {
    let (mut world, alice, _) = call();
    let (&relay, _) = world.sockets.iter().next().unwrap();
    for (from, kind, code, mtu, expected) in [
        ("8.8.8.8:1", 3, 3, 0, Some([0, 0, 6, 3, 0, 0, 0, 0])),
        ("8.8.8.8:1", 3, 4, 1280, Some([0, 0, 6, 4, 0, 0, 5, 0])),
        ("8.8.8.8:1", 11, 0, 0, Some([0, 0, 22, 0, 0, 0, 0, 0])),
        ("8.8.8.8:1", 8, 0, 0, None),
        ("8.8.4.4:1", 3, 3, 0, None),
    ] {
        let peer: SocketAddr = from.parse().unwrap();
        world
            .turn
            .handle_icmp(world.now, relay, peer, Icmp { kind, code, mtu });
        world.run();
        let got = world.sent.pop_front().map(|(to, message)| {
            assert_eq!(to, alice.client);
            let indication = Answer(message);
            assert_eq!(indication.addresses(XOR_PEER_ADDRESS), [peer]);
            indication.value(ICMP).unwrap()
        });
        assert_eq!(got, expected.map(|value| value.to_vec()), "{from} {kind}");
    }
}

#[test]
fn what_the_operator_allows_is_relayed_to() {
    let mut settings = settings();
    settings.policy.allow = vec!["10.0.0.0/8".parse::<Cidr>().unwrap()];
    let mut world = World::with(settings);
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    alice.relayed(&mut world);
    assert_eq!(alice.bind(&mut world, 0x4000, "10.0.0.1:5"), 0);
    assert_eq!(alice.bind(&mut world, 0x4001, "192.168.0.1:5"), 403);
    let packet = channel_data(0x4000, b"x");
    assert!(world.relay(&alice.client, &packet).is_some());
}

#[test]
fn a_relay_is_found_by_its_name_outside_while_it_is_bound() {
    let mut settings = settings();
    settings.relays[0].bind = "10.0.0.5".parse().unwrap();
    let mut world = World::with(settings);
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let answer = alice.allocate(&mut world, &[family(ADDITIONAL_ADDRESS_FAMILY, 2)]);
    for public in answer.addresses(XOR_RELAYED_ADDRESS) {
        let relay = world.turn.relay_at(public).unwrap();
        assert_eq!(world.turn.public_address(relay), Some(public));
        let elsewhere = SocketAddr::new("10.0.0.5".parse().unwrap(), public.port());
        assert_eq!(world.turn.relay_at(elsewhere), None);
    }
    let v6 = [family(REQUESTED_ADDRESS_FAMILY, 2), lifetime(0)];
    alice.ask(&mut world, REFRESH, &v6);
    let relays = answer.addresses(XOR_RELAYED_ADDRESS);
    assert!(world.turn.relay_at(relays[0]).is_some());
    assert_eq!(world.turn.relay_at(relays[1]), None);
    alice.refresh(&mut world, 0);
    assert_eq!(world.turn.relay_at(relays[0]), None);
}
