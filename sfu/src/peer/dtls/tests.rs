//! Two endpoints, and what is lost, doubled or forged between them. `tests/dtls.rs` has other
//! implementations.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::collections::VecDeque;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::fingerprint::Hash;
use super::handshake::PATIENCE;
use super::message::{ClientHello, Extensions, ServerHello, kind};
use super::public_key::{ECDSA_SECP256R1_SHA256, SCHEMES};
use super::reassembly::{HANDSHAKE_HEADER_LEN, append};
use super::record::{RECORD_HEADER_LEN, Sender};
use super::suite::{DEFAULT_GROUP, GROUPS, KeyExchange};
use super::*;
use crate::api::DtlsFailure;
use crate::srtp::SrtpProfile;

const HANDSHAKE_RECORD: u8 = content::HANDSHAKE;

/// An endpoint with what it has said so far.
struct Side {
    endpoint: DtlsEndpoint,
    sent: VecDeque<Vec<u8>>,
    keys: Option<SrtpKeys>,
    closed: bool,
    error: Option<DtlsError>,
}

impl Side {
    fn new(endpoint: DtlsEndpoint) -> Self {
        Side {
            endpoint,
            sent: VecDeque::new(),
            keys: None,
            closed: false,
            error: None,
        }
    }

    fn poll(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                DtlsOutput::Packet(packet) => self.sent.push_back(packet),
                DtlsOutput::Connected(keys) => {
                    assert!(self.keys.replace(keys).is_none(), "connected once");
                }
                DtlsOutput::Closed => self.closed = true,
                DtlsOutput::ApplicationData(_) => panic!("nobody sent any"),
            }
        }
    }

    fn begin(&mut self, now: Instant) {
        self.endpoint.begin(now).unwrap();
        self.poll();
    }

    fn handle(&mut self, now: Instant, packet: &[u8]) {
        if let Err(error) = self.endpoint.handle_packet(now, packet) {
            self.error = Some(error);
        }
        self.poll();
    }

    fn timeout(&mut self, now: Instant) {
        if self.endpoint.next_deadline().is_some_and(|at| at <= now) {
            if let Err(error) = self.endpoint.handle_timeout(now) {
                self.error = Some(error);
            }
            self.poll();
        }
    }
}

/// A client and a server in virtual time, 10 ms apart.
struct Story {
    now: Instant,
    client: Side,
    server: Side,
    rng: StdRng,
}

impl Story {
    fn new() -> Self {
        let (ours, theirs) = (certificate(), certificate());
        let promised = vec![theirs.fingerprint().clone()];
        Self::with(&ours, &theirs, promised)
    }

    fn with(ours: &Certificate, theirs: &Certificate, promised: Vec<Fingerprint>) -> Self {
        let now = Instant::now();
        let expected = vec![ours.fingerprint().clone()];
        Story {
            now,
            client: Side::new(DtlsEndpoint::new(now, Role::Client, theirs, expected)),
            server: Side::new(DtlsEndpoint::new(now, Role::Server, ours, promised)),
            rng: StdRng::seed_from_u64(1),
        }
    }

    /// The client's first flight.
    fn client_hello(&mut self) -> Vec<u8> {
        self.client.begin(self.now);
        assert_eq!(self.client.sent.len(), 1);
        self.client.sent.pop_front().unwrap()
    }

    /// Delivers everything, and `forged` to whom the datagram of that number is for, before it.
    fn run_forging(&mut self, number: usize, forged: &[Vec<u8>]) {
        let mut count = 0;
        self.client.begin(self.now);
        for _ in 0..500 {
            self.client.timeout(self.now);
            self.server.timeout(self.now);
            self.now += Duration::from_millis(10);
            for is_up in [true, false] {
                let (from, to) = match is_up {
                    true => (&mut self.client, &mut self.server),
                    false => (&mut self.server, &mut self.client),
                };
                for packet in std::mem::take(&mut from.sent) {
                    if count == number {
                        forged.iter().for_each(|forged| to.handle(self.now, forged));
                    }
                    count += 1;
                    to.handle(self.now, &packet);
                }
            }
        }
    }

    fn run(&mut self, seconds: u64, loss: f64) {
        let end = self.now + Duration::from_secs(seconds);
        self.client.begin(self.now);
        while self.now < end {
            self.client.timeout(self.now);
            self.server.timeout(self.now);
            self.now += Duration::from_millis(10);
            for packet in std::mem::take(&mut self.client.sent) {
                if !self.rng.random_bool(loss) {
                    self.server.handle(self.now, &packet);
                }
            }
            for packet in std::mem::take(&mut self.server.sent) {
                if !self.rng.random_bool(loss) {
                    self.client.handle(self.now, &packet);
                }
            }
        }
    }

    fn assert_connected(&self) {
        assert!(self.client.error.is_none(), "{:?}", self.client.error);
        assert!(self.server.error.is_none(), "{:?}", self.server.error);
        let client = self.client.keys.as_ref().unwrap();
        let server = self.server.keys.as_ref().unwrap();
        assert_eq!(client.profile, server.profile);
        for (a, b) in [
            (client.local(), server.remote()),
            (client.remote(), server.local()),
        ] {
            assert_eq!((a.key, a.salt), (b.key, b.salt));
        }
        assert_ne!(client.local().key, client.remote().key);
    }
}

fn certificate() -> Certificate {
    Certificate::generate().unwrap()
}

#[test]
fn a_handshake_yields_the_same_keys_on_both_sides() {
    let mut story = Story::new();
    story.run(1, 0.0);
    story.assert_connected();
    let keys = story.server.keys.as_ref().unwrap();
    assert_eq!(keys.profile, SrtpProfile::Aes256Gcm);
    assert_eq!((keys.local().key.len(), keys.local().salt.len()), (32, 12));
    assert!(story.server.endpoint.is_connected());
    assert_eq!(story.server.endpoint.next_deadline(), None);
}

#[test]
fn a_handshake_takes_two_round_trips() {
    let mut story = Story::new();
    let start = story.now;
    story.client.begin(start);
    while story.server.keys.is_none() {
        story.client.timeout(story.now);
        story.now += Duration::from_millis(10);
        for packet in std::mem::take(&mut story.client.sent) {
            story.server.handle(story.now, &packet);
        }
        story.now += Duration::from_millis(10);
        for packet in std::mem::take(&mut story.server.sent) {
            story.client.handle(story.now, &packet);
        }
    }
    assert_eq!(story.now - start, Duration::from_millis(40));
}

#[test]
fn a_finished_message_that_was_lost_is_said_again_when_the_client_repeats_itself() {
    let mut story = Story::new();
    story.client.begin(story.now);
    while story.server.keys.is_none() {
        for packet in std::mem::take(&mut story.client.sent) {
            story.server.handle(story.now, &packet);
        }
        if story.server.keys.is_none() {
            for packet in std::mem::take(&mut story.server.sent) {
                story.client.handle(story.now, &packet);
            }
        }
    }
    story.server.sent.clear();
    assert!(story.client.keys.is_none());
    story.run(1, 0.0);
    story.assert_connected();
}

#[test]
fn sealed_records_that_overtake_the_others_are_kept_until_their_keys_are_known() {
    let mut story = Story::new();
    story.client.begin(story.now);
    let mut flights = Vec::new();
    while flights.len() < 2 {
        let flight = std::mem::take(&mut story.client.sent);
        flights.push(flight.clone());
        for packet in flight.iter().filter(|_| flights.len() < 2) {
            story.server.handle(story.now, packet);
        }
        for packet in std::mem::take(&mut story.server.sent) {
            story.client.handle(story.now, &packet);
        }
    }
    // Certificate, ClientKeyExchange, CertificateVerify, ChangeCipherSpec, Finished: last one first.
    let last_flight = &flights[1];
    let all: Vec<&[u8]> = last_flight
        .iter()
        .flat_map(|packet| records(packet))
        .map(|record| record.raw)
        .collect();
    assert_eq!(all.len(), 5);
    for record in all.into_iter().rev() {
        assert!(story.server.keys.is_none());
        story.server.handle(story.now, record);
    }
    story.run(1, 0.0);
    story.assert_connected();
}

#[test]
fn handshakes_survive_loss() {
    for seed in 0..20 {
        let mut story = Story::new();
        story.rng = StdRng::seed_from_u64(seed);
        story.run(29, 0.3);
        story.assert_connected();
    }
}

#[test]
fn a_certificate_that_the_sdp_did_not_promise_ends_it() {
    let (ours, theirs) = (certificate(), certificate());
    let other = certificate().fingerprint().clone();
    for promised in [vec![], vec![other.clone()]] {
        let mut story = Story::with(&ours, &theirs, promised);
        story.run(5, 0.0);
        assert!(matches!(
            story.server.error,
            Some(DtlsError::FingerprintMismatch)
        ));
        assert!(story.server.keys.is_none() && story.client.keys.is_none());
        assert!(!story.server.endpoint.is_connected());
        assert_eq!(story.server.endpoint.next_deadline(), None);
    }
    let promised = vec![other, theirs.fingerprint().clone()];
    let mut story = Story::with(&ours, &theirs, promised);
    story.run(5, 0.0);
    story.assert_connected();
}

#[test]
fn every_accepted_hash_function_verifies() {
    let (ours, theirs) = (certificate(), certificate());
    for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        let fingerprint = Fingerprint::of(hash, theirs.der());
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint.clone()));
        let mut story = Story::with(&ours, &theirs, vec![fingerprint]);
        story.run(1, 0.0);
        story.assert_connected();
    }
}

#[test]
fn fingerprints_are_parsed_strictly() {
    let good = certificate().fingerprint().to_string();
    assert!(good.starts_with("sha-256 ") && good.len() == 8 + 32 * 3 - 1);
    assert!(good.to_lowercase().parse::<Fingerprint>().is_ok());
    for bad in [
        "".to_owned(),
        "sha-256".to_owned(),
        good.replace("sha-256", "sha-1"),
        good.replace("sha-256", "sha-512"),
        good.replace(':', ""),
        format!("{good}:00"),
        good[..good.len() - 3].to_owned(),
        good.replacen(':', ":+", 1),
    ] {
        assert_eq!(bad.parse::<Fingerprint>(), Err(InvalidFingerprint), "{bad}");
    }
}

/// The profiles a ClientHello offers, by their numbers, in place of the engine's own three.
fn offer(mut hello: Vec<u8>, profiles: [u16; 3]) -> Vec<u8> {
    // use_srtp (14), 9 bytes: a list of 6 bytes, no MKI.
    let start = hello
        .windows(6)
        .position(|bytes| bytes == [0, 14, 0, 9, 0, 6])
        .unwrap()
        + 6;
    for (slot, profile) in hello[start..].chunks_exact_mut(2).zip(profiles) {
        slot.copy_from_slice(&profile.to_be_bytes());
    }
    hello
}

#[test]
fn gcm_is_chosen_whatever_the_clients_order() {
    const CM80: u16 = 1;
    const GCM128: u16 = 7;
    const GCM256: u16 = 8;
    const UNKNOWN: u16 = 0x55;
    for (offered, chosen) in [
        ([CM80, GCM256, GCM128], GCM256), // Chromium
        ([GCM256, GCM128, CM80], GCM256),
        ([CM80, GCM128, UNKNOWN], GCM128),
        ([UNKNOWN, CM80, UNKNOWN], CM80),
    ] {
        let mut story = Story::new();
        let hello = offer(story.client_hello(), offered);
        story.server.handle(story.now, &hello);
        let server_hello = story.server.sent.front().unwrap();
        // use_srtp with one profile.
        let start = server_hello
            .windows(6)
            .position(|bytes| bytes == [0, 14, 0, 5, 0, 2])
            .unwrap()
            + 6;
        assert_eq!(
            server_hello[start..start + 2],
            chosen.to_be_bytes(),
            "{offered:?}"
        );
    }
}

/// Replaces a part of a ClientHello by another of the same length.
fn replaced(mut hello: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = hello.windows(from.len()).position(|part| part == from);
    hello[at.unwrap()..][..to.len()].copy_from_slice(to);
    hello
}

/// A fatal alert in the clear.
fn fatal(number: u8) -> Vec<u8> {
    vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, number]
}

#[test]
fn a_hello_that_cannot_be_answered_is_refused_by_an_alert() {
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(Spoil, u8, DtlsFailure); 5] = [
        (
            |hello| offer(hello, [2, 5, 6]),
            alert::HANDSHAKE_FAILURE,
            DtlsFailure::NoSrtpProfile,
        ),
        (
            |hello| {
                let ours = [0xc0, 0x2b, 0xc0, 0x2c, 0xcc, 0xa9];
                replaced(hello, &ours, &[0xc0, 0x09, 0xc0, 0x0a, 0xc0, 0x23])
            },
            alert::HANDSHAKE_FAILURE,
            DtlsFailure::NoCipherSuite,
        ),
        (
            |hello| {
                replaced(
                    hello,
                    &[0, 10, 0, 29, 0, 23, 0, 24, 0, 25, 0, 21],
                    &[0, 10, 0, 30, 0, 1, 0, 2, 0, 3, 0, 21],
                )
            },
            alert::HANDSHAKE_FAILURE,
            DtlsFailure::NoCipherSuite,
        ),
        (
            |hello| replaced(hello, &[0, 26, 4, 3], &[0, 26, 2, 3]),
            alert::HANDSHAKE_FAILURE,
            DtlsFailure::NoCipherSuite,
        ),
        (
            |mut hello| {
                hello[26] = 0xff; // DTLS 1.0
                hello
            },
            alert::PROTOCOL_VERSION,
            DtlsFailure::NoCipherSuite,
        ),
    ];
    for (spoil, number, failure) in cases {
        let mut story = Story::new();
        let hello = spoil(story.client_hello());
        story.server.handle(story.now, &hello);
        assert!(story.server.error.is_none() && story.server.sent.is_empty());
        story.now += PATIENCE;
        story.server.timeout(story.now);
        let error = story.server.error.as_ref().unwrap();
        assert_eq!(story.server.sent, [fatal(number)], "{error}");
        assert_eq!(error.failure(), failure);
        // The client knows soon, and says nothing more.
        story.run(5, 0.0);
        assert!(matches!(story.client.error, Some(DtlsError::PeerAlert(n)) if n == number));
        assert_eq!(story.client.endpoint.next_deadline(), None);
    }
}

#[test]
fn whoever_shows_another_certificate_hears_so() {
    let (ours, theirs) = (certificate(), certificate());
    let mut story = Story::with(&ours, &theirs, vec![ours.fingerprint().clone()]);
    story.run(5, 0.0);
    assert!(matches!(
        story.client.error,
        Some(DtlsError::PeerAlert(alert::BAD_CERTIFICATE))
    ));
    // The other way round.
    let mut story = Story::with(&ours, &theirs, vec![theirs.fingerprint().clone()]);
    let expected = vec![theirs.fingerprint().clone()];
    story.client = Side::new(DtlsEndpoint::new(
        story.now,
        Role::Client,
        &theirs,
        expected,
    ));
    story.run(5, 0.0);
    assert!(matches!(
        story.server.error,
        Some(DtlsError::PeerAlert(alert::BAD_CERTIFICATE))
    ));
}

#[test]
fn what_is_wrong_is_left_and_named_when_nothing_better_comes() {
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(Spoil, u8); 2] = [
        (
            |hello| replaced(hello, &[0, 14, 0, 9], &[0, 14, 9, 9]),
            alert::DECODE_ERROR,
        ),
        (
            |mut hello| {
                hello[13] = 14; // ServerHelloDone
                hello
            },
            alert::UNEXPECTED_MESSAGE,
        ),
    ];
    for (spoil, number) in cases {
        let mut story = Story::new();
        let hello = story.client_hello();
        story.server.handle(story.now, &spoil(hello));
        story.run(1, 0.0);
        story.assert_connected();

        let mut story = Story::new();
        let hello = story.client_hello();
        story.server.handle(story.now, &spoil(hello));
        story.run(29, 1.0);
        assert!(story.server.error.is_none() && story.server.sent.is_empty());
        story.now += Duration::from_secs(1);
        story.server.timeout(story.now);
        assert_eq!(story.server.sent, [fatal(number)]);
        let error = story.server.error.unwrap();
        assert_eq!(error.failure(), DtlsFailure::Protocol);
    }
}

/// A message in the clear, as anybody can send it.
fn message(kind: u8, sequence: u16, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    append(&mut message, kind, sequence, body);
    let mut packet = Vec::new();
    let mut sender = Sender::default();
    let appended = sender.append(0, content::HANDSHAKE, &message, &mut packet);
    appended.map(|()| packet).unwrap()
}

/// What somebody who is not the client may send to a server, and the other way round.
fn forgeries() -> Vec<Vec<u8>> {
    let stranger = certificate();
    let random = [7; 32];
    let everything = Extensions {
        extended_master_secret: true,
        renegotiation_info: true,
        ..Extensions::default()
    };
    let mut packets = vec![fatal(40), fatal(0), Story::new().client_hello()];
    packets.push(vec![HANDSHAKE_RECORD; 4000]);
    packets.push(vec![alert::FATAL; RECORD_HEADER_LEN]);
    let server_hello = |suite, profile| message::server_hello(random, suite, profile, &everything);
    for body in [
        server_hello(0xc02b, 8),
        server_hello(0xc02f, 8),
        server_hello(0x1301, 8),
        server_hello(0xc02b, 2),
        vec![],
    ] {
        packets.push(message(kind::SERVER_HELLO, 0, &body));
    }
    let verify = message::hello_verify_request(&[9; 20]);
    packets.push(message(kind::HELLO_VERIFY_REQUEST, 0, &verify));
    let hello = |suites: &[u16], groups: &[u16]| {
        message::client_hello(random, &[9; 16], suites, groups, &SCHEMES)
    };
    for sequence in [0, 1] {
        for body in [
            hello(&[0xc02b], &[29]),
            hello(&[0x1301], &[29]),
            hello(&[0xc02b], &[1]),
        ] {
            packets.push(message(kind::CLIENT_HELLO, sequence, &body));
        }
    }
    let share = KeyExchange::new(DEFAULT_GROUP).unwrap().public;
    let x25519 = KeyExchange::new(GROUPS[0]).unwrap().public;
    let signed = message::signature(ECDSA_SECP256R1_SHA256, &[3; 70]);
    for sequence in 0..5 {
        let mut add = |kind, body: &[u8]| packets.push(message(kind, sequence, body));
        add(kind::CERTIFICATE, &message::certificate(stranger.der()));
        add(kind::CERTIFICATE, &[0, 0, 0]);
        add(kind::CERTIFICATE, &[1]);
        for share in [&share[..], &x25519, &[0; 32], &[]] {
            let exchange = message::client_key_exchange(share);
            add(kind::CLIENT_KEY_EXCHANGE, &exchange);
            let share = message::server_share(DEFAULT_GROUP, share);
            let exchange = message::server_key_exchange(&share, ECDSA_SECP256R1_SHA256, &[3; 70]);
            add(kind::SERVER_KEY_EXCHANGE, &exchange);
        }
        add(kind::CERTIFICATE_VERIFY, &signed);
        add(kind::CERTIFICATE_VERIFY, &signed[1..]);
        add(kind::FINISHED, &[0; 12]);
        add(99, &[0; 1000]);
    }
    packets
}

#[test]
fn no_single_packet_that_is_forged_keeps_a_handshake_from_its_end() {
    // ClientHello, the server's flight, the client's, the server's Finished.
    for number in 0..6 {
        for forged in forgeries() {
            let mut story = Story::new();
            story.run_forging(number, std::slice::from_ref(&forged));
            let named = format!("{forged:02x?} before datagram {number}");
            for side in [&story.client, &story.server] {
                assert!(side.error.is_none(), "{:?}: {named}", side.error);
                assert!(side.keys.is_some(), "{named}");
            }
            story.assert_connected();
        }
    }
}

#[test]
fn nor_do_hundreds_of_fragments() {
    let forged: Vec<_> = (0..600)
        .flat_map(|i| {
            let mut part = header_only(0, i * 100);
            part[12] += 100;
            part[18] = (i % 7) as u8;
            part[24] = 100;
            part.extend([0; 100]);
            [header_only(0, i), part]
        })
        .collect();
    for number in 0..6 {
        let mut story = Story::new();
        story.run_forging(number, &forged);
        story.assert_connected();
    }
}

#[test]
fn whoever_does_not_get_our_cookie_takes_nobodys_place() {
    let mut story = Story::new();
    let forged = Story::new().client_hello();
    story.server.handle(story.now, &forged);
    story.server.sent.clear();
    for _ in 0..1000 {
        let forged = Story::new().client_hello();
        story.server.handle(story.now, &forged);
    }
    let asked: Vec<_> = story.server.sent.iter().map(Vec::len).collect();
    assert_eq!(asked, [RECORD_HEADER_LEN + HANDSHAKE_HEADER_LEN + 3 + 16]);
    assert!(asked[0] < forged.len(), "no amplification");
    story.run(1, 0.0);
    story.assert_connected();
}

#[test]
fn a_client_takes_nothing_before_it_has_said_hello() {
    let mut story = Story::new();
    let hello = Story::new().client_hello();
    story.server.handle(story.now, &hello);
    for packet in std::mem::take(&mut story.server.sent) {
        story.client.handle(story.now, &packet);
    }
    assert_eq!(story.client.endpoint.held(), 0);
    assert!(story.client.sent.is_empty());
    story.run(1, 0.0);
    story.assert_connected();
}

#[test]
fn wrong_proofs_have_an_end() {
    let mut story = Story::new();
    let hello = story.client_hello();
    story.server.handle(story.now, &hello);
    for packet in std::mem::take(&mut story.server.sent) {
        story.client.handle(story.now, &packet);
    }
    let flight = std::mem::take(&mut story.client.sent);
    let whole: Vec<&[u8]> = flight
        .iter()
        .flat_map(|p| records(p))
        .map(|r| r.raw)
        .collect();
    let signed = message::signature(ECDSA_SECP256R1_SHA256, &[3; 70]);
    let forged = message(kind::CERTIFICATE_VERIFY, 3, &signed);
    let mut tries = 0;
    while story.server.error.is_none() {
        tries += 1;
        // Certificate and ClientKeyExchange are the client's.
        for packet in [whole[0], whole[1], &forged] {
            story.server.handle(story.now, packet);
        }
    }
    assert_eq!(tries, 33);
    let said = story.server.sent.back().unwrap();
    assert!(said.ends_with(&[0, 2, alert::FATAL, alert::DECRYPT_ERROR]));
}

#[test]
fn hellos_are_read_strictly() {
    let everything = Extensions {
        extended_master_secret: true,
        ..Extensions::default()
    };
    let client = message::client_hello([7; 32], &[], &[0xc02b], &[29], &SCHEMES);
    let server = message::server_hello([7; 32], 0xc02b, 8, &everything);
    let is_client = |hello: &[u8]| ClientHello::parse(hello).is_ok();
    let is_server = |hello: &[u8]| ServerHello::parse(hello).is_ok();
    assert!(is_client(&client) && is_server(&server));
    // The end of a hello's extensions is that of the hello, and they are counted before.
    let with = |hello: &[u8], body: usize, more: &[u8]| {
        let mut longer = [hello, more].concat();
        let len = u16::from_be_bytes([hello[body], hello[body + 1]]) + more.len() as u16;
        longer[body..body + 2].copy_from_slice(&len.to_be_bytes());
        longer
    };
    // Version, random, session, cookie, one suite, one compression method.
    let at = 2 + 32 + 1 + 1 + 4 + 2;
    let unknown = [0x12, 0x34, 0, 1, 0];
    assert!(is_client(&with(&client, at, &unknown)));
    assert!(!is_client(&[&client[..], &unknown].concat()), "left over");
    let ems = [0, 23, 0, 0];
    assert!(!is_client(&with(&client, at, &ems)), "twice");
    assert!(!is_client(&with(&client, at, &[0, 16, 0])), "cut");
    let renegotiates = replaced(client.clone(), &[0xff, 1, 0, 1, 0], &[0xff, 1, 0, 1, 1]);
    assert!(!is_client(&renegotiates));
    let mut compressed = client.clone();
    compressed[at - 1] = 1;
    assert!(!is_client(&compressed), "without the null method");
    let odd = replaced(
        client,
        &[0, 10, 0, 4, 0, 2, 0, 29],
        &[0, 10, 0, 4, 0, 1, 0, 29],
    );
    assert!(!is_client(&odd), "half a group");

    let at = 2 + 32 + 1 + 2 + 1;
    assert!(!is_server(&with(&server, at, &ems)), "twice");
    let mut compressed = server.clone();
    compressed[at - 1] = 1;
    assert!(!is_server(&compressed));
    let names = |hello: &[u8]| {
        let extensions = ServerHello::parse(hello).unwrap().extensions;
        (extensions.has_others, extensions.has_mki)
    };
    assert_eq!(names(&server), (false, false));
    assert_eq!(names(&with(&server, at, &unknown)), (true, false));
}

#[test]
fn a_server_that_answers_what_it_was_not_asked_is_left() {
    let mut body = message::server_hello([7; 32], 0xc02b, 8, &Extensions::default());
    let at = 2 + 32 + 1 + 2 + 1;
    body[at + 1] += 4;
    body.extend([0x12, 0x34, 0, 0]);
    let mut story = Story::new();
    story.client_hello();
    story
        .client
        .handle(story.now, &message(kind::SERVER_HELLO, 0, &body));
    story.now += HANDSHAKE_TIMEOUT;
    story.client.timeout(story.now);
    assert!(matches!(
        story.client.error,
        Some(DtlsError::UnsupportedExtension)
    ));
}

/// The same ClientHello in two records, as Chromium's is since it carries a post-quantum key.
fn in_two(hello: &[u8]) -> [Vec<u8>; 2] {
    let (record, message) = hello.split_at(RECORD_HEADER_LEN);
    let (header, body) = message.split_at(HANDSHAKE_HEADER_LEN);
    let middle = body.len() / 2;
    [(0, &body[..middle]), (middle, &body[middle..])].map(|(offset, part)| {
        let mut out = record.to_vec();
        out[10] = offset.min(1) as u8; // record sequence number
        let record_len = (HANDSHAKE_HEADER_LEN + part.len()) as u16;
        out[11..13].copy_from_slice(&record_len.to_be_bytes());
        out.extend_from_slice(&header[..6]);
        out.extend_from_slice(&(offset as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&(part.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(part);
        out
    })
}

#[test]
fn a_fragmented_client_hello_is_put_together_in_any_order() {
    for order in [[0, 1], [1, 0]] {
        let mut story = Story::new();
        let fragments = in_two(&story.client_hello());
        for i in order {
            assert!(story.server.sent.is_empty());
            story.server.handle(story.now, &fragments[i]);
        }
        story.run(1, 0.0);
        story.assert_connected();
    }
}

/// A handshake fragment that is a header and claims the rest.
fn header_only(sequence: u16, offset: u32) -> Vec<u8> {
    let mut packet = vec![HANDSHAKE_RECORD, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((HANDSHAKE_HEADER_LEN as u16).to_be_bytes());
    packet.push(1); // ClientHello
    packet.extend([0xff, 0xff, 0xff]); // of 16 MB
    packet.extend([0, 0]);
    packet.extend(&offset.to_be_bytes()[1..]);
    packet.extend([0, 0, 0]);
    packet
}

#[test]
fn six_hundred_header_only_fragments_end_nothing() {
    let mut story = Story::new();
    for i in 0..600u16 {
        story
            .server
            .handle(story.now, &header_only(i, u32::from(i) + 1));
    }
    assert!(story.server.sent.is_empty(), "no answer, no amplification");
    story.run(1, 0.0);
    story.assert_connected();
}

#[test]
fn an_oversized_datagram_is_left_during_the_handshake() {
    let mut story = Story::new();
    let mut hello = story.client_hello();
    hello.resize(65_507, 0);
    story.server.handle(story.now, &hello);
    assert!(story.server.sent.is_empty());
    story.run(1, 0.0);
    story.assert_connected();
}

#[test]
fn a_replayed_client_hello_is_not_amplified() {
    let mut story = Story::new();
    let hello = story.client_hello();
    story.server.handle(story.now, &hello);
    let flight: usize = story.server.sent.drain(..).map(|p| p.len()).sum();
    for _ in 0..1000 {
        story.server.handle(story.now, &hello);
    }
    let replays: usize = story.server.sent.iter().map(Vec::len).sum();
    assert!(replays <= flight, "{replays} bytes for a thousand replays");
    story.run(1, 0.0);
    story.assert_connected();

    for _ in 0..1000 {
        story.server.handle(story.now, &hello);
    }
    assert!(story.server.error.is_none() && story.server.endpoint.is_connected());
}

#[test]
fn silence_ends_after_thirty_seconds() {
    let mut story = Story::new();
    story.run(29, 1.0);
    assert!(story.server.error.is_none());
    story.run(2, 1.0);
    assert!(matches!(
        story.server.error,
        Some(DtlsError::HandshakeTimeout)
    ));
    assert!(story.server.sent.is_empty());
}

#[test]
fn closing_tells_the_peer() {
    let mut story = Story::new();
    story.run(1, 0.0);
    story.server.endpoint.close().unwrap();
    story.server.poll();
    story.run(1, 0.0);
    assert!(story.client.closed);
    assert!(!story.client.endpoint.is_connected());
}

#[test]
fn nothing_unencrypted_touches_a_connected_association() {
    let mut story = Story::new();
    story.run(1, 0.0);
    for (content_type, body) in [
        (20, &[1][..]),    // change cipher spec
        (21, &[1, 0]),     // close_notify
        (21, &[2, 40]),    // fatal handshake_failure
        (22, &[1, 0, 0]),  // handshake
        (23, b"injected"), // application data
    ] {
        for sequence in 0..100u16 {
            let mut packet = vec![content_type, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0];
            packet.extend((1000 + sequence).to_be_bytes());
            packet.extend((body.len() as u16).to_be_bytes());
            packet.extend_from_slice(body);
            story.server.handle(story.now, &packet);
        }
    }
    story.assert_connected();
    assert!(story.server.endpoint.is_connected() && !story.server.closed);
    assert!(story.server.sent.is_empty());
}

#[test]
fn noise_around_a_handshake_does_not_disturb_it() {
    let mut story = Story::new();
    let mut noise = StdRng::seed_from_u64(3);
    for round in 0..100 {
        for _ in 0..10 {
            let mut packet = vec![0; noise.random_range(1..200)];
            noise.fill_bytes(&mut packet);
            packet[0] = noise.random_range(20..64); // what the demultiplexer takes for DTLS
            story.server.handle(story.now, &packet);
        }
        if round == 50 {
            story.run(1, 0.0);
        }
    }
    story.assert_connected();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_altered_handshake_never_connects_with_different_keys(
        which in 0usize..8,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut story = Story::new();
        let mut count = 0;
        story.client.begin(story.now);
        for _ in 0..40 {
            story.client.timeout(story.now);
            story.now += Duration::from_millis(10);
            for mut packet in std::mem::take(&mut story.client.sent) {
                if count == which {
                    let at = at.index(packet.len());
                    packet[at] = byte;
                }
                count += 1;
                story.server.handle(story.now, &packet);
            }
            for packet in std::mem::take(&mut story.server.sent) {
                story.client.handle(story.now, &packet);
            }
        }
        if let (Some(a), Some(b)) = (&story.client.keys, &story.server.keys) {
            prop_assert_eq!(a.local().key, b.remote().key);
        }
    }
}
