//! The transforms under SRTP: key derivation, AES-GCM, and AES counter mode with HMAC-SHA1.
//!
//! In: a master key, then packets cut into header, body and tag. Out: the body encrypted or
//! decrypted where it lies, the tag written or checked.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::{GCM_TAG_LEN, HMAC_TAG_LEN, MasterKey, RTCP_PREFIX_LEN, SrtpError, SrtpProfile};
use crate::types::Ssrc;

/// Key of HMAC-SHA1, bytes (RFC 3711 section 5.2).
const HMAC_KEY_LEN: usize = 20;

/// Block of AES, bytes.
const BLOCK_LEN: usize = 16;

/// Longest key or salt that is derived, bytes.
const MAX_DERIVED_LEN: usize = 32;

/// Where SSRC and packet index go in a counter block and, two bytes lower, in a GCM nonce
/// (RFC 3711 section 4.1.1, RFC 7714 section 8.1).
const CM_SSRC_OFFSET: usize = 4;
const GCM_SSRC_OFFSET: usize = 2;

/// Which session key is derived (RFC 3711 section 4.3.1 and 4.3.2).
#[derive(Clone, Copy)]
enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// The keys of one direction of a connection.
pub(super) struct SessionKeys {
    pub(super) rtp: Cipher,
    pub(super) rtcp: Cipher,
}

impl SessionKeys {
    /// Derives them with a key derivation rate of 0, so once for the connection's life.
    #[allow(
        clippy::indexing_slicing,
        reason = "keys that are derived are longer than any profile's"
    )]
    pub(super) fn derive(profile: SrtpProfile, master: MasterKey<'_>) -> Result<Self, SrtpError> {
        if master.key.len() != profile.key_len() || master.salt.len() != profile.salt_len() {
            return Err(SrtpError::BadKey);
        }
        let kdf = KeyDerivation::new(profile, master)?;
        let cipher = |encryption, authentication, salt| {
            let key = kdf.derive(encryption)?;
            let salt = kdf.derive(salt)?;
            let mac = kdf.derive(authentication)?;
            Cipher::new(
                profile,
                &key[..profile.key_len()],
                &salt[..profile.salt_len()],
                &mac[..HMAC_KEY_LEN],
            )
        };
        Ok(SessionKeys {
            rtp: cipher(
                Label::RtpEncryption,
                Label::RtpAuthentication,
                Label::RtpSalt,
            )?,
            rtcp: cipher(
                Label::RtcpEncryption,
                Label::RtcpAuthentication,
                Label::RtcpSalt,
            )?,
        })
    }
}

/// The pseudorandom function of RFC 3711 section 4.3.3, with AES-256 as RFC 6188 has it.
struct KeyDerivation {
    key: EncryptingKey,
    /// The master salt, which a GCM profile's shorter one fills from the left.
    salt: [u8; BLOCK_LEN],
}

impl KeyDerivation {
    fn new(profile: SrtpProfile, master: MasterKey<'_>) -> Result<Self, SrtpError> {
        let mut salt = [0; BLOCK_LEN];
        salt.iter_mut().zip(master.salt).for_each(|(s, m)| *s = *m);
        Ok(KeyDerivation {
            key: counter_mode(profile, master.key)?,
            salt,
        })
    }

    /// The first bytes of the key stream; a shorter key or salt is a prefix of it.
    fn derive(&self, label: Label) -> Result<[u8; MAX_DERIVED_LEN], SrtpError> {
        let mut iv = self.salt;
        iv[7] ^= label as u8;
        let mut derived = [0; MAX_DERIVED_LEN];
        apply_key_stream(&self.key, iv, &mut derived)?;
        Ok(derived)
    }
}

fn counter_mode(profile: SrtpProfile, key: &[u8]) -> Result<EncryptingKey, SrtpError> {
    let algorithm = match profile {
        SrtpProfile::Aes128CmSha1_80 | SrtpProfile::Aes128Gcm => &AES_128,
        SrtpProfile::Aes256Gcm => &AES_256,
    };
    UnboundCipherKey::new(algorithm, key)
        .and_then(EncryptingKey::ctr)
        .map_err(|_| SrtpError::BadKey)
}

fn apply_key_stream(
    key: &EncryptingKey,
    iv: [u8; BLOCK_LEN],
    data: &mut [u8],
) -> Result<(), SrtpError> {
    key.less_safe_encrypt(data, EncryptionContext::Iv128(FixedLength::from(iv)))
        .map(|_| ())
        .map_err(|_| SrtpError::Malformed)
}

/// The parts of a packet that are authenticated but not encrypted.
#[derive(Clone, Copy)]
pub(super) enum Framing<'a> {
    /// The header, and the rollover count and sequence number in one 48-bit index.
    Rtp { header: &'a [u8], index: u64 },
    /// The first 8 bytes, and the word that holds the E bit and the 31-bit index.
    Rtcp {
        prefix: &'a [u8; RTCP_PREFIX_LEN],
        index_word: u32,
    },
}

impl Framing<'_> {
    fn header(&self) -> &[u8] {
        match self {
            Framing::Rtp { header, .. } => header,
            Framing::Rtcp { prefix, .. } => &prefix[..],
        }
    }

    /// The 48 bits of the packet index that go into the initialisation vector. SRTCP's 31 bits are
    /// in the same place with zeros above.
    fn index_bytes(&self) -> [u8; 6] {
        let [_, _, index @ ..] = match *self {
            Framing::Rtp { index, .. } => index.to_be_bytes(),
            Framing::Rtcp { index_word, .. } => {
                u64::from(index_word & !super::ENCRYPTED).to_be_bytes()
            }
        };
        index
    }

    /// What the HMAC covers after the packet: the rollover count, or the index word.
    fn mac_suffix(&self) -> [u8; 4] {
        match *self {
            Framing::Rtp { index, .. } => ((index >> 16) as u32).to_be_bytes(),
            Framing::Rtcp { index_word, .. } => index_word.to_be_bytes(),
        }
    }

    /// The salt with SSRC and packet index mixed in.
    fn mix_into<const N: usize>(&self, salt: [u8; N], offset: usize, ssrc: Ssrc) -> [u8; N] {
        let mut iv = salt;
        let id = ssrc.0.to_be_bytes().into_iter().chain(self.index_bytes());
        for (byte, id) in iv[offset..].iter_mut().zip(id) {
            *byte ^= id;
        }
        iv
    }
}

/// One session key with its salt.
#[expect(
    clippy::large_enum_variant,
    reason = "four live per connection, and a box would cost a cache miss per packet"
)]
pub(super) enum Cipher {
    /// AES-GCM (RFC 7714).
    Gcm {
        key: LessSafeKey,
        salt: [u8; NONCE_LEN],
    },
    /// AES counter mode and HMAC-SHA1-80 (RFC 3711 section 4).
    CounterMode {
        key: EncryptingKey,
        salt: [u8; BLOCK_LEN],
        mac: hmac::Key,
    },
}

impl Cipher {
    pub(super) fn new(
        profile: SrtpProfile,
        key: &[u8],
        salt: &[u8],
        mac: &[u8],
    ) -> Result<Self, SrtpError> {
        let gcm = |algorithm| -> Result<Cipher, SrtpError> {
            let key = UnboundKey::new(algorithm, key).map_err(|_| SrtpError::BadKey)?;
            Ok(Cipher::Gcm {
                key: LessSafeKey::new(key),
                salt: salt.try_into().map_err(|_| SrtpError::BadKey)?,
            })
        };
        match profile {
            SrtpProfile::Aes128Gcm => gcm(&AES_128_GCM),
            SrtpProfile::Aes256Gcm => gcm(&AES_256_GCM),
            SrtpProfile::Aes128CmSha1_80 => {
                let mut padded = [0; BLOCK_LEN];
                padded
                    .get_mut(..salt.len())
                    .ok_or(SrtpError::BadKey)?
                    .copy_from_slice(salt);
                Ok(Cipher::CounterMode {
                    key: counter_mode(profile, key)?,
                    salt: padded,
                    mac: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, mac),
                })
            }
        }
    }

    /// Bytes of authentication tag.
    pub(super) fn tag_len(&self) -> usize {
        match self {
            Cipher::Gcm { .. } => GCM_TAG_LEN,
            Cipher::CounterMode { .. } => HMAC_TAG_LEN,
        }
    }

    /// Encrypts `body` and fills `tag`, which must be [`Cipher::tag_len`] long.
    pub(super) fn seal(
        &self,
        ssrc: Ssrc,
        framing: Framing<'_>,
        body: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), SrtpError> {
        match self {
            Cipher::Gcm { key, salt } => {
                let nonce = framing.mix_into(*salt, GCM_SSRC_OFFSET, ssrc);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = with_aad(framing, |aad| {
                    key.seal_in_place_separate_tag(nonce, Aad::from(aad), body)
                });
                // GCM refuses only bodies of gigabytes.
                tag.copy_from_slice(sealed.map_err(|_| SrtpError::Malformed)?.as_ref());
            }
            Cipher::CounterMode { key, salt, mac } => {
                apply_key_stream(key, framing.mix_into(*salt, CM_SSRC_OFFSET, ssrc), body)?;
                tag.copy_from_slice(&authenticate(mac, framing, body)?);
            }
        }
        Ok(())
    }

    /// Checks `tag` and decrypts `body`. On error the body's contents are unspecified.
    pub(super) fn open(
        &self,
        ssrc: Ssrc,
        framing: Framing<'_>,
        body: &mut [u8],
        tag: &[u8],
    ) -> Result<(), SrtpError> {
        match self {
            Cipher::Gcm { key, salt } => {
                let nonce = framing.mix_into(*salt, GCM_SSRC_OFFSET, ssrc);
                let nonce = Nonce::assume_unique_for_key(nonce);
                with_aad(framing, |aad| {
                    key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, body)
                        .map(|_| ())
                })
                .map_err(|_| SrtpError::NotAuthentic)
            }
            Cipher::CounterMode { key, salt, mac } => {
                let wanted = authenticate(mac, framing, body)?;
                verify_slices_are_equal(&wanted, tag).map_err(|_| SrtpError::NotAuthentic)?;
                apply_key_stream(key, framing.mix_into(*salt, CM_SSRC_OFFSET, ssrc), body)
            }
        }
    }
}

/// Hands GCM's associated data to `f`: the RTP header, or the RTCP prefix and the index word
/// (RFC 7714 sections 8.2 and 9.2).
fn with_aad<T>(framing: Framing<'_>, f: impl FnOnce(&[u8]) -> T) -> T {
    match framing {
        Framing::Rtp { header, .. } => f(header),
        Framing::Rtcp { prefix, index_word } => {
            let mut aad = [0; RTCP_PREFIX_LEN + 4];
            aad[..RTCP_PREFIX_LEN].copy_from_slice(prefix);
            aad[RTCP_PREFIX_LEN..].copy_from_slice(&index_word.to_be_bytes());
            f(&aad)
        }
    }
}

fn authenticate(
    mac: &hmac::Key,
    framing: Framing<'_>,
    body: &[u8],
) -> Result<[u8; HMAC_TAG_LEN], SrtpError> {
    let mut context = hmac::Context::with_key(mac);
    context.update(framing.header());
    context.update(body);
    context.update(&framing.mac_suffix());
    let tag = context.sign();
    tag.as_ref()
        .first_chunk()
        .copied()
        .ok_or(SrtpError::Malformed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter_map(|b| (b as char).to_digit(16).map(|d| d as u8))
            .collect();
        digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
    }

    /// RFC 3711 appendix B.3.
    #[test]
    fn session_keys_are_derived_as_the_rfc_derives_them() {
        let kdf = KeyDerivation::new(
            SrtpProfile::Aes128CmSha1_80,
            MasterKey {
                key: &hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
                salt: &hex("0EC675AD498AFEEBB6960B3AABE6"),
            },
        )
        .unwrap();
        let table = [
            (Label::RtpEncryption, "C61E7A93744F39EE10734AFE3FF7A087"),
            (Label::RtpSalt, "30CBBC08863D8C85D49DB34A9AE1"),
            (
                Label::RtpAuthentication,
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4",
            ),
        ];
        for (label, wanted) in table {
            let wanted = hex(wanted);
            assert_eq!(kdf.derive(label).unwrap()[..wanted.len()], wanted);
        }
    }

    /// RFC 3711 appendix B.2, through the packet path: SSRC, rollover count and sequence number 0.
    #[test]
    fn counter_mode_key_stream() {
        let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
        let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
        let cipher = Cipher::new(SrtpProfile::Aes128CmSha1_80, &key, &salt, &[0; 20]).unwrap();
        let mut body = vec![0; 0xff02 * BLOCK_LEN];
        let framing = Framing::Rtp {
            header: &[],
            index: 0,
        };
        cipher
            .seal(Ssrc(0), framing, &mut body, &mut [0; HMAC_TAG_LEN])
            .unwrap();
        let table = [
            (0, "E03EAD0935C95E80E166B16DD92B4EB4"),
            (1, "D23513162B02D0F72A43A2FE4A5F97AB"),
            (2, "41E95B3BB0A2E8DD477901E4FCA894C0"),
            (0xfeff, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
            (0xff00, "362B7C3C6773516318A077D7FC5073AE"),
            (0xff01, "6A2CC3787889374FBEB4C81B17BA6C44"),
        ];
        for (block, wanted) in table {
            assert_eq!(
                body[block * BLOCK_LEN..][..BLOCK_LEN],
                hex(wanted),
                "{block}"
            );
        }
    }

    /// RFC 7714 sections 16.1.1 and 16.2.1, which start from session keys.
    #[test]
    fn gcm_packets() {
        let header = hex("8040f17b 8041f8d3 5501a0b2");
        let plain = b"Gallia est omnis divisa in partes tres";
        let salt = hex("51756964 2070726f 2071756f");
        let table = [
            (
                SrtpProfile::Aes128Gcm,
                "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf \
                 8833",
                "899d7f27 beb16a91 52cf765e e4390cce",
            ),
            (
                SrtpProfile::Aes256Gcm,
                "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 \
                 b87b",
                "7aa3db36 dfffd6b0 f9bb7878 d7a76c13",
            ),
        ];
        for (profile, wanted_body, wanted_tag) in table {
            let key: Vec<u8> = (0..profile.key_len() as u8).collect();
            let cipher = Cipher::new(profile, &key, &salt, &[]).unwrap();
            let framing = Framing::Rtp {
                header: &header,
                index: 0xf17b,
            };
            let (mut body, mut tag) = (plain.to_vec(), [0; GCM_TAG_LEN]);
            let ssrc = Ssrc(0x5501_a0b2);
            cipher.seal(ssrc, framing, &mut body, &mut tag).unwrap();
            assert_eq!(
                (body.clone(), tag.to_vec()),
                (hex(wanted_body), hex(wanted_tag))
            );
            cipher.open(ssrc, framing, &mut body, &tag).unwrap();
            assert_eq!(body, plain);
        }
    }

    /// RFC 7714 section 17.1.
    #[test]
    fn gcm_control_packets() {
        let prefix = hex("81c8000d 4d617273").try_into().unwrap();
        let plain = hex(
            "4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef \
             deadbeef deadbeef deadbeef",
        );
        let key: Vec<u8> = (0..16).collect();
        let salt = hex("51756964 2070726f 2071756f");
        let cipher = Cipher::new(SrtpProfile::Aes128Gcm, &key, &salt, &[]).unwrap();
        let framing = Framing::Rtcp {
            prefix: &prefix,
            index_word: 0x8000_05d4,
        };
        let (mut body, mut tag) = (plain.clone(), [0; GCM_TAG_LEN]);
        let ssrc = Ssrc(0x4d61_7273);
        cipher.seal(ssrc, framing, &mut body, &mut tag).unwrap();
        assert_eq!(
            body,
            hex(
                "63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 \
                 86303ded 0bb9275b"
            )
        );
        assert_eq!(tag.to_vec(), hex("c84aa458 96cf4d2f c5abf872 45d9eade"));
    }
}
