//! What happens during a call, as a list to walk along: every event resolved into the states that it
//! brings about, ramps into steps.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::describe;
use super::link_change::{LinkChange, between, parse_flag};
use super::node::Fields;
use super::participant::{Names, Participant, Word, read_links};
use super::problem::Problems;
use crate::lab::Firewall;
use crate::link::Impairment;
use crate::units::parse_duration;

/// Between two steps of a ramp.
const STEP: Duration = Duration::from_millis(100);

/// Something that is to be done at a time.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// When, from the beginning of the call.
    pub at: Duration,
    /// To whom.
    pub participant: String,
    /// What.
    pub action: Action,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// The link to the server is like this from now on.
    Uplink(Impairment),
    /// The link from the server is like this from now on.
    Downlink(Impairment),
    /// This is let out from now on.
    Firewall(Firewall),
    /// The client gets another address.
    AddressChange,
}

/// An event, for the report.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// When it began, seconds.
    pub at: f64,
    /// When all was as before, seconds.
    pub until: Option<f64>,
    /// Whose network: names of clients.
    pub participants: Vec<String>,
    /// What it was, like `alice: uplink loss 30 %`.
    pub text: String,
}

/// One `[[at]]`.
#[derive(Debug)]
pub(super) struct Event {
    line: usize,
    at: Duration,
    until: Option<Duration>,
    ramp: Duration,
    who: String,
    participants: Vec<String>,
    uplink: LinkChange,
    downlink: LinkChange,
    firewall: Option<Firewall>,
    changes_address: bool,
}

impl Event {
    /// Reads one `[[at]]`; nothing when it cannot be understood.
    pub(super) fn read(
        mut fields: Fields,
        beside: &Path,
        duration: Duration,
        names: &Names,
        problems: &mut Problems,
    ) -> Option<Event> {
        let line = fields.line;
        let before = |text: &str| match parse_duration(text)? {
            time if time > duration => Err(format!(
                "\"{text}\" is after the end of the call ({})",
                describe::time(duration)
            )),
            time => Ok(time),
        };
        let at = fields.need("time", problems, before);
        let until_line = fields.line_of("until");
        let until = fields.parse("until", problems, before);
        let ramp = fields.parse("ramp", problems, parse_duration);
        let ramp = ramp.unwrap_or_default();
        if let (Some(at), Some(until)) = (at, until)
            && until <= at + ramp
        {
            let what = "it must be after the time, and after the ramp";
            problems.add(until_line, fields.key("until"), what);
        }
        let mut who = String::new();
        let participants = fields.need("participant", problems, |text| {
            if text == "*" {
                "everyone".clone_into(&mut who);
                return Ok(names.networks());
            }
            text.clone_into(&mut who);
            let clients = names.clients(text)?;
            match clients.iter().find(|client| names.is_behind(client)) {
                Some(guest) => Err(format!(
                    "{guest} has no network of its own: name who has it"
                )),
                None => Ok(clients),
            }
        });
        let (mut uplink, mut downlink) = read_links(&mut fields, beside, problems);
        let cut = fields.parse("cut", problems, parse_flag).unwrap_or(false);
        (uplink.cut, downlink.cut) = (cut, cut);
        let firewall = fields.parse("firewall", problems, Firewall::parse);
        let address_line = fields.line_of("address");
        let address = fields.parse("address", problems, |text| match text {
            "change" => Ok(()),
            _ => Err(format!("\"{text}\" is not \"change\"")),
        });
        if address.is_some() && until.is_some() {
            let what =
                "there is no way back: leave out until, or change it again in an [[at]] of its own";
            problems.add(address_line, fields.key("address"), what);
        }
        let is_nothing = uplink.is_nothing() && downlink.is_nothing();
        if is_nothing && firewall.is_none() && address.is_none() && problems.is_empty() {
            let what = "nothing changes: write what does, like uplink = { loss = \"30%\" }";
            problems.add(line, "at", what);
        }
        fields.finish(problems);
        Some(Event {
            line,
            at: at?,
            until,
            ramp,
            who,
            participants: participants?,
            uplink,
            downlink,
            firewall,
            changes_address: address.is_some(),
        })
    }

    /// Until when nothing else may touch what it touches.
    fn end(&self) -> Duration {
        self.until.unwrap_or(self.at + self.ramp)
    }

    /// What it does to a thing in this state, step by step; nothing if it does not concern it.
    fn steps(&self, before: &Action) -> Result<Vec<(Duration, Action)>, String> {
        match before {
            Action::Uplink(before) => self.link_steps(&self.uplink, before, Action::Uplink),
            Action::Downlink(before) => self.link_steps(&self.downlink, before, Action::Downlink),
            Action::Firewall(_) => {
                let firewall = self
                    .firewall
                    .map(|firewall| (self.at, Action::Firewall(firewall)));
                Ok(firewall.into_iter().collect())
            }
            Action::AddressChange => {
                let change = (self.at, Action::AddressChange);
                Ok(self.changes_address.then_some(change).into_iter().collect())
            }
        }
    }

    fn link_steps(
        &self,
        change: &LinkChange,
        before: &Impairment,
        action: impl Fn(Impairment) -> Action,
    ) -> Result<Vec<(Duration, Action)>, String> {
        if change.is_nothing() {
            return Ok(Vec::new());
        }
        let after = change.apply(before)?;
        if self.ramp.is_zero() {
            return Ok(vec![(self.at, action(after))]);
        }
        let steps = self.ramp.div_duration_f64(STEP).ceil().max(1.0) as u32;
        (1..=steps)
            .map(|n| {
                let part = f64::from(n) / f64::from(steps);
                let state = between(before, &after, part)?;
                Ok((self.at + self.ramp.mul_f64(part), action(state)))
            })
            .collect()
    }
}

impl Action {
    /// What is acted on.
    fn lane(&self) -> &'static str {
        match self {
            Action::Uplink(_) => "uplink",
            Action::Downlink(_) => "downlink",
            Action::Firewall(_) => "firewall",
            Action::AddressChange => "address",
        }
    }

    /// What is different after it, in words.
    fn describe(&self, before: &Action) -> String {
        match (self, before) {
            (Action::Uplink(after), Action::Uplink(before))
            | (Action::Downlink(after), Action::Downlink(before)) => {
                describe::change(before, after)
            }
            (Action::Firewall(firewall), _) => format!("firewall {firewall}"),
            _ => "new address".to_owned(),
        }
    }
}

/// The events of a call as a list of changes in the order of their times, and as marks.
pub(super) fn resolve(
    mut events: Vec<Event>,
    participants: &[Participant],
    problems: &mut Problems,
) -> (Vec<Change>, Vec<Mark>) {
    events.sort_by_key(|event| event.at);
    let mut changes = Vec::new();
    // Of each event, what it does to each lane that it touches.
    let mut effects: Vec<BTreeMap<&str, String>> = vec![BTreeMap::new(); events.len()];
    for participant in participants {
        let lanes = [
            Action::Uplink(participant.uplink.clone()),
            Action::Downlink(participant.downlink.clone()),
            Action::Firewall(participant.firewall),
            Action::AddressChange,
        ];
        for mut state in lanes {
            let lane = state.lane();
            let mut last: Option<&Event> = None;
            for (event, effects) in events.iter().zip(&mut effects) {
                if !event.participants.contains(&participant.name) {
                    continue;
                }
                let steps = event.steps(&state).unwrap_or_else(|what| {
                    problems.add(event.line, format!("at.{lane}"), what);
                    Vec::new()
                });
                let Some((_, after)) = steps.last().cloned() else {
                    continue;
                };
                if let Some(last) = last.filter(|last| event.at < last.end() || event.at == last.at)
                {
                    problems.add(
                        event.line,
                        "at.time",
                        overlap(last, &participant.name, lane),
                    );
                }
                if last.is_none_or(|last| event.end() >= last.end()) {
                    last = Some(event);
                }
                effects.insert(lane, after.describe(&state));
                let mut steps = steps;
                match event.until {
                    Some(until) => steps.push((until, state.clone())),
                    None => state = after,
                }
                changes.extend(steps.into_iter().map(|(at, action)| Change {
                    at,
                    participant: participant.name.clone(),
                    action,
                }));
            }
        }
    }
    changes.sort_by_key(|change| change.at);
    let marks = events
        .iter()
        .zip(effects)
        .map(|(event, effects)| mark(event, effects));
    (changes, marks.collect())
}

fn overlap(last: &Event, participant: &str, lane: &str) -> String {
    format!(
        "overlaps the one on line {}, which has {participant}'s {lane} from {} to {}",
        last.line,
        describe::time(last.at),
        describe::time(last.end()),
    )
}

/// What an event did, said once even if it did so to many or both ways.
fn mark(event: &Event, mut effects: BTreeMap<&str, String>) -> Mark {
    let mut parts = match (effects.remove("uplink"), effects.remove("downlink")) {
        (Some(up), Some(down)) if up == down => vec![up],
        (up, down) => {
            let up = up.map(|text| format!("uplink {text}"));
            let down = down.map(|text| format!("downlink {text}"));
            up.into_iter().chain(down).collect()
        }
    };
    parts.extend(effects.into_values());
    if !event.ramp.is_zero() {
        parts.push(format!("within {}", describe::time(event.ramp)));
    }
    Mark {
        at: event.at.as_secs_f64(),
        until: event.until.map(|until| until.as_secs_f64()),
        participants: event.participants.clone(),
        text: format!("{}: {}", event.who, parts.join(", ")),
    }
}
