//! One request to the media plane at a time for each participant, in the order they were made.
//!
//! In: requests, and the news that one has been replied to. Out: the request to make now.

use std::collections::{HashMap, VecDeque};

use super::AskId;
use crate::media::Request;
use crate::names::ParticipantId;

/// Every participant's requests; the first of each is on its way.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<ParticipantId, VecDeque<(AskId, Request)>>,
}

impl Lanes {
    /// Adds a request, and gives it back if it can be made at once.
    pub(super) fn push(
        &mut self,
        participant: ParticipantId,
        id: AskId,
        request: Request,
    ) -> Option<(AskId, Request)> {
        let lane = self.lanes.entry(participant).or_default();
        lane.push_back((id, request.clone()));
        (lane.len() == 1).then_some((id, request))
    }

    /// A request has been replied to; if it was the first, gives the one to make now.
    pub(super) fn finish(
        &mut self,
        participant: ParticipantId,
        id: AskId,
    ) -> Option<(AskId, Request)> {
        let lane = self.lanes.get_mut(&participant)?;
        lane.pop_front_if(|(first, _)| *first == id)?;
        let next = lane.front().cloned();
        if next.is_none() {
            self.lanes.remove(&participant);
        }
        next
    }

    /// Whether a request of this participant is on its way.
    pub(super) fn is_busy(&self, participant: ParticipantId) -> bool {
        self.lanes.contains_key(&participant)
    }
}
