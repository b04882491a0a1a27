//! One socket's patience: how long it may stay silent or unknown, and how fast it may talk.
//!
//! Sans-I/O. In: frames coming ([`Connection::handle_frame`]) and time passing. Out:
//! [`Connection::poll_action`]: when to ping it, and when and why to close it.

use std::time::{Duration, Instant};

use crate::protocol::{ErrorCode, Failure};

/// Longest message taken, in bytes, compressed or not. Chromium's offer with 64 m-lines, the most the media plane
/// takes, is about 200 kB.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// A socket must have said `hello` by then.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// A socket of which nothing is heard for so long is closed. A live browser answers the pings.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the server pings, and asks the client to: three lost pings are an idle socket.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Most messages a second, on average and at once.
pub const MAX_MESSAGES_PER_SECOND: u32 = 50;

/// What a request counts for in the rate of messages.
pub const REQUEST_COST: f64 = 1.0;

/// What an acknowledgement counts for: next to no work, and a busy room causes many.
pub const ACK_COST: f64 = 0.1;

/// What a ping of the client's counts for: it is answered like a request.
pub const PING_COST: f64 = REQUEST_COST;

/// What an answer to a ping counts for, asked for or not.
pub const PONG_COST: f64 = ACK_COST;

/// What is to be done with the socket.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Send a WebSocket ping.
    Ping,
    /// Say why and close.
    Close(Failure),
}

/// One socket.
#[derive(Debug)]
pub struct Connection {
    hello_by: Option<Instant>,
    deflates: bool,
    heard: Instant,
    next_ping: Instant,
    /// Messages that may come now.
    allowance: f64,
    refilled: Instant,
    action: Option<Action>,
}

impl Connection {
    /// A socket that has just opened.
    #[must_use]
    pub fn new(now: Instant) -> Connection {
        Connection {
            hello_by: Some(now + HELLO_TIMEOUT),
            deflates: false,
            heard: now,
            next_ping: now + PING_INTERVAL,
            allowance: f64::from(MAX_MESSAGES_PER_SECOND),
            refilled: now,
            action: None,
        }
    }

    /// A frame of any kind has come: the client is alive.
    pub fn handle_frame(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The client has said a valid `hello`, and whether it reads compressed frames.
    pub fn handle_hello(&mut self, deflates: bool) {
        self.hello_by = None;
        self.deflates = deflates;
    }

    /// Whether a valid `hello` has come.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.hello_by.is_none()
    }

    /// Others have come, and of those who have said nothing this one has been there for longest.
    pub fn handle_crowd(&mut self) {
        self.close(
            ErrorCode::ServerFull,
            "Too many sockets have not said `hello` yet; this one has been silent for longest."
                .into(),
        );
    }

    /// A frame has come that the WebSocket library does not take.
    pub fn handle_unreadable(&mut self, code: ErrorCode, what: &str) {
        self.close(code, format!("The frame cannot be read: {what}."));
    }

    /// Whether the client reads compressed frames.
    #[must_use]
    pub fn deflates(&self) -> bool {
        self.deflates
    }

    /// A message has come; says whether it may be handled.
    pub fn handle_message(&mut self, now: Instant, cost: f64) -> bool {
        let rate = f64::from(MAX_MESSAGES_PER_SECOND);
        let earned = now.saturating_duration_since(self.refilled).as_secs_f64() * rate;
        self.allowance = (self.allowance + earned).min(rate);
        self.refilled = now;
        if self.allowance < cost {
            self.close(
                ErrorCode::TooManyRequests,
                format!("A client may send {MAX_MESSAGES_PER_SECOND} messages a second."),
            );
            return false;
        }
        self.allowance -= cost;
        true
    }

    /// A message of that many bytes has come; says whether it may be handled.
    pub fn handle_size(&mut self, bytes: usize) -> bool {
        if bytes > MAX_MESSAGE_BYTES {
            self.close(
                ErrorCode::TooLarge,
                format!("A message may have {MAX_MESSAGE_BYTES} bytes; this one has {bytes}."),
            );
        }
        bytes <= MAX_MESSAGE_BYTES
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.hello_by.is_some_and(|by| now >= by) {
            self.close(
                ErrorCode::HelloTimeout,
                format!("No `hello` came within {} s.", HELLO_TIMEOUT.as_secs()),
            );
        } else if now >= self.heard + IDLE_TIMEOUT {
            self.close(
                ErrorCode::Idle,
                format!(
                    "Nothing was heard of the client for {} s.",
                    IDLE_TIMEOUT.as_secs()
                ),
            );
        } else if now >= self.next_ping {
            self.next_ping = now + PING_INTERVAL;
            self.action.get_or_insert(Action::Ping);
        }
    }

    /// What is to be done now.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.action.take()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let deadline = self.next_ping.min(self.heard + IDLE_TIMEOUT);
        self.hello_by.map_or(deadline, |by| by.min(deadline))
    }

    fn close(&mut self, code: ErrorCode, message: String) {
        self.action = Some(Action::Close(Failure::new(code, message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closes_with(connection: &mut Connection) -> Option<ErrorCode> {
        match connection.poll_action() {
            Some(Action::Close(failure)) => Some(failure.code),
            _ => None,
        }
    }

    /// Runs every deadline until `end` and counts the pings, as the socket's task would.
    fn run(connection: &mut Connection, end: Instant) -> (u32, Option<(Instant, ErrorCode)>) {
        let mut pings = 0;
        while connection.next_deadline() <= end {
            let now = connection.next_deadline();
            connection.handle_timeout(now);
            match connection.poll_action() {
                Some(Action::Ping) => pings += 1,
                Some(Action::Close(failure)) => return (pings, Some((now, failure.code))),
                None => {}
            }
        }
        (pings, None)
    }

    #[test]
    fn a_socket_that_never_says_hello_is_closed_after_ten_seconds() {
        let start = Instant::now();
        let mut connection = Connection::new(start);
        let (_, closed) = run(&mut connection, start + Duration::from_secs(100));
        let expected = (start + HELLO_TIMEOUT, ErrorCode::HelloTimeout);
        assert_eq!(closed, Some(expected));
    }

    #[test]
    fn a_silent_socket_is_pinged_and_closed_after_sixty_seconds() {
        let start = Instant::now();
        let mut connection = Connection::new(start);
        connection.handle_hello(false);
        let (pings, closed) = run(&mut connection, start + Duration::from_secs(100));
        assert_eq!(pings, 3);
        assert_eq!(closed, Some((start + IDLE_TIMEOUT, ErrorCode::Idle)));
    }

    #[test]
    fn a_socket_that_answers_pings_stays() {
        let start = Instant::now();
        let mut connection = Connection::new(start);
        connection.handle_hello(false);
        for minute in 1..10 {
            let now = start + Duration::from_secs(50) * minute;
            assert_eq!(run(&mut connection, now).1, None);
            connection.handle_frame(now);
        }
    }

    #[test]
    fn fifty_messages_a_second_pass_and_the_next_closes() {
        let start = Instant::now();
        let mut connection = Connection::new(start);
        for tenth in 0..100_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            for _ in 0..5 {
                assert!(connection.handle_message(now, REQUEST_COST));
            }
        }
        let now = start + Duration::from_secs(20);
        for _ in 0..MAX_MESSAGES_PER_SECOND {
            assert!(connection.handle_message(now, REQUEST_COST));
        }
        assert_eq!(closes_with(&mut connection), None);
        assert!(!connection.handle_message(now, REQUEST_COST));
        assert_eq!(
            closes_with(&mut connection),
            Some(ErrorCode::TooManyRequests)
        );
    }

    #[test]
    fn an_oversize_message_closes() {
        let mut connection = Connection::new(Instant::now());
        assert!(connection.handle_size(MAX_MESSAGE_BYTES));
        assert!(!connection.handle_size(MAX_MESSAGE_BYTES + 1));
        assert_eq!(closes_with(&mut connection), Some(ErrorCode::TooLarge));
    }
}
