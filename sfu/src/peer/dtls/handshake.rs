//! A handshake while it lasts: what a client's and a server's have in common. All of it is freed at
//! the end.
//!
//! In: records. Out: flights, and in the end the SRTP keys and what the association goes on with.
//! `server.rs` and `client.rs` say which message leads to what.
//!
//! Until both sides have agreed on keys nothing is authenticated: whoever knows the peer's address can
//! send from it. So what is wrong is left as if it had not come, and doubted; what contradicts itself
//! is tried again from where we last spoke, since the peer repeats itself. A handshake ends by
//! what is said in the clear only if nothing better comes for [`PATIENCE`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;

use super::DtlsOutput;
use super::certificate::Certificate;
use super::client::Client;
use super::error::{DtlsError, alert};
use super::fingerprint::Fingerprint;
use super::flight::{Flight, REPLY_INTERVAL};
use super::keys::SrtpKeys;
use super::message::{self, ClientHello, kind};
use super::reassembly::{self, Fragment, Message, Reassembly, fragments};
use super::record::{Receiver, Record, Sender, content, records};
use super::server::Server;
use super::suite::Role;
use super::terms::{Outgoing, Terms};

/// Sealed records kept that overtook the messages from which their keys come. A peer's Finished is
/// one, and comes again if it is lost.
const MAX_EARLY_RECORDS: usize = 4;

/// Most bytes in each of them: a Finished message has 61 with all headers, an alert 39.
const MAX_EARLY_LEN: usize = 128;

/// How long a handshake goes on that seems to be in vain. Clients repeat what is lost after a second
/// (RFC 6347 section 4.2.4.1), browsers sooner; and who cannot get in wants to hear of it soon.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How often shares and signatures may be wrong, each of which costs a client's packet and us 0.2 ms.
const MAX_WRONG_PROOFS: u8 = 32;

/// Bytes of a cookie: nobody guesses it.
const COOKIE_LEN: usize = 16;

#[derive(Clone)]
enum Side {
    Client(Client),
    Server(Server),
}

/// What a message leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The next message in the clear.
    Next,
    Agreed,
}

/// Where we last spoke: nothing that has come since is beyond doubt.
struct Checkpoint {
    side: Side,
    /// Bytes of the transcript.
    said: usize,
    /// The message whose turn it was.
    turn: u16,
}

/// Something in the clear that says that the handshake is in vain.
struct Doubt {
    error: DtlsError,
    /// The message that it is about: when that comes and is good, the doubt is over.
    message: u16,
    /// When it is believed; `None` for the end of the handshake's time.
    until: Option<Instant>,
}

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
    checkpoint: Checkpoint,
    doubt: Option<Doubt>,
    wrong_proofs: u8,
    /// What a server asks for once two ClientHellos contradict each other.
    cookie: Option<[u8; COOKIE_LEN]>,
    asked: Option<Instant>,
    /// The ClientHello before the one with a cookie, as the transcript had it.
    first_hello: Option<Vec<u8>>,
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
        let side = match role {
            Role::Client => Side::Client(Client::default()),
            Role::Server => Side::Server(Server::default()),
        };
        Handshake {
            role,
            side: side.clone(),
            terms: Terms::new(ours, peer_fingerprints),
            reassembly: Reassembly::default(),
            outgoing: Outgoing::default(),
            receiver: None,
            early: Vec::new(),
            checkpoint: Checkpoint {
                side,
                said: 0,
                turn: 0,
            },
            doubt: None,
            wrong_proofs: 0,
            cookie: None,
            asked: None,
            first_hello: None,
        }
    }

    /// When [`Handshake::handle_timeout`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let doubt = self.doubt.as_ref().and_then(|doubt| doubt.until);
        self.outgoing.flight.due().into_iter().chain(doubt).min()
    }

    /// Why it has come to nothing, when its time is over.
    pub(super) fn reason(&mut self) -> Option<DtlsError> {
        Some(self.doubt.take()?.error)
    }

    /// Bytes kept of what nobody has vouched for.
    pub(super) fn held(&self) -> usize {
        let early: usize = self.early.iter().map(Vec::len).sum();
        self.reassembly.bytes() + early
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
            self.set_checkpoint();
        }
        Ok(())
    }

    /// Sends a flight again that is due. Gives up when a doubt has lasted.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        let is_believed = |doubt: &mut Doubt| doubt.until.is_some_and(|until| now >= until);
        if let Some(doubt) = self.doubt.take_if(is_believed) {
            return Err(doubt.error);
        }
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
        if self.role == Role::Client && self.outgoing.next == 0 {
            // Nothing can be an answer yet.
            return Ok(None);
        }
        match (record.epoch, record.content_type) {
            (0, content::HANDSHAKE) => {
                for fragment in fragments(record.body) {
                    self.handle_fragment(now, fragment, out)?;
                }
                self.read_messages(now, out)
            }
            (0, content::ALERT) => {
                // Before we have spoken there is nothing to refuse.
                if let Err(error) = end_by_alert(record.body)
                    && self.outgoing.next > 0
                {
                    self.doubt(now, self.reassembly.turn(), error);
                }
                Ok(None)
            }
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

    fn handle_fragment(
        &mut self,
        now: Instant,
        fragment: Fragment<'_>,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        if fragment.sequence >= self.reassembly.turn() {
            self.reassembly.insert(fragment);
            return Ok(());
        }
        match &self.side {
            Side::Server(_)
                if fragment.kind == kind::CLIENT_HELLO
                    && self.receiver.is_none()
                    && !fragment.is_of(&self.terms.transcript) =>
            {
                self.ask_for_cookie(now, out)
            }
            // An answer to our first hello: nobody who asks for a cookie gives one.
            Side::Client(Client::SecondHello) if fragment.kind == kind::SERVER_HELLO => {
                self.go_back_to_first_hello();
                self.reassembly.insert(fragment);
                Ok(())
            }
            // The peer repeats itself, so our last flight is lost.
            _ => {
                let Outgoing { flight, sender, .. } = &mut self.outgoing;
                flight.repeat(now, sender, out)
            }
        }
    }

    /// One of two ClientHellos is forged. Who receives what we send to the client's address can say
    /// which (RFC 6347 section 4.2.1).
    fn ask_for_cookie(
        &mut self,
        now: Instant,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<(), DtlsError> {
        if self.asked.is_some_and(|asked| now < asked + REPLY_INTERVAL) {
            return Ok(());
        }
        self.asked = Some(now);
        let mut fresh = [0; COOKIE_LEN];
        rand::fill(&mut fresh).map_err(|_| DtlsError::Crypto)?;
        let request = message::hello_verify_request(self.cookie.get_or_insert(fresh));
        let (mut message, mut datagram) = (Vec::new(), Vec::new());
        reassembly::append(&mut message, kind::HELLO_VERIFY_REQUEST, 0, &request);
        let sender = &mut self.outgoing.sender;
        sender.append(0, content::HANDSHAKE, &message, &mut datagram)?;
        out.push_back(DtlsOutput::Packet(datagram));
        Ok(())
    }

    /// Whether a message is the ClientHello that a server has asked for.
    fn has_cookie(&self, message: &Message) -> bool {
        let is_second = (message.kind, message.sequence) == (kind::CLIENT_HELLO, 1);
        is_second
            && self.checkpoint.turn == 1
            && self.cookie.is_some_and(|cookie| {
                ClientHello::parse(&message.body).is_ok_and(|hello| hello.cookie == cookie)
            })
    }

    /// Forgets the hello that was answered, and the answer.
    fn begin_with_second_hello(&mut self) {
        self.side = Side::Server(Server::Hello);
        self.terms.transcript.clear();
        self.outgoing.next = 1;
        self.set_checkpoint();
    }

    fn go_back_to_first_hello(&mut self) {
        let Some(hello) = self.first_hello.take() else {
            return;
        };
        self.side = Side::Client(Client::Hello);
        self.terms.transcript = hello;
        self.outgoing.next = 1;
        self.reassembly.rewind(0);
        self.set_checkpoint();
    }

    /// We have spoken: what has come so far is no answer to that.
    fn set_checkpoint(&mut self) {
        self.reassembly.rewind(self.reassembly.turn());
        self.checkpoint = Checkpoint {
            side: self.side.clone(),
            said: self.terms.transcript.len(),
            turn: self.reassembly.turn(),
        };
    }

    /// Notes that the handshake is in vain, if the message is not forged.
    fn doubt(&mut self, now: Instant, message: u16, error: DtlsError) {
        let until = error.is_verdict().then(|| now + PATIENCE);
        let known = self.doubt.as_ref();
        if known.is_none_or(|known| known.until.is_none() && until.is_some()) {
            self.doubt = Some(Doubt {
                error,
                message,
                until,
            });
        }
    }

    /// Leaves a message that is wrong, after which all is as `before`.
    fn reject(
        &mut self,
        now: Instant,
        message: &Message,
        before: (Side, usize),
        error: DtlsError,
    ) -> Result<(), DtlsError> {
        if matches!(error, DtlsError::Crypto) || self.outgoing.flight.is_new() {
            return Err(error);
        }
        let is_proof = matches!(
            error,
            DtlsError::BadSignature(_) | DtlsError::IllegalParameter(_)
        );
        // What it is about may be forged as well.
        if is_proof && self.reassembly.turn() > self.checkpoint.turn {
            self.wrong_proofs += 1;
            if self.wrong_proofs > MAX_WRONG_PROOFS {
                return Err(error);
            }
            self.side = self.checkpoint.side.clone();
            self.terms.transcript.truncate(self.checkpoint.said);
            self.reassembly.rewind(self.checkpoint.turn);
        } else {
            let (side, said) = before;
            self.side = side;
            self.terms.transcript.truncate(said);
        }
        self.doubt(now, message.sequence, error);
        Ok(())
    }

    fn read_messages(
        &mut self,
        now: Instant,
        out: &mut VecDeque<DtlsOutput>,
    ) -> Result<Option<Finished>, DtlsError> {
        while self.receiver.is_none()
            && let Some(message) = self.reassembly.next()
        {
            if self.has_cookie(&message) {
                self.begin_with_second_hello();
            }
            if message.kind == kind::HELLO_VERIFY_REQUEST
                && matches!(self.side, Side::Client(Client::Hello))
            {
                self.first_hello = Some(self.terms.transcript.clone());
            }
            let before = (self.side.clone(), self.terms.transcript.len());
            let (terms, outgoing) = (&mut self.terms, &mut self.outgoing);
            let step = match &mut self.side {
                Side::Client(client) => client.handle(&message, terms, outgoing),
                Side::Server(server) => server.handle(&message, terms, outgoing),
            };
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    self.reject(now, &message, before, error)?;
                    continue;
                }
            };
            self.reassembly.advance();
            self.doubt
                .take_if(|doubt| doubt.message <= message.sequence);
            if self.outgoing.flight.is_new() {
                self.outgoing.send(now, out)?;
                self.set_checkpoint();
            }
            if step == Step::Agreed {
                let (client, server) = self.terms.master()?.record_keys()?;
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
