//! Links in words, for the report.

use std::time::Duration;

use crate::link::{Impairment, Loss, Queue};

/// A link, like `50 ms, loss 30 %, 5 Mbit/s (queue 200 ms)`; `perfect` if nothing is wrong with it.
#[must_use]
pub fn link(link: &Impairment) -> String {
    let parts: Vec<String> = parts(link).into_iter().flatten().collect();
    if parts.is_empty() {
        "perfect".to_owned()
    } else {
        parts.join(", ")
    }
}

/// What is different after a change, in words; what is gone is called so.
#[must_use]
pub fn change(before: &Impairment, after: &Impairment) -> String {
    const NAMES: [&str; 8] = [
        "up again",
        "no delay",
        "no jitter",
        "no loss",
        "no stalls",
        "no duplicates",
        "no corruption",
        "no rate limit",
    ];
    let pairs = parts(before).into_iter().zip(parts(after)).zip(NAMES);
    let changed: Vec<String> = pairs
        .filter(|((before, after), _)| before != after)
        .map(|((_, after), gone)| after.unwrap_or_else(|| gone.to_owned()))
        .collect();
    changed.join(", ")
}

/// A time in the unit that suits it.
#[must_use]
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 1.0 {
        format!("{} s", number(seconds))
    } else {
        format!("{} ms", number(seconds * 1e3))
    }
}

fn parts(link: &Impairment) -> [Option<String>; 8] {
    let share =
        |what: &str, share: f64| (share > 0.0).then(|| format!("{what} {}", percent(share)));
    [
        (!link.is_up).then(|| "cut".to_owned()),
        (!link.delay.is_zero()).then(|| format!("delay {}", time(link.delay))),
        (!link.jitter.is_zero()).then(|| {
            let order = if link.reorders { ", reordering" } else { "" };
            format!("jitter {}{order}", time(link.jitter))
        }),
        match &link.loss {
            Loss::None => None,
            Loss::Random(loss) => share("loss", *loss),
            Loss::GilbertElliott(model) => Some(format!(
                "loss in bursts (p {}, r {}, {} and {})",
                percent(model.to_bad),
                percent(model.to_good),
                percent(model.loss_in_good),
                percent(model.loss_in_bad),
            )),
            Loss::Trace(trace) => Some(format!("loss as recorded ({} packets)", trace.len())),
        },
        link.stall.map(|stall| {
            format!(
                "stalls of {} every {}",
                time(stall.length),
                time(stall.every)
            )
        }),
        share("duplicates", link.duplicate),
        share("corrupt", link.corrupt),
        link.rate.map(|rate| {
            let queue = match rate.queue {
                Queue::Bytes(bytes) => format!("{} kB", number(bytes as f64 / 1e3)),
                Queue::Time(queue) => time(queue),
            };
            format!("{} (queue {queue})", bits(rate.bits_per_second))
        }),
    ]
}

fn bits(bits_per_second: u64) -> String {
    let rate = bits_per_second as f64;
    if rate >= 1e6 {
        format!("{} Mbit/s", number(rate / 1e6))
    } else {
        format!("{} kbit/s", number(rate / 1e3))
    }
}

fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

/// With two digits after the point at most.
fn number(number: f64) -> String {
    ((number * 100.0).round() / 100.0).to_string()
}
