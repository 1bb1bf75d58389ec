//! What is written in Redis, read back: a channel's top, and an entry of its log, which is also what nodes are told.
//!
//! `publish.lua` writes both and says what they look like.

use bytes::Bytes;
use redis::Value;

use crate::delivery::{ChannelName, Position, Publication, Tag};

/// What an answer of Redis is, if it is a string.
pub(super) fn bytes_of(answer: Value) -> Option<Vec<u8>> {
    if let Value::BulkString(bytes) = answer {
        Some(bytes)
    } else {
        None
    }
}

/// Where a log ends, and how long that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Top {
    pub(super) position: Position,
    /// For how long the top is kept after it was last written or renewed, in milliseconds.
    pub(super) ttl_ms: u64,
}

impl Top {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut words = str::from_utf8(bytes).ok()?.split(' ');
        Some(Self {
            position: words.next()?.parse().ok()?,
            ttl_ms: words.nth(5)?.parse().ok()?,
        })
    }
}

/// One publication, and the position that it follows.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) after: Position,
    pub(super) publication: Publication,
}

impl Entry {
    /// Reads an entry; its data stays where it is.
    pub(super) fn read(channel: &ChannelName, bytes: Vec<u8>) -> Option<Self> {
        let bytes = Bytes::from(bytes);
        let line_len = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = Line::read(&bytes[..line_len])?;
        let (event, sender_from) = word(&bytes, line_len + 1, line.event_len)?;
        let (sender, data_from) = word(&bytes, sender_from, line.sender_len)?;
        let data = bytes.slice(data_from..);
        let publication = Publication::kept(channel.clone(), line.position, line.time_ms, event, data).sent_by(sender);
        Some(Self {
            after: line.after,
            publication,
        })
    }

    /// The position that an entry follows, from its first line alone.
    pub(super) fn read_after(line: &[u8]) -> Option<Position> {
        Line::read(line).map(|line| line.after)
    }
}

/// The word of so many bytes that begins there, if there is one, and where it ends.
fn word(bytes: &[u8], from: usize, len: Option<usize>) -> Option<(Option<Box<str>>, usize)> {
    let Some(len) = len else { return Some((None, from)) };
    let end = from.checked_add(len)?;
    let word = str::from_utf8(bytes.get(from..end)?).ok()?;
    Some((Some(word.into()), end))
}

/// An entry's first line.
struct Line {
    position: Position,
    after: Position,
    time_ms: u64,
    event_len: Option<usize>,
    sender_len: Option<usize>,
}

impl Line {
    fn read(line: &[u8]) -> Option<Self> {
        let mut words = str::from_utf8(line).ok()?.split(' ');
        let position: Position = words.next()?.parse().ok()?;
        let tag = match words.next()? {
            "-" => None,
            tag => Some(Tag::parse(tag)?),
        };
        let time_ms = words.next()?.parse().ok()?;
        let len = |word: &str| match word {
            "-" => Some(None),
            len => Some(Some(len.parse().ok()?)),
        };
        let event_len = len(words.nth(1)?)?;
        let sender_len = len(words.next()?)?;
        let after = Position {
            offset: position.offset.checked_sub(1)?,
            tag,
            ..position
        };
        Some(Self {
            position,
            after,
            time_ms,
            event_len,
            sender_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Entry> {
        Entry::read(&ChannelName::parse("c").unwrap(), text.as_bytes().to_vec())
    }

    #[test]
    fn an_entry_is_read_with_whatever_its_event_and_data_are() {
        let entry = read("e-7-t7 t6 123 99 3 2\na\nbda{\"x\":\n1}").unwrap();
        assert_eq!(entry.after.to_string(), "e-6-t6");
        let publication = entry.publication;
        assert_eq!(
            (publication.position.to_string(), publication.time_ms),
            ("e-7-t7".to_owned(), 123)
        );
        assert_eq!(
            (publication.event.as_deref(), &publication.data[..]),
            (Some("a\nb"), &b"{\"x\":\n1}"[..])
        );
        assert_eq!(publication.sender.as_deref(), Some("da"));
        let first = read("e-1-t - 1 0 - -\n1").unwrap();
        assert_eq!(
            (first.after.to_string(), first.publication.event),
            ("e-0".to_owned(), None)
        );
    }

    #[test]
    fn what_is_no_entry_is_not_taken_for_one() {
        for bad in [
            "",
            "\n",
            "e-1-t - 1 0 - -",
            "e-0 - 1 0 - -\n1",
            "e-1-t - 1 0 9 -\n1",
            "e-1-t - 1 0 - 9\n1",
            "e-1-t - 1 0 -\n1",
            "e-1-t - x 0 - -\n1",
            "e - 1 0 - -\n1",
        ] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_top_tells_position_and_ttl() {
        let top = Top::read(b"e-7-t 5 100 0 5 60000 3660000").unwrap();
        assert_eq!((top.position.to_string(), top.ttl_ms), ("e-7-t".to_owned(), 3_660_000));
        assert_eq!(Top::read(b"e-7-t 5"), None);
    }
}
