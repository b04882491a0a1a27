//! What each request of a session does, before and after the media plane has been asked: one file for
//! each group of verbs, with the beginning and the end of each verb beside each other.

mod connection;
mod quality;
mod slots;
mod tracks;

use std::time::Instant;

use confab_sfu::types::{Mid, PeerId, TrackId};

use super::{Control, Member, SessionKey, TicketId};
use crate::media;
use crate::names::{ParticipantId, RoomName};
use crate::protocol::{ErrorCode, Failure, Pong, Reply, Request, RequestId};
use crate::room::Description;

pub(super) use connection::{Descriptions, check_tracks};

/// What the media plane has been asked for: what is to be done once it has replied.
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
            Request::Leave(_) => self.leave(key),
            Request::Offer(offer) => self.offer(key, id, offer),
            Request::Publish(publish) => self.publish(key, id, publish),
            Request::Unpublish(unpublish) => self.unpublish(key, id, unpublish.track.0),
            Request::Mute(mute) => self.mute(key, id, mute.track.0, mute.muted),
            Request::Subscribe(subscribe) => self.subscribe(key, id, &subscribe),
            Request::View(view) => self.view(key, id, &view),
            Request::Quality(_) => self.quality(key, id),
            Request::IceServers(_) => self.ice_servers(key),
            // Both are looked at when they come.
            Request::Hello(_) | Request::Renew(_) => Err(Failure::new(
                ErrorCode::AlreadyGreeted,
                "This socket has said `hello` already.",
            )),
        }
    }

    /// The media plane has replied: does what it was asked for.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        purpose: Purpose,
        reply: media::Reply,
    ) {
        let (key, id, reply) = match purpose {
            Purpose::Close => return,
            Purpose::HttpQuality(ticket) => return self.finish_http_quality(ticket, reply),
            Purpose::HttpCreate(ticket) => {
                return self.finish_create(now, participant, ticket, reply);
            }
            Purpose::HttpRestart(ticket, ufrag) => {
                return self.finish_restart(participant, ticket, ufrag, reply);
            }
            Purpose::Join(key, id, room, descriptions) => {
                let joined = self.finish_join(key, participant, &room, &descriptions, reply);
                (key, id, joined)
            }
            Purpose::Offer(key, id, descriptions) => (
                key,
                id,
                self.finish_offer(participant, &descriptions, reply),
            ),
            Purpose::Publish(key, id, description) => (
                key,
                id,
                self.finish_publish(participant, description, reply),
            ),
            Purpose::Unpublish(key, id, track) => {
                (key, id, self.finish_unpublish(participant, track, reply))
            }
            Purpose::Mute(key, id, track, muted) => {
                (key, id, self.finish_mute(participant, track, muted, reply))
            }
            Purpose::Subscribe(key, id, mid) => {
                (key, id, self.finish_subscribe(participant, mid, reply))
            }
            Purpose::View(key, id) => (key, id, slots::finish_view(reply)),
            Purpose::Quality(key, id) => (key, id, quality::finish_quality(reply)),
        };
        self.conclude(key, id, reply);
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

/// The reply to a request that the media plane has refused.
fn refusal(reply: media::Reply) -> Reply {
    Reply::Error(media::failure_of(reply))
}
