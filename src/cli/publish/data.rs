//! What is published: JSON as it is, other text as a JSON string.

use serde_json::value::{RawValue, to_raw_value};

/// How what is given is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON if it is, else text; but what begins as an object, a list or a string must be JSON.
    Either,
    Json,
    Text,
}

impl Form {
    /// The JSON value to publish.
    ///
    /// # Errors
    /// What is wrong with the JSON, where, and what to do.
    pub(super) fn read(self, given: &str) -> Result<Box<RawValue>, String> {
        let text = || to_raw_value(given).map_err(|error| error.to_string());
        if self == Self::Text {
            return text();
        }
        match serde_json::from_str(given) {
            Ok(json) => Ok(json),
            // Somebody who types `{"text":"hi` means JSON; to publish that as text would hide the slip.
            Err(_) if self == Self::Either && !given.trim_start().starts_with(['{', '[', '"']) => text(),
            Err(error) => {
                let otherwise = if self == Self::Either {
                    "; --text publishes it as text"
                } else {
                    "; without --json it would be published as text"
                };
                Err(format!("not JSON: {error}{otherwise}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Form, given: &str) -> Result<String, String> {
        form.read(given).map(|value| value.get().to_owned())
    }

    #[test]
    fn json_stays_as_it_is_and_text_becomes_a_string() {
        for (given, published) in [
            (r#"{"a": 1.50}"#, r#"{"a": 1.50}"#),
            ("42", "42"),
            ("hello world", r#""hello world""#),
            ("", r#""""#),
            ("2024-01-01", r#""2024-01-01""#),
        ] {
            assert_eq!(read(Form::Either, given).as_deref(), Ok(published), "{given}");
        }
        assert_eq!(read(Form::Text, "42").as_deref(), Ok(r#""42""#));
        assert_eq!(read(Form::Text, "{").as_deref(), Ok(r#""{""#));
    }

    #[test]
    fn a_slip_in_json_is_no_text() {
        for given in [r#"{"text":"hi"#, "[1,", r#" "hi"#] {
            let error = read(Form::Either, given).unwrap_err();
            assert!(error.contains("line 1 column") && error.contains("--text"), "{error}");
        }
        assert!(read(Form::Json, "hello").unwrap_err().contains("--json"));
    }
}
