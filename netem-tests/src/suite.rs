//! Running many scenarios and reporting on them: what `confab-netem run` and `compare` do.
//!
//! In: scenario files, or directories of them. Out: a line for every call as it ends, results.json,
//! report.html, and whether everything held that must.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::lab::LinkBackend;
use crate::needs::{self, Missing, Place};
use crate::real_time::{self, Programs, RunError, ServerKind, Setup};
use crate::recording::Recording;
use crate::report::{self, Group, ReadError, Results, RunInfo, RunResult, progress};
use crate::scenario::{self, Scenario, Tier};
use crate::virtual_time;

/// Where this crate's sources are: the browser's page is read from there.
const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

/// Above this share of packets that were forwarded late, a run says more of the machine than of the
/// network.
const LATE_SHARE: f64 = 0.02;

/// What to run, and how.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Scenario files, or directories of them, such as netem-tests/scenarios/loss
    #[arg(required = true)]
    pub scenarios: Vec<PathBuf>,
    /// Where results.json, report.html and logs go
    #[arg(long, value_name = "DIR", default_value = "netem-results")]
    pub out: PathBuf,
    /// The server: confab or janus; given twice, one after the other, side by side in the report
    #[arg(long = "server", value_name = "SERVER", default_value = "confab")]
    pub servers: Vec<ServerKind>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seeds, one run each; what must hold is judged by the median
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub seeds: u32,
    /// Run everything in virtual time, with simulated clients, or in real time, with real ones,
    /// whatever the scenarios say
    #[arg(long, value_name = "virtual|real")]
    pub tier: Option<Tier>,
    /// Run only what is named so: a part of a scenario's name with its parameters
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Use the kernel's own netem for the links, where the kernel has it
    #[arg(long)]
    pub kernel: bool,
    /// The server's program; CONFAB_BIN, or what is beside this program, if not given
    #[arg(long, value_name = "FILE")]
    pub confab: Option<PathBuf>,
}

/// Why a suite cannot be run or compared. That something did not hold is no error.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// Scenario files with mistakes.
    #[error("{0}")]
    Scenarios(String),
    /// Nothing to run.
    #[error("there is no scenario in {0}: give a .toml file, or a directory with some")]
    NoScenarios(String),
    /// A file or directory.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another server was asked for in virtual time.
    #[error(
        "{0}: in virtual time there is no server but ours; leave out --server, or give --tier real"
    )]
    NoServerInVirtualTime(String),
    /// This machine lacks something.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A run could not be made.
    #[error("{scenario}: {error}")]
    Run {
        /// Which.
        scenario: String,
        /// Why.
        error: RunError,
    },
    /// A results.json that is none.
    #[error("{}: {error}", path.display())]
    Results {
        /// Which.
        path: PathBuf,
        /// Why.
        error: ReadError,
    },
    /// Results that cannot be written as JSON.
    #[error("the results cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

impl SuiteError {
    /// The exit code of a program that ends with this.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            SuiteError::Run {
                error: RunError::Lab(error),
                ..
            } => error.exit_code(),
            _ => 1,
        }
    }
}

/// Runs scenarios and writes what came of them. Returns whether everything held. `reaper` is a
/// command that calls [`crate::lab::reap`] with its last argument.
///
/// # Errors
/// When something could not be run at all; what was run before that is written.
pub fn run(options: &Options, reaper: fn() -> Command) -> Result<bool, SuiteError> {
    let scenarios = load(options)?;
    fs::create_dir_all(&options.out).map_err(of_file(&options.out))?;
    let mut results = Results::new(context(options));
    let outcome = run_all(options, &scenarios, reaper, &mut results);
    write(&options.out.join("results.json"), &results.to_json()?)?;
    let page = options.out.join("report.html");
    write(&page, &report::write_html(&results))?;
    outcome?;
    let groups = report::groups(&results);
    let held = groups.iter().filter(|group| group.passed()).count();
    println!(
        "{held} of {} held; the report is {}",
        groups.len(),
        page.display()
    );
    Ok(groups.iter().all(Group::passed))
}

/// Says what got better and worse.
///
/// # Errors
/// When one of them cannot be read.
pub fn compare(before: &Path, after: &Path) -> Result<(), SuiteError> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).map_err(of_file(path))?;
        Results::from_json(&text).map_err(|error| SuiteError::Results {
            path: path.to_owned(),
            error,
        })
    };
    print!("{}", report::compare(&read(before)?, &read(after)?));
    Ok(())
}

fn of_file(path: &Path) -> impl FnOnce(io::Error) -> SuiteError {
    let path = path.to_owned();
    |error| SuiteError::File { path, error }
}

fn write(path: &Path, text: &str) -> Result<(), SuiteError> {
    fs::write(path, text).map_err(of_file(path))
}

/// What the results say of how they came about. No date: the same runs in virtual time make the same
/// bytes.
fn context(options: &Options) -> BTreeMap<String, String> {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let link = if options.kernel {
        "netem in the kernel"
    } else {
        "confab-netem"
    };
    [
        ("command", format!("confab-netem {}", command.join(" "))),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("links", link.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The files that were named, and those in directories, by name.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, SuiteError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(of_file(path))?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|ending| ending == "toml"))
            .collect();
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn load(options: &Options) -> Result<Vec<Scenario>, SuiteError> {
    let mut scenarios = Vec::new();
    let mut problems = Vec::new();
    for file in files(&options.scenarios)? {
        match Scenario::load(&file) {
            Ok(found) => scenarios.extend(found),
            Err(errors) => problems.push(errors.to_string()),
        }
    }
    if !problems.is_empty() {
        return Err(SuiteError::Scenarios(problems.join("\n")));
    }
    for scenario in &mut scenarios {
        scenario.tier = options.tier.unwrap_or(scenario.tier);
    }
    if let Some(only) = &options.only {
        scenarios.retain(|scenario| scenario.full_name().contains(only.as_str()));
    }
    if scenarios.is_empty() {
        let named = options
            .scenarios
            .iter()
            .map(|path| path.display().to_string());
        return Err(SuiteError::NoScenarios(
            named.collect::<Vec<_>>().join(", "),
        ));
    }
    Ok(scenarios)
}

/// Runs what is in virtual time on all cores, and then the rest one after the other.
fn run_all(
    options: &Options,
    scenarios: &[Scenario],
    reaper: fn() -> Command,
    results: &mut Results,
) -> Result<(), SuiteError> {
    let (virtual_ones, real_ones): (Vec<&Scenario>, Vec<&Scenario>) = scenarios
        .iter()
        .partition(|scenario| scenario.tier == Tier::Virtual);
    let seeds = options.seed..options.seed + u64::from(options.seeds);
    if let Some(first) = virtual_ones.first()
        && options.servers != [ServerKind::Confab]
        && real_ones.is_empty()
    {
        return Err(SuiteError::NoServerInVirtualTime(first.name.clone()));
    }
    let bench = match real_ones.is_empty() {
        true => None,
        false => Some(Bench::new(options, reaper)?),
    };
    if let Some(bench) = &bench {
        bench.check(&real_ones)?;
    }
    for seed in seeds.clone() {
        run_virtual(&virtual_ones, seed, results);
    }
    let Some(bench) = bench else {
        return Ok(());
    };
    for scenario in real_ones {
        for server in &options.servers {
            for seed in seeds.clone() {
                results.runs.push(bench.run(scenario, *server, seed)?);
            }
        }
    }
    Ok(())
}

fn run_virtual(scenarios: &[&Scenario], seed: u64, results: &mut Results) {
    let info = RunInfo {
        server: ServerKind::Confab.to_string(),
        tier: Tier::Virtual,
        seed,
    };
    let done = |scenario: &Scenario, recording: Recording| {
        let result = RunResult::new(scenario, &info, recording.call.start, &recording.clients);
        println!("{}", progress::line(&result));
        result
    };
    results
        .runs
        .extend(virtual_time::run::run_all(scenarios, seed, done));
}

/// What real-time runs share.
struct Bench<'a> {
    options: &'a Options,
    programs: Programs,
    reaper: fn() -> Command,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options, reaper: fn() -> Command) -> Result<Self, SuiteError> {
        let beside = |name: &str| -> Result<PathBuf, SuiteError> {
            let program = std::env::current_exe().map_err(of_file(Path::new(name)))?;
            Ok(program.with_file_name(name))
        };
        let from_environment = std::env::var_os("CONFAB_BIN").map(PathBuf::from);
        let confab = match options.confab.clone().or(from_environment) {
            Some(confab) => confab,
            None => beside("confab")?,
        };
        let media = options.out.join("media");
        fs::create_dir_all(&media).map_err(of_file(&media))?;
        let browser = Path::new(SOURCES).join("browser");
        let speech = media.join("speech.wav");
        // Participants make one themselves if this fails.
        let _ = Command::new("node")
            .arg(browser.join("make-speech.mjs"))
            .arg(&speech)
            .status();
        Ok(Bench {
            options,
            programs: Programs {
                confab,
                browser,
                bot: beside("confab-bot")?,
                speech,
                media,
            },
            reaper,
        })
    }

    /// Whether this machine has what the scenarios need.
    fn check(&self, scenarios: &[&Scenario]) -> Result<(), SuiteError> {
        let client_demo = Path::new(SOURCES).join("../client-demo");
        let is_asked_for = self.options.servers.contains(&ServerKind::Confab);
        let confab = is_asked_for.then(|| self.programs.confab.clone());
        let place = Place::here(client_demo, confab, self.programs.bot.clone());
        Ok(needs::check(scenarios, &place)?)
    }

    fn run(
        &self,
        scenario: &Scenario,
        server: ServerKind,
        seed: u64,
    ) -> Result<RunResult, SuiteError> {
        let name = scenario.full_name();
        let dir = self
            .options
            .out
            .join("logs")
            .join(log_dir(&name, server, seed));
        fs::create_dir_all(&dir).map_err(of_file(&dir))?;
        let setup = Setup {
            server,
            programs: self.programs.clone(),
            dir,
            reaper: self.reaper,
            backend: if self.options.kernel {
                LinkBackend::Kernel
            } else {
                LinkBackend::Userspace
            },
        };
        let total = scenario.duration;
        let recording = real_time::run(scenario, seed, &setup, |at| {
            show_progress(&name, server, at, total);
        });
        clear_progress();
        let recording = recording.map_err(|error| SuiteError::Run {
            scenario: name,
            error,
        })?;
        let info = RunInfo {
            server: server.to_string(),
            tier: Tier::Real,
            seed,
        };
        let mut result = RunResult::new(scenario, &info, recording.call.start, &recording.clients);
        result.failures.extend(recording.faults);
        println!("{}", progress::line(&result));
        if recording.late_share > LATE_SHARE {
            println!(
                "     the machine was busy: {:.0} % of packets were forwarded late, so the call \
                 suffered from more than its network",
                recording.late_share * 100.0
            );
        }
        Ok(result)
    }
}

/// A run's name as one directory.
fn log_dir(name: &str, server: ServerKind, seed: u64) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    format!("{}-{server}-{seed}", name.trim_matches('-'))
}

/// Where somebody watches, how far the call is.
fn show_progress(name: &str, server: ServerKind, at: Duration, total: Duration) {
    let mut out = io::stderr();
    if out.is_terminal() {
        let _ = write!(
            out,
            "\r{name} · {server}: {} of {}   ",
            scenario::describe::time(Duration::from_secs(at.as_secs())),
            scenario::describe::time(total)
        );
        let _ = out.flush();
    }
}

fn clear_progress() {
    let mut out = io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K");
    }
}
