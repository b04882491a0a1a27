//! What the media plane reports, and when the client is told.

use std::borrow::Cow;
use std::time::Instant;

use confab_sfu::api::{self, GoneReason, Reason};
use confab_sfu::types::{Mid, PeerId, TrackId};
use confab_sfu::units::Bitrate;

use super::{Control, Owner};
use crate::names::ParticipantId;
use crate::protocol::{
    Event, Layers, Media, MediaState, Reconnect, SlotPaused, SlotShows, Text, pause,
};

impl Control {
    pub(super) fn media_event(&mut self, event: api::Event) {
        if let api::Event::Speakers { room, dominant } = event {
            let dominant = dominant.and_then(|peer| self.peers.get(&peer).copied());
            return self.rooms.set_dominant(room, dominant);
        }
        let Some(&participant) = peer_of(&event).and_then(|peer| self.peers.get(&peer)) else {
            return;
        };
        if let api::Event::TrackUnpublished { track, .. } = event {
            return self.unpublished(participant, track);
        }
        if !self.lanes.is_busy(participant) {
            return self.tell(participant, event);
        }
        if let Some(member) = self.members.get_mut(&participant) {
            // Only the last state of anything matters, which also bounds what is held.
            member.held.retain(|held| !is_outdated(held, &event));
            member.held.push(event);
        }
    }

    /// Tells what had to wait for a command that has now been carried out.
    pub(super) fn release_held(&mut self, now: Instant, participant: ParticipantId) {
        if self.lanes.is_busy(participant) {
            return;
        }
        // What the reply set off comes first: the client must know a track before its slot.
        self.settle(now);
        let held = self
            .members
            .get_mut(&participant)
            .map(|m| std::mem::take(&mut m.held));
        for event in held.into_iter().flatten() {
            self.tell(participant, event);
        }
    }

    fn tell(&mut self, participant: ParticipantId, event: api::Event) {
        match event {
            api::Event::PeerConnected { .. } => {
                self.media(participant, MediaState::Connected);
                self.set_silent(participant, false);
                self.checked_in(participant);
            }
            api::Event::PeerSilent { .. } => {
                tracing::info!(%participant, "nothing is heard of the media connection");
                self.media(participant, MediaState::Silent);
                self.set_silent(participant, true);
            }
            api::Event::PeerHeard { .. } => self.set_silent(participant, false),
            api::Event::PeerHopeless { .. } => {
                tracing::info!(%participant, "UDP loses a quarter of the media, or more");
                self.media(participant, MediaState::Lossy);
            }
            api::Event::SlotChanged { mid, track, .. } => {
                let visible = self.visible(participant, mid, track);
                // A track that cannot be named yet is told of with `report_early_slots`.
                if visible == track {
                    self.slot_shows(participant, mid, track);
                }
            }
            api::Event::PeerGone { peer, reason } => self.peer_gone(participant, peer, reason),
            api::Event::TrackUnpublished { track, .. } => self.unpublished(participant, track),
            api::Event::LayersWanted {
                track,
                encodings,
                bitrate,
                ..
            } => {
                if self.rooms.owns(participant, track) {
                    let track = Text(track);
                    let layers = Event::Layers(Layers {
                        track,
                        encodings,
                        bitrate: bitrate.map(Bitrate::as_bps),
                    });
                    self.event(participant, &layers);
                }
            }
            api::Event::SlotPaused { mid, reason, .. } => {
                self.slot_paused(participant, mid, reason);
            }
            // It is everybody's, and has been told.
            api::Event::Speakers { .. } => {}
        }
    }

    fn set_silent(&mut self, participant: ParticipantId, is_silent: bool) {
        if let Some(member) = self.members.get_mut(&participant) {
            member.is_silent = is_silent;
        }
        self.look_for(participant);
    }

    fn media(&mut self, participant: ParticipantId, state: MediaState) {
        self.event(participant, &Event::Media(Media { state }));
    }

    /// Tells of a pause, but for one that the client itself has asked for, and of its end.
    fn slot_paused(&mut self, participant: ParticipantId, mid: Mid, reason: Option<Reason>) {
        let Some(member) = self.members.get_mut(&participant) else {
            return;
        };
        let is_news = match reason {
            Some(Reason::Hidden) => false,
            Some(_) => {
                member.paused.insert(mid);
                true
            }
            None => member.paused.remove(&mid),
        };
        if is_news {
            let event = Event::SlotPaused(SlotPaused {
                mid: Text(mid),
                reason: reason.map(Into::into),
                message: reason.map_or_else(|| "It goes on.".to_owned(), pause),
            });
            self.event(participant, &event);
        }
    }

    fn peer_gone(&mut self, participant: ParticipantId, peer: PeerId, reason: GoneReason) {
        tracing::info!(%participant, reason = reason.code(), "media connection gone");
        self.forget_peer(participant, peer);
        match self.members.get(&participant).map(|member| &member.owner) {
            Some(Owner::Http(_)) => self.remove_member(participant, "connection_lost"),
            Some(Owner::Session(_)) => {
                let reconnect = Event::Reconnect(Reconnect {
                    reason: reason.code().to_owned(),
                    message: sentence(reason).into_owned(),
                });
                self.event(participant, &reconnect);
            }
            None => {}
        }
    }

    /// What a participant may be told that its slot shows: a track it has not heard of yet is kept
    /// back until it has.
    pub(super) fn visible(
        &mut self,
        participant: ParticipantId,
        mid: Mid,
        track: Option<TrackId>,
    ) -> Option<TrackId> {
        self.early_slots
            .retain(|&(owner, slot, _)| (owner, slot) != (participant, mid));
        let track = track?;
        if self.rooms.sees(participant, track) {
            return Some(track);
        }
        self.early_slots.push((participant, mid, track));
        None
    }

    pub(super) fn report_early_slots(&mut self) {
        let (told, early) = std::mem::take(&mut self.early_slots)
            .into_iter()
            .partition(|&(owner, _, track)| self.rooms.sees(owner, track));
        self.early_slots = early;
        for (owner, mid, track) in told {
            self.slot_shows(owner, mid, Some(track));
        }
    }

    /// Notes what a client is told that a slot shows; says whether it is news.
    pub(super) fn note_shown(
        &mut self,
        participant: ParticipantId,
        mid: Mid,
        track: Option<TrackId>,
    ) -> bool {
        let Some(member) = self.members.get_mut(&participant) else {
            return false;
        };
        let before = match track {
            Some(track) => member.shown.insert(mid, track),
            None => member.shown.remove(&mid),
        };
        before != track
    }

    /// The media plane says once more what its replies have said, behind what was said before them.
    fn slot_shows(&mut self, participant: ParticipantId, mid: Mid, track: Option<TrackId>) {
        if !self.note_shown(participant, mid, track) {
            return;
        }
        let slot = Event::Slot(SlotShows {
            mid: Text(mid),
            track: track.map(Text),
        });
        self.event(participant, &slot);
    }
}

/// Whether what was said before says nothing any more beside what is said now.
fn is_outdated(before: &api::Event, now: &api::Event) -> bool {
    match (before, now) {
        (api::Event::SlotChanged { mid: a, .. }, api::Event::SlotChanged { mid: b, .. })
        | (api::Event::SlotPaused { mid: a, .. }, api::Event::SlotPaused { mid: b, .. }) => a == b,
        (api::Event::LayersWanted { track: a, .. }, api::Event::LayersWanted { track: b, .. }) => {
            a == b
        }
        _ => false,
    }
}

/// Whose it is; none if it is a room's.
fn peer_of(event: &api::Event) -> Option<PeerId> {
    match *event {
        api::Event::PeerConnected { peer }
        | api::Event::PeerSilent { peer }
        | api::Event::PeerHeard { peer }
        | api::Event::PeerHopeless { peer }
        | api::Event::PeerGone { peer, .. }
        | api::Event::TrackUnpublished { peer, .. }
        | api::Event::LayersWanted { peer, .. }
        | api::Event::SlotPaused { peer, .. }
        | api::Event::SlotChanged { peer, .. } => Some(peer),
        api::Event::Speakers { .. } => None,
    }
}

fn sentence(reason: GoneReason) -> Cow<'static, str> {
    Cow::Borrowed(match reason {
        GoneReason::ConsentLost => "Nothing was heard of the media connection for 30 seconds.",
        GoneReason::NeverConnected => {
            "The media connection was not made within 30 seconds; is UDP to the server blocked?"
        }
        GoneReason::DtlsFailed(failure) => {
            return Cow::Owned(format!(
                "The media connection could not be encrypted: {failure}."
            ));
        }
        GoneReason::Closed => "The client closed the media connection.",
        GoneReason::WorkerFailed => "The part of the server that held the connection has failed.",
    })
}
