//! What is seen where the way to somebody is not what it seems.

use super::*;
use confab_netem_tests::link::Stall;
use confab_netem_tests::virtual_time::call::millis;
use confab_netem_tests::virtual_time::client::watch;

/// A camera of 1 Mbit/s.
fn one_size() -> Setup {
    publish().audio().video().frame_len(4200)
}

#[test]
fn packets_that_bunch_up_are_no_reason_to_pause_a_picture() {
    let stall = Stall {
        every: millis(160),
        length: millis(90),
    };
    for seed in 140..144 {
        let mut call = Call::new(seed);
        let alice = call.join("alice", one_size());
        let bob = call.join("bob", watch().patient());
        call.down(bob, |link| {
            link.stall = Some(stall);
            link.jitter = millis(10);
        });
        call.run(secs(10));
        each_second(&mut call, 60, |call| {
            let slots = quality(call, bob).slots;
            assert!(slots[0].layer.is_some(), "seed {seed}: {slots:?}");
        });
        assert!(call.sees(bob, alice).fps() > 25.0);
    }
}
