//! The one list of settings.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use confab_sfu::config::TcpPort;
use tracing_subscriber::EnvFilter;

use super::Config;
use super::tls::LETS_ENCRYPT;
use super::turn::Listen;

pub(crate) struct Setting {
    /// Its name in `confab.toml`: section and key.
    pub(crate) key: &'static str,
    /// What it is unless set, as it would be written in a variable.
    pub(crate) default: &'static str,
    /// What it may be; ends "expected is …".
    pub(crate) expected: &'static str,
    /// What it is for.
    pub(crate) help: &'static str,
    /// Whether its value must not be shown.
    pub(crate) secret: bool,
    /// Whether it has several values: a text is then cut at its commas, which else are part of it.
    pub(crate) list: bool,
    /// Takes a value over; `None` if it is not one.
    pub(crate) apply: fn(&mut Config, &[String]) -> Option<()>,
}

impl Setting {
    pub(crate) fn variable(&self) -> String {
        format!("CONFAB_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// Its flag, without the dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }
}

/// A setting with one value.
fn one<T: FromStr>(values: &[String]) -> Option<T> {
    match values {
        [value] => value.parse().ok(),
        _ => None,
    }
}

fn at_least_one<T: FromStr + Default + PartialEq>(values: &[String]) -> Option<T> {
    one(values).filter(|value| *value != T::default())
}

/// An empty value is none.
fn optional<T: FromStr>(values: &[String]) -> Option<Option<T>> {
    match values {
        [value] if value.is_empty() => Some(None),
        _ => one(values).map(Some),
    }
}

fn all<T: FromStr>(values: &[String]) -> Option<Vec<T>> {
    values.iter().map(|value| value.parse().ok()).collect()
}

/// `first-last`.
fn ports(values: &[String]) -> Option<RangeInclusive<u16>> {
    let text: String = one(values)?;
    let (first, last) = text.split_once('-')?;
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty() && *range.start() > 0).then_some(range)
}

/// `scheme://host[:port]`, as a browser sends it: without a path.
fn origin(text: &str) -> Option<()> {
    let (scheme, authority) = text.split_once("://")?;
    let plain = !authority.is_empty() && !authority.contains(['/', '*', ' ']);
    (["http", "https"].contains(&scheme) && plain).then_some(())
}

/// `scheme://host[:port][/path]`, and any slash at its end let go.
fn public_url(text: &str) -> Option<String> {
    let place = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))?;
    let plain = |c: char| c.is_ascii_graphic() && !"?#\"<>\\^`{|}@".contains(c);
    let is_good = place.chars().all(plain) && !place.is_empty() && !place.starts_with('/');
    is_good.then(|| text.trim_end_matches('/').to_owned())
}

/// A name that a certificate authority can look up and connect to: no address and no wildcard.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    // RFC 1035 section 2.3.4. What ends in digits is no name (RFC 1123 section 2.1).
    let is_address = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(is_label) && !is_address
}

pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        key: "http.listen",
        default: "127.0.0.1:8080",
        expected: "an address and a port, such as 127.0.0.1:8080",
        help: "Where the page, the signaling and the HTTP endpoints are served",
        secret: false,
        list: false,
        apply: |c, v| one(v).map(|v| c.http_listen = v),
    },
    Setting {
        key: "http.tls_listen",
        default: "",
        expected: "a list of addresses and ports, such as 0.0.0.0:443",
        help: "Where the same is served over TLS, which browsers want for a camera; the address may be one of turn.tls_listen",
        secret: false,
        list: true,
        apply: |c, v| all(v).map(|v| c.tls.listen = v),
    },
    Setting {
        key: "http.tls_certificate",
        default: "",
        expected: "the path of a PEM file, or nothing",
        help: "The certificate chain of http.tls_listen, a PEM file; read again when it changes",
        secret: false,
        list: false,
        apply: |c, v| optional(v).map(|v| c.tls.certificate = v),
    },
    Setting {
        key: "http.tls_key",
        default: "",
        expected: "the path of a PEM file, or nothing",
        help: "The key of the certificate, a PEM file",
        secret: false,
        list: false,
        apply: |c, v| optional(v).map(|v| c.tls.key = v),
    },
    Setting {
        key: "http.tls_self_signed",
        default: "false",
        expected: "true or false",
        help: "Whether a certificate that browsers warn of is made at the start, to try things out",
        secret: false,
        list: false,
        apply: |c, v| one(v).map(|v| c.tls.self_signed = v),
    },
    Setting {
        key: "http.acme_domains",
        default: "",
        expected: "a list of host names, such as call.example.org, without wildcards, addresses or ports",
        help: "Host names for which a certificate is got and renewed automatically (ACME), under the authority's terms of service",
        secret: false,
        list: true,
        apply: |c, v| {
            let domains: Vec<String> = v.iter().map(|name| name.to_ascii_lowercase()).collect();
            domains
                .iter()
                .all(|name| is_host_name(name))
                .then_some(())?;
            c.tls.acme.domains = domains;
            Some(())
        },
    },
    Setting {
        key: "http.acme_contact",
        default: "",
        expected: "a mail address, such as ops@example.org, or nothing",
        help: "The mail address that the authority is told when the account is made",
        secret: false,
        list: false,
        apply: |c, v| {
            let contact: Option<String> = optional(v)?;
            let is_mail = |mail: &String| {
                let plain = |c: char| c.is_ascii_graphic() && !",?%".contains(c);
                mail.chars().all(plain)
                    && mail
                        .split_once('@')
                        .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
            };
            contact.as_ref().is_none_or(is_mail).then_some(())?;
            c.tls.acme.contact = contact;
            Some(())
        },
    },
    Setting {
        key: "http.acme_directory",
        default: LETS_ENCRYPT,
        expected: "an https:// address, such as https://acme-staging-v02.api.letsencrypt.org/directory",
        help: "The directory of the certificate authority, that of Let's Encrypt unless set",
        secret: false,
        list: false,
        apply: |c, v| {
            let directory: String = one(v)?;
            let place = directory.strip_prefix("https://")?;
            let is_good = !place.is_empty() && place.chars().all(|c| c.is_ascii_graphic());
            (is_good && place.len() <= 200).then_some(())?;
            c.tls.acme.directory = directory;
            Some(())
        },
    },
    Setting {
        key: "http.acme_directory_ca",
        default: "",
        expected: "the path of a PEM file, or nothing",
        help: "The root certificate to trust for the directory, a PEM file, if not those of the system: for an authority of your own",
        secret: false,
        list: false,
        apply: |c, v| optional(v).map(|v| c.tls.acme.directory_ca = v),
    },
    Setting {
        key: "http.acme_folder",
        default: "acme",
        expected: "the path of a folder",
        help: "Where the account and the automatic certificate are kept; made if it is not there, for this user alone",
        secret: false,
        list: false,
        apply: |c, v| {
            let folder: PathBuf = one(v).filter(|v: &PathBuf| !v.as_os_str().is_empty())?;
            c.tls.acme.folder = folder;
            Some(())
        },
    },
    Setting {
        key: "http.tls_shared",
        default: "false",
        expected: "true or false",
        help: "Whether media over TCP and TURN, over TLS and plain, come in at http.tls_listen too, so that one TCP port is all it takes",
        secret: false,
        list: false,
        apply: |c, v| one(v).map(|v| c.tls.shared = v),
    },
    Setting {
        key: "http.public_url",
        default: "",
        expected: "an http:// or https:// address, such as https://call.example.org, or nothing",
        help: "Where people open the page, for links to it, if not the first of http.acme_domains or an address listened on: a reverse proxy's",
        secret: false,
        list: false,
        apply: |c, v| {
            let url: Option<String> = optional(v)?;
            c.public_url = match url {
                None => None,
                Some(url) => Some(public_url(&url)?),
            };
            Some(())
        },
    },
    Setting {
        key: "http.allowed_origins",
        default: "",
        expected: "a list of origins, such as https://app.example.org",
        help: "Origins of other servers' pages that may use this server",
        secret: false,
        list: true,
        apply: |c, v| {
            v.iter().try_for_each(|v| origin(v))?;
            c.allowed_origins = v.to_vec();
            Some(())
        },
    },
    Setting {
        key: "http.trusted_proxies",
        default: "",
        expected: "a list of addresses or ranges, such as 127.0.0.1 or 10.1.0.0/16",
        help: "Reverse proxies, by address or range, whose X-Forwarded-For says whom a request comes from; what others write there counts for nothing",
        secret: false,
        list: true,
        apply: |c, v| all(v).map(|v| c.trusted_proxies = v),
    },
    Setting {
        key: "http.drain_seconds",
        default: "10",
        expected: "a number of seconds, 0 or more",
        help: "How long calls live on after SIGTERM or Ctrl-C; a second one ends at once",
        secret: false,
        list: false,
        apply: |c, v| one(v).map(|v: u32| c.drain = Duration::from_secs(v.into())),
    },
    Setting {
        key: "media.listen",
        default: "127.0.0.1",
        expected: "an IP address, such as 0.0.0.0 for all of IPv4 or [::] for IPv6 and IPv4",
        help: "The address on which media is received and sent; 0.0.0.0 is all IPv4 addresses of this machine, and [::] all of both families",
        secret: false,
        list: false,
        apply: |c, v| {
            let text: String = one(v)?;
            let bare = text.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
            let ip: IpAddr = match bare {
                Some(v6) => IpAddr::V6(v6.parse().ok()?),
                None => text.parse().ok()?,
            };
            c.media_listen = ip;
            Some(())
        },
    },
    Setting {
        key: "media.port",
        default: "7000",
        expected: "a port, 1 to 65535, or 0 for any that is free",
        help: "The first worker's UDP port; each further worker has the next one",
        secret: false,
        list: false,
        apply: |c, v| one(v).map(|v| c.media_port = v),
    },
    Setting {
        key: "media.tcp_port",
        default: "",
        expected: "a port, 1 to 65535, or 0 for any that is free, or off, or nothing",
        help: "The first worker's TCP port; if empty media.port, or none where http.tls_shared has media come in; off for no media over TCP",
        secret: false,
        list: false,
        apply: |c, v| {
            c.media_tcp_port = match v {
                [value] if value.is_empty() => TcpPort::AsUdp,
                [value] if value == "off" => TcpPort::Off,
                _ => TcpPort::From(one(v)?),
            };
            Some(())
        },
    },
    Setting {
        key: "media.workers",
        default: "0",
        expected: "a number of workers, or 0 for one on each core",
        help: "How many threads carry media",
        secret: false,
        list: false,
        apply: |c, v| one(v).map(|v: u16| c.media_workers = v.into()),
    },
    Setting {
        key: "media.public_ips",
        default: "",
        expected: "a list of IP addresses, or auto",
        help: "The addresses clients are told to send media to, if not those of media.listen; auto asks media.stun_servers, at the start and every minute",
        secret: false,
        list: true,
        apply: |c, v| {
            let (auto, ips): (Vec<String>, _) = v.iter().cloned().partition(|v| v == "auto");
            c.public_ips = all(&ips)?;
            c.finds_public_ips = !auto.is_empty();
            Some(())
        },
    },
    Setting {
        key: "media.stun_servers",
        default: "stun.l.google.com:19302,stun.cloudflare.com:3478",
        expected: "a list of hosts with ports, such as stun.example.org:3478",
        help: "The STUN servers that say which address this machine has outside, asked only if media.public_ips is auto",
        secret: false,
        list: true,
        apply: |c, v| {
            let is_place = |v: &String| {
                let place = v.rsplit_once(':');
                place.is_some_and(|(host, port)| {
                    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
                })
            };
            (!v.is_empty() && v.iter().all(is_place)).then(|| c.stun_servers = v.to_vec())
        },
    },
    Setting {
        key: "auth.api_key",
        default: "",
        expected: "a name, such as main",
        help: "The name of the key that signs access tokens; setting it turns tokens on",
        secret: false,
        list: false,
        apply: |c, v| optional(v).map(|v| c.api_key = v),
    },
    Setting {
        key: "auth.api_secret",
        default: "",
        expected: "a secret of at least 32 characters",
        help: "The secret that signs access tokens; better in the environment than in a flag",
        secret: true,
        list: false,
        apply: |c, v| {
            let secret: Option<String> = optional(v)?;
            let long_enough =
                |secret: &String| secret.chars().count() >= confab_signaling::auth::MIN_SECRET_LEN;
            if !secret.as_ref().is_none_or(long_enough) {
                return None;
            }
            c.api_secret = secret;
            Some(())
        },
    },
    Setting {
        key: "auth.open",
        default: "false",
        expected: "true or false",
        help: "Whether whoever reaches this server may enter every room without a token, although it listens beyond loopback: for networks where everybody may",
        secret: false,
        list: false,
        apply: |c, v| one(v).map(|v| c.is_open = v),
    },
    Setting {
        key: "rooms.max_rooms",
        default: "1000",
        expected: "a number, 1 or more",
        help: "Most rooms at once",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.control.limits.rooms = v),
    },
    Setting {
        key: "rooms.max_participants",
        default: "100",
        expected: "a number, 1 or more",
        help: "Most participants in a room",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.control.limits.participants = v),
    },
    Setting {
        key: "rooms.max_identity_participants",
        default: "50",
        expected: "a number, 1 or more",
        help: "Most participants of one identity from one address in a room: who has come by one link has one",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.control.limits.identity_participants = v),
    },
    Setting {
        key: "rooms.max_tracks",
        default: "8",
        expected: "a number, 1 or more",
        help: "Most tracks a participant publishes",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.control.limits.tracks = v),
    },
    Setting {
        key: "signaling.grace_seconds",
        default: "30",
        expected: "a number of seconds, 0 or more",
        help: "How long a participant stays whose socket is lost",
        secret: false,
        list: false,
        apply: |c, v| one(v).map(|v: u32| c.control.grace = Duration::from_secs(v.into())),
    },
    Setting {
        key: "signaling.max_sessions",
        default: "10000",
        expected: "a number, 1 to 1000000",
        help: "Most signaling sessions at once, WHIP and WHEP ones among them",
        secret: false,
        list: false,
        apply: |c, v| {
            let sessions = at_least_one(v).filter(|&v: &usize| v <= 1_000_000)?;
            c.control.max_sessions = sessions;
            Some(())
        },
    },
    Setting {
        key: "signaling.max_address_sessions",
        default: "500",
        expected: "a number, 1 or more",
        help: "Most of them from one IPv4 address or IPv6 /64, which an office may share; an IPv6 /48 may have four times as many, and an address of a private network, as a reverse proxy has, nine tenths of all",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.control.max_address_sessions = v),
    },
    Setting {
        key: "signaling.max_identity_sessions",
        default: "100",
        expected: "a number, 1 or more",
        help: "Most of them of one identity from one address: who has come by one link has one",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.control.max_identity_sessions = v),
    },
    Setting {
        key: "stun.listen",
        default: "",
        expected: "an address and a port, such as 0.0.0.0:3478, or nothing",
        help: "Where STUN Binding requests are answered on UDP; off if empty",
        secret: false,
        list: false,
        apply: |c, v| optional::<SocketAddr>(v).map(|v| c.stun_listen = v),
    },
    Setting {
        key: "turn.listen",
        default: "auto",
        expected: "auto, off, or a list of addresses and ports, such as 0.0.0.0:3478",
        help: "Where TURN and STUN are served on UDP and TCP; auto is port 3478 of media.listen, for calls with this server alone, without TCP if that is behind http.tls_shared",
        secret: false,
        list: true,
        apply: |c, v| {
            c.turn.listen = match v {
                [word] if word == "auto" => Listen::Auto,
                [word] if word == "off" => Listen::At(Vec::new()),
                addresses => Listen::At(all(addresses)?),
            };
            Some(())
        },
    },
    Setting {
        key: "turn.tls_listen",
        default: "",
        expected: "a list of addresses and ports, such as 0.0.0.0:5349",
        help: "Where TURN is served over TLS; the address may be one of http.tls_listen",
        secret: false,
        list: true,
        apply: |c, v| all(v).map(|v| c.turn.tls_listen = v),
    },
    Setting {
        key: "turn.tls_certificate",
        default: "",
        expected: "the path of a PEM file, or nothing",
        help: "The certificate chain of turn.tls_listen, a PEM file, if not http.tls_certificate",
        secret: false,
        list: false,
        apply: |c, v| optional(v).map(|v| c.turn.tls_certificate = v),
    },
    Setting {
        key: "turn.tls_key",
        default: "",
        expected: "the path of a PEM file, or nothing",
        help: "The key of turn.tls_certificate, a PEM file",
        secret: false,
        list: false,
        apply: |c, v| optional(v).map(|v| c.turn.tls_key = v),
    },
    Setting {
        key: "turn.host",
        default: "",
        expected: "a host name or an IP address, such as turn.example.org",
        help: "What clients are told this server is called for TURN, if not its public address or, over TLS, the first of http.acme_domains; TLS needs the name in the certificate",
        secret: false,
        list: false,
        apply: |c, v| {
            let host: Option<String> = optional(v)?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:".contains(&b);
            let good = |host: &String| host.bytes().all(plain);
            host.as_ref().is_none_or(good).then(|| c.turn.host = host)
        },
    },
    Setting {
        key: "turn.relay_ips",
        default: "",
        expected: "a list of IP addresses of this machine, at most one of each family",
        help: "The addresses relayed from, if not media.listen or, of a wildcard, the best of each family; media.public_ips are their names outside",
        secret: false,
        list: true,
        apply: |c, v| all(v).map(|v| c.turn.relay_ips = v),
    },
    Setting {
        key: "turn.relay_ports",
        default: "49152-65535",
        expected: "a range of ports, such as 49152-65535",
        help: "The UDP ports relayed from",
        secret: false,
        list: false,
        apply: |c, v| ports(v).map(|v| c.turn.relay_ports = v),
    },
    Setting {
        key: "turn.realm",
        default: "confab",
        expected: "a name of 1 to 64 characters, such as example.org",
        help: "The name that clients are asked to sign in to",
        secret: false,
        list: false,
        apply: |c, v| {
            let realm = one(v).filter(|v: &String| (1..=64).contains(&v.len()));
            realm.map(|v| c.turn.realm = v)
        },
    },
    Setting {
        key: "turn.secret",
        default: "",
        expected: "a secret of at least 16 characters, or nothing",
        help: "The secret of time-limited credentials, which any TURN REST service shares; beside the SFU random if empty",
        secret: true,
        list: false,
        apply: |c, v| {
            let secret: Option<String> = optional(v)?;
            let long_enough = |secret: &String| secret.chars().count() >= 16;
            let good = secret.as_ref().is_none_or(long_enough);
            good.then(|| c.turn.secret = secret)
        },
    },
    Setting {
        key: "turn.users",
        default: "",
        expected: "a list of users as name:password",
        help: "Users whose passwords do not expire, each as name:password",
        secret: true,
        list: true,
        apply: |c, v| {
            let users = v.iter().map(|v| {
                let (name, password) = v.split_once(':')?;
                let good = !name.is_empty() && !password.is_empty();
                good.then(|| (name.to_owned(), password.to_owned()))
            });
            users.collect::<Option<_>>().map(|v| c.turn.users = v)
        },
    },
    Setting {
        key: "turn.allow",
        default: "",
        expected: "a list of address ranges, such as 10.1.0.0/16",
        help: "Ranges that may be relayed to although they are not on the public internet",
        secret: false,
        list: true,
        apply: |c, v| all(v).map(|v| c.turn.allow = v),
    },
    Setting {
        key: "turn.deny",
        default: "",
        expected: "a list of address ranges, such as 198.51.100.0/24",
        help: "Ranges that may not be relayed to, allowed or not",
        secret: false,
        list: true,
        apply: |c, v| all(v).map(|v| c.turn.deny = v),
    },
    Setting {
        key: "turn.max_allocations",
        default: "10000",
        expected: "a number, 1 or more",
        help: "Most relay allocations at once",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.turn.max_allocations = v),
    },
    Setting {
        key: "turn.max_user_allocations",
        default: "12",
        expected: "a number, 1 or more",
        help: "Most relay allocations of one user at once",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.turn.max_user_allocations = v),
    },
    Setting {
        key: "turn.max_address_allocations",
        default: "240",
        expected: "a number, 1 or more",
        help: "Most relay allocations from one address at once, which an office may share",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.turn.max_address_allocations = v),
    },
    Setting {
        key: "turn.max_unauthenticated",
        default: "100",
        expected: "a number, 1 or more",
        help: "Most answers a second to one address that has not signed in",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.turn.max_unauthenticated = v),
    },
    Setting {
        key: "turn.max_user_mbits",
        default: "50",
        expected: "a number of megabits a second, 1 or more",
        help: "Most that is relayed for one user, in megabits a second; a packet counts for 100 bytes more than it carries",
        secret: false,
        list: false,
        apply: |c, v| at_least_one(v).map(|v| c.turn.max_user_mbits = v),
    },
    Setting {
        key: "log.filter",
        default: "info",
        expected: "a filter such as info or confab_sfu=debug,info",
        help: "What is logged to the standard error",
        secret: false,
        list: false,
        apply: |c, v| {
            let filter: String = one(v)?;
            EnvFilter::try_new(&filter).ok()?;
            c.log = filter;
            Some(())
        },
    },
];
