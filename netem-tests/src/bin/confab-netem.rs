//! `confab-netem`: calls over impaired networks, what they were like, and the impaired network by
//! itself.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use confab_netem_tests::lab::{self, LabError, cli};
use confab_netem_tests::suite::{self, Options, SuiteError};

/// The subcommand that a lab starts this program with to be tidied up after.
const REAP: &str = "reap";

/// Runs calls over impaired networks and reports what they were like.
#[derive(Debug, Parser)]
#[command(name = "confab-netem", version)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run scenarios and write results.json and report.html; exit code 2 when something did not hold
    Run(Options),
    /// Say what got better and what got worse from one results.json to another
    Compare {
        before: PathBuf,
        after: PathBuf,
    },
    Exec(cli::ExecArgs),
    Link(cli::BetweenArgs),
    /// Tidy up after a lab, which starts this itself
    #[command(name = REAP, hide = true)]
    Reap {
        /// What the names of the lab's namespaces begin with
        prefix: String,
    },
}

/// The exit code of a suite in which something did not hold that must.
const EXIT_NOT_HELD: u8 = 2;

fn main() -> ExitCode {
    match act(Cli::parse().action) {
        Ok(code) => ExitCode::from(code),
        Err(Failure { sentence, code }) => {
            eprintln!("{sentence}");
            ExitCode::from(code)
        }
    }
}

fn act(action: Action) -> Result<u8, Failure> {
    Ok(match action {
        Action::Run(options) => match suite::run(&options, reaper)? {
            true => 0,
            false => EXIT_NOT_HELD,
        },
        Action::Compare { before, after } => {
            suite::compare(&before, &after)?;
            0
        }
        // A shell's exit codes have eight bits, too.
        Action::Exec(arguments) => lab::exec(&arguments, reaper())? as u8,
        Action::Link(arguments) => match lab::link(&arguments, reaper())? {},
        Action::Reap { prefix } => {
            lab::reap(&prefix)?;
            0
        }
    })
}

/// What to print, and what to end with.
struct Failure {
    sentence: String,
    code: u8,
}

impl From<SuiteError> for Failure {
    fn from(error: SuiteError) -> Self {
        Failure {
            sentence: error.to_string(),
            code: error.exit_code(),
        }
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        Failure {
            sentence: error.to_string(),
            code: error.exit_code(),
        }
    }
}

/// This program, as the system has it, wherever it was moved meanwhile.
fn reaper() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(REAP);
    command
}
