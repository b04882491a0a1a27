//! A participant's process: a browser, a bot or an iperf3, behind its link.
//!
//! In: who it is and where it joins. Out: the lines it tells, each with the client it is from.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use confab_bot::sample::Line;

use super::server::{Programs, ServerKind};
use super::{RunError, program, video};
use crate::lab::{Lab, Node};
use crate::scenario::{self, Participant};

/// How long a client may take to leave before it is ended.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// What a client told, or that it ended.
#[derive(Debug)]
pub(super) struct Told {
    /// Which client, by its place in the call.
    pub(super) client: usize,
    /// The line; none when it ended.
    pub(super) line: Option<Line>,
}

/// Where a participant joins, and as whom.
#[derive(Debug)]
pub(super) struct Invitation<'a> {
    pub(super) server: ServerKind,
    pub(super) url: &'a str,
    pub(super) room: &'a str,
    pub(super) token: Option<&'a str>,
    /// Where an iperf3 waits for this one.
    pub(super) flow_server: SocketAddrV4,
    /// Whether there is a browser, which shows only what a real encoder made.
    pub(super) is_watched: bool,
    /// How many others there are.
    pub(super) others: usize,
}

/// A participant's process. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Client {
    child: Child,
}

impl Client {
    /// Starts a participant. It gets ready and waits for [`Client::join`].
    pub(super) fn start(
        lab: &Lab,
        (index, node): (usize, Node),
        participant: &Participant,
        invitation: &Invitation<'_>,
        programs: &Programs,
        (dir, told): (&Path, Sender<Told>),
    ) -> Result<Self, RunError> {
        let command = match participant.client {
            scenario::Client::Browser => {
                let mut command = lab.command(node, "node");
                command.arg(programs.browser.join("participant.mjs"));
                configure_call(&mut command, participant, invitation);
                configure_browser(&mut command, participant, invitation, &programs.speech);
                command
            }
            scenario::Client::Bot => {
                let mut command = lab.command(node, &programs.bot.to_string_lossy());
                let video = video::make(participant, invitation.is_watched, &programs.media)?;
                configure_call(&mut command, participant, invitation);
                configure_bot(
                    &mut command,
                    participant,
                    invitation.others,
                    video.as_deref(),
                );
                command
            }
            scenario::Client::Iperf3 => {
                let mut command = lab.command(node, "node");
                command.arg(programs.browser.join("flow.mjs"));
                command
                    .args(["--direction", &participant.direction.to_string()])
                    .args(["--server", &invitation.flow_server.to_string()]);
                command
            }
        };
        let log = dir.join(format!("{}.log", participant.name));
        let (child, stdout) = program::start(command, &log)?;
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = match serde_json::from_str(&text) {
                    Ok(line) => line,
                    Err(error) => Line::Failed {
                        at: 0.0,
                        why: format!("it said {text:?}, which is no line of a client: {error}"),
                    },
                };
                let line = Some(line);
                let _ = told.send(Told {
                    client: index,
                    line,
                });
            }
            let _ = told.send(Told {
                client: index,
                line: None,
            });
        });
        Ok(Client { child })
    }

    pub(super) fn join(&mut self) {
        self.say("join");
    }

    pub(super) fn leave(&mut self) {
        self.say("leave");
    }

    /// Waits until it has ended, and ends it if that takes too long.
    pub(super) fn wait(&mut self) {
        let deadline = Instant::now() + LEAVE_PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A client that does not listen any more shows in what it tells.
    fn say(&mut self, word: &str) {
        if let Some(stdin) = &mut self.child.stdin {
            let _ = writeln!(stdin, "{word}");
        }
    }
}

fn configure_call(command: &mut Command, participant: &Participant, invitation: &Invitation<'_>) {
    command
        .args(["--url", invitation.url])
        .args(["--room", invitation.room])
        .args(["--name", &participant.name]);
    if let Some(token) = invitation.token {
        command.args(["--token", token]);
    }
}

fn configure_browser(
    command: &mut Command,
    participant: &Participant,
    invitation: &Invitation<'_>,
    speech: &Path,
) {
    if speech.exists() {
        command.arg("--speech").arg(speech);
    }
    command.args(["--server-kind", &invitation.server.to_string()]);
    let mut publish = Vec::new();
    if participant.audio {
        publish.push("audio");
    }
    if let Some(size) = participant.video {
        publish.push("video");
        command.args(["--size", &format!("{}x{}", size.width, size.height)]);
    }
    if let Some(simulcast) = participant.simulcast {
        command.arg(match simulcast {
            true => "--simulcast",
            false => "--no-simulcast",
        });
    }
    if let Some(relay) = participant.relay {
        command.args(["--relay", &relay.to_string()]);
    }
    command.args(["--publish", &publish.join(",")]);
}

fn configure_bot(
    command: &mut Command,
    participant: &Participant,
    others: usize,
    video: Option<&Path>,
) {
    let others = others.to_string();
    command
        .args(["--lines", "--bind", "0.0.0.0:0", "--reference", "speech"])
        .args(["--subscribe-audio", &others, "--subscribe-video", &others])
        .args(["--audio", if participant.audio { "speech" } else { "none" }]);
    if let Some(video) = video {
        command.arg("--video").arg(video);
    }
}
