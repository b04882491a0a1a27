//! WebSockets, `/v1/ws`: one task for each socket.
//!
//! In: text frames of the client, or compressed ones. Out: the frames that the service queues for it,
//! compressed if the client wishes, pings, and the reason when it is closed. Origin and size are
//! checked here, the rate of messages too, and access tokens; all else is the service's. Until its
//! `hello` a socket costs little and has no claim to stay.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use confab_sockets::listener::Seat;
use tokio_tungstenite::tungstenite;

use crate::auth::Access;
use crate::connection::{
    ACK_COST, Action, Connection, MAX_MESSAGE_BYTES, PING_COST, PONG_COST, REQUEST_COST,
};
use crate::control::{SocketId, SocketInput};
use crate::deflate::{NotDeflated, WORTH_BYTES, deflate, inflate};
use crate::http::problem::{self, Problem};
use crate::http::{App, Caller, TooMuch, taken};
use crate::protocol::{ClientMessage, Closing, ErrorCode, Event, Failure, Malformed, Request};

/// Sockets that have not said `hello` yet, at most; of more, the oldest are closed. With 20 kB each it is
/// 40 MB, and as many as come back within a moment when a full server has been started anew.
pub(crate) const MAX_SILENT: usize = 2_000;

/// Where the WebSocket library itself gives up, in bytes, before it reads a frame: beyond our own bound,
/// so that the client of a somewhat oversize message is told by how much.
const HARD_LIMIT_BYTES: usize = MAX_MESSAGE_BYTES + MAX_MESSAGE_BYTES / 4;

/// What a socket may send before its `hello`, in bytes, and so what an unfinished frame of it may hold:
/// twice the longest access token that is looked at.
const SILENT_BYTES: u64 = 32 * 1024;

/// Bytes read at once, which every socket has room for all the time. A longer frame is read in one.
const READ_BYTES: usize = 4 * 1024;

/// How long a socket that the server has closed is kept for its client to read why. To close it with
/// something unread would reset it, and take back what was sent (RFC 1122 section 4.2.2.13).
const LINGER: Duration = Duration::from_secs(1);

/// Longest time that sending one frame may take: a client that reads nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers the upgrade request.
pub(crate) async fn upgrade(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    if !app.origins.allow(&headers) {
        return problem::foreign_origin().into_response();
    }
    let Ok(permit) = app.sockets.clone().try_acquire_owned() else {
        let message = "The server has as many sockets as it may.";
        return Problem::from(Failure::new(ErrorCode::ServerFull, message)).into_response();
    };
    let seat = app.lobby.enter(caller.address);
    caller.allowance.limit(SILENT_BYTES);
    upgrade
        .max_message_size(HARD_LIMIT_BYTES)
        .max_frame_size(HARD_LIMIT_BYTES)
        .read_buffer_size(READ_BYTES)
        .on_upgrade(move |socket| async move {
            let _permit = permit;
            run(socket, &app, &caller, seat).await;
        })
}

/// How a socket ended.
enum End {
    /// The client said goodbye.
    Goodbye,
    Lost,
    /// The server has closed it.
    Closed,
}

async fn run(mut socket: WebSocket, app: &App, caller: &Caller, seat: Seat) {
    let service = &app.service;
    let (id, mut frames) = service.open_socket().await;
    let mut connection = Connection::new(Instant::now());
    let mut seat = Some(seat);
    let mut is_readable = true;
    let end = loop {
        let wait = connection
            .next_deadline()
            .saturating_duration_since(Instant::now());
        tokio::select! {
            frame = frames.recv() => {
                let Some(text) = frame else {
                    break End::Closed;
                };
                let message = match connection.deflates() && text.len() >= WORTH_BYTES {
                    true => Message::binary(deflate(&text)),
                    false => Message::text(text),
                };
                if send(socket.send(message)).await.is_err() {
                    break End::Lost;
                }
            }
            message = socket.recv() => {
                connection.handle_frame(Instant::now());
                match message {
                    None => break End::Lost,
                    Some(Err(error)) => match fault(&error) {
                        None => break End::Lost,
                        Some(code) => {
                            is_readable = false;
                            connection.handle_unreadable(code, &error.to_string());
                        }
                    },
                    Some(Ok(message)) => {
                        if let Some(end) = handle(message, &mut connection, id, app, caller).await {
                            break end;
                        }
                    }
                }
                if seat.is_some() && connection.is_greeted() {
                    seat = None;
                    caller.allowance.lift();
                }
            }
            () = taken(seat.as_mut()) => connection.handle_crowd(),
            () = tokio::time::sleep(wait) => connection.handle_timeout(Instant::now()),
        }
        match connection.poll_action() {
            None => {}
            Some(Action::Ping) => {
                let sent = send(socket.send(Message::Ping(Default::default()))).await;
                if sent.is_err() {
                    break End::Lost;
                }
            }
            Some(Action::Close(Failure { code, message, .. })) => {
                let closing = Event::Closing(Closing {
                    code,
                    message,
                    in_ms: 0,
                });
                // Whether it still hears this makes no difference to us.
                let _ = send(socket.send(Message::text(closing.frame(None)))).await;
                break End::Closed;
            }
        }
    };
    let goodbye = matches!(end, End::Goodbye);
    service.socket(id, SocketInput::Closed { goodbye }).await;
    if matches!(end, End::Closed) {
        close(&mut socket, is_readable).await;
    }
}

/// What a client has done wrong whose frame the library does not take; none if the network has failed.
fn fault(error: &axum::Error) -> Option<ErrorCode> {
    let error = std::error::Error::source(error)?;
    match error.downcast_ref()? {
        tungstenite::Error::Capacity(_) => Some(ErrorCode::TooLarge),
        tungstenite::Error::Protocol(_) | tungstenite::Error::Utf8(_) => {
            Some(ErrorCode::BadMessage)
        }
        tungstenite::Error::Io(error)
            if error.get_ref().is_some_and(|error| error.is::<TooMuch>()) =>
        {
            Some(ErrorCode::TooLarge)
        }
        _ => None,
    }
}

/// Handles one message; says how the socket ends if it does.
async fn handle(
    message: Message,
    connection: &mut Connection,
    id: SocketId,
    app: &App,
    caller: &Caller,
) -> Option<End> {
    let service = &app.service;
    let inflated;
    let text = match &message {
        Message::Text(text) => text.as_str(),
        Message::Close(frame) => {
            // What a browser says when a page is left; a lost network says nothing.
            let goodbye = frame
                .as_ref()
                .is_some_and(|frame| [close_code::NORMAL, close_code::AWAY].contains(&frame.code));
            return Some(if goodbye { End::Goodbye } else { End::Lost });
        }
        Message::Ping(_) | Message::Pong(_) => {
            let is_ping = matches!(message, Message::Ping(_));
            let cost = if is_ping { PING_COST } else { PONG_COST };
            connection.handle_message(Instant::now(), cost);
            return None;
        }
        Message::Binary(bytes) if !connection.handle_size(bytes.len()) => return None,
        Message::Binary(bytes) => match inflate(bytes) {
            Ok(text) => {
                inflated = text;
                inflated.as_str()
            }
            Err(NotDeflated) => {
                if connection.handle_message(Instant::now(), REQUEST_COST) {
                    let message = "A binary frame is a message compressed with DEFLATE (RFC 1951), without a header; this one is not.";
                    let failure = Failure::new(ErrorCode::BadMessage, message);
                    let malformed = Malformed { re: None, failure };
                    service.socket(id, SocketInput::Malformed(malformed)).await;
                }
                return None;
            }
        },
    };
    if !connection.handle_size(text.len()) {
        return None;
    }
    let parsed = ClientMessage::parse(text);
    let cost = match parsed {
        Ok(ClientMessage::Ack(_)) => ACK_COST,
        _ => REQUEST_COST,
    };
    if !connection.handle_message(Instant::now(), cost) {
        return None;
    }
    let input = match parsed {
        Ok(ClientMessage::Request(re, Request::Hello(hello))) => {
            connection.handle_hello(hello.deflate);
            let access = access(app, hello.token.as_deref());
            SocketInput::Hello(re, hello, access, caller.address)
        }
        Ok(ClientMessage::Request(re, Request::Renew(renew))) => {
            SocketInput::Renew(re, access(app, Some(&renew.token)))
        }
        Ok(ClientMessage::Request(re, request)) => SocketInput::Request(re, request),
        Ok(ClientMessage::Ack(seq)) => SocketInput::Ack(seq),
        Err(malformed) => SocketInput::Malformed(malformed),
    };
    service.socket(id, input).await;
    None
}

/// What a token allows now.
fn access(app: &App, token: Option<&str>) -> Result<Access, Failure> {
    let checked = app.auth.check(token, SystemTime::now());
    checked.map_err(|refusal| app.refuse(refusal))
}

/// The client reads too slowly, or is gone.
struct NotSent;

async fn send(sending: impl Future<Output = Result<(), axum::Error>>) -> Result<(), NotSent> {
    match tokio::time::timeout(SEND_TIMEOUT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(NotSent),
    }
}

/// Closes a socket, once its client has read all it was sent, or has had the time to. One that is not
/// readable any more has something unread, and nobody can see what its client reads.
async fn close(socket: &mut WebSocket, mut is_readable: bool) {
    let frame = CloseFrame {
        code: close_code::NORMAL,
        reason: Default::default(),
    };
    if send(socket.send(Message::Close(Some(frame))))
        .await
        .is_err()
    {
        return;
    }
    let until = tokio::time::Instant::now() + LINGER;
    let read = async {
        while is_readable {
            match socket.recv().await {
                Some(Ok(_)) => {}
                Some(Err(error)) if fault(&error).is_some() => is_readable = false,
                Some(Err(_)) | None => return,
            }
        }
        std::future::pending().await
    };
    let _ = tokio::time::timeout_at(until, read).await;
}
