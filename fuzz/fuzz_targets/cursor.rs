//! What is read as a cursor is written as it was read; everything else is refused in few words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throughline::delivery::{Cursor, Position, Since};

fuzz_target!(|text: &str| {
    match text.parse::<Cursor>() {
        Ok(cursor) => assert_eq!(cursor.to_string(), text),
        Err(bad) => assert!(bad.to_string().len() < 1000),
    }
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
        assert_eq!(text.parse(), Ok(Since::After(position)));
    }
});
