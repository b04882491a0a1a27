//! Messages that the server writes: answers and Data indications.
//!
//! In: what they say. Out: their bytes.

use std::net::SocketAddr;

use stun_types::attribute::{
    Attribute, AttributeExt, AttributeStaticType, AttributeType, AttributeWrite, AttributeWriteExt,
    ErrorCode, RawAttribute, Software, UnknownAttributes, XorSocketAddr,
};
use stun_types::message::{
    Message, MessageClass, MessageHeader, MessageType, MessageWrite, MessageWriteExt,
    MessageWriteMutSlice, MessageWriteVec, Method, StunWriteError, TransactionId,
};

use super::Key;

use super::{ADDRESS_ERROR_CODE, Code, DATA_METHOD, Family, XOR_PEER_ADDRESS};

/// What clients are told about us (RFC 8489 section 14.14), without a version.
const SOFTWARE: &str = "Confab";

/// What an answer is made from, once its request is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo {
    pub(super) method: Method,
    pub(crate) transaction: TransactionId,
    pub(super) has_fingerprint: bool,
}

/// An answer that is being written.
pub(crate) struct Reply {
    to: ReplyTo,
    message: MessageWriteVec,
    result: Result<(), StunWriteError>,
}

impl Reply {
    pub(crate) fn success(to: ReplyTo) -> Self {
        Reply::new(to, MessageClass::Success)
    }

    pub(crate) fn error(to: ReplyTo, code: Code) -> Self {
        let reply = Reply::new(to, MessageClass::Error);
        reply.bytes(ErrorCode::TYPE, &code.to_bytes())
    }

    fn new(to: ReplyTo, class: MessageClass) -> Self {
        let kind = MessageType::from_class_method(class, to.method);
        let space = MessageWriteVec::with_capacity(128);
        Reply {
            to,
            message: Message::builder(kind, to.transaction, space),
            result: Ok(()),
        }
    }

    fn attribute(mut self, attribute: &dyn AttributeWrite) -> Self {
        if self.result.is_ok() {
            self.result = self.message.add_attribute(attribute);
        }
        self
    }

    /// Adds an attribute by its value.
    pub(crate) fn bytes(self, kind: AttributeType, value: &[u8]) -> Self {
        self.attribute(&RawAttribute::new(kind, value))
    }

    pub(crate) fn address(self, kind: AttributeType, address: SocketAddr) -> Self {
        let address = Address::new(kind, address, self.to.transaction);
        self.attribute(&address)
    }

    /// Adds what a 420 answer names.
    pub(crate) fn unknown(self, unknown: &[AttributeType]) -> Self {
        self.attribute(&UnknownAttributes::new(unknown))
    }

    /// Adds why there is no address of a family (RFC 8656 section 18.12).
    pub(crate) fn address_error(self, family: Family, code: Code) -> Self {
        let [_, _, class, number] = code.to_bytes();
        let value = [family.to_byte(), 0, class, number];
        self.bytes(ADDRESS_ERROR_CODE, &value)
    }

    /// The bytes, signed if there is a key; `None` only if an attribute is too long for STUN.
    pub(crate) fn finish(self, key: Option<&Key>) -> Option<Vec<u8>> {
        let to = self.to;
        let (mut written, mut message) = match key {
            // Those who have proven nothing are not told, and not sent more than they need.
            None => (self.result, self.message),
            Some(key) => {
                let reply = self.bytes(Software::TYPE, SOFTWARE.as_bytes());
                let mut message = reply.message;
                let signed = message.add_message_integrity_with_key(&key.key, key.algorithm);
                (reply.result.and(signed), message)
            }
        };
        if to.has_fingerprint {
            written = written.and(message.add_fingerprint());
        }
        debug_assert!(written.is_ok(), "{written:?}");
        written.is_ok().then(|| message.finish())
    }
}

/// Appends a Data indication (RFC 8656 section 11.5) to `out`; `extra` is its DATA or ICMP
/// attribute. Writes nothing and returns `false` if it is too long for STUN.
pub(crate) fn write_data_indication(
    transaction: TransactionId,
    peer: SocketAddr,
    extra: AttributeType,
    value: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let peer = Address::new(XOR_PEER_ADDRESS, peer, transaction);
    let len = peer.padded_len() + 4 + value.len().next_multiple_of(4);
    if len > usize::from(u16::MAX) {
        return false;
    }
    let start = out.len();
    out.resize(start + MessageHeader::LENGTH + len, 0);
    let mut message = Message::builder(
        MessageType::from_class_method(MessageClass::Indication, DATA_METHOD),
        transaction,
        MessageWriteMutSlice::new(out.get_mut(start..).unwrap_or_default()),
    );
    let written = message
        .add_attribute(&peer)
        .and_then(|()| message.add_attribute(&RawAttribute::new(extra, value)));
    if written.is_err() {
        out.truncate(start);
    }
    written.is_ok()
}

/// An XOR-ed address under any attribute type.
#[derive(Debug)]
struct Address {
    kind: AttributeType,
    address: XorSocketAddr,
}

impl Address {
    fn new(kind: AttributeType, address: SocketAddr, transaction: TransactionId) -> Self {
        Address {
            kind,
            address: XorSocketAddr::new(address, transaction),
        }
    }
}

impl Attribute for Address {
    fn get_type(&self) -> AttributeType {
        self.kind
    }

    fn length(&self) -> u16 {
        self.address.length()
    }
}

impl AttributeWrite for Address {
    #[allow(
        clippy::indexing_slicing,
        reason = "whoever calls it has made room, as its name asks for"
    )]
    fn write_into_unchecked(&self, dest: &mut [u8]) {
        self.write_header_unchecked(dest);
        self.address.write_into_unchecked(&mut dest[4..]);
    }

    fn to_raw(&self) -> RawAttribute<'_> {
        self.address.to_raw(self.kind)
    }
}
