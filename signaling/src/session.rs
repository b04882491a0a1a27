//! A session: what makes requests and events happen exactly once, whatever the socket does.
//!
//! Sans-I/O. In: request ids, replies, events, acknowledgements, and the socket coming and going.
//! Out: [`Session::poll_frame`], the text frames for the present socket. An event is numbered and
//! kept until it is acknowledged; an answer carries the number of the last event before it, and is
//! kept for a repeated request. A new socket gets the events and answers that the client lacks in the
//! order in which they were said, so that no answer is applied over what happened after it. A session
//! without a socket lives for the grace period.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;

use crate::protocol::{Event, Reply, RequestId};

/// Randomness of a session's name, in bytes: 192 bits cannot be guessed.
const SECRET_BYTES: usize = 24;

/// Most requests of a session that wait for their reply.
pub const MAX_PENDING: usize = 32;

/// Most answers kept for repeated requests: those that may be on their way when a socket dies, and
/// as many again.
const MAX_ANSWERS: usize = 2 * MAX_PENDING;

/// Most ids of requests without a reply that are looked at: no client has more.
const MAX_UNANSWERED: usize = MAX_ANSWERS + MAX_PENDING;

/// Most bytes of answers kept; SDP answers of a large call are up to 100 kB each. The newest is
/// kept whatever its size.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// Most events that may wait for their acknowledgement: a room of 100 in which everybody comes,
/// publishes four tracks and leaves, four times over.
const MAX_EVENTS: usize = 4_096;

/// Most bytes of events that may wait for their acknowledgement.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// A session without a socket is missed after so long: who only changes networks is back before.
pub const MISSED_AFTER: Duration = Duration::from_secs(2);

/// An unguessable name: whoever knows it may act as the session or resource.
#[must_use]
pub fn new_secret() -> String {
    let mut bytes = [0_u8; SECRET_BYTES];
    rand::rng().fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What to do with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is new: carry it out and give the reply to [`Session::handle_reply`].
    New,
    /// It is known: its answer is sent again, or will be sent once there is one.
    Repeated,
    /// It is known to be older than the answers that are kept.
    Stale,
    /// Too many requests wait already.
    TooMany,
}

#[derive(Debug)]
struct Answer {
    id: RequestId,
    /// The number of the last event before it.
    seq: u64,
    frame: String,
}

/// What a session needs to start and to resume.
#[derive(Debug)]
pub struct Session {
    secret: String,
    grace: Duration,
    /// When the socket was lost; `None` while there is one.
    detached: Option<Instant>,
    overflowed: bool,
    last_seq: u64,
    /// Sent and not acknowledged, by sequence number.
    events: VecDeque<(u64, String)>,
    event_bytes: usize,
    pending: BTreeSet<RequestId>,
    /// Those said last, the oldest first.
    answers: VecDeque<Answer>,
    answer_bytes: usize,
    /// The highest id whose answer is not kept any more.
    forgotten: Option<RequestId>,
    frames: VecDeque<String>,
}

impl Session {
    /// A new session with a socket.
    #[must_use]
    pub fn new(secret: String, grace: Duration) -> Session {
        Session {
            secret,
            grace,
            detached: None,
            overflowed: false,
            last_seq: 0,
            events: VecDeque::new(),
            event_bytes: 0,
            pending: BTreeSet::new(),
            answers: VecDeque::new(),
            answer_bytes: 0,
            forgotten: None,
            frames: VecDeque::new(),
        }
    }

    /// The session's name.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// A request has come.
    pub fn handle_request(&mut self, id: RequestId) -> Admission {
        if let Some(answer) = self.answers.iter().find(|answer| answer.id == id) {
            self.frames.push_back(answer.frame.clone());
            return Admission::Repeated;
        }
        if self.pending.contains(&id) {
            return Admission::Repeated;
        }
        if self.forgotten.is_some_and(|forgotten| id <= forgotten) {
            return Admission::Stale;
        }
        if self.pending.len() >= MAX_PENDING {
            return Admission::TooMany;
        }
        self.pending.insert(id);
        Admission::New
    }

    /// A request that was [`Admission::New`] has its reply.
    pub fn handle_reply(&mut self, id: RequestId, reply: &Reply) {
        if !self.pending.remove(&id) {
            return;
        }
        let seq = self.last_seq;
        let frame = reply.frame(Some(id), Some(seq));
        self.answer_bytes += frame.len();
        self.push_frame(frame.clone());
        self.answers.push_back(Answer { id, seq, frame });
        while self.answers.len() > 1
            && (self.answers.len() > MAX_ANSWERS || self.answer_bytes > MAX_ANSWER_BYTES)
        {
            let Some(oldest) = self.answers.pop_front() else {
                break;
            };
            self.answer_bytes -= oldest.frame.len();
            self.forgotten = self.forgotten.max(Some(oldest.id));
        }
    }

    /// Something has happened that the client must hear of.
    pub fn handle_event(&mut self, event: &Event) {
        if self.overflowed {
            return;
        }
        self.last_seq += 1;
        let frame = event.frame(Some(self.last_seq));
        self.event_bytes += frame.len();
        self.events.push_back((self.last_seq, frame.clone()));
        self.push_frame(frame);
        // A gap cannot be told to the client in any way but by ending the session.
        self.overflowed = self.events.len() > MAX_EVENTS || self.event_bytes > MAX_EVENT_BYTES;
    }

    /// The client has handled every event up to `seq`.
    pub fn handle_ack(&mut self, seq: u64) {
        while let Some((first, frame)) = self.events.front()
            && *first <= seq
        {
            self.event_bytes -= frame.len();
            self.events.pop_front();
        }
    }

    /// The socket is gone.
    pub fn handle_detached(&mut self, now: Instant) {
        self.detached = Some(now);
        self.frames.clear();
    }

    /// Whether a client that has handled every event up to `seq` misses nothing that cannot be
    /// sent again.
    #[must_use]
    pub fn can_resume(&self, seq: u64) -> bool {
        let kept_from = self
            .events
            .front()
            .map_or(self.last_seq + 1, |(seq, _)| *seq);
        !self.overflowed && seq <= self.last_seq && seq + 1 >= kept_from
    }

    /// A new socket has taken over, after [`can_resume`](Self::can_resume) allowed it. The frames
    /// that are polled next are the events after `seq` and the answers to `unanswered`, as far as
    /// there are any, in the order in which they were said. Of `unanswered` the first 96 are looked at.
    pub fn handle_resumed(&mut self, seq: u64, unanswered: &[RequestId]) {
        let unanswered = unanswered.get(..MAX_UNANSWERED).unwrap_or(unanswered);
        self.detached = None;
        self.handle_ack(seq);
        let answers = self.answers.iter();
        let lost = answers.filter(|answer| unanswered.contains(&answer.id));
        let lost = lost.map(|answer| (answer.seq, &answer.frame));
        let events = self.events.iter().map(|(seq, frame)| (*seq, frame));
        // Stable: an answer comes behind the event whose number it carries, and answers in turn.
        let mut missed: Vec<_> = events.chain(lost).collect();
        missed.sort_by_key(|(seq, _)| *seq);
        self.frames = missed.into_iter().map(|(_, frame)| frame.clone()).collect();
    }

    /// The next text frame for the socket.
    pub fn poll_frame(&mut self) -> Option<String> {
        self.frames.pop_front()
    }

    /// Whether the client has let too much pile up. The session cannot go on.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// When the session ends unless a socket comes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.detached.map(|since| since + self.grace)
    }

    /// Whether it has been without a socket for so long that it is missed.
    #[must_use]
    pub fn is_missed(&self, now: Instant) -> bool {
        self.detached
            .is_some_and(|since| now >= since + MISSED_AFTER)
    }

    /// Whether the grace period is over.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.next_deadline().is_some_and(|deadline| now >= deadline)
    }

    fn push_frame(&mut self, frame: String) {
        if self.detached.is_none() {
            self.frames.push_back(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Left, Media, MediaState, Pong};
    use proptest::collection::vec;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn session() -> Session {
        Session::new(new_secret(), GRACE)
    }

    fn event() -> Event {
        Event::Media(Media {
            state: MediaState::Connected,
        })
    }

    fn pong() -> Reply {
        Reply::Pong(Pong {})
    }

    fn left() -> Reply {
        Reply::Left(Left {})
    }

    fn frames(session: &mut Session) -> Vec<String> {
        std::iter::from_fn(|| session.poll_frame()).collect()
    }

    fn seqs(session: &mut Session) -> Vec<u64> {
        frames(session)
            .iter()
            .map(|f| serde_json::from_str::<serde_json::Value>(f).expect("JSON"))
            .map(|f| f["seq"].as_u64().expect("a seq"))
            .collect()
    }

    #[test]
    fn a_client_that_changes_networks_misses_nothing_and_sees_nothing_twice() {
        let now = Instant::now();
        let mut session = session();
        for _ in 0..3 {
            session.handle_event(&event());
        }
        assert_eq!(seqs(&mut session), [1, 2, 3]);
        session.handle_ack(1);
        session.handle_detached(now);
        session.handle_event(&event());
        assert_eq!(seqs(&mut session), Vec::<u64>::new(), "there is no socket");
        // The client saw the second event, but its acknowledgement was lost.
        assert!(session.can_resume(2));
        session.handle_resumed(2, &[]);
        session.handle_event(&event());
        assert_eq!(seqs(&mut session), [3, 4, 5]);
        assert_eq!(session.next_deadline(), None);
    }

    #[test]
    fn a_repeated_request_gets_the_first_answer() {
        let mut session = session();
        assert_eq!(session.handle_request(1), Admission::New);
        assert_eq!(session.handle_request(1), Admission::Repeated);
        assert_eq!(frames(&mut session).len(), 0, "no answer yet");
        // The socket dies before the answer.
        session.handle_detached(Instant::now());
        session.handle_reply(1, &pong());
        session.handle_resumed(0, &[]);
        assert_eq!(frames(&mut session).len(), 0);
        assert_eq!(session.handle_request(1), Admission::Repeated);
        assert_eq!(frames(&mut session), [r#"{"re":1,"type":"pong"}"#]);
    }

    #[test]
    fn an_answer_that_was_lost_comes_before_what_happened_after_it() {
        let mut session = session();
        session.handle_event(&event());
        for id in 1..=4 {
            assert_eq!(session.handle_request(id), Admission::New);
        }
        session.handle_reply(1, &left());
        session.handle_detached(Instant::now());
        session.handle_event(&event());
        session.handle_reply(2, &left());
        session.handle_reply(3, &left());
        session.handle_event(&event());
        session.handle_resumed(1, &[2, 3, 4, 99]);
        let expected = [
            event().frame(Some(2)),
            left().frame(Some(2), Some(2)),
            left().frame(Some(3), Some(2)),
            event().frame(Some(3)),
        ];
        assert_eq!(frames(&mut session), expected);
        session.handle_reply(4, &left());
        assert_eq!(frames(&mut session), [r#"{"re":4,"seq":3,"type":"left"}"#]);
    }

    #[test]
    fn of_endless_requests_without_a_reply_the_first_are_looked_at() {
        for (before, answers) in [(MAX_UNANSWERED - 1, 1), (MAX_UNANSWERED, 0)] {
            let mut session = session();
            session.handle_request(1);
            session.handle_detached(Instant::now());
            session.handle_reply(1, &pong());
            let mut unanswered: Vec<RequestId> = (100..).take(before).collect();
            unanswered.push(1);
            session.handle_resumed(0, &unanswered);
            assert_eq!(frames(&mut session).len(), answers, "{before}");
        }
    }

    #[test]
    fn answers_and_requests_are_bounded() {
        let mut session = session();
        for id in 0..1_000 {
            assert_eq!(session.handle_request(id), Admission::New);
            session.handle_reply(id, &pong());
            assert!(session.answers.len() <= MAX_ANSWERS);
        }
        assert_eq!(session.handle_request(999), Admission::Repeated);
        assert_eq!(session.handle_request(3), Admission::Stale);
        for id in 1_000..1_000 + MAX_PENDING as u64 {
            assert_eq!(session.handle_request(id), Admission::New);
        }
        assert_eq!(session.handle_request(5_000), Admission::TooMany);
        let large = Reply::Error(crate::protocol::Failure::new(
            crate::protocol::ErrorCode::Internal,
            "x".repeat(MAX_ANSWER_BYTES),
        ));
        for id in 1_000..1_002 {
            session.handle_reply(id, &large);
        }
        assert_eq!(session.answers.len(), 1, "the newest, whatever its size");
    }

    #[test]
    fn a_session_ends_with_its_grace_period_and_not_before() {
        let now = Instant::now();
        let mut session = session();
        assert!(!session.is_over(now + GRACE));
        session.handle_detached(now);
        assert_eq!(session.next_deadline(), Some(now + GRACE));
        assert!(!session.is_over(now + GRACE - Duration::from_millis(1)));
        assert!(session.is_over(now + GRACE));
    }

    #[test]
    fn a_client_that_never_acknowledges_loses_its_session_not_our_memory() {
        let mut session = session();
        for _ in 0..10 * MAX_EVENTS {
            session.handle_event(&event());
            session.poll_frame();
        }
        assert!(session.has_overflowed());
        assert!(session.events.len() <= MAX_EVENTS + 1);
        assert!(!session.can_resume(session.last_seq));
    }

    #[test]
    fn resuming_from_what_was_never_sent_or_is_no_longer_kept_is_refused() {
        let mut session = session();
        session.handle_event(&event());
        session.handle_event(&event());
        assert!(session.can_resume(0));
        assert!(!session.can_resume(3), "the client is ahead of the server");
        assert!(!session.can_resume(u64::MAX));
        session.handle_ack(2);
        assert!(session.can_resume(2));
        assert!(!session.can_resume(1), "acknowledged, so not kept");
    }

    #[test]
    fn secrets_are_long_and_differ() {
        assert_ne!(new_secret(), new_secret());
        assert_eq!(new_secret().len(), 32);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Event,
        Request,
        /// The oldest request that waits is answered.
        Answer,
        /// The client reads so many frames.
        Read(usize),
        Acknowledge,
        /// The socket dies with what is unread, and another one takes over.
        Reconnect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Event),
            2 => Just(Step::Request),
            2 => Just(Step::Answer),
            3 => (0..4_usize).prop_map(Step::Read),
            1 => Just(Step::Acknowledge),
            1 => Just(Step::Reconnect),
        ]
    }

    proptest! {
        #[test]
        fn events_and_answers_are_read_once_and_in_order(steps in vec(step(), 0..200)) {
            let mut session = session();
            // What was said, and what of it was read: events by their number, answers by their id.
            let (mut said, mut read) = (Vec::new(), Vec::new());
            let (mut requests, mut answered, mut events, mut seen) = (0, 0, 0, 0);
            let mut unanswered: Vec<RequestId> = Vec::new();
            for step in steps.into_iter().chain([Step::Reconnect, Step::Read(usize::MAX)]) {
                match step {
                    Step::Event => {
                        session.handle_event(&event());
                        events += 1;
                        said.push(("seq", events));
                    }
                    Step::Request if unanswered.len() < MAX_PENDING => {
                        requests += 1;
                        unanswered.push(requests);
                        session.handle_request(requests);
                    }
                    Step::Answer if answered < requests => {
                        answered += 1;
                        said.push(("re", answered));
                        session.handle_reply(answered, &left());
                    }
                    Step::Request | Step::Answer => {}
                    Step::Read(frames) => {
                        for frame in std::iter::from_fn(|| session.poll_frame()).take(frames) {
                            let frame: serde_json::Value = serde_json::from_str(&frame)?;
                            match frame["re"].as_u64() {
                                // Asked for once more, behind its first coming.
                                Some(id) if !unanswered.contains(&id) => {}
                                Some(id) => {
                                    prop_assert_eq!(frame["seq"].as_u64(), Some(seen));
                                    unanswered.retain(|other| *other != id);
                                    read.push(("re", id));
                                }
                                None => {
                                    seen = frame["seq"].as_u64().unwrap_or_default();
                                    read.push(("seq", seen));
                                }
                            }
                        }
                    }
                    Step::Acknowledge => session.handle_ack(seen),
                    Step::Reconnect => {
                        session.handle_detached(Instant::now());
                        prop_assert!(session.can_resume(seen));
                        session.handle_resumed(seen, &unanswered);
                        for id in &unanswered {
                            session.handle_request(*id);
                        }
                    }
                }
            }
            prop_assert_eq!(read, said);
        }
    }
}
