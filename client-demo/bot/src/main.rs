//! `confab-bot`: one or many headless participants from the command line, and what their call was
//! like; or one that takes part in a measurement (`--lines`).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use confab_bot::{AudioSource, Bot, BotConfig, Report, VideoSource, lines};

/// What is logged unless `RUST_LOG` says otherwise: the crates warn of what happens in every call.
const QUIET: &str = "warn,rtc=error,rtc_dtls=error";

/// Joins a room as a headless participant, sends real audio and video, and reports what came back.
#[derive(Debug, Parser)]
#[command(name = "confab-bot", version)]
struct Cli {
    #[arg(long, default_value = "ws://127.0.0.1:8080/v1/ws")]
    url: String,
    /// The room to join.
    #[arg(long)]
    room: String,
    /// The name others see; with --count, a number is added.
    #[arg(long, default_value = "bot")]
    name: String,
    /// The token, where the server wants one.
    #[arg(long)]
    token: Option<String>,
    /// What to say: speech (made up, each name its own), tone, tone:HZ, a 48 kHz 16-bit .wav file (looped) or none.
    #[arg(long, default_value = "tone")]
    audio: AudioSource,
    /// What to show: an .ivf file (VP8, VP9, AV1), an .h264 file (Annex B, 30 frames a second),
    /// both looped, or none. make-test-media.sh makes some.
    #[arg(long, default_value = "none")]
    video: VideoSource,
    /// Receive slots for audio.
    #[arg(long, value_name = "N", default_value_t = 4)]
    subscribe_audio: usize,
    /// Receive slots for video.
    #[arg(long, value_name = "N", default_value_t = 4)]
    subscribe_video: usize,
    /// What the others say, to score how intelligible they are: speech (each by its name), or the
    /// .wav file that all of them play.
    #[arg(long, value_name = "SOURCE", default_value = "none")]
    reference: AudioSource,
    /// Count packets only, instead of decoding audio and joining frames.
    #[arg(long)]
    no_decode: bool,
    /// Write the pictures received into this directory, as .ivf and .h264 files.
    #[arg(long, value_name = "DIRECTORY")]
    record: Option<PathBuf>,
    /// The local address of the media connection; port 0 is any.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: String,
    /// How long to stay, as in 500ms, 30s or 5m; until Ctrl-C if not given.
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// How to print what the call was like.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    report: Format,
    /// How many bots to run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Print what happens and a sample every second as JSON lines, join at the word "join" on the
    /// standard input and leave at "leave" or its end.
    #[arg(long, conflicts_with_all = ["count", "duration", "report"])]
    lines: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    /// One JSON array with an object for each bot.
    Json,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("\"{text}\" is no duration: give one as in 500ms, 30s or 5m"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        unit => Err(format!("\"{unit}\" is no unit of time: give ms, s or m")),
    }
}

impl Cli {
    fn bot(&self, index: usize) -> BotConfig {
        let name = match self.count {
            1 => self.name.clone(),
            _ => format!("{}-{}", self.name, index + 1),
        };
        BotConfig {
            token: self.token.clone(),
            audio: self.audio.clone(),
            video: self.video.clone(),
            subscribe_audio: self.subscribe_audio,
            subscribe_video: self.subscribe_video,
            decode: !self.no_decode,
            record: self.record.clone(),
            bind: self.bind.clone(),
            reference: self.reference.clone(),
            ..BotConfig::new(&self.url, &self.room, &name)
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(QUIET));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    if let Some(directory) = &cli.record {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    if cli.lines {
        let went_on = lines::run(cli.bot(0)).await?;
        // The thread that reads the standard input would keep the process.
        std::process::exit(i32::from(!went_on));
    }
    let mut bots = Vec::with_capacity(cli.count);
    for index in 0..cli.count {
        bots.push(Bot::join(cli.bot(index)).await?);
    }
    match cli.duration {
        Some(duration) => tokio::select! {
            () = tokio::time::sleep(duration) => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        None => tokio::signal::ctrl_c()
            .await
            .context("cannot wait for Ctrl-C")?,
    }
    // Everybody's call as it was before the first of them left.
    let reports: Vec<Report> = bots.iter().map(Bot::report).collect();
    for bot in bots {
        bot.leave().await?;
    }
    match cli.report {
        Format::Text => reports.iter().for_each(|report| print!("{report}")),
        Format::Json => println!("{}", serde_json::to_string_pretty(&reports)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            ("5m", Some(300_000)),
            ("5h", None),
            ("s", None),
        ] {
            let parsed = parse_duration(text)
                .ok()
                .map(|duration| duration.as_millis());
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
