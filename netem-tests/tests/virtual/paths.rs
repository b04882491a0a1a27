//! Somebody listens on the way or forges addresses: nobody else's media goes there, and nobody falls
//! silent. Clients that move are followed all the same.

use std::collections::HashMap;
use std::net::SocketAddr;

use confab_netem_tests::link::Loss;
use confab_netem_tests::virtual_time::call::{Call, Person, millis, secs};
use confab_netem_tests::virtual_time::client::send::Beginning;
use confab_netem_tests::virtual_time::client::{Setup, publish, watch};
use confab_sfu::api::Publish;
use confab_sfu::inside::rtp::packet::PacketClass;
use confab_sfu::media::{ExtensionMap, Kind};
use confab_sfu::types::Ssrc;

/// Where nobody of the call is.
const ELSEWHERE: ([u8; 4], u16) = ([203, 0, 113, 9], 9000);

/// Bytes of the headers of IPv4 and UDP.
const HEADERS: usize = 28;

fn server(call: &Call, person: Person) -> SocketAddr {
    call[person].server().expect("a server")
}

fn remote(call: &mut Call, person: Person) -> SocketAddr {
    let stats = call.peer_stats(person).expect("a peer");
    stats.remote_address.expect("an address")
}

fn is_check(bytes: &[u8]) -> bool {
    PacketClass::of(bytes) == PacketClass::Stun && bytes[..2] == [0, 1]
}

fn assert_undisturbed(call: &Call, people: [Person; 2]) {
    for (viewer, publisher) in [(people[0], people[1]), (people[1], people[0])] {
        let heard = call.hears(viewer, publisher);
        assert!(
            heard.longest_gap() < millis(100),
            "{:?}",
            heard.longest_gap()
        );
        assert!(heard.missing() == 0.0, "{}", heard.missing());
        let freezes = call.sees(viewer, publisher).freezes();
        assert!(freezes.is_empty(), "{freezes:?}");
    }
}

/// Runs the call, and sends each check of somebody's from elsewhere too, so much later.
fn repeat_checks(call: &mut Call, of: Person, late: u64, seconds: u64) {
    let server = server(call, of);
    let mut waiting: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
    let mut known = call.overheard(of).len();
    let end = seconds * 1000;
    for ms in 0..end {
        call.continue_for(millis(1));
        let fresh = call.overheard(of)[known..].iter();
        let checks: Vec<_> = fresh.filter(|bytes| is_check(bytes)).cloned().collect();
        known = call.overheard(of).len();
        waiting.entry(ms + late).or_default().extend(checks);
        for check in waiting.remove(&ms).unwrap_or_default() {
            call.inject(ELSEWHERE.into(), server, check);
        }
    }
}

#[test]
fn an_address_that_somebody_else_claims_stays_with_whose_media_comes_from_it() {
    for (unanswering, seed) in [(false, 160), (true, 161)] {
        let setup = match unanswering {
            true => publish().audio().video().unanswering(),
            false => publish().audio().video(),
        };
        let mut call = Call::new(seed);
        let people = ["alice", "bob"].map(|name| call.join(name, setup.clone()));
        let mallory = call.join("mallory", publish().audio().slots(0, 0));
        call.run(secs(2));
        let (home, own) = (call[people[1]].address, call[mallory].address);
        let server = server(&call, mallory);
        call.mark();
        for _ in 0..500 {
            let check = call[mallory].check().expect("a check");
            call.inject(home, server, check);
            call.continue_for(millis(10));
        }
        assert_undisturbed(&call, people);
        assert_eq!(call.dropped("stun_path_of_another"), 500);
        assert_eq!(call.dropped("not_authentic"), 0);
        assert_eq!(remote(&mut call, people[1]), home);
        assert_eq!(remote(&mut call, mallory), own);
    }
}

#[test]
fn whoever_sends_nothing_but_checks_keeps_an_address_too() {
    let mut call = Call::new(162);
    let bob = call.join("bob", watch());
    let mallory = call.join("mallory", publish().audio().slots(0, 0));
    call.overhear(mallory);
    call.run(secs(2));
    let (home, server) = (call[bob].address, server(&call, mallory));
    // Nothing comes from his address for a while, either.
    call.up(bob, |link| link.loss = Loss::Random(1.0));
    call.run(secs(6));
    for ms in 0..20_000 {
        let check = call[mallory].check().filter(|_| ms % 10 == 0);
        let mut media = call.overheard(mallory).iter().rev();
        let media = media
            .find(|b| PacketClass::of(b) == PacketClass::Rtp)
            .cloned();
        for forged in check.into_iter().chain(media.filter(|_| ms % 50 == 0)) {
            call.inject(home, server, forged);
        }
        if ms == 5000 {
            call.up(bob, |link| link.loss = Loss::Random(0.0));
        }
        call.run(millis(1));
    }
    assert_eq!(remote(&mut call, bob), home);
    let before = call.dropped("not_authentic");
    call.leave(mallory);
    let alice = call.join("alice", publish().audio());
    call.run(secs(1));
    call.run(secs(3));
    let heard = call.hears(bob, alice);
    assert!(heard.longest_gap() < millis(100) && heard.missing() == 0.0);
    assert_eq!(call.dropped("not_authentic"), before);
}

#[test]
fn whoever_repeats_a_check_gets_nothing_and_silences_nobody() {
    let mut call = Call::new(163);
    let people = ["alice", "bob"].map(|name| call.join(name, publish().audio().video()));
    call.overhear(people[1]);
    call.run(secs(2));
    call.mark();
    repeat_checks(&mut call, people[1], 30, 20);
    assert_undisturbed(&call, people);
    assert_eq!(call.strays(), 0);
    assert!(call.dropped("stun_repeated") >= 7);
    // All of them again, and again.
    let checks = call.overheard(people[1]).to_vec();
    let server = server(&call, people[1]);
    for check in checks
        .iter()
        .filter(|bytes| is_check(bytes))
        .cycle()
        .take(500)
    {
        call.inject(ELSEWHERE.into(), server, check.clone());
        call.continue_for(millis(10));
    }
    assert_undisturbed(&call, people);
    assert_eq!(call.strays(), 0);
}

#[test]
fn a_check_that_is_repeated_faster_than_it_arrives_silences_nobody_either() {
    let mut call = Call::new(164);
    let people = ["alice", "bob"].map(|name| call.join(name, publish().audio().video()));
    call.overhear(people[1]);
    // From the first one on.
    repeat_checks(&mut call, people[1], 0, 3);
    assert_eq!(remote(&mut call, people[1]), call[people[1]].address);
    call.mark();
    repeat_checks(&mut call, people[1], 0, 20);
    assert_undisturbed(&call, people);
    assert_eq!(remote(&mut call, people[1]), call[people[1]].address);
    // She is answered and asked, and sent nothing else.
    let checks = call
        .overheard(people[1])
        .iter()
        .filter(|b| is_check(b))
        .count();
    assert!(
        call.strays() <= 4 * checks as u64,
        "{} for {checks}",
        call.strays()
    );
    // And while he moves.
    let moved = call.rebind(people[1]);
    repeat_checks(&mut call, people[1], 0, 4);
    assert_eq!(remote(&mut call, people[1]), moved);
    call.mark();
    repeat_checks(&mut call, people[1], 0, 5);
    assert_undisturbed(&call, people);
}

/// Viewers that are there while addresses are forged, or not, and those that answer checks and do not.
fn viewers() -> [(bool, Setup); 4] {
    [
        (true, watch()),
        (true, watch().unanswering()),
        (false, watch()),
        (false, watch().unanswering()),
    ]
}

#[test]
fn a_forged_address_gets_three_times_what_was_forged() {
    for ((is_there, setup), seed) in viewers().into_iter().zip(165..) {
        let mut call = Call::new(seed);
        let alice = call.join("alice", publish().audio().video());
        let mallory = call.join("mallory", setup);
        call.run(secs(2));
        let server = server(&call, mallory);
        let mut forged = 0;
        if !is_there {
            call.vanish(mallory);
            call.run(secs(12));
        }
        call.mark();
        for _ in 0..3 {
            let check = call[mallory].check().expect("a check");
            forged += HEADERS + check.len();
            call.inject(ELSEWHERE.into(), server, check);
            call.continue_for(secs(6));
        }
        assert!(call.strays() > 0, "the client is answered");
        assert!(
            call.stray_bytes() <= 3 * forged,
            "{} for {forged}",
            call.stray_bytes()
        );
        if is_there {
            assert!(call.sees(mallory, alice).freezes().is_empty());
        }
    }
}

#[test]
fn srtp_from_a_forged_address_is_no_proof_either() {
    for ((is_there, setup), seed) in viewers().into_iter().zip(177..) {
        let mut call = Call::new(seed);
        let _alice = call.join("alice", publish().audio().video());
        let mallory = call.join("mallory", setup);
        call.overhear(mallory);
        call.run(secs(2));
        let server = server(&call, mallory);
        // What she makes meanwhile the server has never seen.
        call.up(mallory, |link| link.loss = Loss::Random(1.0));
        let held_from = call.overheard(mallory).len();
        call.run(secs(3));
        let held = call.overheard(mallory)[held_from..].to_vec();
        let is_rtcp = |bytes: &&Vec<u8>| PacketClass::of(bytes) == PacketClass::Rtcp;
        let mut held = held.iter().filter(is_rtcp);
        match is_there {
            true => call.up(mallory, |link| link.loss = Loss::Random(0.0)),
            false => call.vanish(mallory),
        }
        call.run(secs(if is_there { 1 } else { 9 }));
        call.mark();
        let mut forged = 0;
        for _ in 0..3 {
            let check = call[mallory].check().expect("a check");
            for bytes in [&check, held.next().expect("a report")] {
                forged += HEADERS + bytes.len();
                call.inject(ELSEWHERE.into(), server, bytes.clone());
                call.continue_for(secs(1));
            }
        }
        assert!(
            call.stray_bytes() <= 3 * forged,
            "{} for {forged}",
            call.stray_bytes()
        );
    }
}

#[test]
fn checks_of_the_past_are_no_consent() {
    let mut call = Call::new(169);
    let alice = call.join("alice", publish().audio());
    let bob = call.join("bob", watch());
    call.overhear(bob);
    call.run(secs(700));
    let checks: Vec<_> = call
        .overheard(bob)
        .iter()
        .filter(|b| is_check(b))
        .cloned()
        .collect();
    assert!(checks.len() > 256, "more than anybody remembers");
    let (home, server) = (call[bob].address, server(&call, bob));
    call.vanish(bob);
    let vanished = call.elapsed();
    for check in checks.iter().cycle().take(60) {
        call.inject(home, server, check.clone());
        call.run(secs(1));
    }
    let (gone, _) = call.gone(bob).expect("gone");
    assert!(gone <= vanished + secs(31), "{gone:?}");
    assert!(call.gone(alice).is_none());
}

#[test]
fn whoever_moves_is_followed_at_the_next_check() {
    let mut call = Call::new(170);
    let people = ["alice", "bob"].map(|name| call.join(name, publish().audio().video()));
    call.run(secs(3));
    for _ in 0..5 {
        let moved = call.rebind(people[1]);
        let check = call[people[1]].check().expect("a check");
        call[people[1]].send_raw(check);
        // It leaves with his next packet and arrives after 20 ms, and the answer to the server's own
        // after twice as long.
        call.run(millis(100));
        assert_eq!(remote(&mut call, people[1]), moved);
        call.run(secs(4));
        call.run(secs(1));
        assert_undisturbed(&call, people);
    }
}

#[test]
fn a_restart_on_another_network_is_followed_at_once() {
    let mut call = Call::new(172);
    let people = ["alice", "bob"].map(|name| call.join(name, publish().audio().video()));
    call.run(secs(3));
    let moved = call.rebind(people[1]);
    call[people[1]].restart_ice();
    assert_eq!(call.offer(people[1], Publish::All), Ok(()));
    call.mark();
    call.continue_for(millis(100));
    assert_eq!(remote(&mut call, people[1]), moved);
    call.continue_for(secs(1));
    assert!(call.hears(people[0], people[1]).longest_gap() < millis(100));
    assert!(call.hears(people[1], people[0]).longest_gap() < millis(200));
}

#[test]
fn what_was_held_back_of_a_former_ssrc_is_never_heard() {
    for (kind, simulcast, seed) in [
        (Kind::Audio, false, 173),
        (Kind::Video, false, 174),
        (Kind::Video, true, 175),
    ] {
        let beginning = Beginning {
            sequence: 100,
            timestamp: 0,
            picture_id: 0,
        };
        let setup = publish().audio().video().beginning(beginning);
        let setup = if simulcast { setup.simulcast() } else { setup };
        let mut call = Call::new(seed);
        let alice = call.join("alice", setup);
        let bob = call.join("bob", watch().tolerant());
        call.overhear(alice);
        call.run(secs(2));
        let (home, server) = (call[alice].address, server(&call, alice));
        // The last of the former stream never arrive.
        call.up(alice, |link| link.loss = Loss::Random(1.0));
        let held_from = call.overheard(alice).len();
        call.run(millis(500));
        call.up(alice, |link| link.loss = Loss::Random(0.0));
        let mut former = Vec::new();
        for (n, encoding) in call[alice].source(kind).encodings.iter_mut().enumerate() {
            former.push(encoding.ssrc);
            encoding.ssrc = Ssrc(0x1234_0000 + n as u32);
            encoding.rtx_ssrc = encoding.rtx_ssrc.map(|ssrc| Ssrc(!ssrc.0));
        }
        let is_former = |bytes: &&Vec<u8>| {
            let ssrc = bytes.get(8..12).and_then(|ssrc| ssrc.try_into().ok());
            let ssrc = ssrc.map(|ssrc| Ssrc(u32::from_be_bytes(ssrc)));
            PacketClass::of(bytes) == PacketClass::Rtp && ssrc.is_some_and(|s| former.contains(&s))
        };
        let all = call.overheard(alice).to_vec();
        let played: Vec<_> = all[..held_from].iter().filter(is_former).cloned().collect();
        let held: Vec<_> = all[held_from..].iter().filter(is_former).cloned().collect();
        assert!(held.len() >= 10);
        call.run(secs(4));
        call.run(secs(1));
        assert_heard(&call, bob, alice, kind);
        // While she says nothing, those and what has been heard before.
        for encoding in &mut call[alice].source(kind).encodings {
            encoding.is_alive = false;
        }
        call.run(secs(4));
        call.mark();
        for bytes in held.iter().chain(&played) {
            call.inject(home, server, bytes.clone());
            call.continue_for(millis(10));
        }
        let packets = match kind {
            Kind::Audio => call.hears(bob, alice).packets(),
            Kind::Video => call.sees(bob, alice).frames(),
        };
        assert_eq!(packets, 0, "{kind}");
        let refused = call.dropped("rtp_displaced_ssrc") + call.dropped("replayed");
        assert!(refused >= (held.len() + played.len()) as u64);
        for encoding in &mut call[alice].source(kind).encodings {
            encoding.is_alive = true;
        }
        call.run(secs(3));
        call.run(secs(1));
        assert_heard(&call, bob, alice, kind);
    }
}

fn assert_heard(call: &Call, listener: Person, speaker: Person, kind: Kind) {
    match kind {
        Kind::Audio => assert!(call.hears(listener, speaker).longest_gap() < millis(100)),
        Kind::Video => {
            let fps = call.sees(listener, speaker).fps();
            assert!(fps > 29.0, "{fps}");
        }
    }
}

#[test]
fn nothing_of_an_m_line_that_is_no_more_takes_the_place_of_another() {
    let mut call = Call::new(181);
    let alice = call.join("alice", publish().audio());
    let bob = call.join("bob", watch().tolerant());
    call.overhear(alice);
    call.run(secs(2));
    let (home, server) = (call[alice].address, server(&call, alice));
    // Nothing says which m-line packets are of, and the last of this one never arrive.
    let mid = call[alice].source(Kind::Audio).mid;
    call[alice].source(Kind::Audio).map = ExtensionMap::default();
    call.up(alice, |link| link.loss = Loss::Random(1.0));
    let held_from = call.overheard(alice).len();
    call.run(millis(500));
    let held = call.overheard(alice)[held_from..].to_vec();
    call.up(alice, |link| link.loss = Loss::Random(0.0));
    call[alice].stop_line(mid);
    assert_eq!(call.offer(alice, Publish::All), Ok(()));
    call.run(secs(1));
    call[alice].add_source(Kind::Audio, false);
    assert_eq!(call.offer(alice, Publish::All), Ok(()));
    call.run(secs(3));
    call.mark();
    let is_rtp = |bytes: &&Vec<u8>| PacketClass::of(bytes) == PacketClass::Rtp;
    for bytes in held.iter().filter(is_rtp) {
        call.inject(home, server, bytes.clone());
        call.continue_for(millis(10));
    }
    call.continue_for(secs(2));
    assert_heard(&call, bob, alice, Kind::Audio);
    assert!(call.dropped("rtp_displaced_ssrc") >= 10);
}

#[test]
fn nobody_who_joins_is_sent_less_than_there_is() {
    for (setup, seed) in [
        (publish().audio().video(), 182),
        (publish().audio().slots(0, 0), 183),
        (watch(), 184),
    ] {
        let mut call = Call::new(seed);
        for name in ["alice", "bob"] {
            call.join(name, setup.clone());
        }
        call.run(secs(3));
        assert_eq!(call.dropped("send_unproved_path"), 0);
    }
}

#[test]
fn a_wrapped_stream_survives_the_replay_of_all_that_it_was() {
    let beginning = Beginning {
        sequence: 65_400,
        timestamp: 0,
        picture_id: 0,
    };
    let mut call = Call::new(176);
    let alice = call.join("alice", publish().audio().video().beginning(beginning));
    let bob = call.join("bob", publish().audio().video());
    call.overhear(alice);
    call.run(secs(6));
    let (home, server) = (call[alice].address, server(&call, alice));
    let all = call.overheard(alice).to_vec();
    call.run(millis(20));
    call.mark();
    let forwarded = call.stats().total().rtp_received;
    let class = |bytes: &Vec<u8>| PacketClass::of(bytes);
    let media = all
        .iter()
        .filter(|b| class(b) == PacketClass::Rtp || class(b) == PacketClass::Rtcp);
    for datagram in media.clone() {
        call.inject(home, server, datagram.clone());
    }
    assert_eq!(call.stats().total().rtp_received, forwarded);
    assert_eq!(
        call.dropped("replayed") + call.dropped("not_authentic"),
        media.count() as u64
    );
    call.continue_for(secs(3));
    assert_undisturbed(&call, [alice, bob]);
}
