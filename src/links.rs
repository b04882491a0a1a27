//! Links that people open.
//!
//! In: the settings, and where pages are served. Out: addresses that lead to the page, and links that
//! let one into a room.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use confab_signaling::DEFAULT_LIFETIME;
use confab_signaling::auth::{Grants, TokenRequest};
use confab_signaling::link::link;
use confab_signaling::names::RoomName;
use confab_signaling::protocol::Failure as Refused;
use confab_signaling::session::new_secret;

use crate::addresses;
use crate::config::Config;
use crate::failure::Failure;

/// The room of the link that a server prints when it is ready.
const FIRST_ROOM: &str = "lobby";

/// How long one can come in with that link: as long as with any.
const FIRST_LIFETIME: Duration = DEFAULT_LIFETIME;

/// Characters of a guest's identity, which is to tell one guest from another in the log.
const IDENTITY_LEN: usize = 8;

/// What the guests of a link may do, and until when they may come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Invitation {
    pub(crate) room: RoomName,
    /// The name the others see, whatever the guest says.
    pub(crate) name: Option<String>,
    pub(crate) grants: Grants,
    pub(crate) lifetime: Duration,
}

impl Invitation {
    /// The link, which begins with `base`. Without a key there is nothing in it but the room.
    ///
    /// # Errors
    /// When the key is not usable, or others could enter without one.
    pub(crate) fn link(&self, config: &Config, base: &str) -> Result<String, Failure> {
        let mut identity = new_secret();
        identity.truncate(IDENTITY_LEN);
        let request = TokenRequest {
            room: self.room.clone(),
            identity: format!("guest-{identity}"),
            name: self.name.clone(),
            metadata: None,
            grants: self.grants,
            lifetime: self.lifetime,
        };
        let token = config.auth()?.mint(&request, SystemTime::now())?;
        Ok(link(base, &self.room, token.as_deref()))
    }
}

/// Where pages are served, by this process or by one with these settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Served {
    pub(crate) http: SocketAddr,
    pub(crate) https: Vec<SocketAddr>,
}

impl Served {
    /// By a process with these settings.
    pub(crate) fn by(config: &Config) -> Served {
        Served {
            http: config.http_listen,
            https: config.tls.listen.clone(),
        }
    }

    /// All that can be opened.
    fn bases(&self, config: &Config) -> Vec<String> {
        if let Some(url) = &config.public_url {
            return vec![url.clone()];
        }
        let http = base("http", self.http, None, config);
        let https = self.https.iter().map(|&at| of_https(at, config));
        let mut bases: Vec<String> = [http].into_iter().chain(https).collect();
        bases.dedup();
        bases
    }

    /// The one that most people can open.
    pub(crate) fn base(&self, config: &Config) -> String {
        if let Some(url) = &config.public_url {
            return url.clone();
        }
        let is_for_others = |at: &&SocketAddr| !at.ip().is_loopback();
        let https = self.https.iter().find(is_for_others);
        let http = Some(&self.http).filter(is_for_others);
        match (https, http, self.https.first()) {
            (Some(&https), ..) | (None, None, Some(&https)) => of_https(https, config),
            _ => base("http", self.http, None, config),
        }
    }

    /// What the server says once it is ready. `has_reader` is whether it is read by who has started
    /// it: a log keeps no tokens.
    ///
    /// # Errors
    /// When no link can be made.
    pub(crate) fn greeting(&self, config: &Config, has_reader: bool) -> Result<String, Failure> {
        if config.auth()?.is_open() {
            let bases: Vec<String> = self.bases(config).iter().map(|b| format!("{b}/")).collect();
            let bases = bases.join(" or ");
            return Ok(format!("Confab is ready. Open {bases} in two tabs."));
        }
        let base = self.base(config);
        if !has_reader {
            return Ok(format!(
                "Confab is ready at {base}/; `confab invite ROOM` makes a link that lets one in."
            ));
        }
        let invitation = Invitation {
            room: FIRST_ROOM
                .parse()
                .map_err(|failure: Refused| failure.message)?,
            name: None,
            grants: Grants::all(),
            lifetime: FIRST_LIFETIME,
        };
        let link = invitation.link(config, &base)?;
        let hours = FIRST_LIFETIME.as_secs() / 3600;
        Ok(format!(
            "Confab is ready. Open {link} within {hours} hours; `confab invite ROOM` makes more \
             such links."
        ))
    }
}

/// Whether what is printed is read by who has started this process, and not kept in systemd's journal.
pub(crate) fn has_reader() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_none()
}

fn of_https(listening: SocketAddr, config: &Config) -> String {
    base("https", listening, config.tls.acme.domains.first(), config)
}

fn base(scheme: &str, listening: SocketAddr, name: Option<&String>, config: &Config) -> String {
    let standard = if scheme == "https" { 443 } else { 80 };
    let port = match listening.port() {
        port if port == standard => String::new(),
        port => format!(":{port}"),
    };
    let host = match (name, opened_at(listening.ip(), config)) {
        (Some(name), _) => name.clone(),
        // It is how a client of ours knows where to connect, down to the port.
        (None, ip) if ip.is_loopback() => {
            return format!("{scheme}://{}", SocketAddr::new(ip, listening.port()));
        }
        (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        (None, ip) => ip.to_string(),
    };
    format!("{scheme}://{host}{port}")
}

/// What others know an address as that is listened on.
fn opened_at(listening: IpAddr, config: &Config) -> IpAddr {
    let mut public = config.public_ips.iter();
    let of_family = public.find(|ip| ip.is_ipv4() == listening.is_ipv4());
    match of_family {
        _ if listening.is_loopback() => listening,
        Some(public) => *public,
        None if listening.is_unspecified() => {
            let own = addresses::own(listening);
            let of_family = own.iter().find(|ip| ip.is_ipv4() == listening.is_ipv4());
            of_family.or(own.first()).copied().unwrap_or(listening)
        }
        None => listening,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    fn served(http: &str, https: &[&str]) -> Served {
        Served {
            http: http.parse().unwrap(),
            https: https.iter().map(|at| at.parse().unwrap()).collect(),
        }
    }

    fn keyed() -> Config {
        Config {
            api_key: Some("main".into()),
            api_secret: Some("0123456789abcdef0123456789abcdef".into()),
            ..Config::default()
        }
    }

    #[test]
    fn what_is_said_can_be_opened() {
        let mut named = keyed();
        named.tls.acme.domains = vec!["call.example.org".into()];
        let mut public = keyed();
        public.public_ips = vec!["203.0.113.7".parse().unwrap()];
        let mut proxied = named.clone();
        proxied.public_url = Some("https://example.org/calls".into());
        for (config, served, base) in [
            (
                keyed(),
                served("192.0.2.9:8080", &[]),
                "http://192.0.2.9:8080",
            ),
            (keyed(), served("192.0.2.9:80", &[]), "http://192.0.2.9"),
            (
                keyed(),
                served("127.0.0.1:8080", &["192.0.2.9:443"]),
                "https://192.0.2.9",
            ),
            (
                keyed(),
                served("192.0.2.9:8080", &["127.0.0.1:8443"]),
                "http://192.0.2.9:8080",
            ),
            (
                keyed(),
                served("127.0.0.1:8080", &["[2001:db8::1]:8443"]),
                "https://[2001:db8::1]:8443",
            ),
            (
                named,
                served("127.0.0.1:8080", &["0.0.0.0:443", "[::]:443"]),
                "https://call.example.org",
            ),
            (
                public.clone(),
                served("0.0.0.0:8080", &[]),
                "http://203.0.113.7:8080",
            ),
            (
                public,
                served("127.0.0.1:8080", &["0.0.0.0:443"]),
                "https://203.0.113.7",
            ),
            (
                proxied,
                served("127.0.0.1:8080", &["0.0.0.0:443"]),
                "https://example.org/calls",
            ),
        ] {
            assert_eq!(served.base(&config), base);
            let greeting = served.greeting(&config, true).unwrap();
            let link = format!("{base}/lobby#token=ey");
            assert!(greeting.contains(&link), "{greeting}");
            assert!(greeting.contains(" within 24 hours; "), "{greeting}");
            let logged = served.greeting(&config, false).unwrap();
            assert!(
                logged.contains(base) && !logged.contains("token"),
                "{logged}"
            );
        }
    }

    #[test]
    fn a_wildcard_is_not_what_is_said() {
        let mut open = Config {
            is_open: true,
            http_listen: "0.0.0.0:8080".parse().unwrap(),
            ..Config::default()
        };
        let greeting = Served::by(&open).greeting(&open, true).unwrap();
        assert!(!greeting.contains("0.0.0.0"), "{greeting}");
        open.http_listen = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(
            Served::by(&open).greeting(&open, true).unwrap(),
            "Confab is ready. Open http://127.0.0.1:8080/ in two tabs."
        );
    }

    #[test]
    fn a_link_without_a_key_is_the_rooms_page() {
        let invitation = Invitation {
            room: "kitchen".parse().unwrap(),
            name: None,
            grants: Grants::all(),
            lifetime: FIRST_LIFETIME,
        };
        let config = Config::default();
        let base = Served::by(&config).base(&config);
        let link = invitation.link(&config, &base).unwrap();
        assert_eq!(link, "http://127.0.0.1:8080/kitchen");
    }
}
