//! The certificates of the listeners with TLS.
//!
//! In: the files that are set. Out: whether browsers will take what is in them, and until when.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::finding::Finding;
use crate::config::Config;
use crate::tls::{Served, Source, is_for};

/// From when on an end that comes near is worth a word. Let's Encrypt renews 30 days ahead, so that
/// by now something has failed.
const SOON: Duration = Duration::from_secs(14 * 86_400);

const DAY: u64 = 86_400;

/// What is known of one certificate.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// What it is called: `the certificate in` its file, or `for` its names.
    pub(crate) name: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) is_self_signed: bool,
    /// How many certificates the file has.
    pub(crate) chain: usize,
    /// The hosts that clients are told for this listener and that it does not name.
    pub(crate) unnamed: Vec<String>,
}

/// Looks at every certificate that would be served.
pub(crate) fn check(config: &Config, now: SystemTime) -> Vec<Finding> {
    let plans = match config.tls_doors(true) {
        Ok(plans) => plans,
        Err(error) => return vec![Finding::problem(error.to_string())],
    };
    let mut sources: Vec<(Source, Vec<String>)> = Vec::new();
    for plan in plans {
        let hosts = match plan.turn {
            true => config.told_host(plan.address).into_iter().collect(),
            false => Vec::new(),
        };
        match sources
            .iter_mut()
            .find(|(source, _)| *source == plan.source)
        {
            Some((_, known)) => known.extend(hosts),
            None => sources.push((plan.source, hosts)),
        }
    }
    let findings = sources.iter().map(|(source, hosts)| match source {
        Source::SelfSigned(_) => vec![Finding::warning(
            "the certificate is made at the start and self-signed: browsers warn of it, and never \
             take it for TURN; for real use set http.tls_certificate and http.tls_key",
        )],
        Source::Files { .. } | Source::Automatic(_) => match source.load() {
            Ok(served) if served.is_provisional => vec![Finding::warning(format!(
                "there is no {source} yet: the server asks the authority for it at its start, which \
                 must reach it at port 443 under that name"
            ))],
            Ok(served) => match gather(&served, &source.to_string(), hosts) {
                Ok(facts) => judge(&facts, now),
                Err(problem) => vec![Finding::problem(problem)],
            },
            Err(error) => vec![Finding::problem(error.to_string())],
        },
    });
    findings.flatten().collect()
}

fn gather(served: &Served, name: &str, hosts: &[String]) -> Result<Facts, String> {
    let chain = &served.key.cert;
    let unreadable = |reason: String| format!("cannot read {name}: {reason}");
    let Some(leaf) = chain.first() else {
        return Err(unreadable("there is none in it".into()));
    };
    let parsed = Certificate::from_der(leaf).map_err(|error| unreadable(error.to_string()))?;
    let certificate = parsed.tbs_certificate();
    Ok(Facts {
        name: name.into(),
        not_before: served.validity.from,
        not_after: served.validity.until,
        is_self_signed: certificate.issuer() == certificate.subject(),
        chain: chain.len(),
        unnamed: unnamed(leaf, hosts),
    })
}

fn unnamed(leaf: &CertificateDer<'_>, hosts: &[String]) -> Vec<String> {
    let hosts = hosts.iter().filter(|host| !is_for(leaf, host));
    hosts.cloned().collect()
}

/// Whether browsers take it.
pub(crate) fn judge(facts: &Facts, now: SystemTime) -> Vec<Finding> {
    let name = &facts.name;
    let mut findings = vec![judge_dates(facts, now)];
    for host in &facts.unnamed {
        findings.push(Finding::problem(format!(
            "clients are told to reach TURN over TLS at {host}, which {name} \
             does not name: set turn.host to a name in it, or get one for {host}"
        )));
    }
    if facts.is_self_signed {
        findings.push(Finding::warning(format!(
            "{name} is self-signed: browsers warn of it, and never take it for \
             TURN; get one from a certificate authority, such as with certbot"
        )));
    } else if facts.chain == 1 {
        findings.push(Finding::warning(format!(
            "{name} is the server's own alone, without the intermediate ones: some \
             browsers, most on phones, will refuse it; use the whole chain (certbot's fullchain.pem)"
        )));
    }
    findings
}

fn judge_dates(facts: &Facts, now: SystemTime) -> Finding {
    let name = &facts.name;
    let days = |from: SystemTime, to: SystemTime| {
        let between = to.duration_since(from).unwrap_or_default();
        match between.as_secs() / DAY {
            0 => "less than a day".into(),
            1 => "1 day".into(),
            days => format!("{days} days"),
        }
    };
    if now < facts.not_before {
        return Finding::problem(format!(
            "{name} is not valid for another {}: look at this machine's clock, \
             or wait",
            days(now, facts.not_before)
        ));
    }
    if now >= facts.not_after {
        return Finding::problem(format!(
            "{name} expired {} ago: renew it, and the server takes it over \
             within a minute",
            days(facts.not_after, now)
        ));
    }
    let left = days(now, facts.not_after);
    match facts.not_after < now + SOON {
        true => Finding::warning(format!(
            "{name} expires in {left}: see why it is not renewed"
        )),
        false => Finding::ok(format!("{name} is valid for {left}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::super::finding::Level;
    use super::*;

    fn day(day: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * DAY + day * DAY)
    }

    fn facts() -> Facts {
        Facts {
            name: "the certificate in chain.pem".into(),
            not_before: day(10),
            not_after: day(100),
            is_self_signed: false,
            chain: 2,
            unnamed: Vec::new(),
        }
    }

    #[test]
    fn a_certificate_has_its_time() {
        for (now, level, words) in [
            (8, Level::Problem, "not valid for another 2 days"),
            (10, Level::Ok, "valid for 90 days"),
            (86, Level::Ok, "valid for 14 days"),
            (87, Level::Warning, "expires in 13 days"),
            (100, Level::Problem, "expired less than a day ago"),
            (101, Level::Problem, "expired 1 day ago"),
        ] {
            let findings = judge(&facts(), day(now));
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].level, level, "{now}");
            assert!(findings[0].text.contains(words), "{findings:?}");
        }
    }

    #[test]
    fn it_must_be_for_the_host_and_from_somebody_browsers_trust() {
        for (change, level, words) in [
            (
                (|f| f.unnamed = vec!["call.example.org".into()]) as fn(&mut Facts),
                Level::Problem,
                "call.example.org, which the certificate in chain.pem does not name",
            ),
            (|f| f.is_self_signed = true, Level::Warning, "self-signed"),
            (|f| f.chain = 1, Level::Warning, "fullchain.pem"),
        ] {
            let mut facts = facts();
            change(&mut facts);
            let findings = judge(&facts, day(20));
            assert_eq!(findings[1].level, level);
            assert!(findings[1].text.contains(words), "{findings:?}");
        }
    }

    #[test]
    fn names_are_compared_as_browsers_do() {
        let names = ["*.example.org", "192.0.2.1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let hosts = [
            "call.example.org",
            "example.org",
            "192.0.2.1",
            "192.0.2.2",
            "a.b.example.org",
        ];
        assert_eq!(
            unnamed(made.cert.der(), &hosts.map(String::from)),
            ["example.org", "192.0.2.2", "a.b.example.org"]
        );
    }
}
