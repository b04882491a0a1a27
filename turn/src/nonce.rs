//! Nonces that are not stored (RFC 8489 sections 9.2 and 18.1).
//!
//! In: the time and the client. Out: a text that only this server can have made, for this client,
//! lately. It says when it was made and bears an HMAC, so nothing is kept for a client that has
//! proven nothing.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use crate::client::Client;

/// What nonces with feature bits begin with (RFC 8489 section 9.2).
const COOKIE: &str = "obMatJos2";

/// The bit of PASSWORD-ALGORITHMS; bit 0 is the leftmost of 24 (RFC 8489 section 18.1).
const PASSWORD_ALGORITHMS: u32 = 1 << 23;

/// The bit of USERHASH (RFC 8489 section 18.1).
const USERNAME_ANONYMITY: u32 = 1 << 22;

/// Bytes of the HMAC that are sent. A guess is right once in 2⁶⁴ times, and then only spares its
/// maker a round trip: it still needs the password.
const MAC_LEN: usize = 8;

/// Bytes of the time, in seconds since the key was made.
const TIME_LEN: usize = 4;

/// Characters of a nonce: the cookie, the feature bits, the time and the HMAC in base 64.
const LEN: usize = COOKIE.len() + 4 + (TIME_LEN + MAC_LEN) / 3 * 4;

/// Makes and verifies nonces.
#[derive(Debug)]
pub(crate) struct Nonces {
    key: hmac::Key,
    epoch: Instant,
    lifetime: Duration,
    prefix: String,
}

impl Nonces {
    /// `key` is to be random, and another after each start.
    pub(crate) fn new(
        key: &[u8],
        epoch: Instant,
        lifetime: Duration,
        username_anonymity: bool,
    ) -> Self {
        let features = match username_anonymity {
            true => PASSWORD_ALGORITHMS | USERNAME_ANONYMITY,
            false => PASSWORD_ALGORITHMS,
        };
        Nonces {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            epoch,
            lifetime,
            prefix: format!("{COOKIE}{}", BASE64.encode(&features.to_be_bytes()[1..])),
        }
    }

    /// A nonce for a client.
    pub(crate) fn make(&self, now: Instant, client: &Client) -> String {
        let made_at = self.seconds(now).to_be_bytes();
        let mut proof = [0; TIME_LEN + MAC_LEN];
        proof[..TIME_LEN].copy_from_slice(&made_at);
        proof[TIME_LEN..].copy_from_slice(&self.mac(made_at, client));
        let mut nonce = String::with_capacity(LEN);
        nonce.push_str(&self.prefix);
        BASE64.encode_string(proof, &mut nonce);
        nonce
    }

    /// Whether this is a nonce that was made for the client within the lifetime.
    pub(crate) fn is_valid(&self, now: Instant, client: &Client, nonce: &str) -> bool {
        let proof = nonce
            .strip_prefix(self.prefix.as_str())
            .filter(|_| nonce.len() == LEN)
            .and_then(|proof| BASE64.decode(proof).ok());
        let Some((made_at, mac)) = proof.as_deref().and_then(|p| p.split_first_chunk()) else {
            return false;
        };
        let age = self
            .seconds(now)
            .checked_sub(u32::from_be_bytes(*made_at))
            .map(u64::from);
        // Not in constant time: see MAC_LEN.
        age.is_some_and(|age| age < self.lifetime.as_secs()) && self.mac(*made_at, client) == mac
    }

    fn seconds(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.epoch).as_secs();
        u32::try_from(elapsed).unwrap_or(u32::MAX)
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "an HMAC-SHA256 has 32 bytes, whatever is signed"
    )]
    fn mac(&self, made_at: [u8; TIME_LEN], client: &Client) -> [u8; MAC_LEN] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&made_at);
        context.update(&[u8::from(client.is_stream())]);
        context.update(&client.address.port().to_be_bytes());
        match client.address.ip() {
            std::net::IpAddr::V4(v4) => context.update(&v4.octets()),
            std::net::IpAddr::V6(v6) => context.update(&v6.octets()),
        }
        let tag = context.sign();
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&tag.as_ref()[..MAC_LEN]);
        mac
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;
    use crate::client::Transport;

    const LIFETIME: Duration = Duration::from_secs(600);

    fn client(address: &str, transport: Transport) -> Client {
        Client {
            transport,
            server: "192.0.2.9:3478".parse().unwrap(),
            address: address.parse().unwrap(),
        }
    }

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_lifetime() {
        let start = Instant::now();
        let nonces = Nonces::new(&[1; 32], start, LIFETIME, true);
        let mine = client("192.0.2.1:1000", Transport::Udp);
        let nonce = nonces.make(start + Duration::from_secs(10), &mine);
        assert_eq!(nonce.len(), LEN);
        for (at, who, good) in [
            (10, "192.0.2.1:1000", true),
            (609, "192.0.2.1:1000", true),
            (610, "192.0.2.1:1000", false),
            (9, "192.0.2.1:1000", false),
            (11, "192.0.2.1:1001", false),
            (11, "192.0.2.2:1000", false),
            (11, "[2001:db8::1]:1000", false),
        ] {
            let now = start + Duration::from_secs(at);
            let who = client(who, Transport::Udp);
            assert_eq!(nonces.is_valid(now, &who, &nonce), good, "{at} {who:?}");
        }
        let stream = client("192.0.2.1:1000", Transport::Stream);
        assert!(!nonces.is_valid(start, &stream, &nonce));
        let others = Nonces::new(&[2; 32], start, LIFETIME, true);
        assert!(!others.is_valid(start + Duration::from_secs(10), &mine, &nonce));
    }

    #[test]
    fn what_we_did_not_make_is_no_nonce() {
        let now = Instant::now();
        let nonces = Nonces::new(&[1; 32], now, LIFETIME, false);
        let mine = client("192.0.2.1:1000", Transport::Udp);
        let good = nonces.make(now, &mine);
        assert!(nonces.is_valid(now, &mine, &good));
        for n in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[n] = if bad[n] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.is_valid(now, &mine, &String::from_utf8(bad).unwrap()));
            assert!(!nonces.is_valid(now, &mine, &good[..n]));
        }
        assert!(!nonces.is_valid(now, &mine, &format!("{good}A")));
        assert!(!nonces.is_valid(now, &mine, &"ü".repeat(LEN / 2)));
    }

    #[test]
    fn the_feature_bits_stand_where_the_rfc_has_them() {
        let now = Instant::now();
        let mine = client("192.0.2.1:1000", Transport::Udp);
        for (anonymity, bits) in [(false, [0x80, 0, 0]), (true, [0xc0, 0, 0])] {
            let nonce = Nonces::new(&[1; 32], now, LIFETIME, anonymity).make(now, &mine);
            let features = nonce.strip_prefix(COOKIE).unwrap();
            assert_eq!(BASE64.decode(&features[..4]).unwrap(), bits);
        }
    }
}
