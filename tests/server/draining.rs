//! A TURN server that is told to stop.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::support::{Directory, allocate_over, command, within};

fn terminate(process: &Child) {
    let line = format!("kill -TERM {}", process.id().unwrap());
    let sent = Command::new("sh").args(["-c", &line]).status();
    assert!(sent.unwrap().success());
}

/// A TURN server alone, where it listens, and its log.
async fn start(name: &str, drain: &str) -> (Directory, Child, std::net::SocketAddr) {
    let directory = Directory::new(name);
    let flags = [
        "turn",
        "--turn-listen",
        "127.0.0.1:0",
        "--turn-users",
        "alice:wonderland",
        "--http-drain-seconds",
        drain,
    ];
    let mut process = command(&directory, &flags).spawn().unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let address = loop {
        let line = within(log.next_line()).await.unwrap().unwrap();
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        if line.contains("TURN listens") && line.contains("TCP") {
            let (_, address) = line.split_once("address=").expect(&line);
            break address.split(' ').next().unwrap().parse().unwrap();
        }
    };
    // It must not wait for anybody to read.
    tokio::spawn(async move { while log.next_line().await.is_ok_and(|line| line.is_some()) {} });
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    within(said.next_line()).await.unwrap().unwrap();
    (directory, process, address)
}

#[tokio::test]
async fn calls_that_are_relayed_go_on_until_they_end() {
    let (_directory, mut process, address) = start("drain", "60").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    allocate_over(&mut stream).await;
    terminate(&process);
    let ends_early = timeout(Duration::from_secs(2), process.wait()).await;
    assert!(ends_early.is_err(), "somebody is relayed");
    // Nobody new is: the end of the request is the end of patience with it.
    let mut other = TcpStream::connect(address).await.unwrap();
    other
        .write_all(&crate::support::allocate(None))
        .await
        .unwrap();
    let mut answer = [0; 2];
    within(other.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, [0x01, 0x13], "it is still asked to sign in");
    drop(stream);
    let status = within(process.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn with_nobody_there_it_ends_at_once_and_at_the_deadline_in_any_case() {
    let (_directory, mut process, _) = start("drain-empty", "600").await;
    terminate(&process);
    assert!(within(process.wait()).await.unwrap().success());

    let (_directory, mut process, address) = start("drain-late", "1").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    allocate_over(&mut stream).await;
    terminate(&process);
    assert!(within(process.wait()).await.unwrap().success());

    let (_directory, mut process, address) = start("drain-twice", "600").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    allocate_over(&mut stream).await;
    terminate(&process);
    tokio::time::sleep(Duration::from_millis(500)).await;
    terminate(&process);
    assert!(within(process.wait()).await.unwrap().success());
}
