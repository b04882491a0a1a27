//! Access tokens beyond `hello`: a session lasts no longer than its token, unless the client gives it
//! another one.
//!
//! In: tokens that have been checked when they came, and time. Out: a warning a while before the end, and
//! then the end.

use std::time::{Duration, Instant};

use super::{Client, Control, SessionKey};
use crate::auth::Access;
use crate::protocol::{ErrorCode, Event, Failure, Renewed, Reply, RequestId, TokenExpires};

/// How long before its end a token is warned of: for a client to ask its application for another one,
/// which may take it several attempts. Of one that lasts less than twice as long, half of what is left.
pub const WARNING: Duration = Duration::from_secs(60);

/// Until when a session's token is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Term {
    ends: Instant,
    /// When the client is to be warned; none once it has been.
    warns: Option<Instant>,
}

impl Term {
    /// That of a token which has just been checked; none if it has no end.
    pub(super) fn of(now: Instant, access: &Access) -> Option<Term> {
        let left = access.expires_in?;
        let ends = now + left;
        let warns = Some(ends - WARNING.min(left / 2));
        Some(Term { ends, warns })
    }

    /// When there is something to be done next.
    pub(super) fn next(&self) -> Instant {
        self.warns.unwrap_or(self.ends)
    }
}

impl Client {
    /// Whether a token is for whom this session is.
    fn is_of(&self, access: &Access) -> bool {
        (&self.access.identity, &self.access.room) == (&access.identity, &access.room)
    }
}

impl Control {
    /// A client gives another token.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        key: SessionKey,
        id: RequestId,
        access: Result<Access, Failure>,
    ) {
        if !self.admit(key, id, "renew") {
            return;
        }
        let expires_in = access.as_ref().ok().and_then(|access| access.expires_in);
        let renewed = access.and_then(|access| self.take_token(now, key, access));
        let reply = match renewed {
            Ok(()) => Reply::Renewed(Renewed {
                expires_in: expires_in.map(|left| left.as_secs()),
            }),
            Err(failure) => Reply::Error(failure),
        };
        self.reply(key, id, reply);
    }

    /// Takes over what another token allows, and until when.
    pub(super) fn take_token(
        &mut self,
        now: Instant,
        key: SessionKey,
        access: Access,
    ) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(&key) else {
            return Ok(());
        };
        if !client.is_of(&access) {
            return Err(Failure::new(
                ErrorCode::NotAllowed,
                "The access token is not for the identity and the room of this session; begin a new one with it.",
            ));
        }
        let grants = access.grants;
        let former = std::mem::replace(&mut client.term, Term::of(now, &access));
        client.access = access;
        if let Some(former) = former {
            self.terms.remove(&(former.next(), key));
        }
        self.terms
            .extend(client.term.map(|term| (term.next(), key)));
        let participant = client.participant;
        if let Some(member) = participant.and_then(|id| self.members.get_mut(&id)) {
            member.grants = grants;
        }
        Ok(())
    }

    /// Warns of tokens that end soon, and ends the sessions of those that have ended. One without a socket
    /// has nobody to warn and does nothing: who comes back to it is asked for a token, and else its grace
    /// ends.
    pub(super) fn look_at_terms(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.terms.first()
            && at <= now
        {
            self.terms.pop_first();
            let client = self.clients.get_mut(&key);
            let Some(client) = client.filter(|client| client.socket.is_some()) else {
                continue;
            };
            // It may have another token since.
            let Some(term) = client.term.as_mut().filter(|term| term.next() <= now) else {
                continue;
            };
            if now >= term.ends {
                let text = "The access token has ended, and no other came.";
                self.close_session(key, ErrorCode::TokenExpired, text, "token_expired");
                continue;
            }
            term.warns = None;
            self.terms.insert((term.ends, key));
            let in_ms = super::millis(term.ends - now);
            self.event_to(key, &Event::TokenExpires(TokenExpires { in_ms }));
        }
    }
}
