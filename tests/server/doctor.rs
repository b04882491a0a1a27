//! The real `confab doctor`: alone, beside a running server, and with things that are wrong.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Settings on loopback that no other process of the tests has, and a directory for files.
struct Place {
    directory: PathBuf,
    flags: Vec<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Place {
    fn new(name: &str) -> Place {
        let directory = format!("confab-doctor-test-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        let [http, media, turn] = free_ports();
        let flags = format!(
            "--http-listen 127.0.0.1:{http} --media-port {media} --media-workers 1 \
             --turn-listen 127.0.0.1:{turn}"
        );
        Place {
            directory,
            flags: flags.split_whitespace().map(String::from).collect(),
        }
    }

    fn port(&self, flag: &str) -> u16 {
        let at = self.flags.iter().position(|f| f == flag).unwrap();
        let value = &self.flags[at + 1];
        value.rsplit(':').next().unwrap().parse().unwrap()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.directory)
            // It is the tests', and no setting.
            .env_remove("CONFAB_BIN")
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// What it prints with these further flags, and its exit code.
    fn doctor(&self, flags: &[&str]) -> (String, i32) {
        let mut command = self.command(env!("CARGO_BIN_EXE_confab"), &["doctor"]);
        said(command.args(&self.flags).args(flags))
    }

    /// A server with these settings, once it is ready; ends with the value.
    fn serve(&self) -> Server {
        let mut command = self.command(env!("CARGO_BIN_EXE_confab"), &[]);
        command.args(&self.flags).stdout(Stdio::piped());
        let mut server = Server(command.stderr(Stdio::null()).spawn().unwrap());
        let mut ready = String::new();
        let stdout = server.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        assert!(ready.contains("ready"), "{ready}");
        server
    }

    /// Writes a certificate for `localhost` that ended in 2021, and its key.
    fn certify_in_the_past(&self) {
        let mut params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(self.directory.join("chain.pem"), certificate.pem()).unwrap();
        std::fs::write(self.directory.join("key.pem"), key.serialize_pem()).unwrap();
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that are free on UDP and TCP, below those that the system gives away meanwhile.
fn free_ports() -> [u16; 3] {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 500) as u16 * 20;
    std::array::from_fn(|_| {
        loop {
            let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
            let address = ("127.0.0.1", port);
            if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
                return port;
            }
        }
    })
}

fn said(command: &mut Command) -> (String, i32) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "");
    (said, output.status.code().unwrap())
}

/// The lines of one level.
fn lines<'a>(said: &'a str, level: &str) -> Vec<&'a str> {
    said.lines()
        .filter(|line| line.starts_with(level))
        .collect()
}

#[test]
fn on_loopback_nothing_stops_calls() {
    let place = Place::new("well");
    let (said, code) = place.doctor(&[]);
    assert_eq!(lines(&said, "problem"), [""; 0], "{said}");
    assert_eq!(code, 0, "{said}");
    let (media, turn) = (place.port("--media-port"), place.port("--turn-listen"));
    for words in [
        format!("media.port: UDP 127.0.0.1:{media} can be had"),
        format!("media.port: STUN at UDP 127.0.0.1:{media} answers"),
        format!("turn.listen: STUN at UDP 127.0.0.1:{turn} answers"),
        "calls are between browsers on this machine".into(),
        "nothing stops calls.".into(),
    ] {
        assert!(said.contains(&words), "{words}: {said}");
    }
}

#[test]
fn a_port_of_another_program_is_a_problem_and_one_of_our_own_server_is_not() {
    let place = Place::new("taken");
    let media = place.port("--media-port");
    let other = UdpSocket::bind(("127.0.0.1", media)).unwrap();
    let (said, code) = place.doctor(&[]);
    assert_eq!(code, 1, "{said}");
    let problems = lines(&said, "problem");
    assert_eq!(problems.len(), 1, "{said}");
    let words = format!("UDP 127.0.0.1:{media} is taken by another program");
    assert!(problems[0].contains(&words), "{said}");
    drop(other);

    let _server = place.serve();
    let (said, code) = place.doctor(&[]);
    assert_eq!(code, 0, "{said}");
    for words in [
        "a server runs here and takes new calls".into(),
        format!("UDP 127.0.0.1:{media}, as the running server has it"),
        format!(
            "STUN at UDP 127.0.0.1:{} answers",
            place.port("--turn-listen")
        ),
    ] {
        assert!(said.contains(&words), "{words}: {said}");
    }
}

#[test]
fn an_expired_certificate_is_a_problem() {
    let place = Place::new("expired");
    place.certify_in_the_past();
    let files = [
        "--http-tls-certificate",
        "chain.pem",
        "--http-tls-key",
        "key.pem",
    ];
    let doors = [
        "--http-tls-listen",
        "127.0.0.1:0",
        "--turn-tls-listen",
        "127.0.0.1:0",
    ];
    let (said, code) =
        place.doctor(&[&files[..], &doors, &["--turn-host", "203.0.113.7"]].concat());
    assert_eq!(code, 1, "{said}");
    let problems = lines(&said, "problem");
    assert_eq!(problems.len(), 2, "{said}");
    assert!(problems[0].contains("chain.pem expired"), "{said}");
    assert!(
        problems[1].contains("203.0.113.7, which the certificate"),
        "{said}"
    );
    let warnings = lines(&said, "warning");
    assert!(
        warnings.iter().any(|line| line.contains("is self-signed")),
        "{said}"
    );
}

#[test]
fn too_few_descriptors_are_a_problem() {
    let place = Place::new("descriptors");
    let mut shell = place.command("sh", &["-c", "ulimit -n 36 && exec \"$@\"", "sh"]);
    shell.args([env!("CARGO_BIN_EXE_confab"), "doctor"]);
    let (said, code) = said(shell.args(&place.flags));
    assert_eq!(code, 1, "{said}");
    let problems = lines(&said, "problem");
    assert_eq!(problems.len(), 1, "{said}");
    assert!(problems[0].contains("36 file descriptors"), "{said}");
}

#[test]
fn settings_that_cannot_be_read_are_said_and_end_with_1() {
    let place = Place::new("unread");
    let mut command = place.command(
        env!("CARGO_BIN_EXE_confab"),
        &["doctor", "--media-port", "many"],
    );
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("media.port to \"many\"") || said.contains("media-port"),
        "{said}"
    );
}
