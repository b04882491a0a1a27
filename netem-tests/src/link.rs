//! One direction of a client's network.
//!
//! In: the time a datagram is sent. Out: the time it arrives, or that it does not. Loss is random
//! and independent, the delay is fixed, so datagrams keep their order.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// One way through the network.
#[derive(Debug)]
pub struct Link {
    /// From sending to arrival.
    pub delay: Duration,
    /// The probability that a datagram is lost, 0 to 1.
    pub loss: f64,
    rng: StdRng,
}

impl Link {
    /// A link that loses nothing. The seed decides what it will lose once `loss` is set.
    #[must_use]
    pub fn new(delay: Duration, seed: u64) -> Self {
        Link {
            delay,
            loss: 0.0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// When a datagram sent now arrives; `None` when it is lost.
    pub fn send(&mut self, now: Instant) -> Option<Instant> {
        // One draw per datagram, lost or not: a change of `loss` shifts no later decision.
        let survives = self.rng.random::<f64>() >= self.loss;
        survives.then_some(now + self.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_as_asked_and_decided_by_the_seed() {
        let now = Instant::now();
        let run = |seed| -> Vec<bool> {
            let mut link = Link::new(Duration::from_millis(20), seed);
            link.loss = 0.1;
            (0..10_000).map(|_| link.send(now).is_none()).collect()
        };
        let lost = run(7).into_iter().filter(|&lost| lost).count();
        assert!((900..1100).contains(&lost), "{lost}");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
