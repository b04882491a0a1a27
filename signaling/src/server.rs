//! The whole control plane on one listener, and on whatever others hand in.
//!
//! In: the settings, the media plane with its events, connections, and the request to stop. Out: a running server,
//! until everybody has left or the drain deadline has passed.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use confab_sfu::api::Event;
use confab_sockets::cidr::Cidr;
use confab_sockets::listener::{ConnectionLimit, Lobby};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use crate::auth::Auth;
use crate::control::{self, Control};
use crate::http::ws::MAX_SILENT;
use crate::http::{App, Certificates, Entrance, Names, Origins, Proxies, public_router, router};
use crate::media::MediaPlane;
use crate::relay::Relay;
use crate::service::{End, Service};

/// How long sockets may take to close once the server stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Numbers begin with one of 48 bits at random: a run has some millions of them, so that those of two
/// runs hardly ever meet, and they stay short.
const FIRST_NUMBER_SHIFT: u32 = 16;

/// Connections at once, unless more sessions are allowed for.
const MIN_CONNECTIONS: u32 = 10_000;

/// How many connections there may be at once for so many sessions: each may have a WebSocket, one to the
/// relay, and one that loads the page. At least 10000.
#[must_use]
pub fn max_connections(max_sessions: usize) -> u32 {
    let sessions = u32::try_from(max_sessions).unwrap_or(u32::MAX);
    sessions.saturating_mul(3).max(MIN_CONNECTIONS)
}

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Origins of other servers' pages that may use it, as `scheme://host[:port]`.
    pub allowed_origins: Vec<String>,
    /// Where links to it begin, as `scheme://host[:port]` and perhaps a path, without a slash at the
    /// end; unset, they have no beginning.
    pub public_url: Option<String>,
    /// Who may enter.
    pub auth: Auth,
    /// Bounds and times.
    pub control: control::Config,
    /// How long calls live on after the request to stop.
    pub drain: Duration,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has it.
    #[error(
        "another program listens on {0} already; stop it, or choose another address with --http-listen"
    )]
    InUse(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {0}: {1}; choose another address with --http-listen")]
    Other(SocketAddr, io::Error),
}

/// Why a server cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// What holds sessions and rooms has panicked, and they are lost with it.
    #[error("the control plane has failed: {0}")]
    Control(String),
    /// The media plane has ended.
    #[error("the media plane has failed")]
    Media,
}

/// A server that has its address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    settings: Settings,
    entrance: Entrance,
    relay: Option<Arc<dyn Relay>>,
    certificates: Option<Arc<dyn Certificates>>,
    names: Vec<String>,
    proxies: Vec<Cidr>,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When that is not possible.
    pub async fn bind(settings: Settings) -> Result<Server, BindError> {
        let address = settings.listen;
        let error = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Other(address, error),
        };
        let listener = TcpListener::bind(address).await.map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        Ok(Server {
            listener,
            address,
            settings,
            entrance: Entrance::default(),
            relay: None,
            certificates: None,
            names: Vec::new(),
            proxies: Vec::new(),
        })
    }

    /// Takes from reverse proxies at these addresses whom a request comes from (`X-Forwarded-For`).
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: Vec<Cidr>) -> Server {
        self.proxies = proxies;
        self
    }

    /// Says what else it is called than what links begin with and certificates are for. While rooms are
    /// open it answers to no other names that somebody could register, as pages could take them.
    #[must_use]
    pub fn with_names(mut self, names: Vec<String>) -> Server {
        self.names = names;
        self
    }

    /// Tells clients of a relay.
    #[must_use]
    pub fn with_relay(mut self, relay: Arc<dyn Relay>) -> Server {
        self.relay = Some(relay);
        self
    }

    /// Has metrics say when certificates run out, and answers to the names that they are for.
    #[must_use]
    pub fn with_certificates(mut self, certificates: Arc<dyn Certificates>) -> Server {
        self.certificates = Some(certificates);
        self
    }

    /// Where it listens: the port is known even if any was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way in for connections that somebody else accepts, with TLS most likely. Everything is
    /// served there but the metrics, which need no token.
    #[must_use]
    pub fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// Serves until `stop` and the drain after it are over.
    ///
    /// # Errors
    /// When a part has failed without which there are no calls.
    pub async fn run<M: MediaPlane>(
        self,
        media: M,
        events: mpsc::Receiver<Event>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Stopped> {
        let Settings {
            allowed_origins,
            public_url,
            auth,
            control,
            drain,
            ..
        } = self.settings;
        // Pages of an origin that is allowed may do what it does anyhow.
        let trusted = public_url.iter().chain(&allowed_origins).cloned();
        let names = Names::new(self.names.into_iter().chain(trusted));
        let max_sockets = max_connections(control.max_sessions);
        let first = rand::random::<u64>() >> FIRST_NUMBER_SHIFT;
        let mut control = Control::new(control).with_first_number(first);
        if let Some(relay) = &self.relay {
            control = control.with_relay(relay.clone());
        }
        let (service, mut task) = Service::start(control, media, events);
        let app = App {
            service,
            auth,
            public_url: public_url.map(Into::into),
            relay: self.relay,
            origins: Arc::new(Origins::new(allowed_origins)),
            names: Arc::new(names),
            lobby: Arc::new(Lobby::new(MAX_SILENT)),
            sockets: Arc::new(Semaphore::new(max_sockets as usize)),
            ready: Arc::new(AtomicBool::new(true)),
            certificates: self.certificates,
            refusals: Arc::default(),
        };
        let proxies = Proxies::new(self.proxies.clone());
        self.entrance
            .open(public_router(app.clone()), proxies.clone());
        let own_entrance = Entrance::default();
        own_entrance.open(router(app.clone()), proxies);
        let keeper = ConnectionLimit::behind_proxies(max_sockets).trusting(self.proxies);
        let keeper = Arc::new(keeper);
        let serve = move |stream, client: SocketAddr, place| {
            let entrance = own_entrance.clone();
            async move { entrance.serve(stream, client.ip(), place).await }
        };
        let stopping = async {
            stop.await;
            app.set_ready(false);
            let drained = tokio::time::timeout(drain, app.service.drain(drain)).await;
            if drained.is_err() {
                tracing::info!("the drain deadline has passed with calls going on");
            }
            app.service.stop().await;
            let closed = app.sockets.acquire_many(max_sockets);
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
        };
        tokio::select! {
            never = confab_sockets::listener::accept(self.listener, keeper, serve) => match never {},
            ended = &mut task => Err(match ended {
                Err(error) => Stopped::Control(error.to_string()),
                Ok(End::MediaFailed | End::Unneeded) => Stopped::Media,
            }),
            () = stopping => Ok(()),
        }
    }
}
