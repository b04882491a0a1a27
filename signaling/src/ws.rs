//! The WebSocket door, `/v1/ws`: one task for each socket.
//!
//! In: text frames of the client, or compressed ones. Out: the frames that the service queues for it,
//! compressed if the client wishes, pings, and the reason when it is closed. Origin and size are
//! checked here, the rate of messages too, and the access token of a `hello`; all else is the
//! service's.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use crate::connection::{ACK_COST, Action, Connection, MAX_MESSAGE_BYTES, REQUEST_COST};
use crate::control::{SocketId, SocketInput};
use crate::deflate::{NotDeflated, WORTH_BYTES, deflate, inflate};
use crate::http::App;
use crate::http::problem::{self, Problem};
use crate::protocol::{ClientMessage, Closing, ErrorCode, Event, Failure, Malformed, Request};

/// Where the WebSocket library itself gives up, in bytes: beyond our own bound, so that the client
/// of a somewhat oversize message is told.
const HARD_LIMIT_BYTES: usize = 4 * MAX_MESSAGE_BYTES;

/// Longest time that sending one frame may take: a client that reads nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers the upgrade request.
pub(crate) async fn upgrade(
    State(app): State<App>,
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
    upgrade
        .max_message_size(HARD_LIMIT_BYTES)
        .max_frame_size(HARD_LIMIT_BYTES)
        .on_upgrade(move |socket| async move {
            let _permit = permit;
            run(socket, &app).await;
        })
}

/// How a socket ended.
enum End {
    /// The client said goodbye.
    Goodbye,
    /// It is lost, or was closed by the server.
    Lost,
}

async fn run(mut socket: WebSocket, app: &App) {
    let service = &app.service;
    let (id, mut frames) = service.open_socket().await;
    let mut connection = Connection::new(Instant::now());
    let end = loop {
        let wait = connection
            .next_deadline()
            .saturating_duration_since(Instant::now());
        tokio::select! {
            frame = frames.recv() => {
                let Some(text) = frame else {
                    close(&mut socket).await;
                    break End::Lost;
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
                let Some(Ok(message)) = message else {
                    break End::Lost;
                };
                connection.handle_frame(Instant::now());
                if let Some(end) = handle(message, &mut connection, id, app).await {
                    break end;
                }
            }
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
                close(&mut socket).await;
                break End::Lost;
            }
        }
    };
    let goodbye = matches!(end, End::Goodbye);
    service.socket(id, SocketInput::Closed { goodbye }).await;
}

/// Handles one message; says how the socket ends if it does.
async fn handle(
    message: Message,
    connection: &mut Connection,
    id: SocketId,
    app: &App,
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
        Message::Ping(_) | Message::Pong(_) => return None,
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
            let checked = app.auth.check(hello.token.as_deref(), SystemTime::now());
            let access = checked.map_err(|refusal| app.refuse(refusal));
            SocketInput::Hello(re, hello, access)
        }
        Ok(ClientMessage::Request(re, request)) => SocketInput::Request(re, request),
        Ok(ClientMessage::Ack(seq)) => SocketInput::Ack(seq),
        Err(malformed) => SocketInput::Malformed(malformed),
    };
    service.socket(id, input).await;
    None
}

/// The client reads too slowly, or is gone.
struct NotSent;

async fn send(sending: impl Future<Output = Result<(), axum::Error>>) -> Result<(), NotSent> {
    match tokio::time::timeout(SEND_TIMEOUT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(NotSent),
    }
}

async fn close(socket: &mut WebSocket) {
    let frame = CloseFrame {
        code: close_code::NORMAL,
        reason: Default::default(),
    };
    let _ = send(socket.send(Message::Close(Some(frame)))).await;
}
