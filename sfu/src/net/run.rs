//! A worker's thread: sockets, mailbox and clock around [`Worker`], and what happens when it panics.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Instant;

use confab_sockets::udp::Sent;
use tokio::sync::{mpsc, watch};

use super::relay::{RelayLink, path_of};
use super::tcp::Streams;
use super::tcp_dispatcher::HandedOver;
use super::udp::Socket;
use crate::api::DropReason;
use crate::control::messages::Report;
use crate::path::{Candidate, Path};
use crate::types::WorkerIndex;
use crate::worker::mailbox::{Mail, Message};
use crate::worker::{Shared, Worker};

/// Messages that can wait for one worker: what 64 other workers' batches and a full room's joins
/// come to between two wakes. Media beyond that is dropped, as a full socket would.
pub(crate) const MAILBOX: usize = 4096;

/// Receive batches handled before anything is sent: enough to make runs, few enough that a packet
/// waits for no more than some hundred others.
const BATCHES_PER_FLUSH: usize = 4;

/// Messages handled before the socket is looked at again.
const MESSAGES_PER_FLUSH: usize = 256;

/// Packets from the relay handled before the socket is looked at again.
const RELAYED_PER_FLUSH: usize = 256;

/// What a thread is started with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub index: WorkerIndex,
    /// What it has in common with the others.
    pub shared: Shared,
    pub socket: std::net::UdpSocket,
    /// Where it accepts connections, if it does.
    pub listener: Option<std::net::TcpListener>,
    /// The relay in this process.
    pub relay: RelayLink,
    /// Where clients are told to come, whenever that changes.
    pub candidates: watch::Receiver<Vec<Candidate>>,
    pub mailbox: mpsc::Receiver<Message>,
    /// The mailboxes of all workers.
    pub workers: Vec<mpsc::Sender<Message>>,
    pub reports: mpsc::Sender<(WorkerIndex, Report)>,
    /// For names, keys and numbers that nobody shall guess.
    pub seed: fn() -> u64,
}

/// Starts the thread; `handed_over` are connections for it that it has not accepted itself.
///
/// # Errors
/// When the system refuses a thread or a runtime.
pub(crate) fn spawn(
    mut setup: Setup,
    handed_over: mpsc::Receiver<HandedOver>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let guard = runtime.enter();
    let socket = Socket::new(setup.socket.try_clone()?)?;
    let streams = Streams::new(setup.listener.take(), handed_over)?;
    drop(guard);
    std::thread::Builder::new()
        .name(format!("confab-worker-{}", setup.index.0))
        .spawn(move || supervise(&runtime, setup, socket, streams))
}

/// Runs the worker, and a new one in its place whenever it panics: its peers are lost, the process
/// and the other workers' peers are not.
fn supervise(
    runtime: &tokio::runtime::Runtime,
    setup: Setup,
    mut socket: Socket,
    mut streams: Streams,
) {
    let mut thread = WorkerThread {
        index: setup.index,
        mailbox: setup.mailbox,
        workers: setup.workers,
        reports: setup.reports,
        relay: setup.relay,
        candidates: setup.candidates,
        unsent: VecDeque::new(),
        left: Vec::new(),
    };
    loop {
        let candidates = thread.candidates.borrow_and_update().clone();
        let worker = Worker::new(
            setup.index,
            setup.shared.clone(),
            candidates,
            (setup.seed)(),
        );
        let run =
            AssertUnwindSafe(|| runtime.block_on(thread.run(worker, &mut socket, &mut streams)));
        match catch_unwind(run) {
            Ok(()) => return,
            Err(_) => {
                tracing::error!(
                    worker = setup.index.0,
                    "a media worker has failed and starts anew; its clients are told to reconnect"
                );
                streams.clear();
                thread.unsent.clear();
                thread.unsent.push_back(Mail::Controller(Report::Failed));
            }
        }
    }
}

struct WorkerThread {
    index: WorkerIndex,
    mailbox: mpsc::Receiver<Message>,
    workers: Vec<mpsc::Sender<Message>>,
    reports: mpsc::Sender<(WorkerIndex, Report)>,
    relay: RelayLink,
    candidates: watch::Receiver<Vec<Candidate>>,
    /// Mail that found a full mailbox and must not be lost.
    unsent: VecDeque<Mail>,
    /// When each run of the outbox left. Reused.
    left: Vec<Option<Instant>>,
}

impl WorkerThread {
    async fn run(&mut self, mut worker: Worker, socket: &mut Socket, streams: &mut Streams) {
        loop {
            self.deliver(&mut worker);
            let wake = async {
                let deadlines = [worker.next_deadline(), streams.next_deadline()];
                match deadlines.into_iter().flatten().min() {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let retry = async {
                if self.unsent.is_empty() {
                    std::future::pending().await
                } else {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            };
            let mut relayed = None;
            let message = tokio::select! {
                message = self.mailbox.recv() => Some(message),
                packet = self.relay.next() => {
                    relayed = Some(packet);
                    None
                }
                ready = socket.readable() => {
                    if ready.is_err() {
                        return;
                    }
                    None
                }
                () = streams.ready() => None,
                () = wake => None,
                () = retry => None,
            };
            if message.is_some() || relayed.is_some() {
                // However much mail there is: the runtime looks at sockets only when it has its turn.
                tokio::task::yield_now().await;
            }
            let now = Instant::now();
            // Whoever makes them is gone when the process ends; until then they hold.
            if self.candidates.has_changed().unwrap_or(false) {
                worker.set_candidates(self.candidates.borrow_and_update().clone());
            }
            if let Some(message) = message {
                let mut next = message;
                for _ in 0..MESSAGES_PER_FLUSH {
                    match next {
                        None | Some(Message::Stop) => {
                            worker.stop(now);
                            self.send_all(&mut worker, socket, streams);
                            return;
                        }
                        Some(message) => worker.handle_message(now, message),
                    }
                    match self.mailbox.try_recv() {
                        Ok(message) => next = Some(message),
                        Err(_) => break,
                    }
                }
            }
            for _ in 0..BATCHES_PER_FLUSH {
                if !socket.receive(|pair, to, datagram| {
                    if !self.relay.take_over(now, pair.remote, to, datagram) {
                        worker.handle_datagram(now, Path::Udp(pair), datagram);
                    }
                }) {
                    break;
                }
            }
            for _ in 0..RELAYED_PER_FLUSH {
                let Some(mut packet) = relayed.take().or_else(|| self.relay.take(now)) else {
                    break;
                };
                let path = path_of(&packet);
                worker.handle_datagram(now, path, &mut packet.payload);
            }
            streams.handle_ready(now, &mut worker);
            streams.handle_timeout(now, &mut worker);
            worker.count_connections(streams.count());
            measure(&mut worker, socket);
            worker.flush(now);
            worker.handle_timeout(now);
            self.send_all(&mut worker, socket, streams);
        }
    }

    fn deliver(&mut self, worker: &mut Worker) {
        while let Some(mail) = worker.poll_mail() {
            self.unsent.push_back(mail);
        }
        for _ in 0..self.unsent.len() {
            let Some(mail) = self.unsent.pop_front() else {
                return;
            };
            if let Some(back) = self.post(mail, worker) {
                self.unsent.push_back(back);
            }
        }
    }

    /// Posts one piece of mail; returns it when its mailbox is full and it must not be lost.
    fn post(&self, mail: Mail, worker: &mut Worker) -> Option<Mail> {
        match mail {
            Mail::Controller(report) => match self.reports.try_send((self.index, report)) {
                Err(mpsc::error::TrySendError::Full((_, report))) if report.may_be_lost() => {
                    worker.count_drop(DropReason::MailboxFull);
                    None
                }
                Err(mpsc::error::TrySendError::Full((_, report))) => Some(Mail::Controller(report)),
                _ => None,
            },
            Mail::Worker(to, message) => match self.workers.get(to.0)?.try_send(message) {
                Err(mpsc::error::TrySendError::Full(message)) if message.may_be_lost() => {
                    worker.count_drop(DropReason::MailboxFull);
                    None
                }
                Err(mpsc::error::TrySendError::Full(message)) => Some(Mail::Worker(to, message)),
                _ => None,
            },
        }
    }

    /// Sends what the worker has for the network.
    fn send_all(&mut self, worker: &mut Worker, socket: &mut Socket, streams: &mut Streams) {
        let (mut datagrams, mut bytes, mut failed) = (0, 0, 0);
        let mut narrowed = Vec::new();
        self.left.clear();
        let runs = worker.outbox().runs();
        while let Some((run, contents)) = runs.get(self.left.len()) {
            let first = self.left.len();
            let left = &mut self.left;
            let mut handle_sent = |range: Range<usize>, sent: Sent| {
                let at = (sent != Sent::Lost).then(Instant::now);
                for (run, contents) in range.filter_map(|index| runs.get(index)) {
                    left.push(at);
                    let count = contents.len().div_ceil(run.segment_size) as u64;
                    match sent {
                        Sent::Lost => failed += count,
                        Sent::Done | Sent::Apart => {
                            datagrams += count;
                            bytes += contents.len() as u64;
                        }
                    }
                    if sent == Sent::Apart {
                        narrowed.push(run.destination.path);
                    }
                }
            };
            match run.destination.path {
                Path::Udp(_) => socket.send(runs, first, handle_sent),
                // What waits in a queue of ours takes long: its receiver shall see that, so it leaves
                // when it gets there.
                Path::Tcp { connection, .. } => {
                    let sent = match streams.queue(Instant::now(), connection, run, contents) {
                        true => Sent::Done,
                        false => Sent::Lost,
                    };
                    handle_sent(first..first + 1, sent);
                }
                Path::Relayed {
                    relay,
                    media,
                    through,
                } => {
                    let addresses = (media, relay);
                    self.relay
                        .send(Instant::now(), addresses, through, run, contents);
                    handle_sent(first..first + 1, Sent::Done);
                }
            }
        }
        narrowed.into_iter().for_each(|path| worker.remeasure(path));
        worker.handle_sent(&self.left);
        worker.count_sent(datagrams, bytes);
        for _ in 0..failed {
            worker.count_drop(DropReason::SendFailed);
        }
        let now = Instant::now();
        if streams.write(now, worker) {
            worker.flush(now);
        }
    }
}

/// Tells the worker what the kernel knows of the paths that it asks about.
fn measure(worker: &mut Worker, socket: &Socket) {
    while let Some(path) = worker.poll_measure() {
        // Without a route nothing will arrive there, whatever its size.
        if let Ok(mtu) = socket.path_mtu(path.address()) {
            worker.set_mtu(path, mtu);
        }
    }
}
