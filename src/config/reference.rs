//! All keys written down: as a file to begin with, and as a table to read.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use toml::Value;

use super::environment::variable;
use super::keys::{Key, Keys};

/// The longest line of prose in the file.
const LINE_CHARS_MAX: usize = 100;

/// A configuration file with every key, commented out at its default. Prose begins with `# `, a key with `#` alone.
pub fn template<T: JsonSchema + Serialize + Default>() -> String {
    let keys = Keys::of::<T>();
    let mut text = String::from(
        "# The configuration of Throughline.\n\
         #\n\
         # Every key is here at its default; take the `#` away from one to change it.\n\
         # A variable THROUGHLINE_SECTION__KEY wins over this file, and a flag wins over that.\n\
         # `throughline check` says whether all is well, `throughline config show` what holds and why.\n",
    );
    let top = keys.keys.iter().filter(|key| key.path.len() == 1);
    top.for_each(|key| push_key(&mut text, key));
    for section in &keys.sections {
        let _ = write!(text, "\n[{}]", section.path.join("."));
        let _ = writeln!(
            text,
            "{}",
            if section.doc.is_empty() {
                String::new()
            } else {
                format!(" # {}", section.doc)
            }
        );
        let inside = keys
            .keys
            .iter()
            .filter(|key| key.path[..key.path.len() - 1] == section.path);
        inside.for_each(|key| push_key(&mut text, key));
    }
    text
}

fn push_key(text: &mut String, key: &Key) {
    let doc = format!("{} {}", key.doc, remark(key));
    text.push('\n');
    for line in wrapped(doc.trim()) {
        let _ = writeln!(text, "# {line}");
    }
    let name = key.path.last().map_or("", String::as_str);
    let _ = writeln!(text, "#{name} = {}", shown(key));
}

/// A default; `""` is none.
fn shown(key: &Key) -> String {
    key.default.as_ref().map_or_else(|| "\"\"".to_owned(), Value::to_string)
}

/// What the value must be, its unit, and what else there is to know.
fn remark(key: &Key) -> String {
    let mut remark = format!("({}", key.wanted());
    if let Some(unit) = unit(key) {
        let _ = write!(remark, "; {unit}");
    }
    if key.is_optional {
        remark.push_str("; \"\" is none");
    }
    if key.is_secret {
        let _ = write!(remark, "; or `{}_file`, the name of a file", key.name());
    }
    remark + ")"
}

/// Units stand last in a key's name, before `_max`.
fn unit(key: &Key) -> Option<&'static str> {
    let name = key.path.last()?;
    let name = name.strip_suffix("_max").unwrap_or(name);
    if name.ends_with("_per_s") {
        return Some("per second");
    }
    match name.rsplit('_').next()? {
        "ms" => Some("milliseconds"),
        "s" => Some("seconds"),
        "bytes" => Some("bytes"),
        _ => None,
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < LINE_CHARS_MAX => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Every key as a row of a Markdown table: key, variable, default, what it must be, meaning.
pub fn table<T: JsonSchema + Serialize + Default>() -> String {
    let mut text = String::from("| key | variable | default | must be | meaning |\n|---|---|---|---|---|\n");
    for key in &Keys::of::<T>().keys {
        let name = key.name();
        let default = key
            .default
            .as_ref()
            .map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
        let unit = unit(key).map(|unit| format!("; {unit}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "| `{name}` | `{}` | {default} | {}{unit} | {} |",
            variable(&name),
            key.wanted(),
            key.doc.replace('|', "\\|"),
        );
    }
    text
}
