//! Who gets what: the tracks of each room, and which of them each receive slot shows.
//!
//! In: slots negotiated, tracks published and gone, choices of clients. Out: the slots whose track
//! has changed. No media passes here; this is the table that the workers are told from.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::media::Kind;
use crate::types::{Mid, PeerId, RoomId, TrackId};

/// What a client wants of one of its slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotChoice {
    /// The server fills it: the room's first tracks of its kind, in the order they were published.
    Auto,
    /// This track and no other.
    Pin(TrackId),
    /// Nothing.
    Off,
}

/// A slot whose track has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// The subscriber.
    pub peer: PeerId,
    /// Which of its m-lines.
    pub mid: Mid,
    /// What the slot shows from now on.
    pub track: Option<TrackId>,
}

/// Why a choice was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The peer has no slot with this mid.
    UnknownMid,
    /// No such track of the slot's kind in the peer's room.
    UnknownTrack,
}

#[derive(Debug)]
struct Track {
    id: TrackId,
    peer: PeerId,
    kind: Kind,
}

#[derive(Debug)]
struct Slot {
    mid: Mid,
    kind: Kind,
    choice: SlotChoice,
    shows: Option<TrackId>,
}

#[derive(Debug, Default)]
struct Room {
    /// In the order they were published.
    tracks: Vec<Track>,
    /// Ordered, so that two runs with the same input tell workers the same things in the same order.
    peers: BTreeMap<PeerId, Vec<Slot>>,
}

/// Every room with a peer in it.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: HashMap<RoomId, Room>,
}

impl Rooms {
    /// A peer's slots after an offer: kept ones keep their choice and track, others come and go.
    pub fn set_slots(
        &mut self,
        room: RoomId,
        peer: PeerId,
        slots: &[(Mid, Kind)],
    ) -> Vec<Assignment> {
        let own = self
            .rooms
            .entry(room)
            .or_default()
            .peers
            .entry(peer)
            .or_default();
        let mut old = std::mem::take(own);
        *own = slots
            .iter()
            .map(
                |&(mid, kind)| match old.iter().position(|s| s.mid == mid && s.kind == kind) {
                    Some(index) => old.swap_remove(index),
                    None => Slot {
                        mid,
                        kind,
                        choice: SlotChoice::Auto,
                        shows: None,
                    },
                },
            )
            .collect();
        self.refill(room)
    }

    /// A new track in the room.
    pub fn publish(
        &mut self,
        room: RoomId,
        peer: PeerId,
        track: TrackId,
        kind: Kind,
    ) -> Vec<Assignment> {
        self.rooms.entry(room).or_default().tracks.push(Track {
            id: track,
            peer,
            kind,
        });
        self.refill(room)
    }

    /// A track is gone.
    pub fn unpublish(&mut self, room: RoomId, track: TrackId) -> Vec<Assignment> {
        if let Some(room) = self.rooms.get_mut(&room) {
            room.tracks.retain(|t| t.id != track);
        }
        self.refill(room)
    }

    /// A peer is gone, with its tracks and slots; the room goes with the last one.
    pub fn leave(&mut self, room: RoomId, peer: PeerId) -> Vec<Assignment> {
        let Some(state) = self.rooms.get_mut(&room) else {
            return Vec::new();
        };
        state.peers.remove(&peer);
        state.tracks.retain(|t| t.peer != peer);
        if state.peers.is_empty() {
            self.rooms.remove(&room);
            return Vec::new();
        }
        self.refill(room)
    }

    /// A client decides what a slot shows.
    ///
    /// # Errors
    /// When the slot or the track does not exist, or their kinds differ.
    pub fn choose(
        &mut self,
        room: RoomId,
        peer: PeerId,
        mid: Mid,
        choice: SlotChoice,
    ) -> Result<Vec<Assignment>, Refused> {
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
        Ok(self.refill(room))
    }

    /// What a slot shows.
    #[must_use]
    pub fn shows(&self, room: RoomId, peer: PeerId, mid: Mid) -> Option<TrackId> {
        let slots = self.rooms.get(&room)?.peers.get(&peer)?;
        slots.iter().find(|s| s.mid == mid)?.shows
    }

    /// How many rooms there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is no room.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    fn refill(&mut self, room: RoomId) -> Vec<Assignment> {
        let mut changed = Vec::new();
        let Some(Room { tracks, peers }) = self.rooms.get_mut(&room) else {
            return changed;
        };
        for (&peer, slots) in peers.iter_mut() {
            let before: Vec<Option<TrackId>> = slots.iter().map(|s| s.shows).collect();
            fill(peer, slots, tracks);
            changed.extend(
                slots
                    .iter()
                    .zip(before)
                    .filter(|(slot, before)| slot.shows != *before)
                    .map(|(slot, _)| Assignment {
                        peer,
                        mid: slot.mid,
                        track: slot.shows,
                    }),
            );
        }
        changed
    }
}

/// Decides what each of one peer's slots shows.
fn fill(peer: PeerId, slots: &mut [Slot], tracks: &[Track]) {
    let known: HashMap<TrackId, &Track> = tracks.iter().map(|t| (t.id, t)).collect();
    let mut pinned = HashSet::new();
    for slot in slots.iter_mut() {
        match slot.choice {
            SlotChoice::Auto => {}
            SlotChoice::Off => slot.shows = None,
            SlotChoice::Pin(track) if known.contains_key(&track) => {
                slot.shows = Some(track);
                pinned.insert(track);
            }
            // A pinned track that has ended leaves its slot to the server again.
            SlotChoice::Pin(_) => {
                slot.choice = SlotChoice::Auto;
                slot.shows = None;
            }
        }
    }
    for kind in [Kind::Audio, Kind::Video] {
        let room_for = slots
            .iter()
            .filter(|s| s.kind == kind && s.choice == SlotChoice::Auto)
            .count();
        let mut wanted: Vec<&Track> = tracks
            .iter()
            .filter(|t| t.kind == kind && t.peer != peer && !pinned.contains(&t.id))
            .take(room_for)
            .collect();
        for slot in slots
            .iter_mut()
            .filter(|s| s.kind == kind && s.choice == SlotChoice::Auto)
        {
            match wanted.iter().position(|t| Some(t.id) == slot.shows) {
                Some(index) => {
                    wanted.remove(index);
                }
                None => slot.shows = None,
            }
        }
        for track in wanted {
            if let Some(index) = best_free(slots, track, &known) {
                slots[index].shows = Some(track.id);
            }
        }
    }
}

/// The free slot in which a track is best shown. The n-th audio and the n-th video slot share a
/// media stream, and receivers synchronise sound and picture within a stream only, so a
/// participant's second track goes beside its first where that place is free.
fn best_free(slots: &[Slot], track: &Track, known: &HashMap<TrackId, &Track>) -> Option<usize> {
    let of_kind = |kind| {
        slots
            .iter()
            .enumerate()
            .filter(move |(_, slot)| slot.kind == kind)
    };
    let other = match track.kind {
        Kind::Audio => Kind::Video,
        Kind::Video => Kind::Audio,
    };
    let is_free = |slot: &Slot| slot.choice == SlotChoice::Auto && slot.shows.is_none();
    let publisher_of = |slot: &Slot| slot.shows.and_then(|id| known.get(&id)).map(|t| t.peer);
    let beside = of_kind(other)
        .zip(of_kind(track.kind))
        .find(|((_, twin), (_, slot))| is_free(slot) && publisher_of(twin) == Some(track.peer))
        .map(|(_, (index, _))| index);
    let alone = || {
        let twins: Vec<Option<PeerId>> = of_kind(other).map(|(_, s)| publisher_of(s)).collect();
        of_kind(track.kind)
            .enumerate()
            .find(|(ordinal, (_, slot))| {
                is_free(slot) && twins.get(*ordinal).copied().flatten().is_none()
            })
            .map(|(_, (index, _))| index)
    };
    let any = || {
        of_kind(track.kind)
            .find(|(_, slot)| is_free(slot))
            .map(|(index, _)| index)
    };
    beside.or_else(alone).or_else(any)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId(1);
    const ALICE: PeerId = PeerId(1);
    const BOB: PeerId = PeerId(2);
    const CAROL: PeerId = PeerId(3);

    fn mid(n: u32) -> Mid {
        Mid::new(n.to_string()).unwrap()
    }

    /// Slots numbered from 10: audio first, then video.
    fn slots(audio: u32, video: u32) -> Vec<(Mid, Kind)> {
        (0..audio)
            .map(|n| (mid(10 + n), Kind::Audio))
            .chain((0..video).map(|n| (mid(20 + n), Kind::Video)))
            .collect()
    }

    fn shows(rooms: &Rooms, peer: PeerId, n: u32) -> Option<u64> {
        rooms.shows(ROOM, peer, mid(n)).map(|t| t.0)
    }

    #[test]
    fn slots_fill_in_the_order_of_publishing_and_never_with_ones_own() {
        let mut rooms = Rooms::default();
        rooms.set_slots(ROOM, ALICE, &slots(0, 2));
        rooms.publish(ROOM, ALICE, TrackId(1), Kind::Video);
        assert_eq!(shows(&rooms, ALICE, 20), None);
        let changed = rooms.publish(ROOM, BOB, TrackId(2), Kind::Video);
        assert_eq!(
            changed,
            [Assignment {
                peer: ALICE,
                mid: mid(20),
                track: Some(TrackId(2))
            }]
        );
        rooms.publish(ROOM, CAROL, TrackId(3), Kind::Video);
        assert_eq!(
            rooms.publish(ROOM, CAROL, TrackId(4), Kind::Video),
            [],
            "no slot is left"
        );
        assert_eq!(
            (shows(&rooms, ALICE, 20), shows(&rooms, ALICE, 21)),
            (Some(2), Some(3))
        );

        let changed = rooms.unpublish(ROOM, TrackId(2));
        assert_eq!(changed.len(), 1, "the other slot is left alone");
        assert_eq!(
            (shows(&rooms, ALICE, 20), shows(&rooms, ALICE, 21)),
            (Some(4), Some(3))
        );
    }

    #[test]
    fn a_pin_wins_and_is_given_back_when_its_track_ends() {
        let mut rooms = Rooms::default();
        rooms.set_slots(ROOM, ALICE, &slots(0, 1));
        rooms.publish(ROOM, BOB, TrackId(1), Kind::Video);
        rooms.publish(ROOM, CAROL, TrackId(2), Kind::Video);
        rooms.publish(ROOM, CAROL, TrackId(3), Kind::Audio);
        rooms
            .choose(ROOM, ALICE, mid(20), SlotChoice::Pin(TrackId(2)))
            .unwrap();
        assert_eq!(shows(&rooms, ALICE, 20), Some(2));
        rooms.unpublish(ROOM, TrackId(2));
        assert_eq!(shows(&rooms, ALICE, 20), Some(1));
        rooms.choose(ROOM, ALICE, mid(20), SlotChoice::Off).unwrap();
        assert_eq!(shows(&rooms, ALICE, 20), None);

        let pin = |track| SlotChoice::Pin(TrackId(track));
        for (peer, n, choice, why) in [
            (ALICE, 99, SlotChoice::Auto, Refused::UnknownMid),
            (BOB, 20, SlotChoice::Auto, Refused::UnknownMid),
            (ALICE, 20, pin(77), Refused::UnknownTrack),
            (ALICE, 20, pin(3), Refused::UnknownTrack),
        ] {
            assert_eq!(rooms.choose(ROOM, peer, mid(n), choice), Err(why));
        }
    }

    #[test]
    fn sound_and_picture_of_one_participant_share_an_ordinal() {
        let mut rooms = Rooms::default();
        rooms.set_slots(ROOM, ALICE, &slots(3, 3));
        rooms.publish(ROOM, BOB, TrackId(1), Kind::Audio);
        rooms.publish(ROOM, CAROL, TrackId(2), Kind::Audio);
        rooms.publish(ROOM, CAROL, TrackId(3), Kind::Video);
        assert_eq!(shows(&rooms, ALICE, 21), Some(3), "beside Carol's sound");
        rooms.publish(ROOM, BOB, TrackId(4), Kind::Video);
        assert_eq!(shows(&rooms, ALICE, 20), Some(4), "beside Bob's");
    }

    #[test]
    fn renegotiation_keeps_what_a_slot_shows_and_an_empty_room_is_forgotten() {
        let mut rooms = Rooms::default();
        rooms.set_slots(ROOM, ALICE, &slots(0, 1));
        rooms.publish(ROOM, BOB, TrackId(1), Kind::Video);
        rooms.publish(ROOM, BOB, TrackId(2), Kind::Video);
        rooms.set_slots(ROOM, BOB, &[]);
        let changed = rooms.set_slots(ROOM, ALICE, &slots(0, 2));
        assert_eq!(
            changed,
            [Assignment {
                peer: ALICE,
                mid: mid(21),
                track: Some(TrackId(2))
            }]
        );
        rooms.leave(ROOM, BOB);
        assert_eq!(shows(&rooms, ALICE, 20), None);
        rooms.leave(ROOM, ALICE);
        assert!(rooms.is_empty());
    }
}
