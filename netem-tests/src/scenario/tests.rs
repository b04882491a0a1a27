use super::*;
use crate::link::{Impairment, Loss, Queue, Rate};

const CALL: &str = r#"
title = "A call"
duration = "60s"
[[participant]]
name = "alice"
client = "browser"
[[participant]]
name = "bob"
client = "browser"
"#;

fn parse(text: &str) -> Result<Vec<Scenario>, Errors> {
    Scenario::parse("calls/call.toml".as_ref(), text)
}

/// The one run of a file that is in order.
fn one(text: &str) -> Scenario {
    match parse(text) {
        Ok(mut runs) if runs.len() == 1 => runs.remove(0),
        other => panic!("{other:?}"),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_a_file_leaves_out_has_a_default() {
    let scenario = one(CALL);
    assert_eq!(scenario.name, "calls/call");
    let alice = &scenario.participants[0];
    assert!(alice.audio);
    assert_eq!(alice.video, Some(Size::default()));
    assert_eq!(alice.uplink, Impairment::default());
    assert_eq!(scenario.tier, Tier::Real);
}

/// Every key of the reference is in it: one that the reader forgot would be unknown.
#[test]
fn every_key_of_the_reference_is_understood() {
    let text = r#"
title = "All"
about = "Everything at once."
duration = "60s"
tier = "real"
server = { workers = 2 }
[matrix]
loss = ["10%", "burst 10% mean 4"]
[[participant]]
name = "phone"
client = "bot"
publish = ["audio"]
video = "1280x720"
video_bitrate = "1 Mbit/s"
joins = "1s"
count = 2
nat = "symmetric"
firewall = "no-udp"
link = { delay = "50ms", loss = "{loss}", loss_direction = "up" }
uplink = { jitter = "10ms", reorder = true, stall = { every = "100ms", length = "30ms" }, duplicate = "1%", corrupt = "0.1%" }
downlink = { rate = "5 Mbit/s", queue = "64 kB", loss = { p = "2%", r = "25%", good = "1%", bad = "90%" } }
[[participant]]
name = "home"
client = "browser"
simulcast = true
relay = "tls"
uplink = { stall = { every = "100ms", length = "30ms" } }
downlink = { rate = "5 Mbit/s", queue = "64 kB" }
[[participant]]
name = "download"
client = "iperf3"
direction = "down"
behind = "home"
[[at]]
time = "10s"
until = "40s"
ramp = "10s"
participant = "*"
link = { delay = "60ms" }
uplink = { stall = "none" }
downlink = { rate = "1 Mbit/s" }
[[at]]
time = "50s"
participant = "phone-1"
cut = true
firewall = "none"
address = "change"
[[expect]]
receiver = "phone"
sender = "phone-2"
from = "10s"
until = "20s"
audio_concealed = "< 4%"
"#;
    let runs = parse(text).unwrap_or_else(|errors| panic!("{errors}"));
    for tables in [
        reference::SCENARIO,
        reference::SERVER,
        reference::PARTICIPANT,
        reference::LINK,
        reference::STALL,
        reference::AT,
        reference::EXPECT,
    ] {
        for key in tables {
            let is_there = [format!("{} =", key.name), format!("{}]", key.name)];
            assert!(
                is_there.iter().any(|key| text.contains(key)),
                "{}",
                key.name
            );
        }
    }
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].full_name(), "calls/call (loss 10%)");
    assert_eq!(runs[0].participants[1].name, "phone-2");
    assert_eq!(runs[0].participants[1].uplink.loss, Loss::Random(0.1));
    assert!(matches!(
        runs[1].participants[0].uplink.loss,
        Loss::GilbertElliott(_)
    ));
    let rate = Rate {
        bits_per_second: 5_000_000,
        queue: Queue::Bytes(64_000),
    };
    assert_eq!(runs[0].participants[0].downlink.rate, Some(rate));
    assert_eq!(runs[0].expectations[0].receivers, ["phone-1", "phone-2"]);
    assert_eq!(
        runs[0].expectations[0].to_string(),
        "audio concealed < 4 % from 10 s to 20 s"
    );
    assert_eq!(
        runs[0].marks[0].text,
        "everyone: uplink delay 60 ms, no stalls, downlink delay 60 ms, 1 Mbit/s (queue 64 kB), within 10 s"
    );
}

#[test]
fn an_event_passes_and_another_stays() {
    let text = format!(
        "{CALL}
[[at]]
time = \"40s\"
participant = \"alice\"
uplink = {{ loss = \"10%\" }}
[[at]]
time = \"20s\"
until = \"30s\"
participant = \"alice\"
link = {{ loss = \"30%\" }}
[[at]]
time = \"50s\"
until = \"55s\"
participant = \"alice\"
cut = true
"
    );
    let scenario = one(&text);
    let up: Vec<_> = scenario
        .changes
        .iter()
        .filter_map(|change| match &change.action {
            Action::Uplink(link) => Some((change.at.as_secs(), link.loss.clone(), link.is_up)),
            _ => None,
        })
        .collect();
    let expected = [
        (20, Loss::Random(0.3), true),
        (30, Loss::None, true),
        (40, Loss::Random(0.1), true),
        (50, Loss::Random(0.1), false),
        (55, Loss::Random(0.1), true),
    ];
    assert_eq!(up, expected);
    let marks: Vec<&str> = scenario
        .marks
        .iter()
        .map(|mark| mark.text.as_str())
        .collect();
    assert_eq!(
        marks,
        ["alice: loss 30 %", "alice: uplink loss 10 %", "alice: cut"]
    );
    assert_eq!(scenario.marks[0].until, Some(30.0));
}

#[test]
fn a_ramp_goes_there_in_even_steps() {
    let text = format!(
        "{CALL}
[[at]]
time = \"0s\"
participant = \"bob\"
downlink = {{ rate = \"5 Mbit/s\" }}
[[at]]
time = \"10s\"
ramp = \"4s\"
participant = \"bob\"
downlink = {{ rate = \"1 Mbit/s\" }}
"
    );
    let scenario = one(&text);
    let rates: Vec<(Duration, u64)> = scenario
        .changes
        .iter()
        .filter_map(|change| match &change.action {
            Action::Downlink(link) => Some((change.at, link.rate?.bits_per_second)),
            _ => None,
        })
        .collect();
    assert_eq!(rates.len(), 41);
    assert_eq!(rates[1], (Duration::from_millis(10_100), 4_900_000));
    assert_eq!(rates[40], (seconds(14), 1_000_000));
}

#[test]
fn tcp_is_in_real_time_only() {
    let text = CALL.replacen("duration", "tier = \"virtual\"\nduration", 1);
    let flow = "[[participant]]\nname = \"load\"\nclient = \"iperf3\"";
    let errors = parse(&format!("{text}{flow}")).err();
    let errors = errors.map(|errors| errors.to_string()).unwrap_or_default();
    assert!(
        errors.contains("call.toml:3: tier: load is TCP"),
        "{errors}"
    );
}

#[test]
fn whoever_is_behind_another_has_that_ones_network() {
    let guest = "[[participant]]\nname = \"carol\"\nclient = \"browser\"\nbehind = \"bob\"";
    let event = "[[at]]\ntime = \"1s\"\nparticipant = \"*\"\ncut = true";
    let scenario = one(&format!("{CALL}{guest}\n{event}"));
    assert_eq!(scenario.participants[2].behind.as_deref(), Some("bob"));
    assert_eq!(scenario.marks[0].participants, ["alice", "bob"]);
    assert!(
        scenario
            .changes
            .iter()
            .all(|change| change.participant != "carol")
    );
}

#[test]
fn an_error_names_file_line_and_key() {
    let participant = "\n[[participant]]\nname = \"carol\"\nclient = \"bot\"\n";
    let at = "\n[[at]]\nparticipant = \"alice\"\n";
    let alice = "[[at]]\nparticipant = \"alice\"\n";
    let table = [
        // Line 11 is the first after the call.
        (
            format!("{participant}simulcast = true"),
            "call.toml:14: participant.simulcast: only browsers can: bots send what is in a file",
        ),
        (
            format!("{participant}relay = \"tcp\""),
            "call.toml:14: participant.relay: only browsers know the way to one",
        ),
        (
            format!("{participant}direction = \"up\""),
            "call.toml:14: participant.direction: only iperf3 has one: the others are in a call",
        ),
        (
            format!("{participant}behind = \"bob\"\nnat = \"symmetric\""),
            "call.toml:14: participant.behind: its network is that of bob: take nat away, or write it there",
        ),
        (
            format!("{participant}behind = \"carol\""),
            "call.toml:14: participant.behind: in the call, there is no \"carol\"",
        ),
        (
            format!(
                "{participant}joins = \"9s\"\n[[participant]]\nname = \"dave\"\nclient = \"bot\"\njoins = \"8s\"\nbehind = \"carol\""
            ),
            "call.toml:19: participant.behind: joins before the one it lives with",
        ),
        (
            format!(
                "{participant}behind = \"bob\"\n[[at]]\ntime = \"1s\"\nparticipant = \"carol\"\ncut = true"
            ),
            "call.toml:17: at.participant: carol has no network of its own: name who has it",
        ),
        (
            format!("{participant}uplink = {{ loss = \"130%\" }}"),
            "call.toml:14: participant.uplink.loss: \"130%\" is more than all: 100% is the most",
        ),
        (
            format!("{participant}uplink = {{ delay = \"-5ms\" }}"),
            "call.toml:14: participant.uplink.delay: \"-5ms\" is negative",
        ),
        (
            format!("{participant}uplink = {{ dealy = \"5ms\" }}"),
            "call.toml:14: participant.uplink.dealy: there is no \"dealy\": did you mean \"delay\"?",
        ),
        (
            format!("{participant}uplink = {{ delay = 5 }}"),
            "call.toml:14: participant.uplink.delay: \"5\" has no unit",
        ),
        (
            format!("{participant}uplink = \"50ms\""),
            "call.toml:14: participant.uplink: a table belongs here",
        ),
        (
            format!("{participant}uplink = {{ delay = [\"5ms\"] }}"),
            "call.toml:14: participant.uplink.delay: one value belongs here",
        ),
        (
            format!("{participant}uplink = {{ reorder = 1 }}"),
            "\"1\" is neither true nor false",
        ),
        (
            format!("{participant}uplink = {{ queue = \"5ms\" }}"),
            "participant.uplink: has no rate",
        ),
        (
            format!("{participant}uplink = {{ stall = {{ every = \"5ms\", length = \"5ms\" }} }}"),
            "must be shorter",
        ),
        (
            format!("{participant}uplink = {{ loss_direction = \"up\" }}"),
            "participant.uplink.loss_direction",
        ),
        (
            format!("{participant}link = {{ loss_direction = \"up\" }}"),
            "there is no loss here",
        ),
        (
            format!("{participant}link = {{ loss = {{ burst = \"90%\", mean = 4 }} }}"),
            "participant.link.loss: bursts of 4 datagrams",
        ),
        (
            format!("{participant}link = {{ loss = {{ burst = \"10%\" }} }}"),
            "participant.link.loss.mean: is missing",
        ),
        (
            format!("{participant}link = {{ loss = {{ trace = \"no-such-file\" }} }}"),
            "no-such-file cannot be read",
        ),
        (
            format!("{participant}nat = \"cone\""),
            "call.toml:14: participant.nat: there is no \"cone\"",
        ),
        (
            format!("{participant}publish = [\"audio\", \"vidio\"]"),
            "did you mean \"video\"?",
        ),
        (
            format!("{participant}joins = \"60s\""),
            "nobody joins after the end",
        ),
        (
            format!("{participant}video = \"big\""),
            "\"big\" is not a size, like 640x360",
        ),
        (
            format!("{participant}count = 0"),
            "\"0\" is not a number from 1 to 1000",
        ),
        (
            "[[participant]]\nname = \"carol\"\nclient = \"browser\"\ncount = 2".into(),
            "call.toml:13: participant.count: only bots come in numbers",
        ),
        (
            "[[participant]]\nname = \"alice\"\nclient = \"bot\"".into(),
            "call.toml:11: participant.name: there is a \"alice\" in the call already",
        ),
        (
            "[[participant]]\nname = \"Al\"\nclient = \"bot\"".into(),
            "\"Al\" is no name",
        ),
        (
            "[[participant]]\nname = \"carol\"".into(),
            "call.toml:10: participant.client: is missing; it is written as",
        ),
        (
            format!("{at}time = \"70s\"\ncut = true"),
            "call.toml:13: at.time: \"70s\" is after the end of the call (60 s)",
        ),
        (
            format!("{at}time = \"20s\"\nuntil = \"20s\"\ncut = true"),
            "call.toml:14: at.until: it must be after the time",
        ),
        (
            format!("{at}cut = true"),
            "call.toml:11: at.time: is missing",
        ),
        (
            format!("{at}time = \"20s\""),
            "call.toml:11: at: nothing changes",
        ),
        (
            format!("{at}time = \"20s\"\naddress = \"new\""),
            "\"new\" is not \"change\"",
        ),
        (
            format!("{at}time = \"20s\"\nuntil = \"30s\"\naddress = \"change\""),
            "there is no way back",
        ),
        (
            format!("{at}time = \"20s\"\nramp = \"3s\"\nuplink = {{ rate = \"1 Mbit/s\" }}"),
            "at.uplink: there must be a rate before and after",
        ),
        (
            format!(
                "{at}time = \"20s\"\nramp = \"3s\"\nuplink = {{ loss = \"burst 10% mean 4\" }}"
            ),
            "only single losses have a way between them",
        ),
        (
            "[[at]]\ntime = \"20s\"\nparticipant = \"alcie\"\ncut = true".into(),
            "call.toml:12: at.participant: in the call, there is no \"alcie\": did you mean \"alice\"?",
        ),
        (
            format!(
                "{alice}time = \"20s\"\nuntil = \"40s\"\nuplink = {{ loss = \"1%\" }}\n{alice}time = \"30s\"\ncut = true"
            ),
            "call.toml:15: at.time: overlaps the one on line 10, which has alice's uplink from 20 s to 40 s",
        ),
        (
            format!(
                "{alice}time = \"20s\"\nuplink = {{ loss = \"1%\" }}\n{alice}time = \"20s\"\ncut = true"
            ),
            "overlaps the one on line 10",
        ),
        (
            "[[expect]]\nreceiver = \"carol\"\nfreezes = \"< 5\"".into(),
            "call.toml:11: expect.receiver: in the call, there is no \"carol\"",
        ),
        (
            "[[expect]]\nvideo_forzen = \"< 5%\"".into(),
            "call.toml:11: expect.video_forzen: there is no \"video_forzen\": did you mean \"video_frozen\"?",
        ),
        (
            "[[expect]]\nvideo_frozen = \"5%\"".into(),
            "call.toml:11: expect.video_frozen: \"5%\" is no comparison",
        ),
        (
            "[[expect]]\nvideo_frozen = \"< 5\"".into(),
            "\"5\" has no unit",
        ),
        (
            "[[expect]]\nsender = \"alice\"\njoin_time = \"< 5s\"".into(),
            "call.toml:12: expect.join_time: is a figure of a client",
        ),
        (
            "[[expect]]\nfrom = \"50s\"\nuntil = \"20s\"\nfreezes = \"< 5\"".into(),
            "call.toml:11: expect.from: the window must be within the call",
        ),
        (
            "[[expect]]\nreceiver = \"bob\"\nsender = \"bob\"\nfreezes = \"< 5\"".into(),
            "call.toml:13: expect.freezes: nobody in this call has that of anybody",
        ),
        ("[[expect]]\nreceiver = \"bob\"".into(), "expects nothing"),
        ("[expect]\nfreezes = \"< 5\"".into(), "write [[expect]]"),
        (
            "[matrix]\nloss = [\"1%\"]".into(),
            "call.toml:11: matrix.loss: nothing uses it",
        ),
        (
            "[matrix]\nloss = []".into(),
            "call.toml:11: matrix.loss: a list of values belongs here",
        ),
        (
            "[[expect]]\nvideo_frozen = \"{limit}\"".into(),
            "call.toml:11: \"{limit}\" stands for nothing: there is no [matrix]",
        ),
        (
            "titel = 3\n[matrix]".into(),
            "call.toml:10: participant.titel",
        ),
        ("title".into(), "call.toml:10: "),
    ];
    for (more, expected) in table {
        let errors = parse(&format!("{CALL}{more}"))
            .err()
            .map(|errors| errors.to_string());
        let errors = errors.unwrap_or_default();
        assert!(
            errors.contains(expected),
            "{more}\n  says: {errors}\n  not:  {expected}"
        );
    }
}

#[test]
fn an_empty_call_is_refused() {
    let errors = parse("title = \"None\"\nduration = \"5s\"").err();
    let errors = errors.map(|errors| errors.to_string()).unwrap_or_default();
    assert!(
        errors.contains("calls/call.toml: participant: the call is empty"),
        "{errors}"
    );
}

#[test]
fn every_problem_is_told_once_and_in_order() {
    let text = CALL.replace("title", "titel").replace("\"60s\"", "\"{d}\"");
    let text = format!("{text}[matrix]\nd = [\"60s\", \"50s\"]\n[[expect]]\nfreezes = \"5\"");
    let errors = parse(&text).err().map(|errors| errors.problems);
    let lines: Vec<usize> = errors
        .into_iter()
        .flatten()
        .map(|problem| problem.line)
        .collect();
    // The title that is missing, the one that is unknown, the comparison.
    assert_eq!(lines, [0, 2, 13]);
}

#[test]
fn a_matrix_makes_every_combination_in_the_order_of_the_file() {
    let text = format!(
        "{CALL}link = {{ loss = \"{{loss}}\", delay = \"{{delay}}\" }}
[matrix]
loss = [\"0%\", \"10%\"]
delay = [\"10ms\", \"50ms\"]
"
    );
    let names: Vec<String> = parse(&text)
        .unwrap_or_default()
        .iter()
        .map(|run| full_name("x", &run.parameters))
        .collect();
    let expected = [
        "x (loss 0%, delay 10ms)",
        "x (loss 0%, delay 50ms)",
        "x (loss 10%, delay 10ms)",
        "x (loss 10%, delay 50ms)",
    ];
    assert_eq!(names, expected);
    let bad = text.replace("\"10%\"", "\"110%\"");
    let errors = parse(&bad).err().map(|errors| errors.to_string());
    assert_eq!(
        errors.as_deref(),
        Some(
            "calls/call.toml:10: participant.link.loss: \"110%\" is more than all: 100% is the most"
        )
    );
}
