//! The one task that owns the protocol and all datagram sockets.
//!
//! In: sockets that are ready, messages of streams, commands, the time. Out: datagrams, and messages
//! for streams. Each turn takes a bounded amount of each, then sends what has gathered.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::caught::caught;
use super::config::interfaces;
use super::listener::Listener;
use super::media::MediaLink;
use super::relay_socket::{Received, RelaySocket};
use super::shared::SharedSocket;
use super::stream::{Outgoing, StreamEvent};
use crate::client::{Client, Transport};
use crate::machine::{Counters, Output, RelayAddress, RelayId, Turn};
use confab_sockets::memory::{Packet, Receiver};
use confab_sockets::ready::ReadySet;
use confab_sockets::runs::Runs;
use confab_sockets::udp::{Buffers, Sender};

/// Sockets looked at, and stream messages taken, in one turn.
const BUDGET: usize = 64;

/// What is gathered before it is sent, as [`weight`] has it, so that memory is bounded.
const MAX_GATHERED: usize = 512 * 1024;

/// What a run weighs beside its bytes: it costs about as much as copying a full packet or two.
const RUN_WEIGHT: usize = 1200;

/// A turn so soon after the last belongs to a burst, or to a flood. To wait costs a wake-up itself, so
/// that it must be likely to bring something.
const SOON: Duration = Duration::from_micros(150);

/// How long datagrams gather before such a turn, so that they are received and sent together, as
/// network cards do (`rx-usecs`): to wake up costs as much CPU time as some packets. The kernel makes it
/// 50 µs longer (its timer slack); nobody in a call can tell. What comes on streams has gathered in the
/// kernel's buffers and is read at once.
const GATHERING: Duration = Duration::from_micros(50);

/// How long the timer sleeps at most; longer would do as well.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// How long to wait before beginning anew: a packet that comes again and again and finds the same fault
/// leaves the processor to others.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// What others ask of a running server.
#[derive(Debug)]
pub(super) enum Command {
    Revoke {
        label: String,
        expiry: u64,
    },
    Announce {
        username: String,
    },
    OwnMedia(HashSet<SocketAddr>),
    Addresses {
        relays: Vec<RelayAddress>,
        media: Vec<Vec<SocketAddr>>,
    },
    Snapshot(oneshot::Sender<Snapshot>),
    Drain,
    #[cfg(test)]
    Panic,
}

/// How the server is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Allocations now.
    pub allocations: u32,
    /// Streams now.
    pub streams: usize,
    /// Messages dropped because stream clients read too slowly.
    pub stream_drops: u64,
    /// Packets dropped because the media plane's queue was full.
    pub media_drops: u64,
    /// Packets for us dropped because our own queues were full.
    pub own_drops: u64,
    /// How often it has begun anew after a fault of its own.
    pub restarts: u64,
    /// Everything else since the start.
    pub counters: Counters,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Listener(usize),
    Relay(RelayId),
}

#[derive(Debug)]
pub(super) struct Worker {
    turn: Turn,
    ready: ReadySet<Token>,
    listeners: Vec<Listener>,
    shared: Vec<SharedSocket>,
    relays: HashMap<RelayId, RelaySocket>,
    streams: HashMap<Client, Arc<Outgoing>>,
    /// Drops of streams that are gone.
    stream_drops: u64,
    restarts: u64,
    buffers: Buffers,
    sender: Sender,
    to_clients: Runs<Client>,
    to_peers: Runs<(RelayId, SocketAddr)>,
    media: MediaLink,
    inboxes: Inboxes,
}

/// What others send the worker.
#[derive(Debug)]
pub(super) struct Inboxes {
    pub(super) streams: mpsc::Receiver<StreamEvent>,
    /// From the media plane, for relay addresses.
    pub(super) media: Receiver,
    /// From clients that have come to a socket which somebody else reads.
    pub(super) datagrams: Receiver,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
}

impl Worker {
    pub(super) fn new(
        turn: Turn,
        sockets: Vec<std::net::UdpSocket>,
        shared: Vec<SharedSocket>,
        media: MediaLink,
        inboxes: Inboxes,
    ) -> std::io::Result<Self> {
        let ready = ReadySet::new();
        let mut listeners = Vec::new();
        for (n, socket) in sockets.into_iter().enumerate() {
            listeners.push(Listener::new(socket, ready.add(Token::Listener(n)))?);
        }
        Ok(Worker {
            turn,
            ready,
            listeners,
            shared,
            relays: HashMap::new(),
            streams: HashMap::new(),
            stream_drops: 0,
            restarts: 0,
            buffers: Buffers::default(),
            sender: Sender::default(),
            to_clients: Runs::default(),
            to_peers: Runs::default(),
            media,
            inboxes,
        })
    }

    /// Serves until it is dropped. A fault of ours costs those who are served their allocations, which
    /// they notice and make anew, and nobody else anything.
    pub(super) async fn run(mut self) -> Infallible {
        loop {
            let fault = caught(self.serve()).await;
            self.restarts += 1;
            tracing::error!(fault, "the relay has a fault, and begins anew");
            self.restart();
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    /// Lets go of everything that what is broken may be in.
    fn restart(&mut self) {
        let now = Instant::now();
        self.turn.restart(now);
        self.relays.clear();
        self.buffers = Buffers::default();
        self.sender = Sender::default();
        self.to_clients = Runs::default();
        self.to_peers = Runs::default();
        // Each still tells of its end.
        self.streams.values().for_each(|stream| stream.close());
    }

    async fn serve(&mut self) -> Infallible {
        let timer = tokio::time::sleep(MAX_SLEEP);
        tokio::pin!(timer);
        let mut armed = None;
        let mut last = None;
        loop {
            let deadline = self.turn.next_deadline();
            if armed != deadline {
                let far = Instant::now() + MAX_SLEEP;
                timer.as_mut().reset(deadline.unwrap_or(far).into());
                armed = deadline;
            }
            tokio::select! {
                token = self.ready.next() => {
                    gather(last).await;
                    self.handle_ready(token);
                }
                Some(event) = self.inboxes.streams.recv() => self.handle_streams(event),
                packet = self.inboxes.media.next() => {
                    gather(last).await;
                    self.handle_media(packet);
                }
                packet = self.inboxes.datagrams.next() => {
                    gather(last).await;
                    self.handle_datagrams(packet);
                }
                Some(command) = self.inboxes.commands.recv() => self.handle_command(command),
                () = &mut timer, if armed.is_some() => self.turn.handle_timeout(Instant::now()),
            }
            self.flush();
            last = self.ready.is_empty().then(Instant::now);
            // The runtime has other tasks, and sockets to look at.
            tokio::task::consume_budget().await;
        }
    }

    fn handle_ready(&mut self, first: Token) {
        let now = self.now();
        let mut first = Some(first);
        for _ in 0..BUDGET {
            match first.take().or_else(|| self.ready.take()) {
                Some(Token::Listener(n)) => self.receive_from_clients(now, n),
                Some(Token::Relay(relay)) => self.receive_from_peers(now, relay),
                None => break,
            }
            // What a packet has asked for comes before the next packet.
            self.do_outputs(now);
            if weight(&self.to_clients) + weight(&self.to_peers) > MAX_GATHERED {
                self.flush();
            }
        }
    }

    fn receive_from_clients(&mut self, now: Instant, n: usize) {
        let (turn, media, to_peers) = (&mut self.turn, &self.media, &mut self.to_peers);
        let Some(listener) = self.listeners.get(n) else {
            return;
        };
        listener.receive(&mut self.buffers, |client, datagram| {
            forward(now, turn, media, to_peers, client, datagram);
        });
    }

    fn receive_from_peers(&mut self, now: Instant, relay: RelayId) {
        let (turn, outbox, streams) = (&mut self.turn, &mut self.to_clients, &self.streams);
        // One that has been closed may still be queued.
        let Some(socket) = self.relays.get(&relay) else {
            return;
        };
        socket.receive(&mut self.buffers, |received| match received {
            Received::Error(peer, icmp) => turn.handle_icmp(now, relay, peer, icmp),
            Received::Datagram(peer, payload) => {
                let from = (relay, peer);
                back(now, turn, outbox, streams, from, payload);
            }
        });
    }

    fn handle_media(&mut self, first: Packet) {
        let now = self.now();
        let mut first = Some(first);
        for _ in 0..BUDGET {
            let packet = first.take().or_else(|| self.inboxes.media.take(now));
            let Some(packet) = packet else {
                break;
            };
            let number = packet.relayed.allocation;
            if let Some(relay) = self.turn.relay_of(packet.to, number) {
                let (turn, outbox) = (&mut self.turn, &mut self.to_clients);
                let from = (relay, packet.from);
                back(now, turn, outbox, &self.streams, from, &packet.payload);
            }
        }
    }

    fn handle_datagrams(&mut self, first: Packet) {
        let now = self.now();
        let mut first = Some(first);
        for _ in 0..BUDGET {
            let packet = first.take().or_else(|| self.inboxes.datagrams.take(now));
            let Some(packet) = packet else {
                break;
            };
            let client = Client {
                transport: Transport::Udp,
                server: packet.to,
                address: packet.from,
            };
            let (turn, media) = (&mut self.turn, &self.media);
            forward(
                now,
                turn,
                media,
                &mut self.to_peers,
                &client,
                &packet.payload,
            );
            self.do_outputs(now);
        }
    }

    fn handle_streams(&mut self, first: StreamEvent) {
        let now = self.now();
        let mut first = Some(first);
        let mut taken = 0;
        while taken < BUDGET {
            taken += 1;
            match first
                .take()
                .or_else(|| self.inboxes.streams.try_recv().ok())
            {
                Some(StreamEvent::Opened(client, outgoing)) => {
                    self.streams.insert(client, outgoing);
                }
                Some(StreamEvent::Messages(client, messages)) => {
                    taken += messages.len();
                    for message in messages.iter() {
                        let (turn, media) = (&mut self.turn, &self.media);
                        forward(now, turn, media, &mut self.to_peers, &client, message);
                        // What a message has asked for comes before the next one.
                        self.do_outputs(now);
                        if weight(&self.to_peers) > MAX_GATHERED {
                            self.flush();
                        }
                    }
                }
                Some(StreamEvent::Closed(client)) => {
                    let outgoing = self.streams.remove(&client);
                    self.stream_drops += outgoing.map_or(0, |outgoing| outgoing.dropped());
                    self.turn.handle_closed(&client);
                }
                None => break,
            }
            self.do_outputs(now);
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Revoke { label, expiry } => self.turn.revoke(now, &label, expiry),
            Command::Announce { username } => self.turn.announce(now, &username),
            Command::OwnMedia(addresses) => self.turn.set_own_media(addresses),
            Command::Addresses { relays, media } => {
                self.turn.set_relays(&relays);
                self.turn.add_own_addresses(interfaces());
                self.turn
                    .set_own_media(media.iter().flatten().copied().collect());
                self.media.set_addresses(&media);
            }
            Command::Snapshot(reply) => {
                // Whoever asked may have lost interest.
                let _ = reply.send(self.snapshot());
            }
            Command::Drain => self.turn.drain(),
            #[cfg(test)]
            Command::Panic => panic!("as asked"),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let drops = self.streams.values().map(|outgoing| outgoing.dropped());
        Snapshot {
            allocations: self.turn.allocations(),
            streams: self.streams.len(),
            stream_drops: self.stream_drops + drops.sum::<u64>(),
            media_drops: self.media.drops(),
            own_drops: self.inboxes.media.drops() + self.inboxes.datagrams.drops(),
            restarts: self.restarts,
            counters: self.turn.counters(),
        }
    }

    /// Does what the protocol asks for.
    fn do_outputs(&mut self, now: Instant) {
        while let Some(output) = self.turn.poll_output() {
            match output {
                Output::Send { client, message } => self.send(now, client, message),
                Output::Bind {
                    relay,
                    address,
                    dont_fragment,
                } => {
                    let waker = self.ready.add(Token::Relay(relay));
                    let bound = RelaySocket::bind(address, dont_fragment, waker);
                    self.turn.handle_bound(now, relay, bound.is_ok());
                    match bound {
                        Ok(socket) => {
                            self.relays.insert(relay, socket);
                        }
                        Err(error) => {
                            tracing::debug!(%address, %error, "a relay port cannot be bound");
                        }
                    }
                }
                Output::Unbind { relay } => {
                    self.relays.remove(&relay);
                }
                Output::Opened { client } => self.set_allocated(&client, true),
                Output::Ended { client, disconnect } => {
                    self.set_allocated(&client, false);
                    if let Some(stream) = self.streams.get(&client).filter(|_| disconnect) {
                        stream.close();
                    }
                }
            }
        }
    }

    fn send(&mut self, now: Instant, client: Client, message: Vec<u8>) {
        match client.transport {
            Transport::Udp => self.to_clients.append(|buffer| {
                buffer.extend_from_slice(&message);
                Some(client)
            }),
            Transport::Stream => {
                if let Some(stream) = self.streams.get(&client) {
                    stream.answer(now, message);
                }
            }
        }
    }

    fn set_allocated(&self, client: &Client, has_allocation: bool) {
        if let Some(stream) = self.streams.get(client) {
            stream.set_allocated(has_allocation);
        }
    }

    /// Sends all that has gathered.
    fn flush(&mut self) {
        let now = Instant::now();
        for (run, bytes) in self.to_peers.iter() {
            let (relay, peer) = run.destination;
            if let Some(socket) = self.relays.get(&relay) {
                let sender = &mut self.sender;
                socket.send(sender, peer, run.segment_size, bytes, |received| {
                    if let Received::Error(peer, icmp) = received {
                        self.turn.handle_icmp(now, relay, peer, icmp);
                    }
                });
            }
        }
        self.to_peers.clear();
        self.do_outputs(now);
        let (runs, sender) = (&self.to_clients, &mut self.sender);
        let mut next = 0;
        while let Some((run, _)) = runs.get(next) {
            let client = &run.destination;
            if let Some(listener) = self.listeners.iter().find(|l| l.is_of(client)) {
                next = listener.send(sender, runs, next);
            } else if let Some(shared) = self.shared.iter().find(|s| s.is_of(client)) {
                next = shared.send(sender, runs, next);
            } else {
                next += 1;
            }
        }
        self.to_clients.clear();
    }

    /// The time, of which the protocol is told too.
    fn now(&mut self) -> Instant {
        let now = Instant::now();
        // A clock before 1970 makes everything expired that is not.
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_now = unix_now.unwrap_or_default().as_secs();
        self.turn.handle_wall_clock(now, unix_now);
        now
    }
}

/// Bytes waiting; each run, which is mostly a pass through the kernel of its own, counts for more.
fn weight<D: Copy + PartialEq>(runs: &Runs<D>) -> usize {
    runs.bytes() + runs.len() * RUN_WEIGHT
}

/// Lets datagrams gather if the last turn was just now, and left nothing to do.
async fn gather(last: Option<Instant>) {
    if last.is_some_and(|last| last.elapsed() < SOON) {
        // The runtime's own timers are too coarse, and would wake up for each packet.
        std::thread::sleep(GATHERING);
        // It has to look at the sockets.
        tokio::task::yield_now().await;
    }
}

/// Hands a client's packet in, and gathers what is to be relayed.
fn forward(
    now: Instant,
    turn: &mut Turn,
    media: &MediaLink,
    to_peers: &mut Runs<(RelayId, SocketAddr)>,
    client: &Client,
    packet: &[u8],
) {
    let Some(forward) = turn.handle_client(now, client, packet) else {
        return;
    };
    if forward.is_own_media
        && let Some(relay) = turn
            .public_address(forward.relay)
            .zip(turn.number(forward.relay))
        && media.hand_over(now, client, relay, forward.peer, forward.payload)
    {
        return;
    }
    to_peers.append(|buffer| {
        buffer.extend_from_slice(forward.payload);
        Some((forward.relay, forward.peer))
    });
}

/// Hands a peer's packet in, and gathers it for its client.
fn back(
    now: Instant,
    turn: &mut Turn,
    to_clients: &mut Runs<Client>,
    streams: &HashMap<Client, Arc<Outgoing>>,
    (relay, peer): (RelayId, SocketAddr),
    payload: &[u8],
) {
    to_clients.append(|buffer| {
        let start = buffer.len();
        let client = turn.handle_peer(now, relay, peer, payload, buffer)?;
        if client.transport == Transport::Udp {
            return Some(client);
        }
        if let Some(stream) = streams.get(&client) {
            stream.data(now, buffer.get(start..).unwrap_or_default().to_vec());
        }
        None
    });
}
