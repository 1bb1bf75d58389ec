//! The layers put together: later ones win, and every value is checked where it stands.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::keys::{self, Keys};
use super::kind::Kind;
use super::setting::{self, Collector, Setting, Shown};
use super::tables;
use super::{Config, ConfigError, Fault, Source, environment, file};

/// What a configuration is made from, in rising precedence.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A file, if there is one.
    pub file: Option<PathBuf>,
    /// All variables of the environment; those that are not ours are passed by.
    pub environment: Vec<(OsString, OsString)>,
    /// Keys that were given by flags: the key, the flag with its dashes, the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// A configuration, and where each value of it comes from.
#[derive(Clone)]
pub struct Loaded<T> {
    /// The configuration.
    pub config: T,
    /// The file that was read.
    pub file: Option<PathBuf>,
    keys: Keys,
    table: Table,
    settings: Vec<Setting>,
}

/// Reads all sources into a struct of sections.
///
/// # Errors
/// All that is wrong, each with the file's line and column, the variable or the flag.
pub fn load<T>(sources: &Sources) -> Result<Loaded<T>, ConfigError>
where
    T: JsonSchema + Serialize + DeserializeOwned + Default,
{
    let keys = Keys::of::<T>();
    let (settings, mut faults) = collect(sources, &keys);
    let mut table = keys::defaults::<T>();
    for setting in &settings {
        let mut next = table.clone();
        setting.put_into(&mut next);
        match verdict::<T>(setting, &next) {
            Ok(()) => table = next,
            Err(why) => {
                let of_tables = tables::faults(setting, |value| why_not::<T>(setting, value, &table));
                let of_all = || vec![Fault::at(setting.source.clone(), why)];
                faults.extend(of_tables.unwrap_or_else(of_all));
            }
        }
    }
    ConfigError::unless_empty(faults)?;
    let config = read::<T>(&table).map_err(|why| Fault::of_key("", why))?;
    Ok(Loaded {
        config,
        file: sources.file.clone(),
        keys,
        table,
        settings,
    })
}

fn collect(sources: &Sources, keys: &Keys) -> (Vec<Setting>, Vec<Fault>) {
    let mut into = Collector::new(keys);
    if let Some(path) = &sources.file {
        file::read(path, &mut into);
    }
    into.begin_layer();
    environment::read(&sources.environment, &mut into);
    into.begin_layer();
    for (name, flag, text) in &sources.flags {
        if let Some(key) = keys.named(name) {
            into.give(key, key.kind.read(text), Source::Flag(flag));
        }
    }
    (into.settings, into.faults)
}

/// Whether the table is well with this value in it; else what is wrong with the value.
fn verdict<T: DeserializeOwned>(setting: &Setting, table: &Table) -> Result<(), String> {
    let key = &setting.key;
    let given = || format!("{} = {}", key.name(), setting.shown_value());
    if let Err(why) = read::<T>(table) {
        // Of a table's fields only the type knows what they must be; what it says of a secret is not for everybody.
        let is_of_tables = key.kind == Kind::List(Box::new(Kind::Map)) && !key.is_hidden();
        let words = if is_of_tables {
            format!(" ({why})")
        } else {
            own_words(&why)
        };
        return Err(format!("{}: must be {}{words}", given(), key.wanted()));
    }
    if key.is_in_range(&setting.value) {
        return Ok(());
    }
    Err(format!("{}: must be {}", given(), key.wanted()))
}

/// What the type says of another value in this one's place.
fn why_not<T: DeserializeOwned>(setting: &Setting, value: Value, table: &Table) -> Option<String> {
    let mut tried = table.clone();
    let setting = Setting {
        value,
        ..setting.clone()
    };
    setting.put_into(&mut tried);
    read::<T>(&tried).err()
}

fn read<T: DeserializeOwned>(table: &Table) -> Result<T, String> {
    let read = Value::Table(table.clone()).try_into();
    read.map_err(|error| error.message().to_owned())
}

/// What the type says of a value, where it says more than that it is of another type.
fn own_words(why: &str) -> String {
    let is_said = ["invalid type", "invalid value", "unknown variant", "data did not match"];
    if is_said.iter().any(|words| why.starts_with(words)) {
        return String::new();
    }
    format!(" ({why})")
}

/// Without the values as they were given, which may be secrets.
impl<T: fmt::Debug> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("config", &self.config)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads all sources.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(sources: &Sources) -> Result<Loaded<Self>, ConfigError> {
        let mut loaded = load::<Self>(sources)?;
        loaded.config.rates.is_configured = loaded.is_given("rates");
        Ok(loaded)
    }
}

impl<T> Loaded<T> {
    /// Whether anybody gave a value to a key of this section, be it the default.
    fn is_given(&self, section: &str) -> bool {
        let mut given = self.settings.iter().map(|setting| &setting.key.path);
        given.any(|path| path.first().is_some_and(|first| first == section))
    }

    /// Where the value of a key comes from, or of its table of this number: `namespaces[1]`.
    pub fn source(&self, key: &str) -> Source {
        let (name, at) = tables::numbered(key);
        let given = self.settings.iter().rev().find(|setting| setting.key.name() == name);
        given.map_or(Source::Default, |setting| {
            at.map_or(setting.source.clone(), |at| setting.place(at))
        })
    }

    /// Adds to a fault of a key the place where its value comes from.
    pub fn placed(&self, fault: Fault) -> Fault {
        let source = fault.key.as_deref().map(|key| self.source(key));
        Fault {
            source: fault.source.or(source),
            ..fault
        }
    }

    /// Gives it back, if nothing is wrong with it.
    ///
    /// # Errors
    /// All that is, each with the place where its value comes from.
    pub fn unless(self, faults: Vec<Fault>) -> Result<Self, ConfigError> {
        let faults = faults.into_iter().map(|fault| self.placed(fault)).collect();
        ConfigError::unless_empty(faults).map(|()| self)
    }

    /// Every key with its value and its source.
    pub fn shown(&self) -> impl Iterator<Item = Shown> {
        self.keys.keys.iter().map(|key| {
            let value = setting::at(&self.table, &key.path);
            Shown {
                key: key.name(),
                value: value.map(|value| setting::masked(key, value)),
                source: self.source(&key.name()),
            }
        })
    }

    /// The keys whose values are others than in `before`, whatever they are and wherever they come from.
    pub fn changed_from(&self, before: &Self) -> Vec<String> {
        let value = |loaded: &'_ Self, key: &keys::Key| setting::at(&loaded.table, &key.path).cloned();
        let changed = self
            .keys
            .keys
            .iter()
            .filter(|key| value(self, key) != value(before, key));
        changed.map(keys::Key::name).collect()
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}
