//! JSON in and out: checked for depth before it is read, kept as it was written, compact.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Code, Limits, Problem};

/// A JSON object that is being written, field by field, in order.
#[derive(Debug)]
pub struct Object(String);

impl Object {
    /// An object without fields.
    #[expect(
        clippy::new_without_default,
        reason = "an unfinished object is no default of anything"
    )]
    pub fn new() -> Self {
        Self("{".into())
    }

    /// Adds a field whose value is JSON already.
    #[must_use]
    pub fn raw(mut self, name: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
        self.0.push_str(json);
        self
    }

    /// Adds a string.
    #[must_use]
    pub fn text(self, name: &str, text: &str) -> Self {
        self.raw(name, &quoted(text))
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, name: &str, number: u64) -> Self {
        self.raw(name, &number.to_string())
    }

    /// Adds a number, if there is one.
    #[must_use]
    pub fn optional_number(self, name: &str, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(name, number),
            None => self,
        }
    }

    /// Adds a string, if there is one.
    #[must_use]
    pub fn optional_text(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// Adds an array of what is JSON already.
    #[must_use]
    pub fn array(self, name: &str, elements: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.raw(name, &array(elements))
    }

    /// The object as text.
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A JSON array of what is JSON already.
pub(super) fn array(elements: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::from("[");
    for (at, element) in elements.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(element.as_ref());
    }
    text.push(']');
    text
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The JSON value without the white space between its tokens, and otherwise as it was written, in bytes of its own.
pub fn compact(value: &RawValue) -> Bytes {
    let mut compact = Vec::with_capacity(value.get().len());
    let mut scan = Scan::default();
    compact.extend(
        value
            .get()
            .bytes()
            .filter(|byte| scan.is_inside_string(*byte) || !byte.is_ascii_whitespace()),
    );
    compact.into()
}

/// Reads a body as text and refuses what is nested too deeply, before anything is built from it.
pub(super) fn check(body: &[u8]) -> Result<&str, Problem> {
    let text = str::from_utf8(body).map_err(|error| {
        Problem::new(
            Code::BadJson,
            format!("the JSON is not UTF-8: invalid bytes at byte {}", error.valid_up_to()),
        )
    })?;
    let (mut depth, mut scan) = (0_usize, Scan::default());
    for (at, byte) in text.bytes().enumerate() {
        if scan.is_inside_string(byte) {
            continue;
        }
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > Limits::JSON_DEPTH_MAX {
            let detail = format!(
                "the JSON is nested more than {} deep at byte {at}",
                Limits::JSON_DEPTH_MAX
            );
            return Err(Problem::new(Code::BadJson, detail));
        }
    }
    Ok(text)
}

/// Tells strings from what is between them.
#[derive(Default)]
struct Scan {
    inside: bool,
    escaped: bool,
}

impl Scan {
    /// Whether `byte`, the next one, belongs to a string; its closing quote does not.
    fn is_inside_string(&mut self, byte: u8) -> bool {
        match (self.inside, byte) {
            (true, _) if self.escaped => self.escaped = false,
            (true, b'\\') => self.escaped = true,
            (true, b'"') => self.inside = false,
            (false, b'"') => self.inside = true,
            _ => {}
        }
        self.inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_and_everything_else_stays() {
        let written = "{ \"a\" :\r\n[1.0, 1e400 ,-0 ], \"b \\\" c\\\\\" : \"\\u0041 \\ud800\",\t\"a\":null }";
        let value: &RawValue = serde_json::from_str(written).unwrap();
        let kept = "{\"a\":[1.0,1e400,-0],\"b \\\" c\\\\\":\"\\u0041 \\ud800\",\"a\":null}";
        assert_eq!(compact(value), kept);
    }

    #[test]
    fn depth_is_counted_outside_strings_only() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(64).as_bytes()).is_ok());
        assert_eq!(check(nested(65).as_bytes()).unwrap_err().code, Code::BadJson);
        assert!(check(format!("\"{}\\\"{}\"", "[".repeat(99), "{".repeat(99)).as_bytes()).is_ok());
        assert!(
            check(nested(10_000).as_bytes())
                .unwrap_err()
                .detail
                .contains("at byte 64")
        );
    }
}
