//! What a participant's slots show, and how it shows them: `subscribe`, `view`.

use confab_sfu::api::SlotChoice;
use confab_sfu::types::Mid;

use super::super::{Control, SessionKey};
use super::{Progress, Purpose, may_not, refusal};
use crate::media;
use crate::names::ParticipantId;
use crate::protocol::{
    ErrorCode, Failure, Reply, RequestId, Subscribe, Subscribed, Text, View, Viewed,
};

/// Most slots of a `view`: an offer has no more m-lines.
const MAX_VIEWS: usize = confab_sfu::MAX_LINES;

impl Control {
    pub(super) fn subscribe(
        &mut self,
        key: SessionKey,
        id: RequestId,
        subscribe: &Subscribe,
    ) -> Result<Progress, Failure> {
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
        if let SlotChoice::Pin(track) = to
            && !self.rooms.sees(participant, track)
        {
            return Err(Failure::new(
                ErrorCode::UnknownTrack,
                format!("Nobody else in the room publishes a track {track}."),
            ));
        }
        let peer = self.peer(participant)?;
        let mid = subscribe.mid.0;
        let request = media::Request::Subscribe { peer, mid, to };
        self.ask(participant, request, Purpose::Subscribe(key, id, mid));
        Ok(Progress::Waits)
    }

    pub(super) fn finish_subscribe(
        &mut self,
        participant: ParticipantId,
        mid: Mid,
        reply: media::Reply,
    ) -> Reply {
        let media::Reply::Shows(track) = reply else {
            return refusal(reply);
        };
        let track = self.visible(participant, mid, track);
        self.note_shown(participant, mid, track);
        Reply::Subscribed(Subscribed {
            mid: Text(mid),
            track: track.map(Text),
        })
    }

    pub(super) fn view(
        &mut self,
        key: SessionKey,
        id: RequestId,
        view: &View,
    ) -> Result<Progress, Failure> {
        let participant = self.participant(key)?;
        let peer = self.peer(participant)?;
        if view.slots.len() > MAX_VIEWS {
            let slots = view.slots.len();
            let text = format!("A `view` request has {MAX_VIEWS} slots at most, not {slots}.");
            return Err(Failure::new(ErrorCode::BadRequest, text));
        }
        let slots = view.slots.iter();
        let views = slots.map(|slot| (slot.mid.0, slot.view())).collect();
        let request = media::Request::SetView { peer, views };
        self.ask(participant, request, Purpose::View(key, id));
        Ok(Progress::Waits)
    }
}

pub(super) fn finish_view(reply: media::Reply) -> Reply {
    match reply {
        media::Reply::Done => Reply::Viewed(Viewed {}),
        other => refusal(other),
    }
}
