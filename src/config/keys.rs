//! The table of keys, read off the configuration's structs.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::kind::Kind;

/// What a key of a secret is called whose value stands in a file.
const FILE_SUFFIX: &str = "_file";

/// A key, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its sections and its own name.
    pub(super) path: Vec<String>,
    pub(super) doc: String,
    pub(super) kind: Kind,
    pub(super) default: Option<Value>,
    /// May be left out, or said to be `""`, which is the same.
    pub(super) is_optional: bool,
    pub(super) is_secret: bool,
    /// Fields of the tables in it that are secrets.
    pub(super) secrets_within: Vec<String>,
    least: Option<i64>,
    most: Option<i64>,
}

impl Key {
    /// `section.key`
    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }

    /// What its value must be.
    pub(super) fn wanted(&self) -> String {
        match (self.least, self.most) {
            (Some(least), Some(most)) => format!("{} from {least} to {most}", self.kind),
            (Some(least), None) => format!("{}, at least {least}", self.kind),
            (None, Some(most)) => format!("{}, at most {most}", self.kind),
            (None, None) => self.kind.to_string(),
        }
    }

    /// Whether nothing of a value that may be wrong is shown.
    pub(super) fn is_hidden(&self) -> bool {
        self.is_secret || !self.secrets_within.is_empty()
    }

    /// Whether a number is within its range; everything else is.
    pub(super) fn is_in_range(&self, value: &Value) -> bool {
        let Value::Integer(value) = value else { return true };
        self.least.is_none_or(|least| *value >= least) && self.most.is_none_or(|most| *value <= most)
    }
}

/// A table of keys.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) path: Vec<String>,
    pub(super) doc: String,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    Key(&'a Key),
    /// The name of a file with the value of this key.
    FileOf(&'a Key),
    Section,
    Nothing,
}

/// All keys, in the order in which the structs have them.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
    pub(super) sections: Vec<Section>,
}

impl Keys {
    /// Those of a struct of structs.
    pub(super) fn of<T: JsonSchema + Serialize + Default>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<T>();
        let defaults = defaults::<T>();
        let mut keys = Self::default();
        keys.collect(schema.as_value(), &[], &defaults);
        keys
    }

    fn collect(&mut self, schema: &Json, above: &[String], defaults: &Table) {
        let properties = schema.get("properties").and_then(Json::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            let path: Vec<String> = above.iter().chain([name]).cloned().collect();
            let default = defaults.get(name);
            if schema.get("properties").is_some() {
                self.sections.push(Section {
                    path: path.clone(),
                    doc: doc(schema),
                });
                let empty = Table::new();
                self.collect(schema, &path, default.and_then(Value::as_table).unwrap_or(&empty));
            } else {
                self.keys.push(key(path, schema, default.cloned()));
            }
        }
    }

    /// What stands at a path.
    pub(super) fn find(&self, path: &[String]) -> Found<'_> {
        if let Some(key) = self.keys.iter().find(|key| key.path == path) {
            return Found::Key(key);
        }
        if self.sections.iter().any(|section| section.path == path) {
            return Found::Section;
        }
        let is_file_of = |key: &&Key| key.is_secret && file_path(key) == path;
        self.keys.iter().find(is_file_of).map_or(Found::Nothing, Found::FileOf)
    }

    /// The key with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name() == name)
    }

    /// The names of all keys and sections, those of files with secrets too.
    pub(super) fn names(&self) -> Vec<String> {
        let files = self.keys.iter().filter(|key| key.is_secret).map(file_path);
        let sections = self.sections.iter().map(|section| section.path.clone());
        let keys = self.keys.iter().map(|key| key.path.clone());
        keys.chain(sections).chain(files).map(|path| path.join(".")).collect()
    }
}

/// The path of the key that names a file with a secret's value.
pub(super) fn file_path(key: &Key) -> Vec<String> {
    let mut path = key.path.clone();
    if let Some(name) = path.last_mut() {
        name.push_str(FILE_SUFFIX);
    }
    path
}

/// The defaults as a table, without the keys that have none.
pub(super) fn defaults<T: Serialize + Default>() -> Table {
    Table::try_from(T::default()).unwrap_or_default()
}

fn key(path: Vec<String>, schema: &Json, default: Option<Value>) -> Key {
    Key {
        path,
        doc: doc(schema),
        kind: Kind::of(schema),
        is_optional: default.is_none(),
        default,
        is_secret: is_secret(schema),
        secrets_within: secrets_within(schema),
        least: bound(schema, "minimum"),
        most: bound(schema, "maximum"),
    }
}

fn is_secret(schema: &Json) -> bool {
    let choices = schema.get("anyOf").and_then(Json::as_array);
    schema.get("writeOnly") == Some(&Json::Bool(true)) || choices.into_iter().flatten().any(is_secret)
}

/// The fields that are secrets, of the tables of a list.
fn secrets_within(schema: &Json) -> Vec<String> {
    let fields = schema.pointer("/items/properties").and_then(Json::as_object);
    let secrets = fields.into_iter().flatten().filter(|(_, field)| is_secret(field));
    secrets.map(|(name, _)| name.clone()).collect()
}

fn bound(schema: &Json, name: &str) -> Option<i64> {
    schema.get(name)?.as_i64()
}

/// The doc comment, on one line.
fn doc(schema: &Json) -> String {
    let doc = schema.get("description").and_then(Json::as_str).unwrap_or_default();
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
