//! What waits for one stream client to read.
//!
//! In: messages for it, and the time. Out: bytes to write, the oldest first. Relayed data waits for
//! 200 ms and in 256 kB at most: behind a client that does not read, the oldest is dropped, as a full
//! link would. Answers are kept; who does not even read those is to be disconnected.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long relayed data waits: what is older is of no use to a call.
const MAX_AGE: Duration = Duration::from_millis(200);

/// Most bytes that wait.
const MAX_BYTES: usize = 256 * 1024;

/// Most bytes given out at once: they can no longer be dropped.
const MAX_WRITE: usize = 16 * 1024;

/// The client reads too slowly for the answers to its own requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overflow;

/// Messages for a stream.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What may be dropped, the oldest first.
    data: VecDeque<Message>,
    answers: VecDeque<Message>,
    /// How many messages were added: the two are one queue for the client.
    added: u64,
    /// What the messages take of memory.
    bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Message {
    number: u64,
    since: Instant,
    bytes: Vec<u8>,
}

impl Message {
    fn cost(&self) -> usize {
        size_of::<Message>() + self.bytes.len()
    }
}

impl Queue {
    /// Adds relayed data; drops the oldest if there is no room.
    pub(super) fn push_data(&mut self, now: Instant, bytes: Vec<u8>) {
        let message = self.message(now, bytes);
        self.data.push_back(message);
        // What is there, and all answers, are bounded: so is this.
        let _ = self.make_room(now);
    }

    pub(super) fn push_answer(&mut self, now: Instant, bytes: Vec<u8>) -> Result<(), Overflow> {
        let message = self.message(now, bytes);
        self.answers.push_back(message);
        self.make_room(now)
    }

    fn message(&mut self, now: Instant, bytes: Vec<u8>) -> Message {
        self.added += 1;
        let message = Message {
            number: self.added,
            since: now,
            bytes,
        };
        self.bytes += message.cost();
        message
    }

    fn make_room(&mut self, now: Instant) -> Result<(), Overflow> {
        self.drop_stale(now);
        while self.bytes > MAX_BYTES {
            if !self.drop_oldest() {
                return Err(Overflow);
            }
        }
        Ok(())
    }

    /// Appends the next messages to `out`, whole ones; `false` if there are none.
    pub(super) fn pop(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        self.drop_stale(now);
        let start = out.len();
        let fits =
            |written: usize, m: &Message| written == 0 || written + m.bytes.len() <= MAX_WRITE;
        while let Some(message) = self
            .next()
            .and_then(|queue| queue.pop_front_if(|m| fits(out.len() - start, m)))
        {
            self.bytes -= message.cost();
            out.extend_from_slice(&message.bytes);
        }
        out.len() > start
    }

    /// Where the message is that is next.
    fn next(&mut self) -> Option<&mut VecDeque<Message>> {
        [&mut self.data, &mut self.answers]
            .into_iter()
            .filter(|queue| !queue.is_empty())
            .min_by_key(|queue| queue.front().map(|m| m.number))
    }

    /// Messages dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn drop_stale(&mut self, now: Instant) {
        let is_stale = |m: &Message| now.saturating_duration_since(m.since) > MAX_AGE;
        while self.data.front().is_some_and(is_stale) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(message) = self.data.pop_front() else {
            return false;
        };
        self.bytes -= message.cost();
        self.dropped += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop_all(queue: &mut Queue, now: Instant) -> Vec<u8> {
        let mut out = Vec::new();
        while queue.pop(now, &mut out) {}
        out
    }

    #[test]
    fn what_is_read_in_time_comes_in_order() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push_data(now, vec![1; 3]);
        assert_eq!(queue.push_answer(now, vec![2]), Ok(()));
        queue.push_data(now, vec![3]);
        assert_eq!(pop_all(&mut queue, now + MAX_AGE), [1, 1, 1, 2, 3]);
        assert!(!queue.pop(now, &mut Vec::new()));
        assert_eq!((queue.bytes, queue.dropped()), (0, 0));
    }

    #[test]
    fn old_data_is_dropped_and_answers_are_kept() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(queue.push_answer(at(0), vec![1]), Ok(()));
        queue.push_data(at(0), vec![2]);
        queue.push_data(at(100), vec![3]);
        assert_eq!(queue.push_answer(at(101), vec![4]), Ok(()));
        queue.push_data(at(250), vec![5]);
        assert_eq!(pop_all(&mut queue, at(250)), [1, 3, 4, 5]);
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn a_client_that_does_not_read_costs_no_more_than_256_kilobytes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for n in 0..10_000_u32 {
            queue.push_data(now, [&n.to_be_bytes()[..], &[0; 996]].concat());
            assert!(queue.bytes <= MAX_BYTES);
        }
        let newest = pop_all(&mut queue, now);
        let most = MAX_BYTES / (size_of::<Message>() + 1000);
        assert_eq!(newest[..4], (10_000 - most as u32).to_be_bytes());
        let answers = (0..).take_while(|_| queue.push_answer(now, vec![0; 1000]).is_ok());
        assert_eq!(answers.count(), most);
    }

    #[test]
    fn little_is_given_out_at_once_but_always_something() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push_data(now, vec![0; 20_000]);
        for _ in 0..20 {
            queue.push_data(now, vec![0; 1000]);
        }
        let mut out = Vec::new();
        for expected in [20_000, 36_000, 40_000] {
            assert!(queue.pop(now, &mut out));
            assert_eq!(out.len(), expected);
        }
    }
}
