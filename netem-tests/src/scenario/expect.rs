//! What must hold.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::node::{Fields, Value, unknown};
use super::participant::{Names, Participant};
use super::problem::Problems;
use super::reference::EXPECT;
use crate::figures::{Figure, Scope, Window};
use crate::units::parse_duration;

/// A figure and its limit, for some or for all.
#[derive(Clone, PartialEq, Debug)]
pub struct Expectation {
    /// Whose experience: names of clients.
    pub receivers: Vec<String>,
    /// Of whose media: names of clients.
    pub senders: Vec<String>,
    /// When; none is from the first picture to the end.
    pub window: Option<Window>,
    /// What.
    pub figure: Figure,
    /// The limit.
    pub limit: Limit,
}

/// What a figure is compared with.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// How.
    pub comparison: Comparison,
    /// With what, in the figure's unit.
    pub bound: f64,
}

/// How a figure is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Comparison {
    /// `<`
    #[serde(rename = "<")]
    Less,
    /// `<=`
    #[serde(rename = "<=")]
    AtMost,
    /// `>`
    #[serde(rename = ">")]
    More,
    /// `>=`
    #[serde(rename = ">=")]
    AtLeast,
}

impl Comparison {
    const ALL: [(&'static str, Comparison); 4] = [
        // The longer ones first: each is looked for at the beginning.
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("<", Comparison::Less),
        (">", Comparison::More),
    ];
}

impl Limit {
    /// Whether a value is within it.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::More => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
        }
    }

    fn parse(figure: Figure, text: &str) -> Result<Limit, String> {
        let info = figure.info();
        let found = Comparison::ALL
            .iter()
            .find_map(|(sign, comparison)| Some((text.trim().strip_prefix(sign)?, *comparison)));
        let Some((bound, comparison)) = found else {
            return Err(format!(
                "\"{text}\" is no comparison: it begins with <, <=, > or >=, like \"< 5\""
            ));
        };
        let bound = info.unit.parse(bound.trim())?;
        Ok(Limit { comparison, bound })
    }
}

impl Expectation {
    /// Those of whom it is expected: a receiver and, unless the figure is of a client, a sender who sends
    /// what the figure is of.
    #[must_use]
    pub fn pairs<'a>(
        &self,
        participants: &'a [Participant],
    ) -> Vec<(&'a Participant, Option<&'a Participant>)> {
        let scope = self.figure.info().scope;
        let receivers = participants
            .iter()
            .filter(|p| self.receivers.contains(&p.name));
        if scope == Scope::Client {
            let is_of_flows = self.figure == Figure::Throughput;
            return receivers
                .filter(|p| is_of_flows != p.client.is_in_call())
                .map(|receiver| (receiver, None))
                .collect();
        }
        let receivers = receivers.filter(|p| p.client.is_in_call());
        let sends = |p: &&Participant| match scope {
            Scope::Sound => p.audio,
            Scope::Picture | Scope::Client => p.video.is_some(),
        };
        receivers
            .flat_map(|receiver| {
                let others = participants.iter().filter(|p| p.name != receiver.name);
                let senders = others.filter(|p| self.senders.contains(&p.name));
                senders
                    .filter(sends)
                    .map(move |sender| (receiver, Some(sender)))
            })
            .collect()
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.figure.info();
        let sign = Comparison::ALL
            .iter()
            .find(|(_, comparison)| *comparison == self.limit.comparison)
            .map_or("", |(sign, _)| sign);
        // As it was written, not rounded as a measured value is.
        let bound = self.limit.bound;
        write!(f, "{} {sign} {bound}{}", info.title, info.unit.symbol())?;
        if let Some(window) = &self.window {
            write!(f, " from {} s to {} s", window.from, window.until)?;
        }
        Ok(())
    }
}

/// The expectations of one `[[expect]]`: as many as it has figures.
pub(super) fn read(
    mut fields: Fields,
    duration: Duration,
    names: &Names,
    participants: &[Participant],
    problems: &mut Problems,
) -> Vec<Expectation> {
    let is_windowed = fields.has("from") || fields.has("until");
    let line = fields.line_of("from");
    let is_of_one = fields.has("sender");
    let receivers = fields.parse("receiver", problems, |text| names.clients(text));
    let senders = fields.parse("sender", problems, |text| names.clients(text));
    let receivers = receivers.unwrap_or_else(|| names.everyone());
    let senders = senders.unwrap_or_else(|| names.everyone());
    let from = fields.parse("from", problems, parse_duration);
    let until = fields.parse("until", problems, parse_duration);
    let from = from.unwrap_or_default();
    let until = until.unwrap_or(duration);
    if from >= until || until > duration {
        let what = "the window must be within the call and end after it begins";
        problems.add(line, fields.key("from"), what);
    }
    let window = is_windowed.then_some(Window {
        from: from.as_secs_f64(),
        until: until.as_secs_f64(),
    });
    let mut expectations = Vec::new();
    for (name, node) in fields.take_rest() {
        let key = fields.key(&name);
        let Some(figure) = Figure::named(&name) else {
            let figures = Figure::ALL.iter().map(|figure| figure.info().name);
            let keys = EXPECT.iter().map(|key| key.name);
            problems.add(node.line, key, unknown(&name, figures.chain(keys)));
            continue;
        };
        if figure.info().scope == Scope::Client && is_of_one {
            let what = "is a figure of a client and its network: it has no sender";
            problems.add(node.line, &key, what);
        }
        let limit = match &node.value {
            Value::Text(text) => Limit::parse(figure, text),
            _ => Err("a comparison belongs here, like \"< 5%\"".to_owned()),
        };
        match limit {
            Ok(limit) => {
                let expectation = Expectation {
                    receivers: receivers.clone(),
                    senders: senders.clone(),
                    window,
                    figure,
                    limit,
                };
                if expectation.pairs(participants).is_empty() && problems.is_empty() {
                    let what = "nobody in this call has that of anybody";
                    problems.add(node.line, key, what);
                }
                expectations.push(expectation);
            }
            Err(what) => problems.add(node.line, key, what),
        }
    }
    if expectations.is_empty() && problems.is_empty() {
        problems.add(
            fields.line,
            "expect",
            "expects nothing: write a figure and its limit, like video_frozen = \"< 5%\"",
        );
    }
    expectations
}
