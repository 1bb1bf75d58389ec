//! An event stream as the standard reads it (WHATWG HTML §9.2.5 and §9.2.6), to the letter.
//!
//! Bytes may come cut anywhere. What a native `EventSource` would not see is not seen here either; what it ignores
//! (comments, events without data) is kept as what it is, so that a test can judge it.

use std::mem;

const BOM: &[u8] = "\u{feff}".as_bytes();

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Event(Event),
    /// The delay before the next connection, in milliseconds.
    Retry(u64),
    Comment(String),
    /// A block without data: nothing is dispatched, whatever else it says.
    Empty {
        id: Option<String>,
    },
}

/// What a listener is called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message`, unless the stream says otherwise.
    pub(crate) kind: String,
    pub(crate) data: String,
    /// The id that this very event carries.
    pub(crate) id: Option<String>,
    /// The id that a reconnecting client would send.
    pub(crate) last_event_id: String,
}

/// The state of a stream that is being read.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    has_begun: bool,
    /// Bytes of a line that has not ended.
    line: Vec<u8>,
    /// The last byte was a CR: an LF right after it belongs to the same line end.
    after_cr: bool,
    kind: String,
    data: String,
    id: Option<String>,
    last_event_id: String,
    items: Vec<Item>,
}

impl EventStream {
    /// Takes the next bytes, and gives what they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // What is between two LFs seldom has a CR, and is taken at once.
            if piece.contains(&b'\r') {
                piece
                    .split_inclusive(|byte| *byte == b'\r')
                    .for_each(|piece| self.take(piece));
            } else {
                self.take(piece);
            }
        }
        mem::take(&mut self.items)
    }

    /// Takes bytes of which at most the last one is a CR or an LF.
    fn take(&mut self, piece: &[u8]) {
        let was_cr = mem::take(&mut self.after_cr);
        match piece.split_last() {
            Some((b'\n', [])) if was_cr => {}
            Some((end @ (b'\r' | b'\n'), line)) => {
                self.after_cr = *end == b'\r';
                self.line.extend_from_slice(line);
                self.end_line();
            }
            _ => self.line.extend_from_slice(piece),
        }
    }

    /// Whether data has begun that is not dispatched yet. If the stream ends now, it never is.
    pub(crate) fn is_within_event(&self) -> bool {
        !self.data.is_empty() || self.line.starts_with(b"data")
    }

    fn end_line(&mut self) {
        let mut bytes = mem::take(&mut self.line);
        if !mem::replace(&mut self.has_begun, true) && bytes.starts_with(BOM) {
            bytes.drain(..BOM.len());
        }
        let line = String::from_utf8_lossy(&bytes);
        match line.split_once(':') {
            None if line.is_empty() => self.dispatch(),
            None => self.field(&line, ""),
            Some(("", comment)) => self.items.push(Item::Comment(comment.to_owned())),
            Some((name, value)) => self.field(name, value.strip_prefix(' ').unwrap_or(value)),
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        match name {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.items.push(Item::Retry(value.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let (kind, mut data, id) = (
            mem::take(&mut self.kind),
            mem::take(&mut self.data),
            mem::take(&mut self.id),
        );
        if let Some(id) = &id {
            self.last_event_id.clone_from(id);
        }
        if data.is_empty() {
            self.items.push(Item::Empty { id });
            return;
        }
        data.pop();
        self.items.push(Item::Event(Event {
            kind: if kind.is_empty() { "message".to_owned() } else { kind },
            data,
            id,
            last_event_id: self.last_event_id.clone(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str, id: Option<&str>, last_event_id: &str) -> Item {
        Item::Event(Event {
            kind: kind.to_owned(),
            data: data.to_owned(),
            id: id.map(str::to_owned),
            last_event_id: last_event_id.to_owned(),
        })
    }

    fn message(data: &str) -> Item {
        event("message", data, None, "")
    }

    const EMPTY: Item = Item::Empty { id: None };

    #[test]
    fn a_stream_is_read_as_the_standard_says() {
        let with_id = |id: &str| Item::Empty {
            id: Some(id.to_owned()),
        };
        let cases: [(&str, Vec<Item>); 16] = [
            ("data: a\ndata: b\n\n", vec![message("a\nb")]),
            ("data:a\n\ndata:  b\n\n", vec![message("a"), message(" b")]),
            ("data\n\ndata\ndata\n\n", vec![message(""), message("\n")]),
            ("\u{feff}data: a\n\n", vec![message("a")]),
            ("\u{feff}\u{feff}data: a\n\n", vec![EMPTY]),
            ("data: \u{feff}\u{2028}\0\n\n", vec![message("\u{feff}\u{2028}\0")]),
            (
                ": c\n:\n\n",
                vec![Item::Comment(" c".into()), Item::Comment(String::new()), EMPTY],
            ),
            (
                "event: e\ndata: a\n\ndata: b\n\n",
                vec![event("e", "a", None, ""), message("b")],
            ),
            ("event: e\n\ndata: b\n\n", vec![EMPTY, message("b")]),
            (
                "id: 1\ndata: a\n\ndata: b\n\n",
                vec![event("message", "a", Some("1"), "1"), event("message", "b", None, "1")],
            ),
            (
                "id: 1\n\ndata: b\n\n",
                vec![with_id("1"), event("message", "b", None, "1")],
            ),
            ("id: 1\0\ndata: a\n\n", vec![message("a")]),
            (
                "id: 1\ndata: a\n\nid\ndata: b\n\n",
                vec![
                    event("message", "a", Some("1"), "1"),
                    event("message", "b", Some(""), ""),
                ],
            ),
            (
                "retry: 10\nretry: 1x\nretry:\nretry: -1\n\n",
                vec![Item::Retry(10), EMPTY],
            ),
            ("Data: a\n data: b\ndata : c\ndatas: d\n\n", vec![EMPTY]),
            ("data: a\n\ndata: cut off\nid: 9\n", vec![message("a")]),
        ];
        for (stream, expected) in cases {
            for line_end in ["\n", "\r", "\r\n"] {
                let stream = stream.replace('\n', line_end);
                for cut in 0..=stream.len() {
                    let (head, tail) = stream.as_bytes().split_at(cut);
                    let mut parser = EventStream::default();
                    let mut items = parser.feed(head);
                    items.extend(parser.feed(tail));
                    assert_eq!(items, expected, "{stream:?} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_stream_tells_whether_an_event_is_cut() {
        for (stream, is_cut) in [
            ("", false),
            ("data: a\n\n", false),
            ("data: a\n", true),
            ("data", true),
            (": c", false),
        ] {
            let mut parser = EventStream::default();
            parser.feed(stream.as_bytes());
            assert_eq!(parser.is_within_event(), is_cut, "{stream:?}");
        }
    }
}
