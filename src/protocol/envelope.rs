//! A JSON object that a client sent: its fields, each as it was written, none twice.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use strsim::osa_distance;

use super::list::List;
use super::secret::Secret;
use super::{Code, Problem, json};

/// The fields of an object, in their order. Those that nobody asks for are ignored.
#[derive(Debug)]
pub(super) struct Envelope<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// What a body may be: one object, or several.
pub(super) enum Body<'a> {
    One(Envelope<'a>),
    Many(List<Envelope<'a>>),
}

impl<'a> Body<'a> {
    /// Reads an object or an array of objects, of which `count_max` are kept.
    pub(super) fn read(body: &'a [u8], count_max: usize) -> Result<Self, Problem> {
        let text = json::check(body)?;
        if text.trim_start().starts_with('[') {
            List::read(text, count_max)
                .map(Self::Many)
                .map_err(|error| bad_json(&error))
        } else {
            read_object(text).map(Self::One)
        }
    }
}

fn read_object(text: &str) -> Result<Envelope<'_>, Problem> {
    serde_json::from_str(text).map_err(|error| bad_json(&error))
}

fn bad_json(error: &serde_json::Error) -> Problem {
    Problem::new(Code::BadJson, format!("the JSON cannot be read: {error}"))
}

impl<'a> Envelope<'a> {
    /// Reads one object.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Problem> {
        read_object(json::check(body)?)
    }

    /// Refuses a field that has none of these names, where one that is passed over could do harm: misspelt, it would
    /// not mean what somebody meant.
    pub(super) fn check_names(&self, known: &[&str]) -> Result<(), Problem> {
        let Some((name, _)) = self.0.iter().find(|(name, _)| !known.contains(&&**name)) else {
            return Ok(());
        };
        let edits = |other: &&&str| osa_distance(name, other);
        let nearest = known.iter().min_by_key(edits);
        let advice = match nearest.filter(|other| edits(other) <= EDITS_MAX) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("there are `{}`", known.join("`, `")),
        };
        let shown: String = name.chars().take(SHOWN_MAX).collect();
        Err(Problem::new(
            Code::BadRequest,
            format!("there is no field `{shown}`; {advice}"),
        ))
    }

    /// A field's value, whatever it is.
    pub(super) fn any(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// A field's value; `null` is as good as absent.
    pub(super) fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.any(name).filter(|value| value.get() != "null")
    }

    fn read_as<T: Deserialize<'a>>(&self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        self.read_with(name, expected, serde_json::from_str)
    }

    fn read_with<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a str) -> serde_json::Result<T>,
    ) -> Result<Option<T>, Problem> {
        let read = |value: &'a RawValue| {
            read(value.get()).map_err(|_| {
                Problem::new(
                    Code::BadRequest,
                    format!("`{name}` must be {expected}, but it is {}", shown(value)),
                )
            })
        };
        self.given(name).map(read).transpose()
    }

    /// A string, if the field is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        self.read_as(name, "a string")
    }

    /// A string that must be there.
    pub(super) fn required_text(&self, name: &str) -> Result<String, Problem> {
        self.text(name)?
            .ok_or_else(|| Problem::new(Code::BadRequest, format!("`{name}` is missing; it must be a string")))
    }

    /// A string that no answer may repeat, not even in part, if the field is there.
    pub(super) fn secret(&self, name: &str) -> Result<Option<Secret>, Problem> {
        let read = |value: &'a RawValue| {
            serde_json::from_str(value.get())
                .map(Secret::new)
                .map_err(|_| Problem::new(Code::BadRequest, format!("`{name}` must be a string")))
        };
        self.given(name).map(read).transpose()
    }

    /// Such a string that must be there.
    pub(super) fn required_secret(&self, name: &str) -> Result<Secret, Problem> {
        self.secret(name)?
            .ok_or_else(|| Problem::new(Code::BadRequest, format!("`{name}` is missing; it must be a string")))
    }

    /// An array of strings, of which `count_max` are kept, if the field is there.
    pub(super) fn texts(&self, name: &str, count_max: usize) -> Result<Option<List<String>>, Problem> {
        let read = |text: &'a str| List::read(text, count_max);
        self.read_with(name, "an array of strings", read)
    }

    /// `true` or `false`, if the field is there.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.read_as(name, "true or false")
    }

    /// A whole number, if the field is there.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.read_as(name, "a whole number that is not negative")
    }
}

/// More edits than this and it is another name.
const EDITS_MAX: usize = 2;

/// Characters of what a client sent that an error repeats.
const SHOWN_MAX: usize = 40;

/// The value as it was written, as far as it fits in a sentence.
fn shown(value: &RawValue) -> String {
    let mut shown: String = value.get().chars().take(SHOWN_MAX).collect();
    if shown.len() < value.get().len() {
        shown.push('…');
    }
    shown
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(Key(name)) = map.next_key()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        let name: String = name.chars().take(SHOWN_MAX).collect();
                        return Err(A::Error::custom(format_args!("the field `{name}` is there twice")));
                    }
                    if fields.len() == FIELDS_MAX {
                        return Err(A::Error::custom(format_args!("more than {FIELDS_MAX} fields")));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(Envelope(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The most fields of an envelope; it keeps the search for duplicates short.
const FIELDS_MAX: usize = 32;

/// A field's name, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_there_twice_is_refused_with_its_place() {
        let problem = Envelope::read(b"{\"a\":1,\n \"\\u0061\":2}").unwrap_err();
        assert_eq!(problem.code, Code::BadJson);
        assert!(
            problem.detail.contains("`a` is there twice at line 2"),
            "{}",
            problem.detail
        );
    }

    #[test]
    fn duplicates_inside_a_value_are_the_publishers_affair() {
        let envelope = Envelope::read(br#"{"data":{"a":1,"a":2}}"#).unwrap();
        assert_eq!(envelope.any("data").unwrap().get(), r#"{"a":1,"a":2}"#);
    }

    #[test]
    fn a_wrong_kind_is_named() {
        let envelope = Envelope::read(br#"{"channel":7,"since":null}"#).unwrap();
        let problem = envelope.required_text("channel").unwrap_err();
        assert!(
            problem.detail.starts_with("`channel` must be a string"),
            "{}",
            problem.detail
        );
        assert_eq!(envelope.text("since").unwrap(), None);
    }
}
