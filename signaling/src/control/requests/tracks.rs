//! What a participant publishes: `publish`, `unpublish`, `mute`.

use confab_sfu::types::TrackId;

use super::super::{Control, SessionKey};
use super::connection::{check_tracks, describe};
use super::{Progress, Purpose, may_not, refusal};
use crate::media;
use crate::names::ParticipantId;
use crate::protocol::{Failure, Muted, Publish, Published, Reply, RequestId, Text, Unpublished};
use crate::room::Description;

impl Control {
    pub(super) fn publish(
        &mut self,
        key: SessionKey,
        id: RequestId,
        publish: Publish,
    ) -> Result<Progress, Failure> {
        let participant = self.participant(key)?;
        let description = describe(publish.source, publish.name)?;
        let member = self.member(participant)?;
        if !member.grants.publish {
            return Err(may_not("publish"));
        }
        let mid = publish.mid.0;
        let others = member.published.iter().filter(|(own, _)| *own != mid);
        check_tracks(others.count() + 1, self.rooms.max_tracks())?;
        let request = media::Request::Publish {
            peer: self.peer(participant)?,
            mid,
            content: description.source.content(),
        };
        self.ask(participant, request, Purpose::Publish(key, id, description));
        Ok(Progress::Waits)
    }

    pub(super) fn finish_publish(
        &mut self,
        participant: ParticipantId,
        description: Description,
        reply: media::Reply,
    ) -> Reply {
        let media::Reply::Published(info) = reply else {
            return refusal(reply);
        };
        if let Some(member) = self.members.get_mut(&participant) {
            member.published.retain(|(mid, _)| *mid != info.mid);
            member.published.push((info.mid, info.track));
        }
        self.rooms
            .add_track(participant, info.track, info.kind, description);
        Reply::Published(Published {
            track: Text(info.track),
            mid: Text(info.mid),
            kind: info.kind.into(),
        })
    }

    pub(super) fn unpublish(
        &mut self,
        key: SessionKey,
        id: RequestId,
        track: TrackId,
    ) -> Result<Progress, Failure> {
        let (participant, peer) = self.own_track(key, track)?;
        let request = media::Request::Unpublish { peer, track };
        self.ask(participant, request, Purpose::Unpublish(key, id, track));
        Ok(Progress::Waits)
    }

    pub(super) fn finish_unpublish(
        &mut self,
        participant: ParticipantId,
        track: TrackId,
        reply: media::Reply,
    ) -> Reply {
        let media::Reply::Done = reply else {
            return refusal(reply);
        };
        self.unpublished(participant, track);
        Reply::Unpublished(Unpublished { track: Text(track) })
    }

    /// Somebody has taken a track back, or the media plane has lost it.
    pub(in crate::control) fn unpublished(&mut self, participant: ParticipantId, track: TrackId) {
        if let Some(member) = self.members.get_mut(&participant) {
            member.published.retain(|(_, own)| *own != track);
        }
        self.rooms.remove_track(participant, track);
    }

    pub(super) fn mute(
        &mut self,
        key: SessionKey,
        id: RequestId,
        track: TrackId,
        muted: bool,
    ) -> Result<Progress, Failure> {
        let (participant, peer) = self.own_track(key, track)?;
        let request = media::Request::Mute { peer, track, muted };
        self.ask(participant, request, Purpose::Mute(key, id, track, muted));
        Ok(Progress::Waits)
    }

    pub(super) fn finish_mute(
        &mut self,
        participant: ParticipantId,
        track: TrackId,
        muted: bool,
        reply: media::Reply,
    ) -> Reply {
        let media::Reply::Done = reply else {
            return refusal(reply);
        };
        self.rooms.set_muted(participant, track, muted);
        let track = Text(track);
        Reply::Muted(Muted { track, muted })
    }
}
