//! Which addresses are one client's, as far as that can be told, and how much each client has.
//!
//! In: addresses of those who come and go. Out: whether there is room for one more, and who has to go
//! where there is not.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// How many lines' worth a site may have: an office with a few networks, and no more than that of one who
/// takes an address from each of the 65,536 that it has.
const LINES_OF_SITE: usize = 4;

/// One in so many of what there is for all is kept for others whatever a reverse proxy has.
const KEPT_ONE_OF: usize = 10;

/// How much of it an address may have that speaks for many, as a reverse proxy does.
#[must_use]
pub const fn share_of_proxy(all: usize) -> usize {
    all - all / KEPT_ONE_OF
}

/// What one subscriber line has: an IPv4 address, or an IPv6 /64, the least that is given to anybody, in
/// which devices take addresses as they like (RFC 4291 section 2.5.1). It may be one of many: see [`site`].
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(network(v6, 64)),
        v4 => v4,
    }
}

/// The most that one site is usually given: an IPv6 /48 (RFC 6177 section 2). IPv4 has no such thing.
#[must_use]
pub fn site(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V6(v6) => Some(IpAddr::V6(network(v6, 48))),
        IpAddr::V4(_) => None,
    }
}

fn network(address: Ipv6Addr, prefix: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() & (!0 << (128 - prefix)))
}

/// Whether a [`subscriber`] is of this machine or of a private network (RFC 1918, RFC 4193). A line's
/// address counts as its network.
#[must_use]
pub fn is_neighbour(subscriber: IpAddr) -> bool {
    match subscriber {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => {
            // The line of ::1.
            v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

/// How many of something each line has, and each site of several lines.
#[derive(Debug, Default)]
pub struct Tally {
    lines: Counts<IpAddr>,
    sites: Counts<IpAddr>,
}

/// Whoever wants one more has as many as it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// How many that is.
    pub has: usize,
    /// Whether all lines of a site have them together.
    pub is_site: bool,
}

impl Tally {
    /// Whether one more may come from there, where a line may have `max` of them, and a site four times as
    /// many.
    ///
    /// # Errors
    /// When there are as many as may be.
    pub fn check(&self, address: IpAddr, max: usize) -> Result<(), Full> {
        let has = self.lines.of(&subscriber(address));
        if has >= max {
            return Err(Full {
                has,
                is_site: false,
            });
        }
        let has = site(address).map_or(0, |site| self.sites.of(&site));
        if has >= max.saturating_mul(LINES_OF_SITE) {
            return Err(Full { has, is_site: true });
        }
        Ok(())
    }

    /// Counts one more from there.
    pub fn add(&mut self, address: IpAddr) {
        self.lines.add(subscriber(address));
        if let Some(site) = site(address) {
            self.sites.add(site);
        }
    }

    /// Counts one less.
    pub fn remove(&mut self, address: IpAddr) {
        self.lines.remove(&subscriber(address));
        if let Some(site) = site(address) {
            self.sites.remove(&site);
        }
    }

    /// Whether nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.sites.is_empty()
    }
}

/// How many of something each has; who has none is forgotten.
#[derive(Debug)]
pub struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Counts(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    /// How many it has.
    #[must_use]
    pub fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// Counts one more.
    pub fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// Counts one less.
    pub fn remove(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }

    /// The most that anybody has.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.values().copied().max().unwrap_or(0)
    }

    /// Whether nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Those of whom one has to go when there are too many: whoever has been there for longest, of the line that
/// has most of them, so that a flood drives out itself alone.
#[derive(Debug)]
pub struct Crowd<T> {
    /// By number: the oldest is first.
    by_age: BTreeMap<u64, (IpAddr, T)>,
    by_line: Counts<IpAddr>,
}

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Crowd {
            by_age: BTreeMap::new(),
            by_line: Counts::default(),
        }
    }
}

impl<T> Crowd<T> {
    /// One more comes from there. Its number says when: the oldest has the lowest.
    pub fn insert(&mut self, number: u64, address: IpAddr, what: T) {
        self.remove(number);
        let line = subscriber(address);
        self.by_age.insert(number, (line, what));
        self.by_line.add(line);
    }

    /// One goes.
    pub fn remove(&mut self, number: u64) {
        if let Some((line, _)) = self.by_age.remove(&number) {
            self.by_line.remove(&line);
        }
    }

    /// Who has to go; none if nobody is there.
    #[must_use]
    pub fn first_to_go(&self) -> Option<(u64, &T)> {
        let most = self.by_line.most();
        let mut oldest = self.by_age.iter();
        let oldest = oldest.find(|(_, (line, _))| self.by_line.of(line) == most);
        oldest.map(|(number, (_, what))| (*number, what))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty() && self.by_line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    #[test]
    fn addresses_of_one_line_are_one_subscriber() {
        for (a, b, same_line, same_site) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true, true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false, true),
            ("2001:db8:0:1::1", "2001:db8:1:1::1", false, false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(subscriber(a) == subscriber(b), same_line, "{a} {b}");
            assert_eq!(site(a) == site(b), same_site, "{a} {b}");
        }
        for (a, b, same) in [
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(subscriber(a) == subscriber(b), same, "{a} {b}");
            assert_eq!((site(a), site(b)), (None, None));
        }
    }

    #[test]
    fn a_site_has_as_many_as_four_of_its_lines() {
        let mut tally = Tally::default();
        let line = |site: u16, line: u16| IpAddr::from([0x2001, 0xdb8, site, line, 0, 0, 0, 1]);
        let mut had = Vec::new();
        for n in 0..100 {
            let address = line(0, n / 7);
            if tally.check(address, 5).is_ok() {
                tally.add(address);
                had.push(address);
            }
        }
        assert_eq!(had.len(), 20);
        let full = |has, is_site| Err(Full { has, is_site });
        assert_eq!(tally.check(line(0, 0), 5), full(5, false));
        assert_eq!(tally.check(line(0, 99), 5), full(20, true));
        assert_eq!(tally.check(line(1, 0), 5), Ok(()));
        for address in had {
            tally.remove(address);
        }
        assert!(tally.is_empty());
    }
}
