//! A slot as a browser has it: one receive m-line and what came out of it.
//!
//! In: plaintext packets of the slot's SSRCs, sender reports, time. Out: which packets to ask for
//! again, when to ask for a key frame; what was heard and shown; an error for anything a browser
//! would stumble over or that is not as it was negotiated.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use confab_bot::sample::{AudioReceived, VideoReceived};
use confab_sfu::clock::Clock;
use confab_sfu::inside::publish::repair::Repairer;
use confab_sfu::inside::publish::unwrap::strip;
use confab_sfu::inside::rtp::extension::{HeaderExtensions, PlayoutDelay, clear_mutable, elements};
use confab_sfu::inside::rtp::fec::ulpfec;
use confab_sfu::inside::rtp::packet::RtpHeader;
use confab_sfu::inside::rtp::rtcp::ReportBlock;
use confab_sfu::inside::rtp::sequence::SequenceNumber;
use confab_sfu::media::{Extension, ExtensionMap, Kind};
use confab_sfu::types::{Mid, Ssrc};

use super::decode::{Decoder, Frame, Piece};
use super::media::{self, Stamp};
use super::nack::{Arrival, NackRequester};
use super::reception::{Reception, SenderReport};
use super::screen::Screen;
use super::sdp::{RED, ULPFEC};
use super::sound::SoundBuffer;
use crate::virtual_time::plane::CALL_BEGINS;

/// Numbers by which a sequence may go on at once.
const MAX_JUMP: u64 = 2000;

/// The first packets may be ones that their publisher had to send again; for how long.
const SETTLING: Duration = Duration::from_secs(1);

/// How far a stream's timestamps may run ahead of the time they arrive at. A jitter buffer that has
/// to adapt by more than this is noticed.
const MAX_AHEAD: Duration = Duration::from_millis(500);

/// How far they may lag: what was lost at first comes late.
const MAX_LAG: Duration = Duration::from_millis(1500);

/// A packet of audio that arrived in time for some listener, or a frame that was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Played {
    pub at: Instant,
    pub stamp: Stamp,
    /// It is a key frame.
    pub is_key: bool,
    /// How far the recording time that the sender reports say is from the real one, microseconds.
    pub clock_error: Option<i64>,
}

#[derive(Debug)]
pub struct Slot {
    pub mid: Mid,
    pub kind: Kind,
    /// The SSRC that the answer told.
    pub ssrc: Ssrc,
    pub rtx_ssrc: Option<Ssrc>,
    /// The payload types of media and retransmissions.
    pub payload_types: (u8, Option<u8>),
    /// RED and ULPFEC were negotiated.
    pub has_fec: bool,
    /// The ids of header extensions.
    pub map: ExtensionMap,
    /// Every packet of audio that arrived and every frame that was shown, in order.
    pub played: Vec<Played>,
    /// Packets that arrived as media, not over RTX.
    pub packets: u64,
    /// Packets that RTX brought back.
    pub repaired: u64,
    /// Packets that FEC gave back.
    pub recovered: u64,
    epoch: Instant,
    is_patient: bool,
    nack: NackRequester,
    reception: Reception,
    repairer: Repairer,
    decoder: Decoder,
    screen: Screen,
    sound: SoundBuffer,
    /// The last packet's first sample.
    sample: Option<u64>,
    bounds: Option<PlayoutDelay>,
    /// When the first packet came, and its timestamp.
    anchor: Option<(Instant, u32)>,
}

impl Slot {
    /// The highest number that came, as the server counts.
    #[must_use]
    pub fn newest(&self) -> u16 {
        self.reception.newest()
    }

    /// A slot as negotiated, in a call that began at `epoch`. A patient one does not mind how late
    /// things come.
    #[must_use]
    pub fn new(epoch: Instant, mid: Mid, kind: Kind, ssrc: Ssrc, is_patient: bool) -> Self {
        Slot {
            mid,
            kind,
            ssrc,
            rtx_ssrc: None,
            payload_types: (0, None),
            has_fec: false,
            map: ExtensionMap::default(),
            played: Vec::new(),
            packets: 0,
            repaired: 0,
            recovered: 0,
            epoch,
            is_patient,
            nack: NackRequester::default(),
            reception: Reception::new(clock_rate(kind)),
            repairer: Repairer::default(),
            decoder: Decoder::default(),
            screen: Screen::default(),
            sound: SoundBuffer::default(),
            sample: None,
            bounds: None,
            anchor: None,
        }
    }

    /// Takes a packet of one of the slot's SSRCs. `round_trip` is that to the server.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        packet: &[u8],
        round_trip: Duration,
    ) -> Result<HeaderExtensions, String> {
        let extensions = self.check_negotiated(header, packet)?;
        let is_repair = header.ssrc != self.ssrc;
        let payload = header.payload(packet);
        // Padding, with which the server finds out what the way carries.
        if is_repair && payload.is_empty() {
            return Ok(extensions);
        }
        let (number, media) = if is_repair {
            let (number, media) = payload
                .split_first_chunk()
                .ok_or("an empty retransmission")?;
            (u16::from_be_bytes(*number), media)
        } else {
            (header.sequence, payload)
        };
        let sequence = self.extend(number);
        let highest = self.nack.highest();
        if highest.is_some_and(|highest| sequence > highest + MAX_JUMP) {
            return Err(format!("the sequence jumps to {number}"));
        }
        // What the publisher had to send again is late by nature.
        if highest.is_none_or(|highest| sequence > highest) && !self.is_patient {
            self.check_time(now, header.timestamp)?;
        }
        if !is_repair {
            self.packets += 1;
            self.reception
                .handle_packet(now, sequence, header.timestamp);
        }
        self.bounds = extensions.playout_delay.or(self.bounds);
        let arrival = self.nack.handle_packet(now, sequence, is_repair);
        let red = packet_in_red(header, packet);
        let is_fec = matches!(red, Some((ULPFEC, _)));
        self.count(payload.len(), is_repair, is_fec);
        // Too late, or sent again needlessly; what came twice SRTP has refused already.
        if arrival == Arrival::Needless {
            return Ok(extensions);
        }
        if let Some((ULPFEC, block)) = red {
            let repair = ulpfec::parse(block).map_err(|fault| fault.to_string())?;
            let newest = SequenceNumber(self.nack.highest().unwrap_or(sequence));
            self.repairer.handle_repair(newest, &repair);
            self.recover(now, round_trip)?;
            return Ok(extensions);
        }
        self.repaired += u64::from(is_repair);
        match self.kind {
            Kind::Audio => self.hear(now, header, media)?,
            Kind::Video => {
                let was_asked_for = arrival.was_asked_for();
                let media = red.map_or(media, |(_, block)| block);
                // A number under which there is nothing.
                if media.is_empty() {
                    return Ok(extensions);
                }
                self.see(now, sequence, header, media, was_asked_for, round_trip)?;
                if !is_repair {
                    self.keep(sequence, header, packet, red.is_some());
                    self.recover(now, round_trip)?;
                }
            }
        }
        Ok(extensions)
    }

    /// Keeps a packet for the sake of others, in the form in which it was protected.
    fn keep(&mut self, sequence: u64, header: &RtpHeader, packet: &[u8], is_red: bool) {
        let (mut plain, mut header) = (packet.to_vec(), *header);
        let wrapping = usize::from(is_red);
        let Some(plain) = strip(&mut plain, &mut header, wrapping, self.payload_types.0) else {
            return;
        };
        clear_mutable(plain, &header, &self.map);
        self.repairer.handle_media(SequenceNumber(sequence), plain);
    }

    /// Takes the packets that FEC gives back.
    fn recover(&mut self, now: Instant, round_trip: Duration) -> Result<(), String> {
        let mut repairer = std::mem::take(&mut self.repairer);
        while let Some((sequence, packet)) = repairer.poll_recovered(self.ssrc) {
            let header = RtpHeader::parse(packet).map_err(|fault| fault.to_string())?;
            let arrival = self.nack.handle_packet(now, sequence.0, true);
            if arrival != Arrival::Needless {
                self.recovered += 1;
                let media = header.payload(packet).to_vec();
                let was_asked_for = arrival.was_asked_for();
                self.see(now, sequence.0, &header, &media, was_asked_for, round_trip)?;
            }
        }
        self.repairer = repairer;
        Ok(())
    }

    fn extend(&self, number: u16) -> u64 {
        // One cycle up, so that numbers before the first one exist.
        let near = self.nack.highest().unwrap_or(0x1_0000 + u64::from(number));
        let ahead = number.wrapping_sub(near as u16) as i16;
        near.wrapping_add_signed(i64::from(ahead))
    }

    fn count(&mut self, bytes: usize, is_repair: bool, is_fec: bool) {
        if self.kind == Kind::Audio {
            return;
        }
        let lost = self.reception.lost();
        let counters = self.screen.counters();
        counters.packets += u64::from(!is_repair);
        counters.bytes += bytes as u64;
        counters.fec_bytes += if is_fec { bytes as u64 } else { 0 };
        counters.retransmitted_bytes += if is_repair { bytes as u64 } else { 0 };
        counters.lost = lost;
    }

    fn check_negotiated(
        &self,
        header: &RtpHeader,
        packet: &[u8],
    ) -> Result<HeaderExtensions, String> {
        let expected = if header.ssrc == self.ssrc {
            Some(self.payload_types.0)
        } else {
            self.payload_types.1
        };
        let is_red = self.has_fec && header.ssrc == self.ssrc && header.payload_type == RED;
        if Some(header.payload_type) != expected && !is_red {
            let got = header.payload_type;
            return Err(format!("payload type {got}, negotiated {expected:?}"));
        }
        for (id, _) in elements(packet, header) {
            if self.map.extension(id).is_none() {
                return Err(format!("header extension id {id} was not negotiated"));
            }
        }
        let extensions = HeaderExtensions::parse(packet, header, &self.map);
        let mid = extensions.mid.map(|mid| mid.of(packet));
        if mid.is_some_and(|mid| mid != self.mid.as_bytes()) {
            return Err(format!("the packet says m-line {mid:?}"));
        }
        for (extension, is_there) in [
            (Extension::Mid, extensions.mid.is_some()),
            (
                Extension::TransportSequence,
                extensions.transport_sequence.is_some(),
            ),
            (Extension::AbsSendTime, extensions.abs_send_time.is_some()),
            (
                Extension::AudioLevel,
                extensions.audio_level.is_some() || self.kind == Kind::Video,
            ),
        ] {
            if self.map.id(extension).is_some() != is_there && self.map.id(extension).is_some() {
                return Err(format!("the packet lacks {extension:?}"));
            }
        }
        Ok(extensions)
    }

    fn check_time(&mut self, now: Instant, timestamp: u32) -> Result<(), String> {
        let (first, began) = *self.anchor.get_or_insert((now, timestamp));
        let ticks = f64::from(timestamp.wrapping_sub(began) as i32);
        let drift = ticks / f64::from(clock_rate(self.kind)) - (now - first).as_secs_f64();
        // The very first packets may be ones that their publisher had to send again.
        if drift > 0.0 && now < first + SETTLING {
            self.anchor = Some((now, timestamp));
            return Ok(());
        }
        // Half of the timestamps' range is hours; no simulated call lasts that long.
        if drift > MAX_AHEAD.as_secs_f64() || drift < -MAX_LAG.as_secs_f64() {
            return Err(format!(
                "the timestamps are {drift:.3} s off the time of arrival"
            ));
        }
        Ok(())
    }

    fn hear(&mut self, now: Instant, header: &RtpHeader, payload: &[u8]) -> Result<(), String> {
        let stamp = media::read_audio(payload).ok_or("sound has changed on the way")?;
        // One cycle up, so that samples before the first one exist.
        let near = self
            .sample
            .unwrap_or((1 << 32) + u64::from(header.timestamp));
        let ahead = header.timestamp.wrapping_sub(near as u32) as i32;
        let sample = near.wrapping_add_signed(i64::from(ahead));
        self.sample = Some(sample);
        self.sound.insert(now, sample, stamp.source);
        let heard = self.sound.heard.entry(stamp.source).or_default();
        heard.packets += 1;
        heard.bytes += payload.len() as u64;
        heard.lost = self.reception.lost();
        self.played.push(Played {
            at: now,
            stamp,
            is_key: false,
            clock_error: self.clock_error(header.timestamp, stamp),
        });
        Ok(())
    }

    fn see(
        &mut self,
        now: Instant,
        sequence: u64,
        header: &RtpHeader,
        payload: &[u8],
        was_asked_for: bool,
        round_trip: Duration,
    ) -> Result<(), String> {
        let (descriptor, bytes) =
            media::depacketize(payload).ok_or("the VP8 payload descriptor is broken")?;
        let piece = Piece {
            marker: header.marker,
            timestamp: header.timestamp,
            descriptor,
            bytes: bytes.to_vec(),
            was_asked_for,
            came: now,
        };
        // libwebrtc waits for no round trip where it has FEC (`kProtectionNackFEC`).
        let round_trip = match self.has_fec {
            true => Duration::ZERO,
            false => round_trip,
        };
        if self.has_fec {
            self.decoder.count_pictures();
        }
        self.decoder.insert(now, sequence, piece);
        while let Some(frame) = self.decoder.poll(now)? {
            self.screen
                .handle_frame(now, frame, round_trip, self.bounds);
        }
        if let Some(next) = self.decoder.next() {
            self.nack.clear_up_to(next);
        }
        self.show(now);
        Ok(())
    }

    fn show(&mut self, now: Instant) {
        while let Some(frame) = self.screen.poll(now, now - self.epoch) {
            let Frame { stamp, is_key, .. } = frame;
            self.played.push(Played {
                at: now,
                stamp,
                is_key,
                clock_error: self.clock_error(frame.timestamp, stamp),
            });
        }
    }

    /// Plays what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.kind {
            Kind::Audio => self.sound.handle_timeout(now),
            Kind::Video => self.show(now),
        }
    }

    /// How often the sequence number has wrapped.
    #[must_use]
    pub fn wraps(&self) -> u64 {
        self.nack.highest().map_or(0, |highest| (highest >> 16) - 1)
    }

    /// Takes a sender report.
    pub fn handle_sender_report(&mut self, report: SenderReport) {
        self.reception.handle_sender_report(report);
    }

    fn clock_error(&self, timestamp: u32, stamp: Stamp) -> Option<i64> {
        let report = self.reception.sender_report()?;
        let call_begins = Clock::new(self.epoch, std::time::SystemTime::UNIX_EPOCH + CALL_BEGINS);
        let since_report = i64::from(timestamp.wrapping_sub(report.timestamp) as i32);
        let since_beginning = report.ntp.wrapping_sub(call_begins.ntp(self.epoch));
        let reported_at = (i128::from(since_beginning) * 1_000_000) >> 32;
        let said = reported_at as i64 + since_report * 1_000_000 / i64::from(clock_rate(self.kind));
        Some(said - stamp.captured as i64)
    }

    /// The numbers to ask for again now. NACK is negotiated for video only.
    pub fn poll_nack(&mut self, now: Instant, round_trip: Duration) -> Vec<u16> {
        if self.kind == Kind::Audio {
            return Vec::new();
        }
        let lost = self.nack.poll(now, round_trip);
        self.screen.counters().nacks += u64::from(!lost.is_empty());
        lost
    }

    /// Whether to ask for a key frame now.
    pub fn poll_key_frame(&mut self, now: Instant) -> bool {
        if self.kind == Kind::Audio {
            return false;
        }
        let is_wanted = self.decoder.wants_key_frame(now) | self.nack.poll_key_frame();
        self.screen.counters().key_frame_requests += u64::from(is_wanted);
        is_wanted
    }

    /// When there is something to play or to ask for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.kind {
            Kind::Audio => self.sound.next_deadline(),
            Kind::Video => {
                let picture = self.decoder.next_deadline().into_iter();
                let deadlines = picture.chain(self.screen.next_deadline());
                deadlines.chain(self.nack.next_deadline()).min()
            }
        }
    }

    /// The slot's part of a receiver report.
    #[must_use]
    pub fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        self.reception.report_block(now, self.ssrc)
    }

    /// What was heard of each source so far.
    #[must_use]
    pub fn heard(&self) -> &BTreeMap<u32, AudioReceived> {
        &self.sound.heard
    }

    /// What was seen of each source so far, with picture delays since this was last asked.
    pub fn take_seen(&mut self) -> BTreeMap<u32, VideoReceived> {
        self.screen.take_seen()
    }
}

/// What a RED packet carries: its payload type, and the block.
fn packet_in_red<'a>(header: &RtpHeader, packet: &'a [u8]) -> Option<(u8, &'a [u8])> {
    let is_red = header.payload_type == RED;
    let (first, block) = header.payload(packet).split_first()?;
    is_red.then_some((first & 0x7f, block))
}

/// Ticks a second of the timestamps.
fn clock_rate(kind: Kind) -> u32 {
    match kind {
        Kind::Audio => 48_000,
        Kind::Video => 90_000,
    }
}
