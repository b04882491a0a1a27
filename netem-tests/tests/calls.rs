//! People in a room see and hear each other.

use confab_netem_tests::call::{Call, Person, millis, secs};
use confab_netem_tests::client::{publish, watch};

/// Everybody has the other's picture and sound whole.
fn assert_good(call: &Call, viewer: Person, publisher: Person) {
    let (seen, heard) = (call.sees(viewer, publisher), call.hears(viewer, publisher));
    assert!(seen.fps() > 29.5, "{} fps", seen.fps());
    assert!(seen.freezes().is_empty(), "{:?}", seen.freezes());
    assert!(heard.packets() > 0 && heard.concealed() == 0.0, "{heard:?}");
    assert!(heard.longest_gap() < millis(30), "{:?}", heard.longest_gap());
}

#[test]
fn two_people_see_and_hear_each_other_on_one_worker_and_across_two() {
    for workers in [1, 2] {
        let mut call = Call::new(1).workers(workers);
        let alice = call.join("alice", publish().audio().video());
        let bob = call.join("bob", publish().audio().video());
        call.run(secs(1));
        call.run(secs(5));
        assert_good(&call, bob, alice);
        assert_good(&call, alice, bob);
        assert_eq!(call[alice].transport_lost + call[bob].transport_lost, 0);
    }
}

#[test]
fn one_publisher_reaches_fifty_subscribers_whole() {
    let mut call = Call::new(50).workers(2);
    let alice = call.join("alice", publish().audio().video());
    let crowd: Vec<Person> = (0..50)
        .map(|n| call.join(&format!("viewer {n}"), watch().slots(1, 1)))
        .collect();
    call.run(secs(1));
    call.run(secs(2));
    for &viewer in &crowd {
        assert_good(&call, viewer, alice);
    }
}
