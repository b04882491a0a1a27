//! A worker's TCP connections: passive ICE-TCP (RFC 6544).
//!
//! In: connections and bytes. Out: packets for the worker, each with its [`Path`], and the worker's
//! packets in order, or given up when the client is too slow (`backlog.rs`).
//!
//! A connection proves itself by a check that the worker accepts, and is closed when it has not within
//! [`MAX_UNPROVEN_TIME`]; of these there are few, and a newcomer takes the place of the oldest. Those
//! that have are bounded by what ICE keeps for a peer, and go with it.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use confab_sockets::ready::ReadySet;
use confab_sockets::subscriber::subscriber;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::backlog::Backlog;
use super::framing::Deframer;
use super::tcp_dispatcher::HandedOver;
use crate::api::DropReason;
use crate::path::{ConnectionId, Path};
use crate::send::outbox::Run;
use crate::worker::{Discarded, Worker};

/// How long a connection has to prove whose it is: time for a handful of round trips on a bad network.
pub(crate) const MAX_UNPROVEN_TIME: Duration = Duration::from_secs(10);

/// Most connections that have not. A check follows a connection at once, so that even a rush of
/// thousands has only a few round trips' worth of them.
pub(crate) const MAX_UNPROVEN: usize = 256;

/// Most of them from one subscriber line; an office shares one.
pub(crate) const MAX_UNPROVEN_OF_SOURCE: usize = 64;

/// Connections accepted at once.
const MAX_ACCEPTS: usize = 64;

/// How long to wait after the system has refused a connection, most likely for want of descriptors.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked at whose time is over.
const SWEEP: Duration = Duration::from_secs(1);

/// Bytes read from a connection before it is another's turn.
const READ_LEN: usize = 16 * 1024;

/// Connections looked at before it is the turn of UDP and of what is to be sent.
const MAX_READY: usize = 64;

/// Bytes that the kernel may hold unsent, beside one write: what is beyond waits in the backlog, where
/// it can be given up. Both together are 190 ms at 300 kbit/s, and 6 ms at 10 Mbit/s, within which the
/// worker comes by.
const MAX_UNSENT: u32 = 4 * 1024;

/// Most bytes of one write: two segments.
const MAX_WRITE: usize = 2 * 1448;

/// Has each write be a buffer of the kernel's own. Otherwise it adds to the last one until that has
/// 64 KB, whatever [`MAX_UNSENT`] says (measured on Linux 6.18).
#[cfg(target_os = "linux")]
const END_OF_RECORD: i32 = 0x80;
#[cfg(not(target_os = "linux"))]
const END_OF_RECORD: i32 = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Listener,
    HandedOver,
    Connection(ConnectionId),
}

#[derive(Debug)]
struct Stream {
    io: TcpStream,
    address: SocketAddr,
    waker: Waker,
    deframer: Deframer,
    backlog: Backlog,
    /// Something has been added to the backlog, or there may be room for it.
    is_dirty: bool,
}

/// Somebody who has not proven to be anybody's.
#[derive(Clone, Copy, Debug)]
struct Unproven {
    since: Instant,
    source: IpAddr,
}

/// Why a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// The client has closed it, or the network has.
    Gone,
    /// The peer it was of has gone.
    Left,
    Refused(DropReason),
}

/// All connections of a worker.
#[derive(Debug)]
pub(crate) struct Streams {
    listener: Option<(TcpListener, Waker)>,
    /// Those that somebody else has accepted.
    handed_over: (mpsc::Receiver<HandedOver>, Waker),
    /// Until when nothing is accepted.
    paused: Option<Instant>,
    streams: HashMap<ConnectionId, Stream>,
    unproven: BTreeMap<ConnectionId, Unproven>,
    next: u64,
    ready: ReadySet<Token>,
    /// Those with something to write.
    dirty: Vec<ConnectionId>,
    scratch: Vec<u8>,
    next_sweep: Option<Instant>,
}

impl Streams {
    /// Takes a bound socket over, if there is one, and all connections that are handed over; within
    /// a tokio runtime.
    ///
    /// # Errors
    /// When the runtime refuses it.
    pub(crate) fn new(
        listener: Option<std::net::TcpListener>,
        handed_over: mpsc::Receiver<HandedOver>,
    ) -> io::Result<Self> {
        let ready = ReadySet::new();
        let listener = match listener {
            Some(listener) => {
                let listener = TcpListener::from_std(listener)?;
                Some((listener, ready.add(Token::Listener)))
            }
            None => None,
        };
        Ok(Streams {
            scratch: vec![0; READ_LEN],
            listener,
            handed_over: (handed_over, ready.add(Token::HandedOver)),
            paused: None,
            streams: HashMap::new(),
            unproven: BTreeMap::new(),
            next: 0,
            ready,
            dirty: Vec::new(),
            next_sweep: None,
        })
    }

    /// Waits until a connection has something to do.
    pub(crate) async fn ready(&self) {
        poll_fn(|context| self.ready.poll(context)).await;
    }

    /// When [`Streams::handle_timeout`] wants to be called.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.next_sweep, self.paused].into_iter().flatten().min()
    }

    /// Does what is due: closes those that are nobody's.
    pub(crate) fn handle_timeout(&mut self, now: Instant, worker: &mut Worker) {
        if self.paused.take_if(|until| now >= *until).is_some()
            && let Some((_, waker)) = &self.listener
        {
            waker.wake_by_ref();
        }
        if self.next_sweep.is_none_or(|due| now < due) {
            return;
        }
        let verdict = |(&id, stream): (&ConnectionId, &Stream)| {
            let ended = match self.unproven.get(&id) {
                Some(unproven) => {
                    let age = now.saturating_duration_since(unproven.since);
                    (age >= MAX_UNPROVEN_TIME).then_some(Ended::Refused(DropReason::TcpUnproven))
                }
                None => (!worker.knows(stream.path(id))).then_some(Ended::Left),
            };
            Some((id, ended?))
        };
        let ended: Vec<_> = self.streams.iter().filter_map(verdict).collect();
        for (id, ended) in ended {
            self.end(worker, id, ended);
        }
        self.next_sweep = (!self.streams.is_empty()).then_some(now + SWEEP);
    }

    /// Accepts, reads and writes what is ready, each connection a bit.
    pub(crate) fn handle_ready(&mut self, now: Instant, worker: &mut Worker) {
        for _ in 0..self.ready.len().min(MAX_READY) {
            match self.ready.take() {
                Some(Token::Listener) => self.accept(now, worker),
                Some(Token::HandedOver) => self.take_over(now, worker),
                Some(Token::Connection(id)) => {
                    if let Err(ended) = self.read(now, id, worker) {
                        self.end(worker, id, ended);
                    }
                    self.mark(id);
                }
                None => return,
            }
        }
    }

    /// Queues a run of packets for a connection. Says whether it exists.
    pub(crate) fn queue(
        &mut self,
        now: Instant,
        to: ConnectionId,
        run: &Run,
        bytes: &[u8],
    ) -> bool {
        let Some(stream) = self.streams.get_mut(&to) else {
            return false;
        };
        for packet in bytes.chunks(run.segment_size.max(1)) {
            stream.backlog.push(now, run.destination.is_picture, packet);
        }
        self.mark(to);
        true
    }

    /// Writes what there is room for. Says whether anything has come of it for the worker to do.
    pub(crate) fn write(&mut self, now: Instant, worker: &mut Worker) -> bool {
        let mut has_news = false;
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.is_dirty = false;
            let path = stream.path(id);
            let mut discarded = stream.backlog.discard(now);
            let outcome = stream.write();
            let still = stream.backlog.discard(now);
            discarded.pictures += still.pictures;
            discarded.others += still.others;
            if discarded != Discarded::default() {
                worker.handle_discarded(now, path, discarded);
                has_news = true;
            }
            if outcome.is_err() {
                self.end(worker, id, Ended::Gone);
            }
        }
        self.dirty = dirty;
        has_news
    }

    /// Closes all connections, and goes on accepting, whatever it was at.
    pub(crate) fn clear(&mut self) {
        if let Some((_, waker)) = &self.listener {
            waker.wake_by_ref();
        }
        self.handed_over.1.wake_by_ref();
        self.streams.clear();
        self.unproven.clear();
        self.dirty.clear();
        self.next_sweep = None;
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.streams.len()
    }

    fn mark(&mut self, id: ConnectionId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.is_dirty
        {
            stream.is_dirty = true;
            self.dirty.push(id);
        }
    }

    fn accept(&mut self, now: Instant, worker: &mut Worker) {
        for _ in 0..MAX_ACCEPTS {
            let Some((listener, waker)) = &self.listener else {
                return;
            };
            match listener.poll_accept(&mut Context::from_waker(waker)) {
                Poll::Pending => return,
                Poll::Ready(Ok((io, address))) => {
                    self.admit(now, worker, io, address);
                }
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "a media connection could not be accepted");
                    self.paused = Some(now + REFUSAL_PAUSE);
                    return;
                }
            }
        }
        if let Some((_, waker)) = &self.listener {
            waker.wake_by_ref();
        }
    }

    fn take_over(&mut self, now: Instant, worker: &mut Worker) {
        for _ in 0..MAX_ACCEPTS {
            let (handed_over, waker) = &mut self.handed_over;
            // There is nobody left to hand anything over once the process ends.
            let Poll::Ready(Some(next)) = handed_over.poll_recv(&mut Context::from_waker(waker))
            else {
                return;
            };
            match TcpStream::from_std(next.stream) {
                Ok(io) => {
                    let id = self.admit(now, worker, io, next.address);
                    if let Err(ended) = self.open(now, id, next.opening, worker) {
                        self.end(worker, id, ended);
                    }
                    self.mark(id);
                }
                Err(error) => {
                    tracing::warn!(%error, "a media connection could not be taken over");
                    worker.count_drop(DropReason::TcpNotTakenOver);
                }
            }
        }
        self.handed_over.1.wake_by_ref();
    }

    /// Handles what somebody else has read of a connection.
    fn open(
        &mut self,
        now: Instant,
        id: ConnectionId,
        mut opening: Vec<u8>,
        worker: &mut Worker,
    ) -> Result<(), Ended> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let path = stream.path(id);
        stream.take(now, path, &mut opening, worker)?;
        self.note_proof(id, path, worker);
        Ok(())
    }

    fn admit(
        &mut self,
        now: Instant,
        worker: &mut Worker,
        io: TcpStream,
        address: SocketAddr,
    ) -> ConnectionId {
        // A socket for both families has IPv4 addresses in disguise.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let source = subscriber(address.ip());
        let of_source =
            |(id, unproven): (&ConnectionId, &Unproven)| (unproven.source == source).then_some(*id);
        let mut same = self.unproven.iter().filter_map(of_source);
        let oldest = match same.next() {
            Some(oldest) if same.count() + 1 >= MAX_UNPROVEN_OF_SOURCE => Some(oldest),
            _ if self.unproven.len() >= MAX_UNPROVEN => self.unproven.keys().next().copied(),
            _ => None,
        };
        if let Some(oldest) = oldest {
            self.end(worker, oldest, Ended::Refused(DropReason::TcpCrowdedOut));
        }
        // Both are for latency; without them it still works.
        let _ = io.set_nodelay(true);
        let _ = SockRef::from(&io).set_tcp_notsent_lowat(MAX_UNSENT);
        let id = ConnectionId(self.next);
        self.next += 1;
        let stream = Stream {
            io,
            address,
            waker: self.ready.add(Token::Connection(id)),
            deframer: Deframer::default(),
            backlog: Backlog::default(),
            is_dirty: false,
        };
        self.streams.insert(id, stream);
        self.unproven.insert(id, Unproven { since: now, source });
        self.next_sweep.get_or_insert(now + SWEEP);
        id
    }

    /// Reads once; what is left makes it ready again.
    fn read(&mut self, now: Instant, id: ConnectionId, worker: &mut Worker) -> Result<(), Ended> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let path = stream.path(id);
        loop {
            let context = &mut Context::from_waker(&stream.waker);
            match stream.io.poll_read_ready(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(Ended::Gone),
                Poll::Ready(Ok(())) => {}
            }
            let len = match stream.io.try_read(&mut self.scratch) {
                Ok(0) => return Err(Ended::Gone),
                Ok(len) => len,
                // Which had to be tried to be waited for again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return Err(Ended::Gone),
            };
            stream.waker.wake_by_ref();
            let read = self.scratch.get_mut(..len).unwrap_or_default();
            stream.take(now, path, read, worker)?;
            self.note_proof(id, path, worker);
            return Ok(());
        }
    }

    fn note_proof(&mut self, id: ConnectionId, path: Path, worker: &Worker) {
        if self.unproven.contains_key(&id) && worker.knows(path) {
            self.unproven.remove(&id);
        }
    }

    fn end(&mut self, worker: &mut Worker, id: ConnectionId, ended: Ended) {
        self.unproven.remove(&id);
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        let path = stream.path(id);
        if let Ended::Refused(reason) = ended {
            worker.count_drop(reason);
        }
        tracing::debug!(%path, ?ended, "a media connection has ended");
        worker.handle_closed(path);
    }
}

impl Stream {
    fn path(&self, id: ConnectionId) -> Path {
        Path::Tcp {
            connection: id,
            address: self.address,
        }
    }

    /// Gives the packets in what the client has sent to the worker.
    fn take(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &mut [u8],
        worker: &mut Worker,
    ) -> Result<(), Ended> {
        let outcome = self.deframer.handle(bytes, |packet| {
            worker.handle_datagram(now, path, packet);
        });
        outcome.map_err(|error| Ended::Refused(error.reason()))
    }

    /// Writes until there is nothing or no room, in which case the waker is called when there is.
    fn write(&mut self) -> io::Result<()> {
        while !self.backlog.unwritten().is_empty() {
            let context = &mut Context::from_waker(&self.waker);
            let Poll::Ready(ready) = self.io.poll_write_ready(context) else {
                return Ok(());
            };
            ready?;
            let unwritten = self.backlog.unwritten();
            let next = unwritten.get(..MAX_WRITE).unwrap_or(unwritten);
            let written = self.io.try_io(Interest::WRITABLE, || {
                SockRef::from(&self.io).send_with_flags(next, END_OF_RECORD)
            });
            match written {
                Ok(len) => self.backlog.handle_written(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
