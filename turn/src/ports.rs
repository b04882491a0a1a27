//! Which ports of a relay address are free (RFC 8656 section 7.2).
//!
//! In: a request for any port, an even one, or an even one and the next. Out: a port at random, so that
//! it cannot be guessed (RFC 6056). A bit for each port; a search looks at 1024 words at most. A port that
//! has been given back rests: peers, and packets on their way, do not know yet that it is nobody's.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use rand::Rng;

/// The relay ports by default: the dynamic ones (RFC 8656 section 7.2).
pub(crate) const DEFAULT_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Bits of a word.
const WORD: usize = 64;

/// Which part of the ports rests at most, and never more than so many. They rest the longer the less
/// others come and go.
const RESTING_PART: usize = 4;
const MAX_RESTING: usize = 4096;

/// The bits of even ports in a word.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// What port is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PortRequest {
    Any,
    Even,
    /// An even one, and the next to be reserved.
    Pair,
}

/// The ports of one address.
#[derive(Debug)]
pub(crate) struct Ports {
    /// A set bit is a free port. The words cover the range and nothing far from it, so that a word
    /// at random is a part of the range at random.
    free: Vec<u64>,
    /// The number of the first bit.
    base: usize,
    /// Ports that have been given back, the first of them first.
    resting: VecDeque<u16>,
    max_resting: usize,
}

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        let (start, end) = (usize::from(*range.start()), usize::from(*range.end()));
        let mut ports = Ports {
            free: vec![0; (end / WORD + 1).saturating_sub(start / WORD).max(1)],
            base: start / WORD * WORD,
            resting: VecDeque::new(),
            max_resting: (range.len() / RESTING_PART).min(MAX_RESTING),
        };
        for port in range.filter(|&port| port != 0) {
            ports.set(port, true);
        }
        ports
    }

    /// Takes a port, and with [`PortRequest::Pair`] the next one too. One that rests is better than none.
    pub(crate) fn take(&mut self, request: PortRequest, rng: &mut impl Rng) -> Option<u16> {
        let mut port = self.find(request, rng);
        while port.is_none()
            && let Some(resting) = self.resting.pop_front()
        {
            self.set(resting, true);
            // Nothing else has changed.
            let index = (usize::from(resting) - self.base) / WORD;
            port = self.find_in(index, u64::MAX, request, rng);
        }
        let port = u16::try_from(port?).ok()?;
        self.keep(port);
        if request == PortRequest::Pair {
            self.keep(port + 1);
        }
        Some(port)
    }

    fn find(&self, request: PortRequest, rng: &mut impl Rng) -> Option<usize> {
        let words = self.free.len();
        let first = rng.random_range(0..words);
        // The first word is looked at again in the end: its part before the chance bit.
        let turn = rng.random_range(0..WORD as u32);
        (0..=words).find_map(|n| {
            let part = match n {
                0 => u64::MAX << turn,
                n if n == words => !(u64::MAX << turn),
                _ => u64::MAX,
            };
            self.find_in((first + n) % words, part, request, rng)
        })
    }

    /// One of those in a word that are of this part of it.
    fn find_in(
        &self,
        index: usize,
        part: u64,
        request: PortRequest,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let bit = pick(self.fitting(index, request) & part, rng)?;
        Some(self.base + index * WORD + bit)
    }

    /// Gives a port back.
    pub(crate) fn give(&mut self, port: u16) {
        self.resting.push_back(port);
        while self.resting.len() > self.max_resting
            && let Some(rested) = self.resting.pop_front()
        {
            self.set(rested, true);
        }
    }

    fn keep(&mut self, port: u16) {
        self.set(port, false);
    }

    fn set(&mut self, port: u16, is_free: bool) {
        let bit = usize::from(port).checked_sub(self.base);
        let Some((n, word)) = bit.and_then(|n| Some((n, self.free.get_mut(n / WORD)?))) else {
            return;
        };
        let mask = 1 << (n % WORD);
        match is_free {
            true => *word |= mask,
            false => *word &= !mask,
        }
    }

    /// The ports of a word that fit a request. A pair never spans two words.
    fn fitting(&self, index: usize, request: PortRequest) -> u64 {
        let free = self.free[index];
        match request {
            PortRequest::Any => free,
            PortRequest::Even => free & EVEN,
            PortRequest::Pair => free & (free >> 1) & EVEN,
        }
    }
}

/// One of the set bits at random.
fn pick(mut bits: u64, rng: &mut impl Rng) -> Option<usize> {
    let count = bits.count_ones();
    if count == 0 {
        return None;
    }
    for _ in 0..rng.random_range(0..count) {
        bits &= bits - 1;
    }
    Some(bits.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn every_port_is_given_once_and_no_other() {
        let (mut ports, mut rng) = (Ports::new(1000..=1200), StdRng::seed_from_u64(1));
        let taken: HashSet<u16> = (0..201)
            .map(|_| ports.take(PortRequest::Any, &mut rng).unwrap())
            .collect();
        assert_eq!(taken, (1000..=1200).collect());
        assert_eq!(ports.take(PortRequest::Any, &mut rng), None);
        ports.give(1100);
        assert_eq!(ports.take(PortRequest::Even, &mut rng), Some(1100));
    }

    #[test]
    fn even_ports_and_pairs() {
        let (mut ports, mut rng) = (Ports::new(1001..=1008), StdRng::seed_from_u64(1));
        let pairs: HashSet<u16> = (0..3)
            .map(|_| ports.take(PortRequest::Pair, &mut rng).unwrap())
            .collect();
        assert_eq!(pairs, [1002, 1004, 1006].into());
        assert_eq!(
            ports.take(PortRequest::Pair, &mut rng),
            None,
            "1008 has no next"
        );
        assert_eq!(ports.take(PortRequest::Even, &mut rng), Some(1008));
        assert_eq!(ports.take(PortRequest::Even, &mut rng), None);
        assert_eq!(ports.take(PortRequest::Any, &mut rng), Some(1001));
    }

    #[test]
    fn the_ends_of_the_range_are_ports_like_the_others_and_zero_is_none() {
        let (mut ports, mut rng) = (Ports::new(0..=u16::MAX), StdRng::seed_from_u64(1));
        let taken: HashSet<u16> =
            std::iter::from_fn(|| ports.take(PortRequest::Any, &mut rng)).collect();
        assert_eq!(taken.len(), 65_535);
        assert!(taken.contains(&u16::MAX) && !taken.contains(&0));
        ports.give(65_534);
        ports.give(65_535);
        assert_eq!(ports.take(PortRequest::Pair, &mut rng), Some(65_534));
    }

    #[test]
    fn the_next_port_does_not_follow_from_the_last() {
        let (mut ports, mut rng) = (Ports::new(DEFAULT_PORTS), StdRng::seed_from_u64(7));
        let taken: Vec<u16> = (0..100)
            .map(|_| ports.take(PortRequest::Any, &mut rng).unwrap())
            .collect();
        let near = taken.windows(2).filter(|w| w[0].abs_diff(w[1]) < 64);
        assert!(near.count() < 5);
    }
}
