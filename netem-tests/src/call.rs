//! A call in virtual time, as a test tells it.
//!
//! ```
//! use std::time::Duration;
//! use confab_netem_tests::call::Call;
//! use confab_netem_tests::client::publish;
//!
//! let mut call = Call::new(7).workers(2);
//! let alice = call.join("alice", publish().audio().video());
//! let bob = call.join("bob", publish().audio().video());
//! call.run(Duration::from_secs(5));
//! assert!(call.sees(bob, alice).fps() > 29.0);
//! ```
//!
//! In: who does what, and how long to let time pass. Out: what each person saw and heard while it
//! passed. Anything a client is sent that it did not negotiate ends the test with a panic that
//! names the client, the moment and the fault.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use confab_sfu::api::{
    CommandError, Event, GoneReason, Offer, OfferError, PeerStats, Publish, SlotChoice, SlotInfo,
    Stats, TrackInfo,
};
use confab_sfu::control::{Reply, Request};
use confab_sfu::media::Kind;
use confab_sfu::types::{Mid, PeerId, RoomId, TrackId};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use crate::client::receive::Played;
use crate::client::{Client, Setup};
use crate::link::{Impairment, Link};
use crate::plane::{Datagram, Plane};

/// One way between a client and the server, unless a test says otherwise.
pub const DELAY: Duration = Duration::from_millis(20);

/// So many seconds.
#[must_use]
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many milliseconds.
#[must_use]
pub const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A person in the call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Person(usize);

struct Participant {
    client: Client,
    room: RoomId,
    up: Link<Datagram>,
    down: Link<Datagram>,
    tracks: Vec<TrackInfo>,
    slots: Vec<SlotInfo>,
    is_there: bool,
    gone: Option<(Instant, GoneReason)>,
    last_sent_to: Option<Instant>,
}

fn change_link(link: &mut Link<Datagram>, now: Instant, change: impl FnOnce(&mut Impairment)) {
    let mut impairment = link.impairment().clone();
    change(&mut impairment);
    link.set(now, impairment);
}

/// A call.
pub struct Call {
    epoch: Instant,
    now: Instant,
    window: Instant,
    plane: Plane,
    people: Vec<Participant>,
    /// By the address the server knows. Former addresses lead nowhere.
    addresses: HashMap<SocketAddr, usize>,
    rng: StdRng,
    /// The last datagrams that each client sent, for those who want to send them again.
    overheard: HashMap<usize, Vec<Vec<u8>>>,
    strays: u64,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl Index<Person> for Call {
    type Output = Client;

    fn index(&self, person: Person) -> &Client {
        &self.people[person.0].client
    }
}

impl IndexMut<Person> for Call {
    fn index_mut(&mut self, person: Person) -> &mut Client {
        &mut self.people[person.0].client
    }
}

impl Call {
    /// A call on one worker, with nobody in it. The seed decides everything that is random.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        Call {
            epoch: now,
            now,
            window: now,
            plane: Plane::new(now, 1, rng.next_u64()),
            people: Vec::new(),
            addresses: HashMap::new(),
            rng,
            overheard: HashMap::new(),
            strays: 0,
        }
    }

    /// The same on so many workers; before anybody joins.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.plane = Plane::new(self.now, workers, self.rng.next_u64());
        self
    }

    /// Somebody joins room 1 and publishes what they have.
    pub fn join(&mut self, name: &str, setup: Setup) -> Person {
        self.join_room(RoomId(1), name, setup, Publish::All)
    }

    /// Somebody joins a room and publishes some of what they have.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn join_room(
        &mut self,
        room: RoomId,
        name: &str,
        setup: Setup,
        publish: Publish,
    ) -> Person {
        let person = Person(self.people.len());
        let peer = PeerId(person.0 as u64 + 1);
        let client = Client::new(self.epoch, name, peer, setup, self.rng.next_u64());
        self.addresses.insert(client.address, person.0);
        let delayed = Impairment {
            delay: DELAY,
            ..Impairment::default()
        };
        self.people.push(Participant {
            client,
            room,
            up: Link::new(self.rng.next_u64(), delayed.clone()),
            down: Link::new(self.rng.next_u64(), delayed),
            tracks: Vec::new(),
            slots: Vec::new(),
            is_there: true,
            gone: None,
            last_sent_to: None,
        });
        let offered = self.offer(person, publish);
        assert!(offered.is_ok(), "{name}: {offered:?}");
        person
    }

    /// Somebody offers what they want now.
    ///
    /// # Errors
    /// When the server refuses.
    ///
    /// # Panics
    /// When the answer does not fit the offer.
    pub fn offer(&mut self, person: Person, publish: Publish) -> Result<(), OfferError> {
        let participant = &mut self.people[person.0];
        let offer = Offer {
            sdp: participant.client.offer(),
            publish,
            may_publish: true,
            may_subscribe: true,
        };
        let (room, peer) = (participant.room, participant.client.peer);
        let answer = match self.request(Request::Offer(room, peer, offer)) {
            Reply::Offer(result) => result?,
            other => panic!("{other:?} to an offer"),
        };
        let participant = &mut self.people[person.0];
        participant.tracks = answer.tracks;
        participant.slots = answer.slots;
        let taken = participant.client.handle_answer(self.now, &answer.sdp);
        let name = &participant.client.name;
        assert!(taken.is_ok(), "{name}: {taken:?}\n{}", answer.sdp);
        Ok(())
    }

    /// Somebody publishes an m-line that is negotiated.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn publish(&mut self, person: Person, mid: Mid) -> Result<TrackId, CommandError> {
        match self.request(Request::Publish(self.peer(person), mid)) {
            Reply::Publish(result) => {
                let info = result?;
                self.people[person.0].tracks.push(info);
                Ok(info.track)
            }
            other => panic!("{other:?} to publish"),
        }
    }

    /// Somebody takes a track back.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn unpublish(&mut self, person: Person, track: TrackId) -> Result<(), CommandError> {
        self.people[person.0].tracks.retain(|t| t.track != track);
        self.done(Request::Unpublish(self.peer(person), track))
    }

    /// Somebody mutes a track or unmutes it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn mute(
        &mut self,
        person: Person,
        track: TrackId,
        muted: bool,
    ) -> Result<(), CommandError> {
        self.done(Request::Mute(self.peer(person), track, muted))
    }

    /// Somebody chooses what a slot shows.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn subscribe(
        &mut self,
        person: Person,
        mid: Mid,
        choice: SlotChoice,
    ) -> Result<Option<TrackId>, CommandError> {
        match self.request(Request::Subscribe(self.peer(person), mid, choice)) {
            Reply::Subscribe(result) => {
                let shows = result?;
                let slots = &mut self.people[person.0].slots;
                for slot in slots.iter_mut().filter(|slot| slot.mid == mid) {
                    slot.track = shows;
                }
                Ok(shows)
            }
            other => panic!("{other:?} to subscribe"),
        }
    }

    /// Somebody leaves and says so.
    pub fn leave(&mut self, person: Person) {
        let done = self.done(Request::Close(self.peer(person)));
        assert_eq!(done, Ok(()));
        self.people[person.0].is_there = false;
    }

    /// Somebody's device is gone from one moment to the next.
    pub fn vanish(&mut self, person: Person) {
        self.people[person.0].is_there = false;
    }

    /// Somebody's network address changes, as when a NAT forgets its binding. The client itself
    /// does not notice.
    pub fn rebind(&mut self, person: Person) -> SocketAddr {
        let client = &mut self.people[person.0].client;
        self.addresses.remove(&client.address);
        let port = client.address.port() + 1;
        client.address.set_port(port);
        self.addresses.insert(client.address, person.0);
        client.address
    }

    /// Sends bytes to a worker from anywhere, at once.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let datagram = Datagram { from, to, bytes };
        self.plane.handle_datagram(self.now, datagram);
        self.settle();
    }

    /// Has what a client sends remembered, from now on.
    pub fn overhear(&mut self, person: Person) {
        self.overheard.insert(person.0, Vec::new());
    }

    /// What was overheard of a client.
    #[must_use]
    pub fn overheard(&self, person: Person) -> &[Vec<u8>] {
        self.overheard.get(&person.0).map_or(&[], Vec::as_slice)
    }

    /// How many datagrams the server has sent to where nobody is.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Changes the link of a person towards the server.
    pub fn up(&mut self, person: Person, change: impl FnOnce(&mut Impairment)) {
        let now = self.now;
        change_link(&mut self.people[person.0].up, now, change);
    }

    /// Changes the link of a person from the server.
    pub fn down(&mut self, person: Person, change: impl FnOnce(&mut Impairment)) {
        let now = self.now;
        change_link(&mut self.people[person.0].down, now, change);
    }

    /// The server's name for a person.
    #[must_use]
    pub fn peer(&self, person: Person) -> PeerId {
        self[person].peer
    }

    /// A person's first track of a kind.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn track(&self, person: Person, kind: Kind) -> TrackId {
        let mut tracks = self.people[person.0].tracks.iter();
        tracks.find(|t| t.kind == kind).expect("a track").track
    }

    /// Every track of a person, in the order of m-lines.
    #[must_use]
    pub fn tracks(&self, person: Person) -> &[TrackInfo] {
        &self.people[person.0].tracks
    }

    /// A person's slots as the server told them to be.
    #[must_use]
    pub fn slots(&self, person: Person) -> &[SlotInfo] {
        &self.people[person.0].slots
    }

    /// The names of a person's slots of a kind.
    #[must_use]
    pub fn slot_names(&self, person: Person, kind: Kind) -> Vec<Mid> {
        let slots = self.people[person.0].slots.iter();
        slots.filter(|s| s.kind == kind).map(|s| s.mid).collect()
    }

    /// When the server told that a person is gone, and why.
    #[must_use]
    pub fn gone(&self, person: Person) -> Option<(Duration, GoneReason)> {
        let (at, reason) = self.people[person.0].gone?;
        Some((at - self.epoch, reason))
    }

    /// When the server last sent anything to where a person is or was.
    #[must_use]
    pub fn last_sent_to(&self, person: Person) -> Option<Duration> {
        Some(self.people[person.0].last_sent_to? - self.epoch)
    }

    /// Time since the call began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.epoch
    }

    /// The time, for clients that are driven by hand.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The server's counters.
    pub fn stats(&mut self) -> Stats {
        match self.request(Request::Stats) {
            Reply::Stats(stats) => stats,
            other => panic!("{other:?} to stats"),
        }
    }

    /// How often the server dropped something for a reason.
    pub fn dropped(&mut self, reason: &str) -> u64 {
        let total = self.stats().total();
        total.dropped.get(reason).copied().unwrap_or_default()
    }

    /// The server's counters of one person's connection.
    pub fn peer_stats(&mut self, person: Person) -> Option<PeerStats> {
        match self.request(Request::PeerStats(self.peer(person))) {
            Reply::PeerStats(stats) => stats.map(|stats| *stats),
            other => panic!("{other:?} to stats of a peer"),
        }
    }

    fn done(&mut self, request: Request) -> Result<(), CommandError> {
        match self.request(request) {
            Reply::Done(result) => result,
            other => panic!("{other:?} to a command"),
        }
    }

    /// Asks the server for something that the verbs above do not have.
    pub fn request(&mut self, request: Request) -> Reply {
        let reply = self.plane.request(self.now, request);
        self.settle();
        reply
    }

    /// Lets time pass. What people see and hear meanwhile is what [`Call::sees`] and
    /// [`Call::hears`] tell afterwards.
    ///
    /// # Panics
    /// When a client is sent what it did not negotiate.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.window = self.now;
        while let Some(next) = self.next_deadline().filter(|&at| at <= end) {
            self.now = next.max(self.now);
            self.step();
        }
        self.now = end;
    }

    fn next_deadline(&self) -> Option<Instant> {
        let clients = self.people.iter().filter(|p| p.is_there);
        let links = self.people.iter().flat_map(|p| [&p.up, &p.down]);
        clients
            .filter_map(|p| p.client.next_deadline())
            .chain(links.filter_map(Link::next_deadline))
            .chain(self.plane.next_deadline())
            .min()
    }

    fn step(&mut self) {
        let now = self.now;
        for index in 0..self.people.len() {
            while let Some(datagram) = self.people[index].up.poll(now) {
                self.deliver(datagram);
            }
            while let Some(datagram) = self.people[index].down.poll(now) {
                self.deliver(datagram);
            }
        }
        self.plane.handle_timeout(now);
        for index in 0..self.people.len() {
            let participant = &mut self.people[index];
            let due = participant.client.next_deadline();
            if participant.is_there && due.is_some_and(|at| at <= now) {
                let result = participant.client.handle_timeout(now);
                self.check(index, result);
            }
        }
        self.settle();
    }

    fn deliver(&mut self, datagram: Datagram) {
        let now = self.now;
        match self.addresses.get(&datagram.to) {
            Some(&index) if self.people[index].is_there => {
                let client = &mut self.people[index].client;
                let result = client.handle_datagram(now, datagram.bytes);
                self.check(index, result);
            }
            Some(_) => {}
            None => self.plane.handle_datagram(now, datagram),
        }
        self.settle();
    }

    fn check(&self, index: usize, result: Result<(), String>) {
        if let Err(fault) = result {
            let name = &self.people[index].client.name;
            panic!("{name} at {:?}: {fault}", self.elapsed());
        }
    }

    /// Takes events, and puts what was sent on its way.
    fn settle(&mut self) {
        while let Some(event) = self.plane.poll_event() {
            self.handle_event(event);
        }
        while let Some(datagram) = self.plane.poll_datagram() {
            let Some(&index) = self.addresses.get(&datagram.to) else {
                self.strays += 1;
                continue;
            };
            let participant = &mut self.people[index];
            participant.last_sent_to = Some(self.now);
            participant.down.send(self.now, datagram);
        }
        for index in 0..self.people.len() {
            while let Some(bytes) = self.people[index].client.poll_datagram() {
                let participant = &mut self.people[index];
                let client = &participant.client;
                let (Some(to), true) = (client.server(), participant.is_there) else {
                    continue;
                };
                if let Some(overheard) = self.overheard.get_mut(&index) {
                    overheard.push(bytes.clone());
                }
                let from = client.address;
                participant.up.send(self.now, Datagram { from, to, bytes });
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.now;
        let (Event::PeerConnected { peer }
        | Event::PeerGone { peer, .. }
        | Event::TrackUnpublished { peer, .. }
        | Event::SlotChanged { peer, .. }) = event;
        let mut people = self.people.iter_mut();
        let Some(participant) = people.find(|p| p.client.peer == peer) else {
            return;
        };
        match event {
            Event::PeerConnected { .. } => {}
            Event::PeerGone { reason, .. } => participant.gone = Some((now, reason)),
            Event::TrackUnpublished { track, .. } => {
                participant.tracks.retain(|t| t.track != track);
            }
            Event::SlotChanged { mid, track, .. } => {
                let slots = participant.slots.iter_mut();
                slots.filter(|s| s.mid == mid).for_each(|s| s.track = track);
            }
        }
    }

    /// What a person saw of another's first camera during the last run.
    #[must_use]
    pub fn sees(&self, viewer: Person, publisher: Person) -> Seen {
        self.seen(viewer, self.source(publisher, Kind::Video))
    }

    /// What a person heard of another's first microphone during the last run.
    #[must_use]
    pub fn hears(&self, listener: Person, publisher: Person) -> Heard {
        let source = self.source(publisher, Kind::Audio);
        let (played, before) = self.played(listener, source);
        Heard {
            played,
            before,
            window: (self.window, self.now),
        }
    }

    /// What a person saw of a source during the last run.
    #[must_use]
    pub fn seen(&self, viewer: Person, source: u32) -> Seen {
        let (played, before) = self.played(viewer, source);
        Seen {
            played,
            before,
            window: (self.window, self.now),
        }
    }

    /// How far sound and picture of one person were apart for another, at worst, during the last
    /// run, going by the sender reports. `None` before those have come.
    #[must_use]
    pub fn lip_skew(&self, viewer: Person, publisher: Person) -> Option<Duration> {
        let errors = |kind| -> Option<(i64, i64)> {
            let (played, _) = self.played(viewer, self.source(publisher, kind));
            let errors: Option<Vec<i64>> = played.iter().map(|p| p.clock_error).collect();
            let errors = errors?;
            Some((*errors.iter().min()?, *errors.iter().max()?))
        };
        let (audio, video) = (errors(Kind::Audio)?, errors(Kind::Video)?);
        let worst = (audio.1 - video.0).max(video.1 - audio.0);
        Some(Duration::from_micros(worst.unsigned_abs()))
    }

    fn source(&self, person: Person, kind: Kind) -> u32 {
        let mut sources = self[person].sources.iter();
        sources.find(|s| s.kind == kind).expect("a source").id
    }

    /// What of a source a person was played during the last run, and the last of it before.
    fn played(&self, viewer: Person, source: u32) -> (Vec<Played>, Option<Played>) {
        let slots = self[viewer].slots.iter();
        let mut all: Vec<Played> = slots
            .flat_map(|slot| slot.played.iter().copied())
            .filter(|played| played.stamp.source == source)
            .collect();
        all.sort_by_key(|played| played.at);
        let start = all.partition_point(|played| played.at < self.window);
        let window = all.split_off(start);
        (window, all.pop())
    }

    /// Everything that was played to everybody: what came, when, in which slot. Two runs are the
    /// same when these are.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let mut log = Vec::new();
        for participant in &self.people {
            for slot in &participant.client.slots {
                log.extend(slot.played.iter().map(|played| {
                    let at = played.at - self.epoch;
                    let (name, mid) = (&participant.client.name, slot.mid);
                    format!(
                        "{at:?} {name} {mid} {:?} {:?}",
                        played.stamp, played.clock_error
                    )
                }));
            }
        }
        log
    }
}

/// What somebody saw of a camera.
#[derive(Debug)]
pub struct Seen {
    played: Vec<Played>,
    before: Option<Played>,
    window: (Instant, Instant),
}

impl Seen {
    /// Frames shown a second.
    #[must_use]
    pub fn fps(&self) -> f64 {
        self.played.len() as f64 / (self.window.1 - self.window.0).as_secs_f64()
    }

    /// Frames shown.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.played.len()
    }

    /// Key frames shown.
    #[must_use]
    pub fn key_frames(&self) -> usize {
        self.played.iter().filter(|played| played.is_key).count()
    }

    /// From the beginning of the run to the first frame.
    #[must_use]
    pub fn first_frame(&self) -> Option<Duration> {
        Some(self.played.first()?.at - self.window.0)
    }

    /// The simulcast encodings that were shown, in order.
    #[must_use]
    pub fn encodings(&self) -> Vec<u8> {
        let mut encodings: Vec<u8> = self.played.iter().map(|p| p.stamp.encoding).collect();
        encodings.dedup();
        encodings
    }

    /// Each freeze as `getStats` counts them: a frame that lasts 150 ms longer than the average, and
    /// three times as long. A picture that stands still at the end of the run is a freeze too.
    #[must_use]
    pub fn freezes(&self) -> Vec<Duration> {
        let mut times: Vec<Instant> = self.before.iter().map(|p| p.at).collect();
        times.extend(self.played.iter().map(|p| p.at));
        times.push(self.window.1);
        let lasts: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        lasts
            .iter()
            .enumerate()
            .filter(|&(at, &last)| {
                let recent = &lasts[at.saturating_sub(30)..at];
                let average = recent.iter().sum::<Duration>() / recent.len().max(1) as u32;
                last > (average * 3).max(average + millis(150))
            })
            .map(|(_, &last)| last)
            .collect()
    }
}

/// What somebody heard of a microphone.
#[derive(Debug)]
pub struct Heard {
    played: Vec<Played>,
    before: Option<Played>,
    window: (Instant, Instant),
}

impl Heard {
    /// Packets of sound that arrived.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.played.len()
    }

    /// The share of sound that did not arrive and had to be concealed, 0 to 1, from the first
    /// packet to the last.
    #[must_use]
    pub fn concealed(&self) -> f64 {
        let numbers = self.played.iter().map(|p| p.stamp.number);
        let Some((first, last)) = numbers.clone().min().zip(numbers.max()) else {
            return 1.0;
        };
        let expected = f64::from(last - first + 1);
        (expected - self.played.len() as f64) / expected
    }

    /// The longest silence between two packets, ends of the run included.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let mut times: Vec<Instant> = self.before.iter().map(|p| p.at).collect();
        times.extend(self.played.iter().map(|p| p.at));
        times.push(self.window.1);
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or(self.window.1 - self.window.0)
    }

    /// From the beginning of the run to the first packet.
    #[must_use]
    pub fn first_packet(&self) -> Option<Duration> {
        Some(self.played.first()?.at - self.window.0)
    }
}
