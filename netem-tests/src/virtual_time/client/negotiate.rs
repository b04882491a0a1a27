//! What a client negotiates: its m-lines, its offers, and how it takes the answers.

use std::time::Instant;

use confab_sfu::inside::peer::dtls::{DtlsEndpoint, Role};
use confab_sfu::media::Kind;
use confab_sfu::types::{Mid, Rid, Ssrc};
use rand::Rng;

use super::Client;
use super::receive::Slot;
use super::sdp::{self, Answer, Answered, Line, Transport, Use};
use super::send::{Beginning, Plan, Source};
use super::setup::Setup;

/// The simulcast names, smallest encoding first.
const RIDS: [&str; 3] = ["q", "h", "f"];

impl Client {
    /// Adds a sending m-line, in the place of a stopped one if there is one; offer afterwards.
    /// Returns the source's name in what it records.
    ///
    /// # Panics
    /// Never: the names it makes are valid.
    pub fn add_source(&mut self, kind: Kind, simulcast: bool) -> u32 {
        let count = if simulcast { RIDS.len() } else { 1 };
        let rtx = kind == Kind::Video;
        let streams: Vec<(Ssrc, Option<Ssrc>)> = (0..count)
            .map(|_| {
                let media = Ssrc(self.rng.random());
                (media, rtx.then(|| Ssrc(self.rng.random())))
            })
            .collect();
        let names: &[&str] = if simulcast { &RIDS } else { &[] };
        let mid = self.add_line(
            kind,
            Use::Send {
                encodings: streams.clone(),
                rids: names.iter().map(|&rid| rid.to_owned()).collect(),
            },
        );
        let beginning = self.setup.beginning.unwrap_or(Beginning {
            sequence: self.rng.random(),
            timestamp: self.rng.random(),
            picture_id: self.rng.random::<u16>() & 0x7fff,
        });
        let pictures = self.setup.pictures(simulcast).into_iter();
        let plans: Vec<Plan> = streams
            .into_iter()
            .zip(pictures)
            .enumerate()
            .map(|(index, ((ssrc, rtx_ssrc), (frame_len, size)))| Plan {
                rid: names.get(index).map(|rid| Rid::new(rid).expect("a rid")),
                ssrc,
                rtx_ssrc,
                frame_len,
                size,
                is_layered: self.setup.is_layered && kind == Kind::Video,
            })
            .collect();
        let id = (self.peer.0 as u32) << 8 | self.sources.len() as u32;
        let source = Source::new(id, mid, kind, &plans, beginning);
        self.sources.push(source);
        id
    }

    /// Adds a slot; offer afterwards.
    pub fn add_slot(&mut self, kind: Kind) -> Mid {
        self.add_line(kind, Use::Slot)
    }

    fn add_line(&mut self, kind: Kind, usage: Use) -> Mid {
        // Names are never used again, places are.
        let name = self.rng.random_range(0x100..0x1000);
        let mid = format!("{}{name:x}", self.lines.len());
        let line = Line {
            mid: mid.clone(),
            kind,
            usage,
            is_paused: false,
        };
        match self
            .lines
            .iter_mut()
            .find(|line| line.usage == Use::Stopped)
        {
            Some(stopped) => *stopped = line,
            None => self.lines.push(line),
        }
        Mid::new(mid).expect("a mid")
    }

    /// Stops an m-line; offer afterwards.
    pub fn stop_line(&mut self, mid: Mid) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.mid == mid.as_str()) {
            line.usage = Use::Stopped;
        }
        self.sources.retain(|source| source.mid != mid);
        self.slots.retain(|slot| slot.mid != mid);
    }

    /// Makes an m-line inactive for a while, or active again; offer afterwards.
    pub fn pause_line(&mut self, mid: Mid, is_paused: bool) {
        let mut lines = self.lines.iter_mut();
        if let Some(line) = lines.find(|line| line.mid == mid.as_str()) {
            line.is_paused = is_paused;
        }
        let now_paused = |source: &&mut Source| source.mid == mid && is_paused;
        if let Some(source) = self.sources.iter_mut().find(now_paused) {
            source.stop();
        }
    }

    /// The number of m-lines, stopped ones included.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Makes new ICE credentials; offer afterwards.
    pub fn restart_ice(&mut self) {
        self.ice.restart(&mut self.rng);
    }

    /// The offer for what the client wants now.
    pub fn offer(&mut self) -> String {
        self.version += 1;
        let (ufrag, pwd) = self.ice.local();
        let transport = Transport {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
            fingerprint: self.certificate.fingerprint().to_string(),
            setup: self.setup.dtls,
        };
        let dialect = self.setup.dialect;
        let mut offer = sdp::offer(dialect, &self.lines, &transport, self.version);
        if !self.setup.has_rtx {
            offer = sdp::without_rtx(&offer, dialect);
        }
        if !self.setup.has_pli {
            offer = sdp::without_pli(&offer);
        }
        if self.setup.has_fec {
            offer = sdp::with_fec(&offer, dialect);
        }
        match self.setup.sends_remb {
            true => sdp::without_transport_feedback(&offer),
            false => offer,
        }
    }

    /// Takes the answer to its last offer.
    ///
    /// # Errors
    /// When the answer is not one to that offer.
    pub fn handle_answer(&mut self, now: Instant, answer: &str) -> Result<(), String> {
        let answer = Answer::parse(answer);
        if answer.lines.len() != self.lines.len() {
            return Err("the answer has another number of m-lines than the offer".into());
        }
        for at in 0..answer.lines.len() {
            self.take_line(now, at, &answer.lines[at])?;
        }
        let server = answer
            .candidates
            .first()
            .ok_or("an answer without candidate")?;
        self.ice.connect(now, *server, &answer.ufrag, &answer.pwd);
        if self.dtls.is_none() {
            let fingerprint = answer.fingerprint.parse().map_err(|_| "no fingerprint")?;
            let role = match answer.setup.as_str() {
                "active" => Role::Server,
                "passive" => Role::Client,
                other => return Err(format!("a=setup:{other} in an answer")),
            };
            self.dtls = Some(DtlsEndpoint::new(
                now,
                role,
                &self.certificate,
                vec![fingerprint],
            ));
        }
        Ok(())
    }

    /// Takes the answer to one m-line.
    fn take_line(&mut self, now: Instant, at: usize, answered: &Answered) -> Result<(), String> {
        let line = &self.lines[at];
        let payload_types = check_line(&self.setup, line, answered)?;
        let mid = Mid::new(&line.mid).map_err(|e| e.to_string())?;
        if line.is_paused {
            return Ok(());
        }
        match &line.usage {
            Use::Send { rids, .. } => {
                if *rids != answered.rids {
                    return Err(format!("offered {rids:?}, answered {:?}", answered.rids));
                }
                if let Some(source) = self.sources.iter_mut().find(|s| s.mid == mid) {
                    source.payload_types = payload_types;
                    source.has_fec = self.setup.has_fec && line.kind == Kind::Video;
                    source.map = answered.to_server;
                    if self.secured.is_some() {
                        source.start(now);
                    }
                }
            }
            Use::Slot => {
                let ssrc = answered.ssrc.ok_or("a slot without SSRC")?;
                if !self.slots.iter().any(|slot| slot.mid == mid) {
                    let is_patient = self.setup.is_patient;
                    let slot = Slot::new(self.epoch, mid, line.kind, ssrc, is_patient);
                    self.slots.push(slot);
                }
                for slot in self.slots.iter_mut().filter(|slot| slot.mid == mid) {
                    if slot.ssrc != ssrc {
                        return Err("a slot's SSRC changes".into());
                    }
                    slot.rtx_ssrc = answered.rtx_ssrc;
                    slot.payload_types = payload_types;
                    slot.has_fec = self.setup.has_fec && line.kind == Kind::Video;
                    slot.map = answered.from_server;
                }
            }
            Use::Stopped => {}
        }
        Ok(())
    }
}

/// The payload types of media and retransmissions on an m-line, if its answer fits its offer.
fn check_line(setup: &Setup, line: &Line, answered: &Answered) -> Result<(u8, Option<u8>), String> {
    let is_as_wanted = answered.mid == line.mid
        && match line.usage {
            Use::Send { .. } | Use::Slot if line.is_paused => {
                !answered.sends && !answered.receives && !answered.is_stopped
            }
            Use::Send { .. } => answered.receives && !answered.sends,
            Use::Slot => answered.sends && !answered.receives,
            Use::Stopped => answered.is_stopped,
        };
    if !is_as_wanted {
        return Err(format!(
            "m-line {} was answered with {answered:?}",
            line.mid
        ));
    }
    let dialect = setup.dialect;
    let payload_types = match line.kind {
        Kind::Audio => (dialect.opus, None),
        Kind::Video => (dialect.vp8, setup.has_rtx.then_some(dialect.vp8_rtx)),
    };
    let has_fec = setup.has_fec && line.kind == Kind::Video;
    let [red, ulpfec] = [sdp::RED, sdp::ULPFEC].map(|pt| has_fec.then_some(pt));
    let mut wanted = [Some(payload_types.0), payload_types.1, red, ulpfec]
        .into_iter()
        .flatten();
    if line.usage != Use::Stopped && !wanted.all(|pt| answered.payload_types.contains(&pt)) {
        return Err(format!(
            "m-line {} lacks one of {payload_types:?}",
            line.mid
        ));
    }
    Ok(payload_types)
}
