//! The media plane as one state machine: the head, its workers, and the mail between them.
//!
//! In: requests, datagrams, time. Out: replies, events, datagrams. What threads and mailboxes do in
//! the server happens here at once and in order: whatever one input sets off has settled before the
//! next.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::link::Carried;

use confab_sfu::api::{Event, Reply, Request};
use confab_sfu::clock::Clock;
use confab_sfu::config::Config;
use confab_sfu::inside::control::Controller;
use confab_sfu::inside::control::messages::{Output, RequestId};
use confab_sfu::inside::peer::dtls::Certificate;
use confab_sfu::inside::rtp::packet::PacketClass;
use confab_sfu::inside::worker::mailbox::{Mail, Message};
use confab_sfu::inside::worker::{Shared, Worker};
use confab_sfu::path::{Candidate, Path};
use confab_sfu::types::WorkerIndex;
use rand::{RngCore, SeedableRng, rngs::StdRng};

/// The wall-clock time at which every call begins: some time in 2026.
pub const CALL_BEGINS: Duration = Duration::from_secs(1_795_000_000);

/// Where the first worker is; the others follow on the next ports.
const FIRST_WORKER: ([u8; 4], u16) = ([10, 0, 0, 1], 7000);

/// Wake-ups of one worker at one instant. A deadline that does not move means a thread that spins.
const MAX_WAKE_UPS: usize = 64;

/// Bytes of an IPv4 (RFC 791) and a UDP header (RFC 768).
const IP_AND_UDP_HEADERS: usize = 20 + 8;

/// Bytes to which the size of a handshake's datagram is rounded up.
const DTLS_ROUNDING: usize = 256;

/// A UDP datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// The sender's address.
    pub from: SocketAddr,
    /// The receiver's address.
    pub to: SocketAddr,
    /// The payload.
    pub bytes: Vec<u8>,
    /// A bit of it has flipped on the way, which its receiver's UDP checksum tells.
    pub is_corrupt: bool,
}

impl Datagram {
    /// A datagram about to be sent.
    #[must_use]
    pub fn new(from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) -> Self {
        Datagram {
            from,
            to,
            bytes,
            is_corrupt: false,
        }
    }
}

impl Carried for Datagram {
    /// The size of a handshake's datagram is rounded up: that of an ECDSA signature is random, and
    /// how long the datagram takes must not be.
    fn wire_size(&self) -> usize {
        let len = self.bytes.len();
        let len = match PacketClass::of(&self.bytes) {
            PacketClass::Dtls => len.next_multiple_of(DTLS_ROUNDING),
            _ => len,
        };
        IP_AND_UDP_HEADERS + len
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.is_corrupt = true;
        &mut self.bytes
    }
}

/// The server.
#[derive(Debug)]
pub struct Plane {
    control: Controller,
    workers: Vec<Worker>,
    next_request: u64,
    replies: VecDeque<(RequestId, Reply)>,
    events: VecDeque<Event>,
    datagrams: VecDeque<Datagram>,
}

impl Plane {
    /// A server with so many workers, at least one.
    ///
    /// # Panics
    /// When no certificate can be made.
    #[must_use]
    pub fn new(now: Instant, workers: usize, seed: u64) -> Self {
        let config = Config {
            workers,
            ..Config::default()
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let shared = Shared {
            certificate: Certificate::generate().expect("a certificate"),
            clock: Clock::new(now, SystemTime::UNIX_EPOCH + CALL_BEGINS),
            max_peers: config.max_peers,
        };
        Plane {
            control: Controller::new(&config, rng.next_u64()),
            workers: (0..workers)
                .map(|index| {
                    let candidates = vec![Candidate::udp(Self::address(index))];
                    Worker::new(
                        WorkerIndex(index),
                        shared.clone(),
                        candidates,
                        rng.next_u64(),
                    )
                })
                .collect(),
            next_request: 0,
            replies: VecDeque::new(),
            events: VecDeque::new(),
            datagrams: VecDeque::new(),
        }
    }

    /// Where a worker receives media.
    #[must_use]
    pub fn address(worker: usize) -> SocketAddr {
        let (ip, first) = FIRST_WORKER;
        SocketAddr::from((ip, first + worker as u16))
    }

    /// Asks for something.
    ///
    /// # Panics
    /// When there is not exactly one reply.
    pub fn request(&mut self, now: Instant, request: Request) -> Reply {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let asked = format!("{request:?}");
        self.control.handle_request(id, request);
        self.settle(now);
        match (self.replies.pop_front(), self.replies.pop_front()) {
            (Some((answered, reply)), None) if answered == id => reply,
            other => panic!("not exactly one reply but {other:?} to {asked}"),
        }
    }

    /// Takes a datagram; one for an address where there is no worker is lost.
    pub fn handle_datagram(&mut self, now: Instant, mut datagram: Datagram) {
        let index = (0..self.workers.len()).find(|&index| Self::address(index) == datagram.to);
        if let Some(index) = index {
            self.workers[index].handle_datagram(
                now,
                Path::from(datagram.from),
                &mut datagram.bytes,
            );
            self.settle(now);
        }
    }

    /// When [`Plane::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let workers = self.workers.iter().filter_map(Worker::next_deadline);
        workers.chain(self.control.next_deadline()).min()
    }

    /// Does what is due.
    ///
    /// # Panics
    /// When a worker's deadline does not move, however often it is woken.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..MAX_WAKE_UPS {
            if self.next_deadline().is_none_or(|at| at > now) {
                return;
            }
            for worker in &mut self.workers {
                worker.handle_timeout(now);
            }
            self.control.handle_timeout(now);
            self.settle(now);
        }
        panic!("a worker spins: its deadline stays in the past");
    }

    /// The next datagram to send.
    pub fn poll_datagram(&mut self) -> Option<Datagram> {
        self.datagrams.pop_front()
    }

    /// The next event for the control plane.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Delivers mail until there is none.
    fn settle(&mut self, now: Instant) {
        loop {
            let mut is_quiet = true;
            while let Some(output) = self.control.poll_output() {
                is_quiet = false;
                match output {
                    Output::Command(worker, command) => {
                        self.workers[worker.0].handle_message(now, Message::Command(command));
                    }
                    Output::Reply(id, reply) => self.replies.push_back((id, reply)),
                    Output::Event(event) => self.events.push_back(event),
                }
            }
            for index in 0..self.workers.len() {
                self.workers[index].flush(now);
                self.collect_datagrams(now, index);
                while let Some(mail) = self.workers[index].poll_mail() {
                    is_quiet = false;
                    match mail {
                        Mail::Controller(report) => {
                            self.control.handle_report(WorkerIndex(index), report)
                        }
                        Mail::Worker(to, message) => {
                            self.workers[to.0].handle_message(now, message)
                        }
                    }
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn collect_datagrams(&mut self, now: Instant, index: usize) {
        let outbox = self.workers[index].outbox();
        if outbox.is_empty() {
            return;
        }
        let from = Self::address(index);
        for (run, bytes) in outbox.runs().iter() {
            let (to, segments) = (
                run.destination.path.address(),
                bytes.chunks(run.segment_size),
            );
            self.datagrams
                .extend(segments.map(|segment| Datagram::new(from, to, segment.to_vec())));
        }
        let left = vec![Some(now); outbox.runs().len()];
        self.workers[index].handle_sent(&left);
    }
}
