//! The command line: a flag for each setting, `confab turn`, `confab token`, `confab invite` and
//! `confab doctor`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use confab_signaling::auth::{
    Grants, MAX_TOKEN_LIFETIME, TokenRequest, check_identity, check_metadata,
};
use confab_signaling::names::{RoomName, check_name};

use crate::config::{SETTINGS, Setting, Sources};
use crate::links::Invitation;

/// What is to be done, with which settings.
pub(crate) struct Invocation {
    /// Where the settings come from.
    pub(crate) sources: Sources,
    /// What is to be done.
    pub(crate) task: Task,
}

/// What the process is for.
pub(crate) enum Task {
    Serve,
    /// Run the TURN server alone.
    Turn,
    /// Print an access token.
    Token(TokenRequest),
    /// Print a link that lets one into a room.
    Invite(Invitation),
    /// Look for what would stop calls.
    Doctor {
        /// A STUN server elsewhere that may be asked, as `host:port`.
        stun: Option<String>,
    },
}

/// Reads the command line and the environment; ends the process on `--help` and on mistakes.
pub(crate) fn parse() -> Invocation {
    let matches = command().get_matches();
    let settings_from = |matches: &ArgMatches| {
        SETTINGS
            .iter()
            .filter_map(|s| Some((s.key, matches.get_one::<String>(s.key)?.clone())))
            .collect()
    };
    let task = match matches.subcommand() {
        Some(("token", matches)) => Task::Token(token_request(matches)),
        Some(("invite", matches)) => Task::Invite(invitation(matches)),
        Some(("turn", _)) => Task::Turn,
        Some(("doctor", matches)) => Task::Doctor {
            stun: matches.get_one::<String>("stun").cloned(),
        },
        _ => Task::Serve,
    };
    Invocation {
        sources: Sources {
            file: matches.get_one::<PathBuf>("config").cloned(),
            // A variable that is not UTF-8 is none of ours.
            variables: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            flags: settings_from(&matches),
        },
        task,
    }
}

fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help("The settings file, which must exist [default: confab.toml, if it exists]");
    Command::new("confab")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A real-time audio/video calling server: signaling, SFU and TURN in one binary")
        .after_help(
            "Settings come from, in rising precedence: confab.toml, CONFAB_* variables, flags.\n\
             docs/operations.md describes each.",
        )
        .arg(config)
        .args(SETTINGS.iter().map(flag))
        .subcommand(token_command())
        .subcommand(invite_command())
        .subcommand(
            Command::new("turn").about("Runs the TURN server alone, with the settings in [turn]"),
        )
        .subcommand(doctor_command())
}

fn doctor_command() -> Command {
    Command::new("doctor")
        .about("Says what would stop calls with these settings; ends with 1 if anything does")
        .arg(
            Arg::new("stun")
                .long("stun")
                .value_name("HOST:PORT")
                .help("A STUN server elsewhere to ask which address it sees [default: none]"),
        )
}

fn flag(setting: &Setting) -> Arg {
    let default = match setting.default {
        "" => "none",
        default => default,
    };
    let help = format!(
        "{} [default: {default}] [env: {}]",
        setting.help,
        setting.variable()
    );
    Arg::new(setting.key)
        .long(setting.flag())
        .value_name("VALUE")
        .global(true)
        .help(help)
}

fn token_command() -> Command {
    Command::new("token")
        .about("Prints an access token, signed with auth.api_key and auth.api_secret")
        .arg(room().long("room"))
        .arg(
            Arg::new("identity")
                .long("identity")
                .required(true)
                .value_parser(|text: &str| {
                    check_identity(text).map_err(|is| format!("it {is}"))?;
                    Ok::<_, String>(text.to_owned())
                })
                .help("Who its bearer is: for the logs, and for the others' applications"),
        )
        .arg(
            Arg::new("metadata")
                .long("metadata")
                .value_parser(|text: &str| {
                    check_metadata(text).map_err(|is| format!("it {is}"))?;
                    Ok::<_, String>(text.to_owned())
                })
                .help("What else the others' applications are told of its bearer, such as JSON"),
        )
        .args(bearer("60"))
}

fn invite_command() -> Command {
    Command::new("invite")
        .about("Prints a link that lets whoever has it into a room, for as long as it is valid")
        .arg(room())
        .args(bearer("1440"))
}

fn room() -> Arg {
    Arg::new("room")
        .required(true)
        .value_name("ROOM")
        .value_parser(|text: &str| text.parse::<RoomName>().map_err(|f| f.message))
        .help("The room it is for")
}

/// What its bearer may do, and for how long.
fn bearer(minutes: &'static str) -> Vec<Arg> {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    vec![
        Arg::new("name")
            .long("name")
            .value_parser(|text: &str| {
                check_name(text).map_err(|f| f.message)?;
                Ok::<_, String>(text.to_owned())
            })
            .help("The name the others see, whatever the bearer says"),
        Arg::new("minutes")
            .long("minutes")
            .default_value(minutes)
            .value_parser(value_parser!(u64).range(1..=MAX_TOKEN_LIFETIME.as_secs() / 60))
            .help("How long it is valid"),
        flag("no-publish", "Its bearer may not send"),
        flag("no-subscribe", "Its bearer may not receive"),
        flag("may-invite", "Its bearer may make links for guests"),
    ]
}

fn grants(matches: &ArgMatches) -> Grants {
    Grants {
        publish: !matches.get_flag("no-publish"),
        subscribe: !matches.get_flag("no-subscribe"),
        invite: matches.get_flag("may-invite"),
    }
}

fn invitation(matches: &ArgMatches) -> Invitation {
    let (Some(room), Some(minutes)) = (
        matches.get_one::<RoomName>("room"),
        matches.get_one::<u64>("minutes"),
    ) else {
        unreachable!("these arguments are required or have a default");
    };
    Invitation {
        room: room.clone(),
        name: matches.get_one::<String>("name").cloned(),
        grants: grants(matches),
        lifetime: Duration::from_secs(60 * minutes),
    }
}

fn token_request(matches: &ArgMatches) -> TokenRequest {
    let Some(identity) = matches.get_one::<String>("identity") else {
        unreachable!("this argument is required");
    };
    let Invitation {
        room,
        name,
        grants,
        lifetime,
    } = invitation(matches);
    TokenRequest {
        room,
        identity: identity.clone(),
        name,
        metadata: matches.get_one::<String>("metadata").cloned(),
        grants,
        lifetime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_shows_every_setting_with_its_default_and_its_variable() {
        let mut command = command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for setting in SETTINGS {
            assert!(
                help.contains(&format!("--{} ", setting.flag())),
                "{}",
                setting.key
            );
            assert!(help.contains(&setting.variable()), "{}", setting.key);
            assert!(help.contains(setting.default), "{}", setting.key);
        }
    }
}
