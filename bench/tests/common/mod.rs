//! A server, bots and test video for the stories.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use confab_bench::server::{Server, find_binary};
use confab_bot::{AudioSource, Bot, BotConfig, Report, SlotStats, VideoSource};

/// How long anything may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A server with this many workers.
pub(crate) async fn server(workers: u16) -> Server {
    server_with(workers, &[]).await
}

/// A server with this many workers and further settings, as `CONFAB_*` variables.
pub(crate) async fn server_with(workers: u16, settings: &[(&str, &str)]) -> Server {
    let binary = find_binary().expect("a server to test");
    Server::start(&binary, workers, settings)
        .await
        .expect("a server that starts")
}

/// Joins, or fails with the reason.
pub(crate) async fn join(config: BotConfig) -> Bot {
    let name = config.name.clone();
    match Bot::join(config).await {
        Ok(bot) => bot,
        Err(error) => panic!("{name} cannot join: {error}"),
    }
}

/// A bot with a tone of its own, a video and a slot of each kind.
pub(crate) fn talker(server: &Server, name: &str, hz: f32) -> BotConfig {
    BotConfig {
        audio: AudioSource::Tone(hz),
        video: video("vp8.ivf"),
        ..watcher(server, name)
    }
}

/// A bot that publishes nothing and has a slot of each kind.
pub(crate) fn watcher(server: &Server, name: &str) -> BotConfig {
    BotConfig::new(&server.url(), "stories", name)
}

/// One of the files that make-test-media.sh makes.
pub(crate) fn video(file: &str) -> VideoSource {
    VideoSource::File(media().join(file))
}

fn media() -> &'static Path {
    static MEDIA: OnceLock<PathBuf> = OnceLock::new();
    MEDIA.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("media");
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../client-demo/bot/make-test-media.sh");
        let made = Command::new(&script).arg(&directory).status();
        let made = made.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
        assert!(made.success(), "make-test-media.sh failed: {made}");
        directory
    })
}

/// Waits until the call is as wanted, or fails with the call as it is.
pub(crate) async fn until(bot: &Bot, what: &str, condition: impl FnMut(&Report) -> bool) -> Report {
    match bot.wait_until(PATIENCE, condition).await {
        Ok(report) => report,
        Err(report) => panic!("not within {PATIENCE:?}: {what}\n{report:#?}"),
    }
}

/// Lets the call run.
pub(crate) async fn run(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Frames shown in a slot.
pub(crate) fn frames(slot: &SlotStats) -> u64 {
    slot.video.as_ref().map_or(0, |video| video.frames)
}

/// Nothing missing, nothing made up, nothing standing still, and the tone is the one that was sent.
#[track_caller]
pub(crate) fn assert_heard(slot: &SlotStats, hz: f32) {
    let audio = slot.audio.as_ref().expect("an audio slot");
    assert_eq!((slot.lost, slot.duplicates), (0, 0), "{slot:#?}");
    assert_eq!(
        (audio.concealed_samples, audio.decode_errors),
        (0, 0),
        "{slot:#?}"
    );
    assert!(
        (audio.tone_hz - hz).abs() < 0.05 * hz,
        "not {hz} Hz: {slot:#?}"
    );
    assert!(audio.level_dbfs > -20.0, "{slot:#?}");
}

/// Every frame since the first could be shown, at the pace it was sent.
#[track_caller]
pub(crate) fn assert_seen(slot: &SlotStats, at_least: u64) {
    let video = slot.video.as_ref().expect("a video slot");
    assert_eq!((slot.lost, slot.duplicates), (0, 0), "{slot:#?}");
    assert_eq!(
        (video.undecodable_frames, video.freezes),
        (0, 0),
        "{slot:#?}"
    );
    assert!(
        video.frames >= at_least,
        "fewer than {at_least} frames: {slot:#?}"
    );
    assert!(
        (27.0..=33.0).contains(&video.frames_per_second),
        "{slot:#?}"
    );
}
