//! `/metrics`: counters in the Prometheus text format, version 0.0.4.

use std::fmt::{Debug, Write};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use confab_sfu::api::{RepairCounts, Stats, WorkerStats};

use super::App;
use crate::control::Counters;

/// The TLS certificates that whoever accepts connections shows.
pub trait Certificates: Debug + Send + Sync {
    /// When each runs out, by the address where it is shown.
    fn expiries(&self) -> Vec<(SocketAddr, SystemTime)>;
}

/// A metric as the page and the operations guide describe it.
struct Metric {
    /// Its name.
    name: &'static str,
    /// `gauge` or `counter`.
    kind: &'static str,
    /// Its label, if it has one.
    label: Option<&'static str>,
    /// What it counts.
    help: &'static str,
    samples: fn(&Counters, &Stats) -> Samples,
}

type Samples = Vec<(String, u64)>;

const fn gauge(
    name: &'static str,
    help: &'static str,
    samples: fn(&Counters, &Stats) -> Samples,
) -> Metric {
    Metric {
        name,
        kind: "gauge",
        label: None,
        help,
        samples,
    }
}

const fn counter(
    name: &'static str,
    label: &'static str,
    help: &'static str,
    samples: fn(&Counters, &Stats) -> Samples,
) -> Metric {
    Metric {
        name,
        kind: "counter",
        label: Some(label),
        help,
        samples,
    }
}

fn one(value: usize) -> Samples {
    vec![(String::new(), value as u64)]
}

fn workers(stats: &Stats, value: fn(&WorkerStats) -> u64) -> Samples {
    stats
        .workers
        .iter()
        .map(|(number, worker)| (number.to_string(), value(worker)))
        .collect()
}

fn repairs(RepairCounts { rtx, fec, red }: RepairCounts) -> Samples {
    named([("rtx", rtx), ("fec", fec), ("red", red)])
}

fn named<K: ToString>(values: impl IntoIterator<Item = (K, u64)>) -> Samples {
    values
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

/// Every metric.
static METRICS: &[Metric] = &[
    gauge(
        "confab_sessions",
        "Signaling sessions, with and without a socket.",
        |c, _| one(c.sessions),
    ),
    gauge("confab_rooms", "Rooms.", |c, _| one(c.rooms)),
    gauge(
        "confab_participants",
        "Participants in all rooms.",
        |c, _| one(c.participants),
    ),
    gauge("confab_tracks", "Published tracks.", |_, s| one(s.tracks)),
    counter(
        "confab_requests_total",
        "type",
        "Signaling requests.",
        |c, _| named(c.requests.iter().map(|(k, v)| (*k, *v))),
    ),
    counter(
        "confab_refusals_total",
        "code",
        "Refused requests, by the code of the refusal.",
        |c, _| named(c.refusals.iter().map(|(k, v)| (k, *v))),
    ),
    Metric {
        label: None,
        ..counter(
            "confab_sessions_resumed_total",
            "",
            "Sessions resumed on another socket.",
            |c, _| vec![(String::new(), c.resumed)],
        )
    },
    Metric {
        label: None,
        ..counter(
            "confab_events_total",
            "",
            "Events told to clients.",
            |c, _| vec![(String::new(), c.events)],
        )
    },
    Metric {
        label: Some("worker"),
        ..gauge("confab_peers", "Media connections.", |_, s| {
            workers(s, |w| w.peers)
        })
    },
    Metric {
        label: Some("worker"),
        ..gauge(
            "confab_tcp_connections",
            "TCP connections that media may come over.",
            |_, s| workers(s, |w| w.tcp_connections),
        )
    },
    counter(
        "confab_datagrams_received_total",
        "worker",
        "Datagrams received.",
        |_, s| workers(s, |w| w.datagrams_received),
    ),
    counter(
        "confab_received_bytes_total",
        "worker",
        "Bytes of datagrams received.",
        |_, s| workers(s, |w| w.bytes_received),
    ),
    counter(
        "confab_datagrams_sent_total",
        "worker",
        "Datagrams sent.",
        |_, s| workers(s, |w| w.datagrams_sent),
    ),
    counter(
        "confab_sent_bytes_total",
        "worker",
        "Bytes of datagrams sent.",
        |_, s| workers(s, |w| w.bytes_sent),
    ),
    counter(
        "confab_rtp_received_total",
        "worker",
        "RTP packets received that authenticated.",
        |_, s| workers(s, |w| w.rtp_received),
    ),
    counter(
        "confab_packets_forwarded_total",
        "worker",
        "Media packets sent to subscribers.",
        |_, s| workers(s, |w| w.packets_forwarded),
    ),
    counter(
        "confab_packets_retransmitted_total",
        "worker",
        "Packets sent again for a NACK.",
        |_, s| workers(s, |w| w.packets_retransmitted),
    ),
    counter(
        "confab_repair_sent_total",
        "kind",
        "Packets of RTX and FEC sent to subscribers, and packets of sound that repeat others in RED.",
        |_, s| repairs(s.total().repair_sent),
    ),
    counter(
        "confab_packets_repaired_total",
        "by",
        "Packets lost on the way from publishers that came after all, by what brought them.",
        |_, s| repairs(s.total().packets_repaired),
    ),
    counter(
        "confab_packets_given_up_total",
        "worker",
        "Packets lost on the way from publishers that never came.",
        |_, s| workers(s, |w| w.packets_given_up),
    ),
    counter(
        "confab_nacks_sent_total",
        "worker",
        "Packets asked for again from publishers.",
        |_, s| workers(s, |w| w.nacks_sent),
    ),
    counter(
        "confab_key_frame_requests_sent_total",
        "worker",
        "Key frames asked for from publishers.",
        |_, s| workers(s, |w| w.key_frame_requests_sent),
    ),
    counter(
        "confab_groups_sent_total",
        "worker",
        "Slots that began with the pictures since a key frame instead of another key frame.",
        |_, s| workers(s, |w| w.groups_sent),
    ),
    counter(
        "confab_layer_switches_total",
        "worker",
        "Changes of the layer that a slot is sent.",
        |_, s| workers(s, |w| w.layer_switches),
    ),
    counter(
        "confab_pictures_paused_total",
        "worker",
        "Pictures paused, for whatever reason.",
        |_, s| workers(s, |w| w.pictures_paused),
    ),
    counter(
        "confab_probe_fillers_sent_total",
        "worker",
        "Packets sent to find out what a way carries: media once more, or padding.",
        |_, s| workers(s, |w| w.probe_fillers_sent),
    ),
    counter(
        "confab_dropped_total",
        "reason",
        "Datagrams and packets dropped.",
        |_, s| named(s.total().dropped),
    ),
    counter(
        "confab_dtls_handshakes_total",
        "srtp_profile",
        "DTLS handshakes completed.",
        |_, s| named(s.total().srtp_profiles),
    ),
    Metric {
        label: Some("address"),
        ..gauge(
            "confab_tls_certificate_expiry_seconds",
            "When the certificate that is shown there runs out, in seconds since 1970.",
            |c, _| named(c.certificate_expiries.iter().map(|(k, v)| (*k, *v))),
        )
    },
];

/// Serves the page.
pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let (mut counters, stats) = app.service.counters().await;
    if let Some(certificates) = &app.certificates {
        let expiries = certificates.expiries().into_iter();
        let unix = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        counters.certificate_expiries = expiries.map(|(door, at)| (door, unix(at))).collect();
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (content_type, exposition(&counters, &stats))
}

fn exposition(counters: &Counters, stats: &Stats) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let Metric {
            name, kind, help, ..
        } = metric;
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (label, value) in (metric.samples)(counters, stats) {
            let _ = match metric.label {
                Some(label_name) => writeln!(text, "{name}{{{label_name}=\"{label}\"}} {value}"),
                None => writeln!(text, "{name} {value}"),
            };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_shown_with_their_labels_and_described_once() {
        let mut counters = Counters {
            rooms: 3,
            ..Counters::default()
        };
        counters.requests.insert("join", 7);
        let door = SocketAddr::from(([192, 0, 2, 1], 443));
        counters.certificate_expiries.insert(door, 1_800_000_000);
        let worker = WorkerStats {
            packets_forwarded: 9,
            ..WorkerStats::default()
        };
        let stats = Stats {
            workers: vec![(1, worker)],
            ..Stats::default()
        };
        let text = exposition(&counters, &stats);
        for line in [
            "# TYPE confab_rooms gauge",
            "confab_rooms 3",
            "confab_requests_total{type=\"join\"} 7",
            "confab_packets_forwarded_total{worker=\"1\"} 9",
            "confab_tls_certificate_expiry_seconds{address=\"192.0.2.1:443\"} 1800000000",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}");
        }
        let mut names: Vec<_> = METRICS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
    #[test]
    fn the_guide_describes_every_metric() {
        let guide = include_str!("../../../docs/operations.md");
        for metric in METRICS {
            let label = match metric.label {
                Some(label) => format!("`{label}`"),
                None => "none".to_owned(),
            };
            let Metric {
                name, kind, help, ..
            } = metric;
            let row = format!("| `{name}` | {kind} | {label} | {help} |");
            assert!(
                guide.contains(&row),
                "docs/operations.md lacks the row\n{row}"
            );
        }
    }
}
