//! Every key of a scenario file: the reference that the reader obeys and docs/netem.md shows.

use std::fmt::Write;

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// How its value is written.
    pub value: &'static str,
    /// What it does, and what holds without it.
    pub about: &'static str,
}

const fn key(name: &'static str, value: &'static str, about: &'static str) -> Key {
    Key { name, value, about }
}

/// At the top of the file.
pub const SCENARIO: &[Key] = &[
    key("title", "`\"Loss both ways\"`", "What the report calls it."),
    key("about", "`\"…\"`", "A sentence on what it shows."),
    key(
        "duration",
        "`\"60s\"`",
        "How long the call is, from the first join.",
    ),
    key(
        "tier",
        "`\"virtual\"`, `\"real\"`",
        "Where it is run unless the command line says otherwise. Default: real.",
    ),
    key("server", "`{ workers = 1 }`", "How the server is set up."),
    key(
        "matrix",
        "`[matrix]`, `loss = [\"0%\", \"10%\"]`",
        "One run for every combination; `{loss}` in any text stands for the value.",
    ),
    key("participant", "`[[participant]]`", "Who is in the call."),
    key("at", "`[[at]]`", "What changes during the call."),
    key("expect", "`[[expect]]`", "What must hold."),
];

/// In `server`.
pub const SERVER: &[Key] = &[key(
    "workers",
    "`1`",
    "Threads that carry media. Default: one for each core.",
)];

/// In `[[participant]]`.
pub const PARTICIPANT: &[Key] = &[
    key(
        "name",
        "`\"alice\"`",
        "Small letters, digits and `-`, a letter first.",
    ),
    key(
        "client",
        "`\"browser\"`, `\"bot\"`, `\"iperf3\"`",
        "What is in the call, or beside it: iperf3 is a flow of TCP Cubic, in real time only.",
    ),
    key(
        "publish",
        "`[\"audio\", \"video\"]`",
        "What it sends. Default: both; `[]` only listens.",
    ),
    key(
        "video",
        "`\"640x360\"`",
        "The size of its picture. Default: 640x360.",
    ),
    key(
        "simulcast",
        "`true`, `false`",
        "Of browsers: whether it sends its picture in several sizes. Default: as the web SDK does in real time; in one in virtual time and to Janus.",
    ),
    key(
        "video_bitrate",
        "`\"600 kbit/s\"`",
        "What its picture takes, of bots and, in one size, of simulated browsers. Default: 600 kbit/s; of the latter, for 640x360.",
    ),
    key(
        "joins",
        "`\"5s\"`",
        "When it joins. Default: at the beginning.",
    ),
    key(
        "count",
        "`10`",
        "So many of them, bots only: `alice-1` to `alice-10`, each behind a link of its own.",
    ),
    key(
        "behind",
        "`\"bob\"`",
        "Lives with bob, who is written before it: has his links, NAT and firewall, and none of its own.",
    ),
    key(
        "direction",
        "`\"down\"`, `\"up\"`",
        "Of iperf3: the way it fills. Default: down.",
    ),
    key(
        "relay",
        "`\"udp\"`, `\"tcp\"`, `\"tls\"`",
        "Of browsers in real time: all of its media goes through our TURN relay, reached so. Default: whatever works.",
    ),
    key(
        "nat",
        "`\"none\"`, `\"full-cone\"`, `\"address-restricted\"`, `\"port-restricted\"`, `\"symmetric\"`",
        "The address translation it is behind. Default: none.",
    ),
    key(
        "firewall",
        "`\"none\"`, `\"no-udp\"`, `\"tcp-443-only\"`, `\"poor-udp\"`",
        "What is let out; of `poor-udp` 70 % of all UDP, both ways, in real time only. Default: everything.",
    ),
    key(
        "link",
        "`{ delay = \"50ms\" }`",
        "Both directions of its network.",
    ),
    key(
        "uplink",
        "`{ loss = \"10%\" }`",
        "From the client to the server; goes before `link`.",
    ),
    key(
        "downlink",
        "`{ rate = \"1 Mbit/s\" }`",
        "From the server to the client; goes before `link`.",
    ),
];

/// In `link`, `uplink` and `downlink`.
pub const LINK: &[Key] = &[
    key("delay", "`\"50ms\"`", "One way. Default: none."),
    key(
        "jitter",
        "`\"10ms\"`",
        "How far the delay strays to either side, evenly.",
    ),
    key(
        "reorder",
        "`true`",
        "Whether jitter lets packets overtake each other.",
    ),
    key(
        "loss",
        "`\"30%\"`, `\"burst 10% mean 4\"`, or a table",
        "Each packet for itself, or in bursts of so many packets on average.",
    ),
    key(
        "loss_direction",
        "`\"both\"`, `\"up\"`, `\"down\"`",
        "Of `link` alone: the direction that its loss is in. Default: both.",
    ),
    key(
        "stall",
        "`{ every = \"100ms\", length = \"30ms\" }`, `\"none\"`",
        "Holds everything back for a while and then delivers it at once, as Wi-Fi does.",
    ),
    key("duplicate", "`\"1%\"`", "Packets that arrive twice."),
    key("corrupt", "`\"0.1%\"`", "Packets with one bit flipped."),
    key(
        "rate",
        "`\"5 Mbit/s\"`, `\"none\"`",
        "The bottleneck, IP headers counted.",
    ),
    key(
        "queue",
        "`\"200ms\"`, `\"64 kB\"`",
        "How much waits before the bottleneck; what is more is dropped. Default: 200ms.",
    ),
];

/// In `loss`, when it is a table.
pub const LOSS: &[Key] = &[
    key("burst", "`\"10%\"`", "Lost in all, in bursts; with `mean`."),
    key("mean", "`4`", "Packets in a burst, on average."),
    key(
        "trace",
        "`\"office.loss\"`",
        "A file of `0` (arrives) and `1` (lost), beside the scenario; begins anew at its end.",
    ),
    key(
        "p",
        "`\"2%\"`",
        "Gilbert–Elliott: from good to bad, before each packet; with `r`.",
    ),
    key("r", "`\"25%\"`", "From bad to good."),
    key("good", "`\"0%\"`", "Lost in the good state. Default: none."),
    key("bad", "`\"100%\"`", "Lost in the bad state. Default: all."),
];

/// In `stall`.
pub const STALL: &[Key] = &[
    key(
        "every",
        "`\"100ms\"`",
        "From the beginning of one to that of the next.",
    ),
    key("length", "`\"30ms\"`", "How long one lasts."),
];

/// In `[[at]]`.
pub const AT: &[Key] = &[
    key("time", "`\"20s\"`", "When, from the beginning of the call."),
    key(
        "until",
        "`\"40s\"`",
        "When all is as before again. Default: it stays.",
    ),
    key(
        "ramp",
        "`\"10s\"`",
        "Goes there evenly in this time, ten steps a second. Default: at once.",
    ),
    key(
        "participant",
        "`\"alice\"`, `\"*\"`",
        "Whose network; `*` is everyone's.",
    ),
    key(
        "link",
        "`{ loss = \"30%\" }`",
        "What changes in both directions; the rest stays.",
    ),
    key("uplink", "`{ loss = \"30%\" }`", "What changes upward."),
    key("downlink", "`{ loss = \"30%\" }`", "What changes downward."),
    key("cut", "`true`", "Nothing gets through."),
    key(
        "firewall",
        "`\"no-udp\"`",
        "What is let out, as in `[[participant]]`.",
    ),
    key(
        "address",
        "`\"change\"`",
        "The client's address changes, as when a phone leaves the Wi-Fi.",
    ),
];

/// In `[[expect]]`, besides the figures.
pub const EXPECT: &[Key] = &[
    key(
        "receiver",
        "`\"bob\"`",
        "Whose experience. Default: everyone's.",
    ),
    key(
        "sender",
        "`\"alice\"`",
        "Of whose media. Default: everyone's.",
    ),
    key(
        "from",
        "`\"10s\"`",
        "Only from here on. Default: from the first picture.",
    ),
    key("until", "`\"20s\"`", "Only until here. Default: the end."),
];

/// The reference as docs/netem.md shows it: a Markdown table for each table of a scenario file.
#[must_use]
pub fn markdown() -> String {
    let tables = [
        ("At the top", SCENARIO),
        ("`server`", SERVER),
        ("`[[participant]]`", PARTICIPANT),
        ("`link`, `uplink`, `downlink`", LINK),
        ("`loss`, as a table", LOSS),
        ("`stall`", STALL),
        ("`[[at]]`", AT),
        ("`[[expect]]`, besides the figures below", EXPECT),
    ];
    let mut text = String::new();
    for (title, keys) in tables {
        let _ = write!(
            text,
            "**{title}**\n\n| key | written as | |\n| --- | --- | --- |\n"
        );
        for key in keys {
            let _ = writeln!(text, "| `{}` | {} | {} |", key.name, key.value, key.about);
        }
        text.push('\n');
    }
    text
}
