//! One address with TLS.
//!
//! In: TCP connections. Out: streams for whoever is behind the listener. Until it is known what a client
//! wants, which with TLS takes a handshake, a connection has little time, and only so many may be
//! there: whoever has said nothing for longest goes when another comes.

use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use confab_sfu::TcpDispatcher;
use confab_signaling::{Entrance, max_connections};
use confab_sockets::cidr::Cidr;
use confab_sockets::listener::{ConnectionLimit, Families, Lobby, Place, Seat};
use confab_turn::net::Handle;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::{CHALLENGE, Certificate};
use super::opening::{MAX_LEN, Opening};
use super::source::CertificateError;
use super::{Plan, Source};

/// How long a client may take until it is known what it wants, be it for the handshake and the first
/// byte after it: several round trips with loss.
const MAX_OPENING: Duration = Duration::from_secs(10);

/// Connections at once of which that is not known, of all listeners. A handshake costs some 50 kB.
const MAX_HANDSHAKES: usize = 1000;

/// HTTP, by its name in the handshake (RFC 7301).
const HTTP: &[u8] = b"http/1.1";

/// TURN and STUN, by theirs (RFC 7443).
const TURN: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];

/// Who is behind a listener; at least one of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind {
    pub(crate) http: Option<Entrance>,
    pub(crate) turn: Option<Handle>,
    /// Behind shared listeners alone.
    pub(crate) media: Option<TcpDispatcher>,
}

impl Behind {
    /// Those of them that are planned.
    pub(super) fn only(self, plan: &Plan) -> Behind {
        Behind {
            http: self.http.filter(|_| plan.http),
            turn: self.turn.filter(|_| plan.turn),
            media: self.media.filter(|_| plan.http && plan.shared),
        }
    }
}

/// How many connections all listeners may have.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    connections: Arc<ConnectionLimit>,
    handshakes: Arc<Lobby>,
}

impl Limits {
    /// Enough for that many sessions, of which most may come by one of these reverse proxies.
    pub(crate) fn new(max_sessions: usize, proxies: &[Cidr]) -> Limits {
        let connections = ConnectionLimit::new(max_connections(max_sessions));
        Limits {
            connections: Arc::new(connections.trusting(proxies.to_vec())),
            handshakes: Arc::new(Lobby::new(MAX_HANDSHAKES)),
        }
    }
}

/// A listener that has its address.
#[derive(Debug)]
pub(crate) struct TlsListener {
    listener: std::net::TcpListener,
    address: SocketAddr,
    certificate: Arc<Certificate>,
    is_shared: bool,
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The address cannot be had.
    #[error(
        "cannot listen for TLS on {address}: {source}; choose another address with {flag}, or \
         stop what has it"
    )]
    Listen {
        address: SocketAddr,
        flag: &'static str,
        source: io::Error,
    },
    /// There is nothing to show.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Http,
    Turn,
}

impl TlsListener {
    /// Takes the address.
    ///
    /// # Errors
    /// When that is not possible.
    pub(crate) fn bind(
        plan: &Plan,
        certificate: Arc<Certificate>,
    ) -> Result<TlsListener, ListenError> {
        let bound = confab_sockets::listener::bind(plan.address, Families::OfAddress).and_then(
            |listener| {
                let address = listener.local_addr()?;
                Ok((listener, address))
            },
        );
        let (listener, address) = bound.map_err(|source| ListenError::Listen {
            address: plan.address,
            flag: match plan.http {
                true => "--http-tls-listen",
                false => "--turn-tls-listen",
            },
            source,
        })?;
        Ok(TlsListener {
            listener,
            address,
            certificate,
            is_shared: plan.shared,
        })
    }

    /// Where it is: the port is known even if any was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn certificate(&self) -> Arc<Certificate> {
        self.certificate.clone()
    }

    /// Lets clients through. Does not end; within a tokio runtime.
    ///
    /// # Errors
    /// When the runtime does not take the socket.
    pub(crate) async fn open(self, behind: Behind, limits: Limits) -> io::Result<Infallible> {
        let listener = TcpListener::from_std(self.listener)?;
        let is_shared = self.is_shared;
        let acceptor = acceptor(self.certificate.clone(), &behind).map_err(io::Error::other)?;
        let serve = |stream, client: SocketAddr, place| {
            // Here and not in the task, so that who comes first has waited longest.
            let handshake = limits.handshakes.enter(client.ip());
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            async move {
                let visit = Visit {
                    client,
                    place,
                    handshake,
                    deadline: Instant::now() + MAX_OPENING,
                };
                match is_shared {
                    true => serve(stream, visit, acceptor, behind).await,
                    false => serve_tls(stream, visit, acceptor, behind).await,
                }
            }
        };
        match confab_sockets::listener::accept(listener, limits.connections, serve).await {}
    }
}

/// Who is behind the listener is all it speaks of, so that others are refused in the handshake.
fn acceptor(certificate: Arc<Certificate>, behind: &Behind) -> Result<TlsAcceptor, rustls::Error> {
    let is_automatic = matches!(certificate.source(), Source::Automatic(_));
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    let http = behind.http.iter().map(|_| HTTP);
    let turn = behind.turn.iter().flat_map(|_| TURN);
    let challenge = is_automatic.then_some(CHALLENGE);
    let protocols = http.chain(turn).chain(challenge);
    config.alpn_protocols = protocols.map(Into::into).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Visit {
    client: SocketAddr,
    place: Place,
    /// Among those of whom it is not known what they want.
    handshake: Seat,
    /// Until when they may have that place.
    deadline: Instant,
}

impl Visit {
    /// What comes of the opening, if it is done in time and before the place is another's.
    async fn open<T, E: Display>(
        &mut self,
        opening: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let client = self.client;
        let opened = tokio::select! {
            opened = timeout_at(self.deadline, opening) => opened,
            () = self.handshake.taken() => {
                tracing::debug!(%client, "a client has not said what it wants, and others have come");
                return None;
            }
        };
        match opened {
            Ok(Ok(opened)) => return Some(opened),
            Ok(Err(error)) => tracing::debug!(%client, %error, "a connection has ended early"),
            Err(_) => tracing::debug!(%client, "a client has not said what it wants in time"),
        }
        None
    }
}

/// Serves a connection that may be TLS or not.
async fn serve(mut stream: TcpStream, mut visit: Visit, acceptor: TlsAcceptor, behind: Behind) {
    let client = visit.client;
    let Some((opening, bytes)) = visit.open(opening(&mut stream)).await else {
        return;
    };
    match opening {
        Opening::Tls => serve_tls(stream, visit, acceptor, behind).await,
        Opening::Turn if let Some(turn) = &behind.turn => {
            drop(visit.handshake);
            serve_plain_turn(stream, client, bytes, turn).await;
        }
        Opening::Media if let Some(media) = &behind.media => {
            visit.open(media.serve(stream, bytes)).await;
        }
        _ => tracing::debug!(%client, "a client wants what is not served here"),
    }
}

/// What the client's first bytes say, and those that were read: none of TLS, which reads for itself.
async fn opening(stream: &mut TcpStream) -> io::Result<(Opening, Vec<u8>)> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if Opening::of(&first) == Some(Opening::Tls) {
        return Ok((Opening::Tls, Vec::new()));
    }
    let mut bytes = Vec::with_capacity(MAX_LEN);
    loop {
        if let Some(opening) = Opening::of(&bytes) {
            return Ok((opening, bytes));
        }
        bytes.push(stream.read_u8().await?);
    }
}

async fn serve_plain_turn(stream: TcpStream, client: SocketAddr, read: Vec<u8>, turn: &Handle) {
    let server = match stream.local_addr() {
        Ok(server) => server,
        Err(error) => return tracing::debug!(%client, %error, "a TURN connection has ended"),
    };
    let (reader, writer) = stream.into_split();
    let stream = join(Cursor::new(read).chain(reader), writer);
    turn.serve(stream, server, client).await;
}

async fn serve_tls(stream: TcpStream, mut visit: Visit, acceptor: TlsAcceptor, behind: Behind) {
    let client = visit.client;
    let opening = async {
        let server = stream.local_addr()?;
        let mut stream = acceptor.accept(stream).await?;
        let protocol = protocol(&mut stream, &behind).await?;
        Ok::<_, io::Error>((stream, server, protocol))
    };
    let opened = visit.open(opening).await;
    drop(visit.handshake);
    let Some((stream, server, protocol)) = opened else {
        return;
    };
    match (protocol, behind.http, behind.turn) {
        (Some(Protocol::Http), Some(http), _) => http.serve(stream, client.ip(), visit.place).await,
        (Some(Protocol::Turn), _, Some(turn)) => turn.serve(stream, server, client).await,
        _ => tracing::debug!(%client, "a TLS client wants what is not served here"),
    }
}

/// What the client wants, if that can be told.
async fn protocol(
    stream: &mut TlsStream<TcpStream>,
    behind: &Behind,
) -> io::Result<Option<Protocol>> {
    if let Some(protocol) = stream.get_ref().1.alpn_protocol() {
        return Ok(match protocol {
            HTTP => Some(Protocol::Http),
            protocol => TURN.contains(&protocol).then_some(Protocol::Turn),
        });
    }
    if behind.turn.is_none() {
        return Ok(Some(Protocol::Http));
    }
    let first = stream.fill_buf().await?.first();
    Ok(first.and_then(|&byte| protocol_of(byte)))
}

/// What begins like this: a STUN message with two zero bits (RFC 8489 section 5), a request with the
/// letters of its method.
fn protocol_of(first: u8) -> Option<Protocol> {
    match first {
        0..0x40 => Some(Protocol::Turn),
        letter if letter.is_ascii_alphabetic() => Some(Protocol::Http),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_what_a_client_wants() {
        for (first, expected) in [
            (0x00, Some(Protocol::Turn)),
            (0x01, Some(Protocol::Turn)),
            (b'G', Some(Protocol::Http)),
            (b'p', Some(Protocol::Http)),
            (b'@', None),
            (0x80, None),
            (0xff, None),
        ] {
            assert_eq!(protocol_of(first), expected, "{first:#x}");
        }
    }
}
