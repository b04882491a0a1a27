//! How a subscriber fares: loss, bursts, retransmissions that are lost again, and what came late to us
//! already.
//!
//! In: its reception reports and NACKs, and how late each packet is sent to it. Out: [`Conditions`]
//! for the policy. What falls into an outage does not count.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::policy::{Conditions, Late};
use crate::media::Kind;
use crate::rtp::rtcp::ReportBlock;

/// How far the loss moves towards a sample that says more, and towards one that says less: protection
/// that comes late is worth less than one that lingers.
const LOSS_RISE: f64 = 0.5;
const LOSS_FALL: f64 = 0.15;

/// Packets in a sample of the loss: a second of audio, half a second of video. Reports come as often
/// as NACKs do, with which libwebrtc sends them, and tell of a handful of packets each.
const SAMPLE: u32 = 50;

/// Packets sent until the first report is believed: something has to be known soon.
const FIRST_SAMPLE: u64 = 15;

/// Samples that can be taken back: those between an outage and the feedback that tells of it, a round
/// trip and an interval of feedback later.
const MAX_SAMPLES: usize = 4;

/// How far the mean burst moves with each burst.
const BURST_SMOOTHING: f64 = 0.1;

/// How far the share of repeated requests moves with each request.
const REPEAT_SMOOTHING: f64 = 0.02;

/// A packet that comes to us so much later than it was due has been lost on the way, and was sent again.
pub(crate) const LATE: Duration = Duration::from_millis(50);

/// How far the share of late packets moves with each packet, and from which share on it matters: one
/// in a thousand stops a video of 30 frames a second and 4 packets each every eight seconds.
const LATE_SHARE_SMOOTHING: f64 = 0.001;
const LATE_SHARE_FLOOR: f64 = 0.001;

/// How often the rate of packets is looked at.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// How far the mean lateness moves with each late packet.
const LATENESS_SMOOTHING: f64 = 0.05;

/// What one slot's feedback says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Monitor {
    /// None until something is known.
    loss: Option<f64>,
    /// What others lose over the same link.
    link_loss: f64,
    /// The highest number and the packets lost when the sample began.
    sampled: Option<(u32, i32)>,
    /// The number from which on packets have come since an outage, until a report knows of it.
    resumed: Option<u16>,
    /// When the last samples were taken, and what the loss was before.
    samples: VecDeque<(Instant, Option<f64>)>,
    burst: f64,
    repeated: f64,
    /// The share of packets that came late to us, how late those are, seconds, and the variance of that.
    late_share: f64,
    lateness: f64,
    lateness_variance: f64,
    /// How many packets are sent a second, and how many had been when that was last looked at.
    packet_rate: f64,
    counted: Option<(Instant, u64)>,
    /// The last number that was asked for the first time, and how many before it in a row.
    run: Option<(u16, u32)>,
}

impl Default for Monitor {
    fn default() -> Self {
        Monitor {
            loss: None,
            link_loss: 0.0,
            sampled: None,
            resumed: None,
            samples: VecDeque::new(),
            burst: 1.0,
            repeated: 0.0,
            late_share: 0.0,
            lateness: 0.0,
            lateness_variance: 0.0,
            packet_rate: 0.0,
            counted: None,
            run: None,
        }
    }
}

impl Monitor {
    /// Notes a reception report (RFC 3550 section 6.4.1) of a stream of which `sent` packets have been
    /// sent so far.
    pub(crate) fn handle_report(&mut self, now: Instant, sent: u64, block: &ReportBlock) {
        self.count(now, sent);
        let told = (block.extended_highest, block.cumulative_lost);
        if let Some(resumed) = self.resumed {
            // One that was on its way, or does not know of what was swallowed yet.
            if (told.0 as u16).wrapping_sub(resumed) < 0x8000 {
                self.resumed = None;
                self.sampled = Some(told);
            }
            return;
        }
        let Some((highest, lost)) = self.sampled else {
            self.sampled = Some(told);
            if sent >= FIRST_SAMPLE && self.loss.is_none() {
                self.set_loss(now, f64::from(block.fraction_lost) / 256.0);
            }
            return;
        };
        let expected = told.0.wrapping_sub(highest);
        // What seems to have gone back is a report that was overtaken.
        if !(SAMPLE..u32::MAX / 2).contains(&expected) {
            return;
        }
        self.sampled = Some(told);
        let lost = f64::from(told.1.saturating_sub(lost).max(0));
        let sample = (lost / f64::from(expected)).min(1.0);
        let loss = match self.loss {
            None => sample,
            Some(loss) if sample > loss => loss + LOSS_RISE * (sample - loss),
            Some(loss) => loss + LOSS_FALL * (sample - loss),
        };
        self.set_loss(now, loss);
    }

    /// Looks at how many packets are sent a second.
    fn count(&mut self, now: Instant, sent: u64) {
        let (at, before) = *self.counted.get_or_insert((now, sent));
        let since = now.saturating_duration_since(at);
        if since >= COUNT_INTERVAL {
            self.packet_rate = sent.saturating_sub(before) as f64 / since.as_secs_f64();
            self.counted = Some((now, sent));
        }
    }

    fn set_loss(&mut self, now: Instant, loss: f64) {
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, self.loss));
        self.loss = Some(loss);
    }

    /// Learns that there was an outage, here or on the way to us, and that a packet arrived again that was
    /// sent at `over`: what was reported since, and is to be reported until packets from number `resumed`
    /// on have come, tells of that.
    pub(crate) fn handle_outage(&mut self, over: Instant, resumed: u16) {
        while let Some((_, before)) = self.samples.pop_back_if(|(at, _)| *at >= over) {
            self.loss = before;
        }
        self.resumed = Some(resumed);
        self.run = None;
    }

    /// Begins anew, since packets from number `resumed` on take another path to the subscriber. How they come
    /// to us is the same.
    pub(crate) fn begin_anew(&mut self, resumed: u16) {
        *self = Monitor {
            resumed: Some(resumed),
            late_share: self.late_share,
            lateness: self.lateness,
            lateness_variance: self.lateness_variance,
            packet_rate: self.packet_rate,
            ..Monitor::default()
        };
    }

    /// Notes what others lose over the same link, which counts until it is known better.
    pub(crate) fn hear_of_link(&mut self, loss: f64) {
        self.link_loss = loss;
    }

    /// Notes that a packet was asked for, again if it has been sent again before.
    pub(crate) fn handle_nack(&mut self, sequence: u16, again: bool) {
        self.repeated += REPEAT_SMOOTHING * (f64::from(u8::from(again)) - self.repeated);
        if again {
            return;
        }
        self.run = match self.run {
            Some((last, length)) if last.wrapping_add(1) == sequence => {
                Some((sequence, length.saturating_add(1)))
            }
            Some((_, length)) => {
                self.burst += BURST_SMOOTHING * (f64::from(length) - self.burst);
                Some((sequence, 1))
            }
            None => Some((sequence, 1)),
        };
    }

    /// Notes that a packet was sent, and how long after it was due. Says whether that was late.
    pub(crate) fn handle_sent(&mut self, lateness: Duration) -> bool {
        let is_late = lateness > LATE;
        self.late_share += LATE_SHARE_SMOOTHING * (f64::from(u8::from(is_late)) - self.late_share);
        if is_late {
            let by = lateness.as_secs_f64() - self.lateness;
            self.lateness += LATENESS_SMOOTHING * by;
            self.lateness_variance += LATENESS_SMOOTHING * (by * by - self.lateness_variance);
        }
        is_late
    }

    /// The share of packets lost, as far as the subscriber has said.
    #[must_use]
    pub(crate) fn loss(&self) -> Option<f64> {
        self.loss
    }

    /// What the policy is to know; `spare` is what may be spent on repair for each bit of media.
    #[must_use]
    pub(crate) fn conditions(
        &self,
        kind: Kind,
        round_trip: Option<Duration>,
        spare: f64,
    ) -> Conditions {
        Conditions {
            kind,
            loss: match (kind, self.loss) {
                // Video is reported on often.
                (Kind::Video, Some(loss)) => loss,
                (_, loss) => loss.unwrap_or_default().max(self.link_loss),
            },
            burst: self.burst,
            repeated: self.repeated,
            late: (self.late_share >= LATE_SHARE_FLOOR).then(|| Late {
                by: Duration::from_secs_f64(self.lateness),
                spread: Duration::from_secs_f64(self.lateness_variance.sqrt()),
                share: self.late_share,
                per_second: self.late_share * self.packet_rate,
            }),
            round_trip,
            spare,
            hears_losses: false,
            is_reliable: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Ssrc;

    /// A stream that is reported on.
    struct Reports {
        now: Instant,
        monitor: Monitor,
        highest: u32,
        lost: i32,
    }

    impl Default for Reports {
        fn default() -> Self {
            Reports {
                now: Instant::now(),
                monitor: Monitor::default(),
                highest: 0,
                lost: 0,
            }
        }
    }

    impl Reports {
        /// Reports of `packets` each, of which `lost` are lost.
        fn add(&mut self, packets: u32, lost: i32, reports: usize) {
            for _ in 0..reports {
                self.highest = self.highest.wrapping_add(packets);
                self.lost += lost;
                let block = block(self.highest, self.lost, lost * 256 / packets as i32);
                self.monitor
                    .handle_report(self.now, u64::from(packets), &block);
            }
        }

        fn loss(&self) -> f64 {
            self.monitor.conditions(Kind::Video, None, 1.0).loss
        }
    }

    fn block(extended_highest: u32, cumulative_lost: i32, fraction_lost: i32) -> ReportBlock {
        ReportBlock {
            ssrc: Ssrc(1),
            fraction_lost: fraction_lost as u8,
            cumulative_lost,
            extended_highest,
            jitter: 0,
            last_sender_report: 0,
            delay_since_last: 0,
        }
    }

    #[test]
    fn loss_is_believed_sooner_than_its_end() {
        // The numbers wrap on the way.
        let mut reports = Reports {
            highest: u32::MAX - 30,
            ..Reports::default()
        };
        reports.add(20, 5, 1);
        assert_eq!(reports.loss(), 0.25, "all that is known");
        reports.add(50, 0, 3);
        assert!(reports.loss() > 0.1);
        reports.add(50, 0, 30);
        assert!(reports.loss() < 0.01);
        reports.add(50, 15, 2);
        assert!(reports.loss() > 0.2);
    }

    #[test]
    fn reports_of_a_few_packets_count_together() {
        let mut reports = Reports::default();
        for _ in 0..200 {
            reports.add(2, 1, 1);
            reports.add(8, 0, 1);
        }
        assert!((0.09..0.11).contains(&reports.loss()), "{}", reports.loss());
    }

    #[test]
    fn a_stream_that_is_seldom_reported_on_follows_its_neighbour() {
        let mut reports = Reports::default();
        reports.monitor.hear_of_link(0.3);
        let losses = |reports: &Reports| {
            let of = |kind| reports.monitor.conditions(kind, None, 1.0).loss;
            (of(Kind::Audio), of(Kind::Video))
        };
        assert_eq!(losses(&reports), (0.3, 0.3));
        reports.add(250, 0, 1);
        assert_eq!(losses(&reports), (0.3, 0.0));
        reports.monitor.hear_of_link(0.0);
        assert_eq!(losses(&reports), (0.0, 0.0));
    }

    #[test]
    fn an_outage_is_no_loss_whether_it_is_told_before_the_report_or_after() {
        for is_told_first in [true, false] {
            let mut reports = Reports::default();
            reports.add(50, 5, 40);
            let before = reports.loss();
            assert!((0.09..0.11).contains(&before), "{before}");
            let over = reports.now + Duration::from_secs(10);
            reports.now = over + Duration::from_millis(100);
            let gap = 100..200;
            gap.for_each(|number| reports.monitor.handle_nack(number, false));
            if is_told_first {
                reports.monitor.handle_outage(over, 3010);
            }
            reports.add(1000, 1000, 1);
            if !is_told_first {
                assert!(reports.loss() > 0.5);
                reports.monitor.handle_outage(over, 3010);
            }
            assert_eq!(reports.loss(), before);
            reports.add(50, 5, 1);
            assert_eq!(reports.loss(), before, "from here on");
            reports.add(50, 5, 4);
            let after = reports.loss();
            assert!((0.09..0.11).contains(&after), "{after}");
            reports.monitor.handle_nack(500, false);
            reports.monitor.handle_nack(600, false);
            assert_eq!(
                reports.monitor.conditions(Kind::Video, None, 1.0).burst,
                1.0
            );
        }
    }

    #[test]
    fn another_way_is_begun_with_as_if_nothing_were_known() {
        let mut reports = Reports::default();
        reports.add(50, 15, 10);
        reports.monitor.begin_anew(510);
        assert_eq!(reports.monitor.loss(), None);
        reports.add(200, 100, 1);
        assert_eq!(reports.monitor.loss(), None);
        reports.add(50, 0, 1);
        assert_eq!(reports.loss(), 0.0);
    }

    #[test]
    fn a_report_that_lies_is_bounded() {
        let mut reports = Reports::default();
        for (highest, lost) in [(0, 0), (100, i32::MAX), (200, i32::MIN), (50, 7), (0, 0)] {
            reports
                .monitor
                .handle_report(reports.now, 100, &block(highest, lost, 255));
            assert!((0.0..=1.0).contains(&reports.loss()));
        }
    }

    #[test]
    fn bursts_and_repeats_are_told_from_single_losses() {
        let mut monitor = Monitor::default();
        let mut next = 0u16;
        for _ in 0..50 {
            next = next.wrapping_add(7);
            for _ in 0..4 {
                next = next.wrapping_add(1);
                monitor.handle_nack(next, false);
            }
            monitor.handle_nack(next, true);
        }
        let conditions = monitor.conditions(Kind::Video, None, 1.0);
        assert!((3.5..=4.0).contains(&conditions.burst), "{conditions:?}");
        assert!((0.1..0.3).contains(&conditions.repeated), "{conditions:?}");
    }

    #[test]
    fn what_came_late_counts_once_it_is_more_than_chance() {
        let late = Duration::from_millis(150);
        let lateness = |every: usize| {
            let mut monitor = Monitor::default();
            for n in 0..5_000 {
                monitor.handle_sent(if n % every == 0 { late } else { Duration::ZERO });
            }
            let conditions = monitor.conditions(Kind::Video, None, 1.0);
            conditions.late.map_or(0, |late| late.by.as_millis())
        };
        assert_eq!(lateness(2_500), 0);
        assert!((120..=150).contains(&lateness(50)), "{}", lateness(50));
    }
}
