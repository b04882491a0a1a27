//! WHIP (RFC 9725) and WHEP: participants without a session, each behind a secret address; and
//! what operators ask of any participant.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use std::net::IpAddr;
use std::time::Instant;

use confab_sfu::api::Publish;
use confab_sfu::media::Kind;
use confab_sockets::subscriber::Crowd;

use super::requests::{Purpose, check_tracks, may_not};
use super::{Control, Member, Output, Owner, TicketId};
use crate::auth::{Access, Grants};
use crate::holder::Holder;
use crate::media;
use crate::names::{ParticipantId, RoomName};
use crate::protocol::{ErrorCode, Failure, IceServer, Quality, Source};
use crate::room::{CheckIn, Description, Entrant, Via};
use crate::session::new_secret;

/// Which way the media goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    Whip,
    Whep,
}

impl Endpoint {
    /// The first part of its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Whip => "whip",
            Endpoint::Whep => "whep",
        }
    }

    fn via(self) -> Via {
        match self {
            Endpoint::Whip => Via::Whip,
            Endpoint::Whep => Via::Whep,
        }
    }

    /// What a client here does, of what its token allows.
    fn grants(self, allowed: Grants) -> Result<Grants, Failure> {
        match self {
            Endpoint::Whip if !allowed.publish => Err(may_not("publish")),
            Endpoint::Whep if !allowed.subscribe => Err(may_not("receive")),
            _ => Ok(Grants {
                publish: self == Endpoint::Whip,
                subscribe: self == Endpoint::Whep,
                invite: false,
            }),
        }
    }
}

/// A WHIP or WHEP session, addressed by its secret.
#[derive(Debug)]
pub(super) struct Resource {
    endpoint: Endpoint,
    room: RoomName,
    secret: String,
    /// Whose name its credentials for the relay have.
    relay_user: String,
    holder: Holder,
    /// Counts ICE sessions: it is the entity tag (RFC 9725 section 4.3.1).
    version: u64,
    /// The client's ICE user name, which tells a restart from a late candidate.
    ufrag: Option<String>,
}

impl Resource {
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    pub(super) fn relay_user(&self) -> &str {
        &self.relay_user
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// What a client asks for over HTTP, after `http` has authenticated it.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// `POST`: a new session.
    Create {
        endpoint: Endpoint,
        room: RoomName,
        /// The name it wants to have.
        name: Option<String>,
        /// Who it says it is, which counts if no token says so.
        identity: Option<String>,
        /// What its token allows.
        access: Access,
        /// Where it comes from.
        from: IpAddr,
        sdp: String,
    },
    /// `DELETE`: the end of a session.
    Delete(Address),
    /// What the way to a participant carries.
    Quality {
        /// The room it is in.
        room: RoomName,
        participant: ParticipantId,
        /// What the token of the request allows.
        access: Access,
    },
    /// `PATCH`: new ICE credentials, or a candidate.
    Patch {
        address: Address,
        if_match: Option<String>,
        fragment: String,
    },
}

/// A session's address. Whoever knows it may end the session and move it, also when the token of its
/// beginning has ended: its secret cannot be guessed.
#[derive(Clone, PartialEq, Debug)]
pub struct Address {
    pub endpoint: Endpoint,
    /// The room in its path.
    pub room: RoomName,
    /// The secret in its path.
    pub secret: String,
}

/// What an HTTP request is answered with.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// The session is there.
    Created {
        secret: String,
        sdp: String,
        etag: String,
        /// What takes media past firewalls.
        ice_servers: Vec<IceServer>,
    },
    /// The session is gone.
    Deleted,
    Restarted {
        /// The fragment to answer with.
        fragment: String,
        /// The new entity tag.
        etag: String,
    },
    /// What the way to a participant carries.
    Quality(Quality),
    /// A candidate: nothing to do, an ICE-lite server learns addresses from checks.
    Unchanged,
    /// There is no such session.
    NotFound,
    PreconditionRequired,
    /// `If-Match` names an ICE session that is not the present one.
    PreconditionFailed,
    Refused(Failure),
}

impl Control {
    /// A client has asked for something over HTTP.
    pub fn handle_http(&mut self, now: Instant, ticket: TicketId, request: Request) {
        let answer = match request {
            Request::Create {
                endpoint,
                room,
                name,
                identity,
                access,
                from,
                sdp,
            } => {
                let holder = Holder::new(from, &access);
                let access = Access {
                    name: access.name.or(name),
                    identity: access.identity.or(identity),
                    ..access
                };
                let created = self.create(now, ticket, (endpoint, room), (access, holder), sdp);
                created.err().map(Answer::Refused)
            }
            Request::Delete(address) => Some(match self.resolve(&address) {
                Ok(participant) => {
                    self.remove_member(participant, "left");
                    Answer::Deleted
                }
                Err(answer) => answer,
            }),
            Request::Quality {
                room,
                participant,
                access,
            } => self
                .ask_quality(ticket, &room, participant, &access)
                .err()
                .map(Answer::Refused),
            Request::Patch {
                address,
                if_match,
                fragment,
            } => self
                .patch(ticket, &address, if_match.as_deref(), fragment)
                .err(),
        };
        if let Some(answer) = answer {
            self.answer(ticket, answer);
        }
        self.settle(now);
    }

    fn create(
        &mut self,
        now: Instant,
        ticket: TicketId,
        (endpoint, room): (Endpoint, RoomName),
        (access, holder): (Access, Holder),
        sdp: String,
    ) -> Result<(), Failure> {
        self.check_not_draining()?;
        self.check_room(&access, &room)?;
        let grants = endpoint.grants(access.grants)?;
        let identity = access.identity.clone();
        self.take_share(now, &holder)?;
        self.make_room(&room, &holder);
        let entrant = Entrant {
            via: endpoint.via(),
            name: access.name,
            identity: access.identity,
            metadata: access.metadata,
            holder: holder.clone(),
        };
        let place = self.rooms.admit(&room, entrant);
        let place = place.inspect_err(|_| self.shares.remove(&holder))?;
        let participant = place.id;
        let relay_user = self.new_relay_user();
        tracing::info!(
            %participant, room = room.as_str(), identity,
            endpoint = endpoint.path(), relay_user, "participant joins"
        );
        let resource = Resource {
            endpoint,
            room,
            secret: new_secret(),
            relay_user,
            holder,
            version: 1,
            ufrag: ice_ufrag(&sdp),
        };
        self.by_resource
            .insert(resource.secret.clone(), participant);
        let member = Member::new(Owner::Http(resource), &place, grants);
        self.members.insert(participant, member);
        self.first_offer(participant, sdp, Publish::All, Purpose::HttpCreate(ticket));
        Ok(())
    }

    /// Makes room for one more client that has not checked in yet: of the address that has most of them then,
    /// the one that has taken longest goes.
    fn make_room(&mut self, room: &RoomName, holder: &Holder) {
        let overdue = self.rooms.overdue(room).into_iter();
        let address = |id| Some((id, self.resource(id)?.holder.address));
        let waiting = overdue.filter_map(address);
        let mut crowd = Crowd::default();
        for (age, (id, address)) in (0..).zip(waiting) {
            crowd.insert(age, address, Some(id));
        }
        // Whoever is alone must not be taken for the only one of its address.
        crowd.insert(u64::MAX, holder.address, None);
        if let Some(oldest) = crowd.first_to_go().and_then(|(_, id)| *id) {
            self.remove_member(oldest, "connection_lost");
        }
    }

    /// A client's media connection is up, so that it counts in its room from now on, and the others hear of
    /// it: of who posts offers without media they never do.
    pub(super) fn checked_in(&mut self, participant: ParticipantId) {
        match self.rooms.check_in(participant) {
            CheckIn::First => self.rooms.announce(participant),
            CheckIn::Again => {}
            CheckIn::Full => {
                tracing::info!(%participant, "the room has become full meanwhile");
                self.remove_member(participant, "room_full");
            }
        }
    }

    pub(super) fn finish_create(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        ticket: TicketId,
        reply: media::Reply,
    ) {
        let media::Reply::Answered(answer) = reply else {
            if let Some(member) = self.members.get_mut(&participant)
                && let Some(peer) = member.peer.take()
            {
                self.peers.remove(&peer);
            }
            self.remove_member(participant, "refused");
            return self.answer(ticket, Answer::Refused(media::failure_of(reply)));
        };
        if let Err(failure) = check_tracks(answer.tracks.len(), self.rooms.max_tracks()) {
            self.remove_member(participant, "refused");
            return self.answer(ticket, Answer::Refused(failure));
        }
        let descriptions = answer.tracks.iter().map(|info| {
            let source = match info.kind {
                Kind::Audio => Source::Microphone,
                Kind::Video => Source::Camera,
            };
            (info.mid, Description { source, name: None })
        });
        self.set_tracks(participant, &answer, &descriptions.collect());
        self.rooms.announce_early(now, participant);
        let created = match self.resource(participant) {
            Some(resource) => Answer::Created {
                secret: resource.secret.clone(),
                sdp: answer.sdp,
                etag: resource.etag(),
                ice_servers: self
                    .relays
                    .mint(&resource.relay_user)
                    .unwrap_or_default()
                    .ice_servers,
            },
            None => Answer::NotFound,
        };
        self.answer(ticket, created);
    }

    fn ask_quality(
        &mut self,
        ticket: TicketId,
        room: &RoomName,
        participant: ParticipantId,
        access: &Access,
    ) -> Result<(), Failure> {
        self.check_room(access, room)?;
        let meant = self.rooms.meant_by(room, participant).into_iter();
        let mut connected = meant.filter_map(|id| Some((id, self.members.get(&id)?.peer?)));
        let (participant, peer) = connected.next().ok_or_else(|| {
            let text = "There is no such participant in the room, or it has no media connection.";
            Failure::new(ErrorCode::UnknownPeer, text)
        })?;
        let purpose = Purpose::HttpQuality(ticket);
        self.ask_aside(participant, media::Request::PeerStats { peer }, purpose);
        Ok(())
    }

    pub(super) fn finish_http_quality(&mut self, ticket: TicketId, reply: media::Reply) {
        let answer = match reply {
            media::Reply::PeerStats(stats) => Answer::Quality(Quality::from(&stats.quality)),
            reply => Answer::Refused(media::failure_of(reply)),
        };
        self.answer(ticket, answer);
    }

    fn patch(
        &mut self,
        ticket: TicketId,
        address: &Address,
        if_match: Option<&str>,
        fragment: String,
    ) -> Result<(), Answer> {
        let participant = self.resolve(address)?;
        let resource = self.resource(participant).ok_or(Answer::NotFound)?;
        let tags = if_match.ok_or(Answer::PreconditionRequired)?;
        let etag = resource.etag();
        if tags.trim() != "*" && !tags.split(',').any(|tag| tag.trim() == etag) {
            return Err(Answer::PreconditionFailed);
        }
        let Some(ufrag) = ice_ufrag(&fragment) else {
            return Err(Answer::Refused(Failure::new(
                ErrorCode::UnsupportedSdp,
                "The fragment has no `a=ice-ufrag` line (RFC 8840 section 4.3).",
            )));
        };
        if resource.ufrag.as_ref() == Some(&ufrag) {
            return Err(Answer::Unchanged);
        }
        let member = self.members.get(&participant).ok_or(Answer::NotFound)?;
        let peer = member.peer.ok_or(Answer::NotFound)?;
        self.ask(
            participant,
            media::Request::RestartIce { peer, fragment },
            Purpose::HttpRestart(ticket, ufrag),
        );
        Ok(())
    }

    pub(super) fn finish_restart(
        &mut self,
        participant: ParticipantId,
        ticket: TicketId,
        ufrag: String,
        reply: media::Reply,
    ) {
        let answer = match (reply, self.members.get_mut(&participant)) {
            (
                media::Reply::IceRestarted(fragment),
                Some(Member {
                    owner: Owner::Http(resource),
                    ..
                }),
            ) => {
                resource.version += 1;
                resource.ufrag = Some(ufrag);
                Answer::Restarted {
                    fragment,
                    etag: resource.etag(),
                }
            }
            (_, None) => Answer::NotFound,
            (reply, _) => Answer::Refused(media::failure_of(reply)),
        };
        self.answer(ticket, answer);
    }

    /// The participant that an address means. One that is still being made has no address yet.
    fn resolve(&self, address: &Address) -> Result<ParticipantId, Answer> {
        let participant = *self
            .by_resource
            .get(&address.secret)
            .ok_or(Answer::NotFound)?;
        self.resource(participant)
            .filter(|r| r.endpoint == address.endpoint && r.room == address.room)
            .map(|_| participant)
            .ok_or(Answer::NotFound)
    }

    fn resource(&self, participant: ParticipantId) -> Option<&Resource> {
        match &self.members.get(&participant)?.owner {
            Owner::Http(resource) => Some(resource),
            Owner::Session(_) => None,
        }
    }

    fn answer(&mut self, ticket: TicketId, answer: Answer) {
        if let Answer::Refused(failure) = &answer {
            self.count_refusal(failure.code);
        }
        self.outputs.push_back(Output::Http(ticket, answer));
    }
}

/// The first ICE user name in a session description or a fragment of one.
fn ice_ufrag(sdp: &str) -> Option<String> {
    sdp.lines()
        .find_map(|line| line.trim_end().strip_prefix("a=ice-ufrag:"))
        .map(str::to_owned)
}
