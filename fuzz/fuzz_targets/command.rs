//! A message, or a publisher's body, is a command or is refused in few words, and what is taken was JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throughline::protocol::{Limits, read_command, read_publish, read_stream_body};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    if let Ok(publish) = read_publish(bytes, Some("key"), &limits) {
        assert!(serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok(), "{publish:?}");
    }
    let _ = read_stream_body(bytes).and_then(|asked| asked.checked(Some(&[]), None, &limits));
    let Ok(message) = str::from_utf8(bytes) else { return };
    let (id, command) = read_command(message, &limits);
    if let Some(id) = id {
        assert!(serde_json::from_str::<serde_json::Value>(id.as_json()).is_ok_and(|id| id.is_number()) || id.as_json().contains(['e', 'E']));
    }
    match command {
        Ok(_) => assert!(serde_json::from_str::<&serde_json::value::RawValue>(message).is_ok()),
        Err(problem) => assert!(problem.detail.len() < 1100, "{problem}"),
    }
});
