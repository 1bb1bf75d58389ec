//! A publication as bytes, encoded once: the WebSocket frame, the SSE event and the JSON share one buffer.
//!
//! ```text
//! id: k3x9aQ07LmZ-42⏎data: │ frame header │ {"type":"publication",…} │ ⏎⏎
//! ```

use bytes::{BufMut, BytesMut};

use super::json::{Object, quoted};
use super::websocket::{Opcode, header_len, put_header};
use crate::delivery::{Encoded, Publication};

const DATA: &[u8] = b"data: ";
const END: &[u8] = b"\n\n";

/// The encoded forms of a publication. Every subscriber is given the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Framed<'a>(&'a Encoded);

impl<'a> Framed<'a> {
    /// Encodes the publication, unless somebody has done so before.
    pub fn of(publication: &'a Publication) -> Self {
        Self(publication.encoded(encode))
    }

    /// An unmasked text frame (RFC 6455 §5.2).
    pub fn websocket(self) -> &'a [u8] {
        let [frame, _, end] = self.0.marks;
        &self.0.bytes[frame..end]
    }

    /// The push as JSON.
    pub fn json(self) -> &'a str {
        let [_, json, end] = self.0.marks;
        str::from_utf8(&self.0.bytes[json..end]).unwrap_or_default()
    }

    /// The two parts of an SSE event whose id is the publication's own position.
    pub fn event_stream(self) -> [&'a [u8]; 2] {
        let [frame, json, _] = self.0.marks;
        [&self.0.bytes[..frame], &self.0.bytes[json..]]
    }

    /// The two parts of an SSE event without an id.
    pub fn event_stream_without_id(self) -> [&'a [u8]; 2] {
        [DATA, self.event_stream()[1]]
    }
}

fn encode(publication: &Publication) -> Encoded {
    let position = publication.position.to_string();
    let mut object = Object::new()
        .raw("type", "\"publication\"")
        .raw("channel", &quoted(publication.channel.as_str()))
        .raw("position", &quoted(&position))
        .number("time", publication.time_ms);
    if let Some(event) = &publication.event {
        object = object.text("event", event);
    }
    if let Some(user) = &publication.sender {
        object = object.raw("sender", &Object::new().text("user", user).finish());
    }
    let json = object
        .raw("data", str::from_utf8(&publication.data).unwrap_or("null"))
        .finish();
    let id = format!("id: {position}\n");
    let frame_at = id.len() + DATA.len();
    let json_at = frame_at + header_len(json.len());
    let end_at = json_at + json.len();
    let mut bytes = BytesMut::with_capacity(end_at + END.len());
    bytes.put_slice(id.as_bytes());
    bytes.put_slice(DATA);
    put_header(&mut bytes, Opcode::Text, json.len());
    bytes.put_slice(json.as_bytes());
    bytes.put_slice(END);
    Encoded {
        bytes: bytes.freeze(),
        marks: [frame_at, json_at, end_at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Ack, ChannelName, Draft, Epoch, LogPolicy, Position};

    #[test]
    fn all_forms_carry_the_same_json() {
        let policy = LogPolicy {
            count_max: 1,
            bytes_max: 1,
            age_ms_max: 1,
            position_ttl_ms: 1,
        };
        let channel = ChannelName::parse("chat:42").unwrap();
        let draft = Draft {
            channel,
            data: "{\"a\":1e400}".into(),
            event: Some("li\"ke".into()),
            sender: Some("a\"da".into()),
            key: None,
            policy,
            ack: Ack::Stored,
        };
        let position = Position {
            offset: 42,
            ..Position::origin(Epoch::from_bits(0))
        };
        let publication = Publication::new(&draft, position, 7);
        let json = r#"{"type":"publication","channel":"chat:42","position":"00000000000-42","time":7,"event":"li\"ke","sender":{"user":"a\"da"},"data":{"a":1e400}}"#;
        let framed = Framed::of(&publication);
        assert_eq!(framed.json(), json);
        assert_eq!(
            framed.websocket()[..4],
            [0x81, 126, 0, u8::try_from(json.len()).unwrap()]
        );
        assert_eq!(&framed.websocket()[4..], json.as_bytes());
        assert_eq!(
            framed.event_stream().concat(),
            format!("id: 00000000000-42\ndata: {json}\n\n").as_bytes()
        );
        assert_eq!(
            framed.event_stream_without_id().concat(),
            format!("data: {json}\n\n").as_bytes()
        );
    }
}
