//! Who gets what: the tracks of each room, and which of them each receive slot shows.
//!
//! In: slots negotiated, tracks published and gone, choices of clients, who is how loud, and time.
//! Out: [`Changes`] of what slots show, how important they are, and who has the floor. No media
//! passes here; this is the table that the workers are told from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use crate::api::{Content, Priority, SlotChoice};
use crate::media::Kind;
use crate::types::{Mid, PeerId, PersonId, RoomId, TrackId};

mod floor;
mod stage;

use floor::Floor;
use stage::Stage;

/// A slot whose track has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Assignment {
    pub(crate) peer: PeerId,
    /// Which of its m-lines.
    pub(crate) mid: Mid,
    /// What the slot shows from now on.
    pub(crate) track: Option<TrackId>,
}

/// A slot that has become more or less important.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Importance {
    pub(crate) peer: PeerId,
    /// Which of its m-lines.
    pub(crate) mid: Mid,
    /// How important it is from now on.
    pub(crate) priority: Priority,
}

/// What has changed in a room.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    /// The slots that show something else.
    pub(crate) shows: Vec<Assignment>,
    /// The slots that have become more or less important.
    pub(crate) priorities: Vec<Importance>,
    /// Who has the floor, if that has changed.
    pub(crate) dominant: Option<Option<PeerId>>,
}

/// Why a choice was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The peer has no slot with this mid.
    UnknownMid,
    /// No such track of the slot's kind in the peer's room.
    UnknownTrack,
}

/// A track of a room.
#[derive(Debug)]
struct Track {
    id: TrackId,
    peer: PeerId,
    kind: Kind,
    content: Content,
}

impl Track {
    /// Whether it shows this person, or lets it be heard.
    fn is_of(&self, peer: PeerId) -> bool {
        self.peer == peer && self.content == Content::Person
    }
}

#[derive(Debug)]
struct Slot {
    mid: Mid,
    kind: Kind,
    choice: SlotChoice,
    shows: Option<TrackId>,
    priority: Priority,
    /// When it was last given to somebody for speaking.
    moved: Option<Instant>,
}

impl Slot {
    fn new(mid: Mid, kind: Kind) -> Self {
        Slot {
            mid,
            kind,
            choice: SlotChoice::Auto,
            shows: None,
            priority: Priority::default(),
            moved: None,
        }
    }

    fn is_automatic(&self, kind: Kind) -> bool {
        self.kind == kind && self.choice == SlotChoice::Auto
    }

    fn pinned(&self) -> Option<TrackId> {
        match self.choice {
            SlotChoice::Pin(track) => Some(track),
            SlotChoice::Auto | SlotChoice::Off => None,
        }
    }
}

#[derive(Debug, Default)]
struct Room {
    /// In the order they were published.
    tracks: Vec<Track>,
    /// Ordered, so that two runs with the same input tell workers the same things in the same order.
    peers: BTreeMap<PeerId, Vec<Slot>>,
    /// Who is behind those peers that are not their person's only one, perhaps.
    persons: HashMap<PeerId, PersonId>,
    floor: Floor,
}

impl Room {
    /// Decides anew for the slots of every peer, and finds out what has changed by that.
    fn decide(&mut self, decide: impl Fn(&Stage<'_>, PeerId, &mut [Slot])) -> Changes {
        let mut changes = Changes {
            dominant: self.floor.poll_dominant(),
            ..Changes::default()
        };
        let stage = Stage::new(&self.tracks, &self.persons, &self.floor);
        for (&peer, slots) in &mut self.peers {
            let before: Vec<Option<TrackId>> = slots.iter().map(|s| s.shows).collect();
            decide(&stage, peer, slots);
            for (slot, before) in slots.iter_mut().zip(before) {
                let (mid, track) = (slot.mid, slot.shows);
                if track != before {
                    changes.shows.push(Assignment { peer, mid, track });
                }
                let priority = stage.priority(slot);
                if std::mem::replace(&mut slot.priority, priority) != priority {
                    changes.priorities.push(Importance {
                        peer,
                        mid,
                        priority,
                    });
                }
            }
        }
        changes
    }

    fn refill(&mut self) -> Changes {
        self.decide(|stage, peer, slots| stage.fill(peer, slots))
    }
}

/// Every room with a peer in it.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: HashMap<RoomId, Room>,
    /// When it is to be decided who speaks. A room that is gone may still be here.
    due: BTreeSet<(Instant, RoomId)>,
}

impl Rooms {
    /// A peer's slots after an offer: kept ones keep their choice and track, others come and go.
    pub(crate) fn set_slots(
        &mut self,
        room: RoomId,
        peer: PeerId,
        slots: &[(Mid, Kind)],
    ) -> Changes {
        let state = self.rooms.entry(room).or_default();
        let own = state.peers.entry(peer).or_default();
        let mut old = std::mem::take(own);
        *own = slots
            .iter()
            .map(
                |&(mid, kind)| match old.iter().position(|s| s.mid == mid && s.kind == kind) {
                    Some(index) => old.swap_remove(index),
                    None => Slot::new(mid, kind),
                },
            )
            .collect();
        let mut changes = state.refill();
        // An m-line that is inactive may be active again, and starts from the beginning then.
        let emptied = old.iter().filter(|s| s.shows.is_some());
        let emptied = emptied.map(|slot| Assignment {
            peer,
            mid: slot.mid,
            track: None,
        });
        // Before what another slot of that name shows now.
        changes.shows.splice(..0, emptied);
        let gone = old.iter().filter(|s| s.priority != Priority::default());
        changes.priorities.extend(gone.map(|slot| Importance {
            peer,
            mid: slot.mid,
            priority: Priority::default(),
        }));
        changes
    }

    /// Who is behind a peer, whose slots are filled with what others publish. To be said before its slots
    /// and tracks are.
    pub(crate) fn set_person(&mut self, room: RoomId, peer: PeerId, person: Option<PersonId>) {
        let persons = &mut self.rooms.entry(room).or_default().persons;
        match person {
            Some(person) => persons.insert(peer, person),
            None => persons.remove(&peer),
        };
    }

    /// A new track in the room.
    pub(crate) fn publish(
        &mut self,
        room: RoomId,
        peer: PeerId,
        track: TrackId,
        kind: Kind,
        content: Content,
    ) -> Changes {
        let state = self.rooms.entry(room).or_default();
        state.tracks.push(Track {
            id: track,
            peer,
            kind,
            content,
        });
        state.refill()
    }

    /// A track is gone.
    pub(crate) fn unpublish(&mut self, room: RoomId, track: TrackId) -> Changes {
        self.change(room, |state| state.tracks.retain(|t| t.id != track))
    }

    /// A peer is gone, with its tracks and slots; the room goes with the last one.
    pub(crate) fn leave(&mut self, room: RoomId, peer: PeerId) -> Changes {
        let changes = self.change(room, |state| {
            state.peers.remove(&peer);
            state.persons.remove(&peer);
            state.tracks.retain(|t| t.peer != peer);
            state.floor.remove(peer);
        });
        if self.rooms.get(&room).is_some_and(|r| r.peers.is_empty()) {
            self.rooms.remove(&room);
            return Changes::default();
        }
        changes
    }

    /// A client decides what a slot shows.
    ///
    /// # Errors
    /// When the slot or the track does not exist, or their kinds differ.
    pub(crate) fn choose(
        &mut self,
        room: RoomId,
        peer: PeerId,
        mid: Mid,
        choice: SlotChoice,
    ) -> Result<Changes, Refused> {
        let state = self.rooms.get_mut(&room).ok_or(Refused::UnknownMid)?;
        let slot = state
            .peers
            .get_mut(&peer)
            .and_then(|slots| slots.iter_mut().find(|s| s.mid == mid))
            .ok_or(Refused::UnknownMid)?;
        if let SlotChoice::Pin(track) = choice {
            let exists = state
                .tracks
                .iter()
                .any(|t| t.id == track && t.kind == slot.kind);
            if !exists {
                return Err(Refused::UnknownTrack);
            }
        }
        slot.choice = choice;
        Ok(state.refill())
    }

    /// Notes the level of a packet of somebody's voice (RFC 6464: 0 is the loudest, 127 silence).
    pub(crate) fn handle_level(&mut self, at: Instant, room: RoomId, who: PeerId, level: u8) {
        if let Some(state) = self.rooms.get_mut(&room) {
            let is_scheduled = state.floor.next_deadline().is_some();
            state.floor.handle_level(at, who, level);
            if !is_scheduled {
                self.schedule(room);
            }
        }
    }

    /// Somebody has no voice any more.
    pub(crate) fn handle_silenced(&mut self, room: RoomId, who: PeerId) -> Changes {
        self.change(room, |state| state.floor.remove(who))
    }

    /// When it is to be decided who speaks.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Decides who speaks in a room in which that is due, and what changes by it; none when it is
    /// due nowhere.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<(RoomId, Changes)> {
        while self.next_deadline().is_some_and(|at| at <= now) {
            let (_, room) = self.due.pop_first()?;
            let Some(state) = self.rooms.get_mut(&room) else {
                continue;
            };
            state.floor.handle_timeout(now);
            let changes = state.decide(|stage, peer, slots| stage.follow(now, peer, slots));
            self.schedule(room);
            return Some((room, changes));
        }
        None
    }

    fn schedule(&mut self, room: RoomId) {
        let state = self.rooms.get(&room);
        let at = state.and_then(|state| state.floor.next_deadline());
        self.due.extend(at.map(|at| (at, room)));
    }

    /// Whether a peer has such a slot.
    #[must_use]
    pub(crate) fn has_slot(&self, room: RoomId, peer: PeerId, mid: Mid) -> bool {
        self.slot(room, peer, mid).is_some()
    }

    /// What a slot shows.
    #[must_use]
    pub(crate) fn shows(&self, room: RoomId, peer: PeerId, mid: Mid) -> Option<TrackId> {
        self.slot(room, peer, mid)?.shows
    }

    fn slot(&self, room: RoomId, peer: PeerId, mid: Mid) -> Option<&Slot> {
        let slots = self.rooms.get(&room)?.peers.get(&peer)?;
        slots.iter().find(|s| s.mid == mid)
    }

    /// How many rooms there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    fn change(&mut self, room: RoomId, change: impl FnOnce(&mut Room)) -> Changes {
        let Some(state) = self.rooms.get_mut(&room) else {
            return Changes::default();
        };
        change(state);
        state.refill()
    }
}

#[cfg(test)]
mod tests;
