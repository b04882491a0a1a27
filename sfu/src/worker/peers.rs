//! The peers of a worker, and which of them may want to be woken at another time than before.
//!
//! In: whose state is about to change. Out: the peer; and, when a batch of input ends, all whose timers are
//! to be set anew. Whoever borrows a peer to change it has marked it by that: nobody can forget to.

use std::collections::HashMap;

use crate::peer::Peer;
use crate::types::PeerId;

#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: HashMap<PeerId, Peer>,
    /// May hold one several times.
    touched: Vec<PeerId>,
}

impl Peers {
    pub(super) fn insert(&mut self, id: PeerId, peer: Peer) {
        self.peers.insert(id, peer);
        self.touched.push(id);
    }

    pub(super) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        self.peers.remove(&id)
    }

    pub(super) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// A peer to change: it is asked anew when it wants to be woken.
    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.touched.push(id);
        self.peers.get_mut(&id)
    }

    /// A peer to send through, once for each packet: it is to be marked with [`mark`](Self::mark) if its
    /// pacer has kept something back.
    pub(super) fn get_to_send(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// Has a peer asked anew when it wants to be woken.
    pub(super) fn mark(&mut self, id: PeerId) {
        self.touched.push(id);
    }

    /// Those that were marked since the last call, the lowest first, each once.
    pub(super) fn take_marked(&mut self) -> Vec<PeerId> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// Gives back what [`take_marked`](Self::take_marked) returned, to be filled anew.
    pub(super) fn reuse(&mut self, mut marked: Vec<PeerId>) {
        marked.clear();
        if self.touched.is_empty() {
            self.touched = marked;
        }
    }

    pub(super) fn contains(&self, id: PeerId) -> bool {
        self.peers.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// All of them, the lowest first.
    pub(super) fn ids(&self) -> Vec<PeerId> {
        let mut ids: Vec<PeerId> = self.peers.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}
