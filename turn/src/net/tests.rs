//! The server over real sockets on loopback.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::net::IpAddr;
use std::time::Duration;

use confab_sockets::memory::{MAX_PACKETS, Packet, Relayed};
use stun_types::attribute::{AttributeStaticType, ErrorCode, Nonce};
use stun_types::message::{BINDING, MessageClass, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;
use crate::channel::ChannelData;
use crate::credentials::{Credentials, Secret};
use crate::framing::{Deframer, MAX_MESSAGE_LEN};
use crate::machine::RelayAddress;
use crate::message::*;
use crate::testing::*;

/// Long enough for anything on loopback, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(10);

fn config() -> Config {
    let ip: IpAddr = "127.0.0.1".parse().unwrap();
    Config {
        udp: vec![(ip, 0).into()],
        tcp: vec![(ip, 0).into()],
        relays: vec![RelayAddress {
            bind: ip,
            public: ip,
        }],
        realm: REALM.into(),
        secret: Some(Secret::new("north")),
        users: vec![Credentials {
            username: "alice".into(),
            password: "password of alice".into(),
        }],
        allow: vec!["127.0.0.1".parse().unwrap()],
        ..Config::default()
    }
}

fn start(config: Config) -> (Addresses, Handle) {
    let server = Server::bind(config).unwrap();
    let (addresses, handle) = (server.addresses().clone(), server.handle());
    tokio::spawn(server.run(std::future::pending()));
    (addresses, handle)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap()
}

/// A client with a way to the server.
struct Session<W> {
    caller: Caller,
    way: W,
}

/// Sends and receives whole messages.
trait Way {
    async fn send(&mut self, message: &[u8]);
    async fn receive(&mut self) -> Vec<u8>;
}

impl Way for UdpSocket {
    async fn send(&mut self, message: &[u8]) {
        UdpSocket::send(self, message).await.unwrap();
    }

    async fn receive(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let len = within(self.recv(&mut buffer)).await.unwrap();
        buffer.truncate(len);
        buffer
    }
}

struct Stream {
    tcp: TcpStream,
    deframer: Deframer,
    /// Bytes written at once.
    piece: usize,
}

impl Way for Stream {
    async fn send(&mut self, message: &[u8]) {
        let mut padded = message.to_vec();
        padded.resize(message.len().next_multiple_of(4), 0);
        for piece in padded.chunks(self.piece) {
            self.tcp.write_all(piece).await.unwrap();
        }
    }

    async fn receive(&mut self) -> Vec<u8> {
        loop {
            if let Some(message) = self.deframer.next(MAX_MESSAGE_LEN).unwrap() {
                return message.to_vec();
            }
            let mut buffer = [0; 4096];
            let len = within(self.tcp.read(&mut buffer)).await.unwrap();
            assert!(len > 0, "the server has hung up");
            self.deframer.push(&buffer[..len]);
        }
    }
}

async fn over_udp(addresses: &Addresses) -> Session<UdpSocket> {
    let way = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    way.connect(addresses.udp[0]).await.unwrap();
    Session {
        caller: Caller::new("alice", "127.0.0.1:1"),
        way,
    }
}

async fn over_tcp(address: SocketAddr, piece: usize) -> Session<Stream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    Session {
        caller: Caller::new("alice", "127.0.0.1:1"),
        way: Stream {
            tcp,
            deframer: Deframer::default(),
            piece,
        },
    }
}

impl<W: Way> Session<W> {
    async fn ask(&mut self, method: Method, attrs: &[Attr]) -> Answer {
        if self.caller.nonce.is_empty() {
            let packet = self.caller.unsigned(method, attrs);
            self.way.send(&packet).await;
            let answer = Answer(self.way.receive().await);
            assert_eq!(answer.code(), 401);
            self.caller.nonce = answer.text(Nonce::TYPE);
        }
        let packet = self.caller.signed(method, attrs);
        self.way.send(&packet).await;
        Answer(self.way.receive().await)
    }

    async fn allocate(&mut self) -> SocketAddr {
        let attrs = [value(REQUESTED_TRANSPORT, &UDP)];
        self.ask(ALLOCATE, &attrs).await.relayed()
    }

    async fn bind(&mut self, number: u16, to: SocketAddr) {
        let attrs = [channel(number), Attr::Peer(to)];
        assert_eq!(self.ask(CHANNEL_BIND, &attrs).await.code(), 0);
    }

    async fn send(&mut self, number: u16, payload: &[u8]) {
        let mut packet = Vec::new();
        ChannelData { number, payload }.write(false, &mut packet);
        self.way.send(&packet).await;
    }
}

/// A call to a peer that sends everything back.
async fn call<W: Way>(session: &mut Session<W>) {
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relayed = session.allocate().await;
    session.bind(0x4000, peer.local_addr().unwrap()).await;
    let mut buffer = [0; 2000];
    for len in [0, 1, 2, 3, 4, 171, 1200] {
        session.send(0x4000, &vec![len as u8; len]).await;
        let (got, from) = within(peer.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((got, from), (len, relayed));
        peer.send_to(&buffer[..got], relayed).await.unwrap();
        let back = session.way.receive().await;
        let back = ChannelData::parse(&back).unwrap();
        assert_eq!(
            (back.number, back.payload),
            (0x4000, &vec![len as u8; len][..])
        );
    }
}

#[tokio::test]
async fn a_call_over_each_way() {
    let (addresses, handle) = start(config());
    call(&mut over_udp(&addresses).await).await;
    call(&mut over_tcp(addresses.tcp[0], 100_000).await).await;
    call(&mut over_tcp(addresses.tcp[0], 1).await).await;
    let snapshot = handle.snapshot().await.unwrap();
    assert_eq!(snapshot.counters.to_clients.packets, 21);
    assert_eq!(snapshot.counters.to_peers.bytes, 3 * 1381);
}

#[tokio::test]
async fn a_wildcard_answers_from_the_address_that_was_asked() {
    let mut config = config();
    config.udp = vec!["0.0.0.0:0".parse().unwrap()];
    let (mut addresses, _) = start(config);
    for host in ["127.0.0.1", "127.0.0.2"] {
        addresses.udp[0].set_ip(host.parse().unwrap());
        // A connected socket takes answers from there only.
        call(&mut over_udp(&addresses).await).await;
    }
}

#[tokio::test]
async fn our_own_media_gets_packets_in_memory_and_nobody_else_does() {
    let mut settings = config();
    settings.allow.clear();
    let media: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    settings.own_media = [media].into();
    let mut server = Server::bind(settings).unwrap();
    let (to_media, mut packets) = queue();
    let (back, from_media) = queue();
    server.connect_media(vec![(vec![media], to_media)], from_media);
    let (addresses, handle) = (server.addresses().clone(), server.handle());
    tokio::spawn(server.run(std::future::pending()));
    let mut alice = over_udp(&addresses).await;
    let relay = alice.allocate().await;
    alice.bind(0x4000, media).await;
    alice.send(0x4000, b"check").await;
    let relayed = Relayed {
        allocation: 1,
        is_of_stream: false,
    };
    let expected = Packet {
        from: relay,
        to: media,
        relayed,
        payload: b"check".to_vec(),
    };
    assert_eq!(within(packets.next()).await, expected);
    let stranger = "127.0.0.1:7001".parse().unwrap();
    let of_another = Relayed {
        allocation: 2,
        ..relayed
    };
    for (from, to, through, payload) in [
        (stranger, relay, relayed, &b"forged"[..]),
        (media, stranger, relayed, b"astray"),
        (media, relay, of_another, b"for who had the address"),
        (media, relay, relayed, b"answer"),
    ] {
        back.send_relayed(Instant::now(), (from, to), through, payload);
    }
    let answer = alice.way.receive().await;
    assert_eq!(ChannelData::parse(&answer).unwrap().payload, b"answer");
    let snapshot = handle.snapshot().await.unwrap();
    assert_eq!((snapshot.counters.forbidden, snapshot.media_drops), (1, 0));
    // Nobody reads it any more.
    drop(packets);
    within(async {
        while handle.snapshot().await.unwrap().media_drops < 3 {
            alice.send(0x4000, b"flood").await;
        }
    })
    .await;
}

#[tokio::test]
async fn clients_come_to_a_socket_that_somebody_else_reads() {
    for bound in ["127.0.0.1:0", "0.0.0.0:0"] {
        let shared = std::net::UdpSocket::bind(bound).unwrap();
        shared.set_nonblocking(true).unwrap();
        let port = shared.local_addr().unwrap().port();
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let mut server = Server::bind(Config {
            udp: Vec::new(),
            tcp: Vec::new(),
            handed_in: vec![shared.local_addr().unwrap()],
            ..config()
        })
        .unwrap();
        let (clients, datagrams) = queue();
        let reader = UdpSocket::from_std(shared.try_clone().unwrap()).unwrap();
        server.share_udp(vec![shared], datagrams).unwrap();
        tokio::spawn(server.run(std::future::pending()));
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = reader.recv_from(&mut buffer).await {
                clients.send(Instant::now(), from, address, &buffer[..len]);
            }
        });
        let mut alice = over_udp(&Addresses {
            udp: vec![address],
            tcp: Vec::new(),
        })
        .await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let relay = alice.allocate().await;
        alice.bind(0x4000, peer.local_addr().unwrap()).await;
        for n in 0..5 {
            alice.send(0x4000, &[n; 100]).await;
            let mut buffer = [0; 2048];
            let (len, from) = within(peer.recv_from(&mut buffer)).await.unwrap();
            assert_eq!((&buffer[..len], from), (&[n; 100][..], relay));
            peer.send_to(&[n; 50], relay).await.unwrap();
            let answer = alice.way.receive().await;
            assert_eq!(ChannelData::parse(&answer).unwrap().payload, [n; 50]);
        }
    }
}

#[tokio::test]
async fn bursts_arrive_whole_and_in_order() {
    let (addresses, _) = start(config());
    let mut alice = over_udp(&addresses).await;
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relayed = alice.allocate().await;
    alice.bind(0x4000, peer.local_addr().unwrap()).await;
    for round in 0..20_u8 {
        for n in 0..40_u8 {
            let len = if n % 7 == 0 { 300 } else { 1000 };
            peer.send_to(&[vec![round, n], vec![0; len]].concat(), relayed)
                .await
                .unwrap();
        }
        for n in 0..40 {
            let packet = alice.way.receive().await;
            let packet = ChannelData::parse(&packet).unwrap();
            assert_eq!(packet.payload[..2], [round, n]);
        }
    }
}

#[tokio::test]
async fn several_messages_in_one_read() {
    let (addresses, _) = start(config());
    let mut alice = over_tcp(addresses.tcp[0], 100_000).await;
    let bindings: Vec<u8> = (0..10)
        .flat_map(|_| alice.caller.unsigned(BINDING, &[]))
        .collect();
    alice.way.send(&bindings).await;
    for _ in 0..10 {
        assert_eq!(Answer(alice.way.receive().await).code(), 0);
    }
}

/// More than one turn of the worker takes, and no more than waits for it.
const MANY: u16 = 300;

#[tokio::test]
async fn nothing_is_lost_between_two_turns_of_the_worker() {
    let mut settings = config();
    let media: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    settings.own_media = [media].into();
    let mut server = Server::bind(settings).unwrap();
    let (to_media, mut packets) = queue();
    let (back, from_media) = queue();
    server.connect_media(vec![(vec![media], to_media)], from_media);
    let addresses = server.addresses().clone();
    tokio::spawn(server.run(std::future::pending()));
    let mut alice = over_tcp(addresses.tcp[0], 1_000_000).await;
    let relay = alice.allocate().await;
    alice.bind(0x4000, media).await;
    let mut messages = Vec::new();
    for n in 0..MANY {
        let payload = &n.to_be_bytes()[..];
        let packet = ChannelData {
            number: 0x4000,
            payload,
        };
        packet.write(true, &mut messages);
        let relayed = Relayed {
            allocation: 1,
            is_of_stream: true,
        };
        back.send_relayed(Instant::now(), (media, relay), relayed, payload);
    }
    alice.way.send(&messages).await;
    for n in 0..MANY {
        assert_eq!(within(packets.next()).await.payload, n.to_be_bytes());
        let answer = alice.way.receive().await;
        let answer = ChannelData::parse(&answer).unwrap();
        assert_eq!(answer.payload, n.to_be_bytes());
    }
}

#[tokio::test]
async fn a_closed_port_is_told_to_the_client() {
    let (addresses, _) = start(config());
    let mut alice = over_udp(&addresses).await;
    alice.allocate().await;
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = closed.local_addr().unwrap();
    drop(closed);
    alice.bind(0x4000, peer).await;
    alice.send(0x4000, b"hello").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    alice.send(0x4000, b"hello").await;
    let indication = Answer(alice.way.receive().await);
    assert!(indication.message().has_class(MessageClass::Indication));
    assert_eq!(indication.addresses(XOR_PEER_ADDRESS), [peer]);
    assert_eq!(indication.value(ICMP).unwrap()[2..4], [3 << 1, 3]);
}

#[tokio::test]
async fn a_revoked_label_is_disconnected() {
    let (addresses, handle) = start(config());
    let expiry = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 600;
    let minted = Secret::new("north").mint(expiry, "carol");
    let mut carol = over_tcp(addresses.tcp[0], 1000).await;
    (carol.caller.username, carol.caller.password) = (minted.username, minted.password);
    carol.allocate().await;
    handle.revoke("carol", expiry);
    let mut rest = Vec::new();
    within(carol.way.tcp.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    let snapshot = handle.snapshot().await.unwrap();
    assert_eq!((snapshot.allocations, snapshot.streams), (0, 0));
    carol.way = over_tcp(addresses.tcp[0], 1000).await.way;
    carol.caller.nonce.clear();
    let again = carol
        .ask(ALLOCATE, &[value(REQUESTED_TRANSPORT, &UDP)])
        .await;
    assert_eq!(
        again.message().attribute::<ErrorCode>().unwrap().code(),
        401
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_what_is_old_and_delays_nobody() {
    let (addresses, handle) = start(config());
    let mut slow = over_tcp(addresses.tcp[0], 1000).await;
    let relayed = slow.allocate().await;
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    slow.bind(0x4000, peer.local_addr().unwrap()).await;
    let flood = tokio::spawn(async move {
        loop {
            for _ in 0..20 {
                let _ = peer.send_to(&[0; 1200], relayed).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    within(async {
        while handle.snapshot().await.unwrap().stream_drops < 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    call(&mut over_tcp(addresses.tcp[0], 1000).await).await;
    call(&mut over_udp(&addresses).await).await;
    flood.abort();
}

#[tokio::test]
async fn strangers_at_the_door_are_shown_out_and_silent_ones_delay_nobody() {
    let (addresses, _) = start(config());
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(addresses.tcp[0]).await.unwrap());
    }
    let mut stranger = TcpStream::connect(addresses.tcp[0]).await.unwrap();
    let words = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    stranger.write_all(words).await.unwrap();
    let mut rest = Vec::new();
    // Reset or closed, as the kernel likes.
    let _ = within(stranger.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{rest:02x?}");
    call(&mut over_tcp(addresses.tcp[0], 1000).await).await;
}

#[tokio::test]
async fn a_stream_that_is_handed_in_is_served_but_its_port_is_not_relayed_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = config();
    config.allow.clear();
    config.tcp.clear();
    config.handed_in = vec![address];
    let media = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    config.own_media = [media.local_addr().unwrap()].into();
    let (_, handle) = start(config);
    tokio::spawn(async move {
        let (stream, client) = listener.accept().await.unwrap();
        handle.serve(stream, address, client).await;
    });
    let mut alice = over_tcp(address, 1000).await;
    let relayed = alice.allocate().await;
    let to_itself = [channel(0x4001), Attr::Peer(address)];
    assert_eq!(alice.ask(CHANNEL_BIND, &to_itself).await.code(), 403);
    alice.bind(0x4000, media.local_addr().unwrap()).await;
    alice.send(0x4000, b"hello").await;
    let mut buffer = [0; 100];
    let (len, from) = within(media.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((&buffer[..len], from), (&b"hello"[..], relayed));
}

#[test]
fn what_cannot_be_had_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut settings = config();
    settings.udp = vec![taken.local_addr().unwrap()];
    let error = Server::bind(settings).unwrap_err().to_string();
    assert!(error.contains("UDP 127.0.0.1:"), "{error}");
    let mut settings = config();
    settings.relays[0].bind = "192.0.2.1".parse().unwrap();
    let error = Server::bind(settings).unwrap_err().to_string();
    assert!(error.contains("192.0.2.1"), "{error}");
}

#[tokio::test]
async fn a_fault_costs_allocations_and_not_the_server() {
    let (addresses, handle) = start(config());
    let mut alice = over_udp(&addresses).await;
    let mut bob = over_tcp(addresses.tcp[0], 100_000).await;
    alice.allocate().await;
    bob.allocate().await;
    for n in 1..=3 {
        handle.send(Command::Panic);
        let snapshot = within(handle.snapshot()).await.unwrap();
        assert_eq!((snapshot.restarts, snapshot.allocations), (n, 0));
        assert!(handle.is_alive());
        alice.caller.nonce.clear();
        call(&mut alice).await;
    }
    // Its stream is gone, and it comes again.
    let mut buffer = [0; 16];
    assert_eq!(within(bob.way.tcp.read(&mut buffer)).await.unwrap(), 0);
    call(&mut over_tcp(addresses.tcp[0], 100_000).await).await;
}

#[tokio::test]
async fn what_finds_no_room_on_its_way_to_us_is_counted() {
    let mut server = Server::bind(config()).unwrap();
    let (back, from_media) = queue();
    let (clients, datagrams) = queue();
    server.connect_media(Vec::new(), from_media);
    server.share_udp(Vec::new(), datagrams).unwrap();
    let somebody = "127.0.0.1:7000".parse().unwrap();
    for _ in 0..MAX_PACKETS + 3 {
        back.send(Instant::now(), somebody, somebody, b"media");
        clients.send(Instant::now(), somebody, somebody, b"request");
    }
    let handle = server.handle();
    tokio::spawn(server.run(std::future::pending()));
    let drops = within(handle.snapshot()).await.unwrap().own_drops;
    // What is read too late is lost as well.
    assert!(drops >= 6, "{drops}");
}

#[tokio::test]
async fn a_family_that_cannot_be_had_does_not_fail_the_other() {
    // An address of IPv6 that no machine has (RFC 3849).
    let none: SocketAddr = "[2001:db8::1]:0".parse().unwrap();
    let mut settings = config();
    settings.udp.push(none);
    settings.tcp.push(none);
    settings.relays.push(RelayAddress {
        bind: none.ip(),
        public: none.ip(),
    });
    let (addresses, _) = start(settings);
    assert_eq!((addresses.udp.len(), addresses.tcp.len()), (1, 1));
    call(&mut over_udp(&addresses).await).await;
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut settings = config();
    settings.udp.push(taken.local_addr().unwrap());
    let error = Server::bind(settings).unwrap_err();
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    let mut settings = config();
    settings.udp = vec![none];
    assert!(Server::bind(settings).is_err(), "nothing is left of UDP");
}
