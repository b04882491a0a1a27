//! One publisher, many subscribers: does everything reach everybody, and what does it cost?
//!
//! In: how many, for how long, which server. Out: a verdict for each subscriber, and CPU time for
//! each forwarded packet beside that of the bare loop.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use confab_bot::{AudioSource, Bot, BotConfig, Report, VideoSource};

use crate::baseline::{self, Load};
use crate::cpu::CpuTimes;
use crate::server::Server;
use confab_bot::MadeUpVideo;

/// What the server counts forwarded packets as.
const FORWARDED: &str = "confab_packets_forwarded_total";
/// How long everybody may take to connect and to see the publisher.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// How long what is under way, retransmissions too, may take to arrive once the publisher pauses.
const SETTLE: Duration = Duration::from_millis(700);
/// How many subscribers join at a time.
const JOIN_BATCH: usize = 10;
/// RTP header, SRTP tag and the extensions that are on most packets, in bytes.
const PACKET_OVERHEAD: usize = 12 + 16 + 12;

/// The load and where it goes.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// The server binary.
    pub server: PathBuf,
    /// Its media workers.
    pub workers: u16,
    /// How many watch and listen.
    pub subscribers: usize,
    /// For how long it is measured.
    pub duration: Duration,
    /// The video published, beside a tone.
    pub video: MadeUpVideo,
}

/// What one subscriber missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Its name.
    pub subscriber: String,
    /// Packets the publisher sent while it was measured and this subscriber did not get; negative
    /// if it got more.
    pub packets: i64,
    /// Gaps in the sequence numbers, since the call began.
    pub gaps: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the server did.
    pub server: Measured,
    /// What the bare loop did with the same load.
    pub bare: baseline::Cost,
}

/// What the server did with the load.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How many subscribed.
    pub subscribers: usize,
    /// How long it was measured.
    pub duration: Duration,
    /// Packets the publisher sent meanwhile.
    pub published: u64,
    /// Packets the server says it forwarded meanwhile.
    pub forwarded: u64,
    /// The subscribers that missed something.
    pub missed: Vec<Missed>,
    /// CPU time of the server by thread name, the busiest first.
    pub threads: Vec<(String, Duration)>,
}

impl Measured {
    /// CPU time of the server for each forwarded packet, in microseconds.
    pub fn microseconds_per_packet(&self) -> f64 {
        let cpu: Duration = self.threads.iter().map(|(_, time)| time).sum();
        cpu.as_secs_f64() * 1e6 / self.forwarded.max(1) as f64
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64();
        writeln!(
            f,
            "{} packets published in {seconds:.1} s, {} forwarded to {} subscribers ({:.0} a second)",
            self.published,
            self.forwarded,
            self.subscribers,
            self.forwarded as f64 / seconds
        )?;
        match self.missed.len() {
            0 => writeln!(f, "nothing lost")?,
            count => writeln!(f, "{count} subscribers missed something:")?,
        }
        for missed in &self.missed {
            writeln!(
                f,
                "  {}: {} packets missing, {} gaps",
                missed.subscriber, missed.packets, missed.gaps
            )?;
        }
        for (name, time) in &self.threads {
            let share = 100.0 * time.as_secs_f64() / seconds;
            let milliseconds = time.as_secs_f64() * 1e3;
            writeln!(f, "  {name:16} {milliseconds:8.1} ms CPU ({share:.1} %)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server.microseconds_per_packet();
        let bare = self.bare.microseconds_per_packet();
        write!(
            f,
            "{}{server:.2} CPU µs per forwarded packet; the bare loop takes {bare:.2}: {:.2} times that",
            self.server,
            server / bare
        )
    }
}

/// Starts the server and runs the load against it.
pub async fn run(fanout: &Fanout) -> anyhow::Result<Outcome> {
    let server = Server::start(&fanout.server, fanout.workers, &[]).await?;
    let video = fanout.video.write(&std::env::temp_dir())?;
    let measured = measure(fanout, &server, &video).await;
    std::fs::remove_file(&video).with_context(|| format!("cannot remove {}", video.display()))?;
    let measured = measured?;
    drop(server);

    let packets_per_second = measured.published as f64 / measured.duration.as_secs_f64();
    let bits_per_packet = f64::from(fanout.video.bitrate) / packets_per_second;
    let load = Load {
        receivers: fanout.subscribers,
        packets_per_second,
        packet_size: bits_per_packet as usize / 8 + PACKET_OVERHEAD,
        bursts_per_second: fanout.video.frame_rate,
        duration: fanout.duration,
    };
    let bare = tokio::task::spawn_blocking(move || baseline::run(load)).await??;
    Ok(Outcome {
        server: measured,
        bare,
    })
}

async fn measure(
    fanout: &Fanout,
    server: &Server,
    video: &std::path::Path,
) -> anyhow::Result<Measured> {
    let url = server.url();
    let publisher = Bot::join(BotConfig {
        audio: AudioSource::Tone(440.0),
        video: VideoSource::File(video.to_owned()),
        subscribe_audio: 0,
        subscribe_video: 0,
        ..BotConfig::new(&url, "fanout", "publisher")
    })
    .await?;
    let mut subscribers = Vec::with_capacity(fanout.subscribers);
    for start in (0..fanout.subscribers).step_by(JOIN_BATCH) {
        let end = fanout.subscribers.min(start + JOIN_BATCH);
        let mut joining = tokio::task::JoinSet::new();
        for index in start..end {
            joining.spawn(Bot::join(BotConfig {
                decode: false,
                ..BotConfig::new(&url, "fanout", &format!("subscriber-{}", index + 1))
            }));
        }
        while let Some(bot) = joining.join_next().await {
            subscribers.push(bot??);
        }
    }
    for bot in &subscribers {
        let flows = |report: &Report| report.slots.iter().all(|slot| slot.packets > 0);
        if let Err(report) = bot.wait_until(CONNECT_PATIENCE, flows).await {
            bail!("no media reached a subscriber within {CONNECT_PATIENCE:?}: {report}");
        }
    }

    let (before, _) = quiesce(&publisher, &subscribers).await;
    let forwarded_before = forwarded(server).await?;
    let cpu_before = CpuTimes::of_process(server.pid())?;
    let start = Instant::now();
    publisher.pause(false);
    tokio::time::sleep(fanout.duration).await;
    let (after, gaps) = quiesce(&publisher, &subscribers).await;
    let cpu_after = CpuTimes::of_process(server.pid())?;
    // The server waits while nothing is sent, so the pause at the end costs next to nothing.
    let duration = start.elapsed() - SETTLE;

    let published = after.published - before.published;
    let missed = subscribers
        .iter()
        .zip(before.received.iter().zip(&after.received).zip(gaps))
        .map(|(bot, ((before, after), gaps))| Missed {
            subscriber: bot.report().name,
            packets: published as i64 - (after - before) as i64,
            gaps,
        })
        .filter(|missed| missed.packets != 0 || missed.gaps != 0)
        .collect();
    let measured = Measured {
        subscribers: fanout.subscribers,
        duration,
        published,
        forwarded: forwarded(server).await? - forwarded_before,
        missed,
        threads: cpu_after.since(&cpu_before),
    };
    for bot in subscribers {
        bot.leave().await?;
    }
    publisher.leave().await?;
    Ok(measured)
}

struct Totals {
    published: u64,
    received: Vec<u64>,
}

/// Pauses the publisher, lets what is under way arrive, and counts; with each subscriber's gaps.
async fn quiesce(publisher: &Bot, subscribers: &[Bot]) -> (Totals, Vec<u64>) {
    publisher.pause(true);
    tokio::time::sleep(SETTLE).await;
    let published = publisher
        .report()
        .sent
        .iter()
        .map(|sent| sent.packets)
        .sum();
    let reports: Vec<Report> = subscribers.iter().map(Bot::report).collect();
    let received = reports
        .iter()
        .map(|report| report.slots.iter().map(|slot| slot.packets).sum())
        .collect();
    let gaps = reports
        .iter()
        .map(|report| report.slots.iter().map(|slot| slot.lost).sum())
        .collect();
    (
        Totals {
            published,
            received,
        },
        gaps,
    )
}

async fn forwarded(server: &Server) -> anyhow::Result<u64> {
    let count = server.metrics().await?.sum(FORWARDED);
    count
        .map(|count| count as u64)
        .with_context(|| format!("the server's metrics have no {FORWARDED}"))
}
