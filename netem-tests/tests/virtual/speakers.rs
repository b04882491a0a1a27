//! Those who speak are seen and heard, from the level in their packets to the picture on a screen.

use confab_netem_tests::virtual_time::call::{Call, Person, secs};
use confab_netem_tests::virtual_time::client::{publish, watch};
use confab_sfu::media::Kind;

/// What a voice and a quiet room measure (RFC 6464).
const SPEECH: u8 = 25;
const NOISE: u8 = 75;

/// Has only these people speak.
fn speak(call: &mut Call, people: &[Person], speaking: &[Person]) {
    for &person in people {
        let speaks = speaking.contains(&person);
        for source in &mut call[person].sources {
            source.level = if speaks { SPEECH } else { NOISE };
        }
    }
}

#[test]
fn a_speaker_is_seen_and_heard_within_two_seconds_and_a_muted_one_is_not() {
    for workers in [1, 2] {
        let mut call = Call::new(40).workers(workers);
        let people = ["alice", "bob", "carol"].map(|name| {
            let setup = publish().audio().video().slots(1, 1);
            call.join(name, setup)
        });
        let [alice, bob, carol] = people;
        let dave = call.join("dave", watch().slots(1, 1));
        speak(&mut call, &people, &[]);
        call.run(secs(5));
        assert!(call.sees(dave, alice).frames() > 100, "the first published");

        speak(&mut call, &people, &[carol]);
        call.run(secs(2));
        call.run(secs(2));
        for viewer in [dave, alice, bob] {
            let seen = call.sees(viewer, carol);
            assert!(seen.fps() > 28.0, "{} fps", seen.fps());
            assert!(call.hears(viewer, carol).missing() < 0.04);
        }
        assert_eq!(call.sees(carol, carol).frames(), 0, "not oneself");

        let voice = call.track(bob, Kind::Audio);
        assert_eq!(call.mute(bob, voice, true), Ok(()));
        speak(&mut call, &people, &[bob]);
        call.run(secs(5));
        assert_eq!(call.sees(dave, bob).frames(), 0, "nobody hears it");
        assert_eq!(call.mute(bob, voice, false), Ok(()));
        call.run(secs(2));
        call.run(secs(2));
        assert!(call.sees(dave, bob).fps() > 28.0);
    }
}
