//! CPU time of a process, thread by thread, from `/proc`: what it used, and what it had to wait for.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

/// CPU time that each thread of a process has used so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    threads: BTreeMap<u32, Thread>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Thread {
    name: String,
    time: Duration,
    waited: Duration,
}

impl CpuTimes {
    /// Reads the threads of a process. A thread that has ended is no longer counted.
    pub fn of_process(pid: u32) -> anyhow::Result<CpuTimes> {
        let tasks = format!("/proc/{pid}/task");
        let entries = std::fs::read_dir(&tasks)
            .with_context(|| format!("cannot read {tasks}: is process {pid} still running?"))?;
        let mut threads = BTreeMap::new();
        for entry in entries {
            let path = entry?.path();
            let Some(id) = path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok())
            else {
                continue;
            };
            // A thread may end between the listing and the reading.
            let Ok(name) = std::fs::read_to_string(path.join("comm")) else {
                continue;
            };
            let name = name.trim().to_owned();
            let [time, waited] = read_schedstat(&path.join("schedstat"))?;
            threads.insert(id, Thread { name, time, waited });
        }
        Ok(CpuTimes { threads })
    }

    /// What each thread has used since `earlier`, by name, the busiest first. Threads of one name
    /// are taken together.
    pub fn since(&self, earlier: &CpuTimes) -> Vec<(String, Duration)> {
        let mut by_name: BTreeMap<&str, Duration> = BTreeMap::new();
        for (id, thread) in &self.threads {
            let before = earlier
                .threads
                .get(id)
                .map_or(Duration::ZERO, |thread| thread.time);
            *by_name.entry(&thread.name).or_default() += thread.time.saturating_sub(before);
        }
        let mut threads: Vec<_> = by_name
            .into_iter()
            .map(|(name, time)| (name.to_owned(), time))
            .collect();
        threads.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        threads
    }

    /// The longest that any one thread has waited for a CPU since `earlier`, in all.
    pub fn longest_wait_since(&self, earlier: &CpuTimes) -> Duration {
        let waits = self.threads.iter().map(|(id, thread)| {
            let before = earlier
                .threads
                .get(id)
                .map_or(Duration::ZERO, |thread| thread.waited);
            thread.waited.saturating_sub(before)
        });
        waits.max().unwrap_or_default()
    }
}

/// CPU time of the calling thread.
pub fn of_this_thread() -> anyhow::Result<Duration> {
    let [time, _] = read_schedstat(Path::new("/proc/thread-self/schedstat"))?;
    Ok(time)
}

/// The first field is the time on a CPU, user and system, the second the time spent ready to run
/// but waiting for one; in nanoseconds, so finer than the ticks of 10 ms in `stat`.
fn read_schedstat(path: &Path) -> anyhow::Result<[Duration; 2]> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read {}; the kernel needs CONFIG_SCHED_INFO",
            path.display()
        )
    })?;
    let mut fields = text.split(' ').map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(time)), Some(Ok(waited))) => Ok([time, waited].map(Duration::from_nanos)),
        _ => bail!("{} reads \"{}\"", path.display(), text.trim()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_busy_thread_is_seen_by_its_name() {
        let before = CpuTimes::of_process(std::process::id()).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let busy = std::thread::Builder::new()
            .name("busy".into())
            .spawn(move || {
                let start = of_this_thread().unwrap();
                let deadline = Instant::now() + Duration::from_secs(10);
                while of_this_thread().unwrap() - start < Duration::from_millis(50) {
                    assert!(Instant::now() < deadline);
                }
                stopped.recv().unwrap_err();
            });
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let since = CpuTimes::of_process(std::process::id())
                .unwrap()
                .since(&before);
            let busy = since.iter().find(|(name, _)| name == "busy");
            if busy.is_some_and(|(_, time)| *time >= Duration::from_millis(50)) {
                break;
            }
            assert!(Instant::now() < deadline, "{since:?}");
        }
        drop(stop);
        busy.unwrap().join().unwrap();
    }
}
