//! An ICE-lite agent (RFC 8445 section 2.5): answers checks, makes none, is always controlled.
//!
//! In: STUN packets and the time. Out: answers, and the two facts the rest of a peer needs: which
//! ways have proven to lead to the client ([`IceLite::is_validated`]), and which of them to send
//! to ([`IceLite::selected`]). Only an authenticated check ever changes either.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use rand::{CryptoRng, Rng};
use stun_types::message::IntegrityKey;

use super::stun::{self, CheckRequest, Nomination};
use crate::way::Way;

pub use super::stun::{BindingRequest, StunDrop, local_ufrag_of, parse_binding_success};

/// Silence after which the client has withdrawn its consent to be sent to (RFC 7675 section 5.1),
/// and the time it has for its first check.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Most ways that count as one client's at a time: every interface of a laptop, twice.
pub const MAX_VALIDATED: usize = 16;

/// Silence of the selected address after which a check from another one moves the selection even
/// without USE-CANDIDATE: some clients nominate once and never again, not even when a NAT gives
/// them a new address. Two of the keepalives such clients send every 2 s.
const SELECTION_SILENCE: Duration = Duration::from_secs(4);

/// Characters of a ufrag that are random: 48 bits, where RFC 8445 section 5.3 asks for 24. Ufrags of
/// thousands of peers must differ, because packets are told apart by them.
const UFRAG_LEN: usize = 8;

/// Characters before them that say which worker has the peer, so that a connection to a port that
/// all workers share finds it: 18 bits, and a worker is a thread of one machine.
const WORKER_LEN: usize = 3;

/// Characters of a password we make: 144 bits, where RFC 8445 section 5.3 asks for 128.
const PWD_LEN: usize = 24;

/// The 64 characters of `ice-char` (RFC 8445 section 5.3).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What one side proves its checks with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The username fragment: 4 to 256 `ice-char`.
    pub ufrag: String,
    /// The password: 22 to 256 `ice-char`.
    pub pwd: String,
}

impl Credentials {
    /// Fresh random credentials.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut text = |len| -> String {
            (0..len)
                .map(|_| char::from(ICE_CHARS[rng.random_range(0..ICE_CHARS.len())]))
                .collect()
        };
        Credentials {
            ufrag: text(UFRAG_LEN),
            pwd: text(PWD_LEN),
        }
    }

    /// Fresh random credentials of a peer on this worker, whom [`worker_of`] finds by them.
    #[must_use]
    pub fn of_worker(worker: usize, rng: &mut impl CryptoRng) -> Self {
        let Credentials { ufrag, pwd } = Credentials::generate(rng);
        let digit = |place: usize| char::from(ICE_CHARS[(worker >> (6 * place)) % ICE_CHARS.len()]);
        let ufrag = (0..WORKER_LEN).map(digit).chain(ufrag.chars()).collect();
        Credentials { ufrag, pwd }
    }
}

/// The worker whose peer has this ufrag of ours. Any client can make one up that names any worker.
#[must_use]
pub fn worker_of(ufrag: &str) -> Option<usize> {
    let digits = ufrag.as_bytes().get(..WORKER_LEN)?;
    let place = |digit| ICE_CHARS.iter().position(|c| c == digit);
    digits
        .iter()
        .rev()
        .try_fold(0, |worker, digit| Some((worker << 6) + place(digit)?))
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// What an authenticated check changed. The default is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// The way it came is validated, and was not before.
    pub is_new: bool,
    /// The way that had to make room for it.
    pub forgotten: Option<Way>,
    /// The way to send from now on, when it is another than before.
    pub selected: Option<Way>,
    /// The first check since an ICE restart: the former credentials are void, so
    /// [`IceLite::local_ufrags`] is shorter.
    pub restarted: bool,
    /// The way is another after a silence, in which nothing has come to the client either.
    pub resumes: bool,
}

/// The client must be sent nothing more: its last check, or the creation of the agent, is
/// [`CONSENT_TIMEOUT`] ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsentLost;

/// The credentials between two ICE restarts.
struct Generation {
    local: Credentials,
    /// `ours:theirs`, as the client's checks must have it.
    username: String,
    key: IntegrityKey,
}

impl Generation {
    fn new(local: Credentials, remote_ufrag: &str) -> Self {
        Generation {
            username: format!("{}:{remote_ufrag}", local.ufrag),
            key: stun::integrity_key(&local.pwd),
            local,
        }
    }
}

#[derive(Clone, Copy)]
struct Validated {
    way: Way,
    last_check: Instant,
    /// What the last check said, if it nominated.
    nomination: Option<Nomination>,
}

/// One client's ICE, from its first offer to its end.
pub struct IceLite {
    current: Generation,
    /// Serves until `current` has had its first check (RFC 8445 section 9).
    previous: Option<Generation>,
    /// At most [`MAX_VALIDATED`].
    validated: Vec<Validated>,
    selected: Option<Way>,
    consent_until: Option<Instant>,
    /// Until when there is consent to send to `selected`.
    selected_until: Option<Instant>,
    avoids_udp: bool,
}

impl IceLite {
    /// An agent that waits for the first check of the client whose ufrag this is.
    #[must_use]
    pub fn new(now: Instant, local: Credentials, remote_ufrag: &str) -> Self {
        IceLite {
            current: Generation::new(local, remote_ufrag),
            previous: None,
            validated: Vec::new(),
            selected: None,
            consent_until: Some(now + CONSENT_TIMEOUT),
            selected_until: None,
            avoids_udp: false,
        }
    }

    /// Takes new credentials (RFC 8445 section 9). The former ones, and the selected address,
    /// serve until the first check with the new ones; that check gets a full
    /// [`CONSENT_TIMEOUT`] to arrive. Further restarts do not give it more, and none is consent to be
    /// sent to.
    pub fn restart(&mut self, now: Instant, local: Credentials, remote_ufrag: &str) {
        let former = std::mem::replace(&mut self.current, Generation::new(local, remote_ufrag));
        // Of two restarts in a row, the first one's credentials have never been in use.
        if self.previous.is_none() {
            self.previous = Some(former);
            self.consent_until = Some(now + CONSENT_TIMEOUT);
        }
    }

    /// Says whether checks over UDP are left without an answer, but for those through our own relay. A
    /// client that prefers UDP leaves it in no other way; of one that is not heard of any more
    /// every check is welcome.
    pub fn set_avoids_udp(&mut self, avoids_udp: bool) {
        self.avoids_udp = avoids_udp;
    }

    /// Our credentials, as the last answer told them.
    #[must_use]
    pub fn local(&self) -> &Credentials {
        &self.current.local
    }

    /// The ufrags whose packets belong here: one, or two during an ICE restart.
    pub fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(|generation| generation.local.ufrag.as_str())
    }

    /// Whether a client that knows our password has sent a check from there.
    #[must_use]
    pub fn is_validated(&self, way: Way) -> bool {
        self.validated.iter().any(|v| v.way == way)
    }

    /// Every validated way.
    pub fn validated(&self) -> impl Iterator<Item = Way> {
        self.validated.iter().map(|v| v.way)
    }

    /// Where to send. `None` before the first check and after consent is lost.
    #[must_use]
    pub fn selected(&self) -> Option<Way> {
        self.selected
    }

    /// Takes a STUN packet. Whatever is in `reply` afterwards goes back to `from`, also when the
    /// packet was dropped: errors that RFC 8489 wants answered are, in fewer bytes than the
    /// request had.
    ///
    /// `is_silent` says that nothing has come from the client for a while. Its check is followed
    /// then, also without USE-CANDIDATE: it nominates another way only when it has given up the old
    /// one, in libwebrtc after five seconds (`CONNECTION_WRITE_CONNECT_TIMEOUT`).
    ///
    /// # Errors
    /// When the packet is not an authenticated check of this client; nothing has changed then.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        from: Way,
        packet: &[u8],
        is_silent: bool,
        reply: &mut Vec<u8>,
    ) -> Result<Checked, StunDrop> {
        reply.clear();
        if self.avoids_udp && !is_silent && matches!(from, Way::Udp(_)) {
            return Err(StunDrop::AvoidedWay);
        }
        let request = CheckRequest::parse(packet)?;
        let is_current = request.username() == self.current.username;
        let generation = if is_current {
            &self.current
        } else {
            self.previous
                .as_ref()
                .filter(|previous| request.username() == previous.username)
                .ok_or(StunDrop::UnknownUsername)?
        };

        let algorithm = request
            .authenticate(&generation.key)
            .inspect_err(|&drop| request.write_error(drop, None, reply))?;
        let integrity = Some((&generation.key, algorithm));
        request
            .acceptable()
            .inspect_err(|&drop| request.write_error(drop, integrity, reply))?;
        request.write_success(from.address(), &generation.key, algorithm, reply);

        let restarted = is_current && self.previous.take().is_some();
        if restarted {
            self.validated.iter_mut().for_each(|v| v.nomination = None);
        }
        let nomination = request.nomination();
        let select = is_silent || self.may_select(now, from, nomination);
        let (is_new, forgotten) = self.validate(now, from, nomination);
        let selected = (select && self.selected != Some(from)).then_some(from);
        self.selected = selected.or(self.selected);
        self.consent_until = Some(now + CONSENT_TIMEOUT);
        self.selected_until = self.consent_until;
        Ok(Checked {
            is_new,
            forgotten,
            selected,
            restarted,
            resumes: is_silent && selected.is_some(),
        })
    }

    /// Notes that a way is no more. The next check may select another, also without USE-CANDIDATE;
    /// until then there is nowhere to send.
    pub fn handle_closed(&mut self, way: Way) {
        self.validated.retain(|v| v.way != way);
        self.selected = self.selected.filter(|selected| *selected != way);
    }

    /// When [`IceLite::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.consent_until, self.selected_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells, once, that the client's consent is lost.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<ConsentLost> {
        if self.selected_until.take_if(|until| now >= *until).is_some() {
            self.selected = None;
        }
        self.consent_until.take_if(|until| now >= *until)?;
        Some(ConsentLost)
    }

    /// Whether a check may select the way it came.
    ///
    /// Without USE-CANDIDATE: before any nomination, and when the selected way has gone silent.
    /// Some clients nominate with every check on every pair (RFC 5245 section 8.1.1.2). Of those the
    /// priority decides, or each check would move the media. A client that decides itself checks a
    /// way first and nominates it later, and does not nominate the former any more (libwebrtc with a
    /// lite server): that is followed at once, whatever the priorities.
    fn may_select(&self, now: Instant, way: Way, nomination: Option<Nomination>) -> bool {
        let Some(selected) = self.selected.and_then(|selected| self.find(selected)) else {
            return true;
        };
        if now.saturating_duration_since(selected.last_check) >= SELECTION_SILENCE {
            return true;
        }
        let Some(new) = nomination else {
            return false;
        };
        let is_left = self.avoids_udp && matches!(selected.way, Way::Udp(_));
        let Some(held) = selected.nomination.filter(|_| !is_left) else {
            return true;
        };
        let before = self.find(way);
        match new.cmp(&held) {
            Ordering::Greater => true,
            // The client's candidate is the same: a NAT has moved it, or shows it as two.
            Ordering::Equal => before.is_none_or(|before| before.nomination.is_none()),
            Ordering::Less => {
                let is_decided = before.is_some_and(|before| before.nomination.is_none());
                is_decided && new.number == held.number
            }
        }
    }

    fn find(&self, way: Way) -> Option<&Validated> {
        self.validated.iter().find(|v| v.way == way)
    }

    /// Notes a check that came by `way`: whether it is new, and which one gave way to it.
    fn validate(
        &mut self,
        now: Instant,
        way: Way,
        nomination: Option<Nomination>,
    ) -> (bool, Option<Way>) {
        if let Some(known) = self.validated.iter_mut().find(|v| v.way == way) {
            known.last_check = now;
            known.nomination = nomination;
            return (false, None);
        }
        let forgotten = if self.validated.len() < MAX_VALIDATED {
            None
        } else {
            self.validated
                .iter()
                .enumerate()
                .filter(|(_, v)| Some(v.way) != self.selected)
                .min_by_key(|(_, v)| v.last_check)
                .map(|(index, _)| index)
                .map(|index| self.validated.swap_remove(index).way)
        };
        self.validated.push(Validated {
            way,
            last_check: now,
            nomination,
        });
        (true, forgotten)
    }
}

#[cfg(test)]
mod tests;
