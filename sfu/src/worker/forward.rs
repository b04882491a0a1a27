//! Out to the subscribers: what a receive batch brought, and what they ask for again.

use std::time::Instant;

use super::Worker;
use super::mailbox::{MediaBatch, Message};
use crate::api::DropReason;
use crate::control::messages::Report;
use crate::peer::report::Cause;
use crate::publish::feed::{Feed, Subscriber};
use crate::types::{EncodingIndex, PeerId, SlotIndex, TrackId, WorkerIndex};

impl Worker {
    /// Sends the pending packets of every feed to its subscribers.
    pub(super) fn forward_pending(&mut self, now: Instant) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut waiting = Vec::new();
        let mut paused = Vec::new();
        for track in dirty.drain(..) {
            let Some(feed) = self.feeds.get_mut(&track) else {
                continue;
            };
            // Subscribers outside, packets inside: a subscriber's packets lie side by side in the
            // outbox and leave in one run.
            for &Subscriber { peer, slot } in &feed.subscribers {
                let Some(state) = self.peers.get_to_send(peer) else {
                    continue;
                };
                let mut cx = self.lent.at(now);
                let Some((mut egress, slots)) = state.egress(&mut cx) else {
                    continue;
                };
                let Some(Some(slot)) = slots.get_mut(slot.0) else {
                    continue;
                };
                let waited = slot.needs_key_frame();
                let pause = slot.pause();
                let forwarded = slot.forward(feed, &mut egress);
                // It may have begun to wait just now, for another encoding.
                let waits = slot.needs_key_frame();
                if waits.is_some() && waits != waited {
                    waiting.extend(waits.map(|encoding| (track, encoding)));
                }
                if slot.pause() != pause {
                    paused.push((peer, slot.mid, slot.pause()));
                }
                if !egress.pacing.queued().is_zero() {
                    self.peers.mark(peer);
                }
                self.lent.stats.packets_forwarded += forwarded;
            }
            feed.clear_pending();
        }
        self.dirty = dirty;
        for (peer, mid, reason) in paused {
            self.report(Report::SlotPaused { peer, mid, reason });
        }
        for (track, encoding) in waiting {
            self.request_key_frame(now, track, encoding);
        }
    }

    /// Sends the packets for other workers on their way.
    pub(super) fn send_batches(&mut self) {
        let mut workers: Vec<WorkerIndex> = self.batches.keys().copied().collect();
        workers.sort_unstable();
        for worker in workers {
            if let Some(batch) = self.batches.remove(&worker) {
                self.send(worker, Message::Media(batch));
            }
        }
    }

    /// Takes packets of tracks that another worker publishes.
    pub(super) fn handle_media(&mut self, now: Instant, mut batch: MediaBatch) {
        let mut unknown: Vec<TrackId> = Vec::new();
        batch.drain(|track, meta, packet| match self.feeds.get_mut(&track) {
            Some(feed) => {
                if feed.is_idle() {
                    self.dirty.push(track);
                }
                feed.insert(now, meta, packet);
            }
            None if unknown.contains(&track) => {}
            None => unknown.push(track),
        });
        let from = batch.from;
        for track in unknown {
            let worker = self.index;
            self.send(from, Message::Detach { track, worker });
        }
        self.send(from, Message::Recycle(batch));
    }

    /// Sends a packet again that a subscriber asks for, or that its feedback says is lost. The peer whose
    /// report it is in is marked by whoever reads that.
    pub(super) fn resend(
        &mut self,
        now: Instant,
        id: PeerId,
        slot: SlotIndex,
        sequence: u16,
        cause: Cause,
    ) {
        let Some(state) = self.peers.get_to_send(id) else {
            return;
        };
        let mut cx = self.lent.at(now);
        // What an outage has swallowed is not waited for.
        let is_back = state.is_back_from_outage();
        let Some((mut egress, slots)) = state.egress(&mut cx) else {
            return;
        };
        let Some(Some(slot)) = slots.get_mut(slot.0).filter(|_| !is_back) else {
            return;
        };
        let feed: Option<&Feed> = slot.track().and_then(|track| self.feeds.get(&track));
        let sent = feed.is_some_and(|feed| match cause {
            Cause::Nack => slot.answer_nack(sequence, feed, &mut egress),
            Cause::Feedback => slot.answer_loss(sequence, feed, &mut egress),
        });
        match (sent, cause) {
            (true, _) => self.lent.stats.packets_retransmitted += 1,
            (false, Cause::Nack) => self.lent.stats.drop(DropReason::NackUnanswered),
            (false, Cause::Feedback) => {}
        }
    }

    /// A track goes on after a pause.
    pub(super) fn resume(&mut self, now: Instant, track: TrackId) {
        let Some(feed) = self.feeds.get(&track) else {
            return;
        };
        let viewers = feed.subscribers.iter().filter_map(|s| {
            let peer = self.peers.get(s.peer).filter(|p| p.is_connected());
            peer?.slots.get(s.slot.0)?.as_ref()?.needs_key_frame()
        });
        let mut wanted: Vec<EncodingIndex> = viewers.collect();
        wanted.sort_unstable();
        wanted.dedup();
        let workers: Vec<WorkerIndex> = feed.workers.keys().copied().collect();
        for encoding in wanted {
            self.request_key_frame(now, track, encoding);
        }
        for worker in workers {
            self.send(worker, Message::Resumed { track });
        }
    }

    /// A track pauses: whatever follows starts anew at every subscriber.
    pub(super) fn interrupt(&mut self, track: TrackId) {
        let Some(feed) = self.feeds.get(&track) else {
            return;
        };
        for &Subscriber { peer, slot } in &feed.subscribers {
            let slots = self.peers.get_mut(peer).map(|p| &mut p.slots);
            if let Some(Some(slot)) = slots.and_then(|s| s.get_mut(slot.0)) {
                slot.interrupt();
            }
        }
        let workers: Vec<WorkerIndex> = feed.workers.keys().copied().collect();
        for worker in workers {
            self.send(worker, Message::Interrupted { track });
        }
    }
}
