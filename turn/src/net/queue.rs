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
    messages: VecDeque<Message>,
    bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Message {
    since: Instant,
    /// Whether it may be dropped.
    is_data: bool,
    bytes: Vec<u8>,
}

impl Queue {
    /// Adds relayed data; drops the oldest if there is no room.
    pub(super) fn push_data(&mut self, now: Instant, bytes: Vec<u8>) {
        // What is there, and all answers, are bounded: so is this.
        let _ = self.push(now, bytes, true);
    }

    /// Adds an answer.
    pub(super) fn push_answer(&mut self, now: Instant, bytes: Vec<u8>) -> Result<(), Overflow> {
        self.push(now, bytes, false)
    }

    fn push(&mut self, now: Instant, bytes: Vec<u8>, is_data: bool) -> Result<(), Overflow> {
        self.bytes += bytes.len();
        self.messages.push_back(Message {
            since: now,
            is_data,
            bytes,
        });
        self.drop_stale(now);
        while self.bytes > MAX_BYTES {
            let oldest = self.messages.iter().position(|m| m.is_data);
            let Some(message) = oldest.and_then(|n| self.messages.remove(n)) else {
                return Err(Overflow);
            };
            self.bytes -= message.bytes.len();
            self.dropped += 1;
        }
        Ok(())
    }

    /// Appends the next messages to `out`, whole ones; `false` if there are none.
    pub(super) fn pop(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        self.drop_stale(now);
        let start = out.len();
        while let Some(next) = self.messages.front() {
            if out.len() > start && out.len() - start + next.bytes.len() > MAX_WRITE {
                break;
            }
            out.extend_from_slice(&next.bytes);
            self.bytes -= next.bytes.len();
            self.messages.pop_front();
        }
        out.len() > start
    }

    /// Messages dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn drop_stale(&mut self, now: Instant) {
        let is_stale = |m: &Message| now.saturating_duration_since(m.since) > MAX_AGE;
        // In order of age: nothing is stale behind what is not.
        if !self.messages.front().is_some_and(is_stale) {
            return;
        }
        let (bytes, dropped) = (&mut self.bytes, &mut self.dropped);
        self.messages.retain(|message| {
            let stays = !message.is_data || !is_stale(message);
            if !stays {
                *bytes -= message.bytes.len();
                *dropped += 1;
            }
            stays
        });
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
        assert_eq!(newest[..4], (10_000 - 262_u32).to_be_bytes());
        let answers = (0..).take_while(|_| queue.push_answer(now, vec![0; 1000]).is_ok());
        assert_eq!(answers.count(), 262);
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
