//! What is seen of loss, and the experiment that tells congestion from a lossy link.
//!
//! In: how packets fared. Out: [`Observation`]s over enough packets, and of two of them at different
//! rates a [`Finding`], for [`loss_based`](super::loss_based).

use std::time::{Duration, Instant};

use super::sent::{Fate, PacketResult};
use crate::units::{Bitrate, DataSize};

/// Least time and packets of an observation (libwebrtc M125: `ObservationDurationLowerBound`; 30
/// packets tell 0 from 30 % of loss nineteen times in twenty).
const OBSERVATION: Duration = Duration::from_millis(250);
const OBSERVATION_PACKETS: u32 = 30;

/// An observation ends after this time if it has a third of the packets: audio alone.
const LONG_OBSERVATION: Duration = Duration::from_secs(1);

/// A queue that holds every packet up for longer stands (as in
/// [`link_loss`](super::link_loss)).
pub(super) const STANDING_QUEUE: Duration = Duration::from_millis(30);

/// Two rates differ if the lower is less than this share of the higher.
const DISTINCT: f64 = 0.85;

/// Longest experiment, and what is waited at least for the rate to go down: a round trip, and until
/// feedback has come and the estimate is divided.
const MAX_EXPERIMENT: Duration = Duration::from_secs(2);
const MIN_EXPERIMENT: Duration = Duration::from_secs(1);

/// How many standard deviations of chance the effect of congestion must exceed to decide sooner.
const POWER: f64 = 3.0;

/// The loss has stayed if it has lessened by less than this share of what congestion would: what
/// was too much was so by chance in part, so a little more than half.
const STAYED: f64 = 0.6;

/// The link's loss is that of both rates, but not more than this many times that of the lower.
const BELIEVED: f64 = 1.25;

/// What was seen in some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub(super) ended: Instant,
    pub(super) span: Duration,
    pub(super) rate: Bitrate,
    pub(super) arrived: Bitrate,
    pub(super) loss: f64,
    pub(super) packets: u32,
    /// How often one packet or several in a row were lost.
    pub(super) bursts: u32,
    /// How many times as much chance there is as if each packet had its own: packets of a burst share
    /// their fate.
    pub(super) spread: f64,
    pub(super) has_queue: bool,
}

impl Observation {
    /// The variance of a share of its packets.
    pub(super) fn variance(&self, share: f64) -> f64 {
        self.spread * share * (1.0 - share) / f64::from(self.packets)
    }

    /// Both together, at the rates of the newer.
    pub(super) fn with(self, older: Observation) -> Observation {
        let packets = self.packets + older.packets;
        let bursts = self.bursts + older.bursts;
        let lost = self.loss * f64::from(self.packets) + older.loss * f64::from(older.packets);
        Observation {
            packets,
            bursts,
            loss: lost / f64::from(packets),
            ..self
        }
    }
}

/// What was seen before the rate went down, and since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Experiment {
    pub(super) began: Instant,
    pub(super) high: Observation,
    pub(super) low: Option<Observation>,
}

/// What an experiment has shown.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Finding {
    /// This share is lost whatever is sent.
    Link(f64),
    /// A bottleneck loses what is too much for it.
    Congestion,
}

impl Experiment {
    pub(super) fn finding(&self, link: f64) -> Option<Finding> {
        let (low, high) = (self.low?, self.high);
        let through = high.arrived.ratio(low.rate);
        let if_congestion = (1.0 - through).max(link);
        let effect = high.loss - if_congestion;
        // If the loss has stayed, that is how far the lower may be off by chance.
        let chance = (low.variance(high.loss) + high.variance(high.loss)).sqrt();
        let is_distinct = low.rate < high.rate.scale(DISTINCT);
        let lasted = low.ended.saturating_duration_since(self.began);
        let is_queued = low.has_queue || high.has_queue;
        let is_decided = match is_distinct {
            true => effect >= POWER * chance,
            false => lasted >= MIN_EXPERIMENT && !is_queued,
        };
        if !is_decided && lasted < MAX_EXPERIMENT {
            return None;
        }
        // Where no less could be sent, of a video in one size, it is the queue that tells.
        let has_stayed = match is_distinct {
            true => high.loss - low.loss < STAYED * effect,
            false => !is_queued,
        };
        Some(if has_stayed {
            // The higher was looked at because it was high, the lower is of fewer packets.
            Finding::Link(low.with(high).loss.min(low.loss * BELIEVED))
        } else {
            Finding::Congestion
        })
    }
}

/// An observation being made.
#[derive(Debug)]
pub(super) struct Window {
    first: Instant,
    last: Instant,
    packets: u32,
    lost: u32,
    bursts: u32,
    is_in_burst: bool,
    sent: DataSize,
    least_queueing: Option<Duration>,
}

impl Window {
    pub(super) fn new(at: Instant) -> Self {
        Window {
            first: at,
            last: at,
            packets: 0,
            lost: 0,
            bursts: 0,
            is_in_burst: false,
            sent: DataSize::ZERO,
            least_queueing: None,
        }
    }

    pub(super) fn handle_result(&mut self, result: &PacketResult, queueing: Option<Duration>) {
        let packet = result.packet;
        self.last = self.last.max(packet.at);
        match result.fate {
            Fate::ArrivedLate(_) => {
                self.lost = self.lost.saturating_sub(1);
                return;
            }
            Fate::Unknown => {}
            Fate::Arrived(_) => self.packets += 1,
            Fate::Lost => {
                self.packets += 1;
                self.lost += 1;
            }
        }
        let is_lost = result.fate == Fate::Lost;
        self.bursts += u32::from(is_lost && !self.is_in_burst);
        self.is_in_burst = is_lost;
        self.sent += packet.size;
        if let Some(queueing) = queueing {
            let least = self.least_queueing.unwrap_or(queueing);
            self.least_queueing = Some(least.min(queueing));
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        let span = self.last.saturating_duration_since(self.first);
        (span >= OBSERVATION && self.packets >= OBSERVATION_PACKETS)
            || (span >= LONG_OBSERVATION && self.packets >= OBSERVATION_PACKETS / 3)
    }

    pub(super) fn observe(&self, now: Instant) -> Observation {
        let span = self.last.saturating_duration_since(self.first);
        let loss = f64::from(self.lost) / f64::from(self.packets.max(1));
        Observation {
            ended: now,
            span,
            rate: self.sent.over(span),
            arrived: self.sent.over(span).scale(1.0 - loss),
            loss,
            packets: self.packets.max(1),
            bursts: self.bursts,
            spread: 1.0,
            // When nothing arrives there is no room in a queue either.
            has_queue: self
                .least_queueing
                .is_none_or(|queueing| queueing > STANDING_QUEUE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn observation(ended: Instant, kbps: u64, loss: f64, packets: u32) -> Observation {
        Observation {
            ended,
            span: 250 * MS,
            rate: Bitrate::kbps(kbps),
            arrived: Bitrate::kbps(kbps).scale(1.0 - loss),
            loss,
            packets,
            bursts: (loss * f64::from(packets)) as u32,
            spread: 1.0,
            has_queue: false,
        }
    }

    #[test]
    fn what_two_rates_show() {
        use Finding::{Congestion, Link};
        let start = Instant::now();
        for (high, low, link, after_ms, finding) in [
            // ((kbit/s, loss), (kbit/s, loss, packets), link's loss, since, finding)
            ((1000, 0.3), (700, 0.3, 100), 0.0, 500, Some(Link(0.3))),
            ((1000, 0.3), (700, 0.0, 100), 0.0, 500, Some(Congestion)),
            ((1000, 0.3), (700, 0.02, 100), 0.0, 500, Some(Congestion)),
            // A bottleneck at half of the higher rate still loses some at the lower.
            ((1000, 0.5), (700, 0.29, 400), 0.0, 500, Some(Congestion)),
            ((1000, 0.5), (700, 0.5, 400), 0.0, 500, Some(Link(0.5))),
            // Beyond the link's loss.
            ((1000, 0.5), (700, 0.2, 400), 0.2, 500, Some(Congestion)),
            // Too few packets, or too much alike, until time is over.
            ((1000, 0.08), (700, 0.1, 10), 0.0, 500, None),
            ((1000, 0.3), (950, 0.3, 100), 0.0, 500, None),
            ((1000, 0.3), (950, 0.3, 100), 0.0, 1000, Some(Link(0.3))),
            ((1000, 0.08), (700, 0.08, 100), 0.0, 2000, Some(Link(0.08))),
        ] {
            let experiment = Experiment {
                began: start,
                high: observation(start, high.0, high.1, 100),
                low: Some(observation(start + MS * after_ms, low.0, low.1, low.2)),
            };
            let found = experiment.finding(link);
            let is_same = match (found, finding) {
                (Some(Link(found)), Some(Link(expected))) => (found - expected).abs() < 0.02,
                (found, expected) => found == expected,
            };
            assert!(is_same, "{high:?} {low:?}: {found:?}");
        }
    }
}
