//! Whose packets come by which way.
//!
//! In: who has passed a check by a way, and who has proved to be there. Out: the owner, whose packets all
//! are that come this way and are no checks. A check alone makes nobody the owner of what is another's:
//! its source address may be forged. Who makes one is a contender, and is asked.

use std::collections::HashMap;

use crate::types::PeerId;
use crate::way::Way;

/// Most who are asked at a time whether they are there: whoever forges checks is one of them, and must not
/// keep an honest newcomer from being heard.
const MAX_CONTENDERS: usize = 4;

/// Who is at the other end of a way.
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

/// The ways of all peers of a worker. There are as many as their peers remember, at most.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: HashMap<Way, Claim>,
}

impl Claims {
    /// Whose a way is.
    pub(super) fn owner(&self, way: Way) -> Option<PeerId> {
        self.claims.get(&way)?.owner
    }

    /// Who may be there: the owner, and who says to be.
    pub(super) fn claimants(&self, way: Way) -> impl Iterator<Item = PeerId> + use<> {
        let claim = self.claims.get(&way).cloned().unwrap_or_default();
        claim.owner.into_iter().chain(claim.contenders)
    }

    /// Makes a way a peer's. Says whether it was not before.
    pub(super) fn give(&mut self, way: Way, peer: PeerId) -> bool {
        let claim = self.claims.entry(way).or_default();
        claim.contenders.retain(|contender| *contender != peer);
        claim.owner.replace(peer) != Some(peer)
    }

    /// Notes that a peer says to be where another is, or where nobody is for certain.
    pub(super) fn contend(&mut self, way: Way, peer: PeerId) {
        let claim = self.claims.entry(way).or_default();
        if claim.owner == Some(peer) || claim.contenders.contains(&peer) {
            return;
        }
        if claim.contenders.len() == MAX_CONTENDERS {
            claim.contenders.remove(0);
        }
        claim.contenders.push(peer);
    }

    /// A peer does not count a way as its own any more.
    pub(super) fn forget(&mut self, way: Way, peer: PeerId) {
        let Some(claim) = self.claims.get_mut(&way) else {
            return;
        };
        claim.forget(peer);
        if claim.is_empty() {
            self.claims.remove(&way);
        }
    }

    /// A way is no more. Returns whose it was.
    pub(super) fn close(&mut self, way: Way) -> impl Iterator<Item = PeerId> + use<> {
        let claim = self.claims.remove(&way).unwrap_or_default();
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
        let way = Way::from(SocketAddr::from(([192, 0, 2, 1], 1000)));
        let mut claims = Claims::default();
        assert!(claims.give(way, alice) && !claims.give(way, alice));
        for contender in [bob, mallory, bob] {
            claims.contend(way, contender);
            assert_eq!(claims.owner(way), Some(alice));
        }
        assert_eq!(
            claims.claimants(way).collect::<Vec<_>>(),
            [alice, bob, mallory]
        );
        assert!(claims.give(way, mallory));
        assert_eq!(claims.claimants(way).collect::<Vec<_>>(), [mallory, bob]);
        claims.contend(way, mallory);
        assert_eq!(claims.claimants(way).count(), 2);
        claims.forget(way, mallory);
        assert_eq!(
            (claims.owner(way), claims.claimants(way).count()),
            (None, 1)
        );
        claims.forget_peer(bob);
        assert!(claims.claims.is_empty());
        claims.give(way, alice);
        assert_eq!(claims.close(way).collect::<Vec<_>>(), [alice]);
        assert!(claims.claims.is_empty());
    }

    #[test]
    fn one_who_says_to_be_everywhere_keeps_nobody_from_being_asked() {
        let way = Way::from(SocketAddr::from(([192, 0, 2, 1], 1000)));
        let mut claims = Claims::default();
        claims.give(way, PeerId(1));
        for _ in 0..10 {
            claims.contend(way, PeerId(2));
            claims.contend(way, PeerId(3));
        }
        assert!(claims.claimants(way).any(|peer| peer == PeerId(2)));
        (4..1000).for_each(|peer| claims.contend(way, PeerId(peer)));
        assert_eq!(claims.claimants(way).count(), 1 + MAX_CONTENDERS);
    }
}
