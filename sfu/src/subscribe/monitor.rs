//! How a subscriber fares: loss, bursts, retransmissions that are lost again, and what came late to us
//! already.
//!
//! In: its reception reports and NACKs, and how late each packet is sent to it. Out: [`Conditions`]
//! for the policy.

use std::time::Duration;

use super::policy::Conditions;
use crate::media::Kind;

/// How far the loss moves towards a sample that says more, and towards one that says less: protection
/// that comes late is worth less than one that lingers.
const LOSS_RISE: f64 = 0.5;
const LOSS_FALL: f64 = 0.15;

/// Packets in a sample of the loss: a second of sound, half a second of video. Reports come as often
/// as NACKs do, with which libwebrtc sends them, and tell of a handful of packets each.
const SAMPLE: u32 = 50;

/// Packets in the first sample: something has to be known soon.
const FIRST_SAMPLE: u32 = 15;

/// How far the mean burst moves with each burst.
const BURST_SMOOTHING: f64 = 0.1;

/// How far the share of repeated requests moves with each request.
const REPEAT_SMOOTHING: f64 = 0.02;

/// A packet that comes to us so much later than it was due has been lost on the way, and was sent again.
pub const LATE: Duration = Duration::from_millis(50);

/// How far the share of late packets moves with each packet, and from which share on it matters: one
/// in a thousand stops a picture of 30 a second and 4 packets each every eight seconds.
const LATE_SHARE_SMOOTHING: f64 = 0.001;
const LATE_SHARE_FLOOR: f64 = 0.001;

/// How far the mean lateness moves with each late packet.
const LATENESS_SMOOTHING: f64 = 0.05;

/// What one slot's feedback says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Monitor {
    /// None until something is known.
    loss: Option<f64>,
    /// The highest number and the packets lost when the sample began.
    sampled: Option<(u32, i32)>,
    burst: f64,
    repeated: f64,
    /// The share of packets that came late to us, and how late those are, seconds.
    late_share: f64,
    lateness: f64,
    /// The last number that was asked for the first time, and how many before it in a row.
    run: Option<(u16, u32)>,
}

impl Default for Monitor {
    fn default() -> Self {
        Monitor {
            loss: None,
            sampled: None,
            burst: 1.0,
            repeated: 0.0,
            late_share: 0.0,
            lateness: 0.0,
            run: None,
        }
    }
}

impl Monitor {
    /// Notes a reception report: the highest number received, extended, and the packets lost so far
    /// (RFC 3550 section 6.4.1).
    pub fn handle_report(&mut self, highest: u32, lost: i32) {
        let (highest_before, lost_before) = *self.sampled.get_or_insert((highest, lost));
        let expected = highest.wrapping_sub(highest_before);
        let needed = match self.loss {
            Some(_) => SAMPLE,
            None => FIRST_SAMPLE,
        };
        // What seems to have gone back is a report that was overtaken.
        if expected < needed || expected > u32::MAX / 2 {
            return;
        }
        self.sampled = Some((highest, lost));
        let lost = f64::from(lost.saturating_sub(lost_before).max(0));
        let sample = (lost / f64::from(expected)).min(1.0);
        self.loss = Some(match self.loss {
            None => sample,
            Some(loss) if sample > loss => loss + LOSS_RISE * (sample - loss),
            Some(loss) => loss + LOSS_FALL * (sample - loss),
        });
    }

    /// Notes that a packet was asked for, again if it has been sent again before.
    pub fn handle_nack(&mut self, sequence: u16, again: bool) {
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
    pub fn handle_sent(&mut self, lateness: Duration) -> bool {
        let is_late = lateness > LATE;
        self.late_share += LATE_SHARE_SMOOTHING * (f64::from(u8::from(is_late)) - self.late_share);
        if is_late {
            self.lateness += LATENESS_SMOOTHING * (lateness.as_secs_f64() - self.lateness);
        }
        is_late
    }

    /// What the policy is to know.
    #[must_use]
    pub fn conditions(&self, kind: Kind, round_trip: Option<Duration>) -> Conditions {
        Conditions {
            kind,
            loss: self.loss.unwrap_or_default(),
            burst: self.burst,
            repeated: self.repeated,
            lateness: match self.late_share < LATE_SHARE_FLOOR {
                true => Duration::ZERO,
                false => Duration::from_secs_f64(self.lateness),
            },
            round_trip,
            // Nobody estimates it yet.
            spare: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports of `packets` each, of which `lost` are lost, from where the last ones ended.
    fn report(monitor: &mut Monitor, at: &mut (u32, i32), packets: u32, lost: i32, reports: usize) {
        for _ in 0..reports {
            *at = (at.0.wrapping_add(packets), at.1 + lost);
            monitor.handle_report(at.0, at.1);
        }
    }

    fn loss(monitor: &Monitor) -> f64 {
        monitor.conditions(Kind::Video, None).loss
    }

    #[test]
    fn loss_is_believed_sooner_than_its_end() {
        let mut monitor = Monitor::default();
        // The numbers wrap on the way.
        let mut at = (u32::MAX - 10, 0);
        monitor.handle_report(at.0, at.1);
        report(&mut monitor, &mut at, 20, 5, 1);
        assert_eq!(loss(&monitor), 0.25, "all that is known");
        report(&mut monitor, &mut at, 50, 0, 3);
        assert!(loss(&monitor) > 0.1);
        report(&mut monitor, &mut at, 50, 0, 30);
        assert!(loss(&monitor) < 0.01);
        report(&mut monitor, &mut at, 50, 15, 2);
        assert!(loss(&monitor) > 0.2);
    }

    #[test]
    fn reports_of_a_few_packets_count_together() {
        let mut monitor = Monitor::default();
        let mut at = (0, 0);
        for _ in 0..200 {
            report(&mut monitor, &mut at, 2, 1, 1);
            report(&mut monitor, &mut at, 8, 0, 1);
        }
        assert!((0.09..0.11).contains(&loss(&monitor)), "{}", loss(&monitor));
    }

    #[test]
    fn a_report_that_lies_is_bounded() {
        let mut monitor = Monitor::default();
        for (highest, lost) in [(0, 0), (100, i32::MAX), (200, i32::MIN), (50, 7), (0, 0)] {
            monitor.handle_report(highest, lost);
            assert!((0.0..=1.0).contains(&loss(&monitor)));
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
        let conditions = monitor.conditions(Kind::Video, None);
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
            let conditions = monitor.conditions(Kind::Video, None);
            conditions.lateness.as_millis()
        };
        assert_eq!(lateness(2_500), 0);
        assert!((120..=150).contains(&lateness(50)), "{}", lateness(50));
    }
}
