//! Transport-wide feedback: which packets arrived, and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! Reading, in: the body of a packet. Out: one [`PacketStatus`] per sequence number. Writing, in:
//! arrivals in the order of their sequence numbers. Out: packets, as many as the caller asks for.

use std::time::Duration;

use super::writer::header;
use super::{NoRoom, Writer, format, packet_type, split_words};
use crate::types::Ssrc;

/// What arrival times are counted in.
pub const DELTA_TICK: Duration = Duration::from_micros(250);

/// What the reference time is counted in.
pub const REFERENCE_TICK: Duration = Duration::from_millis(64);

/// Most sequence numbers that one feedback packet may speak of: six seconds of a stream of 2500
/// packets a second. The format allows 65,535 in 20 bytes, which would be cheap to send and
/// expensive to read.
pub const MAX_STATUS_COUNT: u16 = 16_384;

/// Deltas per reference tick.
const DELTAS_PER_REFERENCE: u64 = 256;

/// Most statuses of a run-length chunk: 13 bits.
const MAX_RUN: u16 = (1 << 13) - 1;

/// Statuses of a vector chunk with one bit each and with two bits each.
const ONE_BIT_STATUSES: u16 = 14;
const TWO_BIT_STATUSES: u16 = 7;

/// Most bytes of deltas that one written packet carries, more than a datagram holds.
const MAX_DELTA_BYTES: usize = 1500;

/// How a sequence number fared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketStatus {
    /// It did not arrive, or not yet.
    Lost,
    /// It arrived this many [`DELTA_TICK`]s after the one before it that arrived; the first after
    /// the reference time.
    Received(i16),
}

/// The two bits that stand for a status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Symbol {
    #[default]
    Lost = 0,
    SmallDelta = 1,
    LargeDelta = 2,
}

impl Symbol {
    fn from_bits(bits: u16) -> Option<Self> {
        match bits & 3 {
            0 => Some(Symbol::Lost),
            1 => Some(Symbol::SmallDelta),
            2 => Some(Symbol::LargeDelta),
            _ => None,
        }
    }

    /// How many bytes of delta go with it.
    fn delta_len(self) -> usize {
        self as usize
    }
}

/// A run or a list of statuses, 16 bits on the wire.
#[derive(Clone, Copy, Debug)]
struct Chunk(u16);

impl Chunk {
    fn len(self) -> u16 {
        match self.0 >> 14 {
            0 | 1 => self.0 & MAX_RUN,
            2 => ONE_BIT_STATUSES,
            _ => TWO_BIT_STATUSES,
        }
    }

    /// The status at a place below [`Chunk::len`]; `None` for the reserved one.
    fn symbol(self, at: u16) -> Option<Symbol> {
        match self.0 >> 14 {
            0 | 1 => Symbol::from_bits(self.0 >> 13),
            2 => Symbol::from_bits(self.0 >> (ONE_BIT_STATUSES - 1 - at) & 1),
            _ => Symbol::from_bits(self.0 >> (2 * (TWO_BIT_STATUSES - 1 - at))),
        }
    }

    /// How many bytes of delta go with its first `count` statuses; `None` if one is reserved.
    fn delta_len(self, count: u16) -> Option<usize> {
        if self.0 >> 15 == 0 {
            return Some(self.symbol(0)?.delta_len() * usize::from(count));
        }
        (0..count)
            .map(|at| Some(self.symbol(at)?.delta_len()))
            .sum()
    }
}

/// Which packets of a whole connection arrived, and when.
#[derive(Clone, Copy, Debug)]
pub struct TransportFeedback<'a> {
    /// Who reports.
    pub sender: Ssrc,
    /// One of the streams, which one says nothing.
    pub media: Ssrc,
    /// The first transport-wide sequence number reported on.
    pub base_sequence: u16,
    /// How many sequence numbers are reported on, at most [`MAX_STATUS_COUNT`].
    pub status_count: u16,
    /// The receiver's clock in [`REFERENCE_TICK`]s, 24 bits that wrap.
    pub reference_time: u32,
    /// Counts the feedback packets, to see when one is lost.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    /// Refuses a packet that does not hold every status and delta it claims.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let ([sender, media, base_and_count, time_and_number], rest) = split_words(body)?;
        let status_count = base_and_count as u16;
        if status_count > MAX_STATUS_COUNT {
            return None;
        }
        let (mut left, mut deltas_len, mut chunks_len) = (status_count, 0, 0);
        while left > 0 {
            let chunk = rest.get(chunks_len..)?.first_chunk()?;
            let chunk = Chunk(u16::from_be_bytes(*chunk));
            let count = chunk.len().min(left);
            deltas_len += chunk.delta_len(count)?;
            chunks_len += 2;
            left -= count;
        }
        let (chunks, deltas) = rest.split_at_checked(chunks_len)?;
        Some(TransportFeedback {
            sender: Ssrc(sender),
            media: Ssrc(media),
            base_sequence: (base_and_count >> 16) as u16,
            status_count,
            reference_time: time_and_number >> 8,
            feedback_count: time_and_number as u8,
            chunks,
            deltas: deltas.get(..deltas_len)?,
        })
    }

    /// Each sequence number reported on, as its distance from [`TransportFeedback::base_sequence`],
    /// and how it fared.
    pub fn statuses(&self) -> impl Iterator<Item = (u16, PacketStatus)> + 'a {
        let mut deltas = self.deltas;
        let chunks = self.chunks.as_chunks().0.iter();
        let symbols = chunks
            .map(|c| Chunk(u16::from_be_bytes(*c)))
            .flat_map(|chunk| (0..chunk.len()).filter_map(move |at| chunk.symbol(at)));
        (0..self.status_count)
            .zip(symbols)
            .map(move |(offset, symbol)| {
                let status = match (symbol, deltas) {
                    (Symbol::SmallDelta, [delta, rest @ ..]) => {
                        deltas = rest;
                        PacketStatus::Received(i16::from(*delta))
                    }
                    (Symbol::LargeDelta, [d0, d1, rest @ ..]) => {
                        deltas = rest;
                        PacketStatus::Received(i16::from_be_bytes([*d0, *d1]))
                    }
                    _ => PacketStatus::Lost,
                };
                (offset, status)
            })
    }
}

/// What [`Writer::transport_feedback`] reports.
#[derive(Clone, Copy, Debug)]
pub struct ArrivalReport<'a> {
    /// Who reports.
    pub sender: Ssrc,
    /// One of the streams.
    pub media: Ssrc,
    /// Counts the packets.
    pub feedback_count: u8,
    /// The first sequence number to report on: the one after the last that was reported. Those
    /// between it and the first arrival are lost.
    pub base_sequence: u16,
    /// Sequence numbers, each with when it arrived since any epoch, in the order of sequence
    /// numbers across the wrap too, none twice.
    pub arrivals: &'a [(u16, Duration)],
}

impl Writer<'_> {
    /// Writes one packet about as many arrivals as it can hold, and returns how many; then the
    /// caller goes on with a new packet, the next count and the number after the last as base.
    /// Without arrivals nothing is written.
    ///
    /// # Errors
    /// When there is no room for even one arrival.
    pub fn transport_feedback(&mut self, report: ArrivalReport<'_>) -> Result<usize, NoRoom> {
        let Some(&(first, first_time)) = report.arrivals.first() else {
            return Ok(0);
        };
        // After a gap too long to report, start at what did arrive.
        let base = if first.wrapping_sub(report.base_sequence) < MAX_STATUS_COUNT {
            report.base_sequence
        } else {
            first
        };
        let reference = ticks(first_time) / DELTAS_PER_REFERENCE;

        let room = self.room();
        let mut statuses = StatusEncoder::new(room.get_mut(HEADER_LEN..).ok_or(NoRoom)?);
        let mut last = reference * DELTAS_PER_REFERENCE;
        let mut written = 0;
        for &(sequence, time) in report.arrivals {
            let now = ticks(time);
            let delta = i16::try_from(now.wrapping_sub(last) as i64);
            let offset = sequence.wrapping_sub(base);
            let (Ok(delta), Some(lost)) = (delta, offset.checked_sub(statuses.count)) else {
                break;
            };
            if offset >= MAX_STATUS_COUNT || !statuses.push(lost, delta) {
                break;
            }
            last = now;
            written += 1;
        }
        if written == 0 {
            return Err(NoRoom);
        }

        let count = statuses.count;
        let unpadded = HEADER_LEN + statuses.finish();
        let len = unpadded.next_multiple_of(4);
        let padding = (len - unpadded) as u8;
        let end = room.get_mut(unpadded..len).ok_or(NoRoom)?;
        end.fill(0);
        if let Some(last) = end.last_mut() {
            *last = padding;
        }
        let format = format::TRANSPORT_WIDE | u8::from(padding > 0) << 5;
        let header = header(packet_type::TRANSPORT_FEEDBACK, format, len).ok_or(NoRoom)?;
        let words = [
            u32::from_be_bytes(header),
            report.sender.0,
            report.media.0,
            u32::from(base) << 16 | u32::from(count),
            (reference as u32) << 8 | u32::from(report.feedback_count),
        ];
        for (place, word) in room.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        self.advance(len);
        Ok(written)
    }
}

/// Bytes before the chunks: the RTCP header and four words.
const HEADER_LEN: usize = 20;

fn ticks(time: Duration) -> u64 {
    (time.as_micros() / DELTA_TICK.as_micros()) as u64
}

/// Lays out chunks at the front of the room, and deltas aside until their place is known.
struct StatusEncoder<'a> {
    room: &'a mut [u8],
    /// Bytes of whole chunks.
    chunks_len: usize,
    pending: PendingChunk,
    deltas: [u8; MAX_DELTA_BYTES],
    deltas_len: usize,
    count: u16,
}

#[allow(
    clippy::indexing_slicing,
    reason = "an arrival is added only where `push` has found room for all that it may take"
)]
impl<'a> StatusEncoder<'a> {
    fn new(room: &'a mut [u8]) -> Self {
        StatusEncoder {
            room,
            chunks_len: 0,
            pending: PendingChunk::default(),
            deltas: [0; MAX_DELTA_BYTES],
            deltas_len: 0,
            count: 0,
        }
    }

    /// Adds so many losses and an arrival, or nothing when there may be no room for them.
    fn push(&mut self, lost: u16, delta: i16) -> bool {
        // Losses can complete the pending chunk, split it, and fill whole runs; the arrival can
        // do the first two again; one chunk stays pending; three bytes align the end.
        let chunks = 2 + 2 * usize::from(lost / MAX_RUN + 1) + 2 + 1;
        let needed = self.chunks_len + 2 * chunks + self.deltas_len + 2 + 3;
        if needed > self.room.len() || self.deltas_len + 2 > MAX_DELTA_BYTES {
            return false;
        }
        for _ in 0..lost {
            self.symbol(Symbol::Lost);
        }
        let free = &mut self.deltas[self.deltas_len..];
        let symbol = match u8::try_from(delta) {
            Ok(small) => {
                free[0] = small;
                Symbol::SmallDelta
            }
            Err(_) => {
                free[..2].copy_from_slice(&delta.to_be_bytes());
                Symbol::LargeDelta
            }
        };
        self.deltas_len += symbol.delta_len();
        self.symbol(symbol);
        true
    }

    fn symbol(&mut self, symbol: Symbol) {
        while !self.pending.accepts(symbol) {
            let chunk = self.pending.take_chunk(false);
            self.chunk(chunk);
        }
        self.pending.push(symbol);
        self.count += 1;
    }

    fn chunk(&mut self, chunk: Chunk) {
        self.room[self.chunks_len..self.chunks_len + 2].copy_from_slice(&chunk.0.to_be_bytes());
        self.chunks_len += 2;
    }

    /// Puts the deltas after the chunks and returns the length of both.
    fn finish(mut self) -> usize {
        while self.pending.len > 0 {
            let chunk = self.pending.take_chunk(true);
            self.chunk(chunk);
        }
        let end = self.chunks_len + self.deltas_len;
        self.room[self.chunks_len..end].copy_from_slice(&self.deltas[..self.deltas_len]);
        end
    }
}

/// Statuses that are not yet a chunk: a run of one status, or a list short enough for a vector.
#[derive(Default)]
struct PendingChunk {
    /// The first statuses; in a run the others are the same.
    symbols: [Symbol; ONE_BIT_STATUSES as usize],
    len: u16,
}

#[allow(
    clippy::indexing_slicing,
    reason = "a run or a vector never has more statuses than there is room for"
)]
impl PendingChunk {
    fn symbols(&self) -> &[Symbol] {
        &self.symbols[..usize::from(self.len.min(ONE_BIT_STATUSES))]
    }

    fn is_run(&self) -> bool {
        self.symbols().iter().all(|&s| s == self.symbols[0])
    }

    fn has_large(&self) -> bool {
        self.symbols().contains(&Symbol::LargeDelta)
    }

    fn accepts(&self, symbol: Symbol) -> bool {
        let continues_run = self.is_run() && symbol == self.symbols[0];
        if self.len >= ONE_BIT_STATUSES || self.len == 0 {
            self.len == 0 || continues_run && self.len < MAX_RUN
        } else if self.len < TWO_BIT_STATUSES {
            true
        } else {
            continues_run || !self.has_large() && symbol != Symbol::LargeDelta
        }
    }

    fn push(&mut self, symbol: Symbol) {
        if let Some(place) = self.symbols.get_mut(usize::from(self.len)) {
            *place = symbol;
        }
        self.len += 1;
    }

    /// Cuts off the longest chunk; at least one status must be pending. A vector that is not full
    /// reads as if losses followed, so only the last chunk of a packet may be one.
    fn take_chunk(&mut self, last: bool) -> Chunk {
        let pack = |symbols: &[Symbol], bits: u16, capacity: u16| {
            let packed = symbols
                .iter()
                .fold(0u16, |packed, &s| packed << bits | s as u16);
            packed << (bits * (capacity - symbols.len() as u16))
        };
        if self.is_run() {
            let chunk = Chunk((self.symbols[0] as u16) << 13 | self.len);
            self.len = 0;
            return chunk;
        }
        let one_bit = self.len == ONE_BIT_STATUSES || last && self.len > TWO_BIT_STATUSES;
        if one_bit && !self.has_large() {
            let chunk = Chunk(2 << 14 | pack(self.symbols(), 1, ONE_BIT_STATUSES));
            self.len = 0;
            return chunk;
        }
        let cut = self.len.min(TWO_BIT_STATUSES);
        let chunk = pack(&self.symbols[..usize::from(cut)], 2, TWO_BIT_STATUSES);
        self.symbols.rotate_left(usize::from(cut));
        self.len -= cut;
        Chunk(3 << 14 | chunk)
    }
}
