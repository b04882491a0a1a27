//! The TURN server, alone or beside the SFU.
//!
//! In: the settings, and where the SFU receives media. Out: a thread that relays until its end, and
//! what signaling tells clients of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use confab_sfu::{MediaLink, RelayQueues};
use confab_signaling::protocol::IceServer;
use confab_signaling::relay::RelayStats;
use confab_signaling::session::new_secret;
use confab_sockets::memory::{Receiver, queue};
use confab_turn::credentials::Secret;
use confab_turn::net::{self, Error, Handle, Server, Snapshot};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;

use crate::addresses;
use crate::config::{Config, Sources};
use crate::failure::Failure;
use crate::parts::Parts;
use crate::reload::{Reload, SetFilter};
use crate::signals::Signals;
use crate::tls::{Behind, Limits, TlsListeners};

/// How often a relay that is to stop looks whether anybody is left.
const DRAIN_INTERVAL: Duration = Duration::from_millis(200);

/// A relay that runs in a thread of its own; dropping it stops it.
pub(crate) struct Relay {
    pub(crate) access: Arc<RelayAccess>,
    /// Says why it has stopped; ends without a word if its thread has panicked.
    pub(crate) stopped: oneshot::Receiver<String>,
    /// Stops it when dropped.
    pub(crate) stop: oneshot::Sender<()>,
}

/// Lets participants of calls use the relay, and keeps those out who have left.
#[derive(Debug)]
pub(crate) struct RelayAccess {
    listening: Listening,
    urls: RwLock<Urls>,
    secret: Secret,
    handle: Handle,
}

/// How clients reach the relay.
#[derive(Clone, Debug)]
struct Urls {
    own: Vec<String>,
    /// Those that lead to a port of media, when there are no other ports of media.
    media: Vec<String>,
}

/// Where it is reached, as this machine knows it.
#[derive(Clone, Debug)]
struct Listening {
    own: net::Addresses,
    /// The ports of media, when there are no others.
    media: net::Addresses,
    tls: Vec<SocketAddr>,
    /// The workers' addresses, in the order of their queues.
    workers: Vec<SocketAddr>,
}

impl Listening {
    fn urls(&self, config: &Config) -> Urls {
        Urls {
            own: config.relay_urls(&self.own, &self.tls),
            media: config.relay_urls(&self.media, &[]),
        }
    }
}

impl RelayAccess {
    /// The way to the relay.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Tells clients from now on of the addresses in these settings, which are otherwise those that
    /// the relay was started with.
    pub(crate) fn set_addresses(&self, config: &Config) {
        let known_as = |worker: &SocketAddr| config.media_addresses(&[*worker]).collect();
        let media = self.listening.workers.iter().map(known_as).collect();
        self.handle.set_addresses(config.relay_addresses(), media);
        let urls = self.listening.urls(config);
        // The lock is held over an assignment, which cannot panic.
        *self.urls.write().unwrap_or_else(PoisonError::into_inner) = urls;
    }
}

/// The addresses that a socket of media takes datagrams at, one for each family.
fn families(media: SocketAddr) -> Vec<SocketAddr> {
    match media.ip() {
        IpAddr::V6(any) if any.is_unspecified() => {
            vec![(Ipv4Addr::UNSPECIFIED, media.port()).into(), media]
        }
        _ => vec![media],
    }
}

impl confab_signaling::relay::Relay for RelayAccess {
    fn mint(&self, user: &str, lifetime: Duration) -> Vec<IceServer> {
        let minted = self.secret.mint(unix_in(lifetime), user);
        let urls = self.urls.read().unwrap_or_else(PoisonError::into_inner);
        let ways = [(&urls.own, false), (&urls.media, true)];
        let ways = ways.into_iter().filter(|(urls, _)| !urls.is_empty());
        let servers = ways.map(|(urls, at_media_port)| IceServer {
            urls: urls.clone(),
            username: minted.username.clone(),
            credential: minted.password.clone(),
            at_media_port,
        });
        servers.collect()
    }

    fn revoke(&self, user: &str, lifetime: Duration) {
        self.handle.revoke(user, unix_in(lifetime));
    }

    fn is_alive(&self) -> bool {
        self.handle.is_alive()
    }

    fn stats(&self) -> BoxFuture<'_, RelayStats> {
        let snapshot = self.handle.snapshot();
        async { stats(&snapshot.await.unwrap_or_default()) }.boxed()
    }
}

/// The relay's counts as `/metrics` names them.
fn stats(snapshot: &Snapshot) -> RelayStats {
    let counters = &snapshot.counters;
    let (out, back) = (counters.to_peers, counters.to_clients);
    RelayStats {
        allocations: snapshot.allocations.into(),
        connections: snapshot.streams as u64,
        allocated: counters.allocated,
        packets: vec![("peers", out.packets), ("clients", back.packets)],
        bytes: vec![("peers", out.bytes), ("clients", back.bytes)],
        dropped: vec![
            ("malformed", counters.malformed),
            ("unauthenticated", counters.unauthenticated),
            ("rate_limited", counters.rate_limited),
            ("forbidden", counters.forbidden),
            ("unpermitted", counters.unpermitted),
            ("over_quota", counters.over_quota),
            ("slow_stream", snapshot.stream_drops),
            ("media_full", snapshot.media_drops),
            ("relay_full", snapshot.own_drops),
        ],
        restarts: snapshot.restarts,
    }
}

/// Seconds since 1970, so much later.
fn unix_in(lifetime: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    (now.unwrap_or_default() + lifetime).as_secs()
}

/// What the media plane puts in for the relay.
pub(crate) struct FromMedia {
    media: Receiver,
    clients: Receiver,
}

/// The queues that lead from the media plane to a relay.
pub(crate) fn queues(config: &Config) -> (RelayQueues, FromMedia) {
    let ((media, from_media), (clients, from_clients)) = (queue(), queue());
    let queues = RelayQueues {
        media,
        clients,
        shared: config.shared_udp(),
    };
    let from_media = FromMedia {
        media: from_media,
        clients: from_clients,
    };
    (queues, from_media)
}

/// Starts a relay that knows the SFU's addresses as its own and hands packets for them over in memory,
/// and serves what comes through these TLS listeners.
///
/// # Errors
/// When the settings contradict each other, or an address cannot be had.
pub(crate) fn start(
    config: &Config,
    (links, from_media): (Vec<MediaLink>, FromMedia),
    tls: &[SocketAddr],
) -> Result<Relay, Failure> {
    let media: Vec<SocketAddr> = links.iter().map(|link| link.address).collect();
    let secret = config.turn.secret.clone().unwrap_or_else(new_secret);
    let secret = Secret::new(&secret);
    let settings = net::Config {
        secret: Some(secret.clone()),
        ..config.turn(&media, tls)
    };
    let mut server = Server::bind(settings).map_err(explain)?;
    let mut addresses = server.addresses().clone();
    let mut media_addresses = net::Addresses::default();
    let is_all_shared = links.iter().all(|link| link.socket.is_some());
    let (mut to_media, mut shared) = (Vec::new(), Vec::new());
    let workers = media;
    for link in links {
        let known_as = config.media_addresses(&[link.address]).collect();
        to_media.push((known_as, link.queue));
        if let Some(socket) = link.socket {
            tracing::info!(address = %link.address, "TURN over UDP has the port of media");
            match is_all_shared {
                true => media_addresses.udp.extend(families(link.address)),
                false => addresses.udp.extend(families(link.address)),
            }
            shared.push(socket);
        }
    }
    server.connect_media(to_media, from_media.media);
    server.share_udp(shared, from_media.clients)?;
    log(&server);
    let listening = Listening {
        own: addresses,
        media: media_addresses,
        tls: tls.to_vec(),
        workers,
    };
    let access = RelayAccess {
        urls: RwLock::new(listening.urls(config)),
        listening,
        secret,
        handle: server.handle(),
    };
    let runtime = runtime()?;
    let (stop, is_to_stop) = oneshot::channel::<()>();
    let (tell, stopped) = oneshot::channel();
    std::thread::Builder::new()
        .name("turn".into())
        .spawn(move || {
            let is_to_stop = async {
                // Either way it is time to stop.
                let _ = is_to_stop.await;
            };
            if let Err(error) = runtime.block_on(server.run(is_to_stop)) {
                // Nobody hears it if the process ends anyhow.
                let _ = tell.send(error.to_string());
            }
        })?;
    let access = Arc::new(access);
    Ok(Relay {
        access,
        stopped,
        stop,
    })
}

/// Who has not asked for a relay must be told how to go without.
fn explain(error: Error) -> Failure {
    match error {
        Error::Listen { .. } => format!(
            "{error}: --turn-listen sets where TURN is served, and --turn-listen off does without it"
        )
        .into(),
        error => error.into(),
    }
}

/// Runs a relay without anything else, until a signal.
///
/// # Errors
/// When the settings contradict each other, or an address cannot be had.
pub(crate) fn serve_alone(
    settings: &Config,
    (sources, set_filter): (Sources, SetFilter),
) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let reload = Reload::new(sources, set_filter)?;
        let mut parts = Parts::default();
        let config = &addresses::discover(settings).await?;
        let listeners = TlsListeners::bind(config.tls_doors(false)?)?;
        let server = Server::bind(config.turn(&[], &listeners.turn()))?;
        log(&server);
        parts.add(
            "SIGHUP",
            reload.obey(settings.clone(), listeners.expiries()),
        );
        let behind = Behind {
            turn: Some(server.handle()),
            ..Behind::default()
        };
        let limits = Limits::new(config.control.max_sessions, &config.trusted_proxies);
        listeners.open(&behind, &limits, &mut parts);
        let drained = drain(Signals::new()?, server.handle(), config.drain);
        println!("Confab's TURN server is ready.");
        tokio::select! {
            ended = server.run(drained) => Ok(ended?),
            failure = parts.failed() => Err(failure),
        }
    })
}

/// Ends some time after the first signal, or with the last allocation, or at the second signal.
async fn drain(mut signals: Signals, handle: Handle, within: Duration) {
    signals.next().await;
    tracing::info!("stopping once all allocations have ended; a second signal ends at once");
    handle.drain();
    let are_gone = async {
        while handle
            .snapshot()
            .await
            .is_some_and(|now| now.allocations > 0)
        {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    };
    tokio::select! {
        () = are_gone => {}
        () = tokio::time::sleep(within) => {
            tracing::info!("the drain deadline has passed with allocations there");
        }
        () = signals.next() => {}
    }
}

/// One thread owns all sockets of the relay: nothing is gained by more.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn log(server: &Server) {
    let addresses = server.addresses();
    for (transport, addresses) in [("UDP", &addresses.udp), ("TCP", &addresses.tcp)] {
        for address in addresses {
            tracing::info!(%address, transport, "TURN listens");
        }
    }
}
