//! Who may use the relay: fixed users, and time-limited credentials after the REST convention
//! (draft-uberti-behave-turn-rest): the username is `expiry[:label]`, the password the base 64 of
//! HMAC-SHA1 of it with a secret that the server shares with whoever mints.
//!
//! In: users, labels that are revoked, a username or its hash. Out: the password, and the account
//! that quotas and revocation go by: the label, or else the username.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use stun_types::attribute::Userhash;

/// How far in the future an expiry may lie, in seconds (a week): an absurd one is a mistake of the
/// minter's, and would have to be remembered as long once revoked.
pub const MAX_LIFETIME: u64 = 7 * 24 * 3600;

/// Longest username in bytes (RFC 8489 section 14.3).
const MAX_USERNAME_LEN: usize = 508;

/// Most revoked labels, and most announced usernames, that are remembered. When there are more, the
/// one that expires first is forgotten.
const MAX_REMEMBERED: usize = 65_536;

/// What a client signs in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The username.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords are not for logs.
        write!(f, "Credentials({})", self.username)
    }
}

/// The secret that time-limited credentials are minted with.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A secret; any text, the longer the better.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
        Secret(hmac::Key::new(algorithm, secret.as_bytes()))
    }

    /// Credentials that are good until `expiry`, in seconds since 1970. The label names who they
    /// are for: it has the quota, and can be revoked. It must be at most 480 bytes of ASCII.
    #[must_use]
    pub fn mint(&self, expiry: u64, label: &str) -> Credentials {
        let username = match label {
            "" => expiry.to_string(),
            label => format!("{expiry}:{label}"),
        };
        let password = self.password(&username);
        Credentials { username, password }
    }

    fn password(&self, username: &str) -> String {
        BASE64.encode(hmac::sign(&self.0, username.as_bytes()))
    }
}

/// A user who was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct User<'a> {
    pub(crate) username: &'a str,
    pub(crate) password: Cow<'a, str>,
    /// Whose quota it is.
    pub(crate) account: &'a str,
}

/// Everybody who may use the relay.
#[derive(Debug)]
pub struct Users {
    realm: String,
    secret: Option<Secret>,
    fixed: HashMap<String, String>,
    /// Usernames by what clients that hide theirs send (RFC 8489 section 9.2.2).
    by_hash: HashMap<[u8; 32], String>,
    /// Announced usernames and their hashes, until they expire.
    announced: Remembered<[u8; 32]>,
    revoked: Remembered<String>,
}

impl Users {
    /// Nobody yet but the bearers of credentials minted with `secret`, if there is one.
    #[must_use]
    pub fn new(realm: &str, secret: Option<Secret>) -> Self {
        Users {
            realm: realm.to_owned(),
            secret,
            fixed: HashMap::new(),
            by_hash: HashMap::new(),
            announced: Remembered::default(),
            revoked: Remembered::default(),
        }
    }

    /// The realm of all users.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Adds a user with a password that does not expire.
    pub fn add(&mut self, user: Credentials) {
        let hash = Userhash::compute(&user.username, &self.realm);
        self.by_hash.insert(hash, user.username.clone());
        self.fixed.insert(user.username, user.password);
    }

    /// Lets clients sign in with the hash of a minted username too. Needed for that only: who says
    /// the username itself is known by it.
    pub fn announce(&mut self, unix_now: u64, username: &str) {
        let Some((expiry, _)) = split(username, unix_now) else {
            return;
        };
        let hash = Userhash::compute(username, &self.realm);
        self.by_hash.insert(hash, username.to_owned());
        for forgotten in self.announced.insert(unix_now, hash, expiry) {
            self.by_hash.remove(&forgotten);
        }
    }

    /// Refuses a label from now on, whatever is minted for it, until `expiry` in seconds since
    /// 1970: that of the last credentials that were.
    pub fn revoke(&mut self, unix_now: u64, label: &str, expiry: u64) {
        let expiry = expiry.min(unix_now.saturating_add(MAX_LIFETIME));
        self.revoked.insert(unix_now, label.to_owned(), expiry);
    }

    /// Whether every username can be told from its hash, so that clients may be asked to hide it.
    pub(crate) fn all_have_hashes(&self) -> bool {
        self.secret.is_none()
    }

    /// The user of a name.
    pub(crate) fn find<'a>(&'a self, unix_now: u64, username: &'a str) -> Option<User<'a>> {
        if let Some(password) = self.fixed.get(username) {
            return Some(User {
                username,
                password: Cow::Borrowed(password),
                account: username,
            });
        }
        let secret = self.secret.as_ref()?;
        let (_, account) = split(username, unix_now)?;
        (!self.is_revoked(unix_now, account)).then(|| User {
            username,
            password: Cow::Owned(secret.password(username)),
            account,
        })
    }

    /// The user of a hashed name.
    pub(crate) fn find_hashed(&self, unix_now: u64, hash: &[u8; 32]) -> Option<User<'_>> {
        self.find(unix_now, self.by_hash.get(hash)?)
    }

    fn is_revoked(&self, unix_now: u64, label: &str) -> bool {
        let expiry = self.revoked.expiries.get(label);
        expiry.is_some_and(|&expiry| unix_now < expiry)
    }
}

/// The expiry and the account of a minted username, if it has not expired.
fn split(username: &str, unix_now: u64) -> Option<(u64, &str)> {
    let (expiry, account) = match username.split_once(':') {
        Some((expiry, label)) if !label.is_empty() => (expiry, label),
        Some((expiry, _)) => (expiry, username),
        None => (username, username),
    };
    // `parse` takes a sign, too.
    let is_number = expiry.bytes().all(|b| b.is_ascii_digit());
    let expiry = expiry.parse().ok().filter(|_| is_number)?;
    let is_current = unix_now < expiry && expiry - unix_now <= MAX_LIFETIME;
    (is_current && username.len() <= MAX_USERNAME_LEN).then_some((expiry, account))
}

/// Things with an expiry, of which a bounded number is kept.
#[derive(Debug)]
struct Remembered<K> {
    expiries: HashMap<K, u64>,
}

impl<K> Default for Remembered<K> {
    fn default() -> Self {
        Remembered {
            expiries: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Remembered<K> {
    /// Adds one, and returns those that are forgotten for it: the expired, only when there is no
    /// room, and the next to expire when there is still none.
    fn insert(&mut self, unix_now: u64, key: K, expiry: u64) -> Vec<K> {
        let mut forgotten = Vec::new();
        if self.expiries.len() >= MAX_REMEMBERED && !self.expiries.contains_key(&key) {
            let expired = self.expiries.iter().filter(|&(_, &e)| e <= unix_now);
            forgotten.extend(expired.map(|(key, _)| key.clone()));
            if forgotten.is_empty() {
                let next = self.expiries.iter().min_by_key(|&(_, &expiry)| expiry);
                forgotten.extend(next.map(|(key, _)| key.clone()));
            }
            for key in &forgotten {
                self.expiries.remove(key);
            }
        }
        let kept = self.expiries.entry(key).or_default();
        *kept = expiry.max(*kept);
        forgotten
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn users() -> Users {
        let mut users = Users::new("example.org", Some(Secret::new("north")));
        users.add(Credentials {
            username: "operator".into(),
            password: "of the relay".into(),
        });
        users
    }

    #[test]
    fn a_password_is_what_every_other_server_computes() {
        // printf 1700000600:alice | openssl dgst -sha1 -hmac north -binary | base64
        let minted = Secret::new("north").mint(1_700_000_600, "alice");
        assert_eq!(minted.username, "1700000600:alice");
        assert_eq!(minted.password, "gthUwOpcRoLI0MMCziCEBOWYnpo=");
    }

    #[test]
    fn credentials_are_good_until_they_expire() {
        let users = users();
        for (username, account) in [
            ("1700000600:alice", Some("alice")),
            ("1700000600:room/alice:1", Some("room/alice:1")),
            ("1700000600", Some("1700000600")),
            ("1700000600:", Some("1700000600:")),
            ("1700000001:alice", Some("alice")),
            ("1700000000:alice", None),
            ("1600000000:alice", None),
            ("1700604800:alice", Some("alice")),
            ("1700604801:alice", None),
            ("99999999999999999999:alice", None),
            ("+1700000600:alice", None),
            (":alice", None),
            ("", None),
            ("alice", None),
            ("operator", Some("operator")),
        ] {
            let found = users.find(NOW, username);
            assert_eq!(found.map(|user| user.account), account, "{username}");
        }
        let long = format!("1700000600:{}", "a".repeat(500));
        assert_eq!(users.find(NOW, &long), None);
        assert_eq!(Users::new("r", None).find(NOW, "1700000600:alice"), None);
    }

    #[test]
    fn the_password_is_the_minted_one() {
        let (users, minted) = (users(), Secret::new("north").mint(NOW + 60, "alice"));
        let found = users.find(NOW, &minted.username).unwrap();
        assert_eq!(found.password, minted.password);
        assert_eq!(
            users.find(NOW, "operator").unwrap().password,
            "of the relay"
        );
        let other = Secret::new("south").mint(NOW + 60, "alice");
        assert_ne!(found.password, other.password);
    }

    #[test]
    fn a_revoked_label_is_refused_while_credentials_for_it_could_be_good() {
        let mut users = users();
        users.revoke(NOW, "alice", NOW + 100);
        users.revoke(NOW, "alice", NOW + 50);
        for (at, username, found) in [
            (NOW, "1700000600:alice", false),
            (NOW + 99, "1700000600:alice", false),
            (NOW + 100, "1700000600:alice", true),
            (NOW, "1700000600:bob", true),
        ] {
            assert_eq!(users.find(at, username).is_some(), found, "{at} {username}");
        }
    }

    #[test]
    fn hashed_names_are_found_when_they_are_known() {
        let mut users = users();
        let hash = |name| Userhash::compute(name, "example.org");
        users.announce(NOW, "1700000600:alice");
        for (name, found) in [
            ("operator", true),
            ("1700000600:alice", true),
            ("1700000600:bob", false),
        ] {
            assert_eq!(
                users.find_hashed(NOW, &hash(name)).is_some(),
                found,
                "{name}"
            );
        }
        let late = users.find_hashed(NOW + 600, &hash("1700000600:alice"));
        assert_eq!(late, None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut users = users();
        for n in 0..MAX_REMEMBERED as u64 {
            users.revoke(NOW, &format!("label {n}"), NOW + 10 + n);
        }
        users.revoke(NOW, "one more", NOW + 100);
        assert_eq!(users.revoked.expiries.len(), MAX_REMEMBERED);
        assert!(!users.is_revoked(NOW, "label 0") && users.is_revoked(NOW, "label 1"));
        users.revoke(NOW + 1000, "later", NOW + 2000);
        assert_eq!(users.revoked.expiries.len(), MAX_REMEMBERED - 991 + 1);
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::new("north");
        let minted = secret.mint(NOW, "alice");
        let printed = format!("{secret:?} {minted:?}");
        assert!(!printed.contains("north") && !printed.contains(&minted.password));
    }
}
