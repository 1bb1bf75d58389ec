//! What a token says, in words, believed or not: for the person who wonders why it is refused.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The header and the claims of a token, one to a line, times with how far away they are.
pub fn explain(token: &str, now_ms: u64) -> String {
    let mut text = String::new();
    let mut parts = token.split('.');
    for title in ["header", "claims"] {
        let part = parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let fields = part.and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok());
        let Some(fields) = fields else {
            let _ = writeln!(text, "{title}: cannot be read");
            continue;
        };
        let _ = writeln!(text, "{title}:");
        for (name, value) in fields {
            let when = match (&*name, value.as_f64()) {
                ("exp" | "nbf" | "iat", Some(at_s)) => in_words(at_s, now_ms),
                _ => String::new(),
            };
            // As JSON: what somebody has put into it does not reach the terminal as it is.
            let _ = writeln!(text, "  {}: {value}{when}", name.escape_default());
        }
    }
    text
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "for people, who do not count milliseconds"
)]
fn in_words(at_s: f64, now_ms: u64) -> String {
    let away = (at_s - now_ms as f64 / 1000.0) as i64;
    let (amount, unit) = match away.unsigned_abs() {
        seconds @ 0..=119 => (seconds, "s"),
        seconds @ 120..=7_199 => (seconds / 60, "min"),
        seconds @ 7_200..=172_799 => (seconds / 3_600, "h"),
        seconds => (seconds / 86_400, "days"),
    };
    if away < 0 {
        format!(" ({amount} {unit} ago)")
    } else {
        format!(" (in {amount} {unit})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_words() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":1000,"iat":9000,"sub":"a\u0007"}"#);
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let told = explain(&format!("{header}.{claims}."), 5_000_000);
        assert!(told.contains("exp: 1000 (66 min ago)"), "{told}");
        assert!(told.contains("iat: 9000 (in 66 min)"), "{told}");
        assert!(told.contains(r#"sub: "a\u0007""#), "{told}");
        assert!(explain("x", 0).starts_with("header: cannot be read"));
    }
}
