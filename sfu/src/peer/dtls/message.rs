//! Handshake messages as bytes (RFC 5246 section 7.4, RFC 6347 section 4.3.2, RFC 8422 section 5).
//!
//! In: the body of a message, or what is to be in one. Out: the one from the other.

use super::error::DtlsError;
use super::record::VERSION;
use super::suite::Group;
use crate::srtp::SrtpProfile;

pub(super) mod kind {
    pub(crate) const CLIENT_HELLO: u8 = 1;
    pub(crate) const SERVER_HELLO: u8 = 2;
    pub(crate) const HELLO_VERIFY_REQUEST: u8 = 3;
    pub(crate) const CERTIFICATE: u8 = 11;
    pub(crate) const SERVER_KEY_EXCHANGE: u8 = 12;
    pub(crate) const CERTIFICATE_REQUEST: u8 = 13;
    pub(crate) const SERVER_HELLO_DONE: u8 = 14;
    pub(crate) const CERTIFICATE_VERIFY: u8 = 15;
    pub(crate) const CLIENT_KEY_EXCHANGE: u8 = 16;
    pub(crate) const FINISHED: u8 = 20;
}

mod extension {
    pub(super) const SUPPORTED_GROUPS: u16 = 10;
    pub(super) const EC_POINT_FORMATS: u16 = 11;
    pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(super) const USE_SRTP: u16 = 14;
    pub(super) const EXTENDED_MASTER_SECRET: u16 = 23;
    pub(super) const RENEGOTIATION_INFO: u16 = 0xff01;
}

/// Those that we know of.
const KNOWN_EXTENSIONS: [u16; 6] = [
    extension::SUPPORTED_GROUPS,
    extension::EC_POINT_FORMATS,
    extension::SIGNATURE_ALGORITHMS,
    extension::USE_SRTP,
    extension::EXTENDED_MASTER_SECRET,
    extension::RENEGOTIATION_INFO,
];

/// A cipher suite that stands for an empty `renegotiation_info` (RFC 5746 section 3.3).
const RENEGOTIATION_SCSV: u16 = 0x00ff;

/// Points as they are, not compressed (RFC 8422 section 5.1.2).
const UNCOMPRESSED: u8 = 0;

/// Data as they are (RFC 5246 section 7.4.1.2): the one method that everybody has.
const NO_COMPRESSION: u8 = 0;

/// A curve by its number (RFC 8422 section 5.4).
const NAMED_CURVE: u8 = 3;

/// Kinds of client certificates (RFC 5246 section 7.4.4). Ed25519 counts as ECDSA (RFC 8422
/// section 5.5).
const CERTIFICATE_TYPES: [u8; 2] = [64, 1];

/// Most profiles of a peer named in an error.
const MAX_NAMES: usize = 8;

/// Profiles of DTLS-SRTP with their numbers (RFC 5764 section 4.1.2, RFC 7714 section 14.2), best
/// first: a packet in AES-CM with HMAC-SHA1 costs four times as much as one in AES-GCM.
pub(super) const PROFILES: [(u16, SrtpProfile); 3] = [
    (8, SrtpProfile::Aes256Gcm),
    (7, SrtpProfile::Aes128Gcm),
    (1, SrtpProfile::Aes128CmSha1_80),
];

/// What a peer offers that we may not have, for people.
pub(super) fn profile_names(numbers: &[u16]) -> String {
    // RFC 5764 section 4.1.2, RFC 7714 section 14.2.
    let name = |number: &u16| match number {
        1 => "SRTP_AES128_CM_HMAC_SHA1_80".to_owned(),
        2 => "SRTP_AES128_CM_HMAC_SHA1_32".to_owned(),
        5 => "SRTP_NULL_HMAC_SHA1_80".to_owned(),
        6 => "SRTP_NULL_HMAC_SHA1_32".to_owned(),
        7 => "SRTP_AEAD_AES_128_GCM".to_owned(),
        8 => "SRTP_AEAD_AES_256_GCM".to_owned(),
        other => format!("{other:#06x}"),
    };
    match numbers {
        [] => "none".to_owned(),
        numbers => {
            let names: Vec<String> = numbers.iter().take(MAX_NAMES).map(name).collect();
            names.join(", ")
        }
    }
}

/// Takes fields from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        self.take(LEN)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// What is preceded by its length in one, two or three bytes.
    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let len = self.take(length_bytes)?;
        let len = len
            .iter()
            .fold(0, |len, &byte| len << 8 | usize::from(byte));
        self.take(len)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Numbers of two bytes each.
fn numbers(list: &[u8]) -> Option<Vec<u16>> {
    let (pairs, odd) = list.as_chunks();
    let numbers = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
    odd.is_empty().then(|| numbers.collect())
}

/// Appends `body` after its length in so many bytes.
fn push_vector(out: &mut Vec<u8>, length_bytes: usize, body: &[u8]) {
    let len = (body.len() as u32).to_be_bytes();
    out.extend(len.iter().skip(len.len().saturating_sub(length_bytes)));
    out.extend_from_slice(body);
}

/// Numbers of two bytes after the length of them all.
fn list(numbers: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    let mut out = Vec::new();
    push_vector(&mut out, 2, &bytes);
    out
}

fn push_extension(out: &mut Vec<u8>, number: u16, body: &[u8]) {
    out.extend(number.to_be_bytes());
    push_vector(out, 2, body);
}

/// What extensions of a hello we know of.
#[derive(Default)]
pub(super) struct Extensions {
    /// `None` where the client leaves them to us.
    pub(super) groups: Option<Vec<u16>>,
    pub(super) schemes: Option<Vec<u16>>,
    /// The numbers of SRTP profiles.
    pub(super) profiles: Vec<u16>,
    pub(super) extended_master_secret: bool,
    pub(super) renegotiation_info: bool,
    pub(super) point_formats: bool,
    /// A server wants identifiers of master keys in packets, which no client of ours asks for.
    pub(super) has_mki: bool,
    /// There is one that we do not know of.
    pub(super) has_others: bool,
}

impl Extensions {
    /// Reads the rest of a hello. One that comes twice is malformed (RFC 5246 section 7.4.1.4).
    fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        let mut extensions = Extensions::default();
        // Hellos may end before their extensions.
        if reader.0.is_empty() {
            return Some(extensions);
        }
        let mut list = Reader(reader.vector(2)?);
        reader.end()?;
        let mut seen = [false; KNOWN_EXTENSIONS.len()];
        while !list.0.is_empty() {
            let number = list.u16()?;
            let mut body = Reader(list.vector(2)?);
            let mut known = KNOWN_EXTENSIONS.iter().zip(&mut seen);
            let Some((_, is_seen)) = known.find(|(known, _)| **known == number) else {
                extensions.has_others = true;
                continue;
            };
            if std::mem::replace(is_seen, true) {
                return None;
            }
            match number {
                extension::SUPPORTED_GROUPS => {
                    extensions.groups = Some(numbers(body.vector(2)?)?);
                }
                extension::SIGNATURE_ALGORITHMS => {
                    extensions.schemes = Some(numbers(body.vector(2)?)?);
                }
                extension::USE_SRTP => {
                    extensions.profiles = numbers(body.vector(2)?)?;
                    extensions.has_mki = !body.vector(1)?.is_empty();
                }
                extension::EXTENDED_MASTER_SECRET => extensions.extended_master_secret = true,
                extension::RENEGOTIATION_INFO => {
                    // Nothing was negotiated before (RFC 5746 sections 3.4 and 3.6).
                    body.vector(1)?.is_empty().then_some(())?;
                    extensions.renegotiation_info = true;
                }
                _ => {
                    body.vector(1)?;
                    extensions.point_formats = true;
                }
            }
            body.end()?;
        }
        Some(extensions)
    }
}

/// What a client begins with.
pub(super) struct ClientHello {
    pub(super) random: [u8; 32],
    pub(super) cookie: Vec<u8>,
    pub(super) suites: Vec<u16>,
    pub(super) extensions: Extensions,
}

impl ClientHello {
    pub(super) fn parse(body: &[u8]) -> Result<Self, DtlsError> {
        let mut reader = Reader(body);
        // Minor versions count downward; 1.3 says 1.2 here too.
        match reader.array() {
            Some([major, minor]) if major == VERSION[0] && minor <= VERSION[1] => {}
            Some(_) => return Err(DtlsError::Version),
            None => return Err(DtlsError::Malformed("ClientHello")),
        }
        let parsed = Self::parse_rest(&mut reader);
        parsed.ok_or(DtlsError::Malformed("ClientHello"))
    }

    fn parse_rest(reader: &mut Reader<'_>) -> Option<Self> {
        let random = reader.array()?;
        let _session = reader.vector(1)?;
        let cookie = reader.vector(1)?.to_vec();
        let suites = numbers(reader.vector(2)?)?;
        reader.vector(1)?.contains(&NO_COMPRESSION).then_some(())?;
        let mut extensions = Extensions::parse(reader)?;
        extensions.renegotiation_info |= suites.contains(&RENEGOTIATION_SCSV);
        Some(ClientHello {
            random,
            cookie,
            suites,
            extensions,
        })
    }
}

/// A ClientHello with everything that we know.
pub(super) fn client_hello(
    random: [u8; 32],
    cookie: &[u8],
    suites: &[u16],
    groups: &[u16],
    schemes: &[u16],
) -> Vec<u8> {
    let mut out = Vec::from(VERSION);
    out.extend(random);
    push_vector(&mut out, 1, &[]); // no session to resume
    push_vector(&mut out, 1, cookie);
    out.extend(list(suites));
    push_vector(&mut out, 1, &[NO_COMPRESSION]);

    let mut extensions = Vec::new();
    let mut push = |number, body: &[u8]| push_extension(&mut extensions, number, body);
    push(extension::SUPPORTED_GROUPS, &list(groups));
    push(extension::EC_POINT_FORMATS, &[1, UNCOMPRESSED]);
    push(extension::SIGNATURE_ALGORITHMS, &list(schemes));
    push(
        extension::USE_SRTP,
        &use_srtp(&PROFILES.map(|(number, _)| number)),
    );
    push(extension::EXTENDED_MASTER_SECRET, &[]);
    push(extension::RENEGOTIATION_INFO, &[0]);
    push_vector(&mut out, 2, &extensions);
    out
}

fn use_srtp(profiles: &[u16]) -> Vec<u8> {
    let mut body = list(profiles);
    push_vector(&mut body, 1, &[]); // no MKI
    body
}

pub(super) struct ServerHello {
    pub(super) random: [u8; 32],
    pub(super) suite: u16,
    pub(super) extensions: Extensions,
}

impl ServerHello {
    pub(super) fn parse(body: &[u8]) -> Result<Self, DtlsError> {
        let mut reader = Reader(body);
        match reader.array() {
            Some(VERSION) => {}
            Some(_) => return Err(DtlsError::Version),
            None => return Err(DtlsError::Malformed("ServerHello")),
        }
        let parsed = Self::parse_rest(&mut reader);
        parsed.ok_or(DtlsError::Malformed("ServerHello"))
    }

    fn parse_rest(reader: &mut Reader<'_>) -> Option<Self> {
        let random = reader.array()?;
        let _session = reader.vector(1)?;
        let suite = reader.u16()?;
        (reader.u8()? == NO_COMPRESSION).then_some(())?;
        let extensions = Extensions::parse(reader)?;
        Some(ServerHello {
            random,
            suite,
            extensions,
        })
    }
}

/// A ServerHello. An extension is only for a client that has it (RFC 5246 section 7.4.1.4).
pub(super) fn server_hello(
    random: [u8; 32],
    suite: u16,
    profile: u16,
    client: &Extensions,
) -> Vec<u8> {
    let mut out = Vec::from(VERSION);
    out.extend(random);
    push_vector(&mut out, 1, &[]); // a session that cannot be resumed
    out.extend(suite.to_be_bytes());
    out.push(NO_COMPRESSION);
    let mut extensions = Vec::new();
    let mut push = |number, body: &[u8]| push_extension(&mut extensions, number, body);
    if client.renegotiation_info {
        push(extension::RENEGOTIATION_INFO, &[0]);
    }
    if client.extended_master_secret {
        push(extension::EXTENDED_MASTER_SECRET, &[]);
    }
    if client.point_formats {
        push(extension::EC_POINT_FORMATS, &[1, UNCOMPRESSED]);
    }
    push(extension::USE_SRTP, &use_srtp(&[profile]));
    push_vector(&mut out, 2, &extensions);
    out
}

/// A HelloVerifyRequest, as DTLS 1.0 whatever is spoken later (RFC 6347 section 4.2.1).
pub(super) fn hello_verify_request(cookie: &[u8]) -> Vec<u8> {
    let mut out = vec![0xfe, 0xff];
    push_vector(&mut out, 1, cookie);
    out
}

/// The cookie of a HelloVerifyRequest, whose version says nothing (RFC 6347 section 4.2.1).
pub(super) fn parse_cookie(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(body);
    reader.u16()?;
    let cookie = reader.vector(1)?;
    reader.end()?;
    Some(cookie)
}

pub(super) fn certificate(der: &[u8]) -> Vec<u8> {
    let (mut list, mut out) = (Vec::new(), Vec::new());
    push_vector(&mut list, 3, der);
    push_vector(&mut out, 3, &list);
    out
}

/// The first certificate of a Certificate message, which is the sender's own; the inner `None` when
/// it has none.
pub(super) fn parse_certificate(body: &[u8]) -> Option<Option<&[u8]>> {
    let mut reader = Reader(body);
    let mut list = Reader(reader.vector(3)?);
    reader.end()?;
    if list.0.is_empty() {
        return Some(None);
    }
    list.vector(3).map(Some)
}

/// The share of a server, as its signature has it.
pub(super) fn server_share(group: Group, public: &[u8]) -> Vec<u8> {
    let mut out = vec![NAMED_CURVE];
    out.extend(group.0.to_be_bytes());
    push_vector(&mut out, 1, public);
    out
}

/// A share with its signature: a ServerKeyExchange.
pub(super) fn server_key_exchange(share: &[u8], scheme: u16, signed: &[u8]) -> Vec<u8> {
    let mut out = share.to_vec();
    out.extend(signature(scheme, signed));
    out
}

/// What a server sends of its exchange of keys.
pub(super) struct ServerKeyExchange<'a> {
    pub(super) group: u16,
    pub(super) public: &'a [u8],
    /// All that is signed.
    pub(super) share: &'a [u8],
    /// The scheme and the signature.
    pub(super) signature: (u16, &'a [u8]),
}

impl<'a> ServerKeyExchange<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        (reader.u8()? == NAMED_CURVE).then_some(())?;
        let group = reader.u16()?;
        let public = reader.vector(1)?;
        let share = body.get(..body.len() - reader.0.len())?;
        Some(ServerKeyExchange {
            group,
            public,
            share,
            signature: parse_signature(reader.0)?,
        })
    }
}

/// A CertificateRequest for a certificate of any issuer.
pub(super) fn certificate_request(schemes: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    push_vector(&mut out, 1, &CERTIFICATE_TYPES);
    out.extend(list(schemes));
    push_vector(&mut out, 2, &[]);
    out
}

/// The signatures that a server verifies, out of its CertificateRequest.
pub(super) fn parse_certificate_request(body: &[u8]) -> Option<Vec<u16>> {
    let mut reader = Reader(body);
    let _types = reader.vector(1)?;
    let schemes = numbers(reader.vector(2)?)?;
    let _issuers = reader.vector(2)?;
    reader.end()?;
    Some(schemes)
}

pub(super) fn client_key_exchange(public: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_vector(&mut out, 1, public);
    out
}

/// The share of a client.
pub(super) fn parse_client_key_exchange(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(body);
    let public = reader.vector(1)?;
    reader.end()?;
    Some(public)
}

/// A CertificateVerify, and the end of a ServerKeyExchange.
pub(super) fn signature(scheme: u16, signed: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(scheme.to_be_bytes());
    push_vector(&mut out, 2, signed);
    out
}

/// The scheme and the signature of a CertificateVerify.
pub(super) fn parse_signature(body: &[u8]) -> Option<(u16, &[u8])> {
    let mut reader = Reader(body);
    let scheme = reader.u16()?;
    let signed = reader.vector(2)?;
    reader.end()?;
    Some((scheme, signed))
}
