//! What the controller has a worker do: peers come and go, tracks are published, slots are pointed at them.

use std::time::Instant;

use super::mailbox::Message;
use super::wanted_layers::INTERVAL;
use super::{Shared, Worker};
use crate::api::OfferError;
use crate::control::messages::{Answered, Command, Report, RequestId};
use crate::peer::sdp::Policy;
use crate::peer::{LocalSide, Peer};
use crate::publish::feed::{Feed, Origin, Subscriber};
use crate::publish::wanted_layers::Encodings;
use crate::subscribe::slot::Slot;
use crate::types::{Mid, PeerId, SlotIndex, TrackId, WorkerIndex};

impl Worker {
    pub(super) fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Offer {
                request,
                peer,
                create,
                sdp,
                may_publish,
                may_subscribe,
                is_whole,
                avoid_udp,
            } => {
                let policy = Policy {
                    may_publish,
                    may_subscribe,
                    is_whole,
                };
                let result = self.answer(now, peer, create, &sdp, policy);
                if let Some(peer) = self.peers.get_mut(peer).filter(|_| result.is_ok()) {
                    peer.set_avoids_udp(avoid_udp);
                }
                self.report(Report::Answered { request, result });
            }
            Command::RestartIce {
                request,
                peer,
                fragment,
            } => self.restart_ice(now, request, peer, &fragment),
            Command::Publish { peer, mid, track } => self.publish(now, peer, mid, track),
            Command::Unpublish { peer, track } => self.unpublish(peer, track),
            Command::Mute { peer, track, muted } => self.mute(now, peer, track, muted),
            Command::SetSlot { peer, mid, source } => self.set_slot(now, peer, mid, source),
            Command::SetView { peer, mid, view } => {
                if let Some(slot) = self.slot_named(peer, mid) {
                    slot.view = view;
                    self.reallocate(now, peer);
                }
            }
            Command::SetPriority {
                peer,
                mid,
                priority,
            } => {
                if let Some(slot) = self.slot_named(peer, mid) {
                    slot.priority = priority;
                    self.reallocate(now, peer);
                }
            }
            Command::Begin { peer, carried } => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.begin_with(carried);
                }
            }
            Command::Close { peer } => self.close_peer(now, peer),
            Command::Stats { request, peer } => {
                self.lent.stats.peers = self.peers.len() as u64;
                let peer = peer
                    .and_then(|id| self.peers.get(id))
                    .map(|p| Box::new(p.stats(now)));
                let stats = self.lent.stats.clone();
                self.report(Report::Stats {
                    request,
                    stats,
                    peer,
                });
            }
        }
    }

    fn reallocate(&mut self, now: Instant, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.reallocate(now);
        }
    }

    fn slot_named(&mut self, id: PeerId, mid: Mid) -> Option<&mut Slot> {
        let peer = self.peers.get_mut(id)?;
        let index = peer.slot_named(mid)?;
        peer.slots.get_mut(index.0)?.as_mut()
    }

    fn answer(
        &mut self,
        now: Instant,
        id: PeerId,
        create: bool,
        sdp: &str,
        policy: Policy,
    ) -> Result<Answered, OfferError> {
        if !create && !self.peers.contains(id) {
            return Err(OfferError::UnknownPeer);
        }
        if create && self.peers.len() >= self.shared.max_peers {
            return Err(OfferError::Overloaded);
        }
        let rng = self.child_rng();
        let Shared { certificate, .. } = &self.shared;
        let candidates = &self.candidates;
        let negotiated = match self.peers.get_mut(id) {
            Some(peer) => peer.renegotiate(now, sdp, policy, certificate, candidates)?,
            None => {
                let local = LocalSide {
                    certificate,
                    candidates,
                    worker: self.index,
                    rng,
                };
                let (peer, negotiated) = Peer::new(now, id, sdp, policy, local)?;
                self.peers.insert(id, peer);
                negotiated
            }
        };
        self.update_ufrags(id);
        self.after_negotiation(id);
        let sections = self.peers.get(id).map(|p| p.sections().collect());
        Ok(Answered {
            sdp: negotiated.answer,
            sections: sections.unwrap_or_default(),
            refused: negotiated.refused,
        })
    }

    fn restart_ice(&mut self, now: Instant, request: RequestId, id: PeerId, fragment: &str) {
        let result = match self.peers.get_mut(id) {
            Some(peer) => peer
                .restart_ice(now, fragment, &self.shared.certificate, &self.candidates)
                .map_err(OfferError::from),
            None => Err(OfferError::UnknownPeer),
        };
        self.update_ufrags(id);
        self.report(Report::IceRestarted { request, result });
    }

    /// Has packets with a peer's present ufrags come to it, and none with those that are void.
    pub(super) fn update_ufrags(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        self.ufrags
            .retain(|ufrag, owner| *owner != id || peer.local_ufrags().any(|own| own == ufrag));
        for ufrag in peer.local_ufrags() {
            self.ufrags.insert(ufrag.to_owned(), id);
        }
    }

    /// Ends the subscriptions of slots that a negotiation has taken away.
    fn after_negotiation(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        // Slots that are gone, or whose place another slot has taken, show nothing.
        let stale: Vec<(TrackId, Subscriber)> = self
            .feeds
            .iter()
            .flat_map(|(&track, feed)| feed.subscribers.iter().map(move |&s| (track, s)))
            .filter(|(track, s)| {
                let slot = peer.slots.get(s.slot.0).and_then(Option::as_ref);
                s.peer == id && slot.and_then(|s| s.track()) != Some(*track)
            })
            .collect();
        for (track, subscriber) in stale {
            self.unsubscribe(track, subscriber);
        }
    }

    fn publish(&mut self, now: Instant, id: PeerId, mid: Mid, track: TrackId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let Some(publication) = peer.publications.iter_mut().find(|p| p.mid == mid) else {
            return;
        };
        publication.track = Some(track);
        publication.muted = false;
        let feed = Feed::new(publication.kind, Origin::Local(id));
        self.add_feed(now, track, feed);
    }

    fn add_feed(&mut self, now: Instant, track: TrackId, feed: Feed) {
        self.feeds.insert(track, feed);
        self.next_wanted_layers.get_or_insert(now + INTERVAL);
    }

    fn unpublish(&mut self, id: PeerId, track: TrackId) {
        let peer = self.peers.get_mut(id);
        if let Some(publication) = peer.and_then(|p| p.publication_of(track)) {
            publication.track = None;
        }
        self.remove_feed(track);
    }

    fn remove_feed(&mut self, track: TrackId) {
        let Some(feed) = self.feeds.remove(&track) else {
            return;
        };
        for Subscriber { peer, slot } in feed.subscribers {
            let slots = self.peers.get_mut(peer).map(|p| &mut p.slots);
            if let Some(Some(slot)) = slots.and_then(|s| s.get_mut(slot.0))
                && slot.track() == Some(track)
            {
                slot.clear();
            }
        }
    }

    fn mute(&mut self, now: Instant, id: PeerId, track: TrackId, muted: bool) {
        let peer = self.peers.get_mut(id);
        let Some(publication) = peer.and_then(|p| p.publication_of(track)) else {
            return;
        };
        if std::mem::replace(&mut publication.muted, muted) == muted {
            return;
        }
        if muted {
            self.interrupt(track);
        } else {
            self.resume(now, track);
        }
    }

    fn set_slot(
        &mut self,
        now: Instant,
        id: PeerId,
        mid: Mid,
        source: Option<(TrackId, WorkerIndex)>,
    ) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let Some(index) = peer.slot_named(mid) else {
            return;
        };
        let Some(Some(slot)) = peer.slots.get_mut(index.0) else {
            return;
        };
        let (former, kind) = (slot.track(), slot.kind);
        let was_paused = slot.pause().is_some();
        let track = source.map(|(track, _)| track);
        if former == track {
            return;
        }
        match track {
            Some(track) => slot.show(now, track),
            None => slot.clear(),
        }
        let subscriber = Subscriber {
            peer: id,
            slot: index,
        };
        if let Some(former) = former {
            self.unsubscribe(former, subscriber);
        }
        if was_paused {
            let (peer, reason) = (id, None);
            self.report(Report::SlotPaused { peer, mid, reason });
        }
        let Some((track, home)) = source else {
            return;
        };
        if home != self.index && !self.feeds.contains_key(&track) {
            self.add_feed(now, track, Feed::new(kind, Origin::Remote(home)));
            let worker = self.index;
            self.send(home, Message::Attach { track, worker });
        }
        if let Some(feed) = self.feeds.get_mut(&track) {
            feed.subscribers.insert(subscriber);
        }
        // Before the connection is up nothing could be sent: a key frame asked for now would be
        // lost, and the next one not be asked for soon. Whoever connects asks for what is needed.
        self.reallocate(now, id);
    }

    /// Takes a slot off a feed; a feed from another worker goes with its last one.
    fn unsubscribe(&mut self, track: TrackId, subscriber: Subscriber) {
        let Some(feed) = self.feeds.get_mut(&track) else {
            return;
        };
        feed.subscribers.remove(&subscriber);
        if let Origin::Remote(home) = feed.origin
            && feed.subscribers.is_empty()
        {
            self.feeds.remove(&track);
            let worker = self.index;
            self.send(home, Message::Detach { track, worker });
        }
    }

    /// Another worker wants the packets of a track.
    pub(super) fn attach(&mut self, track: TrackId, worker: WorkerIndex) {
        let Some(feed) = self.feeds.get_mut(&track) else {
            return;
        };
        // Until it says what it wants.
        feed.workers.insert(worker, Encodings::ALL);
        let reports: Vec<_> = feed.sender_reports().collect();
        for (encoding, report) in reports {
            self.pass_sender_report(worker, track, encoding, report);
        }
    }

    /// Says goodbye to a peer and forgets it.
    pub(super) fn close_peer(&mut self, now: Instant, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.close(&mut self.lent.at(now));
        }
        self.remove_peer(id);
    }

    /// Forgets a peer, its feeds and its subscriptions.
    pub(super) fn remove_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(id) else {
            return;
        };
        if let Some(carried) = peer.carried() {
            self.report(Report::Carried { peer: id, carried });
        }
        self.scheduled.remove(&id);
        self.claims.forget_peer(id);
        self.ufrags.retain(|_, owner| *owner != id);
        for publication in &peer.publications {
            if let Some(track) = publication.track {
                self.remove_feed(track);
            }
        }
        for (index, slot) in peer.slots.iter().enumerate() {
            if let Some(track) = slot.as_ref().and_then(|s| s.track()) {
                let subscriber = Subscriber {
                    peer: id,
                    slot: SlotIndex(index),
                };
                self.unsubscribe(track, subscriber);
            }
        }
    }
}
