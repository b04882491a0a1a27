//! I/O: sockets, streams and tasks around the protocol.
//!
//! In: a [`Config`]. Out: a [`Server`] that runs until it is told to stop, and a [`Handle`] to it for
//! the rest of the process. One task owns the protocol and the datagram sockets (`worker`); each
//! stream has a task of its own that cuts it into messages (`stream`), whether it comes through a
//! listener of the server or is handed in ([`Handle::serve`]), as those over TLS are.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod caught;
mod config;
mod datagram;
mod listener;
mod media;
mod queue;
mod relay_socket;
mod shared;
mod stream;
mod worker;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use confab_sockets::listener::{ConnectionLimit, Families};
use confab_sockets::memory::{Receiver, Sender, queue};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::client::{Client, Transport};
use crate::credentials::Users;
use crate::machine::{RelayAddress, Settings, Turn};
use crate::policy::PeerPolicy;

use media::MediaLink;
use shared::SharedSocket;
use stream::StreamEvent;
use worker::{Command, Inboxes, Worker};

pub use config::{Config, Error};
pub use worker::Snapshot;

/// Messages of streams that wait for the worker; whoever sends more waits.
const INBOX_LEN: usize = 1024;

/// A server whose sockets are bound.
pub struct Server {
    turn: Turn,
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
    max_connections: u32,
    addresses: Addresses,
    handle: Handle,
    commands: mpsc::UnboundedReceiver<Command>,
    streams: mpsc::Receiver<StreamEvent>,
    to_media: MediaLink,
    from_media: Receiver,
    shared: Vec<SharedSocket>,
    datagrams: Receiver,
}

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Addresses {
    /// For datagrams.
    pub udp: Vec<SocketAddr>,
    /// For connections.
    pub tcp: Vec<SocketAddr>,
}

/// The way to a running server for the rest of the process. When the server has stopped, nothing
/// happens.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    inbox: mpsc::Sender<StreamEvent>,
}

impl Handle {
    /// Serves a connection that somebody else has accepted, most likely with TLS, until it ends. It
    /// is between this `server` address, which should be in [`Config::handed_in`], and the `client`'s.
    /// How many there are at once is bounded by who accepts them; one that makes no allocation ends
    /// after 30 s.
    pub async fn serve<S>(&self, stream: S, server: SocketAddr, client: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let client = Client {
            transport: Transport::Stream,
            server,
            address: client,
        };
        let ended = stream::serve(stream, client, &self.inbox).await;
        tracing::debug!(address = %client.address, %ended, "a TURN stream has ended");
    }

    async fn serve_tcp(self, stream: TcpStream, client: SocketAddr) {
        match stream.local_addr() {
            Ok(server) => self.serve(stream, server, client).await,
            Err(error) => tracing::debug!(address = %client, %error, "a TURN stream has ended"),
        }
    }

    /// Ends all allocations of a label at once, and makes none for it until `expiry`, in seconds
    /// since 1970: that of the last credentials that were minted for it.
    pub fn revoke(&self, label: &str, expiry: u64) {
        let label = label.to_owned();
        self.send(Command::Revoke { label, expiry });
    }

    /// Lets clients that hide their usernames (RFC 8489 section 9.2) use a minted one.
    pub fn announce(&self, username: &str) {
        let username = username.to_owned();
        self.send(Command::Announce { username });
    }

    /// Says which addresses are this process's own media plane, and may be relayed to wherever they
    /// are.
    pub fn set_own_media(&self, addresses: HashSet<SocketAddr>) {
        self.send(Command::OwnMedia(addresses));
    }

    /// Says that this machine, or what it is called outside, has other addresses now: those relayed
    /// from, and those of the queues of its own media plane, in the order of
    /// [`Server::connect_media`]. Allocations that are there keep their ports.
    pub fn set_addresses(&self, relays: Vec<RelayAddress>, media: Vec<Vec<SocketAddr>>) {
        self.send(Command::Addresses { relays, media });
    }

    /// Makes no allocations any more; those that are there go on.
    pub fn drain(&self) {
        self.send(Command::Drain);
    }

    /// Whether the server has not stopped.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.commands.is_closed()
    }

    /// How the server is doing; `None` if it has stopped.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (reply, snapshot) = oneshot::channel();
        self.send(Command::Snapshot(reply));
        snapshot.await.ok()
    }

    fn send(&self, command: Command) {
        // A server that has stopped has nothing to change.
        let _ = self.commands.send(command);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.addresses).finish()
    }
}

impl Server {
    /// Binds all sockets. Where one family of addresses cannot be had, the other is served alone, and the
    /// log says so.
    ///
    /// # Errors
    /// When the settings contradict each other, or an address cannot be had.
    pub fn bind(mut config: Config) -> Result<Self, Error> {
        config.check()?;
        let relays = std::mem::take(&mut config.relays);
        config.relays = one_family_at_least(relays, |relay| {
            let address = relay.bind;
            let probe = std::net::UdpSocket::bind((address, 0));
            let probed = probe.map_err(|source| Error::Relay { address, source });
            (address, probed.map(|_| relay))
        })?;
        let udp = one_family_at_least(config.udp.clone(), |address| {
            let bound =
                confab_sockets::udp::bind(address, false).map_err(listen_error("UDP", address));
            (address.ip(), bound)
        })?;
        let tcp = one_family_at_least(config.tcp.clone(), |address| {
            let bound = confab_sockets::listener::bind(address, Families::OfAddress)
                .map_err(listen_error("TCP", address));
            (address.ip(), bound)
        })?;
        let addresses = Addresses {
            udp: udp
                .iter()
                .map(|s| s.local_addr())
                .collect::<Result<_, _>>()?,
            tcp: tcp
                .iter()
                .map(|s| s.local_addr())
                .collect::<Result<_, _>>()?,
        };
        let all = [&addresses.udp[..], &addresses.tcp, &config.handed_in].concat();
        let (commands, receiver) = mpsc::unbounded_channel();
        let (inbox, streams) = mpsc::channel(INBOX_LEN);
        Ok(Server {
            turn: protocol(&config, &all),
            udp,
            tcp,
            max_connections: config.max_connections,
            addresses,
            handle: Handle { commands, inbox },
            commands: receiver,
            streams,
            to_media: MediaLink::default(),
            from_media: queue().1,
            shared: Vec::new(),
            datagrams: queue().1,
        })
    }

    /// Hands what is relayed to this process's own media plane over in memory: into the queue of the
    /// address it is for, which must be in [`Config::own_media`] too. The media plane's packets for
    /// relay addresses come out of `from_media`; those for one that is not there any more are lost.
    pub fn connect_media(
        &mut self,
        to_media: Vec<(Vec<SocketAddr>, Sender)>,
        from_media: Receiver,
    ) {
        self.to_media = MediaLink::new(to_media);
        self.from_media = from_media;
        self.turn.set_media_in_memory();
    }

    /// Serves clients that come to sockets which somebody else reads, and whose addresses are to be in
    /// [`Config::handed_in`]: their datagrams come out of `datagrams`, from the client's address to the
    /// one it was sent to. The sockets must not block.
    ///
    /// # Errors
    /// When the kernel refuses what sending needs.
    pub fn share_udp(
        &mut self,
        sockets: Vec<std::net::UdpSocket>,
        datagrams: Receiver,
    ) -> Result<(), Error> {
        let shared = sockets.into_iter().map(SharedSocket::new);
        self.shared = shared.collect::<Result<_, _>>()?;
        self.datagrams = datagrams;
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The way to it while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until `stop` is done; within a tokio runtime.
    ///
    /// # Errors
    /// When the runtime does not take the sockets.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let inboxes = Inboxes {
            streams: self.streams,
            media: self.from_media,
            datagrams: self.datagrams,
            commands: self.commands,
        };
        let worker = Worker::new(self.turn, self.udp, self.shared, self.to_media, inboxes)?;
        let keeper = Arc::new(ConnectionLimit::new(self.max_connections));
        let mut listeners = JoinSet::new();
        for listener in self.tcp {
            let listener = TcpListener::from_std(listener)?;
            let handle = self.handle.clone();
            let serve = move |stream, client, place| {
                let handle = handle.clone();
                async move {
                    handle.serve_tcp(stream, client).await;
                    drop(place);
                }
            };
            listeners.spawn(confab_sockets::listener::accept(
                listener,
                keeper.clone(),
                serve,
            ));
        }
        tokio::select! {
            never = worker.run() => match never {},
            Some(_) = listeners.join_next() => Err(Error::Listener),
            () = stop => Ok(()),
        }
    }
}

/// What comes of trying each of these. One that fails is an error, unless others are had and all of them
/// are of the other family.
fn one_family_at_least<A, T>(
    all: Vec<A>,
    attempt: impl Fn(A) -> (IpAddr, Result<T, Error>),
) -> Result<Vec<T>, Error> {
    let (mut had, mut families, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for one in all {
        match attempt(one) {
            (address, Ok(one)) => {
                had.push(one);
                families.push(address.is_ipv4());
            }
            (address, Err(error)) => failed.push((address.is_ipv4(), error)),
        }
    }
    for (family, error) in failed {
        if families.is_empty() || families.contains(&family) {
            return Err(error);
        }
        tracing::warn!(%error, "TURN goes without this family of addresses");
    }
    Ok(had)
}

fn listen_error(
    transport: &'static str,
    address: SocketAddr,
) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Listen {
        transport,
        address,
        source,
    }
}

/// The protocol with a server's settings.
fn protocol(config: &Config, listening: &[SocketAddr]) -> Turn {
    let mut users = Users::new(&config.realm, config.secret.clone());
    for user in &config.users {
        users.add(user.clone());
    }
    let settings = Settings {
        relays: config.relays.clone(),
        ports: config.ports.clone(),
        limits: config.limits,
        policy: PeerPolicy {
            allow: config.allow.clone(),
            deny: config.deny.clone(),
            own_media: config.own_media.clone(),
            own_addresses: config.own_addresses(listening),
            own_ports: listening.iter().map(SocketAddr::port).collect(),
        },
        dont_fragment: true,
    };
    let unix_now = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_now = unix_now.unwrap_or_default().as_secs();
    Turn::new(Instant::now(), unix_now, settings, users, rand::random())
}

#[cfg(test)]
mod tests;
