//! Our DTLS with that of others, over loopback and in memory: OpenSSL's command-line client and
//! server, and `dimpl`. A mistake of ours that both our sides share shows here.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test begins at some time, and may play the network"
)]
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_sfu::inside::peer::dtls::{
    Certificate, DtlsEndpoint, DtlsError, DtlsOutput, Role, SrtpKeys,
};
use confab_sfu::inside::srtp::SrtpProfile;

/// What OpenSSL names the profiles that both have.
const PROFILES: &str = "SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80";

/// Keying material of AES-256-GCM: two keys and two salts.
const MATERIAL_LEN: usize = 2 * (32 + 12);

/// Kinds of keys that get in, as `openssl req -newkey` has them.
const KEYS: [&[&str]; 8] = [
    &["rsa:2048"],
    &["rsa:3072"],
    &["rsa:4096"],
    &["ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"],
    &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    &["ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"],
    &["ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"],
    &["ed25519"],
];

/// Whether OpenSSL is here. When it is not, says so where it cannot be missed.
fn has_openssl() -> bool {
    let version = Command::new("openssl").arg("version").output();
    let found = version.is_ok_and(|output| output.status.success());
    if !found {
        // Not by `eprintln`, which a passing test keeps to itself.
        let note = "\nNOT TESTED: openssl is missing; `apt-get install openssl` brings it.\n\n";
        std::io::stderr().write_all(note.as_bytes()).unwrap();
    }
    found
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A certificate of OpenSSL's with its key, in files that go with it.
struct Theirs {
    dir: PathBuf,
    fingerprint: String,
}

impl Theirs {
    fn new(name: &str, key: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("confab-dtls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut theirs = Theirs {
            dir,
            fingerprint: String::new(),
        };
        let (key_file, file) = (theirs.path("key"), theirs.path("certificate"));
        let mut args = vec!["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=test"];
        args.extend(["-keyout", &key_file, "-out", &file, "-newkey"]);
        args.extend(key);
        openssl(&args);
        let digest = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", &file]);
        let (_, digest) = digest.trim().split_once('=').unwrap();
        theirs.fingerprint = format!("sha-256 {digest}");
        theirs
    }

    fn path(&self, file: &str) -> String {
        Path::new(&self.dir).join(file).display().to_string()
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A run of `openssl s_client` or `s_server`.
struct Program(Child);

impl Program {
    fn start(args: &[&str]) -> Self {
        let child = Command::new("openssl")
            .args(args)
            .args(["-dtls1_2", "-use_srtp", PROFILES])
            .args(["-keymatexport", "EXTRACTOR-dtls_srtp"])
            .args(["-keymatexportlen", &MATERIAL_LEN.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Program(child.unwrap())
    }

    /// Ends it, and gives what it has said.
    fn finish(mut self) -> String {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        self.0.wait().unwrap();
        said
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lends an endpoint a socket until it is connected or over, and what it then has to say is sent.
fn drive(
    endpoint: &mut DtlsEndpoint,
    socket: &UdpSocket,
    peer: Option<std::net::SocketAddr>,
) -> Result<SrtpKeys, DtlsError> {
    let mut peer = peer;
    let mut buffer = [0; 4096];
    endpoint.begin(Instant::now())?;
    loop {
        let mut keys = None;
        while let Some(output) = endpoint.poll() {
            match output {
                // Nobody may be there yet, or listen.
                DtlsOutput::Packet(packet) => {
                    peer.into_iter()
                        .for_each(|peer| drop(socket.send_to(&packet, peer)));
                }
                DtlsOutput::Connected(fresh) => keys = Some(fresh),
                other => panic!("{other:?}"),
            }
        }
        if let Some(keys) = keys {
            return Ok(keys);
        }
        let now = Instant::now();
        let due = endpoint.next_deadline().unwrap();
        let patience = due.saturating_duration_since(now) + Duration::from_millis(1);
        socket.set_read_timeout(Some(patience)).unwrap();
        let result = match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                peer = Some(from);
                endpoint.handle_packet(Instant::now(), &buffer[..len])
            }
            Err(_) => endpoint.handle_timeout(Instant::now()),
        };
        if let Err(error) = result {
            while let Some((DtlsOutput::Packet(packet), peer)) = endpoint.poll().zip(peer) {
                socket.send_to(&packet, peer).unwrap();
            }
            return Err(error);
        }
    }
}

fn endpoint(role: Role, theirs: &Theirs) -> (Certificate, DtlsEndpoint) {
    let ours = Certificate::generate().unwrap();
    let promised = vec![theirs.fingerprint.parse().unwrap()];
    let endpoint = DtlsEndpoint::new(Instant::now(), role, &ours, promised);
    (ours, endpoint)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Both sides export the same: the client's key, the server's, the client's salt, the server's.
fn assert_same_keys(said: &str, keys: &SrtpKeys, role: Role) {
    assert_eq!(keys.profile, SrtpProfile::Aes256Gcm);
    let (client, server) = match role {
        Role::Client => (keys.local(), keys.remote()),
        Role::Server => (keys.remote(), keys.local()),
    };
    let material = [client.key, server.key, client.salt, server.salt].concat();
    let expected = format!("Keying material: {}", hex(&material));
    assert!(said.contains(&expected), "{expected}\n{said}");
}

/// Has OpenSSL's client connect to us.
fn serve(theirs: &Theirs, more: &[&str]) -> (Result<SrtpKeys, DtlsError>, DtlsEndpoint, String) {
    serve_after(None, theirs, more)
}

/// As [`serve`], after something has come that is not the client's.
fn serve_after(
    forged: Option<&[u8]>,
    theirs: &Theirs,
    more: &[&str],
) -> (Result<SrtpKeys, DtlsError>, DtlsEndpoint, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (_, mut endpoint) = endpoint(Role::Server, theirs);
    if let Some(forged) = forged {
        endpoint.handle_packet(Instant::now(), forged).unwrap();
        while endpoint.poll().is_some() {}
    }
    let program = Program::start(&[&["s_client", "-connect", &address], more].concat());
    let result = drive(&mut endpoint, &socket, None);
    let said = program.finish();
    (result, endpoint, said)
}

#[test]
fn clients_get_in_whatever_their_key() {
    if !has_openssl() {
        return;
    }
    for key in KEYS {
        let theirs = Theirs::new("client", key);
        let (certificate, key_file) = (theirs.path("certificate"), theirs.path("key"));
        let own = ["-cert", &certificate, "-key", &key_file];
        let (keys, endpoint, said) = serve(&theirs, &own);
        let keys = keys.unwrap_or_else(|error| panic!("{key:?}: {error}\n{said}"));
        assert!(endpoint.is_connected());
        assert_same_keys(&said, &keys, Role::Server);
    }
}

#[test]
fn every_suite_and_group_works_also_in_small_pieces() {
    if !has_openssl() {
        return;
    }
    let theirs = Theirs::new(
        "suites",
        &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    );
    let (certificate, key_file) = (theirs.path("certificate"), theirs.path("key"));
    for more in [
        ["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        ["-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
        ["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        ["-groups", "P-256"],
        ["-groups", "P-256:P-384"],
        ["-groups", "P-521:P-256"],
        ["-groups", "X25519:P-256"],
        ["-mtu", "300"],
    ] {
        let own = ["-cert", &certificate, "-key", &key_file];
        let (keys, _, said) = serve(&theirs, &[&own[..], &more[..]].concat());
        let keys = keys.unwrap_or_else(|error| panic!("{more:?}: {error}\n{said}"));
        assert_same_keys(&said, &keys, Role::Server);
    }
}

#[test]
fn a_client_whose_hello_somebody_forged_before_it_gets_in_with_a_cookie() {
    if !has_openssl() {
        return;
    }
    let theirs = Theirs::new("cookie", &["rsa:2048"]);
    let (certificate, key_file) = (theirs.path("certificate"), theirs.path("key"));
    let (_, mut stranger) = endpoint(Role::Client, &theirs);
    stranger.begin(Instant::now()).unwrap();
    let Some(DtlsOutput::Packet(forged)) = stranger.poll() else {
        panic!("a client begins");
    };
    let own = ["-cert", &certificate, "-key", &key_file];
    let (keys, _, said) = serve_after(Some(&forged), &theirs, &own);
    let keys = keys.unwrap_or_else(|error| panic!("{error}\n{said}"));
    assert_same_keys(&said, &keys, Role::Server);
}

#[test]
fn whoever_cannot_get_in_is_told_why() {
    if !has_openssl() {
        return;
    }
    let theirs = Theirs::new("refused", &["rsa:1024"]);
    let other = Theirs::new("other", &["ed25519"]);
    let own = |theirs: &Theirs| [theirs.path("certificate"), theirs.path("key")];
    let (short, wrong) = (own(&theirs), own(&other));
    let cases: [(&[&str], &str, &str); 4] = [
        (&[], "alert handshake failure", "no DTLS certificate"),
        (
            &[
                "-cert",
                &short[0],
                "-key",
                &short[1],
                "-cipher",
                "DEFAULT@SECLEVEL=0",
            ],
            "alert unsupported certificate",
            "too short",
        ),
        (
            &["-cert", &wrong[0], "-key", &wrong[1]],
            "alert bad certificate",
            "matches no a=fingerprint",
        ),
        (
            &[
                "-cert",
                &wrong[0],
                "-key",
                &wrong[1],
                "-cipher",
                "ECDHE-RSA-AES128-GCM-SHA256",
            ],
            "alert handshake failure",
            "cipher suite",
        ),
    ];
    for (more, alert, reason) in cases {
        let (keys, _, said) = serve(&theirs, more);
        let error = keys.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(said.contains(alert), "{alert}\n{said}");
    }
}

#[test]
fn servers_are_met_whatever_their_key() {
    if !has_openssl() {
        return;
    }
    // OpenSSL's server has no DTLS suite for Ed25519, not even with its own client.
    let keys = KEYS.into_iter().filter(|key| key != &["ed25519"]);
    for (key, more) in keys
        .map(|key| (key, None))
        // With a HelloVerifyRequest.
        .chain([(KEYS[0], Some("-listen"))])
    {
        let theirs = Theirs::new("server", key);
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap();
        drop(free);
        let (certificate, key_file) = (theirs.path("certificate"), theirs.path("key"));
        let accept = port.port().to_string();
        let mut args = vec!["s_server", "-4", "-accept", &accept, "-naccept", "1"];
        args.extend(["-Verify", "1", "-cert", &certificate, "-key", &key_file]);
        args.extend(more);
        let program = Program::start(&args);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (_, mut endpoint) = endpoint(Role::Client, &theirs);
        let keys = drive(&mut endpoint, &socket, Some(port));
        endpoint.close().unwrap();
        while let Some(DtlsOutput::Packet(goodbye)) = endpoint.poll() {
            socket.send_to(&goodbye, port).unwrap();
        }
        let said = program.finish();
        let keys = keys.unwrap_or_else(|error| panic!("{key:?}: {error}\n{said}"));
        assert_same_keys(&said, &keys, Role::Client);
    }
}

/// The other side in memory.
struct Dimpl {
    engine: dimpl::Dtls,
    material: Option<Vec<u8>>,
}

impl Dimpl {
    fn new(now: Instant, role: Role) -> (Self, String) {
        let certificate = dimpl::certificate::generate_self_signed_certificate().unwrap();
        let fingerprint = dimpl::certificate::format_fingerprint(&certificate.fingerprint());
        let config = dimpl::Config::builder()
            .require_client_certificate(true)
            .build()
            .unwrap();
        let mut engine = dimpl::Dtls::new_12(Arc::new(config), certificate, now);
        engine.set_active(role == Role::Client);
        let dimpl = Dimpl {
            engine,
            material: None,
        };
        (dimpl, format!("sha-256 {fingerprint}"))
    }

    fn packets(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 16 * 1024];
        let mut packets = Vec::new();
        loop {
            match self.engine.poll_output(&mut buffer) {
                dimpl::Output::Packet(packet) => packets.push(packet.to_vec()),
                dimpl::Output::KeyingMaterial(material, _) => {
                    self.material = Some(material.to_vec());
                }
                dimpl::Output::Timeout(_) => return packets,
                _ => {}
            }
        }
    }
}

#[test]
fn dimpl_agrees_in_both_roles() {
    for role in [Role::Server, Role::Client] {
        let mut now = Instant::now();
        let its_role = match role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        let (mut other, fingerprint) = Dimpl::new(now, its_role);
        let ours = Certificate::generate().unwrap();
        let promised = vec![fingerprint.parse().unwrap()];
        let mut endpoint = DtlsEndpoint::new(now, role, &ours, promised);
        endpoint.begin(now).unwrap();
        let mut keys = None;
        for _ in 0..100 {
            now += Duration::from_millis(10);
            other.engine.handle_timeout(now).unwrap();
            for packet in other.packets() {
                endpoint.handle_packet(now, &packet).unwrap();
            }
            endpoint.handle_timeout(now).unwrap();
            while let Some(output) = endpoint.poll() {
                match output {
                    DtlsOutput::Packet(packet) => other.engine.handle_packet(&packet).unwrap(),
                    DtlsOutput::Connected(fresh) => keys = Some(fresh),
                    unexpected => panic!("{unexpected:?}"),
                }
            }
        }
        let (keys, material) = (keys.unwrap(), other.material.unwrap());
        let said = format!("Keying material: {}", hex(&material));
        assert_same_keys(&said, &keys, role);
    }
}
