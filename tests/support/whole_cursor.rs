//! A reader of an event stream that keeps the cursor itself and expects it, whole, where the protocol puts it.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::event_source::EventSource;
use super::link::Receive;
use super::node::Node;
use super::place::Place;
use super::push::Push;
use super::written::Written;

/// An open stream, and the position up to which it has told each channel.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: EventSource,
    names: Vec<String>,
    cursor: Vec<String>,
}

impl Reader {
    pub(crate) async fn open(node: &Node, names: &[String], since: &str, rng: &mut Rng) -> Self {
        let mut query: Vec<_> = names.iter().map(|name| ("channel", name.as_str())).collect();
        query.push(("since", since));
        let mut stream = EventSource::open(node.address, Receive::Usual, &query).await.unwrap();
        // Cut anywhere: within a chunk's size, a line end, a character.
        stream.link().sip(rng.usize(1..2_000));
        let mut reader = Self {
            stream,
            names: names.to_vec(),
            cursor: Vec::new(),
        };
        reader.is_welcomed().await;
        reader
    }

    async fn is_welcomed(&mut self) {
        let welcome = self.stream.event().await.unwrap();
        assert_eq!((welcome.kind.as_str(), welcome.id), ("welcome", None));
        for at in 0..self.names.len() {
            let event = self.stream.event().await.unwrap();
            let push = Push::parse(event.data).unwrap();
            assert_eq!(
                (event.kind.as_str(), push.channel()),
                ("subscribed", self.names[at].as_str())
            );
            self.cursor.push(push.text_of("position").to_owned());
            let is_last = at + 1 == self.names.len();
            assert_eq!(event.id, is_last.then(|| self.cursor.join(".")));
        }
    }

    /// The next publication of any of the channels is what was published there, at the next place, with the cursor.
    pub(crate) async fn receives_one_of(&mut self, published: &BTreeMap<String, Written>) {
        let event = self.stream.event().await.unwrap();
        let push = Push::parse(event.data).unwrap();
        let position = push.text_of("position");
        let item = &published[position];
        let at = self.names.iter().position(|name| *name == item.channel).unwrap();
        let (before, after) = (Place::parse(&self.cursor[at]).unwrap(), Place::parse(position).unwrap());
        assert_eq!(after, before.at(before.offset + 1));
        position.clone_into(&mut self.cursor[at]);
        assert_eq!(
            (event.kind.as_str(), push.kind(), push.channel()),
            ("message", "publication", item.channel.as_str())
        );
        assert_eq!(push.value["event"].as_str(), item.event.as_deref());
        assert_eq!(
            push.data.as_ref(),
            Some(&item.data),
            "as it was written, white space between tokens excepted"
        );
        assert!(!push.text.contains("idempotency"), "a key is never shown");
        assert_eq!(event.id, Some(self.cursor.join(".")));
    }
}
