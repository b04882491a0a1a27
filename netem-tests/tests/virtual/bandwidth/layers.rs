//! Clients send what somebody receives, and receive what they show.

use super::*;
use confab_netem_tests::virtual_time::call::millis;
use confab_netem_tests::virtual_time::client::watch;
use confab_sfu::api::SlotView;
use confab_sfu::media::Kind;

/// Which encodings a person sends.
fn sent(call: &mut Call, person: Person) -> Vec<bool> {
    let encodings = &call[person].source(Kind::Video).encodings;
    encodings
        .iter()
        .map(|encoding| encoding.is_sent())
        .collect()
}

#[test]
fn what_nobody_shows_is_not_sent_and_comes_back_with_a_key_frame() {
    let mut call = Call::new(50).workers(2);
    let alice = call.join("alice", camera());
    let bob = call.join("bob", watch());
    call.run(secs(10));
    assert_eq!(call.sees(bob, alice).encodings().last(), Some(&2));
    let slot = call.slot_names(bob, Kind::Video)[0];
    let small = SlotView {
        width: Some(320),
        height: Some(180),
        ..SlotView::default()
    };
    assert_eq!(call.view(bob, slot, small), Ok(()));
    call.run(secs(15));
    assert_eq!(call.sees(bob, alice).encodings().last(), Some(&0));
    assert_eq!(sent(&mut call, alice), [true, false, false]);
    assert_eq!(call.view(bob, slot, SlotView::default()), Ok(()));
    call.run(secs(5));
    let seen = call.sees(bob, alice);
    assert_eq!(seen.encodings().last(), Some(&2), "{:?}", seen.encodings());
    assert!(longest_freeze(&call, bob, alice) < millis(300));
}

#[test]
fn of_a_picture_with_temporal_layers_fewer_frames_can_be_had() {
    let mut call = Call::new(51);
    let alice = call.join("alice", camera());
    let bob = call.join("bob", watch());
    call.run(secs(5));
    let slot = call.slot_names(bob, Kind::Video)[0];
    for (wanted, frames) in [(8, 7.5), (15, 15.0), (30, 30.0)] {
        let view = SlotView {
            frame_rate: Some(wanted),
            ..SlotView::default()
        };
        assert_eq!(call.view(bob, slot, view), Ok(()));
        call.run(secs(12));
        call.run(secs(10));
        tell_decisions(&mut call, bob);
        let fps = call.sees(bob, alice).fps();
        assert!((fps - frames).abs() < 0.5, "{wanted}: {fps}");
    }
}
