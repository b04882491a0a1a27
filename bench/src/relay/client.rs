//! A client of a relay with a channel to a peer: the requests that take it there (RFC 8656).
//!
//! In: a way to the relay, who it is. Out: an allocation whose channel is bound, or why not.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use stun_types::attribute::{
    AttributeStaticType, AttributeType, ErrorCode, Nonce, RawAttribute, Realm, Username,
    XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageWrite, MessageWriteExt, MessageWriteVec, Method,
};

use super::wire::{self, Wire};

/// The realm, the user and the password of every server measured here.
pub(super) const NAME: &str = "bench";

const ALLOCATE: Method = Method::new(3);
const CHANNEL_BIND: Method = Method::new(9);
const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000c);
const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);
/// The channel of every client.
const CHANNEL: [u8; 2] = [0x40, 0];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a datagram is sent again (RFC 8489 section 6.2.1).
const RETRANSMIT_AFTER: Duration = Duration::from_millis(500);

/// A client, and the peer that it talks to.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) client: Wire,
    pub(super) peer: UdpSocket,
    pub(super) relayed: SocketAddr,
}

/// A payload as the client sends it.
pub(super) fn channel_data(len: usize) -> Vec<u8> {
    let mut message = CHANNEL.to_vec();
    message.extend((len as u16).to_be_bytes());
    message.resize(4 + len.next_multiple_of(4), 0x55);
    message
}

/// Whether a message carries relayed data.
pub(super) fn is_channel_data(message: &[u8]) -> bool {
    message.starts_with(&CHANNEL)
}

impl Pair {
    /// Allocates, and binds a channel to a peer of its own.
    pub(super) fn connect(client: Wire, peer: Ipv4Addr) -> anyhow::Result<Pair> {
        let peer = wire::udp(peer)?;
        let address = peer.local_addr()?;
        let (client, relayed) = bind(client, address)?;
        Ok(Pair {
            client,
            peer,
            relayed,
        })
    }
}

/// Allocates, and binds a channel to a peer; with the relayed address.
pub(super) fn bind(mut client: Wire, peer: SocketAddr) -> anyhow::Result<(Wire, SocketAddr)> {
    let (nonce, relayed) = allocate(&mut client)?;
    let mut request = request(CHANNEL_BIND);
    add(
        &mut request,
        CHANNEL_NUMBER,
        &[CHANNEL[0], CHANNEL[1], 0, 0],
    )?;
    let peer = XorSocketAddr::new(peer, request.transaction_id());
    request.add_attribute(&peer.to_raw(XOR_PEER_ADDRESS))?;
    let answer = exchange(&mut client, sign(request, &nonce)?)?;
    succeeded(&answer).context("the relay binds no channel")?;
    Ok((client, relayed))
}

/// Allocates as browsers do, without credentials first; the nonce, and the relayed address.
pub(super) fn allocate(client: &mut Wire) -> anyhow::Result<(String, SocketAddr)> {
    let with_transport = || {
        let mut request = request(ALLOCATE);
        // UDP (RFC 8656 section 18.8).
        add(&mut request, REQUESTED_TRANSPORT, &[17, 0, 0, 0]).map(|()| request)
    };
    let challenge = exchange(client, with_transport()?.finish())?;
    let challenge = Message::from_bytes(&challenge)?;
    let nonce = challenge
        .attribute::<Nonce>()
        .context("the relay sends no nonce")?;
    let nonce = nonce.nonce().to_owned();
    let answer = exchange(client, sign(with_transport()?, &nonce)?)?;
    succeeded(&answer).context("the relay allocates nothing")?;
    let answer = Message::from_bytes(&answer)?;
    let relayed = answer.raw_attribute(XOR_RELAYED_ADDRESS);
    let relayed = relayed.context("the relay tells no relayed address")?;
    let relayed = XorSocketAddr::from_raw(&relayed)?;
    Ok((nonce, relayed.addr(answer.transaction_id())))
}

fn request(method: Method) -> MessageWriteVec {
    Message::builder_request(method, MessageWriteVec::new())
}

fn add(message: &mut MessageWriteVec, kind: AttributeType, value: &[u8]) -> anyhow::Result<()> {
    Ok(message.add_attribute(&RawAttribute::new(kind, value))?)
}

fn sign(mut message: MessageWriteVec, nonce: &str) -> anyhow::Result<Vec<u8>> {
    add(&mut message, Username::TYPE, NAME.as_bytes())?;
    add(&mut message, Realm::TYPE, NAME.as_bytes())?;
    add(&mut message, Nonce::TYPE, nonce.as_bytes())?;
    let [user, password, realm] = [NAME; 3].map(str::to_owned);
    let key = LongTermKeyCredentials::new(user, password, realm);
    let key = MessageIntegrityCredentials::from(key);
    message.add_message_integrity(&key, IntegrityAlgorithm::Sha1)?;
    Ok(message.finish())
}

/// The answer to a request.
fn exchange(client: &mut Wire, request: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let transaction = request.get(4..20).map(<[u8]>::to_vec);
    let request = [request];
    client.send(&request)?;
    let (start, mut sent) = (Instant::now(), Instant::now());
    loop {
        let mut answer = None;
        client.receive(|message| {
            if message.get(4..20) == transaction.as_deref() {
                answer = Some(message.to_vec());
            }
        })?;
        if let Some(answer) = answer {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            bail!("the relay has not answered within {PATIENCE:?}");
        }
        if matches!(client, Wire::Udp(_)) && sent.elapsed() > RETRANSMIT_AFTER {
            client.send(&request)?;
            sent = Instant::now();
        }
        std::thread::yield_now();
    }
}

fn succeeded(answer: &[u8]) -> anyhow::Result<()> {
    let answer = Message::from_bytes(answer)?;
    if answer.has_class(MessageClass::Success) {
        return Ok(());
    }
    let error = answer.attribute::<ErrorCode>()?;
    bail!("it answers {} ({})", error.code(), error.reason())
}
