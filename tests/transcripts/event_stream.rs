//! An event stream, read by the rules of the WHATWG's HTML standard §9.2.6, a block after the other.

use std::collections::VecDeque;

/// What a stream says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A comment of so many bytes.
    Comment(usize),
    Retry(String),
    Event(Event),
}

/// A block with a type, an id or data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) data: Option<String>,
}

/// What came of a stream.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    block: Event,
    items: VecDeque<Item>,
}

impl Events {
    /// The next item that came as a whole.
    pub(crate) fn pop(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    /// Takes a piece of the stream.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.partial.extend_from_slice(piece);
        while let Some(at) = self.partial.iter().position(|byte| *byte == b'\n') {
            let rest = self.partial.split_off(at + 1);
            let mut line = std::mem::replace(&mut self.partial, rest);
            line.truncate(at);
            self.line(&String::from_utf8_lossy(&line));
        }
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            let block = std::mem::take(&mut self.block);
            if block != Event::default() {
                self.items.push_back(Item::Event(block));
            }
            return;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" => self.items.push_back(Item::Comment(line.len())),
            "retry" => self.items.push_back(Item::Retry(value)),
            "event" => self.block.kind = Some(value),
            "id" => self.block.id = Some(value),
            "data" => match &mut self.block.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                none => *none = Some(value),
            },
            _ => {}
        }
    }
}
