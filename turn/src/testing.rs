//! A TURN client for tests: it makes messages and reads answers.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::net::SocketAddr;

use stun_types::attribute::{
    Attribute, AttributeStaticType, AttributeType, ErrorCode, Nonce, PasswordAlgorithm,
    PasswordAlgorithms, RawAttribute, Realm, Userhash, Username, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageType, MessageWrite, MessageWriteExt, MessageWriteVec, Method, TransactionId,
};

use crate::client::{Client, Transport};
use crate::message::*;

/// The realm of every test.
pub(crate) const REALM: &str = "example.org";

/// The value of REQUESTED-TRANSPORT for UDP.
pub(crate) const UDP: [u8; 4] = [17, 0, 0, 0];

/// What the server has answered.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Vec<u8>);

impl Answer {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::from_bytes(&self.0).unwrap()
    }

    /// 0 for success.
    pub(crate) fn code(&self) -> u16 {
        match self.message().class() {
            MessageClass::Success => 0,
            MessageClass::Error => self.message().attribute::<ErrorCode>().unwrap().code(),
            class => panic!("{class:?} is no answer"),
        }
    }

    pub(crate) fn value(&self, kind: AttributeType) -> Option<Vec<u8>> {
        let message = self.message();
        Some(message.raw_attribute(kind)?.value.to_vec())
    }

    pub(crate) fn addresses(&self, kind: AttributeType) -> Vec<SocketAddr> {
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

    pub(crate) fn relayed(&self) -> SocketAddr {
        self.addresses(XOR_RELAYED_ADDRESS)[0]
    }

    pub(crate) fn lifetime(&self) -> u32 {
        u32::from_be_bytes(self.value(LIFETIME).unwrap().try_into().unwrap())
    }

    pub(crate) fn text(&self, kind: AttributeType) -> String {
        String::from_utf8(self.value(kind).unwrap()).unwrap()
    }
}

/// An attribute of a request.
#[derive(Clone, Debug)]
pub(crate) enum Attr {
    Value(AttributeType, Vec<u8>),
    Peer(SocketAddr),
}

pub(crate) fn value(kind: AttributeType, value: &[u8]) -> Attr {
    Attr::Value(kind, value.to_vec())
}

pub(crate) fn peer(address: &str) -> Attr {
    Attr::Peer(address.parse().unwrap())
}

pub(crate) fn channel(number: u16) -> Attr {
    let [a, b] = number.to_be_bytes();
    value(CHANNEL_NUMBER, &[a, b, 0, 0])
}

pub(crate) fn lifetime(seconds: u32) -> Attr {
    value(LIFETIME, &seconds.to_be_bytes())
}

pub(crate) fn family(kind: AttributeType, number: u8) -> Attr {
    value(kind, &[number, 0, 0, 0])
}

/// A client of the server.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) nonce: String,
    pub(crate) algorithm: IntegrityAlgorithm,
    pub(crate) hides_username: bool,
    pub(crate) transaction: u128,
}

pub(crate) fn client(address: &str, transport: Transport) -> Client {
    Client {
        transport,
        server: "8.8.0.1:3478".parse().unwrap(),
        address: address.parse().unwrap(),
    }
}

impl Caller {
    pub(crate) fn new(username: &str, address: &str) -> Self {
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

    pub(crate) fn over_stream(mut self) -> Self {
        self.client.transport = Transport::Stream;
        self
    }

    pub(crate) fn sends(&mut self, to: &str, data: &[u8]) -> Vec<u8> {
        let attrs = [peer(to), value(DATA, data)];
        let message = self.message(MessageClass::Indication, SEND, &attrs);
        message.finish()
    }

    pub(crate) fn unsigned(&mut self, method: Method, attrs: &[Attr]) -> Vec<u8> {
        self.message(MessageClass::Request, method, attrs).finish()
    }

    /// A request with credentials and a new transaction id.
    pub(crate) fn signed(&mut self, method: Method, attrs: &[Attr]) -> Vec<u8> {
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

    pub(crate) fn key(&self) -> MessageIntegrityCredentials {
        let (username, password) = (self.username.clone(), self.password.clone());
        LongTermKeyCredentials::new(username, password, REALM.into()).into()
    }

    pub(crate) fn message(
        &mut self,
        class: MessageClass,
        method: Method,
        attrs: &[Attr],
    ) -> MessageWriteVec {
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
