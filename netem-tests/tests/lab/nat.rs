//! Each kind of NAT, by what RFC 4787 tells NATs apart by: how it maps, and what it lets in.

use std::net::SocketAddr;

use confab_netem_tests::lab::Nat;
use confab_netem_tests::link::Impairment;

use crate::{at, client, new_lab, reaches, socket};

/// From where a datagram reaches a client that has sent to one port of one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LetsIn {
    same_port: bool,
    other_port: bool,
    other_server: bool,
}

#[test]
fn each_kind_maps_and_filters_as_its_name_says() {
    let lets_in = |other_port, other_server| LetsIn {
        same_port: true,
        other_port,
        other_server,
    };
    // The kind, whether every destination sees the same address and port, and what is let in.
    let kinds = [
        (Nat::FullCone, true, lets_in(true, true)),
        (Nat::AddressRestricted, true, lets_in(true, false)),
        (Nat::PortRestricted, true, lets_in(false, false)),
        (Nat::Symmetric, false, lets_in(false, false)),
    ];
    let mut lab = new_lab();
    let first = lab.add_server("first").expect("a server");
    let second = lab.add_server("second").expect("a server");
    let sockets = [
        (first, socket(&lab, first, "0.0.0.0:1001")),
        (first, socket(&lab, first, "0.0.0.0:1002")),
        (second, socket(&lab, second, "0.0.0.0:1001")),
    ];
    let destinations = sockets
        .each_ref()
        .map(|(node, socket)| at(&lab, *node, socket));
    for (nat, is_endpoint_independent, expected) in kinds {
        let alice = client(&mut lab, &nat.to_string(), nat, Impairment::default());
        let outside = lab.addresses(alice).v4;

        let mapped = socket(&lab, alice, "0.0.0.0:0");
        let seen: Vec<SocketAddr> = sockets
            .iter()
            .zip(destinations)
            .map(|((_, server), to)| reaches(&mapped, to, server).expect("a way out"))
            .collect();
        assert!(
            seen.iter().all(|from| from.ip() == outside),
            "{nat}: {seen:?}"
        );
        let are_same = seen.iter().all(|from| *from == seen[0]);
        let are_different = seen[0] != seen[1] && seen[0] != seen[2] && seen[1] != seen[2];
        let (is_wanted, what) = if is_endpoint_independent {
            (are_same, "one mapping for all")
        } else {
            (are_different, "a mapping for each")
        };
        assert!(is_wanted, "{nat}: {what} is not {seen:?}");

        // Another socket, which has sent to one only.
        let asking = socket(&lab, alice, "0.0.0.0:0");
        let mapping = reaches(&asking, destinations[0], &sockets[0].1).expect("a way out");
        let lets_in = sockets.each_ref().map(|(_, server)| {
            let heard = reaches(server, mapping, &asking);
            assert!(heard.is_none_or(|from| destinations.contains(&from)));
            heard.is_some()
        });
        let [same_port, other_port, other_server] = lets_in;
        let lets_in = LetsIn {
            same_port,
            other_port,
            other_server,
        };
        assert_eq!(lets_in, expected, "{nat}");

        // One that has sent to nobody is reached by nobody, and may send afterwards.
        let silent = socket(&lab, alice, "0.0.0.0:4000");
        let guess = SocketAddr::new(outside.into(), 4000);
        assert_eq!(reaches(&sockets[0].1, guess, &silent), None, "{nat}");
        let seen = reaches(&silent, destinations[0], &sockets[0].1);
        assert_eq!(seen == Some(guess), is_endpoint_independent, "{nat}");
    }
}

#[test]
fn a_nat_with_a_new_address_has_forgotten_every_mapping() {
    for nat in [Nat::FullCone, Nat::PortRestricted, Nat::Symmetric] {
        let mut lab = new_lab();
        let server = lab.add_server("server").expect("a server");
        let alice = client(&mut lab, "alice", nat, Impairment::default());
        let there = socket(&lab, server, "0.0.0.0:1001");
        let to = at(&lab, server, &there);
        let here = socket(&lab, alice, "0.0.0.0:0");
        let before = reaches(&here, to, &there).expect("a way out");
        assert!(reaches(&there, before, &here).is_some());

        let new = lab.change_address(alice).expect("a change");
        assert_ne!(before.ip(), new.v4);
        assert_eq!(reaches(&there, before, &here), None, "{nat}");
        let same_port = SocketAddr::new(new.v4.into(), before.port());
        assert_eq!(reaches(&there, same_port, &here), None, "{nat}");

        let after = reaches(&here, to, &there).expect("a way out");
        assert_eq!(after.ip(), new.v4, "{nat}");
        assert!(reaches(&there, after, &here).is_some(), "{nat}");
    }
}
