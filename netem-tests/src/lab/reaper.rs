//! Teardown. A lab starts a second process, the reaper, that outlives it and tidies up after it,
//! however it ends: by itself, by Ctrl-C, by a panic, or killed.
//!
//! In: what there is to undo beyond namespaces, as lines on the reaper's standard input, and the end
//! of those lines, which is the end of the lab. Out: a machine without a trace of the lab.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::LabError;
use super::namespace::{NAMES, ip, nft, run};

/// What the reaper says when it is listening.
const READY: &str = "the reaper is listening";

/// What the names of namespaces begin with.
const LAB: &str = "confab";

/// How long processes have to end by themselves: browsers remove their profiles.
const GRACE: Duration = Duration::from_secs(1);

/// How long killed processes may take to be gone.
const MAX_DYING: Duration = Duration::from_secs(5);

/// Between two looks at who is left.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Rounds of tidying up, when something does not go at once.
const MAX_ROUNDS: usize = 10;

/// Between two rounds; longer than a tool takes to make a namespace.
const NEXT_ROUND: Duration = Duration::from_millis(50);

/// Something outside the lab's namespaces that is to be undone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Undo {
    /// Delete a namespace that is not named after the lab.
    Namespace(String),
    /// Delete a table of the host's netfilter.
    Table(String),
    /// Set one of `/proc/sys/net` back.
    Setting(String, String),
}

impl Undo {
    fn to_line(&self) -> String {
        match self {
            Undo::Namespace(name) => format!("namespace {name}"),
            Undo::Table(name) => format!("table {name}"),
            Undo::Setting(setting, value) => format!("setting {setting} {value}"),
        }
    }

    fn from_line(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["namespace", name] => Some(Undo::Namespace(name.to_owned())),
            ["table", name] => Some(Undo::Table(name.to_owned())),
            ["setting", setting, value] => {
                Some(Undo::Setting(setting.to_owned(), value.to_owned()))
            }
            _ => None,
        }
    }

    fn perform(&self) -> Result<(), LabError> {
        match self {
            Undo::Namespace(_) => Ok(()),
            Undo::Table(name) => nft(&format!(
                "table inet {name} {{}}\ndelete table inet {name}\n"
            )),
            Undo::Setting(setting, value) => {
                fs::write(Path::new("/proc/sys/net").join(setting), value)
                    .map_err(LabError::of(format!("setting {setting} back to {value}")))
            }
        }
    }
}

/// The reaper as its lab sees it. When this is dropped, the lab is over and all is tidied up.
#[derive(Debug)]
pub(super) struct Reaper {
    process: Child,
    lines: Option<ChildStdin>,
    /// Open, lest what the reaper says end it.
    _stdout: BufReader<ChildStdout>,
}

impl Reaper {
    /// Starts a command that calls [`reap`] with its last argument.
    pub(super) fn start(mut command: Command, prefix: &str) -> Result<Self, LabError> {
        let what = format!("starting the reaper {command:?}");
        let mut process = command
            .arg(prefix)
            // Out of the reach of the terminal's Ctrl-C.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(LabError::of(what.clone()))?;
        let silent = || io::Error::other("it is not one: it did not say that it is listening");
        let (Some(lines), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(LabError::of(what)(silent()));
        };
        let mut stdout = BufReader::new(stdout);
        let is_ready = stdout
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains(READY));
        let reaper = Reaper {
            process,
            lines: Some(lines),
            _stdout: stdout,
        };
        if is_ready {
            Ok(reaper)
        } else {
            Err(LabError::of(what)(silent()))
        }
    }

    /// Has something undone at the end. To be said before it is done.
    pub(super) fn will(&mut self, undo: &Undo) -> Result<(), LabError> {
        let Some(lines) = &mut self.lines else {
            return Ok(());
        };
        writeln!(lines, "{}", undo.to_line()).map_err(LabError::of("telling the reaper"))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.process.wait();
    }
}

/// What the names of everything of one lab begin with.
pub(super) fn prefix(number: u32) -> String {
    format!("{LAB}-{}-{number}-", std::process::id())
}

/// The reaper's whole life: waits for the end of standard input and then removes every namespace of
/// the lab with this prefix, and every process in it.
///
/// # Errors
/// When this is no prefix of a lab, or something cannot be removed.
pub fn reap(prefix: &str) -> Result<(), LabError> {
    if owner(prefix).is_none() || !prefix.ends_with('-') {
        return Err(LabError::BadName(prefix.to_owned()));
    }
    println!("{READY}");
    let lines = io::stdin().lines().map_while(Result::ok);
    let undos: Vec<Undo> = lines.filter_map(|line| Undo::from_line(&line)).collect();
    let is_ours =
        |name: &str| name.starts_with(prefix) || undos.contains(&Undo::Namespace(name.to_owned()));
    let first = remove(is_ours);
    // A tool that the lab had just started when it was killed may have made one more.
    std::thread::sleep(NEXT_ROUND);
    let result = first.and(remove(is_ours));
    undos.iter().map(Undo::perform).fold(result, Result::and)
}

/// Removes what labs have left behind whose process is gone, and whose reaper is as well.
pub(super) fn sweep() -> Result<(), LabError> {
    remove(|name| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()))
}

/// The process whose lab has made the namespace of this name.
fn owner(name: &str) -> Option<&str> {
    let mut parts = name.splitn(4, '-');
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if parts.next() != Some(LAB) {
        return None;
    }
    let pid = parts.next().filter(is_number)?;
    parts.next().filter(is_number)?;
    parts.next().map(|_| pid)
}

/// Removes the namespaces that are meant, until there are none.
fn remove(is_meant: impl Fn(&str) -> bool) -> Result<(), LabError> {
    let mut result = Ok(());
    for _ in 0..MAX_ROUNDS {
        let names: Vec<String> = entries(NAMES).into_iter().filter(|n| is_meant(n)).collect();
        if names.is_empty() {
            return Ok(());
        }
        end_processes(&names);
        result = names
            .iter()
            .map(|name| run(ip().args(["netns", "delete", name])).map(drop))
            .fold(Ok(()), Result::and);
        std::thread::sleep(NEXT_ROUND);
    }
    result
}

fn entries(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string());
    names.filter_map(Result::ok).collect()
}

/// Ends every process in some namespaces: first they are asked, then they are killed.
fn end_processes(namespaces: &[String]) {
    for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, MAX_DYING)] {
        let deadline = Instant::now() + patience;
        for pid in processes(namespaces) {
            let _ = kill_process(pid, signal);
        }
        while Instant::now() < deadline {
            let left = processes(namespaces);
            if left.is_empty() {
                return;
            }
            if signal == Signal::KILL {
                // Those, too, that were born since.
                for pid in left {
                    let _ = kill_process(pid, signal);
                }
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Every process in some namespaces, and their descendants wherever they are: browsers give theirs
/// namespaces of their own.
fn processes(namespaces: &[String]) -> Vec<Pid> {
    let identity = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let meant: Vec<(u64, u64)> = namespaces
        .iter()
        .filter_map(|name| identity(&Path::new(NAMES).join(name)))
        .collect();
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut found = Vec::new();
    for pid in entries("/proc").iter().filter_map(|e| e.parse().ok()) {
        let process = Path::new("/proc").join(i32::to_string(&pid));
        // `pid (name) state parent …`; the name may have anything in it (proc(5)).
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
        if identity(&process.join("ns/net")).is_some_and(|id| meant.contains(&id)) {
            found.push(pid);
        }
    }
    let mut all = Vec::new();
    while let Some(pid) = found.pop() {
        // Whom this process has as children is no longer asked for: each is found once.
        found.extend(children.remove(&pid).unwrap_or_default());
        if !all.contains(&pid) {
            all.push(pid);
        }
    }
    all.into_iter().filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lab_s_own_names_are_a_lab_s() {
        let cases = [
            ("confab-12-0-alice", Some("12")),
            ("confab-12-0-", Some("12")),
            ("confab-12-3-alice-nat", Some("12")),
            ("confab-12-0", None),
            ("confab-alice-0-bob", None),
            ("confab--0-bob", None),
            ("confab", None),
            ("docker-12-0-x", None),
            ("", None),
        ];
        for (name, pid) in cases {
            assert_eq!(owner(name), pid, "{name}");
        }
        assert!(reap("").is_err());
        assert!(reap("confab-12-0-alice").is_err());
        assert!(prefix(3).ends_with("-3-"));
        assert!(owner(&prefix(3)).is_some());
    }

    #[test]
    fn what_is_to_be_undone_survives_the_way_to_the_reaper() {
        let undos = [
            Undo::Namespace("lab-a".to_owned()),
            Undo::Table("confab_12_0".to_owned()),
            Undo::Setting("ipv4/ip_forward".to_owned(), "0".to_owned()),
        ];
        for undo in undos {
            assert_eq!(Undo::from_line(&undo.to_line()), Some(undo));
        }
        assert_eq!(Undo::from_line("table a; flush ruleset"), None);
    }
}
