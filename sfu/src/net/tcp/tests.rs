//! Connections over loopback by a clock of the test's own.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::io::Read;
use std::net::TcpStream as Client;
use std::time::SystemTime;

use confab_sockets::listener::{Families, bind};

use super::*;
use crate::bandwidth::sent::PacketKind;
use crate::clock::Clock;
use crate::peer::dtls::Certificate;
use crate::send::outbox::Outbox;
use crate::types::WorkerIndex;
use crate::worker::Shared;

/// A worker without peers and its connections.
struct Story {
    streams: Streams,
    worker: Worker,
    address: SocketAddr,
    now: Instant,
}

impl Story {
    fn new() -> Story {
        let now = Instant::now();
        let shared = Shared {
            certificate: Certificate::generate().unwrap(),
            clock: Clock::new(now, SystemTime::now()),
            max_peers: 10,
        };
        let listener = bind("127.0.0.1:0".parse().unwrap(), Families::Both).unwrap();
        let address = listener.local_addr().unwrap();
        Story {
            streams: Streams::new(Some(listener), mpsc::channel(1).1).unwrap(),
            worker: Worker::new(WorkerIndex(0), shared, Vec::new(), 1),
            address,
            now,
        }
    }

    /// Lets the runtime and the connections do what there is to do.
    async fn settle(&mut self) {
        while tokio::time::timeout(Duration::from_millis(50), self.streams.ready())
            .await
            .is_ok()
        {
            self.streams.handle_ready(self.now, &mut self.worker);
            self.streams.write(self.now, &mut self.worker);
        }
    }

    async fn connect(&mut self) -> Client {
        let client = Client::connect(self.address).unwrap();
        self.settle().await;
        client
    }

    async fn pass(&mut self, time: Duration) {
        self.now += time;
        self.streams.handle_timeout(self.now, &mut self.worker);
        self.settle().await;
    }

    /// Sends a packet to the only connection there is.
    fn send(&mut self, kind: PacketKind, packet: &[u8]) {
        let (&connection, stream) = self.streams.streams.iter().next().unwrap();
        let address = stream.address;
        let mut outbox = Outbox::default();
        let path = Path::Tcp {
            connection,
            address,
        };
        outbox.push(path, Some(kind), packet.len(), |buffer| {
            buffer.copy_from_slice(packet);
            Some(packet.len())
        });
        for (run, bytes) in outbox.runs().iter() {
            assert!(self.streams.queue(self.now, connection, run, bytes));
        }
        self.streams.write(self.now, &mut self.worker);
    }

    fn dropped(&self, reason: &str) -> u64 {
        let dropped = &self.worker.stats().dropped;
        dropped.get(reason).copied().unwrap_or_default()
    }
}

fn is_closed(client: &Client) -> bool {
    client.set_nonblocking(true).unwrap();
    let mut client = client;
    !matches!(client.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn a_connection_that_proves_nothing_is_closed_after_ten_seconds() {
    let mut story = Story::new();
    assert_eq!(story.streams.next_deadline(), None);
    let client = story.connect().await;
    for _ in 0..9 {
        assert_eq!(story.streams.next_deadline(), Some(story.now + SWEEP));
        story.pass(SWEEP).await;
        assert!(!is_closed(&client));
    }
    story.pass(SWEEP).await;
    assert!(is_closed(&client));
    assert_eq!(
        (story.streams.count(), story.dropped("tcp_unproven")),
        (0, 1)
    );
    assert_eq!(story.streams.next_deadline(), None, "nothing to look after");
    assert!(story.streams.unproven.is_empty());
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_the_oldest_who_has_proved_nothing() {
    let mut story = Story::new();
    let mut clients = Vec::new();
    for _ in 0..MAX_UNPROVEN_OF_SOURCE + 10 {
        clients.push(Client::connect(story.address).unwrap());
    }
    story.settle().await;
    assert_eq!(story.streams.count(), MAX_UNPROVEN_OF_SOURCE);
    assert_eq!(story.dropped("tcp_crowded_out"), 10);
    let closed: Vec<bool> = clients.iter().map(is_closed).collect();
    assert!(closed[..10].iter().all(|closed| *closed));
    assert!(closed[10..].iter().all(|closed| !closed));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_sent_what_it_has_room_for_and_then_what_is_new() {
    let mut story = Story::new();
    let mut client = story.connect().await;
    // Two seconds of a picture at 8 Mbit/s and of audio, for somebody who is not reading.
    for n in 0..2000_u32 {
        let mut packet = [0; 1000];
        packet[..4].copy_from_slice(&n.to_be_bytes());
        story.send(PacketKind::Video, &packet);
        if n % 20 == 0 {
            story.send(PacketKind::Audio, &[1; 100]);
        }
        story.now += Duration::from_millis(1);
    }
    assert!(story.dropped("tcp_slow_picture") > 0);
    let waiting = story.streams.streams.values().next().unwrap();
    assert!(waiting.backlog.unwritten().len() <= 500_000);
    // All that was written before reading began, and all that comes after, is whole.
    let mut deframer = Deframer::default();
    client.set_nonblocking(true).unwrap();
    let (mut pictures, mut sounds, mut bytes) = (Vec::new(), 0, vec![0; 65_536]);
    loop {
        story.settle().await;
        let Ok(len) = client.read(&mut bytes) else {
            break;
        };
        let outcome = deframer.handle(&mut bytes[..len], |packet| match packet.len() {
            1000 => pictures.push(u32::from_be_bytes(*packet.first_chunk().unwrap())),
            _ => sounds += 1,
        });
        outcome.unwrap();
    }
    assert!(pictures.is_sorted());
    let dropped = (
        story.dropped("tcp_slow_picture"),
        story.dropped("tcp_slow_other"),
    );
    assert_eq!(
        (pictures.len() as u64 + dropped.0, sounds + dropped.1),
        (2000, 100)
    );
    assert!(sounds >= 50, "the sound of the last second at least");
    assert!(pictures.last() > Some(&1600), "{:?}", pictures.last());
}
