//! Where TCP connections go that somebody else has accepted, on a port that media shares.
//!
//! In: a connection, and what has been read of it. Out: both in the hands of the worker whose client
//! it is, which the ufrag in the first check says (RFC 6544 section 7; RFC 4571 for the framing).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::net::framing::{FramingError, HEADER_LEN, MAX_PACKET, first_packet};
use crate::peer::ice::{local_ufrag_of, worker_of};

/// Connections that may wait for one worker: as many as it accepts before it looks at UDP again.
pub(crate) const WAITING: usize = 64;

/// Bytes read at once: more than a check has.
const READ_LEN: usize = 512;

/// Bytes before the end of the first packet: the longest there is, and half as much of empty ones.
const MAX_OPENING: usize = HEADER_LEN + MAX_PACKET * 3 / 2;

/// A connection for a worker.
#[derive(Debug)]
pub(crate) struct HandedOver {
    /// It; what has been read of it is not in it any more.
    pub stream: std::net::TcpStream,
    /// Where it is from.
    pub address: SocketAddr,
    /// What has been read: the first check at least.
    pub opening: Vec<u8>,
}

/// Why a connection was not taken. It is closed then.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The client, or the network, has ended it.
    #[error("the connection has ended: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The check is for nobody whom one of our workers could have.
    #[error("the connection's first packet is no check for a client of this server")]
    Nobody,
    /// The worker has no time for it.
    #[error("the worker has too many new connections waiting")]
    Busy,
}

/// Where they are handed over; cheap to clone.
#[derive(Clone, Debug)]
pub struct TcpDispatcher {
    workers: Arc<[mpsc::Sender<HandedOver>]>,
}

impl TcpDispatcher {
    /// A dispatcher to so many workers, and what comes through it for each.
    pub(crate) fn new(workers: usize) -> (TcpDispatcher, Vec<mpsc::Receiver<HandedOver>>) {
        let (workers, waiting): (Vec<_>, _) = (0..workers).map(|_| mpsc::channel(WAITING)).unzip();
        let workers = workers.into();
        (TcpDispatcher { workers }, waiting)
    }

    /// Takes a connection of which `opening` has been read. It waits for the whole first packet: how
    /// long is up to who calls, who must also bound how many wait. From then on the worker bounds
    /// what it has, as it does with the connections that it accepts itself.
    ///
    /// # Errors
    /// When the connection has ended, is no media, or no worker takes it.
    pub async fn serve(&self, mut stream: TcpStream, mut opening: Vec<u8>) -> Result<(), Refused> {
        let address = stream.peer_addr()?;
        let worker = loop {
            if let Some(packet) = first_packet(&opening)? {
                let worker = local_ufrag_of(packet).and_then(worker_of);
                break worker.ok_or(Refused::Nobody)?;
            }
            if opening.len() >= MAX_OPENING {
                return Err(Refused::Nobody);
            }
            let mut bytes = [0; READ_LEN];
            let len = stream.read(&mut bytes).await?;
            if len == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            opening.extend(bytes.iter().take(len));
        };
        let worker = self.workers.get(worker.0).ok_or(Refused::Nobody)?;
        let handed_over = HandedOver {
            stream: stream.into_std()?,
            address,
            opening,
        };
        worker.try_send(handed_over).map_err(|_| Refused::Busy)
    }
}
