use super::*;
use proptest::prelude::*;

const SPEECH: u8 = 25;
const NOISE: u8 = 75;

/// A room in which a packet comes from everyone every 20 ms.
struct Room {
    speakers: Speakers<&'static str>,
    now: Instant,
    frame: u32,
}

impl Room {
    fn new() -> Self {
        Room {
            speakers: Speakers::default(),
            now: Instant::now(),
            frame: 0,
        }
    }

    /// Speech has gaps, between syllables and between sentences.
    fn level(&self, level: u8, salt: u32) -> u8 {
        let n = self.frame.wrapping_add(salt * 17);
        let pauses = level == SPEECH && (n % 64 < 5 || n.is_multiple_of(13));
        if pauses {
            NOISE
        } else {
            level + (n * 7 % 5) as u8
        }
    }

    /// Runs with these levels, and gives those who took over.
    fn run(&mut self, millis: u32, levels: &[(&'static str, u8)]) -> Vec<&'static str> {
        let mut took_over = Vec::new();
        for _ in 0..millis / 20 {
            self.now += FRAME;
            self.frame += 1;
            for (salt, (who, level)) in levels.iter().enumerate() {
                let level = self.level(*level, salt as u32);
                self.speakers.handle_level(self.now, who, level);
            }
            took_over.extend(self.speakers.poll(self.now));
        }
        took_over
    }
}

#[test]
fn whoever_speaks_takes_over_within_a_second() {
    let mut room = Room::new();
    let quiet = [("alice", NOISE), ("bob", NOISE)];
    assert_eq!(room.run(5000, &quiet), [""; 0]);
    assert_eq!(
        room.run(1000, &[("alice", SPEECH), ("bob", NOISE)]),
        ["alice"]
    );
    assert_eq!(
        room.run(20_000, &[("alice", SPEECH), ("bob", NOISE)]),
        [""; 0]
    );
    assert_eq!(
        room.run(1600, &[("alice", NOISE), ("bob", SPEECH)]),
        ["bob"]
    );
    room.run(60_000, &quiet);
    assert_eq!(room.speakers.dominant(), Some("bob"), "in silence too");
}

#[test]
fn a_cough_and_a_word_thrown_in_change_nothing() {
    let mut room = Room::new();
    room.run(10_000, &[("alice", SPEECH), ("bob", NOISE)]);
    for word in [60, 200, 400] {
        assert_eq!(
            room.run(word, &[("alice", SPEECH), ("bob", 15)]),
            [""; 0],
            "{word} ms"
        );
        assert_eq!(
            room.run(3000, &[("alice", SPEECH), ("bob", NOISE)]),
            [""; 0]
        );
    }
    room.run(3000, &[("alice", NOISE), ("bob", NOISE)]);
    assert_eq!(
        room.run(40, &[("alice", NOISE), ("bob", 15)]),
        [""; 0],
        "in silence"
    );
}

#[test]
fn steady_noise_is_no_speech() {
    let mut room = Room::new();
    let fan = [("alice", NOISE), ("fan", 40)];
    room.run(40_000, &fan);
    room.run(2000, &[("alice", SPEECH), ("fan", 40)]);
    assert_eq!(room.speakers.dominant(), Some("alice"));
    assert_eq!(room.run(30_000, &fan), [""; 0]);
}

#[test]
fn two_who_talk_at_once_do_not_make_faces_hop() {
    let mut room = Room::new();
    room.run(1000, &[("alice", NOISE), ("bob", NOISE)]);
    let switches = room.run(60_000, &[("alice", SPEECH), ("bob", SPEECH + 2)]);
    assert!(switches.len() <= 6, "{} in a minute", switches.len());
}

#[test]
fn one_who_stops_sending_is_silent() {
    let mut room = Room::new();
    room.run(5000, &[("alice", SPEECH), ("bob", NOISE)]);
    assert_eq!(room.speakers.loudest(room.now, 5), ["alice"]);
    // Discontinuous transmission: no packets at all.
    assert_eq!(room.run(2000, &[("bob", SPEECH)]), ["bob"]);
    assert_eq!(room.speakers.loudest(room.now, 5), ["bob"]);
    room.speakers.remove("bob");
    assert_eq!(room.speakers.dominant(), None);
}

#[test]
fn the_loudest_are_in_order() {
    let mut room = Room::new();
    room.run(
        500,
        &["alice", "bob", "carol", "dave"].map(|who| (who, NOISE)),
    );
    room.run(
        2000,
        &[("alice", 40), ("bob", 20), ("carol", 60), ("dave", 127)],
    );
    assert_eq!(room.speakers.loudest(room.now, 2), ["bob", "alice"]);
}

#[test]
fn places_follow_the_speakers_and_the_others_stay() {
    let mut room = Room::new();
    let mut places = [None; 2];
    let mut speak = |who: &'static str| {
        let mut levels = vec![("alice", NOISE), ("bob", NOISE), ("carol", NOISE)];
        levels.retain(|(name, _)| *name != who);
        levels.push((who, SPEECH));
        room.run(4000, &levels);
        room.speakers.follow(&mut places);
        places
    };
    assert_eq!(speak("alice"), [Some("alice"), None]);
    assert_eq!(speak("bob"), [Some("alice"), Some("bob")]);
    assert_eq!(speak("alice"), [Some("alice"), Some("bob")], "no hop");
    assert_eq!(speak("carol"), [Some("alice"), Some("carol")]);
    assert_eq!(speak("bob"), [Some("bob"), Some("carol")]);
}

#[test]
fn a_crowd_is_bounded() {
    let mut speakers = Speakers::default();
    let now = Instant::now();
    for who in 0..10_000 {
        speakers.handle_level(now, who, 0);
    }
    assert_eq!(speakers.speakers.len(), MAX_SPEAKERS);
}

proptest! {
    #[test]
    fn no_levels_break_it(packets in prop::collection::vec((0u64..1 << 40, 0u8..5, any::<u8>()), 0..300)) {
        let start = Instant::now();
        let mut speakers = Speakers::default();
        for (micros, who, level) in packets {
            let now = start + Duration::from_micros(micros);
            speakers.handle_level(now, who, level);
            speakers.poll(now);
            prop_assert!(speakers.loudest(now, 3).len() <= 3);
        }
    }
}
