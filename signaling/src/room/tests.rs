//! Who hears what of whom.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;
use crate::auth::Auth;

fn name(text: &str) -> RoomName {
    text.parse().unwrap()
}

fn enter(rooms: &mut Rooms, room: &str, who: &str) -> ParticipantId {
    come(rooms, room, named(who))
}

fn nobody() -> Holder {
    let access = Auth::open().check(None, SystemTime::now()).unwrap();
    Holder::new([192, 0, 2, 1].into(), &access)
}

fn named(who: &str) -> Entrant {
    Entrant {
        via: Via::Socket,
        name: Some(who.to_owned()),
        identity: None,
        metadata: None,
        holder: nobody(),
    }
}

/// Somebody without a name, with an identity or without.
fn nameless(via: Via, identity: &str) -> Entrant {
    Entrant {
        via,
        name: None,
        identity: (!identity.is_empty()).then(|| identity.to_owned()),
        metadata: None,
        holder: nobody(),
    }
}

fn come(rooms: &mut Rooms, room: &str, entrant: Entrant) -> ParticipantId {
    let id = rooms.admit(&name(room), entrant).unwrap().id;
    rooms.announce(id);
    id
}

/// One who publishes a track with its first offer.
fn publish(rooms: &mut Rooms, room: &str, entrant: Entrant, track: u64) -> ParticipantId {
    let id = rooms.admit(&name(room), entrant).unwrap().id;
    rooms.add_track(id, TrackId(track), Kind::Video, camera());
    rooms.announce(id);
    id
}

/// What one member was told.
fn heard(rooms: &mut Rooms, who: ParticipantId) -> Vec<Value> {
    let events = std::iter::from_fn(|| rooms.poll_event());
    events
        .filter(|(hearer, _)| *hearer == who)
        .map(|(_, event)| serde_json::to_value(event).unwrap())
        .collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["type"].as_str().unwrap()).collect()
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
    let bob = rooms.admit(&name("kitchen"), named("Bob")).unwrap().id;
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
        identity_participants: 1,
        tracks: 1,
    });
    enter(&mut rooms, "kitchen", "Alice");
    let full = rooms.admit(&name("kitchen"), named("Bob")).unwrap_err();
    assert_eq!(full.code, ErrorCode::RoomFull);
    let full = rooms.admit(&name("cellar"), named("Bob")).unwrap_err();
    assert_eq!(full.code, ErrorCode::ServerFull);
    assert_eq!((rooms.room_count(), rooms.participant_count()), (1, 1));
}

#[test]
fn one_address_leaves_rooms_to_be_opened_by_others() {
    for (address, other, may) in [
        ("192.0.2.1", "192.0.2.2", 5),
        // Another network of the same site, and another site.
        ("2001:db8:0:1::1", "2001:db8:1::1", 5),
        ("127.0.0.1", "192.0.2.1", 18),
        ("10.0.0.1", "10.0.0.2", 18),
    ] {
        let mut rooms = Rooms::new(Limits {
            rooms: 20,
            ..Limits::default()
        });
        let from = |address: &str| Entrant {
            holder: Holder {
                address: address.parse().unwrap(),
                ..nobody()
            },
            ..named("Eve")
        };
        for n in 0..may {
            come(&mut rooms, &format!("room-{n}"), from(address));
        }
        let refusal = rooms.admit(&name("one-more"), from(address)).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::ServerFull, "{address}");
        assert!(refusal.message.contains(&format!("opened {may} rooms")));
        come(&mut rooms, "room-0", from(address));
        let last = come(&mut rooms, "one-more", from(other));
        rooms.remove(last, "left");
        assert_eq!(rooms.room_count(), may, "{address}");
    }
    let mut rooms = Rooms::new(Limits::default());
    let from = |n: u16| Entrant {
        holder: Holder {
            address: [0x2001, 0xdb8, 0, n, 0, 0, 0, 1].into(),
            ..nobody()
        },
        ..named("Eve")
    };
    let opened = (0..1_000).filter(|n| rooms.admit(&name(&n.to_string()), from(*n)).is_ok());
    assert_eq!(opened.count(), 250, "from as many networks of one site");
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

#[test]
fn who_only_watches_is_counted_and_nobody_hears_of_it_by_name() {
    let mut rooms = Rooms::new(Limits::default());
    let now = Instant::now();
    let alice = enter(&mut rooms, "kitchen", "Alice");
    rooms.handle_timeout(now);
    assert_eq!(heard(&mut rooms, alice), Vec::<Value>::new());
    let viewer = come(&mut rooms, "kitchen", nameless(Via::Whep, ""));
    assert_eq!(rooms.others(alice), []);
    rooms.handle_timeout(now);
    let told = heard(&mut rooms, alice);
    assert_eq!(told, [json!({"type": "viewers", "viewers": 1})]);
    assert_eq!((rooms.participant_count(), rooms.viewer_count()), (1, 1));
    rooms.remove(viewer, "left");
    let now = now + Duration::from_secs(1);
    rooms.handle_timeout(now);
    let told = heard(&mut rooms, alice);
    assert_eq!(told, [json!({"type": "viewers", "viewers": 0})]);
}

#[test]
fn the_number_of_viewers_is_told_once_a_second_and_in_the_end_is_right() {
    let mut rooms = Rooms::new(Limits::default());
    let start = Instant::now();
    let alice = enter(&mut rooms, "kitchen", "Alice");
    let mut told = Vec::new();
    for tenth in 0..50_u32 {
        let now = start + Duration::from_millis(100) * tenth;
        come(&mut rooms, "kitchen", nameless(Via::Whep, ""));
        rooms.handle_timeout(now);
        told.extend(heard(&mut rooms, alice));
    }
    assert_eq!(told.len(), 5, "{told:?}");
    // Somebody who comes now knows the number already, the others hear of it when they may.
    let late = enter(&mut rooms, "kitchen", "Late");
    assert_eq!(rooms.viewers_for(late), 50);
    let at = rooms.next_deadline().expect("the rest is to be told");
    rooms.handle_timeout(at);
    let told = heard(&mut rooms, alice);
    assert_eq!(told.last().unwrap()["viewers"], 50);
    rooms.handle_timeout(at + Duration::from_secs(9));
    assert_eq!(rooms.next_deadline(), None);
    assert_eq!(heard(&mut rooms, alice), Vec::<Value>::new());
}

#[test]
fn one_who_came_between_two_words_hears_the_next_one_too() {
    let mut rooms = Rooms::new(Limits::default());
    let now = Instant::now();
    enter(&mut rooms, "kitchen", "Alice");
    let first = come(&mut rooms, "kitchen", nameless(Via::Whep, ""));
    rooms.handle_timeout(now);
    let second = come(&mut rooms, "kitchen", nameless(Via::Whep, ""));
    rooms.handle_timeout(now);
    let late = enter(&mut rooms, "kitchen", "Late");
    assert_eq!(rooms.viewers_for(late), 2);
    rooms.remove(second, "left");
    heard(&mut rooms, late);
    rooms.handle_timeout(now);
    rooms.handle_timeout(rooms.next_deadline().unwrap());
    let told = heard(&mut rooms, late);
    assert_eq!(told, [json!({"type": "viewers", "viewers": 1})]);
    assert!(rooms.room_of(first).is_some());
}

#[test]
fn a_viewer_who_publishes_is_a_participant_for_as_long_as_it_does() {
    let mut rooms = Rooms::new(Limits::default());
    let now = Instant::now();
    let alice = enter(&mut rooms, "kitchen", "Alice");
    let guest = come(&mut rooms, "kitchen", nameless(Via::Socket, ""));
    rooms.handle_timeout(now);
    assert_eq!(rooms.name_of(guest), None);
    heard(&mut rooms, alice);
    rooms.add_track(guest, TrackId(1), Kind::Video, camera());
    rooms.add_track(guest, TrackId(2), Kind::Audio, camera());
    let now = now + Duration::from_secs(1);
    rooms.handle_timeout(now);
    let told = heard(&mut rooms, alice);
    assert_eq!(
        types(&told),
        ["participant_joined", "track_published", "viewers"]
    );
    assert_eq!(told[0]["participant"]["name"], "Guest");
    assert_eq!(told[0]["participant"]["tracks"][0]["id"], "t_1");
    assert_eq!(told[2]["viewers"], 0);
    assert!(rooms.sees(alice, TrackId(1)));
    assert_eq!(rooms.others(alice).len(), 1);
    rooms.remove_tracks(guest);
    rooms.handle_timeout(now + Duration::from_secs(1));
    let told = heard(&mut rooms, alice);
    let expected = [
        "track_unpublished",
        "track_unpublished",
        "participant_left",
        "viewers",
    ];
    assert_eq!(types(&told), expected);
    assert_eq!(told[2]["reason"], "watching");
    assert_eq!(told[3]["viewers"], 1);
}

#[test]
fn who_publishes_by_whip_and_watches_by_whep_is_one_person_whichever_comes_first() {
    for watches_first in [true, false] {
        let mut rooms = Rooms::new(Limits::default());
        let now = Instant::now();
        let alice = enter(&mut rooms, "kitchen", "Alice");
        let watch = |rooms: &mut Rooms| come(rooms, "kitchen", nameless(Via::Whep, "ada"));
        let send = |rooms: &mut Rooms| publish(rooms, "kitchen", nameless(Via::Whip, "ada"), 1);
        let (watching, sending) = match watches_first {
            true => {
                let watching = watch(&mut rooms);
                (watching, send(&mut rooms))
            }
            false => {
                let sending = send(&mut rooms);
                (watch(&mut rooms), sending)
            }
        };
        rooms.handle_timeout(now);
        let told = heard(&mut rooms, alice);
        assert_eq!(types(&told), ["participant_joined"]);
        assert_eq!(told[0]["participant"]["identity"], "ada");
        assert!(!rooms.sees(watching, TrackId(1)), "its own");
        assert_eq!((rooms.participant_count(), rooms.viewer_count()), (2, 0));
        let id: ParticipantId = told[0]["participant"]["id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(rooms.meant_by(&name("kitchen"), id), [watching, sending]);
        // What publishes goes: what watches is a viewer.
        rooms.remove(sending, "left");
        rooms.handle_timeout(now);
        let told = heard(&mut rooms, alice);
        assert_eq!(
            types(&told),
            ["track_unpublished", "participant_left", "viewers"]
        );
        assert_eq!(told[1]["reason"], "watching");
        rooms.remove(watching, "left");
        assert_eq!(rooms.viewer_count(), 0);
    }
}

#[test]
fn a_named_viewer_who_goes_live_stays_the_same_participant() {
    let mut rooms = Rooms::new(Limits::default());
    let alice = enter(&mut rooms, "kitchen", "Alice");
    let ada = |via| Entrant {
        name: Some("Ada".into()),
        ..nameless(via, "ada")
    };
    let watching = come(&mut rooms, "kitchen", ada(Via::Whep));
    let again = come(&mut rooms, "kitchen", ada(Via::Whep));
    let told = heard(&mut rooms, alice);
    assert_eq!(
        types(&told),
        ["participant_joined"; 2],
        "two that only watch are two"
    );
    let sending = publish(&mut rooms, "kitchen", ada(Via::Whip), 1);
    let told = heard(&mut rooms, alice);
    assert_eq!(types(&told), ["participant_left", "track_published"]);
    assert_eq!(told[0]["participant"], again.to_string());
    assert_eq!(told[0]["reason"], "merged");
    assert_eq!(told[1]["participant"], watching.to_string());
    // Another encoder is another participant: it may be the same one that comes back.
    let second = publish(&mut rooms, "kitchen", ada(Via::Whip), 2);
    let told = heard(&mut rooms, alice);
    assert_eq!(told[0]["participant"]["id"], second.to_string());
    rooms.remove(sending, "connection_lost");
    let told = heard(&mut rooms, alice);
    assert_eq!(types(&told), ["track_unpublished", "participant_left"]);
    assert_eq!(
        told[1]["reason"], "merged",
        "it watches as the second one now"
    );
    rooms.remove(second, "left");
    let told = heard(&mut rooms, alice);
    assert_eq!(
        types(&told),
        ["track_unpublished"],
        "its name is still there"
    );
    rooms.remove(watching, "left");
    rooms.remove(again, "left");
    assert_eq!(types(&heard(&mut rooms, alice)), ["participant_left"]);
}

#[test]
fn nobody_is_taken_for_another() {
    let mut rooms = Rooms::new(Limits::default());
    let person = |rooms: &mut Rooms, room: &str, via, identity| {
        let place = rooms.admit(&name(room), nameless(via, identity)).unwrap();
        rooms.announce(place.id);
        place.person
    };
    let ada = person(&mut rooms, "kitchen", Via::Whip, "ada");
    assert!(ada.is_some());
    assert_eq!(person(&mut rooms, "kitchen", Via::Whep, "ada"), ada);
    for (room, via, identity) in [
        ("kitchen", Via::Whep, "bob"),
        ("kitchen", Via::Whep, ""),
        ("kitchen", Via::Socket, "ada"),
        ("cellar", Via::Whep, "ada"),
    ] {
        let other = person(&mut rooms, room, via, identity);
        assert_ne!(other, ada, "{room} {via:?} {identity}");
    }
    assert_eq!(person(&mut rooms, "kitchen", Via::Socket, "ada"), None);
    assert_eq!(rooms.participant_count(), 1);
    assert_eq!(rooms.viewer_count(), 5);
}
