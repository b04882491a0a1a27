//! What a running server takes over without a restart, when it gets SIGHUP.
//!
//! In: the signal, and the settings as their sources say them now. Out: another log filter, and
//! certificates read again. The rest needs a restart, which is said.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Sources, load};
use crate::tls::Expiries;

/// Has the log take another filter.
pub(crate) type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Libraries that write whole messages to the log, with the tokens and passwords in them, at `debug` and
/// `trace`.
const TALKATIVE: [&str; 3] = ["tungstenite", "tokio_tungstenite", "stun_types"];

/// Whether something may be written to the log at all, whatever its filter is set to: no secrets.
pub(crate) fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || !TALKATIVE.contains(&crate_name)
}

/// How the log is filtered with this setting.
///
/// # Errors
/// When it is no filter.
pub(crate) fn filter(setting: &str) -> Result<EnvFilter, String> {
    // `stun_types` warns of every malformed packet, and anybody can send those; counters have them.
    EnvFilter::try_new(format!("stun_types=error,{setting}")).map_err(|error| error.to_string())
}

/// Waits for the signal, whose default would end the process.
pub(crate) struct Reload {
    signals: Signal,
    sources: Sources,
    set_filter: SetFilter,
}

impl Reload {
    /// Takes the signal over; within a tokio runtime.
    ///
    /// # Errors
    /// When the system does not give it.
    pub(crate) fn new(sources: Sources, set_filter: SetFilter) -> std::io::Result<Reload> {
        Ok(Reload {
            signals: signal(SignalKind::hangup())?,
            sources,
            set_filter,
        })
    }

    /// Obeys it. `config` is as the sources said it at the start.
    pub(crate) async fn obey(
        mut self,
        mut config: Config,
        certificates: Arc<Expiries>,
    ) -> Infallible {
        while self.signals.recv().await.is_some() {
            certificates.look_again();
            match load(&self.sources) {
                Ok(now) => self.take_over(&mut config, now),
                Err(error) => tracing::warn!(
                    %error, "SIGHUP: the settings cannot be read; those there are stay"
                ),
            }
        }
        // The system gives no more of them.
        std::future::pending().await
    }

    fn take_over(&self, config: &mut Config, now: Config) {
        let filter = filter(&now.log);
        match filter.and_then(|filter| (self.set_filter)(filter)) {
            Ok(()) => config.log.clone_from(&now.log),
            Err(error) => tracing::warn!(%error, "the log filter stays as it was"),
        }
        match *config == now {
            true => tracing::info!(
                filter = config.log,
                "SIGHUP: the log filter and the certificates have been read again"
            ),
            false => tracing::warn!(
                filter = config.log,
                "SIGHUP: the log filter and the certificates have been read again; other settings \
                 have changed too, and take a restart"
            ),
        }
    }
}
