//! Stories of rooms in which people speak, in virtual time: the test plays the workers.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::{Duration, Instant};

use super::messages::Level;
use super::*;
use crate::api::{Priority, Refusal, SlotChoice, SlotView};
use crate::units::Bitrate;

const ROOM: RoomId = RoomId(1);

/// What a voice and a quiet room measure (RFC 6464).
const SPEECH: u8 = 25;
const NOISE: u8 = 75;

/// What a packet of audio holds, and how often a worker tells levels.
const FRAME: Duration = Duration::from_millis(20);
const FRAMES_PER_REPORT: u32 = 5;

struct Call {
    control: Controller,
    start: Instant,
    now: Instant,
    frame: u32,
    last_request: u64,
    levels: Vec<Level>,
    /// Commands, but for those that make peers and tracks.
    commands: Vec<Command>,
    events: Vec<(Duration, Event)>,
    people: Vec<PeerId>,
}

fn mid(name: &str) -> Mid {
    Mid::new(name).unwrap()
}

/// A microphone `a`, a camera `v`, a screen `s`, and slots `a0`, `a1`, … and `v0`, `v1`, ….
fn sections(audio: usize, video: usize) -> Vec<SectionInfo> {
    let section = |name: &str, kind, publishes| SectionInfo {
        mid: mid(name),
        kind,
        publishes,
        is_slot: !publishes,
    };
    let mut sections = vec![
        section("a", Kind::Audio, true),
        section("v", Kind::Video, true),
        section("s", Kind::Video, true),
    ];
    let slots = |letter: char, count| (0..count).map(move |n| format!("{letter}{n}"));
    sections.extend(slots('a', audio).map(|name| section(&name, Kind::Audio, false)));
    sections.extend(slots('v', video).map(|name| section(&name, Kind::Video, false)));
    sections
}

impl Call {
    /// A call of so many people, each with so many slots.
    fn of(people: u64, audio: usize, video: usize) -> Call {
        let now = Instant::now();
        let mut call = Call {
            control: Controller::new(&Config::default(), 7),
            start: now,
            now,
            frame: 0,
            last_request: 0,
            levels: Vec::new(),
            commands: Vec::new(),
            events: Vec::new(),
            people: Vec::new(),
        };
        for n in 1..=people {
            call.people.push(PeerId(n));
            call.offer(PeerId(n), sections(audio, video)).unwrap();
        }
        call.commands.clear();
        call.events.clear();
        call
    }

    fn ask(&mut self, request: Request) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.control.handle_request(id, request);
        id
    }

    /// Takes what comes out, and gives the reply if there is one.
    fn drain(&mut self) -> Option<Reply> {
        let mut replied = None;
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Command(_, command) => self.commands.push(command),
                Output::Event(event) => self.events.push((self.now - self.start, event)),
                Output::Reply(_, reply) => replied = Some(reply),
            }
        }
        replied
    }

    fn offer(&mut self, peer: PeerId, sections: Vec<SectionInfo>) -> Result<Answer, Refusal> {
        self.offer_after(None, peer, sections)
    }

    fn offer_after(
        &mut self,
        former: Option<PeerId>,
        peer: PeerId,
        sections: Vec<SectionInfo>,
    ) -> Result<Answer, Refusal> {
        let people = [(mid("a"), Content::Person), (mid("v"), Content::Person)];
        let offer = Offer {
            sdp: String::new(),
            publish: Publish::Mids(people.to_vec()),
            may_publish: true,
            may_subscribe: true,
            is_whole: false,
            avoid_udp: false,
            person: None,
            former,
        };
        let request = self.ask(Request::Offer {
            room: ROOM,
            peer,
            offer,
        });
        let result = Ok(Answered {
            sdp: String::new(),
            sections,
            refused: Vec::new(),
        });
        let report = Report::Answered { request, result };
        self.control.handle_report(WorkerIndex(0), report);
        match self.drain() {
            Some(Reply::Answered(answer)) => Ok(answer),
            Some(Reply::Refused(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self, request: Request) -> Result<(), Refusal> {
        self.ask(request);
        match self.drain() {
            Some(Reply::Done) => Ok(()),
            Some(Reply::Refused(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass in which some people speak, as people do: with gaps.
    fn run(&mut self, millis: u32, speaking: &[u64]) {
        for _ in 0..millis / 20 {
            self.now += FRAME;
            self.frame += 1;
            for (salt, who) in (0..).zip(self.people.clone()) {
                let n: u32 = self.frame + salt * 17;
                let pauses = n % 64 < 5 || n.is_multiple_of(13);
                let speaks = speaking.contains(&who.0) && !pauses;
                let level = if speaks { SPEECH } else { NOISE } + (n * 7 % 5) as u8;
                let track = self.control.peers[&who].tracks[&mid("a")];
                let at = self.now;
                self.levels.push(Level { at, track, level });
            }
            if self.frame.is_multiple_of(FRAMES_PER_REPORT) {
                let levels = std::mem::take(&mut self.levels);
                self.control
                    .handle_report(WorkerIndex(0), Report::Levels(levels));
            }
            if self
                .control
                .next_deadline()
                .is_some_and(|at| at <= self.now)
            {
                self.control.handle_timeout(self.now);
            }
            self.drain();
        }
    }

    /// Whom a slot shows or lets hear.
    fn shows(&self, peer: u64, slot: &str) -> Option<u64> {
        let track = self.control.rooms.shows(ROOM, PeerId(peer), mid(slot))?;
        Some(self.control.tracks[&track].peer.0)
    }

    fn faces(&self, peer: u64) -> Vec<Option<u64>> {
        let names = ["v0", "v1", "v2"];
        names.iter().map(|slot| self.shows(peer, slot)).collect()
    }

    fn voices(&self, peer: u64) -> Vec<Option<u64>> {
        let names = ["a0", "a1", "a2"];
        names.iter().map(|slot| self.shows(peer, slot)).collect()
    }

    /// How often a slot of somebody was re-pointed since this was asked last.
    fn moves(&mut self, peer: u64) -> usize {
        let events = std::mem::take(&mut self.events);
        let is_own =
            |event: &Event| matches!(event, Event::SlotChanged { peer: p, .. } if p.0 == peer);
        events.iter().filter(|(_, event)| is_own(event)).count()
    }

    /// The weights of somebody's slots that workers were told since this was asked last.
    fn priorities(&mut self, peer: u64) -> Vec<(String, Priority)> {
        let own = std::mem::take(&mut self.commands).into_iter();
        own.filter_map(|command| match command {
            Command::SetPriority {
                peer: p,
                mid,
                priority,
            } if p.0 == peer => Some((mid.to_string(), priority)),
            _ => None,
        })
        .collect()
    }
}

#[test]
fn an_idle_room_stays_still() {
    let mut call = Call::of(6, 2, 2);
    call.run(30_000, &[]);
    assert_eq!(call.events, []);
    assert!(call.commands.is_empty(), "{:?}", call.commands);
}

#[test]
fn with_a_slot_for_every_track_nothing_moves() {
    let mut call = Call::of(4, 3, 3);
    for speaker in [1, 4, 2, 3, 1] {
        call.run(5_000, &[speaker]);
    }
    assert_eq!(call.moves(1), 0);
    assert_eq!(call.faces(4), call.voices(4));
}

#[test]
fn a_new_speaker_becomes_visible_within_two_seconds_and_stays() {
    let mut call = Call::of(6, 3, 3);
    call.run(5_000, &[]);
    assert_eq!(call.faces(1), [Some(2), Some(3), Some(4)]);
    call.run(2_000, &[6]);
    assert_eq!(call.faces(1), [Some(6), Some(3), Some(4)]);
    assert_eq!(call.voices(1), [Some(6), Some(3), Some(4)]);
    call.run(60_000, &[6]);
    call.run(60_000, &[]);
    assert_eq!(call.faces(1), [Some(6), Some(3), Some(4)]);
    assert_eq!(call.moves(1), 2);
    // Nobody sees or hears themselves.
    assert_eq!(call.faces(6), [Some(1), Some(2), Some(3)]);
    assert_eq!(call.voices(6), [Some(1), Some(2), Some(3)]);
}

#[test]
fn a_voice_is_heard_long_before_the_face_is_seen() {
    let mut call = Call::of(6, 3, 3);
    call.run(5_000, &[2, 3]);
    call.run(600, &[2, 3, 6]);
    assert_eq!(call.voices(1), [Some(2), Some(3), Some(6)]);
}

#[test]
fn faces_do_not_hop() {
    let mut call = Call::of(8, 3, 3);
    call.run(5_000, &[]);
    // Three who talk in turn have their places, and keep them.
    for round in 0..20 {
        for speaker in [6, 7, 8] {
            call.run(3_000, &[speaker]);
        }
        let moves = call.moves(1);
        assert!(moves <= if round == 0 { 6 } else { 0 }, "{moves} moves");
    }
    let mut faces = call.faces(1);
    faces.sort();
    assert_eq!(faces, [Some(6), Some(7), Some(8)]);
    // A cough takes nobody's place.
    call.run(60, &[2]);
    call.run(3_000, &[]);
    assert_eq!(call.faces(1).iter().flatten().sum::<u64>(), 6 + 7 + 8);
}

#[test]
fn when_everybody_talks_at_once_slots_change_no_faster_than_they_may() {
    let mut call = Call::of(8, 2, 2);
    call.run(5_000, &[]);
    call.events.clear();
    call.run(60_000, &[1, 2, 3, 4, 5, 6, 7, 8]);
    for (slot, least) in [("a0", 1), ("a1", 1), ("v0", 2), ("v1", 2)] {
        let changed = |event: &Event| matches!(event, Event::SlotChanged { peer: PeerId(1), mid: m, .. } if *m == mid(slot));
        let events = call.events.iter().filter(|(_, event)| changed(event));
        let times: Vec<Duration> = events.map(|(at, _)| *at).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        let shortest = gaps.min().unwrap_or(Duration::MAX);
        assert!(shortest >= Duration::from_secs(least), "{slot}: {times:?}");
    }
}

#[test]
fn a_face_comes_beside_its_voice_where_it_can() {
    let mut call = Call::of(6, 2, 2);
    call.run(5_000, &[]);
    for speaker in [5, 6, 5, 3] {
        call.run(4_000, &[speaker]);
        assert_eq!(call.faces(1), call.voices(1), "{speaker}");
    }
}

#[test]
fn everybody_is_told_who_has_the_floor_and_when_that_one_leaves() {
    let mut call = Call::of(3, 2, 2);
    call.run(2_000, &[]);
    call.run(2_000, &[3]);
    call.run(2_000, &[2]);
    call.people.retain(|who| who.0 != 2);
    call.done(Request::Close { peer: PeerId(2) }).unwrap();
    let told: Vec<Option<PeerId>> = call
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Speakers {
                room: ROOM,
                dominant,
            } => Some(*dominant),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Some(PeerId(3)), Some(PeerId(2)), None]);
    assert_eq!(call.faces(1)[..2], [None, Some(3)]);
}

#[test]
fn a_track_that_is_unpublished_has_no_floor() {
    let mut call = Call::of(2, 1, 1);
    call.run(2_000, &[]);
    call.run(2_000, &[2]);
    let voice = call.control.peers[&PeerId(2)].tracks[&mid("a")];
    call.done(Request::Unpublish {
        peer: PeerId(2),
        track: voice,
    })
    .unwrap();
    let (room, dominant) = (ROOM, None);
    let last = call.events.last().map(|(_, event)| event.clone());
    assert_eq!(last, Some(Event::Speakers { room, dominant }));
}

#[test]
fn workers_are_told_how_important_slots_are() {
    let named = |slot: &str, priority| (slot.to_owned(), priority);
    let mut call = Call::of(3, 2, 3);
    call.run(2_000, &[]);
    call.run(2_000, &[3]);
    assert_eq!(call.priorities(1), [named("v1", Priority::Speaker)]);
    call.ask(Request::Publish {
        peer: PeerId(2),
        mid: mid("s"),
        content: Content::Screen,
    });
    call.drain();
    assert_eq!(call.priorities(1), [named("v2", Priority::Screen)]);
    call.run(3_000, &[2]);
    assert_eq!(
        call.priorities(1),
        [named("v0", Priority::Speaker), named("v1", Priority::Rest)],
        "a screen stays a screen when its owner speaks"
    );
    let camera = call.control.peers[&PeerId(2)].tracks[&mid("v")];
    for (choice, priority) in [
        (SlotChoice::Pin(camera), Priority::Pinned),
        (SlotChoice::Auto, Priority::Speaker),
        (SlotChoice::Off, Priority::Rest),
    ] {
        call.ask(Request::Subscribe {
            peer: PeerId(1),
            mid: mid("v0"),
            to: choice,
        });
        call.drain();
        let told = call.priorities(1);
        assert!(
            told.contains(&named("v0", priority)),
            "{choice:?}: {told:?}"
        );
    }
}

#[test]
fn a_screen_keeps_its_slot_whoever_speaks_and_has_no_voice() {
    let mut call = Call::of(6, 2, 2);
    call.ask(Request::Publish {
        peer: PeerId(6),
        mid: mid("s"),
        content: Content::Screen,
    });
    call.drain();
    let screen = call.control.peers[&PeerId(6)].tracks[&mid("s")];
    let rooms = |call: &Call| {
        let shown = ["v0", "v1"].map(|slot| call.control.rooms.shows(ROOM, PeerId(1), mid(slot)));
        shown.contains(&Some(screen))
    };
    for speaker in [3, 4, 5, 2] {
        call.run(4_000, &[speaker]);
        assert!(rooms(&call), "{speaker}");
        assert!(call.faces(1).contains(&Some(speaker)), "{speaker}");
    }
    let at = call.now;
    let levels = vec![
        Level {
            at,
            track: screen,
            level: 0
        };
        100
    ];
    call.control
        .handle_report(WorkerIndex(0), Report::Levels(levels));
    assert_ne!(call.control.peers[&PeerId(6)].voice, Some(screen));
}

/// A reply overtakes the events that were said before it.
#[test]
fn the_last_event_of_a_slot_is_what_it_shows_whatever_replies_say() {
    let mut call = Call::of(3, 1, 1);
    let camera = call.control.peers[&PeerId(3)].tracks[&mid("v")];
    let subscribe = |choice| Request::Subscribe {
        peer: PeerId(1),
        mid: mid("v0"),
        to: choice,
    };
    let last = |call: &mut Call| {
        let events = std::mem::take(&mut call.events).into_iter().rev();
        let mut own = events.filter_map(|(_, event)| match event {
            Event::SlotChanged {
                peer,
                mid: m,
                track,
            } => ((peer, m) == (PeerId(1), mid("v0"))).then_some(track),
            _ => None,
        });
        own.next()
    };
    for (choice, shows) in [
        (SlotChoice::Pin(camera), Some(3)),
        (SlotChoice::Off, None),
        (SlotChoice::Auto, Some(2)),
    ] {
        call.ask(subscribe(choice));
        call.drain();
        assert_eq!(call.shows(1, "v0"), shows);
        let shown = call.control.rooms.shows(ROOM, PeerId(1), mid("v0"));
        assert_eq!(last(&mut call), Some(shown), "{choice:?}");
    }
    call.offer(PeerId(1), sections(1, 0)).unwrap();
    assert_eq!(last(&mut call), Some(None));
    call.offer(PeerId(1), sections(1, 1)).unwrap();
    let shown = call.control.rooms.shows(ROOM, PeerId(1), mid("v0"));
    assert!(shown.is_some());
    assert_eq!(last(&mut call), Some(shown));
}

#[test]
fn views_are_noted_all_or_none_and_renegotiation_keeps_them() {
    let mut call = Call::of(1, 1, 2);
    let small = SlotView {
        visible: true,
        width: Some(320),
        height: Some(180),
        frame_rate: Some(15),
    };
    let view = |names: &[&str]| names.iter().map(|name| (mid(name), small)).collect();
    for (peer, names, result) in [
        (9, &["v0"][..], Err(CommandError::UnknownPeer)),
        (1, &["v0", "x"], Err(CommandError::UnknownMid(mid("x")))),
        (1, &["v"], Err(CommandError::UnknownMid(mid("v")))),
        (1, &[], Ok(())),
    ] {
        assert_eq!(
            call.done(Request::SetView {
                peer: PeerId(peer),
                views: view(names)
            }),
            result.map_err(Refusal::from)
        );
        assert!(call.commands.is_empty(), "{names:?}: {:?}", call.commands);
    }
    let request = Request::SetView {
        peer: PeerId(1),
        views: view(&["v0", "v1"]),
    };
    assert_eq!(call.done(request), Ok(()));
    let told = |call: &Call| {
        let views = call.commands.iter();
        views
            .filter(|c| matches!(c, Command::SetView { view, .. } if *view == small))
            .count()
    };
    assert_eq!(told(&call), 2);
    // The worker keeps them with the slot: nothing resets them.
    call.offer(PeerId(1), sections(1, 3)).unwrap();
    let reset = |c: &Command| matches!(c, Command::SetView { view, .. } if *view != small);
    assert!(!call.commands.iter().any(reset));
}

#[test]
fn a_new_connection_is_told_what_the_former_carried_whenever_that_is_known() {
    for is_known_before in [true, false] {
        let mut call = Call::of(1, 1, 1);
        let carried = Carried {
            address: [192, 0, 2, 1].into(),
            rate: Bitrate::kbps(2000),
        };
        let report = || Report::Carried {
            peer: PeerId(1),
            carried,
        };
        call.done(Request::Close { peer: PeerId(1) }).unwrap();
        if is_known_before {
            call.control.handle_report(WorkerIndex(0), report());
        }
        call.offer_after(Some(PeerId(1)), PeerId(9), sections(1, 1))
            .unwrap();
        if !is_known_before {
            call.control.handle_report(WorkerIndex(0), report());
        }
        call.drain();
        let told = call.commands.iter().filter(
            |command| matches!(command, Command::Begin { peer: PeerId(9), carried: c } if *c == carried),
        );
        assert_eq!(told.count(), 1);
    }
}
