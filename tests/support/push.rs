//! A push as a client receives it: the exact text, and what it says.

use std::io;

use serde_json::Value;
use serde_json::value::RawValue;

use super::place::Place;

/// One JSON object from the server.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    /// Byte for byte as it came.
    pub(crate) text: String,
    pub(crate) value: Value,
}

impl Push {
    pub(crate) fn parse(text: String) -> io::Result<Self> {
        match serde_json::from_str(&text) {
            Ok(value @ Value::Object(_)) => Ok(Self { text, value }),
            Ok(_) => Err(io::Error::other(format!("a push that is no object: {text}"))),
            Err(error) => Err(io::Error::other(format!(
                "a push that is no JSON: {error} in {text:?}"
            ))),
        }
    }

    pub(crate) fn kind(&self) -> &str {
        self.text_of("type")
    }

    pub(crate) fn channel(&self) -> &str {
        self.text_of("channel")
    }

    /// A field that is a string; empty if it is not there.
    pub(crate) fn text_of(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or_default()
    }

    /// A field that is a position.
    pub(crate) fn place(&self, field: &str) -> Option<Place> {
        Place::parse(self.value[field].as_str()?)
    }

    /// The exact text of `data`.
    pub(crate) fn data(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct WithData<'a> {
            #[serde(borrow)]
            data: &'a RawValue,
        }
        let read: WithData<'_> = serde_json::from_str(&self.text).ok()?;
        Some(read.data.get().to_owned())
    }

    /// As short as it fits into a line of a report.
    pub(crate) fn shown(&self) -> String {
        const SHOWN_MAX: usize = 160;
        let shown: String = self.text.chars().take(SHOWN_MAX).collect();
        let rest = if shown.len() < self.text.len() { "…" } else { "" };
        shown + rest
    }
}
