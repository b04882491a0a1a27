//! What both sides of a handshake agree on, and what we say of it.
//!
//! In: the peer's certificate, signatures and share, and our own messages. Out: the transcript that both
//! sides must have alike, the master secret, and flights.

use std::collections::VecDeque;
use std::time::Instant;

use super::DtlsOutput;
use super::certificate::Certificate;
use super::error::DtlsError;
use super::fingerprint::Fingerprint;
use super::flight::Flight;
use super::message::{self, kind};
use super::public_key::{ECDSA_SECP256R1_SHA256, PublicKey, SCHEMES};
use super::reassembly::{self, Message};
use super::record::Sender;
use super::suite::{KeyExchange, Master, Randoms, Role, Suite};
use crate::srtp::SrtpProfile;

/// What both sides agree on, as far as they have come.
pub(super) struct Terms {
    pub(super) ours: Certificate,
    peer_fingerprints: Vec<Fingerprint>,
    pub(super) randoms: Randoms,
    pub(super) extended_master_secret: bool,
    pub(super) suite: Option<Suite>,
    pub(super) profile: Option<SrtpProfile>,
    pub(super) key_exchange: Option<KeyExchange>,
    peer_key: Option<PublicKey>,
    master: Option<Master>,
    /// All messages so far, each as if it had come in one fragment.
    pub(super) transcript: Vec<u8>,
}

impl Terms {
    pub(super) fn new(ours: Certificate, peer_fingerprints: Vec<Fingerprint>) -> Self {
        Terms {
            ours,
            peer_fingerprints,
            randoms: Randoms::default(),
            extended_master_secret: false,
            suite: None,
            profile: None,
            key_exchange: None,
            peer_key: None,
            master: None,
            transcript: Vec::new(),
        }
    }

    /// Takes the peer's Certificate message: it must be the one that the SDP names.
    pub(super) fn meet(&mut self, certificate: &Message) -> Result<&PublicKey, DtlsError> {
        let der = message::parse_certificate(&certificate.body)
            .ok_or(DtlsError::Malformed("Certificate"))?
            .ok_or(DtlsError::NoCertificate)?;
        if !self.peer_fingerprints.iter().any(|f| f.matches(der)) {
            return Err(DtlsError::FingerprintMismatch);
        }
        certificate.append_to(&mut self.transcript);
        Ok(self.peer_key.insert(PublicKey::of_certificate(der)?))
    }

    /// Checks that the owner of the peer's certificate has signed `message`.
    pub(super) fn check_signature(
        &self,
        what: &'static str,
        message: &[u8],
        (scheme, signed): (u16, &[u8]),
    ) -> Result<(), DtlsError> {
        let key = self.peer_key.as_ref().ok_or(DtlsError::NoCertificate)?;
        if !SCHEMES.contains(&scheme) {
            return Err(DtlsError::IllegalParameter(what));
        }
        if !key.verifies(scheme, message, signed) {
            return Err(DtlsError::BadSignature(what));
        }
        Ok(())
    }

    /// Takes the other half of the exchange of keys. The transcript must end with the
    /// ClientKeyExchange.
    pub(super) fn agree(&mut self, peer: &[u8]) -> Result<(), DtlsError> {
        let (Some(exchange), Some(suite)) = (&self.key_exchange, self.suite) else {
            return Err(DtlsError::Crypto);
        };
        let session = self
            .extended_master_secret
            .then_some(self.transcript.as_slice());
        let master = exchange.agree(peer, |premaster| {
            Master::new(suite, premaster, self.randoms, session)
        })?;
        self.master = Some(master);
        Ok(())
    }

    pub(super) fn master(&self) -> Result<&Master, DtlsError> {
        self.master.as_ref().ok_or(DtlsError::Crypto)
    }
}

#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) flight: Flight,
    pub(super) sender: Sender,
    /// The number of the next message.
    pub(super) next: u16,
    /// The epoch of the next record: 1 once we have sent ChangeCipherSpec.
    pub(super) epoch: u16,
}

impl Outgoing {
    /// Begins a flight; the last one has been answered.
    pub(super) fn begin(&mut self) {
        self.flight = Flight::default();
    }

    /// Adds a message to the flight, and to what both sides have seen.
    pub(super) fn say(&mut self, terms: &mut Terms, kind: u8, body: Vec<u8>) {
        reassembly::append(&mut terms.transcript, kind, self.next, &body);
        self.flight.push(self.epoch, kind, self.next, body);
        self.next += 1;
    }

    /// Adds our signature of all that was said so far.
    pub(super) fn say_certificate_verify(&mut self, terms: &mut Terms) -> Result<(), DtlsError> {
        let signed = terms.ours.sign(&terms.transcript)?;
        let body = message::signature(ECDSA_SECP256R1_SHA256, &signed);
        self.say(terms, kind::CERTIFICATE_VERIFY, body);
        Ok(())
    }

    /// Adds ChangeCipherSpec, and the first message that is sealed.
    pub(super) fn say_finished(&mut self, terms: &mut Terms, role: Role) -> Result<(), DtlsError> {
        let master = terms.master()?;
        let (client, server) = master.record_keys()?;
        self.sender.set_key(match role {
            Role::Client => client,
            Role::Server => server,
        });
        let body = master.verify_data(role, &terms.transcript)?;
        self.flight.push_change_cipher_spec();
        self.epoch = 1;
        self.say(terms, kind::FINISHED, body);
        Ok(())
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        self.flight.send(now, &mut self.sender, out)
    }
}
