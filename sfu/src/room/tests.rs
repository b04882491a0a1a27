//! Stories of slots.

#![allow(clippy::unwrap_used)]

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
}
