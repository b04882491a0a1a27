//! Stories of slots.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::Duration;

use proptest::prelude::*;

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

fn publish(rooms: &mut Rooms, peer: PeerId, track: u64, kind: Kind) -> Changes {
    rooms.publish(ROOM, peer, TrackId(track), kind, Content::Person)
}

fn shows(rooms: &Rooms, peer: PeerId, n: u32) -> Option<u64> {
    rooms.shows(ROOM, peer, mid(n)).map(|t| t.0)
}

#[test]
fn slots_fill_in_the_order_of_publishing_and_never_with_ones_own() {
    let mut rooms = Rooms::default();
    rooms.set_slots(ROOM, ALICE, &slots(0, 2));
    publish(&mut rooms, ALICE, 1, Kind::Video);
    assert_eq!(shows(&rooms, ALICE, 20), None);
    let changed = publish(&mut rooms, BOB, 2, Kind::Video);
    assert_eq!(
        changed.shows,
        [Assignment {
            peer: ALICE,
            mid: mid(20),
            track: Some(TrackId(2))
        }]
    );
    publish(&mut rooms, CAROL, 3, Kind::Video);
    assert_eq!(
        publish(&mut rooms, CAROL, 4, Kind::Video),
        Changes::default(),
        "no slot is left"
    );
    assert_eq!(
        (shows(&rooms, ALICE, 20), shows(&rooms, ALICE, 21)),
        (Some(2), Some(3))
    );

    let changed = rooms.unpublish(ROOM, TrackId(2));
    assert_eq!(changed.shows.len(), 1, "the other slot is left alone");
    assert_eq!(
        (shows(&rooms, ALICE, 20), shows(&rooms, ALICE, 21)),
        (Some(4), Some(3))
    );
}

#[test]
fn slots_show_nothing_of_another_peer_of_the_same_person() {
    let mut rooms = Rooms::default();
    let ada = Some(PersonId(7));
    rooms.set_person(ROOM, ALICE, ada);
    rooms.set_slots(ROOM, ALICE, &slots(0, 2));
    rooms.set_slots(ROOM, CAROL, &slots(0, 2));
    rooms.set_person(ROOM, BOB, ada);
    publish(&mut rooms, BOB, 2, Kind::Video);
    publish(&mut rooms, CAROL, 3, Kind::Video);
    let seen = |rooms: &Rooms, peer| (shows(rooms, peer, 20), shows(rooms, peer, 21));
    assert_eq!(seen(&rooms, ALICE), (Some(3), None));
    assert_eq!(seen(&rooms, CAROL), (Some(2), None));
    rooms.leave(ROOM, BOB);
    assert_eq!(seen(&rooms, CAROL), (None, None));
    publish(&mut rooms, BOB, 4, Kind::Video);
    assert_eq!(seen(&rooms, ALICE), (Some(3), Some(4)), "nobody known");
}

#[test]
fn a_pin_wins_and_is_given_back_when_its_track_ends() {
    let mut rooms = Rooms::default();
    rooms.set_slots(ROOM, ALICE, &slots(0, 1));
    publish(&mut rooms, BOB, 1, Kind::Video);
    publish(&mut rooms, CAROL, 2, Kind::Video);
    publish(&mut rooms, CAROL, 3, Kind::Audio);
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
    publish(&mut rooms, BOB, 1, Kind::Audio);
    publish(&mut rooms, CAROL, 2, Kind::Audio);
    publish(&mut rooms, CAROL, 3, Kind::Video);
    assert_eq!(shows(&rooms, ALICE, 21), Some(3), "beside Carol's sound");
    publish(&mut rooms, BOB, 4, Kind::Video);
    assert_eq!(shows(&rooms, ALICE, 20), Some(4), "beside Bob's");
}

#[test]
fn renegotiation_keeps_what_a_slot_shows_and_an_empty_room_is_forgotten() {
    let mut rooms = Rooms::default();
    rooms.set_slots(ROOM, ALICE, &slots(0, 1));
    publish(&mut rooms, BOB, 1, Kind::Video);
    publish(&mut rooms, BOB, 2, Kind::Video);
    rooms.set_slots(ROOM, BOB, &[]);
    let changed = rooms.set_slots(ROOM, ALICE, &slots(0, 2));
    assert_eq!(
        changed.shows,
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

#[test]
fn a_screen_comes_first_and_is_more_important_but_for_what_is_pinned() {
    let mut rooms = Rooms::default();
    rooms.set_slots(ROOM, ALICE, &slots(0, 2));
    publish(&mut rooms, BOB, 1, Kind::Video);
    publish(&mut rooms, CAROL, 2, Kind::Video);
    let weighed = |n, priority| Importance {
        peer: ALICE,
        mid: mid(n),
        priority,
    };
    let changes = rooms.publish(ROOM, BOB, TrackId(3), Kind::Video, Content::Screen);
    assert_eq!(
        (shows(&rooms, ALICE, 20), shows(&rooms, ALICE, 21)),
        (Some(1), Some(3)),
        "Carol came last"
    );
    assert_eq!(changes.priorities, [weighed(21, Priority::Screen)]);
    let pin = SlotChoice::Pin(TrackId(2));
    let changes = rooms.choose(ROOM, ALICE, mid(20), pin).unwrap();
    assert_eq!(changes.priorities, [weighed(20, Priority::Pinned)]);
    let changes = rooms.unpublish(ROOM, TrackId(3));
    assert_eq!(shows(&rooms, ALICE, 21), Some(1), "Bob is back");
    assert_eq!(changes.priorities, [weighed(21, Priority::Rest)]);
    // A slot that goes leaves nothing behind on its worker.
    let changes = rooms.set_slots(ROOM, ALICE, &slots(0, 0));
    assert_eq!(changes.priorities, [weighed(20, Priority::Rest)]);
    let emptied = |n| Assignment {
        peer: ALICE,
        mid: mid(n),
        track: None,
    };
    assert_eq!(changes.shows, [emptied(20), emptied(21)]);
}

#[derive(Clone, Debug)]
enum Act {
    Slots(u64, u32, u32),
    Publish(u64, bool, bool),
    Unpublish(u64),
    Choose(u64, u32, Option<u64>),
    Speak(u64, u8),
    Leave(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let peer = 1..6_u64;
    let slot = prop_oneof![10..13_u32, 20..23_u32];
    prop_oneof![
        (peer.clone(), 0..4_u32, 0..4_u32).prop_map(|(p, a, v)| Act::Slots(p, a, v)),
        (peer.clone(), any::<bool>(), any::<bool>()).prop_map(|(p, k, c)| Act::Publish(p, k, c)),
        (1..20_u64).prop_map(Act::Unpublish),
        (peer.clone(), slot, prop::option::of(0..20_u64))
            .prop_map(|(p, slot, track)| Act::Choose(p, slot, track)),
        (peer.clone(), 0..128_u8).prop_map(|(p, level)| Act::Speak(p, level)),
        peer.prop_map(Act::Leave),
    ]
}

proptest! {
    /// Whatever happens, nobody gets their own tracks or one track twice, no slot stays empty that
    /// could show something, and what was told is what is.
    #[test]
    fn no_acts_bring_slots_into_disorder(acts in prop::collection::vec(act(), 0..60)) {
        let mut rooms = Rooms::default();
        let mut now = Instant::now();
        let mut told: BTreeMap<(PeerId, Mid), (Option<TrackId>, Priority)> = BTreeMap::new();
        let mut last_track = 0;
        for act in acts {
            now += Duration::from_millis(50);
            let mut changes = match act {
                Act::Slots(peer, audio, video) => {
                    rooms.set_slots(ROOM, PeerId(peer), &slots(audio, video))
                }
                Act::Publish(peer, is_audio, is_screen) => {
                    last_track += 1;
                    let kind = if is_audio { Kind::Audio } else { Kind::Video };
                    let content = if is_screen { Content::Screen } else { Content::Person };
                    rooms.publish(ROOM, PeerId(peer), TrackId(last_track), kind, content)
                }
                Act::Unpublish(track) => rooms.unpublish(ROOM, TrackId(track)),
                Act::Choose(peer, slot, track) => {
                    let choice = match track {
                        None => SlotChoice::Off,
                        Some(0) => SlotChoice::Auto,
                        Some(track) => SlotChoice::Pin(TrackId(track)),
                    };
                    let chosen = rooms.choose(ROOM, PeerId(peer), mid(slot), choice);
                    chosen.unwrap_or_default()
                }
                Act::Speak(peer, level) => {
                    for n in 0..15 {
                        let at = now + n * Duration::from_millis(20);
                        rooms.handle_level(at, ROOM, PeerId(peer), level);
                    }
                    Changes::default()
                }
                Act::Leave(peer) => rooms.leave(ROOM, PeerId(peer)),
            };
            while let Some((_, more)) = rooms.handle_timeout(now) {
                changes.shows.extend(more.shows);
                changes.priorities.extend(more.priorities);
            }
            for Assignment { peer, mid, track } in changes.shows {
                told.entry((peer, mid)).or_default().0 = track;
            }
            for Importance { peer, mid, priority } in changes.priorities {
                told.entry((peer, mid)).or_default().1 = priority;
            }
            let Some(room) = rooms.rooms.get(&ROOM) else {
                told.clear();
                continue;
            };
            for (&(peer, mid), &known) in &told {
                let is_there = rooms.has_slot(ROOM, peer, mid) || !room.peers.contains_key(&peer);
                prop_assert!(is_there || known == (None, Priority::default()));
            }
            told.retain(|(peer, mid), _| rooms.has_slot(ROOM, *peer, *mid));
            for (&peer, slots) in &room.peers {
                for kind in [Kind::Audio, Kind::Video] {
                    let own: Vec<&Slot> = slots.iter().filter(|s| s.is_automatic(kind)).collect();
                    let shown: Vec<TrackId> = own.iter().filter_map(|s| s.shows).collect();
                    let pinned: Vec<TrackId> = slots.iter().filter_map(Slot::pinned).collect();
                    let others = room.tracks.iter().filter(|t| t.kind == kind && t.peer != peer);
                    let open: Vec<TrackId> =
                        others.map(|t| t.id).filter(|id| !pinned.contains(id)).collect();
                    let distinct: BTreeSet<TrackId> = shown.iter().copied().collect();
                    prop_assert!(shown.iter().all(|id| open.contains(id)));
                    prop_assert_eq!(distinct.len(), shown.len());
                    prop_assert_eq!(shown.len(), own.len().min(open.len()));
                }
                for slot in slots {
                    let known = told.get(&(peer, slot.mid)).copied().unwrap_or_default();
                    prop_assert_eq!(known, (slot.shows, slot.priority));
                }
            }
        }
    }
}
