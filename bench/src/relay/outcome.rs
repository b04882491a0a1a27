//! What came of a comparison, as a table.

use std::fmt;
use std::path::Path;
use std::process::Command;

use super::load::Pace;
use super::{Comparison, Measured};

/// A load, and what both servers did with it: ours first, round by round.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) rounds: Vec<(Measured, Measured)>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The machine and what ran on it.
    circumstances: String,
    rows: Vec<Row>,
}

impl Outcome {
    pub(super) fn of(comparison: &Comparison, rows: Vec<Row>) -> anyhow::Result<Outcome> {
        let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split(": ").nth(1));
        Ok(Outcome {
            circumstances: format!(
                "{} cores of {}, Linux {}; {}; coturn {}; {} clients, {} s a load, {} rounds",
                cpus.matches("processor\t").count(),
                model.unwrap_or("an unknown kind"),
                std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
                version(&comparison.confab)?,
                version(&comparison.coturn)?,
                comparison.clients,
                comparison.duration.as_secs(),
                comparison.rounds,
            ),
            rows,
        })
    }
}

/// What a program says its version is: the last line that it prints.
fn version(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.trim().lines().last().unwrap_or_default().to_owned())
}

impl Measured {
    fn microseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.done.max(1) as f64
    }

    fn lost_percent(&self) -> f64 {
        100.0 * (1.0 - self.done as f64 / self.sent.max(1) as f64)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.circumstances)?;
        writeln!(
            f,
            "CPU µs for each packet relayed, or allocation: medians\n"
        )?;
        writeln!(
            f,
            "| load | ours | coturn | ratio | lowest to highest ratio | lost, ours | lost, coturn |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- |")?;
        for Row { name, rounds } in &self.rows {
            let of_each = |value: &dyn Fn(&(Measured, Measured)) -> f64| {
                let mut values: Vec<f64> = rounds.iter().map(value).collect();
                values.sort_by(f64::total_cmp);
                values
            };
            let ours = of_each(&|(ours, _)| ours.microseconds());
            let theirs = of_each(&|(_, theirs)| theirs.microseconds());
            let ratios = of_each(&|(ours, theirs)| ours.microseconds() / theirs.microseconds());
            writeln!(
                f,
                "| {name} | {:.2} | {:.2} | {:.2} | {:.2} to {:.2} | {:.2} % | {:.2} % |",
                median(&ours),
                median(&theirs),
                median(&ratios),
                ratios.first().copied().unwrap_or(f64::NAN),
                ratios.last().copied().unwrap_or(f64::NAN),
                median(&of_each(&|(ours, _)| ours.lost_percent())),
                median(&of_each(&|(_, theirs)| theirs.lost_percent())),
            )?;
        }
        Ok(())
    }
}

/// The middle of sorted values, or of its two if their number is even.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len().saturating_sub(1) / 2..sorted.len() / 2 + 1;
    let middle = sorted.get(middle).unwrap_or_default();
    middle.iter().sum::<f64>() / middle.len() as f64
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Media => write!(f, "paced as media"),
            Pace::Flat(len) => write!(f, "{len} bytes flat out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert!(median(&[]).is_nan());
    }
}
