//! What a scenario says of a link: only what it says, so that the rest stays as it was.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::node::{Fields, Node, Value};
use super::problem::Problems;
use super::reference::{LOSS, STALL};
use crate::link::{GilbertElliott, Impairment, Loss, Queue, Rate, Stall};
use crate::units::{bursts, parse_duration, parse_loss, parse_percent, parse_queue, parse_rate};

/// What waits before a bottleneck when the scenario does not say: about what home routers hold.
const DEFAULT_QUEUE: Queue = Queue::Time(Duration::from_millis(200));

/// What changes on one direction of a link. The default changes nothing.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct LinkChange {
    delay: Option<Duration>,
    jitter: Option<Duration>,
    reorders: Option<bool>,
    loss: Option<Loss>,
    stall: Option<Option<Stall>>,
    duplicate: Option<f64>,
    corrupt: Option<f64>,
    rate: Option<Option<u64>>,
    queue: Option<Queue>,
    /// Whether nothing gets through.
    pub(super) cut: bool,
}

impl LinkChange {
    pub(super) fn is_nothing(&self) -> bool {
        *self == LinkChange::default()
    }

    /// What `other` says, and what this one says where the other is silent.
    pub(super) fn overridden_by(&self, other: &LinkChange) -> LinkChange {
        LinkChange {
            delay: other.delay.or(self.delay),
            jitter: other.jitter.or(self.jitter),
            reorders: other.reorders.or(self.reorders),
            loss: other.loss.clone().or_else(|| self.loss.clone()),
            stall: other.stall.or(self.stall),
            duplicate: other.duplicate.or(self.duplicate),
            corrupt: other.corrupt.or(self.corrupt),
            rate: other.rate.or(self.rate),
            queue: other.queue.or(self.queue),
            cut: self.cut || other.cut,
        }
    }

    /// How a link behaves after this change.
    ///
    /// # Errors
    /// A sentence, when there is a queue and no bottleneck before which it could form.
    pub(super) fn apply(&self, before: &Impairment) -> Result<Impairment, String> {
        let bits_per_second = self
            .rate
            .unwrap_or(before.rate.map(|rate| rate.bits_per_second));
        let queue = self.queue.or(before.rate.map(|rate| rate.queue));
        if self.queue.is_some() && bits_per_second.is_none() {
            return Err("has no rate: a queue forms only before a bottleneck".to_owned());
        }
        Ok(Impairment {
            is_up: !self.cut,
            loss: self.loss.clone().unwrap_or_else(|| before.loss.clone()),
            delay: self.delay.unwrap_or(before.delay),
            jitter: self.jitter.unwrap_or(before.jitter),
            reorders: self.reorders.unwrap_or(before.reorders),
            stall: self.stall.unwrap_or(before.stall),
            duplicate: self.duplicate.unwrap_or(before.duplicate),
            corrupt: self.corrupt.unwrap_or(before.corrupt),
            rate: bits_per_second.map(|bits_per_second| Rate {
                bits_per_second,
                queue: queue.unwrap_or(DEFAULT_QUEUE),
            }),
        })
    }

    /// Reads the table of one direction.
    pub(super) fn read(mut fields: Fields, beside: &Path, problems: &mut Problems) -> LinkChange {
        let change = Self::read_some(&mut fields, beside, problems);
        fields.finish(problems);
        change
    }

    /// Reads `link`: both directions, upward first.
    pub(super) fn read_both(
        mut fields: Fields,
        beside: &Path,
        problems: &mut Problems,
    ) -> (LinkChange, LinkChange) {
        let both = Self::read_some(&mut fields, beside, problems);
        let line = fields.line_of("loss_direction");
        let direction = fields.parse("loss_direction", problems, |text| match text {
            "both" => Ok((true, true)),
            "up" => Ok((true, false)),
            "down" => Ok((false, true)),
            _ => Err(format!("\"{text}\" is not both, up or down")),
        });
        if direction.is_some() && both.loss.is_none() {
            let key = fields.key("loss_direction");
            problems.add(
                line,
                key,
                "there is no loss here that could have a direction",
            );
        }
        fields.finish(problems);
        let (is_up, is_down) = direction.unwrap_or((true, true));
        let with_loss = |has_loss: bool| LinkChange {
            loss: both.loss.clone().filter(|_| has_loss),
            ..both.clone()
        };
        (with_loss(is_up), with_loss(is_down))
    }

    fn read_some(fields: &mut Fields, beside: &Path, problems: &mut Problems) -> LinkChange {
        let loss_key = fields.key("loss");
        let stall_key = fields.key("stall");
        LinkChange {
            delay: fields.parse("delay", problems, parse_duration),
            jitter: fields.parse("jitter", problems, parse_duration),
            reorders: fields.parse("reorder", problems, parse_flag),
            loss: fields
                .take("loss")
                .and_then(|node| read_loss(node, &loss_key, beside, problems)),
            stall: fields
                .take("stall")
                .and_then(|node| read_stall(node, &stall_key, problems)),
            duplicate: fields.parse("duplicate", problems, parse_percent),
            corrupt: fields.parse("corrupt", problems, parse_percent),
            rate: fields.parse("rate", problems, |text| match text {
                "none" => Ok(None),
                text => parse_rate(text).map(Some),
            }),
            queue: fields.parse("queue", problems, parse_queue),
            cut: false,
        }
    }
}

/// `true` or `false`.
pub(super) fn parse_flag(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| format!("\"{text}\" is neither true nor false"))
}

fn read_loss(node: Node, key: &str, beside: &Path, problems: &mut Problems) -> Option<Loss> {
    let line = node.line;
    let found = match &node.value {
        Value::Text(text) => parse_loss(text),
        _ => {
            let mut fields = Fields::of(node, key, LOSS, problems)?;
            let loss = read_loss_table(&mut fields, beside, problems)?;
            fields.finish(problems);
            loss
        }
    };
    match found {
        Ok(loss) => Some(loss),
        Err(what) => {
            problems.add(line, key, what);
            None
        }
    }
}

/// Nothing, when a key in it was wrong and that has been said.
fn read_loss_table(
    fields: &mut Fields,
    beside: &Path,
    problems: &mut Problems,
) -> Option<Result<Loss, String>> {
    if fields.has("trace") {
        let trace = fields.parse("trace", problems, |name| read_trace(&beside.join(name)))?;
        return Some(Ok(Loss::Trace(trace)));
    }
    if fields.has("p") || fields.has("r") {
        let to_bad = fields.need("p", problems, parse_percent);
        let to_good = fields.need("r", problems, parse_percent);
        let good = fields.parse("good", problems, parse_percent);
        let bad = fields.parse("bad", problems, parse_percent);
        return Some(Ok(Loss::GilbertElliott(GilbertElliott {
            to_bad: to_bad?,
            to_good: to_good?,
            loss_in_good: good.unwrap_or(0.0),
            loss_in_bad: bad.unwrap_or(1.0),
        })));
    }
    let share = fields.need("burst", problems, parse_percent);
    let mean = fields.need("mean", problems, |text| {
        text.parse()
            .map_err(|_| format!("\"{text}\" is not a number of packets, like 4"))
    });
    Some(bursts(share?, mean?).map(Loss::GilbertElliott))
}

/// A file of `0` and `1`, with any space between them and comments from `#` to the end of the line.
fn read_trace(file: &Path) -> Result<Arc<[bool]>, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let lines = text.lines().map(|line| line.split('#').next());
    let marks = lines.flatten().flat_map(str::chars);
    let marks = marks.filter(|c| !c.is_whitespace());
    let trace: Result<Vec<bool>, String> = marks
        .map(|c| match c {
            '0' => Ok(false),
            '1' => Ok(true),
            c => Err(format!(
                "{} has a '{c}' in it: a trace is of 0 (arrives) and 1 (lost)",
                file.display()
            )),
        })
        .collect();
    match trace? {
        trace if trace.is_empty() => Err(format!("{} is empty", file.display())),
        trace => Ok(trace.into()),
    }
}

/// Nothing, with a problem, when it was wrong; `Some(None)` takes a stall away.
fn read_stall(node: Node, key: &str, problems: &mut Problems) -> Option<Option<Stall>> {
    if matches!(&node.value, Value::Text(text) if text == "none") {
        return Some(None);
    }
    let mut fields = Fields::of(node, key, STALL, problems)?;
    let every = fields.need("every", problems, parse_duration);
    let length = fields.need("length", problems, parse_duration);
    let line = fields.line;
    fields.finish(problems);
    let stall = Stall {
        every: every?,
        length: length?,
    };
    if stall.length >= stall.every {
        problems.add(
            line,
            key,
            "it must be shorter than the time from one to the next",
        );
    }
    Some(Some(stall))
}

/// Between two states of a link: the share `part`, 0 to 1, of the way. What has no middle is as in
/// the second from the beginning.
///
/// # Errors
/// A sentence, when there is no way between the two.
pub(super) fn between(from: &Impairment, to: &Impairment, part: f64) -> Result<Impairment, String> {
    let number = |a: f64, b: f64| a + (b - a) * part;
    let time = |a: Duration, b: Duration| {
        Duration::from_secs_f64(number(a.as_secs_f64(), b.as_secs_f64()))
    };
    let loss = match (&from.loss, &to.loss) {
        (a, b) if a == b => a.clone(),
        (a, b) => match (share(a), share(b)) {
            (Some(a), Some(b)) => Loss::Random(number(a, b)),
            _ => return Err("only single losses have a way between them, not bursts".to_owned()),
        },
    };
    let rate = match (from.rate, to.rate) {
        (Some(a), Some(b)) => Some(Rate {
            bits_per_second: number(a.bits_per_second as f64, b.bits_per_second as f64).round()
                as u64,
            queue: b.queue,
        }),
        (None, None) => None,
        _ => {
            return Err(
                "there must be a rate before and after, to go from one to the other".into(),
            );
        }
    };
    Ok(Impairment {
        loss,
        rate,
        delay: time(from.delay, to.delay),
        jitter: time(from.jitter, to.jitter),
        duplicate: number(from.duplicate, to.duplicate),
        corrupt: number(from.corrupt, to.corrupt),
        ..to.clone()
    })
}

fn share(loss: &Loss) -> Option<f64> {
    match loss {
        Loss::None => Some(0.0),
        Loss::Random(share) => Some(*share),
        Loss::GilbertElliott(_) | Loss::Trace(_) => None,
    }
}
