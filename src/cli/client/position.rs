//! A position: `<epoch>-<offset>`, or `<epoch>-<offset>-<tag>`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

const WORD_BYTES_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Position {
    epoch: String,
    offset: u64,
    /// As the server wrote it, with its tag if it has one: what it gets back.
    text: String,
}

/// How one position stands to the one before it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The offset after it.
    Next,
    /// Not after it.
    Repeated,
    /// After it, but others stand between.
    Ahead,
    /// Of another epoch.
    Elsewhere,
}

impl Position {
    pub(crate) fn order_after(&self, previous: &Self) -> Order {
        if self.epoch != previous.epoch {
            Order::Elsewhere
        } else if self.offset <= previous.offset {
            Order::Repeated
        } else if self.offset - previous.offset == 1 {
            Order::Next
        } else {
            Order::Ahead
        }
    }

    /// Whether both stand at one place of one log; a tag does not move a position.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.offset == other.offset
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let (epoch, offset) = match parts[..] {
            [epoch, offset] => (epoch, offset),
            [epoch, offset, tag] if is_word(tag) => (epoch, offset),
            _ => return Err(format!("{text:?} is not a position")),
        };
        let offset = offset_from(offset).filter(|_| is_word(epoch));
        let offset = offset.ok_or_else(|| format!("{text:?} is not a position"))?;
        Ok(Self {
            epoch: epoch.to_owned(),
            offset,
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for Position {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_word(text: &str) -> bool {
    (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Decimal digits only, without leading zeros.
fn offset_from(text: &str) -> Option<u64> {
    let offset: u64 = text.parse().ok()?;
    (offset.to_string() == text).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn both_forms_are_read_and_given_back_as_they_were() {
        for text in ["k3x9aQ07LmZ-42", "k3x9aQ07LmZ-42-9f", "e-0", "e-18446744073709551615"] {
            assert_eq!(position(text).to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_none() {
        let seventeen = "a".repeat(17);
        for text in [
            "", "now", "e", "e-", "-1", "e-01", "e-+1", "e--1", "e-1-", "e-1-t-u", "e_-1", "e-1-ü",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        assert!(format!("{seventeen}-1").parse::<Position>().is_err());
        assert!("e-18446744073709551616".parse::<Position>().is_err());
    }

    #[test]
    fn offsets_are_compared_within_an_epoch_only() {
        let at = position("e-41");
        assert_eq!(position("e-42-tag").order_after(&at), Order::Next);
        assert_eq!(position("e-41").order_after(&at), Order::Repeated);
        assert_eq!(position("e-7").order_after(&at), Order::Repeated);
        assert_eq!(position("e-43").order_after(&at), Order::Ahead);
        assert_eq!(position("f-42").order_after(&at), Order::Elsewhere);
        assert_eq!(
            position("e-1").order_after(&position("e-18446744073709551615")),
            Order::Repeated
        );
    }
}
