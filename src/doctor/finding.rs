//! What a check has found, and how people read it.
//!
//! In: findings. Out: a line for each, and one that counts.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Some calls will be worse, or somebody should look.
    Warning,
    /// Calls will not come about, or the server does not start.
    Problem,
}

/// One sentence about one thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What is so and, unless all is well, what to do.
    pub(crate) text: String,
}

impl Finding {
    pub(crate) fn ok(text: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, text)
    }

    pub(crate) fn warning(text: impl Into<String>) -> Finding {
        Finding::new(Level::Warning, text)
    }

    pub(crate) fn problem(text: impl Into<String>) -> Finding {
        Finding::new(Level::Problem, text)
    }

    fn new(level: Level, text: impl Into<String>) -> Finding {
        Finding {
            level,
            text: text.into(),
        }
    }
}

/// Everything that was found, in the order of the checks.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Finding>);

impl Report {
    pub(crate) fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.0.extend(findings);
    }

    /// Whether anything keeps calls from coming about.
    pub(crate) fn has_problems(&self) -> bool {
        self.count(Level::Problem) > 0
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|f| f.level == level).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            let level = match finding.level {
                Level::Ok => "ok     ",
                Level::Warning => "warning",
                Level::Problem => "problem",
            };
            writeln!(f, "{level}  {}", finding.text)?;
        }
        let (problems, warnings) = (self.count(Level::Problem), self.count(Level::Warning));
        let verdict = match problems {
            0 => "nothing stops calls",
            _ => "calls will fail until the problems are gone",
        };
        let plural = |count| if count == 1 { "" } else { "s" };
        write!(
            f,
            "\n{problems} problem{}, {warnings} warning{}, {} ok: {verdict}.",
            plural(problems),
            plural(warnings),
            self.count(Level::Ok)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_finding_and_counts_them() {
        let mut report = Report::default();
        report.add([Finding::ok("a"), Finding::warning("b"), Finding::ok("c")]);
        assert!(!report.has_problems());
        assert_eq!(
            report.to_string(),
            "ok       a\nwarning  b\nok       c\n\n\
             0 problems, 1 warning, 2 ok: nothing stops calls."
        );
        report.add([Finding::problem("d")]);
        assert!(report.has_problems());
        assert!(
            report.to_string().ends_with(
                "1 problem, 1 warning, 2 ok: calls will fail until the problems are gone."
            )
        );
    }
}
