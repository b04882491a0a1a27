//! The runs of one scenario on one server, with one combination of parameters: as many as seeds. What
//! is said of them is the median.

use std::collections::BTreeMap;

use super::results::{Results, RunResult};
use crate::figures::{Figure, median};

/// The runs that differ in nothing but the seed.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    runs: Vec<&'a RunResult>,
}

/// A figure over the seeds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// In the middle.
    pub median: f64,
    /// The largest distance of a seed from the median.
    pub stray: f64,
}

/// What had to hold for one, over the seeds.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// In words: `video frozen < 5 %`.
    pub text: String,
    /// The figure.
    pub figure: Figure,
    /// Of whom: `bob ← alice`, or `bob`.
    pub who: String,
    /// The median, if every seed could tell.
    pub value: Option<f64>,
    /// Whether it held.
    pub holds: bool,
}

/// The runs by scenario, parameters and server, in the order of their first ones.
#[must_use]
pub fn groups(results: &Results) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut places = BTreeMap::new();
    for run in &results.runs {
        let place = *places
            .entry((run.full_name(), &run.server, &run.tier))
            .or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { runs: vec![run] }),
        }
    }
    groups
}

impl<'a> Group<'a> {
    /// The run that stands for all where one must.
    #[must_use]
    pub fn first(&self) -> &'a RunResult {
        self.runs[0]
    }

    /// How many seeds were run.
    #[must_use]
    pub fn seeds(&self) -> usize {
        self.runs.len()
    }

    /// A figure where it is worst in each call, over the seeds; nothing if no seed could tell.
    #[must_use]
    pub fn spread(&self, figure: Figure) -> Option<Spread> {
        let worst = self.runs.iter().filter_map(|run| run.worst(figure));
        Spread::of(worst.collect())
    }

    /// A figure of one stream, over the seeds.
    #[must_use]
    pub fn of_stream(&self, receiver: &str, sender: &str, figure: Figure) -> Option<f64> {
        let streams = self.runs.iter().flat_map(|run| &run.streams);
        let streams = streams.filter(|s| s.receiver == receiver && s.sender == sender);
        median(
            streams
                .filter_map(|s| s.figures.get(&figure).copied())
                .collect(),
        )
    }

    /// What had to hold, judged by the median of the seeds.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let expected = self.first().expectations.iter().enumerate();
        let verdicts = expected.map(|(n, one)| {
            let values = self.runs.iter().map(|run| run.expectations.get(n)?.value);
            let values: Option<Vec<f64>> = values.collect();
            let value = values.and_then(median);
            Verdict {
                text: one.text.clone(),
                figure: one.figure,
                who: match &one.sender {
                    Some(sender) => format!("{} ← {sender}", one.receiver),
                    None => one.receiver.clone(),
                },
                value,
                holds: value.is_some_and(|value| one.limit.holds(value)),
            }
        });
        verdicts.collect()
    }

    /// Who could not take part in any of the runs, and why.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let several = self.runs.len() > 1;
        let runs = self.runs.iter();
        runs.flat_map(|run| run.failures.iter().map(move |why| (run.seed, why)))
            .map(|(seed, why)| match several {
                true => format!("seed {seed}: {why}"),
                false => why.clone(),
            })
            .collect()
    }

    /// Whether all took part and everything held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().is_empty() && self.verdicts().iter().all(|verdict| verdict.holds)
    }
}

impl Spread {
    fn of(values: Vec<f64>) -> Option<Self> {
        let median = median(values.clone())?;
        let strays = values.iter().map(|value| (value - median).abs());
        Some(Spread {
            median,
            stray: strays.fold(0.0, f64::max),
        })
    }
}
