//! How much of the relay each user, each client address and everybody together may have.
//!
//! In: who wants an allocation, and every relayed byte. Out: yes or no. What is held is given back
//! with [`Quotas::release`]; users and addresses without allocations cost nothing, but are remembered
//! until what they have used of their bandwidth has come back.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_sockets::subscriber::subscriber;

use crate::limit::DEFAULT_MAX_ANSWERS;

/// How long a full bandwidth quota may be saved up for, in seconds: a key frame, or what a stalled
/// network lets go together.
const BURST_SECONDS: f64 = 1.0;

/// What a packet costs beside its payload, in bytes: its headers on the wire, and the work that even an
/// empty one makes, which is about that of so many bytes.
const PACKET_OVERHEAD: usize = 100;

/// What each may have at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Allocations of one user.
    pub allocations_per_user: u32,
    /// Allocations from one address; an office or a mobile network may share one.
    pub allocations_per_address: u32,
    /// Allocations in total.
    pub allocations: u32,
    /// Permissions of one allocation.
    pub permissions: usize,
    /// Channels of one allocation.
    pub channels: usize,
    /// Payload relayed for one user in bytes a second, both directions together; each packet counts for
    /// 100 bytes more.
    pub bytes_per_second_per_user: u64,
    /// Payload relayed for one address in bytes a second.
    pub bytes_per_second_per_address: u64,
    /// Payload relayed in total, in bytes a second.
    pub bytes_per_second: u64,
    /// Answers a second to one address that has proven nothing.
    pub unauthenticated_answers: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            allocations_per_user: 12,
            allocations_per_address: 240,
            allocations: 10_000,
            permissions: 64,
            channels: 64,
            bytes_per_second_per_user: 6_250_000,
            bytes_per_second_per_address: 62_500_000,
            bytes_per_second: 1_250_000_000,
            unauthenticated_answers: DEFAULT_MAX_ANSWERS,
        }
    }
}

/// Which quota is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exceeded {
    /// The user's or the address's: 486 (Allocation Quota Reached).
    Own,
    /// That of all together: 508 (Insufficient Capacity).
    Total,
}

/// Who holds an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    user: usize,
    address: usize,
}

/// Counts what is held.
#[derive(Debug)]
pub struct Quotas {
    limits: Limits,
    users: Holders<Arc<str>>,
    addresses: Holders<IpAddr>,
    allocations: u32,
    bucket: Bucket,
}

impl Quotas {
    /// Quotas of which nothing is used.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Quotas {
            limits,
            users: Holders::default(),
            addresses: Holders::default(),
            allocations: 0,
            bucket: Bucket::full(limits.bytes_per_second),
        }
    }

    /// What each may have.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes an allocation for a user at an address.
    ///
    /// # Errors
    /// When one of them, or the server, has as many as it may.
    pub fn take(
        &mut self,
        now: Instant,
        user: &Arc<str>,
        address: IpAddr,
    ) -> Result<Grant, Exceeded> {
        let (limits, address) = (self.limits, subscriber(address));
        self.users.forget(now);
        self.addresses.forget(now);
        if self.users.count(user) >= limits.allocations_per_user
            || self.addresses.count(&address) >= limits.allocations_per_address
        {
            return Err(Exceeded::Own);
        }
        if self.allocations >= limits.allocations {
            return Err(Exceeded::Total);
        }
        self.allocations += 1;
        Ok(Grant {
            user: self.users.take(user, limits.bytes_per_second_per_user),
            address: self
                .addresses
                .take(&address, limits.bytes_per_second_per_address),
        })
    }

    /// Gives an allocation back.
    pub fn release(&mut self, grant: Grant) {
        self.allocations = self.allocations.saturating_sub(1);
        self.users.release(grant.user);
        self.addresses.release(grant.address);
    }

    /// Whether a packet with so many bytes of payload may be relayed now, which are then counted.
    pub fn spend(&mut self, now: Instant, grant: Grant, payload: usize) -> bool {
        let (Some(user), Some(address)) = (
            self.users.bucket(grant.user),
            self.addresses.bucket(grant.address),
        ) else {
            return false;
        };
        let bytes = (payload + PACKET_OVERHEAD) as f64;
        let has_all = [&mut *user, &mut *address, &mut self.bucket]
            .into_iter()
            .all(|bucket| bucket.holds(now, bytes));
        if has_all {
            user.tokens -= bytes;
            address.tokens -= bytes;
            self.bucket.tokens -= bytes;
        }
        has_all
    }

    /// Allocations held now.
    #[must_use]
    pub fn allocations(&self) -> u32 {
        self.allocations
    }
}

/// Those who hold something, found by name once and by index afterwards.
#[derive(Debug)]
struct Holders<K> {
    by_key: HashMap<K, usize>,
    slots: Vec<Option<Holder<K>>>,
    free: Vec<usize>,
    /// Those who hold nothing any more and are remembered.
    former: VecDeque<usize>,
}

#[derive(Debug)]
struct Holder<K> {
    key: K,
    allocations: u32,
    bucket: Bucket,
    is_former: bool,
}

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Holders {
            by_key: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            former: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Holders<K> {
    fn count(&self, key: &K) -> u32 {
        let slot = self.by_key.get(key).and_then(|&n| self.slots.get(n));
        slot.and_then(Option::as_ref).map_or(0, |h| h.allocations)
    }

    fn take(&mut self, key: &K, bytes_per_second: u64) -> usize {
        if let Some(&n) = self.by_key.get(key) {
            if let Some(Some(holder)) = self.slots.get_mut(n) {
                holder.allocations += 1;
            }
            return n;
        }
        let holder = Some(Holder {
            key: key.clone(),
            allocations: 1,
            bucket: Bucket::full(bytes_per_second),
            is_former: false,
        });
        let n = match self.free.pop() {
            Some(n) => {
                self.slots[n] = holder;
                n
            }
            None => {
                self.slots.push(holder);
                self.slots.len() - 1
            }
        };
        self.by_key.insert(key.clone(), n);
        n
    }

    fn release(&mut self, n: usize) {
        let Some(slot) = self.slots.get_mut(n) else {
            return;
        };
        let Some(holder) = slot else {
            return;
        };
        holder.allocations -= 1;
        if holder.allocations > 0 || holder.is_former {
            return;
        }
        if holder.bucket.last.is_none() {
            self.remove(n);
        } else {
            holder.is_former = true;
            self.former.push_back(n);
        }
    }

    /// Forgets those whose bandwidth has come back: who ends an allocation and makes another is to have
    /// no more than who keeps it.
    fn forget(&mut self, now: Instant) {
        while let Some(&n) = self.former.front() {
            let Some(Some(holder)) = self.slots.get_mut(n) else {
                return;
            };
            let is_unused = holder.allocations == 0;
            if is_unused && !holder.bucket.is_full(now) {
                return;
            }
            holder.is_former = false;
            self.former.pop_front();
            if is_unused {
                self.remove(n);
            }
        }
    }

    fn remove(&mut self, n: usize) {
        if let Some(holder) = self.slots.get_mut(n).and_then(Option::take) {
            self.by_key.remove(&holder.key);
            self.free.push(n);
        }
    }

    fn bucket(&mut self, n: usize) -> Option<&mut Bucket> {
        self.slots.get_mut(n)?.as_mut().map(|h| &mut h.bucket)
    }
}

/// A token bucket; a token is a byte.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    last: Option<Instant>,
}

impl Bucket {
    fn full(bytes_per_second: u64) -> Self {
        let per_second = bytes_per_second as f64;
        Bucket {
            per_second,
            tokens: per_second * BURST_SECONDS,
            last: None,
        }
    }

    fn is_full(&self, now: Instant) -> bool {
        let burst = Duration::from_secs_f64(BURST_SECONDS);
        self.last
            .is_none_or(|last| now.saturating_duration_since(last) >= burst)
    }

    fn holds(&mut self, now: Instant, bytes: f64) -> bool {
        let elapsed = self.last.map_or(0.0, |last| {
            now.saturating_duration_since(last).as_secs_f64()
        });
        self.last = Some(now);
        let most = self.per_second * BURST_SECONDS;
        self.tokens = (self.tokens + elapsed * self.per_second).min(most);
        self.tokens >= bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use std::time::Duration;

    use super::*;

    fn limits() -> Limits {
        Limits {
            allocations_per_user: 2,
            allocations_per_address: 3,
            allocations: 4,
            bytes_per_second_per_user: 1000,
            bytes_per_second_per_address: 1500,
            bytes_per_second: 2000,
            ..Limits::default()
        }
    }

    #[test]
    fn each_has_no_more_than_its_own_and_all_no_more_than_the_total() {
        let mut quotas = Quotas::new(limits());
        let mut take = |user: &str, address: &str| {
            let taken = quotas.take(Instant::now(), &user.into(), address.parse().unwrap());
            taken.map(|grant| grant.user)
        };
        for (user, address, expected) in [
            ("alice", "192.0.2.1", Ok(0)),
            ("alice", "192.0.2.1", Ok(0)),
            ("alice", "192.0.2.2", Err(Exceeded::Own)),
            ("bob", "192.0.2.1", Ok(1)),
            ("carol", "192.0.2.1", Err(Exceeded::Own)),
            ("carol", "::ffff:192.0.2.1", Err(Exceeded::Own)),
            ("carol", "2001:db8::1", Ok(2)),
            ("carol", "2001:db8::1", Err(Exceeded::Total)),
        ] {
            assert_eq!(take(user, address), expected, "{user} at {address}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_leaves_nothing() {
        let mut quotas = Quotas::new(limits());
        let user: Arc<str> = "alice".into();
        for _ in 0..100 {
            let first = quotas
                .take(Instant::now(), &user, "192.0.2.1".parse().unwrap())
                .unwrap();
            let second = quotas
                .take(Instant::now(), &user, "192.0.2.2".parse().unwrap())
                .unwrap();
            quotas.release(first);
            quotas.release(second);
        }
        assert_eq!(quotas.allocations(), 0);
        assert!(quotas.users.by_key.is_empty() && quotas.addresses.by_key.is_empty());
        assert_eq!(
            (quotas.users.slots.len(), quotas.addresses.slots.len()),
            (1, 2)
        );
    }

    #[test]
    fn who_makes_allocations_anew_has_no_more_bandwidth_than_who_keeps_one() {
        let mut quotas = Quotas::new(limits());
        let start = Instant::now();
        let user: Arc<str> = "alice".into();
        let mut sent = 0;
        for ms in 0..2000 {
            let now = start + Duration::from_millis(ms);
            let grant = quotas
                .take(now, &user, "192.0.2.1".parse().unwrap())
                .unwrap();
            sent += u32::from(quotas.spend(now, grant, 0));
            quotas.release(grant);
        }
        assert!((29..=30).contains(&sent), "{sent}");
        let now = start + Duration::from_secs(10);
        let other = quotas.take(now, &"bob".into(), "192.0.2.2".parse().unwrap());
        quotas.release(other.unwrap());
        assert!(quotas.users.by_key.is_empty() && quotas.addresses.by_key.is_empty());
    }

    #[test]
    fn bytes_are_limited_for_the_user_the_address_and_all() {
        let mut quotas = Quotas::new(limits());
        let start = Instant::now();
        let mut take = |user: &str, address: &str| {
            quotas
                .take(Instant::now(), &user.into(), address.parse().unwrap())
                .unwrap()
        };
        let alice = take("alice", "192.0.2.1");
        let bob = take("bob", "192.0.2.1");
        let carol = take("carol", "192.0.2.3");
        for (at, who, bytes, admitted) in [
            (0, alice, 900, true),
            (0, alice, 200, false),
            (0, alice, 100, true),
            (0, bob, 600, false),
            (0, bob, 500, true),
            (0, carol, 600, false),
            (0, carol, 500, true),
            (500, alice, 501, false),
            (500, alice, 500, true),
            (500, bob, 251, false),
            (500, bob, 250, true),
            (60_000, alice, 1001, false),
            (60_000, alice, 1000, true),
        ] {
            let now = start + Duration::from_millis(at);
            assert_eq!(
                quotas.spend(now, who, bytes - PACKET_OVERHEAD),
                admitted,
                "{at} {who:?} {bytes}"
            );
        }
    }
}
