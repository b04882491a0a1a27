//! What a simulated client tells of its call: the same lines as any other client.
//!
//! In: the call and its links, once a virtual second. Out: a [`ClientLog`]. Times are those of the
//! server's clock, so that nothing of a run depends on when it was made.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use confab_bot::sample::{Line, Received, Sample, Sent};
use confab_sfu::media::Kind;

use super::call::{Call, Person};
use super::client::Client;
use super::plane::CALL_BEGINS;
use crate::figures::{ClientLog, LinkSample};
use crate::link::Reading;

/// The time of a line, milliseconds since 1970, by the time since the call began.
#[must_use]
pub fn line_time(elapsed: Duration) -> f64 {
    (CALL_BEGINS + elapsed).as_micros() as f64 / 1000.0
}

/// What one client tells.
#[derive(Debug)]
pub struct Recorder {
    person: Person,
    log: ClientLog,
    is_connected: bool,
    has_failed: bool,
    /// The persons whose pictures it has shown.
    shown: Vec<u32>,
}

impl Recorder {
    /// Of somebody who joins now. Signaling takes no time.
    #[must_use]
    pub fn new(call: &Call, person: Person) -> Self {
        let at = line_time(call.elapsed());
        let log = ClientLog {
            name: call[person].name.clone(),
            lines: vec![Line::Joining { at }, Line::Joined { at }],
            link: Vec::new(),
        };
        Recorder {
            person,
            log,
            is_connected: false,
            has_failed: false,
            shown: Vec::new(),
        }
    }

    /// Who it is.
    #[must_use]
    pub fn person(&self) -> Person {
        self.person
    }

    /// What was told so far.
    #[must_use]
    pub fn into_log(self) -> ClientLog {
        self.log
    }

    /// Takes what has happened since the last time, and how the call and the links of this client
    /// stand. `name` knows people by the number of their peer.
    pub fn sample(
        &mut self,
        call: &mut Call,
        (up, down): (Reading, Reading),
        name: impl Fn(u32) -> String,
    ) {
        let (epoch, elapsed) = (call.now() - call.elapsed(), call.elapsed());
        let at = line_time(elapsed);
        self.log.link.push(LinkSample {
            at,
            up: up.into(),
            down: down.into(),
        });
        if self.has_failed {
            return;
        }
        if let Some(at) = call[self.person]
            .connected_at()
            .filter(|_| !self.is_connected)
        {
            self.is_connected = true;
            let at = line_time(at - epoch);
            self.log.lines.push(Line::Connected { at });
        }
        self.note_first_frames(&call[self.person], epoch, &name);
        if let Some((at, why)) = call.fault(self.person) {
            self.has_failed = true;
            let (at, why) = (line_time(at), why.to_owned());
            self.log.lines.push(Line::Failed { at, why });
            return;
        }
        let quality = call.peer_stats(self.person).map(|stats| stats.quality);
        let client = &mut call[self.person];
        let received = received(client, &name);
        self.log.lines.push(Line::Sample(Sample {
            at,
            rtt_ms: client.ice_round_trip().map(|rtt| rtt.as_secs_f64() * 1e3),
            available_outgoing: None,
            downlink_estimate: quality.map(|quality| quality.estimate.as_bps() as f64),
            flow_bytes: None,
            path: self.is_connected.then(|| "udp".to_owned()),
            sent: sent(client),
            received,
        }));
    }

    fn note_first_frames(
        &mut self,
        client: &Client,
        epoch: Instant,
        name: &impl Fn(u32) -> String,
    ) {
        let screens = client.slots.iter().filter(|s| s.kind == Kind::Video);
        for played in screens.flat_map(|slot| &slot.played) {
            let peer = played.stamp.source >> 8;
            if !self.shown.contains(&peer) {
                self.shown.push(peer);
                self.log.lines.push(Line::FirstFrame {
                    at: line_time(played.at - epoch),
                    from: name(peer),
                });
            }
        }
    }
}

/// A source stays in its slot throughout a run, as nobody leaves or chooses.
fn received(client: &mut Client, name: &impl Fn(u32) -> String) -> Vec<Received> {
    let mut received: BTreeMap<u32, Received> = BTreeMap::new();
    for slot in &mut client.slots {
        for (&source, heard) in slot.heard() {
            received.entry(source >> 8).or_default().audio = Some(heard.clone());
        }
        for (source, seen) in slot.take_seen() {
            received.entry(source >> 8).or_default().video = Some(seen);
        }
    }
    // Pictures of which nothing was shown yet are nobody's.
    received.remove(&0);
    let named = received.into_iter().map(|(peer, received)| Received {
        from: name(peer),
        ..received
    });
    named.collect()
}

fn sent(client: &Client) -> Sent {
    let mut sent = Sent::default();
    let mut target = 0.0;
    for source in &client.sources {
        target += source.target_bitrate();
        match source.kind {
            Kind::Audio => sent.audio_bytes += source.sent.bytes,
            Kind::Video => {
                sent.video_bytes += source.sent.bytes;
                sent.video_retransmitted_bytes += source.sent.retransmitted_bytes;
                sent.frames_encoded += source.sent.frames;
            }
        }
    }
    sent.target_bitrate = Some(target);
    sent
}
