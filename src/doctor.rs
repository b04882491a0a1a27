//! `confab doctor`: what would stop calls, before somebody calls.
//!
//! In: the settings of the server, and what the system says. Out: a sentence for each finding, with
//! what to do. Each module looks at one thing: it gathers facts, and a function without I/O judges
//! them. Packets leave this machine only for the addresses that clients are told, and for STUN servers
//! that somebody names.

mod access;
mod addresses;
mod certificate;
mod clock;
mod finding;
mod limits;
mod name;
mod ports;
mod reach;
mod relay;
mod running;

use std::process::ExitCode;
use std::time::SystemTime;

use crate::config::Config;
use crate::failure::Failure;
use finding::{Finding, Report};

/// Checks everything and prints what is found; fails with exit code 1 if anything stops calls.
///
/// # Errors
/// When the system gives no sockets or timers to check with.
pub(crate) fn run(config: &Config, stun: Option<&str>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(examine(config, stun));
    println!("{report}");
    Ok(match report.has_problems() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

async fn examine(config: &Config, stun: Option<&str>) -> Report {
    let now = SystemTime::now();
    let found = crate::addresses::discover(config).await;
    let unknown = found.as_ref().err().cloned();
    // Without those outside, there is still something to be said of those here.
    let found = found.or_else(|_| crate::addresses::with_own(config));
    let config = found.as_ref().unwrap_or(config);
    let addresses = addresses::Facts::gather(config);
    let running = running::ask(config.http_listen).await;
    let wanted = ports::wanted(config).into_iter();
    let ports: Vec<_> = wanted
        .map(|port| {
            let bound = port.try_bind();
            (port, bound)
        })
        .collect();
    let listening = ports
        .iter()
        .map(|(port, _)| (port.address.port(), port.setting));
    let mut listening: Vec<_> = listening.collect();
    // Media has one number for UDP and TCP; one word on it is enough.
    listening.sort_unstable();
    listening.dedup_by_key(|(port, _)| *port);
    let limits = limits::Facts::gather(config, listening);

    let mut report = Report::default();
    report.add([Finding::ok("the settings can be read")]);
    report.add(access::judge(config));
    report.add(unknown.map(|error| Finding::problem(error.to_string())));
    report.add(addresses::judge(&addresses));
    report.add(ports::judge(&ports, running));
    report.add(relay::check(config));
    report.add(name::check(config, &addresses).await);
    report.add(reach::ways(&addresses, &ports, running).await);
    if let Some(server) = stun {
        report.add([reach::outside(&addresses, server).await]);
    }
    report.add(certificate::check(config, now));
    report.add([clock::judge(&clock::Facts::gather(now))]);
    report.add(limits::judge(&limits));
    report
}
