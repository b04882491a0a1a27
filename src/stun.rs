//! A STUN client (RFC 8489): under which address this machine's packets arrive elsewhere.
//!
//! In: a socket and a server. Out: the mapped address, or nothing if no answer comes.

use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::{AttributeFromRaw, AttributeStaticType, XorMappedAddress};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteVec, TransactionId,
};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// How long each request is waited for: RFC 8489 section 6.2.1 starts with 500 ms and doubles. It
/// would go on for 39.5 s; an operator who waits is told sooner.
const WAITS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// Bytes of the longest answer that is read whole.
const MAX_ANSWER_LEN: usize = 1500;

/// Asks until an answer comes or patience ends.
pub(crate) async fn ask(socket: &UdpSocket, server: SocketAddr) -> Option<SocketAddr> {
    let transaction = TransactionId::generate();
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let request = Message::builder(kind, transaction, MessageWriteVec::new()).finish();
    for wait in WAITS {
        // A refusal of an earlier packet (ICMP) comes as an error of this one.
        let _ = socket.send_to(&request, server).await;
        let until = Instant::now() + wait;
        if let Ok(mapped) = timeout_at(until, answer(socket, server, transaction)).await {
            return Some(mapped);
        }
    }
    None
}

/// Waits for the answer and passes everything else over.
async fn answer(socket: &UdpSocket, server: SocketAddr, transaction: TransactionId) -> SocketAddr {
    let mut packet = [0; MAX_ANSWER_LEN];
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((len, from)) if from == server => {
                if let Some(mapped) = mapped(&packet[..len], transaction) {
                    return mapped;
                }
            }
            Ok(_) => {}
            // Nothing may listen there: the next try will tell.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn mapped(packet: &[u8], transaction: TransactionId) -> Option<SocketAddr> {
    let message = Message::from_bytes(packet).ok()?;
    if message.transaction_id() != transaction || message.class() != MessageClass::Success {
        return None;
    }
    let mapped = message.raw_attribute(XorMappedAddress::TYPE)?;
    let mapped = XorMappedAddress::from_raw(mapped).ok()?;
    Some(mapped.addr(transaction))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    #[tokio::test]
    async fn our_own_responder_says_where_packets_come_from() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(confab_turn::serve(server));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mapped = ask(&client, address).await;
        assert_eq!(mapped, Some(client.local_addr().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        assert_eq!(ask(&client, address).await, None);
    }

    #[test]
    fn what_is_no_answer_is_passed_over() {
        let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
        let transaction = TransactionId::generate();
        let request = Message::builder(kind, transaction, MessageWriteVec::new()).finish();
        assert_eq!(mapped(&request, transaction), None);
        assert_eq!(mapped(b"\0", transaction), None);
    }
}
