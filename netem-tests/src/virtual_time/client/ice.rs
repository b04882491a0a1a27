//! A browser's side of ICE towards an ICE-lite server: one candidate pair, always nominated.
//!
//! In: the server's credentials, checks and responses, time. Out: connectivity checks, which also renew
//! the consent, and answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use confab_sfu::inside::peer::ice::Credentials;
use confab_sfu::inside::peer::stun::{BindingRequest, answer_check, parse_binding_success};
use rand::{Rng, rngs::StdRng};

/// Time between two checks until one is answered.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Time between two checks afterwards, as Chromium's on a stable connection.
const CONSENT_INTERVAL: Duration = Duration::from_millis(2500);

/// The priority that checks carry: of a host candidate that turned out peer-reflexive.
const PRIORITY: u32 = 1_853_824_767;

/// The client's agent.
#[derive(Debug)]
pub struct Ice {
    local: Credentials,
    remote: Option<Credentials>,
    server: Option<SocketAddr>,
    next_check: Option<Instant>,
    has_answer: bool,
    was_connected: bool,
    last_check: Option<Instant>,
    round_trip: Option<Duration>,
    tie_breaker: u64,
}

impl Ice {
    /// An agent with fresh credentials.
    #[must_use]
    pub fn new(rng: &mut StdRng) -> Self {
        Ice {
            local: Credentials::generate(rng),
            remote: None,
            server: None,
            next_check: None,
            has_answer: false,
            was_connected: false,
            last_check: None,
            round_trip: None,
            tie_breaker: rng.random(),
        }
    }

    /// Makes new credentials; the former pair serves until the server's new ones are known.
    pub fn restart(&mut self, rng: &mut StdRng) {
        self.local = Credentials::generate(rng);
    }

    /// User name fragment and password.
    #[must_use]
    pub fn local(&self) -> (&str, &str) {
        (&self.local.ufrag, &self.local.pwd)
    }

    /// Takes the server's side from an answer.
    pub fn connect(&mut self, now: Instant, server: SocketAddr, ufrag: &str, pwd: &str) {
        let remote = Credentials {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        };
        if self.remote.as_ref() != Some(&remote) {
            self.remote = Some(remote);
            self.server = Some(server);
            self.has_answer = false;
            self.next_check = Some(now);
        }
    }

    /// Where the server is.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// Whether a check has ever been answered. An ICE restart does not interrupt media.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.was_connected
    }

    /// Whether the latest credentials have been proved.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.has_answer
    }

    /// The last check's round-trip time.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The check that is due.
    pub fn poll_check(&mut self, now: Instant, rng: &mut StdRng) -> Option<Vec<u8>> {
        self.next_check.take_if(|due| now >= *due)?;
        let interval = match self.has_answer {
            true => CONSENT_INTERVAL,
            false => CHECK_INTERVAL,
        };
        self.next_check = Some(now + interval);
        self.last_check = Some(now);
        self.check(rng)
    }

    /// A check with the current credentials.
    pub fn check(&self, rng: &mut StdRng) -> Option<Vec<u8>> {
        let remote = self.remote.as_ref()?;
        let request = BindingRequest {
            username: &format!("{}:{}", remote.ufrag, self.local.ufrag),
            password: &remote.pwd,
            transaction: rng.random::<u128>() >> 32,
            priority: PRIORITY,
            use_candidate: true,
            tie_breaker: self.tie_breaker,
        };
        request.to_bytes().ok()
    }

    /// When [`Ice::poll_check`] has something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_check
    }

    /// The answer to a check of the server's; none to anything else.
    #[must_use]
    pub fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let remote = self.remote.as_ref()?;
        let username = format!("{}:{}", self.local.ufrag, remote.ufrag);
        answer_check(packet, &username, &self.local.pwd, self.server?)
    }

    /// Takes a response.
    ///
    /// # Errors
    /// When it names another address than the client's.
    pub fn handle_response(
        &mut self,
        now: Instant,
        packet: &[u8],
        own: SocketAddr,
    ) -> Result<(), String> {
        let remote = self.remote.as_ref().ok_or("a response before a check")?;
        // One that was under way over an ICE restart or a change of address proves nothing.
        let is_proof = parse_binding_success(packet, &remote.pwd) == Some(own);
        // The first checks follow each other too closely to tell which one this answers.
        if is_proof && self.has_answer {
            self.round_trip = self.last_check.map(|at| now - at);
        }
        if is_proof && !self.has_answer {
            self.has_answer = true;
            self.was_connected = true;
            self.next_check = Some(now + CONSENT_INTERVAL);
        }
        Ok(())
    }
}
