//! What the two sides of ICE prove their checks with (RFC 8445 section 5.3).

use rand::{CryptoRng, Rng};

use crate::types::WorkerIndex;

/// Characters of a ufrag that are random: 48 bits, where RFC 8445 section 5.3 asks for 24. Ufrags of
/// thousands of peers must differ, because packets are told apart by them.
const UFRAG_LEN: usize = 8;

/// Characters before them that say which worker has the peer, so that a connection to a port that
/// all workers share finds it: 18 bits, and a worker is a thread of one machine.
const WORKER_LEN: usize = 3;

/// Characters of a password we make: 144 bits, where RFC 8445 section 5.3 asks for 128.
const PWD_LEN: usize = 24;

/// The 64 characters of `ice-char` (RFC 8445 section 5.3).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What one side proves its checks with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The username fragment: 4 to 256 `ice-char`.
    pub ufrag: String,
    /// The password: 22 to 256 `ice-char`.
    pub pwd: String,
}

#[allow(
    clippy::indexing_slicing,
    reason = "a place among the characters is taken modulo their number, and none of it from the network"
)]
impl Credentials {
    /// Fresh random credentials.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut text = |len| -> String {
            (0..len)
                .map(|_| char::from(ICE_CHARS[rng.random_range(0..ICE_CHARS.len())]))
                .collect()
        };
        Credentials {
            ufrag: text(UFRAG_LEN),
            pwd: text(PWD_LEN),
        }
    }

    /// Fresh random credentials of a peer on this worker, whom [`worker_of`] finds by them.
    #[must_use]
    pub fn of_worker(worker: WorkerIndex, rng: &mut impl CryptoRng) -> Self {
        let Credentials { ufrag, pwd } = Credentials::generate(rng);
        let digit =
            |place: usize| char::from(ICE_CHARS[(worker.0 >> (6 * place)) % ICE_CHARS.len()]);
        let ufrag = (0..WORKER_LEN).map(digit).chain(ufrag.chars()).collect();
        Credentials { ufrag, pwd }
    }
}

/// The worker whose peer has this ufrag of ours. Any client can make one up that names any worker.
#[must_use]
pub fn worker_of(ufrag: &str) -> Option<WorkerIndex> {
    let digits = ufrag.as_bytes().get(..WORKER_LEN)?;
    let place = |digit| ICE_CHARS.iter().position(|c| c == digit);
    digits
        .iter()
        .rev()
        .try_fold(0, |worker, digit| Some((worker << 6) + place(digit)?))
        .map(WorkerIndex)
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn generated_credentials_are_ice_chars_and_differ() {
        let mut rng = StdRng::seed_from_u64(5);
        let a = Credentials::generate(&mut rng);
        let b = Credentials::generate(&mut rng);
        assert_ne!(a, b);
        assert_eq!((a.ufrag.len(), a.pwd.len()), (UFRAG_LEN, PWD_LEN));
        assert!(a.pwd.bytes().all(|c| ICE_CHARS.contains(&c)));
        assert!(
            !format!("{a:?}").contains(&a.pwd),
            "passwords stay out of logs"
        );
    }

    #[test]
    fn a_ufrag_says_which_worker_it_is_of() {
        let mut rng = StdRng::seed_from_u64(5);
        for worker in [0, 1, 63, 64, 4097, usize::from(u16::MAX)].map(WorkerIndex) {
            let made = Credentials::of_worker(worker, &mut rng);
            assert_eq!(worker_of(&made.ufrag), Some(worker), "{}", made.ufrag);
            assert_eq!(made.ufrag.len(), WORKER_LEN + UFRAG_LEN);
        }
        for nobodys in ["", "AA", "A:A", "AA\u{e9}"] {
            assert_eq!(worker_of(nobodys), None, "{nobodys}");
        }
    }
}
