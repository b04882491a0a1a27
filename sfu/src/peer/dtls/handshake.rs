//! A handshake while it lasts: what a client's and a server's have in common. All of it is freed at
//! the end.
//!
//! In: records. Out: flights, and in the end the SRTP keys and what the association goes on with.
//! `server.rs` and `client.rs` say which message leads to what.

use std::collections::VecDeque;
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::DtlsOutput;
use super::certificate::Certificate;
use super::client::Client;
use super::error::{DtlsError, alert};
use super::fingerprint::Fingerprint;
use super::flight::Flight;
use super::keys::SrtpKeys;
use super::message::{self, kind};
use super::public_key::{ECDSA_SECP256R1_SHA256, PublicKey, SCHEMES};
use super::reassembly::{self, Message, Reassembly};
use super::record::{Receiver, Record, Sender, content, records};
use super::server::Server;
use super::suite::{KeyExchange, Master, Randoms, Role, Suite};
use crate::peer::srtp::SrtpProfile;

/// Sealed records kept that overtook the messages from which their keys come. A peer's Finished is
/// one, and comes again if it is lost.
const MAX_EARLY_RECORDS: usize = 4;

/// Most bytes in each of them: a Finished message has 61 with all headers, an alert 39.
const MAX_EARLY_LEN: usize = 128;

/// What both sides agree on, as far as they have come.
pub(super) struct Terms {
    pub(super) ours: Certificate,
    peer_fingerprints: Vec<Fingerprint>,
    pub(super) randoms: Randoms,
    pub(super) extended_master_secret: bool,
    pub(super) suite: Option<Suite>,
    pub(super) profile: Option<SrtpProfile>,
    /// Our half, until the peer's comes.
    pub(super) key_exchange: Option<KeyExchange>,
    peer_key: Option<PublicKey>,
    master: Option<Master>,
    /// All messages so far, each as if it had come in one fragment.
    pub(super) transcript: Vec<u8>,
}

impl Terms {
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
        let (Some(exchange), Some(suite)) = (self.key_exchange.take(), self.suite) else {
            return Err(DtlsError::Crypto);
        };
        let premaster = exchange.agree(peer)?;
        let session = self
            .extended_master_secret
            .then_some(self.transcript.as_slice());
        self.master = Some(Master::new(suite, &premaster, self.randoms, session)?);
        Ok(())
    }

    fn master(&self) -> Result<&Master, DtlsError> {
        self.master.as_ref().ok_or(DtlsError::Crypto)
    }
}

/// What we say.
#[derive(Default)]
pub(super) struct Outgoing {
    flight: Flight,
    sender: Sender,
    /// The number of the next message.
    next: u16,
    /// The epoch of the next record: 1 once we have sent ChangeCipherSpec.
    epoch: u16,
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

    fn send(&mut self, now: Instant, out: &mut VecDeque<DtlsOutput>) -> Result<(), DtlsError> {
        self.flight.send(now, &mut self.sender, out)
    }
}

enum Side {
    Client(Client),
    Server(Server),
}

/// What a message leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The next message in the clear.
    Next,
    /// The peer's Finished.
    Agreed,
}

/// A handshake.
pub(super) struct Handshake {
    role: Role,
    side: Side,
    terms: Terms,
    reassembly: Reassembly,
    outgoing: Outgoing,
    /// Once both sides have agreed.
    receiver: Option<Receiver>,
    /// Sealed records that came before that.
    early: Vec<Vec<u8>>,
}

/// What goes on after a handshake.
pub(super) struct Finished {
    pub(super) keys: SrtpKeys,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    /// Ours, if it was the last of all, as a server's is: the peer may have lost it.
    pub(super) last_flight: Option<Flight>,
}

impl Handshake {
    pub(super) fn new(role: Role, ours: Certificate, peer_fingerprints: Vec<Fingerprint>) -> Self {
        Handshake {
            role,
            side: match role {
                Role::Client => Side::Client(Client::default()),
                Role::Server => Side::Server(Server::default()),
            },
            terms: Terms {
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
            },
            reassembly: Reassembly::default(),
            outgoing: Outgoing::default(),
            receiver: None,
            early: Vec::new(),
        }
    }

    /// When [`Handshake::handle_timeout`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.outgoing.flight.due()
    }

    /// Says a client's first words, once.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        if let Side::Client(client) = &self.side
            && self.outgoing.next == 0
        {
            client.begin(&mut self.terms, &mut self.outgoing)?;
            self.outgoing.send(now, out)?;
        }
        Ok(())
    }

    /// Sends a flight again that is due.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        let Outgoing { flight, sender, .. } = &mut self.outgoing;
        flight.handle_timeout(now, sender, out)
    }

    /// Takes a record. Gives what goes on when it was the last of the handshake.
    pub(super) fn handle_record(
        &mut self,
        now: Instant,
        record: &Record<'_>,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<Option<Finished>, DtlsError> {
        match (record.epoch, record.content_type) {
            (0, content::HANDSHAKE) => {
                if self.reassembly.insert(record.body)? {
                    let Outgoing { flight, sender, .. } = &mut self.outgoing;
                    flight.repeat(now, sender, out)?;
                }
                self.read_messages(now, out)
            }
            (0, content::ALERT) => end_by_alert(record.body).map(|()| None),
            (1, _) if self.receiver.is_some() => self.handle_sealed(now, record, out),
            (1, _) => {
                if self.early.len() < MAX_EARLY_RECORDS && record.raw.len() <= MAX_EARLY_LEN {
                    self.early.push(record.raw.to_vec());
                }
                Ok(None)
            }
            // ChangeCipherSpec says nothing that the epoch of the next record does not say.
            _ => Ok(None),
        }
    }

    fn read_messages(
        &mut self,
        now: Instant,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<Option<Finished>, DtlsError> {
        while self.receiver.is_none()
            && let Some(message) = self.reassembly.next()
        {
            let (terms, outgoing) = (&mut self.terms, &mut self.outgoing);
            let step = match &mut self.side {
                Side::Client(client) => client.handle(&message, terms, outgoing),
                Side::Server(server) => server.handle(&message, terms, outgoing),
            }?;
            if outgoing.flight.is_new() {
                outgoing.send(now, out)?;
            }
            if step == Step::Agreed {
                let (client, server) = terms.master()?.record_keys()?;
                self.receiver = Some(Receiver::new(match self.role {
                    Role::Client => server,
                    Role::Server => client,
                }));
                return self.read_early(now, out);
            }
        }
        Ok(None)
    }

    fn read_early(
        &mut self,
        now: Instant,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<Option<Finished>, DtlsError> {
        for early in std::mem::take(&mut self.early) {
            for record in records(&early) {
                if let Some(finished) = self.handle_sealed(now, &record, out)? {
                    return Ok(Some(finished));
                }
            }
        }
        Ok(None)
    }

    fn handle_sealed(
        &mut self,
        now: Instant,
        record: &Record<'_>,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<Option<Finished>, DtlsError> {
        let Some(body) = self.receiver.as_mut().and_then(|r| r.open(record)) else {
            return Ok(None);
        };
        match record.content_type {
            content::ALERT => end_by_alert(&body).map(|()| None),
            content::HANDSHAKE => self.handle_finished(now, &body, out),
            _ => Ok(None),
        }
    }

    /// Compares the peer's Finished with the one that we expect, byte for byte.
    fn handle_finished(
        &mut self,
        now: Instant,
        body: &[u8],
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<Option<Finished>, DtlsError> {
        let peer = match self.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        let expected = Message {
            kind: kind::FINISHED,
            sequence: self.reassembly.turn(),
            body: self
                .terms
                .master()?
                .verify_data(peer, &self.terms.transcript)?,
        };
        let mut whole = Vec::new();
        expected.append_to(&mut whole);
        verify_slices_are_equal(&whole, body).map_err(|_| DtlsError::BadFinished)?;
        expected.append_to(&mut self.terms.transcript);

        let last_flight = match self.role {
            Role::Client => None,
            Role::Server => {
                self.outgoing.begin();
                self.outgoing.say_finished(&mut self.terms, self.role)?;
                self.outgoing.send(now, out)?;
                Some(std::mem::take(&mut self.outgoing.flight))
            }
        };
        let (Some(profile), Some(receiver)) = (self.terms.profile, self.receiver.take()) else {
            return Err(DtlsError::Crypto);
        };
        Ok(Some(Finished {
            keys: SrtpKeys::new(profile, self.terms.master()?, self.role)?,
            sender: std::mem::take(&mut self.outgoing.sender),
            receiver,
            last_flight,
        }))
    }

    /// The datagram that tells the peer why it is over.
    pub(super) fn refuse(&mut self, number: u8) -> Option<Vec<u8>> {
        let epoch = self.outgoing.epoch;
        self.outgoing.sender.alert(epoch, alert::FATAL, number).ok()
    }
}

fn end_by_alert(body: &[u8]) -> Result<(), DtlsError> {
    alert::that_ends(body).map_or(Ok(()), |alert| Err(DtlsError::PeerAlert(alert)))
}
