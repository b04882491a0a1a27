//! Entering and leaving a room, and its media connection: `join`, `leave`, `offer`.

use std::collections::BTreeMap;

use confab_sfu::api::{self, Content, Publish};
use confab_sfu::types::{Mid, PeerId};

use super::super::{Control, Member, Owner, SessionKey};
use super::{Progress, Purpose, no_peer, not_joined, refusal};
use crate::auth::Grants;
use crate::media;
use crate::names::{ParticipantId, RoomName, check_name};
use crate::protocol::{
    Answer, ErrorCode, Failure, Join, Joined, Left, Offer, OwnTrack, PublishedLine, RefusedLine,
    Reply, RequestId, Slot, Source, Text,
};
use crate::room::{Description, Entrant, Via};

/// What the m-lines of an offer carry.
pub(in crate::control) type Descriptions = BTreeMap<Mid, Description>;

impl Control {
    pub(super) fn join(
        &mut self,
        key: SessionKey,
        id: RequestId,
        join: Join,
    ) -> Result<Progress, Failure> {
        let client = self.clients.get(&key).ok_or_else(not_joined)?;
        if client.participant.is_some() {
            return Err(Failure::new(
                ErrorCode::AlreadyJoined,
                "The session is in a room already; leave it first.",
            ));
        }
        let access = client.access.clone();
        let relay_user = client.relay_user.clone();
        let holder = client.holder.clone();
        self.check_not_draining()?;
        let room: RoomName = join.room.parse()?;
        self.check_room(&access, &room)?;
        let descriptions = self.descriptions(join.tracks)?;
        let identity = access.identity.clone();
        let place = self.rooms.admit(
            &room,
            Entrant {
                via: Via::Socket,
                name: access.name.or(join.name),
                identity: access.identity,
                metadata: access.metadata,
                holder,
            },
        )?;
        let participant = place.id;
        tracing::info!(
            %participant, room = room.as_str(), identity, relay_user, "participant joins"
        );
        let member = Member::new(Owner::Session(key), &place, access.grants);
        self.members.insert(participant, member);
        self.set_participant(key, Some(participant));
        let Some(sdp) = join.offer else {
            self.rooms.announce(participant);
            let joined = self.joined(participant, &room, None);
            return Ok(Progress::Answered(Box::new(joined)));
        };
        let mids = lines(&descriptions);
        let purpose = Purpose::Join(key, id, room, descriptions);
        self.first_offer(participant, sdp, Publish::Mids(mids), purpose);
        Ok(Progress::Waits)
    }

    pub(super) fn finish_join(
        &mut self,
        key: SessionKey,
        participant: ParticipantId,
        room: &RoomName,
        descriptions: &Descriptions,
        reply: media::Reply,
    ) -> Reply {
        let media::Reply::Answered(answer) = reply else {
            // The peer was never made, so there is none to close.
            if let Some(member) = self.members.get_mut(&participant)
                && let Some(peer) = member.peer.take()
            {
                self.peers.remove(&peer);
            }
            self.remove_member(participant, "refused");
            self.set_participant(key, None);
            return refusal(reply);
        };
        self.set_tracks(participant, &answer, descriptions);
        self.rooms.announce(participant);
        self.joined(participant, room, Some(answer))
    }

    pub(super) fn leave(&mut self, key: SessionKey) -> Result<Progress, Failure> {
        let participant = self.participant(key)?;
        self.remove_member(participant, "left");
        let relay_user = self.new_relay_user();
        self.set_participant(key, None);
        if let Some(client) = self.clients.get_mut(&key) {
            self.relays.revoke(&client.relay_user);
            client.relay_user = relay_user;
        }
        Ok(Progress::Answered(Box::new(Reply::Left(Left {}))))
    }

    pub(super) fn offer(
        &mut self,
        key: SessionKey,
        id: RequestId,
        offer: Offer,
    ) -> Result<Progress, Failure> {
        let participant = self.participant(key)?;
        let descriptions = self.descriptions(offer.tracks)?;
        let member = self.member(participant)?;
        let mut mids = lines(&descriptions);
        if offer.new_connection || member.peer.is_none() {
            if member.former.is_some() && !offer.new_connection {
                return Err(no_peer());
            }
            if let Some(peer) = member.peer {
                self.forget_peer(participant, peer);
                self.ask(participant, media::Request::Close { peer }, Purpose::Close);
            }
            let purpose = Purpose::Offer(key, id, descriptions);
            self.first_offer(participant, offer.sdp, Publish::Mids(mids), purpose);
            return Ok(Progress::Waits);
        }
        // What these carry is known already.
        let kept = member.published.iter().map(|(mid, _)| *mid);
        let kept = kept.filter(|mid| !descriptions.contains_key(mid));
        mids.extend(kept.map(|mid| (mid, Content::default())));
        check_tracks(mids.len(), self.rooms.max_tracks())?;
        let command = media::Request::Offer {
            room: member.room,
            peer: self.peer(participant)?,
            offer: api::Offer {
                sdp: offer.sdp,
                publish: Publish::Mids(mids),
                may_publish: member.grants.publish,
                may_subscribe: member.grants.subscribe,
                is_whole: false,
                avoid_udp: offer.avoid_udp,
                person: member.person,
                former: None,
            },
        };
        self.ask(participant, command, Purpose::Offer(key, id, descriptions));
        Ok(Progress::Waits)
    }

    pub(super) fn finish_offer(
        &mut self,
        participant: ParticipantId,
        descriptions: &Descriptions,
        reply: media::Reply,
    ) -> Reply {
        let media::Reply::Answered(answer) = reply else {
            self.drop_refused_peer(participant);
            return refusal(reply);
        };
        self.set_tracks(participant, &answer, descriptions);
        let (tracks, slots) = self.own_view(participant, &answer);
        Reply::Answer(Answer {
            refused: refused_lines(&answer),
            sdp: answer.sdp,
            tracks,
            slots,
        })
    }

    /// Makes a peer for a participant that has none.
    pub(in crate::control) fn first_offer(
        &mut self,
        participant: ParticipantId,
        sdp: String,
        publish: Publish,
        purpose: Purpose,
    ) {
        let peer = PeerId(self.next_id());
        let Some(member) = self.members.get_mut(&participant) else {
            return;
        };
        member.peer = Some(peer);
        let former = member.former.replace(peer);
        member.answered = false;
        let command = media::Request::Offer {
            room: member.room,
            peer,
            offer: api::Offer {
                sdp,
                publish,
                may_publish: member.grants.publish,
                may_subscribe: member.grants.subscribe,
                // Who comes over HTTP has no words but the status to hear of a part that is refused.
                is_whole: matches!(member.owner, Owner::Http(_)),
                avoid_udp: false,
                person: member.person,
                former,
            },
        };
        self.peers.insert(peer, participant);
        self.ask(participant, command, purpose);
    }

    /// A participant's peer is gone, and its tracks with it.
    pub(in crate::control) fn forget_peer(&mut self, participant: ParticipantId, peer: PeerId) {
        self.peers.remove(&peer);
        self.early_slots.retain(|(owner, ..)| *owner != participant);
        if let Some(member) = self.members.get_mut(&participant) {
            member.peer = None;
            member.is_silent = false;
            member.published.clear();
            member.shown.clear();
            member.paused.clear();
            member.held.clear();
        }
        self.rooms.remove_tracks(participant);
        self.look_for(participant);
    }

    /// The first offer of a peer was refused: there is no such peer.
    fn drop_refused_peer(&mut self, participant: ParticipantId) {
        let Some(member) = self.members.get_mut(&participant) else {
            return;
        };
        if member.answered {
            return;
        }
        if let Some(peer) = member.peer.take() {
            self.peers.remove(&peer);
        }
    }

    /// Takes over which tracks a participant publishes now.
    pub(in crate::control) fn set_tracks(
        &mut self,
        participant: ParticipantId,
        answer: &api::Answer,
        descriptions: &Descriptions,
    ) {
        let Some(member) = self.members.get_mut(&participant) else {
            return;
        };
        member.answered = true;
        member.published = answer.tracks.iter().map(|t| (t.mid, t.track)).collect();
        let slots = &answer.slots;
        member
            .paused
            .retain(|mid| slots.iter().any(|slot| slot.mid == *mid));
        for old in self.rooms.tracks_of(participant) {
            if !answer.tracks.iter().any(|info| info.track == old) {
                self.rooms.remove_track(participant, old);
            }
        }
        for info in &answer.tracks {
            let description = descriptions.get(&info.mid).cloned().unwrap_or(Description {
                source: Source::Other,
                name: None,
            });
            self.rooms
                .add_track(participant, info.track, info.kind, description);
        }
    }

    fn joined(
        &mut self,
        participant: ParticipantId,
        room: &RoomName,
        answer: Option<api::Answer>,
    ) -> Reply {
        let (tracks, slots) = answer
            .as_ref()
            .map(|answer| self.own_view(participant, answer))
            .unwrap_or_default();
        let (access, grants) = match self.members.get(&participant) {
            Some(Member {
                owner: Owner::Session(key),
                grants,
                ..
            }) => (self.clients.get(key).map(|client| &client.access), *grants),
            _ => (None, Grants::default()),
        };
        let refused = answer.as_ref().map(refused_lines).unwrap_or_default();
        Reply::Joined(Joined {
            participant: Text(participant),
            room: room.as_str().to_owned(),
            name: self.rooms.name_of(participant).map(str::to_owned),
            identity: access.and_then(|access| access.identity.clone()),
            metadata: access.and_then(|access| access.metadata.clone()),
            permissions: grants.into(),
            viewers: self.rooms.viewers_for(participant),
            participants: self.rooms.others(participant),
            answer: answer.map(|answer| answer.sdp),
            tracks,
            slots,
            refused,
        })
    }

    fn own_view(
        &mut self,
        participant: ParticipantId,
        answer: &api::Answer,
    ) -> (Vec<OwnTrack>, Vec<Slot>) {
        let tracks = answer.tracks.iter().map(|info| OwnTrack {
            id: Text(info.track),
            mid: Text(info.mid),
            kind: info.kind.into(),
        });
        let tracks = tracks.collect();
        if let Some(member) = self.members.get_mut(&participant) {
            member.shown.clear();
        }
        let slots = answer.slots.iter().map(|info| {
            let track = self.visible(participant, info.mid, info.track);
            self.note_shown(participant, info.mid, track);
            Slot {
                mid: Text(info.mid),
                kind: info.kind.into(),
                track: track.map(Text),
            }
        });
        (tracks, slots.collect())
    }

    pub(in crate::control) fn check_not_draining(&self) -> Result<(), Failure> {
        if self.stops.is_some() {
            return Err(Failure::new(
                ErrorCode::ShuttingDown,
                "The server is stopping; nobody can join any more.",
            ));
        }
        Ok(())
    }

    fn descriptions(&self, lines: Vec<PublishedLine>) -> Result<Descriptions, Failure> {
        let lines: Descriptions = lines
            .into_iter()
            .map(|line| Ok((line.mid.0, describe(line.source, line.name)?)))
            .collect::<Result<_, Failure>>()?;
        check_tracks(lines.len(), self.rooms.max_tracks())?;
        Ok(lines)
    }
}

/// The m-lines of an offer that are to be published, and what they carry.
fn lines(descriptions: &Descriptions) -> Vec<(Mid, Content)> {
    let lines = descriptions.iter();
    lines.map(|(mid, is)| (*mid, is.source.content())).collect()
}

pub(super) fn describe(source: Source, name: Option<String>) -> Result<Description, Failure> {
    name.as_deref().map_or(Ok(()), check_name)?;
    Ok(Description { source, name })
}

pub(in crate::control) fn check_tracks(tracks: usize, max: usize) -> Result<(), Failure> {
    if tracks > max {
        return Err(Failure::new(
            ErrorCode::TooManyTracks,
            format!("A participant may publish {max} tracks, not {tracks}."),
        ));
    }
    Ok(())
}

/// What an answer does not serve of its offer.
fn refused_lines(answer: &api::Answer) -> Vec<RefusedLine> {
    let lines = answer.refused.iter().map(|(mid, reason)| {
        let Failure { code, message, .. } = media::failure(reason.code(), &reason.to_string());
        let mid = Text(*mid);
        RefusedLine { mid, code, message }
    });
    lines.collect()
}
