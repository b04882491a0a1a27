//! A call that was run, in virtual or in real time, before figures are made of it.

use std::time::Duration;

use confab_bot::sample::Line;

use crate::figures::{CallTime, ClientLog, LinkSample};
use crate::link::Reading;
use crate::scenario::Scenario;

/// Everything that is known of a call.
#[derive(Clone, Debug)]
pub struct Recording {
    /// When it was.
    pub call: CallTime,
    /// What each participant told and its links did, in the order of the scenario.
    pub clients: Vec<ClientLog>,
    /// What went wrong with the run itself.
    pub faults: Vec<String>,
    /// The share of packets that the machine forwarded later than their link meant, 0 to 1.
    pub late_share: f64,
}

impl Recording {
    /// Of a call that begins at a time on the clock of the lines, milliseconds.
    #[must_use]
    pub fn new(scenario: &Scenario, start: f64) -> Self {
        let clients = scenario.participants.iter().map(|participant| ClientLog {
            name: participant.name.clone(),
            ..ClientLog::default()
        });
        Recording {
            call: CallTime {
                start,
                duration: scenario.duration.as_secs_f64(),
            },
            clients: clients.collect(),
            faults: Vec::new(),
            late_share: 0.0,
        }
    }

    /// Notes what a client told.
    pub fn tell(&mut self, client: usize, line: Line) {
        self.clients[client].lines.push(line);
    }

    /// Notes how a client's links stand, so long after the beginning.
    pub fn sample_link(&mut self, client: usize, at: Duration, up: Reading, down: Reading) {
        let at = self.call.start + at.as_secs_f64() * 1e3;
        self.clients[client].link.push(LinkSample {
            at,
            up: up.into(),
            down: down.into(),
        });
    }
}
