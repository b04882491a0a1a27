//! The long-term credential mechanism (RFC 8489 section 9.2.4).
//!
//! In: a request. Out: who sent it, or the answer that it is refused with. Nothing is stored for
//! either: what a client must remember is in its nonce.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::sync::Arc;
use std::time::{Duration, Instant};

use stun_types::attribute::{AttributeStaticType, Nonce, PasswordAlgorithms, Realm};
use stun_types::message::{IntegrityAlgorithm, LongTermKeyCredentials};

use crate::client::Client;
use crate::credentials::Users;
use crate::message::{Code, Incoming, Key, Reply};
use crate::nonce::Nonces;

/// The value of PASSWORD-ALGORITHMS (RFC 8489 section 14.11): SHA-256, without parameters. A client
/// that knows the attribute knows SHA-256; one that does not uses MD5 unasked (section 9.2.4).
const ALGORITHMS: [u8; 4] = [0, 2, 0, 0];

/// Who sent a request.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) username: Arc<str>,
    /// Whose quota it is, and what is revoked.
    pub(crate) account: Arc<str>,
    /// The key is made from it when it is needed: kept ready, it would be half of an allocation.
    password: Arc<str>,
    algorithm: IntegrityAlgorithm,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Passwords are not for logs.
        write!(f, "Identity({})", self.username)
    }
}

/// Why a request is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// It lacks attributes, or they contradict each other: 400.
    Incomplete,
    /// It is not signed, or not by a user we know: 401, with what a client needs to do better.
    Unauthenticated,
    /// Its nonce is not ours or too old: 438, with a new one.
    StaleNonce,
}

#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) users: Users,
    nonces: Nonces,
}

impl Authenticator {
    /// `key` is to be random, and another after each start.
    pub(crate) fn new(users: Users, key: &[u8], now: Instant, nonce_lifetime: Duration) -> Self {
        let nonces = Nonces::new(key, now, nonce_lifetime, users.all_have_hashes());
        Authenticator { users, nonces }
    }

    /// Who sent a request. `known` is who the client's allocation belongs to: they stay known after
    /// their credentials have expired, so that no call ends with them.
    pub(crate) fn verify(
        &self,
        now: Instant,
        unix_now: u64,
        client: &Client,
        request: &Incoming<'_>,
        known: Option<&Identity>,
    ) -> Result<(Identity, Key), Refusal> {
        let fields = &request.fields;
        if !fields.has_integrity {
            return Err(Refusal::Unauthenticated);
        }
        let (Some(realm), Some(nonce)) = (fields.realm, fields.nonce) else {
            return Err(Refusal::Incomplete);
        };
        if fields.username.is_none() && fields.userhash.is_none() {
            return Err(Refusal::Incomplete);
        }
        if !self.nonces.is_valid(now, client, nonce) {
            return Err(Refusal::StaleNonce);
        }
        let algorithm = algorithm(fields.password_algorithms, fields.password_algorithm)?;
        if realm != self.users.realm() {
            return Err(Refusal::Unauthenticated);
        }
        let known = known.filter(|known| {
            known.algorithm == algorithm && fields.username == Some(&*known.username)
        });
        let identity = match known {
            Some(known) => known.clone(),
            None => self
                .look_up(unix_now, request, algorithm)
                .ok_or(Refusal::Unauthenticated)?,
        };
        let key = self.key(&identity);
        match request.is_signed_with(&key.key) {
            true => Ok((identity, key)),
            false => Err(Refusal::Unauthenticated),
        }
    }

    /// What answers to somebody are signed with.
    pub(crate) fn key(&self, identity: &Identity) -> Key {
        let (username, password) = (&identity.username, &identity.password);
        let realm = self.users.realm().to_owned();
        let credentials =
            LongTermKeyCredentials::new(username.to_string(), password.to_string(), realm);
        Key {
            key: credentials.make_key(identity.algorithm),
            algorithm: identity.algorithm,
        }
    }

    fn look_up(
        &self,
        unix_now: u64,
        request: &Incoming<'_>,
        algorithm: IntegrityAlgorithm,
    ) -> Option<Identity> {
        let user = match (request.fields.username, request.fields.userhash) {
            (Some(username), _) => self.users.find(unix_now, username)?,
            (None, Some(hash)) => self.users.find_hashed(unix_now, hash)?,
            (None, None) => return None,
        };
        Some(Identity {
            username: user.username.into(),
            account: user.account.into(),
            password: user.password.as_ref().into(),
            algorithm,
        })
    }

    /// The answer that a request is refused with, unsigned.
    pub(crate) fn refuse(
        &self,
        now: Instant,
        client: &Client,
        request: &Incoming<'_>,
        refusal: Refusal,
    ) -> Option<Vec<u8>> {
        let code = match refusal {
            Refusal::Incomplete => Code::BadRequest,
            Refusal::Unauthenticated => Code::Unauthenticated,
            Refusal::StaleNonce => Code::StaleNonce,
        };
        let reply = Reply::error(request.reply_to(), code);
        let reply = match refusal {
            Refusal::Incomplete => reply,
            Refusal::Unauthenticated | Refusal::StaleNonce => reply
                .bytes(Realm::TYPE, self.users.realm().as_bytes())
                .bytes(Nonce::TYPE, self.nonces.make(now, client).as_bytes())
                .bytes(PasswordAlgorithms::TYPE, &ALGORITHMS),
        };
        reply.finish(None)
    }
}

/// Which algorithm makes the key (RFC 8489 section 9.2.4): MD5 unless the client has chosen.
fn algorithm(offered: Option<&[u8]>, chosen: Option<&[u8]>) -> Result<IntegrityAlgorithm, Refusal> {
    match (offered, chosen) {
        (None, None) => Ok(IntegrityAlgorithm::Sha1),
        (Some(offered), Some(chosen)) if offered == ALGORITHMS && chosen == ALGORITHMS => {
            Ok(IntegrityAlgorithm::Sha256)
        }
        _ => Err(Refusal::Incomplete),
    }
}
