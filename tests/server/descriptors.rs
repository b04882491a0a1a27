//! How many descriptors the real binary takes, and what it does when there are none left.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::support::{Directory, get_plain, within};

/// The binary in a shell that has set limits first, and where its page is.
async fn start(directory: &Directory, limits: &str) -> (Child, SocketAddr) {
    let confab = env!("CARGO_BIN_EXE_confab");
    let script = format!("{limits} && exec {confab} \"$@\"");
    let mut process = Command::new("sh")
        .args([
            "-c",
            &script,
            "confab",
            "--http-listen=127.0.0.1:0",
            "--media-port=0",
        ])
        .args(["--media-workers=1", "--turn-listen=127.0.0.1:0"])
        .current_dir(&directory.0)
        .env_remove("CONFAB_BIN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = within(lines.next_line()).await.unwrap().unwrap();
    let (_, rest) = ready.split_once("http://").expect(&ready);
    let address = rest.split_once('/').unwrap().0.parse().unwrap();
    (process, address)
}

/// The ticks of a processor that the process has used, user and system.
fn ticks(process: &Child) -> u64 {
    let stat = format!("/proc/{}/stat", process.id().unwrap());
    let stat = std::fs::read_to_string(stat).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<u64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|n| n.parse().unwrap())
        .collect();
    fields.iter().sum()
}

#[tokio::test]
async fn as_many_descriptors_are_taken_as_the_system_allows() {
    let directory = Directory::new("raised");
    let (process, _) = start(&directory, "ulimit -Sn 100 && ulimit -Hn 512").await;
    let limits = format!("/proc/{}/limits", process.id().unwrap());
    let limits = std::fs::read_to_string(limits).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let files: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(files, ["512", "512"]);
}

#[tokio::test]
async fn a_server_without_descriptors_waits_for_some_and_does_not_spin() {
    let directory = Directory::new("starved");
    let (mut process, address) = start(&directory, "ulimit -n 60").await;
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut clients = Vec::new();
    for _ in 0..80 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    within(async {
        while !log
            .next_line()
            .await
            .unwrap()
            .unwrap()
            .contains("could not be accepted")
        {}
    })
    .await;
    let before = ticks(&process);
    sleep(Duration::from_secs(2)).await;
    let used = ticks(&process) - before;
    // A loop that spins uses all of the two seconds, 200 ticks.
    assert!(used < 50, "{used} ticks");
    drop(clients);
    let page = within(get_plain(address, "/")).await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
}
