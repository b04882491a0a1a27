//! One client misbehaves; the others do not notice.

use confab_netem_tests::virtual_time::call::{Call, Person, millis, secs};
use confab_netem_tests::virtual_time::client::send::Beginning;
use confab_netem_tests::virtual_time::client::{publish, watch};
use confab_sfu::api::SlotChoice;
use confab_sfu::inside::rtp::packet::PacketClass;
use confab_sfu::media::Kind;
use confab_sfu::types::{Mid, Ssrc};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Datagrams of an attack in a second.
const FLOOD: u64 = 5000;

/// A publisher whose numbers an attack can follow.
const FROM_ZERO: Beginning = Beginning {
    sequence: 0,
    timestamp: 0,
    picture_id: 0,
};

fn assert_undisturbed(call: &Call, people: [Person; 2]) {
    for (viewer, publisher) in [(people[0], people[1]), (people[1], people[0])] {
        let heard = call.hears(viewer, publisher);
        assert!(heard.longest_gap() < millis(100) && heard.missing() == 0.0);
        assert!(call.sees(viewer, publisher).freezes().is_empty());
    }
}

#[test]
fn spoofed_dtls_and_media_are_dropped_before_during_and_after_the_handshake() {
    let mut call = Call::new(60);
    let mallory = call.join("mallory", watch());
    call.overhear(mallory);
    call.run(secs(1));
    let class = |bytes: &Vec<u8>| PacketClass::of(bytes);
    let handshake: Vec<Vec<u8>> = call.overheard(mallory).to_vec();
    let handshake: Vec<_> = handshake
        .into_iter()
        .filter(|b| class(b) == PacketClass::Dtls)
        .collect();
    assert!(handshake.len() >= 2);

    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video());
    call.overhear(alice);
    let server = call[alice].server().expect("a server");
    let mut sent = 0;
    for ms in 0..5000_u64 {
        let elsewhere = ([203, 0, 113, (ms % 250) as u8], 9000).into();
        let own = call.overheard(alice).iter().rev();
        let media = own.clone().find(|b| class(b) == PacketClass::Rtp).cloned();
        let spoofed = match ms % 2 {
            0 => Some(handshake[ms as usize / 2 % handshake.len()].clone()),
            _ => media,
        };
        if let Some(spoofed) = spoofed {
            call.inject(elsewhere, server, spoofed);
            sent += 1;
        }
        call.run(millis(1));
    }
    assert_eq!(call.dropped("unvalidated_address"), sent);
    assert_eq!(
        call.strays(),
        0,
        "nobody is answered who has not been checked"
    );
    call.run(secs(2));
    assert_undisturbed(&call, [alice, bob]);
}

#[test]
fn a_handshake_begun_again_from_the_right_address_changes_nothing() {
    let mut call = Call::new(61);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video());
    call.overhear(alice);
    call.run(secs(2));
    let (home, server) = (call[alice].address, call[alice].server().expect("a server"));
    let overheard = call.overheard(alice).to_vec();
    let dtls = overheard
        .iter()
        .filter(|b| PacketClass::of(b) == PacketClass::Dtls);
    let mut forged: Vec<Vec<u8>> = dtls.cloned().collect();
    // A fatal alert in the clear.
    forged.push(vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40]);
    for _ in 0..50 {
        for datagram in &forged {
            call.inject(home, server, datagram.clone());
        }
        call.run(millis(20));
    }
    call.run(secs(2));
    assert!(call.gone(alice).is_none());
    assert_undisturbed(&call, [alice, bob]);
}

#[test]
fn replayed_media_is_dropped() {
    let mut call = Call::new(62);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video());
    call.run(secs(1));
    call.overhear(alice);
    call.run(secs(1));
    let (home, server) = (call[alice].address, call[alice].server().expect("a server"));
    let media: Vec<Vec<u8>> = call
        .overheard(alice)
        .iter()
        .filter(|b| matches!(PacketClass::of(b), PacketClass::Rtp | PacketClass::Rtcp))
        .cloned()
        .collect();
    // What is under way still arrives first.
    call.run(millis(20));
    let forwarded = call.stats().total().rtp_received;
    for datagram in &media {
        call.inject(home, server, datagram.clone());
    }
    assert_eq!(call.stats().total().rtp_received, forwarded);
    assert_eq!(call.dropped("replayed"), media.len() as u64);
    call.run(secs(2));
    assert_undisturbed(&call, [alice, bob]);
}

/// Changes a few bytes, or the length.
fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..8) {
        let at = rng.random_range(0..bytes.len().max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = rng.random();
        }
    }
    match rng.random_range(0..8) {
        0 => bytes.truncate(rng.random_range(0..=bytes.len())),
        1 => bytes.extend(std::iter::repeat_n(
            rng.random::<u8>(),
            rng.random_range(0..64),
        )),
        _ => {}
    }
}

/// What an attacker forges packets of: a stream that she may send.
struct Stream {
    ssrc: Ssrc,
    mid: Mid,
    payload_types: [u8; 2],
    next: u16,
}

/// A packet that has the right names and nonsense in it.
fn forge_rtp(rng: &mut StdRng, stream: &mut Stream) -> Vec<u8> {
    stream.next = stream.next.wrapping_add(rng.random_range(0..3));
    let payload_type = match rng.random_range(0..4) {
        0 => rng.random_range(35..128),
        _ => stream.payload_types[rng.random_range(0..2)],
    };
    let mut plain = vec![0x90, rng.random::<u8>() & 0x80 | payload_type];
    plain.extend_from_slice(&stream.next.to_be_bytes());
    plain.extend_from_slice(&rng.random::<u32>().to_be_bytes());
    plain.extend_from_slice(&stream.ssrc.0.to_be_bytes());
    let name = stream.mid.as_bytes();
    plain.extend_from_slice(&[0xbe, 0xde, 0, 2, 0x40 | (name.len() as u8 - 1)]);
    plain.extend_from_slice(name);
    plain.resize(24, 0);
    plain.extend((0..rng.random_range(0..200)).map(|_| rng.random::<u8>()));
    plain
}

/// Feedback with the right names and nonsense in it.
fn forge_rtcp(rng: &mut StdRng, own: Ssrc, media: Ssrc) -> Vec<u8> {
    let words: u16 = rng.random_range(2..40);
    let mut plain = vec![0x80 | rng.random_range(0..32), rng.random_range(200..208)];
    plain.extend_from_slice(&words.to_be_bytes());
    plain.extend_from_slice(&own.0.to_be_bytes());
    plain.extend_from_slice(&media.0.to_be_bytes());
    plain.extend((0..(words - 2) * 4).map(|_| rng.random::<u8>()));
    if rng.random_bool(0.2) {
        let (prefix, mut rest) = (plain[..8].to_vec(), plain.split_off(8));
        mutate(rng, &mut rest);
        plain = [prefix, rest].concat();
    }
    plain
}

#[test]
fn garbage_of_a_joined_client_disturbs_nobody() {
    let mut call = Call::new(63).workers(2);
    let alice = call.join("alice", publish().audio().video().slots(1, 1));
    let bob = call.join("bob", publish().audio().video().slots(1, 1));
    let setup = publish().audio().simulcast().beginning(FROM_ZERO);
    let mallory = call.join("mallory", setup.tolerant());
    let victim = call.join("victim", watch().slots(1, 1).tolerant());
    call.overhear(mallory);
    call.run(secs(1));
    for kind in [Kind::Audio, Kind::Video] {
        let (slot, track) = (call.slot_names(victim, kind)[0], call.track(mallory, kind));
        assert!(call.subscribe(victim, slot, SlotChoice::Pin(track)).is_ok());
    }
    call.run(secs(1));
    let datagrams = call.overheard(mallory).to_vec();
    let slots: Vec<Ssrc> = call[mallory].slots.iter().map(|slot| slot.ssrc).collect();
    let mut streams = Vec::new();
    for source in &mut call[mallory].sources {
        for encoding in &mut source.encodings {
            encoding.is_alive = false;
            streams.push(Stream {
                ssrc: encoding.ssrc,
                mid: source.mid,
                payload_types: [
                    source.payload_types.0,
                    source.payload_types.1.unwrap_or_default(),
                ],
                next: 1000,
            });
        }
    }
    let mut rng = StdRng::seed_from_u64(63);
    let mut longest = millis(0);
    for _ in 0..4000 {
        for _ in 0..FLOOD / 1000 {
            match rng.random_range(0..4) {
                // As an outsider would: what does not authenticate.
                0 => {
                    let mut bytes = datagrams[rng.random_range(0..datagrams.len())].clone();
                    mutate(&mut rng, &mut bytes);
                    call[mallory].send_raw(bytes);
                }
                // With her own keys: what authenticates and is nonsense.
                1 | 2 => {
                    let at = rng.random_range(0..streams.len());
                    let plain = forge_rtp(&mut rng, &mut streams[at]);
                    call[mallory].send_plain_rtp(&plain, 0);
                }
                _ => {
                    let media = slots[rng.random_range(0..slots.len())];
                    let plain = forge_rtcp(&mut rng, streams[0].ssrc, media);
                    call[mallory].send_plain_rtcp(&plain);
                }
            }
        }
        call.run(millis(1));
        for (listener, speaker) in [(alice, bob), (bob, alice)] {
            longest = longest.max(call.hears(listener, speaker).longest_gap());
        }
    }
    assert!(longest < millis(100), "{longest:?}");
    // It was not all turned away at the door.
    let total = call.stats().total();
    let watched = call.peer_stats(victim).expect("a victim").sent;
    let forwarded: u64 = watched.iter().map(|stream| stream.packets).sum();
    assert!(forwarded > 1000, "{forwarded}: {total:?}");
    for reason in [
        "not_authentic",
        "rtcp_malformed",
        // Retransmissions on the SSRC of the media among them.
        "rtp_payload_type",
        "rtp_malformed_payload",
        "nack_unanswered",
    ] {
        assert!(call.dropped(reason) > 10, "{reason}: {total:?}");
    }
    call.run(secs(2));
    assert_undisturbed(&call, [alice, bob]);
}

#[test]
fn a_storm_of_key_frame_requests_is_two_a_second() {
    for workers in [1, 2] {
        let mut call = Call::new(64).workers(workers);
        let alice = call.join("alice", publish().audio().video());
        let stormers = ["bob", "carol", "dave"].map(|name| call.join(name, watch().slots(1, 1)));
        call.run(secs(2));
        let began = call.now();
        for ms in 0..5000_u64 {
            for stormer in stormers {
                let ssrc = call[stormer].slots[1].ssrc;
                let number = ms as u8;
                call[stormer].send_rtcp(|writer| match ms % 2 {
                    0 => writer.picture_loss(Ssrc(1), ssrc),
                    _ => writer.full_intra_request(Ssrc(1), &[(ssrc, number)]),
                });
            }
            call.run(millis(1));
        }
        let requests = &call[alice].source(Kind::Video).encodings[0].key_frame_requests;
        let requests: Vec<_> = requests.iter().filter(|&&at| at >= began).collect();
        assert!((9..=11).contains(&requests.len()), "{}", requests.len());
        let spaced = requests
            .windows(2)
            .all(|pair| *pair[1] - *pair[0] >= millis(500));
        assert!(spaced, "{requests:?}");
        call.run(secs(1));
        assert!(call.sees(stormers[0], alice).freezes().is_empty());
    }
}

#[test]
fn a_storm_of_nacks_gets_a_share_of_the_media_and_nobody_else_feels_it() {
    let mut call = Call::new(66);
    let alice = call.join("alice", publish().audio().video());
    let bob = call.join("bob", publish().audio().video());
    let mallory = call.join("mallory", watch().slots(1, 1));
    call.run(secs(2));
    let before = call.stats().total().repair_sent.rtx;
    let packets_before = call[mallory].slots[1].packets;
    for _ in 0..5000 {
        let slot = &call[mallory].slots[1];
        let (ssrc, newest) = (slot.ssrc, slot.newest());
        // Everything of the last second, and what was never sent.
        let lost: Vec<u16> = (0..200)
            .map(|back| newest.wrapping_add(20) - back)
            .collect();
        call[mallory].send_rtcp(|writer| writer.nack(Ssrc(1), ssrc, &lost));
        call.run(millis(1));
    }
    let resent = call.stats().total().repair_sent.rtx - before;
    let packets = call[mallory].slots[1].packets - packets_before;
    assert!(resent > 100, "{resent}");
    // As much as was sent anyway, and what may be sent at once: 128 KiB.
    assert!(resent <= packets + 250, "{resent} for {packets}");
    assert!(call.dropped("nack_unanswered") > 100_000);
    assert_undisturbed(&call, [alice, bob]);
}

#[test]
fn retransmissions_of_what_was_never_missing_go_nowhere() {
    let mut call = Call::new(67);
    // With slots for each other alone: what mallory says of herself is hers.
    let alice = call.join("alice", publish().audio().video().slots(1, 1));
    let bob = call.join("bob", publish().audio().video().slots(1, 1));
    let setup = publish().audio().video().beginning(FROM_ZERO);
    let mallory = call.join("mallory", setup.tolerant());
    call.run(secs(2));
    let before = call.stats().total().packets_repaired.rtx;
    let source = call[mallory].source(Kind::Video);
    let rtx = source.encodings[0].rtx_ssrc.expect("RTX");
    let payload_type = source.payload_types.1.expect("RTX");
    for n in 1000..11_000_u16 {
        let mut plain = vec![0x80, payload_type];
        plain.extend(n.to_be_bytes());
        plain.extend(u32::from(n).to_be_bytes());
        plain.extend(rtx.0.to_be_bytes());
        // What came long ago, and what never was.
        plain.extend(n.wrapping_mul(7919).to_be_bytes());
        plain.extend([0x10; 40]);
        call[mallory].send_plain_rtp(&plain, 0);
        if n % 2 == 0 {
            call.run(millis(1));
        }
    }
    assert!(
        call.dropped("rtx_unneeded") > 9000,
        "{:?}",
        call.stats().total()
    );
    assert!(call.stats().total().packets_repaired.rtx - before < 1000);
    assert_undisturbed(&call, [alice, bob]);
}

#[test]
fn a_packet_that_belongs_nowhere_does_not_keep_the_worker_awake() {
    let mut call = Call::new(65);
    let mallory = call.join("mallory", publish().simulcast());
    for encoding in &mut call[mallory].source(Kind::Video).encodings {
        encoding.is_alive = false;
    }
    call.run(secs(1));
    // A transport-wide sequence number, and nothing that says which stream it is.
    let mut packet = vec![0x90, 127, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
    packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x31, 0, 7, 0, 1, 2, 3, 4]);
    call[mallory].send_plain_rtp(&packet, 0);
    call.run(secs(1));
    assert_eq!(call.dropped("rtp_unknown_ssrc"), 1);
}
