//! What DTLS costs a server: CPU time of a handshake, memory of a client that is connected. Ours beside
//! `dimpl`, each with a client of ours.
//!
//! `cargo bench -p confab-sfu --bench dtls`. Both take turns, and are given the same: certificates with
//! ECDSA keys on P-256 on both sides, the client's asked for and its signature verified. Memory is what
//! the resident set of a process of its own grows by for each association that is kept.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test begins at some time, and may play the network"
)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends where it is wrong"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_sfu::inside::peer::dtls::{Certificate, DtlsEndpoint, DtlsOutput, Fingerprint, Role};

const ROUNDS: usize = 9;
const HANDSHAKES: usize = 500;
/// Associations kept when memory is measured, and those before it is.
const KEPT: usize = 4000;
const WARM_UP: usize = 400;
/// Bytes of a page, in which the kernel counts resident memory.
const PAGE: usize = 4096;
/// Exchanges of datagrams that a handshake takes at most.
const MAX_EXCHANGES: usize = 20;
/// The argument with which the benchmark runs itself for a figure of memory.
const MEMORY: &str = "memory-of";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours,
    Dimpl,
}

const KINDS: [Kind; 2] = [Kind::Ours, Kind::Dimpl];

/// One side.
enum Engine {
    Ours(Box<DtlsEndpoint>),
    Dimpl(Box<dimpl::Dtls>),
}

/// A certificate for each implementation.
struct Identities {
    ours: Certificate,
    client: Certificate,
    dimpl: dimpl::DtlsCertificate,
    config: Arc<dimpl::Config>,
}

impl Identities {
    fn make() -> Self {
        let config = dimpl::Config::builder().require_client_certificate(true);
        Identities {
            ours: Certificate::generate().unwrap(),
            client: Certificate::generate().unwrap(),
            dimpl: dimpl::certificate::generate_self_signed_certificate().unwrap(),
            config: Arc::new(config.build().unwrap()),
        }
    }

    fn server(&self, kind: Kind, now: Instant) -> Engine {
        match kind {
            Kind::Ours => {
                let promised = vec![self.client.fingerprint().clone()];
                let endpoint = DtlsEndpoint::new(now, Role::Server, &self.ours, promised);
                Engine::Ours(Box::new(endpoint))
            }
            Kind::Dimpl => {
                let config = Arc::clone(&self.config);
                let mut engine = dimpl::Dtls::new_12(config, self.dimpl.clone(), now);
                engine.set_active(false);
                Engine::Dimpl(Box::new(engine))
            }
        }
    }

    /// The client of a server of that kind.
    fn client(&self, kind: Kind, now: Instant) -> Engine {
        let promised: Fingerprint = match kind {
            Kind::Ours => self.ours.fingerprint().clone(),
            Kind::Dimpl => {
                let fingerprint = self.dimpl.fingerprint();
                let digest = dimpl::certificate::format_fingerprint(&fingerprint);
                format!("sha-256 {digest}").parse().unwrap()
            }
        };
        let mut endpoint = DtlsEndpoint::new(now, Role::Client, &self.client, vec![promised]);
        endpoint.begin(now).unwrap();
        Engine::Ours(Box::new(endpoint))
    }
}

impl Engine {
    /// Takes datagrams, and gives the answer. Says whether it is connected now.
    fn handle(&mut self, now: Instant, packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, bool) {
        let (mut answer, mut is_connected) = (Vec::new(), false);
        match self {
            Engine::Ours(endpoint) => {
                for packet in packets {
                    endpoint.handle_packet(now, packet).unwrap();
                }
                while let Some(output) = endpoint.poll() {
                    match output {
                        DtlsOutput::Packet(packet) => answer.push(packet),
                        DtlsOutput::Connected(_) => is_connected = true,
                        other => panic!("{other:?}"),
                    }
                }
            }
            Engine::Dimpl(engine) => {
                engine.handle_timeout(now).unwrap();
                for packet in packets {
                    engine.handle_packet(packet).unwrap();
                }
                let mut buffer = [0; 2048];
                loop {
                    match engine.poll_output(&mut buffer) {
                        dimpl::Output::Packet(packet) => answer.push(packet.to_vec()),
                        dimpl::Output::KeyingMaterial(..) => is_connected = true,
                        dimpl::Output::Timeout(_) => break,
                        _ => {}
                    }
                }
            }
        }
        (answer, is_connected)
    }
}

/// CPU time that this thread has used.
fn cpu() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = schedstat.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanoseconds)
}

/// Bytes resident.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * PAGE
}

/// Has so many clients connect, all in step. Gives the servers, and the CPU time that they took.
fn connect(identities: &Identities, kind: Kind, count: usize) -> (Vec<Engine>, Duration) {
    let now = Instant::now();
    let mut clients: Vec<_> = (0..count).map(|_| identities.client(kind, now)).collect();
    let before = cpu();
    let mut servers: Vec<_> = (0..count).map(|_| identities.server(kind, now)).collect();
    let mut spent = cpu() - before;
    let mut packets = vec![Vec::new(); count];
    let (mut up, mut down) = (0, 0);
    for _ in 0..MAX_EXCHANGES {
        for (client, packets) in clients.iter_mut().zip(&mut packets) {
            let (answer, is_connected) = client.handle(now, packets);
            *packets = answer;
            up += usize::from(is_connected);
        }
        let before = cpu();
        for (server, packets) in servers.iter_mut().zip(&mut packets) {
            let (answer, is_connected) = server.handle(now, packets);
            *packets = answer;
            down += usize::from(is_connected);
        }
        spent += cpu() - before;
        if (up, down) == (count, count) {
            return (servers, spent);
        }
    }
    panic!("{kind:?}: {up} clients and {down} servers of {count} are connected");
}

/// Bytes for each association kept.
fn memory(kind: Kind) -> usize {
    let identities = Identities::make();
    let mut kept = Vec::with_capacity(WARM_UP + KEPT);
    let mut before = 0;
    for number in 0..WARM_UP + KEPT {
        if number == WARM_UP {
            before = resident();
        }
        kept.extend(connect(&identities, kind, 1).0);
    }
    (resident() - before) / KEPT
}

fn memory_of_another_process(kind: Kind) -> usize {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args([MEMORY, &format!("{kind:?}")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.trim().parse().unwrap()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(MEMORY) {
        let name = arguments.next();
        let kind = KINDS
            .into_iter()
            .find(|kind| name == Some(format!("{kind:?}")));
        return println!("{}", memory(kind.unwrap()));
    }
    let identities = Identities::make();
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (kind, costs) in KINDS.into_iter().zip(&mut costs) {
            let (_, spent) = connect(&identities, kind, HANDSHAKES);
            costs.push(spent / HANDSHAKES as u32);
        }
    }
    let [ours, theirs] = costs.map(|mut costs| {
        costs.sort();
        (costs[ROUNDS / 2], costs[0], costs[ROUNDS - 1])
    });
    for (kind, (median, least, most)) in KINDS.into_iter().zip([ours, theirs]) {
        println!("{kind:?}: a handshake {median:?} ({least:?} to {most:?})");
    }
    let ratio = ours.0.as_secs_f64() / theirs.0.as_secs_f64();
    println!("a handshake of ours takes {ratio:.2} of dimpl's");
    let [ours, theirs] = KINDS.map(memory_of_another_process);
    println!("Ours: {ours} bytes for each client connected; Dimpl: {theirs}");
    let ratio = ours as f64 / theirs as f64;
    println!("a client of ours takes {ratio:.2} of dimpl's");
}
