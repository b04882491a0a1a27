//! One DTLS 1.2 association (RFC 6347), and the SRTP keys it yields (RFC 5764).
//!
//! In: datagrams from addresses that ICE has validated, and the time. Out: datagrams, and once the
//! peer has proven to own the certificate that its SDP fingerprint names, the SRTP keys. The
//! primitives are those of `aws-lc-rs`; the protocol is ours, for what WebRTC needs of it:
//! - `server.rs` and `client.rs` say which message leads to what, `handshake.rs` what they share, and
//!   what is forged; `terms.rs` is what was agreed on and said so far
//! - `message.rs` is the messages as bytes, `suite.rs` ciphers, groups and the key schedule,
//!   `public_key.rs` the peer's key and its signatures
//! - `record.rs` seals and opens, `reassembly.rs` puts messages together, `flight.rs` repeats ours
//!
//! Left out for good: renegotiation, resumption, compression, ciphers without AEAD.

mod certificate;
mod client;
mod error;
mod fingerprint;
mod flight;
mod handshake;
mod keys;
mod message;
mod public_key;
mod reassembly;
mod record;
mod server;
mod suite;
mod terms;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use error::alert;
use flight::Flight;
use handshake::{Finished, Handshake};
use record::{Receiver, Record, Sender, content, records};

pub use certificate::Certificate;
pub use error::DtlsError;
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use keys::SrtpKeys;
pub use reassembly::{MAX_FRAGMENTS, MAX_HANDSHAKE_BYTES};
pub use suite::Role;

/// Time from the creation of an endpoint to the end of its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest datagram taken during the handshake, in bytes: others are left.
const MAX_HANDSHAKE_DATAGRAM: usize = 2048;

/// What an endpoint wants done or known.
#[derive(Debug)]
pub enum DtlsOutput {
    /// To be sent to the selected address.
    Packet(Vec<u8>),
    /// The handshake is complete and the peer is who its SDP says. Comes once.
    Connected(SrtpKeys),
    /// Decrypted data: SCTP, once there are data channels.
    ApplicationData(Vec<u8>),
    /// The peer has closed the association.
    Closed,
}

/// One side of one association.
pub struct DtlsEndpoint {
    phase: Phase,
    outputs: VecDeque<DtlsOutput>,
}

enum Phase {
    Handshake {
        until: Instant,
        handshake: Box<Handshake>,
    },
    Connected(Box<Association>),
    Over,
}

/// What is left when the handshake is done.
struct Association {
    sender: Sender,
    receiver: Receiver,
    last_flight: Option<Flight>,
}

impl DtlsEndpoint {
    /// One side. A server waits for a ClientHello, a client for [`DtlsEndpoint::begin`].
    /// `peer_fingerprints` are all that the peer's SDP names (RFC 8122 section 5: one match
    /// suffices).
    #[must_use]
    pub fn new(
        now: Instant,
        role: Role,
        ours: &Certificate,
        peer_fingerprints: Vec<Fingerprint>,
    ) -> Self {
        let handshake = Handshake::new(role, ours.clone(), peer_fingerprints);
        DtlsEndpoint {
            phase: Phase::Handshake {
                until: now + HANDSHAKE_TIMEOUT,
                handshake: Box::new(handshake),
            },
            outputs: VecDeque::new(),
        }
    }

    /// Whether the handshake is complete and the association open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected(_))
    }

    /// Bytes kept of messages that are not whole or not in turn, during the handshake. At most
    /// [`MAX_HANDSHAKE_BYTES`] and a few sealed records.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.phase {
            Phase::Handshake { handshake, .. } => handshake.held(),
            Phase::Connected(_) | Phase::Over => 0,
        }
    }

    /// Takes a datagram from a validated address. Poll afterwards. Datagrams that are not DTLS,
    /// altered or replayed are dropped without an error, and so is what could be forged: whether that
    /// ends a handshake is seen by [`DtlsEndpoint::handle_timeout`].
    ///
    /// # Errors
    /// When the association is over; there may be an alert to poll for. Later calls do nothing.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) -> Result<(), DtlsError> {
        if matches!(self.phase, Phase::Handshake { .. }) && packet.len() > MAX_HANDSHAKE_DATAGRAM {
            return Ok(());
        }
        for record in records(packet) {
            let result = self.handle_record(now, &record);
            self.over_if_failed(result)?;
        }
        Ok(())
    }

    fn handle_record(&mut self, now: Instant, record: &Record<'_>) -> Result<(), DtlsError> {
        match &mut self.phase {
            Phase::Handshake { handshake, .. } => {
                let finished = handshake.handle_record(now, record, &mut self.outputs)?;
                if let Some(finished) = finished {
                    self.connect(finished);
                }
            }
            Phase::Connected(association) => {
                if association.handle_record(now, record, &mut self.outputs)? {
                    self.outputs.push_back(DtlsOutput::Closed);
                    self.phase = Phase::Over;
                }
            }
            Phase::Over => {}
        }
        Ok(())
    }

    fn connect(&mut self, finished: Finished) {
        self.outputs.push_back(DtlsOutput::Connected(finished.keys));
        self.phase = Phase::Connected(Box::new(Association {
            sender: finished.sender,
            receiver: finished.receiver,
            last_flight: finished.last_flight,
        }));
    }

    /// The next thing to do; `None` when there is nothing until the next input.
    pub fn poll(&mut self) -> Option<DtlsOutput> {
        self.outputs.pop_front()
    }

    /// When [`DtlsEndpoint::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Handshake { until, handshake } => Some(
                handshake
                    .next_deadline()
                    .map_or(*until, |due| due.min(*until)),
            ),
            Phase::Connected(_) | Phase::Over => None,
        }
    }

    /// Has a client say hello, now that there is a path to the peer. Does nothing for a server and
    /// at later calls. Poll afterwards.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn begin(&mut self, now: Instant) -> Result<(), DtlsError> {
        let result = match &mut self.phase {
            Phase::Handshake { handshake, .. } => handshake.begin(now, &mut self.outputs),
            Phase::Connected(_) | Phase::Over => Ok(()),
        };
        self.over_if_failed(result)
    }

    /// Retransmits what is due. Poll afterwards.
    ///
    /// # Errors
    /// When the handshake has taken too long, or cannot succeed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        let result = match &mut self.phase {
            Phase::Handshake { until, handshake } if now >= *until => {
                Err(handshake.reason().unwrap_or(DtlsError::HandshakeTimeout))
            }
            Phase::Handshake { handshake, .. } => handshake.handle_timeout(now, &mut self.outputs),
            Phase::Connected(_) | Phase::Over => Ok(()),
        };
        self.over_if_failed(result)
    }

    /// Tells the peer that this is the end, if there is an association to end. Poll once more for
    /// the packet that does.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn close(&mut self) -> Result<(), DtlsError> {
        if let Phase::Connected(association) = &mut self.phase {
            let goodbye = association
                .sender
                .alert(1, alert::WARNING, alert::CLOSE_NOTIFY)?;
            self.outputs.push_back(DtlsOutput::Packet(goodbye));
        }
        self.phase = Phase::Over;
        Ok(())
    }

    /// Tells the peer of an end that it does not know of.
    fn over_if_failed(&mut self, result: Result<(), DtlsError>) -> Result<(), DtlsError> {
        if let Err(error) = &result {
            if let Phase::Handshake { handshake, .. } = &mut self.phase
                && let Some(packet) = error.alert().and_then(|alert| handshake.refuse(alert))
            {
                self.outputs.push_back(DtlsOutput::Packet(packet));
            }
            self.phase = Phase::Over;
        }
        result
    }
}

impl Association {
    /// Takes a record, of which nothing that is not sealed counts any more. Says whether the peer
    /// has closed.
    fn handle_record(
        &mut self,
        now: Instant,
        record: &Record<'_>,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<bool, DtlsError> {
        let Some(body) = self.receiver.open(record) else {
            return Ok(false);
        };
        match record.content_type {
            content::ALERT => return Ok(alert::that_ends(&body).is_some()),
            content::APPLICATION_DATA => out.push_back(DtlsOutput::ApplicationData(body)),
            // The peer's Finished once more: it has not got ours.
            content::HANDSHAKE => {
                if let Some(flight) = &mut self.last_flight {
                    flight.repeat(now, &mut self.sender, out)?;
                }
            }
            _ => {}
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
