//! The environment's part: `THROUGHLINE_SECTION__KEY`, and what was meant to be one.

use std::ffi::OsString;

use strsim::osa_distance;
use toml::Value;

use super::keys::{Found, Keys, file_path};
use super::setting::Collector;
use super::{Fault, Source, nearest};

const PREFIX: &str = "THROUGHLINE_";

/// Between a section and what is in it.
const SEPARATOR: &str = "__";

/// Variables that are ours, and no keys.
const OTHERS: [&str; 4] = [
    "THROUGHLINE_CONFIG",
    "THROUGHLINE_LOG",
    "THROUGHLINE_TOKEN",
    "THROUGHLINE_URL",
];

/// So many edits, and a variable that is no key was meant to be one.
const EDITS_MAX: usize = 2;

/// Takes every variable that is a key.
///
/// One that looks like a key and is none is an error. Others that begin with our name are not ours to judge: a cluster
/// gives every process variables such as `THROUGHLINE_PORT_8000_TCP` for a service of that name.
pub(super) fn read(variables: &[(OsString, OsString)], into: &mut Collector<'_>) {
    let mut variables: Vec<_> = variables.iter().collect();
    variables.sort();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        if OTHERS.contains(&name) {
            continue;
        }
        let path = path(name);
        let source = || Source::Variable(name.to_owned());
        let is_key = name.contains(SEPARATOR) || !matches!(into.keys.find(&path), Found::Nothing | Found::Section);
        if !is_key {
            if let Some(meant) = meant(name, into.keys) {
                let why = format!("no such key; did you mean {meant}?");
                into.faults.push(Fault::at(source(), why));
            }
            continue;
        }
        match value.to_str() {
            Some(text) => take(&path, text, source(), into),
            None => into.faults.push(Fault::at(source(), "must be UTF-8")),
        }
    }
}

fn take(path: &[String], text: &str, source: Source, into: &mut Collector<'_>) {
    let keys = into.keys;
    match keys.find(path) {
        Found::Key(key) => into.give(key, key.kind.read(text), source),
        Found::FileOf(key) => into.give_file(key, &Value::String(text.to_owned()), source),
        Found::Section | Found::Nothing => {
            let names = keys.names();
            let advice = match nearest::nearest(&path.join("."), &names) {
                Some(key) => format!("did you mean {}?", variable(key)),
                None => "`throughline init --stdout` prints all that there are".to_owned(),
            };
            let name = path.join(".");
            into.faults
                .push(Fault::at(source, format!("unknown key `{name}`; {advice}")));
        }
    }
}

/// The path that a variable's name spells.
fn path(name: &str) -> Vec<String> {
    let path = name[PREFIX.len()..].to_ascii_lowercase();
    path.split(SEPARATOR).map(str::to_owned).collect()
}

/// The variable for a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', SEPARATOR))
}

/// The key that a variable without `__` is a slip of: a letter or two, or one `_` for two.
fn meant(name: &str, keys: &Keys) -> Option<String> {
    let files = keys.keys.iter().filter(|key| key.is_secret).map(file_path);
    let all = keys.keys.iter().map(|key| key.path.clone()).chain(files);
    let variables = all.map(|path| variable(&path.join(".")));
    let distance = |variable: String| {
        let flat = osa_distance(name, &variable.replace(SEPARATOR, "_"));
        (flat, variable)
    };
    let (edits, variable) = variables.map(distance).min()?;
    (edits <= EDITS_MAX).then_some(variable)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn what_a_cluster_or_somebody_else_sets_is_not_ours() {
        let keys = Keys::of::<Config>();
        for name in [
            "THROUGHLINE_PORT",
            "THROUGHLINE_SERVICE_HOST",
            "THROUGHLINE_SERVICE_PORT_HTTP",
            "THROUGHLINE_PORT_8000_TCP_ADDR",
            "THROUGHLINE_TEST_PYTHON",
        ] {
            assert_eq!(meant(name, &keys), None, "{name}");
        }
        for (name, expected) in [
            ("THROUGHLINE_LISTN", "THROUGHLINE_LISTEN"),
            ("THROUGHLINE_WINDOW_COUNT", "THROUGHLINE_WINDOW__COUNT"),
            ("THROUGHLINE_LOG_LEVELS", "THROUGHLINE_LOG__LEVEL"),
        ] {
            assert_eq!(meant(name, &keys).as_deref(), Some(expected), "{name}");
        }
    }
}
