//! The client's end of the WebSocket: requests out, each with its one reply, and events in, each
//! acknowledged once it has been handled.

use std::collections::HashMap;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::BotError;
use crate::protocol::{Envelope, Event, Incoming, Notice, Reply, Request};

/// Requests that may wait to be written; a bot rarely has more than one.
const REQUEST_QUEUE: usize = 16;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type ReplySlot = oneshot::Sender<Reply>;

/// A connected WebSocket. Dropping it closes the TCP connection without a goodbye.
pub(crate) struct Signaling {
    requests: mpsc::Sender<(Request, ReplySlot)>,
    task: AbortHandle,
}

/// What the server said, in the order it said it.
pub(crate) enum Said {
    Reply(Reply),
    Event(Event),
}

impl Signaling {
    /// Connects. `handler` sees everything the server says, a reply before whoever asked gets it:
    /// an event that came before a reply is then never applied after it.
    pub(crate) async fn connect(
        url: &str,
        handler: impl FnMut(&Said) + Send + 'static,
    ) -> Result<Signaling, BotError> {
        let (socket, _) = tokio_tungstenite::connect_async(url)
            .await
            .map_err(|error| BotError::Unreachable {
                url: url.to_owned(),
                reason: error.to_string(),
            })?;
        let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
        let task = tokio::spawn(run(socket, request_queue, handler)).abort_handle();
        Ok(Signaling { requests, task })
    }

    /// Whether the WebSocket is still there.
    pub(crate) fn is_connected(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Asks, and waits for the reply. An `error` reply is an error here.
    pub(crate) async fn request(&self, request: Request) -> Result<Reply, BotError> {
        let (reply_slot, reply) = oneshot::channel();
        self.requests
            .send((request, reply_slot))
            .await
            .map_err(|_| BotError::Disconnected)?;
        match reply.await.map_err(|_| BotError::Disconnected)? {
            Reply::Error { code, message } => Err(BotError::Refused { code, message }),
            reply => Ok(reply),
        }
    }
}

impl Drop for Signaling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves the socket until either side closes it; replies still awaited then fail.
async fn run(
    mut socket: Socket,
    mut requests: mpsc::Receiver<(Request, ReplySlot)>,
    mut handler: impl FnMut(&Said),
) {
    let mut next_id = 1;
    let mut awaited: HashMap<u64, ReplySlot> = HashMap::new();
    loop {
        let outgoing = tokio::select! {
            request = requests.recv() => {
                let Some((request, reply_slot)) = request else { break };
                let id = next_id;
                next_id += 1;
                awaited.insert(id, reply_slot);
                serde_json::to_string(&Envelope { id, request: &request })
            }
            frame = socket.next() => {
                let Some(Ok(frame)) = frame else { break };
                let Message::Text(text) = frame else { continue };
                match Incoming::parse(&text) {
                    Incoming::Reply(id, reply) => {
                        let said = Said::Reply(reply);
                        handler(&said);
                        // A reply that nobody waits for any more has nobody to tell.
                        if let (Some(reply_slot), Said::Reply(reply)) = (awaited.remove(&id), said) {
                            let _ = reply_slot.send(reply);
                        }
                        continue;
                    }
                    Incoming::Event(seq, event) => {
                        handler(&Said::Event(event));
                        serde_json::to_string(&Notice::Ack { seq })
                    }
                    Incoming::Stray(text) => {
                        tracing::warn!(%text, "the server sent a frame that is no reply and no event");
                        continue;
                    }
                }
            }
        };
        let Ok(text) = outgoing else { break };
        if socket.send(Message::text(text)).await.is_err() {
            break;
        }
    }
    let _ = socket.close(None).await;
}
