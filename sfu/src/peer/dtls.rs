//! One DTLS 1.2 association, and the SRTP keys it yields (RFC 5764): our face of `dimpl`.
//!
//! In: datagrams from addresses that ICE has validated, and the time. Out: datagrams, and once the
//! peer has proven to own the certificate that its SDP fingerprint names, the SRTP keys. A server
//! is a server here; the client role exists for simulated clients.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dimpl::{Dtls, Output};

use super::srtp::{MasterKey, SrtpProfile};

/// Time from the creation of an endpoint to the end of its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most different handshake fragments of one handshake. Retransmissions do not count. A browser
/// sends seven.
pub const MAX_FRAGMENTS: usize = 64;

/// Most bytes in those fragments. A browser sends about 3 kB.
pub const MAX_HANDSHAKE_BYTES: usize = 64 * 1024;

/// Bytes that the buffer given to [`DtlsEndpoint::poll`] needs to have: the plaintext of the
/// largest record (RFC 6347 section 4.1.1), and more than any certificate of a browser.
pub const POLL_BUFFER_LEN: usize = 16 * 1024;

/// Largest datagram taken during the handshake, in bytes. The engine queues at most
/// [`ENGINE_QUEUE_LEN`] of them, which together stay below [`MAX_HANDSHAKE_BYTES`].
const MAX_HANDSHAKE_DATAGRAM: usize = 2048;

/// Datagrams that the engine queues for reassembly before it gives up.
const ENGINE_QUEUE_LEN: usize = 30;

/// First retransmission of a flight; each later one waits twice as long. RFC 6347 section 4.2.4.1
/// allows less than its second where the use asks for it, and someone waits for this call.
const FLIGHT_RTO: Duration = Duration::from_millis(200);

/// Retransmissions of a flight: with [`FLIGHT_RTO`] they fill [`HANDSHAKE_TIMEOUT`].
const FLIGHT_RETRIES: usize = 7;

/// Bytes of our largest datagram: what any path carries, with room for IPv6, UDP and TURN.
const MTU: usize = 1150;

/// The engine says "idle" by a deadline years away.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an association is over. All are final.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// The peer's certificate is not the one its SDP promised, or it has none.
    #[error("the DTLS certificate matches no a=fingerprint of the peer's SDP")]
    FingerprintMismatch,
    /// The peer did not offer a profile of [`SrtpProfile`].
    #[error("the DTLS handshake offered none of the SRTP profiles that this server knows")]
    NoSrtpProfile,
    /// Too slow, or gone.
    #[error("the DTLS handshake did not finish within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    HandshakeTimeout,
    /// More reassembly than any client needs.
    #[error(
        "the DTLS handshake came in more than {MAX_FRAGMENTS} fragments or \
         {MAX_HANDSHAKE_BYTES} bytes"
    )]
    HandshakeTooLarge,
    /// A datagram that no client sends.
    #[error(
        "a DTLS handshake datagram of {0} bytes is over the limit of {MAX_HANDSHAKE_DATAGRAM} bytes"
    )]
    DatagramTooLarge(usize),
    /// The caller's buffer, or the peer's certificate, has the wrong size.
    #[error("a DTLS output of {needed} bytes does not fit the buffer of {given} bytes")]
    OutputTooLarge {
        /// Bytes of the output.
        needed: usize,
        /// Bytes of the buffer.
        given: usize,
    },
    /// We could not make a certificate.
    #[error("cannot generate a DTLS certificate: {0}")]
    Certificate(String),
    /// What the protocol engine says.
    #[error("DTLS failed: {0}")]
    Engine(dimpl::Error),
}

impl From<dimpl::Error> for DtlsError {
    fn from(error: dimpl::Error) -> Self {
        match error {
            dimpl::Error::Timeout(_) => DtlsError::HandshakeTimeout,
            other => DtlsError::Engine(other),
        }
    }
}

/// A hash function of `a=fingerprint` (RFC 8122 section 5) that we accept. SHA-1 and MD5 are not
/// among them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn digest(self, der: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, der)
    }
}

/// The value of an `a=fingerprint` attribute: which certificate a peer will show.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fingerprint {
    hash: Hash,
    digest: Vec<u8>,
}

impl Fingerprint {
    fn matches(&self, der: &[u8]) -> bool {
        self.hash.digest(der).as_ref() == self.digest
    }
}

/// The text is not a fingerprint that we can check.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the fingerprint is not `sha-256`, `sha-384` or `sha-512` and its colon-separated digest")]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    /// From `sha-256 4A:AD:…`, as it stands behind `a=fingerprint:`.
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let (name, digest) = text.trim().split_once(' ').ok_or(InvalidFingerprint)?;
        let (hash, len) = match name.to_ascii_lowercase().as_str() {
            "sha-256" => (Hash::Sha256, 32),
            "sha-384" => (Hash::Sha384, 48),
            "sha-512" => (Hash::Sha512, 64),
            _ => return Err(InvalidFingerprint),
        };
        let digest: Vec<u8> = digest
            .trim()
            .split(':')
            .map(|octet| match octet.as_bytes() {
                [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                    u8::from_str_radix(octet, 16).map_err(|_| InvalidFingerprint)
                }
                _ => Err(InvalidFingerprint),
            })
            .collect::<Result<_, _>>()?;
        if digest.len() != len {
            return Err(InvalidFingerprint);
        }
        Ok(Fingerprint { hash, digest })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.hash {
            Hash::Sha256 => "sha-256",
            Hash::Sha384 => "sha-384",
            Hash::Sha512 => "sha-512",
        })?;
        for (i, octet) in self.digest.iter().enumerate() {
            write!(f, "{}{octet:02X}", if i == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

/// Our self-signed ECDSA P-256 certificate with its key: one for all peers of a process. Cheap to
/// clone.
#[derive(Clone)]
pub struct Certificate(Arc<Identity>);

struct Identity {
    certificate: dimpl::DtlsCertificate,
    config: Arc<dimpl::Config>,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// A fresh certificate, valid for a year.
    ///
    /// # Errors
    /// When the cryptographic library cannot make one.
    pub fn generate() -> Result<Self, DtlsError> {
        Self::make(None)
    }

    /// As [`Certificate::generate`], and whatever its endpoints draw by lot follows from the seed,
    /// such as when they send again. For simulations only: what is drawn can be foreseen.
    ///
    /// # Errors
    /// When the cryptographic library cannot make one.
    pub fn generate_seeded(seed: u64) -> Result<Self, DtlsError> {
        Self::make(Some(seed))
    }

    fn make(seed: Option<u64>) -> Result<Self, DtlsError> {
        let certificate = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|e| DtlsError::Certificate(e.to_string()))?;
        let mut config = dimpl::Config::builder();
        if let Some(seed) = seed {
            config = config.dangerously_set_rng_seed(seed);
        }
        let config = config
            .mtu(MTU)
            .max_queue_rx(ENGINE_QUEUE_LEN)
            .flight_start_rto(FLIGHT_RTO)
            .flight_retries(FLIGHT_RETRIES)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .require_client_certificate(true)
            // ICE has authenticated the client's address already; a cookie would only add a round
            // trip to every join.
            .use_server_cookie(false)
            .build()?;
        let fingerprint = Fingerprint {
            hash: Hash::Sha256,
            digest: Hash::Sha256
                .digest(&certificate.certificate)
                .as_ref()
                .to_vec(),
        };
        Ok(Certificate(Arc::new(Identity {
            certificate,
            config: Arc::new(config),
            fingerprint,
        })))
    }

    /// What our SDP says behind `a=fingerprint:`; displays as `sha-256` and the digest.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint())
    }
}

/// The SRTP keys of both directions.
pub struct SrtpKeys {
    /// Which transform they are for.
    pub profile: SrtpProfile,
    local: OwnedKey,
    remote: OwnedKey,
}

struct OwnedKey {
    key: Vec<u8>,
    salt: Vec<u8>,
}

impl From<MasterKey<'_>> for OwnedKey {
    fn from(key: MasterKey<'_>) -> Self {
        OwnedKey {
            key: key.key.to_vec(),
            salt: key.salt.to_vec(),
        }
    }
}

impl SrtpKeys {
    fn new(
        profile: dimpl::SrtpProfile,
        material: &[u8],
        we_are_client: bool,
    ) -> Result<Self, DtlsError> {
        let profile = match profile {
            dimpl::SrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::Aes128CmSha1_80,
            dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::Aes128Gcm,
            dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::Aes256Gcm,
            _ => return Err(DtlsError::NoSrtpProfile),
        };
        let keys = profile
            .split(material)
            .map_err(|_| DtlsError::NoSrtpProfile)?;
        let (local, remote) = if we_are_client {
            (keys.client, keys.server)
        } else {
            (keys.server, keys.client)
        };
        Ok(SrtpKeys {
            profile,
            local: local.into(),
            remote: remote.into(),
        })
    }

    /// Seals what we send.
    #[must_use]
    pub fn local(&self) -> MasterKey<'_> {
        MasterKey {
            key: &self.local.key,
            salt: &self.local.salt,
        }
    }

    /// Opens what the peer sends.
    #[must_use]
    pub fn remote(&self) -> MasterKey<'_> {
        MasterKey {
            key: &self.remote.key,
            salt: &self.remote.salt,
        }
    }
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeys")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// What an endpoint wants done or known.
#[derive(Debug)]
pub enum DtlsOutput<'a> {
    /// To be sent to the selected address.
    Packet(&'a [u8]),
    /// The handshake is complete and the peer is who its SDP says. Comes once.
    Connected(SrtpKeys),
    /// Decrypted data: SCTP, once there are data channels.
    ApplicationData(&'a [u8]),
    /// The peer has closed the association.
    Closed,
}

/// One side of one association.
pub struct DtlsEndpoint {
    engine: Dtls,
    peer_fingerprints: Vec<Fingerprint>,
    phase: Phase,
    /// When `engine` wants to be called, as it said last.
    engine_deadline: Option<Instant>,
}

enum Phase {
    Handshake {
        until: Instant,
        fragments: Fragments,
        /// The peer's certificate is the promised one.
        verified: bool,
        /// The engine has reported the end of the handshake; the keys are its next output.
        finished: bool,
    },
    Connected,
    Over,
}

impl DtlsEndpoint {
    /// The server's side, waiting for a ClientHello. `peer_fingerprints` are all that the peer's
    /// SDP names (RFC 8122 section 5: one match suffices).
    #[must_use]
    pub fn server(now: Instant, ours: &Certificate, peer_fingerprints: Vec<Fingerprint>) -> Self {
        Self::new(now, ours, peer_fingerprints)
    }

    /// The client's side. Its first packet comes out of [`DtlsEndpoint::poll`] after the first
    /// [`DtlsEndpoint::handle_timeout`].
    #[must_use]
    pub fn client(now: Instant, ours: &Certificate, peer_fingerprints: Vec<Fingerprint>) -> Self {
        let mut endpoint = Self::new(now, ours, peer_fingerprints);
        endpoint.engine.set_active(true);
        endpoint.engine_deadline = Some(now);
        endpoint
    }

    fn new(now: Instant, ours: &Certificate, peer_fingerprints: Vec<Fingerprint>) -> Self {
        DtlsEndpoint {
            engine: Dtls::new_12(Arc::clone(&ours.0.config), ours.0.certificate.clone(), now),
            peer_fingerprints,
            phase: Phase::Handshake {
                until: now + HANDSHAKE_TIMEOUT,
                fragments: Fragments::default(),
                verified: false,
                finished: false,
            },
            engine_deadline: None,
        }
    }

    /// Whether the handshake is complete and the association open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Takes a datagram from a validated address. Poll afterwards. Datagrams that are not DTLS,
    /// altered or replayed are dropped without an error.
    ///
    /// # Errors
    /// When the association is over. Later calls do nothing.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) -> Result<(), DtlsError> {
        let admitted = match &mut self.phase {
            Phase::Over => return Ok(()),
            Phase::Connected => Ok(()),
            Phase::Handshake { fragments, .. } => fragments.admit(packet),
        };
        let result = admitted.and_then(|()| {
            // The engine's clock is set by its timeouts.
            self.engine.handle_timeout(now)?;
            self.engine.handle_packet(packet)?;
            Ok(())
        });
        self.over_if_failed(result)
    }

    /// The next thing to do; `None` when there is nothing until the next input. `buffer` should
    /// have [`POLL_BUFFER_LEN`] bytes and may be shared with other endpoints.
    ///
    /// # Errors
    /// When the association is over. Later calls return `None`.
    pub fn poll<'b>(
        &mut self,
        now: Instant,
        buffer: &'b mut [u8],
    ) -> Result<Option<DtlsOutput<'b>>, DtlsError> {
        if matches!(self.phase, Phase::Over) {
            return Ok(None);
        }
        let step = self.advance(now, buffer);
        Ok(match self.over_if_failed(step)? {
            Step::Packet(len) => Some(DtlsOutput::Packet(&buffer[..len])),
            Step::ApplicationData(len) => Some(DtlsOutput::ApplicationData(&buffer[..len])),
            Step::Connected(keys) => Some(DtlsOutput::Connected(keys)),
            Step::Closed => Some(DtlsOutput::Closed),
            Step::Idle => None,
        })
    }

    /// When [`DtlsEndpoint::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Handshake { until, .. } => Some(
                self.engine_deadline
                    .map_or(until, |engine| engine.min(until)),
            ),
            Phase::Connected => self.engine_deadline,
            Phase::Over => None,
        }
    }

    /// Retransmits what is due. Poll afterwards.
    ///
    /// # Errors
    /// When the handshake has taken too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        let result = match self.phase {
            Phase::Over => return Ok(()),
            Phase::Handshake { until, .. } if now >= until => Err(DtlsError::HandshakeTimeout),
            _ => self.engine.handle_timeout(now).map_err(DtlsError::from),
        };
        self.over_if_failed(result)
    }

    /// Tells the peer that this is the end, if there is an association to end. Poll once more for
    /// the packet that does.
    ///
    /// # Errors
    /// When the engine cannot write it.
    pub fn close(&mut self) -> Result<(), DtlsError> {
        if !self.is_connected() {
            self.phase = Phase::Over;
            return Ok(());
        }
        let result = self.engine.close().map_err(DtlsError::from);
        self.over_if_failed(result)
    }

    fn over_if_failed<T>(&mut self, result: Result<T, DtlsError>) -> Result<T, DtlsError> {
        if result.is_err() {
            self.phase = Phase::Over;
        }
        result
    }

    fn advance(&mut self, now: Instant, buffer: &mut [u8]) -> Result<Step, DtlsError> {
        loop {
            let given = buffer.len();
            let output = self.engine.poll_output(buffer);
            if let Phase::Handshake { finished: true, .. } = self.phase
                && !matches!(output, Output::KeyingMaterial(..))
            {
                return Err(DtlsError::NoSrtpProfile);
            }
            match output {
                Output::Packet(packet) => return Ok(Step::Packet(packet.len())),
                Output::PeerCert(der) => {
                    if !self.peer_fingerprints.iter().any(|f| f.matches(der)) {
                        return Err(DtlsError::FingerprintMismatch);
                    }
                    if let Phase::Handshake { verified, .. } = &mut self.phase {
                        *verified = true;
                    }
                }
                Output::Connected => {
                    if let Phase::Handshake { finished, .. } = &mut self.phase {
                        *finished = true;
                    }
                }
                Output::KeyingMaterial(material, profile) => {
                    let Phase::Handshake { verified: true, .. } = self.phase else {
                        return Err(DtlsError::FingerprintMismatch);
                    };
                    let keys = SrtpKeys::new(profile, &material, self.engine.is_active())?;
                    self.phase = Phase::Connected;
                    return Ok(Step::Connected(keys));
                }
                // Nothing that an unverified peer says is for the application.
                Output::ApplicationData(data) if matches!(self.phase, Phase::Connected) => {
                    return Ok(Step::ApplicationData(data.len()));
                }
                Output::CloseNotify => {
                    self.phase = Phase::Over;
                    return Ok(Step::Closed);
                }
                Output::Timeout(deadline) => {
                    self.engine_deadline = Some(deadline).filter(|&at| at < now + IDLE);
                    return Ok(Step::Idle);
                }
                Output::BufferTooSmall { needed } => {
                    return Err(DtlsError::OutputTooLarge { needed, given });
                }
                _ => {}
            }
        }
    }
}

/// [`DtlsOutput`] while the buffer is still borrowed: lengths instead of slices.
enum Step {
    Packet(usize),
    Connected(SrtpKeys),
    ApplicationData(usize),
    Closed,
    Idle,
}

/// Counts what a handshake makes the engine hold.
#[derive(Default)]
struct Fragments {
    /// Message number and offset of each fragment seen, at most [`MAX_FRAGMENTS`].
    seen: Vec<(u16, u32)>,
    bytes: usize,
}

/// Bytes of a record header (RFC 6347 section 4.1).
const RECORD_HEADER_LEN: usize = 13;
/// Bytes of a handshake header (RFC 6347 section 4.2.2).
const HANDSHAKE_HEADER_LEN: usize = 12;
/// Content type of handshake records (RFC 5246 section 6.2.1).
const HANDSHAKE_RECORD: u8 = 22;

impl Fragments {
    /// Whether a datagram stays within the limits; malformed ones do, the engine drops them.
    fn admit(&mut self, datagram: &[u8]) -> Result<(), DtlsError> {
        if datagram.len() > MAX_HANDSHAKE_DATAGRAM {
            return Err(DtlsError::DatagramTooLarge(datagram.len()));
        }
        let mut rest = datagram;
        while let Some((header, body)) = rest.split_at_checked(RECORD_HEADER_LEN) {
            let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let Some((record, next)) = body.split_at_checked(len) else {
                break;
            };
            // Later epochs are encrypted, and hold only the Finished message.
            if header[0] == HANDSHAKE_RECORD && header[3..5] == [0, 0] {
                self.count(record)?;
            }
            rest = next;
        }
        Ok(())
    }

    fn count(&mut self, mut record: &[u8]) -> Result<(), DtlsError> {
        while let Some((header, body)) = record.split_at_checked(HANDSHAKE_HEADER_LEN) {
            let message = u16::from_be_bytes([header[4], header[5]]);
            let offset = u32::from_be_bytes([0, header[6], header[7], header[8]]);
            let len = u32::from_be_bytes([0, header[9], header[10], header[11]]) as usize;
            if !self.seen.contains(&(message, offset)) {
                self.seen.push((message, offset));
                self.bytes += len;
                if self.seen.len() > MAX_FRAGMENTS || self.bytes > MAX_HANDSHAKE_BYTES {
                    return Err(DtlsError::HandshakeTooLarge);
                }
            }
            let Some((_, next)) = body.split_at_checked(len) else {
                break;
            };
            record = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
