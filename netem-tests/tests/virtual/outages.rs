//! The way to somebody is cut for a while, on links that lose nothing: afterwards the call is as it was.

use std::time::Duration;

use confab_netem_tests::link::{Impairment, Loss};
use confab_netem_tests::virtual_time::call::{Call, Person, millis, secs};
use confab_netem_tests::virtual_time::client::{publish, watch};

/// One way. Round trips are of more than 100 ms, where waiting for retransmissions shows.
const DELAY: Duration = millis(60);

/// Changes the link of a person to the server and from it.
fn both_ways(call: &mut Call, person: Person, change: impl Fn(&mut Impairment)) {
    call.up(person, &change);
    call.down(person, &change);
}

/// Two who see each other, with a camera of one size.
fn two(seed: u64) -> (Call, Person, Person) {
    let mut call = Call::new(seed);
    let setup = publish().audio().video().fec().patient();
    let people = ["alice", "bob"].map(|name| call.join(name, setup.clone()));
    for person in people {
        both_ways(&mut call, person, |link| link.delay = DELAY);
    }
    call.run(secs(15));
    (call, people[0], people[1])
}

/// Nothing gets to a person, or from there, for so long.
fn cut(call: &mut Call, person: Person, span: Duration) {
    both_ways(call, person, |link| link.is_up = false);
    call.run(span);
    both_ways(call, person, |link| link.is_up = true);
}

/// How late the pictures of one are that another sees, at most but for one in ten.
fn delay(call: &Call, viewer: Person, publisher: Person) -> Duration {
    let seen = call.sees(viewer, publisher);
    assert!(seen.fps() > 29.0, "{} fps", seen.fps());
    seen.delay(0.9).expect("pictures")
}

#[test]
fn what_an_outage_swallowed_is_neither_repaired_in_advance_nor_waited_for() {
    for (seed, length) in [(70, millis(600)), (71, secs(2)), (72, secs(10))] {
        let (mut call, alice, bob) = two(seed);
        let sent = |call: &mut Call| call.stats().total().repair_sent.fec;
        cut(&mut call, bob, length);
        call.run(secs(3));
        let before = sent(&mut call);
        call.run(secs(10));
        assert_eq!(sent(&mut call), before, "after {length:?}");
        for (viewer, publisher) in [(alice, bob), (bob, alice)] {
            let late = delay(&call, viewer, publisher);
            assert!(late < millis(200), "after {length:?}: {late:?}");
        }
    }
}

#[test]
fn a_publisher_is_not_told_that_an_outage_was_loss() {
    let (mut call, alice, bob) = two(73);
    let denied = call[alice].packets_denied;
    cut(&mut call, alice, secs(3));
    call.run(secs(5));
    let told = call[alice].packets_denied - denied;
    assert!(told < 20, "{told} of some 750");
    call.run(secs(5));
    delay(&call, bob, alice);
}

#[test]
fn the_server_sends_what_it_sent_before_an_outage() {
    for length in [secs(2), secs(10)] {
        let (mut call, _, bob) = two(74);
        let estimate = |call: &mut Call| {
            let stats = call.peer_stats(bob).expect("a connection");
            stats.quality.estimate
        };
        let before = estimate(&mut call);
        cut(&mut call, bob, length);
        call.run(millis(500));
        let after = estimate(&mut call);
        assert!(after >= before.scale(0.9), "{after:?} after {before:?}");
    }
}

#[test]
fn a_lossy_network_that_was_left_is_forgotten() {
    let mut call = Call::new(75);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", watch().fec().patient());
    both_ways(&mut call, bob, |link| {
        link.delay = DELAY;
        link.loss = Loss::Random(0.3);
    });
    call.run(secs(20));
    let late = call.sees(bob, alice).delay(0.9).expect("pictures");
    assert!(late > millis(250), "they are waited for: {late:?}");
    call.move_away(bob);
    both_ways(&mut call, bob, |link| link.loss = Loss::Random(0.0));
    // His consent checks come every 2.5 s, and a browser compares the delays of ten.
    call.run(secs(4));
    let before = call.stats().total().repair_sent.fec;
    call.run(secs(5));
    assert_eq!(call.stats().total().repair_sent.fec, before);
    call.run(secs(5));
    call.run(secs(5));
    let late = delay(&call, bob, alice);
    assert!(late < millis(200), "{late:?}");
}

#[test]
fn a_new_connection_begins_with_the_rate_of_the_one_before() {
    let (mut call, _, bob) = two(76);
    let quality = |call: &mut Call, person| call.peer_stats(person).expect("a connection").quality;
    let before = quality(&mut call, bob).estimate;
    cut(&mut call, bob, secs(4));
    let bob = call.reconnect(bob, publish().audio().video().patient());
    while call[bob].connected_at().is_none() {
        call.run(millis(20));
    }
    let after = quality(&mut call, bob).estimate;
    assert!(after >= before.scale(0.9), "{after:?} after {before:?}");
}
