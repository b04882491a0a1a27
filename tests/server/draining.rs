//! A TURN server that is told to stop.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::support::{
    Directory, allocate_over, command, signal, try_allocate_over, turn_address, within,
};

fn terminate(process: &Child) {
    signal(process, "TERM");
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
    let (address, _) = turn_address(&mut log).await;
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
    let other = TcpStream::connect(address).await.unwrap();
    assert_eq!(try_allocate_over(other).await, Err(508), "nobody new is");
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
