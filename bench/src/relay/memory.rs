//! The relay with the media plane in the same process: packets are handed over in memory.
//!
//! In: clients over UDP, as many as elsewhere. Out: CPU time of the relay's thread for each packet.
//! This program's own threads are the clients and take the media plane's place, at both ends of its
//! queues.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use confab_sockets::memory::{Receiver, Relayed, Sender, queue};
use confab_turn::credentials::Credentials;
use confab_turn::machine::RelayAddress;
use confab_turn::net::{Config, Server};
use rustls::pki_types::CertificateDer;
use tokio::sync::oneshot;

use super::client::{self, NAME, channel_data, is_channel_data};
use super::load::{Count, LOST_AFTER, WINDOW};
use super::wire::{Transport, Wire};
use crate::cpu::CpuTimes;

/// The name of the relay's thread, which its CPU time is found by.
const THREAD: &str = "bench-relay";

/// A relay in a thread of its own, with the ends of its media queues.
struct Relay {
    address: SocketAddr,
    from_relay: Receiver,
    to_relay: Sender,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

/// CPU time of the relay's thread, and the packets of a load with payloads of `len` bytes.
pub(super) fn run(
    clients: u8,
    len: usize,
    duration: Duration,
    certificate: &CertificateDer<'static>,
) -> anyhow::Result<(Duration, Count)> {
    // It is nobody's: what is for it never reaches the kernel.
    let media = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mut relay = start(media)?;
    let mut wires = Vec::new();
    for n in 0..clients {
        let from = Ipv4Addr::new(127, 0, 1, n.saturating_add(1));
        let wire = Wire::connect(Transport::Udp, from, relay.address, certificate)?;
        wires.push(client::bind(wire, media)?);
    }
    let before = CpuTimes::of_process(std::process::id())?;
    let count = load(&mut relay, &mut wires, media, len, duration)?;
    let after = CpuTimes::of_process(std::process::id())?;
    let threads = after.since(&before);
    let cpu = threads.iter().find(|(name, _)| name == THREAD);
    let cpu = cpu.context("the relay's thread has ended")?.1;
    // It may have ended with an error, which its thread returns.
    let _ = relay.stop.send(());
    match relay.thread.join() {
        Ok(result) => result?,
        Err(_) => bail!("the relay panicked"),
    }
    Ok((cpu, count))
}

fn start(media: SocketAddr) -> anyhow::Result<Relay> {
    let ip = media.ip();
    let (to_media, from_relay) = queue();
    let (to_relay, from_media) = queue();
    let mut config = Config {
        udp: vec![SocketAddr::new(ip, 0)],
        relays: vec![RelayAddress {
            bind: ip,
            public: ip,
        }],
        realm: NAME.into(),
        users: vec![Credentials {
            username: NAME.into(),
            password: NAME.into(),
        }],
        own_media: [media].into(),
        ..Config::default()
    };
    config.limits.allocations_per_user = config.limits.allocations;
    config.limits.bytes_per_second_per_user = config.limits.bytes_per_second;
    let mut server = Server::bind(config)?;
    server.connect_media(vec![(vec![media], to_media)], from_media);
    let address = server.addresses().udp.first().copied();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(THREAD.into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(server.run(async {
                // Whoever has forgotten it wants it stopped too.
                let _ = stopped.await;
            }))?;
            Ok(())
        })?;
    Ok(Relay {
        address: address.context("the relay has no UDP address")?,
        from_relay,
        to_relay,
        stop,
        thread,
    })
}

/// The allocation of a relay address, as its first packet tells it.
fn first_of(relay: &mut Relay, relayed: SocketAddr) -> anyhow::Result<Relayed> {
    let start = Instant::now();
    while start.elapsed() < LOST_AFTER {
        if let Some(packet) = relay.from_relay.take(Instant::now())
            && packet.from == relayed
        {
            return Ok(packet.relayed);
        }
    }
    bail!("nothing comes through the relay at {relayed}")
}

fn load(
    relay: &mut Relay,
    wires: &mut [(Wire, SocketAddr)],
    media: SocketAddr,
    len: usize,
    duration: Duration,
) -> anyhow::Result<Count> {
    let (messages, payload) = (vec![channel_data(len); WINDOW], vec![0x55; len]);
    let mut count = Count::default();
    let mut through = Vec::new();
    for (wire, relayed) in &mut *wires {
        wire.send(&messages[..1])?;
        through.push((*relayed, first_of(relay, *relayed)?));
    }
    let start = Instant::now();
    while start.elapsed() < duration {
        let mut window = Count::default();
        for ((wire, _), (relayed, through)) in wires.iter_mut().zip(&through) {
            wire.send(&messages)?;
            for _ in 0..WINDOW {
                let (now, addresses) = (Instant::now(), (media, *relayed));
                relay
                    .to_relay
                    .send_relayed(now, addresses, *through, &payload);
            }
            window.sent += 2 * WINDOW as u64;
        }
        let mut last = (0, Instant::now());
        while window.received < window.sent && last.1.elapsed() < LOST_AFTER {
            while relay.from_relay.take(Instant::now()).is_some() {
                window.received += 1;
            }
            for (wire, _) in &mut *wires {
                wire.receive(|message| window.received += u64::from(is_channel_data(message)))?;
            }
            if window.received > last.0 {
                last = (window.received, Instant::now());
            }
        }
        count.sent += window.sent;
        count.received += window.received;
    }
    Ok(count)
}
