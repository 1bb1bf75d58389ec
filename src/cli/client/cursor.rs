//! Where we stand on every channel: what to ask for, and what to make of the pushes that come.

use std::fmt;

use form_urlencoded::Serializer;

use super::failure::Failure;
use super::place::Place;
use super::position::Position;
use super::push::{Body, Push, Unsubscribed};

/// One place per channel: those that are asked for, in this order, then those that the server subscribes us to besides.
///
/// The latter are asked for by name as soon as they are known, so that the order is ours.
#[derive(Debug)]
pub(crate) struct Cursor {
    places: Vec<Place>,
}

impl Cursor {
    /// A channel that is named twice counts once; elements that `since` lacks are `now`, and what it has beyond the
    /// channels is for those that the server adds, in its order.
    pub(crate) fn new(channels: Vec<String>, since: Option<&str>) -> Self {
        let mut places: Vec<Place> = Vec::with_capacity(channels.len());
        for channel in channels {
            if places.iter().all(|place| place.channel.as_ref() != Some(&channel)) {
                places.push(Place::asked_for(channel));
            }
        }
        let mut elements = since.into_iter().flat_map(|cursor| cursor.split('.'));
        for (place, element) in places.iter_mut().zip(&mut elements) {
            place.element = element.into();
        }
        places.extend(elements.map(Place::granted_at));
        Self { places }
    }

    /// The query that opens a stream.
    pub(crate) fn query_for_stream(&mut self) -> String {
        self.query(Place::ask_stream)
    }

    /// The query for one poll.
    pub(crate) fn query_for_poll(&mut self) -> String {
        self.query(Place::ask_poll)
    }

    fn query(&mut self, ask: impl Fn(&mut Place)) -> String {
        self.places.retain(|place| !place.is_ended());
        // The server puts those that we name first.
        self.places.sort_by_key(|place| place.channel.is_none());
        let mut query = Serializer::new(String::new());
        for place in &mut self.places {
            ask(place);
            if let Some(channel) = &place.channel {
                query.append_pair("channel", channel);
            }
        }
        query.append_pair("since", &self.to_string());
        query.finish()
    }

    /// Moves as the push says, after checking that it may say so.
    pub(crate) fn follow(&mut self, push: &Push) -> Result<(), Failure> {
        let body = &push.body;
        match body {
            Body::Subscribed(subscribed) => {
                if self.index_of(&subscribed.channel, body).is_none() {
                    self.places.push(Place::granted(subscribed.channel.clone()));
                }
                self.place(&subscribed.channel, body)?.begin(subscribed)
            }
            Body::Publication(publication) => self.place(&publication.channel, body)?.advance(publication),
            Body::Gap(gap) => self.place(&gap.channel, body)?.skip(gap),
            Body::Unsubscribed(unsubscribed) => {
                self.end(unsubscribed, body);
                Ok(())
            }
            Body::Welcome(_) | Body::Closing(_) | Body::Other => Ok(()),
        }
    }

    /// One that the server would have subscribed us to may be refused, too.
    fn end(&mut self, unsubscribed: &Unsubscribed, body: &Body) {
        if let Some(index) = self.index_of(&unsubscribed.channel, body) {
            self.places[index].end(unsubscribed);
        } else if self.places.iter().all(|place| place.channel.is_some()) {
            let mut place = Place::granted(unsubscribed.channel.clone());
            place.end(unsubscribed);
            self.places.push(place);
        }
        // Else it is one of those for which we have an element, and nothing says which: the others will be told apart.
    }

    /// Holds the server's account of where we stand against ours. It may be ahead of us by channels that are refused,
    /// which have no position.
    pub(crate) fn reconcile(&mut self, cursor: &str) -> Result<(), Failure> {
        let elements: Vec<&str> = cursor.split('.').collect();
        let (known, further) = elements.split_at(elements.len().min(self.places.len()));
        if known.len() < self.places.len() || further.iter().any(|element| element.parse::<Position>().is_ok()) {
            let what = format!(
                "the server's cursor {cursor} is not one for {} channel(s)",
                self.places.len()
            );
            return Err(Failure::Violation(what));
        }
        self.places
            .iter_mut()
            .zip(known)
            .try_for_each(|(place, element)| place.reconcile(element))
    }

    /// Whether every channel that was asked for was refused for good.
    pub(crate) fn is_ended(&self) -> bool {
        let mut places = self.places.iter();
        !places.any(|place| place.is_asked_for() && !place.is_ended())
    }

    /// Where the channel has its place, or takes it with this push.
    fn index_of(&self, channel: &str, push: &Body) -> Option<usize> {
        let known = self
            .places
            .iter()
            .position(|place| place.channel.as_deref() == Some(channel));
        known.or_else(|| self.places.iter().position(|place| place.awaits(push)))
    }

    fn place(&mut self, channel: &str, push: &Body) -> Result<&mut Place, Failure> {
        let Some(index) = self.index_of(channel, push) else {
            let what = format!("a push for {channel:?}, which we are not subscribed to");
            return Err(Failure::Violation(what));
        };
        let place = &mut self.places[index];
        place.channel.get_or_insert_with(|| channel.to_owned());
        Ok(place)
    }
}

/// The text form: the elements, joined by dots.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.places.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{}", place.element)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(channels: &[&str], since: Option<&str>) -> Cursor {
        let mut cursor = Cursor::new(channels.iter().map(ToString::to_string).collect(), since);
        cursor.query_for_stream();
        cursor
    }

    fn follow(cursor: &mut Cursor, push: &str) -> Result<(), String> {
        cursor
            .follow(&Push::parse(push.to_owned()).unwrap())
            .map_err(|failure| failure.to_string())
    }

    fn subscribed(channel: &str, position: &str, resume: &str) -> String {
        format!(r#"{{"type":"subscribed","channel":"{channel}","position":"{position}","resume":"{resume}"}}"#)
    }

    fn publication(channel: &str, position: &str) -> String {
        format!(r#"{{"type":"publication","channel":"{channel}","position":"{position}","time":1,"data":0}}"#)
    }

    fn gap(channel: &str, from: &str, to: &str) -> String {
        format!(r#"{{"type":"gap","channel":"{channel}","from":"{from}","to":"{to}"}}"#)
    }

    fn unsubscribed(channel: &str, retry: &str) -> String {
        format!(r#"{{"type":"unsubscribed","channel":"{channel}","code":"denied","message":"no"{retry}}}"#)
    }

    #[test]
    fn elements_that_are_missing_are_now_and_channels_count_once() {
        assert_eq!(cursor(&["a", "b", "a"], Some("e-1-t")).to_string(), "e-1-t.now");
        assert_eq!(cursor(&["a"], Some("last:3")).to_string(), "last:3");
    }

    #[test]
    fn the_query_is_percent_encoded() {
        let mut cursor = cursor(&["chat:42", "ü&"], Some("e-1"));
        assert_eq!(
            cursor.query_for_stream(),
            "channel=chat%3A42&channel=%C3%BC%26&since=e-1.now"
        );
    }

    #[test]
    fn the_cursor_follows_every_channel_by_itself() {
        let mut cursor = cursor(&["a", "b"], None);
        for push in [
            subscribed("a", "e-7", "fresh"),
            publication("a", "e-8"),
            subscribed("b", "f-0", "fresh"),
            publication("b", "f-1-t"),
            publication("a", "e-9"),
            gap("b", "f-1-t", "g-3"),
            publication("b", "g-4"),
        ] {
            follow(&mut cursor, &push).unwrap();
        }
        assert_eq!(cursor.to_string(), "e-9.g-4");
    }

    #[test]
    fn what_breaks_the_promise_is_named() {
        let repeated = "a: publication e-8 came twice, or out of order (we stand at e-8)";
        let ahead = "a: publication e-10 came without those before it, and no gap said so (we stand at e-8)";
        let elsewhere = "a: publication f-9 came of another epoch, and no gap said so (we stand at e-8)";
        for (position, expected) in [("e-8", repeated), ("e-10", ahead), ("f-9", elsewhere)] {
            let mut cursor = cursor(&["a"], None);
            follow(&mut cursor, &subscribed("a", "e-7", "fresh")).unwrap();
            follow(&mut cursor, &publication("a", "e-8")).unwrap();
            let error = follow(&mut cursor, &publication("a", position)).unwrap_err();
            assert_eq!(error, format!("protocol error: {expected}"));
        }
    }

    #[test]
    fn a_resumed_stream_begins_where_it_was_left() {
        for (position, resume, is_kept) in [
            ("e-7", "complete", true),
            ("e-7", "gap", true),
            ("e-7", "fresh", false),
            ("e-8", "complete", false),
            ("f-7", "gap", false),
        ] {
            let mut cursor = cursor(&["a"], Some("e-7"));
            assert_eq!(
                follow(&mut cursor, &subscribed("a", position, resume)).is_ok(),
                is_kept,
                "{position} {resume}"
            );
        }
        let mut cursor = cursor(&["a"], Some("start"));
        follow(&mut cursor, &subscribed("a", "e-7", "complete")).unwrap_err();
    }

    #[test]
    fn a_gap_that_was_announced_must_come_first() {
        let mut cursor = cursor(&["a"], Some("e-7"));
        follow(&mut cursor, &subscribed("a", "e-7", "gap")).unwrap();
        follow(&mut cursor, &publication("a", "e-8")).unwrap_err();
        follow(&mut cursor, &gap("a", "e-7", "e-9")).unwrap();
        follow(&mut cursor, &publication("a", "e-10")).unwrap();
    }

    #[test]
    fn a_gap_begins_where_we_stand_and_loses_something() {
        let mut cursor = cursor(&["a"], Some("e-7"));
        follow(&mut cursor, &subscribed("a", "e-7", "complete")).unwrap();
        follow(&mut cursor, &gap("a", "e-6", "e-9")).unwrap_err();
        follow(&mut cursor, &gap("a", "e-7", "e-7")).unwrap_err();
        follow(&mut cursor, &gap("a", "e-7", "e-7-t")).unwrap();
    }

    #[test]
    fn a_position_from_the_future_falls_back_by_a_gap() {
        let mut cursor = cursor(&["a"], Some("e-100"));
        follow(&mut cursor, &subscribed("a", "e-100", "gap")).unwrap();
        follow(&mut cursor, &gap("a", "e-100", "e-42")).unwrap();
        follow(&mut cursor, &publication("a", "e-43")).unwrap();
    }

    #[test]
    fn nothing_comes_before_subscribed_on_a_stream() {
        let mut cursor = cursor(&["a"], Some("e-7"));
        follow(&mut cursor, &publication("a", "e-8")).unwrap_err();
        follow(&mut cursor, &gap("a", "e-7", "e-8")).unwrap_err();
        follow(&mut cursor, &publication("b", "e-1")).unwrap_err();
    }

    #[test]
    fn a_poll_by_position_goes_on_without_subscribed() {
        let mut cursor = cursor(&["a", "b"], Some("e-7.start"));
        cursor.query_for_poll();
        follow(&mut cursor, &publication("a", "e-8")).unwrap();
        follow(&mut cursor, &publication("b", "f-1")).unwrap_err();
        follow(&mut cursor, &subscribed("b", "f-0", "fresh")).unwrap();
        follow(&mut cursor, &publication("b", "f-1")).unwrap();
    }

    #[test]
    fn the_servers_cursor_must_be_ours() {
        let mut cursor = cursor(&["a", "b"], Some("e-7"));
        cursor.reconcile("e-7.now").unwrap();
        cursor.reconcile("e-7.f-3").unwrap();
        assert_eq!(cursor.to_string(), "e-7.f-3");
        cursor.reconcile("e-8.f-3").unwrap_err();
        cursor.reconcile("e-7").unwrap_err();
    }

    #[test]
    fn a_channel_that_is_refused_for_good_is_not_asked_for_again() {
        let mut cursor = cursor(&["a", "b"], None);
        follow(&mut cursor, &unsubscribed("a", r#","retry_ms":5"#)).unwrap();
        follow(&mut cursor, &unsubscribed("b", "")).unwrap();
        assert!(!cursor.is_ended());
        assert_eq!(cursor.query_for_stream(), "channel=a&since=now");
        follow(&mut cursor, &unsubscribed("a", "")).unwrap();
        assert!(cursor.is_ended());
    }

    #[test]
    fn a_channel_that_the_server_adds_is_taken_and_asked_for_from_then_on() {
        let mut cursor = cursor(&["b"], None);
        for push in [
            subscribed("b", "e-7", "fresh"),
            subscribed("a", "f-0", "fresh"),
            publication("a", "f-1"),
        ] {
            follow(&mut cursor, &push).unwrap();
        }
        cursor.reconcile("e-7.f-1").unwrap();
        assert_eq!(cursor.query_for_stream(), "channel=b&channel=a&since=e-7.f-1");
        follow(&mut cursor, &subscribed("b", "e-7", "complete")).unwrap();
        follow(&mut cursor, &subscribed("a", "f-1", "complete")).unwrap();
        let unknown = follow(&mut cursor, &publication("c", "g-1")).unwrap_err();
        assert_eq!(
            unknown,
            "protocol error: a push for \"c\", which we are not subscribed to"
        );
        follow(&mut cursor, &subscribed("d", "h-1", "complete")).unwrap_err();
    }

    #[test]
    fn elements_beyond_the_channels_are_for_those_that_the_server_adds() {
        let mut cursor = cursor(&["x"], Some("e-1.f-2.g-3"));
        assert_eq!(cursor.query_for_poll(), "channel=x&since=e-1.f-2.g-3");
        // A poll by positions says no `subscribed`: the epoch tells which is which.
        follow(&mut cursor, &publication("b", "g-4")).unwrap();
        cursor.reconcile("e-1.f-2.g-4").unwrap();
        assert_eq!(cursor.query_for_poll(), "channel=x&channel=b&since=e-1.g-4.f-2");
        follow(&mut cursor, &publication("a", "f-4")).unwrap_err();
        follow(&mut cursor, &gap("a", "f-2", "f-9")).unwrap();
        follow(&mut cursor, &publication("a", "f-10")).unwrap();
        cursor.reconcile("e-1.g-4.f-10").unwrap();
        assert_eq!(
            cursor.query_for_stream(),
            "channel=x&channel=b&channel=a&since=e-1.g-4.f-10"
        );
    }

    #[test]
    fn a_stream_tells_by_position_which_channel_was_added() {
        let mut cursor = cursor(&["x"], Some("e-1.f-2.now"));
        follow(&mut cursor, &subscribed("x", "e-1", "complete")).unwrap();
        follow(&mut cursor, &subscribed("a", "f-2", "gap")).unwrap();
        follow(&mut cursor, &subscribed("b", "g-5", "fresh")).unwrap();
        follow(&mut cursor, &gap("a", "f-2", "f-3")).unwrap();
        follow(&mut cursor, &publication("b", "g-6")).unwrap();
        assert_eq!(cursor.to_string(), "e-1.f-3.g-6");
    }

    #[test]
    fn an_added_channel_that_is_refused_leaves_the_others_in_their_places() {
        let mut cursor = cursor(&["x"], None);
        follow(&mut cursor, &subscribed("x", "e-1", "fresh")).unwrap();
        // The last `subscribed` of an event stream has the cursor already.
        cursor.reconcile("e-1.now").unwrap();
        cursor.reconcile("e-1.f-2").unwrap_err();
        follow(&mut cursor, &unsubscribed("a", "")).unwrap();
        follow(&mut cursor, &publication("x", "e-2")).unwrap();
        cursor.reconcile("e-2.now").unwrap();
        assert!(!cursor.is_ended());
        assert_eq!(cursor.query_for_poll(), "channel=x&since=e-2");
        follow(&mut cursor, &unsubscribed("a", "")).unwrap();
        cursor.reconcile("e-2.now").unwrap();
        follow(&mut cursor, &unsubscribed("x", "")).unwrap();
        assert!(cursor.is_ended());
    }
}
