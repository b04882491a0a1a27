//! Whether a queue grows: the slope of the delay, against a threshold that adapts.
//!
//! In: [`GroupDelta`]s. Out: [`Usage`]. A least-squares line through the smoothed delay of the last
//! groups takes the place of the draft's Kalman filter, as in libwebrtc M125; the threshold is the
//! draft's (gcc-02 section 5.4; Carlucci et al., "Analysis and Design of the Google
//! Congestion Control for WebRTC", MMSys 2016).

use std::collections::VecDeque;
use std::time::Duration;

use super::arrival_groups::GroupDelta;

/// Groups that the line is laid through (libwebrtc M125: `kDefaultTrendlineWindowSize`).
const WINDOW: usize = 20;

/// Weight of the past in the smoothed delay (libwebrtc M125: `kDefaultTrendlineSmoothingCoeff`).
const SMOOTHING: f64 = 0.9;

/// The slope is scaled to the draft's unit, milliseconds of offset, by this and by the number of
/// groups up to [`MAX_GAIN_GROUPS`] (libwebrtc M125: `kDefaultTrendlineThresholdGain` and
/// `kMinNumDeltas`).
const GAIN: f64 = 4.0;
const MAX_GAIN_GROUPS: u32 = 60;

/// The threshold at first, in milliseconds (gcc-02 section 5.4: del_var_th(0)), and its range.
const FIRST_THRESHOLD: f64 = 12.5;
const MIN_THRESHOLD: f64 = 6.0;
const MAX_THRESHOLD: f64 = 600.0;

/// How fast the threshold follows a slope above and below it, per millisecond (libwebrtc M125:
/// `k_up_` and `k_down_`; gcc-02 section 5.4 recommends 0.01 and 0.00018).
const RISE: f64 = 0.0087;
const FALL: f64 = 0.039;

/// A slope this far above the threshold is a sudden drop of capacity, which the threshold must not
/// get used to (gcc-02 section 5.4).
const MAX_ADAPTATION: f64 = 15.0;

/// Longest time that one step of the threshold accounts for (libwebrtc M125: `kMaxTimeDeltaMs`).
const MAX_STEP: Duration = Duration::from_millis(100);

/// How long the slope must be above the threshold (gcc-02 section 5.4: overuse_time_th).
const OVERUSE_TIME: Duration = Duration::from_millis(10);

/// What the delay says of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Usage {
    Under,
    /// The queues stay as they are.
    #[default]
    Normal,
    Over,
}

/// The trend of one connection.
#[derive(Debug)]
pub(crate) struct Trendline {
    /// Time since the first group, and smoothed delay, both in milliseconds.
    window: VecDeque<(f64, f64)>,
    first_arrival: Option<Duration>,
    groups: u32,
    delay: f64,
    smoothed: f64,
    slope: f64,
    threshold: f64,
    adapted: Option<Duration>,
    /// How long and how often in a row the slope has been above the threshold.
    above: Option<(Duration, u32)>,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Trendline {
            window: VecDeque::with_capacity(WINDOW + 1),
            first_arrival: None,
            groups: 0,
            delay: 0.0,
            smoothed: 0.0,
            slope: 0.0,
            threshold: FIRST_THRESHOLD,
            adapted: None,
            above: None,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    /// Takes a group into account.
    pub(crate) fn handle_group(&mut self, group: GroupDelta) -> Usage {
        let first = *self.first_arrival.get_or_insert(group.arrival);
        self.groups = (self.groups + 1).min(MAX_GAIN_GROUPS);
        self.delay += millis(group.arrived) - millis(group.sent);
        self.smoothed += (1.0 - SMOOTHING) * (self.delay - self.smoothed);
        self.window
            .push_back((millis(group.arrival.saturating_sub(first)), self.smoothed));
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        let before = self.slope;
        if self.window.len() == WINDOW {
            self.slope = slope(&self.window).unwrap_or(before);
        }
        self.detect(group, before);
        self.usage
    }

    /// What the last group meant.
    #[must_use]
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    fn detect(&mut self, group: GroupDelta, slope_before: f64) {
        let trend = f64::from(self.groups) * GAIN * self.slope;
        if trend > self.threshold {
            let (time, count) = match self.above {
                // On average it has been for half of the time since the last group.
                None => (group.sent / 2, 1),
                Some((time, count)) => (time.saturating_add(group.sent), count + 1),
            };
            self.above = Some((time, count));
            if time > OVERUSE_TIME && count > 1 && self.slope >= slope_before {
                self.above = Some((Duration::ZERO, 0));
                self.usage = Usage::Over;
            }
        } else {
            self.above = None;
            self.usage = if trend < -self.threshold {
                Usage::Under
            } else {
                Usage::Normal
            };
        }
        self.adapt(trend.abs(), group.arrival);
    }

    fn adapt(&mut self, trend: f64, now: Duration) {
        let since = now.saturating_sub(self.adapted.replace(now).unwrap_or(now));
        if trend > self.threshold + MAX_ADAPTATION {
            return;
        }
        let speed = if trend < self.threshold { FALL } else { RISE };
        let step = speed * (trend - self.threshold) * millis(since.min(MAX_STEP));
        self.threshold = (self.threshold + step).clamp(MIN_THRESHOLD, MAX_THRESHOLD);
    }
}

/// The slope of the least-squares line, unless all points lie above each other.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let count = points.len() as f64;
    let (x_sum, y_sum) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
    let (x_mean, y_mean) = (x_sum / count, y_sum / count);
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), (x, y)| {
        let x = x - x_mean;
        (over + x * (y - y_mean), under + x * x)
    });
    (under > 0.0).then(|| over / under)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Groups every 20 ms; `delay` is the delay of each in milliseconds. Returns what each meant,
    /// and the threshold at each.
    fn trace(count: u32, delay: impl Fn(u32) -> f64) -> Vec<(Usage, f64)> {
        let mut trendline = Trendline::default();
        let arrival =
            |n: u32| Duration::from_secs_f64((f64::from(n) * 20.0 + delay(n) + 50.0) / 1000.0);
        (1..count)
            .map(|n| {
                let usage = trendline.handle_group(GroupDelta {
                    sent: Duration::from_millis(20),
                    arrived: arrival(n).saturating_sub(arrival(n - 1)),
                    arrival: arrival(n),
                });
                (usage, trendline.threshold)
            })
            .collect()
    }

    fn run(count: u32, delay: impl Fn(u32) -> f64) -> Vec<Usage> {
        trace(count, delay)
            .iter()
            .map(|(usage, _)| *usage)
            .collect()
    }

    fn jitter(n: u32) -> f64 {
        f64::from(n * 7919 % 13) / 3.0
    }

    #[test]
    fn a_steady_delay_with_jitter_is_normal() {
        let usages = run(1000, jitter);
        assert!(usages.iter().all(|&usage| usage == Usage::Normal));
    }

    #[test]
    fn a_growing_queue_is_overuse_within_half_a_second_and_an_emptying_one_underuse() {
        for per_group in [1.0, 4.0, 20.0] {
            let grows = |n: u32| f64::from(n.saturating_sub(100)) * per_group;
            let usages = run(200, grows);
            let noticed = usages.iter().position(|&usage| usage == Usage::Over);
            assert!(matches!(noticed, Some(99..125)), "{per_group}: {noticed:?}");
        }
        let shrinks = |n: u32| 400.0 - f64::from(n.saturating_sub(100).min(80)) * 5.0;
        assert!(run(200, shrinks).contains(&Usage::Under));
    }

    #[test]
    fn a_lone_spike_is_not_overuse_for_long() {
        let spike = |n: u32| if n == 100 { 60.0 } else { 0.0 };
        let usages = run(300, spike);
        let over = usages.iter().filter(|&&usage| usage == Usage::Over).count();
        assert!(over < 20, "{over}");
        assert_eq!(usages.last(), Some(&Usage::Normal));
    }

    #[test]
    fn the_threshold_gets_used_to_a_slow_drift() {
        let drift = trace(200, |n| f64::from(n.saturating_sub(100).min(30)) * 1.2);
        let [quiet, drifting, quiet_again] = [98, 128, 198].map(|n| drift[n].1);
        assert!(quiet < 7.0 && drifting > 9.0, "{quiet} {drifting}");
        assert!(quiet_again < 7.0, "{quiet_again}");
    }

    proptest! {
        #[test]
        fn the_threshold_stays_in_range(deltas in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u64>()), 0..200)) {
            let mut trendline = Trendline::default();
            for (sent, arrived, arrival) in deltas {
                trendline.handle_group(GroupDelta {
                    sent: Duration::from_micros(sent.into()),
                    arrived: Duration::from_micros(arrived.into()),
                    arrival: Duration::from_micros(arrival),
                });
                prop_assert!((MIN_THRESHOLD..=MAX_THRESHOLD).contains(&trendline.threshold));
            }
        }
    }
}
