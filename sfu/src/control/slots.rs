//! What the slots of clients show: as they choose, as tracks come and go, and as people speak.
//!
//! In: choices, views, levels and time. Out: commands that re-point slots or weigh them anew, and
//! what their owners are to be told. What is shown where is decided in [`room`](super::room).

use std::time::Instant;

use super::Controller;
use super::messages::{Command, Level};
use super::room::{Assignment, Changes, Importance, Refused};
use crate::api::SlotChoice;
use crate::api::{CommandError, Content, Event, SlotView};
use crate::types::{Mid, PeerId, RoomId, TrackId};

impl Controller {
    /// When [`Controller::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.rooms.next_deadline()
    }

    /// Decides who speaks where that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((room, changes)) = self.rooms.handle_timeout(now) {
            self.apply(room, changes);
        }
    }

    /// Notes how loud somebody is. One who publishes several microphones speaks on the one that is
    /// heard first: packets of two would look like one who speaks twice as fast.
    pub(super) fn handle_level(&mut self, Level { at, track, level }: Level) {
        let origin = self.tracks.get(&track);
        let Some(origin) = origin.filter(|origin| origin.content == Content::Person) else {
            return;
        };
        let who = origin.peer;
        if let Some(peer) = self.peers.get_mut(&who)
            && *peer.voice.get_or_insert(track) == track
        {
            self.rooms.handle_level(at, peer.room, who, level);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        peer: PeerId,
        mid: Mid,
        choice: SlotChoice,
    ) -> Result<Option<TrackId>, CommandError> {
        let room = self.peers.get(&peer).ok_or(CommandError::UnknownPeer)?.room;
        let changes = self
            .rooms
            .choose(room, peer, mid, choice)
            .map_err(|refused| match (refused, choice) {
                (Refused::UnknownTrack, SlotChoice::Pin(track)) => {
                    CommandError::UnknownTrack(track)
                }
                _ => CommandError::UnknownMid(mid),
            })?;
        self.apply(room, changes);
        Ok(self.rooms.shows(room, peer, mid))
    }

    pub(super) fn set_views(
        &mut self,
        peer: PeerId,
        views: &[(Mid, SlotView)],
    ) -> Result<(), CommandError> {
        let state = self.peers.get(&peer).ok_or(CommandError::UnknownPeer)?;
        let (room, worker) = (state.room, state.worker);
        let unknown = views
            .iter()
            .find(|(mid, _)| !self.rooms.has_slot(room, peer, *mid));
        if let Some((mid, _)) = unknown {
            return Err(CommandError::UnknownMid(*mid));
        }
        for &(mid, view) in views {
            self.command(worker, Command::SetView { peer, mid, view });
        }
        Ok(())
    }

    /// Carries changes out and tells all of them, also those that a reply tells: an event from before may
    /// be behind that reply, so that only the last event of a slot is sure to be the last word on it.
    pub(super) fn apply(&mut self, room: RoomId, changes: Changes) {
        for assignment in changes.shows {
            self.set_slot(assignment);
            let Assignment { peer, mid, track } = assignment;
            self.event(Event::SlotChanged { peer, mid, track });
        }
        for importance in changes.priorities {
            self.set_priority(importance);
        }
        if let Some(dominant) = changes.dominant {
            self.event(Event::Speakers { room, dominant });
        }
    }

    fn set_slot(&mut self, Assignment { peer, mid, track }: Assignment) {
        let Some(worker) = self.worker_of(peer) else {
            return;
        };
        let source = track.and_then(|track| Some((track, self.tracks.get(&track)?.worker)));
        self.command(worker, Command::SetSlot { peer, mid, source });
    }

    fn set_priority(&mut self, importance: Importance) {
        let Importance {
            peer,
            mid,
            priority,
        } = importance;
        if let Some(worker) = self.worker_of(peer) {
            self.command(
                worker,
                Command::SetPriority {
                    peer,
                    mid,
                    priority,
                },
            );
        }
    }
}
