//! The client's network changes under a call, or goes away.

use confab_netem_tests::link::Loss;
use confab_netem_tests::virtual_time::call::{Call, millis, secs};
use confab_netem_tests::virtual_time::client::{publish, watch};
use confab_sfu::api::{DtlsFailure, GoneReason, Publish};
use confab_sfu::api::{Reply, Request};
use confab_sfu::inside::rtp::packet::PacketClass;
use confab_sfu::media::Kind;

#[test]
fn ice_restarts_without_a_gap() {
    let mut call = Call::new(40);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video());
    call.run(secs(2));
    for _ in 0..3 {
        call[bob].restart_ice();
        assert_eq!(call.offer(bob, Publish::All), Ok(()));
        assert!(!call[bob].has_proved_ice());
        call.run(secs(4));
        assert!(call[bob].has_proved_ice());
        for (viewer, publisher) in [(alice, bob), (bob, alice)] {
            assert!(call.sees(viewer, publisher).freezes().is_empty());
            let heard = call.hears(viewer, publisher);
            assert!(heard.longest_gap() < millis(30) && heard.missing() == 0.0);
        }
    }
}

#[test]
fn ice_restarts_by_fragment_too() {
    let mut call = Call::new(41);
    let alice = call.join("alice", publish().audio().video());
    call.run(secs(1));
    let fragment = "a=ice-ufrag:fresh\r\na=ice-pwd:0123456789012345678901\r\n";
    let request = Request::RestartIce {
        peer: call.peer(alice),
        fragment: fragment.into(),
    };
    match call.request(request) {
        Reply::IceRestarted(answer) => assert!(answer.contains("a=ice-ufrag:"), "{answer}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_address_is_followed_after_a_check_and_not_before() {
    let mut call = Call::new(42).workers(2);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video());
    call.run(millis(3000));
    let before = call[bob].address;
    let after = call.rebind(bob);
    call.run(millis(500));
    let selected = call.peer_stats(bob).and_then(|s| s.remote_address);
    assert_eq!(
        selected,
        Some(before),
        "media from a new address does not move anything"
    );
    assert!(
        call.hears(alice, bob).packets() <= 3,
        "only what was under way"
    );
    assert!(call.dropped("unvalidated_address") > 0);

    // His consent checks come every 2.5 s.
    call.run(millis(2500));
    let selected = call.peer_stats(bob).and_then(|s| s.remote_address);
    assert_eq!(selected, Some(after));
    call.run(secs(2));
    call.run(secs(3));
    for (viewer, publisher) in [(alice, bob), (bob, alice)] {
        let seen = call.sees(viewer, publisher);
        assert!(
            seen.fps() > 29.5,
            "{} fps, {:?}",
            seen.fps(),
            seen.freezes()
        );
        assert!(call.hears(viewer, publisher).missing() == 0.0);
    }
    assert!(call.gone(bob).is_none());
}

#[test]
fn nothing_unauthenticated_from_elsewhere_ever_moves_an_address() {
    let mut call = Call::new(43);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video());
    call.run(secs(2));
    call.overhear(bob);
    call.run(secs(1));
    let home = call[bob].address;
    let server = call[bob].server().expect("a server");
    // All but his checks: those are authentic wherever they come from.
    let overheard = call.overheard(bob).iter();
    let mut stolen: Vec<Vec<u8>> = overheard
        .filter(|bytes| PacketClass::of(bytes) != PacketClass::Stun)
        .cloned()
        .collect();
    let mut check = call[bob].check().expect("a check");
    // One bit of the password's proof, or of what it proves, is enough.
    for at in 0..check.len() {
        check[at] ^= 1;
        stolen.push(check.clone());
        check[at] ^= 1;
    }
    for (n, datagram) in stolen.into_iter().enumerate() {
        let elsewhere = ([203, 0, 113, (n % 250) as u8], 9000).into();
        call.inject(elsewhere, server, datagram);
        if n % 20 == 0 {
            call.run(millis(10));
        }
    }
    assert_eq!(
        call.peer_stats(bob).and_then(|s| s.remote_address),
        Some(home)
    );
    call.run(secs(1));
    assert!(call.sees(alice, bob).fps() > 29.0 && call.sees(bob, alice).fps() > 29.0);
}

#[test]
fn whoever_vanishes_is_sent_nothing_after_30_seconds_and_forgotten_by_35() {
    for workers in [1, 2] {
        let mut call = Call::new(44).workers(workers);
        let alice = call.join("alice", publish().audio().video());
        let bob = call.join("bob", publish().audio().video());
        call.run(secs(5));
        call.vanish(bob);
        call.run(secs(35));
        let (gone, reason) = call.gone(bob).expect("gone");
        assert_eq!(reason, GoneReason::ConsentLost);
        // The clock starts with the last check, at most 2.5 s before.
        assert!((secs(32)..secs(36)).contains(&gone), "{gone:?}");
        let last = call.last_sent_to(bob).expect("something");
        assert!(last <= secs(35) && last <= gone, "{last:?}");
        assert!(
            call.slots(alice).iter().all(|slot| slot.track.is_none()),
            "alice is told"
        );
        let stats = call.stats();
        assert_eq!((stats.peers, stats.tracks, stats.total().peers), (1, 2, 1));
        assert!(call.peer_stats(bob).is_none());
    }
}

#[test]
fn whoever_never_connects_is_forgotten() {
    let mut call = Call::new(45);
    let ghost = call.join("ghost", publish().audio().video());
    call.vanish(ghost);
    call.run(secs(35));
    let (gone, reason) = call.gone(ghost).expect("gone");
    assert_eq!((gone, reason), (secs(30), GoneReason::NeverConnected));
    assert_eq!(call.last_sent_to(ghost), None);
    let stats = call.stats();
    assert_eq!((stats.rooms, stats.peers, stats.tracks), (0, 0, 0));
}

#[test]
fn whoever_is_reachable_but_never_shakes_hands_is_forgotten_too() {
    let mut call = Call::new(47);
    let ghost = call.join("ghost", publish().audio().video());
    call.vanish(ghost);
    let (home, server) = (call[ghost].address, call[ghost].server().expect("a server"));
    for _ in 0..35 {
        let check = call[ghost].check().expect("a check");
        call.inject(home, server, check);
        call.run(secs(1));
    }
    let (gone, reason) = call.gone(ghost).expect("gone");
    let late = GoneReason::DtlsFailed(DtlsFailure::Timeout);
    assert_eq!((gone, reason), (secs(30), late));
    assert_eq!(call.stats().peers, 0);
}

#[test]
fn a_bad_spell_ends_without_a_trace() {
    let mut call = Call::new(46);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", watch());
    call.run(secs(2));
    call.up(alice, |link| link.loss = Loss::Random(1.0));
    call.run(secs(4));
    assert!(call.hears(bob, alice).packets() < 5);
    call.up(alice, |link| link.loss = Loss::Random(0.0));
    call.run(secs(1));
    let first = call.sees(bob, alice).first_frame().expect("a frame");
    // The key frame is spread over the half second that the pacer takes at most.
    assert!(first <= millis(100 + 34 + 50), "{first:?}");
    call.run(secs(2));
    assert!(call.sees(bob, alice).fps() > 29.0);
    assert!(call.hears(bob, alice).missing() == 0.0);
    assert_eq!(
        call.track(alice, Kind::Video),
        call.slots(bob)[2].track.expect("a track")
    );
}
