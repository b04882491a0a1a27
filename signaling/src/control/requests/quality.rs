//! How a participant is reached, and how well: `quality`, `ice_servers`.

use super::super::{Control, SessionKey};
use super::{Progress, Purpose, not_joined, refusal};
use crate::media;
use crate::protocol::{Failure, Quality, Reply, RequestId};

impl Control {
    pub(super) fn quality(&mut self, key: SessionKey, id: RequestId) -> Result<Progress, Failure> {
        let participant = self.participant(key)?;
        let peer = self.peer(participant)?;
        let request = media::Request::PeerStats { peer };
        self.ask(participant, request, Purpose::Quality(key, id));
        Ok(Progress::Waits)
    }

    pub(super) fn ice_servers(&mut self, key: SessionKey) -> Result<Progress, Failure> {
        let client = self.clients.get(&key).ok_or_else(not_joined)?;
        let minted = self.relays.mint(&client.relay_user);
        let minted = minted.unwrap_or_default();
        Ok(Progress::Answered(Box::new(Reply::IceServers(minted))))
    }
}

pub(super) fn finish_quality(reply: media::Reply) -> Reply {
    match reply {
        media::Reply::PeerStats(stats) => Reply::Quality(Quality::from(&stats.quality)),
        other => refusal(other),
    }
}
