//! What is written to the log of refused access tokens.
//!
//! In: each refusal, with its cause. Out: a line at info for the first of a cause, and then one a
//! minute at most, so that neither a client that tries again and again nor a flood fills the log. No
//! part of a token that is not signed by this server's key is written.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Refusal;
use crate::protocol::TokenFault;

/// Between two lines of the same cause.
const INTERVAL: Duration = Duration::from_secs(60);

/// When what was written last. As large as there are causes.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    causes: HashMap<TokenFault, Cause>,
}

#[derive(Debug)]
struct Cause {
    written: Instant,
    withheld: u64,
}

impl Refusals {
    /// Writes of a refusal, unless one for the same cause was written of a moment ago.
    pub(crate) fn write(&mut self, now: Instant, refusal: &Refusal) {
        let Some(fault) = refusal.failure.reason else {
            return;
        };
        let Some(withheld) = self.note(now, fault) else {
            return;
        };
        let (identity, room) = (&refusal.identity, &refusal.room);
        let message = refusal.failure.message.as_str();
        tracing::info!(reason = %fault, identity, room, withheld, "an access token was refused: {message}");
    }

    /// How many were withheld since the last line of this cause, if there is to be another now.
    fn note(&mut self, now: Instant, fault: TokenFault) -> Option<u64> {
        let Some(cause) = self.causes.get_mut(&fault) else {
            let (written, withheld) = (now, 0);
            self.causes.insert(fault, Cause { written, withheld });
            return Some(0);
        };
        if now < cause.written + INTERVAL {
            cause.withheld += 1;
            return None;
        }
        cause.written = now;
        Some(std::mem::take(&mut cause.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_written_at_once_and_then_once_a_minute() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.note(start, TokenFault::Expired), Some(0));
        for second in 1..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(refusals.note(now, TokenFault::Expired), None);
        }
        let now = start + Duration::from_secs(30);
        assert_eq!(refusals.note(now, TokenFault::NoGrants), Some(0));
        let now = start + INTERVAL;
        assert_eq!(refusals.note(now, TokenFault::Expired), Some(59));
        assert_eq!(refusals.note(now, TokenFault::Expired), None);
    }
}
