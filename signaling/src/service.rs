//! The one task that owns [`Control`]: its I/O towards sockets, HTTP handlers, the media plane and
//! the clock.
//!
//! In: what `http` sends through a [`Service`], replies and events of the media plane. Out:
//! frames into each socket's queue, answers to waiting handlers, requests to the media plane. It
//! never waits for any of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use confab_sfu::api::{CommandError, Event, Stats};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::control::{
    AskId, Control, Counters, HttpAnswer, HttpRequest, Output, SocketId, SocketInput, TicketId,
};
use crate::media::{self, MediaPlane};
use crate::protocol::{ErrorCode, Failure};

/// Frames that may wait for a socket's client to read them: more than joining the largest room
/// causes at once. A client that lets more pile up loses its socket, not its session.
const SOCKET_QUEUE: usize = 512;

/// Inputs that may wait for the task; whoever brings more waits itself.
const INPUT_QUEUE: usize = 1_024;

enum Input {
    Opened(SocketId, mpsc::Sender<String>),
    Socket(SocketId, SocketInput),
    Http(HttpRequest, oneshot::Sender<HttpAnswer>),
    Counters(oneshot::Sender<(Counters, Stats)>),
    Drain(Duration, oneshot::Sender<()>),
    Stop,
    #[cfg(test)]
    Panic,
}

/// The way to the task. The task ends when the last of these is gone.
#[derive(Clone)]
pub(crate) struct Service {
    inputs: mpsc::Sender<Input>,
    last_socket: Arc<AtomicU64>,
}

impl Service {
    /// Starts the task. It ends on its own when something has failed.
    pub(crate) fn start<M: MediaPlane>(
        control: Control,
        media: M,
        events: mpsc::Receiver<Event>,
    ) -> (Service, JoinHandle<End>) {
        let (inputs, receiver) = mpsc::channel(INPUT_QUEUE);
        let task = tokio::spawn(Task::new(control, media).run(receiver, events));
        let service = Service {
            inputs,
            last_socket: Arc::default(),
        };
        (service, task)
    }

    /// Whether the task has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        !self.inputs.is_closed()
    }

    /// A socket has opened; gives its id and the frames to send on it. When they end, it is to be
    /// closed.
    pub(crate) async fn open_socket(&self) -> (SocketId, mpsc::Receiver<String>) {
        let id = SocketId(self.last_socket.fetch_add(1, Ordering::Relaxed));
        let (frames, receiver) = mpsc::channel(SOCKET_QUEUE);
        self.send(Input::Opened(id, frames)).await;
        (id, receiver)
    }

    /// A socket has said something.
    pub(crate) async fn socket(&self, id: SocketId, input: SocketInput) {
        self.send(Input::Socket(id, input)).await;
    }

    /// Carries an HTTP request out.
    pub(crate) async fn http(&self, request: HttpRequest) -> HttpAnswer {
        let (answer, receiver) = oneshot::channel();
        self.send(Input::Http(request, answer)).await;
        receiver.await.unwrap_or_else(|_| {
            let message = "The server has stopped.";
            HttpAnswer::Refused(Failure::new(ErrorCode::ShuttingDown, message))
        })
    }

    pub(crate) async fn counters(&self) -> (Counters, Stats) {
        let (answer, receiver) = oneshot::channel();
        self.send(Input::Counters(answer)).await;
        receiver.await.unwrap_or_default()
    }

    /// Lets the task fail.
    #[cfg(test)]
    pub(crate) async fn fail(&self) {
        self.send(Input::Panic).await;
    }

    /// Lets nobody join any more; returns when everybody has left.
    pub(crate) async fn drain(&self, within: Duration) {
        let (empty, receiver) = oneshot::channel();
        self.send(Input::Drain(within, empty)).await;
        // The task has ended if there is no answer: then nobody is left either.
        let _ = receiver.await;
    }

    pub(crate) async fn stop(&self) {
        self.send(Input::Stop).await;
    }

    async fn send(&self, input: Input) {
        // The task only ends with the process.
        let _ = self.inputs.send(input).await;
    }
}

/// Why the task has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// There is no way to it any more.
    Unneeded,
    /// The media plane says nothing any more, which it never stops by itself.
    MediaFailed,
}

struct Task<M> {
    control: Control,
    media: M,
    sockets: HashMap<SocketId, mpsc::Sender<String>>,
    tickets: HashMap<TicketId, oneshot::Sender<HttpAnswer>>,
    last_ticket: u64,
    drained: Option<oneshot::Sender<()>>,
}

impl<M: MediaPlane> Task<M> {
    fn new(control: Control, media: M) -> Task<M> {
        Task {
            control,
            media,
            sockets: HashMap::new(),
            tickets: HashMap::new(),
            last_ticket: 0,
            drained: None,
        }
    }

    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut events: mpsc::Receiver<Event>,
    ) -> End {
        let mut asked = FuturesUnordered::new();
        loop {
            let deadline = self.control.next_deadline();
            let wait = deadline.map_or(Duration::MAX, |at| at.duration_since(Instant::now()));
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.handle(input),
                    None => return End::Unneeded,
                },
                event = events.recv() => match event {
                    Some(event) => self.control.handle_media_event(Instant::now(), event),
                    None => return End::MediaFailed,
                },
                Some((id, reply)) = asked.next() => {
                    self.control.handle_reply(Instant::now(), id, reply);
                }
                () = tokio::time::sleep(wait), if deadline.is_some() => {
                    self.control.handle_timeout(Instant::now());
                }
            }
            while let Some(output) = self.control.poll_output() {
                if let Some((id, request)) = self.put_out(output) {
                    asked.push(ask(self.media.clone(), id, request));
                }
            }
            if self.control.is_empty()
                && let Some(drained) = self.drained.take()
            {
                let _ = drained.send(());
            }
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Opened(id, frames) => {
                self.sockets.insert(id, frames);
            }
            Input::Socket(id, input) => {
                if matches!(input, SocketInput::Closed { .. }) {
                    self.sockets.remove(&id);
                }
                self.control.handle_socket(Instant::now(), id, input);
            }
            Input::Http(request, answer) => {
                self.last_ticket += 1;
                let ticket = TicketId(self.last_ticket);
                self.tickets.insert(ticket, answer);
                self.control.handle_http(Instant::now(), ticket, request);
            }
            Input::Counters(answer) => {
                let counters = self.control.counters();
                let plane = self.media.clone();
                tokio::spawn(async move {
                    let stats = match plane.ask(media::Request::Stats).await {
                        media::Reply::Stats(stats) => stats,
                        _ => Stats::default(),
                    };
                    let _ = answer.send((counters, stats));
                });
            }
            Input::Drain(within, drained) => {
                self.control.handle_shutdown(Instant::now(), within);
                self.drained = Some(drained);
            }
            Input::Stop => {
                self.control.handle_stop();
                self.sockets.clear();
            }
            #[cfg(test)]
            Input::Panic => panic!("as asked"),
        }
    }

    /// Puts an output where it belongs; a request to the media plane is given back.
    fn put_out(&mut self, output: Output) -> Option<(AskId, media::Request)> {
        match output {
            Output::Frame(socket, text) => {
                let queue = self.sockets.get(&socket)?;
                if queue.try_send(text).is_err() {
                    tracing::debug!(?socket, "closed a socket that is not read");
                    self.sockets.remove(&socket);
                    let lost = SocketInput::Closed { goodbye: false };
                    self.control.handle_socket(Instant::now(), socket, lost);
                }
                None
            }
            Output::Close(socket) => {
                self.sockets.remove(&socket);
                None
            }
            Output::Http(ticket, answer) => {
                // A client that has hung up gets no answer.
                let _ = self.tickets.remove(&ticket)?.send(answer);
                None
            }
            Output::Ask(id, request) => Some((id, request)),
        }
    }
}

/// Asks the media plane in a task of its own, so that its failure stays its own.
async fn ask<M: MediaPlane>(plane: M, id: AskId, request: media::Request) -> (AskId, media::Reply) {
    let task = tokio::spawn(async move { plane.ask(request).await });
    let reply = task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request to the media plane has failed");
        media::Reply::Refused(CommandError::Failed.into())
    });
    (id, reply)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;
    use crate::auth::Auth;
    use crate::control::Config;
    use crate::protocol::{ClientMessage, Request};
    use confab_sfu::Sfu;
    use std::time::SystemTime;

    #[tokio::test]
    async fn a_socket_whose_frames_are_not_read_is_closed_and_its_session_lives() {
        let (sfu, events) = sfu();
        let (service, _) = Service::start(Control::new(Config::default()), sfu, events);
        let (deaf, mut frames) = service.open_socket().await;
        let say = |socket, text: String| {
            let service = service.clone();
            async move {
                let input = match ClientMessage::parse(&text).unwrap() {
                    ClientMessage::Request(id, Request::Hello(hello)) => {
                        let access = Auth::open().check(None, SystemTime::now());
                        let access = access.map_err(|refusal| refusal.failure);
                        SocketInput::Hello(id, hello, access, [127, 0, 0, 1].into())
                    }
                    ClientMessage::Request(id, request) => SocketInput::Request(id, request),
                    ClientMessage::Ack(seq) => SocketInput::Ack(seq),
                };
                service.socket(socket, input).await;
            }
        };
        say(deaf, r#"{"id":0,"type":"hello","version":1}"#.into()).await;
        let welcome: serde_json::Value =
            serde_json::from_str(&frames.recv().await.unwrap()).unwrap();
        say(deaf, r#"{"id":1,"type":"join","room":"kitchen"}"#.into()).await;
        assert!(frames.recv().await.unwrap().contains("joined"));
        for id in 2..=SOCKET_QUEUE + 2 {
            say(deaf, format!(r#"{{"id":{id},"type":"ping"}}"#)).await;
        }
        // It answers in turn, so everything before has been handled then.
        service.counters().await;
        let mut read = 0;
        while frames.recv().await.is_some() {
            read += 1;
        }
        assert_eq!(read, SOCKET_QUEUE, "no more is kept than the queue holds");
        let (next, mut frames) = service.open_socket().await;
        let session = &welcome["session"];
        let hello = format!(
            r#"{{"id":9999,"type":"hello","version":1,"resume":{{"session":{session},"seq":0}}}}"#
        );
        say(next, hello).await;
        assert!(frames.recv().await.unwrap().contains(r#""resumed":true"#));
    }

    fn sfu() -> (Sfu, mpsc::Receiver<Event>) {
        Sfu::start(&confab_sfu::Config {
            workers: 1,
            port: 0,
            ..confab_sfu::Config::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_task_that_fails_is_noticed() {
        let (sfu, events) = sfu();
        let (service, task) = Service::start(Control::new(Config::default()), sfu, events);
        assert!(service.is_alive());
        service.fail().await;
        let error = task.await.unwrap_err();
        assert!(error.is_panic());
        assert!(!service.is_alive());
    }

    #[tokio::test]
    async fn a_media_plane_that_ends_is_noticed() {
        let (sfu, _) = sfu();
        let (_, events) = mpsc::channel(1);
        let (service, task) = Service::start(Control::new(Config::default()), sfu, events);
        assert_eq!(task.await.unwrap(), End::MediaFailed);
        assert!(!service.is_alive());
    }
}
