//! Tracks come, go, pause and change places.

use confab_netem_tests::link::Loss;
use confab_netem_tests::virtual_time::call::{Call, millis, secs};
use confab_netem_tests::virtual_time::client::send::Beginning;
use confab_netem_tests::virtual_time::client::{publish, watch};
use confab_sfu::api::{Publish, SlotChoice};
use confab_sfu::media::Kind;
use confab_sfu::types::RoomId;

/// From a change to the first picture: what the change says travels to the publisher, the camera's
/// next picture is a key frame, which the pacer spreads a little, and travels to the viewer.
const CHANGE: std::time::Duration = millis(20 + 34 + 40 + 40);

#[test]
fn a_slot_is_pointed_elsewhere_and_the_decoder_notices_a_key_frame_only() {
    for workers in [1, 2] {
        let mut call = Call::new(20).workers(workers);
        let alice = call.join("alice", publish().audio().video());
        let carol = call.join("carol", publish().audio().video().firefox());
        let bob = call.join("bob", watch().slots(1, 1));
        call.run(secs(2));
        assert!(
            call.sees(bob, alice).frames() > 30,
            "the first published is shown first"
        );
        assert_eq!(call.sees(bob, carol).frames(), 0);

        let slot = call.slot_names(bob, Kind::Video)[0];
        for publisher in [carol, alice, carol] {
            let track = call.track(publisher, Kind::Video);
            let shown = call.subscribe(bob, slot, SlotChoice::Pin(track));
            assert_eq!(shown, Ok(Some(track)));
            call.run(secs(2));
            let seen = call.sees(bob, publisher);
            assert_eq!(seen.key_frames(), 1);
            assert!(
                seen.first_frame().expect("a frame") <= CHANGE,
                "{:?}",
                seen.first_frame()
            );
            assert!(seen.fps() > 28.0, "{} fps", seen.fps());
            assert_eq!(call[bob].transport_lost, 0);
        }
        assert_eq!(call.subscribe(bob, slot, SlotChoice::Off), Ok(None));
        call.run(secs(1));
        call.run(secs(1));
        assert_eq!(
            call.sees(bob, carol).frames() + call.sees(bob, alice).frames(),
            0
        );
        let shown = call.subscribe(bob, slot, SlotChoice::Auto);
        assert_eq!(shown, Ok(Some(call.track(alice, Kind::Video))));
        call.run(secs(1));
        assert!(call.sees(bob, alice).frames() > 25);
    }
}

#[test]
fn a_slot_that_changes_every_100_ms_never_confuses_the_decoder() {
    let mut call = Call::new(21).workers(2);
    let alice = call.join("alice", publish().audio().video());
    let carol = call.join("carol", publish().audio().video());
    let bob = call.join("bob", watch().slots(1, 1));
    call.run(secs(1));
    let slot = call.slot_names(bob, Kind::Video)[0];
    for round in 0..50 {
        let publisher = [alice, carol][round % 2];
        let track = call.track(publisher, Kind::Video);
        assert!(call.subscribe(bob, slot, SlotChoice::Pin(track)).is_ok());
        call.run(millis(100));
    }
    // Each camera is asked for a key frame twice a second at most, so this may take a while.
    call.run(secs(1));
    assert!(call.sees(bob, carol).first_frame() <= Some(millis(500) + CHANGE));
    call.run(secs(1));
    let seen = call.sees(bob, carol);
    // The receiver still finds its delay, after pictures that came all at once.
    assert!(
        seen.frames() > 25 && seen.freezes().is_empty(),
        "{} {:?}",
        seen.frames(),
        seen.freezes()
    );
    assert_eq!(call[bob].transport_lost, 0);
}

#[test]
fn tracks_are_published_and_taken_back() {
    for workers in [1, 2] {
        let mut call = Call::new(22).workers(workers);
        let nothing = Publish::Mids(Vec::new());
        let alice = call.join_room(RoomId(1), "alice", publish().audio().video(), nothing);
        let bob = call.join("bob", watch());
        call.run(secs(2));
        assert_eq!(
            call.sees(bob, alice).frames() + call.hears(bob, alice).packets(),
            0
        );

        let mid = call[alice].source(Kind::Video).mid;
        let track = call.publish(alice, mid).expect("a track");
        assert_eq!(call.publish(alice, mid), Ok(track), "twice is the same");
        assert!(call.slots(bob).iter().any(|slot| slot.track == Some(track)));
        call.run(secs(1));
        let first = call.sees(bob, alice).first_frame();
        assert!(first.expect("a frame") <= CHANGE, "{first:?}");
        assert_eq!(call.hears(bob, alice).packets(), 0);

        assert_eq!(call.unpublish(alice, track), Ok(()));
        assert!(call.unpublish(alice, track).is_err(), "it is gone");
        assert!(call.slots(bob).iter().all(|slot| slot.track.is_none()));
        call.run(millis(25));
        call.run(secs(1));
        assert_eq!(call.sees(bob, alice).frames(), 0);

        assert_ne!(
            call.publish(alice, mid),
            Ok(track),
            "a name is never used again"
        );
        call.run(secs(1));
        assert!(call.sees(bob, alice).frames() > 25);
        let foreign = call.track(alice, Kind::Video);
        assert!(call.unpublish(bob, foreign).is_err(), "not bob's");
        assert!(call.mute(bob, foreign, true).is_err(), "not bob's");
    }
}

#[test]
fn what_is_muted_is_neither_seen_nor_heard_and_comes_back_at_once() {
    for workers in [1, 2] {
        let mut call = Call::new(23).workers(workers);
        let alice = call.join("alice", publish().audio().video());
        let bob = call.join("bob", watch());
        call.run(secs(2));
        let (sound, picture) = (
            call.track(alice, Kind::Audio),
            call.track(alice, Kind::Video),
        );
        for _ in 0..2 {
            assert_eq!(call.mute(alice, sound, true), Ok(()));
            assert_eq!(call.mute(alice, picture, true), Ok(()));
            call.run(millis(25));
            call.run(secs(3));
            assert_eq!(
                call.sees(bob, alice).frames() + call.hears(bob, alice).packets(),
                0
            );
            assert_eq!(call.mute(alice, sound, false), Ok(()));
            assert_eq!(call.mute(alice, picture, false), Ok(()));
            call.run(secs(2));
            let seen = call.sees(bob, alice);
            assert!(
                seen.first_frame().expect("a frame") <= CHANGE,
                "{:?}",
                seen.first_frame()
            );
            assert_eq!(seen.key_frames(), 1);
            assert!(call.hears(bob, alice).first_packet() <= Some(millis(45)));
            assert_eq!(call[bob].transport_lost, 0);
        }
    }
}

#[test]
fn the_best_encoding_alive_is_shown_and_the_next_when_it_dies() {
    for workers in [1, 2] {
        let mut call = Call::new(24).workers(workers);
        let alice = call.join("alice", publish().audio().simulcast());
        let bob = call.join("bob", watch().firefox());
        call.run(secs(2));
        call.run(secs(2));
        let seen = call.sees(bob, alice);
        assert_eq!(seen.encodings(), [2]);
        assert!(seen.fps() > 29.5 && seen.freezes().is_empty());

        for (dies, next) in [(2, 1), (1, 0)] {
            call[alice].source(Kind::Video).encodings[dies].is_alive = false;
            call.run(secs(5));
            let seen = call.sees(bob, alice);
            assert_eq!(seen.encodings(), [dies as u8, next]);
            assert!(
                seen.freezes().iter().all(|&f| f < millis(2500)),
                "{:?}",
                seen.freezes()
            );
            // One because it comes back, and one for the request that crossed it.
            assert!(
                (1..=2).contains(&seen.key_frames()),
                "{}",
                seen.key_frames()
            );
        }
        for encoding in [1, 2] {
            call[alice].source(Kind::Video).encodings[encoding].revive();
        }
        call.run(secs(3));
        let seen = call.sees(bob, alice);
        assert_eq!(seen.encodings().last(), Some(&2));
        assert!(seen.freezes().is_empty(), "{:?}", seen.freezes());
        assert_eq!(call[bob].transport_lost, 0);
    }
}

#[test]
fn an_encoding_that_dies_while_muted_is_not_waited_for() {
    for workers in [1, 2] {
        let mut call = Call::new(25).workers(workers);
        let alice = call.join("alice", publish().audio().simulcast());
        let bob = call.join("bob", watch());
        call.run(secs(3));
        let picture = call.track(alice, Kind::Video);
        assert_eq!(call.mute(alice, picture, true), Ok(()));
        call[alice].source(Kind::Video).encodings[2].is_alive = false;
        call.run(secs(4));
        assert_eq!(call.mute(alice, picture, false), Ok(()));
        call.run(secs(2));
        let seen = call.sees(bob, alice);
        assert!(
            // Until the next allocation it is not known that another encoding has to do.
            seen.first_frame()
                .is_some_and(|first| first <= CHANGE + millis(250)),
            "{:?}",
            seen.first_frame()
        );
        assert_eq!(seen.encodings(), [1]);
    }
}

#[test]
fn lost_packets_of_every_simulcast_encoding_are_repaired() {
    let mut call = Call::new(26);
    let alice = call.join("alice", publish().audio().simulcast());
    let bob = call.join("bob", watch());
    call.up(alice, |link| link.loss = Loss::Random(0.05));
    for best in [2, 1, 0] {
        call.run(secs(4));
        call.run(secs(4));
        let seen = call.sees(bob, alice);
        assert_eq!(seen.encodings(), [best]);
        assert!(
            seen.fps() > 29.0 && seen.key_frames() == 0,
            "encoding {best}: {} fps",
            seen.fps()
        );
        call[alice].source(Kind::Video).encodings[usize::from(best)].is_alive = false;
    }
}

#[test]
fn a_screen_is_shared_in_a_new_m_line_and_seen_in_a_new_slot() {
    let mut call = Call::new(27).workers(2);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video().slots(1, 1));
    call.run(secs(1));
    let screen = call[alice].add_source(Kind::Video, false);
    assert_eq!(call.offer(alice, Publish::All), Ok(()));
    assert_eq!(call.tracks(alice).len(), 3);
    call.run(secs(1));
    assert_eq!(
        call.seen(bob, screen).frames(),
        0,
        "there is no slot for it yet"
    );

    call[bob].add_slot(Kind::Video);
    assert_eq!(call.offer(bob, Publish::All), Ok(()));
    call.run(secs(2));
    let seen = call.seen(bob, screen);
    assert!(
        seen.first_frame().expect("a frame") <= CHANGE,
        "{:?}",
        seen.first_frame()
    );
    // Nothing of it disturbed what was there.
    assert!(call.sees(bob, alice).freezes().is_empty());
    assert!(call.hears(bob, alice).longest_gap() < millis(30));
    assert!(call.sees(alice, bob).freezes().is_empty());
}

#[test]
fn a_stopped_m_line_is_used_again() {
    let mut call = Call::new(28).workers(2);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", watch());
    call.run(secs(1));
    let mut lines = None;
    for round in 0..3 {
        let screen = call[alice].add_source(Kind::Video, round == 1);
        assert_eq!(call.offer(alice, Publish::All), Ok(()));
        call.run(secs(2));
        assert!(call.seen(bob, screen).frames() > 50, "round {round}");
        let count = call[alice].line_count();
        assert_eq!(*lines.get_or_insert(count), count);

        let mid = call[alice].sources.last().expect("the screen").mid;
        call[alice].stop_line(mid);
        assert_eq!(call.offer(alice, Publish::All), Ok(()));
        assert_eq!(call.tracks(alice).len(), 2);
        // What the pacer still has is sent.
        call.run(millis(100));
        call.run(secs(1));
        assert_eq!(call.seen(bob, screen).frames(), 0);
    }
    assert!(call.sees(bob, alice).freezes().is_empty());

    // And so is a slot's, by a slot of the other kind.
    let slot = call.slot_names(bob, Kind::Video)[0];
    call[bob].stop_line(slot);
    assert_eq!(call.offer(bob, Publish::All), Ok(()));
    call[bob].add_slot(Kind::Audio);
    call[bob].add_slot(Kind::Video);
    assert_eq!(call.offer(bob, Publish::All), Ok(()));
    call.run(secs(1));
    call.run(secs(1));
    assert!(call.sees(bob, alice).fps() > 28.0);
    assert!(call.hears(bob, alice).missing() == 0.0);
}

#[test]
fn m_lines_are_inactive_for_a_while_and_go_on() {
    let mut call = Call::new(30).workers(2);
    // Its sequence numbers have wrapped by the time of the first pause.
    let about_to_wrap = Beginning {
        sequence: 65_500,
        timestamp: 0,
        picture_id: 0,
    };
    let setup = publish().audio().video().beginning(about_to_wrap);
    let alice = call.join("alice", setup);
    let bob = call.join("bob", watch().slots(1, 1));
    call.run(secs(2));
    let camera = call[alice].source(Kind::Video).mid;
    let microphone = call[alice].source(Kind::Audio).mid;
    let screens = call.slot_names(bob, Kind::Video);
    let speakers = call.slot_names(bob, Kind::Audio);
    for (person, lines) in [
        (alice, [camera, microphone]),
        (bob, [screens[0], speakers[0]]),
        (alice, [camera, microphone]),
        (bob, [screens[0], speakers[0]]),
    ] {
        for is_paused in [true, false] {
            for mid in lines {
                call[person].pause_line(mid, is_paused);
            }
            assert_eq!(call.offer(person, Publish::All), Ok(()));
            call.run(millis(45));
            call.run(secs(2));
            let (seen, heard) = (call.sees(bob, alice), call.hears(bob, alice));
            if is_paused {
                assert_eq!(seen.frames() + heard.packets(), 0);
            } else {
                assert!(seen.fps() > 27.0, "{} fps", seen.fps());
                assert!(heard.packets() > 95 && heard.missing() == 0.0);
            }
        }
    }
}

#[test]
fn whoever_leaves_makes_room_in_the_slots() {
    let mut call = Call::new(29).workers(2);
    let alice = call.join("alice", publish().audio().video());
    let carol = call.join("carol", publish().audio().video());
    let bob = call.join("bob", watch().slots(1, 1));
    call.run(secs(2));
    assert_eq!(call.sees(bob, carol).frames(), 0);
    call.leave(alice);
    call.run(secs(1));
    let first = call.sees(bob, carol).first_frame();
    assert!(first.expect("a frame") <= CHANGE, "{first:?}");
    assert!(call.hears(bob, carol).packets() > 40);
    let stats = call.stats();
    assert_eq!((stats.peers, stats.tracks), (2, 2));
}
