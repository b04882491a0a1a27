//! A simulated browser: one PeerConnection with its cameras, its slots and its judgement.
//!
//! Sans-I/O. In: answers, datagrams, time. Out: offers, datagrams. Whatever the server sends has to
//! be what the client negotiated; the first thing that is not is an error, and ends the test.
//!
//! - `setup.rs` says what it has; `negotiate.rs` and `sdp.rs` offer that in Chromium's or Firefox's
//!   numbers and read the answers
//! - `ice.rs` makes the connectivity checks
//! - `send.rs` and `media.rs` record, packetize, and send again, `fec.rs` protects
//! - `receive.rs` takes what arrives in a slot; `nack.rs` asks again, `reception.rs`, `remb.rs` and
//!   `feedback.rs` report, `arrivals.rs` what feedback tells of
//! - `delay.rs` and `audio.rs` play audio, `decode.rs` and `screen.rs` show pictures

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use confab_sfu::clock::Clock;
use confab_sfu::inside::peer::dtls::{Certificate, DtlsEndpoint, DtlsOutput, SrtpKeys};
use confab_sfu::inside::rtp::packet::{PacketClass, RtpHeader};
use confab_sfu::inside::rtp::rtcp::{NoRoom, Writer};
use confab_sfu::inside::srtp::{MAX_SRTP_TRAILER, SrtpReceiver, SrtpSender};
use confab_sfu::media::Kind;
use confab_sfu::types::{PeerId, Ssrc};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub mod arrivals;
pub mod decode;
pub mod delay;
mod fec;
mod feedback;
pub mod ice;
pub mod media;
pub mod nack;
mod negotiate;
pub mod receive;
pub mod reception;
pub mod remb;
pub mod screen;
pub mod sdp;
pub mod send;
mod setup;
pub mod sound;

use arrivals::Arrivals;
use feedback::FIRST_REPORT;
use ice::Ice;
use receive::Slot;
use remb::Remb;
use sdp::Line;
use send::{Outgoing, Source, packet_buffer};
pub use setup::{Setup, publish, watch};

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
    /// RTP packets that it has called lost.
    pub packets_denied: u64,
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
    connected_at: Option<Instant>,
    transport_sequence: u16,
    next_transport: Option<u16>,
    next_report: Option<Instant>,
    arrivals: Arrivals,
    remb: Remb,
    /// To the server, as the reports on what it sends tell.
    round_trip: Option<Duration>,
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
        let wall = SystemTime::UNIX_EPOCH + crate::virtual_time::plane::CALL_BEGINS + error;
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
            packets_denied: 0,
            transport_lost: 0,
            epoch,
            clock: Clock::new(epoch, wall),
            lines: Vec::new(),
            version: 0,
            ice: Ice::new(&mut rng),
            certificate: Certificate::generate().expect("a certificate"),
            dtls: None,
            secured: None,
            connected_at: None,
            transport_sequence: rng.random(),
            next_transport: None,
            next_report: None,
            arrivals: Arrivals::default(),
            remb: Remb::default(),
            round_trip: None,
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
                let answer = self.ice.answer(&bytes);
                self.outbox
                    .extend(answer.filter(|_| self.setup.answers_checks));
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
        dtls.begin(now).map_err(|e| e.to_string())?;
        if dtls.next_deadline().is_some_and(|due| now >= due) {
            dtls.handle_timeout(now).map_err(|e| e.to_string())?;
        }
        let mut keys = None;
        while let Some(output) = dtls.poll() {
            match output {
                DtlsOutput::Packet(packet) => self.outbox.push_back(packet),
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
        self.connected_at = Some(now);
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
        let round_trip = self.round_trip.unwrap_or(nack::DEFAULT_ROUND_TRIP);
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
        let extensions = match slot.handle_rtp(now, &header, packet, round_trip) {
            Ok(extensions) => extensions,
            Err(_) if self.setup.is_tolerant => return Ok(()),
            Err(fault) => return Err(format!("slot {}: {fault}", slot.mid)),
        };
        if let Some(time) = extensions.abs_send_time.filter(|_| self.setup.sends_remb) {
            self.remb.handle_packet(now, time, packet.len());
        }
        if let Some(number) = extensions.transport_sequence {
            if let Some(expected) = self.next_transport {
                self.transport_lost += u64::from(number.wrapping_sub(expected));
            }
            self.next_transport = Some(number.wrapping_add(1));
            self.arrivals.handle_packet(now, number);
        }
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
            .chain(self.arrivals.next_deadline())
            .chain(self.remb.next_deadline())
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
        self.slots
            .iter_mut()
            .for_each(|slot| slot.handle_timeout(now));
        self.send_feedback(now);
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

    /// When its handshake ended and media could flow.
    #[must_use]
    pub fn connected_at(&self) -> Option<Instant> {
        self.connected_at
    }

    /// The round-trip time of the last connectivity check.
    #[must_use]
    pub fn ice_round_trip(&self) -> Option<Duration> {
        self.ice.round_trip()
    }

    /// A check as the client would make it now.
    pub fn check(&mut self) -> Option<Vec<u8>> {
        self.ice.check(&mut self.rng)
    }
}
