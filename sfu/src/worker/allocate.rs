//! What an allocation asks of others than its peer: key frames or what is kept of a track, reports of pauses,
//! and other encodings of publishers.

use std::time::Instant;

use super::Worker;
use crate::control::messages::Report;
use crate::peer::allocate::Consequence;
use crate::types::{EncodingIndex, PeerId, TrackId};

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
    fn bridge(
        &mut self,
        now: Instant,
        id: PeerId,
        track: TrackId,
        encoding: EncodingIndex,
    ) -> bool {
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
}
