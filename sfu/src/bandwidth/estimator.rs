//! What the path to one peer can carry: the type that ties the parts together.
//!
//! In: every packet that has left, the receiver's feedback (transport-wide, or REMB from those that
//! have no other), and how much could be put to use. Out: the estimate, the rate to pace at, and
//! probes to send.
//!
//! ```text
//! feedback ─ sent ─┬─ arrival groups ─ trend line ─┐
//!                  ├─ acknowledged ────────────────┼─ rate control ─┐
//!                  ├─ queueing ─ loss based ─ experiments ──────────┼─ least of them ─ estimate
//!                  ├─ probe results ─ probes               REMB ────┤
//!                  └─ bytes in flight ─ draining ───────────────────┘
//! ```

use std::time::{Duration, Instant};

use super::acknowledged::Acknowledged;
use super::application_limited::ApplicationLimited;
use super::arrival_groups::ArrivalGroups;
use super::competition::Competition;
use super::loss_based::LossBased;
use super::loss_experiment::STANDING_QUEUE;
use super::outage::is_outage;
use super::probe::{ProbeCluster, ProbeController, ProbeInput};
use super::probe_result::ProbeResults;
use super::queueing::QueueingDelay;
use super::rate_control::RateControl;
use super::round_trip::RoundTrip;
use super::sent::{Fate, PacketResult, SentHistory, SentPacket};
use super::trendline::{Trendline, Usage};
use crate::api::Limit;
use crate::rtp::rtcp::TransportFeedback;
use crate::rtp::sequence::SequenceNumber;
use crate::units::{Bitrate, DataSize};

/// The estimate before anything is known (libwebrtc M125: `kDefaultStartBitrateBps`).
pub const START: Bitrate = Bitrate::kbps(300);

/// The least estimate: the lowest layer of a small video. Audio is sent anyway.
pub const MIN: Bitrate = Bitrate::kbps(30);

/// The highest: more than a room full of top layers.
pub const MAX: Bitrate = Bitrate::kbps(100_000);

/// Packets are paced this much faster than the estimate: publishers have paced them already, and a
/// key frame is not to take much longer than it must (the 2.5 of libwebrtc M125 is for the frames of
/// an encoder).
pub const PACING: f64 = 1.5;

/// But this much faster while less is sent than could be: there is room, and a key frame is waited for
/// (libwebrtc M125: `kDefaultPaceMultiplier`).
const PACING_WITH_ROOM: f64 = 2.5;

/// After this time without packets or feedback the trend starts anew (libwebrtc M125:
/// `kStreamTimeOut`).
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);

/// A receiver that has given feedback and gives none for this time, though packets are in flight,
/// gets half; and again after each such time. Feedback comes every 50 to 250 ms.
const FEEDBACK_TIMEOUT: Duration = Duration::from_secs(1);

/// A REMB that lowers the estimate below what transport-wide feedback says is obeyed for this time:
/// those who send it send it every second.
const REMB_LIFETIME: Duration = Duration::from_secs(5);

/// What may be in flight beyond the least round trip without there being a queue: a feedback
/// interval (libwebrtc M125: `kDefaultInterval` of `RemoteEstimatorProxy`; 50 to 250 ms by rate).
const FEEDBACK_WAIT: Duration = Duration::from_millis(100);

/// A queue is to be drained in this time, by sending less than the link carries, but never less
/// than this share of it, nor for longer than this.
const DRAIN_TIME: Duration = Duration::from_millis(500);
const MIN_DRAIN: f64 = 0.3;
const MAX_DRAIN: Duration = Duration::from_secs(8);

/// For so long after a probe was heard of, a queue is the probe's if the application sends less than
/// it could: it empties by itself.
const PROBE_AFTERMATH: Duration = Duration::from_millis(500);

/// The path is calm when it has not been overused for so long.
const CALM: Duration = Duration::from_secs(10);

/// Beside another flow, a share of lost packets this many times the link's is answered.
const LOSS_EVENT: f64 = 2.0;

/// The estimate for one connection.
#[derive(Debug)]
pub struct BandwidthEstimator {
    history: SentHistory,
    results: Vec<PacketResult>,
    groups: ArrivalGroups,
    trendline: Trendline,
    queueing: QueueingDelay,
    competition: Competition,
    acknowledged: Acknowledged,
    rate_control: RateControl,
    loss: LossBased,
    application: ApplicationLimited,
    probes: ProbeController,
    probe_results: ProbeResults,
    round_trip: RoundTrip,
    last_arrival: Option<Duration>,
    remb: Option<(Instant, Bitrate)>,
    draining: Option<Draining>,
    /// When feedback came last, or its lack was acted upon.
    feedback: Option<Instant>,
    is_overdue: bool,
    /// When the first packet left after there had been none in flight.
    took_off: Option<Instant>,
    /// When the last probe was heard of.
    probed: Option<Instant>,
    /// When the path was last found to be overused.
    overused: Option<Instant>,
    /// When a packet was last reported lost.
    lost: Option<Instant>,
    /// When the newest packet that arrived was sent, and how many were lost since.
    newest: Option<Instant>,
    missing: u64,
    /// When the first packet was sent that arrived after an outage.
    outage: Option<Instant>,
    /// The rate before feedback stayed away.
    undisturbed: Option<Bitrate>,
    wanted: Bitrate,
    estimate: Bitrate,
    /// The estimate, but for a queue that is being drained.
    lasting: Bitrate,
    limit: Limit,
}

#[derive(Clone, Copy, Debug)]
struct Draining {
    since: Instant,
    rate: Bitrate,
}

impl Default for BandwidthEstimator {
    fn default() -> Self {
        BandwidthEstimator::new(START)
    }
}

impl BandwidthEstimator {
    /// Begins at a rate.
    #[must_use]
    pub fn new(start: Bitrate) -> Self {
        let start = start.clamp(MIN, MAX);
        BandwidthEstimator {
            history: SentHistory::default(),
            results: Vec::new(),
            groups: ArrivalGroups::default(),
            trendline: Trendline::default(),
            queueing: QueueingDelay::default(),
            competition: Competition::default(),
            acknowledged: Acknowledged::default(),
            rate_control: RateControl::new(start, MIN),
            loss: LossBased::default(),
            application: ApplicationLimited::default(),
            probes: ProbeController::default(),
            probe_results: ProbeResults::default(),
            round_trip: RoundTrip::default(),
            last_arrival: None,
            remb: None,
            draining: None,
            feedback: None,
            is_overdue: false,
            took_off: None,
            probed: None,
            overused: None,
            lost: None,
            newest: None,
            missing: 0,
            outage: None,
            undisturbed: None,
            wanted: Bitrate::ZERO,
            estimate: start,
            lasting: start,
            limit: Limit::Delay,
        }
    }

    /// Begins anew at a rate, since packets take another path now: nothing that was measured of the former
    /// holds for it.
    pub fn begin_anew(&mut self, start: Bitrate) {
        let mut probes = std::mem::take(&mut self.probes);
        probes.begin_anew();
        *self = BandwidthEstimator {
            probes,
            wanted: self.wanted,
            ..BandwidthEstimator::new(start)
        };
    }

    /// What there is to share out.
    #[must_use]
    pub fn estimate(&self) -> Bitrate {
        self.estimate
    }

    /// The estimate as it will be when a queue that is being drained is empty, which takes a second or
    /// two.
    #[must_use]
    pub fn lasting(&self) -> Bitrate {
        self.lasting
    }

    /// The same as it was before feedback stayed away, if it does.
    #[must_use]
    pub fn undisturbed(&self) -> Bitrate {
        self.undisturbed
            .map_or(self.lasting, |rate| rate.max(self.lasting))
    }

    /// What sets the estimate.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// How fast to send what waits.
    #[must_use]
    pub fn pacing_rate(&self) -> Bitrate {
        match self.limit {
            Limit::Draining => self.estimate,
            _ if self.application.since().is_some() => self.estimate.scale(PACING_WITH_ROOM),
            _ => self.estimate.scale(PACING),
        }
    }

    /// The share of packets that the link loses whatever is sent.
    #[must_use]
    pub fn link_loss(&self) -> f64 {
        self.loss.link_loss()
    }

    /// Whether another flow fills the queue.
    #[must_use]
    pub fn is_competing(&self) -> bool {
        self.competition.is_on()
    }

    /// The least round trip of late, feedback included.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.least()
    }

    /// What was sent and not heard of yet.
    #[must_use]
    pub fn history(&self) -> &SentHistory {
        &self.history
    }

    /// Since when less is sent than could be, if it is.
    #[must_use]
    pub fn application_limited(&self) -> Option<Instant> {
        self.application.since()
    }

    /// Says how much could be put to use: the sum of the best layers that are wanted. There is no
    /// probing for more.
    pub fn set_wanted(&mut self, wanted: Bitrate) {
        self.wanted = wanted.min(MAX);
    }

    /// Notes that a packet leaves once more as it is, number and all.
    pub fn handle_repeated(&mut self, sequence: SequenceNumber) {
        self.history.handle_repeated(sequence);
    }

    /// Notes a packet that has truly left.
    pub fn handle_sent(&mut self, sequence: SequenceNumber, packet: SentPacket) {
        self.application
            .handle_sent(packet.at, packet.size, self.estimate);
        if self.history.in_flight().is_zero() {
            self.took_off = Some(packet.at);
        }
        self.history.handle_sent(sequence, packet);
    }

    /// Takes transport-wide feedback.
    pub fn handle_feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) {
        let mut results = std::mem::take(&mut self.results);
        results.clear();
        self.history.handle_feedback(feedback, &mut results);
        if !results.is_empty() {
            self.handle_results(now, &results);
        }
        self.results = results;
    }

    /// What the last feedback has settled.
    #[must_use]
    pub fn settled(&self) -> &[PacketResult] {
        &self.results
    }

    /// Whether nothing of late, neither delay nor loss, says that the path carries less than is sent.
    #[must_use]
    pub fn is_calm(&self, now: Instant) -> bool {
        let overused = self.overused.max(self.loss.congested());
        overused.is_none_or(|at| now.saturating_duration_since(at) >= CALM)
    }

    /// Whether a packet was reported lost within this time.
    #[must_use]
    pub fn has_lost(&self, now: Instant, within: Duration) -> bool {
        self.lost
            .is_some_and(|at| now.saturating_duration_since(at) < within)
    }

    /// When the first packet was sent that arrived after an outage, if feedback has told of one.
    pub fn take_outage(&mut self) -> Option<Instant> {
        self.outage.take()
    }

    /// Whether feedback is missing that should have come.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.is_overdue
    }

    /// Takes a receiver's own estimate, in bits per second.
    pub fn handle_remb(&mut self, now: Instant, bitrate: u64) {
        self.remb = Some((now, Bitrate::bps(bitrate).clamp(MIN, MAX)));
        self.update(now);
    }

    /// Does what is due. `is_silent` says whether nothing at all is heard of the receiver: then the path is
    /// cut, and not too narrow.
    pub fn handle_timeout(&mut self, now: Instant, is_silent: bool) {
        if self.feedback_deadline().is_some_and(|due| now >= due) {
            self.feedback = Some(now);
            self.is_overdue = true;
            let before = self.estimate;
            let rate = self.rate_control.rate();
            let undisturbed = *self.undisturbed.get_or_insert(rate);
            let rate = match is_silent {
                true => undisturbed,
                false => rate.scale(0.5),
            };
            self.rate_control.set_rate(now, rate);
            self.probes.handle_overuse(now);
            self.update(now);
            self.probes.handle_decrease(now, before, self.estimate);
        }
        self.update(now);
    }

    /// A probe to send, if it is time for one. Not to be called for receivers that give no
    /// transport-wide feedback.
    pub fn poll_probe(&mut self, now: Instant) -> Option<ProbeCluster> {
        let input = self.probe_input();
        let cluster = self.probes.poll(now, &input)?;
        self.probe_results.handle_probe(cluster);
        Some(cluster)
    }

    /// When to call [`BandwidthEstimator::handle_timeout`] and
    /// [`BandwidthEstimator::poll_probe`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let probe = self.probes.next_deadline(&self.probe_input());
        let draining = self.draining.map(|draining| draining.since + MAX_DRAIN);
        [probe, draining, self.feedback_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn feedback_deadline(&self) -> Option<Instant> {
        let is_flying = !self.history.in_flight().is_zero();
        let wait = FEEDBACK_TIMEOUT + self.round_trip().unwrap_or_default() * 2;
        // After a pause in sending there was nothing to tell of.
        let since = self.feedback.max(self.took_off).filter(|_| is_flying);
        since
            .filter(|_| self.feedback.is_some())
            .map(|at| at + wait)
    }

    fn probe_input(&self) -> ProbeInput {
        ProbeInput {
            estimate: self.estimate,
            wanted: self.wanted,
            link_loss: self.loss.probable_link_loss(),
        }
    }

    fn handle_results(&mut self, now: Instant, results: &[PacketResult]) {
        let silence = now.saturating_duration_since(self.feedback.replace(now).unwrap_or(now));
        if silence > STREAM_TIMEOUT {
            self.groups = ArrivalGroups::default();
            self.trendline = Trendline::default();
        }
        let mut has_recovered = std::mem::take(&mut self.is_overdue);
        let mut newest = None;
        self.loss.set_idle(self.application.since().is_some());
        let (mut lost, mut least_queueing) = (0, None);
        let (mut unheard, mut unheard_size) = (0, DataSize::ZERO);
        for result in results {
            let sent = result.packet.at;
            if self.ends_outage(now, result) {
                lost = 0;
            }
            if result.fate == Fate::Unknown {
                unheard += 1;
                unheard_size += result.packet.size;
            }
            let queueing = result.arrival().map(|arrival| {
                self.fill_gap(arrival, std::mem::take(&mut unheard), unheard_size);
                unheard_size = DataSize::ZERO;
                self.acknowledged
                    .handle_arrival(arrival, result.packet.size);
                self.last_arrival = Some(arrival);
                newest = newest.max(Some(sent));
                let queueing = self.queueing.handle_packet(now, sent, arrival);
                least_queueing = Some(least_queueing.map_or(queueing, |least| queueing.min(least)));
                queueing
            });
            if result.fate == Fate::Lost {
                lost += 1;
                self.lost = Some(now);
            }
            self.loss.handle_result(now, result, queueing);
            self.probe_results.handle_result(result);
            if result.packet.cluster.is_some() {
                self.probed = Some(now);
            }
            if let Fate::Arrived(arrival) = result.fate
                && let Some(group) = self.groups.handle_packet(now, sent, arrival)
            {
                let before = self.trendline.usage();
                let after = self.trendline.handle_group(group);
                has_recovered |= before == Usage::Under && after == Usage::Normal;
            }
        }
        if let Some(sent) = newest {
            self.round_trip
                .handle(now, now.saturating_duration_since(sent));
            self.rate_control.handle_round_trip(self.round_trip.last());
        }
        // Whatever was silent, it was not an outage.
        if newest.is_some() {
            self.undisturbed = None;
        }
        let has_lost = f64::from(lost) > LOSS_EVENT * self.link_loss() * results.len() as f64;
        self.control(now, least_queueing, has_lost, has_recovered);
    }

    /// Notes how a packet fared. Says whether it is the first after an outage, as if there had been none.
    fn ends_outage(&mut self, now: Instant, result: &PacketResult) -> bool {
        let sent = result.packet.at;
        match result.fate {
            Fate::Lost => self.missing += 1,
            Fate::Arrived(_) => {
                let missing = std::mem::take(&mut self.missing);
                let before = self.newest.max(Some(sent));
                let last = std::mem::replace(&mut self.newest, before).unwrap_or(sent);
                if !is_outage(sent.saturating_duration_since(last), missing) {
                    return false;
                }
                self.outage = Some(sent);
                self.acknowledged = Acknowledged::default();
                if let Some(rate) = self.undisturbed.take() {
                    self.rate_control.set_rate(now, rate);
                }
                return true;
            }
            Fate::ArrivedLate(_) | Fate::Unknown => {}
        }
        false
    }

    /// What lost feedback would have told of arrived evenly before what came next, as far as we
    /// know.
    fn fill_gap(&mut self, next: Duration, packets: u32, size: DataSize) {
        let Some(last) = self.last_arrival.filter(|last| *last < next && packets > 0) else {
            return;
        };
        let arrived = size.as_bytes() as f64 * (1.0 - self.link_loss());
        let each = DataSize::bytes((arrived / f64::from(packets)) as u64);
        let step = (next - last) / (packets + 1);
        for n in 1..=packets {
            self.acknowledged.handle_arrival(last + step * n, each);
        }
    }

    fn control(
        &mut self,
        now: Instant,
        least_queueing: Option<Duration>,
        has_lost: bool,
        has_recovered: bool,
    ) {
        let probed = self.probed;
        let is_aftermath = self.application.since().is_some()
            && probed.is_some_and(|at| now.saturating_duration_since(at) < PROBE_AFTERMATH);
        let usage = match self.trendline.usage() {
            Usage::Over if is_aftermath => Usage::Under,
            usage => usage,
        };
        let sent = |rate: Bitrate| rate.scale(1.0 / (1.0 - self.loss.link_loss()));
        if let (Some(queueing), Some(rate)) = (least_queueing, self.acknowledged.rate().map(sent)) {
            // Otherwise it is audio, which is sent whatever the estimate says.
            let gives_way = self.draining.is_some() || rate < self.lasting;
            self.competition
                .handle_feedback(now, queueing, rate, gives_way);
        }
        let before = self.estimate;
        let measured = self
            .probe_results
            .poll(self.loss.link_loss(), self.loss.probable_link_loss());
        if let (Some(measured), true) = (measured, usage != Usage::Over) {
            self.loss.handle_probe(measured);
            if measured > self.rate_control.rate() {
                self.rate_control.set_rate(now, measured);
            }
        } else {
            let throughput = match usage {
                Usage::Over => self.acknowledged.recent(),
                Usage::Under | Usage::Normal => self.acknowledged.rate(),
            };
            // What the link loses by itself was sent all the same.
            let throughput = throughput.map(sent);
            if self.competition.is_on() {
                self.rate_control
                    .handle_competition(now, has_lost, throughput);
                self.draining = None;
            } else if self.rate_control.handle_feedback(now, usage, throughput)
                && let Some(rate) = throughput
            {
                self.competition.handle_decrease(now, rate);
                let since = self.draining.map_or(now, |draining| draining.since);
                self.draining = Some(Draining { since, rate });
            }
        }
        // More than the estimate is sent while the path is calm, and what arrives is no guess.
        if let Some(arrived) = self.acknowledged.rate()
            && usage != Usage::Over
            && self.is_calm(now)
            && arrived > self.rate_control.rate()
        {
            self.rate_control.set_rate(now, arrived);
        }
        if usage == Usage::Over {
            // Packets that bunch up, as a slow machine's do, are no queue when some were not held up.
            if least_queueing.is_none_or(|queueing| queueing > STANDING_QUEUE) {
                self.overused = Some(now);
            }
            self.probes.handle_overuse(now);
        }
        self.update(now);
        if self.estimate < before && self.limit != Limit::Draining {
            self.probes.handle_decrease(now, before, self.estimate);
        }
        let input = self.probe_input();
        if has_recovered && self.draining.is_none() {
            self.probes.handle_recovery(now, &input);
        }
        if let Some(measured) = measured {
            self.probes.handle_result(now, measured, &input);
        }
    }

    /// Takes the least of what the parts say.
    fn update(&mut self, now: Instant) {
        let mut estimate = (self.rate_control.rate(), Limit::Delay);
        let mut bound = |rate: Option<Bitrate>, limit| {
            if let Some(rate) = rate.filter(|rate| *rate < estimate.0) {
                estimate = (rate, limit);
            }
        };
        bound(self.loss.limit(), Limit::Loss);
        let has_other = self.feedback.is_some();
        let remb = self
            .remb
            .filter(|(at, _)| !has_other || now.saturating_duration_since(*at) < REMB_LIFETIME);
        match remb {
            Some((_, rate)) if !has_other => estimate = (rate, Limit::Receiver),
            remb => bound(remb.map(|(_, rate)| rate), Limit::Receiver),
        }
        self.lasting = estimate.0.clamp(MIN, MAX);
        if let Some(rate) = self.drain(now).filter(|rate| *rate < estimate.0) {
            estimate = (rate, Limit::Draining);
        }
        self.estimate = estimate.0.clamp(MIN, MAX);
        self.limit = estimate.1;
    }

    /// The rate that drains the queue, while there is one that overuse has built. Feedback tells
    /// of a queue when packets have passed it; what is in flight tells of it now.
    fn drain(&mut self, now: Instant) -> Option<Bitrate> {
        let Draining { since, rate } = self.draining?;
        let allowed = self.round_trip.least().unwrap_or_default() + FEEDBACK_WAIT;
        let flight = self.history.in_flight().time_at(rate);
        let queue = flight.saturating_sub(allowed);
        if queue.is_zero() || now.saturating_duration_since(since) >= MAX_DRAIN {
            self.draining = None;
            return None;
        }
        let share = 1.0 - queue.as_secs_f64() / DRAIN_TIME.as_secs_f64();
        Some(rate.scale(share.max(MIN_DRAIN)))
    }
}

#[cfg(test)]
mod tests;
