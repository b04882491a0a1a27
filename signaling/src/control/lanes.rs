//! One media command at a time for each participant, in the order they were given.
//!
//! In: commands, and the news that one has been carried out. Out: the command to start now.

use std::collections::{HashMap, VecDeque};

use super::CommandId;
use crate::media::Command;
use crate::names::ParticipantId;

/// Every participant's commands; the first of each is on its way.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<ParticipantId, VecDeque<(CommandId, Command)>>,
}

impl Lanes {
    /// Adds a command, and gives it back if it can start at once.
    pub(super) fn push(
        &mut self,
        participant: ParticipantId,
        id: CommandId,
        command: Command,
    ) -> Option<(CommandId, Command)> {
        let lane = self.lanes.entry(participant).or_default();
        lane.push_back((id, command.clone()));
        (lane.len() == 1).then_some((id, command))
    }

    /// A command has been carried out; if it was the first, gives the one to start now.
    pub(super) fn finish(
        &mut self,
        participant: ParticipantId,
        id: CommandId,
    ) -> Option<(CommandId, Command)> {
        let lane = self.lanes.get_mut(&participant)?;
        lane.pop_front_if(|(first, _)| *first == id)?;
        let next = lane.front().cloned();
        if next.is_none() {
            self.lanes.remove(&participant);
        }
        next
    }

    /// Whether a command of this participant is on its way.
    pub(super) fn is_busy(&self, participant: ParticipantId) -> bool {
        self.lanes.contains_key(&participant)
    }
}
