//! Whether UDP loses so much, for so long, that another path may be better.
//!
//! In: once a second, the share of packets that the link loses whatever is sent. Out: that it has been
//! hopeless, told again when it stays so. A call at such loss is usable, so only who knows that TCP does
//! not lose as much should leave: we say what is seen here, and the client looks at the rest.

use std::time::{Duration, Instant};

/// The loss in the worse of the two directions from which on a path counts as bad.
const HOPELESS: f64 = 0.25;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// So many looks are remembered, and so many of them, the most, have to be bad.
const LOOKS: u32 = 30;
const MOST: u32 = LOOKS / 2 + 1;

/// What the last looks have shown.
#[derive(Debug, Default)]
pub(super) struct Hopeless {
    /// A bit for each look, the last one lowest: whether it was bad.
    bad: u32,
    next: Option<Instant>,
}

impl Hopeless {
    /// When to look next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Looks, if it is time. Says whether the path has been hopeless for most of half a minute; after it
    /// has said so it begins anew.
    pub(super) fn poll(&mut self, now: Instant, loss: f64) -> bool {
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.next = Some(now + INTERVAL);
        let remembered = (1 << LOOKS) - 1;
        self.bad = (self.bad << 1 | u32::from(loss >= HOPELESS)) & remembered;
        let is_hopeless = self.bad.count_ones() >= MOST;
        if is_hopeless {
            self.bad = 0;
        }
        is_hopeless
    }

    /// Media takes another path, of which nothing is known.
    pub(super) fn reset(&mut self) {
        self.bad = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second with each loss; returns after how many of them it was told.
    fn told_after(losses: impl IntoIterator<Item = f64>) -> Vec<u32> {
        let (start, mut hopeless) = (Instant::now(), Hopeless::default());
        let mut told = Vec::new();
        for (second, loss) in (1..).zip(losses) {
            let now = start + INTERVAL * second;
            if hopeless.poll(now, loss) {
                told.push(second);
            }
            assert!(!hopeless.poll(now, 1.0), "once a second is enough");
            assert_eq!(hopeless.next_deadline(), Some(now + INTERVAL));
        }
        told
    }

    #[test]
    fn it_takes_most_of_half_a_minute() {
        assert_eq!(told_after([0.3; 40]), [16, 32]);
        assert_eq!(told_after([0.24; 100]), []);
        // Two thirds are most, and a half is not.
        let pattern = |bad: usize, of: usize| (0..60).map(move |n| f64::from(n % of < bad));
        assert_eq!(told_after(pattern(2, 3)), [23, 47]);
        assert_eq!(told_after(pattern(1, 2)), []);
    }

    #[test]
    fn bad_seconds_are_forgotten() {
        let before = [0.5; 15].into_iter().chain([0.0; 30]);
        assert_eq!(told_after(before.chain([0.5; 15])), []);
        let (now, mut hopeless) = (Instant::now(), Hopeless::default());
        for second in 0..15 {
            hopeless.poll(now + INTERVAL * second, 0.5);
        }
        hopeless.reset();
        assert!(!hopeless.poll(now + INTERVAL * 15, 0.5));
    }
}
