//! Where the name leads that clients are told for TURN.
//!
//! In: `turn.host`, and what name servers say of it. Out: whether it leads to this server.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::addresses;
use super::finding::Finding;
use crate::config::Config;

/// How long name servers are waited for.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Most addresses that are looked at.
const MAX_ADDRESSES: usize = 16;

/// Looks the name up, if there is one.
pub(crate) async fn check(config: &Config, addresses: &addresses::Facts) -> Option<Finding> {
    let host = config.turn.host.as_deref().filter(|_| config.has_turn())?;
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let found = match timeout(LOOK_UP, lookup_host((host, 0))).await {
        Ok(Ok(found)) => Ok(found.take(MAX_ADDRESSES).map(|at| at.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no name server answers".into()),
    };
    Some(judge(host, &found, |ip| {
        addresses.is_local(ip) || addresses.told.contains(&ip)
    }))
}

/// Whether it leads to an address that is ours.
fn judge(
    host: &str,
    found: &Result<Vec<IpAddr>, String>,
    is_ours: impl Fn(IpAddr) -> bool,
) -> Finding {
    let found = match found {
        Ok(found) => found,
        Err(reason) => {
            return Finding::problem(format!(
                "turn.host {host} has no address: {reason}; add a DNS record for it, or set \
                 turn.host to a name that has one"
            ));
        }
    };
    let ips: Vec<String> = found.iter().map(IpAddr::to_string).collect();
    let ips = ips.join(", ");
    match found.iter().any(|&ip| is_ours(ip)) {
        true => Finding::ok(format!("turn.host {host} is {ips}")),
        false => Finding::warning(format!(
            "turn.host {host} is {ips}, which is neither on this machine nor what clients are told \
             for media: see that TURN is reached there"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_name_must_lead_here() {
        let ours: IpAddr = "203.0.113.7".parse().unwrap();
        let other = "203.0.113.8".parse().unwrap();
        for (found, level, words) in [
            (
                Ok(vec![other, ours]),
                Level::Ok,
                "is 203.0.113.8, 203.0.113.7",
            ),
            (Ok(vec![other]), Level::Warning, "neither on this machine"),
            (
                Err("no such name".into()),
                Level::Problem,
                "add a DNS record",
            ),
        ] {
            let finding = judge("call.example.org", &found, |ip| ip == ours);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.text.contains(words), "{finding:?}");
        }
    }
}
