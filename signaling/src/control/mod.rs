//! The head of the control plane: sessions, rooms and media commands brought together.
//!
//! Sans-I/O. In: what clients say on sockets and over HTTP (authenticated before), how media
//! commands went, what the media plane reports, and time. Out: [`Control::poll_output`]: frames
//! for sockets, answers to HTTP requests, and commands for the media plane.
//!
//! A session's requests are carried out one at a time and in order. A participant's media commands
//! are on their way one at a time too, and what the media plane reports of it meanwhile waits, so
//! that a client never hears of a change before the reply that it came after.

mod http;
mod lanes;
mod media_events;
mod requests;
mod shares;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_sfu::api;
use confab_sfu::types::{Mid, PeerId, PersonId, RoomId, TrackId};
use confab_sockets::subscriber::Crowd;

use crate::auth::{Access, Grants, Refusal, Refusals};
use crate::connection::{HELLO_TIMEOUT, MAX_MESSAGE_BYTES, PING_INTERVAL};
use crate::holder::Holder;
use crate::media;
use crate::names::{ParticipantId, RoomName};
use crate::protocol::{
    Closing, ErrorCode, Event, Failure, Hello, Malformed, Reply, Request, RequestId, VERSION,
    Welcome,
};
use crate::relay::{Relay, Relays};
use crate::room::{Limits, Place, Rooms};
use crate::session::{Admission, MISSED_AFTER, Session, new_secret};

use http::Resource;
pub use http::{Address, Answer as HttpAnswer, Endpoint, Request as HttpRequest};
use lanes::Lanes;
use requests::Purpose;
use shares::Shares;
use tokens::Term;
pub use tokens::WARNING;

/// A session outlives its socket for so long.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Most sessions at once, with and without a socket, WHIP and WHEP ones among them.
pub const DEFAULT_MAX_SESSIONS: usize = 10_000;

/// Most of them from one address: a large office behind it.
pub const DEFAULT_MAX_ADDRESS_SESSIONS: usize = 500;

/// Most of them of one identity from one address: an office that has come by one link.
pub const DEFAULT_MAX_IDENTITY_SESSIONS: usize = 100;

/// A session that is in no room after so long is not about to enter one: as long as its socket may have taken
/// to say `hello`.
const IDLE_AFTER: Duration = HELLO_TIMEOUT;

/// How the control plane is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// The bounds of the rooms.
    pub limits: Limits,
    /// How long a session outlives its socket.
    pub grace: Duration,
    /// Most sessions at once.
    pub max_sessions: usize,
    /// Most sessions of one IPv4 address or IPv6 /64; all of a /48 may have four times as many. One of this
    /// machine or of a private network, as a reverse proxy has, may have nine tenths of all.
    pub max_address_sessions: usize,
    /// Most sessions of one identity from one of these.
    pub max_identity_sessions: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            limits: Limits::default(),
            grace: DEFAULT_GRACE,
            max_sessions: DEFAULT_MAX_SESSIONS,
            max_address_sessions: DEFAULT_MAX_ADDRESS_SESSIONS,
            max_identity_sessions: DEFAULT_MAX_IDENTITY_SESSIONS,
        }
    }
}

/// A socket. Chosen by the caller, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SocketId(pub u64);

/// An HTTP request that waits for its answer. Chosen by the caller, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TicketId(pub u64);

/// A request to the media plane on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AskId(u64);

/// What a client says on a socket, after `http` has looked at it.
#[derive(Clone, PartialEq, Debug)]
pub enum SocketInput {
    /// `hello`, what its token allows, and where it comes from.
    Hello(RequestId, Hello, Result<Access, Failure>, IpAddr),
    /// `renew`, and what its token allows.
    Renew(RequestId, Result<Access, Failure>),
    /// Any other request.
    Request(RequestId, Request),
    /// An acknowledgement.
    Ack(u64),
    /// A frame that is no message.
    Malformed(Malformed),
    /// The socket is gone. Gone for good if the client said goodbye.
    Closed {
        /// Whether it did.
        goodbye: bool,
    },
}

/// What [`Control::poll_output`] gives.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// A text frame for a socket.
    Frame(SocketId, String),
    /// The socket is to be closed once its frames are sent.
    Close(SocketId),
    /// A request to the media plane, whose reply goes to [`Control::handle_reply`].
    Ask(AskId, media::Request),
    /// The answer to an HTTP request.
    Http(TicketId, HttpAnswer),
}

/// What the control plane counts, for the metrics page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Sessions now, with and without a socket.
    pub sessions: usize,
    /// Rooms now.
    pub rooms: usize,
    /// Participants now, who have a name or publish.
    pub participants: usize,
    /// Viewers now, who do neither.
    pub viewers: usize,
    /// Requests, by type.
    pub requests: BTreeMap<&'static str, u64>,
    /// Refusals, by code.
    pub refusals: BTreeMap<String, u64>,
    /// Sessions that were resumed on another socket.
    pub resumed: u64,
    /// Events told.
    pub events: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct SessionKey(u64);

#[derive(Debug)]
struct Client {
    session: Session,
    access: Access,
    /// Until when that holds; none without an end.
    term: Option<Term>,
    holder: Holder,
    since: Instant,
    socket: Option<SocketId>,
    /// It has been without one for so long that the others are told.
    is_missed: bool,
    participant: Option<ParticipantId>,
    /// Whose name its credentials for the relay have; another one after every `leave`.
    relay_user: String,
    /// The request that waits for the media plane.
    busy: bool,
    /// Requests behind it; the session bounds them.
    waiting: VecDeque<(RequestId, Request)>,
}

#[derive(Debug)]
enum Owner {
    Session(SessionKey),
    Http(Resource),
}

#[derive(Debug)]
struct Member {
    owner: Owner,
    room: RoomId,
    /// Whose tracks it is not shown.
    person: Option<PersonId>,
    grants: Grants,
    peer: Option<PeerId>,
    /// Nothing is heard of its media connection.
    is_silent: bool,
    /// The last peer there was, or is; the next one must say that it is a new connection.
    former: Option<PeerId>,
    /// An offer of the present peer has been answered.
    answered: bool,
    published: Vec<(Mid, TrackId)>,
    /// What its client takes its slots to show; those that are not here show nothing.
    shown: BTreeMap<Mid, TrackId>,
    /// Slots that were told to be paused.
    paused: BTreeSet<Mid>,
    /// Reports that wait for the command on its way.
    held: Vec<api::Event>,
}

impl Member {
    /// One that has just got its place, without media.
    fn new(owner: Owner, place: &Place, grants: Grants) -> Member {
        Member {
            owner,
            room: place.room,
            person: place.person,
            grants,
            peer: None,
            is_silent: false,
            former: None,
            answered: false,
            published: Vec::new(),
            shown: BTreeMap::new(),
            paused: BTreeSet::new(),
            held: Vec::new(),
        }
    }
}

/// The control plane's state.
#[derive(Debug)]
pub struct Control {
    config: Config,
    relays: Relays,
    rooms: Rooms,
    clients: HashMap<SessionKey, Client>,
    by_secret: HashMap<String, SessionKey>,
    sockets: HashMap<SocketId, SessionKey>,
    /// When to look whether a session without a socket is over.
    graces: BTreeSet<(Instant, SessionKey)>,
    /// When to look whether a session without a socket is to be missed.
    doubts: BTreeSet<(Instant, SessionKey)>,
    /// When to look at a session's token.
    terms: BTreeSet<(Instant, SessionKey)>,
    shares: Shares,
    /// Sessions that are in no room, and since when each is there: where all are given, one of them goes.
    idle: Crowd<Instant>,
    members: HashMap<ParticipantId, Member>,
    by_resource: HashMap<String, ParticipantId>,
    peers: HashMap<PeerId, ParticipantId>,
    lanes: Lanes,
    purposes: HashMap<AskId, (ParticipantId, Purpose)>,
    /// Slots that show a track which their owner has not been told of yet.
    early_slots: Vec<(ParticipantId, Mid, TrackId)>,
    last_id: u64,
    /// When the server stops at the latest, once it is to.
    stops: Option<Instant>,
    /// Tokens refused since the log was last written to.
    refused: Vec<Refusal>,
    refusals: Refusals,
    counters: Counters,
    outputs: VecDeque<Output>,
}

impl Control {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(config: Config) -> Control {
        Control {
            config,
            relays: Relays::default(),
            rooms: Rooms::new(config.limits),
            clients: HashMap::new(),
            by_secret: HashMap::new(),
            sockets: HashMap::new(),
            graces: BTreeSet::new(),
            doubts: BTreeSet::new(),
            terms: BTreeSet::new(),
            shares: Shares::default(),
            idle: Crowd::default(),
            members: HashMap::new(),
            by_resource: HashMap::new(),
            peers: HashMap::new(),
            lanes: Lanes::default(),
            purposes: HashMap::new(),
            early_slots: Vec::new(),
            last_id: 0,
            stops: None,
            refused: Vec::new(),
            refusals: Refusals::default(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Tells clients of a relay.
    #[must_use]
    pub fn with_relay(self, relay: Arc<dyn Relay>) -> Control {
        Control {
            relays: Relays::new(relay),
            ..self
        }
    }

    /// Begins to number what clients know by its number here. Numbers of one run must not be those of
    /// another, as clients live on while a server is started anew.
    #[must_use]
    pub fn with_first_number(mut self, first: u64) -> Control {
        self.last_id = first;
        self.rooms = Rooms::new(self.config.limits).with_first_number(first);
        self
    }

    /// A client has said something on a socket.
    pub fn handle_socket(&mut self, now: Instant, socket: SocketId, input: SocketInput) {
        self.look_at_terms(now);
        match (input, self.sockets.get(&socket).copied()) {
            (SocketInput::Hello(id, hello, access, from), None) => {
                self.hello(now, socket, id, &hello, (access, from));
            }
            (SocketInput::Hello(id, ..), Some(_)) => self.refuse_on_socket(
                socket,
                id,
                ErrorCode::AlreadyGreeted,
                "This socket has said `hello` already.",
            ),
            (SocketInput::Request(id, _) | SocketInput::Renew(id, _), None) => self
                .refuse_on_socket(
                    socket,
                    id,
                    ErrorCode::HelloFirst,
                    "The first message on a socket must be `hello`.",
                ),
            (SocketInput::Request(id, request), Some(key)) => self.request(key, id, request),
            (SocketInput::Renew(id, access), Some(key)) => self.renew(now, key, id, access),
            (SocketInput::Ack(seq), Some(key)) => {
                if let Some(client) = self.clients.get_mut(&key) {
                    client.session.handle_ack(seq);
                }
            }
            (SocketInput::Malformed(malformed), _) => {
                self.count_refusal(malformed.failure.code);
                let frame = Reply::Error(malformed.failure).frame(malformed.re, None);
                self.outputs.push_back(Output::Frame(socket, frame));
            }
            (SocketInput::Closed { goodbye }, Some(key)) => {
                self.sockets.remove(&socket);
                let has_joined = |client: &Client| client.participant.is_some();
                if goodbye || !self.clients.get(&key).is_some_and(has_joined) {
                    // Who has joined nothing has nothing to come back to.
                    self.end_session(key, "left");
                } else if let Some(client) = self.clients.get_mut(&key) {
                    client.socket = None;
                    client.session.handle_detached(now);
                    let deadline = client.session.next_deadline();
                    self.graces.extend(deadline.map(|deadline| (deadline, key)));
                    self.doubts.insert((now + MISSED_AFTER, key));
                }
            }
            (SocketInput::Ack(_) | SocketInput::Closed { .. }, None) => {}
        }
        self.settle(now);
    }

    /// The media plane has replied.
    pub fn handle_reply(&mut self, now: Instant, id: AskId, reply: media::Reply) {
        let Some((participant, purpose)) = self.purposes.remove(&id) else {
            return;
        };
        if let Some((id, request)) = self.lanes.finish(participant, id) {
            self.outputs.push_back(Output::Ask(id, request));
        }
        self.finish(now, participant, purpose, reply);
        self.release_held(now, participant);
        self.settle(now);
    }

    /// The media plane reports something.
    pub fn handle_media_event(&mut self, now: Instant, event: api::Event) {
        self.media_event(event);
        self.settle(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, key)) = self.graces.first()
            && deadline <= now
        {
            self.graces.pop_first();
            // It may have been resumed meanwhile, and lost its socket again.
            if self
                .clients
                .get(&key)
                .is_some_and(|c| c.session.is_over(now))
            {
                self.end_session(key, "connection_lost");
            }
        }
        while let Some(&(at, key)) = self.doubts.first()
            && at <= now
        {
            self.doubts.pop_first();
            if let Some(client) = self.clients.get_mut(&key) {
                client.is_missed = client.session.is_missed(now);
                let participant = client.participant;
                participant.into_iter().for_each(|id| self.look_for(id));
            }
        }
        self.look_at_terms(now);
        self.settle(now);
    }

    /// No one may join any more; everybody is told that the server stops in `within`, and so is
    /// whoever comes back until then.
    pub fn handle_shutdown(&mut self, now: Instant, within: Duration) {
        self.stops = Some(now + within);
        let sockets: Vec<SocketId> = self.sockets.keys().copied().collect();
        for socket in sockets {
            self.announce_stop(now, socket);
        }
    }

    fn announce_stop(&mut self, now: Instant, socket: SocketId) {
        let Some(stops) = self.stops else {
            return;
        };
        let closing = Event::Closing(Closing {
            code: ErrorCode::ShuttingDown,
            message: "The server is stopping.".into(),
            in_ms: millis(stops.saturating_duration_since(now)),
        });
        let frame = closing.frame(None);
        self.outputs.push_back(Output::Frame(socket, frame));
    }

    /// The server stops now: every socket is to be closed.
    pub fn handle_stop(&mut self) {
        let sockets: Vec<SocketId> = self.sockets.keys().copied().collect();
        self.outputs.extend(sockets.into_iter().map(Output::Close));
    }

    /// Whether nobody is in a room any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let timed = [self.graces.first(), self.doubts.first(), self.terms.first()];
        let timed = timed.into_iter().flatten().map(|&(deadline, _)| deadline);
        timed.chain(self.rooms.next_deadline()).min()
    }

    /// The next thing to be done outside.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What is counted, as of now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.clients.len(),
            rooms: self.rooms.room_count(),
            participants: self.rooms.participant_count(),
            viewers: self.rooms.viewer_count(),
            ..self.counters.clone()
        }
    }

    fn hello(
        &mut self,
        now: Instant,
        socket: SocketId,
        id: RequestId,
        hello: &Hello,
        visitor: (Result<Access, Failure>, IpAddr),
    ) {
        *self.counters.requests.entry("hello").or_default() += 1;
        match self.open_session(now, socket, hello, visitor) {
            Ok((key, resumed)) => {
                self.sockets.insert(socket, key);
                let Some(client) = self.clients.get(&key) else {
                    return;
                };
                let welcome = Reply::Welcome(Welcome {
                    session: client.session.secret().to_owned(),
                    resumed,
                    grace_ms: millis(self.config.grace),
                    ping_interval_ms: millis(PING_INTERVAL),
                    max_message_bytes: MAX_MESSAGE_BYTES,
                    relay: match resumed {
                        true => None,
                        false => self.relays.mint(&client.relay_user),
                    },
                });
                self.outputs
                    .push_back(Output::Frame(socket, welcome.frame(Some(id), None)));
                self.flush_frames(key);
                self.announce_stop(now, socket);
            }
            Err(failure) => {
                self.refuse(socket, id, failure);
                self.outputs.push_back(Output::Close(socket));
            }
        }
    }

    fn open_session(
        &mut self,
        now: Instant,
        socket: SocketId,
        hello: &Hello,
        (access, from): (Result<Access, Failure>, IpAddr),
    ) -> Result<(SessionKey, bool), Failure> {
        if hello.version != VERSION {
            return Err(Failure::new(
                ErrorCode::UnsupportedVersion,
                format!(
                    "This server speaks version {VERSION} of the protocol, not {}.",
                    hello.version
                ),
            ));
        }
        // Also of whom knows a session's name: a token that has ended opens nothing.
        let access = access?;
        if let Some(resume) = &hello.resume
            && let Some(&key) = self.by_secret.get(&resume.session)
        {
            self.take_token(now, key, access.clone())?;
            if self.resume(key, socket, resume.seq, &hello.unanswered) {
                self.counters.resumed += 1;
                return Ok((key, true));
            }
            self.end_session(key, "connection_lost");
        }
        let holder = Holder::new(from, &access);
        self.take_share(now, &holder)?;
        let key = SessionKey(self.next_id());
        self.idle.insert(key.0, from, now);
        let relay_user = self.new_relay_user();
        let secret = new_secret();
        self.by_secret.insert(secret.clone(), key);
        let term = Term::of(now, &access);
        self.terms.extend(term.map(|term| (term.next(), key)));
        self.clients.insert(
            key,
            Client {
                session: Session::new(secret, self.config.grace),
                access,
                term,
                holder,
                since: now,
                socket: Some(socket),
                is_missed: false,
                participant: None,
                relay_user,
                busy: false,
                waiting: VecDeque::new(),
            },
        );
        Ok((key, false))
    }

    /// Counts one more session, if they may have it. Where all are given, one that has been in no room for a
    /// while goes.
    fn take_share(&mut self, now: Instant, holder: &Holder) -> Result<(), Failure> {
        self.shares.check(&self.config, holder)?;
        if let Err(full) = self.shares.check_all(&self.config) {
            let first = self.idle.first_to_go();
            let first = first.filter(|(_, since)| now >= **since + IDLE_AFTER);
            let Some((first, _)) = first else {
                return Err(full);
            };
            let text = "The server has as many sessions as it may, and this one is in no room.";
            self.close_session(SessionKey(first), ErrorCode::ServerFull, text, "left");
        }
        self.shares.add(holder);
        Ok(())
    }

    /// Notes that a session is in a room, or in none.
    fn set_participant(&mut self, key: SessionKey, participant: Option<ParticipantId>) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        client.participant = participant;
        match participant {
            Some(_) => self.idle.remove(key.0),
            None => {
                let (address, since) = (client.holder.address, client.since);
                self.idle.insert(key.0, address, since);
            }
        }
    }

    fn resume(
        &mut self,
        key: SessionKey,
        socket: SocketId,
        seq: u64,
        unanswered: &[RequestId],
    ) -> bool {
        let Some(client) = self.clients.get_mut(&key) else {
            return false;
        };
        if !client.session.can_resume(seq) {
            return false;
        }
        client.session.handle_resumed(seq, unanswered);
        client.is_missed = false;
        let participant = client.participant;
        if let Some(old) = client.socket.replace(socket) {
            self.sockets.remove(&old);
            self.close_socket(
                old,
                ErrorCode::Replaced,
                "The session goes on on another socket.",
            );
        }
        participant.into_iter().for_each(|id| self.look_for(id));
        true
    }

    fn request(&mut self, key: SessionKey, id: RequestId, request: Request) {
        if !self.admit(key, id, request.type_name()) {
            return;
        }
        match self.clients.get_mut(&key) {
            Some(client) if client.busy && !matches!(request, Request::Ping(_)) => {
                client.waiting.push_back((id, request));
            }
            _ => self.carry_out(key, id, request),
        }
    }

    /// Whether a request is new and to be carried out; if not, does what is to be done instead.
    fn admit(&mut self, key: SessionKey, id: RequestId, kind: &'static str) -> bool {
        let Some(client) = self.clients.get_mut(&key) else {
            return false;
        };
        *self.counters.requests.entry(kind).or_default() += 1;
        let (code, message) = match client.session.handle_request(id) {
            Admission::New => return true,
            Admission::Repeated => {
                self.flush_frames(key);
                return false;
            }
            Admission::Stale => (
                ErrorCode::StaleId,
                "The answer to a request this old is no longer kept.",
            ),
            Admission::TooMany => (
                ErrorCode::TooManyRequests,
                "Too many requests wait for their reply; wait for some of them.",
            ),
        };
        if let Some(socket) = client.socket {
            self.refuse_on_socket(socket, id, code, message);
        }
        false
    }

    /// Gives the reply to a request, and carries out those that waited for it.
    fn reply(&mut self, key: SessionKey, id: RequestId, reply: Reply) {
        if let Reply::Error(failure) = &reply {
            self.count_refusal(failure.code);
        }
        if let Some(client) = self.clients.get_mut(&key) {
            client.session.handle_reply(id, &reply);
        }
        self.flush_frames(key);
    }

    fn event(&mut self, participant: ParticipantId, event: &Event) {
        let Some(Member {
            owner: Owner::Session(key),
            ..
        }) = self.members.get(&participant)
        else {
            return;
        };
        self.event_to(*key, event);
    }

    fn event_to(&mut self, key: SessionKey, event: &Event) {
        if let Some(client) = self.clients.get_mut(&key) {
            self.counters.events += 1;
            client.session.handle_event(event);
            if client.session.has_overflowed() {
                let text = "Too many events wait to be acknowledged.";
                return self.close_session(key, ErrorCode::SlowClient, text, "connection_lost");
            }
        }
        self.flush_frames(key);
    }

    /// Hands on what the rooms have to tell, and slots whose track has been told of by now.
    fn settle(&mut self, now: Instant) {
        for refusal in std::mem::take(&mut self.refused) {
            self.refusals.write(now, &refusal);
        }
        self.rooms.handle_timeout(now);
        while let Some((participant, event)) = self.rooms.poll_event() {
            self.event(participant, &event);
        }
        self.report_early_slots();
    }

    fn flush_frames(&mut self, key: SessionKey) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let Some(socket) = client.socket else {
            return;
        };
        while let Some(frame) = client.session.poll_frame() {
            self.outputs.push_back(Output::Frame(socket, frame));
        }
    }

    /// Ends a session, and says why to its client, and for which `reason` it left to the others.
    fn close_session(&mut self, key: SessionKey, code: ErrorCode, message: &str, reason: &str) {
        let socket = self.clients.get(&key).and_then(|client| client.socket);
        if let Some(socket) = socket {
            self.sockets.remove(&socket);
            self.close_socket(socket, code, message);
        }
        self.end_session(key, reason);
    }

    fn end_session(&mut self, key: SessionKey, reason: &str) {
        let Some(client) = self.clients.remove(&key) else {
            return;
        };
        self.idle.remove(key.0);
        self.by_secret.remove(client.session.secret());
        self.shares.remove(&client.holder);
        if let Some(term) = client.term {
            self.terms.remove(&(term.next(), key));
        }
        if let Some(socket) = client.socket
            && self.sockets.remove(&socket).is_some()
        {
            self.outputs.push_back(Output::Close(socket));
        }
        self.relays.revoke(&client.relay_user);
        if let Some(participant) = client.participant {
            self.remove_member(participant, reason);
        }
    }

    /// Has the others know whether anything is heard of a participant.
    fn look_for(&mut self, participant: ParticipantId) {
        let Some(member) = self.members.get(&participant) else {
            return;
        };
        let is_lost = match &member.owner {
            Owner::Session(key) => self.clients.get(key).is_some_and(|c| c.is_missed),
            Owner::Http(_) => false,
        };
        let is_unreachable = is_lost || member.is_silent;
        self.rooms.set_unreachable(participant, is_unreachable);
    }

    /// Takes a participant out of its room, and its peer out of the media plane.
    fn remove_member(&mut self, participant: ParticipantId, reason: &str) {
        let Some(member) = self.members.remove(&participant) else {
            return;
        };
        if let Owner::Http(resource) = &member.owner {
            self.by_resource.remove(resource.secret());
            self.shares.remove(resource.holder());
            self.relays.revoke(resource.relay_user());
        }
        if let Some(peer) = member.peer {
            self.peers.remove(&peer);
            self.ask(participant, media::Request::Close { peer }, Purpose::Close);
        }
        self.early_slots.retain(|(owner, ..)| *owner != participant);
        self.rooms.remove(participant, reason);
        tracing::info!(%participant, reason, "participant left");
    }

    /// Asks the media plane for something, after what the same participant has been the cause of before.
    fn ask(&mut self, participant: ParticipantId, request: media::Request, purpose: Purpose) {
        let id = self.new_ask(participant, purpose);
        if let Some((id, request)) = self.lanes.push(participant, id, request) {
            self.outputs.push_back(Output::Ask(id, request));
        }
    }

    /// The same for a question that changes nothing: it waits for none, and holds up none.
    fn ask_aside(&mut self, participant: ParticipantId, request: media::Request, purpose: Purpose) {
        let id = self.new_ask(participant, purpose);
        self.outputs.push_back(Output::Ask(id, request));
    }

    fn new_ask(&mut self, participant: ParticipantId, purpose: Purpose) -> AskId {
        let id = AskId(self.next_id());
        self.purposes.insert(id, (participant, purpose));
        id
    }

    fn refuse_on_socket(&mut self, socket: SocketId, id: RequestId, code: ErrorCode, text: &str) {
        self.refuse(socket, id, Failure::new(code, text));
    }

    fn refuse(&mut self, socket: SocketId, id: RequestId, failure: Failure) {
        self.count_refusal(failure.code);
        let frame = Reply::Error(failure).frame(Some(id), None);
        self.outputs.push_back(Output::Frame(socket, frame));
    }

    /// Checks that a token is for this room, and notes it for the log if not.
    fn check_room(&mut self, access: &Access, room: &RoomName) -> Result<(), Failure> {
        access.check_room(room).map_err(|refusal| {
            let failure = refusal.failure.clone();
            self.refused.push(refusal);
            failure
        })
    }

    fn close_socket(&mut self, socket: SocketId, code: ErrorCode, message: &str) {
        let closing = Event::Closing(Closing {
            code,
            message: message.to_owned(),
            in_ms: 0,
        });
        self.outputs
            .push_back(Output::Frame(socket, closing.frame(None)));
        self.outputs.push_back(Output::Close(socket));
    }

    fn count_refusal(&mut self, code: ErrorCode) {
        *self.counters.refusals.entry(code.to_string()).or_default() += 1;
    }

    /// A name for the relay that nobody has had.
    fn new_relay_user(&mut self) -> String {
        format!("u_{:x}", self.next_id())
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
