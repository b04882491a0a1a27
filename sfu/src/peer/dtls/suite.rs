//! Cipher suites, groups and the key schedule (RFC 5246 sections 6.3 and 8.1, RFC 5289, RFC 7905,
//! RFC 8422).
//!
//! In: what both sides offer and have agreed on. Out: which of it is used, and the secrets.

use aws_lc_rs::aead;
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::digest;
use aws_lc_rs::tls_prf;

use super::error::DtlsError;
use super::record::RecordKey;

/// Bytes of a master secret.
const MASTER_SECRET_LEN: usize = 48;

/// Bytes of the `verify_data` of a Finished message.
const VERIFY_DATA_LEN: usize = 12;

/// How records are sealed, and with which kind of key a server of that suite signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Suite {
    pub(super) number: u16,
    cipher: Cipher,
    /// ECDHE_RSA, and not ECDHE_ECDSA.
    pub(super) is_rsa: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

/// Best first. A server with our ECDSA certificate uses the first three (RFC 8827 section 6.5 wants
/// the first); a client takes what the other's certificate needs.
pub(super) const SUITES: [Suite; 6] = [
    suite(0xc02b, Cipher::Aes128Gcm, false),
    suite(0xc02c, Cipher::Aes256Gcm, false),
    suite(0xcca9, Cipher::ChaCha20Poly1305, false),
    suite(0xc02f, Cipher::Aes128Gcm, true),
    suite(0xc030, Cipher::Aes256Gcm, true),
    suite(0xcca8, Cipher::ChaCha20Poly1305, true),
];

const fn suite(number: u16, cipher: Cipher, is_rsa: bool) -> Suite {
    Suite {
        number,
        cipher,
        is_rsa,
    }
}

impl Suite {
    pub(super) fn aead(self) -> &'static aead::Algorithm {
        match self.cipher {
            Cipher::Aes128Gcm => &aead::AES_128_GCM,
            Cipher::Aes256Gcm => &aead::AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    /// Bytes of the implicit part of a nonce.
    fn iv_len(self) -> usize {
        match self.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => 4,
            Cipher::ChaCha20Poly1305 => 12,
        }
    }

    fn prf(self) -> &'static tls_prf::Algorithm {
        match self.cipher {
            Cipher::Aes256Gcm => &tls_prf::P_SHA384,
            Cipher::Aes128Gcm | Cipher::ChaCha20Poly1305 => &tls_prf::P_SHA256,
        }
    }

    fn hash(self, transcript: &[u8]) -> digest::Digest {
        let algorithm = match self.cipher {
            Cipher::Aes256Gcm => &digest::SHA384,
            Cipher::Aes128Gcm | Cipher::ChaCha20Poly1305 => &digest::SHA256,
        };
        digest::digest(algorithm, transcript)
    }

    fn derive(
        self,
        secret: &[u8],
        label: &str,
        seed: &[u8],
        len: usize,
    ) -> Result<tls_prf::Secret, DtlsError> {
        tls_prf::Secret::new(self.prf(), secret)
            .and_then(|secret| secret.derive(label.as_bytes(), seed, len))
            .map_err(|_| DtlsError::Crypto)
    }
}

/// A group for the exchange of keys (RFC 8422 section 5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Group(pub(super) u16);

/// What a client that names none has (RFC 8422 section 4).
pub(super) const DEFAULT_GROUP: Group = Group(23);

/// Cheapest first: X25519, P-256, P-384, P-521.
pub(super) const GROUPS: [Group; 4] = [Group(29), DEFAULT_GROUP, Group(24), Group(25)];

impl Group {
    fn algorithm(self) -> &'static agreement::Algorithm {
        match self.0 {
            29 => &agreement::X25519,
            24 => &agreement::ECDH_P384,
            25 => &agreement::ECDH_P521,
            _ => &agreement::ECDH_P256,
        }
    }
}

/// Our half of an exchange of keys. It may be tried with several shares of the peer: only one of them
/// is not forged.
pub(super) struct KeyExchange {
    group: Group,
    private: PrivateKey,
    /// What the other side needs of it.
    pub(super) public: Vec<u8>,
}

impl KeyExchange {
    pub(super) fn new(group: Group) -> Result<Self, DtlsError> {
        let private = PrivateKey::generate(group.algorithm()).map_err(|_| DtlsError::Crypto)?;
        let public = private
            .compute_public_key()
            .map_err(|_| DtlsError::Crypto)?
            .as_ref()
            .to_vec();
        Ok(KeyExchange {
            group,
            private,
            public,
        })
    }

    /// Makes something of the premaster secret. Refuses points that are not on the curve, and those
    /// of small order (RFC 8422 section 5.11).
    pub(super) fn agree<T>(
        &self,
        peer: &[u8],
        make: impl FnOnce(&[u8]) -> Result<T, DtlsError>,
    ) -> Result<T, DtlsError> {
        let peer = UnparsedPublicKey::new(self.group.algorithm(), peer);
        let refused = DtlsError::IllegalParameter("key exchange");
        agreement::agree(&self.private, peer, refused, make)
    }
}

/// The random values of both hellos.
#[derive(Clone, Copy, Default)]
pub(super) struct Randoms {
    pub(super) client: [u8; 32],
    pub(super) server: [u8; 32],
}

impl Randoms {
    fn client_first(&self) -> [u8; 64] {
        Self::join(self.client, self.server)
    }

    fn server_first(&self) -> [u8; 64] {
        Self::join(self.server, self.client)
    }

    fn join(first: [u8; 32], second: [u8; 32]) -> [u8; 64] {
        let mut both = [0; 64];
        both[..32].copy_from_slice(&first);
        both[32..].copy_from_slice(&second);
        both
    }
}

/// Which side of an association one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Says hello first; `a=setup:active` in SDP.
    Client,
    /// Waits for that; `a=setup:passive` in SDP.
    Server,
}

/// What everything else follows from.
pub(super) struct Master {
    suite: Suite,
    secret: tls_prf::Secret,
    randoms: Randoms,
}

impl Master {
    /// From the exchange of keys. `session` is the transcript up to the ClientKeyExchange where the
    /// extended master secret was negotiated (RFC 7627).
    pub(super) fn new(
        suite: Suite,
        premaster: &[u8],
        randoms: Randoms,
        session: Option<&[u8]>,
    ) -> Result<Self, DtlsError> {
        let secret = if let Some(transcript) = session {
            let hash = suite.hash(transcript);
            let label = "extended master secret";
            suite.derive(premaster, label, hash.as_ref(), MASTER_SECRET_LEN)
        } else {
            let seed = randoms.client_first();
            suite.derive(premaster, "master secret", &seed, MASTER_SECRET_LEN)
        }?;
        Ok(Master {
            suite,
            secret,
            randoms,
        })
    }

    /// The keys of records, the client's and then the server's.
    pub(super) fn record_keys(&self) -> Result<(RecordKey, RecordKey), DtlsError> {
        let (key, iv) = (self.suite.aead().key_len(), self.suite.iv_len());
        let block = self.derive(
            "key expansion",
            &self.randoms.server_first(),
            2 * (key + iv),
        )?;
        let (keys, ivs) = block.as_ref().split_at(2 * key);
        let ((client_key, server_key), (client_iv, server_iv)) =
            (keys.split_at(key), ivs.split_at(iv));
        Ok((
            RecordKey::new(self.suite, client_key, client_iv)?,
            RecordKey::new(self.suite, server_key, server_iv)?,
        ))
    }

    /// What the Finished message of a side has.
    pub(super) fn verify_data(&self, of: Role, transcript: &[u8]) -> Result<Vec<u8>, DtlsError> {
        let label = match of {
            Role::Client => "client finished",
            Role::Server => "server finished",
        };
        let hash = self.suite.hash(transcript);
        let data = self.derive(label, hash.as_ref(), VERIFY_DATA_LEN)?;
        Ok(data.as_ref().to_vec())
    }

    /// Keying material for SRTP (RFC 5764 section 4.2, RFC 5705).
    pub(super) fn export_srtp(&self, len: usize) -> Result<tls_prf::Secret, DtlsError> {
        self.derive("EXTRACTOR-dtls_srtp", &self.randoms.client_first(), len)
    }

    fn derive(&self, label: &str, seed: &[u8], len: usize) -> Result<tls_prf::Secret, DtlsError> {
        self.suite.derive(self.secret.as_ref(), label, seed, len)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    #[test]
    fn shares_that_give_the_secret_away_are_refused() {
        // RFC 7748 section 6.1: those of small order, of which these are four.
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        let order_8 = [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ];
        let mut cases: Vec<(u16, Vec<u8>)> = [[0; 32], one, minus_one, order_8]
            .map(|share| (29, share.to_vec()))
            .into();
        for (group, coordinate) in [(23, 32), (24, 48), (25, 66)] {
            let point = |fill: u8| [vec![4], vec![fill; 2 * coordinate]].concat();
            // Not on the curve; the point at infinity; nothing; another curve's.
            cases.extend([point(1), point(0), vec![0], vec![], vec![4; 32]].map(|p| (group, p)));
        }
        for (group, share) in cases {
            let ours = KeyExchange::new(Group(group)).unwrap();
            let result = ours.agree(&share, |_| Ok(()));
            let refused = matches!(result, Err(DtlsError::IllegalParameter(_)));
            assert!(refused, "{group} {share:02x?}");
        }
    }
}
