//! Lists of tables, `[[namespaces]]`: which table is wrong, and each thing that is wrong with it.

use toml::{Table, Value};

use super::Fault;
use super::kind::Kind;
use super::setting::Setting;

/// All that is wrong with the tables of a list that cannot be read; `why_not` is what the type says of another value in
/// the list's place. `None`: it is no such list, or it may not be shown.
pub(super) fn faults(setting: &Setting, why_not: impl Fn(Value) -> Option<String>) -> Option<Vec<Fault>> {
    let key = &setting.key;
    if key.kind != Kind::List(Box::new(Kind::Map)) || key.is_hidden() {
        return None;
    }
    let mut faults = Vec::new();
    for (at, element) in setting.value.as_array()?.iter().enumerate() {
        let why_not = |table: &Table| why_not(Value::Array(vec![Value::Table(table.clone())]));
        for (field, why) in faults_of(element.as_table()?, why_not) {
            let place = format!("{}[{at}]", key.name());
            let what = match field {
                Some(field) => format!("{place}.{field}{why}"),
                None => format!("{place}: {why}"),
            };
            faults.push(Fault::at(setting.place(at), what));
        }
    }
    (!faults.is_empty()).then_some(faults)
}

/// What is wrong with each field, one after the other; at last, what is missing.
fn faults_of(table: &Table, why_not: impl Fn(&Table) -> Option<String>) -> Vec<(Option<&str>, String)> {
    let is_missing = |why: &String| why.starts_with("missing field");
    let mut well = Table::new();
    let mut faults = Vec::new();
    for (field, value) in table {
        let mut tried = well.clone();
        tried.insert(field.clone(), value.clone());
        match why_not(&tried).filter(|why| !is_missing(why)) {
            None => well = tried,
            Some(why) => faults.push((Some(field.as_str()), format!(" = {value}: {why}"))),
        }
    }
    let missing = why_not(&well).filter(|_| faults.is_empty());
    faults.extend(missing.map(|why| (None, why)));
    faults
}

/// A key's name, and the number of one of its tables, if it has one.
pub(super) fn numbered(key: &str) -> (&str, Option<usize>) {
    let parts = key.strip_suffix(']').and_then(|key| key.rsplit_once('['));
    let numbered = parts.and_then(|(name, at)| Some((name, Some(at.parse().ok()?))));
    numbered.unwrap_or((key, None))
}
