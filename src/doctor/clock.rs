//! The clock, by which tokens, certificates and TURN credentials are judged.
//!
//! In: what the system says of it. Out: whether to trust it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use super::finding::Finding;

/// What is known of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) now: SystemTime,
    /// When this program was written to disk, which cannot lie ahead.
    pub(crate) built: Option<SystemTime>,
    /// Whether a time service keeps it; `None` if the system does not tell.
    pub(crate) is_synchronised: Option<bool>,
}

impl Facts {
    pub(crate) fn gather(now: SystemTime) -> Facts {
        let program = std::env::current_exe().and_then(|program| program.metadata());
        Facts {
            now,
            built: program.and_then(|program| program.modified()).ok(),
            is_synchronised: is_synchronised(),
        }
    }
}

fn is_synchronised() -> Option<bool> {
    // systemd-timesyncd(8) makes it once the clock is right.
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    // It asks the kernel, which knows of chrony and ntpd too; without systemd it fails.
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match String::from_utf8_lossy(&asked.ok()?.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Whether to trust it.
pub(crate) fn judge(facts: &Facts) -> Finding {
    if facts.built.is_some_and(|built| facts.now < built) {
        let unix = facts.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        return Finding::problem(format!(
            "the clock says {} seconds since 1970, which is before this program was made: set it, \
             or no token and no certificate is valid (`timedatectl set-ntp true`)",
            unix.as_secs()
        ));
    }
    match facts.is_synchronised {
        Some(true) => Finding::ok("the clock is synchronised"),
        Some(false) => Finding::warning(
            "the clock is not synchronised, and tokens and TURN credentials go by it: \
             `timedatectl set-ntp true`, or install chrony",
        ),
        None => Finding::warning(
            "whether the clock is synchronised cannot be told here, and tokens and TURN \
             credentials go by it: compare `date -u` with a clock you trust; a container has that \
             of its host",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_clock_is_kept_or_not_and_never_before_the_program() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let later = now + Duration::from_secs(1);
        for (built, is_synchronised, level) in [
            (Some(now), Some(true), Level::Ok),
            (None, Some(true), Level::Ok),
            (Some(now), Some(false), Level::Warning),
            (Some(now), None, Level::Warning),
            (Some(later), Some(true), Level::Problem),
        ] {
            let facts = Facts {
                now,
                built,
                is_synchronised,
            };
            assert_eq!(judge(&facts).level, level, "{facts:?}");
        }
    }
}
