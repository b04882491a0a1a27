//! `confab turn` beside coturn: what a relayed packet costs, and an allocation.
//!
//! In: both servers, how many clients. Out: CPU time of each server's process for each packet that
//! arrived, over several rounds in which they take turns, and how one compares with the other. CPU
//! time, not throughput, is compared: the load runs on the same machine.

mod client;
mod load;
mod memory;
mod outcome;
mod servers;
mod wire;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use client::Pair;
use load::{AUDIO_LEN, Pace, VIDEO_LEN};
use outcome::Row;
use servers::{Certificate, Kind, Relay};

use crate::cpu::CpuTimes;

pub use outcome::Outcome;
pub use wire::Transport;

/// Allocations made in a round.
const ALLOCATIONS: u16 = 500;

/// What is compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Our server's binary.
    pub confab: PathBuf,
    /// coturn's server.
    pub coturn: PathBuf,
    /// How often each is measured.
    pub rounds: usize,
    /// How many clients send and receive.
    pub clients: u8,
    /// For how long each load runs.
    pub duration: Duration,
    /// How clients reach the relay.
    pub transports: Vec<Transport>,
}

/// What a server did with a load.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Measured {
    cpu: Duration,
    sent: u64,
    /// Packets that arrived, or allocations made.
    done: u64,
}

/// Runs all loads against both servers, in turns.
///
/// # Errors
/// When a server cannot be run, or does not do what it is asked.
pub fn run(comparison: &Comparison) -> anyhow::Result<Outcome> {
    let certificate = Certificate::make()?;
    let mut rows = Vec::new();
    let paces = [Pace::Media, Pace::Flat(VIDEO_LEN), Pace::Flat(AUDIO_LEN)];
    for &transport in &comparison.transports {
        for pace in paces {
            rows.push(compare(
                comparison,
                format!("{transport:?}, {pace}"),
                |kind| relayed(comparison, kind, transport, pace, &certificate),
            )?);
        }
    }
    for len in [VIDEO_LEN, AUDIO_LEN] {
        let name = format!("in memory beside UDP, {}", Pace::Flat(len));
        rows.push(compare(comparison, name, |kind| match kind {
            Kind::Coturn => {
                let pace = Pace::Flat(len);
                relayed(comparison, kind, Transport::Udp, pace, &certificate)
            }
            Kind::Confab => {
                let (clients, duration) = (comparison.clients, comparison.duration);
                let (cpu, count) = memory::run(clients, len, duration, &certificate.der)?;
                Ok(Measured {
                    cpu,
                    sent: count.sent,
                    done: count.received,
                })
            }
        })?);
    }
    rows.push(compare(comparison, "allocations".into(), |kind| {
        allocated(comparison, kind, &certificate)
    })?);
    Outcome::of(comparison, rows)
}

fn compare(
    comparison: &Comparison,
    name: String,
    measure: impl Fn(Kind) -> anyhow::Result<Measured>,
) -> anyhow::Result<Row> {
    let mut rounds = Vec::with_capacity(comparison.rounds);
    for _ in 0..comparison.rounds {
        let of_kind = |kind| measure(kind).with_context(|| format!("{name}: {kind:?}"));
        rounds.push((of_kind(Kind::Confab)?, of_kind(Kind::Coturn)?));
    }
    Ok(Row { name, rounds })
}

fn start(comparison: &Comparison, kind: Kind, certificate: &Certificate) -> anyhow::Result<Relay> {
    let binary = match kind {
        Kind::Confab => &comparison.confab,
        Kind::Coturn => &comparison.coturn,
    };
    Relay::start(kind, binary, certificate)
}

fn relayed(
    comparison: &Comparison,
    kind: Kind,
    transport: Transport,
    pace: Pace,
    certificate: &Certificate,
) -> anyhow::Result<Measured> {
    let relay = start(comparison, kind, certificate)?;
    let mut pairs = Vec::new();
    for n in 0..comparison.clients {
        // Quotas are by address, so each client has one.
        let [client, peer] = [1, 2].map(|net| Ipv4Addr::new(127, 0, net, n.saturating_add(1)));
        let wire = relay.connect(transport, client, certificate)?;
        pairs.push(Pair::connect(wire, peer)?);
    }
    let before = relay.cpu()?;
    let count = load::run(&mut pairs, pace, comparison.duration)?;
    Ok(Measured {
        cpu: used(&relay, &before)?,
        sent: count.sent,
        done: count.received,
    })
}

fn allocated(
    comparison: &Comparison,
    kind: Kind,
    certificate: &Certificate,
) -> anyhow::Result<Measured> {
    let relay = start(comparison, kind, certificate)?;
    let before = relay.cpu()?;
    for n in 0..ALLOCATIONS {
        let [high, low] = n.to_be_bytes();
        let from = Ipv4Addr::new(127, 1, high, low.saturating_add(1));
        let mut wire = relay.connect(Transport::Udp, from, certificate)?;
        client::allocate(&mut wire)?;
    }
    Ok(Measured {
        cpu: used(&relay, &before)?,
        sent: ALLOCATIONS.into(),
        done: ALLOCATIONS.into(),
    })
}

fn used(relay: &Relay, before: &CpuTimes) -> anyhow::Result<Duration> {
    let threads = relay.cpu()?.since(before);
    Ok(threads.iter().map(|(_, time)| time).sum())
}
