//! A server, bots and test video for the stories.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use confab_bench::cpu::CpuTimes;
use confab_bench::server::{Server, find_binary};
use confab_bot::{AudioSource, Bot, BotConfig, Report, SlotStats, VideoSource};
use tokio::sync::{Mutex, MutexGuard};

/// How long anything may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A server with this many workers.
pub(crate) async fn server(workers: u16) -> Stage {
    server_with(workers, &[]).await
}

/// A server with this many workers and further settings, as `CONFAB_*` variables.
pub(crate) async fn server_with(workers: u16, settings: &[(&str, &str)]) -> Stage {
    static STAGE: Mutex<()> = Mutex::const_new(());
    let turn = STAGE.lock().await;
    let binary = find_binary().expect("a server to test");
    let server = Server::start(&binary, workers, settings)
        .await
        .expect("a server that starts");
    Stage {
        server,
        _turn: turn,
    }
}

/// A server of one's own, and the machine as well: stories are told one after the other, or they
/// would take the CPU time from each other that they measure.
pub(crate) struct Stage {
    server: Server,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Stage {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
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

/// Key frames shown in a slot.
pub(crate) fn key_frames(slot: &SlotStats) -> u64 {
    slot.video.as_ref().map_or(0, |video| video.key_frames)
}

/// How long a thread may have waited for a CPU in a window before the machine counts as too busy to
/// judge by: less than the 150 ms that make a freeze.
const CALM: Duration = Duration::from_millis(100);
/// How often a calm window is waited for.
const WINDOWS: usize = 6;

/// A stretch of a call as one bot had it, to be judged by what changed in it.
pub(crate) struct Window {
    seconds: f64,
    before: Report,
    /// The call at the end.
    pub(crate) after: Report,
    /// Whether the machine let everybody run. If not, what was late or dropped proves nothing, and
    /// only that media flows is judged.
    calm: bool,
}

/// Lets the call run and looks at it, again if the machine was busy with something else.
pub(crate) async fn observe<const N: usize>(
    server: &Server,
    bots: [&Bot; N],
    seconds: f64,
) -> [Window; N] {
    let times = || [server.pid(), std::process::id()].map(|pid| CpuTimes::of_process(pid).unwrap());
    for attempt in 1.. {
        let cpu_before = times();
        let mut before = bots.map(|bot| Some(bot.report()));
        run(seconds).await;
        let waits = times().into_iter().zip(&cpu_before);
        let waited = waits
            .map(|(after, before)| after.longest_wait_since(before))
            .max()
            .unwrap();
        let calm = waited < CALM;
        if !calm {
            eprintln!("the machine is busy: a thread waited {waited:?} in {seconds} s");
        }
        if calm || attempt == WINDOWS {
            return std::array::from_fn(|index| Window {
                seconds,
                before: before[index].take().unwrap(),
                after: bots[index].report(),
                calm,
            });
        }
    }
    unreachable!("the last attempt returns")
}

impl Window {
    /// The audio of a slot: nothing missing, nothing made up, and the tone is the one that was sent.
    #[track_caller]
    pub(crate) fn assert_heard(&self, slot: usize, hz: f32) {
        let (before, after) = (&self.before.slots[slot], &self.after.slots[slot]);
        let (old, new) = (
            before.audio.as_ref().unwrap(),
            after.audio.as_ref().unwrap(),
        );
        let seconds = (new.total_samples - old.total_samples) as f64 / 48_000.0;
        assert!(seconds > 0.0, "no sound: {after:#?}");
        if self.calm {
            assert!(
                seconds > 0.9 * self.seconds,
                "{seconds} s of sound: {after:#?}"
            );
            assert_eq!(after.lost, before.lost, "{after:#?}");
            assert_eq!(new.concealed_samples, old.concealed_samples, "{after:#?}");
            assert!(
                (new.tone_hz - hz).abs() < 0.05 * hz,
                "not {hz} Hz: {after:#?}"
            );
        }
        assert_eq!((after.duplicates, new.decode_errors), (0, 0), "{after:#?}");
        assert!(new.level_dbfs > -20.0, "{after:#?}");
    }

    /// The picture of a slot: every frame could be shown, none was missing, none was late.
    #[track_caller]
    pub(crate) fn assert_seen(&self, slot: usize) {
        let (before, after) = (&self.before.slots[slot], &self.after.slots[slot]);
        let (old, new) = (
            before.video.as_ref().unwrap(),
            after.video.as_ref().unwrap(),
        );
        let frames = (new.frames - old.frames) as f64;
        let expected = 30.0 * self.seconds;
        assert!(frames > 0.0, "no picture: {after:#?}");
        if self.calm {
            // More, when pictures of the past have come at once in the beginning.
            let (few, past) = (5.0, 30.0);
            assert!(
                (-few..=past).contains(&(frames - expected)),
                "{frames} of {expected} frames: {after:#?}"
            );
            assert_eq!(after.lost, before.lost, "{after:#?}");
            assert_eq!(new.undecodable_frames, old.undecodable_frames, "{after:#?}");
            assert_eq!(new.freezes, old.freezes, "{after:#?}");
        }
        // The server fills probes with packets of late.
        assert!(after.duplicates * 10 <= after.packets, "{after:#?}");
    }
}

/// A slot was re-pointed between two reports, and its decoder noticed nothing but a key frame.
#[track_caller]
pub(crate) fn assert_clean_switch(before: &SlotStats, after: &SlotStats) {
    let (old, new) = (
        before.video.as_ref().unwrap(),
        after.video.as_ref().unwrap(),
    );
    assert!(new.key_frames > old.key_frames, "{after:#?}");
    // A machine that drops packets spoils pictures too.
    if after.lost == before.lost {
        assert_eq!(new.undecodable_frames, old.undecodable_frames, "{after:#?}");
    }
}
