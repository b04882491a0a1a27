//! `confab-netem exec` and `confab-netem link`: one link, without the rest of a lab.
//!
//! In: what the command line says. Out: a program behind the link, or two namespaces with it between
//! them. The reaper tidies up.

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use super::cli::{BetweenArgs, ExecArgs, LinkArgs};
use super::error::LabError;
use super::forward::Forwarder;
use super::namespace::{Namespace, check_nft, ip, make_tun, nft, run};
use super::reaper::Undo;
use super::switch::Links;
use super::{begin, check_name};
use crate::link::Reading;

/// Where both ends of a link are: 198.18.0.0/15 is for tests of networks (RFC 2544).
const ENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)];

/// How many may run at a time: each takes the next 256 addresses.
const MAX_AT_ONCE: u32 = 256;

/// The variable that tells a program where the machine is that it runs on.
const HOST_VARIABLE: &str = "CONFAB_HOST";

/// Whether this machine forwards packets, among `/proc/sys/net`.
const FORWARDING: &str = "ipv4/ip_forward";

/// The device of a link between namespaces.
const DEVICE: &str = "confab0";

/// A shell's exit code for a program that a signal has ended, less the signal.
const KILLED: i32 = 128;

fn links(arguments: &LinkArgs) -> Links {
    let (up, down) = arguments.impairments();
    // Two directions with one seed would lose the same packets.
    Links::new((arguments.seed, up), (arguments.seed.wrapping_add(1), down))
}

/// Runs a program behind a link to this machine; its exit code. The command is to call
/// [`reap`](super::reap) with its last argument.
///
/// # Errors
/// When the machine or the rights of this process do not allow it, or there is no such program.
pub fn exec(arguments: &ExecArgs, reaper: std::process::Command) -> Result<i32, LabError> {
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(LabError::BadName(String::new()));
    };
    let (prefix, mut reaper, forwarder) = begin(reaper)?;
    let namespace = Namespace::make(format!("{prefix}exec"))?;
    let client = forwarder.add(namespace.make_tun("eth0")?, Some(links(&arguments.link)));
    let device = format!("confab{}", std::process::id());
    let host = forwarder.add(make_tun(&device)?, None);
    let [at_host, at_client] = claim(&device)?;
    namespace.ip(&format!(
        "addr add {at_client}/32 dev eth0\n\
         link set eth0 up\n\
         route add default dev eth0\n"
    ))?;
    forwarder.with(|switch| {
        switch.set_addresses(client, &[at_client.into()]);
        switch.set_addresses(host, &[at_host.into()]);
        switch.set_default_route(host);
    });
    if arguments.internet {
        check_nft()?;
        let table = prefix.trim_end_matches('-').replace('-', "_");
        reaper.will(&Undo::Table(table.clone()))?;
        nft(&format!(
            "table inet {table} {{ chain translate {{ type nat hook postrouting priority srcnat; \
             ip saddr {at_client} oifname != \"{device}\" masquerade; }}; }}\n"
        ))?;
        let path = format!("/proc/sys/net/{FORWARDING}");
        let doing = || LabError::of("having this machine forward packets");
        let before = fs::read_to_string(&path).map_err(doing())?;
        if before.trim() != "1" {
            reaper.will(&Undo::Setting(FORWARDING.into(), before.trim().into()))?;
            fs::write(&path, "1").map_err(doing())?;
        }
    }
    eprintln!("In there, this machine is {at_host} ({HOST_VARIABLE}).");
    let status = namespace
        .command(program)
        .args(rest)
        .env(HOST_VARIABLE, at_host.to_string())
        .status()
        .map_err(LabError::of(format!("running {program}")))?;
    let (up, down) = forwarder.with(|switch| switch.readings(Instant::now(), client));
    eprintln!("{}\n{}", line("up", up), line("down", down));
    let signal = || status.signal().unwrap_or_default();
    Ok(status.code().unwrap_or_else(|| KILLED + signal()))
}

/// Takes a pair of addresses that no other link to this machine has: whose route can be added.
fn claim(device: &str) -> Result<[Ipv4Addr; 2], LabError> {
    run(ip().args(["link", "set", device, "up"]))?;
    let mut last = Ok(String::new());
    for number in 0..MAX_AT_ONCE {
        let [host, client] = ENDS.map(|end| Ipv4Addr::from_bits(end.to_bits() + (number << 8)));
        let (own, other) = (format!("{host}/32"), format!("{client}/32"));
        run(ip().args(["addr", "add", &own, "dev", device]))?;
        last = run(ip().args([
            "route",
            "add",
            &other,
            "dev",
            device,
            "src",
            &host.to_string(),
        ]));
        if last.is_ok() {
            return Ok([host, client]);
        }
        run(ip().args(["addr", "delete", &own, "dev", device]))?;
    }
    last.map(|_| ENDS)
}

/// Lays a link between two namespaces and prints every second what it did, until the process is
/// ended. The command is to call [`reap`](super::reap) with its last argument.
///
/// # Errors
/// When the machine or the rights of this process do not allow it.
pub fn link(
    arguments: &BetweenArgs,
    reaper: std::process::Command,
) -> Result<Infallible, LabError> {
    let (_, mut reaper, forwarder) = begin(reaper)?;
    let mut links = Some(links(&arguments.link));
    let names = [&arguments.first, &arguments.second];
    let mut ports = Vec::new();
    for (name, (own, other)) in names
        .into_iter()
        .zip([(ENDS[0], ENDS[1]), (ENDS[1], ENDS[0])])
    {
        check_name(name)?;
        let namespace = if Namespace::exists(name) {
            Namespace { name: name.clone() }
        } else {
            reaper.will(&Undo::Namespace(name.clone()))?;
            Namespace::make(name.clone())?
        };
        let port = forwarder.add(namespace.make_tun(DEVICE)?, links.take());
        namespace.ip(&format!(
            "addr add {own}/32 dev {DEVICE}\n\
             link set {DEVICE} up\n\
             route add {other}/32 dev {DEVICE}\n"
        ))?;
        forwarder.with(|switch| switch.set_addresses(port, &[own.into()]));
        ports.push(port);
    }
    println!("{} is {}, {} is {}", names[0], ENDS[0], names[1], ENDS[1]);
    report_forever(&forwarder, ports[0])
}

fn report_forever(forwarder: &Forwarder, port: usize) -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let (up, down) = forwarder.with(|switch| switch.readings(Instant::now(), port));
        println!("{} | {}", line("up", up), line("down", down));
    }
}

/// A reading in one line.
fn line(name: &str, reading: Reading) -> String {
    let counters = reading.counters;
    format!(
        "{name}: {} sent, {} arrived, {} lost, {} dropped at the queue, {:.1} ms waiting",
        counters.sent,
        counters.delivered,
        counters.lost,
        counters.overflowed,
        reading.queueing_delay.as_secs_f64() * 1000.0
    )
}
