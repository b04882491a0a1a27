//! The links of a client, once a second, and what they did in between.

use serde::{Deserialize, Serialize};

use super::{CallTime, Figure, Series, Summary, Window, grown, median, ratio, summary};
use crate::link::Reading;

/// Both links of a client at one time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LinkSample {
    /// When, on the clock of the lines, milliseconds.
    pub at: f64,
    /// From the client to the server.
    pub up: DirectionSample,
    /// From the server to the client.
    pub down: DirectionSample,
}

/// One direction at one time. The counters are those of [`crate::link::Counters`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DirectionSample {
    /// Packets handed to the link.
    pub sent: u64,
    /// Packets lost on the way.
    pub lost: u64,
    /// Packets dropped because the queue was full.
    pub overflowed: u64,
    /// Packets dropped because the link was down.
    pub cut: u64,
    /// Bytes handed on.
    pub delivered_bytes: u64,
    /// How long a packet sent now would wait before the bottleneck, milliseconds.
    pub queueing_delay_ms: f64,
    /// The longest that one had to wait since the sample before, milliseconds.
    pub longest_wait_ms: f64,
    /// The rate of the bottleneck, if there is one, bits a second.
    pub rate: Option<u64>,
}

impl From<Reading> for DirectionSample {
    fn from(reading: Reading) -> Self {
        let counters = reading.counters;
        DirectionSample {
            sent: counters.sent,
            lost: counters.lost,
            overflowed: counters.overflowed,
            cut: counters.cut,
            delivered_bytes: counters.delivered_bytes,
            queueing_delay_ms: reading.queueing_delay.as_secs_f64() * 1e3,
            longest_wait_ms: reading.longest_wait.as_secs_f64() * 1e3,
            rate: reading.rate,
        }
    }
}

/// What both links did between two samples, seconds.
#[derive(Debug)]
struct Interval {
    from: f64,
    to: f64,
    up: Step,
    down: Step,
}

/// What one direction did between two samples.
#[derive(Debug)]
struct Step {
    sent: f64,
    dropped: f64,
    bits: f64,
    /// What it could have carried, bits.
    capacity: Option<f64>,
    queueing_delay_ms: f64,
    longest_wait_ms: f64,
}

impl Step {
    fn new(before: &DirectionSample, now: &DirectionSample, seconds: f64) -> Self {
        let dropped = grown(before.lost, now.lost)
            + grown(before.overflowed, now.overflowed)
            + grown(before.cut, now.cut);
        Step {
            sent: grown(before.sent, now.sent),
            dropped,
            bits: grown(before.delivered_bytes, now.delivered_bytes) * 8.0,
            capacity: now.rate.map(|rate| rate as f64 * seconds),
            queueing_delay_ms: now.queueing_delay_ms,
            longest_wait_ms: now.longest_wait_ms,
        }
    }
}

/// The links of one client in the course of a call.
#[derive(Debug)]
pub(super) struct LinkLog {
    intervals: Vec<Interval>,
}

impl LinkLog {
    pub(super) fn new(samples: &[LinkSample], call: CallTime) -> Self {
        let pairs = samples.iter().zip(samples.iter().skip(1));
        let intervals = pairs.filter_map(|(before, now)| {
            let (from, to) = (call.seconds(before.at), call.seconds(now.at));
            (to > from).then(|| Interval {
                from,
                to,
                up: Step::new(&before.up, &now.up, to - from),
                down: Step::new(&before.down, &now.down, to - from),
            })
        });
        LinkLog {
            intervals: intervals.collect(),
        }
    }

    pub(super) fn summary(&self, window: Option<Window>) -> Summary {
        let is_in = |interval: &&Interval| {
            let middle = (interval.from + interval.to) / 2.0;
            window.is_none_or(|window| (window.from..window.until).contains(&middle))
        };
        figures(&self.intervals.iter().filter(is_in).collect::<Vec<_>>())
    }

    pub(super) fn series(&self) -> Series {
        let points = self.intervals.iter();
        Series::of(points.map(|interval| (interval.to, figures(&[interval]))))
    }
}

fn figures(intervals: &[&Interval]) -> Summary {
    let seconds: f64 = intervals.iter().map(|i| i.to - i.from).sum();
    let direction = |step: fn(&Interval) -> &Step| {
        let steps: Vec<&Step> = intervals.iter().map(|interval| step(interval)).collect();
        let sum = |value: fn(&Step) -> f64| steps.iter().map(|step| value(step)).sum::<f64>();
        let limited = steps
            .iter()
            .filter_map(|step| Some((step.bits, step.capacity?)));
        let (carried, capacity) =
            limited.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let queue = steps.iter().map(|step| step.queueing_delay_ms).collect();
        let waits = steps.iter().map(|step| step.longest_wait_ms);
        [
            ratio(sum(|step| step.dropped), sum(|step| step.sent), 100.0),
            median(queue),
            waits.reduce(f64::max),
            ratio(sum(|step| step.bits), seconds, 1e-3),
            ratio(carried, capacity, 100.0),
        ]
    };
    let [up_loss, up_queue, up_wait, up_bitrate, up_use] = direction(|interval| &interval.up);
    let [down_loss, down_queue, down_wait, down_bitrate, down_use] =
        direction(|interval| &interval.down);
    summary([
        (Figure::UplinkLoss, up_loss),
        (Figure::DownlinkLoss, down_loss),
        (Figure::UplinkQueue, up_queue),
        (Figure::DownlinkQueue, down_queue),
        (Figure::UplinkQueueMax, up_wait),
        (Figure::DownlinkQueueMax, down_wait),
        (Figure::UplinkBitrate, up_bitrate),
        (Figure::DownlinkBitrate, down_bitrate),
        (Figure::UplinkUse, up_use),
        (Figure::DownlinkUse, down_use),
    ])
}
