//! The commands of the guide, as they stand there, on a server of its own.
//!
//! In: the code blocks of `docs/operations.md` and `README.md`. Out: every `confab …` in them does
//! what it is for: servers start, say an address that can be opened, and are ready; the others end
//! well.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use confab_netem_tests::lab::{Lab, Node};

use crate::new_lab;

/// Names and addresses in the guide that are nobody's here, and who stands in for them.
const STAND_INS: [(&str, &str); 1] = [("/etc/confab.toml", "confab.toml.example")];

/// Where the guide says nothing else, a server serves HTTP there.
const HTTP: &str = "127.0.0.1:8080";

/// Within which a server that is up answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// The address of a server in the guide that is behind NAT.
const BEHIND_NAT: &str = "10.0.0.5";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The server's binary, as the tiers name it.
pub(crate) fn confab() -> PathBuf {
    let set = std::env::var_os("CONFAB_BIN").expect("CONFAB_BIN, the server's binary");
    PathBuf::from(set)
        .canonicalize()
        .expect("the binary of CONFAB_BIN")
}

/// A command of the guide and what stands before it in its block.
#[derive(Clone, Debug)]
pub(crate) struct Documented {
    prelude: String,
    pub(crate) command: String,
}

/// Every `confab …` in the code blocks of a page.
pub(crate) fn documented(page: &str) -> Vec<Documented> {
    let text = fs::read_to_string(root().join(page)).expect(page);
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    blocks.flat_map(of_block).collect()
}

fn of_block(block: &str) -> Vec<Documented> {
    let joined = block.replace("\\\n", " ");
    let mut prelude = String::new();
    let mut found = Vec::new();
    for line in joined.lines() {
        if line.starts_with("confab ") {
            found.push(Documented {
                prelude: prelude.clone(),
                command: line.to_owned(),
            });
        } else if line.starts_with("export ") {
            prelude += line;
            prelude.push('\n');
        }
    }
    found
}

impl Documented {
    /// Whether it goes on until somebody ends it.
    fn serves(&self) -> bool {
        let first = self.command.split_whitespace().nth(1).unwrap_or_default();
        first == "turn" || first.starts_with("--") && first != "--help"
    }

    /// The command in a shell of a node, in a folder.
    pub(crate) fn shell(&self, lab: &Lab, node: Node, folder: &Path) -> Command {
        let mut command = self.command.clone();
        for (name, stand_in) in STAND_INS {
            let stand_in = root().join(stand_in);
            command = command.replace(name, &stand_in.to_string_lossy());
        }
        let programs = confab();
        let programs = programs.parent().expect("a folder").to_string_lossy();
        let script = format!("PATH={programs}:$PATH\n{}exec {command}", self.prelude);
        let mut shell = lab.command(node, "bash");
        shell.args(["-euc", &script]).current_dir(folder);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONFAB_") {
                shell.env_remove(name);
            }
        }
        shell
    }
}

/// A server that has said that it is ready. Dropping it ends it.
pub(crate) struct Running {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    pub(crate) said: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub(crate) fn start(mut shell: Command, log: &Path) -> Running {
        let log_file = fs::File::create(log).expect("a log");
        let child = shell
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file);
        let mut child = child.spawn().expect("bash");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = String::new();
        // A server that cannot start ends, and with it the line.
        stdout.read_line(&mut said).expect("text");
        let running = Running {
            child,
            _stdout: stdout,
            said,
        };
        let log = fs::read_to_string(log).unwrap_or_default();
        assert!(running.said.contains("ready"), "{}\n{log}", running.said);
        running
    }
}

/// A folder for the files that the guide's commands name, which goes with the value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.0.join("server.log")).unwrap_or_default();
            println!("the server's log:\n{log}");
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let name = format!("confab-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }
}

/// What a running server says of itself at `/health/ready`.
fn health(lab: &Lab, node: Node) -> String {
    let asked = lab.inside(node, || {
        let mut stream = TcpStream::connect(HTTP)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /health/ready HTTP/1.0\r\nHost: a\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    });
    asked.expect("its namespace").expect("an answer")
}

#[test]
fn every_command_of_the_guide_does_what_it_is_for() {
    let _machine = crate::alone();
    let folder = Folder::new("documented");
    let mut lab = new_lab();
    let server = lab.add_server("server").expect("a server");
    let public = lab.addresses(server).v4.to_string();
    let nat = format!("{BEHIND_NAT}/32");
    let added = lab
        .command(server, "ip")
        .args(["address", "add", &nat, "dev", "lo"])
        .status();
    assert!(added.expect("ip").success());
    let names = ["turn.example.org".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).expect("a certificate");
    fs::write(folder.0.join("chain.pem"), certified.cert.pem()).expect("a file");
    fs::write(
        folder.0.join("key.pem"),
        certified.signing_key.serialize_pem(),
    )
    .expect("a file");

    // Who is asked which address the server has, in place of the internet's.
    let asked = lab.add_server("stun").expect("a server");
    let stun = format!("{}:3478", lab.addresses(asked).v4);
    let responder = Documented {
        prelude: String::new(),
        command: format!("confab --stun-listen {stun} --turn-listen off"),
    };
    let shell = responder.shell(&lab, asked, &folder.0);
    let _responder = Running::start(shell, &folder.0.join("stun.log"));

    let pages = ["docs/operations.md", "README.md"];
    let commands: Vec<_> = pages.iter().flat_map(|page| documented(page)).collect();
    let servers = commands.iter().filter(|command| command.serves()).count();
    assert!(
        servers >= 8 && commands.len() > servers + 5,
        "{commands:#?}"
    );
    for command in commands {
        let mut shell = command.shell(&lab, server, &folder.0);
        shell.env("CONFAB_MEDIA_STUN_SERVERS", &stun);
        let serves = command.serves();
        let command = command.command;
        if !serves {
            let output = shell.output().expect("bash");
            let (said, errors) = (output.stdout, output.stderr);
            let said = [said, errors].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(
                output.status.success() && !said.is_empty(),
                "{command}\n{said}"
            );
            continue;
        }
        let log = folder.0.join("server.log");
        let running = Running::start(shell, &log);
        let said = &running.said;
        if !command.starts_with("confab turn") {
            assert!(health(&lab, server).contains("\r\n\r\nready"), "{command}");
            for no_place in ["0.0.0.0", "[::]"] {
                assert!(!said.contains(no_place), "{command}\n{said}");
            }
        }
        if command.contains("--media-public-ips auto") {
            let logged = fs::read_to_string(&log).expect("a log");
            assert!(logged.contains(&public), "{logged}");
            assert!(said.contains(&public), "{said}");
        }
    }
}
