//! The NATs between a client and the world, in the words of RFC 4787 and in those of RFC 3489 that
//! people use.
//!
//! | kind | mapping (§4.1) | filtering (§5) |
//! | --- | --- | --- |
//! | full cone | endpoint-independent | endpoint-independent |
//! | address-restricted | endpoint-independent | address-dependent |
//! | port-restricted | endpoint-independent | address and port-dependent |
//! | symmetric | address and port-dependent | address and port-dependent |
//!
//! Linux masquerades with the client's own port where it can, which with one client is always, and
//! lets in only what answers: it is port-restricted. With a random port for each destination it is
//! symmetric. The other two remember whom or what the client sent to, and let that in as well.

use std::fmt;
use std::net::Ipv4Addr;

/// The router's address towards the client.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// The client's address behind a NAT.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// Seconds that a mapping lasts after its last packet: what RFC 4787 §4.3 recommends.
pub(super) const MAPPING_SECONDS: u32 = 300;

/// What stands between a client and the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Nat {
    /// Nothing: the client has a public address.
    #[default]
    None,
    /// Whoever sends to a mapped port reaches the client.
    FullCone,
    /// Whoever was sent to from a mapped port may send to it, from any port.
    AddressRestricted,
    /// Only from where a mapped port was sent to may be sent to it.
    PortRestricted,
    /// As port-restricted, and each destination sees a port of its own.
    Symmetric,
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nat::None => "none",
            Nat::FullCone => "full-cone",
            Nat::AddressRestricted => "address-restricted",
            Nat::PortRestricted => "port-restricted",
            Nat::Symmetric => "symmetric",
        })
    }
}

/// What `nft` makes of a router with `lan0` inside and `eth0` outside. Each generation knows nothing
/// of the connections of another, so that a new one is a router that has forgotten everything.
pub(super) fn ruleset(nat: Nat, generation: u16) -> String {
    let (remembered, let_in) = match nat {
        Nat::FullCone => ("udp sport", "udp dport @opened"),
        Nat::AddressRestricted => ("ip daddr . udp sport", "ip saddr . udp dport @opened"),
        Nat::None | Nat::PortRestricted | Nat::Symmetric => ("", ""),
    };
    let mut rules = format!(
        "table ip nat {{}}\n\
         delete table ip nat\n\
         table ip nat {{\n\
         chain forget {{ type filter hook prerouting priority raw; ct zone set {generation}; }}\n\
         chain refuse {{ type filter hook input priority filter; iifname \"eth0\" drop; }}\n"
    );
    if !remembered.is_empty() {
        rules += &format!(
            "set opened {{ typeof {remembered}; flags dynamic,timeout; timeout {MAPPING_SECONDS}s; \
             size 65535; }}\n\
             chain remember {{ type filter hook forward priority filter; iifname \"lan0\" \
             meta l4proto udp update @opened {{ {remembered} }}; }}\n\
             chain let_in {{ type nat hook prerouting priority dstnat; iifname \"eth0\" {let_in} \
             dnat to {CLIENT}; }}\n"
        );
    }
    let port = match nat {
        Nat::Symmetric => "fully-random",
        _ => "",
    };
    rules += &format!(
        "chain translate {{ type nat hook postrouting priority srcnat; oifname \"eth0\" \
         masquerade {port}; }}\n}}\n"
    );
    rules
}
