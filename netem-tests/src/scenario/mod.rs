//! A call and its networks, as a person writes it down.
//!
//! In: a TOML file. Out: one [`Scenario`] for every combination of its matrix, with every event
//! resolved into a list of [`Change`]s in time, or all that is wrong with the file, with lines and
//! keys. docs/netem.md teaches the format; [`reference`](mod@reference) has every key.
//!
//! ```
//! use confab_netem_tests::scenario::Scenario;
//!
//! let text = r#"
//!     title = "Loss in the middle"
//!     duration = "60s"
//!     [[participant]]
//!     name = "alice"
//!     client = "browser"
//!     link = { delay = "50ms" }
//!     [[at]]
//!     time = "20s"
//!     until = "40s"
//!     participant = "alice"
//!     uplink = { loss = "30%" }
//! "#;
//! let scenarios = Scenario::parse("loss.toml".as_ref(), text)?;
//! assert_eq!(scenarios[0].changes.len(), 2);
//! assert_eq!(scenarios[0].marks[0].text, "alice: uplink loss 30 %");
//! # Ok::<(), confab_netem_tests::scenario::Errors>(())
//! ```

pub mod describe;
mod expect;
mod link_change;
mod matrix;
mod node;
mod participant;
mod problem;
pub mod reference;
mod timeline;

use std::fs;
use std::path::Path;
use std::time::Duration;

pub use expect::{Comparison, Expectation, Limit};
pub use matrix::Parameter;
pub use participant::{Client, Direction, Participant, Relay, Size, Tier};
pub use problem::{Errors, Problem};
pub use timeline::{Action, Change, Mark};

use crate::units::parse_duration;
use node::{Fields, Node};
use participant::{Names, Word};
use problem::Problems;
use timeline::Event;

/// A call to be run: one combination of a file's matrix.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// The suite and the file, without its ending: `loss/grid`.
    pub name: String,
    /// What the report calls it.
    pub title: String,
    /// What it shows; may be empty.
    pub about: String,
    /// The combination of the matrix, in the order of the file.
    pub parameters: Vec<Parameter>,
    /// How long the call is, from the first join.
    pub duration: Duration,
    /// Where it wants to be run.
    pub tier: Tier,
    /// Threads of the server that carry media; none is one for each core.
    pub workers: Option<u32>,
    /// Who is in the call, at least one.
    pub participants: Vec<Participant>,
    /// What happens, in the order of time.
    pub changes: Vec<Change>,
    /// The same as people see it, in the order of time.
    pub marks: Vec<Mark>,
    /// What must hold.
    pub expectations: Vec<Expectation>,
}

impl Scenario {
    /// Reads a file: the runs that it asks for, at least one.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(file: &Path) -> Result<Vec<Scenario>, Errors> {
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(file, &text),
            Err(error) => {
                let mut problems = Problems::default();
                problems.add(0, "", format!("cannot be read: {error}"));
                Err(problems.into_errors(file))
            }
        }
    }

    /// As [`Scenario::load`], of a text. The file is where traces are looked for, and what errors
    /// name.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(file: &Path, text: &str) -> Result<Vec<Scenario>, Errors> {
        let mut problems = Problems::default();
        let runs = node::parse(text, &mut problems)
            .map_or_else(Vec::new, |root| matrix::expand(root, &mut problems));
        let scenarios: Vec<Scenario> = runs
            .into_iter()
            .filter_map(|(parameters, root)| read(file, parameters, root, &mut problems))
            .collect();
        if problems.is_empty() {
            Ok(scenarios)
        } else {
            Err(problems.into_errors(file))
        }
    }

    /// The name with its parameters, like `loss/grid (loss 10%, direction up)`.
    #[must_use]
    pub fn full_name(&self) -> String {
        full_name(&self.name, &self.parameters)
    }
}

/// A scenario's name with a combination of parameters.
#[must_use]
pub fn full_name(name: &str, parameters: &[Parameter]) -> String {
    if parameters.is_empty() {
        return name.to_owned();
    }
    let parameters = parameters.iter().map(|p| format!("{} {}", p.name, p.value));
    format!("{name} ({})", parameters.collect::<Vec<_>>().join(", "))
}

fn read(
    file: &Path,
    parameters: Vec<Parameter>,
    root: Node,
    problems: &mut Problems,
) -> Option<Scenario> {
    let beside = file.parent().unwrap_or(Path::new(""));
    let mut fields = Fields::of(root, "", reference::SCENARIO, problems)?;
    let text = |text: &str| Ok(text.to_owned());
    let title = fields.need("title", problems, text);
    let about = fields.parse("about", problems, text);
    let duration_line = fields.line_of("duration");
    let duration = fields.need("duration", problems, parse_duration);
    if duration.is_some_and(|duration| duration.is_zero()) {
        problems.add(duration_line, "duration", "a call takes some time");
    }
    let tier_line = fields.line_of("tier");
    let tier = fields.parse("tier", problems, Tier::parse);
    let workers = read_server(&mut fields, problems);
    // Where it is wrong, what else is in the file is still judged, and never for being too late.
    let within = duration.unwrap_or(Duration::MAX);
    let mut names = Names::default();
    let mut participants = Vec::new();
    for entry in fields.tables("participant", reference::PARTICIPANT, problems) {
        participants.extend(participant::read(
            entry, beside, within, &mut names, problems,
        ));
    }
    if participants.is_empty() && problems.is_empty() {
        let what = "the call is empty: write a [[participant]] with a name and a client";
        problems.add(0, "participant", what);
    }
    let events = fields
        .tables("at", reference::AT, problems)
        .into_iter()
        .filter_map(|event| Event::read(event, beside, within, &names, problems))
        .collect();
    if let Some(flow) = participants.iter().find(|p| !p.client.is_in_call())
        && tier == Some(Tier::Virtual)
    {
        let what = format!("{} is TCP, which there is in real time only", flow.name);
        problems.add(tier_line, "tier", what);
    }
    let (changes, marks) = timeline::resolve(events, &participants, problems);
    let mut expectations = Vec::new();
    for entry in fields.tables("expect", reference::EXPECT, problems) {
        expectations.extend(expect::read(entry, within, &names, &participants, problems));
    }
    fields.finish(problems);
    Some(Scenario {
        name: name_of(file),
        title: title?,
        about: about.unwrap_or_default(),
        parameters,
        duration: duration?,
        tier: tier.unwrap_or(Tier::Real),
        workers,
        participants,
        changes,
        marks,
        expectations,
    })
}

fn read_server(fields: &mut Fields, problems: &mut Problems) -> Option<u32> {
    let mut server = fields.table("server", reference::SERVER, problems)?;
    let workers = server.parse("workers", problems, |text| {
        let workers = text.parse().ok().filter(|workers| *workers > 0);
        workers.ok_or_else(|| format!("\"{text}\" is not a number from 1"))
    });
    server.finish(problems);
    workers
}

/// The last directory and the file, without its ending.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let suite = file.parent().and_then(Path::file_name);
    match suite {
        Some(suite) => format!("{}/{stem}", suite.to_string_lossy()),
        None => stem.into_owned(),
    }
}

#[cfg(test)]
mod tests;
