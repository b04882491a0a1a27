//! One path that a client's checks have come: what has proved that the client is there, and what may be
//! sent to it meanwhile.
//!
//! A check can be sent on by whoever hears it, and from an address that is not its sender's, and so can
//! SRTP. So a path is trusted once the client has read there what we have sent: it has answered a check of
//! ours, or completed a handshake. Until then the path gets three times what has come from it (RFC 9000
//! section 8.1). After that, SRTP that is no replay shows that the client is still there.

use std::time::{Duration, Instant};

use rand::{Rng, RngCore};

use crate::path::{Path, Protocol};
use crate::peer::stun::Nomination;

/// How long a path stays with whoever has authenticated on it, and how long one that is selected may be
/// silent: longer than the time between two checks of ours (`PING`), and an answer.
pub const HOLD: Duration = Duration::from_secs(4);

/// Time after which a path that nothing has authenticated on is asked again.
pub(super) const PING: Duration = Duration::from_millis(2500);

/// How often a check of ours is sent, and when it is first repeated; then after twice as long.
const SENDS: u32 = 3;
const FIRST_REPEAT: Duration = Duration::from_millis(200);

/// How long an answer to a check of ours is waited for, repeated or not.
const PATIENCE: Duration = Duration::from_secs(10);

/// What may be sent for each byte that has come (RFC 9000 section 8.1).
const AMPLIFICATION: usize = 3;

/// Bytes of the headers of IPv4 (RFC 791) and UDP (RFC 768), which count as well.
const HEADERS: usize = 20 + 8;

pub(super) struct CandidatePair {
    pub(super) path: Path,
    /// Tells it from all others that the client has had.
    pub(super) serial: u32,
    /// None of one where nothing has come but what was seen elsewhere before.
    pub(super) last_check: Option<Instant>,
    /// What the last check said, if it nominated.
    pub(super) nomination: Option<Nomination>,
    /// When a check would have selected it, if the client had proved to be there.
    pub(super) wanted: Option<Instant>,
    /// When SRTP last came that only the client can have made, since it has proved to be there.
    pub(super) authenticated: Option<Instant>,
    /// When the client has last read there what we have sent.
    pub(super) proved: Option<Instant>,
    challenge: Option<Challenge>,
    /// The transaction that it has answered: the question is sent several times, and so is the answer.
    answered: Option<u128>,
    /// Bytes that may be sent before anything has authenticated.
    allowance: usize,
}

/// A check of ours.
#[derive(Clone, Copy)]
struct Challenge {
    /// 96 bits; none before it is first sent.
    transaction: Option<u128>,
    /// The credentials it is made with.
    generation: u32,
    since: Instant,
    /// When it was last begun to be sent.
    asked: Instant,
    sent: u32,
    /// When to send it again.
    next: Option<Instant>,
}

impl CandidatePair {
    pub(super) fn new(path: Path, serial: u32) -> Self {
        CandidatePair {
            path,
            serial,
            last_check: None,
            nomination: None,
            wanted: None,
            authenticated: None,
            proved: None,
            challenge: None,
            answered: None,
            allowance: 0,
        }
    }

    /// When the client has last proved to be there.
    pub(super) fn trusted(&self) -> Option<Instant> {
        self.authenticated.max(self.proved)
    }

    /// When the client was last heard of there, proof or not.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.last_check.max(self.trusted())
    }

    /// Whether the client has proved to be there a moment ago.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        is_recent(now, self.trusted())
    }

    /// Whether it is to be selected once the client has proved to be there. Not for long: the client may
    /// want another by then.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        is_recent(now, self.wanted)
    }

    /// Whether as much may be sent as there is. Connections and relays have asked their clients to answer
    /// before they took anything.
    pub(super) fn is_unlimited(&self) -> bool {
        self.trusted().is_some() || !matches!(self.path, Path::Udp(_))
    }

    /// Notes how long a datagram was that came from there.
    pub(super) fn earn(&mut self, len: usize) {
        let earned = AMPLIFICATION * (HEADERS + len);
        self.allowance = self.allowance.saturating_add(earned);
    }

    /// Whether a datagram of this length may be sent there; it counts as sent then.
    pub(super) fn spend(&mut self, len: usize) -> bool {
        let left = match self.is_unlimited() {
            true => Some(self.allowance),
            false => self.allowance.checked_sub(HEADERS + len),
        };
        left.map(|left| self.allowance = left).is_some()
    }

    /// Has the client asked whether it is there.
    pub(super) fn ask(&mut self, now: Instant, generation: u32) {
        let is_open = |challenge: &Challenge| {
            challenge.generation == generation
                && now.saturating_duration_since(challenge.since) < PATIENCE
        };
        let open = self.challenge.take_if(|challenge| is_open(challenge));
        let challenge = open.unwrap_or(Challenge {
            transaction: None,
            generation,
            since: now,
            asked: now,
            sent: 0,
            next: None,
        });
        self.challenge = Some(match challenge.next {
            Some(_) => challenge,
            None => Challenge {
                asked: now,
                sent: 0,
                next: Some(now),
                ..challenge
            },
        });
    }

    /// When the client was last asked, if it has not answered that.
    pub(super) fn asked(&self) -> Option<Instant> {
        self.challenge.map(|challenge| challenge.asked)
    }

    /// When the check is to be sent.
    pub(super) fn next_send(&self) -> Option<Instant> {
        self.challenge?.next
    }

    /// The transaction of the check that is to be sent now, and the credentials it is made with.
    pub(super) fn poll_send(
        &mut self,
        now: Instant,
        rng: &mut impl RngCore,
    ) -> Option<(u128, u32)> {
        // A connection loses nothing.
        let sends = match self.path.protocol() {
            Protocol::Udp => SENDS,
            Protocol::Tcp => 1,
        };
        let challenge = self.challenge.as_mut()?;
        challenge.next.take_if(|due| now >= *due)?;
        let pause = FIRST_REPEAT * (1 << challenge.sent);
        challenge.sent += 1;
        challenge.next = (challenge.sent < sends).then(|| now + pause);
        let transaction = challenge.transaction;
        let transaction = transaction.unwrap_or_else(|| rng.random::<u128>() >> 32);
        challenge.transaction = Some(transaction);
        Some((transaction, challenge.generation))
    }

    /// The credentials of the check that an answer is to, if it is to the last one.
    pub(super) fn answered(&self, transaction: u128) -> Option<u32> {
        let challenge = self.challenge?;
        (challenge.transaction == Some(transaction)).then_some(challenge.generation)
    }

    /// Whether an answer is to what was answered before.
    pub(super) fn is_answered(&self, transaction: u128) -> bool {
        self.answered == Some(transaction)
    }

    /// Notes that the client has answered.
    pub(super) fn handle_answer(&mut self, now: Instant) {
        let challenge = self.challenge.take();
        self.answered = challenge.and_then(|challenge| challenge.transaction);
        self.proved = Some(now);
        self.last_check.get_or_insert(now);
    }
}

/// Whether something was a moment ago.
fn is_recent(now: Instant, at: Option<Instant>) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < HOLD)
}
