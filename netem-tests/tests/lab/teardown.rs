//! Nothing is left of a lab, whatever became of the process that made it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::roles;

/// Within which the reaper is done: the grace that programs have, and room.
const MAX_TEARDOWN: Duration = Duration::from_secs(20);

/// How a lab ends that nobody ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Killed,
    /// The terminal sends it to everyone in the foreground.
    CtrlC,
    Panicked,
}

/// Starts a lab in a process of its own and waits until it says the word; what it said after it.
fn start(role: &str, word: &str, setting: &str) -> (Child, String) {
    let mut child = roles::command(role)
        .env(roles::ROLE, setting)
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program");
    let stdout = child.stdout.take().expect("a pipe");
    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut told = lines.filter_map(|line| Some(line.split_once(word)?.1.to_owned()));
    let told = told.next();
    (
        child,
        told.expect("a lab: is this root, and is there /dev/net/tun?"),
    )
}

/// Whatever of a lab is still there.
fn traces(marks: &[String], programs: &[String]) -> Vec<String> {
    let listed = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        String::from_utf8(output.expect(program).stdout).expect("text")
    };
    let lists = [
        listed("ls", &["/run/netns"]),
        listed("ip", &["-o", "link"]),
        listed("nft", &["list", "tables"]),
    ];
    let lines = lists.iter().flat_map(|list| list.lines());
    let named = lines.filter(|line| marks.iter().any(|mark| line.contains(mark)));
    // One that has ended and that nobody has asked about is no longer any program.
    let is_running =
        |pid: &&String| std::fs::read_link(PathBuf::from("/proc").join(pid).join("exe")).is_ok();
    let running = programs.iter().filter(is_running);
    named.map(str::to_owned).chain(running.cloned()).collect()
}

fn wait_until_gone(marks: &[String], programs: &[String]) {
    let deadline = Instant::now() + MAX_TEARDOWN;
    loop {
        let left = traces(marks, programs);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still there: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn nothing_is_left_of_a_lab_however_it_ends() {
    for end in [End::Killed, End::CtrlC, End::Panicked] {
        let setting = if end == End::Panicked {
            "panic"
        } else {
            "wait"
        };
        let (mut child, programs) = start(roles::VICTIM, "made ", setting);
        let programs: Vec<String> = programs.split_whitespace().map(str::to_owned).collect();
        let pid = child.id();
        let marks = [
            format!("confab-{pid}-"),
            format!("confab{pid}"),
            format!("confab_{pid}_"),
        ];
        if end != End::Panicked {
            let there = traces(&marks, &programs);
            // Server, client, its NAT, and a program in each of the first two.
            assert_eq!(there.len(), 5, "{there:?}");
        }
        let pid = Pid::from_child(&child);
        match end {
            End::Killed => kill_process(pid, Signal::KILL).expect("it runs"),
            End::CtrlC => kill_process_group(pid, Signal::INT).expect("it runs"),
            End::Panicked => {}
        }
        child.wait().expect("it ends");
        wait_until_gone(&marks, &programs);
    }
}

#[test]
fn a_link_between_namespaces_takes_those_with_it_that_it_has_made() {
    let (mut child, told) = start(roles::LINK, " is 198.18.0.1, ", "link");
    let marks = [format!("link-{}-", child.id())];
    assert!(told.contains("-b is 198.18.0.2"), "{told}");
    assert_eq!(traces(&marks, &[]).len(), 2);
    let [a, b] = ["a", "b"].map(|end| format!("link-{}-{end}", child.id()));
    let device = Command::new("ip").args(["-n", &a, "-o", "addr"]).output();
    let device = String::from_utf8(device.expect("ip").stdout).expect("text");
    assert!(device.contains("198.18.0.1"), "{a} and {b}: {device}");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    child.wait().expect("it ends");
    wait_until_gone(&marks, &[]);
}

/// The reaper itself is killed: the next lab tidies up.
#[test]
fn a_new_lab_sweeps_up_after_one_whose_reaper_is_dead() {
    let (mut child, programs) = start(roles::VICTIM, "made ", "wait");
    let programs: Vec<String> = programs.split_whitespace().map(str::to_owned).collect();
    let marks = [format!("confab-{}-", child.id())];
    for reaper in children(child.id(), "roles::reaper") {
        kill_process(reaper, Signal::KILL).expect("it runs");
    }
    kill_process(Pid::from_child(&child), Signal::KILL).expect("it runs");
    child.wait().expect("it ends");
    assert!(!traces(&marks, &[]).is_empty());
    drop(crate::new_lab());
    assert_eq!(traces(&marks, &programs), Vec::<String>::new());
}

/// The children of a process that have a word in their command line.
fn children(of: u32, word: &str) -> Vec<Pid> {
    let parent = format!("PPid:\t{of}\n");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let read = |file| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("status").contains(&parent) && read("cmdline").contains(word) {
            let pid = entry.file_name().to_string_lossy().parse();
            found.extend(pid.ok().and_then(Pid::from_raw));
        }
    }
    assert!(!found.is_empty(), "it has no such child");
    found
}
