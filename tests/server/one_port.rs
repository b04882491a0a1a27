//! The real binary with all of TCP on one port: the page and TURN over TLS, plain TURN, and media.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::net::SocketAddr;

use confab_sfu::inside::peer::stun::{BindingRequest, parse_binding_success};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Confab, allocate, allocate_over, get, message, rest, within};

const OFFER: &str = include_str!("../../sfu/tests/sdp/chromium-default.sdp");

/// The one setting, and a user for the relay.
const ONE_PORT: [&str; 8] = [
    "--http-tls-listen",
    "127.0.0.1:0",
    "--http-tls-shared",
    "true",
    "--turn-users",
    "alice:wonderland",
    "--media-workers",
    "3",
];

/// What a client is told of where its media is to go.
struct Answer(String);

impl Answer {
    async fn to_an_offer(confab: &Confab) -> Answer {
        let mut stream = confab.connect(&["http/1.1"]).await.unwrap();
        let len = OFFER.len();
        let request = format!(
            "POST /whip/kitchen HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n\
             Content-Length: {len}\r\nConnection: close\r\n\r\n{OFFER}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        Answer(answer)
    }

    fn attribute(&self, name: &str) -> &str {
        let prefix = format!("a={name}:");
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(&prefix)).unwrap()
    }

    fn tcp_candidates(&self) -> Vec<SocketAddr> {
        let lines = self
            .0
            .lines()
            .filter(|line| line.contains("tcptype passive"));
        let address = |line: &str| {
            let fields: Vec<_> = line.split(' ').collect();
            format!("{}:{}", fields[4], fields[5]).parse().unwrap()
        };
        lines.map(address).collect()
    }

    /// The first check of the client, in its frame.
    fn check(&self) -> Vec<u8> {
        let theirs = OFFER.lines().find_map(|l| l.strip_prefix("a=ice-ufrag:"));
        let request = BindingRequest {
            username: &format!("{}:{}", self.attribute("ice-ufrag"), theirs.unwrap()),
            password: self.attribute("ice-pwd"),
            transaction: 1,
            priority: 1_518_280_447,
            use_candidate: true,
            tie_breaker: 7,
        };
        let request = request.to_bytes().unwrap();
        [&(request.len() as u16).to_be_bytes(), &request[..]].concat()
    }
}

/// Sends it all at once, or in as many pieces as it has bytes.
async fn send(stream: &mut TcpStream, bytes: &[u8], in_pieces: bool) {
    stream.set_nodelay(true).unwrap();
    for piece in bytes.chunks(if in_pieces { 1 } else { bytes.len() }) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_way_over_tcp_is_on_one_port() {
    let confab = Confab::start_with_relay("one-port", &ONE_PORT).await;
    let port = || async { TcpStream::connect(confab.https).await.unwrap() };
    // More peers than workers, so that each worker has some.
    for in_pieces in [false, true, false, true] {
        let answer = Answer::to_an_offer(&confab).await;
        assert_eq!(answer.tcp_candidates(), [confab.https]);
        let mut media = port().await;
        send(&mut media, &answer.check(), in_pieces).await;
        let len = within(media.read_u16()).await.unwrap();
        let mut packet = vec![0; len.into()];
        within(media.read_exact(&mut packet)).await.unwrap();
        let mapped = parse_binding_success(&packet, answer.attribute("ice-pwd"));
        assert_eq!(mapped, Some(media.local_addr().unwrap()));

        let page = get(confab.connect(&[]).await.unwrap(), "/").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        allocate_over(confab.connect(&[]).await.unwrap()).await;
        allocate_over(confab.connect(&["stun.turn"]).await.unwrap()).await;
        allocate_over(port().await).await;
        let mut turn = port().await;
        send(&mut turn, &allocate(None), in_pieces).await;
        // An answer at all: that of `allocate_over` is looked at.
        message(&mut turn).await;
    }
}

#[tokio::test]
async fn clients_are_told_of_the_one_port_for_the_relay() {
    let confab = Confab::start_with_relay("told", &ONE_PORT).await;
    let Answer(answer) = Answer::to_an_offer(&confab).await;
    for url in [
        format!("turn:{}?transport=tcp", confab.https),
        format!("turns:{}?transport=tcp", confab.https),
    ] {
        assert!(answer.contains(&url), "{answer}");
    }
}

#[tokio::test]
async fn strangers_are_disconnected_and_delay_nobody() {
    let confab = Confab::start_with_relay("strangers", &ONE_PORT).await;
    let answer = Answer::to_an_offer(&confab).await;
    let check = answer.check();
    let mut silent = Vec::new();
    // Nothing, half of what tells, and half of a check.
    for beginning in [&[][..], &[0, 3, 0], &check[..40]] {
        let mut stream = TcpStream::connect(confab.https).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        silent.push(stream);
    }
    for words in [
        &[0, 4, 0, 8][..],
        &[0, 100, 22, 0xfe],
        &[8, 1, 0, 1],
        b"GET / HTTP/1.1\r\n",
    ] {
        let mut stranger = TcpStream::connect(confab.https).await.unwrap();
        stranger.write_all(words).await.unwrap();
        let mut rest = Vec::new();
        // The end may be a rude one.
        let _ = within(stranger.read_to_end(&mut rest)).await;
        assert!(rest.len() < 10, "an alert at most: {rest:02x?}");
    }
    allocate_over(TcpStream::connect(confab.https).await.unwrap()).await;
    for mut stream in silent {
        assert_eq!(rest(&mut stream).await, "");
    }
}

#[tokio::test]
async fn a_port_that_is_not_shared_is_for_tls_alone() {
    let confab = Confab::start("not-shared", &crate::support::SHARED).await;
    let answer = Answer::to_an_offer(&confab).await;
    assert_ne!(answer.tcp_candidates(), [confab.https]);
    for beginning in [answer.check(), allocate(None)] {
        let mut stream = TcpStream::connect(confab.https).await.unwrap();
        stream.write_all(&beginning).await.unwrap();
        let mut rest = Vec::new();
        let _ = within(stream.read_to_end(&mut rest)).await;
        assert!(rest.len() < 10, "an alert at most: {rest:02x?}");
    }
}
