//! Publications as somebody may write them: any escapes, any white space between tokens, hostile strings everywhere.

use std::fmt::Write as _;

use fastrand::Rng;

use super::text::{hostile, hostile_within};

/// One publication that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) channel: String,
    /// The `data` without white space between its tokens: what readers must be given.
    pub(crate) data: String,
    pub(crate) event: Option<String>,
    /// Whether it has an idempotency key.
    pub(crate) is_keyed: bool,
    /// The object of the request.
    request: String,
}

/// What `event` may be long, in bytes.
const EVENT_BYTES_MAX: usize = 64;

/// What an idempotency key may be long, in bytes.
const KEY_BYTES_MAX: usize = 128;

impl Written {
    pub(crate) fn random(rng: &mut Rng, channels: &[String]) -> Self {
        let channel = channels[rng.usize(..channels.len())].clone();
        let mut tokens = Tokens::default();
        tokens.value(rng, 0);
        let event = rng.bool().then(|| hostile_within(rng, EVENT_BYTES_MAX));
        let mut fields = vec![
            format!("\"channel\":{}", string(rng, &channel)),
            format!("\"data\":{}", tokens.spaced(rng)),
        ];
        if let Some(event) = &event {
            fields.push(format!("\"event\":{}", string(rng, event)));
        }
        let is_keyed = rng.bool();
        if is_keyed {
            // A key has no control characters. The number keeps apart what would otherwise be one key for two payloads.
            let letters = hostile_within(rng, KEY_BYTES_MAX - 16).replace(char::is_control, "");
            let key = format!("{:x}{letters}", rng.u64(..));
            fields.push(format!("\"idempotency_key\":{}", string(rng, &key)));
        }
        rng.shuffle(&mut fields);
        Self {
            channel,
            data: tokens.0.concat(),
            event,
            is_keyed,
            request: format!("{{{}}}", fields.join(",")),
        }
    }

    /// The object that asks for it.
    pub(crate) fn request(&self) -> &str {
        &self.request
    }
}

/// The body that asks for all of them.
pub(crate) fn batch<'a>(items: impl IntoIterator<Item = &'a Written>) -> String {
    let requests: Vec<_> = items.into_iter().map(Written::request).collect();
    format!("[{}]", requests.join(","))
}

/// JSON, token by token.
#[derive(Debug, Default)]
struct Tokens(Vec<String>);

impl Tokens {
    fn value(&mut self, rng: &mut Rng, depth: usize) {
        const NUMBERS: [&str; 8] = [
            "0",
            "-0",
            "1.0",
            "1e400",
            "12345678901234567890123",
            "1E+2",
            "-1.50e-7",
            "9007199254740993",
        ];
        match rng.u8(..if depth < 3 { 8 } else { 5 }) {
            0..=2 => self.string(rng),
            3 => self.push(NUMBERS[rng.usize(..NUMBERS.len())]),
            4 => self.push(["null", "true", "false"][rng.usize(..3)]),
            5 => self.list(rng, ["[", "]"], |tokens, rng| tokens.value(rng, depth + 1)),
            _ => self.list(rng, ["{", "}"], |tokens, rng| {
                tokens.string(rng);
                tokens.push(":");
                tokens.value(rng, depth + 1);
            }),
        }
    }

    fn list(&mut self, rng: &mut Rng, [open, close]: [&str; 2], mut element: impl FnMut(&mut Self, &mut Rng)) {
        self.push(open);
        for at in 0..rng.usize(..4) {
            if at > 0 {
                self.push(",");
            }
            element(self, rng);
        }
        self.push(close);
    }

    fn string(&mut self, rng: &mut Rng) {
        let text = hostile(rng, 20);
        self.0.push(string(rng, &text));
    }

    fn push(&mut self, token: &str) {
        self.0.push(token.to_owned());
    }

    /// With white space between the tokens.
    fn spaced(&self, rng: &mut Rng) -> String {
        const SPACES: [&str; 7] = ["", "", "", " ", "\r\n", "\n\n", "\t\r"];
        let spaced = self
            .0
            .iter()
            .map(|token| format!("{token}{}", SPACES[rng.usize(..SPACES.len())]));
        spaced.collect()
    }
}

/// A JSON string in one of the ways in which it may be written (RFC 8259 §7).
fn string(rng: &mut Rng, text: &str) -> String {
    if rng.bool() {
        return serde_json::Value::from(text).to_string();
    }
    let mut written = String::from("\"");
    for c in text.chars() {
        let must_escape = c < ' ' || c == '"' || c == '\\';
        if must_escape || rng.u8(..4) == 0 {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(written, "\\u{unit:04x}").expect("a string takes everything");
            }
        } else {
            written.push(c);
        }
    }
    written + "\""
}
