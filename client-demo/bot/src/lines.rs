//! A bot as a measured participant: told by words what to do, it tells how its call goes.
//!
//! In: `join`, then `leave` or the end of the input, each word on a line of its own. Out: a
//! [`Line`] as JSON on a line of its own for everything that happens, and a sample every second.

use std::io::Write;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::bot::Bot;
use crate::config::BotConfig;
use crate::sample::Line;
use crate::state::clock;

/// From one sample to the next.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often is looked whether something has happened; its time is that of the event.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Words that may wait to be obeyed.
const WORD_QUEUE: usize = 16;

/// Takes part in a call as the words from the standard input want it. Ends with `leave` or the end
/// of the input; false if the bot could not go on, which is told as [`Line::Failed`].
pub async fn run(config: BotConfig) -> std::io::Result<bool> {
    let mut words = words();
    print(&Line::Ready)?;
    if !hear(&mut words, "join").await {
        return Ok(true);
    }
    print(&Line::Joining { at: clock() })?;
    // Whoever wants to leave need not wait until joining has failed.
    let joined = tokio::select! {
        joined = Bot::join(config) => joined,
        _ = hear(&mut words, "leave") => return Ok(true),
    };
    let bot = match joined {
        Ok(bot) => bot,
        Err(error) => return fail(&error.to_string()),
    };
    let mut samples = tokio::time::interval(SAMPLE_INTERVAL);
    let mut polls = tokio::time::interval(POLL_INTERVAL);
    loop {
        tokio::select! {
            _ = hear(&mut words, "leave") => break,
            _ = samples.tick() => print(&Line::Sample(bot.sample().await))?,
            _ = polls.tick() => {
                while let Some(line) = bot.poll_line() {
                    print(&line)?;
                }
            }
        }
        if let Some(why) = bot.failure() {
            return fail(&why);
        }
    }
    print(&Line::Sample(bot.sample().await))?;
    // The server may be out of reach by now; the call is over all the same.
    let _ = tokio::time::timeout(SAMPLE_INTERVAL, bot.leave()).await;
    Ok(true)
}

fn fail(why: &str) -> std::io::Result<bool> {
    let (at, why) = (clock(), why.to_owned());
    print(&Line::Failed { at, why })?;
    Ok(false)
}

/// Whoever reads waits for the line, so it goes out at once.
fn print(line: &Line) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Waits for a word. False if the input ended before it came.
async fn hear(words: &mut mpsc::Receiver<String>, word: &str) -> bool {
    while let Some(heard) = words.recv().await {
        if heard.trim() == word {
            return true;
        }
        if heard.trim() == "leave" {
            return false;
        }
    }
    false
}

/// The lines of the standard input, read by a thread that nobody waits for.
fn words() -> mpsc::Receiver<String> {
    let (words_in, words) = mpsc::channel(WORD_QUEUE);
    std::thread::spawn(move || {
        for word in std::io::stdin().lines().map_while(Result::ok) {
            if words_in.blocking_send(word).is_err() {
                return;
            }
        }
    });
    words
}
