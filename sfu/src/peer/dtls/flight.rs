//! What we say in one go, again and again until the peer has it (RFC 6347 section 4.2.4).
//!
//! In: messages, the time, and that the peer repeats itself. Out: datagrams.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::DtlsOutput;
use super::error::DtlsError;
use super::reassembly::{HANDSHAKE_HEADER_LEN, append_fragment};
use super::record::{Sender, content, room};

/// First retransmission of a flight; each later one waits twice as long, up to the last. RFC 6347 section
/// 4.2.4.1 allows less than its second and its minute where the use asks for it, and someone waits for this
/// call.
const FIRST_TIMEOUT: Duration = Duration::from_millis(200);
const LAST_TIMEOUT: Duration = Duration::from_secs(3);

/// Retransmissions of a flight. They end 27 s after it, just before
/// [`HANDSHAKE_TIMEOUT`](super::HANDSHAKE_TIMEOUT).
const RETRANSMISSIONS: u32 = 12;

/// Least time from one transmission to the next when the peer repeats itself: it is answered, but
/// the answers are no way to make us flood it.
pub(super) const REPLY_INTERVAL: Duration = Duration::from_millis(100);

/// Smallest piece of a message that is worth being put behind others.
const MIN_PIECE: usize = 64;

enum Part {
    Message {
        epoch: u16,
        kind: u8,
        sequence: u16,
        body: Vec<u8>,
    },
    ChangeCipherSpec,
}

/// A flight, and when it is due again.
#[derive(Default)]
pub(super) struct Flight {
    parts: Vec<Part>,
    sent: Option<Instant>,
    retransmissions: u32,
    due: Option<Instant>,
}

impl Flight {
    pub(super) fn push(&mut self, epoch: u16, kind: u8, sequence: u16, body: Vec<u8>) {
        self.parts.push(Part::Message {
            epoch,
            kind,
            sequence,
            body,
        });
    }

    pub(super) fn push_change_cipher_spec(&mut self) {
        self.parts.push(Part::ChangeCipherSpec);
    }

    /// When it is to be sent again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it has something to say that was not said yet.
    pub(super) fn is_new(&self) -> bool {
        self.sent.is_none() && !self.parts.is_empty()
    }

    /// Sends it for the first time, and again when that is due.
    pub(super) fn send(
        &mut self,
        now: Instant,
        sender: &mut Sender,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        self.transmit(now, sender, out)?;
        self.due = Some(now + FIRST_TIMEOUT);
        Ok(())
    }

    /// Sends it again if that is due.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        sender: &mut Sender,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        if self.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        if self.retransmissions == RETRANSMISSIONS {
            self.due = None;
            return Ok(());
        }
        self.retransmissions += 1;
        self.transmit(now, sender, out)?;
        let doubled = FIRST_TIMEOUT * 2_u32.pow(self.retransmissions);
        self.due = Some(now + doubled.min(LAST_TIMEOUT));
        Ok(())
    }

    /// The peer repeats what this answers, so it is sent again, but not at every call.
    pub(super) fn repeat(
        &mut self,
        now: Instant,
        sender: &mut Sender,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        match self.sent {
            Some(sent) if now >= sent + REPLY_INTERVAL => self.transmit(now, sender, out),
            _ => Ok(()),
        }
    }

    /// Puts as much into each datagram as fits.
    fn transmit(
        &mut self,
        now: Instant,
        sender: &mut Sender,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        self.sent = Some(now);
        let mut datagram = Vec::new();
        let mut flush = |datagram: &mut Vec<u8>| {
            if !datagram.is_empty() {
                out.push_back(DtlsOutput::Packet(std::mem::take(datagram)));
            }
        };
        for part in &self.parts {
            let Part::Message {
                epoch,
                kind,
                sequence,
                body,
            } = part
            else {
                sender.append(0, content::CHANGE_CIPHER_SPEC, &[1], &mut datagram)?;
                continue;
            };
            let mut offset = 0;
            loop {
                let left = body.len() - offset;
                if room(&datagram) < HANDSHAKE_HEADER_LEN + left.min(MIN_PIECE) {
                    flush(&mut datagram);
                }
                let len = left.min(room(&datagram) - HANDSHAKE_HEADER_LEN);
                let mut piece = Vec::with_capacity(HANDSHAKE_HEADER_LEN + len);
                append_fragment(&mut piece, *kind, *sequence, body, offset, len);
                sender.append(*epoch, content::HANDSHAKE, &piece, &mut datagram)?;
                offset += len;
                if offset == body.len() {
                    break;
                }
            }
        }
        flush(&mut datagram);
        Ok(())
    }
}
