//! `confab-bench`: load for a server on this machine, and what it costs there.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use confab_bench::fanout::{self, Fanout};
use confab_bench::relay::{self, Comparison, Transport};
use confab_bench::server::find_binary;
use confab_bot::MadeUpVideo;

/// Starts a server, puts a load on it and prints what it cost. Use release builds of both.
#[derive(Debug, Parser)]
#[command(name = "confab-bench", version)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// One publisher, many subscribers, on loopback: is anything lost, and how much CPU time does
    /// a forwarded packet take, also against a loop of recvfrom and sendto?
    Fanout {
        /// How many watch and listen.
        #[arg(long, default_value_t = 50)]
        subscribers: usize,
        /// For how long it is measured.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// The server's media workers.
        #[arg(long, default_value_t = 1)]
        workers: u16,
        /// The publisher's video, in bits a second; a tone goes with it.
        #[arg(long, default_value_t = 1_000_000)]
        bitrate: u32,
        /// Its frames a second.
        #[arg(long, default_value_t = 30)]
        frame_rate: u32,
        /// The server binary; CONFAB_BIN or what was built last, if not given.
        #[arg(long)]
        server: Option<PathBuf>,
    },
    /// `confab turn` and coturn's `turnserver`, one after the other: how much CPU time does a relayed
    /// packet take, over UDP, TCP and TLS and in memory, and how much an allocation?
    Relay {
        /// How often each is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// How many clients send and receive.
        #[arg(long, default_value_t = 20)]
        clients: u8,
        /// For how long each load is measured, in each round.
        #[arg(long, default_value_t = 2)]
        seconds: u64,
        /// How clients reach the relay; all ways, if not given.
        #[arg(long)]
        transport: Vec<Transport>,
        /// The server binary; CONFAB_BIN or what was built last, if not given.
        #[arg(long)]
        server: Option<PathBuf>,
        #[arg(long, default_value = "turnserver")]
        coturn: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().load {
        Load::Fanout {
            subscribers,
            seconds,
            workers,
            bitrate,
            frame_rate,
            server,
        } => {
            let outcome = fanout::run(&Fanout {
                server: server.map_or_else(find_binary, Ok)?,
                workers,
                subscribers,
                duration: Duration::from_secs(seconds),
                video: MadeUpVideo {
                    bitrate,
                    frame_rate,
                },
            })
            .await?;
            println!("{outcome}");
            anyhow::ensure!(outcome.server.missed.is_empty(), "packets were lost");
        }
        Load::Relay {
            rounds,
            clients,
            seconds,
            transport,
            server,
            coturn,
        } => {
            let comparison = Comparison {
                confab: server.map_or_else(find_binary, Ok)?,
                coturn,
                rounds,
                clients,
                duration: Duration::from_secs(seconds),
                transports: match transport.is_empty() {
                    true => vec![Transport::Udp, Transport::Tcp, Transport::Tls],
                    false => transport,
                },
            };
            let outcome = tokio::task::spawn_blocking(move || relay::run(&comparison)).await??;
            println!("{outcome}");
        }
    }
    Ok(())
}
