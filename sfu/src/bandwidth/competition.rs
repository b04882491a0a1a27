//! Whether the queue is somebody else's.
//!
//! In: how long packets are held up, at what rate they arrive, and when the rate went down because
//! of that. Out: whether another flow fills the queue, and would have the link to itself if we went on giving way
//! (a download by TCP does that).
//!
//! A link whose queue is our own delivers at its capacity until the queue is empty. When less arrives
//! than that, at 85 % for one second, 150 ms of queue must be gone; if they are not, the queue is
//! not our own. As with loss, it is the response that tells.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// By how much the queue would have emptied, until it is judged: more than jitter explains.
const DUE: Duration = Duration::from_millis(150);

/// It has not emptied if it has by less than this share of what was due.
const EMPTIED: f64 = 0.25;

/// A queue of less is none (as in [`loss_experiment`](super::loss_experiment), and some jitter).
const NO_QUEUE: Duration = Duration::from_millis(40);

/// A queue that has grown to this many times what it was then, and this much more, is fed by us.
const GROWN: u32 = 2;
const GROWN_BY: Duration = Duration::from_millis(100);

/// A queue that is empty for so long is nobody's any more. TCP empties it whenever it has lost
/// something, and takes some seconds to fill it again: with a window of 60 packets, Cubic 3.6 s (K of
/// RFC 9438 section 4.2).
const GONE: Duration = Duration::from_secs(5);

/// After this time it is judged anew, in case it was our own after all.
const BELIEF: Duration = Duration::from_secs(20);

/// So long has a queue that we can give way to no more to be there: longer than draining one takes.
const STUCK: Duration = Duration::from_millis(1500);

/// After this time what is sent since a decrease has passed the queue: as long as the queue can be that
/// a call bears.
const TAKES_EFFECT: Duration = Duration::from_millis(500);

/// Over how long the least is looked for: longer than a frame takes to be sent, and than Wi-Fi holds
/// packets together.
const LEAST_WINDOW: Duration = Duration::from_millis(500);

/// Most samples within it.
const MAX_SAMPLES: usize = 64;

/// The last time the rate went down.
#[derive(Clone, Copy, Debug)]
struct Decrease {
    /// The first of several.
    at: Instant,
    /// What the link carried of ours.
    capacity: Bitrate,
    /// How long packets were held up.
    queueing: Duration,
    /// By how much that should have become less since.
    due: Duration,
}

/// What is known of others on the path to one peer.
#[derive(Debug, Default)]
pub(crate) struct Competition {
    /// The least of each feedback.
    samples: VecDeque<(Instant, Duration)>,
    decrease: Option<Decrease>,
    last: Option<Instant>,
    /// When the queue was found to be another's, and how long it was.
    since: Option<(Instant, Duration)>,
    /// Since when there has been no queue.
    empty: Option<Instant>,
    /// When there was none last.
    emptied: Option<Instant>,
    /// Since when there has been a queue that does not get shorter and that we cannot give way to, and
    /// the longest it has been.
    stuck: Option<(Instant, Duration)>,
}

impl Competition {
    /// Whether the queue is another's.
    #[must_use]
    pub(crate) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// The rate went down because a queue grew.
    pub(crate) fn handle_decrease(&mut self, now: Instant, capacity: Bitrate) {
        let queueing = self.least();
        match &mut self.decrease {
            // One of several: the queue has not grown since the first, or not for what was sent before.
            Some(decrease)
                if queueing <= decrease.queueing
                    || now.saturating_duration_since(decrease.at) >= TAKES_EFFECT =>
            {
                decrease.capacity = capacity;
            }
            decrease => {
                *decrease = Some(Decrease {
                    at: now,
                    capacity,
                    queueing,
                    due: Duration::ZERO,
                });
            }
        }
    }

    /// Notes the least time that packets of one feedback were held up, and the rate at which they
    /// arrive. `gives_way` says whether less can be sent, or less is being sent, for the queue's sake.
    pub(crate) fn handle_feedback(
        &mut self,
        now: Instant,
        queueing: Duration,
        rate: Bitrate,
        gives_way: bool,
    ) {
        self.samples.push_back((now, queueing));
        while self.samples.len() > MAX_SAMPLES
            || self
                .samples
                .front()
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) > LEAST_WINDOW)
        {
            self.samples.pop_front();
        }
        let since = now.saturating_duration_since(self.last.replace(now).unwrap_or(now));
        let least = self.least();
        let is_empty = least < NO_QUEUE;
        self.empty = is_empty.then(|| self.empty.unwrap_or(now));
        let is_gone = self
            .empty
            .is_some_and(|at| now.saturating_duration_since(at) >= GONE);
        let is_over = |(at, was): (Instant, Duration)| {
            now.saturating_duration_since(at) >= BELIEF || least > was * GROWN + GROWN_BY
        };
        self.since = self.since.filter(|since| !is_gone && !is_over(*since));
        if is_empty {
            self.decrease = None;
            self.emptied = Some(now);
        }
        self.handle_stuck(now, least, !gives_way && !is_empty);
        let Some(decrease) = &mut self.decrease else {
            return;
        };
        let spare = (1.0 - rate.ratio(decrease.capacity)).clamp(0.0, 1.0);
        decrease.due += since.min(LEAST_WINDOW).mul_f64(spare);
        if decrease.due >= DUE {
            let emptied = decrease.queueing.saturating_sub(least);
            if emptied < decrease.due.mul_f64(EMPTIED) {
                self.since.get_or_insert((now, least));
                self.decrease = None;
            }
        }
    }

    /// A link that is too narrow even for the audio would not have emptied its queue either.
    fn handle_stuck(&mut self, now: Instant, least: Duration, is_stuck: bool) {
        let since = |at: Instant| now.saturating_duration_since(at);
        let has_emptied = self.emptied.is_some_and(|at| since(at) < BELIEF);
        if !is_stuck || !has_emptied {
            self.stuck = None;
            return;
        }
        let (at, longest) = self.stuck.unwrap_or((now, least));
        self.stuck = (least >= longest.mul_f64(1.0 - EMPTIED)).then_some((at, longest.max(least)));
        if self.stuck.is_some() && since(at) >= STUCK {
            self.since.get_or_insert((now, least));
        }
    }

    fn least(&self) -> Duration {
        let samples = self.samples.iter().map(|(_, queueing)| *queueing);
        samples.min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Feedback every 100 ms for some seconds, in which the queue is as it is; after the first, the
    /// rate goes down from 1000 to 850 kbit/s. Says in which of them the queue was another's.
    fn run(seconds: u32, queueing: impl Fn(u32) -> u32) -> Vec<bool> {
        let start = Instant::now();
        let mut competition = Competition::default();
        (0..seconds * 10)
            .map(|n| {
                let now = start + 100 * MS * n;
                competition.handle_feedback(now, MS * queueing(n), Bitrate::kbps(850), true);
                if n == 10 {
                    competition.handle_decrease(now, Bitrate::kbps(1000));
                }
                competition.is_on()
            })
            .collect()
    }

    #[test]
    fn a_queue_that_empties_is_our_own() {
        for full in [100, 300, 2000] {
            let on = run(60, |n| {
                (full + 15 * n.min(10)).saturating_sub(15 * n.saturating_sub(10))
            });
            assert!(!on.contains(&true), "{full}");
        }
    }

    #[test]
    fn a_queue_that_does_not_is_anothers_until_it_is_gone_or_for_a_while() {
        let on = run(60, |n| if n < 100 { 150 + n % 7 } else { 0 });
        let (began, ended) = (on.iter().position(|on| *on), on.iter().rposition(|on| *on));
        assert!(matches!(began, Some(18..24)), "{began:?}");
        assert!(matches!(ended, Some(146..156)), "{ended:?}");
        let on = run(60, |_| 150).iter().filter(|on| **on).count();
        assert_eq!(on, 200, "until it is judged anew");
    }

    #[test]
    fn one_that_tcp_empties_and_fills_again_is_still_anothers() {
        let on = run(20, |n| if n < 30 || n % 40 > 10 { 150 } else { 0 });
        let began = on.iter().position(|on| *on).expect("found");
        assert!(on[began..].iter().all(|on| *on));
    }

    /// The same with audio alone, of which no less can be sent.
    fn run_with_sound(seconds: u32, queueing: impl Fn(u32) -> u32) -> bool {
        let start = Instant::now();
        let mut competition = Competition::default();
        (0..seconds * 10).any(|n| {
            let now = start + 100 * MS * n;
            competition.handle_feedback(now, MS * queueing(n), Bitrate::kbps(115), false);
            competition.is_on()
        })
    }

    #[test]
    fn sound_alone_does_not_fill_a_queue_that_it_left_empty() {
        assert!(
            run_with_sound(10, |n| n * 5 % 200),
            "grows and is empty again"
        );
        assert!(
            !run_with_sound(60, |_| 150),
            "the link is too narrow for sound"
        );
        let drained =
            |n: u32| 1000u32.saturating_sub(n.saturating_sub(10) * 50) * u32::from(n > 10);
        assert!(!run_with_sound(10, drained), "a queue of ours");
    }

    #[test]
    fn one_that_grows_without_end_is_fed_by_us() {
        let on = run(60, |n| if n < 30 { 150 } else { 150 + (n - 30) * 10 });
        assert!(matches!(on.iter().rposition(|on| *on), Some(50..65)));
    }

    #[test]
    fn jitter_is_no_queue() {
        assert!(!run(60, |n| n * 31 % 80).contains(&true));
    }
}
