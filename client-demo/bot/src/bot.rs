//! A participant in a call: joins, publishes, watches its slots, does as it is told, leaves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::BotError;
use crate::call::{Call, Change, wrong_reply};
use crate::protocol::{Kind, Reply, Request, SlotChoice};
use crate::report::Report;
use crate::sample::{Line, Sample};
use crate::send::audio::AudioSource;
use crate::send::video::VideoSource;

/// How often `wait_until` looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How a bot takes part.
#[derive(Clone, Debug)]
pub struct BotConfig {
    /// The server's WebSocket, as in `ws://127.0.0.1:8080/v1/ws`.
    pub url: String,
    /// The room.
    pub room: String,
    /// The name others see.
    pub name: String,
    /// The token, where the server wants one.
    pub token: Option<String>,
    /// What is said.
    pub audio: AudioSource,
    /// What is shown.
    pub video: VideoSource,
    /// Receive slots for audio.
    pub subscribe_audio: usize,
    /// Receive slots for video.
    pub subscribe_video: usize,
    /// Whether to decode sound and join frames; if not, packets are only counted.
    pub decode: bool,
    /// An existing directory for the pictures received.
    pub record: Option<PathBuf>,
    /// The local address and port of the media connection; port 0 is any.
    pub bind: String,
    /// Where to send media instead of to the candidates of the answer: a forwarder that makes a bad
    /// link between bot and server.
    pub media_through: Option<SocketAddr>,
    /// What the others are known to say, to judge how intelligible they are; nobody is judged if
    /// this says nothing. [`AudioSource::Speech`] without a name is the speech of each by its own.
    pub reference: AudioSource,
}

impl BotConfig {
    /// A bot that publishes nothing and has one slot of each kind, on loopback.
    pub fn new(url: &str, room: &str, name: &str) -> BotConfig {
        BotConfig {
            url: url.to_owned(),
            room: room.to_owned(),
            name: name.to_owned(),
            token: None,
            audio: AudioSource::None,
            video: VideoSource::None,
            subscribe_audio: 1,
            subscribe_video: 1,
            decode: true,
            record: None,
            bind: "127.0.0.1:0".to_owned(),
            media_through: None,
            reference: AudioSource::None,
        }
    }
}

/// A bot in a call. Dropping it closes its connections without leaving the room.
pub struct Bot {
    call: Arc<Call>,
    tasks: Vec<AbortHandle>,
}

impl Bot {
    /// Connects, joins the room with one offer and starts to send. Media may still be connecting
    /// when this returns: see [`Report::connected_ms`].
    pub async fn join(config: BotConfig) -> Result<Bot, BotError> {
        let call = Call::open(config).await?;
        call.connect(true).await?;
        let tasks = vec![tokio::spawn(call.clone().reconnect_when_told()).abort_handle()];
        Ok(Bot { call, tasks })
    }

    /// The call as it stands.
    pub fn report(&self) -> Report {
        self.call.report()
    }

    /// The call as it stands, in figures that every kind of client gives.
    pub async fn sample(&self) -> Sample {
        self.call.sample().await
    }

    /// The next thing that has happened: [`Line::Joined`], [`Line::Connected`] or
    /// [`Line::FirstFrame`].
    pub fn poll_line(&self) -> Option<Line> {
        self.call.shared.poll_line()
    }

    /// Why the bot cannot go on, if it cannot: the server ended the call, or neither the WebSocket
    /// nor the media connection is there any more.
    pub fn failure(&self) -> Option<String> {
        self.call.failure()
    }

    /// Waits until the call is as `condition` wants it. What came of it, or the last report if the
    /// time ran out first.
    pub async fn wait_until(
        &self,
        patience: Duration,
        mut condition: impl FnMut(&Report) -> bool,
    ) -> Result<Report, Box<Report>> {
        let deadline = Instant::now() + patience;
        loop {
            let report = self.report();
            if condition(&report) {
                return Ok(report);
            }
            if Instant::now() >= deadline {
                return Err(Box::new(report));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Says what a slot shall show, and returns what it shows now.
    pub async fn subscribe(
        &self,
        mid: &str,
        choice: SlotChoice,
    ) -> Result<Option<String>, BotError> {
        let mid = mid.to_owned();
        match self
            .call
            .request(Request::Subscribe { mid, choice })
            .await?
        {
            Reply::Subscribed { track, .. } => Ok(track),
            reply => Err(wrong_reply("subscribe", &reply)),
        }
    }

    /// Pins a track to a slot.
    pub async fn pin(&self, mid: &str, track: &str) -> Result<Option<String>, BotError> {
        self.subscribe(mid, SlotChoice::pin(track)).await
    }

    /// Mutes or unmutes a track of one's own: the others are told, and it is no longer sent.
    pub async fn mute(&self, track: &str, muted: bool) -> Result<(), BotError> {
        let own = self.report().tracks.into_iter().find(|own| own.id == track);
        let set = |muted| {
            if let Some(own) = &own {
                self.call.shared.set_muted(&own.mid, muted);
            }
        };
        // Nothing is sent in between: not before the others know it will come, nor after they
        // know it will not.
        if muted {
            set(true);
        }
        let track = track.to_owned();
        match self.call.request(Request::Mute { track, muted }).await? {
            Reply::Muted {} => set(muted),
            reply => return Err(wrong_reply("mute", &reply)),
        }
        Ok(())
    }

    /// Stops sending, or goes on, without telling anybody: as a camera that hangs would.
    pub fn pause(&self, paused: bool) {
        self.call.shared.set_paused(paused);
    }

    /// Ends the publication of a track; its m-line stays.
    pub async fn unpublish(&self, track: &str) -> Result<(), BotError> {
        let track = track.to_owned();
        match self.call.request(Request::Unpublish { track }).await? {
            Reply::Unpublished { .. } => Ok(()),
            reply => Err(wrong_reply("unpublish", &reply)),
        }
    }

    /// Publishes an m-line that sends but is not published.
    pub async fn publish(&self, mid: &str, source: &str) -> Result<String, BotError> {
        let request = Request::Publish {
            mid: mid.to_owned(),
            source: source.to_owned(),
        };
        match self.call.request(request).await? {
            Reply::Published { track, .. } => Ok(track),
            reply => Err(wrong_reply("publish", &reply)),
        }
    }

    /// Adds receive slots, by another offer on the same connection.
    pub async fn add_slots(&self, kind: Kind, count: usize) -> Result<(), BotError> {
        self.call.renegotiate(Change::Slots(kind, count)).await
    }

    /// Restarts ICE: new credentials, by another offer on the same connection.
    pub async fn restart_ice(&self) -> Result<(), BotError> {
        self.call.renegotiate(Change::IceRestart).await
    }

    /// Replaces the media connection by a new one.
    pub async fn reconnect(&self) -> Result<(), BotError> {
        self.call.connect(false).await
    }

    /// Asks the server whether it is there.
    pub async fn ping(&self) -> Result<(), BotError> {
        match self.call.request(Request::Ping {}).await? {
            Reply::Pong {} => Ok(()),
            reply => Err(wrong_reply("ping", &reply)),
        }
    }

    /// Says goodbye, closes the media connection and returns the last report.
    pub async fn leave(self) -> Result<Report, BotError> {
        let report = self.report();
        match self.call.request(Request::Leave {}).await? {
            Reply::Left {} => {}
            reply => return Err(wrong_reply("leave", &reply)),
        }
        if let Some(media) = self.call.media.lock().await.take() {
            media.end().await;
        }
        Ok(report)
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // The driver of a connection that is not closed would keep it alive.
        let call = self.call.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Some(media) = call.media.lock().await.take() {
                    media.end().await;
                }
            });
        }
    }
}
