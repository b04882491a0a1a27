//! ICE-TCP over real sockets on loopback, by a client made by hand.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test begins at some time, and may play the network"
)]
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::net::SocketAddr;
use std::time::Duration;

use confab_sfu::api::{Answer, Event, GoneReason, PeerStats, Reply, Request, Stats};
use confab_sfu::config::TcpPort;
use confab_sfu::inside::net::framing::Deframer;
use confab_sfu::inside::peer::stun::{BindingRequest, parse_binding_success};
use confab_sfu::path::Protocol;
use confab_sfu::types::{PeerId, RoomId};
use confab_sfu::{Config, Offer, Publish, Sfu};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

const OFFER: &str = include_str!("sdp/chromium-default.sdp");
const PEER: PeerId = PeerId(1);

/// Longer than anything takes that is to happen.
const LONG: Duration = Duration::from_secs(5);
/// Shorter than anything takes that could happen by itself.
const SHORT: Duration = Duration::from_millis(300);

/// Has a peer offer, and returns the answer.
async fn offered(sfu: &Sfu, peer: PeerId) -> Answer {
    let offer = Offer {
        sdp: OFFER.to_owned(),
        publish: Publish::All,
        may_publish: true,
        may_subscribe: true,
        is_whole: false,
        avoid_udp: false,
        person: None,
        former: None,
    };
    let room = RoomId(1);
    match sfu.ask(Request::Offer { room, peer, offer }).await {
        Reply::Answered(answer) => answer,
        other => panic!("{other:?} to an offer"),
    }
}

async fn all_stats(sfu: &Sfu) -> Stats {
    match sfu.ask(Request::Stats).await {
        Reply::Stats(stats) => stats,
        other => panic!("{other:?} to stats"),
    }
}

async fn peer_stats_of(sfu: &Sfu) -> PeerStats {
    match sfu.ask(Request::PeerStats { peer: PEER }).await {
        Reply::PeerStats(stats) => *stats,
        other => panic!("{other:?} to stats of a peer"),
    }
}

/// A server with one peer that has got its answer.
struct Story {
    sfu: Sfu,
    events: mpsc::Receiver<Event>,
    answer: String,
    transaction: u128,
}

impl Story {
    async fn new(tcp_port: TcpPort) -> Story {
        let config = Config {
            workers: 1,
            port: 0,
            tcp_port,
            ..Config::default()
        };
        Story::with(&config).await
    }

    /// The peer is on the last worker.
    async fn with(config: &Config) -> Story {
        let (sfu, events) = Sfu::start(config).unwrap();
        for other in 1..config.workers {
            let other = PeerId(PEER.0 + other as u64);
            offered(&sfu, other).await;
        }
        let answer = offered(&sfu, PEER).await;
        Story {
            sfu,
            events,
            answer: answer.sdp,
            transaction: 0,
        }
    }

    fn attribute(&self, name: &str) -> Vec<&str> {
        let prefix = format!("a={name}:");
        let lines = self.answer.lines();
        lines.filter_map(|l| l.strip_prefix(&prefix)).collect()
    }

    /// The candidates for a protocol.
    fn candidates(&self, protocol: &str) -> Vec<SocketAddr> {
        let fields = self.attribute("candidate").into_iter().map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            (fields[2] == protocol).then(|| format!("{}:{}", fields[4], fields[5]).parse().unwrap())
        });
        fields.flatten().collect()
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.candidates("tcp")[0]).await.unwrap();
        Connection {
            stream,
            deframer: Deframer::default(),
        }
    }

    fn check_as(&mut self, ufrag: &str) -> Vec<u8> {
        let theirs = OFFER.lines().find_map(|l| l.strip_prefix("a=ice-ufrag:"));
        self.transaction += 1;
        let request = BindingRequest {
            username: &format!("{ufrag}:{}", theirs.unwrap()),
            password: self.attribute("ice-pwd")[0],
            transaction: self.transaction,
            priority: 1_518_280_447,
            use_candidate: true,
            tie_breaker: 7,
        };
        request.to_bytes().unwrap()
    }

    fn check(&mut self) -> Vec<u8> {
        let ufrag = self.attribute("ice-ufrag")[0].to_owned();
        self.check_as(&ufrag)
    }

    /// Checks a connection, and asserts that media goes there from now on.
    async fn prove(&mut self, connection: &mut Connection) {
        let check = self.check();
        connection.send(&check).await;
        let answer = connection.receive().await.unwrap();
        self.is_answer(&answer, connection.address());
        self.is_reached(Protocol::Tcp, connection.address()).await;
    }

    fn is_answer(&self, packet: &[u8], from: SocketAddr) {
        let mapped = parse_binding_success(packet, self.attribute("ice-pwd")[0]);
        assert_eq!(mapped, Some(from));
    }

    async fn is_reached(&self, protocol: Protocol, address: SocketAddr) {
        let stats = peer_stats_of(&self.sfu).await;
        let reached = (stats.protocol, stats.remote_address);
        assert_eq!(reached, (Some(protocol), Some(address)));
    }

    async fn connections(&self) -> u64 {
        // What has been closed here is seen there a moment later.
        tokio::time::sleep(SHORT).await;
        all_stats(&self.sfu).await.total().tcp_connections
    }
}

struct Connection {
    stream: TcpStream,
    deframer: Deframer,
}

impl Connection {
    fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    async fn send(&mut self, packet: &[u8]) {
        self.stream.write_all(&frame(packet)).await.unwrap();
    }

    /// The next packets, at least one; none when the server has closed the connection.
    async fn receive_all(&mut self) -> Vec<Vec<u8>> {
        let (mut bytes, mut packets) = (vec![0; 4096], Vec::new());
        while packets.is_empty() {
            let read = timeout(LONG, self.stream.read(&mut bytes)).await;
            let len = read.expect("an answer or an end").unwrap_or(0);
            if len == 0 {
                break;
            }
            let piece = &mut bytes[..len];
            let outcome = self.deframer.handle(piece, |p| packets.push(p.to_vec()));
            outcome.unwrap();
        }
        packets
    }

    async fn receive(&mut self) -> Option<Vec<u8>> {
        self.receive_all().await.pop()
    }

    async fn is_silent(&mut self) -> bool {
        timeout(SHORT, self.stream.readable()).await.is_err()
    }
}

fn frame(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes(), packet].concat()
}

#[tokio::test]
async fn a_client_is_reached_over_the_connection_that_it_makes() {
    let mut story = Story::new(TcpPort::AsUdp).await;
    let (udp, tcp) = (story.candidates("udp"), story.candidates("tcp"));
    assert_eq!(udp, tcp, "the same port");
    let lines = story.attribute("candidate");
    let has_tcp: Vec<_> = lines.iter().map(|l| l.contains(" tcp ")).collect();
    assert_eq!(has_tcp, [false, true], "UDP comes first");
    assert!(lines[1].ends_with(" typ host tcptype passive"));

    let mut connection = story.connect().await;
    story.prove(&mut connection).await;
    assert_eq!(story.connections().await, 1);
    assert!(connection.is_silent().await);
}

#[tokio::test]
async fn checks_come_byte_by_byte_or_all_at_once() {
    let mut story = Story::new(TcpPort::AsUdp).await;
    let mut connection = story.connect().await;
    connection.stream.set_nodelay(true).unwrap();
    for byte in frame(&story.check()) {
        connection.stream.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = connection.receive().await.unwrap();
    story.is_answer(&answer, connection.address());
    let many: Vec<u8> = (0..50).flat_map(|_| frame(&story.check())).collect();
    connection.stream.write_all(&many).await.unwrap();
    let mut answers = 0;
    while answers < 50 {
        answers += connection.receive_all().await.len();
    }
}

#[tokio::test]
async fn who_does_no_ice_is_disconnected_and_nobody_else() {
    let mut story = Story::new(TcpPort::AsUdp).await;
    let mut good = story.connect().await;
    story.prove(&mut good).await;
    let dtls = frame(&[22; 100]);
    let proven_then_wrong = [frame(&story.check()), vec![0xff; 4]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &dtls, &proven_then_wrong] {
        let mut bad = story.connect().await;
        bad.stream.write_all(bytes).await.unwrap();
        while bad.receive().await.is_some() {}
    }
    let mut stranger = story.connect().await;
    let check = story.check_as("stranger");
    stranger.send(&check).await;
    assert!(
        stranger.is_silent().await,
        "no answer to a name that is none"
    );
    story.prove(&mut good).await;
    assert_eq!(story.connections().await, 2);
    let stats = all_stats(&story.sfu).await.total();
    for (reason, count) in [
        ("tcp_not_stun", 1),
        ("tcp_too_long", 2),
        ("stun_unknown_ufrag", 1),
    ] {
        assert_eq!(stats.dropped.get(reason), Some(&count), "{reason}");
    }
}

#[tokio::test]
async fn a_client_that_connects_again_is_followed_and_its_way_may_be_another() {
    let mut story = Story::new(TcpPort::AsUdp).await;
    let mut first = story.connect().await;
    story.prove(&mut first).await;
    // Not closed: a network that is gone says nothing.
    let mut second = story.connect().await;
    story.prove(&mut second).await;
    drop(second);
    assert_eq!(story.connections().await, 1);
    let stats = peer_stats_of(&story.sfu).await;
    assert_eq!(stats.remote_address, None, "there is no way for now");
    story.prove(&mut first).await;

    // The same address over UDP is another path.
    let udp = UdpSocket::bind(first.address()).await.unwrap();
    let server = story.candidates("udp")[0];
    udp.send_to(&[0x80, 111, 0, 1, 0, 0, 0, 0], server)
        .await
        .unwrap();
    let mut answer = [0; 200];
    assert!(timeout(SHORT, udp.recv(&mut answer)).await.is_err());
    let stats = all_stats(&story.sfu).await.total();
    assert_eq!(stats.dropped.get("unvalidated_address"), Some(&1));
    udp.send_to(&story.check(), server).await.unwrap();
    let len = timeout(LONG, udp.recv(&mut answer)).await.unwrap().unwrap();
    story.is_answer(&answer[..len], udp.local_addr().unwrap());
    story
        .is_reached(Protocol::Udp, udp.local_addr().unwrap())
        .await;
    assert!(first.is_silent().await);
}

#[tokio::test]
async fn a_port_that_others_share_leads_to_the_clients_worker() {
    let shared = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config {
        workers: 3,
        port: 0,
        tcp_port: TcpPort::Off,
        shared_tcp: vec![shared.local_addr().unwrap()],
        ..Config::default()
    };
    let mut story = Story::with(&config).await;
    assert_eq!(story.candidates("tcp"), config.shared_tcp);
    let dispatcher = story.sfu.tcp_dispatcher().clone();
    let (outcomes, mut outcome) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let (stream, _) = shared.accept().await.unwrap();
            let (dispatcher, outcomes) = (dispatcher.clone(), outcomes.clone());
            tokio::spawn(async move {
                let served = dispatcher.serve(stream, Vec::new()).await;
                outcomes.send(served.map_err(|e| e.to_string())).await
            });
        }
    });
    let mut connection = story.connect().await;
    connection.stream.set_nodelay(true).unwrap();
    // The second packet comes before the first is handed over, and is not lost.
    let checks = [frame(&story.check()), frame(&story.check())].concat();
    let (slowly, at_once) = checks.split_at(90);
    for byte in slowly {
        connection.stream.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    connection.stream.write_all(at_once).await.unwrap();
    let mut answers = connection.receive_all().await;
    if answers.len() == 1 {
        answers.extend(connection.receive_all().await);
    }
    assert_eq!(answers.len(), 2);
    story.is_answer(&answers[0], connection.address());
    assert_eq!(outcome.recv().await, Some(Ok(())));
    story.is_reached(Protocol::Tcp, connection.address()).await;
    story.prove(&mut connection).await;
    assert_eq!(story.connections().await, 1);

    let nobodys = frame(&story.check_as("AAA/none"));
    let no_worker = frame(&story.check_as("//////"));
    for (bytes, words) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            "announces a packet of 18245 bytes",
        ),
        (&[0, 20, 22], "does not begin with STUN"),
        (&no_worker, "no check for a client of this server"),
        (&[0; 10_000], "no check for a client of this server"),
    ] {
        let mut bad = story.connect().await;
        bad.stream.write_all(bytes).await.unwrap();
        assert_eq!(bad.receive().await, None);
        let error = outcome.recv().await.unwrap().unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let mut stranger = story.connect().await;
    stranger.stream.write_all(&nobodys).await.unwrap();
    assert_eq!(outcome.recv().await, Some(Ok(())));
    assert!(stranger.is_silent().await, "the worker bounds it");
    drop(story.connect().await);
    let error = outcome.recv().await.unwrap().unwrap_err();
    assert!(error.contains("has ended"), "{error}");
}

#[tokio::test]
async fn a_removed_peers_connection_is_closed() {
    let mut story = Story::new(TcpPort::AsUdp).await;
    let mut connection = story.connect().await;
    story.prove(&mut connection).await;
    story.sfu.ask(Request::Close { peer: PEER }).await;
    assert_eq!(connection.receive().await, None);
    assert_eq!(story.connections().await, 0);
    let gone = std::iter::from_fn(|| story.events.try_recv().ok());
    let lost = GoneReason::ConsentLost;
    assert!(
        gone.into_iter()
            .all(|e| !matches!(e, Event::PeerGone { reason, .. } if reason == lost))
    );
}

#[tokio::test]
async fn it_can_be_turned_off_and_a_taken_port_is_one_clear_sentence() {
    let story = Story::new(TcpPort::Off).await;
    assert_eq!(story.candidates("tcp"), []);
    assert!(
        TcpStream::connect(story.candidates("udp")[0])
            .await
            .is_err()
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config {
        workers: 1,
        port: 0,
        tcp_port: TcpPort::From(address.port()),
        ..Config::default()
    };
    // A port that is looked for anew is tried again, and this one stays taken.
    let error = Sfu::start(&config).unwrap_err().to_string();
    assert!(error.contains(&format!("TCP {address}")), "{error}");
}
