//! Scenarios in real time: real programs in namespaces, each behind its own link.
//!
//! In: a run of a scenario, a seed, a server. Out: what every client told and every link did, as
//! from a run in virtual time. Everything a run starts ends with it.

mod client;
mod program;
mod server;
mod video;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use confab_bot::sample::Line;

use crate::lab::{ClientSpec, Lab, LabError, LinkBackend, Node};
use crate::recording::Recording;
use crate::scenario::{self, Action, Change, Participant, Scenario};
use client::{Client, Invitation, Told};
pub use server::{Programs, Server, ServerKind};

/// How long a client may take to get ready: Chromium starts in seconds, on a busy machine in many.
const READY_PATIENCE: Duration = Duration::from_secs(90);

/// How often links are looked at.
const LINK_SAMPLES_EVERY: Duration = Duration::from_secs(1);

/// Where the first participant's iperf3 server would be; iperf3's own default.
const FLOW_PORT: u16 = 5201;

/// The room of a run; each has a server of its own.
const ROOM: &str = "netem";

/// Why a run could not be made. What went wrong within a call is in its recording.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The network could not be made.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file could not be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A program could not be started.
    #[error(
        "cannot run {}: {error}; build it with `cargo build --workspace --release`",
        program.display()
    )]
    Program {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The server's certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The server did not start.
    #[error("the server {kind} did not start; what it said is in {}", log.display())]
    Server {
        /// Which.
        kind: ServerKind,
        /// Its log.
        log: PathBuf,
    },
    /// The server made no token.
    #[error("the server made no token to join with: {why}")]
    Token {
        /// What it said.
        why: String,
    },
    /// A client did not get ready.
    #[error("{name} did not get ready: {why}")]
    Client {
        /// The participant.
        name: String,
        /// What it said, or where to look.
        why: String,
    },
}

/// What a run needs besides its scenario.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which server.
    pub server: ServerKind,
    /// What to start.
    pub programs: Programs,
    /// Where logs go; it exists.
    pub dir: PathBuf,
    /// A command that calls [`crate::lab::reap`] with its last argument.
    pub reaper: fn() -> Command,
    /// What imitates the links.
    pub backend: LinkBackend,
}

/// Runs a scenario once. `progress` is told each second how far the call is.
///
/// # Errors
/// When the call could not begin.
pub fn run(
    scenario: &Scenario,
    seed: u64,
    setup: &Setup,
    mut progress: impl FnMut(Duration),
) -> Result<Recording, RunError> {
    let mut bench = Bench::new(scenario, seed, setup)?;
    bench.wait_until_ready(scenario)?;
    bench.hold_call(scenario, &mut progress);
    bench.recording.late_share = bench.lab.punctuality().late_share();
    Ok(bench.recording)
}

/// A lab with a server and clients that are ready to join.
struct Bench {
    clients: Vec<Client>,
    nodes: Vec<Node>,
    told: mpsc::Receiver<Told>,
    recording: Recording,
    server: Server,
    /// Last, so that it is dropped last: it ends whatever is left.
    lab: Lab,
}

impl Bench {
    fn new(scenario: &Scenario, seed: u64, setup: &Setup) -> Result<Self, RunError> {
        let mut lab = Lab::new((setup.reaper)(), setup.backend)?;
        let server_node = lab.add_server("server")?;
        let server = Server::start(
            &lab,
            server_node,
            setup.server,
            scenario.workers,
            &setup.programs,
            &setup.dir,
        )?;
        let (tell, told) = mpsc::channel();
        let mut bench = Bench {
            clients: Vec::new(),
            nodes: Vec::new(),
            told,
            recording: Recording::new(scenario, 0.0),
            server,
            lab,
        };
        for (index, participant) in scenario.participants.iter().enumerate() {
            // Far apart, so that one client more moves nobody else's luck.
            let seeds = seed.wrapping_mul(0x1_0000).wrapping_add(2 * index as u64);
            let mut others = scenario.participants.iter().zip(&bench.nodes);
            let housemate = others.find(|(other, _)| other.network() == participant.network());
            let node = match housemate {
                Some((_, node)) => *node,
                None => {
                    let node = bench.lab.add_client(ClientSpec {
                        name: participant.name.clone(),
                        nat: participant.nat,
                        up: participant.uplink.clone(),
                        down: participant.downlink.clone(),
                        seed_up: seeds,
                        seed_down: seeds.wrapping_add(1),
                    })?;
                    bench.lab.set_firewall(node, participant.firewall)?;
                    node
                }
            };
            let flow_server = SocketAddrV4::new(bench.server.address(), FLOW_PORT + index as u16);
            if participant.client == scenario::Client::Iperf3 {
                serve_flow(&bench.lab, server_node, flow_server, &setup.dir)?;
            }
            let token = bench.server.token(ROOM, &participant.name)?;
            let invitation = Invitation {
                server: setup.server,
                url: &bench.server.url(),
                room: ROOM,
                token: token.as_deref(),
                flow_server,
                is_watched: scenario.participants.iter().any(is_browser),
                others: scenario.participants.len() - 1,
            };
            bench.clients.push(Client::start(
                &bench.lab,
                (index, node),
                participant,
                &invitation,
                &setup.programs,
                (&setup.dir, tell.clone()),
            )?);
            bench.nodes.push(node);
        }
        Ok(bench)
    }

    fn wait_until_ready(&mut self, scenario: &Scenario) -> Result<(), RunError> {
        let deadline = Instant::now() + READY_PATIENCE;
        let mut waiting: Vec<usize> = (0..self.clients.len()).collect();
        while let Some(&slowest) = waiting.first() {
            let failed = |index: usize, why: String| RunError::Client {
                name: scenario.participants[index].name.clone(),
                why,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(told) = self.told.recv_timeout(left) else {
                let why = format!("nothing was heard of it for {} s", READY_PATIENCE.as_secs());
                return Err(failed(slowest, why));
            };
            match told.line {
                Some(Line::Ready) => waiting.retain(|&index| index != told.client),
                Some(Line::Failed { why, .. }) => return Err(failed(told.client, why)),
                None => return Err(failed(told.client, "it ended; see its log".into())),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn hold_call(&mut self, scenario: &Scenario, progress: &mut impl FnMut(Duration)) {
        let began = Instant::now();
        self.recording.call.start = unix_ms();
        let mut agenda = Agenda::new(scenario);
        while began.elapsed() < scenario.duration {
            let now = began.elapsed();
            while let Some(due) = agenda.next_due(now) {
                match due {
                    Due::Join(index) => self.clients[index].join(),
                    Due::Change(index, action) => self.change(index, action),
                    Due::LinkSample => {
                        self.sample_links(now);
                        progress(now);
                    }
                }
            }
            let wait = agenda.next_deadline().min(scenario.duration);
            match self.told.recv_timeout(wait.saturating_sub(began.elapsed())) {
                Ok(told) => self.hear(told),
                Err(RecvTimeoutError::Timeout) => {}
                // Every client ended before its time; each has said so.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.sample_links(began.elapsed());
        for client in &mut self.clients {
            client.leave();
        }
        for client in &mut self.clients {
            client.wait();
        }
        // What was told while leaving, but not that they ended.
        while let Ok(told) = self.told.try_recv() {
            if told.line.is_some() {
                self.hear(told);
            }
        }
    }

    fn hear(&mut self, told: Told) {
        let line = told.line.unwrap_or_else(|| Line::Failed {
            at: unix_ms(),
            why: "it ended before the call did; see its log".into(),
        });
        self.recording.tell(told.client, line);
    }

    fn change(&mut self, client: usize, action: &Action) {
        let node = self.nodes[client];
        let result = match action {
            Action::Uplink(impairment) => self.lab.set_uplink(node, impairment.clone()),
            Action::Downlink(impairment) => self.lab.set_downlink(node, impairment.clone()),
            Action::Firewall(firewall) => self.lab.set_firewall(node, *firewall),
            Action::AddressChange => self.lab.change_address(node).map(|_| ()),
        };
        if let Err(error) = result {
            let fault = format!("the network did not change as it should: {error}");
            self.recording.faults.push(fault);
        }
    }

    fn sample_links(&mut self, at: Duration) {
        // Once for each network: what is asked for counts from the last time it was.
        let mut readings = BTreeMap::new();
        for node in &self.nodes {
            readings
                .entry(*node)
                .or_insert_with(|| self.lab.readings(*node));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some((up, down)) = readings.get(node).copied().flatten() {
                self.recording.sample_link(index, at, up, down);
            }
        }
    }
}

/// Starts what a flow comes from or goes to, beside the server. The lab ends it.
fn serve_flow(lab: &Lab, node: Node, at: SocketAddrV4, dir: &Path) -> Result<(), RunError> {
    let name = |ending: &str| dir.join(format!("iperf3-{}.{ending}", at.port()));
    let mut command = lab.command(node, "iperf3");
    command
        .args(["--server", "--bind", &at.ip().to_string()])
        .args(["--port", &at.port().to_string()])
        .arg("--logfile")
        .arg(name("out"));
    program::start(command, &name("log"))?;
    Ok(())
}

fn is_browser(participant: &Participant) -> bool {
    participant.client == scenario::Client::Browser
}

fn unix_ms() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64() * 1e3
}

/// What is to be done now.
#[derive(Debug)]
enum Due<'a> {
    Join(usize),
    /// The network of this client changes.
    Change(usize, &'a Action),
    /// The links are looked at.
    LinkSample,
}

/// What is to be done, and when.
#[derive(Debug)]
struct Agenda<'a> {
    /// In the order of time.
    entries: std::iter::Peekable<std::vec::IntoIter<(Duration, Due<'a>)>>,
    next_link_sample: Duration,
}

impl<'a> Agenda<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let place = |name: &str| scenario.participants.iter().position(|p| p.name == name);
        let joins = scenario.participants.iter().enumerate();
        let joins = joins.map(|(client, participant)| (participant.joins, Due::Join(client)));
        let change = |change: &'a Change| {
            let client = place(&change.participant)?;
            Some((change.at, Due::Change(client, &change.action)))
        };
        let changes = scenario.changes.iter().filter_map(change);
        let mut entries: Vec<_> = joins.chain(changes).collect();
        // Stable: what is written first at one time happens first.
        entries.sort_by_key(|(at, _)| *at);
        Agenda {
            entries: entries.into_iter().peekable(),
            next_link_sample: Duration::ZERO,
        }
    }

    fn next_due(&mut self, now: Duration) -> Option<Due<'a>> {
        if let Some((_, due)) = self.entries.next_if(|(at, _)| *at <= now) {
            return Some(due);
        }
        if self.next_link_sample <= now {
            self.next_link_sample += LINK_SAMPLES_EVERY;
            return Some(Due::LinkSample);
        }
        None
    }

    fn next_deadline(&mut self) -> Duration {
        let entry = self.entries.peek().map(|(at, _)| *at);
        entry.map_or(self.next_link_sample, |at| at.min(self.next_link_sample))
    }
}
