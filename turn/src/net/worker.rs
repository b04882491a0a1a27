//! The one task that owns the protocol and all datagram sockets.
//!
//! In: sockets that are ready, messages of streams, commands, the time. Out: datagrams, and messages
//! for streams. Each turn takes a bounded amount of each, then sends what has gathered.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::listener::{Batch, Listener};
use super::outbox::Outbox;
use super::ready::ReadySet;
use super::relay_socket::{Received, RelaySocket};
use super::stream::{Outgoing, StreamEvent};
use crate::client::{Client, Transport};
use crate::machine::{Counters, Output, RelayId, Turn};

/// Sockets looked at, and stream messages taken, in one turn.
const BUDGET: usize = 64;

/// Longest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_535;

/// How long the timer sleeps at most; longer would do as well.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// What others ask of a running server.
#[derive(Debug)]
pub(super) enum Command {
    Revoke { label: String, expiry: u64 },
    Announce { username: String },
    OwnMedia(HashSet<SocketAddr>),
    Snapshot(oneshot::Sender<Snapshot>),
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
    relays: HashMap<RelayId, RelaySocket>,
    streams: HashMap<Client, Arc<Outgoing>>,
    /// Drops of streams that are gone.
    stream_drops: u64,
    batch: Batch,
    datagram: Vec<u8>,
    outbox: Outbox,
    inbox: mpsc::Receiver<StreamEvent>,
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Worker {
    pub(super) fn new(
        turn: Turn,
        sockets: Vec<std::net::UdpSocket>,
        inbox: mpsc::Receiver<StreamEvent>,
        commands: mpsc::UnboundedReceiver<Command>,
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
            relays: HashMap::new(),
            streams: HashMap::new(),
            stream_drops: 0,
            batch: Batch::new(),
            datagram: vec![0; MAX_DATAGRAM],
            outbox: Outbox::default(),
            inbox,
            commands,
        })
    }

    /// Serves until it is dropped.
    pub(super) async fn run(mut self) {
        let timer = tokio::time::sleep(MAX_SLEEP);
        tokio::pin!(timer);
        let mut armed = None;
        loop {
            let deadline = self.turn.next_deadline();
            if armed != deadline {
                let far = Instant::now() + MAX_SLEEP;
                timer.as_mut().reset(deadline.unwrap_or(far).into());
                armed = deadline;
            }
            tokio::select! {
                token = self.ready.next() => self.handle_ready(token),
                Some(event) = self.inbox.recv() => self.handle_streams(event),
                Some(command) = self.commands.recv() => self.handle_command(command),
                () = &mut timer, if armed.is_some() => self.turn.handle_timeout(Instant::now()),
            }
            self.flush();
            // The runtime has other tasks, and sockets to look at.
            tokio::task::consume_budget().await;
        }
    }

    fn handle_ready(&mut self, first: Token) {
        let now = self.now();
        let mut next = Some(first);
        for _ in 0..BUDGET {
            match next {
                Some(Token::Listener(n)) => self.receive_from_clients(now, n),
                Some(Token::Relay(relay)) => self.receive_from_peers(now, relay),
                None => break,
            }
            // What a packet has asked for comes before the next packet.
            self.do_outputs(now);
            next = self.ready.take();
        }
    }

    fn receive_from_clients(&mut self, now: Instant, n: usize) {
        let (turn, relays) = (&mut self.turn, &mut self.relays);
        let Some(listener) = self.listeners.get(n) else {
            return;
        };
        listener.receive(&mut self.batch, |client, datagram| {
            forward(now, turn, relays, client, datagram);
        });
    }

    fn receive_from_peers(&mut self, now: Instant, relay: RelayId) {
        let (turn, outbox, streams) = (&mut self.turn, &mut self.outbox, &self.streams);
        // One that has been closed may still be queued.
        let Some(socket) = self.relays.get(&relay) else {
            return;
        };
        socket.receive(&mut self.datagram, |received| match received {
            Received::Error(peer, icmp) => turn.handle_icmp(now, relay, peer, icmp),
            Received::Datagram(peer, payload) => outbox.push(|buffer| {
                let start = buffer.len();
                let client = turn.handle_peer(now, relay, peer, payload, buffer)?;
                if client.transport == Transport::Udp {
                    return Some(client);
                }
                if let Some(stream) = streams.get(&client) {
                    stream.data(now, buffer[start..].to_vec());
                }
                None
            }),
        });
    }

    fn handle_streams(&mut self, first: StreamEvent) {
        let now = self.now();
        let mut next = Some(first);
        for _ in 0..BUDGET {
            match next {
                Some(StreamEvent::Opened(client, outgoing)) => {
                    self.streams.insert(client, outgoing);
                }
                Some(StreamEvent::Message(client, message)) => {
                    let (turn, relays) = (&mut self.turn, &mut self.relays);
                    forward(now, turn, relays, &client, &message);
                }
                Some(StreamEvent::Closed(client)) => {
                    let outgoing = self.streams.remove(&client);
                    self.stream_drops += outgoing.map_or(0, |outgoing| outgoing.dropped());
                    self.turn.handle_closed(&client);
                }
                None => break,
            }
            self.do_outputs(now);
            next = self.inbox.try_recv().ok();
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Revoke { label, expiry } => self.turn.revoke(now, &label, expiry),
            Command::Announce { username } => self.turn.announce(now, &username),
            Command::OwnMedia(addresses) => self.turn.set_own_media(addresses),
            Command::Snapshot(reply) => {
                // Whoever asked may have lost interest.
                let _ = reply.send(self.snapshot());
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let drops = self.streams.values().map(|outgoing| outgoing.dropped());
        Snapshot {
            allocations: self.turn.allocations(),
            streams: self.streams.len(),
            stream_drops: self.stream_drops + drops.sum::<u64>(),
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
            Transport::Udp => self.outbox.push(|buffer| {
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
        self.do_outputs(Instant::now());
        for (run, bytes) in self.outbox.runs() {
            let server = run.client.server;
            let listener = self.listeners.iter().find(|listener| {
                let own = listener.address();
                let is_same = own.ip() == server.ip() || own.ip().is_unspecified();
                is_same && own.port() == server.port() && own.is_ipv4() == server.is_ipv4()
            });
            if let Some(listener) = listener {
                listener.send(run, bytes);
            }
        }
        self.outbox.clear();
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

/// Hands a client's packet in, and sends on what is to be relayed.
fn forward(
    now: Instant,
    turn: &mut Turn,
    relays: &mut HashMap<RelayId, RelaySocket>,
    client: &Client,
    packet: &[u8],
) {
    let Some(forward) = turn.handle_client(now, client, packet) else {
        return;
    };
    if let Some(socket) = relays.get(&forward.relay) {
        socket.send(forward.peer, forward.payload, |received| {
            if let Received::Error(peer, icmp) = received {
                turn.handle_icmp(now, forward.relay, peer, icmp);
            }
        });
    }
}
