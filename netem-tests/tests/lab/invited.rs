//! The first hour of someone who puts the server on a machine: the guide's command, the link that the
//! server says, and a second person, elsewhere, who is invited by a link.
//!
//! Screenshots: `client-demo/test-results/invited-*.png`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use confab_netem_tests::lab::{Lab, Nat, Node};
use confab_netem_tests::link::Impairment;
use serde_json::Value;

use crate::documented::{Folder, Running, documented};
use crate::{client, new_lab};

/// A person at a browser. Dropping it closes that.
struct Visitor {
    child: Child,
    words: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.words = None;
        let _ = self.child.wait();
    }
}

impl Visitor {
    fn open(lab: &Lab, node: Node, name: &str, device: &str, link: &str) -> Visitor {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/visitor.mjs");
        let mut command = lab.command(node, "node");
        command
            .arg(script)
            .args(["--name", name, "--device", device, "--link", link]);
        command.args(["--screenshot", &format!("invited-{device}")]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        let stdout = child.stdout.take().expect("a pipe");
        Visitor {
            words: child.stdin.take(),
            lines: BufReader::new(stdout).lines(),
            child,
        }
    }

    fn say(&mut self, word: &str) {
        let words = self.words.as_mut().expect("it listens");
        writeln!(words, "{word}").expect("it listens");
    }

    /// The next line of this type; those before it are of no interest.
    fn hear(&mut self, wanted: &str) -> Value {
        for line in self.lines.by_ref() {
            let line: Value = serde_json::from_str(&line.expect("text")).expect("JSON");
            assert_ne!(line["type"], "failed", "{line}");
            if line["type"] == wanted {
                return line;
            }
        }
        panic!("it has ended without saying {wanted}");
    }
}

/// The command of the guide that serves people without a host name: they open it at its address.
fn guide() -> crate::documented::Documented {
    let commands = documented("docs/operations.md").into_iter();
    let mut fitting = commands.filter(|c| c.command.contains("--http-tls-self-signed true"));
    fitting
        .next()
        .expect("a command with a self-signed certificate")
}

#[test]
fn a_server_by_the_guide_lets_in_who_is_invited_by_link() {
    let _machine = crate::alone();
    let folder = Folder::new("invited");
    let mut lab = new_lab();
    let node = lab.add_server("server").expect("a server");
    let address = lab.addresses(node).v4;
    let ada_at = client(&mut lab, "ada", Nat::None, Impairment::default());
    let bob_at = client(&mut lab, "bob", Nat::PortRestricted, Impairment::default());

    let shell = guide().shell(&lab, node, &folder.0);
    let server = Running::start(shell, &folder.0.join("server.log"));
    let link = server
        .said
        .split_whitespace()
        .find(|word| word.starts_with("https://"));
    let link = link.unwrap_or_else(|| panic!("no link: {}", server.said));
    let room = format!("https://{address}/lobby#token=");
    assert!(link.starts_with(&room), "{link}");

    let mut ada = Visitor::open(&lab, ada_at, "Ada", "desk", link);
    let joined = ada.hear("joined");
    assert_eq!(
        (&joined["room"], &joined["at"]),
        (&"lobby".into(), &"/lobby".into())
    );
    ada.say("invite");
    let invited = ada.hear("invited");
    let invited = invited["link"].as_str().expect("a link").to_owned();
    assert!(invited.starts_with(&room) && invited != link, "{invited}");

    let mut bob = Visitor::open(&lab, bob_at, "Bob", "phone", &invited);
    bob.hear("joined");
    assert_eq!(bob.hear("sees")["people"], serde_json::json!(["Ada"]));
    assert_eq!(ada.hear("sees")["people"], serde_json::json!(["Bob"]));
    for person in [&mut ada, &mut bob] {
        person.say("look");
        person.hear("looked");
    }
    let log = std::fs::read_to_string(folder.0.join("server.log")).expect("a log");
    let token = invited.split_once("#token=").expect("a token").1;
    assert!(
        !log.contains(token) && log.contains("a guest is invited"),
        "{log}"
    );
}
