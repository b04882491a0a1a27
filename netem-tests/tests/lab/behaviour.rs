//! What a test can do to a client's network while it is used.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;

use confab_netem_tests::lab::cli::ExecArgs;
use confab_netem_tests::lab::{self, Firewall, Lab, LabError, LinkBackend, Nat, Node};
use confab_netem_tests::link::Impairment;

use crate::{SOON, at, client, new_lab, reaches, receive, roles, socket};

#[test]
fn clients_reach_servers_and_each_other_by_both_versions_of_ip() {
    let mut lab = new_lab();
    let server = lab.add_server("server").expect("a server");
    let alice = client(&mut lab, "alice", Nat::None, Impairment::default());
    let bob = client(&mut lab, "bob", Nat::None, Impairment::default());
    for any in ["0.0.0.0:0", "[::]:0"] {
        let here = socket(&lab, alice, any);
        for node in [server, bob] {
            let there = socket(&lab, node, any);
            let seen = reaches(&here, at(&lab, node, &there), &there);
            assert_eq!(seen, Some(at(&lab, alice, &here)));
            assert!(reaches(&there, at(&lab, alice, &here), &here).is_some());
        }
    }
    let (up, down) = lab.readings(bob).expect("counters");
    assert_eq!((up.counters.sent, down.counters.sent), (2, 2));
    let output = lab.command(alice, "ip").args(["-6", "addr"]).output();
    let output = String::from_utf8(output.expect("ip").stdout).expect("text");
    assert!(output.contains("2001:db8:1::1/128"), "{output}");
}

#[test]
fn a_firewall_closes_and_opens_during_a_call() {
    let mut lab = new_lab();
    let server = lab.add_server("server").expect("a server");
    for (name, nat) in [("alice", Nat::None), ("bob", Nat::PortRestricted)] {
        let client = client(&mut lab, name, nat, Impairment::default());
        let there = socket(&lab, server, "0.0.0.0:0");
        let here = socket(&lab, client, "0.0.0.0:0");
        let to = at(&lab, server, &there);
        let listeners = [443, 80].map(|port| listen(&lab, server, port));
        for (firewall, expected) in [
            (Firewall::None, [true, true, true]),
            (Firewall::NoUdp, [false, true, true]),
            (Firewall::Tcp443Only, [false, true, false]),
            (Firewall::None, [true, true, true]),
        ] {
            lab.set_firewall(client, firewall).expect("a change");
            let passes = [
                reaches(&here, to, &there).is_some(),
                connects(&lab, client, SocketAddr::new(to.ip(), 443)),
                connects(&lab, client, SocketAddr::new(to.ip(), 80)),
            ];
            assert_eq!(passes, expected, "{name}, {firewall:?}");
        }
        drop(listeners);
        assert!(lab.refused(client) > 0);
    }
}

fn listen(lab: &Lab, node: Node, port: u16) -> TcpListener {
    let bound = lab.inside(node, || TcpListener::bind(("0.0.0.0", port)));
    bound.expect("its namespace").expect("a free port")
}

fn connects(lab: &Lab, node: Node, to: SocketAddr) -> bool {
    let connected = lab.inside(node, || TcpStream::connect_timeout(&to, SOON));
    connected.expect("its namespace").is_ok()
}

#[test]
fn a_link_is_cut_and_comes_back() {
    let mut lab = new_lab();
    let server = lab.add_server("server").expect("a server");
    let alice = client(&mut lab, "alice", Nat::None, Impairment::default());
    let there = socket(&lab, server, "0.0.0.0:0");
    let here = socket(&lab, alice, "0.0.0.0:0");
    let to = at(&lab, server, &there);
    for is_up in [true, false, true] {
        let link = Impairment {
            is_up,
            ..Impairment::default()
        };
        lab.set_uplink(alice, link).expect("a change");
        assert_eq!(reaches(&here, to, &there).is_some(), is_up);
    }
}

#[test]
fn a_client_changes_networks() {
    let mut lab = new_lab();
    let server = lab.add_server("server").expect("a server");
    let alice = client(&mut lab, "alice", Nat::None, Impairment::default());
    for any in ["0.0.0.0:0", "[::]:0"] {
        let there = socket(&lab, server, any);
        let here = socket(&lab, alice, any);
        let to = at(&lab, server, &there);
        let before = reaches(&here, to, &there).expect("a way out");
        let bound = lab
            .inside(alice, || UdpSocket::bind(before))
            .expect("a namespace");
        // Its own socket has the port; the address was there.
        assert_eq!(
            bound.map_err(|e| e.kind()).err(),
            Some(ErrorKind::AddrInUse)
        );

        lab.change_address(alice).expect("a change");
        let after = reaches(&here, to, &there).expect("a way out");
        assert_eq!(after, at(&lab, alice, &here));
        assert_ne!(after, before);
        assert_eq!(reaches(&there, before, &here), None);
        assert!(reaches(&there, after, &here).is_some());
        let bound = lab
            .inside(alice, || UdpSocket::bind(before))
            .expect("a namespace");
        let gone = ErrorKind::AddrNotAvailable;
        assert_eq!(bound.map_err(|e| e.kind()).err(), Some(gone));
    }
}

#[test]
fn names_are_names() {
    let mut lab = new_lab();
    lab.add_server("server").expect("a server");
    let long = "x".repeat(65);
    for name in ["server", "", "a b", "../x", "Alice", "a_b", &long] {
        let error = lab.add_server(name);
        assert!(
            matches!(error, Err(LabError::BadName(_))),
            "{name}: {error:?}"
        );
    }
}

/// Where the kernel has no netem, the kernel's backend says so; where it has, packets get through.
#[test]
fn the_kernel_s_own_netem_is_used_or_refused() {
    let lab = Lab::new(roles::command(roles::REAPER), LinkBackend::Kernel);
    let mut lab = match lab {
        Ok(lab) => lab,
        Err(error @ LabError::NoKernelNetem(_)) => {
            assert_eq!(error.exit_code(), lab::EXIT_CANNOT_RUN_HERE);
            assert!(error.to_string().contains("modprobe sch_netem"));
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let server = lab.add_server("server").expect("a server");
    let alice = client(&mut lab, "alice", Nat::None, Impairment::default());
    let bob = client(&mut lab, "bob", Nat::PortRestricted, Impairment::default());
    for _ in ["before", "after"] {
        for (any, node) in [("0.0.0.0:0", alice), ("[::]:0", alice), ("0.0.0.0:0", bob)] {
            let there = socket(&lab, server, any);
            let here = socket(&lab, node, any);
            let seen = reaches(&here, at(&lab, server, &there), &there);
            assert_eq!(seen, Some(at(&lab, node, &here)));
        }
        for client in [alice, bob] {
            lab.change_address(client).expect("a change");
        }
    }
}

#[test]
fn a_program_behind_a_link_reaches_this_machine() {
    let here = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    here.set_read_timeout(Some(SOON)).expect("a timeout");
    let port = here.local_addr().expect("it is bound").port();
    let exec = |arguments: &ExecArgs| {
        let code = lab::exec(arguments, roles::command(roles::REAPER));
        code.map_err(|error| error.to_string())
    };
    assert_eq!(exec(&roles::call(&format!("HOST:{port}"), false)), Ok(0));
    let from = receive(&here).expect("a datagram");
    assert!(from.ip().to_string().starts_with("198.18."), "{from}");

    let fails = ["sh", "-c", "exit 7"].map(str::to_owned).to_vec();
    let fails = ExecArgs {
        command: fails,
        ..roles::call("", false)
    };
    assert_eq!(exec(&fails), Ok(7));
}

/// Here, "this machine" is a client of a lab, and "beyond" is the lab's server.
#[test]
fn a_program_behind_a_link_reaches_beyond_this_machine_and_leaves_it_as_it_was() {
    let mut lab = new_lab();
    let server = lab.add_server("server").expect("a server");
    let machine = client(&mut lab, "machine", Nat::None, Impairment::default());
    let there = socket(&lab, server, "0.0.0.0:0");
    let mut tester = roles::command(roles::TESTER);
    tester.env(roles::TO, at(&lab, server, &there).to_string());
    let output = lab.inside(machine, || tester.output());
    let output = output.expect("its namespace").expect("this program");
    assert!(output.status.success(), "{output:?}");
    let from = receive(&there).expect("a datagram");
    assert_eq!(from.ip(), lab.addresses(machine).v4);

    let forwards = lab.inside(machine, || {
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
    });
    assert_eq!(
        forwards.expect("its namespace").ok().as_deref(),
        Some("0\n")
    );
    let rules = lab
        .command(machine, "nft")
        .args(["list", "ruleset"])
        .output();
    assert_eq!(String::from_utf8_lossy(&rules.expect("nft").stdout), "");
}

#[test]
fn a_program_that_is_no_reaper_is_noticed() {
    let mut reaper = std::process::Command::new("true");
    reaper.stderr(Stdio::null());
    let error = Lab::new(reaper, LinkBackend::Userspace);
    let text = error.map(drop).map_err(|error| error.to_string());
    assert!(text.is_err_and(|text| text.contains("did not say that it is listening")));
}
