//! A push as a client receives it: the exact text, and what it says.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;
use serde_json::value::RawValue;

use super::place::Place;

/// One JSON object from the server.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    /// Byte for byte as it came.
    pub(crate) text: String,
    /// Its fields, `data` excepted.
    pub(crate) value: Value,
    /// The exact text of `data`, which may be JSON that no Rust value can hold: `1e400`, say.
    pub(crate) data: Option<String>,
}

impl Push {
    pub(crate) fn parse(text: String) -> io::Result<Self> {
        let bad =
            |error: serde_json::Error| io::Error::other(format!("a push that cannot be read: {error} in {text:?}"));
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(&text).map_err(bad)?;
        let data = fields.remove("data").map(|data| data.get().to_owned());
        let read = |(name, value): (String, &RawValue)| Ok((name, serde_json::from_str(value.get()).map_err(bad)?));
        let value = fields.into_iter().map(read).collect::<io::Result<_>>()?;
        Ok(Self {
            value: Value::Object(value),
            data,
            text,
        })
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

    /// As short as it fits into a line of a report.
    pub(crate) fn shown(&self) -> String {
        const SHOWN_MAX: usize = 160;
        let shown: String = self.text.chars().take(SHOWN_MAX).collect();
        let rest = if shown.len() < self.text.len() { "…" } else { "" };
        shown + rest
    }
}
