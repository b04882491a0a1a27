//! The way in for HTTP connections, whoever has accepted them.
//!
//! In: a stream, over TCP or TLS. Out: its requests answered, until it ends or is idle for too long.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use confab_sockets::listener::{Lobby, Seat};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, SetOnce};
use tokio::time::timeout;

use super::held::{Allowance, Held};
use super::problem::Problem;
use super::proxies::Proxies;
use crate::protocol::ErrorCode;

/// How long a connection may take to send the head of a request, and so how long it may do nothing
/// between two of them. A WebSocket has times of its own.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// How long a request may take, of which nearly all is the way of its body: a long SDP over a bad
/// network.
const MAX_REQUEST: Duration = Duration::from_secs(30);

/// What a connection may hold of a request's head: one with the longest access token that is looked at,
/// twice over.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Connections that have sent no whole head of a request yet, at most; of more, the oldest are closed. As many
/// as come back within a moment when a full server has been started anew, with some 10 kB each.
const MAX_SILENT: usize = 2_000;

/// Who sends a request: an extension of it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) address: IpAddr,
    /// What may still be read of its connection.
    pub(crate) allowance: Arc<Allowance>,
}

/// Serves HTTP and WebSockets over connections that somebody else has accepted: with TLS, say.
#[derive(Clone, Debug)]
pub struct Entrance {
    inside: Arc<SetOnce<(Router, Proxies)>>,
    /// Where connections wait of which nothing is known.
    lobby: Arc<Lobby>,
}

impl Default for Entrance {
    fn default() -> Self {
        Entrance {
            inside: Arc::default(),
            lobby: Arc::new(Lobby::new(MAX_SILENT)),
        }
    }
}

impl Entrance {
    /// Serves a connection from this address until it ends; not before the server runs. A WebSocket that
    /// comes of it lives on in a task of its own. One that sends no request for 30 s ends, and so does one that
    /// reads nothing for as long of what it is sent; one that has not sent any yet ends when many others come.
    /// `place` is dropped when it is closed, a WebSocket too.
    pub async fn serve<S, P>(&self, stream: S, address: IpAddr, place: P)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Unpin + Send + 'static,
    {
        let allowance = Arc::<Allowance>::default();
        let stream = Held::new(stream, allowance.clone(), place);
        let (router, proxies) = self.inside.wait().await.clone();
        let router = TowerToHyperService::new(router);
        let has_asked = Arc::new(Notify::new());
        let asks = has_asked.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            asks.notify_one();
            let caller = Caller {
                address: proxies.caller(address, request.headers()),
                allowance: allowance.clone(),
            };
            request.extensions_mut().insert(caller);
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(MAX_IDLE)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut seat = Some(self.lobby.enter(address));
        let served = loop {
            tokio::select! {
                served = &mut connection => break served,
                () = taken(seat.as_mut()) => {
                    tracing::debug!(%address, "a connection has sent no request, and others have come");
                    return;
                }
                () = has_asked.notified() => seat = None,
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "an HTTP connection has failed");
        }
    }

    pub(crate) fn open(&self, router: Router, proxies: Proxies) {
        // Only the one run of the server does this.
        let _ = self.inside.set((router, proxies));
    }
}

/// Waits until somebody else has the seat; without one, for ever.
pub(crate) async fn taken(seat: Option<&mut Seat>) {
    match seat {
        Some(seat) => seat.taken().await,
        None => std::future::pending().await,
    }
}

/// Gives a request up whose body does not come.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    let answered = timeout(MAX_REQUEST, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let text = format!(
            "The request was not whole after {} s.",
            MAX_REQUEST.as_secs()
        );
        Problem::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::BadRequest, text).into_response()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use axum::extract::ws::WebSocketUpgrade;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::http::held::MAX_STALL;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// The client's end of a connection.
    fn connect() -> DuplexStream {
        let (ours, theirs) = duplex(10_000);
        let entrance = Entrance::default();
        let methods = get(|| async { "hello" }).post(|body: String| async { body });
        let router = Router::new().route("/", methods);
        entrance.open(router.layer(from_fn(in_time)), Proxies::default());
        tokio::spawn(async move { entrance.serve(theirs, HERE, ()).await });
        ours
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_disconnected_before_and_after_a_request() {
        for request in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut client = connect();
            client.write_all(request.as_bytes()).await.unwrap();
            let (start, mut answer) = (Instant::now(), String::new());
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.ends_with("hello"), !request.is_empty(), "{answer}");
            assert!(start.elapsed() <= MAX_IDLE + Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_disconnected() {
        let (mut ours, theirs) = duplex(10_000);
        let entrance = Entrance::default();
        let much = get(|| async { "x".repeat(1_000_000) });
        entrance.open(Router::new().route("/", much), Proxies::default());
        ours.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let place = Arc::new(());
        let is_held = Arc::downgrade(&place);
        let served = entrance.serve(theirs, HERE, place);
        timeout(2 * MAX_STALL, served)
            .await
            .expect("it is given up");
        assert!(is_held.upgrade().is_none(), "and what it had is free");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_gets_everything() {
        let (mut ours, theirs) = duplex(10_000);
        let entrance = Entrance::default();
        let much = get(|| async { "x".repeat(100_000) });
        entrance.open(Router::new().route("/", much), Proxies::default());
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        ours.write_all(request).await.unwrap();
        tokio::spawn(async move { entrance.serve(theirs, HERE, ()).await });
        let (mut piece, mut total) = (vec![0; 5_000], 0);
        while let len @ 1.. = ours.read(&mut piece).await.unwrap() {
            total += len;
            sleep(MAX_STALL - Duration::from_secs(1)).await;
        }
        assert!(total > 100_000, "{total}");
    }

    #[tokio::test]
    async fn a_websocket_keeps_the_place_of_its_connection_until_it_is_closed() {
        let (mut ours, theirs) = duplex(10_000);
        let entrance = Entrance::default();
        let echo = get(|upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move { while socket.recv().await.is_some() {} })
        });
        entrance.open(Router::new().route("/", echo), Proxies::default());
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        ours.write_all(request.as_bytes()).await.unwrap();
        let place = Arc::new(());
        let is_held = Arc::downgrade(&place);
        // The connection is done with once it is a WebSocket.
        entrance.serve(theirs, HERE, place).await;
        let mut answer = [0; 12];
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        assert!(is_held.upgrade().is_some());
        drop(ours);
        while is_held.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_silent_connections_keeps_nobody_out() {
        let entrance = Entrance {
            lobby: Arc::new(Lobby::new(3)),
            ..Entrance::default()
        };
        let router = Router::new().route("/", get(|| async { "hello" }));
        entrance.open(router, Proxies::default());
        let ask = async |client: &mut DuplexStream| {
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                answer.push(client.read_u8().await.unwrap());
            }
        };
        let start = Instant::now();
        let mut clients = Vec::new();
        for n in 0..6 {
            let (mut ours, theirs) = duplex(10_000);
            let entrance = entrance.clone();
            let place = Arc::new(());
            let is_held = Arc::downgrade(&place);
            tokio::spawn(async move { entrance.serve(theirs, HERE, place).await });
            if n == 0 {
                ask(&mut ours).await;
            }
            sleep(Duration::from_millis(1)).await;
            clients.push((ours, is_held));
        }
        let held = clients.iter().map(|(_, place)| place.strong_count());
        assert_eq!(
            held.collect::<Vec<_>>(),
            [1, 0, 0, 1, 1, 1],
            "whoever has asked, and the newest of the others"
        );
        for n in [5, 0, 3] {
            ask(&mut clients[n].0).await;
        }
        assert!(start.elapsed() < MAX_IDLE);
    }

    #[tokio::test]
    async fn a_head_has_room_for_a_long_token_and_no_more() {
        for (bytes, status) in [(17_000, "200 OK"), (40_000, "431 ")] {
            let mut client = connect();
            let long = "x".repeat(bytes);
            let request = format!("GET / HTTP/1.1\r\nConnection: close\r\nX: {long}\r\n\r\n");
            let mut answer = Vec::new();
            // Whoever sends too much may be cut off.
            let _ = client.write_all(request.as_bytes()).await;
            let _ = client.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_keep_a_connection_open() {
        let (mut client, start) = (connect(), Instant::now());
        let request = "GET / HTTP/1.1\r\nX: "
            .bytes()
            .chain(std::iter::repeat(b'x'));
        for byte in request {
            if client.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        assert!(start.elapsed() <= MAX_IDLE + Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_as_long_as_it_says_is_not_waited_for() {
        let (mut client, start) = (connect(), Instant::now());
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nv=0";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(start.elapsed() <= MAX_REQUEST + MAX_IDLE + Duration::from_secs(1));
    }
}
