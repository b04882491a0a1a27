//! Allocate: what a client may ask for, and what it gets.

use stun_types::attribute::{UnknownAttributes, XorMappedAddress};

use super::*;

#[test]
fn a_client_gets_a_relay_address_for_ten_minutes() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let answer = alice.allocate(&mut world, &[]);
    assert_eq!((answer.code(), answer.lifetime()), (0, 600));
    assert_eq!(answer.relayed().ip().to_string(), RELAY_V4);
    assert!((49_152..).contains(&answer.relayed().port()));
    assert_eq!(
        answer.addresses(XorMappedAddress::TYPE),
        [alice.client.address]
    );
    assert!(answer.message().validate_integrity(&alice.key()).is_ok());
    assert_eq!(
        world.sockets.values().collect::<Vec<_>>(),
        [&answer.relayed()]
    );
    world.wait(599);
    assert_eq!(world.turn.allocations(), 1);
    world.wait(1);
    assert_eq!(world.turn.allocations(), 0);
    assert!(world.sockets.is_empty() && world.turn.next_deadline().is_none());
    assert_eq!(world.ended, [(alice.client, false)]);
}

#[test]
fn another_address_is_for_allocations_to_come() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let first = alice.allocate(&mut world, &[]).relayed();
    let other: IpAddr = "8.8.0.9".parse().unwrap();
    world.turn.set_relays(&[RelayAddress {
        bind: RELAY_V4.parse().unwrap(),
        public: other,
    }]);
    let mut bob = Caller::new("bob", "203.0.113.2:1000");
    let second = bob.allocate(&mut world, &[]).relayed();
    assert_eq!(second.ip(), other);
    assert_ne!(second.port(), first.port(), "ports stay taken");
    assert!(world.turn.relay_at(second).is_some());
    let mut carol = Caller::new("alice", "203.0.113.3:1000");
    let v6 = carol.allocate(&mut world, &[family(REQUESTED_ADDRESS_FAMILY, 2)]);
    assert_eq!(v6.relayed().ip().to_string(), RELAY_V6, "as before");
}

#[test]
fn requests_are_judged_as_the_rfc_says() {
    let even = |reserve: bool| value(EVEN_PORT, &[if reserve { 0x80 } else { 0 }]);
    let token = || value(RESERVATION_TOKEN, &[1; 8]);
    let requested = |n| family(REQUESTED_ADDRESS_FAMILY, n);
    let additional = |n| family(ADDITIONAL_ADDRESS_FAMILY, n);
    let udp = || value(REQUESTED_TRANSPORT, &UDP);
    for (attrs, code) in [
        (vec![], 400),
        (vec![udp()], 0),
        (vec![value(REQUESTED_TRANSPORT, &[6, 0, 0, 0])], 442),
        (vec![value(REQUESTED_TRANSPORT, &[17])], 400),
        (vec![udp(), requested(1)], 0),
        (vec![udp(), requested(2)], 0),
        (vec![udp(), requested(3)], 440),
        (vec![udp(), additional(2)], 0),
        (vec![udp(), additional(1)], 400),
        (vec![udp(), additional(3)], 400),
        (vec![udp(), additional(2), requested(1)], 400),
        (vec![udp(), even(false)], 0),
        (vec![udp(), even(true)], 0),
        (vec![udp(), even(true), additional(2)], 400),
        (vec![udp(), even(false), additional(2)], 0),
        (vec![udp(), value(EVEN_PORT, &[0, 0])], 400),
        (vec![udp(), token(), even(false)], 400),
        (vec![udp(), token(), requested(1)], 400),
        (vec![udp(), token(), additional(2)], 400),
        (vec![udp(), token()], 508),
        (vec![udp(), value(RESERVATION_TOKEN, &[1; 7])], 400),
        (vec![udp(), value(DONT_FRAGMENT, &[])], 0),
        (vec![udp(), value(LIFETIME, &[0; 3])], 400),
        (vec![udp(), value(AttributeType::new(0x7abc), &[])], 420),
        (vec![udp(), value(AttributeType::new(0x8abc), &[])], 0),
    ] {
        let mut world = World::new();
        let mut alice = Caller::new("alice", "203.0.113.1:1000");
        let answer = alice.ask(&mut world, ALLOCATE, &attrs);
        assert_eq!(answer.code(), code, "{attrs:?}");
        assert_eq!(world.turn.allocations(), u32::from(code == 0), "{attrs:?}");
    }
}

#[test]
fn lifetimes_are_between_the_default_and_the_longest() {
    for (asked, given) in [
        (0, 600),
        (1, 600),
        (601, 601),
        (3600, 3600),
        (u32::MAX, 3600),
    ] {
        let mut world = World::new();
        let mut alice = Caller::new("alice", "203.0.113.1:1000");
        let answer = alice.allocate(&mut world, &[lifetime(asked)]);
        assert_eq!(answer.lifetime(), given);
        world.wait(u64::from(given) - 1);
        assert_eq!(world.turn.allocations(), 1);
        world.wait(1);
        assert_eq!(world.turn.allocations(), 0);
    }
}

#[test]
fn a_repeated_request_has_the_same_answer_and_another_has_none() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    alice.learn_nonce(&mut world);
    let packet = alice.signed(ALLOCATE, &[value(REQUESTED_TRANSPORT, &UDP)]);
    let first = world.exchange(&alice.client, &packet).unwrap();
    let again = world.exchange(&alice.client, &packet).unwrap();
    assert_eq!(first.0, again.0);
    assert_eq!(alice.allocate(&mut world, &[]).code(), 437);
    assert_eq!((world.turn.allocations(), world.sockets.len()), (1, 1));

    let mut bob = Caller::new("bob", "203.0.113.1:1000");
    bob.transaction = alice.transaction - 2;
    bob.learn_nonce(&mut world);
    let packet = bob.signed(ALLOCATE, &[value(REQUESTED_TRANSPORT, &UDP)]);
    assert_eq!(world.exchange(&bob.client, &packet).unwrap().code(), 437);
}

#[test]
fn both_families_in_one_allocation() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let answer = alice.allocate(&mut world, &[family(ADDITIONAL_ADDRESS_FAMILY, 2)]);
    let relayed = answer.addresses(XOR_RELAYED_ADDRESS);
    let ips: Vec<_> = relayed.iter().map(|a| a.ip().to_string()).collect();
    assert_eq!(ips, [RELAY_V4, RELAY_V6]);
    assert_eq!(world.sockets.len(), 2);

    let mut settings = settings();
    settings.relays.pop();
    let mut world = World::with(settings);
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let answer = alice.allocate(&mut world, &[family(ADDITIONAL_ADDRESS_FAMILY, 2)]);
    assert_eq!(answer.addresses(XOR_RELAYED_ADDRESS).len(), 1);
    assert_eq!(answer.value(ADDRESS_ERROR_CODE).unwrap(), [2, 0, 4, 40]);
    let mut bob = Caller::new("bob", "203.0.113.2:1000");
    let v6 = [family(REQUESTED_ADDRESS_FAMILY, 2)];
    assert_eq!(bob.allocate(&mut world, &v6).code(), 440);
}

#[test]
fn a_pair_of_ports_for_two_allocations() {
    let mut world = World::new();
    let mut rtp = Caller::new("alice", "203.0.113.1:1000");
    let mut rtcp = Caller::new("alice", "203.0.113.1:1001");
    let answer = rtp.allocate(&mut world, &[value(EVEN_PORT, &[0x80])]);
    let token = answer.value(RESERVATION_TOKEN).unwrap();
    assert_eq!(answer.relayed().port() % 2, 0);
    let mut thief = Caller::new("bob", "203.0.113.3:1");
    let stolen = thief.allocate(&mut world, &[value(RESERVATION_TOKEN, &token)]);
    assert_eq!(stolen.code(), 508);
    let second = rtcp.allocate(&mut world, &[value(RESERVATION_TOKEN, &token)]);
    assert_eq!(second.relayed().port(), answer.relayed().port() + 1);
    let mut late = Caller::new("alice", "203.0.113.1:1002");
    let again = late.allocate(&mut world, &[value(RESERVATION_TOKEN, &token)]);
    assert_eq!(again.code(), 508, "a token is good once");
}

#[test]
fn a_reservation_ends_after_half_a_minute_or_with_its_allocation() {
    for (wait, ends_first) in [(30, false), (0, true)] {
        let mut settings = settings();
        settings.ports = 50_000..=50_001;
        let mut world = World::with(settings);
        let mut alice = Caller::new("alice", "203.0.113.1:1000");
        let answer = alice.allocate(&mut world, &[value(EVEN_PORT, &[0x80])]);
        let token = answer.value(RESERVATION_TOKEN).unwrap();
        let mut bob = Caller::new("bob", "203.0.113.2:1000");
        assert_eq!(
            bob.allocate(&mut world, &[]).code(),
            508,
            "all ports are taken"
        );
        if ends_first {
            alice.refresh(&mut world, 0);
        }
        world.wait(wait);
        let mut late = Caller::new("alice", "203.0.113.1:1001");
        let reserved = late.allocate(&mut world, &[value(RESERVATION_TOKEN, &token)]);
        assert_eq!(reserved.code(), 508);
        assert_eq!(
            bob.allocate(&mut world, &[]).code(),
            0,
            "the port is free again"
        );
    }
}

#[test]
fn a_port_that_another_program_has_is_replaced() {
    for (failures, attrs, code) in [
        (1, vec![], 0),
        (7, vec![], 0),
        (8, vec![], 508),
        (3, vec![value(EVEN_PORT, &[0x80])], 0),
        (8, vec![value(EVEN_PORT, &[0x80])], 508),
        (2, vec![family(ADDITIONAL_ADDRESS_FAMILY, 2)], 0),
        (8, vec![family(ADDITIONAL_ADDRESS_FAMILY, 2)], 0),
    ] {
        let mut settings = settings();
        settings.ports = 50_000..=50_031;
        let mut world = World::with(settings);
        world.bind_failures = failures;
        let mut alice = Caller::new("alice", "203.0.113.1:1000");
        let answer = alice.allocate(&mut world, &attrs);
        assert_eq!(answer.code(), code, "{failures} {attrs:?}");
        if code == 0 {
            alice.refresh(&mut world, 0);
        }
        world.bind_failures = 0;
        assert!(world.sockets.is_empty());
        let mut clients: Vec<_> = (0..16)
            .map(|n| Caller::new("alice", &format!("203.0.113.9:{}", 2000 + n)))
            .collect();
        for client in &mut clients[..12] {
            let pair = client.allocate(&mut world, &[value(EVEN_PORT, &[0x80])]);
            assert_eq!(pair.code(), 0, "no port is lost: {failures} {attrs:?}");
        }
    }
}

#[test]
fn quotas_have_the_rfcs_codes() {
    let mut settings = settings();
    settings.limits.allocations_per_user = 2;
    settings.limits.allocations_per_address = 3;
    settings.limits.allocations = 4;
    let mut world = World::with(settings);
    for (who, address, code) in [
        ("alice", "203.0.113.1:1", 0),
        ("alice", "203.0.113.1:2", 0),
        ("alice", "203.0.113.2:3", 486),
        ("bob", "203.0.113.1:4", 0),
        ("bob", "203.0.113.1:5", 486),
        ("bob", "203.0.113.3:6", 0),
        ("carol", "203.0.113.4:7", 508),
    ] {
        let mut caller = Caller::new(who, address);
        if who == "carol" {
            let minted = Secret::new("north").mint(UNIX_NOW + 60, "carol");
            (caller.username, caller.password) = (minted.username, minted.password);
        }
        assert_eq!(
            caller.allocate(&mut world, &[]).code(),
            code,
            "{who} {address}"
        );
    }
}

#[test]
fn a_server_that_cannot_forbid_fragmentation_says_so() {
    let mut settings = settings();
    settings.dont_fragment = false;
    let mut world = World::with(settings);
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    let answer = alice.allocate(&mut world, &[value(DONT_FRAGMENT, &[])]);
    assert_eq!(answer.code(), 420);
    let message = answer.message();
    let unknown = message.attribute::<UnknownAttributes>().unwrap();
    assert!(unknown.has_attribute(DONT_FRAGMENT));
}

#[test]
fn an_allocation_costs_less_than_two_kilobytes() {
    use super::super::allocation::Allocation;
    // Besides: its entry by client, its timer, its quota, and on the heap its names and keys.
    let fixed = size_of::<Allocation>() + 2 * (size_of::<Client>() + 16) + 64;
    assert!(fixed < 1024, "{fixed}");
}
