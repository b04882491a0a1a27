//! SIGHUP, which ends a program that does not know it.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::support::{Directory, command, signal, within};

fn hang_up(process: &Child) {
    signal(process, "HUP");
}

/// The next line of the log with these words.
async fn logged(log: &mut Lines<BufReader<ChildStderr>>, words: &str) -> String {
    loop {
        let line = within(log.next_line()).await.unwrap();
        let line = line.unwrap_or_else(|| panic!("it has ended without saying {words:?}"));
        if line.contains(words) {
            return line;
        }
    }
}

#[tokio::test]
async fn a_server_reads_again_what_it_can_and_goes_on() {
    let directory = Directory::new("reload");
    let file = directory.0.join("confab.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[log]\nfilter = \"info\"\n");
    let mut process = command(&directory, &[]).spawn().unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = within(said.next_line()).await.unwrap().unwrap();
    for (text, words) in [
        (
            "[log]\nfilter = \"confab=debug,info\"\n",
            "have been read again",
        ),
        (
            "[log]\nfilter = \"info\"\n[rooms]\nmax_rooms = 7\n",
            "other settings have changed too, and take a restart",
        ),
        ("[log]\nfilter = \n", "the settings cannot be read"),
        ("[log]\nfilter = \"error\"\n", ""),
    ] {
        write(text);
        hang_up(&process);
        if !words.is_empty() {
            let line = logged(&mut log, "SIGHUP").await;
            assert!(line.contains(words), "{line}");
        }
    }
    // It answers, and with the last filter it has said nothing of the last signal.
    let address = ready.split("http://").nth(1).unwrap();
    let address = address.split('/').next().unwrap().parse().unwrap();
    let health = crate::support::get_plain(address, "/health/ready").await;
    assert!(health.ends_with("ready\n"), "{health}");
    assert!(process.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn a_relay_alone_goes_on_too() {
    let directory = Directory::new("reload-turn");
    let flags = [
        "turn",
        "--turn-listen",
        "127.0.0.1:0",
        "--turn-users",
        "a:b",
    ];
    let mut process = command(&directory, &flags).spawn().unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    within(said.next_line()).await.unwrap().unwrap();
    hang_up(&process);
    logged(&mut log, "have been read again").await;
    assert!(process.try_wait().unwrap().is_none());
}
