//! STUN Binding as ICE uses it (RFC 8489, RFC 8445 section 7): a thin adapter over `stun-types`.
//!
//! In: datagrams that look like STUN. Out: a [`CheckRequest`] whose every field is in bounds, and
//! the bytes of its answers. Nothing here has state; [`super::ice`] does.

use crate::api::DropReason;
use std::net::SocketAddr;

use stun_types::attribute::{
    Attribute, AttributeFromRaw, AttributeStaticType, AttributeType, ErrorCode, Fingerprint,
    MessageIntegrity, MessageIntegritySha256, RawAttribute, UnknownAttributes, Username,
    XorMappedAddress,
};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageHeader, MessageType,
    MessageWrite, MessageWriteExt, MessageWriteMutSlice, MessageWriteVec, ShortTermCredentials,
    StunWriteError, TransactionId,
};

/// RFC 8445 section 16.1.
const PRIORITY: AttributeType = AttributeType::new(0x0024);
/// RFC 8445 section 16.1.
const USE_CANDIDATE: AttributeType = AttributeType::new(0x0025);
/// Which of its nominations this is, as libwebrtc counts them
/// (draft-thatcher-ice-renomination-01 section 4).
const NOMINATION: AttributeType = AttributeType::new(0xc001);
/// RFC 8445 section 16.1.
const ICE_CONTROLLED: AttributeType = AttributeType::new(0x8029);
/// RFC 8445 section 16.1.
const ICE_CONTROLLING: AttributeType = AttributeType::new(0x802a);

/// Comprehension-required attributes that a check may carry.
const UNDERSTOOD: [AttributeType; 5] = [
    Username::TYPE,
    MessageIntegrity::TYPE,
    MessageIntegritySha256::TYPE,
    PRIORITY,
    USE_CANDIDATE,
];

/// Longest STUN message looked at, in bytes: no check fills an Ethernet frame, and authenticating
/// one costs in proportion to its length.
const MAX_PACKET_LEN: usize = 1500;

/// Longest USERNAME, in bytes: two ufrags of 256 characters and the colon (RFC 8445 section 5.3).
const MAX_USERNAME_LEN: usize = 513;

/// Most attributes looked at for the USERNAME. Browsers put it first; checks have under ten.
const MAX_ATTRIBUTES: usize = 32;

/// Most unknown attributes that a 420 answer names.
const MAX_UNKNOWN: usize = 8;

/// Bytes of the largest answer we write: a 420 with [`MAX_UNKNOWN`] attributes and a SHA-256
/// integrity is 100.
const MAX_REPLY_LEN: usize = 128;

/// Why a STUN packet changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StunDrop {
    /// Not a well-formed STUN message, one with bytes after its end, or an absurdly long one.
    Malformed,
    /// An indication, a response, or a method other than Binding.
    NotBindingRequest,
    /// FINGERPRINT is missing or wrong; ICE requires it (RFC 8445 section 7.1.1).
    BadFingerprint,
    /// USERNAME is missing or is not ours.
    UnknownUsername,
    /// There is no MESSAGE-INTEGRITY. Answered with 400.
    NoIntegrity,
    /// MESSAGE-INTEGRITY was not made with our password. Answered with 401.
    BadIntegrity,
    /// A comprehension-required attribute is unknown. Answered with 420.
    UnknownAttribute,
    /// It came over UDP, which the client is to leave.
    AvoidedWay,
    /// The client claims the controlled role, which is ours. Answered with 487.
    RoleConflict,
    /// Its transaction came by another path before, where the client is: somebody has sent it on.
    Repeated,
    /// It answers nothing that the client was asked by this path.
    UnexpectedAnswer,
}

impl StunDrop {
    /// As what it is counted.
    #[must_use]
    pub fn reason(self) -> DropReason {
        match self {
            StunDrop::Malformed => DropReason::StunMalformed,
            StunDrop::NotBindingRequest => DropReason::StunNotBindingRequest,
            StunDrop::BadFingerprint => DropReason::StunBadFingerprint,
            StunDrop::UnknownUsername => DropReason::StunUnknownUsername,
            StunDrop::NoIntegrity => DropReason::StunNoIntegrity,
            StunDrop::BadIntegrity => DropReason::StunBadIntegrity,
            StunDrop::UnknownAttribute => DropReason::StunUnknownAttribute,
            StunDrop::RoleConflict => DropReason::StunRoleConflict,
            StunDrop::AvoidedWay => DropReason::StunAvoidedWay,
            StunDrop::Repeated => DropReason::StunRepeated,
            StunDrop::UnexpectedAnswer => DropReason::StunUnexpectedAnswer,
        }
    }

    /// The error code that the client is told, if it is told anything.
    fn error_code(self) -> Option<u16> {
        match self {
            StunDrop::NoIntegrity => Some(400),
            StunDrop::BadIntegrity => Some(401),
            StunDrop::UnknownAttribute => Some(420),
            StunDrop::RoleConflict => Some(487),
            StunDrop::Malformed
            | StunDrop::NotBindingRequest
            | StunDrop::BadFingerprint
            | StunDrop::AvoidedWay
            | StunDrop::Repeated
            | StunDrop::UnexpectedAnswer
            | StunDrop::UnknownUsername => None,
        }
    }
}

/// The ufrag of ours that a Binding request is addressed to: what stands before the colon of its
/// USERNAME. Tells whose packet it is before any cryptography; proves nothing.
#[must_use]
pub fn local_ufrag_of(packet: &[u8]) -> Option<&str> {
    let (local, _) = username_of(packet)?.split_once(':')?;
    Some(local)
}

/// Whether a STUN message is of the method Binding, and if so whether it is a request.
#[must_use]
pub fn is_binding(packet: &[u8]) -> Option<bool> {
    /// The bits of a message type that are its class (RFC 8489 section 5).
    const CLASS: u16 = 0x0110;
    let kind = u16::from_be_bytes([*packet.first()?, *packet.get(1)?]);
    (kind & !CLASS == 0x0001).then_some(kind & CLASS == 0)
}

/// The first USERNAME of a Binding request, found without parsing the rest.
fn username_of(packet: &[u8]) -> Option<&str> {
    let (header, mut rest) = packet.split_at_checked(MessageHeader::LENGTH)?;
    // The message type of a Binding request is 0x0001 (RFC 8489 section 5).
    let cookie = stun_types::message::MAGIC_COOKIE.to_be_bytes();
    if !header.starts_with(&[0, 1]) || header.get(4..8)? != cookie {
        return None;
    }
    for _ in 0..MAX_ATTRIBUTES {
        let (&[k0, k1, l0, l1], body) = rest.split_first_chunk()?;
        let kind = AttributeType::new(u16::from_be_bytes([k0, k1]));
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        match kind {
            Username::TYPE if len <= MAX_USERNAME_LEN => {
                return std::str::from_utf8(body.get(..len)?).ok();
            }
            // What follows these is not covered by the integrity.
            Username::TYPE
            | MessageIntegrity::TYPE
            | MessageIntegritySha256::TYPE
            | Fingerprint::TYPE => return None,
            _ => rest = body.get(len.next_multiple_of(4)..)?,
        }
    }
    None
}

/// How a check nominates its pair; the greater counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Nomination {
    /// Which of the client's nominations it is, where the client counts them: the last one counts.
    pub(super) number: u32,
    /// The priority of the client's candidate.
    pub(super) priority: u32,
}

/// A Binding request that is well formed and has a right FINGERPRINT. Not yet authenticated.
pub(super) struct CheckRequest<'a> {
    message: Message<'a>,
    username: &'a str,
}

impl<'a> CheckRequest<'a> {
    pub(super) fn parse(packet: &'a [u8]) -> Result<Self, StunDrop> {
        let header = MessageHeader::from_bytes(packet).map_err(|_| StunDrop::Malformed)?;
        if packet.len() > MAX_PACKET_LEN
            || packet.len() != MessageHeader::LENGTH + usize::from(header.data_length())
        {
            return Err(StunDrop::Malformed);
        }
        if header.get_type() != MessageType::from_class_method(MessageClass::Request, BINDING) {
            return Err(StunDrop::NotBindingRequest);
        }
        // Looked up before the checksum, which costs more.
        let username = username_of(packet).ok_or(StunDrop::UnknownUsername)?;
        let message = Message::from_bytes(packet).map_err(|e| match e {
            stun_types::message::StunParseError::FingerprintMismatch => StunDrop::BadFingerprint,
            _ => StunDrop::Malformed,
        })?;
        // `from_bytes` has verified the value, where there is one.
        if !message.has_attribute(Fingerprint::TYPE) {
            return Err(StunDrop::BadFingerprint);
        }
        Ok(CheckRequest { message, username })
    }

    /// What tells the check from all others, 96 bits.
    pub(super) fn transaction(&self) -> u128 {
        self.message.transaction_id().into()
    }

    /// The whole USERNAME, `ours:theirs`.
    pub(super) fn username(&self) -> &'a str {
        self.username
    }

    /// Checks the integrity, then everything that only an authenticated client is told about.
    pub(super) fn authenticate(&self, key: &IntegrityKey) -> Result<IntegrityAlgorithm, StunDrop> {
        if !self.has(MessageIntegrity::TYPE) && !self.has(MessageIntegritySha256::TYPE) {
            return Err(StunDrop::NoIntegrity);
        }
        self.message
            .validate_integrity_with_key(key)
            .map_err(|_| StunDrop::BadIntegrity)
    }

    /// Whether an authenticated check is one we can act on.
    pub(super) fn acceptable(&self) -> Result<(), StunDrop> {
        if self.unknown_attributes().next().is_some() {
            return Err(StunDrop::UnknownAttribute);
        }
        // RFC 8445 section 7.3.1.1 lets the lower tie-breaker keep its role. A lite agent is
        // always controlled (section 6.1.1), so ours counts as the lowest.
        if self.has(ICE_CONTROLLED) {
            return Err(StunDrop::RoleConflict);
        }
        Ok(())
    }

    /// What the check says of its pair, if it nominates it.
    pub(super) fn nomination(&self) -> Option<Nomination> {
        self.has(USE_CANDIDATE).then(|| Nomination {
            number: self.number(NOMINATION),
            priority: self.number(PRIORITY),
        })
    }

    /// An attribute of 32 bits; 0 when it is not there.
    fn number(&self, kind: AttributeType) -> u32 {
        let attribute = self.message.raw_attribute(kind);
        let value = attribute.and_then(|attribute| attribute.value.first_chunk().copied());
        value.map_or(0, u32::from_be_bytes)
    }

    /// Writes the success answer (RFC 8445 section 7.3.1.2).
    pub(super) fn write_success(
        &self,
        mapped: SocketAddr,
        key: &IntegrityKey,
        algorithm: IntegrityAlgorithm,
        reply: &mut Vec<u8>,
    ) {
        self.write(MessageClass::Success, reply, |message| {
            let mapped = XorMappedAddress::new(mapped, self.message.transaction_id());
            message.add_attribute(&mapped)?;
            message.add_message_integrity_with_key(key, algorithm)
        });
    }

    /// Writes the error answer to `drop`, if it has one, authenticated when the request was.
    pub(super) fn write_error(
        &self,
        drop: StunDrop,
        integrity: Option<(&IntegrityKey, IntegrityAlgorithm)>,
        reply: &mut Vec<u8>,
    ) {
        let Some(code) = drop.error_code() else {
            return;
        };
        self.write(MessageClass::Error, reply, |message| {
            // Without a reason phrase: that keeps the answer shorter than any request.
            let code = [0, 0, (code / 100) as u8, (code % 100) as u8];
            message.add_attribute(&RawAttribute::new(ErrorCode::TYPE, &code))?;
            if drop == StunDrop::UnknownAttribute {
                let mut unknown = UnknownAttributes::new(&[]);
                for kind in self.unknown_attributes().take(MAX_UNKNOWN) {
                    unknown.add_attribute(kind);
                }
                message.add_attribute(&unknown)?;
            }
            match integrity {
                Some((key, algorithm)) => message.add_message_integrity_with_key(key, algorithm),
                None => Ok(()),
            }
        });
    }

    fn write(
        &self,
        class: MessageClass,
        reply: &mut Vec<u8>,
        body: impl FnOnce(&mut MessageWriteMutSlice<'_>) -> Result<(), StunWriteError>,
    ) {
        let mut space = [0; MAX_REPLY_LEN];
        let mut message = Message::builder(
            MessageType::from_class_method(class, BINDING),
            self.message.transaction_id(),
            MessageWriteMutSlice::new(&mut space),
        );
        let written = body(&mut message).and_then(|()| message.add_fingerprint());
        debug_assert!(written.is_ok(), "MAX_REPLY_LEN is too small: {written:?}");
        let len = message.finish();
        if written.is_ok() {
            reply.extend(space.iter().take(len));
        }
    }

    fn has(&self, kind: AttributeType) -> bool {
        self.message.has_attribute(kind)
    }

    fn unknown_attributes(&self) -> impl Iterator<Item = AttributeType> + '_ {
        self.message
            .iter_attributes()
            .map(|(_, attribute)| attribute.get_type())
            .filter(|kind| kind.comprehension_required() && !UNDERSTOOD.contains(kind))
    }
}

/// The key that makes and verifies MESSAGE-INTEGRITY with a password.
pub(super) fn integrity_key(password: &str) -> IntegrityKey {
    ShortTermCredentials::new(password.to_owned()).make_key()
}

/// The priority in our checks (RFC 8445 section 7.1.1): that of a peer-reflexive candidate, in case the
/// client takes our address for one.
const OUR_PRIORITY: u32 = (110 << 24) | (0xffff << 8) | 0xff;

/// A check of ours; `username` is `theirs:ours`, the key that of the client's password. None when the
/// username is longer than STUN allows.
pub(super) fn write_check(
    username: &str,
    key: &IntegrityKey,
    transaction: u128,
) -> Option<Vec<u8>> {
    // One that is never controlling has no tie to break (RFC 8445 section 6.1.1), but libjuice takes 0 for
    // none at all, and refuses the check.
    let (tie_breaker, priority) = (1_u64.to_be_bytes(), OUR_PRIORITY.to_be_bytes());
    let attributes = [
        (ICE_CONTROLLED, &tie_breaker[..]),
        (PRIORITY, &priority[..]),
    ];
    check_with(username, key, transaction, &attributes).ok()
}

fn check_with(
    username: &str,
    key: &IntegrityKey,
    transaction: u128,
    attributes: &[(AttributeType, &[u8])],
) -> Result<Vec<u8>, StunWriteError> {
    let mut message = Message::builder(
        MessageType::from_class_method(MessageClass::Request, BINDING),
        TransactionId::from(transaction),
        MessageWriteVec::new(),
    );
    message.add_attribute(&Username::new(username)?)?;
    for &(kind, value) in attributes {
        message.add_attribute(&RawAttribute::new(kind, value))?;
    }
    message.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1)?;
    message.add_fingerprint()?;
    Ok(message.finish())
}

/// A Binding success response that is well formed. Not yet authenticated.
pub(super) struct CheckAnswer<'a> {
    message: Message<'a>,
}

impl<'a> CheckAnswer<'a> {
    pub(super) fn parse(packet: &'a [u8]) -> Result<Self, StunDrop> {
        if packet.len() > MAX_PACKET_LEN {
            return Err(StunDrop::Malformed);
        }
        let message = Message::from_bytes(packet).map_err(|_| StunDrop::Malformed)?;
        if !message.has_class(MessageClass::Success) || !message.has_method(BINDING) {
            return Err(StunDrop::NotBindingRequest);
        }
        Ok(CheckAnswer { message })
    }

    /// What tells the check that it answers from all others.
    pub(super) fn transaction(&self) -> u128 {
        self.message.transaction_id().into()
    }

    /// Checks that whoever has answered knows the client's password.
    pub(super) fn authenticate(&self, key: &IntegrityKey) -> Result<(), StunDrop> {
        let valid = self.message.validate_integrity_with_key(key);
        valid.map(|_| ()).map_err(|_| StunDrop::BadIntegrity)
    }
}

/// A simulated client's answer to a check of the server: `username` is the client's ufrag, a colon and the
/// server's; `mapped` is where the check came from. None for anything that is no check for that client.
#[must_use]
pub fn answer_check(
    packet: &[u8],
    username: &str,
    password: &str,
    mapped: SocketAddr,
) -> Option<Vec<u8>> {
    let request = CheckRequest::parse(packet).ok()?;
    let key = integrity_key(password);
    let algorithm = request.authenticate(&key).ok()?;
    let mut answer = Vec::new();
    if request.username() == username {
        request.write_success(mapped, &key, algorithm, &mut answer);
    }
    (!answer.is_empty()).then_some(answer)
}

/// A connectivity check as the client makes it: the other side of the server's agent, for
/// simulated clients.
#[derive(Clone, Debug)]
pub struct BindingRequest<'a> {
    /// `server ufrag:client ufrag`.
    pub username: &'a str,
    /// The server's password.
    pub password: &'a str,
    /// Identifies the exchange, 96 bits.
    pub transaction: u128,
    /// What the candidate pair's peer-reflexive candidate would have (RFC 8445 section 5.1.2).
    pub priority: u32,
    /// Nominates the pair.
    pub use_candidate: bool,
    /// Goes into ICE-CONTROLLING; a client of a lite server is always controlling.
    pub tie_breaker: u64,
}

impl BindingRequest<'_> {
    /// The datagram to send.
    ///
    /// # Errors
    /// When the username is longer than STUN allows.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StunWriteError> {
        let (tie_breaker, priority) = (self.tie_breaker.to_be_bytes(), self.priority.to_be_bytes());
        let nomination = self.use_candidate.then_some((USE_CANDIDATE, &[][..]));
        let attributes: Vec<_> = [(ICE_CONTROLLING, &tie_breaker[..])]
            .into_iter()
            .chain(nomination)
            .chain([(PRIORITY, &priority[..])])
            .collect();
        let key = integrity_key(self.password);
        check_with(self.username, &key, self.transaction, &attributes)
    }
}

/// The address that an authenticated Binding success answer reports; `None` for anything else.
#[must_use]
pub fn parse_binding_success(packet: &[u8], password: &str) -> Option<SocketAddr> {
    let message = Message::from_bytes(packet).ok()?;
    if !message.has_class(MessageClass::Success)
        || !message.has_method(BINDING)
        || !message.has_attribute(Fingerprint::TYPE)
    {
        return None;
    }
    message
        .validate_integrity_with_key(&integrity_key(password))
        .ok()?;
    let mapped = message.raw_attribute(XorMappedAddress::TYPE)?;
    let mapped = XorMappedAddress::from_raw(mapped).ok()?;
    Some(mapped.addr(message.transaction_id()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    /// The password of all RFC 5769 vectors with short-term credentials.
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// RFC 5769 section 2.1.
    fn sample_request() -> Vec<u8> {
        bytes(
            "00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573
             7420636c 69656e74 00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009
             6576746a 3a683676 59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249
             c1b571a2 80280004 e57a3bcf",
        )
    }

    #[test]
    fn rfc5769_request_authenticates_with_its_password_only() {
        let packet = sample_request();
        assert_eq!(local_ufrag_of(&packet), Some("evtj"));
        let request = CheckRequest::parse(&packet).unwrap();
        assert_eq!(request.username(), "evtj:h6vY");
        assert_eq!(
            request.authenticate(&integrity_key(PASSWORD)),
            Ok(IntegrityAlgorithm::Sha1)
        );
        assert_eq!(
            request.authenticate(&integrity_key("VOkJxbRl1RmTxUk/WvJxBu")),
            Err(StunDrop::BadIntegrity)
        );
        // The sample's client is controlled, and so are we.
        assert_eq!(request.acceptable(), Err(StunDrop::RoleConflict));
    }

    #[test]
    fn rfc5769_responses_yield_their_addresses() {
        let ipv4 = bytes(
            "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563
             746f7220 00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9
             2af9ba53 f06be7d7 80280004 c07d4c96",
        );
        let ipv6 = bytes(
            "01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563
             746f7220 00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9 00080014
             a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c",
        );
        assert_eq!(
            parse_binding_success(&ipv4, PASSWORD),
            Some("192.0.2.1:32853".parse().unwrap())
        );
        assert_eq!(
            parse_binding_success(&ipv6, PASSWORD),
            Some(
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
                    .parse()
                    .unwrap()
            )
        );
        assert_eq!(parse_binding_success(&ipv4, "another password"), None);
    }

    #[test]
    fn every_single_bit_of_a_request_is_protected() {
        let packet = sample_request();
        let key = integrity_key(PASSWORD);
        for bit in 0..packet.len() * 8 {
            let mut altered = packet.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let accepted =
                CheckRequest::parse(&altered).and_then(|request| request.authenticate(&key));
            assert!(accepted.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_ufrag_is_read_only_from_binding_requests() {
        let request = sample_request();
        let mut indication = request.clone();
        indication[1] = 0x11;
        let mut other_cookie = request.clone();
        other_cookie[4] ^= 1;
        for (packet, why) in [
            (&indication[..], "an indication"),
            (&other_cookie[..], "not the magic cookie"),
            (&request[..19], "a cut header"),
            (&request[..70], "a cut USERNAME"),
            (&[], "nothing"),
        ] {
            assert_eq!(local_ufrag_of(packet), None, "{why}");
        }
    }

    #[test]
    fn a_username_behind_the_integrity_does_not_count() {
        let mut packet = bytes("0001 0000 2112a442 000000000000000000000000");
        packet.extend(bytes("0008 0014").into_iter().chain([0; 20]));
        packet.extend(bytes("0006 0003 613a6200"));
        packet[3] = (packet.len() - 20) as u8;
        assert_eq!(local_ufrag_of(&packet), None);
        packet.drain(20..44);
        packet[3] = (packet.len() - 20) as u8;
        assert_eq!(local_ufrag_of(&packet), Some("a"));
    }
}
