//! Everything at once, at random; afterwards everybody sees and hears everybody.

use confab_netem_tests::link::Loss;
use confab_netem_tests::virtual_time::call::{Call, Person, millis, secs};
use confab_netem_tests::virtual_time::client::publish;
use confab_sfu::api::{Publish, SlotChoice};
use confab_sfu::media::Kind;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Runs of the test; each has another story. `SEEDS=100` in the environment runs so many, `SEED=7` the one
/// of that seed.
const SEEDS: u64 = 2;

/// What happens in a run.
const STEPS: usize = 30;

/// Most people at a time: as many as everybody has slots for.
const MAX_PEOPLE: usize = 4;

struct Story {
    call: Call,
    rng: StdRng,
    people: Vec<Person>,
    joined: usize,
}

impl Story {
    fn join(&mut self) {
        let mut setup = publish().audio().slots(MAX_PEOPLE - 1, MAX_PEOPLE - 1);
        setup = match self.rng.random_bool(0.5) {
            true => setup.video(),
            false => setup.simulcast(),
        };
        if self.rng.random_bool(0.5) {
            setup = setup.firefox();
        }
        self.joined += 1;
        let person = self.call.join(&format!("person {}", self.joined), setup);
        self.people.push(person);
    }

    fn step(&mut self) {
        let Some(&person) = self.people.choose(&mut self.rng) else {
            return self.join();
        };
        let (call, rng) = (&mut self.call, &mut self.rng);
        match rng.random_range(0..12) {
            0..=1 if self.people.len() < MAX_PEOPLE => self.join(),
            0 => {
                call.leave(person);
                self.people.retain(|&p| p != person);
            }
            1 => {
                call.vanish(person);
                self.people.retain(|&p| p != person);
                // Its tracks keep their slots until its consent runs out.
                call.run(secs(33));
            }
            2 => {
                call[person].restart_ice();
                assert_eq!(call.offer(person, Publish::All), Ok(()));
            }
            3 => {
                call.rebind(person);
            }
            4..=5 => {
                let kind = *[Kind::Audio, Kind::Video].choose(rng).expect("two");
                let track = call.track(person, kind);
                assert_eq!(call.mute(person, track, true), Ok(()));
                call.run(millis(rng.random_range(0..1500)));
                assert_eq!(call.mute(person, track, false), Ok(()));
            }
            6 => {
                let kind = *[Kind::Audio, Kind::Video].choose(rng).expect("two");
                let slots = call.slot_names(person, kind);
                let slot = *slots.choose(rng).expect("a slot");
                let tracks: Vec<_> = call.slots(person).iter().filter_map(|s| s.track).collect();
                let choice = match tracks.choose(rng) {
                    Some(&track) if rng.random_bool(0.7) => SlotChoice::Pin(track),
                    _ => SlotChoice::Off,
                };
                // A track of the other kind is refused, which is as well.
                let _ = call.subscribe(person, slot, choice);
                call.run(millis(rng.random_range(0..800)));
                assert!(call.subscribe(person, slot, SlotChoice::Auto).is_ok());
            }
            7 => {
                call[person].add_source(Kind::Video, rng.random_bool(0.5));
                assert_eq!(call.offer(person, Publish::All), Ok(()));
                call.run(millis(rng.random_range(0..1500)));
                let screen = call[person].sources.last().expect("the screen").mid;
                call[person].stop_line(screen);
                assert_eq!(call.offer(person, Publish::All), Ok(()));
            }
            8 => {
                let slot = call.slot_names(person, Kind::Video)[0];
                call[person].stop_line(slot);
                assert_eq!(call.offer(person, Publish::All), Ok(()));
                call.run(millis(rng.random_range(0..500)));
                call[person].add_slot(Kind::Video);
                assert_eq!(call.offer(person, Publish::All), Ok(()));
            }
            9 => {
                let track = call.track(person, Kind::Video);
                let mid = call[person].source(Kind::Video).mid;
                assert_eq!(call.unpublish(person, track), Ok(()));
                call.run(millis(rng.random_range(0..500)));
                assert!(call.publish(person, mid).is_ok());
            }
            10 => {
                let loss = rng.random_range(0.0..0.3);
                call.up(person, |link| link.loss = Loss::Random(loss));
                call.down(person, |link| {
                    link.loss = Loss::Random(rng.random_range(0.0..0.3))
                });
            }
            _ => {
                let encodings = &mut call[person].source(Kind::Video).encodings;
                if let [_, rest @ ..] = &mut encodings[..] {
                    rest.iter_mut()
                        .for_each(|encoding| match encoding.is_alive {
                            true => encoding.is_alive = rng.random_bool(0.5),
                            false => encoding.revive(),
                        });
                }
            }
        }
    }

    fn assert_good(&mut self, seed: u64) {
        let people = self.people.clone();
        for &person in &people {
            self.call.up(person, |link| link.loss = Loss::Random(0.0));
            self.call.down(person, |link| link.loss = Loss::Random(0.0));
        }
        self.call.run(secs(6));
        self.call.run(secs(2));
        for &viewer in &people {
            for &publisher in people.iter().filter(|&&p| p != viewer) {
                let (seen, heard) = (
                    self.call.sees(viewer, publisher),
                    self.call.hears(viewer, publisher),
                );
                let who = format!(
                    "seed {seed}: {} of {}",
                    self.call[viewer].name, self.call[publisher].name
                );
                assert!(seen.fps() > 29.0, "{who}: {} fps", seen.fps());
                assert!(heard.packets() > 95, "{who}: {} packets", heard.packets());
                assert!(heard.missing() == 0.0, "{who}: {}", heard.missing());
                let skew = self.call.lip_skew(viewer, publisher);
                assert!(
                    skew.is_some_and(|skew| skew < millis(20)),
                    "{who}: {skew:?}"
                );
            }
        }
        let stats = self.call.stats();
        assert_eq!(
            (stats.peers, stats.tracks),
            (people.len(), 2 * people.len()),
            "seed {seed}"
        );
    }
}

#[test]
fn after_any_turmoil_everybody_sees_and_hears_everybody() {
    let setting = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match setting("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        println!("seed {seed}: to replay it, set SEED={seed}");
        let mut story = Story {
            call: Call::new(seed).workers(1 + seed as usize % 3),
            rng: StdRng::seed_from_u64(seed),
            people: Vec::new(),
            joined: 0,
        };
        story.join();
        story.join();
        for _ in 0..STEPS {
            story.step();
            let pause = story.rng.random_range(0..400);
            story.call.run(millis(pause));
        }
        story.assert_good(seed);
    }
}
