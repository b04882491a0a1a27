#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::path::Path;

use super::*;

fn variable(name: &str, value: &str) -> Sources {
    Sources {
        file: Some(example()),
        variables: vec![(name.into(), value.into())],
        ..Sources::default()
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("confab.toml.example")
}

/// A file in a directory of the build, with this content.
fn file(name: &str, content: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("confab-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path
}

fn from_file(name: &str, content: &str) -> Result<Config, ConfigError> {
    let path = file(name, content);
    let sources = Sources {
        file: Some(path.clone()),
        ..Sources::default()
    };
    let loaded = load(&sources);
    std::fs::remove_file(path).unwrap();
    loaded
}

#[test]
fn the_defaults_in_the_table_are_the_defaults() {
    for setting in SETTINGS {
        let mut config = Config {
            // A value that no default has, so that taking it over shows.
            log: "error".into(),
            ..Config::default()
        };
        let values: Vec<String> = match setting.default {
            "" if setting.list => Vec::new(),
            default if setting.list => default.split(',').map(String::from).collect(),
            default => vec![default.into()],
        };
        (setting.apply)(&mut config, &values).unwrap();
        if setting.key != "log.filter" {
            config.log = "info".into();
        }
        assert_eq!(config, Config::default(), "{}", setting.key);
    }
}

#[test]
fn the_example_shows_every_setting_at_its_default() {
    let text = std::fs::read_to_string(example()).unwrap();
    for setting in SETTINGS {
        let (section, key) = setting.key.split_once('.').unwrap();
        let section = text.split(&format!("\n[{section}]")).nth(1).unwrap();
        let section = section.split("\n[").next().unwrap();
        assert!(
            section.contains(&format!("\n# {key} = ")),
            "{}",
            setting.key
        );
    }
    // With every comment removed from the settings it must still be the defaults.
    let live: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(from_file("example", &live).unwrap(), Config::default());
}

#[test]
fn the_guide_describes_every_setting() {
    let guide = include_str!("../../docs/operations.md");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => "none".to_owned(),
            default => format!("`{default}`"),
        };
        let row = format!(
            "| `{}` | `{}` | {default} | {}. |",
            setting.key,
            setting.variable(),
            setting.help
        );
        assert!(
            guide.contains(&row),
            "docs/operations.md lacks the row\n{row}"
        );
    }
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let path = file(
        "layers",
        "[media]\nport = 1\nworkers = 1\n[rooms]\nmax_rooms = 1\n",
    );
    let sources = Sources {
        file: Some(path.clone()),
        variables: vec![
            ("CONFAB_MEDIA_PORT".into(), "2".into()),
            ("CONFAB_MEDIA_WORKERS".into(), "2".into()),
            ("HOME".into(), "/".into()),
        ],
        flags: vec![("media.port", "3".into())],
    };
    let config = load(&sources).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(config.media_port, 3);
    assert_eq!(config.media_workers, 2);
    assert_eq!(config.control.limits.rooms, 1);
    assert_eq!(config.control.limits.tracks, 8);
}

#[test]
fn lists_are_lists_in_the_file_and_have_commas_elsewhere() {
    let expected: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1"]
        .map(|ip| ip.parse().unwrap())
        .into();
    let config = from_file(
        "list",
        "[media]\npublic_ips = [\"192.0.2.1\", \"2001:db8::1\"]\n",
    );
    assert_eq!(config.unwrap().public_ips, expected);
    let config = load(&variable(
        "CONFAB_MEDIA_PUBLIC_IPS",
        "192.0.2.1, 2001:db8::1",
    ));
    assert_eq!(config.unwrap().public_ips, expected);
}

#[test]
fn a_comma_is_part_of_every_value_that_is_no_list() {
    for (name, value) in [
        ("CONFAB_LOG_FILTER", "confab_sfu=debug,info"),
        ("CONFAB_AUTH_API_KEY", "main,old"),
        (
            "CONFAB_AUTH_API_SECRET",
            "0123456789abcdef,0123456789abcdef",
        ),
        ("CONFAB_TURN_SECRET", "0123456789,abcdef"),
        ("CONFAB_TURN_REALM", "a, b"),
        ("CONFAB_HTTP_TLS_KEY", "/etc/a,b/key.pem"),
    ] {
        let loaded = load(&variable(name, value)).unwrap();
        let setting = SETTINGS.iter().find(|s| s.variable() == name).unwrap();
        let mut config = Config::default();
        (setting.apply)(&mut config, &[value.to_owned()]).unwrap();
        assert_eq!(loaded, config, "{name}");
        assert_ne!(loaded, Config::default(), "{name}");
    }
    let config = from_file("filter", "[log]\nfilter = \"confab_sfu=debug,info\"\n");
    assert_eq!(config.unwrap().log, "confab_sfu=debug,info");
}

#[test]
fn an_unknown_name_is_told_with_the_nearest_known_one() {
    for (content, key, nearest) in [
        (
            "[htpp]\nlisten = \"127.0.0.1:1\"\n",
            "htpp.listen",
            "http.listen",
        ),
        (
            "[http]\nlisen = \"127.0.0.1:1\"\n",
            "http.lisen",
            "http.listen",
        ),
        (
            "[rooms]\nmax_room = 1\n",
            "rooms.max_room",
            "rooms.max_rooms",
        ),
    ] {
        let error = from_file(key, content).unwrap_err().to_string();
        assert!(error.contains(&format!("sets {key},")), "{error}");
        assert!(
            error.ends_with(&format!("nearest setting is {nearest}")),
            "{error}"
        );
    }
    let error = load(&variable("CONFAB_HTTP_LISTN", "x")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the environment sets CONFAB_HTTP_LISTN, which does not exist; the nearest setting is \
         CONFAB_HTTP_LISTEN"
    );
}

#[test]
fn a_bad_value_is_told_with_its_source_its_key_and_what_is_expected() {
    for (name, value) in [
        ("CONFAB_HTTP_LISTEN", "8080"),
        ("CONFAB_HTTP_LISTEN", ""),
        ("CONFAB_HTTP_TLS_LISTEN", "443"),
        ("CONFAB_HTTP_TLS_SELF_SIGNED", "maybe"),
        ("CONFAB_HTTP_ACME_DOMAINS", "192.0.2.1"),
        ("CONFAB_HTTP_ACME_DOMAINS", "2001:db8::1"),
        ("CONFAB_HTTP_ACME_DOMAINS", "*.example.org"),
        ("CONFAB_HTTP_ACME_DOMAINS", "call.example.org:443"),
        ("CONFAB_HTTP_ACME_DOMAINS", "call..example.org"),
        ("CONFAB_HTTP_ACME_CONTACT", "ops"),
        ("CONFAB_HTTP_ACME_CONTACT", "ops@example.org?cc=a@b"),
        ("CONFAB_HTTP_ACME_DIRECTORY", "http://ca.example.org/"),
        ("CONFAB_HTTP_ACME_DIRECTORY", "https://"),
        ("CONFAB_HTTP_ACME_FOLDER", ""),
        ("CONFAB_HTTP_TLS_SHARED", "yes"),
        ("CONFAB_HTTP_ALLOWED_ORIGINS", "app.example.org"),
        ("CONFAB_HTTP_ALLOWED_ORIGINS", "https://a.example.org/path"),
        ("CONFAB_HTTP_ALLOWED_ORIGINS", "*"),
        ("CONFAB_HTTP_PUBLIC_URL", "call.example.org"),
        ("CONFAB_HTTP_PUBLIC_URL", "https://"),
        ("CONFAB_HTTP_PUBLIC_URL", "https://call.example.org/?room=a"),
        ("CONFAB_HTTP_PUBLIC_URL", "https://ada@call.example.org"),
        ("CONFAB_AUTH_OPEN", "yes"),
        ("CONFAB_HTTP_DRAIN_SECONDS", "-1"),
        ("CONFAB_MEDIA_LISTEN", "localhost"),
        ("CONFAB_MEDIA_LISTEN", "[0.0.0.0]"),
        ("CONFAB_MEDIA_LISTEN", "[::"),
        ("CONFAB_MEDIA_STUN_SERVERS", "stun.example.org"),
        ("CONFAB_MEDIA_STUN_SERVERS", "stun.example.org:0"),
        ("CONFAB_MEDIA_PUBLIC_IPS", "automatic"),
        ("CONFAB_MEDIA_PORT", "65536"),
        ("CONFAB_MEDIA_PORT", "1,2"),
        ("CONFAB_MEDIA_WORKERS", "many"),
        ("CONFAB_MEDIA_PUBLIC_IPS", "192.0.2.1,192.0.2"),
        ("CONFAB_ROOMS_MAX_ROOMS", "0"),
        ("CONFAB_SIGNALING_MAX_SESSIONS", "1000001"),
        ("CONFAB_STUN_LISTEN", "3478"),
        ("CONFAB_TURN_LISTEN", "3478"),
        ("CONFAB_TURN_RELAY_IPS", "eth0"),
        ("CONFAB_TURN_RELAY_PORTS", "50000"),
        ("CONFAB_TURN_RELAY_PORTS", "50001-50000"),
        ("CONFAB_TURN_RELAY_PORTS", "0-50000"),
        ("CONFAB_TURN_REALM", ""),
        ("CONFAB_TURN_ALLOW", "10.0.0.0/33"),
        ("CONFAB_TURN_MAX_ALLOCATIONS", "0"),
        ("CONFAB_LOG_FILTER", "a=b=c"),
    ] {
        let error = load(&variable(name, value)).unwrap_err().to_string();
        let start = format!("the environment sets {name} to {value:?}; expected is ");
        assert!(error.starts_with(&start), "{error}");
    }
    let error = from_file("bad", "[media]\nport = [1, 2]\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sets media.port to [\"1\", \"2\"]; expected is a port"),
        "{error}"
    );
}

#[test]
fn a_secret_is_not_repeated() {
    for (name, expected) in [
        ("CONFAB_AUTH_API_SECRET", "at least 32"),
        ("CONFAB_TURN_SECRET", "at least 16"),
        ("CONFAB_TURN_USERS", "name:password"),
    ] {
        let error = load(&variable(name, "hunter2")).unwrap_err().to_string();
        assert!(
            !error.contains("hunter2") && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_is_named_must_be_there_and_be_toml() {
    let sources = Sources {
        file: Some("/nonexistent/confab.toml".into()),
        ..Sources::default()
    };
    assert!(matches!(
        load(&sources),
        Err(ConfigError::Unreadable { .. })
    ));
    let error = from_file("broken", "[http]\n\nlisten = \n").unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
}

#[test]
fn others_may_only_be_let_in_with_a_key() {
    let secret = "0123456789abcdef0123456789abcdef";
    let open = Config::default();
    assert!(open.auth().unwrap().is_open());
    for others in [
        Config {
            http_listen: "0.0.0.0:8080".parse().unwrap(),
            ..Config::default()
        },
        Config {
            media_listen: "192.0.2.1".parse().unwrap(),
            ..Config::default()
        },
        Config {
            tls: tls::Tls {
                listen: vec!["[::]:443".parse().unwrap()],
                ..tls::Tls::default()
            },
            ..Config::default()
        },
    ] {
        let error = others.auth().unwrap_err().to_string();
        assert!(error.contains("CONFAB_AUTH_API_SECRET"), "{error}");
        let half = Config {
            api_key: Some("main".into()),
            ..others.clone()
        };
        assert_eq!(
            half.auth().unwrap_err(),
            ConfigError::HalfAKey("auth.api_key")
        );
        let keyed = Config {
            api_secret: Some(secret.into()),
            ..half
        };
        assert!(!keyed.auth().unwrap().is_open());
        let contradictory = Config {
            is_open: true,
            ..keyed
        };
        assert_eq!(contradictory.auth().unwrap_err(), ConfigError::OpenWithKey);
        let trusting = Config {
            is_open: true,
            ..others
        };
        assert!(trusting.auth().unwrap().is_open());
    }
}

#[test]
fn addresses_may_be_written_as_people_do() {
    let loaded = |name: &str, value: &str| load(&variable(name, value)).unwrap();
    for (text, ip) in [
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("[::]", "::"),
        ("[::1]", "::1"),
    ] {
        let config = loaded("CONFAB_MEDIA_LISTEN", text);
        assert_eq!(config.media_listen, ip.parse::<IpAddr>().unwrap());
    }
    for (text, finds, ips) in [
        ("auto", true, &[][..]),
        ("auto,10.0.0.5", true, &["10.0.0.5"]),
        ("203.0.113.7", false, &["203.0.113.7"]),
    ] {
        let config = loaded("CONFAB_MEDIA_PUBLIC_IPS", text);
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!((config.finds_public_ips, config.public_ips), (finds, ips));
    }
    for (text, url) in [
        ("https://call.example.org/", "https://call.example.org"),
        ("http://192.0.2.1:8080", "http://192.0.2.1:8080"),
        ("https://example.org/calls/", "https://example.org/calls"),
    ] {
        let config = loaded("CONFAB_HTTP_PUBLIC_URL", text);
        assert_eq!(config.public_url.as_deref(), Some(url));
    }
}
