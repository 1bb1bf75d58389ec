//! Where a reader stands: offset, epoch, tag, position, cursor, and their one text form.

use std::fmt;
use std::str::FromStr;

/// A publication's place in its channel's log: 1, 2, 3 … without holes. 0 means "nothing yet".
pub type Offset = u64;

/// 1 to 16 letters and digits of ASCII, kept inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Word {
    len: u8,
    bytes: [u8; 16],
}

impl Word {
    fn parse(text: &str) -> Option<Self> {
        let source = text.as_bytes();
        if source.is_empty() || source.len() > 16 || !source.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..source.len()].copy_from_slice(source);
        #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
        Some(Self {
            len: source.len() as u8,
            bytes,
        })
    }

    /// 11 digits to the base of 62 hold any 64 bits; fewer hold what fits.
    fn from_bits(mut bits: u64, len: u8) -> Self {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut bytes = [0; 16];
        for digit in &mut bytes[..usize::from(len)] {
            *digit = DIGITS[(bits % 62) as usize];
            bits /= 62;
        }
        Self { len, bytes }
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// The identity of one life of a channel's log; offsets of different epochs cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(Word);

impl Epoch {
    /// A new epoch from 64 random bits.
    pub fn from_bits(bits: u64) -> Self {
        Self(Word::from_bits(bits, 11))
    }

    /// Its text: letters and digits.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An engine's mark of the very publication that stands at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(Word);

impl Tag {
    /// A new tag from random bits, of which it keeps 47.
    pub fn from_bits(bits: u64) -> Self {
        Self(Word::from_bits(bits, 8))
    }

    /// Reads 1 to 16 letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        Word::parse(text).map(Self)
    }

    /// Its text: letters and digits.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// "I have everything up to and including this": `<epoch>-<offset>`, or `<epoch>-<offset>-<tag>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the log that the offset belongs to.
    pub epoch: Epoch,
    /// The newest publication that is covered; 0 for none.
    pub offset: Offset,
    /// The engine's mark of that publication, from engines that need one.
    pub tag: Option<Tag>,
}

impl Position {
    /// The start of a log: nothing read yet.
    pub fn origin(epoch: Epoch) -> Self {
        Self {
            epoch,
            offset: 0,
            tag: None,
        }
    }

    /// Whether `next` is the publication right after this position.
    pub fn precedes(&self, next: &Self) -> bool {
        self.epoch == next.epoch && self.offset.checked_add(1) == Some(next.offset)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.as_str(), self.offset)?;
        self.tag.map_or(Ok(()), |tag| write!(f, "-{}", tag.as_str()))
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Position {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bad = || BadCursor::Element(text.into());
        let (epoch, rest) = text.split_once('-').ok_or_else(bad)?;
        let (offset, tag) = rest
            .split_once('-')
            .map_or((rest, None), |(offset, tag)| (offset, Some(tag)));
        Ok(Self {
            epoch: Epoch(Word::parse(epoch).ok_or_else(bad)?),
            offset: parse_decimal(offset).ok_or_else(bad)?,
            tag: tag.map(|tag| Tag::parse(tag).ok_or_else(bad)).transpose()?,
        })
    }
}

/// A decimal `u64` without sign and without leading zeros.
fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

/// What a reader lost: everything after `from`, up to and including `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last position that the reader has.
    pub from: Position,
    /// The position right before what it gets next.
    pub to: Position,
}

/// From where a reader wants to read one channel: one element of a [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Only what comes next.
    Now,
    /// All that the window holds.
    Start,
    /// The newest so many that the window holds.
    Last(u64),
    /// What follows this position.
    After(Position),
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Start => f.write_str("start"),
            Self::Last(count) => write!(f, "last:{count}"),
            Self::After(position) => write!(f, "{position}"),
        }
    }
}

impl FromStr for Since {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        match text {
            "now" => Ok(Self::Now),
            "start" => Ok(Self::Start),
            _ => match text.strip_prefix("last:") {
                Some(count) => parse_decimal(count)
                    .map(Self::Last)
                    .ok_or_else(|| BadCursor::Element(text.into())),
                None => text.parse().map(Self::After),
            },
        }
    }
}

/// What may stand in a cursor beyond the channels that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surplus {
    /// Nothing.
    Nothing,
    /// Positions, which are passed over: the server may have added channels when it gave the cursor out, and add fewer
    /// now. Nothing is skipped by that, for a position counts in its own channel alone.
    Positions,
}

/// Where a reader stands on several channels: one [`Since`] per channel, joined by `.`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(Vec<Since>);

impl Cursor {
    /// The longest text of a cursor, in bytes.
    pub const BYTES_MAX: usize = 8 * 1024;

    /// One element for each of `channels`, in their order; elements that the text did not have are `now`.
    ///
    /// # Errors
    /// [`BadCursor::TooMany`] if there are elements beyond the channels that may not be there.
    pub fn elements_for(mut self, channels: usize, surplus: Surplus) -> Result<Vec<Since>, BadCursor> {
        let may_be_there = |element: &Since| surplus == Surplus::Positions && matches!(element, Since::After(_));
        if !self.0.iter().skip(channels).all(may_be_there) {
            return Err(BadCursor::TooMany {
                elements: self.0.len(),
                channels,
            });
        }
        self.0.resize(channels, Since::Now);
        Ok(self.0)
    }
}

impl FromIterator<Since> for Cursor {
    fn from_iter<I: IntoIterator<Item = Since>>(elements: I) -> Self {
        Self(elements.into_iter().collect())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, element)| {
            let separator = if at == 0 { "" } else { "." };
            write!(f, "{separator}{element}")
        })
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    /// The empty text is a cursor without elements.
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        if text.len() > Self::BYTES_MAX {
            return Err(BadCursor::TooLong { bytes: text.len() });
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split('.').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Why a text is not a cursor. A well-formed position that nobody knows is no error: it is a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadCursor {
    /// An element is none of `now`, `start`, `last:N` and a position.
    Element(Box<str>),
    /// There are more elements than channels.
    TooMany {
        /// How many elements the cursor has.
        elements: usize,
        /// How many channels the request names.
        channels: usize,
    },
    /// The text is longer than [`Cursor::BYTES_MAX`].
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(text) => {
                let shown: String = text.chars().take(64).collect();
                write!(
                    f,
                    "the cursor's element {shown:?} is not `now`, `start`, `last:N` or a position `<epoch>-<offset>`"
                )
            }
            Self::TooMany { elements, channels } => write!(
                f,
                "the cursor has {elements} elements for {channels} channels; it has at most one for each channel, \
                 in the order in which the request names them"
            ),
            Self::TooLong { bytes } => {
                write!(
                    f,
                    "the cursor has {bytes} bytes; at most {} are allowed",
                    Cursor::BYTES_MAX
                )
            }
        }
    }
}

impl std::error::Error for BadCursor {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_it_was_written() {
        for text in [
            "",
            "now",
            "start",
            "last:0",
            "last:10",
            "k3x9aQ07LmZ-42",
            "a-0-t1.now.start",
            "a-18446744073709551615",
        ] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for bits in [0, 1, 61, 62, u64::MAX] {
            let position = Position::origin(Epoch::from_bits(bits));
            assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn only_the_syntax_can_be_wrong() {
        for bad in [
            "a",
            "a-",
            "-1",
            "a-01",
            "a-+1",
            "a-1-",
            "a-1-b-c",
            "a-18446744073709551616",
            "Now",
            "last:",
            "last:01",
            ".",
            "now.",
            "a-1..b-2",
            "ä-1",
            "abcdefghijklmnopq-1",
            "a-1-abcdefghijklmnopq",
            " now",
        ] {
            assert!(matches!(bad.parse::<Cursor>(), Err(BadCursor::Element(_))), "{bad}");
        }
        assert!(matches!(
            "x".repeat(8193).parse::<Cursor>(),
            Err(BadCursor::TooLong { bytes: 8193 })
        ));
    }

    #[test]
    fn missing_elements_are_now_and_surplus_ones_are_refused_unless_they_are_positions() {
        let cursor: Cursor = "start".parse().unwrap();
        assert_eq!(
            cursor.clone().elements_for(2, Surplus::Nothing),
            Ok(vec![Since::Start, Since::Now])
        );
        assert_eq!(
            cursor.elements_for(0, Surplus::Positions),
            Err(BadCursor::TooMany {
                elements: 1,
                channels: 0
            })
        );
        let cursor: Cursor = "a-1.b-2.c-3".parse().unwrap();
        assert_eq!(
            cursor.clone().elements_for(1, Surplus::Positions),
            Ok(vec![Since::After("a-1".parse().unwrap())]),
            "of channels that the server does not add any more"
        );
        assert!(cursor.elements_for(1, Surplus::Nothing).is_err());
        let cursor: Cursor = "a-1.b-2.now".parse().unwrap();
        assert!(cursor.elements_for(2, Surplus::Positions).is_err());
    }
}
