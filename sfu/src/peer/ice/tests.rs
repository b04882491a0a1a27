//! An agent and the client it talks to: checks, nominations, restarts, silence, and what is forged.
//! `proof.rs` is about what the client has proved, and what others cannot.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::net::SocketAddr;

use confab_sockets::memory::Relayed;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::path::ConnectionId;

mod proof;

const CLIENT: &str = "CLNT";

fn client() -> Credentials {
    Credentials {
        ufrag: CLIENT.to_owned(),
        pwd: "0123456789012345678901".to_owned(),
    }
}

fn addr(port: u16) -> Path {
    Path::from(SocketAddr::from(([192, 0, 2, 1], port)))
}

fn connection(n: u64, port: u16) -> Path {
    Path::Tcp {
        connection: ConnectionId(n),
        address: addr(port).address(),
    }
}

/// An agent and the client it talks to.
struct Story {
    ice: IceLite,
    now: Instant,
    /// What the client believes the server's credentials to be.
    server: Credentials,
    reply: Vec<u8>,
    transaction: u128,
    /// What the server has asked, the last first.
    asked: Vec<(Path, Vec<u8>)>,
    rng: StdRng,
    /// Nothing has come from the client for a while.
    is_silent: bool,
}

impl Story {
    fn new() -> Self {
        let now = Instant::now();
        let server = Credentials::generate(&mut StdRng::seed_from_u64(1));
        Story {
            ice: IceLite::new(now, server.clone(), &client()),
            now,
            server,
            reply: Vec::new(),
            transaction: 0,
            asked: Vec::new(),
            rng: StdRng::seed_from_u64(9),
            is_silent: false,
        }
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn request(&mut self, use_candidate: bool) -> Vec<u8> {
        self.request_of(use_candidate, 0x6e7f_00ff)
    }

    fn request_of(&mut self, use_candidate: bool, priority: u32) -> Vec<u8> {
        self.transaction += 1;
        BindingRequest {
            username: &format!("{}:{CLIENT}", self.server.ufrag),
            password: &self.server.pwd,
            transaction: self.transaction,
            priority,
            use_candidate,
            tie_breaker: 7,
        }
        .to_bytes()
        .unwrap()
    }

    /// Lets time pass up to then, with all that is due. Says when consent was lost, if it was.
    fn wait_until(&mut self, end: Instant) -> Option<Instant> {
        while let Some(due) = self.ice.next_deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let lost = self.ice.handle_timeout(self.now);
            self.poll_checks();
            if lost.is_some() {
                return Some(self.now);
            }
        }
        self.now = end;
        None
    }

    fn poll_checks(&mut self) {
        while let Some(asked) = self.ice.poll_check(self.now, &mut self.rng) {
            self.asked.insert(0, asked);
        }
    }

    fn handle(&mut self, port: u16, packet: &[u8]) -> Result<Checked, StunDrop> {
        let checked = self.ice.handle_stun(
            self.now,
            addr(port),
            packet,
            self.is_silent,
            &mut self.reply,
        );
        self.poll_checks();
        checked
    }

    fn check(&mut self, port: u16, use_candidate: bool) -> Checked {
        let packet = self.request(use_candidate);
        self.take(port, &packet)
    }

    /// A check that nominates a candidate of this priority.
    fn nominate_of(&mut self, port: u16, priority: u32) -> Checked {
        let packet = self.request_of(true, priority);
        self.take(port, &packet)
    }

    fn take(&mut self, port: u16, packet: &[u8]) -> Checked {
        let checked = self.handle(port, packet).unwrap();
        assert_eq!(
            parse_binding_success(&self.reply, &self.server.pwd),
            Some(addr(port).address()),
            "a valid check is answered with the address it came from"
        );
        assert!(self.ice.is_validated(addr(port)));
        checked
    }

    fn ping(&mut self, port: u16) -> Checked {
        self.check(port, false)
    }

    fn nominate(&mut self, port: u16) -> Checked {
        self.check(port, true)
    }

    fn restart(&mut self, seed: u64) {
        self.server = Credentials::generate(&mut StdRng::seed_from_u64(seed));
        self.ice.restart(self.now, self.server.clone(), &client());
    }

    /// The error code of the answer, if there is an answer.
    fn answered_error(&self) -> Option<u16> {
        let message = stun_types::message::Message::from_bytes(&self.reply).ok()?;
        let code = message
            .attribute::<stun_types::attribute::ErrorCode>()
            .ok()?;
        Some(code.code())
    }
}

#[test]
fn the_first_check_connects_and_a_nomination_decides() {
    let mut story = Story::new();
    assert_eq!(story.ice.selected(), None);
    let first = story.ping(1000);
    assert_eq!((first.is_new, first.selected), (true, Some(addr(1000))));
    assert_eq!(
        story.ping(2000).selected,
        None,
        "not nominated, so the first stays"
    );
    assert_eq!(story.nominate(2000).selected, Some(addr(2000)));
    assert_eq!(story.nominate(2000), Checked::default());
    assert_eq!(
        story.nominate(1000).selected,
        Some(addr(1000)),
        "the latest nomination counts"
    );
}

#[test]
fn a_rebound_client_is_followed_at_its_next_nominating_check() {
    let mut story = Story::new();
    story.nominate(1000);
    story.wait(2);
    assert!(!story.ice.is_validated(addr(6666)));
    let moved = story.nominate(6666);
    assert_eq!((moved.is_new, moved.selected), (true, Some(addr(6666))));
}

#[test]
fn a_client_that_nominates_once_is_followed_when_its_old_address_is_silent() {
    let mut story = Story::new();
    story.nominate(1000);
    story.wait(2);
    story.ping(1000);
    story.wait(2);
    assert_eq!(story.ping(6666).selected, None, "1000 was heard 2 s ago");
    story.wait(2);
    assert_eq!(story.ping(6666).selected, Some(addr(6666)));
}

/// The paths that were selected one after the other while each of these was nominated twice a second.
fn nominate_all(story: &mut Story, seconds: u64, paths: &[(u16, u32)]) -> Vec<Path> {
    let mut selected = Vec::new();
    for _ in 0..2 * seconds {
        story.now += Duration::from_millis(500);
        for &(port, priority) in paths {
            selected.extend(story.nominate_of(port, priority).selected);
        }
    }
    selected
}

#[test]
fn of_ways_that_are_all_nominated_the_priority_decides_and_a_dead_one_gives_way() {
    let (host, reflexive, relayed) = ((1000, 300), (2000, 200), (3000, 100));
    for order in [
        [host, reflexive, relayed],
        [relayed, reflexive, host],
        [reflexive, host, relayed],
    ] {
        let mut story = Story::new();
        for (port, priority) in order {
            story.nominate_of(port, priority);
        }
        assert_eq!(story.ice.selected(), Some(addr(1000)), "{order:?}");
        assert_eq!(nominate_all(&mut story, 20, &order), [], "{order:?}");

        // Nothing comes from it any more.
        let moves = nominate_all(&mut story, 20, &[relayed, reflexive]);
        assert_eq!(moves, [addr(3000), addr(2000)]);
        let back = nominate_all(&mut story, 20, &order);
        assert_eq!(back, [addr(1000)]);
    }
}

#[test]
fn two_ways_of_one_candidate_do_not_take_turns() {
    let mut story = Story::new();
    let moves = nominate_all(&mut story, 20, &[(1000, 100), (2000, 100)]);
    assert_eq!(moves, [addr(1000), addr(2000)]);
}

/// libwebrtc checks every pair, and nominates the one that it sends to.
#[test]
fn a_client_that_decides_itself_is_followed_to_a_lower_priority_and_back() {
    let mut story = Story::new();
    for (to, other) in [(1000, 2000), (2000, 1000), (1000, 2000), (2000, 1000)] {
        story.wait(1);
        story.ping(to);
        let priority = u32::from(3000 - to);
        let checked = story.nominate_of(to, priority);
        assert!(story.ice.selected() == Some(addr(to)), "{to}: {checked:?}");
        assert_eq!(story.ping(other).selected, None);
        assert_eq!(story.nominate_of(to, priority).selected, None);
    }
    // A nomination holds until the client restarts ICE, and no longer.
    story.nominate_of(1000, 2000);
    story.restart(2);
    assert_eq!(story.nominate_of(3000, 1).selected, Some(addr(3000)));
}

#[test]
fn of_nominations_that_are_counted_the_last_one_counts() {
    let mut story = Story::new();
    let mut nominate = |port: u16, number: u32, priority: u32| {
        let username = format!("{}:{CLIENT}", story.server.ufrag);
        let packet = nomination_with(&story, &username, number, priority);
        story.handle(port, &packet).unwrap();
        story.ice.selected()
    };
    for (port, number, priority, selected) in [
        (1000, 1, 300, 1000),
        (2000, 2, 100, 2000),
        (1000, 1, 300, 2000),
        (3000, 2, 200, 3000),
        (1000, 3, 50, 1000),
    ] {
        let now = nominate(port, number, priority);
        assert_eq!(now, Some(addr(selected)), "{port} {number}");
    }
}

#[test]
fn after_a_silence_the_next_check_of_another_way_is_followed() {
    let mut story = Story::new();
    story.nominate(1000);
    assert_eq!(story.ping(2000).selected, None);
    story.is_silent = true;
    let again = story.ping(1000);
    assert_eq!(
        (again.selected, again.resumes),
        (None, false),
        "it was not the end of it"
    );
    story.is_silent = false;
    assert_eq!(story.ping(2000).selected, None);
    story.is_silent = true;
    let other = story.ping(2000);
    assert_eq!((other.selected, other.resumes), (Some(addr(2000)), true));
    story.is_silent = false;
    let back = story.nominate(1000);
    assert_eq!((back.selected, back.resumes), (Some(addr(1000)), false));
}

#[test]
fn udp_that_is_avoided_gets_no_answer_unless_there_is_nothing_else() {
    let mut story = Story::new();
    story.nominate(1000);
    story.ice.set_avoids_udp(true);
    let check = story.request(true);
    assert_eq!(story.handle(1000, &check), Err(StunDrop::AvoidedWay));
    assert_eq!(story.reply, []);
    assert_eq!(
        story.ice.selected(),
        Some(addr(1000)),
        "until there is another"
    );
    let relayed = Path::Relayed {
        relay: addr(3000).address(),
        media: addr(7000).address(),
        through: Relayed {
            allocation: 1,
            is_of_stream: true,
        },
    };
    for (n, path) in (1..).zip([connection(1, 1000), relayed]) {
        story.server = story.ice.local().clone();
        let check = story.request(true);
        let (now, reply) = (story.now, &mut story.reply);
        let checked = story.ice.handle_stun(now, path, &check, false, reply);
        assert_eq!(checked.unwrap().selected, Some(path), "{n}");
    }
    story.is_silent = true;
    assert_eq!(story.ping(1000).selected, Some(addr(1000)));
    story.is_silent = false;
    story.ice.set_avoids_udp(false);
    story.ping(1000);
}

#[test]
fn a_forged_check_moves_nothing() {
    let mut story = Story::new();
    story.nominate(1000);
    let mut forged = story.request(true);
    let last = forged.len() - 9;
    forged[last] ^= 1;
    let fingerprint = forged.len() - 8;
    let crc = stun_types::attribute::Fingerprint::compute(&[&forged[..fingerprint]]);
    for (i, (byte, mask)) in crc.iter().zip(0x5354_554e_u32.to_be_bytes()).enumerate() {
        forged[fingerprint + 4 + i] = byte ^ mask;
    }
    assert_eq!(story.handle(6666, &forged), Err(StunDrop::BadIntegrity));
    assert_eq!(story.answered_error(), Some(401));
    assert!(story.reply.len() < forged.len(), "no amplification");
    assert!(!story.ice.is_validated(addr(6666)));
    assert_eq!(story.ice.selected(), Some(addr(1000)));
}

/// A request by hand, so that it can be wrong in one way at a time.
fn request_with(
    story: &Story,
    username: &str,
    attribute: Option<(u16, &[u8])>,
    integrity: bool,
    fingerprint: bool,
) -> Vec<u8> {
    use stun_types::attribute::{RawAttribute, Username};
    use stun_types::message::*;
    let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
    message
        .add_attribute(&Username::new(username).unwrap())
        .unwrap();
    if let Some((kind, value)) = attribute {
        message
            .add_attribute(&RawAttribute::new(kind.into(), value))
            .unwrap();
    }
    if integrity {
        let key = stun::integrity_key(&story.server.pwd);
        message
            .add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1)
            .unwrap();
    }
    if fingerprint {
        message.add_fingerprint().unwrap();
    }
    message.finish()
}

/// A check that says which nomination it is.
fn nomination_with(story: &Story, username: &str, number: u32, priority: u32) -> Vec<u8> {
    use stun_types::attribute::{RawAttribute, Username};
    use stun_types::message::*;
    let (number, priority) = (number.to_be_bytes(), priority.to_be_bytes());
    let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
    message
        .add_attribute(&Username::new(username).unwrap())
        .unwrap();
    for (kind, value) in [
        (0x0024_u16, &priority[..]),
        (0x0025, &[]),
        (0xc001, &number),
    ] {
        message
            .add_attribute(&RawAttribute::new(kind.into(), value))
            .unwrap();
    }
    let key = stun::integrity_key(&story.server.pwd);
    message
        .add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1)
        .unwrap();
    message.add_fingerprint().unwrap();
    message.finish()
}

#[test]
fn each_defect_has_its_reason_and_its_answer() {
    let mut story = Story::new();
    let username = format!("{}:{CLIENT}", story.server.ufrag);
    let of_another = format!("{}:OTHR", story.server.ufrag);
    let good = story.request(false);
    let mut indication = good.clone();
    indication[1] = 0x11;
    let mut success = good.clone();
    success[0] = 1;
    let mut trailing = good.clone();
    trailing.extend([0; 4]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut long = good.clone();
    long.resize(2000, 0);
    long[2..4].copy_from_slice(&1980u16.to_be_bytes());
    let tie = 9u64.to_be_bytes();

    use StunDrop::*;
    let table = [
        (vec![], Malformed, None),
        (vec![0; 20], Malformed, None),
        (good[..good.len() - 4].to_vec(), Malformed, None),
        (trailing, Malformed, None),
        (long, Malformed, None),
        (indication, NotBindingRequest, None),
        (success, NotBindingRequest, None),
        (flipped, BadFingerprint, None),
        (
            request_with(&story, &username, None, true, false),
            BadFingerprint,
            None,
        ),
        (
            request_with(&story, &of_another, None, true, true),
            UnknownUsername,
            None,
        ),
        (
            request_with(&story, &username, None, false, true),
            NoIntegrity,
            Some(400),
        ),
        (
            request_with(&story, &username, Some((0x7777, &[1])), true, true),
            UnknownAttribute,
            Some(420),
        ),
        (
            request_with(&story, &username, Some((0x8029, &tie)), true, true),
            RoleConflict,
            Some(487),
        ),
    ];
    for (packet, drop, answer) in table {
        assert_eq!(story.handle(1000, &packet), Err(drop), "{packet:02x?}");
        assert_eq!(story.answered_error(), answer, "{drop:?}");
        assert_eq!(story.reply.is_empty(), answer.is_none(), "{drop:?}");
        assert_eq!(story.ice.selected(), None, "{drop:?}");
        assert!(!story.ice.is_validated(addr(1000)), "{drop:?}");
    }
    // An unknown attribute that is optional to comprehend is no defect.
    let optional = request_with(&story, &username, Some((0xc057, &[0; 4])), true, true);
    assert!(story.handle(1000, &optional).is_ok());
}

#[test]
fn many_unknown_attributes_still_fit_the_answer() {
    use stun_types::attribute::{RawAttribute, UnknownAttributes, Username};
    use stun_types::message::*;
    let mut story = Story::new();
    for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
        let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
        let username = format!("{}:{CLIENT}", story.server.ufrag);
        message
            .add_attribute(&Username::new(&username).unwrap())
            .unwrap();
        for kind in 0x7000..0x7020u16 {
            message
                .add_attribute(&RawAttribute::new(kind.into(), &[]))
                .unwrap();
        }
        let key = stun::integrity_key(&story.server.pwd);
        message
            .add_message_integrity_with_key(&key, algorithm)
            .unwrap();
        message.add_fingerprint().unwrap();
        let packet = message.finish();
        assert_eq!(story.handle(1000, &packet), Err(StunDrop::UnknownAttribute));
        let reply = Message::from_bytes(&story.reply).unwrap();
        assert_eq!(reply.validate_integrity_with_key(&key).unwrap(), algorithm);
        let unknown = reply.attribute::<UnknownAttributes>().unwrap();
        assert!(unknown.has_attribute(0x7000.into()) && unknown.has_attribute(0x7007.into()));
    }
}

#[test]
fn an_ipv6_client_gets_its_address_back() {
    let mut story = Story::new();
    let from: SocketAddr = "[2001:db8::7]:4000".parse().unwrap();
    let packet = story.request(true);
    let checked = story
        .ice
        .handle_stun(story.now, from.into(), &packet, false, &mut story.reply)
        .unwrap();
    assert_eq!(checked.selected, Some(from.into()));
    assert_eq!(
        parse_binding_success(&story.reply, &story.server.pwd),
        Some(from)
    );
}

#[test]
fn two_ways_of_one_address_are_two_and_a_closed_one_is_left_at_the_next_check() {
    let mut story = Story::new();
    story.nominate(1000);
    let (first, second) = (connection(1, 1000), connection(2, 1000));
    let check = |story: &mut Story, path| {
        let packet = story.request(true);
        let Story {
            ice, now, reply, ..
        } = story;
        ice.handle_stun(*now, path, &packet, false, reply).unwrap()
    };
    let moved = check(&mut story, first);
    assert_eq!((moved.is_new, moved.selected), (true, Some(first)));
    assert!(!story.ice.is_validated(second));
    story.ice.handle_closed(second);
    assert_eq!(story.ice.selected(), Some(first));
    story.ice.handle_closed(first);
    assert_eq!(story.ice.selected(), None);
    assert!(!story.ice.is_validated(first) && story.ice.is_validated(addr(1000)));
    assert_eq!(story.ping(1000).selected, Some(addr(1000)));
    assert_eq!(check(&mut story, second).selected, Some(second));
}

#[test]
fn consent_is_lost_after_thirty_silent_seconds_and_told_once() {
    let mut story = Story::new();
    story.nominate(1000);
    story.wait(29);
    assert_eq!(story.ice.handle_timeout(story.now), None);
    story.ping(1000);
    let deadline = story.now + CONSENT_TIMEOUT;
    assert_eq!(story.wait_until(deadline + CONSENT_TIMEOUT), Some(deadline));
    assert_eq!(story.ice.selected(), None);
    assert_eq!(story.ice.next_deadline(), None);
    assert_eq!(story.ice.handle_timeout(deadline), None);
}

#[test]
fn a_client_that_never_comes_is_lost_too() {
    let mut story = Story::new();
    story.wait(30);
    assert_eq!(story.ice.handle_timeout(story.now), Some(ConsentLost));
}

#[test]
fn an_unauthenticated_packet_does_not_prolong_consent() {
    let mut story = Story::new();
    story.nominate(1000);
    story.wait(29);
    let username = format!("{}:{CLIENT}", story.server.ufrag);
    let packet = request_with(&story, &username, None, false, true);
    assert_eq!(story.handle(1000, &packet), Err(StunDrop::NoIntegrity));
    story.wait(1);
    assert_eq!(story.ice.handle_timeout(story.now), Some(ConsentLost));
}

#[test]
fn after_a_restart_both_credentials_serve_until_the_new_ones_are_used() {
    let mut story = Story::new();
    story.nominate(1000);
    let old = story.server.clone();
    story.wait(1);
    story.restart(2);
    let new = story.server.clone();
    assert_eq!(
        story.ice.local_ufrags().collect::<Vec<_>>(),
        [&new.ufrag, &old.ufrag]
    );

    story.server = old;
    assert!(!story.ping(1000).restarted, "the old pair is still served");
    assert_eq!(story.ice.selected(), Some(addr(1000)));

    story.server = new;
    let first = story.nominate(3000);
    assert!(first.restarted);
    assert_eq!(first.selected, Some(addr(3000)));
    assert_eq!(
        story.ice.local_ufrags().collect::<Vec<_>>(),
        [&story.server.ufrag]
    );
    assert!(!story.nominate(3000).restarted);

    story.server = Credentials::generate(&mut StdRng::seed_from_u64(1));
    let late = story.request(true);
    assert_eq!(story.handle(1000, &late), Err(StunDrop::UnknownUsername));
}

#[test]
fn two_restarts_in_a_row_keep_the_credentials_that_were_in_use() {
    let mut story = Story::new();
    story.nominate(1000);
    let used = story.server.clone();
    story.restart(2);
    story.restart(3);
    story.server = used;
    story.ping(1000);
    assert_eq!(story.ice.local_ufrags().count(), 2);
}

#[test]
fn restarts_without_a_check_are_no_consent() {
    let mut story = Story::new();
    story.nominate(1000);
    let checked = story.now;
    let mut lost = None;
    for n in 1..200 {
        story.wait(1);
        story.restart(n);
        lost = lost.or(story.ice.handle_timeout(story.now));
        let is_within = story.now < checked + CONSENT_TIMEOUT;
        assert_eq!(story.ice.selected().is_some(), is_within);
        if lost.is_some() {
            assert!(story.now <= checked + 2 * CONSENT_TIMEOUT);
            return;
        }
    }
    panic!("consent was never lost");
}

#[test]
fn validated_addresses_are_bounded_and_the_selected_one_stays() {
    let mut story = Story::new();
    story.nominate(1000);
    for i in 0..MAX_VALIDATED as u16 - 1 {
        story.wait(1);
        story.nominate(1000);
        assert_eq!(story.ping(2000 + i).forgotten, None);
    }
    let next = story.ping(3000);
    assert_eq!(next.forgotten, Some(addr(2000)), "the longest silent one");
    assert!(!story.ice.is_validated(addr(2000)));
    assert_eq!(story.ice.validated().count(), MAX_VALIDATED);

    for port in 4000..4100 {
        story.ping(port);
    }
    assert_eq!(story.ice.validated().count(), MAX_VALIDATED);
    assert!(story.ice.is_validated(addr(1000)));
    assert_eq!(story.ice.selected(), Some(addr(1000)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_dropped(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut story = Story::new();
        prop_assert!(story.handle(1000, &packet).is_err());
        let _ = local_ufrag_of(&packet);
        let _ = parse_binding_success(&packet, "password");
    }

    #[test]
    fn mutated_checks_never_pass(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut story = Story::new();
        let original = story.request(true);
        let mut packet = original.clone();
        for (index, byte) in edits {
            let index = index.index(packet.len());
            packet[index] = byte;
        }
        if let Some(cut) = cut {
            packet.truncate(cut.index(packet.len()));
        }
        prop_assume!(packet != original);
        prop_assert!(story.handle(1000, &packet).is_err());
        prop_assert_eq!(story.ice.selected(), None);
    }
}
