//! Clients that come over a stream: TCP, or anything else that is read and written.
//!
//! In: bytes. Out: whole messages for the worker, and the worker's messages written in order. A
//! client that has no allocation is disconnected after a while; one that does not read loses what is
//! old, and does not slow down anybody else.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{timeout, timeout_at};

use super::queue::Queue;
use crate::client::Client;
use crate::framing::{Deframer, FramingError, MAX_MESSAGE_LEN, MAX_UNPROVEN_LEN};

/// How long a stream may be open without an allocation: time enough for a handful of round trips on
/// a bad network.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// How long a client may read nothing at all before it counts as gone.
const MAX_WRITE_STALL: Duration = Duration::from_secs(30);

/// Bytes read at once.
const READ_LEN: usize = 64 * 1024;

thread_local! {
    /// What is being read, until it is cut into messages: one for all streams of a thread.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_LEN]);
}

/// What the worker learns of streams.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// There is a new one.
    Opened(Client, Arc<Outgoing>),
    Messages(Client, Messages),
    Closed(Client),
}

/// The messages of one read, so that a burst costs one hand-over.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// Where each message ends.
    ends: Vec<usize>,
}

impl Messages {
    fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The messages, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let extents = starts.zip(&self.ends);
        extents.filter_map(|(start, &end)| self.bytes.get(start..end))
    }
}

/// The way to a stream's client.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: Mutex<Queue>,
    wake: Notify,
    has_allocation: AtomicBool,
    closing: Notify,
}

impl Outgoing {
    pub(super) fn data(&self, now: Instant, bytes: Vec<u8>) {
        self.queue().push_data(now, bytes);
        self.wake.notify_one();
    }

    /// Sends an answer; a client that does not read its answers is disconnected.
    pub(super) fn answer(&self, now: Instant, bytes: Vec<u8>) {
        match self.queue().push_answer(now, bytes) {
            Ok(()) => self.wake.notify_one(),
            Err(_) => self.close(),
        }
    }

    /// Sets whether the client has an allocation, and so a reason to stay.
    pub(super) fn set_allocated(&self, has_allocation: bool) {
        self.has_allocation.store(has_allocation, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.closing.notify_one();
    }

    /// Messages that the client has read too slowly for.
    pub(super) fn dropped(&self) -> u64 {
        self.queue().dropped()
    }

    fn is_allocated(&self) -> bool {
        self.has_allocation.load(Ordering::Relaxed)
    }

    fn max_message_len(&self) -> usize {
        match self.is_allocated() {
            true => MAX_MESSAGE_LEN,
            false => MAX_UNPROVEN_LEN,
        }
    }

    /// The lock is held over a few instructions that cannot panic.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a stream has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The client, or the network, has ended it.
    #[error("the client has gone: {0}")]
    Io(#[from] io::Error),
    /// What it says cannot be understood.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// It came and did nothing.
    #[error("the client has made no allocation in time")]
    Idle,
    /// It does not read.
    #[error("the client does not read what it is sent")]
    Stalled,
    /// The server ends it.
    #[error("the server has ended the allocation")]
    Closed,
}

/// Serves a stream until it ends.
pub(super) async fn serve<S>(stream: S, client: Client, inbox: &mpsc::Sender<StreamEvent>) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let outgoing = Arc::new(Outgoing::default());
    let opened = StreamEvent::Opened(client, outgoing.clone());
    if inbox.send(opened).await.is_err() {
        return Ended::Closed;
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let ended = tokio::select! {
        Err(ended) = read(&mut reader, client, inbox, &outgoing) => ended,
        Err(ended) = write(&mut writer, &outgoing) => ended,
        () = outgoing.closing.notified() => Ended::Closed,
    };
    // Nobody listens when the server stops.
    let _ = inbox.send(StreamEvent::Closed(client)).await;
    ended
}

async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    client: Client,
    inbox: &mpsc::Sender<StreamEvent>,
    outgoing: &Outgoing,
) -> Result<Infallible, Ended> {
    let mut deframer = Deframer::default();
    let mut idle_since = tokio::time::Instant::now();
    loop {
        match timeout_at(idle_since + MAX_IDLE, read_some(reader, &mut deframer)).await {
            Ok(result) => result?,
            Err(_) if outgoing.is_allocated() => {}
            Err(_) => return Err(Ended::Idle),
        }
        let mut messages = Messages::default();
        let framing = loop {
            match deframer.next(outgoing.max_message_len()) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if messages.len() > 0 {
            let messages = StreamEvent::Messages(client, messages);
            inbox.send(messages).await.map_err(|_| Ended::Closed)?;
        }
        framing?;
        if outgoing.is_allocated() {
            idle_since = tokio::time::Instant::now();
        }
    }
}

/// Reads what there is, without a buffer for each stream.
async fn read_some<R: AsyncRead + Unpin>(
    reader: &mut R,
    deframer: &mut Deframer,
) -> io::Result<()> {
    poll_fn(|context| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            deframer.push(buffer.filled());
            Poll::Ready(Ok(()))
        })
    })
    .await
}

async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    outgoing: &Outgoing,
) -> Result<Infallible, Ended> {
    loop {
        let mut bytes = Vec::new();
        let has_some = outgoing.queue().pop(Instant::now(), &mut bytes);
        if !has_some {
            outgoing.wake.notified().await;
            continue;
        }
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        match timeout(MAX_WRITE_STALL, written).await {
            Ok(result) => result?,
            Err(_) => return Err(Ended::Stalled),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::client::Transport;

    /// A stream under way: the client's end, its way back, and what the worker hears.
    async fn open() -> (
        DuplexStream,
        Arc<Outgoing>,
        mpsc::Receiver<StreamEvent>,
        tokio::task::JoinHandle<Ended>,
    ) {
        let (ours, theirs) = duplex(1000);
        let (inbox, mut events) = mpsc::channel(4);
        let client = Client {
            transport: Transport::Stream,
            server: ([127, 0, 0, 1], 3478).into(),
            address: ([127, 0, 0, 1], 5000).into(),
        };
        let serving = tokio::spawn(async move { serve(ours, client, &inbox).await });
        let Some(StreamEvent::Opened(_, outgoing)) = events.recv().await else {
            panic!("it opens first");
        };
        (theirs, outgoing, events, serving)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_nothing_is_disconnected_but_an_allocation_may_rest() {
        let (_client, outgoing, mut events, serving) = open().await;
        outgoing.set_allocated(true);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!serving.is_finished());
        outgoing.set_allocated(false);
        let start = tokio::time::Instant::now();
        assert!(matches!(serving.await.unwrap(), Ended::Idle));
        assert!(start.elapsed() <= 2 * MAX_IDLE);
        assert!(matches!(events.recv().await, Some(StreamEvent::Closed(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_keep_a_stream_open() {
        let (mut client, _outgoing, _events, serving) = open().await;
        let mut bytes = [0, 1, 0x7, 0].into_iter().chain(std::iter::repeat(0));
        let start = tokio::time::Instant::now();
        while !serving.is_finished() {
            let _ = client.write_all(&[bytes.next().unwrap()]).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        assert!(start.elapsed() <= MAX_IDLE + Duration::from_secs(11));
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_disconnected() {
        let (_client, outgoing, _events, serving) = open().await;
        outgoing.set_allocated(true);
        for _ in 0..1000 {
            outgoing.data(Instant::now(), vec![0; 1200]);
        }
        assert!(matches!(serving.await.unwrap(), Ended::Stalled));
        assert!(outgoing.dropped() > 700);
    }

    #[tokio::test]
    async fn what_is_sent_arrives_and_the_server_can_end_it() {
        let (mut client, outgoing, _events, serving) = open().await;
        outgoing.answer(Instant::now(), vec![1, 2, 3, 4]);
        outgoing.data(Instant::now(), vec![5, 6, 7, 8]);
        let mut bytes = [0; 8];
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
        outgoing.close();
        assert!(matches!(serving.await.unwrap(), Ended::Closed));
        assert_eq!(client.read(&mut bytes).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_not_turn_ends_it_at_once() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0], &[0xff]] {
            let (mut client, _outgoing, _events, serving) = open().await;
            client.write_all(bytes).await.unwrap();
            assert!(
                matches!(serving.await.unwrap(), Ended::Framing(_)),
                "{bytes:?}"
            );
        }
        let (client, _outgoing, _events, serving) = open().await;
        drop(client);
        assert!(matches!(serving.await.unwrap(), Ended::Io(_)));
    }

    #[tokio::test]
    async fn a_long_message_is_for_who_has_an_allocation() {
        let long = [
            &[0, 6, 0x20, 0, 0x21, 0x12, 0xa4, 0x42][..],
            &[0; 12 + 0x2000],
        ]
        .concat();
        for allocated in [false, true] {
            let (mut client, outgoing, mut events, _serving) = open().await;
            outgoing.set_allocated(allocated);
            // The server may hang up before it has read it all.
            let _ = client.write_all(&long).await;
            let event = events.recv().await.unwrap();
            assert_eq!(matches!(event, StreamEvent::Messages(..)), allocated);
        }
    }
}
