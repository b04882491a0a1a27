//! How much of the server one client has: sessions, WHIP and WHEP ones among them, by address and by
//! identity.
//!
//! In: who comes and who goes. Out: whether there is room for one more, or which limit says no.

use std::collections::HashMap;
use std::net::IpAddr;

use confab_door::{is_neighbour, subscriber};

use super::Config;
use crate::auth::Access;
use crate::protocol::{ErrorCode, Failure};

/// Of how many sessions one is kept for others whatever a neighbour has.
const KEPT_ONE_OF: usize = 10;

/// Whose a session is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Holder {
    /// What one subscriber line has.
    line: IpAddr,
    /// As the access token says it: what clients say themselves counts for nothing.
    identity: Option<String>,
}

impl Holder {
    pub(super) fn new(address: IpAddr, access: &Access) -> Holder {
        Holder {
            line: subscriber(address),
            identity: access.identity.clone(),
        }
    }

    pub(super) fn line(&self) -> IpAddr {
        self.line
    }
}

/// What everybody has.
#[derive(Debug, Default)]
pub(super) struct Shares {
    total: usize,
    by_line: HashMap<IpAddr, usize>,
    by_identity: HashMap<String, usize>,
}

impl Shares {
    /// Counts one more session.
    ///
    /// # Errors
    /// When all have, or who wants it has, as many as may be.
    pub(super) fn add(&mut self, config: &Config, holder: &Holder) -> Result<(), Failure> {
        let full = |who: &str, has: usize, setting: &str| {
            let text = format!("{who} has {has} sessions, as many as it may (`{setting}`).");
            Err(Failure::new(ErrorCode::ServerFull, text))
        };
        if self.total >= config.max_sessions {
            return full("The server", self.total, "signaling.max_sessions");
        }
        let of_line = self.by_line.get(&holder.line).copied().unwrap_or(0);
        // A reverse proxy, or a test of this machine, speaks for many.
        let (max, setting) = match is_neighbour(holder.line) {
            true => (
                config.max_sessions - config.max_sessions / KEPT_ONE_OF,
                "signaling.max_sessions",
            ),
            false => (
                config.max_address_sessions,
                "signaling.max_address_sessions",
            ),
        };
        if of_line >= max {
            return full("This address", of_line, setting);
        }
        let identity = holder.identity.as_ref();
        let of_identity = identity.and_then(|identity| self.by_identity.get(identity));
        let of_identity = of_identity.copied().unwrap_or(0);
        if of_identity >= config.max_identity_sessions {
            let setting = "signaling.max_identity_sessions";
            return full("This identity", of_identity, setting);
        }
        self.total += 1;
        self.by_line.insert(holder.line, of_line + 1);
        if let Some(identity) = identity {
            self.by_identity.insert(identity.clone(), of_identity + 1);
        }
        Ok(())
    }

    /// Counts one less.
    pub(super) fn remove(&mut self, holder: &Holder) {
        self.total = self.total.saturating_sub(1);
        take_one(&mut self.by_line, &holder.line);
        if let Some(identity) = &holder.identity {
            take_one(&mut self.by_identity, identity);
        }
    }
}

fn take_one<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    let left = counts.get_mut(key).map(|count| {
        *count -= 1;
        *count
    });
    if left == Some(0) {
        counts.remove(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config() -> Config {
        Config {
            max_sessions: 100,
            max_address_sessions: 10,
            max_identity_sessions: 4,
            ..Config::default()
        }
    }

    fn holder(address: &str, identity: Option<&str>) -> Holder {
        Holder {
            line: subscriber(address.parse().unwrap()),
            identity: identity.map(str::to_owned),
        }
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        for (address, may) in [
            ("192.0.2.1", 10),
            ("2001:db8::1", 10),
            ("127.0.0.1", 90),
            ("10.0.0.1", 90),
        ] {
            let mut shares = Shares::default();
            let mut had = 0;
            let refusal = loop {
                match shares.add(&config(), &holder(address, None)) {
                    Ok(()) => had += 1,
                    Err(refusal) => break refusal.message,
                }
            };
            assert_eq!(had, may, "{address}");
            assert!(refusal.contains(&had.to_string()), "{refusal}");
            let other = holder("192.0.2.99", None);
            assert!(shares.add(&config(), &other).is_ok(), "{address}");
        }
    }

    #[test]
    fn addresses_of_one_line_count_as_one() {
        let mut shares = Shares::default();
        let line = |n: u8| holder(&format!("2001:db8:0:1::{n}"), None);
        for n in 0..10 {
            shares.add(&config(), &line(n)).unwrap();
        }
        assert!(shares.add(&config(), &line(10)).is_err());
        shares.remove(&line(0));
        assert!(shares.add(&config(), &line(11)).is_ok());
    }

    #[test]
    fn one_identity_leaves_room_for_others_and_nothing_stays() {
        let mut shares = Shares::default();
        let ada: Vec<Holder> = (0..5)
            .map(|n| holder(&format!("192.0.2.{n}"), Some("ada")))
            .collect();
        for holder in &ada[..4] {
            shares.add(&config(), holder).unwrap();
        }
        let refusal = shares.add(&config(), &ada[4]).unwrap_err();
        assert!(
            refusal.message.contains("4 sessions"),
            "{}",
            refusal.message
        );
        let bob = holder("192.0.2.1", Some("bob"));
        shares.add(&config(), &bob).unwrap();
        for holder in ada[..4].iter().chain([&bob]) {
            shares.remove(holder);
        }
        assert!(shares.by_line.is_empty() && shares.by_identity.is_empty());
        assert_eq!(shares.total, 0);
    }
}
