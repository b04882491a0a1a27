//! The rate that loss allows, and which loss is the link's own.
//!
//! In: how every packet fared, and how long it was held up. Out: a limit where loss means
//! congestion, and the share of packets that the link loses whatever is sent.
//!
//! Loss that less sending lessens is congestion; loss that stays is the link's. So there is an
//! experiment: when more is lost than the link is known to lose, the rate goes down for a moment,
//! and the loss at the two rates is compared. If a bottleneck had dropped the excess, the loss is
//! gone, and the bottleneck's rate is known; if the loss is still there, it is the link's, and the
//! limit is lifted. Loss that comes with a standing queue is acted upon at once, loss without one
//! only when it lasts. While a bottleneck that was found is believed in, the rate goes down to that
//! only.
//!
//! `LossBasedBweV2` of libwebrtc M125 fits the same two unknowns, but bounds the link's loss by the
//! bandwidth, so that it ends at some 300 kbit/s with 30 % loss.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::loss_experiment::{Experiment, Finding, Observation, Window};
use super::outage;
use super::sent::PacketResult;
use crate::units::Bitrate;

/// More loss than the link's that is still no reason to do anything: our own, within the 2 to 10 %
/// that gcc-02 section 6 tolerates.
const TOLERANCE: f64 = 0.04;

/// The same while the application sends less than it could: then it is hardly its own doing, and an
/// experiment might cost it its video.
const IDLE_TOLERANCE: f64 = 0.1;

/// How many standard deviations chance is granted beyond that.
const CHANCE: f64 = 3.0;

/// How far the mean burst follows each that is seen, and the longest that is granted more chance: what a
/// full queue drops comes in rows as well, of as many packets as come at once.
const BURST_SMOOTHING: f64 = 0.05;
const MAX_BURST: f64 = 4.0;

/// Observations in a row with too much loss and no queue until the rate goes down: a burst on the
/// radio is over by then.
const PATIENCE: u32 = 2;

/// What is kept of the rate that arrives when the rate goes down (probes of libwebrtc M125 aim
/// as far below a bottleneck: `kTargetUtilizationFraction`).
const BACKOFF: f64 = 0.95;

/// How far the rate goes down for an experiment, so that a bottleneck's loss would lessen by much.
const EXPERIMENT: f64 = 0.75;

/// For how long a bottleneck that was found is believed in.
const BELIEF: Duration = Duration::from_secs(30);

/// For so long what is lost at the beginning is taken for the link's by those who measure something else.
const BEGINNING: Duration = Duration::from_secs(1);

/// Observations that are pooled with the newest, to tell a little too much from chance.
const POOL: usize = 4;

/// Most of the link's loss: above this it is not to be used at full rate, whatever the reason.
const MAX_LINK_LOSS: f64 = 0.5;

/// How far the link's loss follows each observation, and by which factor at most it may rise above
/// what was found out.
const SMOOTHING: f64 = 0.1;
const MAX_RISE: f64 = 1.2;

/// How far what was found out follows the link's loss with each observation without a queue: a link that
/// gets worse is believed within ten seconds. Loss that comes of what is sent grows faster, as the rate
/// does ([`GROWTH`]), and is looked into.
const CREEP: f64 = 0.02;

/// Growth of the limit while loss is as usual, a second: somewhat less than the delay
/// allows itself.
const GROWTH: f64 = 1.06;

/// A limit this far above what is sent limits nothing.
const FORGOTTEN: f64 = 2.0;

/// The loss of one connection.
#[derive(Debug, Default)]
pub(crate) struct LossBased {
    link: f64,
    /// As it was found out.
    found: f64,
    /// When the first observation began, and what was seen in the beginning.
    began: Option<Instant>,
    beginning: Option<Observation>,
    /// How many packets are lost in a row without a queue, on average, less one.
    beyond_single: f64,
    limit: Option<Bitrate>,
    window: Option<Window>,
    /// When the last packet that arrived was sent.
    last_arrived: Option<Instant>,
    /// The last ones, at most [`POOL`].
    observations: VecDeque<Observation>,
    /// How many in a row have seen too much.
    suspicions: u32,
    experiment: Option<Experiment>,
    is_idle: bool,
    /// When a bottleneck was found.
    congested: Option<Instant>,
    /// Packets sent before the rate went down say nothing of the rate after.
    ignored_until: Option<Instant>,
}

impl LossBased {
    /// The share of packets that the link loses whatever is sent, 0 to 0.5.
    #[must_use]
    pub(crate) fn link_loss(&self) -> f64 {
        self.link
    }

    /// The same as far as it is to be guessed, before anything has been found out.
    #[must_use]
    pub(crate) fn probable_link_loss(&self) -> f64 {
        let guessed = self.beginning.filter(|_| self.found == 0.0);
        let guessed = guessed.map_or(0.0, |seen| seen.loss.min(MAX_LINK_LOSS));
        self.link.max(guessed)
    }

    /// The most to send, if loss sets a limit.
    #[must_use]
    pub(crate) fn limit(&self) -> Option<Bitrate> {
        self.limit
    }

    /// When a bottleneck was found last.
    #[must_use]
    pub(crate) fn congested(&self) -> Option<Instant> {
        self.congested
    }

    /// Notes whether the application sends less than it could.
    pub(crate) fn set_idle(&mut self, is_idle: bool) {
        self.is_idle = is_idle;
    }

    /// A probe has shown that this rate arrives.
    pub(crate) fn handle_probe(&mut self, measured: Bitrate) {
        if self.experiment.is_none() {
            self.limit = self.limit.filter(|limit| *limit >= measured);
        }
    }

    /// Notes how a packet fared. `queueing` is how long it was held up, if it arrived.
    pub(crate) fn handle_result(
        &mut self,
        now: Instant,
        result: &PacketResult,
        queueing: Option<Duration>,
    ) {
        let packet = result.packet;
        // What a probe loses is the probe's.
        if packet.cluster.is_some() || self.ignored_until.is_some_and(|until| packet.at <= until) {
            return;
        }
        if queueing.is_some() {
            self.last_arrived = Some(packet.at);
        } else if self.is_cut(packet.at) {
            self.window = None;
            return;
        }
        let window = self.window.get_or_insert_with(|| Window::new(packet.at));
        window.handle_result(result, queueing);
        if window.is_complete() {
            let observation = window.observe(now);
            self.window = Some(Window::new(packet.at));
            self.judge(observation);
        }
    }

    /// Whether the path is cut, which says nothing of rates.
    fn is_cut(&self, sent: Instant) -> bool {
        self.last_arrived
            .is_some_and(|at| sent.saturating_duration_since(at) > outage::LEAST)
    }

    fn judge(&mut self, mut seen: Observation) {
        if !seen.has_queue && seen.bursts > 0 {
            let lost = seen.loss * f64::from(seen.packets);
            let mean = (lost / f64::from(seen.bursts)).clamp(1.0, MAX_BURST);
            let weight = (BURST_SMOOTHING * f64::from(seen.bursts)).min(1.0);
            self.beyond_single += weight * (mean - 1.0 - self.beyond_single);
        }
        // Of Gilbert's model, for bursts of b: 2b - 1.
        seen.spread = 1.0 + 2.0 * self.beyond_single;
        self.begin(&seen);
        let is_too_much = self.is_too_much(&seen);
        self.suspicions = if is_too_much { self.suspicions + 1 } else { 0 };
        match &mut self.experiment {
            Some(experiment) => {
                let low = experiment.low.map_or(seen, |low| seen.with(low));
                experiment.low = Some(low);
                let experiment = *experiment;
                self.conclude(experiment, low);
            }
            None if is_too_much => {
                if seen.has_queue || self.suspicions >= PATIENCE {
                    let before = self.observations.iter().rev();
                    let before = before.take(self.suspicions as usize - 1);
                    self.back_off(before.fold(seen, |all, old| all.with(*old)));
                }
            }
            None => self.grow(&seen),
        }
        if self.observations.len() == POOL {
            self.observations.pop_front();
        }
        self.observations.push_back(seen);
    }

    fn begin(&mut self, seen: &Observation) {
        let began = *self.began.get_or_insert(seen.ended);
        let is_beginning = seen.ended.saturating_duration_since(began) < BEGINNING;
        if is_beginning && !seen.has_queue {
            let pooled = self.beginning.map_or(*seen, |before| seen.with(before));
            self.beginning = Some(pooled);
        }
        // What lasts has been looked into by now, and what has not lasted is over.
        if seen.loss < TOLERANCE && !is_beginning {
            self.beginning = None;
        }
    }

    fn is_too_much(&self, seen: &Observation) -> bool {
        let tolerance = if self.is_idle {
            IDLE_TOLERANCE
        } else {
            TOLERANCE
        };
        let exceeds = |seen: &Observation| {
            let chance = CHANCE * seen.variance(self.link.max(tolerance)).sqrt();
            seen.loss > self.link + tolerance + chance
        };
        let pooled = || {
            self.observations
                .iter()
                .fold(*seen, |all, old| all.with(*old))
        };
        exceeds(seen) || (seen.loss > self.link + tolerance && exceeds(&pooled()))
    }

    fn conclude(&mut self, experiment: Experiment, low: Observation) {
        match experiment.finding(self.link) {
            None => {}
            Some(Finding::Link(loss)) => {
                self.link = loss.min(MAX_LINK_LOSS);
                self.found = self.link;
                self.limit = None;
                self.restart();
            }
            Some(Finding::Congestion) => {
                self.beginning = None;
                let high = experiment.high;
                self.congested = Some(low.ended);
                self.restart();
                if !self.is_too_much(&low) {
                    self.limit = Some(self.bottleneck(&high));
                } else if low.rate <= high.arrived {
                    // What is still lost no bottleneck explains.
                    self.link = low.loss.min(MAX_LINK_LOSS);
                    self.found = self.link;
                    self.limit = Some(self.bottleneck(&high));
                } else {
                    self.back_off(low);
                }
            }
        }
    }

    fn restart(&mut self) {
        self.experiment = None;
        self.suspicions = 0;
        self.observations.clear();
    }

    /// A little less than what arrives, but for what the link loses.
    fn bottleneck(&self, seen: &Observation) -> Bitrate {
        let arrived = seen.arrived.scale(BACKOFF / (1.0 - self.link));
        arrived.min(seen.rate.scale(BACKOFF))
    }

    fn back_off(&mut self, seen: Observation) {
        let is_known = self
            .congested
            .is_some_and(|at| seen.ended.saturating_duration_since(at) < BELIEF);
        let bottleneck = self.bottleneck(&seen);
        self.limit = Some(if is_known {
            bottleneck
        } else {
            bottleneck.min(seen.rate.scale(EXPERIMENT))
        });
        self.experiment = Some(Experiment {
            began: seen.ended,
            high: seen,
            low: None,
        });
        self.suspicions = 0;
        self.observations.clear();
        self.ignored_until = Some(seen.ended);
        self.window = None;
    }

    fn grow(&mut self, seen: &Observation) {
        let Some(limit) = self.limit else {
            let link = self.link + SMOOTHING * (seen.loss - self.link);
            self.link = link.min(self.found * MAX_RISE).min(MAX_LINK_LOSS);
            if !seen.has_queue {
                self.found += CREEP * (self.link - self.found).max(0.0);
            }
            return;
        };
        let grown = limit.scale(GROWTH.powf(seen.span.as_secs_f64()));
        self.limit = (grown < seen.rate.scale(FORGOTTEN)).then_some(grown);
        // More loss than the link's may be the growth's.
        self.link += SMOOTHING * (seen.loss - self.link).min(0.0);
    }
}

#[cfg(test)]
mod tests;
