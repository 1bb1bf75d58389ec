//! The event stream format: bytes in, events out (WHATWG HTML, §9.2.6).

use std::mem;
use std::time::Duration;

/// How much of one event, or of one line, is kept in memory.
pub(crate) const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Event(Event),
    /// The reconnection time that the server asks for.
    Retry(Duration),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message`, unless the event has a name of its own.
    pub(crate) name: String,
    pub(crate) data: String,
    /// The newest `id` of the stream: this event's or an earlier one's; empty before the first.
    pub(crate) last_event_id: String,
}

/// An event or a line of more than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventTooBig;

/// Takes a stream apart, however it is cut into chunks.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The last line ended in a CR, so that an LF right after it belongs to it.
    after_carriage_return: bool,
    /// The first line, before which a byte order mark may stand, is done.
    past_first_line: bool,
    name: String,
    /// The `data` lines of the event that has not ended yet, each with an LF after it.
    data: String,
    last_event_id: String,
}

impl Parser {
    /// What the chunk completes. What it leaves incomplete waits for the next one, and is never given if none comes.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<Vec<Item>, EventTooBig> {
        let mut items = Vec::new();
        let mut rest = chunk;
        while let Some(first) = rest.first() {
            if mem::take(&mut self.after_carriage_return) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                self.extend_line(rest)?;
                break;
            };
            self.extend_line(&rest[..end])?;
            items.extend(self.end_line());
            self.after_carriage_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
        }
        Ok(items)
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), EventTooBig> {
        self.line.extend_from_slice(bytes);
        if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
            Err(EventTooBig)
        } else {
            Ok(())
        }
    }

    fn end_line(&mut self) -> Option<Item> {
        let bytes = mem::take(&mut self.line);
        let is_first = !mem::replace(&mut self.past_first_line, true);
        let bytes = if is_first {
            bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes)
        } else {
            &bytes
        };
        let line = String::from_utf8_lossy(bytes);
        if line.is_empty() {
            return self.end_event().map(Item::Event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        self.take_field(field, value.strip_prefix(' ').unwrap_or(value))
    }

    /// A comment is a field without a name, and ignored like any other that is unknown.
    fn take_field(&mut self, field: &str, value: &str) -> Option<Item> {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.last_event_id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                return value.parse().ok().map(|ms| Item::Retry(Duration::from_millis(ms)));
            }
            _ => {}
        }
        None
    }

    /// An event without a `data` line is none, and its name is forgotten.
    fn end_event(&mut self) -> Option<Event> {
        let name = mem::take(&mut self.name);
        let mut data = mem::take(&mut self.data);
        data.pop()?;
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Event {
            name,
            data,
            last_event_id: self.last_event_id.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the stream whole, cut at every byte, and cut in two at every place: the cuts must not matter.
    fn parse(stream: &[u8]) -> Vec<Item> {
        let feed_all = |chunks: &mut dyn Iterator<Item = &[u8]>| {
            let mut parser = Parser::default();
            chunks.flat_map(|chunk| parser.feed(chunk).unwrap()).collect::<Vec<_>>()
        };
        let whole = feed_all(&mut [stream].into_iter());
        assert_eq!(feed_all(&mut stream.chunks(1)), whole, "byte by byte");
        for cut in 0..stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(feed_all(&mut [head, b"", tail].into_iter()), whole, "cut at {cut}");
        }
        whole
    }

    fn event(name: &str, data: &str, last_event_id: &str) -> Item {
        let [name, data, last_event_id] = [name, data, last_event_id].map(str::to_owned);
        Item::Event(Event {
            name,
            data,
            last_event_id,
        })
    }

    fn message(data: &str) -> Item {
        event("message", data, "")
    }

    #[test]
    fn every_line_end_ends_a_line() {
        let expected = [message("a\nb"), message("c")];
        assert_eq!(parse(b"data: a\ndata: b\n\ndata: c\n\n"), expected);
        assert_eq!(parse(b"data: a\rdata: b\r\rdata: c\r\r"), expected);
        assert_eq!(parse(b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n"), expected);
        assert_eq!(parse(b"data: a\rdata: b\n\r\ndata: c\r\n\n"), expected);
    }

    #[test]
    fn a_line_feed_after_a_carriage_return_ends_nothing_more() {
        assert_eq!(parse(b"data: a\r\ndata: b\r\n\n"), [message("a\nb")]);
        assert_eq!(parse(b"data: a\n\rdata: b\n\n"), [message("a"), message("b")]);
    }

    #[test]
    fn one_byte_order_mark_at_the_start_is_ignored() {
        assert_eq!(parse(b"\xEF\xBB\xBFdata: a\n\n"), [message("a")]);
        assert_eq!(parse(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n"), []);
        assert_eq!(parse(b"data: a\n\n\xEF\xBB\xBFdata: b\n\n"), [message("a")]);
    }

    #[test]
    fn an_id_stays_until_another_comes_and_is_ignored_with_a_nul() {
        assert_eq!(
            parse(b"id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n"),
            [
                event("message", "a", "1"),
                event("message", "b", "1"),
                event("message", "c", "1"),
                message("d")
            ]
        );
    }

    #[test]
    fn an_id_without_data_counts_for_the_next_event() {
        assert_eq!(parse(b"id: 1\n\ndata: a\n\n"), [event("message", "a", "1")]);
    }

    #[test]
    fn retry_is_digits_only() {
        let retry = |ms| Item::Retry(Duration::from_millis(ms));
        assert_eq!(parse(b"retry: 1732\nretry:0\n"), [retry(1732), retry(0)]);
        let not_digits =
            b"retry: 1.5\nretry: -1\nretry: +1\nretry:  1\nretry: 1s\nretry\nretry: 99999999999999999999\n";
        assert_eq!(parse(not_digits), []);
    }

    #[test]
    fn an_event_that_is_cut_before_its_blank_line_is_not_given() {
        assert_eq!(parse(b"data: a\n\ndata: b\n"), [message("a")]);
        assert_eq!(parse(b"data: a\n\ndata: b"), [message("a")]);
        assert_eq!(parse(b"data: a\r\n"), []);
    }

    #[test]
    fn a_field_without_a_colon_has_an_empty_value() {
        assert_eq!(parse(b"data\n\n"), [message("")]);
        assert_eq!(parse(b"data\ndata\n\n"), [message("\n")]);
    }

    #[test]
    fn one_leading_space_goes() {
        assert_eq!(parse(b"data:  a\ndata:b\ndata:\tc: d\n\n"), [message(" a\nb\n\tc: d")]);
    }

    #[test]
    fn a_name_counts_for_one_event_with_data() {
        assert_eq!(
            parse(b"event: gap\ndata: a\n\ndata: b\n\nevent: lost\n\ndata: c\n\nevent: x\nevent:\ndata: d\n\n"),
            [event("gap", "a", ""), message("b"), message("c"), message("d")]
        );
    }

    #[test]
    fn comments_and_unknown_fields_are_ignored() {
        assert_eq!(
            parse(b": data: x\n:\nDATA: x\n data: x\nfoo: x\ndata: a\n\n"),
            [message("a")]
        );
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        assert_eq!(parse("data: \u{e9}\n\n".as_bytes()), [message("\u{e9}")]);
        assert_eq!(parse(b"data: \xFF\n\n"), [message("\u{fffd}")]);
    }

    #[test]
    fn an_event_has_a_bound_in_one_line_or_in_many() {
        let half = [b"data: ".as_slice(), &vec![b'a'; EVENT_BYTES_MAX / 2], b"\n"].concat();
        let mut parser = Parser::default();
        assert_eq!(parser.feed(&half), Ok(vec![]));
        assert_eq!(parser.feed(&half), Err(EventTooBig));

        let mut parser = Parser::default();
        assert_eq!(parser.feed(&vec![b':'; EVENT_BYTES_MAX]), Ok(vec![]));
        assert_eq!(parser.feed(b":"), Err(EventTooBig));
    }
}
