//! The media plane as the rest of the process sees it: a handle, and the threads behind it.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is where sockets, clocks and threads are"
)]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use confab_sockets::listener::{Families, bind as bind_listener};
use confab_sockets::udp;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::api::{CommandError, Event, OfferError, Refusal, Reply, Request};
use crate::clock::Clock;
use crate::config::{Config, TcpPort};
use crate::control::Controller;
use crate::control::messages::{Output, Report, RequestId};
use crate::net::relay::{MediaLink, RelayLink, RelayQueues};
use crate::net::run::{self, MAILBOX, Setup};
use crate::net::tcp_dispatcher::TcpDispatcher;
use crate::path::Candidate;
use crate::peer::dtls::{Certificate, DtlsError};
use crate::types::WorkerIndex;
use crate::worker::Shared;
use crate::worker::mailbox::Message;

/// Requests that can wait for the controller.
const REQUESTS: usize = 1024;

/// Events that can wait for the control plane before the controller keeps them itself.
const EVENTS: usize = 1024;

/// How often a port is looked for that both protocols have free.
const PORT_ATTEMPTS: usize = 16;

/// Why the media plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No worker was asked for.
    #[error("the media plane needs at least one worker; set the number of workers to 1 or more")]
    NoWorkers,
    /// The ports of the workers go over 65535.
    #[error(
        "{workers} workers from port {port} upward go past port 65535; choose a lower first port"
    )]
    PortRange {
        /// The first port.
        port: u16,
        /// How many workers.
        workers: usize,
    },
    /// A socket could not be bound.
    #[error(
        "cannot receive media on UDP {address}: {source}; stop what uses that port, or choose another address or first port"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A listener could not be bound.
    #[error(
        "cannot accept media on TCP {address}: {source}; choose another first port for TCP, or turn media over TCP off"
    )]
    BindTcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Clients could not be told where to send media.
    #[error(
        "media is received on all addresses ({0}), but none is known that clients could be told of; listen on one of this machine, or say which are public"
    )]
    NoAddress(IpAddr),
    /// The system refused a thread.
    #[error("cannot start a media worker: {0}")]
    Thread(#[source] io::Error),
    /// No certificate could be made.
    #[error("cannot make a DTLS certificate: {0}")]
    Certificate(#[from] DtlsError),
}

/// A worker's sockets, and where they are bound.
struct Sockets {
    udp: (SocketAddr, std::net::UdpSocket),
    tcp: Option<(SocketAddr, std::net::TcpListener)>,
}

/// Binds a worker's sockets. When the system is to find a port that both protocols have free, it is
/// asked [`PORT_ATTEMPTS`] times.
fn bind(config: &Config, worker: usize) -> Result<Sockets, StartError> {
    let is_any = config.port == 0 && config.tcp_port == TcpPort::AsUdp;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let address = config.bind_address(worker);
        let udp = udp::bind(address, true).and_then(|s| Ok((s.local_addr()?, s)));
        let udp = udp.map_err(|source| StartError::Bind { address, source })?;
        let Some(address) = config.tcp_bind_address(worker, udp.0) else {
            return Ok(Sockets { udp, tcp: None });
        };
        match bind_listener(address, Families::Both).and_then(|s| Ok((s.local_addr()?, s))) {
            Ok(tcp) => {
                let tcp = Some(tcp);
                return Ok(Sockets { udp, tcp });
            }
            Err(_) if is_any && attempts < PORT_ATTEMPTS => {}
            Err(source) => return Err(StartError::BindTcp { address, source }),
        }
    }
}

/// Where a worker's sockets are bound, and who is to hear how clients reach them.
#[derive(Debug)]
struct Bound {
    udp: SocketAddr,
    tcp: Option<SocketAddr>,
    candidates: watch::Sender<Vec<Candidate>>,
}

/// Makes the link between a relay and the worker with this socket.
fn open_link(
    queues: &RelayQueues,
    (address, socket): &(SocketAddr, std::net::UdpSocket),
) -> Result<(RelayLink, MediaLink), StartError> {
    let (link, queue) = RelayLink::new(queues, *address);
    let is_shared = queues.shared.contains(address);
    let socket = is_shared.then(|| socket.try_clone()).transpose();
    let socket = socket.map_err(|source| StartError::Bind {
        address: *address,
        source,
    })?;
    let media = MediaLink {
        address: *address,
        queue,
        socket,
    };
    Ok((link, media))
}

/// A media plane that has been started, what happens in it, and the links of its workers.
pub(crate) type Started = (Sfu, mpsc::Receiver<Event>, Vec<MediaLink>);

type Question = (Request, oneshot::Sender<Reply>);

/// A handle to the media plane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sfu {
    requests: mpsc::Sender<Question>,
    addresses: Arc<[SocketAddr]>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    workers: Arc<[mpsc::Sender<Message>]>,
    tcp_dispatcher: TcpDispatcher,
    bound: Arc<[Bound]>,
}

impl Sfu {
    /// Binds the sockets and starts the workers; within a tokio runtime. Events come out of the
    /// receiver, in the order they happened.
    ///
    /// # Errors
    /// When a socket cannot be bound or the system refuses a thread. Nothing is left running then.
    pub fn start(config: &Config) -> Result<(Sfu, mpsc::Receiver<Event>), StartError> {
        let (sfu, events, _) = Self::start_beside(config, None)?;
        Ok((sfu, events))
    }

    /// Like [`Sfu::start`], beside a relay that the workers can be reached from without the kernel, through
    /// these links.
    ///
    /// # Errors
    /// As [`Sfu::start`], and when a socket cannot be shared.
    pub fn start_beside(
        config: &Config,
        relay: Option<&RelayQueues>,
    ) -> Result<Started, StartError> {
        if config.workers == 0 {
            return Err(StartError::NoWorkers);
        }
        let first_ports = match config.tcp_port {
            TcpPort::From(tcp) => [config.port, tcp],
            TcpPort::AsUdp | TcpPort::Off => [config.port; 2],
        };
        for port in first_ports {
            let last = usize::from(port) + config.workers - 1;
            if port != 0 && last > usize::from(u16::MAX) {
                return Err(StartError::PortRange {
                    port,
                    workers: config.workers,
                });
            }
        }
        let shared = Shared {
            certificate: Certificate::generate()?,
            clock: Clock::new(Instant::now(), SystemTime::now()),
            max_peers: config.max_peers,
        };
        let mut sockets = Vec::new();
        for index in 0..config.workers {
            sockets.push(bind(config, index)?);
        }
        let addresses: Arc<[SocketAddr]> = sockets.iter().map(|s| s.udp.0).collect();
        let (workers, mailboxes): (Vec<_>, Vec<_>) =
            sockets.iter().map(|_| mpsc::channel(MAILBOX)).unzip();
        let (reports, report_queue) = mpsc::channel(MAILBOX);
        let (tcp_dispatcher, handed_over) = TcpDispatcher::new(config.workers);
        let (mut threads, mut links, mut bound) = (Vec::new(), Vec::new(), Vec::new());
        let shares = sockets.into_iter().zip(mailboxes).zip(handed_over);
        for (index, ((sockets, mailbox), handed_over)) in shares.enumerate() {
            let Sockets { udp, tcp } = sockets;
            let (tcp, listener) = tcp.unzip();
            let relay = match relay {
                None => RelayLink::none(),
                Some(queues) => {
                    let (link, media) = open_link(queues, &udp)?;
                    links.push(media);
                    link
                }
            };
            let (candidates, news) = watch::channel(config.candidates(udp.0, tcp));
            if candidates.borrow().is_empty() {
                return Err(StartError::NoAddress(config.listen));
            }
            bound.push(Bound {
                udp: udp.0,
                tcp,
                candidates,
            });
            let setup = Setup {
                index: WorkerIndex(index),
                shared: shared.clone(),
                socket: udp.1,
                listener,
                relay,
                candidates: news,
                mailbox,
                workers: workers.clone(),
                reports: reports.clone(),
                seed: rand::random,
            };
            // On an error the senders are dropped, and with them the threads that run already.
            threads.push(run::spawn(setup, handed_over).map_err(StartError::Thread)?);
        }
        let (requests, questions) = mpsc::channel(REQUESTS);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let workers: Arc<[mpsc::Sender<Message>]> = workers.into();
        tokio::spawn(
            ControllerTask {
                control: Controller::new(config, rand::random()),
                workers: Arc::clone(&workers),
                waiting: HashMap::new(),
                next_request: 0,
                events: event_sender,
                unsent: VecDeque::new(),
            }
            .run(questions, report_queue),
        );
        let sfu = Sfu {
            requests,
            addresses,
            threads: Arc::new(Mutex::new(threads)),
            workers,
            tcp_dispatcher,
            bound: bound.into(),
        };
        Ok((sfu, events, links))
    }

    /// Where the workers receive media, in their order.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Tells clients from now on to come to the addresses of these settings, which are otherwise those
    /// that this media plane was started with. Who is in a call hears of them when it restarts ICE.
    pub fn set_addresses(&self, config: &Config) {
        for worker in self.bound.iter() {
            let candidates = config.candidates(worker.udp, worker.tcp);
            // Without any, the former ones are a better guess.
            if !candidates.is_empty() {
                worker.candidates.send_replace(candidates);
            }
        }
    }

    /// Where TCP connections go with media that somebody else has accepted, at
    /// [`Config::shared_tcp`].
    #[must_use]
    pub fn tcp_dispatcher(&self) -> &TcpDispatcher {
        &self.tcp_dispatcher
    }

    /// Asks for something, and waits until it is done.
    pub async fn ask(&self, request: Request) -> Reply {
        let stopped: Refusal = match request {
            Request::Offer { .. } | Request::RestartIce { .. } => OfferError::WorkerFailed.into(),
            // A plane that has stopped has no peers.
            Request::PeerStats { .. } => CommandError::UnknownPeer.into(),
            _ => CommandError::Stopped.into(),
        };
        let (sender, reply) = oneshot::channel();
        if self.requests.send((request, sender)).await.is_ok()
            && let Ok(reply) = reply.await
        {
            return reply;
        }
        Reply::Refused(stopped)
    }

    /// Closes every peer and ends the workers.
    pub async fn shutdown(&self) {
        for worker in self.workers.iter() {
            // A worker whose mailbox is gone has ended already.
            let _ = worker.send(Message::Stop).await;
        }
        let threads = std::mem::take(&mut *self.threads.lock().await);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A panic of a worker has been reported when it happened.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}

/// [`Controller`] with its queues.
struct ControllerTask {
    control: Controller,
    workers: Arc<[mpsc::Sender<Message>]>,
    waiting: HashMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
    events: mpsc::Sender<Event>,
    /// Events for a control plane that is busy, perhaps with a request of ours: to wait for it here
    /// could be to wait for each other.
    unsent: VecDeque<Event>,
}

impl ControllerTask {
    async fn run(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        mut reports: mpsc::Receiver<(WorkerIndex, Report)>,
    ) {
        let events = self.events.clone();
        loop {
            let deadline = self.control.next_deadline();
            let wake = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                question = questions.recv() => match question {
                    Some((request, reply)) => {
                        let id = RequestId(self.next_request);
                        self.next_request += 1;
                        self.waiting.insert(id, reply);
                        self.control.handle_request(id, request);
                    }
                    // Every handle is gone: nobody will ever ask again.
                    None => break,
                },
                report = reports.recv() => match report {
                    Some((worker, report)) => self.control.handle_report(worker, report),
                    None => return,
                },
                () = wake => self.control.handle_timeout(Instant::now()),
                permit = events.reserve(), if !self.unsent.is_empty() => {
                    if let (Ok(permit), Some(event)) = (permit, self.unsent.pop_front()) {
                        permit.send(event);
                    }
                }
            }
            while let Some(output) = self.control.poll_output() {
                self.carry_out(output).await;
            }
        }
        for worker in self.workers.iter() {
            let _ = worker.send(Message::Stop).await;
        }
    }

    async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Command(worker, command) => {
                if let Some(mailbox) = self.workers.get(worker.0) {
                    // Workers never wait for the controller, so there will be room. One that has ended
                    // needs no command.
                    let _ = mailbox.send(Message::Command(command)).await;
                }
            }
            Output::Reply(id, reply) => {
                if let Some(waiting) = self.waiting.remove(&id) {
                    // Whoever asked may have given up.
                    let _ = waiting.send(reply);
                }
            }
            Output::Event(event) => self.unsent.push_back(event),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;
    use crate::api::{Answer, GoneReason, Offer, Publish};
    use crate::types::{PeerId, RoomId, TrackId};

    const OFFER: &str = include_str!("../tests/sdp/chromium-default.sdp");
    const ROOM: RoomId = RoomId(1);

    fn on_free_ports(workers: usize) -> Config {
        Config {
            workers,
            port: 0,
            ..Config::default()
        }
    }

    async fn offer(sfu: &Sfu, peer: PeerId) -> Result<Answer, Refusal> {
        let offer = Offer {
            sdp: OFFER.to_owned(),
            publish: Publish::All,
            may_publish: true,
            may_subscribe: true,
            is_whole: false,
            avoid_udp: false,
            person: None,
            former: None,
        };
        let room = ROOM;
        match sfu.ask(Request::Offer { room, peer, offer }).await {
            Reply::Answered(answer) => Ok(answer),
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?} to an offer"),
        }
    }

    #[tokio::test]
    async fn a_failed_worker_loses_its_own_peers_and_nobody_elses() {
        let (sfu, mut events) = Sfu::start(&on_free_ports(2)).unwrap();
        let (first, second) = (PeerId(1), PeerId(2));
        for peer in [first, second] {
            offer(&sfu, peer).await.unwrap();
        }
        sfu.workers[0].send(Message::Panic).await.unwrap();
        let gone = loop {
            if let Event::PeerGone { peer, reason } = events.recv().await.unwrap() {
                break (peer, reason);
            }
        };
        assert_eq!(gone, (first, GoneReason::WorkerFailed));
        assert_eq!(offer(&sfu, second).await.map(|_| ()), Ok(()));
        // The worker that has failed is the emptier one now, and takes the next peer.
        let third = PeerId(3);
        offer(&sfu, third).await.unwrap();
        let Reply::Stats(stats) = sfu.ask(Request::Stats).await else {
            panic!("no stats");
        };
        let peers: Vec<u64> = stats.workers.iter().map(|(_, w)| w.peers).collect();
        assert_eq!(peers, [1, 1]);
        sfu.shutdown().await;
    }

    #[tokio::test]
    async fn clients_are_told_of_a_new_address_without_a_restart() {
        let ip = |text: &str| -> Vec<IpAddr> { vec![text.parse().unwrap()] };
        let any = Config {
            listen: "0.0.0.0".parse().unwrap(),
            tcp_port: TcpPort::Off,
            ..on_free_ports(1)
        };
        let nowhere = Sfu::start(&any).unwrap_err();
        assert!(matches!(nowhere, StartError::NoAddress(_)), "{nowhere}");
        let config = Config {
            own_ips: ip("192.0.2.1"),
            ..any
        };
        let (sfu, _events) = Sfu::start(&config).unwrap();
        let peer = PeerId(1);
        let candidates = |sdp: &str| -> Vec<String> {
            let lines = sdp.lines().filter(|line| line.starts_with("a=candidate:"));
            let ips = lines.filter_map(|line| line.split(' ').nth(4));
            ips.map(String::from).collect()
        };
        let first = offer(&sfu, peer).await.unwrap();
        assert_eq!(candidates(&first.sdp), ["192.0.2.1"]);
        sfu.set_addresses(&Config {
            own_ips: ip("192.0.2.9"),
            ..config
        });
        let second = offer(&sfu, PeerId(2)).await.unwrap();
        assert_eq!(candidates(&second.sdp), ["192.0.2.9"]);
        sfu.shutdown().await;
    }

    #[tokio::test]
    async fn a_taken_port_is_one_clear_sentence() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = Config {
            workers: 1,
            port: taken.local_addr().unwrap().port(),
            ..Config::default()
        };
        let error = Sfu::start(&config).unwrap_err().to_string();
        assert!(
            error.contains(&taken.local_addr().unwrap().to_string()),
            "{error}"
        );
        assert!(error.contains("choose another"), "{error}");
        let none = Sfu::start(&on_free_ports(0)).unwrap_err();
        assert!(matches!(none, StartError::NoWorkers));
        let past = Config {
            port: u16::MAX,
            ..on_free_ports(2)
        };
        assert!(matches!(
            Sfu::start(&past).unwrap_err(),
            StartError::PortRange { .. }
        ));
    }

    #[tokio::test]
    async fn commands_to_nobody_are_refused_and_a_stopped_plane_says_so() {
        let (sfu, _events) = Sfu::start(&on_free_ports(1)).unwrap();
        let (peer, track) = (PeerId(9), TrackId(9));
        let mute = Request::Mute {
            peer,
            track,
            muted: true,
        };
        assert_eq!(
            sfu.ask(mute).await,
            Reply::Refused(CommandError::UnknownPeer.into())
        );
        offer(&sfu, peer).await.unwrap();
        assert_eq!(
            sfu.ask(Request::Unpublish { peer, track }).await,
            Reply::Refused(CommandError::UnknownTrack(track).into())
        );
        sfu.ask(Request::Close { peer }).await;
        assert_eq!(
            sfu.ask(Request::PeerStats { peer }).await,
            Reply::Refused(CommandError::UnknownPeer.into())
        );
        sfu.shutdown().await;
        assert_eq!(
            offer(&sfu, peer).await,
            Err(OfferError::WorkerFailed.into())
        );
    }

    #[tokio::test]
    async fn a_stopped_plane_has_no_peers_to_count() {
        let (sfu, _events) = Sfu::start(&on_free_ports(1)).unwrap();
        let peer = PeerId(9);
        offer(&sfu, peer).await.unwrap();
        sfu.shutdown().await;
        // The answer is the sign that the controller has ended too.
        offer(&sfu, peer).await.unwrap_err();
        assert_eq!(
            sfu.ask(Request::PeerStats { peer }).await,
            Reply::Refused(CommandError::UnknownPeer.into())
        );
    }
}
