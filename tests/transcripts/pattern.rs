//! Placeholders: `<name>` stands for what was captured under that name, or captures it; `<*>` is anything.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Failure;

/// What was captured so far, by name.
#[derive(Debug, Default)]
pub(crate) struct Captures(BTreeMap<String, String>);

/// A piece of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Literal(&'a str),
    /// `<*>`
    Any,
    /// `<name>`
    Name(&'a str),
    /// `<n:name>`: a whole number, captured.
    Number(&'a str),
    /// `<n:LOW..HIGH>`, both ends included, or `<n:*>`: a whole number.
    Range(u64, u64),
}

impl Captures {
    /// Lets a name stand for a text.
    pub(crate) fn set(&mut self, name: &str, text: String) {
        self.0.insert(name.to_owned(), text);
    }

    /// A text that is to be sent: every name in it must have been captured.
    pub(crate) fn fill(&self, text: &str) -> Result<String, Failure> {
        let mut filled = String::with_capacity(text.len());
        for part in parts(text) {
            match part {
                Part::Literal(literal) => filled.push_str(literal),
                Part::Name(name) => {
                    let known = self.0.get(name);
                    filled.push_str(known.ok_or_else(|| format!("nothing was captured as <{name}>"))?);
                }
                Part::Any | Part::Number(_) | Part::Range(..) => {
                    return Err("only <name> and <TEXT*COUNT> can be sent".to_owned());
                }
            }
        }
        Ok(filled)
    }

    /// Holds a text against a pattern, and captures.
    pub(crate) fn match_text(&mut self, pattern: &str, text: &str) -> Result<(), Failure> {
        let parts = parts(pattern);
        if let [Part::Name(name)] = parts[..]
            && !self.0.contains_key(name)
        {
            self.0.insert(name.to_owned(), text.to_owned());
            return Ok(());
        }
        let mut found = Vec::new();
        if self.walk(&parts, text, &mut found) {
            self.0.extend(found);
            return Ok(());
        }
        let filled = self.fill(pattern).unwrap_or_else(|_| pattern.to_owned());
        Err(format!("expected {}\n     got {}", shown(&filled), shown(text)))
    }

    fn walk(&self, parts: &[Part<'_>], text: &str, found: &mut Vec<(String, String)>) -> bool {
        let Some((part, rest)) = parts.split_first() else {
            return text.is_empty();
        };
        let literal = |literal: &str, found: &mut Vec<_>| {
            text.strip_prefix(literal)
                .is_some_and(|left| self.walk(rest, left, found))
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        match *part {
            Part::Literal(expected) => literal(expected, found),
            Part::Any if rest.is_empty() => true,
            Part::Any => (0..=text.len())
                .filter(|at| text.is_char_boundary(*at))
                .any(|at| self.walk(rest, &text[at..], found)),
            Part::Range(low, high) => {
                text[..digits]
                    .parse()
                    .is_ok_and(|number| (low..=high).contains(&number))
                    && self.walk(rest, &text[digits..], found)
            }
            Part::Name(name) | Part::Number(name) => {
                let earlier = found.iter().find(|(known, _)| known == name).map(|(_, value)| value);
                if let Some(value) = earlier.or_else(|| self.0.get(name)).cloned() {
                    return literal(&value, found);
                }
                let is_number = matches!(part, Part::Number(_));
                let letters = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
                let len = if is_number { digits } else { letters };
                found.push((name.to_owned(), text[..len].to_owned()));
                len > 0 && self.walk(rest, &text[len..], found)
            }
        }
    }

    /// Holds JSON against a pattern that is JSON with placeholders in its strings, and captures.
    pub(crate) fn match_json(&mut self, pattern: &Value, given: &Value) -> Result<(), Failure> {
        match (pattern, given) {
            (Value::String(pattern), given) => self.match_scalar(pattern, given),
            (Value::Array(patterns), Value::Array(elements)) if patterns.len() == elements.len() => {
                let mut pairs = patterns.iter().zip(elements).enumerate();
                pairs.try_for_each(|(at, (pattern, element))| {
                    self.match_json(pattern, element)
                        .map_err(|failure| format!("[{at}]{failure}"))
                })
            }
            (Value::Object(patterns), Value::Object(fields)) if patterns.keys().eq(fields.keys()) => {
                let mut pairs = patterns.iter().zip(fields.values());
                pairs.try_for_each(|((name, pattern), field)| {
                    self.match_json(pattern, field)
                        .map_err(|failure| format!(".{name}{failure}"))
                })
            }
            (pattern, given) if pattern == given => Ok(()),
            (pattern, given) => Err(format!(
                ": expected {}\n     got {}",
                shown(&pattern.to_string()),
                shown(&given.to_string())
            )),
        }
    }

    /// A string's pattern; one that is nothing but a placeholder may stand for what is no string.
    fn match_scalar(&mut self, pattern: &str, given: &Value) -> Result<(), Failure> {
        let matched = match (&parts(pattern)[..], given) {
            ([Part::Any], _) => Ok(()),
            ([Part::Number(_) | Part::Range(..)], Value::Number(number)) => {
                self.match_text(pattern, &number.to_string())
            }
            (_, Value::String(text)) => self.match_text(pattern, text),
            _ => Err(format!("expected {pattern:?}\n     got {}", shown(&given.to_string()))),
        };
        matched.map_err(|failure| format!(": {failure}"))
    }
}

/// Writes `<TEXT*COUNT>` out as so many times TEXT. The first of all, on every line.
pub(crate) fn repeat(line: &str) -> String {
    let mut written = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        written.push_str(before);
        let repetition = from[1..]
            .split_once('>')
            .and_then(|(inside, after)| Some((inside.rsplit_once('*')?, after)))
            .and_then(|((text, count), after)| Some((text, count.parse::<usize>().ok()?, after)));
        match repetition {
            Some((text, count, after)) if !text.is_empty() && !text.contains('<') => {
                written.push_str(&text.repeat(count));
                rest = after;
            }
            _ => {
                written.push('<');
                rest = &from[1..];
            }
        }
    }
    written + rest
}

/// A pattern's parts; a `<` that begins no placeholder is itself.
fn parts(pattern: &str) -> Vec<Part<'_>> {
    let (mut parts, mut rest, mut literal) = (Vec::new(), pattern, 0);
    while let Some(at) = rest[literal..].find('<').map(|at| at + literal) {
        match rest[at + 1..]
            .split_once('>')
            .and_then(|(inside, _)| placeholder(inside))
        {
            Some((part, len)) => {
                if at > 0 {
                    parts.push(Part::Literal(&rest[..at]));
                }
                parts.push(part);
                rest = &rest[at + len + 2..];
                literal = 0;
            }
            None => literal = at + 1,
        }
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    parts
}

/// What stands between `<` and `>`, if that is a placeholder, and how long it is.
fn placeholder(inside: &str) -> Option<(Part<'_>, usize)> {
    let is_name = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_lowercase())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let number = |text| {
        if text == "*" {
            return Some(Part::Range(0, u64::MAX));
        }
        if let Some((low, high)) = str::split_once(text, "..") {
            return Some(Part::Range(low.parse().ok()?, high.parse().ok()?));
        }
        is_name(text).then_some(Part::Number(text))
    };
    let part = match inside.strip_prefix("n:") {
        Some(text) => number(text)?,
        None if inside == "*" => Part::Any,
        None if is_name(inside) => Part::Name(inside),
        None => return None,
    };
    Some((part, inside.len()))
}

/// A text as far as it fits in a failure.
fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 600;
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(SHOWN_MAX).collect();
    format!("{beginning}… ({} bytes)", text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn repetitions_are_written_out() {
        assert_eq!(repeat("a<x*3>b<[*2><]*2>"), "axxxb[[]]");
        for kept in ["<*>", "<n:*>", "<name>", "a < b > c*2", "<<x*>", "<x*y>"] {
            assert_eq!(repeat(kept), kept);
        }
    }

    #[test]
    fn a_name_captures_and_then_stands_for_what_it_captured() {
        let mut captures = Captures::default();
        captures.match_text("<epoch>-1.<epoch>-2", "k3x-1.k3x-2").unwrap();
        captures.match_text("<whole>", "k3x-1.k3x-2").unwrap();
        assert_eq!(captures.fill("<whole>|<epoch>").unwrap(), "k3x-1.k3x-2|k3x");
        assert!(captures.match_text("<epoch>-1", "other-1").is_err());
        assert!(captures.fill("<unknown>").is_err());
        assert_eq!(captures.fill("a < b, c > d").unwrap(), "a < b, c > d");
    }

    #[test]
    fn what_differs_from_a_pattern_is_refused() {
        for (pattern, text, matches) in [
            ("<*>b<*>", "abc", true),
            ("<*>b", "abc", false),
            ("<n:5..7>", "7", true),
            ("<n:5..7>", "8", false),
            ("<n:*>,", "12,", true),
            ("<n:*>,", ",", false),
            ("<a>-<a>", "x-y", false),
            ("<a>", "", true),
            ("<a>-", "-", false),
        ] {
            let matched = Captures::default().match_text(pattern, text);
            assert_eq!(matched.is_ok(), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn json_matches_as_a_whole_and_says_where_it_does_not() {
        let given = json!({"a":[1, {"b":"x-1"}], "c":null});
        let mut captures = Captures::default();
        for pattern in [
            json!({"a":["<n:one>", {"b":"<e>-1"}], "c":"<*>"}),
            json!({"a":"<*>", "c":null}),
        ] {
            captures.match_json(&pattern, &given).unwrap();
        }
        assert_eq!(captures.fill("<one><e>").unwrap(), "1x");
        for (pattern, place) in [
            (json!({"a":[1, {"b":"<e>-2"}], "c":null}), ".a[1].b:"),
            (json!({"a":[1], "c":null}), ".a:"),
            (json!({"a":"<*>"}), ":"),
            (json!({"a":"<*>", "c":null, "d":"<*>"}), ":"),
            (json!({"a":["<n:2..3>", "<*>"], "c":null}), ".a[0]:"),
            (json!({"a":"<*>", "c":"null"}), ".c:"),
        ] {
            let failure = captures.match_json(&pattern, &given).unwrap_err();
            assert!(failure.starts_with(place), "{failure}");
        }
    }
}
