//! What a person would notice of a call, from what its clients told once a second.
//!
//! In: [`ClientLog`]s, the lines of every client and the counters of its links. Out: for every
//! receiver and sender ([`Stream`]) and for every client ([`ClientFigures`]) the figures over the run
//! or any [`Window`] of it, and the same figures sample by sample. Nothing here knows a clock or a
//! network: the same lines give the same figures.
//!
//! Counters may begin anew when a client reconnects; what they had counted is kept.

mod client;
mod figure;
mod link;
mod stream;

use std::collections::BTreeMap;

use confab_bot::sample::{Line, Sample};
use serde::{Deserialize, Serialize};

pub use client::ClientFigures;
pub use figure::{Better, Figure, Info, Scope, Unit, markdown};
pub use link::{DirectionSample, LinkSample};
pub use stream::{Sends, Stream};

/// A client that has told nothing for so long before the end of the call, in seconds, is gone: what
/// it would have seen until then counts as nothing seen.
const SILENCE: f64 = 2.5;

/// Everything that is known of one client after a call.
#[derive(Clone, Debug, Default)]
pub struct ClientLog {
    /// Its name in the call.
    pub name: String,
    /// What it told, in order.
    pub lines: Vec<Line>,
    /// Its links, once a second; empty if it had none.
    pub link: Vec<LinkSample>,
}

/// When a call was.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CallTime {
    /// When it began, on the clock of the lines, milliseconds.
    pub start: f64,
    /// How long it was, seconds.
    pub duration: f64,
}

impl CallTime {
    /// Seconds since the beginning of the call.
    fn seconds(&self, at: f64) -> f64 {
        (at - self.start) / 1000.0
    }
}

/// A part of a call, in seconds from its beginning.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    /// Its beginning.
    pub from: f64,
    /// Its end.
    pub until: f64,
}

/// The figures that could be told; what has no value is not in it.
pub type Summary = BTreeMap<Figure, f64>;

/// Figures over time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    /// Seconds from the beginning of the call: the end of the time that a value is of.
    pub t: Vec<f64>,
    /// As many values for each figure; none where it could not be told.
    pub values: BTreeMap<Figure, Vec<Option<f64>>>,
}

impl Series {
    /// A series of these points.
    fn of(points: impl IntoIterator<Item = (f64, Summary)>) -> Self {
        let points: Vec<(f64, Summary)> = points.into_iter().collect();
        let mut series = Series::default();
        for (n, (t, figures)) in points.iter().enumerate() {
            series.t.push(rounded(*t));
            for (figure, value) in figures {
                let empty = || vec![None; points.len()];
                let values = series.values.entry(*figure).or_insert_with(empty);
                values[n] = Some(*value);
            }
        }
        series
    }
}

impl ClientLog {
    /// When it asked to join, milliseconds.
    fn joining(&self) -> Option<f64> {
        self.lines.iter().find_map(|line| match line {
            Line::Joining { at } => Some(*at),
            _ => None,
        })
    }

    /// When it was let in, milliseconds.
    fn joined(&self) -> Option<f64> {
        self.lines.iter().find_map(|line| match line {
            Line::Joined { at } => Some(*at),
            _ => None,
        })
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.lines.iter().filter_map(|line| match line {
            Line::Sample(sample) => Some(sample),
            _ => None,
        })
    }

    /// Why it could not go on, or that it never came.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let why = self.lines.iter().find_map(|line| match line {
            Line::Failed { why, .. } => Some(why),
            _ => None,
        });
        match why {
            Some(why) => Some(format!("{}: {why}", self.name)),
            None if self.joined().is_none() => Some(format!("{} never joined", self.name)),
            None => None,
        }
    }
}

/// How far a counter has come; one that is less than it was has begun anew.
fn grown(before: u64, now: u64) -> f64 {
    now.checked_sub(before).unwrap_or(now) as f64
}

/// As [`grown`], of a counter with a fraction.
fn grown_f64(before: f64, now: f64) -> f64 {
    if now >= before { now - before } else { now }
}

/// A part over the whole, times `scale`; nothing of nothing.
fn ratio(part: f64, whole: f64, scale: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole * scale)
}

/// The value below which so large a part, 0 to 1, of the values is.
fn quantile(mut values: Vec<f64>, part: f64) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * part).round() as usize).copied()
}

/// The middle of some values; of two in the middle, their mean.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((values[values.len() / 2 - 1] + upper) / 2.0)
}

/// To three digits after the point, which is more than any figure means; nothing is never negative.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3 + 0.0
}

/// The figures that have a value, rounded.
fn summary<const N: usize>(figures: [(Figure, Option<f64>); N]) -> Summary {
    let known = figures.into_iter().filter_map(|(figure, value)| {
        let value = value.filter(|value| value.is_finite())?;
        Some((figure, rounded(value)))
    });
    known.collect()
}

#[cfg(test)]
mod tests;
