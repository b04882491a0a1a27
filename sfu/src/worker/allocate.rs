//! What becomes of what peers' allocations ask for, and of what their pacers let go.

use std::time::Instant;

use super::Worker;
use crate::api::DropReason;
use crate::control::messages::Report;
use crate::peer::allocate::Consequence;
use crate::publish::feed::Feed;
use crate::send::egress::Filling;
use crate::send::pacer::Departure;
use crate::types::{PeerId, TrackId};
use crate::units::DataSize;

impl Worker {
    /// Divides a peer's estimate among its slots.
    pub(super) fn allocate(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id).filter(|p| p.is_connected()) else {
            return;
        };
        let mut consequences = std::mem::take(&mut self.consequences);
        let feeds = &self.feeds;
        peer.allocate(now, |track| feeds.get(&track), &mut consequences);
        for consequence in consequences.drain(..) {
            match consequence {
                Consequence::KeyFrame(track, encoding) => {
                    if !self.bridge(now, id, track, encoding) {
                        self.request_key_frame(now, track, encoding);
                    }
                }
                Consequence::Paused(mid, reason) => {
                    self.lent.stats.pictures_paused += u64::from(reason.is_some());
                    self.report(Report::SlotPaused {
                        peer: id,
                        mid,
                        reason,
                    });
                }
                Consequence::Wanted(track) => {
                    self.lent.stats.layer_switches += 1;
                    self.update_wanted_layers_of(now, track);
                }
            }
        }
        self.consequences = consequences;
    }

    /// Has a slot begin with what is kept of a track, if it can.
    fn bridge(&mut self, now: Instant, id: PeerId, track: TrackId, encoding: u8) -> bool {
        let (Some(peer), Some(feed)) = (self.peers.get_mut(id), self.feeds.get(&track)) else {
            return false;
        };
        let mut cx = self.lent.at(now);
        let Some((mut egress, slots)) = peer.egress(&mut cx) else {
            return false;
        };
        let mut slots = slots.iter_mut().flatten();
        let is_bridged = slots
            .find(|slot| slot.track() == Some(track) && slot.needs_key_frame() == Some(encoding))
            .is_some_and(|slot| slot.bridge(encoding, feed, &mut egress));
        self.lent.stats.groups_sent += u64::from(is_bridged);
        is_bridged
    }

    /// Sends what a peer's pacer lets go.
    pub(super) fn depart(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let mut cx = self.lent.at(now);
        let Some((mut egress, slots)) = peer.egress(&mut cx) else {
            return;
        };
        while let Some(departure) = egress.pacing.poll(now) {
            let (size, cluster) = match departure {
                Departure::Packet { item, cluster } => {
                    egress.depart(item, cluster);
                    continue;
                }
                Departure::Filler { size, cluster } => (size, cluster),
            };
            let sent = DataSize::ZERO;
            egress.filling = Some(Filling { cluster, sent });
            let most = usize::try_from(size.as_bytes()).unwrap_or(usize::MAX);
            let mut slots = slots.iter_mut().flatten();
            let filled = slots.any(|slot| {
                let feed: Option<&Feed> = slot.track().and_then(|track| self.feeds.get(&track));
                slot.fill_probe(most, feed, &mut egress)
            });
            let filled = egress.filling.take().filter(|_| filled);
            egress.stats.probe_fillers_sent += u64::from(filled.is_some());
            egress.pacing.handle_filler(size, filled.map(|f| f.sent));
        }
        let dropped = egress.pacing.take_dropped();
        egress.stats.drop_many(DropReason::PacerDropped, dropped);
    }

    /// Takes note of when each run of the outbox left the socket, and clears it.
    pub fn handle_sent(&mut self, left: &[Option<Instant>]) {
        for tracked in self.lent.outbox.tracked(left) {
            if let Some(peer) = self.peers.get_to_send(tracked.peer) {
                peer.pacing.handle_sent(tracked.sequence, tracked.packet);
            }
        }
        self.lent.outbox.clear();
    }
}
