use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use confab_bot::sample::{AudioReceived, Line, Received, Sample, VideoReceived};

use super::*;
use crate::figures::{self, ClientLog, Figure};
use crate::scenario::{Scenario, Tier, reference};

const CALL: &str = r#"
title = "A <b>call</b>"
duration = "10s"
[matrix]
loss = ["10%"]
[[participant]]
name = "alice"
client = "browser"
[[participant]]
name = "bob"
client = "browser"
publish = ["audio"]
[[at]]
time = "4s"
until = "6s"
participant = "alice"
uplink = { loss = "{loss}" }
[[expect]]
receiver = "bob"
video_frozen = "< 5%"
frames_per_second = "> 24"
[[expect]]
join_time = "< 1s"
"#;

/// What everyone tells of a call in which bob sees alice with so many frames a second.
fn logs(frames_per_second: u64) -> Vec<ClientLog> {
    let log = |name: &str, from: &str, has_video: bool| {
        let samples = (1..=10).map(|t: u64| {
            Line::Sample(Sample {
                at: t as f64 * 1000.0,
                received: vec![Received {
                    from: from.into(),
                    audio: Some(AudioReceived {
                        samples: t * 48_000,
                        concealed: t * 480,
                        ..AudioReceived::default()
                    }),
                    video: has_video.then(|| VideoReceived {
                        frames: t * frames_per_second,
                        height: Some(360),
                        ..VideoReceived::default()
                    }),
                }],
                ..Sample::default()
            })
        });
        let joining = [Line::Joining { at: 0.0 }, Line::Joined { at: 300.0 }];
        ClientLog {
            name: name.into(),
            lines: joining.into_iter().chain(samples).collect(),
            link: Vec::new(),
        }
    };
    vec![log("alice", "bob", false), log("bob", "alice", true)]
}

fn run(server: &str, seed: u64, logs: &[ClientLog]) -> RunResult {
    let scenarios = Scenario::parse("suite/call.toml".as_ref(), CALL);
    let scenarios = scenarios.unwrap_or_else(|errors| panic!("{errors}"));
    let info = RunInfo {
        server: server.into(),
        tier: Tier::Virtual,
        seed,
    };
    RunResult::new(&scenarios[0], &info, 0.0, logs)
}

fn results(runs: impl IntoIterator<Item = RunResult>) -> Results {
    let mut results = Results::new(BTreeMap::from([("command".into(), "run".into())]));
    results.runs.extend(runs);
    results
}

#[test]
fn a_run_is_judged_for_everyone_it_names() {
    let good = run("confab", 1, &logs(30));
    assert!(good.passed(), "{:?}", good.expectations);
    // Two of bob's picture of alice, and how long each took to join.
    assert_eq!(good.expectations.len(), 4);
    assert_eq!(good.worst(Figure::AudioConcealed), Some(1.0));
    assert_eq!(
        progress::line(&good),
        "ok   suite/call (loss 10%) · confab · seed 1: audio concealed 1.0 %, \
         video frozen 0.0 %, frame rate 30.0/s, recovery 0.0 s"
    );
    let slow = run("confab", 1, &logs(20));
    let broken: Vec<_> = slow.expectations.iter().filter(|one| !one.holds).collect();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].value, Some(20.0));
    let line = progress::line(&slow);
    assert!(line.starts_with("FAIL"), "{line}");
    assert!(
        line.ends_with("\n     bob ← alice: frame rate > 24/s must hold; it was 20.0/s"),
        "{line}"
    );
}

#[test]
fn who_did_not_take_part_fails_the_run() {
    let mut logs = logs(30);
    logs.pop();
    let run = run("confab", 1, &logs);
    assert_eq!(run.failures, ["bob never joined"]);
    assert!(!run.passed());
    // Bob saw nothing, and when he joined cannot be told.
    let held = run.expectations.iter().filter(|one| one.holds).count();
    assert_eq!(held, 1);
}

#[test]
fn the_same_logs_make_the_same_bytes_and_they_can_be_read_again() {
    let json = || results([run("confab", 1, &logs(30)), run("confab", 2, &logs(29))]).to_json();
    let text = json().unwrap_or_default();
    assert_eq!(Some(&text), json().ok().as_ref());
    let read = Results::from_json(&text).ok();
    assert_eq!(
        read.and_then(|read| read.to_json().ok()),
        Some(text.clone())
    );
    let other = text.replace("\"version\":1", "\"version\":2");
    assert!(matches!(
        Results::from_json(&other),
        Err(ReadError::Version(2))
    ));
    assert!(matches!(
        Results::from_json("{}"),
        Err(ReadError::Malformed(_))
    ));
}

#[test]
fn seeds_are_judged_by_their_median() {
    for (frames, expected, holds) in [([30, 20, 28], 28.0, true), ([30, 20, 20], 20.0, false)] {
        let runs = frames.into_iter().zip(1..);
        let results = results(runs.map(|(frames, seed)| run("confab", seed, &logs(frames))));
        let groups = groups(&results);
        assert_eq!(groups.len(), 1);
        let spread = groups[0].spread(Figure::FramesPerSecond);
        assert_eq!(spread.map(|spread| spread.median), Some(expected));
        assert_eq!(groups[0].passed(), holds);
    }
}

#[test]
fn a_difference_is_one_when_it_is_larger_than_noise_and_seeds() {
    let of = |frames: &[u64]| {
        let runs = frames.iter().zip(1..);
        results(runs.map(|(frames, seed)| run("confab", seed, &logs(*frames))))
    };
    // Frames a second before and after, over the seeds; whether that is better.
    let table: [(&[u64], &[u64], Option<bool>); 5] = [
        (&[20], &[30], Some(true)),
        (&[30], &[20], Some(false)),
        (&[30], &[29], None),
        (&[10, 20, 30], &[28, 28, 28], None),
        (&[20, 20, 20], &[28, 28, 28], Some(true)),
    ];
    for (before, after, expected) in table {
        let compared = compare(&of(before), &of(after));
        let differences = compared.scenarios[0].differences.iter();
        let mut frames = differences
            .filter(|difference| difference.figure == Figure::FramesPerSecond)
            .map(|difference| difference.is_better);
        assert_eq!(frames.next(), expected, "{before:?} {after:?}");
    }
    let text = compare(&of(&[20]), &of(&[30])).to_string();
    assert!(text.contains("1 better in something, 0 worse"), "{text}");
    assert!(
        text.contains("holds now        bob ← alice: frame rate > 24/s"),
        "{text}"
    );
    assert!(
        text.contains("better  frame rate             20.0/s → 30.0/s"),
        "{text}"
    );
}

#[test]
fn results_of_other_servers_and_other_scenarios_are_told_apart() {
    let confab = results([run("confab", 1, &logs(30))]);
    let janus = results([run("janus", 1, &logs(20))]);
    assert_eq!(compare(&confab, &janus).scenarios.len(), 1);
    let both = results([run("confab", 1, &logs(30)), run("janus", 1, &logs(20))]);
    let compared = compare(&both, &confab);
    assert_eq!(
        compared.scenarios[0].name,
        "suite/call (loss 10%) on confab"
    );
    assert_eq!(compared.only_before, ["suite/call (loss 10%) on janus"]);
    let mut renamed = confab.clone();
    renamed.runs[0].scenario = "suite/other".into();
    let text = compare(&confab, &renamed).to_string();
    assert!(
        text.contains("Only in the later result: suite/other (loss 10%)"),
        "{text}"
    );
}

#[test]
fn the_page_needs_nothing_else_and_believes_no_text() {
    let both = results([run("confab", 1, &logs(30)), run("janus", 1, &logs(20))]);
    let page = write_html(&both);
    assert_eq!(page, write_html(&both));
    for foreign in ["http://", "https://", "src=", "url(", "@import", "<b>call"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("A &lt;b&gt;call&lt;/b&gt;"));
    assert!(page.contains("alice: uplink loss 10 %"));
    // The better of the two servers, and the limit that the other one broke.
    assert!(page.contains("<td class=\"n best\" title=\"frame rate &gt; 24/s\">30.0</td>"));
    assert!(page.contains("<td class=\"n broken\" title=\"frame rate &gt; 24/s\">20.0</td>"));
}

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Of every suite, how many runs its files ask for.
#[test]
fn the_suites_are_in_order() {
    let expected = [
        ("bandwidth", 32),
        ("capacity", 5),
        ("loss", 108),
        ("mobility", 7),
        ("quick", 6),
        ("repair", 9),
        ("room", 1),
        ("turn", 6),
        ("wifi", 11),
    ];
    for (suite, count) in expected {
        let directory = crate_dir().join("scenarios").join(suite);
        let files = fs::read_dir(&directory).map(|files| {
            let files = files.filter_map(Result::ok).map(|file| file.path());
            files.filter(|file| file.extension().is_some_and(|end| end == "toml"))
        });
        let runs = files.into_iter().flatten().map(|file| {
            let runs = Scenario::load(&file);
            runs.unwrap_or_else(|errors| panic!("{errors}")).len()
        });
        assert_eq!(runs.sum::<usize>(), count, "{suite}");
    }
}

/// docs/netem.md has the reference as the code knows it, and its example can be run.
#[test]
fn the_guide_is_true() {
    let guide = crate_dir().join("../docs/netem.md");
    let guide = fs::read_to_string(guide).unwrap_or_default();
    for table in [reference::markdown(), figures::markdown()] {
        assert!(
            guide.contains(table.trim_end()),
            "docs/netem.md should have this:\n\n{table}"
        );
    }
    let examples = guide.split("```toml\n").skip(1);
    let examples = examples.filter_map(|rest| rest.split_once("```"));
    let mut count = 0;
    for (example, _) in examples {
        let parsed = Scenario::parse(Path::new("docs/netem.toml"), example);
        assert!(
            parsed.is_ok(),
            "{}",
            parsed.err().map(|e| e.to_string()).unwrap_or_default()
        );
        count += 1;
    }
    assert!(count > 0);
}
