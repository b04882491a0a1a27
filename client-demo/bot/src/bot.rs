//! A participant in a call: joins, publishes, watches its slots, does as it is told, leaves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::RTCPeerConnectionState;

use crate::BotError;
use crate::connection::{
    ArrivedTrack, Connection, ConnectionEvents, Outgoing, SendCodec, asks_for_key_frame,
};
use crate::protocol::{
    Event, Kind, OwnTrack, Participant, PublishedTrack, Reply, Request, SlotChoice, SlotState,
    VERSION,
};
use crate::receive::{ReceiveOptions, SlotReceiver};
use crate::report::{Report, SentStats};
use crate::send::audio::{AudioEncoder, AudioSource, FRAME_SAMPLES};
use crate::send::packetize::Packetizer;
use crate::send::video::{VideoFile, VideoSource};
use crate::signaling::{Said, Signaling};

/// One Opus packet.
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// The RTP clock of video, in Hz.
const VIDEO_CLOCK: f64 = 90_000.0;
/// How often `wait_until` looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Events kept for the report; later ones are handled but not listed.
const MAX_EVENTS: usize = 10_000;

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
        }
    }
}

/// A bot in a call. Dropping it closes its connections without leaving the room.
pub struct Bot {
    call: Arc<Call>,
    tasks: Vec<AbortHandle>,
}

/// What the bot's tasks share.
struct Call {
    config: BotConfig,
    receive: ReceiveOptions,
    signaling: Signaling,
    shared: Arc<Shared>,
    media: tokio::sync::Mutex<Option<Media>>,
}

/// What the signaling task may touch.
struct Shared {
    state: Mutex<State>,
    reconnect: Notify,
}

/// A media connection and the tasks that serve it.
struct Media {
    connection: Arc<tokio::sync::Mutex<Connection>>,
    state: watch::Receiver<RTCPeerConnectionState>,
    tasks: Vec<AbortHandle>,
}

struct State {
    started: Instant,
    participant: String,
    joined: Option<Duration>,
    connected: Option<Duration>,
    connected_now: bool,
    participants: Vec<Participant>,
    tracks: Vec<OwnTrack>,
    sent: Vec<Arc<Sender>>,
    slots: Vec<Slot>,
    events: Vec<Event>,
    errors: Vec<String>,
}

#[derive(Clone)]
struct Slot {
    mid: String,
    receiver: Arc<Mutex<SlotReceiver>>,
}

/// What the rest of the bot tells a sending task.
struct Sender {
    muted: AtomicBool,
    paused: AtomicBool,
    key_frame_wanted: AtomicBool,
    stats: Mutex<SentStats>,
}

/// A bot's numbers stay readable after one of its tasks has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bot {
    /// Connects, joins the room with one offer and starts to send. Media may still be connecting
    /// when this returns: see [`Report::connected_ms`].
    pub async fn join(config: BotConfig) -> Result<Bot, BotError> {
        let started = Instant::now();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(started)),
            reconnect: Notify::new(),
        });
        let handled = shared.clone();
        let signaling = Signaling::connect(&config.url, move |said| handled.handle(said)).await?;
        let call = Arc::new(Call {
            receive: ReceiveOptions {
                joined: started,
                decode: config.decode,
                record: config.record.clone(),
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
        match call.signaling.request(hello).await? {
            Reply::Welcome { session } => tracing::debug!(%session, "welcome"),
            reply => return Err(wrong_reply("hello", &reply)),
        }
        call.connect(true).await?;
        let tasks = vec![tokio::spawn(reconnect_when_told(call.clone())).abort_handle()];
        Ok(Bot { call, tasks })
    }

    /// The call as it stands.
    pub fn report(&self) -> Report {
        self.call.report()
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
        for sender in &lock(&self.call.shared.state).sent {
            sender.paused.store(paused, Ordering::Relaxed);
        }
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

enum Change {
    Slots(Kind, usize),
    IceRestart,
}

fn wrong_reply(request: &'static str, reply: &Reply) -> BotError {
    BotError::WrongReply {
        request,
        reply: format!("{reply:?}"),
    }
}

impl Media {
    async fn end(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.connection.lock().await.close().await;
    }
}

impl Call {
    async fn request(&self, request: Request) -> Result<Reply, BotError> {
        self.signaling.request(request).await
    }

    fn report(&self) -> Report {
        lock(&self.shared.state).report(&self.config.name)
    }

    /// Makes a media connection, by `join` the first time and by `offer` later.
    async fn connect(self: &Arc<Self>, first: bool) -> Result<(), BotError> {
        let mut media = self.media.lock().await;
        if let Some(old) = media.take() {
            old.end().await;
        }
        let audio = AudioEncoder::open(&self.config.audio)?;
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
            let sender = Arc::new(Sender::new(&line.mid));
            lock(&self.shared.state).sent.push(sender.clone());
            let stream = Stream {
                outgoing,
                payload_type,
                sender,
                state: events.state.clone(),
                shared: self.shared.clone(),
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

    async fn renegotiate(&self, change: Change) -> Result<(), BotError> {
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

/// Makes a new media connection whenever the server says that the old one is gone.
async fn reconnect_when_told(call: Arc<Call>) {
    loop {
        call.shared.reconnect.notified().await;
        if let Err(error) = call.connect(false).await {
            call.shared.note_error(format!("reconnecting: {error}"));
        }
    }
}

async fn watch_connection(
    shared: Arc<Shared>,
    mut connection: watch::Receiver<RTCPeerConnectionState>,
) {
    while connection.changed().await.is_ok() {
        let connected = *connection.borrow_and_update() == RTCPeerConnectionState::Connected;
        let mut state = lock(&shared.state);
        state.connected_now = connected;
        if connected {
            let elapsed = state.started.elapsed();
            state.connected.get_or_insert(elapsed);
        }
    }
}

/// Gives each arriving track a task of its own.
async fn serve_tracks(
    shared: Arc<Shared>,
    connection: Arc<tokio::sync::Mutex<Connection>>,
    mut tracks: tokio::sync::mpsc::Receiver<Arc<dyn TrackRemote>>,
) {
    let mut receiving = tokio::task::JoinSet::new();
    while let Some(track) = tracks.recv().await {
        let located = connection.lock().await.locate(track).await;
        let arrived = match located {
            Ok(Some(arrived)) => arrived,
            Ok(None) => {
                shared.note_error("a track arrived that belongs to no slot".to_owned());
                continue;
            }
            Err(error) => {
                shared.note_error(error.to_string());
                continue;
            }
        };
        let slot = lock(&shared.state)
            .slots
            .iter()
            .find(|slot| slot.mid == arrived.mid)
            .cloned();
        if let Some(slot) = slot {
            receiving.spawn(receive(shared.clone(), slot, arrived));
        }
    }
    // Dropping the set would end the tasks, which go on until the connection closes.
    while receiving.join_next().await.is_some() {}
}

/// Takes the packets of one slot, and asks for key frames.
async fn receive(shared: Arc<Shared>, slot: Slot, arrived: ArrivedTrack) {
    let ArrivedTrack { track, codecs, .. } = arrived;
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else {
            continue;
        };
        let now = Instant::now();
        let media_ssrc = packet.header.ssrc;
        let codec = codecs.get(&packet.header.payload_type).copied();
        let (handled, key_frame_wanted) = {
            let mut receiver = lock(&slot.receiver);
            let handled = receiver.handle_packet(now, codec, packet);
            (handled, receiver.poll_key_frame_request(now))
        };
        if let Err(error) = handled {
            shared.note_error(error.to_string());
            return;
        }
        if key_frame_wanted {
            let request = PictureLossIndication {
                sender_ssrc: 0,
                media_ssrc,
            };
            // An error means that the connection is gone, which `poll` will say too.
            let _ = track.write_rtcp(vec![Box::new(request)]).await;
        }
    }
}

/// One outgoing stream and what its task needs.
struct Stream {
    outgoing: Outgoing,
    payload_type: u8,
    sender: Arc<Sender>,
    state: watch::Receiver<RTCPeerConnectionState>,
    shared: Arc<Shared>,
}

impl Stream {
    async fn send_audio(mut self, mut encoder: AudioEncoder) {
        let mut packetizer = Packetizer::opus(self.outgoing.ssrc, self.payload_type);
        let mut ticks = self.start(AUDIO_INTERVAL).await;
        loop {
            ticks.tick().await;
            if self.is_silent() {
                packetizer.skip(FRAME_SAMPLES as u32);
                continue;
            }
            let frame = encoder.next_packet();
            let packets =
                frame.and_then(|frame| packetizer.packetize(&frame, FRAME_SAMPLES as u32));
            if !self.write(packets).await {
                return;
            }
        }
    }

    async fn send_video(mut self, mut file: VideoFile) {
        let mut packetizer = Packetizer::video(file.codec, self.outgoing.ssrc, self.payload_type);
        let ticks_per_frame = (file.interval.as_secs_f64() * VIDEO_CLOCK).round() as u32;
        let mut ticks = self.start(file.interval).await;
        let feedback = tokio::spawn(obey_feedback(self.outgoing.clone(), self.sender.clone()));
        let _ends_with_this_task = AbortOnDrop(feedback.abort_handle());
        loop {
            ticks.tick().await;
            if self.is_silent() {
                packetizer.skip(ticks_per_frame);
                // Those who watch need one when the picture comes back.
                self.sender.key_frame_wanted.store(true, Ordering::Relaxed);
                continue;
            }
            if self.sender.key_frame_wanted.swap(false, Ordering::Relaxed) {
                file.request_key_frame();
            }
            let frame = file.next_frame();
            if !self
                .write(packetizer.packetize(&frame.data, ticks_per_frame))
                .await
            {
                return;
            }
        }
    }

    /// Waits for the connection, and from then on ticks at the pace of the source.
    async fn start(&mut self, interval: Duration) -> tokio::time::Interval {
        let connected =
            |state: &RTCPeerConnectionState| *state == RTCPeerConnectionState::Connected;
        // An error means that the connection ended before; the first write will say so.
        let _ = self.state.wait_for(connected).await;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        ticks
    }

    fn is_silent(&self) -> bool {
        self.sender.muted.load(Ordering::Relaxed) || self.sender.paused.load(Ordering::Relaxed)
    }

    /// Sends the packets of a frame. False once that is no longer possible.
    async fn write(&self, packets: Result<Vec<rtp::Packet>, BotError>) -> bool {
        let packets = match packets {
            Ok(packets) => packets,
            Err(error) => {
                self.shared.note_error(error.to_string());
                return false;
            }
        };
        let (mut count, mut bytes) = (0, 0);
        for packet in packets {
            count += 1;
            bytes += packet.payload.len() as u64;
            if self.outgoing.track.write_rtp(packet).await.is_err() {
                return false;
            }
        }
        let mut stats = lock(&self.sender.stats);
        stats.packets += count;
        stats.bytes += bytes;
        stats.frames += 1;
        true
    }
}

/// Takes requests for key frames until the connection closes.
async fn obey_feedback(outgoing: Outgoing, sender: Arc<Sender>) {
    while let Some(event) = outgoing.track.poll().await {
        if let TrackLocalEvent::OnRtcpPacket(packets) = event
            && asks_for_key_frame(&packets)
        {
            sender.key_frame_wanted.store(true, Ordering::Relaxed);
            lock(&sender.stats).key_frame_requests += 1;
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sender {
    fn new(mid: &str) -> Sender {
        Sender {
            muted: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            key_frame_wanted: AtomicBool::new(false),
            stats: Mutex::new(SentStats {
                mid: mid.to_owned(),
                ..Default::default()
            }),
        }
    }
}

impl Shared {
    /// Takes note of what the server says, in the order it says it.
    fn handle(&self, said: &Said) {
        let mut state = lock(&self.state);
        match said {
            Said::Reply(reply) => state.handle_reply(reply),
            Said::Event(event) => {
                state.handle_event(event);
                if matches!(event, Event::Reconnect { .. }) {
                    self.reconnect.notify_one();
                }
            }
        }
    }

    fn forget_media(&self) {
        let mut state = lock(&self.state);
        state.connected_now = false;
        state.tracks.clear();
        state.sent.clear();
        state.slots.clear();
    }

    fn set_muted(&self, mid: &str, muted: bool) {
        for sender in &lock(&self.state).sent {
            if lock(&sender.stats).mid == mid {
                sender.muted.store(muted, Ordering::Relaxed);
            }
        }
    }

    fn note_error(&self, error: String) {
        tracing::warn!(%error);
        lock(&self.state).errors.push(error);
    }
}

impl State {
    fn new(started: Instant) -> State {
        State {
            started,
            participant: String::new(),
            joined: None,
            connected: None,
            connected_now: false,
            participants: Vec::new(),
            tracks: Vec::new(),
            sent: Vec::new(),
            slots: Vec::new(),
            events: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn handle_reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Joined {
                participant,
                participants,
                tracks,
                slots,
                ..
            } => {
                self.joined = Some(self.started.elapsed());
                self.participant.clone_from(participant);
                self.participants.clone_from(participants);
                self.handle_negotiated(tracks, slots);
            }
            Reply::Answer { tracks, slots, .. } => self.handle_negotiated(tracks, slots),
            Reply::Published { track, mid, kind } => self.handle_negotiated(
                &[OwnTrack {
                    id: track.clone(),
                    mid: mid.clone(),
                    kind: *kind,
                }],
                &[],
            ),
            Reply::Unpublished { track } => self.tracks.retain(|own| own.id != *track),
            Reply::Subscribed { mid, track } => self.handle_slot(mid, track),
            Reply::Welcome { .. }
            | Reply::Muted {}
            | Reply::Left {}
            | Reply::Pong {}
            | Reply::Error { .. } => {}
        }
    }

    fn handle_negotiated(&mut self, tracks: &[OwnTrack], slots: &[SlotState]) {
        for track in tracks {
            self.tracks.retain(|own| own.mid != track.mid);
            self.tracks.push(track.clone());
        }
        for slot in slots {
            self.handle_slot(&slot.mid, &slot.track);
        }
    }

    fn handle_event(&mut self, event: &Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event.clone());
        }
        let publisher = |participants: &mut Vec<Participant>, id: &str| {
            participants.iter().position(|other| other.id == id)
        };
        match event {
            Event::ParticipantJoined { participant } => {
                self.participants.retain(|other| other.id != participant.id);
                self.participants.push(participant.clone());
            }
            Event::ParticipantLeft { participant, .. } => {
                self.participants.retain(|other| other.id != *participant);
            }
            Event::TrackPublished { participant, track } => {
                if let Some(index) = publisher(&mut self.participants, participant) {
                    let tracks = &mut self.participants[index].tracks;
                    tracks.retain(|other| other.id != track.id);
                    tracks.push(track.clone());
                }
            }
            Event::TrackUnpublished { participant, track } => {
                if let Some(index) = publisher(&mut self.participants, participant) {
                    let tracks = &mut self.participants[index].tracks;
                    tracks.retain(|other| other.id != *track);
                }
            }
            Event::TrackMuted { track, muted, .. } => {
                let tracks = self
                    .participants
                    .iter_mut()
                    .flat_map(|other| &mut other.tracks);
                for other in tracks.filter(|other| other.id == *track) {
                    other.muted = *muted;
                }
                for slot in &self.slots {
                    let mut receiver = lock(&slot.receiver);
                    if receiver.track() == Some(track) {
                        receiver.handle_discontinuity();
                    }
                }
            }
            Event::Slot { mid, track } => self.handle_slot(mid, track),
            Event::Media { .. } | Event::Reconnect { .. } | Event::Closing { .. } => {}
        }
    }

    fn handle_slot(&mut self, mid: &str, track: &Option<String>) {
        if let Some(slot) = self.slots.iter().find(|slot| slot.mid == mid) {
            lock(&slot.receiver).handle_track(track.clone());
        }
    }

    fn report(&self, name: &str) -> Report {
        let now = Instant::now();
        let ms = |time: Duration| time.as_millis() as u64;
        Report {
            name: name.to_owned(),
            participant: self.participant.clone(),
            joined_ms: self.joined.map(ms),
            connected_ms: self.connected.map(ms),
            connected: self.connected_now,
            participants: self.participants.clone(),
            tracks: self.tracks.clone(),
            sent: self
                .sent
                .iter()
                .map(|sender| lock(&sender.stats).clone())
                .collect(),
            slots: self
                .slots
                .iter()
                .map(|slot| lock(&slot.receiver).stats(now))
                .collect(),
            events: self.events.clone(),
            errors: self.errors.clone(),
        }
    }
}
