//! Confab in one process: reads the settings, starts the parts, stops them in order.
//!
//! In: `confab.toml`, `CONFAB_*` variables, flags, signals. Out: a server that says where to open
//! it; with `confab turn` a TURN server alone; with `confab token`
//! an access token; or with `confab doctor` what would stop calls.

mod cli;
mod config;
mod descriptors;
mod doctor;
mod relay;
mod tls;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::SystemTime;

use confab_sfu::Sfu;
use confab_signaling::auth::TokenRequest;
use confab_signaling::{Server, Settings};
use tokio::net::UdpSocket;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use cli::{Invocation, Task};
use config::Config;
use tls::{Behind, Doors};

/// Whatever ends the program with a sentence.
pub(crate) type Failure = Box<dyn std::error::Error>;

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
        Task::Turn => {
            start_log(&config)?;
            descriptors::raise();
            relay::serve_alone(&config)?;
        }
        Task::Serve => {
            start_log(&config)?;
            descriptors::raise();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            // Dropping the runtime would wait for what still runs; a second signal must not.
            let served = runtime.block_on(serve(&config));
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

fn start_log(config: &Config) -> Result<(), Failure> {
    // `stun_types` warns of every malformed packet, and anybody can send those; counters have them.
    let filter = format!("stun_types=error,{}", config.log);
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

async fn serve(config: &Config) -> Result<(), Failure> {
    let auth = config.auth()?;
    let mut signals = Signals::new()?;
    let mut server = Server::bind(Settings {
        listen: config.http_listen,
        allowed_origins: config.allowed_origins.clone(),
        public_url: None,
        auth,
        control: config.control,
        drain: config.drain,
    })
    .await?;
    let doors = Doors::bind(config.tls_doors(true)?)?;
    let (queues, ends) = config.has_turn().then(|| relay::queues(config)).unzip();
    let (sfu, events, media) = Sfu::start_beside(&config.sfu(&doors.http()), queues.as_ref())?;
    let relay = match ends {
        Some(ends) => Some(relay::start(config, (media, ends), &doors.turn())?),
        None => None,
    };
    server = server.with_certificates(doors.expiries());
    if let Some(relay) = &relay {
        server = server.with_relay(relay.door.clone());
    }
    if let Some(address) = config.stun_listen {
        let socket = UdpSocket::bind(address).await.map_err(|error| {
            format!("cannot listen for STUN on UDP {address}: {error}; choose another address with --stun-listen, or none where TURN listens, which answers STUN too")
        })?;
        tokio::spawn(async move {
            if let Err(error) = confab_turn::serve(socket).await {
                tracing::error!(%error, "the STUN responder has stopped");
            }
        });
    }
    for address in sfu.addresses() {
        tracing::info!(%address, "media worker listens");
    }
    let secure = doors
        .http()
        .into_iter()
        .map(|address| format!(" or https://{address}/"));
    let secure: String = secure.collect();
    let behind = Behind {
        http: Some(server.entrance()),
        turn: relay.as_ref().map(|relay| relay.door.handle().clone()),
        media: config.shares_media().then(|| sfu.tcp_door().clone()),
    };
    doors.open(&behind, config.control.max_sessions);
    println!(
        "Confab is ready. Open http://{}/{secure} in two tabs.",
        server.address()
    );
    let mut asked_again = Signals::new()?;
    let stop = async move {
        signals.next().await;
        tracing::info!("stopping once everybody has left; a second signal ends at once");
    };
    tokio::select! {
        () = server.run(sfu.clone(), events, stop) => {}
        () = asked_again.second() => return Ok(()),
    }
    tokio::select! {
        () = sfu.shutdown() => {}
        () = asked_again.next() => {}
    }
    Ok(())
}

/// The signals that ask the process to end.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn second(&mut self) {
        self.next().await;
        self.next().await;
    }
}
