//! Which transactions of a client's checks were seen of late, and by which path each came first.
//!
//! A check proves that its maker knows our password, not where that is: whoever hears one can send it
//! again from elsewhere. A client makes a new transaction for each check, or for each pair (libjuice), and repeats one
//! only by the path that it is for (RFC 8445 section 7.2.4, RFC 8489 section 6.2.1).

/// Transactions that are remembered: ten minutes of a client that checks one pair every 2.5 s, ten
/// seconds of one that begins on several. They take 8 kB. What is older still proves nothing by itself:
/// its path is asked before it gets anything from a path that is alive.
const REMEMBERED: usize = 256;

/// The latest transactions of one client.
#[derive(Default)]
pub(super) struct Seen {
    /// Grows to [`REMEMBERED`] once.
    latest: Vec<(u128, u32)>,
    /// Where the next one goes once it has grown.
    oldest: usize,
}

impl Seen {
    /// The path that a transaction came by first, if it was seen.
    pub(super) fn path_of(&self, transaction: u128) -> Option<u32> {
        let mut latest = self.latest.iter();
        let seen = latest.find(|(other, _)| *other == transaction);
        seen.map(|(_, path)| *path)
    }

    /// Notes a transaction that was not seen before, and its path.
    pub(super) fn note(&mut self, transaction: u128, path: u32) {
        if self.latest.len() < REMEMBERED {
            self.latest.push((transaction, path));
        } else {
            if let Some(oldest) = self.latest.get_mut(self.oldest) {
                *oldest = (transaction, path);
            }
            self.oldest = (self.oldest + 1) % REMEMBERED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_transactions_are_remembered() {
        let mut seen = Seen::default();
        for n in 0..1000_u32 {
            assert_eq!(seen.path_of(n.into()), None);
            seen.note(n.into(), n % 7);
            assert_eq!(seen.path_of(n.into()), Some(n % 7));
        }
        let kept = (0..1000_u32).filter(|&n| seen.path_of(n.into()).is_some());
        assert_eq!(kept.collect::<Vec<_>>(), (744..1000).collect::<Vec<_>>());
    }
}
