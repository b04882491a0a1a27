//! coturn's own client tools against our server, over loopback. They are another implementation of
//! both RFCs, so a mistake of ours that our own tests share shows here.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use confab_turn::credentials::{Credentials, Secret};
use confab_turn::machine::RelayAddress;
use confab_turn::net::{Addresses, Config, Handle, Server};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, UdpSocket};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

/// How long a tool may take; it needs about five seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages that each client sends.
const MESSAGES: &str = "20";

/// Whether the tools are here. When they are not, says so where it cannot be missed.
fn has(tool: &str) -> bool {
    let found = std::process::Command::new("which")
        .arg(tool)
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        // Not by `eprintln`, which a passing test keeps to itself.
        let note =
            format!("\nNOT TESTED: {tool} is missing; `apt-get install coturn` brings it.\n\n");
        std::io::stderr().write_all(note.as_bytes()).unwrap();
    }
    found
}

/// A server on loopback that relays on loopback.
fn serve(loopback: &str) -> (Addresses, Handle) {
    let ip: IpAddr = loopback.parse().unwrap();
    let listen = vec![SocketAddr::new(ip, 0)];
    let server = Server::bind(Config {
        udp: listen.clone(),
        tcp: listen,
        relays: vec![RelayAddress {
            bind: ip,
            public: ip,
        }],
        realm: "example.org".into(),
        secret: Some(Secret::new("north")),
        users: vec![Credentials {
            username: "alice".into(),
            password: "wonderland".into(),
        }],
        allow: vec![loopback.parse().unwrap()],
        ..Config::default()
    })
    .unwrap();
    let (addresses, handle) = (server.addresses().clone(), server.handle());
    tokio::spawn(server.run(std::future::pending()));
    (addresses, handle)
}

/// A listener with TLS, whose streams are handed to the server.
async fn serve_tls(handle: Handle) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, client)) = listener.accept().await {
            let (acceptor, handle) = (acceptor.clone(), handle.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    handle.serve(stream, address, client).await;
                }
            });
        }
    });
    address
}

/// A peer that sends back what it gets.
async fn echo(loopback: &str) -> SocketAddr {
    let socket = UdpSocket::bind((loopback, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..len], from).await;
        }
    });
    address
}

/// Runs a tool; what it has printed, if it was content.
async fn run(tool: &str, arguments: &[&str]) -> Result<String, String> {
    let running = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, running).await;
    let output = output.map_err(|_| format!("{tool} did not end"))?.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(printed),
        false => Err(printed),
    }
}

/// Two clients send to an echoing peer; all of it comes back.
async fn uclient(loopback: &str, server: SocketAddr, more: &[&str]) {
    let peer = echo(loopback).await;
    let (port, peer_port) = (server.port().to_string(), peer.port().to_string());
    let mut arguments = vec![
        "-u",
        "alice",
        "-w",
        "wonderland",
        "-p",
        &port,
        "-n",
        MESSAGES,
    ];
    arguments.extend([
        "-m", "2", "-l", "171", "-c", "-e", loopback, "-r", &peer_port,
    ]);
    arguments.extend(more);
    arguments.push(loopback);
    let printed = run("turnutils_uclient", &arguments).await;
    let printed = printed.unwrap_or_else(|printed| panic!("{more:?}: {printed}"));
    let lost = "Total lost packets 0 (0.000000%), total send dropped 0";
    assert!(printed.contains(lost), "{more:?}: {printed}");
    assert!(
        printed.contains("tot_send_msgs=40, tot_recv_msgs=40"),
        "{more:?}: {printed}"
    );
}

#[tokio::test]
async fn stunclient_learns_its_address() {
    if !has("turnutils_stunclient") {
        return;
    }
    for loopback in ["127.0.0.1", "::1"] {
        let (addresses, _) = serve(loopback);
        let port = addresses.udp[0].port().to_string();
        let printed = run("turnutils_stunclient", &["-p", &port, loopback]).await;
        assert!(printed.unwrap().contains(&format!("addr: {loopback}")));
    }
}

#[tokio::test]
async fn uclient_over_udp() {
    if !has("turnutils_uclient") {
        return;
    }
    let (addresses, handle) = serve("127.0.0.1");
    for more in [&[][..], &["-s"], &["-g"], &["-D"], &["-B"]] {
        uclient("127.0.0.1", addresses.udp[0], more).await;
    }
    let snapshot = handle.snapshot().await.unwrap();
    assert!(snapshot.counters.allocated >= 10);
    assert!(snapshot.counters.to_peers.packets >= 200);
}

#[tokio::test]
async fn uclient_over_tcp() {
    if !has("turnutils_uclient") {
        return;
    }
    let (addresses, handle) = serve("127.0.0.1");
    for more in [&["-t"][..], &["-t", "-s"]] {
        uclient("127.0.0.1", addresses.tcp[0], more).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let snapshot = handle.snapshot().await.unwrap();
    assert_eq!((snapshot.allocations, snapshot.streams), (0, 0));
}

#[tokio::test]
async fn uclient_over_tls() {
    if !has("turnutils_uclient") {
        return;
    }
    let (_, handle) = serve("127.0.0.1");
    let address = serve_tls(handle).await;
    for more in [&["-t", "-S"][..], &["-t", "-S", "-s"]] {
        uclient("127.0.0.1", address, more).await;
    }
}

#[tokio::test]
async fn uclient_over_ipv6() {
    if !has("turnutils_uclient") {
        return;
    }
    let (addresses, _) = serve("::1");
    uclient("::1", addresses.udp[0], &["-x"]).await;
    uclient("::1", addresses.tcp[0], &["-x", "-t"]).await;
}

#[tokio::test]
async fn uclient_with_time_limited_credentials() {
    if !has("turnutils_uclient") {
        return;
    }
    let (addresses, handle) = serve("127.0.0.1");
    let server = addresses.udp[0];
    uclient("127.0.0.1", server, &["-u", "carol", "-W", "north"]).await;
    let allocated = handle.snapshot().await.unwrap().counters.allocated;
    assert!(allocated >= 2);
    let port = server.port().to_string();
    let arguments = ["-u", "carol", "-W", "south", "-p", &port, "-y", "127.0.0.1"];
    assert!(run("turnutils_uclient", &arguments).await.is_err());
    let counters = handle.snapshot().await.unwrap().counters;
    assert_eq!(counters.allocated, allocated, "a forged password");
}

#[tokio::test]
async fn uclients_call_each_other_through_their_relays() {
    if !has("turnutils_uclient") {
        return;
    }
    let (addresses, _) = serve("127.0.0.1");
    let port = addresses.udp[0].port().to_string();
    let arguments = [
        "-u",
        "alice",
        "-w",
        "wonderland",
        "-p",
        &port,
        "-n",
        MESSAGES,
    ];
    let arguments = [&arguments[..], &["-m", "2", "-y", "127.0.0.1"]].concat();
    let printed = run("turnutils_uclient", &arguments).await.unwrap();
    assert!(printed.contains("Total lost packets 0 "), "{printed}");
}
