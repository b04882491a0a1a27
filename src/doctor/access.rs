//! Whether people can come in at all: pages, tokens, and ways for those whose network lets no UDP out.
//!
//! In: the settings. Out: what keeps browsers from calling.

use confab_sfu::config::TcpPort;

use super::finding::Finding;
use crate::config::Config;

/// What browsers will meet.
pub(crate) fn judge(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    match config.auth() {
        Err(error) => findings.push(Finding::problem(error.to_string())),
        Ok(_) if config.api_key.is_some() => findings.push(Finding::ok("rooms need access tokens")),
        Ok(_) if config.reached_by_others().is_some() => findings.push(Finding::warning(
            "auth.open is true: whoever reaches this server may enter every room, hear and see \
             who is there; on the internet set auth.api_key and auth.api_secret instead",
        )),
        Ok(_) => findings.push(Finding::ok(
            "rooms need no token, which is well while nothing lets others in; with a reverse proxy \
             in front, set auth.api_key",
        )),
    }
    if !config.http_listen.ip().is_loopback() && config.tls.listen.is_empty() {
        findings.push(Finding::warning(format!(
            "pages are served to others on http://{} without TLS, where browsers give neither \
             camera nor microphone: set http.tls_listen and a certificate, or put a reverse proxy \
             with TLS in front",
            config.http_listen
        )));
    }
    let has_tcp = config.media_tcp_port != TcpPort::Off;
    let has_turn = config.has_turn();
    if !has_tcp && !has_turn {
        findings.push(Finding::warning(
            "media.tcp_port and turn.listen are both off: who is in a network that lets no UDP out \
             cannot call; turn one of them on",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::super::finding::Level;
    use super::*;

    fn of_level(config: &Config, level: Level) -> Vec<String> {
        let findings = judge(config).into_iter().filter(|f| f.level == level);
        findings.map(|f| f.text).collect()
    }

    #[test]
    fn rooms_open_to_the_network_are_a_problem() {
        let mut config = Config::default();
        assert!(of_level(&config, Level::Problem).is_empty());
        assert!(of_level(&config, Level::Warning).is_empty());
        config.http_listen = "0.0.0.0:8080".parse().unwrap();
        let problems = of_level(&config, Level::Problem);
        assert!(
            problems[0].contains("access tokens must be on"),
            "{problems:?}"
        );
        config.is_open = true;
        assert!(of_level(&config, Level::Problem).is_empty());
        assert!(of_level(&config, Level::Warning)[0].contains("may enter every room"));
        config.is_open = false;
        config.api_key = Some("main".into());
        config.api_secret = Some("short".into());
        assert_eq!(of_level(&config, Level::Problem).len(), 1);
        config.api_secret = Some("0123456789abcdef0123456789abcdef".into());
        assert!(of_level(&config, Level::Problem).is_empty());
    }

    #[test]
    fn pages_for_others_want_tls() {
        let mut config = Config {
            http_listen: "0.0.0.0:8080".parse().unwrap(),
            ..Config::default()
        };
        let warnings = of_level(&config, Level::Warning);
        assert!(
            warnings[0].contains("neither camera nor microphone"),
            "{warnings:?}"
        );
        config.tls.listen = vec!["0.0.0.0:443".parse().unwrap()];
        assert!(of_level(&config, Level::Warning).is_empty());
    }

    #[test]
    fn there_should_be_a_way_without_udp() {
        let mut config = Config {
            media_tcp_port: TcpPort::Off,
            ..Config::default()
        };
        assert!(of_level(&config, Level::Warning).is_empty());
        config.turn.listen = crate::config::Listen::At(Vec::new());
        assert_eq!(of_level(&config, Level::Warning).len(), 1);
    }
}
