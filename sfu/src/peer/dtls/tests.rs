//! Two endpoints, and what is lost, doubled or forged between them. `tests/dtls.rs` has other
//! implementations.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::fingerprint::Hash;
use super::reassembly::{HANDSHAKE_HEADER_LEN, Reassembly};
use super::record::RECORD_HEADER_LEN;
use super::*;
use crate::api::DtlsFailure;
use crate::peer::srtp::SrtpProfile;

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
    let cases: [(Spoil, u8, DtlsFailure); 6] = [
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
        (
            |hello| replaced(hello, &[0, 14, 0, 9], &[0, 14, 9, 9]),
            alert::DECODE_ERROR,
            DtlsFailure::Protocol,
        ),
    ];
    for (spoil, number, failure) in cases {
        let mut story = Story::new();
        let hello = spoil(story.client_hello());
        story.server.handle(story.now, &hello);
        let error = story.server.error.as_ref().unwrap();
        assert_eq!(story.server.sent, [fatal(number)], "{error}");
        assert_eq!(error.failure(), failure);
        // The client knows at once, and says nothing more.
        story.run(5, 0.0);
        assert!(matches!(story.client.error, Some(DtlsError::PeerAlert(n)) if n == number));
        assert_eq!(story.client.endpoint.next_deadline(), None);
    }
}

#[test]
fn whoever_shows_another_certificate_hears_so() {
    let (ours, theirs) = (certificate(), certificate());
    let mut story = Story::with(&ours, &theirs, vec![ours.fingerprint().clone()]);
    story.run(1, 0.0);
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
    story.run(1, 0.0);
    assert!(matches!(
        story.server.error,
        Some(DtlsError::PeerAlert(alert::BAD_CERTIFICATE))
    ));
}

#[test]
fn a_message_out_of_turn_ends_the_handshake() {
    let mut story = Story::new();
    let mut hello = story.client_hello();
    hello[13] = 14; // ServerHelloDone
    story.server.handle(story.now, &hello);
    assert_eq!(story.server.sent, [fatal(alert::UNEXPECTED_MESSAGE)]);
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
fn six_hundred_header_only_fragments_end_only_their_own_handshake() {
    let mut story = Story::new();
    for i in 0..600u16 {
        story
            .server
            .handle(story.now, &header_only(i, u32::from(i) + 1));
    }
    assert!(story.server.error.is_some());
    assert!(story.server.sent.is_empty(), "no answer, no amplification");
    assert_eq!(story.server.endpoint.next_deadline(), None);
}

#[test]
fn fragments_and_bytes_are_bounded_but_retransmissions_are_free() {
    let insert = |reassembly: &mut Reassembly, packet: &[u8]| {
        reassembly.insert(&packet[RECORD_HEADER_LEN..])
    };
    let mut fragments = Reassembly::default();
    for i in 0..MAX_FRAGMENTS as u32 {
        for _ in 0..10 {
            insert(&mut fragments, &header_only(0, i)).unwrap();
        }
    }
    assert!(matches!(
        insert(&mut fragments, &header_only(0, MAX_FRAGMENTS as u32)),
        Err(DtlsError::HandshakeTooLarge)
    ));

    let mut fragments = Reassembly::default();
    let mut large = header_only(0, 0);
    large[22..25].copy_from_slice(&[1, 0, 0]); // 64 kB
    insert(&mut fragments, &large).unwrap();
    assert!(matches!(
        insert(&mut fragments, &{
            let mut more = header_only(0, 0x10000);
            more[24] = 1;
            more
        }),
        Err(DtlsError::HandshakeTooLarge)
    ));
}

#[test]
fn an_oversized_datagram_is_refused_during_the_handshake() {
    let mut story = Story::new();
    let error = story
        .server
        .endpoint
        .handle_packet(story.now, &[HANDSHAKE_RECORD; 65_507])
        .unwrap_err();
    assert!(error.to_string().contains("65507 bytes"), "{error}");
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
