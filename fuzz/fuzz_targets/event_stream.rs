//! Whatever a push says, a strict parser (WHATWG HTML §9.2.6) reads one event of it, with the same data, name and id.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throughline::protocol::{Object, event_stream};

/// Data, name and last id of each event that is dispatched.
fn parse(stream: &str) -> Vec<(String, String, String)> {
    let (mut data, mut name, mut id) = (String::new(), String::new(), String::new());
    let mut events = Vec::new();
    // CR LF, LF and CR all end a line.
    for line in stream.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                events.push((std::mem::take(&mut data), std::mem::take(&mut name), id.clone()));
            }
            name.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data = data + value + "\n",
            "event" => name = value.to_owned(),
            "id" if !value.contains('\0') => id = value.to_owned(),
            _ => {}
        }
    }
    events
}

fuzz_target!(|said: (&str, &str)| {
    let json = Object::new().text("channel", said.0).text("message", said.1).finish();
    let before = event_stream::padding() + &event_stream::retry(1732);
    let stream = before + &event_stream::event("closing", &json, Some("k3x9aQ07LmZ-42.now"));
    let expected = (json, "closing".to_owned(), "k3x9aQ07LmZ-42.now".to_owned());
    assert_eq!(parse(&stream), [expected]);
});
