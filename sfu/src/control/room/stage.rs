//! What each slot of a peer shows.
//!
//! In: the tracks of the room, who speaks, and what the peer has chosen. Out: its slots, each with
//! what it shows and how important that is. While there are slots for every track nothing moves.
//! When there are not, screens come first, and the slots left to the server follow the speakers:
//! who speaks takes the place of whoever has been silent for longest, and everyone else stays.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::floor::Floor;
use super::{Slot, Track};
use crate::api::{Content, Priority, SlotChoice};
use crate::media::Kind;
use crate::types::{PeerId, PersonId, TrackId};

/// Whoever has come into a slot by speaking stays for this time. A video costs its publisher a
/// key frame, and faces are not to hop; a voice costs nothing, but what is cut to pieces cannot be
/// understood.
pub(super) const STAY_VIDEO: Duration = Duration::from_secs(2);
/// As [`STAY_VIDEO`], for audio.
pub(super) const STAY_AUDIO: Duration = Duration::from_secs(1);

/// What a room has to show.
pub(super) struct Stage<'a> {
    /// The most important first.
    tracks: Vec<&'a Track>,
    known: HashMap<TrackId, &'a Track>,
    persons: &'a HashMap<PeerId, PersonId>,
    floor: &'a Floor,
}

impl<'a> Stage<'a> {
    /// For the tracks of a room, in the order they were published.
    pub(super) fn new(
        tracks: &'a [Track],
        persons: &'a HashMap<PeerId, PersonId>,
        floor: &'a Floor,
    ) -> Self {
        let mut ranked: Vec<&Track> = tracks.iter().collect();
        ranked.sort_by_cached_key(|t| (t.content != Content::Screen, floor.importance(t.peer)));
        Stage {
            tracks: ranked,
            known: tracks.iter().map(|t| (t.id, t)).collect(),
            persons,
            floor,
        }
    }

    /// Decides what each of one peer's slots shows.
    pub(super) fn fill(&self, peer: PeerId, slots: &mut [Slot]) {
        for slot in slots.iter_mut() {
            match slot.choice {
                SlotChoice::Auto => {}
                SlotChoice::Off => slot.shows = None,
                SlotChoice::Pin(track) if self.known.contains_key(&track) => {
                    slot.shows = Some(track);
                }
                // A pinned track that has ended leaves its slot to the server again.
                SlotChoice::Pin(_) => {
                    slot.choice = SlotChoice::Auto;
                    slot.shows = None;
                }
            }
        }
        for kind in [Kind::Audio, Kind::Video] {
            let shown: HashSet<TrackId> = automatic(slots, kind).filter_map(|s| s.shows).collect();
            let mut wanted = self.candidates(peer, slots, kind);
            // Whoever is shown stays, but for a screen that needs the place.
            wanted.sort_by_key(|t| (t.content != Content::Screen, !shown.contains(&t.id)));
            wanted.truncate(automatic(slots, kind).count());
            for slot in slots.iter_mut().filter(|s| s.is_automatic(kind)) {
                match wanted.iter().position(|t| Some(t.id) == slot.shows) {
                    Some(index) => {
                        wanted.remove(index);
                    }
                    None => slot.shows = None,
                }
            }
            for track in wanted {
                if let Some(index) = self.best_free(slots, track) {
                    slots[index].shows = Some(track.id);
                }
            }
        }
    }

    /// Lets the slots that are left to the server follow the speakers.
    pub(super) fn follow(&self, now: Instant, peer: PeerId, slots: &mut [Slot]) {
        for kind in [Kind::Audio, Kind::Video] {
            let candidates = self.candidates(peer, slots, kind);
            if candidates.len() <= automatic(slots, kind).count() {
                continue;
            }
            match kind {
                Kind::Audio => self.follow_voices(now, peer, slots, &candidates),
                Kind::Video => self.follow_faces(now, slots, &candidates),
            }
        }
    }

    /// The camera of who has the floor takes the place of one who has not had it for longest.
    fn follow_faces(&self, now: Instant, slots: &mut [Slot], candidates: &[&Track]) {
        let Some(dominant) = self.floor.dominant() else {
            return;
        };
        let is_shown = automatic(slots, Kind::Video).any(|s| self.person_in(s) == Some(dominant));
        let camera = candidates.iter().find(|t| t.is_of(dominant));
        let (Some(camera), false) = (camera, is_shown) else {
            return;
        };
        let free: Vec<usize> = self.movable(now, slots, Kind::Video).collect();
        let mut places: Vec<Option<PeerId>> = free
            .iter()
            .map(|index| self.person_in(&slots[*index]))
            .collect();
        if let Some(place) = self.floor.follow(&mut places) {
            slots[free[place]].shows = Some(camera.id);
            slots[free[place]].moved = Some(now);
        }
    }

    /// The loudest take the places of those who have been silent for longest.
    fn follow_voices(&self, now: Instant, peer: PeerId, slots: &mut [Slot], candidates: &[&Track]) {
        let others = self.floor.audible().iter().filter(|who| **who != peer);
        let voices = others.filter_map(|who| candidates.iter().find(|t| t.is_of(*who)));
        let loudest: Vec<&Track> = voices
            .take(automatic(slots, Kind::Audio).count())
            .copied()
            .collect();
        let mut come = loudest.clone();
        come.retain(|t| automatic(slots, Kind::Audio).all(|s| s.shows != Some(t.id)));
        let is_loud = |slot: &Slot| loudest.iter().any(|t| Some(t.id) == slot.shows);
        let mut go: Vec<usize> = self
            .movable(now, slots, Kind::Audio)
            .filter(|index| !is_loud(&slots[*index]))
            .collect();
        go.sort_by_key(|index| {
            let person = self.person_in(&slots[*index]);
            let importance = person.map(|who| self.floor.importance(who));
            (importance.is_some(), Reverse(importance))
        });
        go.truncate(come.len());
        come.truncate(go.len());
        for index in go {
            slots[index].shows = None;
        }
        for track in come {
            if let Some(index) = self.best_free(slots, track) {
                slots[index].shows = Some(track.id);
                slots[index].moved = Some(now);
            }
        }
    }

    /// How important a slot is.
    pub(super) fn priority(&self, slot: &Slot) -> Priority {
        let track = slot.shows.and_then(|id| self.known.get(&id));
        match (slot.choice, track) {
            (SlotChoice::Pin(_), _) => Priority::Pinned,
            (_, Some(track)) if track.content == Content::Screen => Priority::Screen,
            (_, Some(track)) if track.kind == Kind::Video => match self.floor.dominant() {
                Some(dominant) if track.peer == dominant => Priority::Speaker,
                _ => Priority::Rest,
            },
            _ => Priority::Rest,
        }
    }

    /// What the slots left to the server could show, the most important first.
    fn candidates(&self, peer: PeerId, slots: &[Slot], kind: Kind) -> Vec<&'a Track> {
        let pinned: HashSet<TrackId> = slots.iter().filter_map(Slot::pinned).collect();
        let tracks = self.tracks.iter();
        let others = tracks.filter(|t| t.kind == kind && !self.is_same_person(t.peer, peer));
        others
            .filter(|t| !pinned.contains(&t.id))
            .copied()
            .collect()
    }

    fn is_same_person(&self, one: PeerId, other: PeerId) -> bool {
        let person = |peer| self.persons.get(&peer);
        one == other || person(one).is_some_and(|is| person(other) == Some(is))
    }

    /// The slots that may show somebody else now. Those that show a screen may not.
    fn movable<'s>(
        &'s self,
        now: Instant,
        slots: &'s [Slot],
        kind: Kind,
    ) -> impl Iterator<Item = usize> + 's {
        let stay = match kind {
            Kind::Audio => STAY_AUDIO,
            Kind::Video => STAY_VIDEO,
        };
        let has_stayed = move |slot: &Slot| {
            slot.moved
                .is_none_or(|at| now.saturating_duration_since(at) >= stay)
        };
        (0..slots.len()).filter(move |index| {
            let slot = &slots[*index];
            let is_free = slot.shows.is_none() || self.person_in(slot).is_some();
            slot.is_automatic(kind) && is_free && has_stayed(slot)
        })
    }

    /// Whom a slot shows, unless it is a screen or nothing.
    fn person_in(&self, slot: &Slot) -> Option<PeerId> {
        let track = self.known.get(&slot.shows?)?;
        (track.content == Content::Person).then_some(track.peer)
    }

    /// The free slot in which a track is best shown. The n-th audio and the n-th video slot share a
    /// media stream, and receivers synchronise audio and video within a stream only, so a
    /// participant's second track goes beside its first where that place is free.
    fn best_free(&self, slots: &[Slot], track: &Track) -> Option<usize> {
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
        let is_free = |slot: &Slot| slot.is_automatic(track.kind) && slot.shows.is_none();
        let publisher_of = |slot: &Slot| {
            slot.shows
                .and_then(|id| self.known.get(&id))
                .map(|t| t.peer)
        };
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
}

fn automatic(slots: &[Slot], kind: Kind) -> impl Iterator<Item = &Slot> {
    slots.iter().filter(move |slot| slot.is_automatic(kind))
}
