//! The lab itself: is the network what it says, and is nothing left of it? And in it, the commands of
//! the guide, which `CONFAB_BIN` is run by.
//!
//! Needs root and `/dev/net/tun`. Without them it fails and says so: a network that was not there
//! has not been tested.

mod accuracy;
mod behaviour;
mod documented;
mod invited;
mod nat;
mod roles;
mod teardown;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use confab_netem_tests::lab::{ClientSpec, Lab, LinkBackend, Nat, Node};
use confab_netem_tests::link::Impairment;

/// Within which something arrives that arrives at all, on a link without delay.
const SOON: Duration = Duration::from_millis(300);

/// Tests that measure time, and those that keep the machine busy, have it to themselves, as far as it is
/// theirs.
fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_lab() -> Lab {
    let lab = Lab::new(roles::command(roles::REAPER), LinkBackend::Userspace);
    lab.unwrap_or_else(|error| panic!("{error}"))
}

/// A client of seed 1, up and down.
fn client(lab: &mut Lab, name: &str, nat: Nat, up: Impairment) -> Node {
    let spec = ClientSpec {
        name: name.to_owned(),
        nat,
        up,
        seed_up: 1,
        seed_down: 1,
        ..ClientSpec::default()
    };
    let client = lab.add_client(spec);
    client.unwrap_or_else(|error| panic!("{error}"))
}

/// A socket of a node that waits for what comes soon.
fn socket(lab: &Lab, node: Node, address: &str) -> UdpSocket {
    let bound = lab.inside(node, || UdpSocket::bind(address));
    let socket = bound.expect("its namespace").expect("an address");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    socket
}

/// Where a socket of a server is for others.
fn at(lab: &Lab, node: Node, socket: &UdpSocket) -> SocketAddr {
    let local = socket.local_addr().expect("it is bound");
    let addresses = lab.addresses(node);
    let ip = match (local.ip(), addresses.v6) {
        (IpAddr::V6(_), Some(v6)) => IpAddr::V6(v6),
        _ => IpAddr::V4(addresses.v4),
    };
    SocketAddr::new(ip, local.port())
}

/// Who sent what comes soon; none if nothing does.
fn receive(socket: &UdpSocket) -> Option<SocketAddr> {
    let mut buffer = [0; 2000];
    socket.recv_from(&mut buffer).ok().map(|(_, from)| from)
}

/// Sends from one socket; whom the other hears it from.
fn reaches(from: &UdpSocket, to: SocketAddr, receiver: &UdpSocket) -> Option<SocketAddr> {
    from.send_to(b"hello", to).expect("it can send");
    receive(receiver)
}
