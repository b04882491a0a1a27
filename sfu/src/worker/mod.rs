//! A worker: one thread's share of the media plane, with its own peers, feeds and buffers.
//!
//! Sans-I/O. In: datagrams (over TCP, packets that are no different), mail from the controller and from other workers, time. Out: datagrams in the
//! outbox, mail. `run.rs` gives it a socket, a clock and a thread; tests give it a simulated network.
//!
//! The path of a packet: [`Worker::handle_datagram`] finds out whose it is (`demux.rs`), the peer
//! opens it, the feed of its track keeps it; [`Worker::flush`] forwards what a receive batch brought
//! to every subscriber (`forward.rs`), in runs of datagrams for one destination.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Instant;

use rand::{RngCore, SeedableRng, rngs::StdRng};

use crate::api::{DropReason, WorkerStats};
use crate::clock::Clock;
use crate::control::messages::Report;
use crate::path::{Candidate, Path};
use crate::peer::allocate::Consequence;
use crate::peer::dtls::Certificate;
use crate::peer::report::Action;
use crate::peer::{Change, Context, Peer};
use crate::publish::feed::Feed;
use crate::send::outbox::Outbox;
use crate::types::{PeerId, TrackId, WorkerIndex};

mod allocate;
mod claims;
mod command;
mod demux;
mod depart;
mod forward;
mod levels;
pub mod mailbox;
mod peers;
mod upstream;
mod wanted_layers;

use claims::Claims;
use levels::Levels;
use mailbox::{Mail, MediaBatch, Message};
use peers::Peers;

/// Spare batches kept for reuse: what one worker can have under way to another between two wakes.
const MAX_SPARE_BATCHES: usize = 64;

/// Paths that can wait to be measured; others have their turn half a minute later.
const MAX_UNMEASURED: usize = 1024;

/// What all workers of a process have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Our certificate.
    pub certificate: Certificate,
    /// Wall-clock time.
    pub clock: Clock,
    /// Most peers.
    pub max_peers: usize,
}

/// What `net` has dropped of a TCP connection that is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Discarded {
    pub pictures: u64,
    pub others: u64,
}

/// What every peer borrows while it is called.
#[derive(Debug)]
struct Lent {
    clock: Clock,
    outbox: Outbox,
    stats: WorkerStats,
}

impl Lent {
    fn at(&mut self, now: Instant) -> Context<'_> {
        Context {
            now,
            clock: &self.clock,
            outbox: &mut self.outbox,
            stats: &mut self.stats,
        }
    }
}

/// One worker's state.
#[derive(Debug)]
pub struct Worker {
    index: WorkerIndex,
    shared: Shared,
    /// Where clients are told to come.
    candidates: Vec<Candidate>,
    peers: Peers,
    feeds: HashMap<TrackId, Feed>,
    /// Who owns a path.
    claims: Claims,
    /// Whose a local ufrag is.
    ufrags: HashMap<String, PeerId>,
    /// When peers want to be woken. An entry whose time is not the one in `scheduled` is stale.
    timers: BinaryHeap<Reverse<(Instant, PeerId)>>,
    scheduled: HashMap<PeerId, Instant>,
    /// Feeds with packets to forward.
    dirty: Vec<TrackId>,
    /// Packets for each of the other workers.
    batches: HashMap<WorkerIndex, MediaBatch>,
    spare_batches: Vec<MediaBatch>,
    levels: Levels,
    actions: Vec<Action>,
    consequences: Vec<Consequence>,
    /// Paths whose size `net` is to find out.
    unmeasured: Vec<Path>,
    /// When to look next at which encodings nobody receives.
    next_wanted_layers: Option<Instant>,
    lent: Lent,
    mail: VecDeque<Mail>,
    rng: StdRng,
}

impl Worker {
    /// A worker without peers. `candidates` are the addresses that clients can reach it at.
    #[must_use]
    pub fn new(index: WorkerIndex, shared: Shared, candidates: Vec<Candidate>, seed: u64) -> Self {
        let lent = Lent {
            clock: shared.clock,
            outbox: Outbox::default(),
            stats: WorkerStats::default(),
        };
        Worker {
            index,
            shared,
            candidates,
            peers: Peers::default(),
            feeds: HashMap::new(),
            claims: Claims::default(),
            ufrags: HashMap::new(),
            timers: BinaryHeap::new(),
            scheduled: HashMap::new(),
            dirty: Vec::new(),
            batches: HashMap::new(),
            spare_batches: Vec::new(),
            levels: Levels::default(),
            actions: Vec::new(),
            consequences: Vec::new(),
            unmeasured: Vec::new(),
            next_wanted_layers: None,
            lent,
            mail: VecDeque::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Tells clients from now on to come there.
    pub fn set_candidates(&mut self, candidates: Vec<Candidate>) {
        self.candidates = candidates;
    }

    /// Takes mail from the controller or another worker.
    pub fn handle_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Command(command) => self.handle_command(now, command),
            Message::Media(batch) => self.handle_media(now, batch),
            Message::Recycle(batch) => self.keep_batch(batch),
            Message::Attach { track, worker } => self.attach(track, worker),
            Message::Detach { track, worker } => {
                if let Some(feed) = self.feeds.get_mut(&track) {
                    feed.workers.remove(&worker);
                    feed.ceilings.remove(&worker);
                }
            }
            Message::KeyFrame { track, encoding } => self.request_key_frame(now, track, encoding),
            Message::ListenerLoss {
                track,
                fraction_lost,
            } => self.report_listener_loss(now, track, fraction_lost),
            Message::Wanted {
                track,
                worker,
                encodings,
            } => {
                if let Some(feed) = self.feeds.get_mut(&track) {
                    feed.workers.insert(worker, encodings);
                    self.update_wanted_layers_of(now, track);
                }
            }
            Message::Ceiling {
                track,
                worker,
                ceiling,
            } => {
                if let Some(feed) = self.feeds.get_mut(&track) {
                    match ceiling {
                        Some(ceiling) => feed.ceilings.insert(worker, ceiling),
                        None => feed.ceilings.remove(&worker),
                    };
                    self.update_wanted_layers_of(now, track);
                }
            }
            Message::Off { track, encodings } => {
                if let Some(feed) = self.feeds.get_mut(&track) {
                    feed.set_off(now, encodings);
                }
            }
            Message::Resumed { track } => self.resume(now, track),
            Message::Interrupted { track } => self.interrupt(track),
            Message::SenderReport {
                track,
                encoding,
                report,
            } => {
                if let Some(feed) = self.feeds.get_mut(&track) {
                    feed.set_sender_report(encoding, report, &self.shared.clock);
                }
            }
            Message::Stop => self.stop(now),
            #[cfg(test)]
            Message::Panic => panic!("a test wants this worker to fail"),
        }
    }

    /// Says goodbye to every peer.
    pub fn stop(&mut self, now: Instant) {
        for peer in self.peers.ids() {
            self.close_peer(now, peer);
        }
    }

    /// Ends a batch of input: forwards what came, and schedules what is to happen later.
    pub fn flush(&mut self, now: Instant) {
        self.forward_pending(now);
        self.send_batches();
        if let Some(levels) = self.levels.poll(now) {
            self.report(Report::Levels(levels));
        }
        let marked = self.peers.take_marked();
        for &peer in &marked {
            self.schedule(peer);
        }
        self.peers.reuse(marked);
    }

    /// When [`Worker::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let others = [self.next_wanted_layers, self.levels.next_deadline()];
        timer.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&Reverse((at, id))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            if self.scheduled.get(&id) != Some(&at) {
                continue;
            }
            self.scheduled.remove(&id);
            self.peer_timeout(now, id);
        }
        if self.next_wanted_layers.is_some_and(|due| now >= due) {
            self.update_wanted_layers(now);
        }
        self.flush(now);
    }

    fn peer_timeout(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let mut cx = self.lent.at(now);
        let change = peer.handle_timeout(&mut cx);
        let is_allocation_due = peer.allocation_due(now);
        if peer.reports_due(now) {
            let feeds = &self.feeds;
            peer.send_reports(&mut cx, |track| feeds.get(&track));
            let path = peer.poll_measure(now);
            path.into_iter().for_each(|path| self.remeasure(path));
        }
        self.apply(now, id, change);
        self.follow(now, id);
        if is_allocation_due {
            self.allocate(now, id);
        }
        self.depart(now, id);
    }

    /// Has a peer woken at its next deadline.
    fn schedule(&mut self, id: PeerId) {
        let Some(deadline) = self.peers.get(id).and_then(Peer::next_deadline) else {
            self.scheduled.remove(&id);
            return;
        };
        // An earlier wake-up serves as well: the peer is scheduled again after it.
        if self.scheduled.get(&id).is_none_or(|&at| deadline < at) {
            self.scheduled.insert(id, deadline);
            self.timers.push(Reverse((deadline, id)));
        }
    }

    fn apply(&mut self, now: Instant, id: PeerId, change: Option<Change>) {
        match change {
            None => {}
            Some(Change::Connected) => {
                self.report(Report::Connected { peer: id });
                // Whatever its slots show may have been going on for long.
                self.allocate(now, id);
            }
            Some(Change::Silent) => self.report(Report::Silent { peer: id }),
            Some(Change::Heard) => self.report(Report::Heard { peer: id }),
            Some(Change::Hopeless) => self.report(Report::Hopeless { peer: id }),
            Some(Change::Gone(reason)) => {
                self.remove_peer(id);
                self.report(Report::Gone { peer: id, reason });
            }
        }
    }

    /// Mail for `net` to deliver.
    pub fn poll_mail(&mut self) -> Option<Mail> {
        self.mail.pop_front()
    }

    #[cfg(test)]
    pub(crate) fn stats(&self) -> &WorkerStats {
        &self.lent.stats
    }

    /// Datagrams for `net` to send; [`Worker::handle_sent`] is to be told then.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.lent.outbox
    }

    /// A path of which it is to be found out how large a packet it takes whole; [`Worker::set_mtu`] is to be
    /// told.
    pub fn poll_measure(&mut self) -> Option<Path> {
        self.unmeasured.pop()
    }

    /// Takes the size of the largest IP packet, in bytes, that a path takes whole.
    pub fn set_mtu(&mut self, path: Path, mtu: usize) {
        let owner = self.claims.owner(path);
        if let Some(peer) = owner.and_then(|id| self.peers.get_mut(id)) {
            peer.set_mtu(path, mtu);
        }
    }

    /// Has the size of a path found out anew: the kernel has not taken what it was thought to take.
    pub fn remeasure(&mut self, path: Path) {
        if self.unmeasured.len() < MAX_UNMEASURED {
            self.unmeasured.push(path);
        }
    }

    /// Counts datagrams that `net` has sent.
    pub fn count_sent(&mut self, datagrams: u64, bytes: u64) {
        self.lent.stats.datagrams_sent += datagrams;
        self.lent.stats.bytes_sent += bytes;
    }

    /// Counts the connections there are.
    pub fn count_connections(&mut self, connections: usize) {
        self.lent.stats.tcp_connections = connections as u64;
    }

    /// Counts something that `net` has dropped.
    pub fn count_drop(&mut self, reason: DropReason) {
        self.lent.stats.drop(reason);
    }

    fn report(&mut self, report: Report) {
        self.mail.push_back(Mail::Controller(report));
    }

    fn send(&mut self, worker: WorkerIndex, message: Message) {
        self.mail.push_back(Mail::Worker(worker, message));
    }

    fn keep_batch(&mut self, batch: MediaBatch) {
        if self.spare_batches.len() < MAX_SPARE_BATCHES {
            self.spare_batches.push(batch);
        }
    }

    fn child_rng(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.rng.next_u64())
    }
}
