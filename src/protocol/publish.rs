//! What a publisher asks for, and what it is answered.

use std::collections::HashMap;

use bytes::Bytes;

use super::envelope::{Body, Envelope};
use super::json::{self, Object};
use super::{Code, Limits, Problem};
use crate::delivery::{ChannelName, Published};

/// One publication that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it goes.
    pub channel: ChannelName,
    /// What it says, as compact JSON.
    pub data: Bytes,
    /// The publisher's word for what it is.
    pub event: Option<Box<str>>,
    /// Makes a repetition harmless.
    pub key: Option<ItemKey>,
}

/// The word under which an item may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemKey {
    /// As the publisher gave it.
    pub word: Box<str>,
    /// Which of the items for its channel this is, if one word covers several: 0 for the first.
    pub nth: usize,
}

impl ItemKey {
    fn new(word: &str, nth: usize) -> Self {
        Self { word: word.into(), nth }
    }
}

/// An item, or the channel's name as it was given and what is wrong with the item.
pub type ItemResult = Result<Item, (String, Problem)>;

/// What one request asks for.
#[derive(Debug)]
pub enum PublishRequest {
    /// One publication; its refusal is the request's.
    One(Item),
    /// Several, each of which is accepted or refused by itself.
    Many(Vec<ItemResult>),
}

impl PublishRequest {
    fn take_keys(&mut self) {
        if let Self::Many(items) = self {
            items.iter_mut().flatten().for_each(|item| item.key = None);
        }
    }
}

/// Reads a request's JSON: one publication, one for several channels, or a batch.
///
/// `header_key` covers the whole request; an item's own key wins over it.
///
/// # Errors
/// What is wrong with the request as a whole.
pub fn read_publish(body: &[u8], header_key: Option<&str>, limits: &Limits) -> Result<PublishRequest, Problem> {
    let mut request = match Body::read(body, limits.publish_items_max)? {
        Body::One(envelope) => read_one(&envelope, limits)?,
        Body::Many(envelopes) => {
            check_count(envelopes.count, limits)?;
            PublishRequest::Many(
                envelopes
                    .kept
                    .iter()
                    .map(|envelope| read_batch_item(envelope, limits))
                    .collect(),
            )
        }
    };
    if let Some(key) = header_key {
        check_key(key)?;
        cover(&mut request, key);
    }
    Ok(request)
}

fn read_one(envelope: &Envelope<'_>, limits: &Limits) -> Result<PublishRequest, Problem> {
    let channels = envelope.texts("channels", limits.publish_items_max)?;
    match (envelope.text("channel")?, channels) {
        (Some(channel), None) => read_item(envelope, &channel, limits).map(PublishRequest::One),
        (None, Some(channels)) => {
            check_count(channels.count, limits)?;
            let data = envelope.any("data").map(json::compact);
            check_bytes(data.as_ref().map_or(0, Bytes::len), channels.count, limits)?;
            let read = |channel: String| {
                let item = read_item_with(data.clone(), envelope, &channel, limits);
                item.map_err(|problem| (cut(channel), problem))
            };
            let mut request = PublishRequest::Many(channels.kept.into_iter().map(read).collect());
            if let Some(key) = envelope.text("idempotency_key")? {
                // It is the request's, as one in the header would be.
                request.take_keys();
                cover(&mut request, &key);
            }
            Ok(request)
        }
        (Some(_), Some(_)) => Err(Problem::new(
            Code::BadRequest,
            "`channel` and `channels` are both there; give one of them",
        )),
        (None, None) => Err(Problem::new(
            Code::BadRequest,
            "`channel` is missing; it must be a string, or `channels` an array of strings",
        )),
    }
}

fn read_batch_item(envelope: &Envelope<'_>, limits: &Limits) -> ItemResult {
    let channel = envelope
        .required_text("channel")
        .map_err(|problem| (String::new(), problem))?;
    read_item(envelope, &channel, limits).map_err(|problem| (cut(channel), problem))
}

/// What was given as a channel's name, as far as an answer repeats it: any name that is one is repeated as a whole.
fn cut(mut channel: String) -> String {
    if channel.len() > ChannelName::BYTES_MAX {
        let end = (0..=ChannelName::BYTES_MAX)
            .rev()
            .find(|end| channel.is_char_boundary(*end));
        channel.truncate(end.unwrap_or_default());
        channel.push('…');
    }
    channel
}

/// Reads `data`, `event` and `idempotency_key` for one channel.
pub(super) fn read_item(envelope: &Envelope<'_>, channel: &str, limits: &Limits) -> Result<Item, Problem> {
    read_item_with(envelope.any("data").map(json::compact), envelope, channel, limits)
}

/// The same, with `data` that several items share.
fn read_item_with(
    data: Option<Bytes>,
    envelope: &Envelope<'_>,
    channel: &str,
    limits: &Limits,
) -> Result<Item, Problem> {
    let channel = ChannelName::parse(channel)?;
    let data = data.ok_or_else(|| Problem::new(Code::BadRequest, "`data` is missing; it may be any JSON value"))?;
    let item = Item {
        channel,
        data,
        event: None,
        key: None,
    };
    item.with_words(envelope.text("event")?, envelope.text("idempotency_key")?)?
        .within(limits)
}

/// A body that is not an envelope, by its media type.
#[derive(Debug, Clone, Copy)]
pub enum RawBody<'a> {
    /// Some kind of JSON.
    Json(&'a [u8]),
    /// Anything else, which must be text.
    Text(&'a [u8]),
}

/// Reads a body that is not an envelope: it is the `data`. JSON is taken as it is, text becomes a JSON string.
///
/// # Errors
/// `unsupported_media_type` for what is neither, `bad_json`, `bad_channel`, `too_large`.
pub fn read_raw(
    body: RawBody<'_>,
    channel: &str,
    words: (Option<String>, Option<String>),
    limits: &Limits,
) -> Result<PublishRequest, Problem> {
    let channel = ChannelName::parse(channel)?;
    let data = match body {
        RawBody::Json(body) => {
            let value = serde_json::from_str(json::check(body)?);
            let bad = |error| Problem::new(Code::BadJson, format!("the JSON cannot be read: {error}"));
            json::compact(value.map_err(bad)?)
        }
        RawBody::Text(body) => {
            let detail = "the body is neither JSON nor UTF-8 text; send one of these";
            let text = str::from_utf8(body).map_err(|_| Problem::new(Code::UnsupportedMediaType, detail))?;
            json::quoted(text).into()
        }
    };
    let item = Item {
        channel,
        data,
        event: None,
        key: None,
    };
    item.with_words(words.0, words.1)?
        .within(limits)
        .map(PublishRequest::One)
}

impl Item {
    fn with_words(self, event: Option<String>, key: Option<String>) -> Result<Self, Problem> {
        if let Some(event) = &event
            && event.len() > Limits::EVENT_BYTES_MAX
        {
            let detail = format!(
                "`event` has {} bytes; at most {} are allowed",
                event.len(),
                Limits::EVENT_BYTES_MAX
            );
            return Err(Problem::new(Code::BadRequest, detail));
        }
        key.as_deref().map_or(Ok(()), check_key)?;
        Ok(Self {
            event: event.map(Into::into),
            key: key.map(|key| ItemKey::new(&key, 0)),
            ..self
        })
    }

    fn within(self, limits: &Limits) -> Result<Self, Problem> {
        let (bytes, bytes_max) = (self.data.len(), limits.publication_bytes_max);
        if bytes <= bytes_max {
            return Ok(self);
        }
        Err(Problem::new(
            Code::TooLarge,
            format!("`data` has {bytes} bytes; at most {bytes_max} are allowed"),
        ))
    }
}

fn check_count(count: usize, limits: &Limits) -> Result<(), Problem> {
    if count <= limits.publish_items_max {
        return Ok(());
    }
    let detail = format!(
        "{count} publications in one request; at most {} are allowed",
        limits.publish_items_max
    );
    Err(Problem::new(Code::TooLarge, detail))
}

/// A small body with many channels must not make much of itself: each channel's log keeps the `data` once more.
fn check_bytes(data_bytes: usize, channels: usize, limits: &Limits) -> Result<(), Problem> {
    let (bytes, bytes_max) = (data_bytes.saturating_mul(channels), limits.publish_bytes_max);
    if bytes <= bytes_max {
        return Ok(());
    }
    let detail =
        format!("`data` for {channels} channels has {bytes} bytes; at most {bytes_max} are allowed in one request");
    Err(Problem::new(Code::TooLarge, detail))
}

fn check_key(key: &str) -> Result<(), Problem> {
    let (bytes, bytes_max) = (key.len(), Limits::KEY_BYTES_MAX);
    if (1..=bytes_max).contains(&bytes) {
        return Ok(());
    }
    Err(Problem::new(
        Code::BadRequest,
        format!("the idempotency key has {bytes} bytes; 1 to {bytes_max} are allowed"),
    ))
}

/// Gives the request's key to every item without one. The second item for the same channel needs another key than
/// the first: it is numbered, by its place among all of the channel, so that a refused item moves no other's key.
fn cover(request: &mut PublishRequest, key: &str) {
    match request {
        PublishRequest::One(item) => {
            item.key.get_or_insert_with(|| ItemKey::new(key, 0));
        }
        PublishRequest::Many(items) => {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for item in items {
                let channel = item
                    .as_ref()
                    .map_or_else(|(channel, _)| channel.as_str(), |item| item.channel.as_str());
                let before = seen.entry(channel.to_owned()).or_default();
                if let Ok(item) = item {
                    item.key.get_or_insert_with(|| ItemKey::new(key, *before));
                }
                *before += 1;
            }
        }
    }
}

/// The key in an `Idempotency-Key` header, quoted (a structured-field string) or bare.
///
/// # Errors
/// `bad_request` for a quote that does not end or an escape that there is not.
pub fn read_header_key(value: &str) -> Result<String, Problem> {
    let value = value.trim();
    let Some(quoted) = value.strip_prefix('"') else {
        return Ok(value.to_owned());
    };
    let bad = || {
        Problem::new(
            Code::BadRequest,
            "`Idempotency-Key` is not a quoted string, like \"o-17\"",
        )
    };
    let inner = quoted.strip_suffix('"').ok_or_else(bad)?;
    let (mut key, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (false, '"') => return Err(bad()),
            (true, c) if c != '"' && c != '\\' => return Err(bad()),
            (_, c) => {
                key.push(c);
                escaped = false;
            }
        }
    }
    if escaped { Err(bad()) } else { Ok(key) }
}

/// The answer for one item, on its own or among several.
pub fn answer_one(channel: &ChannelName, published: &Published) -> String {
    write_published(Object::new(), channel, published).finish()
}

/// What a publisher is told, over HTTP and in the reply to its command. `ack` is there where replicas were asked for.
pub(super) fn write_published(object: Object, channel: &ChannelName, published: &Published) -> Object {
    object
        .text("channel", channel.as_str())
        .text("position", &published.position.to_string())
        .raw("duplicate", if published.duplicate { "true" } else { "false" })
        .optional_text("ack", published.replicated.then_some("replicated"))
}

/// The refusal of one of several items.
pub fn answer_refused(channel: &str, problem: &Problem) -> String {
    Object::new()
        .text("channel", channel)
        .raw("error", &problem.to_json())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<PublishRequest, Problem> {
        read_publish(body.as_bytes(), Some("k"), &Limits::default())
    }

    #[test]
    fn one_many_and_a_batch() {
        assert!(matches!(read(r#"{"channel":"a","data":null}"#), Ok(PublishRequest::One(item)) if item.data == "null"));
        let Ok(PublishRequest::Many(items)) = read(r#"{"channels":["a","$b"],"data":1}"#) else {
            panic!()
        };
        assert_eq!(items[0].as_ref().unwrap().key, Some(ItemKey::new("k", 0)));
        assert_eq!(items[1].as_ref().unwrap_err().0, "$b");
        let body =
            r#"[{"channel":"a","data":1},{"channel":"a","data":2,"idempotency_key":"own"},{"channel":"a","data":3}]"#;
        let Ok(PublishRequest::Many(items)) = read(body) else {
            panic!()
        };
        let keys: Vec<_> = items.into_iter().map(|item| item.unwrap().key.unwrap()).collect();
        assert_eq!(
            keys,
            [ItemKey::new("k", 0), ItemKey::new("own", 0), ItemKey::new("k", 2)]
        );
    }

    #[test]
    fn a_header_key_may_be_quoted() {
        assert_eq!(read_header_key(r#""o-\"17\\""#).unwrap(), r#"o-"17\"#);
        assert_eq!(read_header_key("o-17").unwrap(), "o-17");
        for bad in [r#"""#, r#""a"#, r#""a"b""#, r#""a\b""#, r#""a\""#] {
            assert!(read_header_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_too_much_is_too_large() {
        let limits = Limits {
            publication_bytes_max: 3,
            publish_items_max: 1,
            ..Limits::default()
        };
        for body in [
            r#"{"channel":"a","data":"xx"}"#,
            "[{},{}]",
            r#"{"channels":["a","b"],"data":1}"#,
        ] {
            assert_eq!(
                read_publish(body.as_bytes(), None, &limits).unwrap_err().code,
                Code::TooLarge,
                "{body}"
            );
        }
    }
}
