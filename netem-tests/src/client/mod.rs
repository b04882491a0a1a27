//! A simulated browser: one PeerConnection with its cameras, its slots and its judgement.
//!
//! Sans-I/O. In: answers, datagrams, time. Out: offers, datagrams. Whatever the server sends has to
//! be what the client negotiated; the first thing that is not is an error, and ends the test.
//!
//! - `sdp.rs` writes offers in Chromium's or Firefox's numbers and reads answers
//! - `ice.rs` makes the connectivity checks
//! - `send.rs` and `media.rs` record, packetize, and send again
//! - `receive.rs` and `decode.rs` receive, ask again, and play

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use confab_sfu::clock::Clock;
use confab_sfu::media::Kind;
use confab_sfu::peer::dtls::{Certificate, DtlsEndpoint, DtlsOutput, POLL_BUFFER_LEN, SrtpKeys};
use confab_sfu::peer::srtp::{MAX_SRTP_TRAILER, SrtpReceiver, SrtpSender};
use confab_sfu::rtp::packet::{PacketClass, RtpHeader};
use confab_sfu::rtp::rtcp::{NoRoom, Packet, PacketStatus, Packets, SenderInfo, Writer};
use confab_sfu::types::{Mid, PeerId, Rid, Ssrc};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub mod decode;
pub mod ice;
pub mod media;
pub mod receive;
pub mod sdp;
pub mod send;

use ice::Ice;
use receive::Slot;
use sdp::{Answer, Dialect, Line, Transport, Use};
use send::{Beginning, Outgoing, Source, packet_buffer};

/// Time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Time to the first reports, as libwebrtc's, which halves the interval for the first.
const FIRST_REPORT: Duration = Duration::from_millis(500);

/// Bytes of an inter frame: 600 kbit/s at 30 frames a second.
const FRAME_LEN: u32 = 2500;

/// The same for the encodings of a simulcast, smallest first.
const SIMULCAST_FRAME_LENS: [u32; 3] = [500, 1600, 5000];

/// The simulcast names, in the same order.
const RIDS: [&str; 3] = ["q", "h", "f"];

/// How a client is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    dialect: &'static Dialect,
    audio: bool,
    video: bool,
    simulcast: bool,
    audio_slots: usize,
    video_slots: usize,
    beginning: Option<Beginning>,
    frame_len: u32,
    is_tolerant: bool,
}

/// A client that publishes nothing yet and has two slots of each kind.
#[must_use]
pub fn publish() -> Setup {
    Setup {
        dialect: &sdp::CHROMIUM,
        audio: false,
        video: false,
        simulcast: false,
        audio_slots: 2,
        video_slots: 2,
        beginning: None,
        frame_len: FRAME_LEN,
        is_tolerant: false,
    }
}

/// A client that only watches and listens.
#[must_use]
pub fn watch() -> Setup {
    publish()
}

impl Setup {
    /// With a microphone.
    #[must_use]
    pub fn audio(self) -> Self {
        Setup {
            audio: true,
            ..self
        }
    }

    /// With a camera.
    #[must_use]
    pub fn video(self) -> Self {
        Setup {
            video: true,
            ..self
        }
    }

    /// With a camera in three encodings.
    #[must_use]
    pub fn simulcast(self) -> Self {
        Setup {
            video: true,
            simulcast: true,
            ..self
        }
    }

    /// With so many receive slots of each kind.
    #[must_use]
    pub fn slots(self, audio: usize, video: usize) -> Self {
        Setup {
            audio_slots: audio,
            video_slots: video,
            ..self
        }
    }

    /// Numbers everything as Firefox does, not as Chromium does.
    #[must_use]
    pub fn firefox(self) -> Self {
        Setup {
            dialect: &sdp::FIREFOX,
            ..self
        }
    }

    /// Begins its streams with these numbers, not with random ones.
    #[must_use]
    pub fn beginning(self, beginning: Beginning) -> Self {
        Setup {
            beginning: Some(beginning),
            ..self
        }
    }

    /// With so many bytes in an inter frame of its camera.
    #[must_use]
    pub fn frame_len(self, frame_len: u32) -> Self {
        Setup { frame_len, ..self }
    }

    /// Puts up with media that is not as negotiated or not as sent: it watches an attacker.
    #[must_use]
    pub fn tolerant(self) -> Self {
        Setup {
            is_tolerant: true,
            ..self
        }
    }
}

struct Secured {
    sender: SrtpSender,
    receiver: SrtpReceiver,
}

/// One browser.
pub struct Client {
    /// Its name in tests.
    pub name: String,
    /// The server's name for it.
    pub peer: PeerId,
    /// Where it sends from, as the server sees it.
    pub address: SocketAddr,
    /// What it publishes.
    pub sources: Vec<Source>,
    /// What it receives.
    pub slots: Vec<Slot>,
    /// How it was set up.
    pub setup: Setup,
    /// RTP packets that it sent.
    pub packets_sent: u64,
    /// RTP packets that the server's transport-wide feedback has called received.
    pub packets_acknowledged: u64,
    /// Transport-wide sequence numbers that it missed.
    pub transport_lost: u64,
    rng: StdRng,
    epoch: Instant,
    /// Its own wall clock, which is not the server's.
    clock: Clock,
    lines: Vec<Line>,
    version: u64,
    ice: Ice,
    certificate: Certificate,
    dtls: Option<DtlsEndpoint>,
    secured: Option<Secured>,
    transport_sequence: u16,
    next_transport: Option<u16>,
    next_report: Option<Instant>,
    rtcp_ssrc: Ssrc,
    outbox: VecDeque<Vec<u8>>,
    outgoing: Vec<Outgoing>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has not offered yet. `epoch` is when the call began.
    ///
    /// # Panics
    /// When no certificate can be made.
    #[must_use]
    pub fn new(epoch: Instant, name: &str, peer: PeerId, setup: Setup, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let error = Duration::from_millis(rng.random_range(0..20_000));
        let wall = SystemTime::UNIX_EPOCH + crate::plane::CALL_BEGINS + error;
        let [high, low] = (peer.0 as u16).to_be_bytes();
        let mut client = Client {
            name: name.to_owned(),
            peer,
            address: SocketAddr::from(([192, 0, high, low], 40_000)),
            sources: Vec::new(),
            slots: Vec::new(),
            setup: setup.clone(),
            packets_sent: 0,
            packets_acknowledged: 0,
            transport_lost: 0,
            epoch,
            clock: Clock::new(epoch, wall),
            lines: Vec::new(),
            version: 0,
            ice: Ice::new(&mut rng),
            certificate: Certificate::generate().expect("a certificate"),
            dtls: None,
            secured: None,
            transport_sequence: rng.random(),
            next_transport: None,
            next_report: None,
            rtcp_ssrc: Ssrc(rng.random()),
            outbox: VecDeque::new(),
            outgoing: Vec::new(),
            rng,
        };
        if setup.audio {
            client.add_source(Kind::Audio, false);
        }
        if setup.video {
            client.add_source(Kind::Video, setup.simulcast);
        }
        for _ in 0..setup.audio_slots {
            client.add_slot(Kind::Audio);
        }
        for _ in 0..setup.video_slots {
            client.add_slot(Kind::Video);
        }
        client
    }

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
        let rids: Vec<Rid> = names
            .iter()
            .map(|rid| Rid::new(rid).expect("a rid"))
            .collect();
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
        let one = [self.setup.frame_len];
        let lens: &[u32] = if simulcast {
            &SIMULCAST_FRAME_LENS
        } else {
            &one
        };
        let id = (self.peer.0 as u32) << 8 | self.sources.len() as u32;
        let source = Source::new(id, mid, kind, &streams, &rids, lens, beginning);
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
        };
        sdp::offer(self.setup.dialect, &self.lines, &transport, self.version)
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
        let dialect = self.setup.dialect;
        for (line, answered) in self.lines.iter().zip(&answer.lines) {
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
            let payload_types = match line.kind {
                Kind::Audio => (dialect.opus, None),
                Kind::Video => (dialect.vp8, Some(dialect.vp8_rtx)),
            };
            let wanted = [Some(payload_types.0), payload_types.1];
            if line.usage != Use::Stopped
                && !wanted
                    .into_iter()
                    .flatten()
                    .all(|pt| answered.payload_types.contains(&pt))
            {
                return Err(format!("m-line {} lacks one of {wanted:?}", line.mid));
            }
            let mid = Mid::new(&line.mid).map_err(|e| e.to_string())?;
            if line.is_paused {
                continue;
            }
            match &line.usage {
                Use::Send { rids, .. } => {
                    if *rids != answered.rids {
                        return Err(format!("offered {rids:?}, answered {:?}", answered.rids));
                    }
                    if let Some(source) = self.sources.iter_mut().find(|s| s.mid == mid) {
                        source.payload_types = payload_types;
                        source.map = answered.to_server;
                        if self.secured.is_some() {
                            source.start(now);
                        }
                    }
                }
                Use::Slot => {
                    let ssrc = answered.ssrc.ok_or("a slot without SSRC")?;
                    if !self.slots.iter().any(|slot| slot.mid == mid) {
                        self.slots.push(Slot::new(mid, line.kind, ssrc));
                    }
                    for slot in self.slots.iter_mut().filter(|slot| slot.mid == mid) {
                        if slot.ssrc != ssrc {
                            return Err("a slot's SSRC changes".into());
                        }
                        slot.rtx_ssrc = answered.rtx_ssrc;
                        slot.payload_types = payload_types;
                        slot.map = answered.from_server;
                    }
                }
                Use::Stopped => {}
            }
        }
        let server = answer
            .candidates
            .first()
            .ok_or("an answer without candidate")?;
        self.ice.connect(now, *server, &answer.ufrag, &answer.pwd);
        if self.dtls.is_none() {
            let fingerprint = answer.fingerprint.parse().map_err(|_| "no fingerprint")?;
            self.dtls = Some(DtlsEndpoint::client(
                now,
                &self.certificate,
                vec![fingerprint],
            ));
        }
        Ok(())
    }

    /// Where the client sends to.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        self.ice.server()
    }

    /// The first source of a kind.
    ///
    /// # Panics
    /// When there is none.
    pub fn source(&mut self, kind: Kind) -> &mut Source {
        let mut sources = self.sources.iter_mut();
        sources
            .find(|source| source.kind == kind)
            .expect("a source")
    }

    /// The next datagram for the server.
    pub fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// Takes a datagram of the server.
    ///
    /// # Errors
    /// When it is not what the client negotiated.
    pub fn handle_datagram(&mut self, now: Instant, mut bytes: Vec<u8>) -> Result<(), String> {
        match PacketClass::of(&bytes) {
            PacketClass::Stun => {
                self.ice.handle_response(now, &bytes, self.address)?;
                self.drive_dtls(now)
            }
            PacketClass::Dtls => {
                if let Some(dtls) = &mut self.dtls {
                    dtls.handle_packet(now, &bytes).map_err(|e| e.to_string())?;
                }
                self.drive_dtls(now)
            }
            PacketClass::Rtp => self.handle_rtp(now, &mut bytes),
            PacketClass::Rtcp => self.handle_rtcp(now, &mut bytes),
            PacketClass::Unknown => Err("a datagram of no known protocol".into()),
        }
    }

    fn drive_dtls(&mut self, now: Instant) -> Result<(), String> {
        let Some(dtls) = &mut self.dtls else {
            return Ok(());
        };
        if !self.ice.is_connected() {
            return Ok(());
        }
        if dtls.next_deadline().is_some_and(|due| now >= due) {
            dtls.handle_timeout(now).map_err(|e| e.to_string())?;
        }
        let mut buffer = vec![0; POLL_BUFFER_LEN];
        let mut keys = None;
        while let Some(output) = dtls.poll(now, &mut buffer).map_err(|e| e.to_string())? {
            match output {
                DtlsOutput::Packet(packet) => self.outbox.push_back(packet.to_vec()),
                DtlsOutput::Connected(fresh) => keys = Some(fresh),
                DtlsOutput::ApplicationData(_) => return Err("data over DTLS".into()),
                DtlsOutput::Closed => {}
            }
        }
        match keys {
            Some(keys) => self.secure(now, &keys),
            None => Ok(()),
        }
    }

    fn secure(&mut self, now: Instant, keys: &SrtpKeys) -> Result<(), String> {
        let (local, remote) = (keys.local(), keys.remote());
        let sender = SrtpSender::new(keys.profile, local.key, local.salt);
        let receiver = SrtpReceiver::new(keys.profile, remote.key, remote.salt);
        self.secured = Some(Secured {
            sender: sender.map_err(|e| e.to_string())?,
            receiver: receiver.map_err(|e| e.to_string())?,
        });
        self.next_report = Some(now + FIRST_REPORT);
        self.sources.iter_mut().for_each(|source| source.start(now));
        Ok(())
    }

    fn handle_rtp(&mut self, now: Instant, bytes: &mut [u8]) -> Result<(), String> {
        // The end of the server's handshake was lost: it will come again, this will not.
        let Some(secured) = &mut self.secured else {
            return Ok(());
        };
        let opened = secured
            .receiver
            .open_rtp(bytes)
            .map_err(|e| e.to_string())?;
        let packet = &bytes[..opened.plain_len];
        let header = RtpHeader::parse(packet).map_err(|e| e.to_string())?;
        let ssrc = Some(header.ssrc);
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| [Some(slot.ssrc), slot.rtx_ssrc].contains(&ssrc));
        // What was under way when a slot was given up is no fault.
        let Some(slot) = slot else {
            return Ok(());
        };
        let call_begins = Clock::new(
            self.epoch,
            SystemTime::UNIX_EPOCH + crate::plane::CALL_BEGINS,
        )
        .ntp(self.epoch);
        let extensions = match slot.handle_rtp(now, &header, packet, call_begins) {
            Ok(extensions) => extensions,
            Err(_) if self.setup.is_tolerant => return Ok(()),
            Err(fault) => return Err(format!("slot {}: {fault}", slot.mid)),
        };
        if let Some(number) = extensions.transport_sequence {
            if let Some(expected) = self.next_transport {
                self.transport_lost += u64::from(number.wrapping_sub(expected));
            }
            self.next_transport = Some(number.wrapping_add(1));
        }
        Ok(())
    }

    fn handle_rtcp(&mut self, now: Instant, bytes: &mut [u8]) -> Result<(), String> {
        // The end of the server's handshake was lost: it will come again, this will not.
        let Some(secured) = &mut self.secured else {
            return Ok(());
        };
        let len = secured
            .receiver
            .open_rtcp(bytes)
            .map_err(|e| e.to_string())?;
        for packet in Packets::new(&bytes[..len]) {
            match packet.map_err(|e| e.to_string())? {
                Packet::SenderReport(report) => {
                    let info = report.info;
                    let slot = self.slots.iter_mut().find(|slot| slot.ssrc == info.ssrc);
                    if let Some(slot) = slot {
                        slot.handle_sender_report(now, info.ntp, info.rtp_timestamp);
                    }
                }
                Packet::Nack(nack) => {
                    let lost: Vec<u16> = nack.lost().collect();
                    for source in &mut self.sources {
                        source.resend(nack.media, &lost, &mut self.outgoing);
                    }
                }
                Packet::PictureLoss(request) => {
                    let is_sound = self
                        .sources
                        .iter()
                        .any(|s| s.kind == Kind::Audio && s.encodings[0].ssrc == request.media);
                    if is_sound && !self.setup.is_tolerant {
                        return Err("a key frame was asked of sound".into());
                    }
                    for source in &mut self.sources {
                        source.key_frame_wanted(now, request.media);
                    }
                }
                Packet::FullIntraRequest(request) => {
                    for (ssrc, _) in request.entries() {
                        for source in &mut self.sources {
                            source.key_frame_wanted(now, ssrc);
                        }
                    }
                }
                Packet::TransportFeedback(feedback) => {
                    let statuses = feedback.statuses();
                    let received = statuses.filter(|(_, status)| *status != PacketStatus::Lost);
                    self.packets_acknowledged += received.count() as u64;
                }
                Packet::Unknown { packet_type, .. } => {
                    return Err(format!("RTCP packet type {packet_type}"));
                }
                _ => {}
            }
        }
        self.send_outgoing();
        Ok(())
    }

    /// When [`Client::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let dtls = self.dtls.as_ref().filter(|_| self.ice.is_connected());
        let media = self.sources.iter().filter_map(Source::next_deadline);
        let slots = self.slots.iter().filter_map(Slot::next_deadline);
        media
            .chain(slots)
            .chain(self.next_report)
            .chain(self.ice.next_deadline())
            .chain(dtls.and_then(DtlsEndpoint::next_deadline))
            .min()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When the connection has failed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), String> {
        if let Some(check) = self.ice.poll_check(now, &mut self.rng) {
            self.outbox.push_back(check);
        }
        let dtls_deadline = self.dtls.as_ref().and_then(DtlsEndpoint::next_deadline);
        if dtls_deadline.is_some_and(|due| now >= due) {
            self.drive_dtls(now)?;
        }
        if self.secured.is_none() {
            return Ok(());
        }
        for source in &mut self.sources {
            source.handle_timeout(now, self.epoch, &mut self.outgoing);
        }
        self.send_outgoing();
        self.ask_again(now);
        if self.next_report.is_some_and(|due| now >= due) {
            self.next_report = Some(now + REPORT_INTERVAL);
            self.report(now);
        }
        Ok(())
    }

    fn send_outgoing(&mut self) {
        for packet in std::mem::take(&mut self.outgoing) {
            self.send_rtp(&packet);
        }
    }

    /// Encrypts and sends an RTP packet. Returns the datagram.
    pub fn send_rtp(&mut self, packet: &Outgoing) {
        let Some(secured) = &mut self.secured else {
            return;
        };
        let mut buffer = packet_buffer();
        let len = packet.write(self.transport_sequence, &mut buffer);
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        if let Ok(len) = secured.sender.seal_rtp(&mut buffer, len, packet.rollover) {
            self.packets_sent += 1;
            self.outbox.push_back(buffer[..len].to_vec());
        }
    }

    /// Encrypts and sends RTCP.
    pub fn send_rtcp(&mut self, write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) {
        let Some(secured) = &mut self.secured else {
            return;
        };
        let mut buffer = packet_buffer();
        let mut writer = Writer::new(&mut buffer[..1200]);
        let written = write(&mut writer);
        let len = writer.len();
        if let (Ok(()), Ok(len)) = (written, secured.sender.seal_rtcp(&mut buffer, len)) {
            self.outbox.push_back(buffer[..len].to_vec());
        }
    }

    fn ask_again(&mut self, now: Instant) {
        let sender = self.rtcp_ssrc;
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let (ssrc, lost) = (slot.ssrc, slot.poll_nack(now));
            let wants_key_frame = slot.poll_key_frame(now);
            // NACK is negotiated for video only.
            if slot.kind == Kind::Video && !lost.is_empty() {
                self.send_rtcp(|writer| writer.nack(sender, ssrc, &lost));
            }
            if wants_key_frame {
                self.send_rtcp(|writer| writer.picture_loss(sender, ssrc));
            }
        }
    }

    fn report(&mut self, now: Instant) {
        let ntp = self.clock.ntp(now);
        let since_beginning = now - self.epoch;
        let infos: Vec<SenderInfo> = self
            .sources
            .iter()
            .flat_map(|source| {
                let rtp_timestamp = source.timestamp(since_beginning);
                source
                    .reports()
                    .map(move |(ssrc, packets, octets)| SenderInfo {
                        ssrc,
                        ntp,
                        rtp_timestamp,
                        packet_count: packets,
                        octet_count: octets,
                    })
            })
            .collect();
        let blocks: Vec<_> = self
            .slots
            .iter()
            .filter_map(|s| s.report_block(now))
            .collect();
        let own = self.rtcp_ssrc;
        for info in infos {
            self.send_rtcp(|writer| {
                writer.sender_report(info, &[])?;
                writer.cname(info.ssrc, "client")
            });
        }
        self.send_rtcp(|writer| {
            writer.receiver_report(own, &blocks)?;
            writer.cname(own, "client")
        });
    }

    /// Sends a datagram as it is.
    pub fn send_raw(&mut self, bytes: Vec<u8>) {
        self.outbox.push_back(bytes);
    }

    /// Encrypts and sends whatever this is, as RTP if it can be sealed as such.
    pub fn send_plain_rtp(&mut self, plain: &[u8], rollover: u32) {
        let mut buffer = plain.to_vec();
        buffer.resize(plain.len() + MAX_SRTP_TRAILER, 0);
        if let Some(secured) = &mut self.secured
            && let Ok(len) = secured.sender.seal_rtp(&mut buffer, plain.len(), rollover)
        {
            self.outbox.push_back(buffer[..len].to_vec());
        }
    }

    /// Encrypts and sends whatever this is, as RTCP if it can be sealed as such.
    pub fn send_plain_rtcp(&mut self, plain: &[u8]) {
        let mut buffer = plain.to_vec();
        buffer.resize(plain.len() + MAX_SRTP_TRAILER, 0);
        if let Some(secured) = &mut self.secured
            && let Ok(len) = secured.sender.seal_rtcp(&mut buffer, plain.len())
        {
            self.outbox.push_back(buffer[..len].to_vec());
        }
    }

    /// Whether the server has answered a check with the latest ICE credentials.
    #[must_use]
    pub fn has_proved_ice(&self) -> bool {
        self.ice.is_proved()
    }

    /// A check as the client would make it now.
    pub fn check(&mut self) -> Option<Vec<u8>> {
        self.ice.check(&mut self.rng)
    }
}
