//! The settings of TLS.
//!
//! In: what people have set. Out: the listeners there are to be, each with its certificate; an address
//! that is set for two things is one listener.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Config, ConfigError};
use crate::tls::{Automatic, Plan, Source};

/// The directory of Let's Encrypt.
pub(super) const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// What can be set of HTTPS; a relay without a certificate of its own uses this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) self_signed: bool,
    pub(crate) acme: Automatic,
    /// Whether media over TCP and TURN come in there too.
    pub(crate) shared: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            listen: Vec::new(),
            certificate: None,
            key: None,
            self_signed: false,
            acme: Automatic {
                domains: Vec::new(),
                contact: None,
                directory: LETS_ENCRYPT.into(),
                directory_ca: None,
                folder: "acme".into(),
            },
            shared: false,
        }
    }
}

impl Config {
    /// The listeners with TLS: of pages and signaling, if `http` is wanted, and of the relay.
    ///
    /// # Errors
    /// When one has no certificate, or two, or there is none for what is set.
    pub(crate) fn tls_doors(&self, http: bool) -> Result<Vec<Plan>, ConfigError> {
        self.check_acme(http)?;
        let shared = self.tls.shared;
        if shared && http && self.tls.listen.is_empty() {
            return Err(ConfigError::NothingToShare);
        }
        let mut listeners: Vec<Plan> = Vec::new();
        for &address in self.tls.listen.iter().filter(|_| http) {
            let source = self.https_certificate("http.tls_listen")?;
            if listeners.iter().all(|listener| listener.address != address) {
                listeners.push(Plan {
                    address,
                    http: true,
                    turn: shared && self.has_turn(),
                    shared,
                    source,
                });
            }
        }
        for &address in &self.turn.tls_listen {
            let source = self.turn_certificate()?;
            match listeners
                .iter_mut()
                .find(|listener| listener.address == address)
            {
                Some(listener) if listener.source != source => {
                    return Err(ConfigError::TwoCertificates(address));
                }
                Some(listener) => listener.turn = true,
                None => listeners.push(Plan {
                    address,
                    http: false,
                    turn: true,
                    shared,
                    source,
                }),
            }
        }
        Ok(listeners)
    }

    fn turn_certificate(&self) -> Result<Source, ConfigError> {
        let turn = &self.turn;
        let keys = ("turn.tls_certificate", "turn.tls_key");
        match files(&turn.tls_certificate, &turn.tls_key, keys)? {
            Some(files) => Ok(files),
            None => self.https_certificate("turn.tls_listen"),
        }
    }

    /// An automatic certificate takes names, and a listener for the authority to look at.
    fn check_acme(&self, http: bool) -> Result<(), ConfigError> {
        let acme = &self.tls.acme;
        let has_listener =
            (http && !self.tls.listen.is_empty()) || !self.turn.tls_listen.is_empty();
        if !acme.domains.is_empty() {
            return match has_listener {
                true => Ok(()),
                false => Err(ConfigError::NoListener),
            };
        }
        let useless = [
            (acme.contact.is_some(), "http.acme_contact"),
            (acme.directory != LETS_ENCRYPT, "http.acme_directory"),
            (acme.directory_ca.is_some(), "http.acme_directory_ca"),
        ];
        match useless.iter().find(|(is_set, _)| *is_set) {
            Some((_, key)) => Err(ConfigError::NoDomain(key)),
            None => Ok(()),
        }
    }

    fn https_certificate(&self, listener: &'static str) -> Result<Source, ConfigError> {
        let tls = &self.tls;
        let keys = ("http.tls_certificate", "http.tls_key");
        let is_automatic = !tls.acme.domains.is_empty();
        match files(&tls.certificate, &tls.key, keys)? {
            Some(_) if is_automatic => Err(ConfigError::AutomaticToo(
                "http.tls_certificate and http.tls_key are",
            )),
            None if is_automatic && tls.self_signed => {
                Err(ConfigError::AutomaticToo("http.tls_self_signed is"))
            }
            None if is_automatic => Ok(Source::Automatic(tls.acme.clone())),
            Some(_) if tls.self_signed => Err(ConfigError::SelfSignedToo),
            Some(files) => Ok(files),
            None if tls.self_signed => Ok(Source::SelfSigned(self.names())),
            None => Err(ConfigError::NoCertificate(listener)),
        }
    }

    /// What this server may be called by who opens its page.
    fn names(&self) -> Vec<String> {
        let local = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let host = self.turn.host.iter().cloned();
        let listening = self.tls.listen.iter().chain(&self.turn.tls_listen);
        let listening = listening.map(SocketAddr::ip);
        let relays = self.relay_addresses().into_iter().map(|relay| relay.bind);
        let ips = self.public_ips.iter().chain(&self.own_ips).copied();
        let ips = ips.chain(relays).chain(listening);
        let known = ips.filter(|ip| !ip.is_unspecified());
        let mut names: Vec<String> = host.chain(known.map(|ip| ip.to_string())).collect();
        names.extend(local);
        names.sort();
        names.dedup();
        names
    }
}

/// Both files or none.
fn files(
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
    keys: (&'static str, &'static str),
) -> Result<Option<Source>, ConfigError> {
    let half = |set, missing| Err(ConfigError::HalfACertificate { set, missing });
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(Source::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        })),
        (Some(_), None) => half(keys.0, keys.1),
        (None, Some(_)) => half(keys.1, keys.0),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use confab_sfu::config::TcpPort;

    use super::*;
    use crate::config::turn::Listen;

    fn config() -> Config {
        let mut config = Config::default();
        config.tls.listen = vec!["0.0.0.0:443".parse().unwrap()];
        config.tls.certificate = Some("chain.pem".into());
        config.tls.key = Some("key.pem".into());
        config
    }

    #[test]
    fn one_address_is_one_door() {
        let mut config = config();
        config.turn.tls_listen = ["0.0.0.0:443", "0.0.0.0:5349"]
            .map(|address| address.parse().unwrap())
            .into();
        let served = |http| -> Vec<(u16, bool, bool)> {
            let listeners = config.tls_doors(http).unwrap().into_iter();
            listeners
                .map(|listener| (listener.address.port(), listener.http, listener.turn))
                .collect()
        };
        assert_eq!(served(true), [(443, true, true), (5349, false, true)]);
        assert_eq!(served(false), [(443, false, true), (5349, false, true)]);
        assert_eq!(Config::default().tls_doors(true), Ok(Vec::new()));
    }

    #[test]
    fn a_door_has_one_certificate() {
        for (change, words) in [
            (
                (|c| c.tls.key = None) as fn(&mut Config),
                "http.tls_certificate is set, but http.tls_key is not",
            ),
            (
                |c| c.turn.tls_key = Some("other.pem".into()),
                "turn.tls_key is set, but turn.tls_certificate is not",
            ),
            (
                |c| (c.tls.certificate, c.tls.key) = (None, None),
                "http.tls_listen needs a certificate",
            ),
            (|c| c.tls.self_signed = true, "http.tls_self_signed is true"),
            (
                |c| c.tls.acme.domains = vec!["call.example.org".into()],
                "http.acme_domains is set, but http.tls_certificate and http.tls_key are too",
            ),
            (
                |c| {
                    (c.tls.certificate, c.tls.key) = (None, None);
                    c.tls.self_signed = true;
                    c.tls.acme.domains = vec!["call.example.org".into()];
                },
                "http.acme_domains is set, but http.tls_self_signed is too",
            ),
            (
                |c| {
                    c.tls.acme.domains = vec!["call.example.org".into()];
                    (c.tls.listen, c.turn.tls_listen) = (Vec::new(), Vec::new());
                },
                "no port with TLS for the certificate authority to look at",
            ),
            (
                |c| c.tls.acme.contact = Some("ops@example.org".into()),
                "http.acme_contact is set, but http.acme_domains is empty",
            ),
            (
                |c| c.tls.acme.directory = "https://ca.example.org/".into(),
                "http.acme_directory is set, but",
            ),
            (
                |c| c.tls.acme.directory_ca = Some("ca.pem".into()),
                "http.acme_directory_ca is set, but",
            ),
            (
                |c| {
                    c.turn.tls_certificate = Some("other.pem".into());
                    c.turn.tls_key = Some("other.pem".into());
                },
                "are both 0.0.0.0:443",
            ),
        ] {
            let mut config = config();
            config.turn.tls_listen = config.tls.listen.clone();
            change(&mut config);
            let error = config.tls_doors(true).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_automatic_certificate_is_for_every_door_without_its_own() {
        let mut config = config();
        (config.tls.certificate, config.tls.key) = (None, None);
        config.tls.acme.domains = vec!["call.example.org".into()];
        config.turn.tls_listen = vec!["0.0.0.0:5349".parse().unwrap()];
        let automatic = Source::Automatic(config.tls.acme.clone());
        for http in [true, false] {
            let listeners = config.tls_doors(http).unwrap();
            assert!(
                listeners
                    .iter()
                    .all(|listener| listener.source == automatic)
            );
        }
        config.turn.tls_certificate = Some("turn.pem".into());
        config.turn.tls_key = Some("turn.pem".into());
        let listeners = config.tls_doors(true).unwrap();
        assert!(listeners[0].source == automatic && listeners[1].source != automatic);
    }

    #[test]
    fn one_setting_makes_one_port_of_all() {
        let mut config = config();
        config.tls.shared = true;
        let one = |config: &Config| -> Plan {
            let mut listeners = config.tls_doors(true).unwrap();
            assert_eq!(listeners.len(), 1);
            listeners.remove(0)
        };
        let listener = one(&config);
        assert!(listener.http && listener.turn && listener.shared);
        let address = [listener.address];
        let sfu = config.sfu(&address);
        assert_eq!(
            (sfu.tcp_port, sfu.shared_tcp),
            (TcpPort::Off, address.into())
        );
        let relay = config.turn(&["127.0.0.1:7000".parse().unwrap()], &address);
        assert_eq!(
            (relay.udp.len(), relay.tcp.len()),
            (1, 0),
            "TCP 3478 is not needed"
        );

        config.media_tcp_port = TcpPort::From(7000);
        let sfu = config.sfu(&address);
        assert_eq!(
            (sfu.tcp_port, sfu.shared_tcp),
            (TcpPort::From(7000), address.into())
        );
        config.media_tcp_port = TcpPort::Off;
        let sfu = config.sfu(&address);
        assert_eq!((sfu.tcp_port, sfu.shared_tcp), (TcpPort::Off, Vec::new()));
        config.turn.listen = Listen::At(Vec::new());
        assert!(!one(&config).turn, "there is no relay");

        // One UDP port beside it, of the same number.
        config.turn.listen = Listen::At(config.tls.listen.clone());
        let relay = config.turn(&[], &address);
        assert_eq!((relay.udp, relay.tcp), (address.into(), Vec::new()));

        config.tls.listen.clear();
        let error = config.tls_doors(true).unwrap_err().to_string();
        assert!(error.contains("http.tls_listen is empty"), "{error}");
        assert_eq!(config.tls_doors(false), Ok(Vec::new()));
    }

    #[test]
    fn a_self_signed_certificate_has_every_name_that_is_known() {
        let mut config = config();
        (config.tls.certificate, config.tls.key) = (None, None);
        config.tls.self_signed = true;
        config.turn.host = Some("call.example.org".into());
        config.public_ips = vec!["203.0.113.7".parse().unwrap()];
        let listeners = config.tls_doors(true).unwrap();
        let names = [
            "127.0.0.1",
            "203.0.113.7",
            "::1",
            "call.example.org",
            "localhost",
        ];
        assert_eq!(
            listeners[0].source,
            Source::SelfSigned(names.map(String::from).into())
        );
    }
}
