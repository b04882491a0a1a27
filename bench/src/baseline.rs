//! The simplest forwarder there can be: one thread that receives a datagram and sends it to every
//! receiver, `recvfrom` and `sendto`, nothing else. What a packet costs there is what the kernel
//! asks; what a server costs beyond it is the server's own doing.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cpu;

/// How often the receivers empty their sockets: well before 30 packets of 1200 bytes fill a socket
/// buffer of Linux' default size.
const DRAIN_INTERVAL: Duration = Duration::from_millis(2);
/// How long the forwarder waits for a packet before it looks whether it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// The load to forward.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Who gets each packet.
    pub receivers: usize,
    /// Packets a second.
    pub packets_per_second: f64,
    /// Bytes in each, without IP and UDP.
    pub packet_size: usize,
    /// Packets come in bursts, as many of them a second.
    pub bursts_per_second: u32,
    /// How long.
    pub duration: Duration,
}

/// What the forwarder did.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Packets sent to receivers.
    pub forwarded: u64,
    /// Packets that receivers did not get.
    pub lost: u64,
    /// What the forwarding thread used.
    pub cpu: Duration,
}

impl Cost {
    /// CPU time for each packet sent to a receiver, in microseconds.
    pub fn microseconds_per_packet(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.forwarded.max(1) as f64
    }
}

/// Forwards the load, sender and receivers in threads of their own.
pub fn run(load: Load) -> anyhow::Result<Cost> {
    let forwarder = UdpSocket::bind("127.0.0.1:0").context("cannot bind the forwarder")?;
    forwarder.set_read_timeout(Some(STOP_CHECK))?;
    let target = forwarder.local_addr()?;
    let mut receivers = Vec::with_capacity(load.receivers);
    for _ in 0..load.receivers {
        let socket = UdpSocket::bind("127.0.0.1:0").context("cannot bind a receiver")?;
        socket.set_nonblocking(true)?;
        receivers.push(socket);
    }
    let addresses: Vec<_> = receivers
        .iter()
        .map(UdpSocket::local_addr)
        .collect::<Result<_, _>>()?;

    let stop = AtomicBool::new(false);
    let received = AtomicU64::new(0);
    let (forwarded, cpu) = std::thread::scope(|scope| {
        let forwarding = scope.spawn(|| forward(&forwarder, &addresses, &stop));
        scope.spawn(|| drain(&receivers, &received, &stop));
        let sent = send(&load, target);
        // What is under way arrives before everybody stops.
        std::thread::sleep(2 * STOP_CHECK);
        stop.store(true, Ordering::Relaxed);
        sent?;
        match forwarding.join() {
            Ok(result) => result,
            Err(_) => bail!("the forwarder panicked"),
        }
    })?;
    Ok(Cost {
        forwarded,
        lost: forwarded.saturating_sub(received.load(Ordering::Relaxed)),
        cpu,
    })
}

fn send(load: &Load, target: std::net::SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot bind the sender")?;
    let packet = vec![0x55; load.packet_size];
    let interval = Duration::from_secs(1) / load.bursts_per_second;
    let per_burst = load.packets_per_second / f64::from(load.bursts_per_second);
    let start = Instant::now();
    let (mut sent, mut bursts) = (0.0, 0);
    while start.elapsed() < load.duration {
        bursts += 1;
        while sent < per_burst * f64::from(bursts) {
            socket.send_to(&packet, target)?;
            sent += 1.0;
        }
        std::thread::sleep((start + interval * bursts).saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn forward(
    socket: &UdpSocket,
    receivers: &[std::net::SocketAddr],
    stop: &AtomicBool,
) -> anyhow::Result<(u64, Duration)> {
    let mut buffer = [0; 2048];
    let mut forwarded = 0;
    let before = cpu::of_this_thread()?;
    while !stop.load(Ordering::Relaxed) {
        // A timeout is when to look at `stop`.
        let Ok((size, _)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        for receiver in receivers {
            socket.send_to(&buffer[..size], receiver)?;
            forwarded += 1;
        }
    }
    Ok((forwarded, cpu::of_this_thread()? - before))
}

fn drain(receivers: &[UdpSocket], received: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        for socket in receivers {
            while socket.recv(&mut buffer).is_ok() {
                received.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(DRAIN_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    #[test]
    fn the_bare_loop_forwards_everything_and_its_cost_is_seen() {
        let cost = run(Load {
            receivers: 5,
            packets_per_second: 200.0,
            packet_size: 1000,
            bursts_per_second: 50,
            duration: Duration::from_millis(500),
        })
        .unwrap();
        // A busy machine lets it send less.
        assert!((50..=550).contains(&cost.forwarded), "{cost:?}");
        assert_eq!(cost.lost, 0);
        assert!(cost.microseconds_per_packet() > 0.1, "{cost:?}");
    }
}
