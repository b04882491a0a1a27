//! Whose packets come by which path.
//!
//! In: who has passed a check by a path, and who has proved to be there. Out: the owner, whose packets all
//! are that come by this path and are no checks. A check alone makes nobody the owner of what is another's:
//! its source address may be forged. Who makes one is a contender, and is asked.

use std::collections::HashMap;

use crate::path::Path;
use crate::types::PeerId;

/// Most who are asked at a time whether they are there: whoever forges checks is one of them, and must not
/// keep an honest newcomer from being heard.
const MAX_CONTENDERS: usize = 4;

/// Who is at the other end of a path.
#[derive(Clone, Debug, Default)]
struct Claim {
    owner: Option<PeerId>,
    /// The last ones who said to be there while it was another's, the latest last.
    contenders: Vec<PeerId>,
}

impl Claim {
    fn forget(&mut self, peer: PeerId) {
        self.owner.take_if(|owner| *owner == peer);
        self.contenders.retain(|contender| *contender != peer);
    }

    fn is_empty(&self) -> bool {
        self.owner.is_none() && self.contenders.is_empty()
    }
}

/// The paths of all peers of a worker. There are as many as their peers remember, at most.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: HashMap<Path, Claim>,
}

impl Claims {
    /// Who owns a path.
    pub(super) fn owner(&self, path: Path) -> Option<PeerId> {
        self.claims.get(&path)?.owner
    }

    /// Who may be there: the owner, and who says to be.
    pub(super) fn claimants(&self, path: Path) -> impl Iterator<Item = PeerId> + use<> {
        let claim = self.claims.get(&path).cloned().unwrap_or_default();
        claim.owner.into_iter().chain(claim.contenders)
    }

    /// Makes a path a peer's. Says whether it was not before.
    pub(super) fn give(&mut self, path: Path, peer: PeerId) -> bool {
        let claim = self.claims.entry(path).or_default();
        claim.contenders.retain(|contender| *contender != peer);
        claim.owner.replace(peer) != Some(peer)
    }

    /// Notes that a peer says to be where another is, or where nobody is for certain.
    pub(super) fn contend(&mut self, path: Path, peer: PeerId) {
        let claim = self.claims.entry(path).or_default();
        if claim.owner == Some(peer) || claim.contenders.contains(&peer) {
            return;
        }
        if claim.contenders.len() == MAX_CONTENDERS {
            claim.contenders.remove(0);
        }
        claim.contenders.push(peer);
    }

    /// A peer does not count a path as its own any more.
    pub(super) fn forget(&mut self, path: Path, peer: PeerId) {
        let Some(claim) = self.claims.get_mut(&path) else {
            return;
        };
        claim.forget(peer);
        if claim.is_empty() {
            self.claims.remove(&path);
        }
    }

    /// A path is no more. Returns whose it was.
    pub(super) fn close(&mut self, path: Path) -> impl Iterator<Item = PeerId> + use<> {
        let claim = self.claims.remove(&path).unwrap_or_default();
        claim.owner.into_iter().chain(claim.contenders)
    }

    /// A peer is gone.
    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.claims.retain(|_, claim| {
            claim.forget(peer);
            !claim.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_way_has_an_owner_and_one_who_says_to_be_there() {
        let (alice, bob, mallory) = (PeerId(1), PeerId(2), PeerId(3));
        let path = Path::from(SocketAddr::from(([192, 0, 2, 1], 1000)));
        let mut claims = Claims::default();
        assert!(claims.give(path, alice) && !claims.give(path, alice));
        for contender in [bob, mallory, bob] {
            claims.contend(path, contender);
            assert_eq!(claims.owner(path), Some(alice));
        }
        assert_eq!(
            claims.claimants(path).collect::<Vec<_>>(),
            [alice, bob, mallory]
        );
        assert!(claims.give(path, mallory));
        assert_eq!(claims.claimants(path).collect::<Vec<_>>(), [mallory, bob]);
        claims.contend(path, mallory);
        assert_eq!(claims.claimants(path).count(), 2);
        claims.forget(path, mallory);
        assert_eq!(
            (claims.owner(path), claims.claimants(path).count()),
            (None, 1)
        );
        claims.forget_peer(bob);
        assert!(claims.claims.is_empty());
        claims.give(path, alice);
        assert_eq!(claims.close(path).collect::<Vec<_>>(), [alice]);
        assert!(claims.claims.is_empty());
    }

    #[test]
    fn one_who_says_to_be_everywhere_keeps_nobody_from_being_asked() {
        let path = Path::from(SocketAddr::from(([192, 0, 2, 1], 1000)));
        let mut claims = Claims::default();
        claims.give(path, PeerId(1));
        for _ in 0..10 {
            claims.contend(path, PeerId(2));
            claims.contend(path, PeerId(3));
        }
        assert!(claims.claimants(path).any(|peer| peer == PeerId(2)));
        (4..1000).for_each(|peer| claims.contend(path, PeerId(peer)));
        assert_eq!(claims.claimants(path).count(), 1 + MAX_CONTENDERS);
    }
}
