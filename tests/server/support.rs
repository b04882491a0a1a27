//! The real binary, and clients of its TLS made by hand: what the tests of `confab` share.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use stun_types::attribute::{
    AttributeStaticType, AttributeType, ErrorCode, MessageIntegrity, Nonce, RawAttribute, Realm,
    Username,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageType, MessageWrite, MessageWriteExt, MessageWriteVec, Method, TransactionId,
};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines,
};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Long enough for anything on loopback, whatever else the machine does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A process of ours, in a directory of its own; both end with it.
pub(crate) struct Confab {
    _process: Child,
    _directory: Directory,
    pub(crate) https: SocketAddr,
    roots: rustls::RootCertStore,
}

pub(crate) struct Directory(pub(crate) PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Directory {
    pub(crate) fn new(name: &str) -> Directory {
        let name = format!("confab-tls-test-{name}-{}", std::process::id());
        let directory = Directory(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&directory.0).unwrap();
        directory
    }

    /// Writes a new certificate and its key.
    pub(crate) fn certify(&self) {
        self.certify_until(rcgen::date_time_ymd(4096, 1, 1));
    }

    /// The same, for one that is valid until then.
    pub(crate) fn certify_until(&self, end: impl Into<std::time::SystemTime>) {
        let mut params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
        params.not_after = end.into().into();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(self.0.join("chain.pem"), certificate.pem()).unwrap();
        std::fs::write(self.0.join("key.pem"), key.serialize_pem()).unwrap();
    }
}

/// What keeps a server to free ports, and small, unless a test says otherwise.
const ON_FREE_PORTS: [[&str; 2]; 4] = [
    ["--http-listen", "127.0.0.1:0"],
    ["--media-port", "0"],
    ["--media-workers", "1"],
    ["--turn-listen", "off"],
];

/// The binary with these flags, beside those that keep it to free ports.
pub(crate) fn command(directory: &Directory, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confab"));
    command
        .current_dir(&directory.0)
        // It is the tests', and no setting.
        .env_remove("CONFAB_BIN")
        .args(
            ON_FREE_PORTS
                .iter()
                .filter(|[flag, _]| !flags.contains(flag))
                .flatten(),
        )
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub(crate) const FILES: [&str; 4] = [
    "--http-tls-certificate",
    "chain.pem",
    "--http-tls-key",
    "key.pem",
];

/// HTTPS and TURN on one port.
pub(crate) const SHARED: [&str; 6] = [
    "--http-tls-listen",
    "127.0.0.1:0",
    "--turn-tls-listen",
    "127.0.0.1:0",
    "--turn-users",
    "alice:wonderland",
];

impl Confab {
    /// With a relay on a port of its own, too.
    pub(crate) async fn start_with_relay(name: &str, flags: &[&str]) -> Confab {
        Confab::start(name, &[flags, &["--turn-listen", "127.0.0.1:0"]].concat()).await
    }

    pub(crate) async fn start(name: &str, flags: &[&str]) -> Confab {
        let directory = Directory::new(name);
        directory.certify();
        let mut process = command(&directory, &[&FILES, flags].concat())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let https = https(&mut lines).await;
        let mut roots = rustls::RootCertStore::empty();
        let chain = CertificateDer::from_pem_file(directory.0.join("chain.pem")).unwrap();
        roots.add(chain).unwrap();
        Confab {
            _process: process,
            _directory: directory,
            https,
            roots,
        }
    }

    pub(crate) async fn connect(&self, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|&name| name.into()).collect();
        let tcp = TcpStream::connect(self.https).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        within(connector.connect(name, tcp)).await
    }
}

/// The address of the page over TLS, as the server says it: on loopback, whatever it is called.
pub(crate) async fn https(lines: &mut Lines<BufReader<ChildStdout>>) -> SocketAddr {
    let ready = within(lines.next_line()).await.unwrap();
    let ready = ready.expect("the server is ready");
    let (_, rest) = ready.split_once("https://").expect(&ready);
    let (host, _) = rest.split_once('/').unwrap();
    let (_, port) = host.rsplit_once(':').unwrap();
    SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// Everything until the server closes.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A server that hangs up on a stranger may do so rudely.
    let _ = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) async fn get(mut stream: TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

/// An allocation's request, signed once the server has said how.
pub(crate) fn allocate(signed_for: Option<(&str, &str)>) -> Vec<u8> {
    let method = Method::new(3);
    let kind = MessageType::from_class_method(MessageClass::Request, method);
    let transaction = TransactionId::generate();
    let mut message = Message::builder(kind, transaction, MessageWriteVec::new());
    let udp = RawAttribute::new(AttributeType::new(0x19), &[17, 0, 0, 0]).into_owned();
    message.add_attribute(&udp).unwrap();
    if let Some((realm, nonce)) = signed_for {
        message
            .add_attribute(&Username::new("alice").unwrap())
            .unwrap();
        message.add_attribute(&Realm::new(realm).unwrap()).unwrap();
        message.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
        let key = LongTermKeyCredentials::new("alice".into(), "wonderland".into(), realm.into());
        let credentials = MessageIntegrityCredentials::LongTerm(key);
        let algorithm = IntegrityAlgorithm::Sha1;
        message
            .add_message_integrity(&credentials, algorithm)
            .unwrap();
    }
    message.finish()
}

pub(crate) async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    let len = u16::from_be_bytes([bytes[2], bytes[3]]);
    bytes.resize(20 + usize::from(len), 0);
    within(stream.read_exact(&mut bytes[20..])).await.unwrap();
    bytes
}

pub(crate) async fn allocate_over(stream: impl AsyncRead + AsyncWrite + Unpin) {
    try_allocate_over(stream).await.expect("an allocation");
}

/// The same; gives the code of the error if the signed request is refused.
pub(crate) async fn try_allocate_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<(), u16> {
    stream.write_all(&allocate(None)).await.unwrap();
    let refusal = message(&mut stream).await;
    let refusal = Message::from_bytes(&refusal).unwrap();
    assert_eq!(refusal.attribute::<ErrorCode>().unwrap().code(), 401);
    let text = |kind| {
        let value = refusal.raw_attribute(kind).unwrap().value.to_vec();
        String::from_utf8(value).unwrap()
    };
    let (realm, nonce) = (text(Realm::TYPE), text(Nonce::TYPE));
    let request = allocate(Some((&realm, &nonce)));
    stream.write_all(&request).await.unwrap();
    let answer = message(&mut stream).await;
    let answer = Message::from_bytes(&answer).unwrap();
    if answer.class() != MessageClass::Success {
        return Err(answer.attribute::<ErrorCode>().unwrap().code());
    }
    assert!(answer.raw_attribute(MessageIntegrity::TYPE).is_some());
    Ok(())
}

/// Where a TURN server listens on TCP, as its log says, and what was read of the log until then.
pub(crate) async fn turn_address(log: &mut Lines<BufReader<ChildStderr>>) -> (SocketAddr, String) {
    let mut read = String::new();
    loop {
        let line = within(log.next_line()).await.unwrap().unwrap();
        read += &line;
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        if line.contains("TURN listens") && line.contains("TCP") {
            let (_, address) = line.split_once("address=").expect(&line);
            return (address.split(' ').next().unwrap().parse().unwrap(), read);
        }
    }
}

/// Sends a signal, such as `TERM`.
pub(crate) fn signal(process: &Child, name: &str) {
    let line = format!("kill -{name} {}", process.id().unwrap());
    let sent = std::process::Command::new("sh")
        .args(["-c", &line])
        .status();
    assert!(sent.unwrap().success());
}

/// The same without TLS.
pub(crate) async fn get_plain(address: SocketAddr, path: &str) -> String {
    get_with(address, path, "").await
}

/// The same with further headers, each with its end of the line.
pub(crate) async fn get_with(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}
