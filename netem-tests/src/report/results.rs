//! `results.json`: everything that was measured, in a structure that others may read.
//!
//! Figures and their units are those of [`Figure`], times are seconds from the beginning of the call.
//! A figure without a value is absent. Within a version, keys are only added.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::figures::{CallTime, ClientFigures, ClientLog, Figure, Sends, Series, Stream, Summary};
use crate::lab::{Firewall, Nat};
use crate::scenario::{
    Expectation, Limit, Mark, Parameter, Participant, Scenario, Tier, describe, full_name,
};

/// The version of the structure.
const VERSION: u32 = 1;

/// Everything that a suite found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Of the structure: 1.
    pub version: u32,
    /// What the caller wants kept with it: the command, versions of the programs.
    pub context: BTreeMap<String, String>,
    /// In the order in which they were run.
    pub runs: Vec<RunResult>,
}

/// A `results.json` that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is something else, or damaged.
    #[error("this is not a results.json of confab-netem: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is from another time.
    #[error(
        "this results.json has version {0}, and version 1 is what can be read: run the suite again"
    )]
    Version(u32),
}

/// How a scenario was run.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// The server: `confab`, `janus`.
    pub server: String,
    /// In virtual or in real time.
    pub tier: Tier,
    /// Of the links, and in virtual time of everything.
    pub seed: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// The suite and the file: `loss/grid`.
    pub scenario: String,
    /// What the scenario calls itself.
    pub title: String,
    /// What it shows; may be empty.
    pub about: String,
    /// The combination of the matrix.
    pub parameters: Vec<Parameter>,
    /// The server: `confab`, `janus`.
    pub server: String,
    pub tier: String,
    /// Of the links, and in virtual time of everything.
    pub seed: u64,
    /// How long the call was, seconds.
    pub duration: f64,
    pub marks: Vec<Mark>,
    /// Who was in it.
    pub participants: Vec<ParticipantResult>,
    /// What each had of each other.
    pub streams: Vec<StreamResult>,
    /// What had to hold.
    pub expectations: Vec<ExpectationResult>,
    /// Who could not take part, and why. Such a run has not passed, whatever else holds.
    pub failures: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ParticipantResult {
    pub name: String,
    /// `browser`, `bot` or `iperf3`.
    pub client: String,
    /// Its network at the beginning, in words.
    pub network: Network,
    pub figures: Summary,
    /// As it told them.
    pub series: Series,
    pub link: Series,
    /// The ways its media went, each with the second since when.
    pub paths: Vec<(f64, String)>,
}

/// A client's network at the beginning, in words.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Network {
    pub uplink: String,
    pub downlink: String,
    /// The address translation, if there is one.
    pub nat: Option<String>,
    /// The firewall, if there is one.
    pub firewall: Option<String>,
}

/// What one had of another.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StreamResult {
    /// Who saw and heard.
    pub receiver: String,
    pub sender: String,
    /// From the first picture on.
    pub figures: Summary,
    pub series: Series,
}

/// One thing that had to hold for one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExpectationResult {
    /// In words: `video frozen < 5 %`.
    pub text: String,
    pub figure: Figure,
    pub limit: Limit,
    pub receiver: String,
    /// Of whose media; none of a client's own figure.
    pub sender: Option<String>,
    /// What it was, if it could be told.
    pub value: Option<f64>,
    /// Whether it held. What could not be told did not.
    pub holds: bool,
}

impl Results {
    /// None yet, with what the caller wants kept with them.
    #[must_use]
    pub fn new(context: BTreeMap<String, String>) -> Self {
        Results {
            version: VERSION,
            context,
            runs: Vec::new(),
        }
    }

    /// As `results.json`, one run a line.
    ///
    /// # Errors
    /// None that these types can cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let runs: Result<Vec<String>, _> = self.runs.iter().map(serde_json::to_string).collect();
        Ok(format!(
            "{{\"version\":{},\"context\":{},\"runs\":[\n{}\n]}}\n",
            self.version,
            serde_json::to_string(&self.context)?,
            runs?.join(",\n"),
        ))
    }

    /// Reads a `results.json`.
    ///
    /// # Errors
    /// A sentence, when it is none or of another version.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.version != VERSION {
            return Err(ReadError::Version(head.version));
        }
        Ok(serde_json::from_str(text)?)
    }
}

impl RunResult {
    /// Makes figures of what the clients of a call told. Logs are matched by name; who has none has
    /// not taken part.
    #[must_use]
    pub fn new(scenario: &Scenario, info: &RunInfo, start: f64, logs: &[ClientLog]) -> Self {
        let call = CallTime {
            start,
            duration: scenario.duration.as_secs_f64(),
        };
        let logs: Vec<ClientLog> = scenario
            .participants
            .iter()
            .map(|participant| {
                let log = logs.iter().find(|log| log.name == participant.name);
                log.cloned().unwrap_or_else(|| ClientLog {
                    name: participant.name.clone(),
                    ..ClientLog::default()
                })
            })
            .collect();
        let clients: Vec<(&Participant, ClientFigures)> = scenario
            .participants
            .iter()
            .zip(logs.iter().map(|log| ClientFigures::new(log, call)))
            .collect();
        let streams = streams(scenario, &logs, call);
        let expectations = scenario
            .expectations
            .iter()
            .flat_map(|expectation| judge(expectation, scenario, &clients, &streams))
            .collect();
        RunResult {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            about: scenario.about.clone(),
            parameters: scenario.parameters.clone(),
            server: info.server.clone(),
            tier: info.tier.to_string(),
            seed: info.seed,
            duration: call.duration,
            marks: scenario.marks.clone(),
            participants: clients
                .iter()
                .map(|(participant, client)| participant_result(participant, client))
                .collect(),
            streams: streams
                .iter()
                .map(|((receiver, sender), stream)| StreamResult {
                    receiver: (*receiver).to_owned(),
                    sender: (*sender).to_owned(),
                    figures: stream.summary(None),
                    series: stream.series(),
                })
                .collect(),
            expectations,
            failures: logs.iter().filter_map(ClientLog::failure).collect(),
        }
    }

    /// Whether all took part and everything held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.expectations.iter().all(|one| one.holds)
    }

    /// The scenario with its parameters, like `loss/grid (loss 10%, direction up)`.
    #[must_use]
    pub fn full_name(&self) -> String {
        full_name(&self.scenario, &self.parameters)
    }

    /// A figure where it is worst in this call.
    #[must_use]
    pub fn worst(&self, figure: Figure) -> Option<f64> {
        let streams = self.streams.iter().map(|stream| &stream.figures);
        let clients = self.participants.iter().map(|client| &client.figures);
        figure.worst(
            streams
                .chain(clients)
                .filter_map(|f| f.get(&figure).copied()),
        )
    }
}

type Pair<'a> = (&'a str, &'a str);

fn streams<'a>(
    scenario: &Scenario,
    logs: &'a [ClientLog],
    call: CallTime,
) -> Vec<(Pair<'a>, Stream)> {
    let mut streams = Vec::new();
    for (receiver, watcher) in logs.iter().zip(&scenario.participants) {
        if !watcher.client.is_in_call() {
            continue;
        }
        for (sender, participant) in logs.iter().zip(&scenario.participants) {
            let sends = Sends {
                audio: participant.audio,
                video: participant.video.is_some(),
            };
            if sender.name == receiver.name || !(sends.audio || sends.video) {
                continue;
            }
            let concerned = scenario.marks.iter().filter(|mark| {
                let is_of = |who: &Participant| {
                    let mut networks = mark.participants.iter();
                    networks.any(|network| network == who.network())
                };
                is_of(watcher) || is_of(participant)
            });
            let changes = concerned.flat_map(|mark| [Some(mark.at), mark.until]);
            let changes = changes.flatten().collect();
            let stream = Stream::new(receiver, sender, sends, changes, call);
            streams.push(((receiver.name.as_str(), sender.name.as_str()), stream));
        }
    }
    streams
}

fn judge(
    expectation: &Expectation,
    scenario: &Scenario,
    clients: &[(&Participant, ClientFigures)],
    streams: &[(Pair<'_>, Stream)],
) -> Vec<ExpectationResult> {
    let pairs = expectation.pairs(&scenario.participants).into_iter();
    pairs
        .map(|(receiver, sender)| {
            let figures = match sender {
                Some(sender) => {
                    let pair = (receiver.name.as_str(), sender.name.as_str());
                    let stream = streams.iter().find(|(of, _)| *of == pair);
                    stream.map(|(_, stream)| stream.summary(expectation.window))
                }
                None => {
                    let client = clients.iter().find(|(p, _)| p.name == receiver.name);
                    client.map(|(_, client)| client.summary(expectation.window))
                }
            };
            let value = figures.and_then(|figures| figures.get(&expectation.figure).copied());
            ExpectationResult {
                text: expectation.to_string(),
                figure: expectation.figure,
                limit: expectation.limit,
                receiver: receiver.name.clone(),
                sender: sender.map(|sender| sender.name.clone()),
                value,
                holds: value.is_some_and(|value| expectation.limit.holds(value)),
            }
        })
        .collect()
}

fn participant_result(participant: &Participant, client: &ClientFigures) -> ParticipantResult {
    let nat = Some(participant.nat).filter(|nat| *nat != Nat::None);
    let firewall = Some(participant.firewall).filter(|firewall| *firewall != Firewall::None);
    let link = |link| match &participant.behind {
        Some(home) => format!("that of {home}"),
        None => describe::link(link),
    };
    ParticipantResult {
        name: participant.name.clone(),
        client: participant.client.to_string(),
        network: Network {
            uplink: link(&participant.uplink),
            downlink: link(&participant.downlink),
            nat: nat.map(|nat| nat.to_string()),
            firewall: firewall.map(|firewall| firewall.to_string()),
        },
        figures: client.summary(None),
        series: client.series(),
        link: client.link_series(),
        paths: client.paths().to_vec(),
    }
}
