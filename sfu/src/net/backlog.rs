//! What waits for one TCP client to read.
//!
//! In: packets for it, and the time. Out: framed bytes to write, in order; and what was given up
//! because the client, or the path to it, is too slow. Pictures that have waited for [`MAX_WAIT`] go,
//! with all video behind them, for they would only come later still; audio goes on, until it is so
//! old that nobody waits for it. So a slow client costs time of its own, and bounded memory.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::framing::HEADER_LEN;
use crate::worker::Discarded;

/// How long video waits. A key frame that is paced over half a second does not wait for so long, and
/// audio behind it comes late, but not too late to be played.
pub(crate) const MAX_WAIT: Duration = Duration::from_millis(300);

/// How long anything waits: receivers have played what is around such old audio, and reports and
/// checks have been repeated.
pub(crate) const MAX_AGE: Duration = Duration::from_millis(1000);

/// Most bytes that wait: [`MAX_WAIT`] at 7 Mbit/s.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// Bytes of buffer that a client keeps which reads everything: a key frame of a middle layer.
const KEPT: usize = 32 * 1024;

#[derive(Clone, Copy, Debug)]
struct Frame {
    len: usize,
    since: Instant,
    is_picture: bool,
}

/// Packets for a stream.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    /// Where in `bytes` what has not been written begins.
    start: usize,
    frames: VecDeque<Frame>,
    /// How much of the first frame has been written: it must be finished.
    begun: usize,
}

impl Backlog {
    pub(crate) fn push(&mut self, now: Instant, is_picture: bool, packet: &[u8]) {
        let Ok(len) = u16::try_from(packet.len()) else {
            return;
        };
        if self.start > 0 && self.bytes.len() + packet.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(packet);
        self.frames.push_back(Frame {
            len: HEADER_LEN + packet.len(),
            since: now,
            is_picture,
        });
    }

    /// What is to be written next; empty when there is nothing.
    #[must_use]
    pub(crate) fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Notes that so many bytes of it have been written.
    pub(crate) fn handle_written(&mut self, len: usize) {
        self.start = (self.start + len).min(self.bytes.len());
        self.begun += len;
        while let Some(first) = self.frames.front()
            && first.len <= self.begun
        {
            self.begun -= first.len;
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            (self.start, self.begun) = (0, 0);
        }
    }

    /// Discards what is too old or too much.
    pub(crate) fn discard(&mut self, now: Instant) -> Discarded {
        let age = |frame: &Frame| now.saturating_duration_since(frame.since);
        // In order of age: nothing is older than what it is behind.
        let Some(first) = self.frames.front() else {
            return Discarded::default();
        };
        let is_full = self.unwritten().len() > MAX_BYTES;
        if age(first) <= MAX_WAIT && !is_full {
            return Discarded::default();
        }
        let oldest_picture = self.waiting().find(|frame| frame.is_picture);
        let drops_pictures = is_full || oldest_picture.is_some_and(|frame| age(frame) > MAX_WAIT);
        let others: usize = self
            .waiting()
            .filter(|f| !f.is_picture)
            .map(|f| f.len)
            .sum();
        let mut excess = others.saturating_sub(MAX_BYTES);
        self.retain(|frame| match frame.is_picture {
            true => !drops_pictures,
            false => {
                let goes = excess > 0 || age(frame) > MAX_AGE;
                excess = excess.saturating_sub(if goes { frame.len } else { 0 });
                !goes
            }
        })
    }

    /// The frames of which nothing has been written.
    fn waiting(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().skip(usize::from(self.begun > 0))
    }

    /// Keeps some of the frames of which nothing has been written.
    fn retain(&mut self, mut keeps: impl FnMut(&Frame) -> bool) -> Discarded {
        let mut discarded = Discarded::default();
        let (mut from, mut to) = (self.start, self.start);
        let mut begun = self.begun;
        let bytes = &mut self.bytes;
        self.frames.retain(|frame| {
            let left = frame.len - begun;
            let stays = begun > 0 || keeps(frame);
            begun = 0;
            if stays {
                bytes.copy_within(from..from + left, to);
                to += left;
            } else if frame.is_picture {
                discarded.pictures += 1;
            } else {
                discarded.others += 1;
            }
            from += left;
            stays
        });
        bytes.truncate(to);
        discarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: bool = true;
    const SOUND: bool = false;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The first byte of each packet that is left, and whether the frames are whole.
    fn drain(backlog: &mut Backlog) -> Vec<u8> {
        let mut bytes = backlog.unwritten();
        let mut seen = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk() {
            let (packet, rest) = rest.split_at(usize::from(u16::from_be_bytes(*header)));
            seen.push(packet[0]);
            bytes = rest;
        }
        backlog.handle_written(backlog.unwritten().len());
        assert!(backlog.frames.is_empty() && backlog.unwritten().is_empty());
        seen
    }

    #[test]
    fn what_is_read_in_time_comes_in_order_however_it_is_written() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for n in 1..=3 {
            backlog.push(now, n % 2 == 0, &[n; 50]);
        }
        let expected = backlog.unwritten().to_vec();
        assert_eq!(backlog.discard(now + MAX_WAIT), Discarded::default());
        let mut written = Vec::new();
        while let Some(byte) = backlog.unwritten().first() {
            written.push(*byte);
            backlog.handle_written(1);
        }
        assert_eq!(written, expected);
        assert_eq!(expected.len(), 3 * 52);
        assert!(backlog.frames.is_empty());
    }

    #[test]
    fn pictures_that_wait_too_long_go_with_those_behind_them_and_sound_stays() {
        let (mut backlog, start) = (Backlog::default(), Instant::now());
        backlog.push(start, SOUND, &[1; 80]);
        for n in 0..5 {
            backlog.push(start + ms(50 * n), PICTURE, &[2; 1000]);
            backlog.push(start + ms(50 * n), SOUND, &[3; 80]);
        }
        assert_eq!(backlog.discard(start + ms(300)), Discarded::default());
        let discarded = backlog.discard(start + ms(301));
        assert_eq!((discarded.pictures, discarded.others), (5, 0));
        backlog.push(start + ms(310), PICTURE, &[4; 1000]);
        // Old audio does not take new video with it.
        assert_eq!(backlog.discard(start + ms(600)), Discarded::default());
        assert_eq!(drain(&mut backlog), [1, 3, 3, 3, 3, 3, 4]);
    }

    #[test]
    fn what_has_begun_is_finished() {
        let (mut backlog, start) = (Backlog::default(), Instant::now());
        for n in 1..=3 {
            backlog.push(start, PICTURE, &[n; 100]);
        }
        backlog.handle_written(102 + 40);
        let discarded = backlog.discard(start + ms(2000));
        assert_eq!(discarded.pictures, 1);
        assert_eq!(backlog.unwritten(), [2; 62]);
        backlog.push(start + ms(2000), SOUND, &[9; 10]);
        backlog.handle_written(62);
        assert_eq!(drain(&mut backlog), [9]);
    }

    #[test]
    fn sound_is_given_up_when_nobody_can_wait_for_it() {
        let (mut backlog, start) = (Backlog::default(), Instant::now());
        for n in 0..100 {
            backlog.push(start + ms(20 * n), SOUND, &[n as u8; 80]);
        }
        let discarded = backlog.discard(start + ms(1980));
        assert_eq!((discarded.pictures, discarded.others), (0, 49));
        assert_eq!(drain(&mut backlog)[0], 49);
    }

    #[test]
    fn a_client_that_does_not_read_costs_bounded_memory() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for n in 0..100_000_u32 {
            backlog.push(now, n % 2 == 0, &[0; 1200]);
            backlog.discard(now);
            assert!(backlog.unwritten().len() <= MAX_BYTES + 1202);
        }
        assert!(backlog.bytes.capacity() <= 4 * MAX_BYTES);
        for _ in 0..1000 {
            backlog.handle_written(700);
            backlog.push(now, PICTURE, &[0; 1200]);
            backlog.discard(now);
        }
        assert!(backlog.bytes.capacity() <= 4 * MAX_BYTES);
    }
}
