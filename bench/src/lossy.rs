//! A bad link on loopback: a forwarder between one bot and the server that drops packets.
//!
//! In: datagrams of either side. Out: most of them, to the other side; which ones is decided by a
//! seed, so that a failing run can be had again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Larger than any datagram in a call.
const MAX_DATAGRAM: usize = 2048;

/// A running forwarder; dropping it ends the link.
#[derive(Debug)]
pub struct LossyLink {
    address: SocketAddr,
    dropped: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl LossyLink {
    /// A link to `server` that loses this share of media packets each way, 0 to 1. STUN and DTLS
    /// get through: how a call starts on a bad link is another story than how it goes on.
    pub async fn new(server: SocketAddr, loss: f64, seed: u64) -> anyhow::Result<LossyLink> {
        let near = UdpSocket::bind("127.0.0.1:0")
            .await
            .context("cannot bind the link")?;
        let far = UdpSocket::bind("127.0.0.1:0")
            .await
            .context("cannot bind the link")?;
        far.connect(server).await?;
        let address = near.local_addr()?;
        let dropped = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(forward(near, far, loss, seed, dropped.clone()));
        Ok(LossyLink {
            address,
            dropped,
            task,
        })
    }

    /// Where the bot sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Packets dropped so far, both ways.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for LossyLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(near: UdpSocket, far: UdpSocket, loss: f64, seed: u64, dropped: Arc<AtomicU64>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client = None;
    let (mut up, mut down) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM]);
    loop {
        // An error is the other side's port being closed; the next datagram tells.
        let (packet, upwards) = tokio::select! {
            received = near.recv_from(&mut up) => {
                let Ok((size, from)) = received else { continue };
                client = Some(from);
                (&up[..size], true)
            }
            received = far.recv(&mut down) => {
                let Ok(size) = received else { continue };
                (&down[..size], false)
            }
        };
        if is_media(packet) && random.random_bool(loss) {
            dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let sent = match client {
            _ if upwards => far.send(packet).await,
            Some(client) => near.send_to(packet, client).await,
            None => continue,
        };
        if let Err(error) = sent {
            eprintln!("the link could not forward a datagram: {error}");
        }
    }
}

/// RTP and RTCP by the first byte (RFC 7983 section 7).
fn is_media(packet: &[u8]) -> bool {
    matches!(packet.first(), Some(128..=191))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_share_asked_for_is_lost_and_only_of_media() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let link = LossyLink::new(server.local_addr().unwrap(), 0.25, 1)
            .await
            .unwrap();
        let mut arrived = [0, 0];
        let mut buffer = [0; 16];
        for sent in (2..=2000).step_by(2) {
            for first in [0, 0x80] {
                client.send_to(&[first], link.address()).await.unwrap();
            }
            // Each pair is accounted for before the next, so that no socket overflows.
            let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
            while arrived.iter().sum::<u64>() + link.dropped() < sent {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{arrived:?} {link:?}"
                );
                let soon = Duration::from_millis(1);
                if tokio::time::timeout(soon, server.recv(&mut buffer))
                    .await
                    .is_ok()
                {
                    arrived[usize::from(buffer[0] == 0x80)] += 1;
                }
            }
        }
        assert_eq!(arrived[0], 1000);
        assert!((200..=300).contains(&link.dropped()), "{}", link.dropped());
    }
}
