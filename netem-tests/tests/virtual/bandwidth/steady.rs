//! The way to somebody is as it is for minutes, and so is what they see.

use super::*;
use confab_netem_tests::link::{GilbertElliott, Impairment, Loss};
use confab_netem_tests::virtual_time::call::millis;
use confab_netem_tests::virtual_time::client::watch;
use confab_sfu::types::EncodingIndex;

/// How long it may take until everyone is on the layer that suits them.
const SETTLED: Duration = secs(30);

#[test]
fn two_of_different_capacity_stay_on_their_layers_for_five_minutes() {
    let mut call = Call::new(10).workers(2);
    let alice = call.join("alice", camera());
    let bob = call.join("bob", watch());
    let carol = call.join("carol", watch());
    narrow(&mut call, bob, 10 * MBIT, millis(200));
    narrow(&mut call, carol, 400 * KBIT, millis(200));
    call.run(SETTLED);
    tell_decisions(&mut call, bob);
    tell_decisions(&mut call, carol);
    call.run(secs(300));
    for (viewer, encoding) in [(bob, 2), (carol, 0)] {
        tell(&mut call, viewer, alice);
        tell_decisions(&mut call, viewer);
        let seen = call.sees(viewer, alice);
        let shown = seen.encodings();
        assert!(shown.len() <= 3, "no more than two switches: {shown:?}");
        assert_eq!(shown.last(), Some(&encoding), "{shown:?}");
        assert!(seen.fps() > 29.0, "{}", seen.fps());
        assert!(longest_freeze(&call, viewer, alice) <= secs(1));
        assert!(call.hears(viewer, alice).missing() < 0.005);
    }
}

#[test]
fn two_in_one_household_share_its_link() {
    let mut call = Call::new(15);
    let alice = call.join("alice", camera());
    let bob = call.join("bob", watch());
    let carol = call.join("carol", watch());
    call.move_in(carol, bob);
    narrow(&mut call, bob, 3 * MBIT, millis(200));
    call.run(SETTLED);
    longest_wait(&mut call, bob);
    call.run(secs(60));
    let waited = longest_wait(&mut call, bob);
    for viewer in [bob, carol] {
        tell(&mut call, viewer, alice);
        tell_decisions(&mut call, viewer);
        let seen = call.sees(viewer, alice);
        let shown = seen.encodings();
        assert!(shown.iter().all(|&encoding| encoding >= 1), "{shown:?}");
        assert!(shown.len() <= 3, "no more than two switches: {shown:?}");
        assert!(seen.fps() > 29.0, "{}", seen.fps());
    }
    assert!(waited < millis(200), "{waited:?}");
}

#[test]
fn a_call_that_begins_under_loss_does_not_begin_small() {
    let mut late = Vec::new();
    for seed in 100..112 {
        let mut call = Call::new(seed);
        let alice = call.join("alice", camera());
        let bob = call.join("bob", watch().patient());
        for person in [alice, bob] {
            call.up(person, |link| link.loss = Loss::Random(0.3));
            call.down(person, |link| link.loss = Loss::Random(0.3));
        }
        // Until there is anything to send, which handshakes take longer or shorter for.
        while call[alice].packets_sent == 0 || call[bob].connected_at().is_none() {
            call.run(millis(20));
        }
        let seconds = (1..=60).find(|_| {
            call.run(secs(1));
            quality(&mut call, bob).estimate.as_bps() > MBIT
        });
        late.push(seconds.unwrap_or(u32::MAX));
    }
    late.sort_unstable();
    println!("seconds until 1 Mbit/s: {late:?}");
    assert!(late[late.len() - 2] <= 10, "{late:?}");
    assert!(late[late.len() / 2] <= 4, "{late:?}");
}

#[test]
fn bursts_on_a_link_without_limit_pause_nothing() {
    let loss = Loss::GilbertElliott(GilbertElliott::bursts(0.1, 4.0));
    for seed in 120..126 {
        let mut call = Call::new(seed);
        call.join("alice", publish().audio().video().frame_len(4200));
        let bob = call.join("bob", watch().fec().patient());
        call.up(bob, |link| link.loss = loss.clone());
        call.down(bob, |link| link.loss = loss.clone());
        call.run(secs(10));
        each_second(&mut call, 60, |call| {
            let quality = quality(call, bob);
            assert!(quality.slots[0].layer.is_some(), "seed {seed}: {quality:?}");
        });
    }
}

#[test]
fn loss_without_a_queue_is_no_congestion() {
    for seed in [20, 21, 22] {
        let mut call = Call::new(seed);
        let alice = call.join("alice", camera());
        let bob = call.join("bob", watch().patient());
        call.up(bob, |link| link.loss = Loss::Random(0.3));
        call.down(bob, |link| link.loss = Loss::Random(0.3));
        each_second(&mut call, 20, |call| tell(call, bob, alice));
        tell_decisions(&mut call, bob);
        each_second(&mut call, 40, |call| {
            tell(call, bob, alice);
            let estimate = quality(call, bob).estimate.as_bps();
            assert!(estimate > MBIT, "seed {seed}: {estimate}");
            let slots = quality(call, bob).slots;
            let encoding = slots[0].layer.map(|layer| layer.encoding);
            assert!(encoding >= Some(EncodingIndex(1)), "seed {seed}: {slots:?}");
        });
    }
}

#[test]
fn a_room_of_twelve_is_seen_to_move_over_two_megabits() {
    let mut call = Call::new(30).workers(2);
    let guests: Vec<Person> = (2..=12)
        .map(|n| call.join(&format!("guest {n}"), camera().slots(11, 11)))
        .collect();
    call.run(secs(5));
    let alice = call.join("alice", camera().slots(11, 11));
    narrow(&mut call, alice, 2 * MBIT, millis(200));
    call.run(secs(10));
    tell_decisions(&mut call, alice);
    call.run(secs(20));
    tell(&mut call, alice, guests[0]);
    for &guest in &guests {
        let (seen, heard) = (call.sees(alice, guest), call.hears(alice, guest));
        println!(
            "{}: {:.1} fps, {:?}, {:?}",
            call[guest].name,
            seen.fps(),
            seen.encodings(),
            seen.freezes()
        );
        assert!(seen.fps() > 5.0, "{}: {} fps", call[guest].name, seen.fps());
        assert!(longest_freeze(&call, alice, guest) <= secs(1));
        assert!(heard.missing() < 0.01, "{}", heard.missing());
        assert!(
            heard.longest_gap() < millis(200),
            "{:?}",
            heard.longest_gap()
        );
    }
}

#[test]
fn a_picture_of_one_size_is_repaired_from_the_start() {
    for seed in 70..80 {
        let mut call = Call::new(seed);
        // 600 kbit/s.
        let one_size = || publish().audio().video().frame_len(2500).patient();
        let alice = call.join("alice", one_size());
        let bob = call.join("bob", one_size());
        for person in [alice, bob] {
            let lossy = |link: &mut Impairment| {
                link.delay = millis(50);
                link.loss = Loss::Random(0.3);
            };
            call.up(person, lossy);
            call.down(person, lossy);
        }
        // DTLS takes its time.
        each_second(&mut call, 5, |call| tell(call, bob, alice));
        let mut frozen = Duration::ZERO;
        each_second(&mut call, 35, |call| {
            tell(call, bob, alice);
            let freezes = call.sees(bob, alice).freezes().into_iter();
            frozen += freezes.map(|freeze| freeze.min(secs(1))).sum::<Duration>();
        });
        tell_decisions(&mut call, bob);
        assert!(frozen < secs(8), "seed {seed}: {frozen:?}");
    }
}

#[test]
#[ignore = "seed 31: pictures are paused at 6.25 s and again at 14.14 s, when the estimate falls from 1918 to 1705 kbit/s"]
fn a_room_of_pictures_of_one_size_that_fit_is_seen_whole() {
    let mut call = Call::new(31);
    // 80 kbit/s: with all audio, nine tenths of what the way carries.
    let one_size = || publish().audio().video().frame_len(333).slots(1, 1);
    let guests: Vec<Person> = (2..=12)
        .map(|n| call.join(&format!("guest {n}"), one_size()))
        .collect();
    call.run(secs(5));
    let alice = call.join("alice", watch().slots(11, 11));
    narrow(&mut call, alice, 2 * MBIT, millis(200));
    call.run(secs(10));
    each_second(&mut call, 40, |call| tell(call, alice, guests[10]));
    tell_decisions(&mut call, alice);
    for slot in quality(&mut call, alice).slots {
        assert!(slot.switches <= 2, "{slot:?}");
    }
}

/// Three encodings of one size and rate, over a way that carries so much.
fn all_alike(seed: u64, rate: u64) {
    let mut call = Call::new(seed);
    let alice = call.join("alice", publish().audio().simulcast().all_alike());
    let bob = call.join("bob", watch());
    narrow(&mut call, bob, rate, millis(200));
    call.run(secs(5));
    call.run(secs(60));
    tell(&mut call, bob, alice);
    tell_decisions(&mut call, bob);
    let seen = call.sees(bob, alice);
    let shown = seen.encodings();
    assert!(shown.len() <= 3, "no more than two switches: {shown:?}");
    assert!(seen.fps() > 29.0, "{} fps", seen.fps());
}

#[test]
fn three_layers_that_are_one_do_not_flap() {
    all_alike(40, 10 * MBIT);
}

#[test]
fn three_layers_that_are_one_do_not_flap_where_hardly_one_fits() {
    all_alike(41, 650 * KBIT);
}
