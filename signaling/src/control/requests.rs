//! What each request of a session does, before and after the media plane has been asked.

use std::collections::BTreeMap;
use std::time::Instant;

use confab_sfu::api::{self, Content, Publish};
use confab_sfu::types::{Mid, PeerId, TrackId};

use super::{Control, Member, Owner, SessionKey, TicketId};
use crate::auth::Grants;
use crate::media::{self, Command, Outcome};
use crate::names::{ParticipantId, RoomName, check_name};
use crate::protocol::{
    Answer, ErrorCode, Failure, Join, Joined, Left, Muted, Offer, OwnTrack, Pong, Published,
    PublishedLine, Quality, RefusedLine, Reply, Request, RequestId, Slot, Subscribed, Text,
    Unpublished, Viewed,
};
use crate::room::{Description, Entrant, Via};

/// Most slots of a `view`: an offer has no more m-lines.
const MAX_VIEWS: usize = confab_sfu::MAX_LINES;

/// What the m-lines of an offer carry.
pub(super) type Descriptions = BTreeMap<Mid, Description>;

/// What a media command is for: what is to be done once it has been carried out.
#[derive(Debug)]
pub(super) enum Purpose {
    Join(SessionKey, RequestId, RoomName, Descriptions),
    Offer(SessionKey, RequestId, Descriptions),
    Publish(SessionKey, RequestId, Description),
    Unpublish(SessionKey, RequestId, TrackId),
    Mute(SessionKey, RequestId, TrackId, bool),
    Subscribe(SessionKey, RequestId, Mid),
    View(SessionKey, RequestId),
    Quality(SessionKey, RequestId),
    HttpQuality(TicketId),
    HttpCreate(TicketId),
    HttpRestart(TicketId, String),
    Close,
}

/// A request is either answered now, or waits for the media plane.
enum Progress {
    Answered(Box<Reply>),
    Waits,
}

impl Request {
    /// The request's `type`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Request::Hello(_) => "hello",
            Request::Join(_) => "join",
            Request::Offer(_) => "offer",
            Request::Publish(_) => "publish",
            Request::Unpublish(_) => "unpublish",
            Request::Subscribe(_) => "subscribe",
            Request::View(_) => "view",
            Request::Quality(_) => "quality",
            Request::IceServers(_) => "ice_servers",
            Request::Mute(_) => "mute",
            Request::Leave(_) => "leave",
            Request::Ping(_) => "ping",
            Request::Renew(_) => "renew",
        }
    }
}

impl Control {
    pub(super) fn carry_out(&mut self, key: SessionKey, id: RequestId, request: Request) {
        match self.start(key, id, request) {
            Ok(Progress::Answered(reply)) => self.reply(key, id, *reply),
            Ok(Progress::Waits) => {
                if let Some(client) = self.clients.get_mut(&key) {
                    client.busy = true;
                }
            }
            Err(failure) => self.reply(key, id, Reply::Error(failure)),
        }
    }

    fn start(
        &mut self,
        key: SessionKey,
        id: RequestId,
        request: Request,
    ) -> Result<Progress, Failure> {
        match request {
            Request::Ping(_) => Ok(Progress::Answered(Box::new(Reply::Pong(Pong {})))),
            Request::Join(join) => self.join(key, id, join),
            Request::Leave(_) => {
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
            Request::Offer(offer) => self.offer(key, id, offer),
            Request::Publish(publish) => {
                let participant = self.participant(key)?;
                let description = describe(publish.source, publish.name)?;
                let member = self.member(participant)?;
                if !member.grants.publish {
                    return Err(may_not("publish"));
                }
                let mid = publish.mid.0;
                let others = member.published.iter().filter(|(own, _)| *own != mid);
                check_tracks(others.count() + 1, self.rooms.max_tracks())?;
                let peer = self.peer(participant)?;
                self.command(
                    participant,
                    Command::Publish {
                        peer,
                        mid,
                        content: description.source.content(),
                    },
                    Purpose::Publish(key, id, description),
                );
                Ok(Progress::Waits)
            }
            Request::Unpublish(unpublish) => {
                let track = unpublish.track.0;
                let (participant, peer) = self.own_track(key, track)?;
                self.command(
                    participant,
                    Command::Unpublish { peer, track },
                    Purpose::Unpublish(key, id, track),
                );
                Ok(Progress::Waits)
            }
            Request::Mute(mute) => {
                let track = mute.track.0;
                let muted = mute.muted;
                let (participant, peer) = self.own_track(key, track)?;
                self.command(
                    participant,
                    Command::Mute { peer, track, muted },
                    Purpose::Mute(key, id, track, muted),
                );
                Ok(Progress::Waits)
            }
            Request::Subscribe(subscribe) => {
                let to = subscribe.choice().ok_or_else(|| {
                    Failure::new(
                        ErrorCode::BadRequest,
                        "A `subscribe` request needs either `track` or `auto: true`.",
                    )
                })?;
                let participant = self.participant(key)?;
                if !self.member(participant)?.grants.subscribe {
                    return Err(may_not("receive"));
                }
                if let api::SlotChoice::Pin(track) = to
                    && !self.rooms.sees(participant, track)
                {
                    return Err(Failure::new(
                        ErrorCode::UnknownTrack,
                        format!("Nobody else in the room publishes a track {track}."),
                    ));
                }
                let peer = self.peer(participant)?;
                let mid = subscribe.mid.0;
                self.command(
                    participant,
                    Command::Subscribe { peer, mid, to },
                    Purpose::Subscribe(key, id, mid),
                );
                Ok(Progress::Waits)
            }
            Request::View(view) => {
                let participant = self.participant(key)?;
                let peer = self.peer(participant)?;
                if view.slots.len() > MAX_VIEWS {
                    let slots = view.slots.len();
                    let text =
                        format!("A `view` request has {MAX_VIEWS} slots at most, not {slots}.");
                    return Err(Failure::new(ErrorCode::BadRequest, text));
                }
                let slots = view.slots.iter();
                let views = slots.map(|slot| (slot.mid.0, slot.view())).collect();
                let command = Command::SetView { peer, views };
                self.command(participant, command, Purpose::View(key, id));
                Ok(Progress::Waits)
            }
            Request::Quality(_) => {
                let participant = self.participant(key)?;
                let peer = self.peer(participant)?;
                let purpose = Purpose::Quality(key, id);
                self.command(participant, Command::Quality { peer }, purpose);
                Ok(Progress::Waits)
            }
            Request::IceServers(_) => {
                let client = self.clients.get(&key).ok_or_else(not_joined)?;
                let minted = self.relays.mint(&client.relay_user);
                let minted = minted.unwrap_or_default();
                Ok(Progress::Answered(Box::new(Reply::IceServers(minted))))
            }
            // Both are looked at when they come.
            Request::Hello(_) | Request::Renew(_) => Err(Failure::new(
                ErrorCode::AlreadyGreeted,
                "This socket has said `hello` already.",
            )),
        }
    }

    fn join(&mut self, key: SessionKey, id: RequestId, join: Join) -> Result<Progress, Failure> {
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

    fn offer(&mut self, key: SessionKey, id: RequestId, offer: Offer) -> Result<Progress, Failure> {
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
                self.command(participant, Command::Close { peer }, Purpose::Close);
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
        let command = Command::Offer {
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
        self.command(participant, command, Purpose::Offer(key, id, descriptions));
        Ok(Progress::Waits)
    }

    /// Makes a peer for a participant that has none.
    pub(super) fn first_offer(
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
        let command = Command::Offer {
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
        self.command(participant, command, purpose);
    }

    /// A participant's peer is gone, and its tracks with it.
    pub(super) fn forget_peer(&mut self, participant: ParticipantId, peer: PeerId) {
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

    /// A command has been carried out: does what it was for.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        purpose: Purpose,
        outcome: Outcome,
    ) {
        match purpose {
            Purpose::Close => {}
            Purpose::HttpQuality(ticket) => self.finish_quality(ticket, outcome),
            Purpose::View(key, id) => {
                let reply = match outcome {
                    Outcome::Done => Reply::Viewed(Viewed {}),
                    outcome => refusal(outcome),
                };
                self.conclude(key, id, reply);
            }
            Purpose::Quality(key, id) => {
                let reply = match outcome {
                    Outcome::Quality(quality) => Reply::Quality(Quality::from(&quality)),
                    outcome => refusal(outcome),
                };
                self.conclude(key, id, reply);
            }
            Purpose::HttpCreate(ticket) => self.finish_create(now, participant, ticket, outcome),
            Purpose::HttpRestart(ticket, ufrag) => {
                self.finish_restart(participant, ticket, ufrag, outcome);
            }
            Purpose::Join(key, id, room, descriptions) => {
                let Outcome::Answered(answer) = outcome else {
                    // The peer was never made, so there is none to close.
                    if let Some(member) = self.members.get_mut(&participant)
                        && let Some(peer) = member.peer.take()
                    {
                        self.peers.remove(&peer);
                    }
                    self.remove_member(participant, "refused");
                    self.set_participant(key, None);
                    return self.conclude(key, id, refusal(outcome));
                };
                self.set_tracks(participant, &answer, &descriptions);
                self.rooms.announce(participant);
                let joined = self.joined(participant, &room, Some(answer));
                self.conclude(key, id, joined);
            }
            Purpose::Offer(key, id, descriptions) => {
                let Outcome::Answered(answer) = outcome else {
                    self.drop_refused_peer(participant);
                    return self.conclude(key, id, refusal(outcome));
                };
                self.set_tracks(participant, &answer, &descriptions);
                let (tracks, slots) = self.own_view(participant, &answer);
                let reply = Reply::Answer(Answer {
                    refused: refused_lines(&answer),
                    sdp: answer.sdp,
                    tracks,
                    slots,
                });
                self.conclude(key, id, reply);
            }
            Purpose::Publish(key, id, description) => {
                let Outcome::Published(info) = outcome else {
                    return self.conclude(key, id, refusal(outcome));
                };
                if let Some(member) = self.members.get_mut(&participant) {
                    member.published.retain(|(mid, _)| *mid != info.mid);
                    member.published.push((info.mid, info.track));
                }
                self.rooms
                    .add_track(participant, info.track, info.kind, description);
                let published = Reply::Published(Published {
                    track: Text(info.track),
                    mid: Text(info.mid),
                    kind: info.kind.into(),
                });
                self.conclude(key, id, published);
            }
            Purpose::Unpublish(key, id, track) => {
                let Outcome::Done = outcome else {
                    return self.conclude(key, id, refusal(outcome));
                };
                self.unpublished(participant, track);
                let track = Text(track);
                self.conclude(key, id, Reply::Unpublished(Unpublished { track }));
            }
            Purpose::Mute(key, id, track, muted) => {
                let Outcome::Done = outcome else {
                    return self.conclude(key, id, refusal(outcome));
                };
                self.rooms.set_muted(participant, track, muted);
                let track = Text(track);
                self.conclude(key, id, Reply::Muted(Muted { track, muted }));
            }
            Purpose::Subscribe(key, id, mid) => {
                let Outcome::Shows(track) = outcome else {
                    return self.conclude(key, id, refusal(outcome));
                };
                let track = self.visible(participant, mid, track);
                self.note_shown(participant, mid, track);
                let subscribed = Subscribed {
                    mid: Text(mid),
                    track: track.map(Text),
                };
                self.conclude(key, id, Reply::Subscribed(subscribed));
            }
        }
    }

    /// Replies, and goes on with the requests that waited.
    fn conclude(&mut self, key: SessionKey, id: RequestId, reply: Reply) {
        self.reply(key, id, reply);
        if let Some(client) = self.clients.get_mut(&key) {
            client.busy = false;
        }
        while let Some(client) = self.clients.get_mut(&key)
            && !client.busy
            && let Some((id, request)) = client.waiting.pop_front()
        {
            self.carry_out(key, id, request);
        }
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
    pub(super) fn set_tracks(
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
                source: crate::protocol::Source::Other,
                name: None,
            });
            self.rooms
                .add_track(participant, info.track, info.kind, description);
        }
    }

    pub(super) fn unpublished(&mut self, participant: ParticipantId, track: TrackId) {
        if let Some(member) = self.members.get_mut(&participant) {
            member.published.retain(|(_, own)| *own != track);
        }
        self.rooms.remove_track(participant, track);
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

    fn participant(&self, key: SessionKey) -> Result<ParticipantId, Failure> {
        let client = self.clients.get(&key).ok_or_else(not_joined)?;
        client.participant.ok_or_else(not_joined)
    }

    fn member(&self, participant: ParticipantId) -> Result<&Member, Failure> {
        self.members.get(&participant).ok_or_else(not_joined)
    }

    fn peer(&self, participant: ParticipantId) -> Result<PeerId, Failure> {
        self.member(participant)?.peer.ok_or_else(no_peer)
    }

    fn own_track(
        &self,
        key: SessionKey,
        track: TrackId,
    ) -> Result<(ParticipantId, PeerId), Failure> {
        let participant = self.participant(key)?;
        if !self.rooms.owns(participant, track) {
            return Err(Failure::new(
                ErrorCode::UnknownTrack,
                format!("The participant publishes no track {track}."),
            ));
        }
        Ok((participant, self.peer(participant)?))
    }

    pub(super) fn check_not_draining(&self) -> Result<(), Failure> {
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

fn describe(source: crate::protocol::Source, name: Option<String>) -> Result<Description, Failure> {
    name.as_deref().map_or(Ok(()), check_name)?;
    Ok(Description { source, name })
}

pub(super) fn check_tracks(tracks: usize, max: usize) -> Result<(), Failure> {
    if tracks > max {
        return Err(Failure::new(
            ErrorCode::TooManyTracks,
            format!("A participant may publish {max} tracks, not {tracks}."),
        ));
    }
    Ok(())
}

pub(super) fn may_not(what: &str) -> Failure {
    Failure::new(
        ErrorCode::NotAllowed,
        format!("The access token does not allow to {what}."),
    )
}

fn not_joined() -> Failure {
    Failure::new(
        ErrorCode::NotJoined,
        "The session is in no room; join one first.",
    )
}

fn no_peer() -> Failure {
    Failure::new(
        ErrorCode::UnknownPeer,
        "There is no media connection; send an `offer`, with `new_connection` if there was one.",
    )
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

/// The reply to a request that the media plane has refused.
fn refusal(outcome: Outcome) -> Reply {
    Reply::Error(failure(outcome))
}

/// Why the media plane has refused.
pub(super) fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Refused(failure) => failure,
        other => {
            tracing::error!(?other, "a media command had an outcome of another kind");
            Failure::new(ErrorCode::Internal, "The server has made a mistake.")
        }
    }
}
