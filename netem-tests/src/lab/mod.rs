//! A network of real processes on one machine: a namespace for every server and every client, and
//! between them what a [`Link`](crate::link::Link) makes of it, in real time.
//!
//! ```text
//! alice ── uplink ──→ ┌────────┐ ←── server
//!       ←─ downlink ─ │ switch │
//! bob ─ NAT ─ uplink →└────────┘
//!           ← downlink
//! ```
//!
//! In: who there is, what their networks are like, and every change of it. Out: namespaces to run
//! programs in ([`Lab::command`], [`Lab::inside`]) and counters. Programs find servers at
//! 203.0.113.1 and up, clients at 198.51.100.1 and up, and both by IPv6; a client behind a NAT has
//! IPv4 only.
//!
//! When the [`Lab`] is dropped, and also when its process is killed, the reaper ends every process
//! inside and removes the namespaces. It needs Linux, root, `/dev/net/tun` and iproute2, and
//! nftables for NATs; what is missing, [`LabError`] says.

pub mod cli;
mod error;
mod exec;
mod forward;
mod kernel;
mod namespace;
mod nat;
mod reaper;
mod switch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

pub use error::{EXIT_CANNOT_RUN_HERE, LabError};
pub use exec::{exec, link};
use forward::Forwarder;
pub use forward::Punctuality;
use namespace::Namespace;
pub use nat::Nat;
use reaper::Reaper;
pub use reaper::reap;
pub use switch::Firewall;
use switch::{Direction, Links};

use crate::link::{Impairment, Reading};

/// Addresses of servers: TEST-NET-3 (RFC 5737) and the documentation prefix (RFC 3849).
const SERVERS: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 0),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
);

/// Addresses of clients: TEST-NET-2 and the documentation prefix.
const CLIENTS: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(198, 51, 100, 0),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0),
);

/// Hosts in a network of 24 bits.
const MAX_HOSTS: u8 = 254;

/// The longest name of a node.
const MAX_NAME: usize = 64;

/// The kernel backend's router in the eyes of everybody.
const CORE: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(169, 254, 0, 1),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
);

/// Tells the labs of one process apart.
static LABS: AtomicU32 = AtomicU32::new(0);

/// What imitates the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LinkBackend {
    /// [`Link`](crate::link::Link), on a thread of this process.
    #[default]
    Userspace,
    /// netem in the kernel, where the kernel has it; without firewalls and counters.
    Kernel,
}

/// A server or a client of a lab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Node(usize);

/// Who a client is and what network it has.
#[derive(Clone, Debug, Default)]
pub struct ClientSpec {
    /// 1 to 64 of a-z, 0-9 and hyphens, and nobody else's.
    pub name: String,
    /// What stands between it and its link.
    pub nat: Nat,
    /// From it.
    pub up: Impairment,
    /// To it.
    pub down: Impairment,
    /// Decides what is random about the way from it.
    pub seed_up: u64,
    /// Decides what is random about the way to it.
    pub seed_down: u64,
}

/// Where a node is for the others. For a client behind a NAT these are the NAT's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// Always.
    pub v4: Ipv4Addr,
    /// Unless there is a NAT, or the machine has no IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    fn list(self) -> Vec<IpAddr> {
        let v6 = self.v6.map(IpAddr::V6);
        [IpAddr::V4(self.v4)].into_iter().chain(v6).collect()
    }
}

#[derive(Debug)]
struct Member {
    name: String,
    nat: Nat,
    /// Where its programs run.
    inner: Namespace,
    /// Where its link ends: the same, or the router that is its NAT.
    outer: Namespace,
    addresses: Addresses,
    /// How often its address has changed.
    moves: u16,
}

/// The network.
pub struct Lab {
    prefix: String,
    members: Vec<Member>,
    has_ipv6: bool,
    servers: u8,
    clients: u8,
    /// The kernel backend's router.
    core: Option<Namespace>,
    // In this order, see `begin`.
    forwarder: Forwarder,
    _reaper: Reaper,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab")
            .field("prefix", &self.prefix)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl Lab {
    /// A lab with nobody in it. The command is to call [`reap`] with its last argument.
    ///
    /// # Errors
    /// When the machine or the rights of this process do not allow it.
    pub fn new(reaper: Command, backend: LinkBackend) -> Result<Self, LabError> {
        let (prefix, reaper, forwarder) = begin(reaper)?;
        let mut lab = Lab {
            prefix,
            members: Vec::new(),
            has_ipv6: namespace::has_ipv6(),
            servers: 0,
            clients: 0,
            core: None,
            forwarder,
            _reaper: reaper,
        };
        if backend == LinkBackend::Kernel {
            // An underscore is not in the name of a node.
            let core = Namespace::make(format!("{}_core", lab.prefix))?;
            kernel::probe(&core)?;
            core.set("ipv4/ip_forward", "1")?;
            if lab.has_ipv6 {
                core.set("ipv6/conf/all/forwarding", "1")?;
            }
            lab.core = Some(core);
        }
        Ok(lab)
    }

    /// A server: right at the switch, on a network without faults.
    ///
    /// # Errors
    /// When the name is bad or taken, or the system refuses.
    pub fn add_server(&mut self, name: &str) -> Result<Node, LabError> {
        let addresses = pick(SERVERS, &mut self.servers, self.has_ipv6)?;
        self.add(name, Nat::None, addresses, None)
    }

    /// A client on its own network.
    ///
    /// # Errors
    /// When the name is bad or taken, or the system refuses.
    pub fn add_client(&mut self, spec: ClientSpec) -> Result<Node, LabError> {
        let has_ipv6 = self.has_ipv6 && spec.nat == Nat::None;
        let addresses = pick(CLIENTS, &mut self.clients, has_ipv6)?;
        let ClientSpec {
            name,
            nat,
            up,
            down,
            seed_up,
            seed_down,
        } = spec;
        if self.core.is_none() {
            let links = Links::new((seed_up, up), (seed_down, down));
            return self.add(&name, nat, addresses, Some(links));
        }
        let node = self.add(&name, nat, addresses, None)?;
        self.set_uplink(node, up)?;
        self.set_downlink(node, down)?;
        Ok(node)
    }

    /// Where others reach a node.
    #[must_use]
    pub fn addresses(&self, node: Node) -> Addresses {
        self.members[node.0].addresses
    }

    /// A command that will run as a node. What it is given by the caller (arguments, environment,
    /// pipes) reaches the program; its process id is the program's.
    #[must_use]
    pub fn command(&self, node: Node, program: &str) -> Command {
        self.members[node.0].inner.command(program)
    }

    /// Does something as a node, on a thread of its own. Sockets it opens are the node's for good.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn inside<T: Send>(
        &self,
        node: Node,
        act: impl FnOnce() -> T + Send,
    ) -> Result<T, LabError> {
        self.members[node.0].inner.inside(act)
    }

    /// Changes the way from a client.
    ///
    /// # Errors
    /// Only of the kernel backend, when it cannot.
    pub fn set_uplink(&self, client: Node, impairment: Impairment) -> Result<(), LabError> {
        match &self.core {
            Some(_) => kernel::set(&self.members[client.0].outer, "eth0", &impairment),
            None => {
                self.set_link(client, Direction::Up, impairment);
                Ok(())
            }
        }
    }

    /// Changes the way to a client.
    ///
    /// # Errors
    /// Only of the kernel backend, when it cannot.
    pub fn set_downlink(&self, client: Node, impairment: Impairment) -> Result<(), LabError> {
        match &self.core {
            Some(core) => kernel::set(core, &core_device(client.0), &impairment),
            None => {
                self.set_link(client, Direction::Down, impairment);
                Ok(())
            }
        }
    }

    fn set_link(&self, client: Node, direction: Direction, impairment: Impairment) {
        self.forwarder
            .with(|switch| switch.set_link(Instant::now(), client.0, direction, impairment));
    }

    /// Changes what a node's network refuses.
    ///
    /// # Errors
    /// The kernel backend has no firewalls.
    pub fn set_firewall(&self, node: Node, firewall: Firewall) -> Result<(), LabError> {
        if self.core.is_some() {
            return Err(LabError::NotInKernel("firewalls"));
        }
        self.forwarder
            .with(|switch| switch.set_firewall(node.0, firewall));
        Ok(())
    }

    /// Gives a client new addresses and takes the old ones away, as when a phone changes networks; a
    /// client behind a NAT keeps its own, and the NAT gets others and forgets all mappings.
    ///
    /// # Errors
    /// When the system refuses or no address is left.
    pub fn change_address(&mut self, client: Node) -> Result<Addresses, LabError> {
        let has_ipv6 = self.members[client.0].addresses.v6.is_some();
        let new = pick(CLIENTS, &mut self.clients, has_ipv6)?;
        let member = &mut self.members[client.0];
        let old = std::mem::replace(&mut member.addresses, new);
        member.moves += 1;
        self.route(client.0, Some(old))?;
        let member = &self.members[client.0];
        if member.nat != Nat::None {
            member
                .outer
                .nft(&nat::ruleset(member.nat, member.moves + 1))?;
        }
        Ok(new)
    }

    /// Uplink and downlink of a client at this moment, and their longest waits since the last time. The kernel backend has no such counters.
    #[must_use]
    pub fn readings(&self, client: Node) -> Option<(Reading, Reading)> {
        if self.core.is_some() {
            return None;
        }
        let now = Instant::now();
        Some(self.forwarder.with(|switch| switch.readings(now, client.0)))
    }

    /// How many packets from and to a node its firewall has refused.
    #[must_use]
    pub fn refused(&self, node: Node) -> u64 {
        self.forwarder.with(|switch| switch.refused(node.0))
    }

    /// Whether this machine kept up so far. The kernel backend does not know.
    #[must_use]
    pub fn punctuality(&self) -> Punctuality {
        self.forwarder.punctuality()
    }

    fn add(
        &mut self,
        name: &str,
        nat: Nat,
        addresses: Addresses,
        links: Option<Links>,
    ) -> Result<Node, LabError> {
        check_name(name)?;
        if self.members.iter().any(|member| member.name == name) {
            return Err(LabError::BadName(name.to_owned()));
        }
        let inner = Namespace::make(format!("{}{name}", self.prefix))?;
        let outer = match nat {
            Nat::None => inner.clone(),
            _ => self.make_router(&inner, nat)?,
        };
        let index = self.members.len();
        match &self.core {
            Some(core) => {
                let device = core_device(index);
                core.ip(&format!(
                    "link add {device} type veth peer name eth0 netns {}\n\
                     link set {device} up\n\
                     addr add {}/32 dev {device}\n",
                    outer.name, CORE.0
                ))?;
            }
            None => {
                let port = self.forwarder.add(outer.make_tun("eth0")?, links);
                debug_assert_eq!(port, index, "a port for each node");
            }
        }
        outer.ip("link set eth0 up\n")?;
        self.members.push(Member {
            name: name.to_owned(),
            nat,
            inner,
            outer,
            addresses,
            moves: 0,
        });
        self.route(index, None)?;
        Ok(Node(index))
    }

    /// The NAT of a client: a namespace of its own, with the client behind `lan0`.
    fn make_router(&self, client: &Namespace, nat: Nat) -> Result<Namespace, LabError> {
        namespace::check_nft()?;
        let router = Namespace::make(format!("{}_nat", client.name))?;
        router.ip(&format!(
            "link add lan0 type veth peer name eth0 netns {}\n\
             addr add {}/24 dev lan0\n\
             link set lan0 up\n",
            client.name,
            nat::ROUTER
        ))?;
        client.ip(&format!(
            "addr add {}/24 dev eth0\n\
             link set eth0 up\n\
             route add default via {}\n",
            nat::CLIENT,
            nat::ROUTER
        ))?;
        router.set("ipv4/ip_forward", "1")?;
        router.nft(&nat::ruleset(nat, 1))?;
        let mapping = nat::MAPPING_SECONDS.to_string();
        for timeout in [
            "nf_conntrack_udp_timeout",
            "nf_conntrack_udp_timeout_stream",
        ] {
            router.set(&format!("netfilter/{timeout}"), &mapping)?;
        }
        Ok(router)
    }

    /// Gives a node the addresses it has, instead of old ones, and leads what is for it there.
    fn route(&self, index: usize, old: Option<Addresses>) -> Result<(), LabError> {
        let member = &self.members[index];
        let old = old.map(Addresses::list).unwrap_or_default();
        let new = member.addresses.list();
        let mut lines = String::new();
        for address in &new {
            lines += &match address {
                IpAddr::V4(_) => format!("addr add {address}/32 dev eth0\n"),
                IpAddr::V6(_) => format!("addr add {address}/128 dev eth0 nodad\n"),
            };
        }
        for address in &old {
            lines += &format!("addr delete {address} dev eth0\n");
        }
        for address in &new {
            lines += &match (address, &self.core) {
                (IpAddr::V4(_), None) => "route replace 0.0.0.0/0 dev eth0\n".to_owned(),
                (IpAddr::V6(_), None) => "route replace ::/0 dev eth0\n".to_owned(),
                (IpAddr::V4(_), Some(_)) => {
                    format!("route replace 0.0.0.0/0 via {} dev eth0 onlink\n", CORE.0)
                }
                (IpAddr::V6(_), Some(_)) => {
                    format!("route replace ::/0 via {} dev eth0 onlink\n", CORE.1)
                }
            };
        }
        member.outer.ip(&lines)?;
        let Some(core) = &self.core else {
            self.forwarder
                .with(|switch| switch.set_addresses(index, &new));
            return Ok(());
        };
        let device = core_device(index);
        let mut lines = String::new();
        if member.addresses.v6.is_some() {
            lines += &format!("addr replace {}/64 dev {device} nodad\n", CORE.1);
        }
        for address in &old {
            lines += &format!("route delete {address} dev {device}\n");
        }
        for address in &new {
            lines += &format!("route replace {address} dev {device}\n");
        }
        core.ip(&lines)
    }
}

/// What every kind of lab begins with: its name, who tidies up, and an empty switch. The switch is to
/// be dropped first: namespaces live as long as their devices do.
fn begin(reaper: Command) -> Result<(String, Reaper, Forwarder), LabError> {
    namespace::check_machine()?;
    reaper::sweep()?;
    let prefix = reaper::prefix(LABS.fetch_add(1, Ordering::Relaxed));
    let reaper = Reaper::start(reaper, &prefix)?;
    let forwarder = Forwarder::start().map_err(LabError::of("starting the forwarder"))?;
    Ok((prefix, reaper, forwarder))
}

fn check_name(name: &str) -> Result<(), LabError> {
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_name) {
        Ok(())
    } else {
        Err(LabError::BadName(name.to_owned()))
    }
}

/// The core's end of the pair to a node.
fn core_device(index: usize) -> String {
    format!("node{index}")
}

/// The next addresses of a network.
fn pick(
    (v4, v6): (Ipv4Addr, Ipv6Addr),
    used: &mut u8,
    has_ipv6: bool,
) -> Result<Addresses, LabError> {
    if *used == MAX_HOSTS {
        return Err(LabError::NoAddress(MAX_HOSTS));
    }
    *used += 1;
    Ok(Addresses {
        v4: Ipv4Addr::from_bits(v4.to_bits() | u32::from(*used)),
        v6: has_ipv6.then(|| Ipv6Addr::from_bits(v6.to_bits() | u128::from(*used))),
    })
}
