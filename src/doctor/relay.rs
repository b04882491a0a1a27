//! Whether the relay can work: its settings together, and its ports.
//!
//! In: the settings. Out: what contradicts what, or whether ports of the range can be had.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use confab_turn::credentials::Secret;
use confab_turn::net;

use super::finding::Finding;
use crate::config::Config;

/// Ports that are tried, evenly spread over the range: enough to find one that others use.
const SAMPLE: usize = 64;

/// Looks at the relay beside the SFU, if it is on.
pub(crate) fn check(config: &Config) -> Vec<Finding> {
    if !config.has_turn() {
        return Vec::new();
    }
    let sfu = config.sfu(&[]);
    let media: Vec<SocketAddr> = (0..sfu.workers).map(|n| sfu.bind_address(n)).collect();
    let settings = net::Config {
        // One is made at the start if none is set.
        secret: Some(Secret::new("any")),
        ..config.turn(&media, &config.turn.tls_listen)
    };
    if let Err(error) = settings.check() {
        return vec![Finding::problem(error.to_string())];
    }
    let step = settings.ports.len().div_ceil(SAMPLE).max(1);
    let relays = settings.relays.iter().filter_map(|relay| {
        let tried = settings.ports.clone().step_by(step);
        let count = tried.len();
        let errors = tried.filter_map(|port| UdpSocket::bind((relay.bind, port)).err());
        judge(relay.bind, count, &errors.collect::<Vec<_>>())
    });
    relays.collect()
}

/// What came of trying so many ports. An address that cannot be had is a finding of the ports.
fn judge(address: IpAddr, tried: usize, errors: &[io::Error]) -> Option<Finding> {
    let is_taken = |error: &&io::Error| error.kind() == ErrorKind::AddrInUse;
    let taken = errors.iter().filter(is_taken).count();
    if let Some(error) = errors
        .iter()
        .find(|error| error.kind() == ErrorKind::PermissionDenied)
    {
        return Some(Finding::problem(format!(
            "turn.relay_ports: ports of {address} cannot be had: {error}; choose a range above 1023"
        )));
    }
    (2 * taken > tried).then(|| {
        Finding::warning(format!(
            "turn.relay_ports: {taken} of {tried} ports that were tried on {address} are taken; \
             choose a range that no other program uses"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn settings_that_contradict_each_other_are_a_problem() {
        let mut config = Config::default();
        assert_eq!(check(&config), []);
        config.turn.relay_ips = vec!["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()];
        let findings = check(&config);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Problem, "{findings:?}");
        config.turn.listen = crate::config::Listen::At(Vec::new());
        assert_eq!(check(&config), []);
    }

    #[test]
    fn most_of_the_ports_should_be_free() {
        let address = "10.0.0.5".parse().unwrap();
        let errors = |kind: ErrorKind, count| -> Vec<io::Error> {
            (0..count).map(|_| kind.into()).collect()
        };
        assert_eq!(judge(address, 64, &errors(ErrorKind::AddrInUse, 32)), None);
        let taken = judge(address, 64, &errors(ErrorKind::AddrInUse, 33)).unwrap();
        assert_eq!(taken.level, Level::Warning);
        let denied = judge(address, 64, &errors(ErrorKind::PermissionDenied, 1)).unwrap();
        assert_eq!(denied.level, Level::Problem);
        let not_here = errors(ErrorKind::AddrNotAvailable, 64);
        assert_eq!(judge(address, 64, &not_here), None);
    }
}
