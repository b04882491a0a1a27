//! People in a room see and hear each other.

use confab_netem_tests::link::Loss;
use confab_netem_tests::virtual_time::call::{Call, Person, millis, secs};
use confab_netem_tests::virtual_time::client::send::Beginning;
use confab_netem_tests::virtual_time::client::{publish, watch};
use confab_sfu::api::Publish;

/// One has the other's picture and audio whole.
fn assert_good(call: &Call, viewer: Person, publisher: Person) {
    let (seen, heard) = (call.sees(viewer, publisher), call.hears(viewer, publisher));
    assert!(seen.fps() > 29.5, "{} fps", seen.fps());
    assert!(seen.freezes().is_empty(), "{:?}", seen.freezes());
    assert!(heard.packets() > 0 && heard.missing() == 0.0);
    assert!(
        heard.longest_gap() < millis(30),
        "{:?}",
        heard.longest_gap()
    );
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
        for person in [alice, bob] {
            assert_eq!(call[person].transport_lost, 0);
            let (sent, told) = (call[person].packets_sent, call[person].packets_acknowledged);
            // Feedback comes every 100 ms, and there are 150 packets a second.
            assert!(told <= sent && told + 25 > sent, "{told} of {sent}");
        }
        let profiles = call.stats().total().srtp_profiles;
        assert!(
            profiles.keys().all(|name| name.contains("GCM")),
            "{profiles:?}"
        );
    }
}

#[test]
fn three_people_all_see_and_hear_each_other() {
    let mut call = Call::new(3).workers(2);
    let people = ["alice", "bob", "carol"].map(|name| call.join(name, publish().audio().video()));
    call.run(secs(1));
    call.run(secs(3));
    for viewer in people {
        for publisher in people.into_iter().filter(|&p| p != viewer) {
            assert_good(&call, viewer, publisher);
        }
        let own = (
            call.sees(viewer, viewer).frames(),
            call.hears(viewer, viewer).packets(),
        );
        assert_eq!(own, (0, 0), "nobody gets themselves");
    }
}

#[test]
fn chromium_and_firefox_understand_each_others_numbers() {
    let mut call = Call::new(4);
    let chromium = call.join("chromium", publish().audio().video());
    let firefox = call.join("firefox", publish().audio().video().firefox());
    call.run(secs(1));
    call.run(secs(3));
    assert_good(&call, firefox, chromium);
    assert_good(&call, chromium, firefox);
}

#[test]
fn the_server_begins_dtls_with_whoever_wants_to_be_its_server() {
    let mut call = Call::new(8);
    let alice = call.join("alice", publish().audio().video().passive());
    let bob = call.join("bob", publish().audio().video());
    call.run(secs(1));
    // Another offer does not change the roles.
    call[alice].restart_ice();
    assert_eq!(call.offer(alice, Publish::All), Ok(()));
    call.run(secs(4));
    assert_good(&call, alice, bob);
    assert_good(&call, bob, alice);
}

#[test]
fn whoever_joins_late_sees_a_picture_within_a_round_trip_and_a_key_frame() {
    for workers in [1, 2] {
        let mut call = Call::new(5).workers(workers);
        let alice = call.join("alice", publish().audio().video());
        call.run(secs(3));
        let bob = call.join("bob", watch());
        call.run(secs(1));
        let first = call.sees(bob, alice).first_frame().expect("a frame");
        // One round trip for ICE and two for DTLS at 40 ms; one for the key frame, which waits for
        // the camera's next picture, and is spread a little by the pacer.
        assert!(first < millis(120 + 40 + 34 + 30), "{first:?}");
        assert!(call.hears(bob, alice).first_packet() < Some(millis(150)));
    }
}

#[test]
fn sound_and_picture_are_in_step_after_the_first_reports() {
    let mut call = Call::new(6).workers(2);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video());
    call.run(secs(2));
    call.run(secs(10));
    for (viewer, publisher) in [(alice, bob), (bob, alice)] {
        let skew = call.lip_skew(viewer, publisher).expect("reports");
        assert!(skew < millis(20), "{skew:?}");
    }
}

#[test]
fn numbers_wrap_unnoticed() {
    let mut call = Call::new(7);
    let about_to_wrap = Beginning {
        sequence: 65_500,
        timestamp: u32::MAX - 100_000,
        picture_id: 0x7ff0,
    };
    let alice = call.join("alice", publish().audio().video().beginning(about_to_wrap));
    let bob = call.join("bob", watch());
    call.run(millis(500));
    call.run(secs(5));
    assert_good(&call, bob, alice);
    call.run(secs(1));
    assert!(call.lip_skew(bob, alice).expect("reports") < millis(20));
}

#[test]
fn the_servers_own_numbers_wrap_unnoticed() {
    let mut call = Call::new(82);
    // Twenty packets a frame: the server's 16 bits, which it begins in their lower half, are
    // through within two minutes.
    let alice = call.join("alice", publish().audio().video().frame_len(21_000));
    let bob = call.join("bob", watch().slots(1, 1));
    // So long it takes to find out that the way carries as much.
    call.run(secs(4));
    for _ in 0..24 {
        call.run(secs(5));
        assert_good(&call, bob, alice);
        if call[bob].slots.iter().any(|slot| slot.wraps() > 0) {
            call.run(secs(1));
            return assert_good(&call, bob, alice);
        }
    }
    panic!("no number has wrapped");
}

#[test]
fn lost_packets_of_video_are_repaired_and_sound_loses_no_more_than_the_links_do() {
    for workers in [1, 2] {
        let mut call = Call::new(9).workers(workers);
        let alice = call.join("alice", publish().audio().video());
        let bob = call.join("bob", publish().audio().video().firefox());
        for person in [alice, bob] {
            call.up(person, |link| link.loss = Loss::Random(0.1));
            call.down(person, |link| link.loss = Loss::Random(0.1));
        }
        // In the first seconds loss may be congestion, and less is sent.
        call.run(secs(6));
        call.run(secs(20));
        for (viewer, publisher) in [(alice, bob), (bob, alice)] {
            let seen = call.sees(viewer, publisher);
            let frozen: std::time::Duration = seen.freezes().iter().sum();
            assert!(seen.fps() > 29.0, "{} fps", seen.fps());
            assert!(frozen < millis(2500), "{:?}", seen.freezes());
            // Two links of 10 %: 19 %.
            let missing = call.hears(viewer, publisher).missing();
            assert!((0.14..0.24).contains(&missing), "{missing}");
        }
        let repaired: u64 = call[bob].slots.iter().map(|slot| slot.repaired).sum();
        assert!(repaired > 100, "{repaired}");
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

#[test]
fn rooms_do_not_hear_each_other() {
    use confab_sfu::api::Publish;
    use confab_sfu::types::RoomId;
    let mut call = Call::new(10);
    let alice = call.join("alice", publish().audio().video());
    let eve = call.join_room(RoomId(2), "eve", watch(), Publish::All);
    call.run(secs(2));
    assert_eq!(
        call.sees(eve, alice).frames() + call.hears(eve, alice).packets(),
        0
    );
    let secret = call.track(alice, confab_sfu::media::Kind::Video);
    let slot = call.slot_names(eve, confab_sfu::media::Kind::Video)[0];
    let refused = call.subscribe(eve, slot, confab_sfu::api::SlotChoice::Pin(secret));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn two_runs_with_one_seed_are_identical() {
    let run = |seed| {
        let mut call = Call::new(seed).workers(2);
        for name in ["alice", "bob", "carol"] {
            let person = call.join(name, publish().audio().simulcast());
            call.up(person, |link| link.loss = Loss::Random(0.05));
            call.down(person, |link| link.loss = Loss::Random(0.05));
            call.run(millis(700));
        }
        call.run(secs(3));
        call.log()
    };
    let (first, again, other) = (run(11), run(11), run(12));
    assert!(first.len() > 1000);
    if let Some((a, b)) = first.iter().zip(&again).find(|(a, b)| a != b) {
        panic!("first\n{a}\nthen\n{b}");
    }
    assert_eq!(first.len(), again.len());
    assert_ne!(first, other);
}
