//! Rooms: who is in them, what they publish, and who is told.
//!
//! Sans-I/O. In: participants coming and going, tracks coming, going and being muted. Out:
//! [`Rooms::poll_event`], each event with the participant that is to hear it. Time plays no part.
//!
//! A participant is *admitted* first, which reserves its place, and *announced* once its media is
//! negotiated: only then do the others hear of it, so a join that fails is never seen.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use confab_sfu::media::Kind;
use confab_sfu::types::{InvalidId, RoomId, TrackId};

use crate::protocol::{
    ErrorCode, Event, Failure, Participant, ParticipantJoined, ParticipantLeft, Source, Speakers,
    Text, Track, TrackMuted, TrackPublished, TrackUnpublished,
};

/// Longest name of a room, in bytes.
pub const MAX_ROOM_NAME_LEN: usize = 64;

/// Longest name of a participant or a track, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// The bounds of the rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most rooms at once.
    pub rooms: usize,
    /// Most participants in a room.
    pub participants: usize,
    /// Most tracks of a participant.
    pub tracks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rooms: 1_000,
            participants: 100,
            tracks: 8,
        }
    }
}

/// Someone in a room. Displays as `p_` and hexadecimal; never used twice while the server runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ParticipantId(pub u64);

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p_{:x}", self.0)
    }
}

impl FromStr for ParticipantId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix("p_").ok_or(InvalidId)?;
        if digits.starts_with('+') {
            return Err(InvalidId);
        }
        u64::from_str_radix(digits, 16)
            .map(ParticipantId)
            .map_err(|_| InvalidId)
    }
}

/// A room's name that keeps to the rules.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RoomName(String);

impl RoomName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomName {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let visible = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > MAX_ROOM_NAME_LEN || !text.bytes().all(visible) {
            return Err(Failure::new(
                ErrorCode::BadRoom,
                format!(
                    "A room's name is 1 to {MAX_ROOM_NAME_LEN} of the letters A to Z and a to z, \
                     digits, `_` and `-`."
                ),
            ));
        }
        Ok(RoomName(text.to_owned()))
    }
}

/// Checks the name of a participant or a track.
///
/// # Errors
/// When it is not 1 to [`MAX_NAME_CHARS`] visible characters.
pub fn check_name(name: &str) -> Result<(), Failure> {
    // Direction overrides would let one name rewrite the line it is shown in.
    let overrides = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let hidden = name.chars().any(|c| c.is_control() || overrides(c));
    if name.trim().is_empty() || hidden || name.chars().nth(MAX_NAME_CHARS).is_some() {
        return Err(Failure::new(
            ErrorCode::BadName,
            format!("A name is 1 to {MAX_NAME_CHARS} visible characters."),
        ));
    }
    Ok(())
}

/// A track as its publisher describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// What is captured.
    pub source: Source,
    /// Its name, if it has one.
    pub name: Option<String>,
}

#[derive(Debug)]
struct Room {
    name: RoomName,
    members: Vec<ParticipantId>,
    /// Who has the floor.
    dominant: Option<ParticipantId>,
}

#[derive(Debug)]
struct Member {
    room: RoomId,
    name: String,
    announced: bool,
    tracks: Vec<Track>,
}

impl Member {
    fn view(&self, id: ParticipantId) -> Participant {
        Participant {
            id: Text(id),
            name: self.name.clone(),
            tracks: self.tracks.clone(),
        }
    }
}

/// Every room of this server.
#[derive(Debug)]
pub struct Rooms {
    limits: Limits,
    by_name: HashMap<RoomName, RoomId>,
    rooms: BTreeMap<RoomId, Room>,
    members: HashMap<ParticipantId, Member>,
    tracks: HashMap<TrackId, ParticipantId>,
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
            members: HashMap::new(),
            tracks: HashMap::new(),
            last_id: 0,
            events: VecDeque::new(),
        }
    }

    /// Reserves a place in a room, which is made if it does not exist. Nobody hears of it yet.
    ///
    /// # Errors
    /// When the name is not one, or the room or the server is full.
    pub fn admit(
        &mut self,
        room: &RoomName,
        name: &str,
    ) -> Result<(ParticipantId, RoomId), Failure> {
        check_name(name)?;
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
                let id = RoomId(self.next_id());
                self.by_name.insert(room.clone(), id);
                self.rooms.insert(
                    id,
                    Room {
                        name: room.clone(),
                        members: Vec::new(),
                        dominant: None,
                    },
                );
                id
            }
        };
        let id = ParticipantId(self.next_id());
        let Some(state) = self.rooms.get_mut(&room_id) else {
            return Err(Failure::new(ErrorCode::Internal, "The room is lost."));
        };
        if state.members.len() >= self.limits.participants {
            return Err(Failure::new(
                ErrorCode::RoomFull,
                format!(
                    "The room has {} participants, as many as it may.",
                    self.limits.participants
                ),
            ));
        }
        state.members.push(id);
        self.members.insert(
            id,
            Member {
                room: room_id,
                name: name.to_owned(),
                announced: false,
                tracks: Vec::new(),
            },
        );
        Ok((id, room_id))
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Tells the others of an admitted participant and what it publishes so far.
    pub fn announce(&mut self, id: ParticipantId) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.announced = true;
        let joined = Event::ParticipantJoined(ParticipantJoined {
            participant: member.view(id),
        });
        let room = member.room;
        self.tell_others(id, &joined);
        let dominant = self.rooms.get(&room).and_then(|room| room.dominant);
        if dominant.is_some() {
            self.events.push_back((id, speakers(dominant)));
        }
    }

    /// Takes a participant out of its room; the room goes with its last participant.
    pub fn remove(&mut self, id: ParticipantId, reason: &str) {
        if self.is_announced(id) {
            let left = Event::ParticipantLeft(ParticipantLeft {
                participant: Text(id),
                reason: reason.to_owned(),
            });
            self.tell_others(id, &left);
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
        room.dominant = room.dominant.filter(|&dominant| dominant != id);
        if room.members.is_empty() {
            self.by_name.remove(&room.name);
            self.rooms.remove(&member.room);
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
        let announced = member.announced;
        self.tracks.insert(track.id.0, id);
        if announced {
            let published = Event::TrackPublished(TrackPublished {
                participant: Text(id),
                track,
            });
            self.tell_others(id, &published);
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
        let announced = member.announced;
        self.tracks.remove(&track);
        if announced {
            let unpublished = Event::TrackUnpublished(TrackUnpublished {
                participant: Text(id),
                track: Text(track),
            });
            self.tell_others(id, &unpublished);
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
        let Some(state) = member.tracks.iter_mut().find(|t| t.id.0 == track) else {
            return;
        };
        if std::mem::replace(&mut state.muted, muted) != muted {
            let event = Event::TrackMuted(TrackMuted {
                participant: Text(id),
                track: Text(track),
                muted,
            });
            self.tell_others(id, &event);
        }
    }

    /// Notes who has the floor in a room; everybody in it hears of it.
    pub fn set_dominant(&mut self, room: RoomId, dominant: Option<ParticipantId>) {
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        state.dominant = dominant;
        let members = state.members.iter();
        let heard = members.filter(|id| self.members.get(id).is_some_and(|m| m.announced));
        let told = heard.map(|&id| (id, speakers(dominant)));
        self.events.extend(told);
    }

    /// The others of a participant's room that have been announced.
    #[must_use]
    pub fn others(&self, id: ParticipantId) -> Vec<Participant> {
        self.roommates(id)
            .filter_map(|other| Some((other, self.members.get(&other)?)))
            .filter(|(_, member)| member.announced)
            .map(|(other, member)| member.view(other))
            .collect()
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
            owner != id && self.is_announced(owner) && self.room_of(owner) == self.room_of(id)
        })
    }

    /// The room a participant is in.
    #[must_use]
    pub fn room_of(&self, id: ParticipantId) -> Option<RoomId> {
        self.members.get(&id).map(|m| m.room)
    }

    /// Whether a participant is in the room of this name.
    #[must_use]
    pub fn is_in(&self, id: ParticipantId, room: &RoomName) -> bool {
        let room = self.by_name.get(room);
        room.is_some() && self.room_of(id) == room.copied()
    }

    /// How many rooms there are.
    #[must_use]
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// How many participants there are in all rooms.
    #[must_use]
    pub fn participant_count(&self) -> usize {
        self.members.len()
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

    fn roommates(&self, id: ParticipantId) -> impl Iterator<Item = ParticipantId> + '_ {
        let room = self.room_of(id).and_then(|room| self.rooms.get(&room));
        room.into_iter()
            .flat_map(|room| room.members.iter().copied())
            .filter(move |&other| other != id)
    }

    fn tell_others(&mut self, id: ParticipantId, event: &Event) {
        let heard: Vec<_> = self
            .roommates(id)
            .filter(|&other| self.is_announced(other))
            .map(|other| (other, event.clone()))
            .collect();
        self.events.extend(heard);
    }
}

fn speakers(dominant: Option<ParticipantId>) -> Event {
    Event::Speakers(Speakers {
        dominant: dominant.map(Text),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> RoomName {
        text.parse().unwrap()
    }

    fn enter(rooms: &mut Rooms, room: &str, who: &str) -> ParticipantId {
        let (id, _) = rooms.admit(&name(room), who).unwrap();
        rooms.announce(id);
        id
    }

    fn camera() -> Description {
        Description {
            source: Source::Camera,
            name: None,
        }
    }

    /// What was told, as `who: event`.
    fn told(rooms: &mut Rooms) -> Vec<(ParticipantId, String)> {
        std::iter::from_fn(|| rooms.poll_event())
            .map(|(who, event)| {
                let event = serde_json::to_value(event).unwrap();
                (who, event["type"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    #[test]
    fn the_others_hear_of_everything_and_oneself_of_nothing() {
        let mut rooms = Rooms::new(Limits::default());
        let alice = enter(&mut rooms, "kitchen", "Alice");
        let elsewhere = enter(&mut rooms, "cellar", "Eve");
        assert_eq!(told(&mut rooms), []);
        let bob = enter(&mut rooms, "kitchen", "Bob");
        rooms.add_track(bob, TrackId(7), Kind::Video, camera());
        rooms.set_muted(bob, TrackId(7), true);
        rooms.set_muted(bob, TrackId(7), true);
        rooms.remove_track(bob, TrackId(7));
        rooms.remove(bob, "left");
        let heard: Vec<_> = told(&mut rooms);
        assert!(
            heard
                .iter()
                .all(|(who, _)| *who == alice && *who != elsewhere)
        );
        let types: Vec<_> = heard.iter().map(|(_, t)| t.as_str()).collect();
        assert_eq!(
            types,
            [
                "participant_joined",
                "track_published",
                "track_muted",
                "track_unpublished",
                "participant_left"
            ]
        );
    }

    #[test]
    fn a_join_that_fails_is_never_seen() {
        let mut rooms = Rooms::new(Limits::default());
        let alice = enter(&mut rooms, "kitchen", "Alice");
        let (bob, _) = rooms.admit(&name("kitchen"), "Bob").unwrap();
        assert_eq!(rooms.others(alice), []);
        rooms.add_track(bob, TrackId(1), Kind::Audio, camera());
        assert!(!rooms.sees(alice, TrackId(1)));
        rooms.remove(bob, "left");
        assert_eq!(told(&mut rooms), []);
    }

    #[test]
    fn a_newcomer_sees_the_tracks_that_are_there_but_not_another_rooms() {
        let mut rooms = Rooms::new(Limits::default());
        let alice = enter(&mut rooms, "kitchen", "Alice");
        rooms.add_track(alice, TrackId(1), Kind::Video, camera());
        let bob = enter(&mut rooms, "kitchen", "Bob");
        let eve = enter(&mut rooms, "cellar", "Eve");
        assert_eq!(rooms.others(bob)[0].tracks[0].id, Text(TrackId(1)));
        assert!(rooms.sees(bob, TrackId(1)));
        assert!(!rooms.sees(eve, TrackId(1)));
        assert!(!rooms.sees(alice, TrackId(1)), "not its own");
        assert!(rooms.owns(alice, TrackId(1)) && !rooms.owns(bob, TrackId(1)));
    }

    #[test]
    fn a_room_goes_with_its_last_participant() {
        let mut rooms = Rooms::new(Limits::default());
        let alice = enter(&mut rooms, "kitchen", "Alice");
        let bob = enter(&mut rooms, "kitchen", "Bob");
        rooms.remove(alice, "left");
        assert_eq!(rooms.room_count(), 1);
        rooms.remove(bob, "left");
        assert_eq!((rooms.room_count(), rooms.participant_count()), (0, 0));
    }

    #[test]
    fn what_is_over_a_bound_is_refused_and_leaves_nothing_behind() {
        let mut rooms = Rooms::new(Limits {
            rooms: 1,
            participants: 1,
            tracks: 1,
        });
        enter(&mut rooms, "kitchen", "Alice");
        let full = rooms.admit(&name("kitchen"), "Bob").unwrap_err();
        assert_eq!(full.code, ErrorCode::RoomFull);
        let full = rooms.admit(&name("cellar"), "Bob").unwrap_err();
        assert_eq!(full.code, ErrorCode::ServerFull);
        assert_eq!((rooms.room_count(), rooms.participant_count()), (1, 1));
    }

    #[test]
    fn names_keep_to_the_rules() {
        let long = "x".repeat(64);
        for good in ["a", "A-Z_09", &long] {
            assert!(good.parse::<RoomName>().is_ok(), "{good}");
        }
        let too_long = "x".repeat(65);
        for bad in ["", "a b", "küche", "a/b", "..", &too_long] {
            let failure = bad.parse::<RoomName>().unwrap_err();
            assert_eq!(failure.code, ErrorCode::BadRoom, "{bad}");
        }
        for good in ["Zoë", "李雷", "a b", &"é".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "a\nb", "a\u{202e}b", &"é".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
