//! A slot as a browser has it: one receive m-line and what came out of it.
//!
//! In: plaintext packets of the slot's SSRCs, sender reports, time. Out: which packets to ask for
//! again, when to ask for a key frame; a log of what was heard and shown; an error for anything a
//! browser would stumble over or that is not as it was negotiated.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use confab_sfu::media::{Extension, ExtensionMap, Kind};
use confab_sfu::rtp::extension::{HeaderExtensions, elements};
use confab_sfu::rtp::packet::RtpHeader;
use confab_sfu::rtp::rtcp::{ReportBlock, compact_delay, compact_ntp};
use confab_sfu::types::{Mid, Ssrc};

use super::decode::{Decoder, Piece};
use super::media::{self, Stamp};

/// How long a gap may be reordering before it is asked for.
const GRACE: Duration = Duration::from_millis(10);

/// Time between two requests for a packet: a little over the usual round trip here.
const RETRY: Duration = Duration::from_millis(50);

/// After this a packet is of no use.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// How far a stream's timestamps may stray from the time they arrive at. A jitter buffer that has
/// to adapt by more than this is noticed.
const MAX_DRIFT: Duration = Duration::from_millis(500);

/// A packet of sound or a frame that could be played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Played {
    /// When.
    pub at: Instant,
    /// What.
    pub stamp: Stamp,
    /// It is a key frame.
    pub is_key: bool,
    /// How far the recording time that the sender reports say is from the real one, microseconds.
    pub clock_error: Option<i64>,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    next_request: Instant,
}

/// One receive m-line.
#[derive(Debug)]
pub struct Slot {
    /// Its name.
    pub mid: Mid,
    /// Sound or pictures.
    pub kind: Kind,
    /// The SSRC that the answer told.
    pub ssrc: Ssrc,
    /// That of retransmissions.
    pub rtx_ssrc: Option<Ssrc>,
    /// The payload types of media and retransmissions.
    pub payload_types: (u8, Option<u8>),
    /// The ids of header extensions.
    pub map: ExtensionMap,
    /// Everything that was played, in order.
    pub played: Vec<Played>,
    /// Packets that arrived as media, not over RTX.
    pub packets: u64,
    /// Packets that RTX brought back.
    pub repaired: u64,
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
    decoder: Decoder,
    /// When the first packet came, and its timestamp.
    anchor: Option<(Instant, u32)>,
    report: Option<(u64, u32, Instant)>,
}

impl Slot {
    /// A slot as negotiated.
    #[must_use]
    pub fn new(mid: Mid, kind: Kind, ssrc: Ssrc) -> Self {
        Slot {
            mid,
            kind,
            ssrc,
            rtx_ssrc: None,
            payload_types: (0, None),
            map: ExtensionMap::default(),
            played: Vec::new(),
            packets: 0,
            repaired: 0,
            highest: None,
            missing: BTreeMap::new(),
            decoder: Decoder::default(),
            anchor: None,
            report: None,
        }
    }

    fn clock_rate(&self) -> u32 {
        match self.kind {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
    }

    /// Takes a packet of one of the slot's SSRCs. `call_begins` is the NTP time of that.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        packet: &[u8],
        call_begins: u64,
    ) -> Result<HeaderExtensions, String> {
        let extensions = self.check_negotiated(header, packet)?;
        let payload = header.payload(packet);
        let (number, payload) = if header.ssrc == self.ssrc {
            self.packets += 1;
            (header.sequence, payload)
        } else {
            let (number, payload) = payload
                .split_first_chunk()
                .ok_or("an empty retransmission")?;
            (u16::from_be_bytes(*number), payload)
        };
        let sequence = self.extend(number);
        // What the publisher had to send again is late by nature.
        if self.highest.is_none_or(|highest| sequence > highest) {
            self.check_time(now, header.timestamp)?;
        }
        match self.highest {
            None => self.highest = Some(sequence),
            Some(highest) if sequence > highest => {
                let since = Missing {
                    since: now,
                    next_request: now + GRACE,
                };
                if sequence - highest > 2000 {
                    return Err(format!("the sequence jumps by {}", sequence - highest));
                }
                self.missing.extend((highest + 1..sequence).map(|gap| {
                    let Missing {
                        since,
                        next_request,
                    } = since;
                    (
                        gap,
                        Missing {
                            since,
                            next_request,
                        },
                    )
                }));
                self.highest = Some(sequence);
            }
            Some(_) => {
                let was_missing = self.missing.remove(&sequence).is_some();
                // Too late, or sent again needlessly; what came twice SRTP has refused already.
                if !was_missing {
                    return Ok(extensions);
                }
                self.repaired += u64::from(header.ssrc != self.ssrc);
            }
        }
        self.play(now, sequence, header, payload, call_begins)?;
        Ok(extensions)
    }

    fn extend(&self, number: u16) -> u64 {
        // One cycle up, so that numbers before the first one exist.
        let near = self.highest.unwrap_or(0x1_0000 + u64::from(number));
        let ahead = number.wrapping_sub(near as u16) as i16;
        near.wrapping_add_signed(i64::from(ahead))
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
        if Some(header.payload_type) != expected {
            let got = header.payload_type;
            return Err(format!("payload type {got}, negotiated {expected:?}"));
        }
        for (id, _) in elements(packet, header) {
            if self.map.extension(id).is_none() {
                return Err(format!("header extension id {id} was not negotiated"));
            }
        }
        let extensions = HeaderExtensions::parse(packet, header, &self.map);
        if extensions.mid.is_some_and(|mid| mid != self.mid) {
            return Err(format!("the packet says m-line {:?}", extensions.mid));
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
        let drift = ticks / f64::from(self.clock_rate()) - (now - first).as_secs_f64();
        // The very first packets may be ones that their publisher had to send again.
        if drift > 0.0 && now < first + MAX_WAIT {
            self.anchor = Some((now, timestamp));
            return Ok(());
        }
        // Half of the timestamps' range is hours; no simulated call lasts that long.
        if drift.abs() > MAX_DRIFT.as_secs_f64() {
            return Err(format!(
                "the timestamps are {drift:.3} s off the time of arrival"
            ));
        }
        Ok(())
    }

    fn play(
        &mut self,
        now: Instant,
        sequence: u64,
        header: &RtpHeader,
        payload: &[u8],
        call_begins: u64,
    ) -> Result<(), String> {
        if self.kind == Kind::Audio {
            let stamp = media::read_audio(payload).ok_or("sound has changed on the way")?;
            let clock_error = self.clock_error(header.timestamp, stamp, call_begins);
            self.played.push(Played {
                at: now,
                stamp,
                is_key: false,
                clock_error,
            });
            return Ok(());
        }
        let (descriptor, bytes) =
            media::depacketize(payload).ok_or("the VP8 payload descriptor is broken")?;
        self.decoder.insert(
            sequence,
            Piece {
                marker: header.marker,
                timestamp: header.timestamp,
                descriptor,
                bytes: bytes.to_vec(),
            },
        );
        while let Some(frame) = self.decoder.poll(now)? {
            let clock_error = self.clock_error(frame.timestamp, frame.stamp, call_begins);
            self.played.push(Played {
                at: now,
                stamp: frame.stamp,
                is_key: frame.is_key,
                clock_error,
            });
        }
        Ok(())
    }

    /// How often the sequence number has wrapped.
    #[must_use]
    pub fn wraps(&self) -> u64 {
        self.highest.map_or(0, |highest| (highest >> 16) - 1)
    }

    /// Takes a sender report.
    pub fn handle_sender_report(&mut self, now: Instant, ntp: u64, timestamp: u32) {
        self.report = Some((ntp, timestamp, now));
    }

    fn clock_error(&self, timestamp: u32, stamp: Stamp, call_begins: u64) -> Option<i64> {
        let (ntp, reported, _) = self.report?;
        let since_report = i64::from(timestamp.wrapping_sub(reported) as i32);
        let reported_at = (i128::from(ntp.wrapping_sub(call_begins)) * 1_000_000) >> 32;
        let said = reported_at as i64 + since_report * 1_000_000 / i64::from(self.clock_rate());
        Some(said - stamp.captured as i64)
    }

    /// The numbers to ask for again now.
    pub fn poll_nack(&mut self, now: Instant) -> Vec<u16> {
        self.missing.retain(|_, m| now < m.since + MAX_WAIT);
        let due = self
            .missing
            .iter_mut()
            .filter(|(_, m)| now >= m.next_request);
        due.map(|(&sequence, missing)| {
            missing.next_request = now + RETRY;
            sequence as u16
        })
        .collect()
    }

    /// Whether to ask for a key frame now.
    pub fn poll_key_frame(&mut self, now: Instant) -> bool {
        self.decoder.wants_key_frame(now)
    }

    /// When there is something to ask for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let requests = self.missing.values().map(|m| m.next_request);
        requests.chain(self.decoder.next_deadline()).min()
    }

    /// The slot's part of a receiver report.
    #[must_use]
    pub fn report_block(&self, now: Instant) -> Option<ReportBlock> {
        let highest = self.highest?;
        let (ntp, held) = self
            .report
            .map_or((0, Duration::ZERO), |(ntp, _, at)| (ntp, now - at));
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: 0,
            cumulative_lost: self.missing.len() as i32,
            extended_highest: highest as u32,
            jitter: 0,
            last_sender_report: compact_ntp(ntp),
            delay_since_last: compact_delay(held),
        })
    }
}
