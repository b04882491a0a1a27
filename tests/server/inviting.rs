//! Links that let people in, and rooms that need none, by the real binary.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::support::{Directory, command, get_plain, get_with, within};

const KEY: [(&str, &str); 2] = [
    ("CONFAB_AUTH_API_KEY", "main"),
    ("CONFAB_AUTH_API_SECRET", "0123456789abcdef0123456789abcdef"),
];

/// What `confab invite` prints, or what stops it.
async fn invite(directory: &Directory, arguments: &[&str], key: bool) -> Result<String, String> {
    let mut command = command(directory, &[&["invite"], arguments].concat());
    if key {
        command.envs(KEY);
    }
    let output = within(command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// A server's first line.
async fn ready(process: &mut Child) -> String {
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    within(said.next_line()).await.unwrap().unwrap_or_default()
}

#[tokio::test]
async fn an_invitation_is_a_link_with_a_token_where_one_is_needed() {
    let directory = Directory::new("invite");
    let public = ["--http-public-url", "https://call.example.org/"];
    let arguments = [&["kitchen"], &public[..]].concat();
    let link = invite(&directory, &arguments, true).await.unwrap();
    let start = "https://call.example.org/kitchen#token=ey";
    assert!(link.starts_with(start) && !link.contains('\n'), "{link}");
    let open = invite(
        &directory,
        &["kitchen", "--http-listen", "127.0.0.1:8080"],
        false,
    );
    assert_eq!(open.await.unwrap(), "http://127.0.0.1:8080/kitchen");
    let beyond = ["kitchen", "--http-listen", "0.0.0.0:8080"];
    let refused = invite(&directory, &beyond, false).await.unwrap_err();
    assert!(refused.contains("access tokens must be on"), "{refused}");
    let refused = invite(&directory, &["two words"], true).await.unwrap_err();
    assert!(refused.contains("A room's name is"), "{refused}");
}

#[tokio::test]
async fn the_ready_line_lets_one_in_and_the_journal_keeps_no_token() {
    let directory = Directory::new("ready");
    let flags = ["--media-listen", "0.0.0.0", "--http-listen", "0.0.0.0:0"];
    let mut process = command(&directory, &flags).envs(KEY).spawn().unwrap();
    let said = ready(&mut process).await;
    let link = said
        .split(' ')
        .find(|word| word.starts_with("http://"))
        .unwrap();
    assert!(
        !said.contains("0.0.0.0") && link.contains("/lobby#token=ey"),
        "{said}"
    );
    let authority = link.split('/').nth(2).unwrap();
    let token = link.split_once("#token=").unwrap().1;
    let address: SocketAddr = authority.parse().unwrap();
    assert!(
        get_plain(address, "/lobby")
            .await
            .contains("<title>Confab</title>")
    );
    let quality = "/v1/rooms/lobby/participants/p_1/quality";
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let answer = get_with(address, quality, &bearer).await;
    assert!(
        answer.starts_with("HTTP/1.1 404 "),
        "known, but nobody is there: {answer}"
    );

    let mut kept = command(&directory, &flags);
    let mut process = kept.envs(KEY).env("JOURNAL_STREAM", "8:1").spawn().unwrap();
    let said = ready(&mut process).await;
    assert!(said.contains("ready") && !said.contains("token="), "{said}");
    assert!(said.contains("confab invite"), "{said}");
}

#[tokio::test]
async fn rooms_are_open_to_others_if_that_is_said_and_it_is_warned_of() {
    let directory = Directory::new("open");
    let flags = ["--http-listen", "0.0.0.0:0", "--auth-open", "true"];
    let mut process = command(&directory, &flags).spawn().unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let said = ready(&mut process).await;
    assert!(
        !said.contains("0.0.0.0") && !said.contains("token"),
        "{said}"
    );
    loop {
        let line = within(log.next_line()).await.unwrap().expect("a warning");
        if line.contains("WARN") && line.contains("may enter every room") {
            break;
        }
    }
    let mut contradictory = command(&directory, &flags);
    let output = within(contradictory.envs(KEY).output()).await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        errors.contains("auth.open is true, but auth.api_key is set too"),
        "{errors}"
    );
}
