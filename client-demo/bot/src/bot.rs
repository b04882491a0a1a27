//! A participant in a call: joins, publishes, watches its slots, does as it is told, leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::BotError;
use crate::call::{Call, Change, wrong_reply};
use crate::config::BotConfig;
use crate::protocol::{Kind, Reply, Request, SlotChoice};
use crate::report::Report;
use crate::sample::{Line, Sample};

/// How often `wait_until` looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

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
