//! How a subscriber fares: loss, bursts, and retransmissions that are lost again.
//!
//! In: its reception reports and NACKs. Out: [`Conditions`] for the policy.

use std::time::Duration;

use super::policy::Conditions;
use crate::media::Kind;

/// How far the loss moves towards a report that says more, and towards one that says less: reports
/// come once a second, and protection that comes late is worth less than one that lingers.
const LOSS_RISE: f64 = 0.5;
const LOSS_FALL: f64 = 0.15;

/// How far the mean burst moves with each burst.
const BURST_SMOOTHING: f64 = 0.1;

/// How far the share of repeated requests moves with each request.
const REPEAT_SMOOTHING: f64 = 0.02;

/// What one slot's feedback says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Monitor {
    loss: f64,
    burst: f64,
    repeated: f64,
    /// The last number that was asked for the first time, and how many before it in a row.
    run: Option<(u16, u32)>,
}

impl Default for Monitor {
    fn default() -> Self {
        Monitor {
            loss: 0.0,
            burst: 1.0,
            repeated: 0.0,
            run: None,
        }
    }
}

impl Monitor {
    /// Notes a reception report: the fraction lost, of 256 (RFC 3550 section 6.4.1).
    pub fn handle_report(&mut self, fraction_lost: u8) {
        let sample = f64::from(fraction_lost) / 256.0;
        let step = if sample > self.loss {
            LOSS_RISE
        } else {
            LOSS_FALL
        };
        self.loss += step * (sample - self.loss);
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

    /// What the policy is to know.
    #[must_use]
    pub fn conditions(&self, kind: Kind, round_trip: Option<Duration>) -> Conditions {
        Conditions {
            kind,
            loss: self.loss,
            burst: self.burst,
            repeated: self.repeated,
            round_trip,
            // Nobody estimates it yet.
            spare: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_believed_sooner_than_its_end() {
        let mut monitor = Monitor::default();
        let loss = |monitor: &Monitor| monitor.conditions(Kind::Video, None).loss;
        for _ in 0..3 {
            monitor.handle_report(64);
        }
        assert!(loss(&monitor) > 0.2);
        for _ in 0..3 {
            monitor.handle_report(0);
        }
        assert!(loss(&monitor) > 0.1);
        for _ in 0..30 {
            monitor.handle_report(0);
        }
        assert!(loss(&monitor) < 0.01);
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
}
