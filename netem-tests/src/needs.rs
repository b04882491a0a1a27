//! What runs in real time need of this machine, looked at before the first of them.
//!
//! In: scenarios, and where our own programs are. Out: everything that is missing, at once, and what
//! installs it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::scenario::{Client, Scenario};

/// Where Debian has it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// What browsers and bots are driven with, and where it is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where programs are looked for, as `PATH` has it.
    pub path: Option<std::ffi::OsString>,
    /// The browser.
    pub chromium: PathBuf,
    /// The folder `client-demo` of the sources.
    pub client_demo: PathBuf,
    /// The server, if it is one of ours.
    pub confab: Option<PathBuf>,
    /// The bot.
    pub bot: PathBuf,
}

impl Place {
    /// This machine, with the programs of ours there.
    #[must_use]
    pub fn here(client_demo: PathBuf, confab: Option<PathBuf>, bot: PathBuf) -> Place {
        let chromium = std::env::var_os("CONFAB_CHROMIUM").map(PathBuf::from);
        Place {
            path: std::env::var_os("PATH"),
            chromium: chromium.unwrap_or_else(|| CHROMIUM.into()),
            client_demo,
            confab,
            bot,
        }
    }

    fn has(&self, program: &str) -> bool {
        let folders = self.path.as_deref().unwrap_or(OsStr::new(""));
        std::env::split_paths(folders).any(|folder| folder.join(program).is_file())
    }
}

/// What is missing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Missing {
    ours: Vec<String>,
    others: Vec<String>,
    /// Whether the packages for Node.js are.
    packages: bool,
}

impl Missing {
    fn sentence(&self) -> String {
        let mut said = vec!["these scenarios cannot be run here".to_owned()];
        if !self.ours.is_empty() {
            let ours = self.ours.join(" and ");
            said.push(format!(
                "{ours} is not built: `cargo build --release --workspace` does that"
            ));
        }
        if !self.others.is_empty() {
            let others = self.others.join(", ");
            said.push(format!("not found: {others}; `make test-deps` installs it"));
        }
        if self.packages {
            said.push(
                "the packages that drive browsers are not installed: `npm --prefix client-demo ci` \
                 does that"
                    .to_owned(),
            );
        }
        said.join("\n")
    }
}

/// Whether scenarios can be run in real time there.
///
/// # Errors
/// When something is missing.
pub fn check(scenarios: &[&Scenario], place: &Place) -> Result<(), Missing> {
    let participants = || scenarios.iter().flat_map(|s| &s.participants);
    let has = |client| participants().any(|participant| participant.client == client);
    let has_browsers = has(Client::Browser);
    let file = |path: &Path, is_needed: bool| {
        let is_missing = is_needed && !path.is_file();
        is_missing.then(|| path.display().to_string())
    };
    let program =
        |name: &str, is_needed: bool| (is_needed && !place.has(name)).then(|| format!("`{name}`"));
    let ours = [
        place
            .confab
            .as_deref()
            .and_then(|confab| file(confab, true)),
        file(&place.bot, has(Client::Bot)),
    ];
    let others = [
        program("node", has_browsers || has(Client::Iperf3)),
        file(&place.chromium, has_browsers),
        program("ip", true),
        program("iperf3", has(Client::Iperf3)),
    ];
    let packages = place.client_demo.join("node_modules/playwright-core");
    let missing = Missing {
        ours: ours.into_iter().flatten().collect(),
        others: others.into_iter().flatten().collect(),
        packages: has_browsers && !packages.is_dir(),
    };
    let is_complete = missing.ours.is_empty() && missing.others.is_empty() && !missing.packages;
    match is_complete {
        true => Ok(()),
        false => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use std::fs;

    use super::*;

    fn scenario(client: &str) -> Scenario {
        let text = format!(
            "title = \"a\"\nduration = \"10s\"\ntier = \"real\"\n[[participant]]\nname = \"alice\"\nclient = \"{client}\"\n\
             [[participant]]\nname = \"bob\"\nclient = \"{client}\"\n"
        );
        let folder = std::env::temp_dir().join(format!("confab-needs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{client}.toml"));
        fs::write(&file, text).unwrap();
        let mut found = Scenario::load(&file).unwrap();
        fs::remove_file(file).unwrap();
        found.remove(0)
    }

    #[test]
    fn a_clean_clone_is_told_everything_at_once() {
        let nowhere = Place {
            path: None,
            chromium: "/nowhere/chromium".into(),
            client_demo: "/nowhere/client-demo".into(),
            confab: Some("/nowhere/confab".into()),
            bot: "/nowhere/confab-bot".into(),
        };
        let browsers = scenario("browser");
        let said = check(&[&browsers], &nowhere).unwrap_err().to_string();
        for words in [
            "/nowhere/confab is not built",
            "cargo build --release --workspace",
            "`node`",
            "/nowhere/chromium",
            "make test-deps",
            "npm --prefix client-demo ci",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let bots = scenario("bot");
        let said = check(&[&bots], &nowhere).unwrap_err().to_string();
        assert!(
            said.contains("confab-bot") && !said.contains("npm"),
            "{said}"
        );
    }

    #[test]
    fn where_everything_is_nothing_is_said() {
        let here = std::env::current_exe().unwrap();
        let folder = std::env::temp_dir().join(format!("confab-has-{}", std::process::id()));
        let packages = folder.join("node_modules/playwright-core");
        fs::create_dir_all(&packages).unwrap();
        for program in ["node", "ip"] {
            fs::write(folder.join(program), "").unwrap();
        }
        let place = Place {
            path: Some(folder.clone().into()),
            chromium: here.clone(),
            client_demo: folder.clone(),
            confab: Some(here.clone()),
            bot: here,
        };
        assert_eq!(check(&[&scenario("browser")], &place), Ok(()));
        fs::remove_dir_all(folder).unwrap();
    }
}
