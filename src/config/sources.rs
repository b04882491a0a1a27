//! Reading the sources and laying them over each other.

use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{Config, ConfigError, SETTINGS, Setting};

/// The file that is read if it is there.
pub(crate) const DEFAULT_FILE: &str = "confab.toml";

/// What every variable of ours begins with.
const PREFIX: &str = "CONFAB_";

/// Where settings come from besides the defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The file named with `--config`, which then must exist.
    pub(crate) file: Option<PathBuf>,
    pub(crate) variables: Vec<(String, String)>,
    /// The flags, by the key of their setting.
    pub(crate) flags: Vec<(&'static str, String)>,
}

/// Values by key, from a source whose values are all text.
struct Texts {
    source: &'static str,
    values: Vec<(&'static str, String)>,
}

impl Provider for Texts {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for (key, value) in &self.values {
            let value = Value::from(value.clone());
            let Some((section, name)) = key.split_once('.') else {
                continue;
            };
            let section = dict
                .entry(section.to_owned())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, section) = section {
                section.insert(name.to_owned(), value);
            }
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// Reads and checks all settings.
///
/// # Errors
/// When a source cannot be read, names what does not exist, or sets what cannot be.
pub(crate) fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let mut figment = Figment::new();
    if let Some(path) = file(sources) {
        figment = figment.merge(read(&path)?);
    }
    let figment = figment
        .merge(Texts {
            source: "the environment",
            values: variables(&sources.variables)?,
        })
        .merge(Texts {
            source: "the command line",
            values: sources.flags.clone(),
        });
    let mut config = Config::default();
    for setting in SETTINGS {
        if let Ok(value) = figment.find_value(setting.key) {
            let source = figment.get_metadata(value.tag());
            let name = name_as_in(source.map_or("", |m| &m.name), setting);
            apply(setting, &value, name, &mut config)?;
        }
    }
    Ok(config)
}

fn file(sources: &Sources) -> Option<PathBuf> {
    let default = || {
        Path::new(DEFAULT_FILE)
            .exists()
            .then(|| DEFAULT_FILE.into())
    };
    sources.file.clone().or_else(default)
}

/// The file's values, all of whose keys exist.
fn read(path: &Path) -> Result<impl Provider + use<>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].lines().count().max(1));
        ConfigError::NotToml {
            path: path.to_owned(),
            reason: format!("line {line}: {}", error.message()),
        }
    })?;
    for (section, value) in &table {
        let keys: Vec<String> = match value {
            toml::Value::Table(keys) if !keys.is_empty() => {
                keys.keys().map(|key| format!("{section}.{key}")).collect()
            }
            toml::Value::Table(_) if sections().any(|known| known == section) => Vec::new(),
            _ => vec![section.clone()],
        };
        for key in keys {
            check_known(&key, path.display().to_string(), |setting| {
                setting.key.to_owned()
            })?;
        }
    }
    let name = path.display().to_string();
    Ok(NamedFile(name, text))
}

struct NamedFile(String, String);

impl Provider for NamedFile {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Toml::string(&self.1).data()
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter_map(|s| s.key.split('.').next())
}

/// Our variables, by the key of their setting.
fn variables(all: &[(String, String)]) -> Result<Vec<(&'static str, String)>, ConfigError> {
    all.iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, value)| {
            let source = "the environment".to_owned();
            let setting = check_known(name, source, Setting::variable)?;
            Ok((setting.key, value.clone()))
        })
        .collect()
}

/// The setting of this name, or an error that names the nearest one.
fn check_known(
    name: &str,
    source_name: String,
    name_of: impl Fn(&Setting) -> String,
) -> Result<&'static Setting, ConfigError> {
    if let Some(setting) = SETTINGS.iter().find(|s| name_of(s) == name) {
        return Ok(setting);
    }
    let distance = |setting: &&Setting| strsim::damerau_levenshtein(name, &name_of(setting));
    let nearest = SETTINGS.iter().min_by_key(distance).map(name_of);
    Err(ConfigError::Unknown {
        source_name,
        key: name.to_owned(),
        nearest: nearest.unwrap_or_default(),
    })
}

/// A setting's name as its source writes it.
fn name_as_in(source: &str, setting: &Setting) -> (String, String) {
    let name = match source {
        "the environment" => setting.variable(),
        "the command line" => format!("--{}", setting.flag()),
        _ => setting.key.to_owned(),
    };
    (source.to_owned(), name)
}

fn apply(
    setting: &'static Setting,
    value: &Value,
    (source_name, key): (String, String),
    config: &mut Config,
) -> Result<(), ConfigError> {
    texts(setting, value)
        .and_then(|texts| (setting.apply)(config, &texts))
        .ok_or_else(|| ConfigError::Invalid {
            source_name,
            key,
            value: shown(setting, value),
            expected: setting.expected,
        })
}

/// A value as texts: those of a list in the file, and of a setting that is one where there are commas.
fn texts(setting: &Setting, value: &Value) -> Option<Vec<String>> {
    let cut = |text: String| text.split(',').map(|item| item.trim().to_owned()).collect();
    match value {
        Value::Array(_, values) => values.iter().map(scalar).collect(),
        value => match scalar(value)? {
            text if setting.list && text.contains(',') => Some(cut(text)),
            text => Some(vec![text]),
        },
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Num(_, _) => value
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| value.to_f64().map(|n| n.to_string())),
        Value::Bool(_, yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn shown(setting: &Setting, value: &Value) -> String {
    if setting.secret {
        return "something that is not shown here".into();
    }
    match (texts(setting, value), value) {
        (Some(texts), Value::Array(..)) => format!("{texts:?}"),
        (Some(texts), _) => format!("{:?}", texts.join(",")),
        (None, _) => "a table".into(),
    }
}
