//! The real binary over TLS: one port for the page, the WebSocket and TURN.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::support::{
    Confab, Directory, FILES, SHARED, allocate, allocate_over, command, get, get_plain, https,
    rest, within,
};

#[tokio::test]
async fn the_page_and_the_relay_are_behind_one_port() {
    let confab = Confab::start("shared", &SHARED).await;
    for alpn in [&[][..], &["http/1.1"], &["h2", "http/1.1"]] {
        let page = get(confab.connect(alpn).await.unwrap(), "/").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{alpn:?}: {page}");
        assert!(page.ends_with("</html>\n"), "{alpn:?}: {page}");
    }
    for alpn in [&[][..], &["stun.turn"], &["stun.nat-discovery"]] {
        allocate_over(confab.connect(alpn).await.unwrap()).await;
    }
    let error = confab.connect(&["h2"]).await.unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    for words in [&[0xff; 4][..], b"@", &[0x16, 3, 1, 2, 0, 1]] {
        let mut stranger = confab.connect(&[]).await.unwrap();
        stranger.write_all(words).await.unwrap();
        assert_eq!(rest(&mut stranger).await, "", "{words:02x?}");
    }
}

#[tokio::test]
async fn a_call_is_joined_over_wss_and_told_of_the_relay_there() {
    let confab = Confab::start("wss", &SHARED).await;
    let stream = confab.connect(&["http/1.1"]).await.unwrap();
    let url = format!("wss://localhost:{}/v1/ws", confab.https.port());
    let (mut socket, _) = within(tokio_tungstenite::client_async(url, stream))
        .await
        .unwrap();
    let hello = r#"{"id":1,"type":"hello","version":1}"#;
    socket.send(Frame::text(hello)).await.unwrap();
    let welcome = within(socket.next()).await.unwrap().unwrap();
    let url = format!("turns:{}?transport=tcp", confab.https);
    assert!(welcome.to_text().unwrap().contains(&url), "{welcome}");
}

#[tokio::test]
async fn without_a_relay_the_port_is_for_pages_alone() {
    let confab = Confab::start("alone", &["--http-tls-listen", "127.0.0.1:0"]).await;
    let page = get(confab.connect(&[]).await.unwrap(), "/").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    let metrics = get(confab.connect(&[]).await.unwrap(), "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 404 "), "{metrics}");
    assert!(confab.connect(&["stun.turn"]).await.is_err());
    let mut stranger = confab.connect(&[]).await.unwrap();
    stranger.write_all(&allocate(None)).await.unwrap();
    let answer = rest(&mut stranger).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_delays_nobody_and_is_disconnected() {
    let confab = Confab::start("stalled", &SHARED).await;
    let start = Instant::now();
    let mut stalled = Vec::new();
    for n in 0..20 {
        let mut stream = TcpStream::connect(confab.https).await.unwrap();
        if n % 2 == 0 {
            // The beginning of a ClientHello that goes on for 512 bytes.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        }
        stalled.push(stream);
    }
    // One that has finished it, and then says nothing.
    let mut silent = confab.connect(&[]).await.unwrap();
    let page = get(confab.connect(&["http/1.1"]).await.unwrap(), "/").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    allocate_over(confab.connect(&[]).await.unwrap()).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    for mut stream in stalled {
        let mut rest = Vec::new();
        let _ = within(stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "{rest:02x?}");
    }
    assert_eq!(rest(&mut silent).await, "");
    let waited = start.elapsed();
    assert!((9..20).contains(&waited.as_secs()), "{waited:?}");
    let mut plain = TcpStream::connect(confab.https).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = within(plain.read_to_end(&mut rest)).await;
    assert!(rest.len() < 10, "an alert at most: {rest:02x?}");
}

#[tokio::test]
async fn however_many_are_silent_nobody_new_is_refused() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let confab = Confab::start("many", &SHARED).await;
    let mut first = TcpStream::connect(confab.https).await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..1_100 {
        stalled.push(TcpStream::connect(confab.https).await.unwrap());
    }
    let start = Instant::now();
    let page = get(confab.connect(&["http/1.1"]).await.unwrap(), "/").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(start.elapsed() < Duration::from_secs(5));
    // Long before its ten seconds are over.
    assert_eq!(
        rest(&mut first).await,
        "",
        "who has been silent for longest goes"
    );
}

#[tokio::test]
async fn browsers_are_told_to_come_by_tls_alone_where_there_is_tls() {
    let confab = Confab::start("hsts", &SHARED).await;
    for path in ["/", "/v1/ws", "/whip/kitchen", "/nowhere"] {
        let page = get(confab.connect(&["http/1.1"]).await.unwrap(), path).await;
        let told = "strict-transport-security: max-age=31536000";
        assert!(page.contains(told), "{path}: {page}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_serves_and_says_what_it_is() {
    let directory = Directory::new("self-signed");
    let flags = [
        "--http-tls-listen",
        "127.0.0.1:0",
        "--http-tls-self-signed",
        "true",
    ];
    let mut process = command(&directory, &flags).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let https = https(&mut lines).await;
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let tcp = TcpStream::connect(https).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let refused = within(connector.connect(ServerName::from(https.ip()), tcp)).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    process.kill().await.unwrap();
    let log = process.wait_with_output().await.unwrap().stderr;
    let log = String::from_utf8_lossy(&log).into_owned();
    assert!(log.contains("the certificate is self-signed"), "{log}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_served_but_warned_of_and_told_in_metrics() {
    let directory = Directory::new("expired");
    directory.certify_until(rcgen::date_time_ymd(2020, 2, 1));
    let flags = [&FILES[..], &["--http-tls-listen", "127.0.0.1:0"]].concat();
    let mut process = command(&directory, &flags).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = within(lines.next_line()).await.unwrap().unwrap();
    let address = |scheme: &str| {
        let (_, rest) = ready.split_once(scheme).expect(&ready);
        rest.split_once('/').unwrap().0.to_owned()
    };
    let metrics = get_plain(address("http://").parse().unwrap(), "/metrics").await;
    // `date -d 2020-02-01Z +%s`
    let line = format!(
        "confab_tls_certificate_expiry_seconds{{address=\"{}\"}} 1580515200",
        address("https://")
    );
    assert!(metrics.contains(&line), "{metrics}");
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    within(async {
        loop {
            let line = log.next_line().await.unwrap().unwrap();
            if line.contains("the certificate in chain.pem has expired") {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_in_a_sentence() {
    let (directory, other) = (Directory::new("errors"), Directory::new("other"));
    directory.certify();
    other.certify();
    std::fs::copy(other.0.join("key.pem"), directory.0.join("other.pem")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken
        .local_addr()
        .map(|address| (taken, address.to_string()));
    let (_taken, taken) = taken.unwrap();
    let listen = ["--http-tls-listen", "127.0.0.1:0"];
    for (flags, words) in [
        (
            &listen[..],
            "http.tls_listen needs a certificate: set http.acme_domains to",
        ),
        (
            &[&listen[..], &["--http-tls-certificate", "chain.pem"]].concat(),
            "http.tls_certificate is set, but http.tls_key is not",
        ),
        (
            &[&listen[..], &FILES[..3], &["other.pem"]].concat(),
            "the key in other.pem does not belong to the certificate in chain.pem",
        ),
        (
            &[
                "--http-tls-listen",
                &taken,
                FILES[0],
                FILES[1],
                FILES[2],
                FILES[3],
            ],
            "cannot listen for TLS on 127.0.0.1:",
        ),
    ] {
        let ended = within(command(&directory, flags).output()).await.unwrap();
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success(), "{error}");
        let last = error.lines().last().unwrap_or_default();
        assert!(last.contains(words), "{error}");
    }
}
