//! The network between the nodes of a lab: every client behind its two links, and the firewalls.
//! No I/O and no clock.
//!
//! In: IP packets, each from a port, and time. Out: packets, each for a port, when they have passed
//! the uplink of where they come from and the downlink of where they go.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::link::{Carried, Impairment, Link, Reading};

/// Protocol numbers (IANA): the only ones a firewall tells apart.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The port that strict firewalls leave open.
const HTTPS: u16 = 443;

/// What a client's network refuses, in both directions and for connections that are open already.
/// What is refused vanishes; nobody is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Firewall {
    /// Nothing.
    #[default]
    None,
    /// Everything over UDP.
    NoUdp,
    /// Everything but TCP connections to port 443.
    Tcp443Only,
    /// Three of ten packets over UDP, at random: a network that has little room for it.
    PoorUdp,
}

/// What [`Firewall::PoorUdp`] refuses of UDP: a share at which TCP would not be worth going to, if it
/// lost as much.
const POOR: f64 = 0.3;

impl fmt::Display for Firewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Firewall::None => "none",
            Firewall::NoUdp => "no-udp",
            Firewall::Tcp443Only => "tcp-443-only",
            Firewall::PoorUdp => "poor-udp",
        })
    }
}

/// Both directions of a port's network.
#[derive(Debug)]
pub(super) struct Links {
    up: Link<Packet>,
    down: Link<Packet>,
}

impl Links {
    pub(super) fn new(up: (u64, Impairment), down: (u64, Impairment)) -> Self {
        Links {
            up: Link::new(up.0, up.1),
            down: Link::new(down.0, down.1),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Up,
    Down,
}

/// An IP packet, and the port it goes to. That is decided when it is sent: a bit that flips on the
/// way does not send it elsewhere.
#[derive(Clone, Debug)]
struct Packet {
    to: usize,
    bytes: Vec<u8>,
}

impl Carried for Packet {
    fn wire_size(&self) -> usize {
        self.bytes.len()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[derive(Debug, Default)]
struct Port {
    links: Option<Links>,
    firewall: Firewall,
    refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Switch {
    ports: Vec<Port>,
    routes: HashMap<IpAddr, usize>,
    /// Where everything goes that is for nobody in particular.
    default_route: Option<usize>,
    ready: VecDeque<(usize, Vec<u8>)>,
    dice: Dice,
}

/// What decides by chance, in the same way each time.
#[derive(Debug)]
struct Dice(ChaCha8Rng);

impl Default for Dice {
    fn default() -> Self {
        Dice(ChaCha8Rng::seed_from_u64(0))
    }
}

impl Switch {
    /// A port; without links it is right at the switch.
    pub(super) fn add_port(&mut self, links: Option<Links>) -> usize {
        self.ports.push(Port {
            links,
            ..Port::default()
        });
        self.ports.len() - 1
    }

    /// From now on these addresses, and no others, are at a port.
    pub(super) fn set_addresses(&mut self, port: usize, addresses: &[IpAddr]) {
        self.routes.retain(|_, at| *at != port);
        self.routes.extend(addresses.iter().map(|a| (*a, port)));
    }

    /// What is for no known address goes to a port.
    pub(super) fn set_default_route(&mut self, port: usize) {
        self.default_route = Some(port);
    }

    pub(super) fn set_firewall(&mut self, port: usize, firewall: Firewall) {
        if let Some(port) = self.ports.get_mut(port) {
            port.firewall = firewall;
        }
    }

    pub(super) fn set_link(
        &mut self,
        now: Instant,
        port: usize,
        direction: Direction,
        to: Impairment,
    ) {
        if let Some(links) = self.ports.get_mut(port).and_then(|p| p.links.as_mut()) {
            match direction {
                Direction::Up => links.up.set(now, to),
                Direction::Down => links.down.set(now, to),
            }
        }
    }

    /// Uplink and downlink of a port.
    pub(super) fn readings(&mut self, now: Instant, port: usize) -> (Reading, Reading) {
        let Some(links) = self.ports.get_mut(port).and_then(|p| p.links.as_mut()) else {
            return Default::default();
        };
        (links.up.take_reading(now), links.down.take_reading(now))
    }

    /// How many packets a port's firewall refused.
    pub(super) fn refused(&self, port: usize) -> u64 {
        self.ports.get(port).map_or(0, |port| port.refused)
    }

    /// Takes a packet from a port. One that is not IP, or for nobody here, vanishes.
    pub(super) fn handle_packet(&mut self, now: Instant, from: usize, bytes: Vec<u8>) {
        let Some(header) = Header::parse(&bytes) else {
            return;
        };
        let Some(to) = self.route(header.destination) else {
            return;
        };
        for end in [from, to] {
            let luck = self.dice.0.random();
            if let Some(port) = self.ports.get_mut(end)
                && !header.passes(port.firewall, luck)
            {
                port.refused += 1;
                return;
            }
        }
        let packet = Packet { to, bytes };
        match self.ports.get_mut(from).and_then(|p| p.links.as_mut()) {
            Some(links) => links.up.send(now, packet),
            None => self.deliver(now, packet),
        }
    }

    /// Moves on what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for from in 0..self.ports.len() {
            while let Some(packet) = self.ports[from]
                .links
                .as_mut()
                .and_then(|links| links.up.poll(now))
            {
                self.deliver(now, packet);
            }
        }
        for (to, port) in self.ports.iter_mut().enumerate() {
            while let Some(packet) = port.links.as_mut().and_then(|links| links.down.poll(now)) {
                self.ready.push_back((to, packet.bytes));
            }
        }
    }

    /// The next packet that has arrived, and at which port.
    pub(super) fn poll_packet(&mut self) -> Option<(usize, Vec<u8>)> {
        self.ready.pop_front()
    }

    /// When [`Switch::handle_timeout`] wants to be called.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let links = self.ports.iter().filter_map(|port| port.links.as_ref());
        links
            .flat_map(|links| [links.up.next_deadline(), links.down.next_deadline()])
            .flatten()
            .min()
    }

    fn route(&self, destination: IpAddr) -> Option<usize> {
        let known = self.routes.get(&destination).copied();
        known.or(self.default_route.filter(|_| !destination.is_multicast()))
    }

    fn deliver(&mut self, now: Instant, packet: Packet) {
        match self.ports.get_mut(packet.to) {
            Some(Port {
                links: Some(links), ..
            }) => links.down.send(now, packet),
            Some(_) => self.ready.push_back((packet.to, packet.bytes)),
            None => {}
        }
    }
}

/// What of an IP packet matters here. Of a fragment but the first, and behind IPv6 extension
/// headers, ports are not known, and no firewall but an open one lets it through.
#[derive(Debug)]
struct Header {
    destination: IpAddr,
    protocol: u8,
    ports: Option<(u16, u16)>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (destination, protocol, payload) = match bytes.first()? >> 4 {
            // RFC 791 §3.1
            4 => {
                let address: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
                let is_first = u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff == 0;
                let length = usize::from(bytes[0] & 0x0f) * 4;
                let payload = bytes.get(length..).filter(|_| is_first);
                (Ipv4Addr::from(address).into(), bytes[9], payload)
            }
            // RFC 8200 §3
            6 => {
                let address: [u8; 16] = bytes.get(24..40)?.try_into().ok()?;
                (Ipv6Addr::from(address).into(), bytes[6], bytes.get(40..))
            }
            _ => return None,
        };
        let ports = match payload {
            Some([a, b, c, d, ..]) => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        };
        Some(Header {
            destination,
            protocol,
            ports,
        })
    }

    /// `luck` is from 0 to 1, evenly.
    fn passes(&self, firewall: Firewall, luck: f64) -> bool {
        match firewall {
            Firewall::None => true,
            Firewall::PoorUdp => self.protocol != UDP || luck >= POOR,
            Firewall::NoUdp => self.protocol != UDP,
            Firewall::Tcp443Only => {
                let is_https = |(from, to)| from == HTTPS || to == HTTPS;
                self.protocol == TCP && self.ports.is_some_and(is_https)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::Loss;

    const MS: Duration = Duration::from_millis(1);
    const ALICE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    const BOB: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
    const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

    fn packet(to: IpAddr, protocol: u8, ports: (u16, u16)) -> Vec<u8> {
        let mut bytes = match to {
            IpAddr::V4(to) => {
                let mut bytes = vec![0; 20];
                bytes[0] = 0x45;
                bytes[9] = protocol;
                bytes[16..20].copy_from_slice(&to.octets());
                bytes
            }
            IpAddr::V6(to) => {
                let mut bytes = vec![0; 40];
                bytes[0] = 0x60;
                bytes[6] = protocol;
                bytes[24..40].copy_from_slice(&to.octets());
                bytes
            }
        };
        bytes.extend(ports.0.to_be_bytes());
        bytes.extend(ports.1.to_be_bytes());
        bytes
    }

    fn after(delay: Duration) -> Impairment {
        Impairment {
            delay,
            ..Impairment::default()
        }
    }

    /// A server at port 0, and Alice and Bob at ports 1 and 2 with 10 ms up and 20 ms down.
    fn switch() -> Switch {
        let mut switch = Switch::default();
        switch.add_port(None);
        switch.set_addresses(0, &[SERVER]);
        for (seed, address) in [(1, ALICE), (2, BOB)] {
            let links = Links::new((seed, after(10 * MS)), (seed, after(20 * MS)));
            let port = switch.add_port(Some(links));
            switch.set_addresses(port, &[address]);
        }
        switch
    }

    /// How long a packet takes and where it comes out.
    fn way(switch: &mut Switch, from: usize, bytes: Vec<u8>) -> Option<(usize, Duration)> {
        let start = Instant::now();
        switch.handle_packet(start, from, bytes);
        let mut now = start;
        loop {
            switch.handle_timeout(now);
            if let Some((port, _)) = switch.poll_packet() {
                return Some((port, now - start));
            }
            now = switch.next_deadline()?;
        }
    }

    #[test]
    fn a_packet_passes_the_uplink_of_its_sender_and_the_downlink_of_its_receiver() {
        let mut switch = switch();
        let udp = |to| packet(to, UDP, (1000, 2000));
        assert_eq!(way(&mut switch, 1, udp(SERVER)), Some((0, 10 * MS)));
        assert_eq!(way(&mut switch, 0, udp(ALICE)), Some((1, 20 * MS)));
        assert_eq!(way(&mut switch, 1, udp(BOB)), Some((2, 30 * MS)));
        let (up, down) = switch.readings(Instant::now(), 1);
        assert_eq!((up.counters.delivered, down.counters.delivered), (2, 1));
    }

    #[test]
    fn a_former_address_leads_nowhere_and_a_new_one_leads_there() {
        let mut switch = switch();
        let new = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 9));
        switch.set_addresses(1, &[new]);
        let udp = |to| packet(to, UDP, (1000, 2000));
        assert_eq!(way(&mut switch, 0, udp(ALICE)), None);
        assert_eq!(way(&mut switch, 0, udp(new)), Some((1, 20 * MS)));
        switch.set_default_route(2);
        assert_eq!(way(&mut switch, 0, udp(ALICE)), Some((2, 20 * MS)));
        let multicast = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251));
        assert_eq!(way(&mut switch, 0, udp(multicast)), None);
    }

    #[test]
    fn a_firewall_refuses_in_both_directions() {
        let open = [true; 6];
        let cases = [
            (Firewall::None, open),
            (Firewall::NoUdp, [false, false, true, true, true, true]),
            (
                Firewall::Tcp443Only,
                [false, false, true, true, false, false],
            ),
        ];
        for (firewall, expected) in cases {
            let mut switch = switch();
            switch.set_firewall(1, firewall);
            let passes = [
                way(&mut switch, 1, packet(SERVER, UDP, (5000, 443))),
                way(&mut switch, 0, packet(ALICE, UDP, (443, 5000))),
                way(&mut switch, 1, packet(SERVER, TCP, (5000, 443))),
                way(&mut switch, 0, packet(ALICE, TCP, (443, 5000))),
                way(&mut switch, 1, packet(SERVER, TCP, (5000, 80))),
                way(&mut switch, 0, packet(ALICE, TCP, (80, 5000))),
            ]
            .map(|way| way.is_some());
            assert_eq!(passes, expected, "{firewall:?}");
            let refused = expected.iter().filter(|passes| !**passes).count();
            assert_eq!(switch.refused(1), refused as u64);
        }
    }

    #[test]
    fn poor_udp_loses_packets_and_tcp_does_not() {
        let mut switch = switch();
        switch.set_firewall(1, Firewall::PoorUdp);
        let mut came = |protocol| {
            let ways = (0..1000).map(|_| way(&mut switch, 1, packet(SERVER, protocol, (1, 2))));
            ways.flatten().count()
        };
        assert_eq!(came(TCP), 1000);
        let udp = came(UDP);
        assert!((650..750).contains(&udp), "{udp}");
    }

    #[test]
    fn a_link_changes_while_packets_are_on_it() {
        let mut switch = switch();
        let now = Instant::now();
        switch.handle_packet(now, 1, packet(SERVER, UDP, (1, 2)));
        let all_lost = Impairment {
            loss: Loss::Random(1.0),
            ..Impairment::default()
        };
        switch.set_link(now, 1, Direction::Up, all_lost);
        switch.handle_packet(now, 1, packet(SERVER, UDP, (1, 2)));
        switch.handle_timeout(now + 10 * MS);
        assert!(switch.poll_packet().is_some());
        assert!(switch.poll_packet().is_none());
        assert_eq!(switch.readings(now, 1).0.counters.lost, 1);
    }

    proptest::proptest! {
        /// Whatever a program sends, nothing panics.
        #[test]
        fn any_bytes_may_come(first: u8, rest: Vec<u8>) {
            let bytes = [&[first], &rest[..]].concat();
            let mut switch = switch();
            switch.set_firewall(1, Firewall::Tcp443Only);
            switch.handle_packet(Instant::now(), 1, bytes);
        }
    }
}
