//! An ICE-lite agent (RFC 8445 section 2.5) that asks back: always controlled, it begins no checks, but
//! makes its own by the paths that the client's have come.
//!
//! In: STUN packets, the news that SRTP has authenticated or a handshake is complete, and time. Out:
//! answers and checks, and the two facts the rest of a peer needs: which paths lead to the client
//! ([`IceLite::is_validated`]), and which of them to send to ([`IceLite::selected`]).
//!
//! What selects a path:
//! - The client decides, by nominating, as long as nothing else is known ([`IceLite::handle_stun`]).
//! - Once something has proved the client to be on the path that is selected, and while it is there, another
//!   one has to be answered from before it is (RFC 8445 section 7.3.1.4). The question leaves with the
//!   answer to the first check of a path, so that a client that nominates when it has that answer waits for
//!   nothing.
//! - Who is not there any more is followed to where it has proved to be and its media comes from
//!   ([`IceLite::handle_media`]).
//! - After a silence any check is followed, but what is sent is limited (`pair.rs`).
//!
//! Whoever repeats a check that he has heard is known by its transaction (`seen.rs`).

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use rand::RngCore;
use stun_types::message::IntegrityKey;

use super::stun::{self, CheckAnswer, CheckRequest, Nomination};
use crate::path::Path;

mod credentials;
mod pair;
mod seen;

use pair::{CandidatePair, PING};
use seen::Seen;

pub use super::stun::{BindingRequest, StunDrop, local_ufrag_of, parse_binding_success};
pub use credentials::{Credentials, worker_of};
pub use pair::HOLD;

/// Silence after which the client has withdrawn its consent to be sent to (RFC 7675 section 5.1),
/// and the time it has for its first check.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Most paths that count as one client's at a time: every interface of a laptop, twice.
pub const MAX_VALIDATED: usize = 16;

/// What an authenticated check changed. The default is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// The path it came by is validated, and was not before.
    pub is_new: bool,
    /// The path that had to make room for it.
    pub forgotten: Option<Path>,
    /// The path to send from now on, when it is another than before.
    pub selected: Option<Path>,
    /// The first check since an ICE restart: the former credentials are void, so
    /// [`IceLite::local_ufrags`] is shorter.
    pub restarted: bool,
    /// The path is another after a silence, in which nothing has come to the client either.
    pub resumes: bool,
    /// It was seen by another path before. It counts for nothing, but the client is asked whether it is
    /// here.
    pub is_doubted: bool,
    /// The client sends it again, or somebody does from the client's address: it counts for nothing.
    pub is_repeated: bool,
}

/// The client must be sent nothing more: its last check, or the creation of the agent, is
/// [`CONSENT_TIMEOUT`] ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsentLost;

/// The credentials between two ICE restarts.
struct Generation {
    number: u32,
    local: Credentials,
    /// `ours:theirs`, as the client's checks must have it.
    username: String,
    key: IntegrityKey,
    /// `theirs:ours`, as our checks have it.
    remote_username: String,
    remote_key: IntegrityKey,
}

impl Generation {
    fn new(number: u32, local: Credentials, remote: &Credentials) -> Self {
        Generation {
            number,
            username: format!("{}:{}", local.ufrag, remote.ufrag),
            key: stun::integrity_key(&local.pwd),
            remote_username: format!("{}:{}", remote.ufrag, local.ufrag),
            remote_key: stun::integrity_key(&remote.pwd),
            local,
        }
    }
}

fn generations<'a>(
    current: &'a Generation,
    previous: &'a Option<Generation>,
) -> impl Iterator<Item = &'a Generation> {
    [Some(current), previous.as_ref()].into_iter().flatten()
}

/// The one of that number, if it still serves.
fn numbered<'a>(
    current: &'a Generation,
    previous: &'a Option<Generation>,
    number: u32,
) -> Option<&'a Generation> {
    generations(current, previous).find(|generation| generation.number == number)
}

/// One client's ICE, from its first offer to its end.
pub struct IceLite {
    current: Generation,
    /// Serves until `current` has had its first check (RFC 8445 section 9).
    previous: Option<Generation>,
    /// At most [`MAX_VALIDATED`].
    pairs: Vec<CandidatePair>,
    selected: Option<Path>,
    next_serial: u32,
    seen: Seen,
    /// Where the last datagram of the handshake was sent.
    flights_to: Option<Path>,
    /// Others were sent elsewhere.
    flights_moved: bool,
    /// The handshake is complete: there is something to lose.
    is_connected: bool,
    /// The client has answered a check of ours.
    answers: bool,
    /// When the client has last proved to be anywhere.
    proved: Instant,
    consent_until: Option<Instant>,
    /// Until when there is consent to send to `selected`.
    selected_until: Option<Instant>,
    avoids_udp: bool,
}

impl IceLite {
    /// An agent that waits for the first check of the client whose credentials these are.
    #[must_use]
    pub fn new(now: Instant, local: Credentials, remote: &Credentials) -> Self {
        IceLite {
            current: Generation::new(0, local, remote),
            previous: None,
            pairs: Vec::new(),
            selected: None,
            next_serial: 0,
            seen: Seen::default(),
            flights_to: None,
            flights_moved: false,
            is_connected: false,
            answers: false,
            proved: now,
            consent_until: Some(now + CONSENT_TIMEOUT),
            selected_until: None,
            avoids_udp: false,
        }
    }

    /// Takes new credentials (RFC 8445 section 9). The former ones, and the selected address,
    /// serve until the first check with the new ones; that check gets a full
    /// [`CONSENT_TIMEOUT`] to arrive. Further restarts do not give it more, and none is consent to be
    /// sent to.
    pub fn restart(&mut self, now: Instant, local: Credentials, remote: &Credentials) {
        let next = Generation::new(self.current.number.wrapping_add(1), local, remote);
        let former = std::mem::replace(&mut self.current, next);
        // Of two restarts in a row, the first one's credentials have never been in use.
        if self.previous.is_none() {
            self.previous = Some(former);
            self.consent_until = Some(now + CONSENT_TIMEOUT);
            self.proved = now;
        }
    }

    /// Sets whether checks over UDP are left without an answer, but for those through our own relay. A
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
        generations(&self.current, &self.previous).map(|generation| generation.local.ufrag.as_str())
    }

    /// Whether a client that knows our password has sent a check from there.
    #[must_use]
    pub fn is_validated(&self, path: Path) -> bool {
        self.find(path)
            .is_some_and(|pair| pair.last_check.is_some())
    }

    /// Every validated path.
    pub fn validated(&self) -> impl Iterator<Item = Path> {
        let checked = self.pairs.iter().filter(|pair| pair.last_check.is_some());
        checked.map(|pair| pair.path)
    }

    /// Whether the client has proved a moment ago to be there.
    #[must_use]
    pub fn holds(&self, now: Instant, path: Path) -> bool {
        self.find(path).is_some_and(|pair| pair.is_held(now))
    }

    /// Whether more may be sent to the selected path than what has come from it allows.
    #[must_use]
    pub fn is_selected_proved(&self) -> bool {
        let selected = self.selected.and_then(|selected| self.find(selected));
        selected.is_some_and(CandidatePair::is_unlimited)
    }

    /// Whether a datagram of so many bytes may be sent to a path; it counts as sent then.
    pub fn spend(&mut self, path: Path, len: usize) -> bool {
        self.find_mut(path).is_none_or(|pair| pair.spend(len))
    }

    /// Notes a datagram of so many bytes from a path, of which nothing is known yet.
    pub fn earn(&mut self, path: Path, len: usize) {
        let limited = self.find_mut(path).filter(|pair| !pair.is_unlimited());
        limited.into_iter().for_each(|pair| pair.earn(len));
    }

    /// Where to send. `None` before the first check and after consent is lost.
    #[must_use]
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Takes a STUN packet. Whatever is in `reply` afterwards goes back to `from`, also when the
    /// packet was dropped: errors that RFC 8489 wants answered are, in fewer bytes than the
    /// request had. Poll for checks afterwards.
    ///
    /// `is_silent` says that nothing has come from the client for a while. Its check is followed
    /// then, also without USE-CANDIDATE: it nominates another path only when it has given up the old
    /// one, in libwebrtc after five seconds (`CONNECTION_WRITE_CONNECT_TIMEOUT`).
    ///
    /// # Errors
    /// When the packet is not an authenticated check of this client; nothing has changed then.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        from: Path,
        packet: &[u8],
        is_silent: bool,
        reply: &mut Vec<u8>,
    ) -> Result<Checked, StunDrop> {
        reply.clear();
        if self.avoids_udp && !is_silent && matches!(from, Path::Udp(_)) {
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

        let (transaction, number) = (request.transaction(), generation.number);
        let seen = self.seen.path_of(transaction);
        let known = self.find(from).filter(|pair| pair.last_check.is_some());
        let nomination = request.nomination();
        // libjuice nominates with the transaction of its first check. Nobody else can: the attribute is
        // authenticated.
        let is_own = known.is_some_and(|pair| seen == Some(pair.serial));
        let is_same = is_own && known.is_some_and(|pair| nomination <= pair.nomination);
        let is_trusted = known.is_some_and(|pair| pair.trusted().is_some());
        if let Some(first) = seen.filter(|_| !is_own && !is_trusted) {
            return self.doubt(now, from, first, packet.len(), number);
        }
        request.write_success(from.address(), &generation.key, algorithm, reply);
        if is_same {
            self.earn(from, packet.len());
            return Ok(Checked {
                is_repeated: true,
                ..Checked::default()
            });
        }

        let restarted = is_current && self.previous.take().is_some();
        if restarted {
            self.pairs
                .iter_mut()
                .for_each(|pair| pair.nomination = None);
        }
        let may_select = is_silent || self.may_select(now, from, nomination);
        let (is_new, forgotten) = self.validate(now, from, nomination);
        self.earn(from, packet.len());
        if seen.is_none() {
            let serial = self.find(from).map_or(0, |pair| pair.serial);
            self.seen.note(transaction, serial);
        }
        let is_proved = self.find(from).is_some_and(|pair| pair.proved.is_some());
        let is_free = is_proved || is_silent || self.selected == Some(from) || !self.is_held(now);
        let select = (may_select && is_free) || (is_trusted && !self.is_selected_trusted());
        // Before there is anything to lose nobody is asked anything.
        let is_connected = self.is_connected;
        if let Some(pair) = self.find_mut(from) {
            if may_select && !select {
                pair.wanted = Some(now);
            }
            if (pair.proved.is_none() && is_connected) || pair.is_wanted(now) {
                pair.ask(now, number);
            }
        }
        // Of two paths that a transaction has come, the trusted one is the client's.
        let other = seen.filter(|_| !is_own);
        let was_selected = other.is_some_and(|other| self.distrust(other));
        let selected = (select || was_selected)
            .then(|| self.select(from))
            .flatten();
        self.consent_until = Some(now + CONSENT_TIMEOUT);
        self.selected_until = self.consent_until;
        Ok(Checked {
            is_new,
            forgotten,
            selected,
            restarted,
            resumes: is_silent && selected.is_some(),
            ..Checked::default()
        })
    }

    /// Takes a check that came by another path first, the one with this serial number. If the client has
    /// proved to be there, it is somebody else's now. Otherwise nobody knows which of the two was sent on,
    /// and the client is asked here as well.
    fn doubt(
        &mut self,
        now: Instant,
        from: Path,
        first: u32,
        len: usize,
        generation: u32,
    ) -> Result<Checked, StunDrop> {
        let mut pairs = self.pairs.iter();
        let first = pairs.find(|pair| pair.serial == first);
        if first.is_none_or(|first| first.trusted().is_some()) {
            return Err(StunDrop::Repeated);
        }
        let forgotten = self.remember(from);
        self.earn(from, len);
        if let Some(pair) = self.find_mut(from) {
            pair.wanted = Some(now);
            pair.ask(now, generation);
        }
        Ok(Checked {
            forgotten,
            is_doubted: true,
            ..Checked::default()
        })
    }

    /// Has the client asked whether it is there, whatever it has proved before.
    pub fn ask(&mut self, now: Instant, path: Path) {
        let number = self.current.number;
        let pair = self.find_mut(path);
        pair.into_iter().for_each(|pair| pair.ask(now, number));
    }

    /// A check of ours that is to be sent, and by which path.
    pub fn poll_check(&mut self, now: Instant, rng: &mut impl RngCore) -> Option<(Path, Vec<u8>)> {
        loop {
            let due = |pair: &&mut CandidatePair| pair.next_send().is_some_and(|due| now >= due);
            let pair = self.pairs.iter_mut().find(due)?;
            let Some((transaction, number)) = pair.poll_send(now, rng) else {
                continue;
            };
            let Some(generation) = numbered(&self.current, &self.previous, number) else {
                continue;
            };
            let (username, key) = (&generation.remote_username, &generation.remote_key);
            let check = stun::write_check(username, key, transaction);
            // What does not fit is not asked; the next check earns room for the next question.
            if let Some(check) = check.filter(|check| pair.spend(check.len())) {
                return Some((pair.path, check));
            }
        }
    }

    /// Takes an answer to a check of ours. Returns the path to send from now on, if it is another.
    ///
    /// # Errors
    /// When it is not the client's answer to the last check by this path.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        from: Path,
        packet: &[u8],
    ) -> Result<Option<Path>, StunDrop> {
        let answer = CheckAnswer::parse(packet)?;
        let pair = self.find(from).ok_or(StunDrop::UnexpectedAnswer)?;
        if pair.is_answered(answer.transaction()) {
            return Ok(None);
        }
        let number = pair.answered(answer.transaction());
        let number = number.ok_or(StunDrop::UnexpectedAnswer)?;
        let generation = numbered(&self.current, &self.previous, number);
        let generation = generation.ok_or(StunDrop::UnexpectedAnswer)?;
        answer.authenticate(&generation.remote_key)?;
        self.answers = true;
        self.proved = now;
        let is_wanted = self.find_mut(from).is_some_and(|pair| {
            pair.handle_answer(now);
            pair.is_wanted(now)
        });
        let select = is_wanted && self.selected_until.is_some();
        Ok(select.then(|| self.select(from)).flatten())
    }

    /// Notes that the DTLS handshake is complete: the client has read what it was sent. Unless that went by
    /// several paths, it has proved to be on the selected one. Poll for checks afterwards.
    pub fn handle_handshake(&mut self, now: Instant) {
        self.is_connected = true;
        self.proved = now;
        let read_at = self.flights_to.filter(|_| !self.flights_moved);
        for pair in &mut self.pairs {
            pair.proved = pair.proved.or((Some(pair.path) == read_at).then_some(now));
            // There too, to know whether the client answers.
            pair.ask(now, self.current.number);
        }
    }

    /// Notes that something of the handshake was sent to the selected path.
    pub fn handle_flight(&mut self) {
        self.flights_moved |= self
            .flights_to
            .is_some_and(|path| Some(path) != self.selected);
        self.flights_to = self.selected;
    }

    /// Notes SRTP from there that only the client can have made, just now. That says who has made it, and
    /// where the client is only once it has proved to be there: the address may be forged. Returns the path
    /// to send from now on, if it is another.
    pub fn handle_media(&mut self, now: Instant, from: Path) -> Option<Path> {
        let pair = self.find_mut(from).filter(|pair| pair.proved.is_some())?;
        pair.authenticated = Some(now);
        self.proved = now;
        // Nearly every packet comes by this path.
        if self.selected == Some(from) {
            return None;
        }
        let is_avoided = self.avoids_udp && matches!(from, Path::Udp(_));
        let may_follow = self.selected_until.is_some() && !is_avoided && !self.is_held(now);
        may_follow.then(|| self.select(from)).flatten()
    }

    /// Notes that a path is no more. The next check may select another, also without USE-CANDIDATE;
    /// until then there is nowhere to send.
    pub fn handle_closed(&mut self, path: Path) {
        self.pairs.retain(|pair| pair.path != path);
        self.selected = self.selected.filter(|selected| *selected != path);
    }

    /// When [`IceLite::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let sends = self.pairs.iter().filter_map(CandidatePair::next_send);
        [self.consent_ends(), self.selected_until, self.next_ping()]
            .into_iter()
            .flatten()
            .chain(sends)
            .min()
    }

    /// Tells, once, that the client's consent is lost. Poll for checks afterwards.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<ConsentLost> {
        if self.next_ping().is_some_and(|due| now >= due)
            && let Some(selected) = self.selected
        {
            self.ask(now, selected);
        }
        if self.selected_until.take_if(|until| now >= *until).is_some() {
            self.selected = None;
        }
        if self.consent_ends().is_none_or(|until| now < until) {
            return None;
        }
        (self.consent_until, self.selected_until, self.selected) = (None, None, None);
        self.pairs.clear();
        Some(ConsentLost)
    }

    /// When consent is lost if nothing comes. Checks alone are not consent of one who answers ours:
    /// what was heard can be sent again for ever.
    fn consent_ends(&self) -> Option<Instant> {
        let proof = self.answers.then(|| self.proved + CONSENT_TIMEOUT);
        let checks = self.consent_until?;
        Some(proof.map_or(checks, |proof| proof.min(checks)))
    }

    /// When the client is asked again on the selected path, because nothing else shows that it is there.
    fn next_ping(&self) -> Option<Instant> {
        self.consent_until.filter(|_| self.is_connected)?;
        let selected = self.find(self.selected?)?;
        let since = selected.trusted().max(selected.asked())?;
        selected.next_send().is_none().then(|| since + PING)
    }

    fn select(&mut self, path: Path) -> Option<Path> {
        self.pairs.iter_mut().for_each(|pair| pair.wanted = None);
        let is_other = self.selected.replace(path) != Some(path);
        is_other.then_some(path)
    }

    /// Has the path with this serial number count for nothing, which has sent on what the client has sent by
    /// a path where it has proved to be. Says whether it was selected.
    fn distrust(&mut self, serial: u32) -> bool {
        let Some(pair) = self.pairs.iter_mut().find(|pair| pair.serial == serial) else {
            return false;
        };
        (pair.wanted, pair.proved, pair.authenticated) = (None, None, None);
        pair.nomination = None;
        self.selected == Some(pair.path)
    }

    /// Whether the client has ever proved to be where is sent to.
    fn is_selected_trusted(&self) -> bool {
        let selected = self.selected.and_then(|selected| self.find(selected));
        selected.is_some_and(|selected| selected.trusted().is_some())
    }

    /// Whether it has a moment ago.
    fn is_held(&self, now: Instant) -> bool {
        self.selected
            .is_some_and(|selected| self.holds(now, selected))
    }

    /// Whether a check selects the path it came, if the client is there.
    ///
    /// Without USE-CANDIDATE: before any nomination, and when the selected path has gone silent, since
    /// some clients nominate once and never again, not even when a NAT gives them a new address.
    /// Some clients nominate with every check on every pair (RFC 5245 section 8.1.1.2). Of those the
    /// priority decides, or each check would move the media. A client that decides itself checks a
    /// path first and nominates it later, and does not nominate the former any more (libwebrtc with a
    /// lite server): that is followed at once, whatever the priorities.
    fn may_select(&self, now: Instant, path: Path, nomination: Option<Nomination>) -> bool {
        let Some(selected) = self.selected.and_then(|selected| self.find(selected)) else {
            return true;
        };
        let is_silent = |heard| now.saturating_duration_since(heard) >= HOLD;
        if selected.heard().is_none_or(is_silent) {
            return true;
        }
        let Some(new) = nomination else {
            return false;
        };
        let is_left = self.avoids_udp && matches!(selected.path, Path::Udp(_));
        let Some(held) = selected.nomination.filter(|_| !is_left) else {
            return true;
        };
        let before = self.find(path);
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

    fn find(&self, path: Path) -> Option<&CandidatePair> {
        self.pairs.iter().find(|pair| pair.path == path)
    }

    fn find_mut(&mut self, path: Path) -> Option<&mut CandidatePair> {
        self.pairs.iter_mut().find(|pair| pair.path == path)
    }

    /// Notes a check that came by `path`: whether it is new, and which one gave way to it.
    fn validate(
        &mut self,
        now: Instant,
        path: Path,
        nomination: Option<Nomination>,
    ) -> (bool, Option<Path>) {
        let is_new = !self.is_validated(path);
        let forgotten = self.remember(path);
        if let Some(pair) = self.find_mut(path) {
            pair.last_check = Some(now);
            pair.nomination = nomination;
        }
        (is_new, forgotten)
    }

    /// Makes room for a path that is not known. Those that have proved nothing go first, and of them those
    /// that have been silent for longest.
    fn remember(&mut self, path: Path) -> Option<Path> {
        if self.find(path).is_some() {
            return None;
        }
        let forgotten = if self.pairs.len() < MAX_VALIDATED {
            None
        } else {
            let others = self.pairs.iter().enumerate();
            let others = others.filter(|(_, pair)| Some(pair.path) != self.selected);
            others
                .min_by_key(|(_, pair)| (pair.trusted().is_some(), pair.heard()))
                .map(|(index, _)| index)
                .map(|index| self.pairs.swap_remove(index).path)
        };
        self.pairs.push(CandidatePair::new(path, self.next_serial));
        self.next_serial = self.next_serial.wrapping_add(1);
        forgotten
    }
}

#[cfg(test)]
mod tests;
