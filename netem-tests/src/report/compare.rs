//! Two results, scenario by scenario: what got better, what got worse.
//!
//! A difference counts when it is larger than three things: the figure's own noise
//! ([`Info::noise`](crate::figures::Info::noise)), a tenth of what it was before, and how far any seed
//! strayed from the median in either result. With one seed there is no third, and what is close to
//! the first two may be chance.

use std::collections::BTreeMap;
use std::fmt;

use super::group::{Group, Spread, groups};
use super::results::Results;
use crate::figures::{Better, Figure};

/// The share of the earlier value up to which a difference is none.
const TOLERANCE: f64 = 0.1;

/// What is different between two results.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Compared {
    /// The scenarios in both, in the order of the earlier result.
    pub scenarios: Vec<ScenarioCompared>,
    /// Scenarios that are in the earlier result alone.
    pub only_before: Vec<String>,
    /// Scenarios that are in the later result alone.
    pub only_after: Vec<String>,
}

/// What is different in one scenario; nothing if all is within noise.
#[derive(Clone, PartialEq, Debug)]
pub struct ScenarioCompared {
    /// With its parameters, and its server where there are several.
    pub name: String,
    /// The figures that differ.
    pub differences: Vec<Difference>,
    /// What holds now and did not before.
    pub now_holds: Vec<String>,
    /// What held before and does not now.
    pub no_longer_holds: Vec<String>,
}

/// A figure that differs by more than noise.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Difference {
    pub figure: Figure,
    /// Earlier; none where it could not be told.
    pub before: Option<f64>,
    /// Later; none where it could not be told.
    pub after: Option<f64>,
    /// Whether that is better.
    pub is_better: bool,
}

/// Compares an earlier result with a later one. Where each has one server, it may be another.
#[must_use]
pub fn compare(before: &Results, after: &Results) -> Compared {
    let has_one_server = |results: &Results| {
        let mut servers = results.runs.iter().map(|run| &run.server);
        let first = servers.next();
        servers.all(|server| Some(server) == first)
    };
    let is_by_server = !(has_one_server(before) && has_one_server(after));
    let name = |group: &Group<'_>| {
        let run = group.first();
        match is_by_server {
            true => format!("{} on {}", run.full_name(), run.server),
            false => run.full_name(),
        }
    };
    let mut later: BTreeMap<String, Group<'_>> = BTreeMap::new();
    for group in groups(after) {
        later.entry(name(&group)).or_insert(group);
    }
    let mut compared = Compared::default();
    for group in groups(before) {
        let name = name(&group);
        match later.remove(&name) {
            Some(after) => compared
                .scenarios
                .push(compare_scenario(name, &group, &after)),
            None => compared.only_before.push(name),
        }
    }
    compared.only_after = later.into_keys().collect();
    compared
}

fn compare_scenario(name: String, before: &Group<'_>, after: &Group<'_>) -> ScenarioCompared {
    let differences = Figure::ALL
        .iter()
        .filter_map(|figure| difference(*figure, before.spread(*figure), after.spread(*figure)));
    let broken = |group: &Group<'_>| -> Vec<String> {
        let verdicts = group
            .verdicts()
            .into_iter()
            .filter(|verdict| !verdict.holds);
        let verdicts = verdicts.map(|verdict| format!("{}: {}", verdict.who, verdict.text));
        verdicts.chain(group.failures()).collect()
    };
    let (was_broken, is_broken) = (broken(before), broken(after));
    let without = |some: &[String], others: &[String]| {
        let some = some.iter().filter(|one| !others.contains(one));
        some.cloned().collect::<Vec<String>>()
    };
    ScenarioCompared {
        name,
        differences: differences.collect(),
        now_holds: without(&was_broken, &is_broken),
        no_longer_holds: without(&is_broken, &was_broken),
    }
}

fn difference(figure: Figure, before: Option<Spread>, after: Option<Spread>) -> Option<Difference> {
    let info = figure.info();
    let difference = |is_better| Difference {
        figure,
        before: before.map(|spread| spread.median),
        after: after.map(|spread| spread.median),
        is_better,
    };
    if info.better == Better::Neither {
        return None;
    }
    match (before, after) {
        (None, None) => None,
        // What can be told now could not be, or the other way round.
        (None, Some(_)) => Some(difference(true)),
        (Some(_), None) => Some(difference(false)),
        (Some(a), Some(b)) => {
            let change = b.median - a.median;
            let tolerance = [info.noise, TOLERANCE * a.median.abs(), a.stray, b.stray];
            let tolerance = tolerance.into_iter().fold(0.0, f64::max);
            let is_better = (change > 0.0) == (info.better == Better::Higher);
            (change.abs() > tolerance).then(|| difference(is_better))
        }
    }
}

impl ScenarioCompared {
    fn is_same(&self) -> bool {
        self.differences.is_empty() && self.now_holds.is_empty() && self.no_longer_holds.is_empty()
    }

    fn has(&self, is_better: bool) -> bool {
        let broken = if is_better {
            &self.now_holds
        } else {
            &self.no_longer_holds
        };
        !broken.is_empty() || self.differences.iter().any(|d| d.is_better == is_better)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |is: &dyn Fn(&ScenarioCompared) -> bool| {
            self.scenarios
                .iter()
                .filter(|scenario| is(scenario))
                .count()
        };
        writeln!(
            f,
            "{} compared: {} better in something, {} worse in something, {} the same within noise",
            self.scenarios.len(),
            count(&|scenario| scenario.has(true)),
            count(&|scenario| scenario.has(false)),
            count(&ScenarioCompared::is_same),
        )?;
        for scenario in self.scenarios.iter().filter(|scenario| !scenario.is_same()) {
            writeln!(f, "\n{}", scenario.name)?;
            for what in &scenario.no_longer_holds {
                writeln!(f, "  no longer holds  {what}")?;
            }
            for what in &scenario.now_holds {
                writeln!(f, "  holds now        {what}")?;
            }
            for difference in &scenario.differences {
                writeln!(f, "{difference}")?;
            }
        }
        for (names, which) in [(&self.only_before, "earlier"), (&self.only_after, "later")] {
            if !names.is_empty() {
                writeln!(f, "\nOnly in the {which} result: {}", names.join("; "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.is_better { "better" } else { "worse" };
        let show = |value: Option<f64>| match value {
            Some(value) => self.figure.show(value),
            None => "–".to_owned(),
        };
        let (before, after) = (show(self.before), show(self.after));
        write!(
            f,
            "  {way:6}  {:22} {before} → {after}",
            self.figure.info().title
        )
    }
}
