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
use crate::relay::RelayStats;

/// The TLS certificates that whoever accepts connections shows.
pub trait Certificates: Debug + Send + Sync {
    /// When each runs out, by the address where it is shown.
    fn expiries(&self) -> Vec<(SocketAddr, SystemTime)>;

    /// Whether one of them is for this host.
    fn name(&self, _host: &str) -> bool {
        false
    }
}

/// A metric as the page and the operations guide describe it.
struct Metric {
    name: &'static str,
    /// `gauge` or `counter`.
    kind: &'static str,
    /// Its label, if it has one.
    label: Option<&'static str>,
    help: &'static str,
    samples: fn(&Seen) -> Samples,
}

/// What is counted, everywhere.
struct Seen {
    control: Counters,
    media: Stats,
    relay: RelayStats,
    certificates: Vec<(SocketAddr, SystemTime)>,
}

type Samples = Vec<(String, u64)>;

const fn gauge(name: &'static str, help: &'static str, samples: fn(&Seen) -> Samples) -> Metric {
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
    samples: fn(&Seen) -> Samples,
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

/// Whole seconds since 1970.
fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

static METRICS: &[Metric] = &[
    gauge(
        "confab_sessions",
        "Signaling sessions, with and without a socket.",
        |s| one(s.control.sessions),
    ),
    gauge("confab_rooms", "Rooms.", |s| one(s.control.rooms)),
    gauge(
        "confab_participants",
        "Participants in all rooms: who has a name or publishes.",
        |s| one(s.control.participants),
    ),
    gauge(
        "confab_viewers",
        "Viewers in all rooms: who watches without a name.",
        |s| one(s.control.viewers),
    ),
    gauge("confab_tracks", "Published tracks.", |s| {
        one(s.media.tracks)
    }),
    counter(
        "confab_requests_total",
        "type",
        "Signaling requests.",
        |s| named(s.control.requests.iter().map(|(k, v)| (*k, *v))),
    ),
    counter(
        "confab_refusals_total",
        "code",
        "Refused requests, by the code of the refusal.",
        |s| named(s.control.refusals.iter().map(|(k, v)| (k, *v))),
    ),
    Metric {
        label: None,
        ..counter(
            "confab_sessions_resumed_total",
            "",
            "Sessions resumed on another socket.",
            |s| vec![(String::new(), s.control.resumed)],
        )
    },
    Metric {
        label: None,
        ..counter("confab_events_total", "", "Events told to clients.", |s| {
            vec![(String::new(), s.control.events)]
        })
    },
    Metric {
        label: Some("worker"),
        ..gauge("confab_peers", "Media connections.", |s| {
            workers(&s.media, |w| w.peers)
        })
    },
    Metric {
        label: Some("worker"),
        ..gauge(
            "confab_tcp_connections",
            "TCP connections that media may come over.",
            |s| workers(&s.media, |w| w.tcp_connections),
        )
    },
    counter(
        "confab_datagrams_received_total",
        "worker",
        "Datagrams received.",
        |s| workers(&s.media, |w| w.datagrams_received),
    ),
    counter(
        "confab_received_bytes_total",
        "worker",
        "Bytes of datagrams received.",
        |s| workers(&s.media, |w| w.bytes_received),
    ),
    counter(
        "confab_datagrams_sent_total",
        "worker",
        "Datagrams sent.",
        |s| workers(&s.media, |w| w.datagrams_sent),
    ),
    counter(
        "confab_sent_bytes_total",
        "worker",
        "Bytes of datagrams sent.",
        |s| workers(&s.media, |w| w.bytes_sent),
    ),
    counter(
        "confab_rtp_received_total",
        "worker",
        "RTP packets received that authenticated.",
        |s| workers(&s.media, |w| w.rtp_received),
    ),
    counter(
        "confab_packets_forwarded_total",
        "worker",
        "Media packets sent to subscribers.",
        |s| workers(&s.media, |w| w.packets_forwarded),
    ),
    counter(
        "confab_packets_retransmitted_total",
        "worker",
        "Packets sent again: asked for by a NACK, or lost as transport-wide feedback says.",
        |s| workers(&s.media, |w| w.packets_retransmitted),
    ),
    counter(
        "confab_repair_sent_total",
        "kind",
        "Packets of RTX and FEC sent to subscribers, and packets of audio that repeat others in RED.",
        |s| repairs(s.media.total().repair_sent),
    ),
    counter(
        "confab_packets_repaired_total",
        "by",
        "Packets lost on the way from publishers that came after all, by what brought them.",
        |s| repairs(s.media.total().packets_repaired),
    ),
    counter(
        "confab_packets_given_up_total",
        "worker",
        "Packets lost on the way from publishers that never came.",
        |s| workers(&s.media, |w| w.packets_given_up),
    ),
    counter(
        "confab_nacks_sent_total",
        "worker",
        "Packets asked for again from publishers.",
        |s| workers(&s.media, |w| w.nacks_sent),
    ),
    counter(
        "confab_key_frame_requests_sent_total",
        "worker",
        "Key frames asked for from publishers.",
        |s| workers(&s.media, |w| w.key_frame_requests_sent),
    ),
    counter(
        "confab_groups_sent_total",
        "worker",
        "Slots that began with the pictures since a key frame instead of another key frame.",
        |s| workers(&s.media, |w| w.groups_sent),
    ),
    counter(
        "confab_layer_switches_total",
        "worker",
        "Changes of the layer that a slot is sent.",
        |s| workers(&s.media, |w| w.layer_switches),
    ),
    counter(
        "confab_pictures_paused_total",
        "worker",
        "Pictures paused, for whatever reason.",
        |s| workers(&s.media, |w| w.pictures_paused),
    ),
    counter(
        "confab_probe_fillers_sent_total",
        "worker",
        "Packets sent to find out what a path carries: media once more, or padding.",
        |s| workers(&s.media, |w| w.probe_fillers_sent),
    ),
    counter(
        "confab_dropped_total",
        "reason",
        "Datagrams and packets dropped.",
        |s| named(s.media.total().dropped),
    ),
    counter(
        "confab_dtls_handshakes_total",
        "srtp_profile",
        "DTLS handshakes completed.",
        |s| named(s.media.total().srtp_profiles),
    ),
    Metric {
        label: None,
        ..counter(
            "confab_relay_allocations_made_total",
            "",
            "TURN allocations made.",
            |s| vec![(String::new(), s.relay.allocated)],
        )
    },
    gauge("confab_relay_allocations", "TURN allocations.", |s| {
        vec![(String::new(), s.relay.allocations)]
    }),
    gauge(
        "confab_relay_connections",
        "TCP and TLS connections of TURN clients.",
        |s| vec![(String::new(), s.relay.connections)],
    ),
    counter(
        "confab_relayed_packets_total",
        "to",
        "Packets relayed.",
        |s| named(s.relay.packets.iter().copied()),
    ),
    counter(
        "confab_relayed_bytes_total",
        "to",
        "Bytes of payload relayed.",
        |s| named(s.relay.bytes.iter().copied()),
    ),
    counter(
        "confab_relay_dropped_total",
        "reason",
        "Packets and requests that the relay has refused or lost.",
        |s| named(s.relay.dropped.iter().copied()),
    ),
    Metric {
        label: None,
        ..counter(
            "confab_relay_restarts_total",
            "",
            "Times the relay has begun anew after a fault of its own.",
            |s| vec![(String::new(), s.relay.restarts)],
        )
    },
    Metric {
        label: Some("address"),
        ..gauge(
            "confab_tls_certificate_expiry_seconds",
            "When the certificate that is shown there runs out, in seconds since 1970.",
            |s| named(s.certificates.iter().map(|(at, until)| (at, unix(*until)))),
        )
    },
];

pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let (control, media) = app.service.counters().await;
    let relay = match &app.relay {
        Some(relay) => relay.stats().await,
        None => RelayStats::default(),
    };
    let certificates = app.certificates.as_ref().map(|c| c.expiries());
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    let seen = Seen {
        control,
        media,
        relay,
        certificates: certificates.unwrap_or_default(),
    };
    (content_type, exposition(&seen))
}

fn exposition(seen: &Seen) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let Metric {
            name, kind, help, ..
        } = metric;
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (label, value) in (metric.samples)(seen) {
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
        let worker = WorkerStats {
            packets_forwarded: 9,
            ..WorkerStats::default()
        };
        let stats = Stats {
            workers: vec![(1, worker)],
            ..Stats::default()
        };
        let relay = RelayStats {
            allocations: 4,
            packets: vec![("peers", 5), ("clients", 6)],
            ..RelayStats::default()
        };
        let expiry = UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
        let text = exposition(&Seen {
            control: counters,
            media: stats,
            relay,
            certificates: vec![(([192, 0, 2, 1], 443).into(), expiry)],
        });
        for line in [
            "# TYPE confab_rooms gauge",
            "confab_rooms 3",
            "confab_requests_total{type=\"join\"} 7",
            "confab_packets_forwarded_total{worker=\"1\"} 9",
            "confab_tls_certificate_expiry_seconds{address=\"192.0.2.1:443\"} 1800000000",
            "confab_relay_allocations 4",
            "confab_relayed_packets_total{to=\"clients\"} 6",
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
