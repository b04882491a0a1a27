//! A call in virtual time, as a test tells it.
//!
//! ```
//! use std::time::Duration;
//! use confab_netem_tests::virtual_time::call::Call;
//! use confab_netem_tests::virtual_time::client::publish;
//!
//! let mut call = Call::new(7).workers(2);
//! let alice = call.join("alice", publish().audio().video());
//! let bob = call.join("bob", publish().audio().video());
//! call.run(Duration::from_secs(5));
//! assert!(call.sees(bob, alice).fps() > 28.0);
//! ```
//!
//! In: who does what, and how long to let time pass. Out: what each person saw and heard while it
//! passed. Anything a client is sent that it did not negotiate ends the test with a panic that
//! names the client, the moment and the fault.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use confab_sfu::api::{Event, GoneReason, Publish, SlotInfo, TrackInfo};
use confab_sfu::media::Kind;
use confab_sfu::types::{Mid, PeerId, RoomId, TrackId};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use crate::link::{Carried, Impairment, Link, Reading};
use crate::virtual_time::client::{Client, Setup};
use crate::virtual_time::plane::{Datagram, Plane};

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
pub struct Person(pub(super) usize);

pub(super) struct Participant {
    pub(super) client: Client,
    pub(super) room: RoomId,
    /// Whose links it uses: its own, or those of a housemate.
    network: usize,
    up: Link<Datagram>,
    down: Link<Datagram>,
    pub(super) tracks: Vec<TrackInfo>,
    pub(super) slots: Vec<SlotInfo>,
    pub(super) is_there: bool,
    gone: Option<(Instant, GoneReason)>,
    last_sent_to: Option<Instant>,
    fault: Option<(Instant, String)>,
    /// In whose place the connection comes.
    pub(super) former: Option<PeerId>,
}

impl Participant {
    /// Sends of a track what somebody receives, as the web SDK does.
    pub(super) fn send_wanted(&mut self, track: TrackId, wanted: &[bool]) {
        let mid = self.tracks.iter().find(|t| t.track == track).map(|t| t.mid);
        let sources = self.client.sources.iter_mut();
        for source in sources.filter(|source| Some(source.mid) == mid) {
            let encodings = source.encodings.iter_mut().zip(wanted);
            encodings.for_each(|(encoding, wanted)| encoding.set_wanted(*wanted));
        }
    }
}

fn change_link(link: &mut Link<Datagram>, now: Instant, change: impl FnOnce(&mut Impairment)) {
    let mut impairment = link.impairment().clone();
    change(&mut impairment);
    link.set(now, impairment);
}

/// A call.
pub struct Call {
    epoch: Instant,
    pub(super) now: Instant,
    /// Since when [`Call::sees`] and [`Call::hears`] tell.
    pub(super) window: Instant,
    pub(super) plane: Plane,
    pub(super) people: Vec<Participant>,
    /// By the address the server knows. Former addresses lead nowhere.
    addresses: HashMap<SocketAddr, usize>,
    rng: StdRng,
    /// The last datagrams that each client sent, for those who want to send them again.
    overheard: HashMap<usize, Vec<Vec<u8>>>,
    strays: u64,
    stray_bytes: usize,
    /// A client that is sent what it did not negotiate leaves, and the call goes on.
    goes_on: bool,
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
            stray_bytes: 0,
            goes_on: false,
        }
    }

    /// The same on so many workers; before anybody joins.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.plane = Plane::new(self.now, workers, self.rng.next_u64());
        self
    }

    /// The same, and whoever is sent what they did not negotiate leaves without ending the test;
    /// [`Call::fault`] tells why.
    #[must_use]
    pub fn going_on(mut self) -> Self {
        self.goes_on = true;
        self
    }

    /// When and why somebody could not go on.
    #[must_use]
    pub fn fault(&self, person: Person) -> Option<(Duration, &str)> {
        let (at, fault) = self.people[person.0].fault.as_ref()?;
        Some((*at - self.epoch, fault))
    }

    /// Whose links somebody uses: their own, or those of the one they live with.
    #[must_use]
    pub fn network(&self, person: Person) -> Person {
        Person(self.people[person.0].network)
    }

    /// The links of a person to the server and from it.
    #[must_use]
    pub fn links(&self, person: Person) -> (&Link<Datagram>, &Link<Datagram>) {
        let network = &self.people[self.network(person).0];
        (&network.up, &network.down)
    }

    /// How those links stand. The longest wait is that since this was asked last, by whoever uses
    /// them.
    pub fn readings(&mut self, person: Person) -> (Reading, Reading) {
        let (now, network) = (self.now, self.network(person));
        let network = &mut self.people[network.0];
        (network.up.take_reading(now), network.down.take_reading(now))
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
        let person = self.enter(room, name, setup, None);
        let offered = self.offer(person, publish);
        assert!(offered.is_ok(), "{name}: {offered:?}");
        person
    }

    /// Somebody makes a new connection from where they are, over the same links, and publishes all that
    /// they have.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn reconnect(&mut self, person: Person, setup: Setup) -> Person {
        self.leave(person);
        let Participant { client, room, .. } = &self.people[person.0];
        let (room, name, mut address) = (*room, client.name.clone(), client.address);
        let new = self.enter(room, &name, setup, Some(self.peer(person)));
        self.move_in(new, person);
        address.set_port(address.port() + 1);
        self.set_address(new, address);
        let offered = self.offer(new, Publish::All);
        assert!(offered.is_ok(), "{name}: {offered:?}");
        new
    }

    fn enter(&mut self, room: RoomId, name: &str, setup: Setup, former: Option<PeerId>) -> Person {
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
            network: person.0,
            up: Link::new(self.rng.next_u64(), delayed.clone()),
            down: Link::new(self.rng.next_u64(), delayed),
            tracks: Vec::new(),
            slots: Vec::new(),
            is_there: true,
            gone: None,
            last_sent_to: None,
            fault: None,
            former,
        });
        person
    }

    /// Somebody uses another's links from now on, as two in one household do.
    pub fn move_in(&mut self, person: Person, with: Person) {
        self.people[person.0].network = self.network(with).0;
    }

    /// Somebody's device is gone from one moment to the next.
    pub fn vanish(&mut self, person: Person) {
        self.people[person.0].is_there = false;
    }

    /// Somebody's network address changes, as when a NAT forgets its binding. The client itself
    /// does not notice.
    pub fn rebind(&mut self, person: Person) -> SocketAddr {
        let mut address = self.people[person.0].client.address;
        address.set_port(address.port() + 1);
        self.set_address(person, address)
    }

    /// Somebody comes into another network, which gives the device another address. The client itself
    /// does not notice.
    pub fn move_away(&mut self, person: Person) -> SocketAddr {
        let address = self.people[person.0].client.address;
        let SocketAddr::V4(v4) = address else {
            return address;
        };
        let [a, b, c, d] = v4.ip().octets();
        self.set_address(person, ([a, b + 1, c, d], address.port()).into())
    }

    fn set_address(&mut self, person: Person, address: SocketAddr) -> SocketAddr {
        let client = &mut self.people[person.0].client;
        self.addresses.remove(&client.address);
        client.address = address;
        self.addresses.insert(address, person.0);
        address
    }

    /// Sends bytes to a worker from anywhere, at once.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let datagram = Datagram::new(from, to, bytes);
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

    /// How many bytes those were, with their IP and UDP headers.
    #[must_use]
    pub fn stray_bytes(&self) -> usize {
        self.stray_bytes
    }

    /// Changes the link of a person, and of all who use it, towards the server.
    pub fn up(&mut self, person: Person, change: impl FnOnce(&mut Impairment)) {
        let (now, network) = (self.now, self.network(person));
        change_link(&mut self.people[network.0].up, now, change);
    }

    /// Changes the link of a person, and of all who use it, from the server.
    pub fn down(&mut self, person: Person, change: impl FnOnce(&mut Impairment)) {
        let (now, network) = (self.now, self.network(person));
        change_link(&mut self.people[network.0].down, now, change);
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

    /// Lets time pass. What people see and hear meanwhile is what [`Call::sees`] and
    /// [`Call::hears`] tell afterwards.
    ///
    /// # Panics
    /// When a client is sent what it did not negotiate.
    pub fn run(&mut self, span: Duration) {
        self.mark();
        self.continue_for(span);
    }

    /// Has what people see and hear be told from now on.
    pub fn mark(&mut self) {
        self.window = self.now;
    }

    /// Lets time pass, and goes on telling from where the last [`Call::run`] or [`Call::mark`] was.
    ///
    /// # Panics
    /// When a client is sent what it did not negotiate.
    pub fn continue_for(&mut self, span: Duration) {
        let end = self.now + span;
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
        if datagram.is_corrupt {
            return;
        }
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

    fn check(&mut self, index: usize, result: Result<(), String>) {
        let Err(fault) = result else {
            return;
        };
        let participant = &mut self.people[index];
        if !self.goes_on {
            let name = &participant.client.name;
            panic!("{name} at {:?}: {fault}", self.now - self.epoch);
        }
        participant.is_there = false;
        participant.fault = Some((self.now, fault));
    }

    /// Takes events, and puts what was sent on its way.
    pub(super) fn settle(&mut self) {
        while let Some(event) = self.plane.poll_event() {
            self.handle_event(event);
        }
        while let Some(datagram) = self.plane.poll_datagram() {
            let Some(&index) = self.addresses.get(&datagram.to) else {
                self.strays += 1;
                self.stray_bytes += datagram.wire_size();
                continue;
            };
            let participant = &mut self.people[index];
            participant.last_sent_to = Some(self.now);
            let network = participant.network;
            self.people[network].down.send(self.now, datagram);
        }
        for index in 0..self.people.len() {
            while let Some(bytes) = self.people[index].client.poll_datagram() {
                let participant = &self.people[index];
                let client = &participant.client;
                let (Some(to), true) = (client.server(), participant.is_there) else {
                    continue;
                };
                if let Some(overheard) = self.overheard.get_mut(&index) {
                    overheard.push(bytes.clone());
                }
                let datagram = Datagram::new(client.address, to, bytes);
                let network = participant.network;
                self.people[network].up.send(self.now, datagram);
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.now;
        let (Event::PeerConnected { peer }
        | Event::PeerGone { peer, .. }
        | Event::TrackUnpublished { peer, .. }
        | Event::LayersWanted { peer, .. }
        | Event::SlotPaused { peer, .. }
        | Event::SlotChanged { peer, .. }) = event
        else {
            return;
        };
        let mut people = self.people.iter_mut();
        let Some(participant) = people.find(|p| p.client.peer == peer) else {
            return;
        };
        match event {
            // It is at its client at once: signaling takes no time here.
            Event::LayersWanted {
                track, encodings, ..
            } => participant.send_wanted(track, &encodings),
            Event::PeerConnected { .. }
            | Event::PeerSilent { .. }
            | Event::PeerHeard { .. }
            | Event::PeerHopeless { .. }
            | Event::SlotPaused { .. }
            | Event::Speakers { .. } => {}
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
