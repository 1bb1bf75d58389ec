//! What a key's value is: the words for it, and how text becomes it.

use std::fmt;

use serde_json::Value as Json;
use toml::Value;

/// What a key's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Number,
    Boolean,
    Text,
    OneOf(Vec<String>),
    List(Box<Kind>),
    TextOrList,
    /// Names of the user's own, each with a value.
    Map,
    /// What has no short word; the type's own error says what is wrong with a value.
    Any,
}

impl Kind {
    /// As a JSON Schema says it.
    pub(super) fn of(schema: &Json) -> Self {
        if let Some(words) = words(schema) {
            return Self::OneOf(words);
        }
        if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
            let kinds: Vec<Self> = choices.iter().filter(|choice| !is_null(choice)).map(Self::of).collect();
            return match kinds.as_slice() {
                [only] => only.clone(),
                [Self::Text, Self::List(_)] | [Self::List(_), Self::Text] => Self::TextOrList,
                _ => Self::Any,
            };
        }
        match type_name(schema) {
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("boolean") => Self::Boolean,
            Some("string") => Self::Text,
            Some("array") => Self::List(Box::new(schema.get("items").map_or(Self::Any, Self::of))),
            Some("object") => Self::Map,
            _ => Self::Any,
        }
    }

    /// What text of the environment or of a flag means. What makes no sense stays text, and is refused as that.
    pub(super) fn read(&self, text: &str) -> Value {
        let read = match self {
            Self::Integer => text.replace('_', "").parse().ok().map(Value::Integer),
            Self::Number => text.parse().ok().map(Value::Float),
            Self::Boolean => text.parse().ok().map(Value::Boolean),
            Self::List(_) | Self::TextOrList if text.trim_start().starts_with('[') => toml_value(text),
            Self::List(each) => Some(list(text, each)),
            Self::TextOrList if text.contains(',') => Some(list(text, &Self::Text)),
            Self::TextOrList | Self::Text | Self::OneOf(_) => None,
            Self::Map | Self::Any => toml_value(text),
        };
        read.unwrap_or_else(|| Value::String(text.to_owned()))
    }
}

/// Elements with commas between them; nothing is a list of none.
fn list(text: &str, each: &Kind) -> Value {
    let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
    Value::Array(elements.map(|element| each.read(element)).collect())
}

fn toml_value(text: &str) -> Option<Value> {
    let mut table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
    table.remove("value")
}

fn words(schema: &Json) -> Option<Vec<String>> {
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return Some(words.iter().filter_map(Json::as_str).map(str::to_owned).collect());
    }
    let word = |choice: &Json| Some(choice.get("const")?.as_str()?.to_owned());
    schema.get("oneOf")?.as_array()?.iter().map(word).collect()
}

fn is_null(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) == Some("null")
}

/// The type, or that of the two which is not `null`.
fn type_name(schema: &Json) -> Option<&str> {
    let given = schema.get("type")?;
    given.as_str().or_else(|| {
        let names = given.as_array()?.iter().filter_map(Json::as_str);
        names.into_iter().find(|name| *name != "null")
    })
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer => f.write_str("a whole number"),
            Self::Number => f.write_str("a number"),
            Self::Boolean => f.write_str("true or false"),
            Self::Text => f.write_str("text"),
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Self::List(each) if **each == Self::Integer => f.write_str("a list of whole numbers"),
            Self::List(each) if **each == Self::Text => f.write_str("a list of texts"),
            Self::List(each) if **each == Self::Map => f.write_str("a list of tables"),
            Self::List(_) => f.write_str("a list"),
            Self::TextOrList => f.write_str("text, or a list of texts"),
            Self::Map => f.write_str("a table"),
            Self::Any => f.write_str("a value of another form"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_with_commas_or_as_toml() {
        let numbers = Kind::List(Box::new(Kind::Integer));
        let expected = Value::Array(vec![Value::Integer(1), Value::Integer(2)]);
        assert_eq!(numbers.read("1, 2"), expected);
        assert_eq!(numbers.read("[1,2]"), expected);
        assert_eq!(numbers.read(""), Value::Array(Vec::new()));
        let comma = Value::Array(vec![Value::String("a,b".to_owned())]);
        assert_eq!(Kind::List(Box::new(Kind::Text)).read(r#"["a,b"]"#), comma);
    }

    #[test]
    fn text_stays_text_and_what_makes_no_sense_too() {
        assert_eq!(Kind::Text.read("7"), Value::String("7".to_owned()));
        assert_eq!(Kind::Integer.read("7_000"), Value::Integer(7000));
        assert_eq!(Kind::Integer.read("many"), Value::String("many".to_owned()));
        assert_eq!(Kind::TextOrList.read("a"), Value::String("a".to_owned()));
    }
}
