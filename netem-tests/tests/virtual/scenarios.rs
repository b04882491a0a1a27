//! Scenarios in virtual time: what their clients tell is what happened to them.

use confab_bot::sample::{AudioReceived, Line, Sample, VideoReceived};
use confab_netem_tests::figures::{ClientLog, Figure};
use confab_netem_tests::recording::Recording;
use confab_netem_tests::report::{RunInfo, RunResult};
use confab_netem_tests::scenario::{Scenario, Tier};
use confab_netem_tests::virtual_time::run::{run, run_all};

/// Alice behind this link, with these events, and Bob behind a good one.
fn scenarios(seconds: u32, matrix: &str, link: &str, events: &str) -> Vec<Scenario> {
    let text = format!(
        r#"
        title = "Two in a call"
        duration = "{seconds}s"
        tier = "virtual"
        {matrix}
        [[participant]]
        name = "alice"
        client = "browser"
        link = {{ {link} }}
        [[participant]]
        name = "bob"
        client = "bot"
        link = {{ delay = "10ms" }}
        {events}
        "#
    );
    Scenario::parse("two.toml".as_ref(), &text).expect("a scenario")
}

fn call(seconds: u32, events: &str, seed: u64) -> Recording {
    run(&scenarios(seconds, "", "delay = \"50ms\"", events)[0], seed)
}

fn samples(log: &ClientLog) -> Vec<&Sample> {
    let samples = log.lines.iter().map(|line| match line {
        Line::Sample(sample) => Some(sample),
        _ => None,
    });
    samples.flatten().collect()
}

/// What Bob gets of Alice between two seconds of the call.
#[derive(Debug)]
struct Got {
    concealed: f64,
    fps: f64,
    frozen: f64,
    key_frames: u64,
}

fn got(recording: &Recording, from: usize, until: usize) -> Got {
    let samples = samples(&recording.clients[1]);
    let of = |second: usize| -> (AudioReceived, VideoReceived) {
        let received = samples[second - 1].received.first().cloned();
        let received = received.unwrap_or_default();
        assert!(received.from.is_empty() || received.from == "alice");
        (
            received.audio.unwrap_or_default(),
            received.video.unwrap_or_default(),
        )
    };
    let ((heard_before, seen_before), (heard, seen)) = (of(from), of(until));
    let concealed = heard.concealed - heard_before.concealed;
    let played = heard.samples - heard_before.samples;
    Got {
        concealed: concealed as f64 / played as f64,
        fps: (seen.frames - seen_before.frames) as f64 / (until - from) as f64,
        frozen: seen.frozen - seen_before.frozen,
        key_frames: seen.key_frames - seen_before.key_frames,
    }
}

#[test]
fn a_good_call_is_heard_and_seen_whole() {
    let recording = call(20, "", 1);
    let got = got(&recording, 2, 20);
    assert!(got.concealed < 0.001, "{}", got.concealed);
    assert!((29.5..30.5).contains(&got.fps), "{}", got.fps);
    assert_eq!((got.frozen, got.key_frames), (0.0, 0));
    let start = recording.call.start;
    for (log, other) in recording.clients.iter().zip(["bob", "alice"]) {
        let told: Vec<(&str, f64)> = log.lines.iter().map_while(first_words).collect();
        let [joining, joined, connected, first_frame] = told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((joining, joined), (("joining", start), ("joined", start)));
        // One round trip for ICE and two for DTLS; another for a key frame.
        assert_eq!(connected.0, "connected");
        assert!(connected.1 < start + 350.0, "{}", connected.1 - start);
        assert_eq!(first_frame.0, other);
        assert!(first_frame.1 < start + 700.0, "{}", first_frame.1 - start);
        let last = samples(log).last().copied().cloned().unwrap_or_default();
        assert_eq!(last.at, start + 20_000.0);
        assert_eq!(last.received.len(), 1);
        let delays = last.received[0].video.clone().unwrap_or_default();
        assert!(
            delays
                .picture_delays
                .iter()
                .all(|d| (60.0..70.0).contains(d))
        );
    }
}

fn first_words(line: &Line) -> Option<(&str, f64)> {
    match line {
        Line::Joining { at } => Some(("joining", *at)),
        Line::Joined { at } => Some(("joined", *at)),
        Line::Connected { at } => Some(("connected", *at)),
        Line::FirstFrame { at, from } => Some((from, *at)),
        _ => None,
    }
}

#[test]
fn the_more_is_lost_the_worse_it_is() {
    let matrix = r#"matrix = { loss = ["0%", "10%", "40%"] }"#;
    let scenarios = scenarios(20, matrix, r#"delay = "50ms", loss = "{loss}""#, "");
    let recordings = run_all(&scenarios, 2, |_, recording| recording);
    let got: Vec<Got> = recordings.iter().map(|r| got(r, 3, 20)).collect();
    let [none, some, much] = &got[..] else {
        panic!("three runs");
    };
    assert!(none.concealed < some.concealed && some.concealed < much.concealed);
    assert!(none.frozen <= some.frozen && some.frozen < much.frozen);
    // Pictures that stand still are shown afterwards, so that there may be as many.
    assert!(none.fps > 29.5 && some.fps > 25.0, "{got:?}");
}

#[test]
fn an_outage_is_a_freeze_and_ends() {
    let cut = r#"
        [[at]]
        time = "8s"
        until = "11s"
        participant = "alice"
        cut = true
    "#;
    let recording = call(20, cut, 3);
    let (before, during, after) = (
        got(&recording, 2, 8),
        got(&recording, 9, 11),
        got(&recording, 13, 20),
    );
    assert_eq!(before.frozen, 0.0);
    assert_eq!((during.fps, during.concealed), (0.0, 1.0));
    assert!(after.fps > 29.5 && after.concealed < 0.001);
    let frozen = got(&recording, 8, 20).frozen;
    assert!((2.8..4.0).contains(&frozen), "{frozen}");
    let cut: Vec<u64> = recording.clients[0].link.iter().map(|l| l.up.cut).collect();
    assert!(
        cut[7] == 0 && cut[10] > 300 && cut[19] == cut[10],
        "{cut:?}"
    );
}

#[test]
fn a_change_of_address_is_survived() {
    let change = r#"
        [[at]]
        time = "8s"
        participant = "alice"
        address = "change"
    "#;
    let recording = call(20, change, 4);
    // Consent is checked every 2.5 s.
    let after = got(&recording, 13, 20);
    assert!(after.fps > 29.5 && after.concealed < 0.001);
    assert!(got(&recording, 8, 13).frozen > 0.1);
}

#[test]
fn without_udp_there_is_no_call_until_it_is_let_out() {
    let block = r#"
        [[at]]
        time = "0s"
        until = "5s"
        participant = "alice"
        firewall = "no-udp"
    "#;
    let recording = call(10, block, 5);
    let connected = recording.clients[0]
        .lines
        .iter()
        .find_map(|line| match line {
            Line::Connected { at } => Some(at - recording.call.start),
            _ => None,
        });
    assert!(
        connected.is_some_and(|at| (5000.0..6000.0).contains(&at)),
        "{connected:?}"
    );
    assert!(got(&recording, 7, 10).fps > 29.5);
}

/// Everything that draws lots, also while people join.
fn grid() -> Vec<Scenario> {
    let matrix = r#"matrix = { loss = ["0%", "30%", "burst 20% mean 4"], delay = ["10ms", "150ms"], reorder = ["true", "false"] }"#;
    let link = r#"loss = "{loss}", delay = "{delay}", jitter = "5ms", reorder = "{reorder}", corrupt = "0.1%", duplicate = "1%", rate = "1 Mbit/s""#;
    scenarios(6, matrix, link, "")
}

#[test]
fn two_runs_with_one_seed_are_the_same_to_the_byte() {
    let scenarios = grid();
    let written = |seed| {
        let recordings = run_all(&scenarios, seed, |_, recording| recording);
        recordings
            .iter()
            .map(|recording| {
                let clients = recording.clients.iter();
                let told: Vec<_> = clients.map(|log| (&log.lines, &log.link)).collect();
                serde_json::to_string(&told).expect("plain data")
            })
            .collect::<Vec<_>>()
    };
    let (first, again, other) = (written(1), written(1), written(2));
    for (number, (first, again)) in first.iter().zip(&again).enumerate() {
        assert!(first.len() > 1000, "run {number} tells too little");
        assert!(first == again, "run {number} differs");
    }
    assert!(
        first
            .iter()
            .zip(&other)
            .all(|(first, other)| first != other)
    );
}

/// Bob, and Carol who lives with him, behind a downlink, and Alice elsewhere.
fn household(seconds: u32, downlink: &str, events: &str) -> Scenario {
    let text = format!(
        r#"
        title = "Two in a household and one elsewhere"
        duration = "{seconds}s"
        tier = "virtual"
        [[participant]]
        name = "alice"
        client = "browser"
        link = {{ delay = "20ms" }}
        [[participant]]
        name = "bob"
        client = "browser"
        link = {{ delay = "20ms" }}
        downlink = {{ {downlink} }}
        [[participant]]
        name = "carol"
        client = "browser"
        behind = "bob"
        {events}
        "#
    );
    let scenarios = Scenario::parse("household.toml".as_ref(), &text);
    scenarios.expect("a scenario").remove(0)
}

/// A run of it, judged.
fn judged(scenario: &Scenario) -> RunResult {
    let recording = run(scenario, 1);
    let info = RunInfo {
        server: "confab".into(),
        tier: Tier::Virtual,
        seed: 1,
    };
    RunResult::new(scenario, &info, recording.call.start, &recording.clients)
}

#[test]
fn housemates_wait_in_one_queue() {
    let downlink = r#"rate = "800 kbit/s", queue = "300ms""#;
    let result = judged(&household(15, downlink, ""));
    let queues = result.participants.iter().skip(1);
    let queues: Vec<f64> = queues
        .map(|client| client.figures[&Figure::DownlinkQueueMax])
        .collect();
    assert!(queues[0] > 0.0 && queues[0] == queues[1], "{queues:?}");
}

#[test]
fn what_happens_to_a_network_happens_to_all_who_live_there() {
    let change = r#"
        [[at]]
        time = "8s"
        participant = "bob"
        address = "change"
    "#;
    let result = judged(&household(20, r#"rate = "5 Mbit/s""#, change));
    for receiver in ["bob", "carol"] {
        let mut streams = result.streams.iter();
        let stream = streams.find(|s| s.receiver == receiver && s.sender == "alice");
        let figures = &stream.expect("a stream").figures;
        // Consent is checked every 2.5 s.
        let recovery = figures.get(&Figure::Recovery).copied();
        assert!(
            recovery.is_some_and(|seconds| (1.0..5.0).contains(&seconds)),
            "{receiver}: {recovery:?}"
        );
    }
}
