//! Rooms: who is in them, what they publish, and who is told.
//!
//! Sans-I/O. In: members coming and going, tracks coming, going and being muted, and time. Out:
//! [`Rooms::poll_event`], each event with the member that is to hear it.
//!
//! A member is *admitted* first, which reserves its place, and *announced* once its media is
//! negotiated: only then do the others hear of it, so a join that fails is never seen. One that comes
//! over HTTP *checks in* before that, once its media connection is up.
//!
//! The others hear of it as a participant if it has a name or publishes; if not it is a viewer, and
//! counted. Who publishes by WHIP and watches by WHEP is one participant: both members have one seat.

mod seats;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use confab_sfu::media::Kind;
use confab_sfu::types::{PersonId, RoomId, TrackId};
use confab_sockets::subscriber::{Counts, is_neighbour, share_of_proxy, site, subscriber};

use crate::holder::Holder;
use crate::names::{ParticipantId, RoomName, check_name};
use crate::protocol::{
    ErrorCode, Event, Failure, Source, Speakers, Text, Track, TrackMuted, TrackUnpublished,
    Unreachable,
};
use seats::Shown;

/// Of all rooms one line, or one site of many, may open one in so many: there are others.
const ROOMS_OF_OPENER: usize = 4;

/// The bounds of the rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most rooms at once.
    pub rooms: usize,
    /// Most participants in a room, viewers among them. Who comes over HTTP counts once it has checked
    /// in; as many more may be about to.
    pub participants: usize,
    /// Most of them of one identity of one subscriber line, as access tokens say it.
    pub identity_participants: usize,
    /// Most tracks of a participant.
    pub tracks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rooms: 1_000,
            participants: 100,
            identity_participants: 50,
            tracks: 8,
        }
    }
}

/// A track as its publisher describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// What is captured.
    pub source: Source,
    /// Its name, if it has one.
    pub name: Option<String>,
}

/// Most of a room that are announced in so much time while their media connection is not up: some who start
/// at once.
const MAX_EARLY: usize = 4;
const EARLY_PERIOD: Duration = Duration::from_secs(30);

/// Why one who is still there is no participant any more: it is a viewer.
const WATCHING: &str = "watching";

/// How a member is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// By a WebSocket.
    Socket,
    /// By WHIP: it publishes.
    Whip,
    /// By WHEP: it receives.
    Whep,
}

impl Via {
    /// What one who publishes without a name is called.
    fn default_name(self) -> &'static str {
        match self {
            Via::Whip => "Stream",
            Via::Socket | Via::Whep => "Guest",
        }
    }
}

/// Who wants to come in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entrant {
    /// How it is connected.
    pub via: Via,
    /// The name it has, if it has one.
    pub name: Option<String>,
    /// Who it is, if that is known.
    pub identity: Option<String>,
    /// What the application says of it.
    pub metadata: Option<String>,
    /// As what limits count it.
    pub holder: Holder,
}

/// What becomes of a member whose media is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckIn {
    /// It counts from now on, and is to be announced.
    First,
    /// It has counted before.
    Again,
    /// The room has no place for it any more.
    Full,
}

/// A place in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Whose it is.
    pub id: ParticipantId,
    /// The room.
    pub room: RoomId,
    /// Whose tracks it is not shown, beside its own.
    pub person: Option<PersonId>,
}

#[derive(Debug)]
struct Room {
    name: RoomName,
    /// The line or the site of who has opened it.
    opener: IpAddr,
    members: Vec<ParticipantId>,
    /// The participants that the others know of, by seat.
    shown: BTreeMap<ParticipantId, Shown>,
    /// The seat of who has the floor.
    dominant: Option<ParticipantId>,
    /// How many viewers everybody has been told of; none if not everybody knows the same.
    viewers_announced: Option<usize>,
    /// When it may be told again.
    viewers_at: Option<Instant>,
    /// When members were announced early, at most [`MAX_EARLY`].
    early: Vec<Instant>,
}

#[derive(Debug)]
struct Member {
    room: RoomId,
    is: Entrant,
    /// The id under which the others know it: its own, or that of another member of the same person.
    seat: ParticipantId,
    person: Option<PersonId>,
    announced: bool,
    /// Whether it counts among those the room may have. One that comes over HTTP costs its client a
    /// single request, so that its media must be there first.
    checked_in: bool,
    /// Whether nothing is heard of it.
    unreachable: bool,
    tracks: Vec<Track>,
}

impl Member {
    /// Whether it is a participant, and no viewer.
    fn takes_part(&self) -> bool {
        self.is.name.is_some() || self.is.via == Via::Whip || !self.tracks.is_empty()
    }
}

/// Every room of this server.
#[derive(Debug)]
pub struct Rooms {
    limits: Limits,
    by_name: HashMap<RoomName, RoomId>,
    rooms: BTreeMap<RoomId, Room>,
    /// How many rooms each has opened that are there.
    openers: Counts<IpAddr>,
    members: HashMap<ParticipantId, Member>,
    tracks: HashMap<TrackId, ParticipantId>,
    /// Rooms whose viewers are to be counted.
    uncounted: BTreeSet<RoomId>,
    /// When the count may be told. A room that is gone may still be here.
    due: BTreeSet<(Instant, RoomId)>,
    last_id: u64,
    events: VecDeque<(ParticipantId, Event)>,
}

impl Rooms {
    /// No rooms yet.
    #[must_use]
    pub fn new(limits: Limits) -> Rooms {
        Rooms {
            limits,
            by_name: HashMap::new(),
            rooms: BTreeMap::new(),
            openers: Counts::default(),
            members: HashMap::new(),
            tracks: HashMap::new(),
            uncounted: BTreeSet::new(),
            due: BTreeSet::new(),
            last_id: 0,
            events: VecDeque::new(),
        }
    }

    /// The same with other numbers for participants and rooms.
    #[must_use]
    pub fn with_first_number(self, first: u64) -> Rooms {
        Rooms {
            last_id: first,
            ..self
        }
    }

    /// Reserves a place in a room, which is made if it does not exist. Nobody hears of it yet.
    ///
    /// # Errors
    /// When the name is not one, or the room or the server is full.
    pub fn admit(&mut self, room: &RoomName, entrant: Entrant) -> Result<Place, Failure> {
        entrant.name.as_deref().map_or(Ok(()), check_name)?;
        let room_id = match self.by_name.get(room) {
            Some(&id) => id,
            None if self.rooms.len() >= self.limits.rooms => {
                return Err(Failure::new(
                    ErrorCode::ServerFull,
                    format!(
                        "The server has {} rooms, as many as it may.",
                        self.limits.rooms
                    ),
                ));
            }
            None => {
                let opener = self.check_opener(&entrant.holder)?;
                let id = RoomId(self.next_id());
                self.by_name.insert(room.clone(), id);
                self.openers.add(opener);
                self.rooms.insert(
                    id,
                    Room {
                        name: room.clone(),
                        opener,
                        members: Vec::new(),
                        shown: BTreeMap::new(),
                        dominant: None,
                        viewers_announced: Some(0),
                        viewers_at: None,
                        early: Vec::new(),
                    },
                );
                id
            }
        };
        let id = ParticipantId(self.next_id());
        let person = self.person(room_id, &entrant);
        let person = person.or_else(|| entrant.is_known().then_some(PersonId(id.0)));
        self.check_limits(room_id, &entrant)?;
        let Some(state) = self.rooms.get_mut(&room_id) else {
            return Err(Failure::new(ErrorCode::Internal, "The room is lost."));
        };
        state.members.push(id);
        let checked_in = entrant.via == Via::Socket;
        self.members.insert(
            id,
            Member {
                room: room_id,
                is: entrant,
                seat: id,
                person,
                announced: false,
                checked_in,
                unreachable: false,
                tracks: Vec::new(),
            },
        );
        let room = room_id;
        Ok(Place { id, room, person })
    }

    /// Whose one more room is, if they may open one.
    fn check_opener(&self, holder: &Holder) -> Result<IpAddr, Failure> {
        let opener = site(holder.address).unwrap_or(subscriber(holder.address));
        let max = match is_neighbour(opener) {
            true => share_of_proxy(self.limits.rooms),
            false => self.limits.rooms.div_ceil(ROOMS_OF_OPENER),
        };
        let own = self.openers.of(&opener);
        if own >= max {
            let text = format!(
                "This address has opened {own} rooms, as many as it may (a part of `rooms.max_rooms`)."
            );
            return Err(Failure::new(ErrorCode::ServerFull, text));
        }
        Ok(opener)
    }

    /// Whether a room has as many that count as it may.
    fn is_full(&self, room: RoomId) -> bool {
        let members = self.members_of(room);
        let there = members.filter(|(_, member)| member.checked_in);
        there.count() >= self.limits.participants
    }

    fn check_limits(&self, room: RoomId, entrant: &Entrant) -> Result<(), Failure> {
        let full = |text| Err(Failure::new(ErrorCode::RoomFull, text));
        if self.is_full(room) {
            return full(format!(
                "The room has {} participants and viewers, as many as it may.",
                self.limits.participants
            ));
        }
        let proven = entrant.holder.proven();
        let is_same = |member: &Member| proven.is_some() && member.is.holder.proven() == proven;
        let same = self.members_of(room).filter(|(_, member)| is_same(member));
        let same = same.count();
        if same >= self.limits.identity_participants {
            return full(format!(
                "This identity at this address has {same} participants and viewers in the room, as \
                 many as it may (`rooms.max_identity_participants`)."
            ));
        }
        Ok(())
    }

    /// A member's media is there, so that it counts from now on.
    pub fn check_in(&mut self, id: ParticipantId) -> CheckIn {
        let waiting = self.members.get(&id).filter(|member| !member.checked_in);
        let Some(room) = waiting.map(|member| member.room) else {
            return CheckIn::Again;
        };
        let has_place = !self.is_full(room);
        if let Some(member) = self.members.get_mut(&id) {
            member.checked_in = has_place;
        }
        match has_place {
            true => CheckIn::First,
            false => CheckIn::Full,
        }
    }

    /// Announces one whose media connection is not up yet, unless the others have heard of many such of
    /// late: of those who do nothing but post offers they are not to hear all the time.
    pub fn announce_early(&mut self, now: Instant, id: ParticipantId) {
        let room = self.members.get(&id).map(|member| member.room);
        let Some(room) = room.and_then(|room| self.rooms.get_mut(&room)) else {
            return;
        };
        room.early
            .retain(|at| now.saturating_duration_since(*at) < EARLY_PERIOD);
        if room.early.len() < MAX_EARLY {
            room.early.push(now);
            self.announce(id);
        }
    }

    /// Those of whom one has to go before one more comes who has not checked in: all that have not, in the order
    /// in which they came, if they are as many as a room may have participants, and else nobody.
    #[must_use]
    pub fn overdue(&self, room: &RoomName) -> Vec<ParticipantId> {
        let room = self.by_name.get(room).copied();
        let members = room.into_iter().flat_map(|room| self.members_of(room));
        let waiting = members.filter(|(_, member)| !member.checked_in);
        let waiting: Vec<ParticipantId> = waiting.map(|(id, _)| id).collect();
        match waiting.len() >= self.limits.participants {
            true => waiting,
            false => Vec::new(),
        }
    }

    /// The members of a room, in the order in which they were admitted.
    fn members_of(&self, room: RoomId) -> impl Iterator<Item = (ParticipantId, &Member)> {
        let members = self.rooms.get(&room).map(|room| room.members.iter());
        let members = members.into_iter().flatten();
        members.filter_map(|id| Some((*id, self.members.get(id)?)))
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Tells the others of an admitted member and what it publishes so far.
    pub fn announce(&mut self, id: ParticipantId) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        if member.announced {
            return;
        }
        let room = member.room;
        let (is, tracks) = (member.is.clone(), member.tracks.clone());
        self.take_seat(room, id, &is);
        let Some(seat) = self.seat(id) else {
            return;
        };
        if self.is_shown(room, seat) {
            for track in tracks {
                self.notify_published(room, seat, track);
            }
        }
        self.show(room, seat, "");
        let dominant = self.rooms.get(&room).and_then(|room| room.dominant);
        if dominant.is_some() {
            self.events.push_back((id, speakers(dominant)));
        }
    }

    /// Takes a member out of its room; the room goes with its last member.
    pub fn remove(&mut self, id: ParticipantId, reason: &str) {
        // What the others of its seat do not have any more is told of; without others the seat goes.
        let has_others = self.shares_seat(id);
        if has_others {
            self.remove_tracks(id);
        }
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        for track in member.tracks {
            self.tracks.remove(&track.id.0);
        }
        let Some(room) = self.rooms.get_mut(&member.room) else {
            return;
        };
        room.members.retain(|&other| other != id);
        if room.members.is_empty() {
            self.by_name.remove(&room.name);
            self.openers.remove(&room.opener);
            self.rooms.remove(&member.room);
            return;
        }
        if member.announced {
            let reason = if has_others { WATCHING } else { reason };
            self.show(member.room, member.seat, reason);
            self.merge(member.room, &member.is);
        }
    }

    /// Adds a track, unless it is known already.
    pub fn add_track(&mut self, id: ParticipantId, track: TrackId, kind: Kind, is: Description) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if self.tracks.contains_key(&track) {
            return;
        }
        let track = Track {
            id: Text(track),
            kind: kind.into(),
            source: is.source,
            name: is.name,
            muted: false,
        };
        member.tracks.push(track.clone());
        let (announced, room, seat) = (member.announced, member.room, member.seat);
        self.tracks.insert(track.id.0, id);
        if announced {
            if self.is_shown(room, seat) {
                self.notify_published(room, seat, track);
            }
            self.show(room, seat, "");
        }
    }

    /// Takes a track away.
    pub fn remove_track(&mut self, id: ParticipantId, track: TrackId) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let before = member.tracks.len();
        member.tracks.retain(|t| t.id.0 != track);
        if member.tracks.len() == before {
            return;
        }
        let (announced, room, seat) = (member.announced, member.room, member.seat);
        self.tracks.remove(&track);
        if announced {
            let unpublished = Event::TrackUnpublished(TrackUnpublished {
                participant: Text(seat),
                track: Text(track),
            });
            self.notify_room(room, seat, &unpublished);
            self.show(room, seat, WATCHING);
        }
    }

    /// Takes every track of a participant away, as when its media connection is gone.
    pub fn remove_tracks(&mut self, id: ParticipantId) {
        for track in self.tracks_of(id) {
            self.remove_track(id, track);
        }
    }

    /// Notes whether a track is muted; the others hear of it if that is a change.
    pub fn set_muted(&mut self, id: ParticipantId, track: TrackId, muted: bool) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let (room, seat) = (member.room, member.seat);
        let Some(state) = member.tracks.iter_mut().find(|t| t.id.0 == track) else {
            return;
        };
        if std::mem::replace(&mut state.muted, muted) != muted {
            let event = Event::TrackMuted(TrackMuted {
                participant: Text(seat),
                track: Text(track),
                muted,
            });
            self.notify_room(room, seat, &event);
        }
    }

    /// Notes whether nothing is heard of a participant; the others hear of it if that is a change.
    pub fn set_unreachable(&mut self, id: ParticipantId, unreachable: bool) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let (room, seat, announced) = (member.room, member.seat, member.announced);
        if std::mem::replace(&mut member.unreachable, unreachable) == unreachable {
            return;
        }
        if announced && self.is_shown(room, seat) {
            let event = Event::Unreachable(Unreachable {
                participant: Text(seat),
                unreachable,
            });
            self.notify_room(room, seat, &event);
        }
    }

    /// Notes who has the floor in a room; everybody in it hears of it.
    pub fn set_dominant(&mut self, room: RoomId, dominant: Option<ParticipantId>) {
        let dominant = dominant.and_then(|id| self.seat(id));
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        state.dominant = dominant;
        let members = state.members.iter();
        let heard = members.filter(|id| self.members.get(id).is_some_and(|m| m.announced));
        let told = heard.map(|&id| (id, speakers(dominant)));
        self.events.extend(told);
    }

    /// The name under which the others know a member; none if it is a viewer.
    #[must_use]
    pub fn name_of(&self, id: ParticipantId) -> Option<&str> {
        let member = self.members.get(&id)?;
        let shown = self.rooms.get(&member.room)?.shown.get(&member.seat)?;
        Some(&shown.name)
    }

    /// The tracks of a participant, in the order in which they were published.
    #[must_use]
    pub fn tracks_of(&self, id: ParticipantId) -> Vec<TrackId> {
        let member = self.members.get(&id);
        member
            .map(|m| m.tracks.iter().map(|t| t.id.0).collect())
            .unwrap_or_default()
    }

    /// Whether a track is a participant's own.
    #[must_use]
    pub fn owns(&self, id: ParticipantId, track: TrackId) -> bool {
        self.tracks.get(&track) == Some(&id)
    }

    /// Whether a participant has been told of a track: it is another's, in the same room, and
    /// announced.
    #[must_use]
    pub fn sees(&self, id: ParticipantId, track: TrackId) -> bool {
        self.tracks.get(&track).is_some_and(|&owner| {
            let is_other = owner != id && self.seat(owner) != self.seat(id);
            is_other && self.is_announced(owner) && self.room_of(owner) == self.room_of(id)
        })
    }

    /// The room a participant is in.
    #[must_use]
    pub fn room_of(&self, id: ParticipantId) -> Option<RoomId> {
        self.members.get(&id).map(|m| m.room)
    }

    /// The members of a room that are meant by a participant's id, receivers first: one who publishes
    /// by WHIP and watches by WHEP is two. A viewer is meant by its own.
    #[must_use]
    pub fn meant_by(&self, room: &RoomName, id: ParticipantId) -> Vec<ParticipantId> {
        let Some(room) = self.by_name.get(room).and_then(|id| self.rooms.get(id)) else {
            return Vec::new();
        };
        let members = room.members.iter().copied();
        let mut meant: Vec<ParticipantId> = members
            .filter(|&member| member == id || self.seat(member) == Some(id))
            .collect();
        meant.sort_by_key(|member| {
            let via = self.members.get(member).map(|member| member.is.via);
            via == Some(Via::Whip)
        });
        meant
    }

    /// How many rooms there are.
    #[must_use]
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// How many participants there are in all rooms, viewers not among them.
    #[must_use]
    pub fn participant_count(&self) -> usize {
        self.rooms.values().map(|room| room.shown.len()).sum()
    }

    /// How many viewers there are in all rooms.
    #[must_use]
    pub fn viewer_count(&self) -> usize {
        self.rooms.values().map(|room| self.viewers_in(room)).sum()
    }

    /// Whether nobody is in any room, or about to be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Most tracks of a participant.
    #[must_use]
    pub fn max_tracks(&self) -> usize {
        self.limits.tracks
    }

    /// The next event and who is to hear it.
    pub fn poll_event(&mut self) -> Option<(ParticipantId, Event)> {
        self.events.pop_front()
    }

    fn is_announced(&self, id: ParticipantId) -> bool {
        self.members.get(&id).is_some_and(|m| m.announced)
    }

    /// Tells everybody in a room but those of one seat.
    fn notify_room(&mut self, room: RoomId, but: ParticipantId, event: &Event) {
        let Some(room) = self.rooms.get(&room) else {
            return;
        };
        let members = room.members.iter();
        let heard = members.filter(|id| {
            let member = self.members.get(id);
            member.is_some_and(|member| member.announced && member.seat != but)
        });
        self.events.extend(heard.map(|&id| (id, event.clone())));
    }
}

fn speakers(dominant: Option<ParticipantId>) -> Event {
    Event::Speakers(Speakers {
        dominant: dominant.map(Text),
    })
}

#[cfg(test)]
mod tests;
