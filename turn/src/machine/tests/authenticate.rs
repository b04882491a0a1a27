//! Long-term credentials, over the wire.

use super::*;

#[test]
fn nobody_gets_in_without_the_password() {
    let mut world = World::new();
    for (change, code) in [
        ((|_| {}) as fn(&mut Caller), 0),
        (|c| c.password = "wrong".into(), 401),
        (|c| c.username = "mallory".into(), 401),
        (|c| c.username = String::new(), 401),
        (|c| c.username = format!("{}:x", UNIX_NOW + 60), 401),
    ] {
        let mut caller = Caller::new("alice", "203.0.113.1:1000");
        change(&mut caller);
        let answer = caller.allocate(&mut world, &[]);
        assert_eq!(answer.code(), code, "{}", caller.username);
        assert_eq!(answer.value(Nonce::TYPE).is_some(), code == 401);
    }
}

#[test]
fn both_algorithms_and_hidden_names() {
    for hides_username in [false, true] {
        for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
            let mut world = World::new();
            let mut alice = Caller::new("alice", "203.0.113.1:1000");
            alice.algorithm = algorithm;
            alice.hides_username = hides_username;
            let answer = alice.allocate(&mut world, &[]);
            assert_eq!(answer.code(), 0, "{algorithm:?} {hides_username}");
            let signed = answer.message().validate_integrity(&alice.key());
            assert_eq!(signed.unwrap(), algorithm);
            assert_eq!(alice.refresh(&mut world, 600).code(), 0);
            assert_eq!(alice.permit(&mut world, &["8.8.8.8:1"]), 0);
        }
    }
}

#[test]
fn the_choice_of_an_algorithm_cannot_be_bid_down() {
    let (sha256, md5) = ([0, 2, 0, 0], [0, 1, 0, 0]);
    let both = [sha256, md5].concat();
    for (offered, chosen) in [
        (Some(&sha256[..]), None),
        (None, Some(&sha256[..])),
        (Some(&md5), Some(&md5)),
        (Some(&both), Some(&sha256)),
        (Some(&sha256), Some(&md5)),
        (Some(&[]), Some(&[])),
    ] {
        let mut world = World::new();
        let mut alice = Caller::new("alice", "203.0.113.1:1000");
        let mut attrs = vec![value(REQUESTED_TRANSPORT, &UDP)];
        attrs.extend(offered.map(|v| value(PasswordAlgorithms::TYPE, v)));
        attrs.extend(chosen.map(|v| value(PasswordAlgorithm::TYPE, v)));
        let answer = alice.ask(&mut world, ALLOCATE, &attrs);
        assert_eq!(answer.code(), 400, "{offered:?} {chosen:?}");
    }
}

#[test]
fn what_is_missing_is_a_bad_request() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    alice.learn_nonce(&mut world);
    let nonce = alice.nonce.clone();
    let all = [
        (Username::TYPE, &b"alice"[..]),
        (Realm::TYPE, REALM.as_bytes()),
        (Nonce::TYPE, nonce.as_bytes()),
    ];
    for left_out in 0..3 {
        let attrs: Vec<_> = (0..3)
            .filter(|&n| n != left_out)
            .map(|n| value(all[n].0, all[n].1))
            .collect();
        let mut message = alice.message(MessageClass::Request, ALLOCATE, &attrs);
        message
            .add_message_integrity(&alice.key(), IntegrityAlgorithm::Sha1)
            .unwrap();
        let answer = world.exchange(&alice.client, &message.finish()).unwrap();
        assert_eq!(answer.code(), 400, "{:?}", all[left_out].0);
    }
}

#[test]
fn a_nonce_grows_stale_and_is_replaced() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    alice.allocate(&mut world, &[lifetime(3600)]);
    let first = alice.nonce.clone();
    world.wait(NONCE_LIFETIME.as_secs() - 1);
    assert_eq!(alice.refresh(&mut world, 3600).code(), 0);
    assert_eq!(alice.nonce, first);
    world.wait(2);
    let packet = alice.signed(REFRESH, &[]);
    let answer = world.exchange(&alice.client, &packet).unwrap();
    assert_eq!(answer.code(), 438);
    assert!(answer.value(Realm::TYPE).is_some());
    assert_eq!(alice.refresh(&mut world, 3600).code(), 0);
    assert_ne!(alice.nonce, first);
    // Another client's is no good.
    let mut bob = Caller::new("bob", "203.0.113.2:1000");
    bob.nonce = alice.nonce.clone();
    let packet = bob.signed(ALLOCATE, &[value(REQUESTED_TRANSPORT, &UDP)]);
    assert_eq!(world.exchange(&bob.client, &packet).unwrap().code(), 438);
}

fn minted(address: &str, label: &str, seconds: u64) -> Caller {
    let minted = Secret::new("north").mint(UNIX_NOW + seconds, label);
    let mut caller = Caller::new(label, address);
    (caller.username, caller.password) = (minted.username, minted.password);
    caller
}

#[test]
fn a_call_outlives_its_credentials_but_a_new_one_needs_new_ones() {
    let mut world = World::new();
    let mut carol = minted("203.0.113.1:1000", "carol", 60);
    carol.relayed(&mut world);
    world.wait(120);
    assert_eq!(carol.refresh(&mut world, 600).code(), 0);
    assert_eq!(carol.permit(&mut world, &["8.8.8.8:1"]), 0);
    let mut late = minted("203.0.113.1:1001", "carol", 60);
    assert_eq!(late.allocate(&mut world, &[]).code(), 401);
    let mut renewed = minted("203.0.113.1:1000", "carol", 600);
    assert_eq!(
        renewed.refresh(&mut world, 600).code(),
        0,
        "a label is one user"
    );
    world.turn.handle_wall_clock(world.now, UNIX_NOW);
    assert_eq!(
        late.allocate(&mut world, &[]).code(),
        0,
        "the clock was set back"
    );
}

#[test]
fn a_revoked_label_loses_what_it_has_and_gets_no_more() {
    let mut world = World::new();
    let mut carol = minted("203.0.113.1:1000", "carol", 600).over_stream();
    let mut dave = minted("203.0.113.2:1000", "dave", 600);
    let relayed = carol.relayed(&mut world);
    carol.permit(&mut world, &["8.8.8.8:1"]);
    dave.relayed(&mut world);
    world.turn.revoke(world.now, "carol", UNIX_NOW + 600);
    world.run();
    assert_eq!(world.ended, [(carol.client, true)]);
    assert!(world.peer_sends("8.8.8.8:1", relayed, b"late").is_none());
    assert_eq!(world.turn.allocations(), 1);
    assert_eq!(carol.allocate(&mut world, &[]).code(), 401);
    assert_eq!(dave.refresh(&mut world, 600).code(), 0);
}

#[test]
fn an_allocation_is_its_users_alone() {
    let mut world = World::new();
    let mut alice = Caller::new("alice", "203.0.113.1:1000");
    alice.relayed(&mut world);
    let mut bob = Caller::new("bob", "203.0.113.1:1000");
    bob.nonce = alice.nonce.clone();
    assert_eq!(bob.refresh(&mut world, 0).code(), 441);
    assert_eq!(bob.permit(&mut world, &["8.8.8.8:1"]), 441);
    assert_eq!(bob.bind(&mut world, 0x4000, "8.8.8.8:1"), 441);
    assert_eq!(alice.refresh(&mut world, 600).code(), 0);
}

#[test]
fn who_has_proven_nothing_is_answered_briefly_and_a_hundred_times_a_second() {
    let mut world = World::new();
    let mut caller = Caller::new("mallory", "203.0.113.1:1000");
    let packet = caller.unsigned(ALLOCATE, &[value(REQUESTED_TRANSPORT, &UDP)]);
    let answer = world.exchange(&caller.client, &packet).unwrap();
    // Realm and nonce are what the RFC needs; nothing else is longer than it must be.
    assert!(answer.0.len() <= packet.len() + 76, "{}", answer.0.len());
    let count = |world: &mut World, requests: Vec<Vec<u8>>| {
        let answers = requests
            .iter()
            .map(|packet| world.exchange(&caller.client, packet).is_some());
        answers.filter(|&answered| answered).count()
    };
    let floods = vec![packet; 1000];
    assert_eq!(count(&mut world, floods.clone()), 99);
    world.wait(1);
    assert_eq!(count(&mut world, floods), 100);
    assert_eq!(world.turn.counters().rate_limited, 1801);
    let counters = world.turn.counters();
    assert_eq!((counters.unauthenticated, counters.allocated), (2001, 0));
    assert!(
        world.turn.next_deadline().is_none(),
        "nothing is kept of them"
    );
}

#[test]
fn how_many_answers_they_get_can_be_set() {
    for max in [0, 1, 1000] {
        let mut settings = settings();
        settings.limits.unauthenticated_answers = max;
        let mut world = World::with(settings);
        let mut caller = Caller::new("mallory", "203.0.113.1:1000");
        let packet = caller.unsigned(ALLOCATE, &[]);
        let answers = (0..1001).filter_map(|_| world.exchange(&caller.client, &packet));
        assert_eq!(answers.count(), max as usize);
    }
}
