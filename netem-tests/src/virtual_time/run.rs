//! Runs scenarios in virtual time.
//!
//! In: scenarios and a seed. Out: what every client told, the same bytes for the same seed, in the
//! order of the scenarios, however many threads there are. Signaling takes no time, and there is no
//! TCP: where UDP is blocked, nothing gets through.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::call::{Call, Person};
use super::client::{Setup, publish};
use super::record::{Recorder, line_time};
use crate::lab::Firewall;
use crate::link::Impairment;
use crate::recording::Recording;
use crate::scenario::{Action, Change, Participant, Scenario, Size};

/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of an inter frame for each pixel: 600 kbit/s at 30 frames a second for 640 by 360.
const BYTES_PER_PIXEL: f64 = 2500.0 / (640.0 * 360.0);

/// Of a simulated camera.
const FRAMES_PER_SECOND: f64 = 30.0;

/// Bytes of the smallest inter frame: it still says where it comes from.
const MIN_FRAME_LEN: u32 = 100;

/// Runs one scenario.
///
/// # Panics
/// When the server refuses a participant, which it has no reason to.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64) -> Recording {
    // Not one for each core: a run must not depend on the machine.
    let workers = scenario.workers.unwrap_or(1) as usize;
    let participants = scenario.participants.iter();
    let networks = participants.map(|p| (p.name.as_str(), Network::of(p)));
    let mut run = Run {
        scenario,
        call: Call::new(seed).workers(workers).going_on(),
        networks: networks.collect(),
        recorders: scenario.participants.iter().map(|_| None).collect(),
    };
    for (at, step) in steps(scenario) {
        let elapsed = run.call.elapsed();
        run.call.run(at.saturating_sub(elapsed));
        run.take(step);
    }
    let mut recording = Recording::new(scenario, line_time(Duration::ZERO));
    for (log, recorder) in recording.clients.iter_mut().zip(run.recorders) {
        if let Some(recorder) = recorder {
            *log = recorder.into_log();
        }
    }
    recording
}

/// Runs many scenarios on all cores. What `done` makes of each as it ends is returned, in the order
/// of the scenarios.
///
/// # Panics
/// As [`run`].
pub fn run_all<S: Borrow<Scenario> + Sync, T: Send>(
    scenarios: &[S],
    seed: u64,
    done: impl Fn(&Scenario, Recording) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = scenarios.get(number) else {
                return results;
            };
            let scenario = scenario.borrow();
            results.push((number, done(scenario, run(scenario, seed))));
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut results: Vec<(usize, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .flat_map(|result| result.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Something to be done at one time.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Sample,
    Change(&'a Change),
    Join(usize),
}

/// Everything that is to be done, in order. At one instant, the second that ends is sampled first.
fn steps(scenario: &Scenario) -> Vec<(Duration, Step<'_>)> {
    let seconds = scenario.duration.as_secs() as u32;
    let samples = (1..=seconds).map(|n| (SAMPLE_INTERVAL * n, Step::Sample));
    let changes = scenario.changes.iter();
    let changes = changes.map(|change| (change.at, Step::Change(change)));
    let joins = scenario.participants.iter().enumerate();
    let joins = joins.map(|(index, participant)| (participant.joins, Step::Join(index)));
    let mut steps: Vec<_> = samples.chain(changes).chain(joins).collect();
    steps.retain(|(at, _)| *at <= scenario.duration);
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// A participant's network as it is at the moment.
#[derive(Debug)]
struct Network {
    up: Impairment,
    down: Impairment,
    is_blocked: bool,
}

impl Network {
    fn of(participant: &Participant) -> Self {
        Network {
            up: participant.uplink.clone(),
            down: participant.downlink.clone(),
            is_blocked: blocks_udp(participant.firewall),
        }
    }

    fn apply(&self, call: &mut Call, person: Person) {
        let passes = |link: &Impairment| Impairment {
            is_up: link.is_up && !self.is_blocked,
            ..link.clone()
        };
        call.up(person, |link| *link = passes(&self.up));
        call.down(person, |link| *link = passes(&self.down));
    }
}

fn blocks_udp(firewall: Firewall) -> bool {
    match firewall {
        // There is no TCP in virtual time, which this is about.
        Firewall::None | Firewall::PoorUdp => false,
        Firewall::NoUdp | Firewall::Tcp443Only => true,
    }
}

struct Run<'a> {
    scenario: &'a Scenario,
    call: Call,
    /// By the name of whom they belong to.
    networks: BTreeMap<&'a str, Network>,
    /// Of those who have joined.
    recorders: Vec<Option<Recorder>>,
}

impl Run<'_> {
    fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Sample => self.sample(),
            Step::Change(change) => self.change(change),
            Step::Join(index) => self.join(index),
        }
    }

    fn join(&mut self, index: usize) {
        let participant = &self.scenario.participants[index];
        // There is no TCP: such a participant never joins, and the run says so.
        if !participant.client.is_in_call() {
            return;
        }
        let housemates = self.household(participant.network());
        let setup = setup(self.scenario, participant);
        let person = self.call.join(&participant.name, setup);
        match housemates.first() {
            Some(housemate) => self.call.move_in(person, *housemate),
            None => self.networks[participant.network()].apply(&mut self.call, person),
        }
        self.recorders[index] = Some(Recorder::new(&self.call, person));
    }

    fn sample(&mut self) {
        let people = self.recorders.iter().flatten();
        let names: Vec<(u32, String)> = people
            .map(|recorder| {
                let client = &self.call[recorder.person()];
                (client.peer.0 as u32, client.name.clone())
            })
            .collect();
        let name = |peer| {
            let found = names.iter().find(|(number, _)| *number == peer);
            found.map_or_else(String::new, |(_, name)| name.clone())
        };
        // Once for each network: what is asked for counts from the last time it was.
        let mut readings = BTreeMap::new();
        for recorder in self.recorders.iter_mut().flatten() {
            let network = self.call.network(recorder.person());
            let links = *readings
                .entry(network)
                .or_insert_with(|| self.call.readings(network));
            recorder.sample(&mut self.call, links, name);
        }
    }

    fn change(&mut self, change: &Change) {
        let household = self.household(&change.participant);
        let Some(network) = self.networks.get_mut(change.participant.as_str()) else {
            return;
        };
        match &change.action {
            Action::Uplink(up) => network.up = up.clone(),
            Action::Downlink(down) => network.down = down.clone(),
            Action::Firewall(firewall) => network.is_blocked = blocks_udp(*firewall),
            Action::AddressChange => {
                for person in &household {
                    self.call.rebind(*person);
                }
            }
        }
        // All of them use the same links.
        if let Some(person) = household.first() {
            network.apply(&mut self.call, *person);
        }
    }

    /// Those who have joined and use somebody's network, in the order of the scenario.
    fn household(&self, home: &str) -> Vec<Person> {
        let participants = self.scenario.participants.iter();
        let joined = participants.zip(&self.recorders);
        joined
            .filter(|(participant, _)| participant.network() == home)
            .filter_map(|(_, recorder)| Some(recorder.as_ref()?.person()))
            .collect()
    }
}

/// What a participant has, and slots for all the others.
fn setup(scenario: &Scenario, participant: &Participant) -> Setup {
    let others = || {
        let all = scenario.participants.iter();
        all.filter(|other| other.name != participant.name)
    };
    let voices = others().filter(|other| other.audio).count();
    let pictures = others().filter(|other| other.video.is_some()).count();
    let mut setup = publish().slots(voices, pictures).patient();
    if participant.audio {
        setup = setup.audio();
    }
    if let Some(size) = participant.video {
        let [width, height] = [size.width, size.height].map(|side| side as u16);
        setup = setup.video().size(width, height);
        setup = match participant.simulcast.unwrap_or(false) {
            // Whatever the size.
            true => setup.simulcast_as_sdk(),
            false => setup.frame_len(frame_len(size, participant.video_bitrate)),
        };
    }
    setup
}

fn frame_len(size: Size, bitrate: Option<u64>) -> u32 {
    let pixels = f64::from(size.width) * f64::from(size.height);
    let len = match bitrate {
        Some(bitrate) => bitrate as f64 / 8.0 / FRAMES_PER_SECOND,
        None => pixels * BYTES_PER_PIXEL,
    };
    (len as u32).max(MIN_FRAME_LEN)
}
