//! A bot's call: the WebSocket, the media connection and the tasks that serve it.
//!
//! In: what the bot shall do. Out: requests to the server, a media connection made as its answers
//! want it, and made anew when the server says that it is gone.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtc::statistics::report::RTCStatsReportEntry;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use webrtc::peer_connection::RTCPeerConnectionState;

use crate::BotError;
use crate::config::BotConfig;
use crate::connection::{Connection, ConnectionEvents};
use crate::protocol::{Kind, PublishedTrack, Reply, Request, VERSION};
use crate::receive::listening::Scorer;
use crate::receive::{ReceiveOptions, SlotReceiver};
use crate::report::Report;
use crate::sample::Sample;
use crate::send::audio::{AudioEncoder, AudioSource};
use crate::send::codec::SendCodec;
use crate::send::stream::{Sender, Stream};
use crate::send::video::VideoFile;
use crate::signaling::Signaling;
use crate::state::{Retransmitted, Shared, Slot};
use crate::sync::lock;
use crate::tracks::serve_tracks;

/// What the bot's tasks share.
pub(crate) struct Call {
    config: BotConfig,
    receive: ReceiveOptions,
    signaling: Signaling,
    pub(crate) shared: Arc<Shared>,
    pub(crate) media: tokio::sync::Mutex<Option<Media>>,
}

/// A media connection and the tasks that serve it.
pub(crate) struct Media {
    connection: Arc<tokio::sync::Mutex<Connection>>,
    state: watch::Receiver<RTCPeerConnectionState>,
    tasks: Vec<AbortHandle>,
}

/// What another offer on the same connection is for.
pub(crate) enum Change {
    Slots(Kind, usize),
    IceRestart,
}

pub(crate) fn wrong_reply(request: &'static str, reply: &Reply) -> BotError {
    BotError::WrongReply {
        request,
        reply: format!("{reply:?}"),
    }
}

impl Media {
    pub(crate) async fn end(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.connection.lock().await.close().await;
    }
}

impl Call {
    /// Connects the WebSocket and says hello.
    pub(crate) async fn open(config: BotConfig) -> Result<Arc<Call>, BotError> {
        let started = Instant::now();
        let shared = Arc::new(Shared::new(started));
        let handled = shared.clone();
        let signaling = Signaling::connect(&config.url, move |said| handled.handle(said)).await?;
        let scorer = match &config.reference {
            AudioSource::Speech(_) | AudioSource::Wav(_) => {
                Some(Arc::new(Scorer::start(config.reference.clone())))
            }
            AudioSource::None | AudioSource::Tone(_) => None,
        };
        let call = Arc::new(Call {
            receive: ReceiveOptions {
                joined: started,
                decode: config.decode,
                record: config.record.clone(),
                scorer,
            },
            config,
            signaling,
            shared,
            media: tokio::sync::Mutex::new(None),
        });
        let hello = Request::Hello {
            version: VERSION,
            token: call.config.token.clone(),
        };
        match call.request(hello).await? {
            Reply::Welcome { session } => tracing::debug!(%session, "welcome"),
            reply => return Err(wrong_reply("hello", &reply)),
        }
        Ok(call)
    }

    pub(crate) async fn request(&self, request: Request) -> Result<Reply, BotError> {
        self.signaling.request(request).await
    }

    pub(crate) fn report(&self) -> Report {
        lock(&self.shared.state).report(&self.config.name)
    }

    pub(crate) fn failure(&self) -> Option<String> {
        let state = lock(&self.shared.state);
        let gone = !self.signaling.is_connected() && !state.is_connected();
        let gone = || gone.then(|| BotError::Disconnected.to_string());
        state.closing().map(str::to_owned).or_else(gone)
    }

    /// The call in the figures that every kind of client gives. What only the connection knows is
    /// read from it, and the slots learn the round trip by the way.
    pub(crate) async fn sample(&self) -> Sample {
        let now = Instant::now();
        let mut rtt = None;
        let mut counted = None;
        // A connection that is being replaced is not waited for.
        if let Ok(media) = self.media.try_lock()
            && let Some(media) = media.as_ref()
        {
            let counted = counted.insert(Retransmitted::default());
            for entry in media.connection.lock().await.stats(now).await.iter() {
                match entry {
                    RTCStatsReportEntry::IceCandidatePair(pair)
                        if pair.nominated && pair.current_round_trip_time > 0.0 =>
                    {
                        rtt = Some(Duration::from_secs_f64(pair.current_round_trip_time));
                    }
                    RTCStatsReportEntry::InboundRtp(stream) => {
                        let bytes = stream.retransmitted_bytes_received;
                        *counted.received.entry(stream.mid.clone()).or_default() += bytes;
                    }
                    RTCStatsReportEntry::OutboundRtp(stream) => {
                        counted.sent += stream.retransmitted_bytes_sent;
                    }
                    _ => {}
                }
            }
        }
        lock(&self.shared.state).sample(now, rtt, counted.as_ref())
    }

    /// Makes a media connection, by `join` the first time and by `offer` later.
    pub(crate) async fn connect(self: &Arc<Self>, first: bool) -> Result<(), BotError> {
        let mut media = self.media.lock().await;
        if let Some(old) = media.take() {
            old.end().await;
        }
        let audio = AudioEncoder::open(&self.config.audio, &self.config.name)?;
        let video = VideoFile::open(&self.config.video)?;
        let (mut connection, events) = Connection::new(&self.config.bind).await?;
        if audio.is_some() {
            connection.add_outgoing(SendCodec::Opus).await?;
        }
        if let Some(video) = &video {
            let codec = SendCodec::Video(video.codec, video.h264_profile());
            connection.add_outgoing(codec).await?;
        }
        connection
            .add_slots(Kind::Audio, self.config.subscribe_audio)
            .await?;
        connection
            .add_slots(Kind::Video, self.config.subscribe_video)
            .await?;
        let offer = connection.offer().await?;
        self.shared.forget_media();
        self.add_new_slots(&connection)?;

        let tracks = connection
            .lines
            .iter()
            .filter(|line| line.outgoing.is_some())
            .map(|line| PublishedTrack {
                mid: line.mid.clone(),
                source: source_of(line.kind).to_owned(),
            })
            .collect();
        let request = match first {
            true => Request::Join {
                room: self.config.room.clone(),
                name: self.config.name.clone(),
                offer,
                tracks,
            },
            false => Request::Offer {
                sdp: offer,
                tracks,
                new_connection: true,
            },
        };
        let answer = match self.request(request).await? {
            Reply::Joined {
                answer: Some(sdp), ..
            }
            | Reply::Answer { sdp, .. } => sdp,
            reply => return Err(wrong_reply("join or offer", &reply)),
        };
        let answer = self.redirect(answer);
        connection.accept(answer).await?;
        *media = Some(self.serve(connection, events, audio, video).await?);
        Ok(())
    }

    /// Starts the tasks of a connection that has its answer.
    async fn serve(
        self: &Arc<Self>,
        connection: Connection,
        events: ConnectionEvents,
        mut audio: Option<AudioEncoder>,
        mut video: Option<VideoFile>,
    ) -> Result<Media, BotError> {
        let mut tasks = Vec::new();
        for line in &connection.lines {
            let Some(outgoing) = line.outgoing.clone() else {
                continue;
            };
            let payload_type = connection.payload_type(line).await?;
            let sender = Arc::new(Sender::new(&line.mid, line.kind));
            lock(&self.shared.state).sent.push(sender.clone());
            let shared = self.shared.clone();
            let stream = Stream {
                outgoing,
                payload_type,
                sender,
                state: events.state.clone(),
                losses: events.losses.clone(),
                on_error: Box::new(move |error| shared.note_error(error)),
            };
            let task = match line.kind {
                Kind::Audio => audio
                    .take()
                    .map(|encoder| tokio::spawn(stream.send_audio(encoder))),
                Kind::Video => video
                    .take()
                    .map(|file| tokio::spawn(stream.send_video(file))),
            };
            tasks.extend(task.map(|task| task.abort_handle()));
        }
        let connection = Arc::new(tokio::sync::Mutex::new(connection));
        let state = events.state.clone();
        let watching = watch_connection(self.shared.clone(), events.state);
        tasks.push(tokio::spawn(watching).abort_handle());
        let serving = serve_tracks(self.shared.clone(), connection.clone(), events.tracks);
        tasks.push(tokio::spawn(serving).abort_handle());
        Ok(Media {
            connection,
            state,
            tasks,
        })
    }

    pub(crate) async fn renegotiate(&self, change: Change) -> Result<(), BotError> {
        let media = self.media.lock().await;
        let media = media.as_ref().ok_or(BotError::Disconnected)?;
        if *media.state.borrow() == RTCPeerConnectionState::Closed {
            return Err(BotError::Disconnected);
        }
        let mut connection = media.connection.lock().await;
        match change {
            Change::Slots(kind, count) => connection.add_slots(kind, count).await?,
            Change::IceRestart => connection.restart_ice().await?,
        }
        let sdp = connection.offer().await?;
        self.add_new_slots(&connection)?;
        let request = Request::Offer {
            sdp,
            tracks: vec![],
            new_connection: false,
        };
        match self.request(request).await? {
            Reply::Answer { sdp, .. } => connection.accept(self.redirect(sdp)).await,
            reply => Err(wrong_reply("offer", &reply)),
        }
    }

    /// Makes a new media connection whenever the server says that the old one is gone.
    pub(crate) async fn reconnect_when_told(self: Arc<Self>) {
        loop {
            self.shared.reconnect.notified().await;
            if let Err(error) = self.connect(false).await {
                self.shared.note_error(format!("reconnecting: {error}"));
            }
        }
    }

    /// The answer with its candidates replaced, if media is to take another way.
    fn redirect(&self, answer: String) -> String {
        let Some(through) = self.config.media_through else {
            return answer;
        };
        answer
            .split_inclusive("\r\n")
            .map(|line| match line.starts_with("a=candidate:") {
                // Foundation, component, transport and priority come before the address (RFC 8839
                // section 5.1).
                true => {
                    let mut fields: Vec<&str> = line.split(' ').collect();
                    let (address, port) = (through.ip().to_string(), through.port().to_string());
                    if let Some(target) = fields.get_mut(4..6) {
                        target.copy_from_slice(&[&address, &port]);
                    }
                    fields.join(" ")
                }
                false => line.to_owned(),
            })
            .collect()
    }

    /// Gives every slot a receiver, before the server's reply says what the slot shows.
    fn add_new_slots(&self, connection: &Connection) -> Result<(), BotError> {
        let mut state = lock(&self.shared.state);
        for line in connection
            .lines
            .iter()
            .filter(|line| line.outgoing.is_none())
        {
            if state.slots.iter().any(|slot| slot.mid == line.mid) {
                continue;
            }
            let receiver = SlotReceiver::new(&line.mid, line.kind, &self.receive)?;
            state.slots.push(Slot {
                mid: line.mid.clone(),
                receiver: Arc::new(Mutex::new(receiver)),
            });
        }
        Ok(())
    }
}

fn source_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "microphone",
        Kind::Video => "camera",
    }
}

async fn watch_connection(
    shared: Arc<Shared>,
    mut connection: watch::Receiver<RTCPeerConnectionState>,
) {
    while connection.changed().await.is_ok() {
        let connected = *connection.borrow_and_update() == RTCPeerConnectionState::Connected;
        lock(&shared.state).handle_connected(connected);
    }
}
