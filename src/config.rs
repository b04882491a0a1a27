//! The settings: where they come from and what they may be.
//!
//! In, in rising precedence: the defaults, `confab.toml`, `CONFAB_*` variables, flags. Out: a
//! [`Config`] in which every value has been checked, or one sentence that names the source, the
//! key, the value and what is expected. [`SETTINGS`] is the one list of settings: the flags, the
//! variables, `--help`, `confab.toml.example` and `docs/operations.md` follow it.

mod sources;
mod table;
mod tls;
mod turn;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use confab_sfu::config::TcpPort;
use confab_signaling::auth::{ApiKey, ApiKeyError, Auth};
use confab_signaling::control;
use confab_sockets::cidr::Cidr;

pub(crate) use sources::{Sources, load};
pub(crate) use table::{SETTINGS, Setting};
#[cfg(test)]
pub(crate) use turn::Listen;

/// Who is asked for this machine's public address, if somebody is to be: servers that are there for
/// everybody, of two operators.
const STUN_SERVERS: [&str; 2] = ["stun.l.google.com:19302", "stun.cloudflare.com:3478"];

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) http_listen: SocketAddr,
    pub(crate) tls: tls::Tls,
    /// Where links begin, without a slash at the end.
    pub(crate) public_url: Option<String>,
    pub(crate) allowed_origins: Vec<String>,
    /// Reverse proxies that say whom requests come from.
    pub(crate) trusted_proxies: Vec<Cidr>,
    pub(crate) drain: Duration,
    pub(crate) media_listen: IpAddr,
    pub(crate) media_port: u16,
    pub(crate) media_tcp_port: TcpPort,
    /// 0 is one for each core.
    pub(crate) media_workers: usize,
    /// Those that are set; [`crate::addresses::discover`] adds those that STUN finds.
    pub(crate) public_ips: Vec<IpAddr>,
    /// Whether STUN servers are asked for more of them.
    pub(crate) finds_public_ips: bool,
    pub(crate) stun_servers: Vec<String>,
    /// Not set by anybody: this machine's own addresses, where `media_listen` is a wildcard
    /// ([`crate::addresses::with_own`]). The best is first.
    pub(crate) own_ips: Vec<IpAddr>,
    pub(crate) api_key: Option<String>,
    pub(crate) api_secret: Option<String>,
    /// Whether whoever reaches this server may enter every room.
    pub(crate) is_open: bool,
    pub(crate) control: control::Config,
    pub(crate) stun_listen: Option<SocketAddr>,
    pub(crate) turn: turn::Turn,
    pub(crate) log: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            http_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: tls::Tls::default(),
            public_url: None,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            drain: Duration::from_secs(10),
            media_listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            media_port: confab_sfu::config::DEFAULT_PORT,
            media_tcp_port: TcpPort::AsUdp,
            media_workers: 0,
            public_ips: Vec::new(),
            finds_public_ips: false,
            stun_servers: STUN_SERVERS.map(String::from).into(),
            own_ips: Vec::new(),
            api_key: None,
            api_secret: None,
            is_open: false,
            control: control::Config::default(),
            stun_listen: None,
            turn: turn::Turn::default(),
            log: "info".into(),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file named with `--config` cannot be read.
    #[error("cannot read the settings from {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// It is not TOML.
    #[error("{} is not valid TOML: {reason}", path.display())]
    NotToml { path: PathBuf, reason: String },
    /// Nothing has this name.
    #[error("{source_name} sets {key}, which does not exist; the nearest setting is {nearest}")]
    Unknown {
        source_name: String,
        key: String,
        nearest: String,
    },
    /// The value is not one for this setting.
    #[error("{source_name} sets {key} to {value}; expected is {expected}")]
    Invalid {
        source_name: String,
        key: String,
        value: String,
        expected: &'static str,
    },
    /// Only one of the key and its secret is set.
    #[error("auth.api_key and auth.api_secret belong together, but only {0} is set")]
    HalfAKey(&'static str),
    /// The key pair is too weak.
    #[error(transparent)]
    ApiKey(#[from] ApiKeyError),
    /// Only one of a certificate and its key is set.
    #[error("{set} is set, but {missing} is not; a certificate and its key belong together")]
    HalfACertificate {
        set: &'static str,
        missing: &'static str,
    },
    /// TLS without a certificate.
    #[error(
        "{0} needs a certificate: set http.acme_domains to this server's host name to get one \
         automatically, or http.tls_certificate and http.tls_key to PEM files, or \
         http.tls_self_signed to true to try things out"
    )]
    NoCertificate(&'static str),
    /// Two certificates for the same.
    #[error(
        "http.tls_self_signed is true, but http.tls_certificate and http.tls_key are set too; unset \
         what is not to be served"
    )]
    SelfSignedToo,
    #[error(
        "http.tls_shared is true, but http.tls_listen is empty; set http.tls_listen to the address \
         and port that everything is to come in at, such as 0.0.0.0:443"
    )]
    NothingToShare,
    /// An automatic certificate, and another one.
    #[error("http.acme_domains is set, but {0} too; unset what is not to be served")]
    AutomaticToo(&'static str),
    /// How to get an automatic certificate, but not what for.
    #[error(
        "{0} is set, but http.acme_domains is empty; set that to the host names that the \
         certificate is to be for, or unset both"
    )]
    NoDomain(&'static str),
    /// No way in for the certificate authority.
    #[error(
        "http.acme_domains is set, but there is no port with TLS for the certificate authority to \
         look at; set http.tls_listen to 0.0.0.0:443"
    )]
    NoListener,
    /// Two certificates on one address.
    #[error(
        "http.tls_listen and turn.tls_listen are both {0}, where they share one certificate: unset \
         turn.tls_certificate and turn.tls_key, or choose another address for one of them"
    )]
    TwoCertificates(SocketAddr),
    /// Listeners that are open and locked.
    #[error(
        "auth.open is true, but auth.api_key is set too; unset auth.open to ask for tokens, or the \
         key and its secret to let everybody in"
    )]
    OpenWithKey,
    /// The rooms would be open to the network.
    #[error(
        "{listener} is {address}, which others can reach, so access tokens must be on: set \
         CONFAB_AUTH_API_KEY to a name such as \"main\" and CONFAB_AUTH_API_SECRET to a secret of \
         at least 32 characters (`openssl rand -hex 32` makes one), or auth.api_key and \
         auth.api_secret in confab.toml; or, if everybody who can reach it may enter every room, \
         auth.open to true"
    )]
    OpenToOthers {
        listener: &'static str,
        address: IpAddr,
    },
}

impl Config {
    /// The key pair, if tokens are on.
    ///
    /// # Errors
    /// When only half of it is set, or it is not usable.
    pub(crate) fn api_key(&self) -> Result<Option<ApiKey>, ConfigError> {
        match (&self.api_key, &self.api_secret) {
            (Some(key), Some(secret)) => Ok(Some(ApiKey::new(key.clone(), secret.clone())?)),
            (Some(_), None) => Err(ConfigError::HalfAKey("auth.api_key")),
            (None, Some(_)) => Err(ConfigError::HalfAKey("auth.api_secret")),
            (None, None) => Ok(None),
        }
    }

    /// The listener of this server.
    ///
    /// # Errors
    /// When others could enter without a token, or the key pair is not usable.
    pub(crate) fn auth(&self) -> Result<Auth, ConfigError> {
        if let Some(key) = self.api_key()? {
            return match self.is_open {
                true => Err(ConfigError::OpenWithKey),
                false => Ok(Auth::with_key(key)),
            };
        }
        match self.reached_by_others() {
            Some((listener, address)) if !self.is_open => {
                Err(ConfigError::OpenToOthers { listener, address })
            }
            _ => Ok(Auth::open()),
        }
    }

    /// A listener that is not of this machine alone, if there is one.
    pub(crate) fn reached_by_others(&self) -> Option<(&'static str, IpAddr)> {
        let tls = self.tls.listen.iter();
        let mut listeners = [
            ("http.listen", self.http_listen.ip()),
            ("media.listen", self.media_listen),
        ]
        .into_iter()
        .chain(tls.map(|address| ("http.tls_listen", address.ip())));
        listeners.find(|(_, ip)| !ip.is_loopback())
    }

    /// Whether media comes in over TCP at the listeners with TLS.
    pub(crate) fn shares_media(&self) -> bool {
        self.tls.shared && self.media_tcp_port != TcpPort::Off
    }

    /// The media plane's part; `listeners` are those with TLS that pages are behind.
    pub(crate) fn sfu(&self, listeners: &[SocketAddr]) -> confab_sfu::config::Config {
        let defaults = confab_sfu::config::Config::default();
        confab_sfu::config::Config {
            workers: match self.media_workers {
                0 => defaults.workers,
                workers => workers,
            },
            listen: self.media_listen,
            port: self.media_port,
            tcp_port: match self.media_tcp_port {
                TcpPort::AsUdp if self.tls.shared => TcpPort::Off,
                port => port,
            },
            shared_tcp: match self.shares_media() {
                true => listeners.to_vec(),
                false => Vec::new(),
            },
            public_ips: self.public_ips.clone(),
            own_ips: self.own_ips.clone(),
            ..defaults
        }
    }

    /// The addresses that clients are told to send media to, the best first.
    pub(crate) fn announced_ips(&self) -> Vec<IpAddr> {
        match (&self.public_ips[..], self.media_listen.is_unspecified()) {
            ([], true) => self.own_ips.clone(),
            ([], false) => vec![self.media_listen],
            (public, _) => public.to_vec(),
        }
    }

    /// Adds addresses that this machine has outside.
    pub(crate) fn add_public(&mut self, ips: &[IpAddr]) {
        for ip in ips {
            if !self.public_ips.contains(ip) {
                self.public_ips.push(*ip);
            }
        }
    }
}

#[cfg(test)]
mod tests;
