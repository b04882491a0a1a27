//! Out to the kernel: what peers' pacers let go, and what has left.

use std::time::Instant;

use super::Worker;
use crate::api::DropReason;
use crate::publish::feed::Feed;
use crate::send::egress::Filling;
use crate::send::pacer::Departure;
use crate::types::PeerId;
use crate::units::DataSize;

impl Worker {
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
