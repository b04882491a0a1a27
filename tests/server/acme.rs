//! Automatic certificates from Pebble, the ACME server that Let's Encrypt tests clients with: another
//! implementation, which really looks at our door. It refuses every twentieth nonce, on purpose.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Directory, allocate_over, command, get, https, rest};

/// Longer than anything takes here: an attempt that failed is repeated after ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a certificate lives here, in seconds: so the next is asked for after two thirds of it.
const LIFETIME: u64 = 15;

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// Whether it is here. When it is not, says so where it cannot be missed.
fn has_pebble() -> bool {
    let found = std::process::Command::new("which")
        .arg("pebble")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        let note = "\nNOT TESTED: pebble is missing; `apt-get install pebble` brings it.\n\n";
        std::io::stderr().write_all(note.as_bytes()).unwrap();
    }
    found
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

/// Where the authority is to be, and its certificate for that.
struct Authority {
    directory: Directory,
    port: u16,
    management: u16,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let directory = Directory::new(name);
        directory.certify();
        Authority {
            directory,
            port: free_port(),
            management: free_port(),
        }
    }

    fn flags(&self) -> Vec<String> {
        let url = format!("https://localhost:{}/dir", self.port);
        let ca = self.directory.0.join("chain.pem");
        [
            "--http-tls-listen=127.0.0.1:0".into(),
            "--turn-tls-listen=127.0.0.1:0".into(),
            "--turn-users=alice:wonderland".into(),
            "--http-acme-domains=localhost".into(),
            "--http-acme-contact=ops@example.org".into(),
            format!("--http-acme-directory={url}"),
            format!("--http-acme-directory-ca={}", ca.display()),
        ]
        .into()
    }

    /// Starts it; it looks at servers at this port.
    async fn start(&self, looks_at: SocketAddr) -> Child {
        let config = format!(
            r#"{{"pebble": {{
                "listenAddress": "127.0.0.1:{}", "managementListenAddress": "127.0.0.1:{}",
                "certificate": "chain.pem", "privateKey": "key.pem",
                "httpPort": 1, "tlsPort": {}, "certificateValidityPeriod": {LIFETIME}
            }}}}"#,
            self.port,
            self.management,
            looks_at.port()
        );
        std::fs::write(self.directory.0.join("pebble.json"), config).unwrap();
        let pebble = Command::new("pebble")
            .args(["-config", "pebble.json"])
            .current_dir(&self.directory.0)
            .env("PEBBLE_VA_NOSLEEP", "1")
            // Else half of the renewals would be without a challenge.
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", self.management))
            .await
            .is_err()
        {
            within(sleep(Duration::from_millis(50))).await;
        }
        pebble
    }

    /// The root of what it makes, which it tells.
    async fn root(&self) -> RootCertStore {
        let address = SocketAddr::from(([127, 0, 0, 1], self.management));
        let mut trusted = RootCertStore::empty();
        trusted
            .add(first_certificate(&self.directory.0.join("chain.pem")))
            .unwrap();
        let stream = connect(address, trusted).await.unwrap();
        let answer = get(stream, "/roots/0").await;
        let (_, pem) = answer.split_once("\r\n\r\n").expect(&answer);
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
        roots
    }
}

fn first_certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

async fn connect(to: SocketAddr, roots: RootCertStore) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

/// The server, and what it logs.
struct Server {
    _process: Child,
    address: SocketAddr,
    log: Lines<BufReader<ChildStderr>>,
}

impl Server {
    async fn start(directory: &Directory, authority: &Authority) -> Server {
        let flags = authority.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut process = command(directory, &flags).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = https(&mut said).await;
        Server {
            _process: process,
            address,
            log,
        }
    }

    /// Waits for a line of the log.
    async fn says(&mut self, words: &str) -> String {
        let line = async {
            loop {
                let line = self.log.next_line().await.unwrap().expect("it runs");
                if line.contains(words) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, line).await.expect(words)
    }

    /// The certificate that a client sees who trusts these.
    async fn serial(&self, roots: &RootCertStore) -> std::io::Result<Vec<u8>> {
        let stream = connect(self.address, roots.clone()).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        Ok(chain[0].to_vec())
    }
}

#[tokio::test]
async fn a_certificate_comes_once_the_authority_is_there_and_is_renewed_and_kept() {
    if !has_pebble() {
        return;
    }
    let (directory, authority) = (Directory::new("acme"), Authority::new("authority"));
    let mut server = Server::start(&directory, &authority).await;
    server.says("until the authority has made one").await;
    let said = server
        .says("cannot get a certificate for localhost from")
        .await;
    assert!(said.contains("it is tried again in 10 s"), "{said}");
    assert!(said.contains("Connection refused"), "{said}");
    let refused = server.serial(&RootCertStore::empty()).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");

    let mut pebble = authority.start(server.address).await;
    server.says("the authority has made a certificate").await;
    let roots = authority.root().await;
    let first = server.serial(&roots).await.unwrap();
    let page = get(connect(server.address, roots.clone()).await.unwrap(), "/").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    allocate_over(connect(server.address, roots.clone()).await.unwrap()).await;

    // Who is connected is not troubled by what is served to others.
    let mut before = connect(server.address, roots.clone()).await.unwrap();
    before.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    server.says("the authority has made a certificate").await;
    let second = server.serial(&roots).await.unwrap();
    assert_ne!(first, second);
    let rest_of_request = b"Host: a\r\nConnection: close\r\n\r\n";
    before.write_all(rest_of_request).await.unwrap();
    let page = rest(&mut before).await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");

    pebble.kill().await.unwrap();
    let said = server.says("cannot get a certificate").await;
    assert!(said.contains("it is tried again in"), "{said}");
    assert!(
        server.serial(&RootCertStore::empty()).await.is_err(),
        "it is there and serves"
    );

    // The authority has forgotten everybody, as after a change of its own: there is a new account.
    let _pebble = authority.start(server.address).await;
    server.says("there is a new ACME account").await;
    server.says("the authority has made a certificate").await;
    let roots = authority.root().await;
    let third = server.serial(&roots).await.unwrap();

    drop(server);
    let again = Server::start(&directory, &authority).await;
    assert_eq!(again.serial(&roots).await.unwrap(), third, "it is kept");
}

#[tokio::test]
async fn an_authority_that_does_not_find_the_server_is_told_of_and_not_pestered() {
    if !has_pebble() {
        return;
    }
    let (directory, authority) = (Directory::new("astray"), Authority::new("lost"));
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _pebble = authority.start(elsewhere).await;
    let mut server = Server::start(&directory, &authority).await;
    let said = server.says("cannot get a certificate").await;
    assert!(
        said.contains("has not found this server at localhost"),
        "{said}"
    );
    assert!(said.contains("it is tried again in 600 s"), "{said}");
    let refused = server.serial(&RootCertStore::empty()).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
}
