//! Clients that know less than browsers do: without RTX, without PLI, without sender reports.

use confab_netem_tests::link::Loss;
use confab_netem_tests::virtual_time::call::{Call, millis, secs};
use confab_netem_tests::virtual_time::client::{publish, watch};

/// The client fails when two packets that differ are sealed under one number: its replay window refuses
/// the second, and what was lost stays lost.
#[test]
fn without_rtx_lost_packets_come_again_as_they_were() {
    for (seed, share) in [(70, 0.02), (71, 0.1)] {
        let mut call = Call::new(seed);
        let alice = call.join("alice", publish().audio().video());
        let bob = call.join("bob", watch().no_rtx());
        call.down(bob, |link| {
            link.delay = millis(20);
            link.loss = Loss::Random(share);
        });
        call.run(secs(5));
        call.run(secs(20));
        let seen = call.sees(bob, alice);
        let fps = seen.fps();
        assert!(
            fps > 29.0,
            "{fps} frames a second at {share}: {:?}",
            seen.freezes()
        );
        let again = call.stats().total().packets_retransmitted;
        assert!(again > 20, "{again} packets sent again");
    }
}

#[test]
fn a_publisher_without_pli_is_asked_by_fir() {
    let mut call = Call::new(72);
    let alice = call.join("alice", publish().video().fir_only());
    call.run(secs(2));
    for name in ["bob", "carol"] {
        let viewer = call.join(name, watch());
        call.run(secs(2));
        let seen = call.sees(viewer, alice);
        assert!(seen.fps() > 25.0, "{name}: {} frames a second", seen.fps());
    }
    assert!(call.fault(alice).is_none(), "{:?}", call.fault(alice));
}

#[test]
fn without_reports_of_the_publisher_sound_and_picture_are_together_too() {
    let mut call = Call::new(73).workers(2);
    let alice = call.join("alice", publish().audio().video().no_reports());
    let bob = call.join("bob", watch());
    call.up(alice, |link| {
        link.delay = millis(50);
        link.jitter = millis(20);
    });
    call.run(secs(2));
    call.run(secs(10));
    let skew = call.lip_skew(bob, alice).expect("reports of the server");
    assert!(skew < millis(25), "{skew:?}");
}
