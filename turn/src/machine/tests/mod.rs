//! The server as its clients see it: stories in virtual time.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

mod allocate;
mod authenticate;
mod hostile;
mod late;
mod relay;
mod requests;

use std::collections::HashMap;

use stun_types::attribute::{
    AttributeStaticType, AttributeType, Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm,
    Username,
};
use stun_types::message::{IntegrityAlgorithm, MessageWrite, MessageWriteExt, Method};

use super::*;
use crate::credentials::{Credentials, Secret};
use crate::message::*;
use crate::policy::Cidr;
use crate::testing::*;

pub(super) const UNIX_NOW: u64 = 1_700_000_000;
pub(super) const RELAY_V4: &str = "8.8.0.1";
pub(super) const RELAY_V6: &str = "2600::1";

/// A server, its sockets, and what it has sent.
pub(super) struct World {
    pub(super) turn: Turn,
    pub(super) now: Instant,
    /// The relay sockets that are bound now.
    pub(super) sockets: HashMap<RelayId, SocketAddr>,
    pub(super) sent: VecDeque<(Client, Vec<u8>)>,
    pub(super) ended: Vec<(Client, bool)>,
    /// How many more sockets cannot be bound.
    pub(super) bind_failures: u32,
}

pub(super) fn users() -> Users {
    let mut users = Users::new(REALM, Some(Secret::new("north")));
    for name in ["alice", "bob"] {
        users.add(Credentials {
            username: name.into(),
            password: format!("password of {name}"),
        });
    }
    users
}

pub(super) fn settings() -> Settings {
    let relay = |address: &str| RelayAddress {
        bind: address.parse().unwrap(),
        public: address.parse().unwrap(),
    };
    Settings {
        relays: vec![relay(RELAY_V4), relay(RELAY_V6)],
        ..Settings::default()
    }
}

impl World {
    pub(super) fn new() -> Self {
        World::with(settings())
    }

    pub(super) fn with(settings: Settings) -> Self {
        World::with_users(settings, users())
    }

    pub(super) fn with_users(settings: Settings, users: Users) -> Self {
        let now = Instant::now();
        World {
            turn: Turn::new(now, UNIX_NOW, settings, users, [7; 32]),
            now,
            sockets: HashMap::new(),
            sent: VecDeque::new(),
            ended: Vec::new(),
            bind_failures: 0,
        }
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.turn.next_deadline().filter(|&due| due <= end) {
            self.turn.handle_timeout(due);
            self.run();
        }
        self.now = end;
    }

    /// Does what the server asks for.
    pub(super) fn run(&mut self) {
        while let Some(output) = self.turn.poll_output() {
            match output {
                Output::Send { client, message } => self.sent.push_back((client, message)),
                Output::Bind { relay, address, .. } => {
                    let is_free = !self.sockets.values().any(|&bound| bound == address);
                    assert!(is_free, "{address} is given twice");
                    let is_bound = self.bind_failures == 0;
                    self.bind_failures = self.bind_failures.saturating_sub(1);
                    if is_bound {
                        self.sockets.insert(relay, address);
                    }
                    self.turn.handle_bound(self.now, relay, is_bound);
                }
                Output::Unbind { relay } => {
                    self.sockets.remove(&relay);
                }
                Output::Opened { .. } => {}
                Output::Ended { client, disconnect } => self.ended.push((client, disconnect)),
            }
        }
    }

    /// Hands a packet in; the answer, if there is one.
    pub(super) fn exchange(&mut self, client: &Client, packet: &[u8]) -> Option<Answer> {
        assert_eq!(self.turn.handle_client(self.now, client, packet), None);
        self.run();
        let (to, message) = self.sent.pop_front()?;
        assert_eq!(to, *client);
        assert!(self.sent.is_empty(), "one answer to one request");
        Some(Answer(message))
    }

    /// Hands a packet in that is relayed: from where, where to, and what.
    pub(super) fn relay(
        &mut self,
        client: &Client,
        packet: &[u8],
    ) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let forward = self.turn.handle_client(self.now, client, packet)?;
        let from = self.sockets[&forward.relay];
        Some((from, forward.peer, forward.payload.to_vec()))
    }

    /// A peer sends to a relay address; what the client gets.
    pub(super) fn peer_sends(
        &mut self,
        peer: &str,
        to: SocketAddr,
        payload: &[u8],
    ) -> Option<(Client, Vec<u8>)> {
        let found = self.sockets.iter().find(|&(_, &bound)| bound == to);
        let (&relay, _) = found?;
        let mut out = vec![0xee];
        let peer = peer.parse().unwrap();
        let client = self
            .turn
            .handle_peer(self.now, relay, peer, payload, &mut out);
        assert_eq!(client.is_some(), out.len() > 1);
        Some((client?, out.split_off(1)))
    }
}

impl Caller {
    /// Asks as a client does: without credentials first, and again when the nonce is stale.
    pub(super) fn ask(&mut self, world: &mut World, method: Method, attrs: &[Attr]) -> Answer {
        if self.nonce.is_empty() {
            self.learn_nonce(world);
        }
        let packet = self.signed(method, attrs);
        let answer = world.exchange(&self.client, &packet).unwrap();
        if answer.code() != 438 {
            return answer;
        }
        self.nonce = answer.text(Nonce::TYPE);
        let packet = self.signed(method, attrs);
        world.exchange(&self.client, &packet).unwrap()
    }

    pub(super) fn learn_nonce(&mut self, world: &mut World) {
        let packet = self.unsigned(ALLOCATE, &[value(REQUESTED_TRANSPORT, &UDP)]);
        let answer = world.exchange(&self.client, &packet).unwrap();
        assert_eq!(answer.code(), 401);
        assert_eq!(answer.text(Realm::TYPE), REALM);
        self.nonce = answer.text(Nonce::TYPE);
    }

    pub(super) fn allocate(&mut self, world: &mut World, attrs: &[Attr]) -> Answer {
        let mut all = vec![value(REQUESTED_TRANSPORT, &UDP)];
        all.extend_from_slice(attrs);
        self.ask(world, ALLOCATE, &all)
    }

    /// Allocates an IPv4 relay address.
    pub(super) fn relayed(&mut self, world: &mut World) -> SocketAddr {
        self.allocate(world, &[]).relayed()
    }

    pub(super) fn permit(&mut self, world: &mut World, peers: &[&str]) -> u16 {
        let peers: Vec<_> = peers.iter().map(|p| peer(p)).collect();
        self.ask(world, CREATE_PERMISSION, &peers).code()
    }

    pub(super) fn bind(&mut self, world: &mut World, number: u16, to: &str) -> u16 {
        let attrs = [channel(number), peer(to)];
        self.ask(world, CHANNEL_BIND, &attrs).code()
    }

    pub(super) fn refresh(&mut self, world: &mut World, seconds: u32) -> Answer {
        self.ask(world, REFRESH, &[lifetime(seconds)])
    }
}
