//! A running server with a stand-in for the media plane, and clients to talk to it.

#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test uses a part, and ends where it is wrong"
)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use confab_sfu::api::{
    Answer, CommandError, Event, Offer, OfferError, PeerQuality, PeerStats, Priority, Reason,
    SlotChoice, SlotInfo, SlotQuality, SlotView, Stats, TrackInfo,
};
use confab_sfu::media::Kind;
use confab_sfu::types::{Mid, PeerId, RoomId, TrackId};
use confab_sfu::units::Bitrate;
use confab_signaling::auth::Auth;
use confab_signaling::media::{MediaPlane, Reply, Request};
use confab_signaling::relay::Relay;
use confab_signaling::{Certificates, Server, Settings, Stopped, control};
use flate2::read::DeflateDecoder;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longer than anything here takes, shorter than anyone's patience.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Peers {
    rooms: HashMap<PeerId, RoomId>,
    published: HashMap<PeerId, Vec<TrackInfo>>,
    views: HashMap<PeerId, Vec<(Mid, SlotView)>>,
    last_track: u64,
    closed: Vec<PeerId>,
}

/// Answers offers whose SDP is a list such as `send 0, receive 1`; an offer with `slow` in it
/// waits for [`FakeSfu::release`], one with `bad` is refused, one with `panic` panics. Who comes over HTTP
/// is connected at once.
#[derive(Clone)]
pub struct FakeSfu {
    peers: Arc<Mutex<Peers>>,
    events: mpsc::Sender<Event>,
    released: Arc<Notify>,
}

impl FakeSfu {
    pub fn release(&self) {
        self.released.notify_one();
    }

    pub fn closed(&self) -> usize {
        self.peers.lock().unwrap().closed.len()
    }

    pub fn peers(&self) -> Vec<PeerId> {
        let mut peers: Vec<_> = self.peers.lock().unwrap().rooms.keys().copied().collect();
        peers.sort();
        peers
    }

    pub fn views(&self, peer: PeerId) -> Vec<(Mid, SlotView)> {
        let peers = self.peers.lock().unwrap();
        peers.views.get(&peer).cloned().unwrap_or_default()
    }

    pub async fn report(&self, event: Event) {
        self.events.send(event).await.unwrap();
    }
}

impl MediaPlane for FakeSfu {
    async fn ask(&self, request: Request) -> Reply {
        match request {
            Request::Offer { room, peer, offer } => {
                Reply::of(self.offer(room, peer, offer).await, Reply::Answered)
            }
            Request::Publish { peer, mid, .. } => Reply::Published(self.publish(peer, mid)),
            Request::Unpublish { peer, track } => {
                self.unpublish(peer, track);
                Reply::Done
            }
            Request::Mute { .. } => Reply::Done,
            Request::Subscribe { mid, to, .. } => Reply::of(subscribe(mid, to), Reply::Shows),
            Request::SetView { peer, views } => self.set_view(peer, views).into(),
            Request::PeerStats { peer } => {
                let stats = self.peer_stats(peer).ok_or(CommandError::UnknownPeer);
                Reply::of(stats.map(Box::new), Reply::PeerStats)
            }
            Request::RestartIce { fragment, .. } => {
                Reply::IceRestarted(format!("answer to {fragment}"))
            }
            Request::Close { peer } => {
                self.close(peer);
                Reply::Done
            }
            Request::Stats => Reply::Stats(Stats {
                tracks: 42,
                ..Stats::default()
            }),
        }
    }
}

impl FakeSfu {
    async fn offer(&self, room: RoomId, peer: PeerId, offer: Offer) -> Result<Answer, OfferError> {
        if offer.sdp.contains("slow") {
            self.released.notified().await;
        }
        assert!(!offer.sdp.contains("panic"), "as asked");
        if offer.sdp.contains("bad") {
            return Err(OfferError::Overloaded);
        }
        let mut peers = self.peers.lock().unwrap();
        if peers.rooms.insert(peer, room).is_none() && offer.is_whole {
            self.events.try_send(Event::PeerConnected { peer }).unwrap();
        }
        let mut slots = Vec::new();
        for line in offer.sdp.split(',') {
            let Some((direction, mid)) = line.trim().split_once(' ') else {
                continue;
            };
            let Ok(mid) = Mid::new(mid) else {
                continue;
            };
            let kind = Kind::Video;
            let published = offer.publish.content(mid).is_some();
            if direction == "send" && offer.may_publish && published {
                let known = peers.published.entry(peer).or_default();
                if known.iter().all(|info| info.mid != mid) {
                    peers.last_track += 1;
                    let track = TrackId(peers.last_track);
                    let info = TrackInfo { track, mid, kind };
                    peers.published.entry(peer).or_default().push(info);
                }
            }
            if direction == "receive" {
                let track = None;
                slots.push(SlotInfo { mid, kind, track });
            }
        }
        Ok(Answer {
            sdp: format!("answer to {}", offer.sdp),
            tracks: peers.published.get(&peer).cloned().unwrap_or_default(),
            slots,
            refused: Vec::new(),
        })
    }

    fn publish(&self, peer: PeerId, mid: Mid) -> TrackInfo {
        let mut peers = self.peers.lock().unwrap();
        peers.last_track += 1;
        let info = TrackInfo {
            track: TrackId(peers.last_track),
            mid,
            kind: Kind::Audio,
        };
        peers.published.entry(peer).or_default().push(info);
        info
    }

    fn unpublish(&self, peer: PeerId, track: TrackId) {
        let mut peers = self.peers.lock().unwrap();
        let tracks = peers.published.entry(peer).or_default();
        tracks.retain(|info| info.track != track);
    }

    fn set_view(&self, peer: PeerId, views: Vec<(Mid, SlotView)>) -> Result<(), CommandError> {
        let mut peers = self.peers.lock().unwrap();
        let unknown = views.iter().find(|(mid, _)| mid.as_str() == "nowhere");
        match unknown {
            Some((mid, _)) => Err(CommandError::UnknownMid(*mid)),
            None => {
                peers.views.entry(peer).or_default().extend(views);
                Ok(())
            }
        }
    }

    /// Every slot that was viewed shows track 7 and has no bandwidth.
    fn peer_stats(&self, peer: PeerId) -> Option<PeerStats> {
        let peers = self.peers.lock().unwrap();
        peers.rooms.get(&peer)?;
        let views = peers.views.get(&peer).into_iter().flatten();
        let quality = PeerQuality {
            estimate: Bitrate::kbps(910),
            slots: views
                .map(|&(mid, view)| SlotQuality {
                    mid,
                    track: TrackId(7),
                    priority: Priority::Rest,
                    view,
                    layer: None,
                    reason: Reason::NoBandwidth,
                    switches: 1,
                })
                .collect(),
            ..PeerQuality::default()
        };
        Some(PeerStats {
            quality,
            ..PeerStats::default()
        })
    }

    fn close(&self, peer: PeerId) {
        let mut peers = self.peers.lock().unwrap();
        peers.rooms.remove(&peer);
        peers.published.remove(&peer);
        peers.closed.push(peer);
    }
}

fn subscribe(mid: Mid, to: SlotChoice) -> Result<Option<TrackId>, CommandError> {
    match to {
        _ if mid.as_str() == "nowhere" => Err(CommandError::UnknownMid(mid)),
        SlotChoice::Pin(track) => Ok(Some(track)),
        SlotChoice::Auto | SlotChoice::Off => Ok(None),
    }
}

/// Lets this process have as many sockets as it may; what is set at first is usually 1024.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// A certificate for `named.example.org`.
#[derive(Debug)]
struct ForOne;

impl Certificates for ForOne {
    fn expiries(&self) -> Vec<(SocketAddr, SystemTime)> {
        Vec::new()
    }

    fn name(&self, host: &str) -> bool {
        host == "named.example.org"
    }
}

/// A running server.
pub struct House {
    pub address: SocketAddr,
    pub sfu: FakeSfu,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<Result<(), Stopped>>,
}

pub fn settings() -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        allowed_origins: vec!["https://app.example.org".into()],
        public_url: None,
        auth: Auth::open(),
        control: control::Config::default(),
        drain: Duration::from_millis(300),
    }
}

impl House {
    pub async fn new() -> House {
        House::with(settings()).await
    }

    pub async fn with(settings: Settings) -> House {
        House::start(settings, None).await
    }

    pub async fn start(settings: Settings, relay: Option<Arc<dyn Relay>>) -> House {
        let (events, receiver) = mpsc::channel(100);
        let sfu = FakeSfu {
            peers: Arc::default(),
            events,
            released: Arc::default(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::bind(settings).await.unwrap();
        let server = match relay {
            Some(relay) => server.with_relay(relay),
            None => server,
        };
        let server = server.with_certificates(Arc::new(ForOne));
        // Whoever connects here is one.
        let server = server.with_trusted_proxies(vec!["127.0.0.1".parse().unwrap()]);
        let address = server.address();
        let stopped = async {
            // A house that is dropped is stopped too.
            let _ = stopped.await;
        };
        let ended = tokio::spawn(server.run(sfu.clone(), receiver, stopped));
        House {
            address,
            sfu,
            stop: Some(stop),
            ended,
        }
    }

    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub async fn ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.ended).await;
        ended.expect("the server ends").unwrap().unwrap();
    }

    /// A socket that has said nothing yet.
    pub async fn socket(&self) -> Client {
        Client::connect(self.address, None).await.unwrap()
    }

    /// A socket with a session.
    pub async fn client(&self) -> Client {
        let mut client = self.socket().await;
        let welcome = client.ask("hello", json!({"version": 1})).await;
        assert_eq!(welcome["type"], "welcome");
        client.session = welcome["session"].as_str().unwrap().to_owned();
        client
    }

    /// A client in the kitchen, with a media connection.
    pub async fn guest(&self, name: &str, offer: &str) -> Client {
        let mut client = self.client().await;
        let tracks: Vec<Value> = offer
            .split(',')
            .filter_map(|line| line.trim().strip_prefix("send "))
            .map(|mid| json!({"mid": mid, "source": "camera"}))
            .collect();
        let join = json!({"room": "kitchen", "name": name, "offer": offer, "tracks": tracks});
        let joined = client.ask("join", join).await;
        assert_eq!(joined["type"], "joined", "{joined}");
        client
    }

    /// A page as it is asked for by this name of the server.
    pub async fn ask_as(&self, host: &str, path: &str) -> Response {
        self.head_as(host, path, "Connection: close\r\n").await
    }

    /// The same with other headers; of a WebSocket nothing but the head is read.
    pub async fn head_as(&self, host: &str, path: &str, headers: &str) -> Response {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        let read = async {
            let is_upgrade = headers.contains("Upgrade");
            let has_head = |bytes: &[u8]| bytes.windows(4).any(|end| end == b"\r\n\r\n");
            while !(is_upgrade && has_head(&bytes)) {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(len) => bytes.extend_from_slice(&piece[..len]),
                }
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the server answers");
        Response::parse(&bytes)
    }

    /// A WebSocket that is a bare TCP connection.
    pub async fn bare_socket(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"));
        stream
    }

    /// One HTTP request: its status, headers in lower case, and body.
    pub async fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses from the head alone need not read the body.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes));
        let _ = read.await.expect("the server answers");
        Response::parse(&bytes)
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Response {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let mut headers: HashMap<String, String> = HashMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            // Several of one name are one with commas (RFC 9110 section 5.3).
            let values = headers.entry(name.to_lowercase()).or_default();
            if !values.is_empty() {
                values.push_str(", ");
            }
            values.push_str(value);
        }
        Response {
            status: status.parse().unwrap(),
            headers,
            body: body.to_owned(),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The code of a refusal, which must be a problem document with a sentence.
    pub fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        assert!(
            problem["title"].as_str().unwrap().ends_with('.'),
            "{problem}"
        );
        problem["code"].as_str().unwrap().to_owned()
    }
}

pub struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub session: String,
    next_id: u64,
    /// Events that came before the reply that was waited for.
    events: Vec<Value>,
    /// How many messages came compressed.
    pub deflated: usize,
}

impl Client {
    pub async fn connect(address: SocketAddr, origin: Option<&str>) -> Result<Client, u16> {
        let mut request = format!("ws://{address}/v1/ws")
            .into_client_request()
            .unwrap();
        if let Some(origin) = origin {
            request
                .headers_mut()
                .insert("origin", origin.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((stream, _)) => Ok(Client {
                stream,
                session: String::new(),
                next_id: 0,
                events: Vec::new(),
                deflated: 0,
            }),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.unwrap();
    }

    /// Whether the network takes it.
    pub async fn try_send(&mut self, text: String) -> bool {
        self.stream.send(Message::text(text)).await.is_ok()
    }

    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.stream.send(Message::binary(bytes)).await.unwrap();
    }

    pub async fn send(&mut self, id: u64, kind: &str, mut body: Value) {
        body["id"] = id.into();
        body["type"] = kind.into();
        self.send_text(body.to_string()).await;
    }

    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A request and its reply; events meanwhile are kept.
    pub async fn ask(&mut self, kind: &str, body: Value) -> Value {
        let id = self.new_id();
        self.send(id, kind, body).await;
        self.reply(id).await
    }

    pub async fn reply(&mut self, id: u64) -> Value {
        loop {
            let frame = self.frame().await.expect("a reply");
            match frame.get("re") {
                Some(re) => {
                    assert_eq!(re, id);
                    return frame;
                }
                None => self.events.push(frame),
            }
        }
    }

    pub async fn event(&mut self) -> Value {
        match self.events.is_empty() {
            true => self.frame().await.expect("an event"),
            false => self.events.remove(0),
        }
    }

    /// The next message, `None` when the socket has ended.
    pub async fn frame(&mut self) -> Option<Value> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next());
            match next.await.expect("a frame in time")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Binary(bytes)) => {
                    self.deflated += 1;
                    let text = DeflateDecoder::new(&bytes[..]);
                    return Some(serde_json::from_reader(text).unwrap());
                }
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Ends with the code of the `closing` event, after which the socket ends.
    pub async fn closing(&mut self) -> Value {
        let mut last = Value::Null;
        while let Some(frame) = self.frame().await {
            last = frame;
        }
        assert_eq!(last["type"], "closing", "{last}");
        last["code"].clone()
    }

    pub async fn ping(&mut self) -> bool {
        let ping = Message::Ping(Default::default());
        self.stream.send(ping).await.is_ok()
    }

    /// The network is gone: no goodbye.
    pub async fn vanish(self) {
        drop(self.stream);
    }

    /// The page is left.
    pub async fn goodbye(mut self) {
        use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
        let frame = CloseFrame {
            code: CloseCode::Away,
            reason: Default::default(),
        };
        self.stream.close(Some(frame)).await.unwrap();
    }
}
