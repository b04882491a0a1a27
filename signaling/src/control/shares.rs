//! How much of the server one client has: sessions, WHIP and WHEP ones among them, by address and by
//! identity.
//!
//! In: who comes and who goes. Out: whether there is room for one more, or which limit says no.

use confab_sockets::subscriber::{Counts, Full, Tally, is_neighbour, share_of_proxy, subscriber};

use super::Config;
use crate::holder::{Holder, Proven};
use crate::protocol::{ErrorCode, Failure};

#[derive(Debug, Default)]
pub(super) struct Shares {
    total: usize,
    by_line: Tally,
    by_identity: Counts<Proven>,
}

impl Shares {
    /// Looks whether they may have one more session, if there is one left.
    ///
    /// # Errors
    /// When they have as many as may be.
    pub(super) fn check(&self, config: &Config, holder: &Holder) -> Result<(), Failure> {
        // A reverse proxy, or a test of this machine, speaks for many.
        let (max, setting) = match is_neighbour(subscriber(holder.address)) {
            true => (
                share_of_proxy(config.max_sessions),
                "signaling.max_sessions",
            ),
            false => (
                config.max_address_sessions,
                "signaling.max_address_sessions",
            ),
        };
        if let Err(Full { has, is_site }) = self.by_line.check(holder.address, max) {
            let who = match is_site {
                true => "The network of this address",
                false => "This address",
            };
            return Err(full(who, has, setting));
        }
        match holder.proven().map(|proven| self.by_identity.of(&proven)) {
            Some(has) if has >= config.max_identity_sessions => {
                let setting = "signaling.max_identity_sessions";
                Err(full("This identity at this address", has, setting))
            }
            _ => Ok(()),
        }
    }

    /// Looks whether there is one left.
    ///
    /// # Errors
    /// When all are given.
    pub(super) fn check_all(&self, config: &Config) -> Result<(), Failure> {
        if self.total >= config.max_sessions {
            return Err(full("The server", self.total, "signaling.max_sessions"));
        }
        Ok(())
    }

    /// Counts one more session.
    pub(super) fn add(&mut self, holder: &Holder) {
        self.total += 1;
        self.by_line.add(holder.address);
        if let Some(proven) = holder.proven() {
            self.by_identity.add(proven);
        }
    }

    pub(super) fn remove(&mut self, holder: &Holder) {
        self.total = self.total.saturating_sub(1);
        self.by_line.remove(holder.address);
        if let Some(proven) = holder.proven() {
            self.by_identity.remove(&proven);
        }
    }
}

fn full(who: &str, has: usize, setting: &str) -> Failure {
    let text = format!("{who} has {has} sessions, as many as it may (`{setting}`).");
    Failure::new(ErrorCode::ServerFull, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use std::time::SystemTime;

    use super::*;
    use crate::auth::{Access, Auth};

    fn config() -> Config {
        Config {
            max_sessions: 100,
            max_address_sessions: 10,
            max_identity_sessions: 4,
            ..Config::default()
        }
    }

    fn holder(address: &str, identity: Option<&str>) -> Holder {
        let open = Auth::open().check(None, SystemTime::now()).unwrap();
        let access = Access {
            identity: identity.map(str::to_owned),
            ..open
        };
        Holder::new(address.parse().unwrap(), &access)
    }

    fn add(shares: &mut Shares, holder: &Holder) -> Result<(), Failure> {
        shares.check(&config(), holder)?;
        shares.add(holder);
        Ok(())
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
                match add(&mut shares, &holder(address, None)) {
                    Ok(()) => had += 1,
                    Err(refusal) => break refusal.message,
                }
            };
            assert_eq!(had, may, "{address}");
            assert!(refusal.contains(&had.to_string()), "{refusal}");
            let other = holder("192.0.2.99", None);
            assert!(add(&mut shares, &other).is_ok(), "{address}");
        }
    }

    #[test]
    fn addresses_of_one_line_count_as_one() {
        let mut shares = Shares::default();
        let line = |n: u8| holder(&format!("2001:db8:0:1::{n}"), None);
        for n in 0..10 {
            add(&mut shares, &line(n)).unwrap();
        }
        assert!(add(&mut shares, &line(10)).is_err());
        shares.remove(&line(0));
        assert!(add(&mut shares, &line(11)).is_ok());
    }

    #[test]
    fn one_site_leaves_room_for_others_however_many_lines_it_has() {
        let mut shares = Shares::default();
        let line = |n: u8| holder(&format!("2001:db8:0:{n}::1"), None);
        for n in 0..40 {
            add(&mut shares, &line(n)).unwrap();
        }
        let refusal = add(&mut shares, &line(40)).unwrap_err().message;
        assert!(
            refusal.starts_with("The network of this address has 40 sessions"),
            "{refusal}"
        );
        assert!(add(&mut shares, &holder("2001:db8:1::1", None)).is_ok());
    }

    #[test]
    fn one_identity_leaves_room_for_others_and_nothing_stays() {
        let mut shares = Shares::default();
        let ada = holder("192.0.2.1", Some("ada"));
        for _ in 0..4 {
            add(&mut shares, &ada).unwrap();
        }
        let refusal = add(&mut shares, &ada).unwrap_err();
        assert!(
            refusal.message.contains("4 sessions"),
            "{}",
            refusal.message
        );
        let bob = holder("192.0.2.1", Some("bob"));
        // Who has come by the same link.
        let elsewhere = holder("192.0.2.2", Some("ada"));
        add(&mut shares, &bob).unwrap();
        add(&mut shares, &elsewhere).unwrap();
        for holder in [&ada; 4].into_iter().chain([&bob, &elsewhere]) {
            shares.remove(holder);
        }
        assert!(shares.by_line.is_empty() && shares.by_identity.is_empty());
        assert_eq!(shares.total, 0);
    }
}
