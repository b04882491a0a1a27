//! Which encodings of the tracks here anybody receives, so that publishers need not send the others.
//!
//! A worker looks at its own slots; the one that has the publisher puts together what all of them
//! want, and tells the publisher and the others what has come of it.
//!
//! And how much of a track that is of one encoding can be sent to all who see it: no layer of it fits
//! those whose path carries less, so that its publisher is asked for less.

use std::time::{Duration, Instant};

use super::Worker;
use super::mailbox::Message;
use crate::api::Reason;
use crate::control::messages::Report;
use crate::media::Kind;
use crate::publish::feed::Origin;
use crate::publish::wanted_layers::{Encodings, OFF_AFTER, Wanted};
use crate::types::{EncodingIndex, TrackId, WorkerIndex};
use crate::units::Bitrate;

/// How often it is looked at what nobody wants any more. What is wanted again is seen at once.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);

impl Worker {
    /// Looks at every track.
    pub(super) fn update_wanted_layers(&mut self, now: Instant) {
        let videos = self
            .feeds
            .iter()
            .filter(|(_, feed)| feed.kind() == Kind::Video);
        let mut tracks: Vec<TrackId> = videos.map(|(track, _)| *track).collect();
        tracks.sort_unstable();
        self.next_wanted_layers = (!tracks.is_empty()).then_some(now + INTERVAL);
        for track in tracks {
            self.update_wanted_layers_of(now, track);
        }
    }

    /// Finds out what is wanted of a track, and tells whom it concerns.
    pub(super) fn update_wanted_layers_of(&mut self, now: Instant, track: TrackId) {
        let own = self.wanted_here(now, track);
        let ceiling = self.ceiling_here(track);
        let index = self.index;
        let Some(feed) = self.feeds.get_mut(&track) else {
            return;
        };
        match feed.origin {
            Origin::Remote(home) => {
                if feed.wants_here.replace(own) != Some(own) {
                    let message = Message::Wanted {
                        track,
                        worker: index,
                        encodings: own,
                    };
                    self.send(home, message);
                }
                self.report_ceiling(home, track, ceiling);
            }
            Origin::Local(publisher) => {
                let ceiling = feed.ceilings.values().copied().chain(ceiling).min();
                let mut peer = self.peers.get_mut(publisher);
                let ceiling = peer
                    .as_mut()
                    .and_then(|p| p.set_ceiling(now, track, ceiling));
                let count = peer
                    .and_then(|p| p.publication_of(track))
                    .map_or(0, |p| p.encodings.len());
                // Of what there is not it is not to be told that nobody wants it.
                let own = own.with(Encodings::first(count).others());
                let all = feed.workers.values().fold(own, |all, w| all.with(*w));
                let wanted = Wanted {
                    encodings: all,
                    ceiling,
                };
                if let Some(Wanted { encodings, ceiling }) =
                    feed.wanted_layers.handle_wanted(now, wanted)
                {
                    feed.set_off(now, encodings.others());
                    let workers: Vec<WorkerIndex> = feed.workers.keys().copied().collect();
                    self.report(Report::LayersWanted {
                        peer: publisher,
                        track,
                        encodings: EncodingIndex::all()
                            .take(count)
                            .map(|n| encodings.contains(n))
                            .collect(),
                        bitrate: ceiling,
                    });
                    for worker in workers {
                        let encodings = encodings.others();
                        self.send(worker, Message::Off { track, encodings });
                    }
                }
            }
        }
        self.next_wanted_layers.get_or_insert(now + INTERVAL);
    }

    /// The most that can be sent of a track to all slots of this worker that show it, if there is a limit.
    fn ceiling_here(&self, track: TrackId) -> Option<Bitrate> {
        let subscribers = self.feeds.get(&track)?.subscribers.iter();
        let slots = subscribers.filter_map(|subscriber| {
            let peer = self.peers.get(subscriber.peer)?;
            peer.slots.get(subscriber.slot.0)?.as_ref()
        });
        let asked = slots.filter_map(|slot| slot.asked);
        asked.map(|asked| asked.ceiling()).min()
    }

    /// Tells the publisher's worker of a limit, if it is another than it was told last.
    fn report_ceiling(&mut self, home: WorkerIndex, track: TrackId, ceiling: Option<Bitrate>) {
        let worker = self.index;
        let Some(feed) = self.feeds.get_mut(&track) else {
            return;
        };
        if std::mem::replace(&mut feed.ceiling_here, ceiling) != ceiling {
            let message = Message::Ceiling {
                track,
                worker,
                ceiling,
            };
            self.send(home, message);
        }
    }

    /// What the slots of this worker receive of a track, or wait for.
    fn wanted_here(&self, now: Instant, track: TrackId) -> Encodings {
        let Some(feed) = self.feeds.get(&track) else {
            return Encodings::NONE;
        };
        let slots = feed.subscribers.iter().filter_map(|subscriber| {
            let peer = self.peers.get(subscriber.peer)?;
            peer.slots.get(subscriber.slot.0)?.as_ref()
        });
        slots.fold(Encodings::NONE, |all, slot| {
            let is_hidden = slot.share.reason == Reason::Hidden;
            let wanted = if is_hidden {
                Encodings::NONE
            } else if slot.shown_for(now) < OFF_AFTER {
                // It may rise quickly at first.
                Encodings::ALL
            } else {
                // Of what has never come it cannot be known whether it would be wanted.
                feed.unmeasured()
            };
            all.with(wanted).with(slot.encodings())
        })
    }
}
