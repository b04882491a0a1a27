//! What this program is when a test starts it a second time. Each role is an ignored test, and does
//! nothing unless it is asked for.

use std::io::Write;
use std::process::Command;

use confab_netem_tests::lab::cli::{BetweenArgs, ExecArgs, LinkArgs};
use confab_netem_tests::lab::{self, Nat};
use confab_netem_tests::link::Impairment;

pub(crate) const REAPER: &str = "roles::reaper";
pub(crate) const VICTIM: &str = "roles::victim";
pub(crate) const CALLER: &str = "roles::caller";
pub(crate) const TESTER: &str = "roles::tester";
pub(crate) const LINK: &str = "roles::link_between";

/// Set for whoever has a role; `panic` is one way for a victim to end.
pub(crate) const ROLE: &str = "CONFAB_TEST_ROLE";

/// Where a caller sends to.
pub(crate) const TO: &str = "CONFAB_TEST_TO";

/// This program in a role.
pub(crate) fn command(role: &str) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--ignored", "--exact", "--nocapture", role]);
    command.env(ROLE, role);
    command
}

fn has_role() -> bool {
    std::env::var(ROLE).is_ok()
}

#[test]
#[ignore = "a role, not a test"]
fn reaper() {
    if has_role() {
        let prefix = std::env::args().next_back().unwrap_or_default();
        lab::reap(&prefix).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Makes a lab with programs in it and never ends it.
#[test]
#[ignore = "a role, not a test"]
fn victim() {
    if !has_role() {
        return;
    }
    let mut lab = crate::new_lab();
    let server = lab.add_server("server").expect("a server");
    let alice = crate::client(&mut lab, "alice", Nat::FullCone, Impairment::default());
    let sleepers = [server, alice].map(|node| {
        let mut sleep = lab.command(node, "sleep");
        sleep.arg("1000").spawn().expect("a program")
    });
    println!("\nmade {} {}", sleepers[0].id(), sleepers[1].id());
    std::io::stdout().flush().expect("somebody listens");
    if std::env::var(ROLE).is_ok_and(|role| role == "panic") {
        panic!("as asked");
    }
    loop {
        std::thread::park();
    }
}

/// Sends a datagram to where it is told; HOST is the machine that it runs on.
#[test]
#[ignore = "a role, not a test"]
fn caller() {
    if has_role() {
        let host = std::env::var("CONFAB_HOST").expect("where the machine is");
        let to = std::env::var(TO).expect("where the test listens");
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let sent = socket.send_to(b"hello", to.replace("HOST", &host));
        sent.expect("a way there");
    }
}

/// Runs a caller behind a link, with a way beyond this machine.
#[test]
#[ignore = "a role, not a test"]
fn tester() {
    if has_role() {
        let to = std::env::var(TO).expect("where the test listens");
        let code = lab::exec(&call(&to, true), command(REAPER));
        assert_eq!(code.map_err(|error| error.to_string()), Ok(0));
    }
}

/// The command line of a caller behind a link.
pub(crate) fn call(to: &str, internet: bool) -> ExecArgs {
    let caller = command(CALLER);
    let settings = [
        "env".to_owned(),
        format!("{TO}={to}"),
        format!("{ROLE}={CALLER}"),
    ];
    let words = [caller.get_program()].into_iter().chain(caller.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    ExecArgs {
        link: LinkArgs::default(),
        internet,
        command: settings.into_iter().chain(words).collect(),
    }
}

/// Lays a link between two namespaces that it has to make.
#[test]
#[ignore = "a role, not a test"]
fn link_between() {
    if has_role() {
        let names = ["a", "b"].map(|end| format!("link-{}-{end}", std::process::id()));
        let [first, second] = names;
        let arguments = BetweenArgs {
            first,
            second,
            link: LinkArgs::default(),
        };
        let Err(error) = lab::link(&arguments, command(REAPER));
        panic!("{error}");
    }
}
