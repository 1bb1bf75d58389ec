//! A client's bytes mean the same wherever they are cut, and never more is held than the limits say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throughline::protocol::websocket::{Decoder, Incoming, Limits, Violation};

const LIMITS: Limits = Limits {
    message_bytes_max: 1000,
    fragments_max: 8,
};

fn read(bytes: &[u8], chunk: usize) -> (Vec<Incoming>, Option<Violation>) {
    let mut decoder = Decoder::new();
    let mut all = Vec::new();
    for piece in bytes.chunks(chunk) {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        loop {
            match decoder.decode(&mut input, &LIMITS) {
                Ok(Some(incoming)) => all.push(incoming),
                Ok(None) => break assert!(input.is_empty()),
                Err(violation) => return (all, Some(violation)),
            }
        }
    }
    (all, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, usize::from(*cut).max(1)));
    for incoming in &whole.0 {
        let len = match incoming {
            Incoming::Text(text) => text.len(),
            Incoming::Binary(bytes) => bytes.len(),
            Incoming::Ping(payload) => payload.len() + LIMITS.message_bytes_max - 125,
            Incoming::Pong | Incoming::Close(_) => 0,
        };
        assert!(len <= LIMITS.message_bytes_max);
    }
});
