//! Which packet indices were seen already (RFC 3711 section 3.3.2).

/// Bits in one word of the window.
const WORD: u64 = u64::BITS as u64;

/// A bitmap of the `64 * WORDS` indices around the highest one, kept as a ring: moving forward
/// clears words instead of shifting them all.
pub(super) struct ReplayWindow<const WORDS: usize> {
    highest: Option<u64>,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for ReplayWindow<WORDS> {
    fn default() -> Self {
        ReplayWindow {
            highest: None,
            seen: [0; WORDS],
        }
    }
}

#[allow(
    clippy::indexing_slicing,
    reason = "a word is counted modulo how many there are"
)]
impl<const WORDS: usize> ReplayWindow<WORDS> {
    /// The highest index accepted.
    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Whether this index may still be accepted: not seen, and not older than the window.
    pub(super) fn is_fresh(&self, index: u64) -> bool {
        match self.highest {
            None => true,
            Some(highest) if index > highest => true,
            Some(highest) => {
                highest / WORD - index / WORD < WORDS as u64
                    && self.seen[Self::word(index)] & Self::bit(index) == 0
            }
        }
    }

    /// Remembers a fresh index whose packet was authentic.
    pub(super) fn accept(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => {}
            Some(highest) => {
                let newer = (index / WORD - highest / WORD).min(WORDS as u64);
                for word in 1..=newer {
                    self.seen[Self::word(highest.wrapping_add(word * WORD))] = 0;
                }
                self.highest = Some(index);
            }
            None => self.highest = Some(index),
        }
        self.seen[Self::word(index)] |= Self::bit(index);
    }

    fn word(index: u64) -> usize {
        (index / WORD % WORDS as u64) as usize
    }

    fn bit(index: u64) -> u64 {
        1 << (index % WORD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_window_reaches_back_at_least_its_words_less_one() {
        let mut window = ReplayWindow::<3>::default();
        window.accept(1000);
        assert!(window.is_fresh(1000 - 128) && !window.is_fresh(1000 - 192));
        assert!(!window.is_fresh(1000));
    }

    #[test]
    fn a_jump_over_the_whole_window_forgets_it() {
        let mut window = ReplayWindow::<2>::default();
        (0..128).for_each(|index| window.accept(index));
        window.accept(1 << 40);
        assert!(window.is_fresh((1 << 40) - 1) && !window.is_fresh(127));
    }

    proptest! {
        /// Against a set of everything accepted: nothing twice, and nothing recent refused.
        #[test]
        fn nothing_is_accepted_twice(steps in prop::collection::vec(-200i64..100, 1..300)) {
            let mut window = ReplayWindow::<3>::default();
            let mut accepted = BTreeSet::new();
            let mut index = 10_000u64;
            for step in steps {
                index = index.saturating_add_signed(step);
                let fresh = window.is_fresh(index);
                prop_assert!(!(fresh && accepted.contains(&index)));
                let newest = accepted.last().copied().unwrap_or(0);
                if !accepted.contains(&index) && index + 128 > newest {
                    prop_assert!(fresh);
                }
                if fresh {
                    window.accept(index);
                    accepted.insert(index);
                }
            }
        }
    }
}
