//! The STUN half: what a Binding request is answered (RFC 8489), so that a client learns which
//! address its packets come from.
//!
//! In: a datagram. Out: its answer. [`Responder`] is the protocol, without I/O; [`serve`] is the I/O
//! that gives it a socket, for a server that has no relay.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use stun_types::attribute::{
    Attribute, AttributeStaticType, AttributeType, ErrorCode, Fingerprint, MessageIntegrity,
    MessageIntegritySha256, Nonce, PasswordAlgorithm, PasswordAlgorithms, RawAttribute, Realm,
    UnknownAttributes, Userhash, Username, XorMappedAddress,
};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageHeader, MessageType, MessageWrite, MessageWriteExt,
    MessageWriteMutSlice, StunWriteError,
};
use tokio::net::UdpSocket;

use crate::limit::RateLimit;

/// Longest packet looked at, in bytes: a Binding request has no use for more.
pub(crate) const MAX_PACKET_LEN: usize = 548;

/// Bytes of the largest answer: a 420 with [`MAX_UNKNOWN`] attributes and a FINGERPRINT is 56.
pub(crate) const MAX_REPLY_LEN: usize = 64;

/// Most unknown attributes that a 420 answer names.
const MAX_UNKNOWN: usize = 8;

/// The error code of an answer to unknown attributes (RFC 8489 section 14.8).
const UNKNOWN_ATTRIBUTE: [u8; 4] = [0, 0, 4, 20];

/// Comprehension-required attributes that do not stop us. Those of authentication are understood
/// and not needed: a Binding request proves nothing that its answer does not say.
const UNDERSTOOD: [AttributeType; 8] = [
    Username::TYPE,
    Userhash::TYPE,
    Realm::TYPE,
    Nonce::TYPE,
    PasswordAlgorithm::TYPE,
    PasswordAlgorithms::TYPE,
    MessageIntegrity::TYPE,
    MessageIntegritySha256::TYPE,
];

/// Why a packet got no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Dropped {
    /// Not a STUN message, or a damaged one.
    #[error("the packet is not a well-formed STUN message")]
    Malformed,
    /// An indication, a response, or a method other than Binding.
    #[error("the STUN message is not a Binding request")]
    NotBindingRequest,
    /// Over the limit of its address, or of all addresses together.
    #[error("the source has sent more requests than it may in a second")]
    RateLimited,
}

/// Answers STUN Binding requests.
#[derive(Default)]
pub struct Responder {
    limit: RateLimit,
}

impl Responder {
    /// Takes a datagram; when it returns `Ok`, `reply` is to be sent back to `from`.
    ///
    /// # Errors
    /// When the packet gets no answer; `reply` is empty then.
    pub fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<(), Dropped> {
        reply.clear();
        let header = MessageHeader::from_bytes(packet).map_err(|_| Dropped::Malformed)?;
        if packet.len() > MAX_PACKET_LEN
            || packet.len() != MessageHeader::LENGTH + usize::from(header.data_length())
        {
            return Err(Dropped::Malformed);
        }
        if header.get_type() != MessageType::from_class_method(MessageClass::Request, BINDING) {
            return Err(Dropped::NotBindingRequest);
        }
        if !self.limit.admit(now, from.ip()) {
            return Err(Dropped::RateLimited);
        }
        let request = Message::from_bytes(packet).map_err(|_| Dropped::Malformed)?;

        let mut space = [0; MAX_REPLY_LEN];
        let len = answer(&request, from, &mut space).map_err(|_| Dropped::Malformed)?;
        reply.extend(space.iter().take(len));
        Ok(())
    }
}

/// Writes the answer (RFC 8489 section 6.3.1) without SOFTWARE or reason phrase, so that it is no
/// amplifier, and with FINGERPRINT where the request has one (section 7.2).
pub(crate) fn answer(
    request: &Message<'_>,
    from: SocketAddr,
    space: &mut [u8],
) -> Result<usize, StunWriteError> {
    let mut unknown = UnknownAttributes::new(&[]);
    let mut unknown_count = 0;
    for (_, attribute) in request.iter_attributes() {
        let kind = attribute.get_type();
        if kind.comprehension_required()
            && !UNDERSTOOD.contains(&kind)
            && unknown_count < MAX_UNKNOWN
        {
            unknown.add_attribute(kind);
            unknown_count += 1;
        }
    }

    let writer = MessageWriteMutSlice::new(space);
    let mut message = if unknown_count > 0 {
        let mut message = Message::builder_error(request, writer);
        message.add_attribute(&RawAttribute::new(ErrorCode::TYPE, &UNKNOWN_ATTRIBUTE))?;
        message.add_attribute(&unknown)?;
        message
    } else {
        let mut message = Message::builder_success(request, writer);
        message.add_attribute(&XorMappedAddress::new(from, request.transaction_id()))?;
        message
    };
    if request.has_attribute(Fingerprint::TYPE) {
        message.add_fingerprint()?;
    }
    Ok(message.finish())
}

/// Answers on `socket` until it fails.
///
/// # Errors
/// When the socket can no longer receive.
pub async fn serve(socket: UdpSocket) -> io::Result<()> {
    let mut responder = Responder::default();
    // One byte more than is looked at: a longer datagram is cut here and refused there.
    let mut packet = [0; MAX_PACKET_LEN + 1];
    let mut reply = Vec::with_capacity(MAX_REPLY_LEN);
    loop {
        let (len, from) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            // An earlier answer met a closed port; the socket itself is well.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(e) => return Err(e),
        };
        let packet = packet.get(..len).unwrap_or_default();
        if responder
            .handle(Instant::now(), from, packet, &mut reply)
            .is_ok()
        {
            // An answer that cannot be sent is lost like any datagram; the client asks again.
            let _ = socket.try_send_to(&reply, from);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use proptest::prelude::*;
    use stun_types::attribute::AttributeFromRaw;
    use stun_types::message::{MessageWriteVec, Method};

    use super::*;

    fn from() -> SocketAddr {
        "198.51.100.7:54321".parse().unwrap()
    }

    fn binding(attributes: &[(u16, &[u8])], fingerprint: bool) -> Vec<u8> {
        let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
        for &(kind, value) in attributes {
            message
                .add_attribute(&RawAttribute::new(kind.into(), value))
                .unwrap();
        }
        if fingerprint {
            message.add_fingerprint().unwrap();
        }
        message.finish()
    }

    fn handle(from: SocketAddr, packet: &[u8]) -> Result<Vec<u8>, Dropped> {
        let mut reply = vec![1, 2, 3];
        let result = Responder::default().handle(Instant::now(), from, packet, &mut reply);
        assert_eq!(result.is_err(), reply.is_empty());
        result.map(|()| reply)
    }

    #[test]
    fn a_client_learns_its_address() {
        for address in ["198.51.100.7:54321", "[2001:db8::1]:9"] {
            let address = address.parse().unwrap();
            for fingerprint in [false, true] {
                let request = binding(&[], fingerprint);
                let reply = handle(address, &request).unwrap();
                let reply = Message::from_bytes(&reply).unwrap();
                let request = Message::from_bytes(&request).unwrap();
                assert!(reply.has_class(MessageClass::Success) && reply.has_method(BINDING));
                assert_eq!(reply.transaction_id(), request.transaction_id());
                assert_eq!(reply.has_attribute(Fingerprint::TYPE), fingerprint);
                let mapped = reply.raw_attribute(XorMappedAddress::TYPE).unwrap();
                let mapped = XorMappedAddress::from_raw(mapped).unwrap();
                assert_eq!(mapped.addr(reply.transaction_id()), address);
            }
        }
    }

    #[test]
    fn an_answer_adds_no_more_than_the_address() {
        let request = binding(&[], false);
        assert_eq!(handle(from(), &request).unwrap().len(), request.len() + 12);
    }

    #[test]
    fn unknown_attributes_are_named() {
        let many: Vec<(u16, &[u8])> = (0x7000..0x7020).map(|kind| (kind, &[][..])).collect();
        let reply = handle(from(), &binding(&many, true)).unwrap();
        let reply = Message::from_bytes(&reply).unwrap();
        assert!(reply.has_class(MessageClass::Error));
        assert_eq!(reply.attribute::<ErrorCode>().unwrap().code(), 420);
        let unknown = reply.attribute::<UnknownAttributes>().unwrap();
        assert!(unknown.has_attribute(0x7000.into()) && unknown.has_attribute(0x7007.into()));
    }

    #[test]
    fn attributes_that_may_be_ignored_are() {
        let username = (Username::TYPE.value(), &b"me"[..]);
        let optional = (0x8022, &b"client"[..]);
        let reply = handle(from(), &binding(&[username, optional], false)).unwrap();
        assert!(
            Message::from_bytes(&reply)
                .unwrap()
                .has_class(MessageClass::Success)
        );
    }

    #[test]
    fn what_is_not_a_binding_request_gets_no_answer() {
        let good = binding(&[], true);
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let mut trailing = good.clone();
        trailing.push(0);
        let indication = Message::builder_indication(BINDING, MessageWriteVec::new()).finish();
        let allocate = Message::builder_request(Method::new(3), MessageWriteVec::new()).finish();
        for (packet, why) in [
            (vec![], Dropped::Malformed),
            (vec![0; 20], Dropped::Malformed),
            (good[..good.len() - 1].to_vec(), Dropped::Malformed),
            (trailing, Dropped::Malformed),
            (damaged, Dropped::Malformed),
            (binding(&[(0x8022, &[0; 600])], false), Dropped::Malformed),
            (indication, Dropped::NotBindingRequest),
            (allocate, Dropped::NotBindingRequest),
            (handle(from(), &good).unwrap(), Dropped::NotBindingRequest),
        ] {
            assert_eq!(handle(from(), &packet), Err(why), "{packet:02x?}");
        }
    }

    #[test]
    fn a_flood_is_answered_a_hundred_times_a_second() {
        let mut responder = Responder::default();
        let (now, request, mut reply) = (Instant::now(), binding(&[], false), Vec::new());
        let answered = (0..1000)
            .filter(|_| responder.handle(now, from(), &request, &mut reply).is_ok())
            .count();
        assert_eq!(answered, 100);
        let other = "198.51.100.8:1".parse().unwrap();
        assert!(responder.handle(now, other, &request, &mut reply).is_ok());
    }

    #[tokio::test]
    async fn a_socket_answers_and_survives_noise() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        let serving = tokio::spawn(serve(socket));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(&[0xff; 1400], server).await.unwrap();
        let request = binding(&[], true);
        client.send_to(&request, server).await.unwrap();
        let mut buffer = [0; 100];
        let wait = std::time::Duration::from_secs(5);
        let (len, _) = tokio::time::timeout(wait, client.recv_from(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        let reply = Message::from_bytes(&buffer[..len]).unwrap();
        let mapped = reply.raw_attribute(XorMappedAddress::TYPE).unwrap();
        let mapped = XorMappedAddress::from_raw(mapped).unwrap();
        assert_eq!(
            mapped.addr(reply.transaction_id()),
            client.local_addr().unwrap()
        );
        serving.abort();
    }

    proptest! {
        #[test]
        fn arbitrary_and_mutated_packets_never_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..100),
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let _ = handle(from(), &noise);
            let mut packet = binding(&[(0x8022, b"client"), (0x7001, &[1])], true);
            for (index, byte) in edits {
                let index = index.index(packet.len());
                packet[index] = byte;
            }
            if let Ok(reply) = handle(from(), &packet) {
                prop_assert!(reply.len() <= MAX_REPLY_LEN);
                prop_assert!(Message::from_bytes(&reply).is_ok());
            }
        }
    }
}
