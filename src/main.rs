//! Confab in one process: reads the settings, starts the parts, stops them in order.
//!
//! In: `confab.toml`, `CONFAB_*` variables, flags, signals. Out: a server that says where to open
//! it; with `confab turn` a TURN server alone; with `confab token` an access token; with `confab
//! invite` a link into a room; or with `confab doctor` what would stop calls.

mod addresses;
mod cli;
mod config;
mod descriptors;
mod doctor;
mod failure;
mod links;
mod parts;
mod relay;
mod reload;
mod signals;
mod stun;
mod tls;

use std::convert::Infallible;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use confab_sfu::Sfu;
use confab_signaling::auth::TokenRequest;
use confab_signaling::{Server, Settings};
use tokio::net::UdpSocket;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use cli::{Invocation, Task};
use config::{Config, Sources};
use failure::Failure;
use links::{Invitation, Served};
use parts::Parts;
use relay::{Relay, RelayAccess};
use reload::{Reload, SetFilter};
use signals::Signals;
use tls::{Behind, TlsListeners};

fn main() -> ExitCode {
    let invocation = cli::parse();
    match run(invocation) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("confab: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(invocation: Invocation) -> Result<ExitCode, Failure> {
    let config = config::load(&invocation.sources)?;
    match invocation.task {
        Task::Doctor { stun } => return doctor::run(&config, stun.as_deref()),
        Task::Token(request) => print_token(&config, &request)?,
        Task::Invite(invitation) => print_link(&config, &invitation)?,
        Task::Turn => {
            let set_filter = start_log(&config)?;
            descriptors::raise();
            relay::serve_alone(&config, (invocation.sources, set_filter))?;
        }
        Task::Serve => {
            let set_filter = start_log(&config)?;
            descriptors::raise();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            // Dropping the runtime would wait for what still runs; a second signal must not.
            let served = runtime.block_on(serve(&config, (invocation.sources, set_filter)));
            runtime.shutdown_background();
            served?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_token(config: &Config, request: &TokenRequest) -> Result<(), Failure> {
    let Some(key) = config.api_key()? else {
        return Err(
            "a token needs auth.api_key and auth.api_secret: set CONFAB_AUTH_API_KEY and \
             CONFAB_AUTH_API_SECRET to those of the server"
                .into(),
        );
    };
    println!("{}", key.mint(request, SystemTime::now())?);
    Ok(())
}

fn print_link(config: &Config, invitation: &Invitation) -> Result<(), Failure> {
    let found;
    let config = match config.public_url.is_none() && config.tls.acme.domains.is_empty() {
        true => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            found = runtime.block_on(addresses::discover(config))?;
            &found
        }
        false => config,
    };
    let base = Served::by(config).base(config);
    println!("{}", invitation.link(config, &base)?);
    Ok(())
}

/// Starts the log, and returns what gives it another filter.
fn start_log(config: &Config) -> Result<SetFilter, Failure> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(reload::filter(&config.log)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(reload::may_be_logged))
        .with(lines)
        .init();
    Ok(Box::new(move |filter| {
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

/// Keeps what clients are told of addresses up to date.
async fn follow_addresses(
    config: Config,
    mut last: Config,
    (sfu, relay): (Sfu, Option<Arc<RelayAccess>>),
    https: Vec<SocketAddr>,
) -> Infallible {
    loop {
        let now = addresses::changed(&config, &last).await;
        tracing::info!(
            addresses = ?now.announced_ips(), "clients are told other addresses from now on"
        );
        sfu.set_addresses(&now.sfu(&https));
        if let Some(relay) = &relay {
            relay.set_addresses(&now);
        }
        last = now;
    }
}

async fn serve(
    settings: &Config,
    (sources, set_filter): (Sources, SetFilter),
) -> Result<(), Failure> {
    let auth = settings.auth()?;
    let mut parts = Parts::default();
    let mut signals = Signals::new()?;
    let reload = Reload::new(sources, set_filter)?;
    let config = &addresses::discover(settings).await?;
    if let (true, Some((listener, address))) = (config.is_open, config.reached_by_others()) {
        tracing::warn!(
            "auth.open is true and {listener} is {address}: whoever reaches this server may enter \
             every room"
        );
    }
    let mut server = Server::bind(Settings {
        listen: config.http_listen,
        allowed_origins: config.allowed_origins.clone(),
        public_url: config.public_url.clone(),
        auth,
        control: config.control,
        drain: config.drain,
    })
    .await?
    .with_names(config.tls.acme.domains.clone())
    .with_trusted_proxies(config.trusted_proxies.clone());
    let listeners = TlsListeners::bind(config.tls_doors(true)?)?;
    let (queues, ends) = config.has_turn().then(|| relay::queues(config)).unzip();
    let (sfu, events, media) = Sfu::start_beside(&config.sfu(&listeners.http()), queues.as_ref())?;
    let relay = match ends {
        Some(ends) => Some(relay::start(config, (media, ends), &listeners.turn())?),
        None => None,
    };
    server = server.with_certificates(listeners.expiries());
    if let Some(relay) = &relay {
        server = server.with_relay(relay.access.clone());
    }
    if let Some(address) = config.stun_listen {
        let socket = UdpSocket::bind(address).await.map_err(|error| {
            format!("cannot listen for STUN on UDP {address}: {error}; choose another address with --stun-listen, or none where TURN listens, which answers STUN too")
        })?;
        parts.add_fallible("the STUN responder", async {
            let ended = confab_turn::serve(socket).await;
            Err::<Infallible, _>(ended.err().map_or("it has ended".into(), |e| e.to_string()))
        });
    }
    for address in sfu.addresses() {
        tracing::info!(%address, "media worker listens");
    }
    tracing::info!(addresses = ?config.announced_ips(), "clients are told to send media there");
    let served = Served {
        http: server.address(),
        https: listeners.http(),
    };
    parts.add(
        "SIGHUP",
        reload.obey(settings.clone(), listeners.expiries()),
    );
    let behind = Behind {
        http: Some(server.entrance()),
        turn: relay.as_ref().map(|relay| relay.access.handle().clone()),
        media: config.shares_media().then(|| sfu.tcp_dispatcher().clone()),
    };
    let limits = tls::Limits::new(config.control.max_sessions, &config.trusted_proxies);
    listeners.open(&behind, &limits, &mut parts);
    let access = relay.as_ref().map(|relay| relay.access.clone());
    let follow = follow_addresses(
        settings.clone(),
        config.clone(),
        (sfu.clone(), access),
        served.https.clone(),
    );
    parts.add("the watch over addresses", follow);
    // Held here until the end: to drop it is to stop the relay.
    let _relay = relay.map(
        |Relay {
             access,
             stopped,
             stop,
         }| {
            parts.add_fallible("the relay", async {
                let reason = stopped.await;
                Err::<Infallible, _>(reason.unwrap_or_else(|_| "its thread has failed".into()))
            });
            (access, stop)
        },
    );
    println!("{}", served.greeting(config, links::has_reader())?);
    let mut asked_again = Signals::new()?;
    let stop = async move {
        signals.next().await;
        tracing::info!("stopping once everybody has left; a second signal ends at once");
    };
    tokio::select! {
        ended = server.run(sfu.clone(), events, stop) => ended?,
        failure = parts.failed() => return Err(failure),
        () = asked_again.second() => return Ok(()),
    }
    tokio::select! {
        () = sfu.shutdown() => {}
        () = asked_again.next() => {}
    }
    Ok(())
}
