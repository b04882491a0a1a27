//! Under which id the others know a member, and whether they know it as a participant or count it as
//! a viewer.
//!
//! A member has a seat of its own. One that watches by WHEP shares that of the member of its identity
//! that publishes by WHIP, whichever of them came first: they are one person. Two that publish have
//! two seats, as two devices have, and so has everybody on a WebSocket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use confab_sfu::types::{PersonId, RoomId};

use super::{Entrant, Member, ParticipantId, Room, Rooms, Via};
use crate::protocol::{
    Event, Participant, ParticipantJoined, ParticipantLeft, Text, Track, TrackPublished, Viewers,
};

/// Between two words on how many viewers a room has: the start of a stream brings many at once.
const VIEWERS_INTERVAL: Duration = Duration::from_secs(1);

/// Why a participant is none any more whose member has moved to another seat.
const MERGED: &str = "merged";

/// How the others see who has a seat. It stays so for as long as they see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    pub(super) name: String,
    identity: Option<String>,
    metadata: Option<String>,
}

impl Shown {
    fn participant(&self, seat: ParticipantId) -> Participant {
        Participant {
            id: Text(seat),
            name: self.name.clone(),
            identity: self.identity.clone(),
            metadata: self.metadata.clone(),
            unreachable: false,
            tracks: Vec::new(),
        }
    }
}

impl Entrant {
    /// Whether it may be the same person as another member. On a WebSocket nobody is: two devices of
    /// one identity are two participants, each of which sees the other.
    pub(super) fn is_known(&self) -> bool {
        self.via != Via::Socket && self.identity.is_some()
    }

    fn is_same_person(&self, other: &Entrant) -> bool {
        self.is_known() && other.is_known() && self.identity == other.identity
    }
}

impl Rooms {
    pub(super) fn seat(&self, id: ParticipantId) -> Option<ParticipantId> {
        self.members.get(&id).map(|member| member.seat)
    }

    pub(super) fn is_shown(&self, room: RoomId, seat: ParticipantId) -> bool {
        let room = self.rooms.get(&room);
        room.is_some_and(|room| room.shown.contains_key(&seat))
    }

    /// Whether another announced member has the same seat.
    pub(super) fn shares_seat(&self, id: ParticipantId) -> bool {
        let Some(member) = self.members.get(&id) else {
            return false;
        };
        let mut others = self.announced(member.room);
        others.any(|(other, is)| other != id && is.seat == member.seat)
    }

    /// The person of a room that an entrant is, if it is there already.
    pub(super) fn person(&self, room: RoomId, entrant: &Entrant) -> Option<PersonId> {
        let room = self.rooms.get(&room)?;
        let members = room.members.iter().filter_map(|id| self.members.get(id));
        let mut same = members.filter(|member| member.is.is_same_person(entrant));
        same.find_map(|member| member.person)
    }

    /// The announced members of a room, in the order in which they were admitted.
    fn announced(&self, room: RoomId) -> impl Iterator<Item = (ParticipantId, &Member)> {
        self.members_of(room).filter(|(_, member)| member.announced)
    }

    /// Those of a room who watch as this person at a seat where nobody publishes.
    fn only_watching(&self, room: RoomId, is: &Entrant) -> Vec<(ParticipantId, ParticipantId)> {
        let same = || {
            let members = self.announced(room);
            members.filter(|(_, member)| member.is.is_same_person(is))
        };
        let published = same().filter(|(_, member)| member.is.via == Via::Whip);
        let published: BTreeSet<ParticipantId> = published.map(|(_, member)| member.seat).collect();
        let watching = same()
            .filter(|(_, member)| member.is.via == Via::Whep && !published.contains(&member.seat));
        watching.map(|(id, member)| (id, member.seat)).collect()
    }

    /// Gives a member that is being announced its seat.
    pub(super) fn take_seat(&mut self, room: RoomId, id: ParticipantId, is: &Entrant) {
        if is.via == Via::Whip
            && let Some(&(_, seat)) = self.only_watching(room, is).first()
            && let Some(member) = self.members.get_mut(&id)
        {
            member.seat = seat;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.announced = true;
        }
        self.merge(room, is);
    }

    /// Moves those who watch to the seat of who publishes as the same person.
    pub(super) fn merge(&mut self, room: RoomId, is: &Entrant) {
        let publisher = self
            .announced(room)
            .find(|(_, member)| member.is.via == Via::Whip && member.is.is_same_person(is));
        let Some(seat) = publisher.map(|(_, member)| member.seat) else {
            return;
        };
        for (id, old) in self.only_watching(room, is) {
            if let Some(member) = self.members.get_mut(&id) {
                member.seat = seat;
                self.show(room, old, MERGED);
            }
        }
    }

    /// Tells the others if a seat is a participant's now, or not any more.
    pub(super) fn show(&mut self, room: RoomId, seat: ParticipantId, reason: &str) {
        self.uncounted.insert(room);
        let members: Vec<&Member> = self
            .announced(room)
            .filter(|(_, member)| member.seat == seat)
            .map(|(_, member)| member)
            .collect();
        let shown = members.iter().find(|m| m.takes_part()).map(|first| {
            let name = members.iter().find_map(|m| m.is.name.clone());
            Shown {
                name: name.unwrap_or_else(|| first.is.via.default_name().to_owned()),
                identity: members.iter().find_map(|m| m.is.identity.clone()),
                metadata: members.iter().find_map(|m| m.is.metadata.clone()),
            }
        });
        let Some(state) = self.rooms.get_mut(&room) else {
            return;
        };
        match (shown, state.shown.contains_key(&seat)) {
            (Some(shown), false) => {
                state.shown.insert(seat, shown.clone());
                let participant = self.view(room, seat, &shown);
                let joined = Event::ParticipantJoined(ParticipantJoined { participant });
                self.notify_room(room, seat, &joined);
            }
            (None, true) => {
                state.shown.remove(&seat);
                state.dominant = state.dominant.filter(|&dominant| dominant != seat);
                let left = Event::ParticipantLeft(ParticipantLeft {
                    participant: Text(seat),
                    reason: reason.to_owned(),
                });
                self.notify_room(room, seat, &left);
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    pub(super) fn notify_published(&mut self, room: RoomId, seat: ParticipantId, track: Track) {
        let published = Event::TrackPublished(TrackPublished {
            participant: Text(seat),
            track,
        });
        self.notify_room(room, seat, &published);
    }

    /// The other participants of a member's room.
    #[must_use]
    pub fn others(&self, id: ParticipantId) -> Vec<Participant> {
        let own = self.members.get(&id);
        let Some((own, room)) = own.and_then(|own| Some((own, self.rooms.get(&own.room)?))) else {
            return Vec::new();
        };
        let others = room.shown.iter().filter(|(seat, _)| **seat != own.seat);
        let mut others: BTreeMap<ParticipantId, Participant> = others
            .map(|(&seat, shown)| (seat, shown.participant(seat)))
            .collect();
        for (_, member) in self.announced(own.room) {
            if let Some(participant) = others.get_mut(&member.seat) {
                participant.unreachable |= member.unreachable;
                participant.tracks.extend(member.tracks.iter().cloned());
            }
        }
        others.into_values().collect()
    }

    /// A participant as the others see it.
    fn view(&self, room: RoomId, seat: ParticipantId, shown: &Shown) -> Participant {
        let members = || {
            let members = self.announced(room);
            members.filter(|(_, member)| member.seat == seat)
        };
        let tracks = members().flat_map(|(_, member)| member.tracks.iter().cloned());
        Participant {
            tracks: tracks.collect(),
            unreachable: members().any(|(_, member)| member.unreachable),
            ..shown.participant(seat)
        }
    }

    /// How many viewers a room has.
    pub(super) fn viewers_in(&self, room: &Room) -> usize {
        let members = room.members.iter().filter_map(|id| self.members.get(id));
        members
            .filter(|member| member.announced && !room.shown.contains_key(&member.seat))
            .count()
    }

    /// How many viewers there are in the room of a member that is told so now.
    pub fn viewers_for(&mut self, id: ParticipantId) -> usize {
        let Some((room, state)) = self
            .room_of(id)
            .and_then(|id| Some((id, self.rooms.get(&id)?)))
        else {
            return 0;
        };
        let viewers = self.viewers_in(state);
        if state.viewers_announced != Some(viewers)
            && let Some(state) = self.rooms.get_mut(&room)
        {
            // It knows another number than the others, so that the next one is news to somebody.
            state.viewers_announced = None;
            self.uncounted.insert(room);
        }
        viewers
    }

    /// Tells how many viewers the rooms have in which that has changed, once it may be told again.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, room)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            self.uncounted.insert(room);
        }
        for id in std::mem::take(&mut self.uncounted) {
            let Some(room) = self.rooms.get(&id) else {
                continue;
            };
            let viewers = self.viewers_in(room);
            if room.viewers_announced == Some(viewers) {
                continue;
            }
            if let Some(at) = room.viewers_at.filter(|&at| now < at) {
                self.due.insert((at, id));
                continue;
            }
            let told = self.announced(id).map(|(id, _)| id);
            let told: Vec<ParticipantId> = told.collect();
            let event = Event::Viewers(Viewers { viewers });
            let events = told.into_iter().map(|id| (id, event.clone()));
            self.events.extend(events);
            if let Some(room) = self.rooms.get_mut(&id) {
                room.viewers_announced = Some(viewers);
                room.viewers_at = Some(now + VIEWERS_INTERVAL);
            }
        }
    }

    /// When [`handle_timeout`](Rooms::handle_timeout) has something to tell.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }
}
