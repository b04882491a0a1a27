//! What is wrong with a scenario file: every problem with its line and its key, all of them at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with one file. Shown as one line a problem:
/// `loss.toml:14: participant.uplink.loss: "130%" is more than all: 100% is the most`.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub struct Errors {
    /// The file.
    pub file: PathBuf,
    /// At least one, in the order of their lines.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// From 1; 0 is the file as a whole.
    pub line: usize,
    /// The way to it, with dots; empty when no key is to blame.
    pub key: String,
    /// A sentence that says what is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if problem.line > 0 {
                write!(f, ":{}", problem.line)?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.what)?;
        }
        Ok(())
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn add(&mut self, line: usize, key: impl Into<String>, what: impl Into<String>) {
        self.found.push(Problem {
            line,
            key: key.into(),
            what: what.into(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, each once: a file that is read once for every combination of its matrix has
    /// most of its problems in each.
    pub(super) fn into_errors(mut self, file: &Path) -> Errors {
        self.found.sort();
        self.found.dedup();
        Errors {
            file: file.to_owned(),
            problems: self.found,
        }
    }
}
