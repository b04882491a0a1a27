//! Ranges of addresses, as settings name them.

use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses, such as `192.0.2.0/24`; an address alone is a range of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Cidr`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a range of addresses; write one as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1")]
pub struct CidrError(String);

impl Cidr {
    /// The addresses that begin with the same `prefix` bits.
    #[must_use]
    pub const fn new(network: IpAddr, prefix: u8) -> Cidr {
        Cidr { network, prefix }
    }

    /// Whether `address` is in the range. IPv4 ranges hold IPv4 only.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let common = match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros()
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        common >= u32::from(self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (network, prefix) = match text.split_once('/') {
                Some((network, prefix)) => (network, Some(prefix.parse().ok()?)),
                None => (text, None),
            };
            let network: IpAddr = network.parse().ok()?;
            let most = if network.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.unwrap_or(most);
            (prefix <= most).then_some(Cidr { network, prefix })
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_refused() {
        for (text, good) in [
            ("10.0.0.0/8", true),
            ("10.0.0.0/0", true),
            ("10.0.0.1", true),
            ("2001:db8::/32", true),
            ("::/128", true),
            ("10.0.0.0/33", false),
            ("::/129", false),
            ("10.0.0.0/-1", false),
            ("10.0.0/8", false),
            ("host/8", false),
            ("", false),
            ("/8", false),
        ] {
            assert_eq!(text.parse::<Cidr>().is_ok(), good, "{text}");
        }
    }
}
