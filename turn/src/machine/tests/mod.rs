//! The server as its clients see it: stories in virtual time.
#![allow(clippy::unwrap_used)]

mod allocate;
mod authenticate;
mod hostile;
mod relay;
mod requests;

use std::collections::HashMap;

use stun_types::attribute::{
    Attribute, AttributeStaticType, AttributeType, ErrorCode, Nonce, PasswordAlgorithm,
    PasswordAlgorithms, RawAttribute, Realm, Userhash, Username, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageIntegrityCredentials, MessageType,
    MessageWrite, MessageWriteExt, MessageWriteVec, Method, TransactionId,
};

use super::*;
use crate::client::Transport;
use crate::credentials::{Credentials, Secret};
use crate::message::*;
use crate::policy::Cidr;

pub(super) const UNIX_NOW: u64 = 1_700_000_000;
pub(super) const REALM: &str = "example.org";
pub(super) const RELAY_V4: &str = "8.8.0.1";
pub(super) const RELAY_V6: &str = "2600::1";

/// The value of REQUESTED-TRANSPORT for UDP.
pub(super) const UDP: [u8; 4] = [17, 0, 0, 0];

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

    /// Lets time pass.
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

/// What the server has answered.
#[derive(Debug)]
pub(super) struct Answer(pub(super) Vec<u8>);

impl Answer {
    pub(super) fn message(&self) -> Message<'_> {
        Message::from_bytes(&self.0).unwrap()
    }

    /// 0 for success.
    pub(super) fn code(&self) -> u16 {
        match self.message().class() {
            MessageClass::Success => 0,
            MessageClass::Error => self.message().attribute::<ErrorCode>().unwrap().code(),
            class => panic!("{class:?} is no answer"),
        }
    }

    pub(super) fn value(&self, kind: AttributeType) -> Option<Vec<u8>> {
        let message = self.message();
        Some(message.raw_attribute(kind)?.value.to_vec())
    }

    pub(super) fn addresses(&self, kind: AttributeType) -> Vec<SocketAddr> {
        let message = self.message();
        let found = message
            .iter_attributes()
            .filter(|(_, a)| a.get_type() == kind);
        found
            .map(|(_, a)| {
                let address = XorSocketAddr::from_raw(&a).unwrap();
                address.addr(message.transaction_id())
            })
            .collect()
    }

    pub(super) fn relayed(&self) -> SocketAddr {
        self.addresses(XOR_RELAYED_ADDRESS)[0]
    }

    pub(super) fn lifetime(&self) -> u32 {
        u32::from_be_bytes(self.value(LIFETIME).unwrap().try_into().unwrap())
    }

    fn text(&self, kind: AttributeType) -> String {
        String::from_utf8(self.value(kind).unwrap()).unwrap()
    }
}

/// An attribute of a request.
#[derive(Clone, Debug)]
pub(super) enum Attr {
    Value(AttributeType, Vec<u8>),
    Peer(SocketAddr),
}

pub(super) fn value(kind: AttributeType, value: &[u8]) -> Attr {
    Attr::Value(kind, value.to_vec())
}

pub(super) fn peer(address: &str) -> Attr {
    Attr::Peer(address.parse().unwrap())
}

pub(super) fn channel(number: u16) -> Attr {
    let [a, b] = number.to_be_bytes();
    value(CHANNEL_NUMBER, &[a, b, 0, 0])
}

pub(super) fn lifetime(seconds: u32) -> Attr {
    value(LIFETIME, &seconds.to_be_bytes())
}

pub(super) fn family(kind: AttributeType, number: u8) -> Attr {
    value(kind, &[number, 0, 0, 0])
}

/// A client of the server.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) nonce: String,
    pub(super) algorithm: IntegrityAlgorithm,
    pub(super) hides_username: bool,
    pub(super) transaction: u128,
}

pub(super) fn client(address: &str, transport: Transport) -> Client {
    Client {
        transport,
        server: "8.8.0.1:3478".parse().unwrap(),
        address: address.parse().unwrap(),
    }
}

impl Caller {
    pub(super) fn new(username: &str, address: &str) -> Self {
        Caller {
            client: client(address, Transport::Udp),
            username: username.into(),
            password: format!("password of {username}"),
            nonce: String::new(),
            algorithm: IntegrityAlgorithm::Sha1,
            hides_username: false,
            transaction: 1,
        }
    }

    pub(super) fn over_stream(mut self) -> Self {
        self.client.transport = Transport::Stream;
        self
    }

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

    /// A Send indication.
    pub(super) fn sends(&mut self, to: &str, data: &[u8]) -> Vec<u8> {
        let attrs = [peer(to), value(DATA, data)];
        let message = self.message(MessageClass::Indication, SEND, &attrs);
        message.finish()
    }

    pub(super) fn unsigned(&mut self, method: Method, attrs: &[Attr]) -> Vec<u8> {
        self.message(MessageClass::Request, method, attrs).finish()
    }

    /// A request with credentials and a new transaction id.
    pub(super) fn signed(&mut self, method: Method, attrs: &[Attr]) -> Vec<u8> {
        let mut message = self.message(MessageClass::Request, method, attrs);
        let mut add = |kind, value: &[u8]| {
            message
                .add_attribute(&RawAttribute::new(kind, value))
                .unwrap();
        };
        match self.hides_username {
            true => add(Userhash::TYPE, &Userhash::compute(&self.username, REALM)),
            false => add(Username::TYPE, self.username.as_bytes()),
        }
        add(Realm::TYPE, REALM.as_bytes());
        add(Nonce::TYPE, self.nonce.as_bytes());
        if self.algorithm == IntegrityAlgorithm::Sha256 {
            add(PasswordAlgorithms::TYPE, &[0, 2, 0, 0]);
            add(PasswordAlgorithm::TYPE, &[0, 2, 0, 0]);
        }
        message
            .add_message_integrity(&self.key(), self.algorithm)
            .unwrap();
        message.add_fingerprint().unwrap();
        message.finish()
    }

    pub(super) fn key(&self) -> MessageIntegrityCredentials {
        let (username, password) = (self.username.clone(), self.password.clone());
        LongTermKeyCredentials::new(username, password, REALM.into()).into()
    }

    fn message(&mut self, class: MessageClass, method: Method, attrs: &[Attr]) -> MessageWriteVec {
        self.transaction += 1;
        let transaction = TransactionId::from(self.transaction);
        let kind = MessageType::from_class_method(class, method);
        let mut message = Message::builder(kind, transaction, MessageWriteVec::new());
        for attr in attrs {
            match attr {
                Attr::Value(kind, value) => message.add_attribute(&RawAttribute::new(*kind, value)),
                Attr::Peer(peer) => {
                    let address = XorSocketAddr::new(*peer, transaction);
                    message.add_attribute(&address.to_raw(XOR_PEER_ADDRESS))
                }
            }
            .unwrap();
        }
        message
    }
}
