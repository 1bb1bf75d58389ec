//! §8.1: text is UTF-8, checked over the whole message, and refused as soon as it cannot become valid.

use super::peer::{Case, Cut, Got, frame};

pub(crate) fn cases() -> Vec<Case> {
    [valid(), invalid(), split(), early()].into_iter().flatten().collect()
}

const VALID: [(&str, &str); 17] = [
    ("nothing but NUL", "\u{0}"),
    ("the last of one byte", "\u{7F}"),
    ("the first of two bytes", "\u{80}"),
    ("the last of two bytes", "\u{7FF}"),
    ("the first of three bytes", "\u{800}"),
    ("the last of three bytes", "\u{FFFF}"),
    ("the first of four bytes", "\u{10000}"),
    ("the last of all", "\u{10FFFF}"),
    ("before the surrogates", "\u{D7FF}"),
    ("after the surrogates", "\u{E000}"),
    ("the replacement character", "\u{FFFD}"),
    ("a noncharacter", "\u{FFFE}"),
    ("a noncharacter of another plane", "\u{1FFFF}"),
    ("a mark of byte order", "\u{FEFF}text"),
    ("Greek", "κόσμε"),
    ("words of all widths", "aä€🦀 zäh €9 🦀🦀"),
    ("a family", "👩‍👩‍👧‍👦"),
];

const INVALID: [(&str, &[u8]); 33] = [
    ("a continuation alone", b"\x80"),
    ("the last continuation alone", b"\xBF"),
    ("two continuations", b"\x80\xBF"),
    ("a continuation after a letter", b"a\x80"),
    ("a lead of two bytes alone", b"\xC3"),
    ("a lead of two bytes and a space", b"\xC3 "),
    ("a lead of three bytes alone", b"\xE2"),
    ("a lead of three bytes and a space", b"\xE2 "),
    ("three bytes without the last", b"\xE2\x82"),
    ("three bytes with a space for the last", b"\xE2\x82 "),
    ("a lead of four bytes alone", b"\xF0"),
    ("four bytes without the last two", b"\xF0\x9F"),
    ("four bytes without the last", b"\xF0\x9F\xA6"),
    ("four bytes with a space for the last", b"\xF0\x9F\xA6 "),
    ("two leads", b"\xC3\xC3\xA4"),
    ("overlong slash in two bytes", b"\xC0\xAF"),
    ("overlong NUL in two bytes", b"\xC0\x80"),
    ("the last overlong of two bytes", b"\xC1\xBF"),
    ("overlong slash in three bytes", b"\xE0\x80\xAF"),
    ("the last overlong of three bytes", b"\xE0\x9F\xBF"),
    ("overlong slash in four bytes", b"\xF0\x80\x80\xAF"),
    ("the last overlong of four bytes", b"\xF0\x8F\xBF\xBF"),
    ("the first surrogate", b"\xED\xA0\x80"),
    ("the last surrogate", b"\xED\xBF\xBF"),
    ("a pair of surrogates", b"\xED\xA0\x80\xED\xB0\x80"),
    ("above U+10FFFF", b"\xF4\x90\x80\x80"),
    ("a lead F5", b"\xF5\x80\x80\x80"),
    ("a lead F7", b"\xF7\xBF\xBF\xBF"),
    ("five bytes", b"\xF8\x88\x80\x80\x80"),
    ("six bytes", b"\xFC\x84\x80\x80\x80\x80"),
    ("a byte FE", b"\xFE"),
    ("a byte FF", b"\xFF"),
    (
        "a bad byte after much that is good",
        b"good good good good good good good good \xFF good",
    ),
];

fn valid() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, text) in VALID {
        let got = vec![Got::Text(text.to_owned())];
        let sent = frame(0x81, text.as_bytes());
        cases.push(Case::answered(format!("8.1 valid: {what}"), sent.clone(), got.clone()));
        let name = format!("8.1 valid: {what}, a byte at a time");
        cases.push(Case::answered(name, sent, got).cut(Cut::Everywhere));
    }
    cases
}

fn invalid() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, bytes) in INVALID {
        cases.push(Case::closed(format!("8.1 invalid: {what}"), frame(0x81, bytes), 1007));
        let name = format!("8.1 invalid: {what}, each byte a fragment");
        cases.push(Case::closed(name, fragments(bytes), 1007));
        // Binary is not text.
        let got = vec![Got::Binary(bytes.to_vec())];
        cases.push(Case::answered(
            format!("8.1 binary may be {what}"),
            frame(0x82, bytes),
            got,
        ));
    }
    cases
}

/// A text message, each byte of it in a fragment of its own.
fn fragments(bytes: &[u8]) -> Vec<u8> {
    let mut sent = frame(0x01, &bytes[..1]);
    for byte in &bytes[1..] {
        sent.extend(frame(0x00, &[*byte]));
    }
    sent.extend(frame(0x80, b""));
    sent
}

fn split() -> Vec<Case> {
    let text = "aä€🦀z";
    let bytes = text.as_bytes();
    let got = vec![Got::Text(text.to_owned())];
    let mut cases = vec![Case::answered(
        "8.1 characters in fragments of a byte",
        fragments(bytes),
        got.clone(),
    )];
    for at in 0..=bytes.len() {
        let sent = [frame(0x01, &bytes[..at]), frame(0x80, &bytes[at..])].concat();
        cases.push(Case::answered(
            format!("8.1 fragments cut at byte {at}"),
            sent,
            got.clone(),
        ));
        let name = format!("8.1 fragments cut at byte {at} around a ping");
        let pinged = [frame(0x01, &bytes[..at]), frame(0x89, b"!"), frame(0x80, &bytes[at..])];
        let answers = vec![Got::Pong(b"!".to_vec()), got[0].clone()];
        cases.push(Case::answered(name, pinged.concat(), answers));
    }
    cases
}

/// Nothing more is sent, and the connection is closed all the same.
fn early() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, bytes) in [
        ("a surrogate", &b"\xED\xA0"[..]),
        ("an overlong form", b"\xC0"),
        ("a lead above U+10FFFF", b"\xF4\x90"),
        ("a byte FF", b"text\xFF"),
    ] {
        let whole = frame(0x81, &[bytes, &[b'a'; 100]].concat());
        let begun = whole[..6 + bytes.len()].to_vec();
        cases.push(Case::closed(
            format!("8.1 {what} is refused before the frame has ended"),
            begun,
            1007,
        ));
        let name = format!("8.1 {what} is refused before the message has ended");
        cases.push(Case::closed(name, frame(0x01, bytes), 1007));
    }
    cases
}
