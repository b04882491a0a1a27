//! That the log has no secrets, whatever it is set to.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Directory, allocate_over, command, rest, turn_address, within};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// An offer of Chromium's, as short as it may be, with a password that can be found again.
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:uFrA\r\na=ice-pwd:ThePasswordOfTheClient24\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    a=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n";

#[tokio::test]
async fn no_filter_brings_a_secret_into_the_log() {
    for filter in [
        "trace",
        "tungstenite::protocol=trace,stun_types::message=trace,trace",
    ] {
        let directory = Directory::new("secrets");
        let flags = [
            "--log-filter",
            filter,
            "--auth-api-key",
            "main",
            "--auth-api-secret",
            SECRET,
            "--turn-listen",
            "127.0.0.2:0",
        ];
        let invited = command(&directory, &[&["invite", "kitchen"], &flags[2..6]].concat());
        let token = minted(invited).await;
        let invite = [&["invite", "kitchen", "--minutes", "5"], &flags[2..6]].concat();
        // Of another identity, so that it is refused.
        let other = minted(command(&directory, &invite)).await;
        let mut process = command(&directory, &flags).spawn().unwrap();
        let mut log = process.stderr.take().unwrap();
        // It must not wait for us to read.
        let log = tokio::spawn(async move {
            let mut text = String::new();
            log.read_to_string(&mut text).await.unwrap();
            text
        });
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = within(said.next_line()).await.unwrap().unwrap();
        let address = ready
            .split("http://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let url = format!("ws://{address}/v1/ws");
        let (mut socket, _) = within(tokio_tungstenite::connect_async(url)).await.unwrap();
        let mut secrets = vec![
            SECRET.to_owned(),
            token.clone(),
            other.clone(),
            "ThePasswordOfTheClient24".into(),
        ];
        for request in [
            json!({"id": 1, "type": "hello", "version": 1, "token": token}),
            json!({"id": 2, "type": "join", "room": "kitchen", "name": "Ada", "offer": OFFER}),
            json!({"id": 3, "type": "ice_servers"}),
            json!({"id": 4, "type": "renew", "token": token}),
            json!({"id": 5, "type": "renew", "token": other}),
        ] {
            socket
                .send(Message::text(request.to_string()))
                .await
                .unwrap();
            let reply = loop {
                let frame = within(socket.next()).await.unwrap().unwrap();
                if let Ok(frame) = serde_json::from_str::<Value>(frame.to_text().unwrap())
                    && frame["re"] == request["id"]
                {
                    break frame;
                }
            };
            let servers = [&reply["relay"]["ice_servers"], &reply["ice_servers"]];
            let servers = servers.into_iter().filter_map(Value::as_array).flatten();
            let passwords = servers.filter_map(|server| server["credential"].as_str());
            secrets.extend(passwords.map(str::to_owned));
            secrets.extend(reply["session"].as_str().map(str::to_owned));
            let answer = reply["answer"].as_str().unwrap_or_default();
            let password = answer
                .lines()
                .find_map(|line| line.strip_prefix("a=ice-pwd:"));
            secrets.extend(password.map(|password| password.trim().to_owned()));
        }
        assert!(secrets.len() >= 8, "{secrets:?}");
        drop(socket);
        let watch = format!(
            "POST /whep/kitchen HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{OFFER}",
            OFFER.len()
        );
        let created = said_to(address, &watch).await;
        assert!(created.starts_with("HTTP/1.1 201 "), "{created}");
        let passwords = created.split("; credential=\"").skip(1);
        let passwords: Vec<&str> = passwords
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(!passwords.is_empty(), "{created}");
        secrets.extend(passwords.into_iter().map(str::to_owned));
        let mut lines = created.lines();
        let resource = lines
            .find_map(|line| line.strip_prefix("location: "))
            .unwrap();
        let secret = resource.rsplit('/').next().unwrap();
        secrets.push(secret.to_owned());
        let end =
            format!("DELETE {resource} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let ended = said_to(address, &end).await;
        assert!(ended.starts_with("HTTP/1.1 200 "), "{ended}");
        // What is no request is told of at debug.
        let nonsense = format!("{token}\r\n\r\n");
        said_to(address, &nonsense).await;
        process.kill().await.unwrap();
        let log = within(log).await.unwrap();
        assert!(log.contains("participant joins"), "{log}");
        assert!(
            log.contains("DEBUG confab_signaling"),
            "it says all it may: {log}"
        );
        for secret in secrets {
            assert!(!log.contains(&secret), "{filter} shows {secret}");
        }
    }
}

#[tokio::test]
async fn nor_does_any_bring_the_passwords_of_a_relay_alone() {
    let directory = Directory::new("secrets-relay");
    let flags = [
        "turn",
        "--log-filter",
        "trace",
        "--turn-listen",
        "127.0.0.1:0",
        "--turn-users",
        "alice:wonderland",
        "--turn-secret",
        SECRET,
    ];
    let mut process = command(&directory, &flags).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let (address, mut log) = turn_address(&mut lines).await;
    let rest = tokio::spawn(async move {
        let mut rest = String::new();
        lines.into_inner().read_to_string(&mut rest).await.unwrap();
        rest
    });
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    within(said.next_line()).await.unwrap().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    allocate_over(&mut stream).await;
    process.kill().await.unwrap();
    log += &within(rest).await.unwrap();
    for secret in ["wonderland", SECRET] {
        assert!(!log.contains(secret), "{secret}");
    }
}

/// What the server answers to a request, until it closes.
async fn said_to(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

/// The token of a link that the command prints.
async fn minted(mut command: tokio::process::Command) -> String {
    let output = within(command.output()).await.unwrap();
    let link = String::from_utf8(output.stdout).unwrap();
    let (_, token) = link.trim().split_once("token=").expect(&link);
    token.to_owned()
}
