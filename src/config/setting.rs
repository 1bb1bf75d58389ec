//! A value that somebody gave to a key, on its way into the configuration.

use std::fmt;

use toml::{Table, Value};

use super::keys::{Found, Key, Keys};
use super::nearest;
use super::secret::without_line_end;
use super::{Fault, Source, asked};

/// What stands for a secret where it would be printed.
const MASK: &str = "***";

/// A value that somebody gave.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) key: Key,
    pub(super) value: Value,
    pub(super) source: Source,
    /// Of a list of tables in a file, where each of them stands.
    pub(super) places: Vec<Source>,
}

/// As one may show it.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key.name(), self.shown_value(), self.source)
    }
}

/// A key with its value and its source, to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// `section.key`
    pub key: String,
    /// Its value; `None` where there is none, and a mask for a secret.
    pub value: Option<Value>,
    /// Where it comes from.
    pub source: Source,
}

impl Setting {
    /// Where the table of this number stands, if it is a list of them; else where all of it does.
    pub(super) fn place(&self, at: usize) -> Source {
        self.places.get(at).unwrap_or(&self.source).clone()
    }

    /// Puts it where it belongs. `""` takes away what may be left out.
    pub(super) fn put_into(&self, table: &mut Table) {
        let is_nothing = self.key.is_optional && self.value.as_str() == Some("");
        put(table, &self.key.path, (!is_nothing).then(|| self.value.clone()));
    }

    /// The value as one may show it.
    pub(super) fn shown_value(&self) -> String {
        if self.key.is_hidden() {
            MASK.to_owned()
        } else {
            masked(&self.key, &self.value).to_string()
        }
    }
}

/// Of all URLs in a value what may be a secret.
fn mask_urls(value: &mut Value) {
    match value {
        Value::String(text) => *text = asked::masked(text),
        Value::Array(values) => values.iter_mut().for_each(mask_urls),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| mask_urls(value)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// A value as one may show it: without secrets, and without those that stand in its tables.
pub(super) fn masked(key: &Key, value: &Value) -> Value {
    let mask = || Value::String(MASK.to_owned());
    if key.is_secret {
        return mask();
    }
    let mut shown = value.clone();
    mask_urls(&mut shown);
    if let Value::Array(elements) = &mut shown {
        for table in elements.iter_mut().filter_map(Value::as_table_mut) {
            for name in &key.secrets_within {
                if let Some(secret) = table.get_mut(name) {
                    *secret = mask();
                }
            }
        }
    }
    shown
}

/// The value at a path.
pub(super) fn at<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    match path {
        [] => None,
        [name] => table.get(name),
        [section, rest @ ..] => at(table.get(section)?.as_table()?, rest),
    }
}

fn put(table: &mut Table, path: &[String], value: Option<Value>) {
    match (path, value) {
        ([], _) => {}
        ([name], Some(value)) => {
            table.insert(name.clone(), value);
        }
        ([name], None) => {
            table.remove(name);
        }
        ([section, rest @ ..], value) => {
            let section = table
                .entry(section.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                put(section, rest, value);
            }
        }
    }
}

/// The text of a file with a secret.
fn text(bytes: &[u8]) -> std::io::Result<String> {
    let not_text = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8");
    String::from_utf8(without_line_end(bytes).to_vec()).map_err(not_text)
}

/// Where a layer collects what it is given, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Collector<'a> {
    pub(super) keys: &'a Keys,
    pub(super) settings: Vec<Setting>,
    pub(super) faults: Vec<Fault>,
    /// Keys that this layer has given, to see one that is given twice.
    given: Vec<String>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(keys: &'a Keys) -> Self {
        Self {
            keys,
            settings: Vec::new(),
            faults: Vec::new(),
            given: Vec::new(),
        }
    }

    /// The next layer begins, which may give again what an earlier one gave.
    pub(super) fn begin_layer(&mut self) {
        self.given.clear();
    }

    /// Takes a value for a key.
    pub(super) fn give(&mut self, key: &Key, value: Value, source: Source) {
        if self.given.contains(&key.name()) {
            let why = format!(
                "`{0}` is given both by itself and by `{0}_file`; give one of the two",
                key.name()
            );
            self.faults.push(Fault::at(source, why));
            return;
        }
        self.given.push(key.name());
        self.settings.push(Setting {
            key: key.clone(),
            value,
            source,
            places: Vec::new(),
        });
    }

    /// Notes where each table of the list stands that was given last.
    pub(super) fn note_places(&mut self, places: Vec<Source>) {
        if let Some(setting) = self.settings.last_mut() {
            setting.places = places;
        }
    }

    /// Takes the name of a file in which a secret stands.
    pub(super) fn give_file(&mut self, key: &Key, value: &Value, source: Source) {
        let Some(path) = value.as_str() else {
            let why = format!("{}_file = {value}: must be text, the name of a file", key.name());
            self.faults.push(Fault::at(source, why));
            return;
        };
        match std::fs::read(path).and_then(|bytes| text(&bytes)) {
            Ok(text) => self.give(key, Value::String(text), source),
            Err(error) => {
                let why = format!("{}_file = {path:?}: {error}; it must name a readable file", key.name());
                self.faults.push(Fault::at(source, why));
            }
        }
    }

    /// Takes what stands at a path, wherever that leads. Gives back a section, to be entered.
    pub(super) fn take(&mut self, path: &[String], value: &Value, source: Source) -> Option<Table> {
        let keys = self.keys;
        match (keys.find(path), value) {
            (Found::Key(key), value) => self.give(key, value.clone(), source),
            (Found::FileOf(key), value) => self.give_file(key, value, source),
            (Found::Section, Value::Table(section)) => return Some(section.clone()),
            (Found::Section, _) => {
                let name = path.join(".");
                let hides = keys
                    .keys
                    .iter()
                    .any(|key| key.is_hidden() && key.path.starts_with(path));
                let shown = if hides { MASK.to_owned() } else { value.to_string() };
                let why = format!("{name} = {shown}: `{name}` is a section; write [{name}] and its keys below");
                self.faults.push(Fault::at(source, why));
            }
            (Found::Nothing, _) => {
                let name = path.join(".");
                let advice = nearest::advice(&name, &keys.names());
                self.faults
                    .push(Fault::at(source, format!("unknown key `{name}`; {advice}")));
            }
        }
        None
    }
}
