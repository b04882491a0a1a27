//! STUN messages as TURN uses them (RFC 8489 section 14, RFC 8656 section 18): a thin adapter over
//! `stun-types`.
//!
//! In: a packet that looks like STUN. Out: its attributes, each in bounds and of the right form; and
//! the bytes of answers and Data indications.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod reply;

use std::net::SocketAddr;

use stun_types::attribute::{
    Attribute, AttributeStaticType, AttributeType, Fingerprint, MessageIntegrity,
    MessageIntegritySha256, Nonce, PasswordAlgorithm, PasswordAlgorithms, RawAttribute, Realm,
    Userhash, Username, XorMappedAddress, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageHeader, Method, TransactionId,
};

pub(crate) use reply::{Reply, ReplyTo, write_data_indication};

/// What requests are verified, and answers signed with.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) key: IntegrityKey,
    pub(crate) algorithm: IntegrityAlgorithm,
}

/// RFC 8656 section 17.
pub(crate) const ALLOCATE: Method = Method::new(3);
/// RFC 8656 section 17.
pub(crate) const REFRESH: Method = Method::new(4);
/// RFC 8656 section 17.
pub(crate) const SEND: Method = Method::new(6);
/// RFC 8656 section 17.
pub(crate) const DATA_METHOD: Method = Method::new(7);
/// RFC 8656 section 17.
pub(crate) const CREATE_PERMISSION: Method = Method::new(8);
/// RFC 8656 section 17.
pub(crate) const CHANNEL_BIND: Method = Method::new(9);

/// RFC 8656 section 18.1.
pub(crate) const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000c);
/// RFC 8656 section 18.2.
pub(crate) const LIFETIME: AttributeType = AttributeType::new(0x000d);
/// RFC 8656 section 18.3.
pub(crate) const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
/// RFC 8656 section 18.4.
pub(crate) const DATA: AttributeType = AttributeType::new(0x0013);
/// RFC 8656 section 18.5.
pub(crate) const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
/// RFC 8656 section 18.6.
pub(crate) const REQUESTED_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x0017);
/// RFC 8656 section 18.7.
pub(crate) const EVEN_PORT: AttributeType = AttributeType::new(0x0018);
/// RFC 8656 section 18.8.
pub(crate) const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);
/// RFC 8656 section 18.9.
pub(crate) const DONT_FRAGMENT: AttributeType = AttributeType::new(0x001a);
/// RFC 8656 section 18.10.
pub(crate) const RESERVATION_TOKEN: AttributeType = AttributeType::new(0x0022);
/// RFC 8656 section 18.11.
pub(crate) const ADDITIONAL_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x8000);
/// RFC 8656 section 18.12.
pub(crate) const ADDRESS_ERROR_CODE: AttributeType = AttributeType::new(0x8001);
/// RFC 8656 section 18.13.
pub(crate) const ICMP: AttributeType = AttributeType::new(0x8004);

/// Comprehension-required attributes that do not stop us.
const UNDERSTOOD: [AttributeType; 18] = [
    Username::TYPE,
    Userhash::TYPE,
    Realm::TYPE,
    Nonce::TYPE,
    PasswordAlgorithm::TYPE,
    MessageIntegrity::TYPE,
    MessageIntegritySha256::TYPE,
    XorMappedAddress::TYPE,
    CHANNEL_NUMBER,
    LIFETIME,
    XOR_PEER_ADDRESS,
    DATA,
    XOR_RELAYED_ADDRESS,
    REQUESTED_ADDRESS_FAMILY,
    EVEN_PORT,
    REQUESTED_TRANSPORT,
    DONT_FRAGMENT,
    RESERVATION_TOKEN,
];

/// Most attributes of a message. A CreatePermission with 64 peers has 72.
const MAX_ATTRIBUTES: usize = 96;

/// Most unknown attributes that a 420 answer names.
const MAX_UNKNOWN: usize = 8;

/// An error code of a STUN answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Code {
    /// RFC 8489 section 14.8.
    BadRequest = 400,
    /// RFC 8489 section 14.8.
    Unauthenticated = 401,
    /// RFC 8656 section 19.
    Forbidden = 403,
    /// RFC 8489 section 14.8.
    UnknownAttribute = 420,
    /// RFC 8656 section 19.
    AllocationMismatch = 437,
    /// RFC 8489 section 14.8.
    StaleNonce = 438,
    /// RFC 8656 section 19.
    AddressFamilyNotSupported = 440,
    /// RFC 8656 section 19.
    WrongCredentials = 441,
    /// RFC 8656 section 19.
    UnsupportedTransport = 442,
    /// RFC 8656 section 19.
    PeerAddressFamilyMismatch = 443,
    /// RFC 8656 section 19.
    AllocationQuotaReached = 486,
    /// RFC 8656 section 19.
    InsufficientCapacity = 508,
}

impl Code {
    /// The value of an ERROR-CODE attribute without a reason phrase: it would make answers longer
    /// than requests.
    fn to_bytes(self) -> [u8; 4] {
        let code = self as u16;
        [0, 0, (code / 100) as u8, (code % 100) as u8]
    }
}

/// An address family as attributes name it (RFC 8656 section 18.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: std::net::IpAddr) -> Self {
        match address.is_ipv4() {
            true => Family::V4,
            false => Family::V6,
        }
    }

    fn parse(value: u8) -> Option<Self> {
        match value {
            1 => Some(Family::V4),
            2 => Some(Family::V6),
            _ => None,
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Family::V4 => 1,
            Family::V6 => 2,
        }
    }
}

/// A well-formed STUN message. Not yet authenticated.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    packet: &'a [u8],
    message: Message<'a>,
    /// The attributes that come once.
    pub(crate) fields: Fields<'a>,
    unknown: [AttributeType; MAX_UNKNOWN],
    unknown_count: usize,
}

/// The attributes of a message, each the first of its type (RFC 8489 section 14).
#[derive(Default, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) username: Option<&'a str>,
    pub(crate) userhash: Option<&'a [u8; 32]>,
    pub(crate) realm: Option<&'a str>,
    pub(crate) nonce: Option<&'a str>,
    /// Its value, undecoded.
    pub(crate) password_algorithm: Option<&'a [u8]>,
    /// Its value, undecoded.
    pub(crate) password_algorithms: Option<&'a [u8]>,
    pub(crate) has_integrity: bool,
    pub(crate) has_fingerprint: bool,
    pub(crate) transport: Option<u8>,
    /// In seconds.
    pub(crate) lifetime: Option<u32>,
    /// `Some(None)` is a family we do not know.
    pub(crate) family: Option<Option<Family>>,
    pub(crate) additional_family: Option<Option<Family>>,
    /// Whether the next port is to be reserved.
    pub(crate) even_port: Option<bool>,
    pub(crate) reservation_token: Option<[u8; 8]>,
    pub(crate) dont_fragment: bool,
    pub(crate) channel: Option<u16>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) data: Option<&'a [u8]>,
    /// Whether an attribute has a value that it cannot have.
    pub(crate) is_malformed: bool,
}

impl<'a> Incoming<'a> {
    /// Reads a packet; `None` if it is no STUN message, is damaged or has bytes after its end.
    pub(crate) fn parse(packet: &'a [u8]) -> Option<Self> {
        let header = MessageHeader::from_bytes(packet).ok()?;
        if packet.len() != MessageHeader::LENGTH + usize::from(header.data_length()) {
            return None;
        }
        let message = Message::from_bytes(packet).ok()?;
        let mut incoming = Incoming {
            packet,
            message,
            fields: Fields::default(),
            unknown: [AttributeType::new(0); MAX_UNKNOWN],
            unknown_count: 0,
        };
        incoming.read_attributes();
        Some(incoming)
    }

    fn read_attributes(&mut self) {
        let transaction = self.message.transaction_id();
        let mut fields = Fields::default();
        for (n, (offset, attribute)) in self.message.iter_attributes().enumerate() {
            let (kind, len) = (attribute.get_type(), usize::from(attribute.length()));
            let value = self.packet.get(offset + 4..offset + 4 + len);
            let Some(value) = value.filter(|_| n < MAX_ATTRIBUTES) else {
                fields.is_malformed = true;
                break;
            };
            // Whether it is signed is still to be seen.
            fields.is_malformed |= !fields.take(kind, value, &attribute, transaction);
            let is_unknown = kind.comprehension_required() && !UNDERSTOOD.contains(&kind);
            if is_unknown && let Some(place) = self.unknown.get_mut(self.unknown_count) {
                *place = kind;
                self.unknown_count += 1;
            }
        }
        self.fields = fields;
    }

    pub(crate) fn class(&self) -> MessageClass {
        self.message.class()
    }

    pub(crate) fn method(&self) -> Method {
        self.message.method()
    }

    pub(crate) fn message(&self) -> &Message<'a> {
        &self.message
    }

    /// Comprehension-required attributes that we do not know, as many as an answer names.
    pub(crate) fn unknown(&self) -> &[AttributeType] {
        self.unknown.get(..self.unknown_count).unwrap_or_default()
    }

    /// Verifies MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256, whichever belongs to the key.
    pub(crate) fn is_signed_with(&self, key: &IntegrityKey) -> bool {
        self.message.validate_integrity_with_key(key).is_ok()
    }

    /// All peer addresses, or nothing if one of them is malformed.
    pub(crate) fn peers(&self) -> Option<Vec<SocketAddr>> {
        let transaction = self.message.transaction_id();
        self.message
            .iter_attributes()
            .map(|(_, attribute)| attribute)
            .filter(|attribute| attribute.get_type() == XOR_PEER_ADDRESS)
            .map(|attribute| address(&attribute, transaction))
            .collect()
    }

    /// What its answer is made from.
    pub(crate) fn reply_to(&self) -> ReplyTo {
        ReplyTo {
            method: self.message.method(),
            transaction: self.message.transaction_id(),
            has_fingerprint: self.fields.has_fingerprint,
        }
    }
}

impl<'a> Fields<'a> {
    /// Takes an attribute in; `false` if it has a value that it cannot have.
    fn take(
        &mut self,
        kind: AttributeType,
        value: &'a [u8],
        raw: &RawAttribute<'_>,
        transaction: TransactionId,
    ) -> bool {
        let text = || std::str::from_utf8(value).ok();
        let word = || <[u8; 4]>::try_from(value).ok();
        match kind {
            Username::TYPE => first(&mut self.username, text()),
            Userhash::TYPE => first(&mut self.userhash, value.try_into().ok()),
            Realm::TYPE => first(&mut self.realm, text()),
            Nonce::TYPE => first(&mut self.nonce, text()),
            PasswordAlgorithm::TYPE => first(&mut self.password_algorithm, Some(value)),
            PasswordAlgorithms::TYPE => first(&mut self.password_algorithms, Some(value)),
            MessageIntegrity::TYPE | MessageIntegritySha256::TYPE => {
                self.has_integrity = true;
                true
            }
            Fingerprint::TYPE => {
                self.has_fingerprint = true;
                true
            }
            REQUESTED_TRANSPORT => first(&mut self.transport, word().map(|w| w[0])),
            LIFETIME => first(&mut self.lifetime, word().map(u32::from_be_bytes)),
            REQUESTED_ADDRESS_FAMILY => {
                first(&mut self.family, word().map(|w| Family::parse(w[0])))
            }
            ADDITIONAL_ADDRESS_FAMILY => {
                let family = word().map(|w| Family::parse(w[0]));
                first(&mut self.additional_family, family)
            }
            EVEN_PORT => {
                let reserve = value.first().map(|bits| bits & 0x80 != 0);
                first(&mut self.even_port, reserve.filter(|_| value.len() == 1))
            }
            RESERVATION_TOKEN => first(&mut self.reservation_token, value.try_into().ok()),
            DONT_FRAGMENT => {
                self.dont_fragment = true;
                value.is_empty()
            }
            CHANNEL_NUMBER => {
                let number = word().map(|w| u16::from_be_bytes([w[0], w[1]]));
                first(&mut self.channel, number)
            }
            XOR_PEER_ADDRESS => first(&mut self.peer, address(raw, transaction)),
            DATA => first(&mut self.data, Some(value)),
            _ => true,
        }
    }
}

/// Keeps the first of several; `false` if there is nothing to keep.
fn first<T>(kept: &mut Option<T>, value: Option<T>) -> bool {
    let is_good = value.is_some();
    if kept.is_none() {
        *kept = value;
    }
    is_good
}

fn address(raw: &RawAttribute<'_>, transaction: TransactionId) -> Option<SocketAddr> {
    let address = XorSocketAddr::from_raw(raw).ok()?;
    Some(address.addr(transaction))
}

#[cfg(test)]
mod tests;
