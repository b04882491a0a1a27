//! Whom an allocation exchanges packets with: its permissions (RFC 8656 section 9) and its channels
//! (section 12).
//!
//! In: what the client installs, and addresses and numbers of packets. Out: whether they are
//! installed now. Both tables are small and sorted; what has expired is as good as gone, and goes
//! when room is needed.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a permission lasts (RFC 8656 section 9).
const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// How long a channel is bound (RFC 8656 section 12).
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// Addresses that may send to the client.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    entries: Vec<(IpAddr, Instant)>,
}

impl Permissions {
    /// Whether there is a permission for an address.
    pub(super) fn has(&self, now: Instant, address: IpAddr) -> bool {
        let found = self.entries.binary_search_by_key(&address, |&(a, _)| a);
        found.is_ok_and(|n| now < self.entries[n].1)
    }

    /// Installs or refreshes a permission for each address, or for none if that would be more than
    /// `max`; says which.
    #[must_use]
    pub(super) fn install(&mut self, now: Instant, addresses: &[IpAddr], max: usize) -> bool {
        self.entries.retain(|&(_, expires)| now < expires);
        let mut new: Vec<IpAddr> = addresses.to_vec();
        new.sort_unstable();
        new.dedup();
        let is_new = |a: &&IpAddr| !self.entries.iter().any(|(known, _)| known == *a);
        if self.entries.len() + new.iter().filter(is_new).count() > max {
            return false;
        }
        for address in new {
            let entry = (address, now + PERMISSION_LIFETIME);
            match self.entries.binary_search_by_key(&address, |&(a, _)| a) {
                Ok(n) => self.entries[n] = entry,
                Err(n) => self.entries.insert(n, entry),
            }
        }
        true
    }
}

/// Why a channel is not bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChannelError {
    /// The number is another peer's, or the peer has another number.
    Taken,
    /// There are as many channels as there may be.
    Full,
}

/// Numbers that stand for peers.
#[derive(Debug, Default)]
pub(super) struct Channels {
    by_number: Vec<Channel>,
    /// The same, sorted by peer.
    by_peer: Vec<(SocketAddr, u16)>,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    expires: Instant,
}

impl Channels {
    /// The peer of a channel.
    pub(super) fn peer(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        let found = self.by_number.binary_search_by_key(&number, |c| c.number);
        let channel = self.by_number.get(found.ok()?)?;
        (now < channel.expires).then_some(channel.peer)
    }

    /// The channel of a peer.
    pub(super) fn number(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let found = self.by_peer.binary_search_by_key(&peer, |&(p, _)| p);
        let (_, number) = self.by_peer.get(found.ok()?)?;
        self.peer(now, *number).map(|_| *number)
    }

    /// Whether a channel could be bound.
    pub(super) fn check(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
        max: usize,
    ) -> Result<(), ChannelError> {
        if self.by_number.iter().any(|c| now >= c.expires) {
            self.by_number.retain(|c| now < c.expires);
            let is_bound = |number| self.by_number.iter().any(|c| c.number == number);
            self.by_peer.retain(|&(_, number)| is_bound(number));
        }
        match (self.peer(now, number), self.number(now, peer)) {
            (Some(bound), _) if bound != peer => Err(ChannelError::Taken),
            (_, Some(bound)) if bound != number => Err(ChannelError::Taken),
            (None, None) if self.by_number.len() >= max => Err(ChannelError::Full),
            _ => Ok(()),
        }
    }

    /// Binds or refreshes a channel that [`check`](Self::check) has found good.
    pub(super) fn bind(&mut self, now: Instant, number: u16, peer: SocketAddr) {
        let channel = Channel {
            number,
            peer,
            expires: now + CHANNEL_LIFETIME,
        };
        match self.by_number.binary_search_by_key(&number, |c| c.number) {
            Ok(n) => self.by_number[n] = channel,
            Err(n) => self.by_number.insert(n, channel),
        }
        match self.by_peer.binary_search_by_key(&peer, |&(p, _)| p) {
            Ok(n) => self.by_peer[n] = (peer, number),
            Err(n) => self.by_peer.insert(n, (peer, number)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([8, 8, 8, n])
    }

    fn peer(n: u8) -> SocketAddr {
        SocketAddr::new(ip(n), 5000)
    }

    #[test]
    fn a_permission_lasts_five_minutes_from_its_last_refresh() {
        let (start, mut permissions) = (Instant::now(), Permissions::default());
        let at = |s| start + Duration::from_secs(s);
        assert!(permissions.install(start, &[ip(2), ip(1)], 64));
        assert!(permissions.install(at(200), &[ip(1)], 64));
        for (seconds, address, has) in [
            (0, ip(3), false),
            (299, ip(1), true),
            (299, ip(2), true),
            (300, ip(2), false),
            (499, ip(1), true),
            (500, ip(1), false),
        ] {
            assert_eq!(
                permissions.has(at(seconds), address),
                has,
                "{seconds} {address}"
            );
        }
    }

    #[test]
    fn permissions_are_installed_together_or_not_at_all() {
        let (start, mut permissions) = (Instant::now(), Permissions::default());
        let all: Vec<_> = (0..64).map(ip).collect();
        assert!(permissions.install(start, &all[..63], 64));
        assert!(!permissions.install(start, &[ip(63), ip(64)], 64));
        assert!(!permissions.has(start, ip(63)));
        assert!(permissions.install(start, &[ip(63), ip(63), ip(0)], 64));
        assert!(
            permissions.install(start, &all, 64),
            "a refresh needs no room"
        );
        let later = start + PERMISSION_LIFETIME;
        assert!(
            permissions.install(later, &[ip(200)], 64),
            "the others have gone"
        );
        assert_eq!(permissions.entries.len(), 1);
    }

    #[test]
    fn a_channel_has_one_peer_and_a_peer_one_channel() {
        let (start, mut channels) = (Instant::now(), Channels::default());
        let mut bind = |seconds, number, peer| {
            let now = start + Duration::from_secs(seconds);
            let result = channels.check(now, number, peer, 3);
            if result.is_ok() {
                channels.bind(now, number, peer);
                assert_eq!(channels.peer(now, number), Some(peer));
                assert_eq!(channels.number(now, peer), Some(number));
            }
            result
        };
        for (seconds, number, peer, expected) in [
            (0, 0x4001, peer(1), Ok(())),
            (0, 0x4001, peer(2), Err(ChannelError::Taken)),
            (0, 0x4002, peer(1), Err(ChannelError::Taken)),
            (0, 0x4000, peer(2), Ok(())),
            (100, 0x4001, peer(1), Ok(())),
            (100, 0x4005, peer(5), Ok(())),
            (100, 0x4006, peer(6), Err(ChannelError::Full)),
            (600, 0x4006, peer(2), Ok(())),
            (600, 0x4000, peer(7), Err(ChannelError::Full)),
            (700, 0x4002, peer(1), Ok(())),
        ] {
            assert_eq!(
                bind(seconds, number, peer),
                expected,
                "{seconds} {number:x} {peer}"
            );
        }
        let end = start + Duration::from_secs(1300);
        assert_eq!(channels.peer(end, 0x4002), None);
        assert_eq!(channels.number(end, peer(1)), None);
    }
}
