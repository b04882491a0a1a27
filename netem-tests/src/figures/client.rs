//! One client: how it came into the call, what it sent, and over what.

use confab_bot::sample::Sent;

use super::link::LinkLog;
use super::{CallTime, ClientLog, Figure, Series, Summary, Window, grown, median, ratio, summary};

/// What one client did in the course of a call.
#[derive(Debug)]
pub struct ClientFigures {
    intervals: Vec<Interval>,
    join_ms: Option<f64>,
    link: LinkLog,
    paths: Vec<(f64, String)>,
}

/// Between two samples, seconds.
#[derive(Debug)]
struct Interval {
    from: f64,
    to: f64,
    bytes: f64,
    video_bytes: f64,
    retransmitted_bytes: f64,
    flow_bytes: Option<f64>,
    rtt_ms: Option<f64>,
    estimate: Option<f64>,
    downlink_estimate: Option<f64>,
}

impl ClientFigures {
    /// Takes a client's log apart.
    #[must_use]
    pub fn new(log: &ClientLog, call: CallTime) -> Self {
        let mut paths: Vec<(f64, String)> = Vec::new();
        let mut intervals = Vec::new();
        let mut from = log.joining().map_or(0.0, |at| call.seconds(at));
        let mut before = Sent::default();
        let mut flowed = 0;
        for sample in log.samples() {
            let to = call.seconds(sample.at);
            if to <= from {
                continue;
            }
            let now = &sample.sent;
            let video_bytes = grown(before.video_bytes, now.video_bytes);
            let (sent_again, sent_again_now) = (
                before.video_retransmitted_bytes,
                now.video_retransmitted_bytes,
            );
            intervals.push(Interval {
                from,
                to,
                bytes: video_bytes + grown(before.audio_bytes, now.audio_bytes),
                video_bytes,
                retransmitted_bytes: grown(sent_again, sent_again_now),
                flow_bytes: sample.flow_bytes.map(|bytes| grown(flowed, bytes)),
                rtt_ms: sample.rtt_ms,
                estimate: sample.available_outgoing,
                downlink_estimate: sample.downlink_estimate,
            });
            if let Some(path) = &sample.path
                && paths.last().is_none_or(|(_, last)| last != path)
            {
                paths.push((super::rounded(to), path.clone()));
            }
            from = to;
            before = now.clone();
            flowed = sample.flow_bytes.unwrap_or_default();
        }
        let join_ms = log.joining().zip(log.joined());
        ClientFigures {
            intervals,
            join_ms: join_ms.map(|(joining, joined)| joined - joining),
            link: LinkLog::new(&log.link, call),
            paths,
        }
    }

    /// The figures over a part of the call, or all of it.
    #[must_use]
    pub fn summary(&self, window: Option<Window>) -> Summary {
        let is_in = |interval: &&Interval| {
            let middle = (interval.from + interval.to) / 2.0;
            window.is_none_or(|window| (window.from..window.until).contains(&middle))
        };
        let mut all = figures(&self.intervals.iter().filter(is_in).collect::<Vec<_>>());
        all.extend(self.link.summary(window));
        all.extend(summary([(Figure::JoinTime, self.join_ms)]));
        all
    }

    /// What it sent, sample by sample.
    #[must_use]
    pub fn series(&self) -> Series {
        let points = self.intervals.iter();
        Series::of(points.map(|interval| (interval.to, figures(&[interval]))))
    }

    /// What its links did, sample by sample.
    #[must_use]
    pub fn link_series(&self) -> Series {
        self.link.series()
    }

    /// The ways it went, each with the second since when: `udp`, `tcp`, `relay-udp` and so on.
    #[must_use]
    pub fn paths(&self) -> &[(f64, String)] {
        &self.paths
    }
}

fn figures(intervals: &[&Interval]) -> Summary {
    let sum = |value: fn(&Interval) -> f64| intervals.iter().map(|i| value(i)).sum::<f64>();
    let gauge = |value: fn(&Interval) -> Option<f64>| {
        median(intervals.iter().filter_map(|i| value(i)).collect())
    };
    let seconds = sum(|i| i.to - i.from);
    let again = sum(|i| i.retransmitted_bytes);
    let believed = intervals.iter().filter_map(|i| i.downlink_estimate);
    let flow: Option<f64> = intervals.iter().map(|i| i.flow_bytes).sum();
    let once = sum(|i| i.video_bytes) - again;
    summary([
        (Figure::RoundTrip, gauge(|i| i.rtt_ms)),
        (Figure::SentBitrate, ratio(sum(|i| i.bytes), seconds, 8e-3)),
        (
            Figure::Estimate,
            gauge(|i| i.estimate).map(|bits| bits / 1e3),
        ),
        (
            Figure::DownlinkEstimate,
            believed.reduce(f64::min).map(|bits| bits / 1e3),
        ),
        (Figure::SentRepair, ratio(again, once, 100.0)),
        (
            Figure::Throughput,
            flow.and_then(|bytes| ratio(bytes, seconds, 8e-3)),
        ),
    ])
}
