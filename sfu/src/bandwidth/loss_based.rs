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
//! libwebrtc's `LossBasedBweV2` fits the same two unknowns, but bounds the link's loss by the
//! bandwidth, so that it ends at some 300 kbit/s with 30 % loss.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::loss_experiment::{Experiment, Finding, Observation, Window};
use super::sent::PacketResult;
use crate::units::Bitrate;

/// More loss than the link's that is still no reason to do anything (draft-ietf-rmcat-gcc-02
/// section 6 tolerates 2 to 10 %).
const TOLERANCE: f64 = 0.04;

/// The same while the application sends less than it could: then it is hardly its own doing, and an
/// experiment might cost it its picture.
const IDLE_TOLERANCE: f64 = 0.1;

/// How many standard deviations chance is granted beyond that.
const CHANCE: f64 = 3.0;

/// Observations in a row with too much loss and no queue until the rate goes down: a burst on the
/// radio is over by then.
const PATIENCE: u32 = 2;

/// What is kept of the rate that arrives when the rate goes down (libwebrtc's probes aim as far
/// below a bottleneck: `kTargetUtilizationFraction`).
const BACKOFF: f64 = 0.95;

/// How far the rate goes down for an experiment, so that a bottleneck's loss would lessen by much.
const EXPERIMENT: f64 = 0.75;

/// For how long a bottleneck that was found is believed in.
const BELIEF: Duration = Duration::from_secs(30);

/// When nothing arrives of what was sent in this time, the way is cut, which says nothing of rates.
const OUTAGE: Duration = Duration::from_millis(250);

/// Observations that are pooled with the newest, to tell a little too much from chance.
const POOL: usize = 4;

/// Most of the link's loss: above this it is not to be used at full rate, whatever the reason.
const MAX_LINK_LOSS: f64 = 0.5;

/// How far the link's loss follows each observation, and by which factor at most it may rise above
/// what was found out.
const SMOOTHING: f64 = 0.1;
const MAX_RISE: f64 = 1.2;

/// Growth of the limit while loss is as usual, a second: somewhat less than the delay
/// allows itself.
const GROWTH: f64 = 1.06;

/// A limit this far above what is sent limits nothing.
const FORGOTTEN: f64 = 2.0;

/// The loss of one connection.
#[derive(Debug, Default)]
pub struct LossBased {
    link: f64,
    /// As it was found out.
    found: f64,
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
    pub fn link_loss(&self) -> f64 {
        self.link
    }

    /// The most to send, if loss sets a limit.
    #[must_use]
    pub fn limit(&self) -> Option<Bitrate> {
        self.limit
    }

    /// Says whether the application sends less than it could.
    pub fn set_idle(&mut self, is_idle: bool) {
        self.is_idle = is_idle;
    }

    /// A probe has shown that this rate arrives.
    pub fn handle_probe(&mut self, measured: Bitrate) {
        if self.experiment.is_none() {
            self.limit = self.limit.filter(|limit| *limit >= measured);
        }
    }

    /// Notes how a packet fared. `queueing` is how long it was held up, if it arrived.
    pub fn handle_result(
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

    fn is_cut(&self, sent: Instant) -> bool {
        self.last_arrived
            .is_some_and(|at| sent.saturating_duration_since(at) > OUTAGE)
    }

    fn judge(&mut self, seen: Observation) {
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
            return;
        };
        let grown = limit.scale(GROWTH.powf(seen.span.as_secs_f64()));
        self.limit = (grown < seen.rate.scale(FORGOTTEN)).then_some(grown);
        // More loss than the link's may be the growth's.
        self.link += SMOOTHING * (seen.loss - self.link).min(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sent::{Fate, PacketKind, SentPacket};
    use super::*;
    use crate::rtp::sequence::SequenceNumber;
    use crate::units::DataSize;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    /// A sender that follows the limit, up to what it has, over a link that loses packets.
    struct Call {
        loss: LossBased,
        now: Instant,
        wants: Bitrate,
        random: u64,
        tokens: f64,
    }

    impl Call {
        fn new(kbps: u64) -> Self {
            Call {
                loss: LossBased::default(),
                now: Instant::now(),
                wants: Bitrate::kbps(kbps),
                random: 7,
                tokens: 0.0,
            }
        }

        fn rate(&self) -> Bitrate {
            self.loss
                .limit()
                .map_or(self.wants, |limit| limit.min(self.wants))
        }

        fn chance(&mut self, share: f64) -> bool {
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((self.random >> 33) as f64) < share * f64::from(1u32 << 31)
        }

        /// Runs for a time over a link with random loss and a policer that lets `kbps` through.
        /// Returns the mean rate.
        fn run(
            &mut self,
            seconds: u64,
            random_loss: f64,
            kbps: u64,
            queueing: Duration,
        ) -> Bitrate {
            let end = self.now + Duration::from_secs(seconds);
            let size = DataSize::bytes(1200);
            let mut sent = DataSize::ZERO;
            while self.now < end {
                let step = size.time_at(self.rate());
                self.now += step;
                sent += size;
                let earned = Bitrate::kbps(kbps).during(step).as_bytes() as f64;
                self.tokens = (self.tokens + earned).min(6000.0);
                let passes = self.tokens >= 1200.0;
                if passes {
                    self.tokens -= 1200.0;
                }
                let arrives = passes && !self.chance(random_loss);
                let result = PacketResult {
                    sequence: SequenceNumber(0),
                    packet: SentPacket {
                        at: self.now,
                        size,
                        kind: PacketKind::Video,
                        cluster: None,
                    },
                    fate: if arrives {
                        Fate::Arrived(MS)
                    } else {
                        Fate::Lost
                    },
                };
                self.loss
                    .handle_result(self.now + 100 * MS, &result, arrives.then_some(queueing));
            }
            sent.over(Duration::from_secs(seconds))
        }
    }

    const AMPLE: u64 = 1_000_000;

    #[test]
    fn loss_that_does_not_respond_is_the_links_and_limits_for_a_moment_only() {
        for percent in [3, 5, 7, 10, 20, 30, 45] {
            for kbps in [500, 2000, 5000] {
                let mut call = Call::new(kbps);
                call.run(5, 0.0, AMPLE, Duration::ZERO);
                let loss = f64::from(percent) / 100.0;
                let first = call.run(20, loss, AMPLE, 10 * MS);
                let mean = call.run(60, loss, AMPLE, 10 * MS);
                let context = format!("{percent} % at {kbps} kbit/s: {first}, then {mean}");
                assert!(first.ratio(call.wants) > 0.8, "{context}");
                assert!(mean.ratio(call.wants) > 0.85, "{context}");
            }
        }
    }

    #[test]
    fn the_links_loss_is_known_from_the_first_seconds_and_forgotten_when_it_ends() {
        let mut call = Call::new(1000);
        call.run(10, 0.3, AMPLE, Duration::ZERO);
        assert!((0.2..0.4).contains(&call.loss.link_loss()));
        call.run(20, 0.0, AMPLE, Duration::ZERO);
        assert!(call.loss.link_loss() < 0.01);
    }

    #[test]
    fn a_policer_is_found_without_any_delay() {
        for (wants, kbps) in [(2000, 1000), (5000, 300), (1000, 800)] {
            let mut call = Call::new(wants);
            call.run(5, 0.0, AMPLE, Duration::ZERO);
            call.run(5, 0.0, kbps, Duration::ZERO);
            let mean = call.run(60, 0.0, kbps, Duration::ZERO);
            let used = mean.ratio(Bitrate::kbps(kbps));
            assert!((0.85..1.1).contains(&used), "{kbps} of {wants}: {used}");
            assert!(call.loss.link_loss() < 0.05, "{}", call.loss.link_loss());
        }
    }

    #[test]
    fn congestion_on_a_lossy_link_is_told_from_the_links_loss() {
        let mut call = Call::new(3000);
        call.run(10, 0.2, AMPLE, Duration::ZERO);
        call.run(10, 0.2, 1000, Duration::ZERO);
        let mean = call.run(60, 0.2, 1000, Duration::ZERO);
        assert!((700..1200).contains(&(mean.as_bps() / 1000)), "{mean}");
    }

    #[test]
    fn loss_with_a_standing_queue_is_acted_upon_at_once() {
        let mut call = Call::new(2000);
        call.run(5, 0.0, AMPLE, Duration::ZERO);
        call.run(1, 0.0, 1000, 200 * MS);
        assert!(call.rate() < Bitrate::kbps(1100), "{}", call.rate());
    }

    #[test]
    fn little_loss_and_a_short_burst_limit_nothing() {
        let mut call = Call::new(2000);
        call.run(60, 0.02, AMPLE, Duration::ZERO);
        assert_eq!(call.loss.limit(), None);
        call.run(1, 0.0, AMPLE, Duration::ZERO);
        call.loss.judge(Observation {
            ended: call.now,
            span: 250 * MS,
            rate: Bitrate::kbps(2000),
            arrived: Bitrate::kbps(400),
            loss: 0.8,
            packets: 50,
            has_queue: false,
        });
        call.run(5, 0.0, AMPLE, Duration::ZERO);
        assert_eq!(call.loss.limit(), None);
    }

    proptest! {
        #[test]
        fn the_links_loss_is_a_share(fates in prop::collection::vec((0u8..3, 0u64..500, any::<u64>(), any::<u32>()), 0..300)) {
            let start = Instant::now();
            let mut loss = LossBased::default();
            let mut at = start;
            for (fate, step, size, queueing) in fates {
                at += MS * step as u32;
                let result = PacketResult {
                    sequence: SequenceNumber(0),
                    packet: SentPacket { at, size: DataSize::bytes(size), kind: PacketKind::Video, cluster: None },
                    fate: [Fate::Lost, Fate::Arrived(MS), Fate::ArrivedLate(MS)][usize::from(fate)],
                };
                loss.handle_result(at, &result, Some(Duration::from_micros(queueing.into())));
                prop_assert!((0.0..=MAX_LINK_LOSS).contains(&loss.link_loss()));
                prop_assert!(loss.observations.len() <= POOL);
            }
        }
    }
}
