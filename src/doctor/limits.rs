//! What the system allows the process: descriptors, socket buffers, ports.
//!
//! In: limits of the system, and what the settings ask for. Out: how many participants fit.

use std::net::UdpSocket;
use std::ops::RangeInclusive;

use confab_sfu::SOCKET_BUFFER;
use rustix::process::{Resource, getrlimit};
use socket2::SockRef;

use super::finding::Finding;
use crate::config::Config;

/// Descriptors of a server that nobody uses, rounded up: 26 were counted in `/proc/PID/fd` with one
/// worker, TURN and one listener with TLS, on two cores.
const IDLE_DESCRIPTORS: u64 = 32;

/// Descriptors of a further worker, rounded up: three workers had 40.
const WORKER_DESCRIPTORS: u64 = 8;

/// Most descriptors of a participant: its WebSocket, media over TCP, and through the relay a TCP
/// connection and a relay socket.
const PARTICIPANT_DESCRIPTORS: u64 = 4;

/// Who cannot let in as many is of no use.
const FEWEST_PARTICIPANTS: u64 = 2;

/// The granted part of a socket buffer below which it is worth a word.
const ENOUGH_BUFFER: usize = SOCKET_BUFFER / 2;

#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Most file descriptors that the system allows; the server raises its own limit to that.
    pub(crate) descriptors: u64,
    pub(crate) max_sessions: u64,
    pub(crate) workers: u64,
    /// Bytes that the kernel grants for receiving and sending, of [`SOCKET_BUFFER`].
    pub(crate) buffers: Option<(usize, usize)>,
    /// The relay's ports and most allocations, if there is a relay.
    pub(crate) relay: Option<(RangeInclusive<u16>, u32)>,
    /// The ports that the system gives to who asks for any.
    pub(crate) ephemeral: Option<RangeInclusive<u16>>,
    /// The ports listened on, with their settings.
    pub(crate) listening: Vec<(u16, &'static str)>,
}

impl Facts {
    pub(crate) fn gather(config: &Config, listening: Vec<(u16, &'static str)>) -> Facts {
        let relay = (config.turn.relay_ports.clone(), config.turn.max_allocations);
        Facts {
            descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            max_sessions: config.control.max_sessions as u64,
            workers: config.sfu(&[]).workers as u64,
            buffers: granted_buffers().ok(),
            relay: config.has_turn().then_some(relay),
            ephemeral: ephemeral_ports(),
            listening,
        }
    }
}

/// Asks as the server does. Linux reports twice what it grants (socket(7)).
fn granted_buffers() -> std::io::Result<(usize, usize)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let socket = SockRef::from(&socket);
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    Ok((receive / 2, send / 2))
}

fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_whitespace().map(str::parse);
    Some(ports.next()?.ok()?..=ports.next()?.ok()?)
}

/// How many participants fit, and what would make it more.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![judge_descriptors(facts)];
    findings.extend(facts.buffers.map(judge_buffers));
    findings.extend(facts.relay.iter().map(judge_relay));
    let taken_at_times = facts.listening.iter().filter(|(port, _)| {
        let ephemeral = facts.ephemeral.as_ref();
        ephemeral.is_some_and(|ports| ports.contains(port))
    });
    findings.extend(taken_at_times.map(|(port, setting)| {
        Finding::warning(format!(
            "port {port} of {setting} is one of those that the system gives to outgoing \
             connections, and will be taken at some start: choose a lower one, or type \
             `sysctl -w net.ipv4.ip_local_reserved_ports={port}`"
        ))
    }));
    findings
}

fn judge_descriptors(facts: &Facts) -> Finding {
    let limit = facts.descriptors;
    let idle = IDLE_DESCRIPTORS + WORKER_DESCRIPTORS * facts.workers.saturating_sub(1);
    let room = limit.saturating_sub(idle) / PARTICIPANT_DESCRIPTORS;
    let wanted = facts.max_sessions.saturating_mul(PARTICIPANT_DESCRIPTORS) + idle;
    let advice = format!("LimitNOFILE={wanted} of systemd, or `ulimit -n {wanted}` as root");
    let said = format!(
        "{limit} file descriptors are enough for {room} participants if all need TCP and the relay"
    );
    if room < FEWEST_PARTICIPANTS {
        Finding::problem(format!("{said}: {advice}"))
    } else if room < facts.max_sessions {
        Finding::warning(format!(
            "{said}, and signaling.max_sessions lets {} in: {advice}",
            facts.max_sessions
        ))
    } else {
        Finding::ok(said)
    }
}

fn judge_buffers((receive, send): (usize, usize)) -> Finding {
    let kib = |bytes: usize| bytes / 1024;
    let granted = format!(
        "of {} KiB of socket buffer the kernel grants {} for receiving and {} for sending",
        kib(SOCKET_BUFFER),
        kib(receive),
        kib(send)
    );
    match receive.min(send) < ENOUGH_BUFFER {
        true => Finding::warning(format!(
            "{granted}: with many participants packets are lost in bursts; type \
             `sysctl -w net.core.rmem_max={SOCKET_BUFFER} net.core.wmem_max={SOCKET_BUFFER}` on \
             the host and write both into /etc/sysctl.d"
        )),
        false => Finding::ok(granted),
    }
}

fn judge_relay((ports, max_allocations): &(RangeInclusive<u16>, u32)) -> Finding {
    let said = format!(
        "turn.relay_ports {}-{} has {} ports",
        ports.start(),
        ports.end(),
        ports.len()
    );
    match ports.len() < *max_allocations as usize {
        true => Finding::warning(format!(
            "{said} for turn.max_allocations of {max_allocations}: whoever comes when all are taken \
             gets no relay; widen the one or lower the other"
        )),
        false => Finding::ok(format!(
            "{said}; one that another program has is passed over"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn facts() -> Facts {
        Facts {
            descriptors: 65_536,
            max_sessions: 10_000,
            workers: 2,
            buffers: Some((SOCKET_BUFFER, SOCKET_BUFFER)),
            relay: Some((49_152..=65_535, 10_000)),
            ephemeral: Some(32_768..=60_999),
            listening: vec![(7000, "media.port")],
        }
    }

    #[test]
    fn ample_limits_are_well() {
        let findings = judge(&facts());
        assert_eq!(findings.len(), 3);
        assert!(
            findings.iter().all(|f| f.level == Level::Ok),
            "{findings:?}"
        );
    }

    #[test]
    fn what_is_short_is_said_with_what_to_type() {
        for (change, level, words) in [
            (
                (|f| f.descriptors = 1024) as fn(&mut Facts),
                Level::Warning,
                "enough for 246 participants if all need TCP and the relay, and \
                 signaling.max_sessions lets 10000 in: LimitNOFILE=40040",
            ),
            (
                |f| f.descriptors = 40,
                Level::Problem,
                "enough for 0 participants",
            ),
            (
                |f| f.buffers = Some((212_992, SOCKET_BUFFER)),
                Level::Warning,
                "sysctl -w net.core.rmem_max=6291456",
            ),
            (
                |f| f.relay = Some((50_000..=50_099, 10_000)),
                Level::Warning,
                "50000-50099 has 100 ports for turn.max_allocations of 10000",
            ),
            (
                |f| f.listening = vec![(40_000, "media.port")],
                Level::Warning,
                "ip_local_reserved_ports=40000",
            ),
        ] {
            let mut facts = facts();
            change(&mut facts);
            let findings = judge(&facts);
            let worse: Vec<_> = findings.iter().filter(|f| f.level != Level::Ok).collect();
            assert_eq!(worse.len(), 1, "{findings:?}");
            assert_eq!(worse[0].level, level);
            assert!(worse[0].text.contains(words), "{worse:?}");
        }
    }
}
