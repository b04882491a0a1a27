//! When to try whether the link carries more, and how much to try.
//!
//! In: the estimate, what is wanted, and whether the link is overused. Out: [`ProbeCluster`]s for
//! the pacer to send. What they show is measured by [`probe_result`](super::probe_result).
//! After libwebrtc M125's `ProbeController`; its application probes for what it wants to send, an
//! SFU for the layers that its subscriber would see next.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sent::ClusterId;
use crate::units::{Bitrate, DataSize};

/// The first probes, as multiples of the rate at the start (libwebrtc M125:
/// `first_exponential_probe_scale` and `second_exponential_probe_scale`).
const FIRST: [f64; 2] = [3.0, 6.0];

/// Later ones, as multiples of the estimate (libwebrtc M125: `further_exponential_probe_scale`
/// and `alr_probe_scale`).
const FURTHER: f64 = 2.0;

/// A probe that showed this share of what it tried is followed by a further one (libwebrtc M125:
/// `further_probe_threshold`).
const PROMISING: f64 = 0.7;

/// Time between probes while more is wanted than is estimated (libwebrtc M125:
/// `alr_probing_interval`).
const INTERVAL: Duration = Duration::from_secs(5);

/// Much more is wanted than when the last probe was sent: this time is enough.
const GROWN: f64 = 1.25;
const AFTER_GROWTH: Duration = Duration::from_millis(250);

/// A probe that showed nothing, because too little of it arrived or was told of, is repeated after
/// this time, twice as long, and so often: of packets and of feedback 30 % lost, every second shows
/// something.
const RETRY: Duration = Duration::from_millis(750);
const RETRIES: u32 = 6;

/// After overuse there is no probing for so long: a link that has just been full needs no probe to
/// tell, and with a probe and its successors a rise is used within ten seconds.
const QUIET: Duration = Duration::from_secs(4);

/// Longest wait for a result (libwebrtc M125: `kMaxWaitingTimeForProbingResult`).
const MAX_WAIT: Duration = Duration::from_secs(1);

/// What is wanted is only used with a margin ([`MARGIN`](crate::subscribe::allocation::MARGIN)), beside
/// audio and repair. So there is probing until the estimate is this much above it, and up to somewhat
/// more, for a probe seldom shows all of its rate.
const ENOUGH: f64 = 1.25;
const HEADROOM: f64 = 1.5;

/// An estimate that fell below this share is a large drop, and if it is over soon, the rate before
/// it is tried again, but for some (libwebrtc M125: `kBitrateDropThreshold`, `kBitrateDropTimeout`
/// and `kProbeFractionAfterDrop`).
const LARGE_DROP: f64 = 0.66;
const DROP_MEMORY: Duration = Duration::from_secs(5);
const AFTER_DROP: f64 = 0.85;

/// Least length and packets of a probe (libwebrtc M125: `min_probe_duration` and
/// `min_probe_packets_sent`).
const DURATION: Duration = Duration::from_millis(15);
const PACKETS: u32 = 5;

/// On a link that loses more than this by itself, a probe is twice as long: enough of it arrives.
const LOSSY: f64 = 0.05;

/// Most probes waiting to be sent.
const MAX_PENDING: usize = 2;

/// A burst for the pacer to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeCluster {
    /// What its packets are marked with.
    pub id: ClusterId,
    /// How fast it is sent.
    pub rate: Bitrate,
    /// How much is sent at least.
    pub size: DataSize,
    /// How many packets at least.
    pub packets: u32,
}

/// What the decisions depend on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct ProbeInput {
    pub estimate: Bitrate,
    /// What could be put to use.
    pub wanted: Bitrate,
    /// The share of packets the link loses whatever is sent.
    pub link_loss: f64,
}

impl ProbeInput {
    fn wants_more(&self) -> bool {
        self.estimate < self.wanted.scale(ENOUGH)
    }
}

/// The probes of one connection.
#[derive(Debug, Default)]
pub(crate) struct ProbeController {
    pending: VecDeque<ProbeCluster>,
    next_id: u32,
    started: bool,
    last: Option<Instant>,
    /// What was wanted then.
    tried_for: Bitrate,
    /// Until when results are waited for, and above which one goes further.
    waiting: Option<(Instant, Bitrate)>,
    /// Whether any probe has ever shown anything, and how many have shown nothing since.
    has_shown: bool,
    unanswered: u32,
    overused: Option<Instant>,
    /// The estimate before the last large drop.
    dropped: Option<(Instant, Bitrate)>,
}

impl ProbeController {
    /// Begins anew; what is still under way of former probes is not taken for a later one's.
    pub(crate) fn begin_anew(&mut self) {
        *self = ProbeController {
            next_id: self.next_id,
            ..ProbeController::default()
        };
    }

    /// The link is overused, or feedback is missing.
    pub(crate) fn handle_overuse(&mut self, now: Instant) {
        self.overused = Some(now);
        self.pending.clear();
        self.waiting = None;
        // It has shown enough.
        self.unanswered = 0;
    }

    pub(crate) fn handle_decrease(&mut self, now: Instant, before: Bitrate, after: Bitrate) {
        if after < before.scale(LARGE_DROP) {
            let known = self
                .dropped
                .filter(|(at, _)| is_recent(now, *at, DROP_MEMORY));
            // Of a drop in several steps, what was before the first.
            let before = known.map_or(before, |(_, rate)| rate.max(before));
            self.dropped = Some((now, before));
        }
    }

    /// The queues have emptied after overuse.
    pub(crate) fn handle_recovery(&mut self, now: Instant, input: &ProbeInput) {
        let Some((at, before)) = self.dropped.take() else {
            return;
        };
        let rate = before.scale(AFTER_DROP);
        let is_worth_it = rate > input.estimate.scale(1.0 / PROMISING);
        let is_waiting = self.waiting.is_some_and(|(until, _)| now < until);
        if is_recent(now, at, DROP_MEMORY) && is_worth_it && !is_waiting {
            self.start(now, &[rate], false, input);
        }
    }

    /// A probe has shown that the link carries `measured`.
    pub(crate) fn handle_result(&mut self, now: Instant, measured: Bitrate, input: &ProbeInput) {
        self.has_shown = true;
        self.unanswered = 0;
        if self
            .waiting
            .is_some_and(|(until, above)| now < until && measured > above)
        {
            self.start(now, &[measured.scale(FURTHER)], true, input);
        }
    }

    /// Decides whether to probe, and gives the next cluster to send.
    pub(crate) fn poll(&mut self, now: Instant, input: &ProbeInput) -> Option<ProbeCluster> {
        self.waiting = self.waiting.filter(|(until, _)| now < *until);
        if !self.started && input.wants_more() {
            self.started = true;
            self.begin(now, input);
        } else if self.next_deadline(input).is_some_and(|due| now >= due) {
            self.begin(now, input);
        }
        self.pending.pop_front()
    }

    /// When to poll next, if all stays as it is.
    #[must_use]
    pub(crate) fn next_deadline(&self, input: &ProbeInput) -> Option<Instant> {
        if !input.wants_more() {
            return None;
        }
        let has_grown = input.wanted > self.tried_for.scale(GROWN);
        let interval = if has_grown {
            AFTER_GROWTH
        } else if (1..=RETRIES).contains(&self.unanswered) {
            RETRY
        } else {
            INTERVAL
        };
        let after_last = self.last? + interval;
        let after_overuse = self.overused.map(|at| at + QUIET);
        Some(after_overuse.map_or(after_last, |at| at.max(after_last)))
    }

    fn begin(&mut self, now: Instant, input: &ProbeInput) {
        if self.has_shown {
            self.start(now, &[input.estimate.scale(FURTHER)], true, input);
        } else {
            let rates = FIRST.map(|factor| input.estimate.scale(factor));
            self.start(now, &rates, true, input);
        }
    }

    fn start(&mut self, now: Instant, rates: &[Bitrate], goes_on: bool, input: &ProbeInput) {
        let most = input.wanted.scale(HEADROOM);
        let mut highest = Bitrate::ZERO;
        for rate in rates.iter().map(|rate| (*rate).min(most)) {
            // One that would show no more than is known, or than the one before it.
            if rate <= input.estimate || rate <= highest || self.pending.len() == MAX_PENDING {
                continue;
            }
            highest = rate;
            let is_difficult = input.link_loss > LOSSY || self.unanswered > 0;
            let longer = if is_difficult { 2 } else { 1 };
            self.pending.push_back(ProbeCluster {
                id: ClusterId(self.next_id),
                rate,
                size: rate.during(DURATION * longer),
                packets: PACKETS * longer,
            });
            self.next_id = self.next_id.wrapping_add(1);
        }
        self.last = Some(now);
        self.tried_for = input.wanted;
        if highest > Bitrate::ZERO {
            self.unanswered = self.unanswered.saturating_add(1);
            let above = if goes_on && highest < most {
                highest.scale(PROMISING)
            } else {
                Bitrate::MAX
            };
            self.waiting = Some((now + MAX_WAIT, above));
        }
    }
}

fn is_recent(now: Instant, at: Instant, within: Duration) -> bool {
    now.saturating_duration_since(at) < within
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn input(estimate: u64, wanted: u64) -> ProbeInput {
        ProbeInput {
            estimate: Bitrate::kbps(estimate),
            wanted: Bitrate::kbps(wanted),
            link_loss: 0.0,
        }
    }

    fn poll(probe: &mut ProbeController, now: Instant, estimate: u64, wanted: u64) -> Vec<u64> {
        let input = input(estimate, wanted);
        std::iter::from_fn(|| probe.poll(now, &input))
            .map(|cluster| cluster.rate.as_bps() / 1000)
            .collect()
    }

    fn started() -> (ProbeController, Instant) {
        let (mut probe, now) = (ProbeController::default(), Instant::now());
        poll(&mut probe, now, 300, 5000);
        (probe, now)
    }

    #[test]
    fn the_first_probes_are_three_and_six_times_the_start_but_not_beyond_what_is_wanted() {
        for (wanted, rates) in [
            (5000, vec![900, 1800]),
            (1000, vec![900, 1500]),
            (500, vec![750]),
            (200, vec![]),
        ] {
            let mut probe = ProbeController::default();
            assert_eq!(poll(&mut probe, Instant::now(), 300, wanted), rates);
        }
    }

    #[test]
    fn success_goes_on_until_it_fails_or_is_enough() {
        let (mut probe, now) = started();
        let mut step = |ms, measured, estimate, wanted| {
            let now = now + MS * ms;
            probe.handle_result(now, Bitrate::kbps(measured), &input(estimate, wanted));
            poll(&mut probe, now, estimate, wanted)
        };
        assert_eq!(step(100, 900, 900, 5000), []);
        assert_eq!(step(150, 1700, 1700, 5000), [3400]);
        assert_eq!(step(300, 3300, 3300, 5000), [6600]);
        assert_eq!(step(400, 6500, 6500, 5000), [7500]);
        assert_eq!(step(500, 7400, 7400, 5000), []);
        let (mut probe, now) = started();
        probe.handle_result(now + 2000 * MS, Bitrate::kbps(1800), &input(1800, 5000));
        assert_eq!(
            poll(&mut probe, now + 2000 * MS, 1800, 5000),
            [],
            "too late"
        );
    }

    #[test]
    fn while_more_is_wanted_it_is_tried_every_five_seconds() {
        let (mut probe, now) = started();
        let mut tried = Vec::new();
        for second in 1..=16 {
            let now = now + 1000 * MS * second;
            probe.handle_result(now, Bitrate::kbps(400), &input(400, 5000));
            let rates = poll(&mut probe, now, 400, 5000);
            tried.extend(rates.into_iter().map(|rate| (second, rate)));
        }
        assert_eq!(tried, [(5, 800), (10, 800), (15, 800)]);
        assert_eq!(poll(&mut probe, now + 60_000 * MS, 6250, 5000), []);
        assert_eq!(probe.next_deadline(&input(6250, 5000)), None);
    }

    #[test]
    fn a_probe_that_shows_nothing_is_repeated_sooner_but_not_for_ever() {
        let (mut probe, now) = started();
        let mut tried = Vec::new();
        for tenth in 1..=200 {
            let rates = poll(&mut probe, now + 100 * MS * tenth, 300, 1000);
            tried.extend(rates.first().map(|_| tenth));
            assert!(rates.is_empty() || rates == [900, 1500]);
        }
        assert_eq!(tried, [8, 16, 24, 32, 40, 48, 98, 148, 198]);
    }

    #[test]
    fn overuse_silences_it() {
        let (mut probe, now) = started();
        probe.handle_result(now + 100 * MS, Bitrate::kbps(400), &input(400, 5000));
        probe.handle_overuse(now + 3000 * MS);
        let deadline = probe.next_deadline(&input(400, 5000));
        assert_eq!(deadline, Some(now + 7000 * MS));
        assert_eq!(poll(&mut probe, now + 6999 * MS, 400, 5000), []);
        assert_eq!(poll(&mut probe, now + 7000 * MS, 400, 5000), [800]);
    }

    #[test]
    fn after_a_large_drop_that_is_over_soon_the_old_rate_is_tried() {
        let (mut probe, now) = started();
        let kbps = Bitrate::kbps;
        probe.handle_decrease(now, kbps(4000), kbps(2000));
        probe.handle_decrease(now + 300 * MS, kbps(2000), kbps(1000));
        probe.handle_recovery(now + 3000 * MS, &input(1000, 5000));
        assert_eq!(poll(&mut probe, now + 3000 * MS, 1000, 5000), [3400]);
        probe.handle_recovery(now + 3100 * MS, &input(1000, 5000));
        assert_eq!(poll(&mut probe, now + 3100 * MS, 1000, 5000), [], "once");
        probe.handle_result(now + 3200 * MS, kbps(1000), &input(1000, 5000));
        probe.handle_decrease(now, kbps(4000), kbps(3000));
        probe.handle_recovery(now + 4500 * MS, &input(3000, 5000));
        assert_eq!(poll(&mut probe, now + 4500 * MS, 3000, 5000), [], "small");
    }
}
