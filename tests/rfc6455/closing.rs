//! §5.5.1, §7: the closing handshake, its codes and its reasons.

use super::peer::{Case, Cut, Got, frame};

pub(crate) fn cases() -> Vec<Case> {
    [codes(), payloads(), order()].into_iter().flatten().collect()
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

fn codes() -> Vec<Case> {
    let mut cases = Vec::new();
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4400, 4999,
    ] {
        let name = format!("7.4 code {code} may be sent and is answered by itself");
        cases.push(Case::closed(name, close(code, b""), code));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 10_000, 65_535,
    ] {
        let name = format!("7.4 code {code} must not be sent");
        cases.push(Case::closed(name, close(code, b""), 1002));
    }
    cases
}

fn payloads() -> Vec<Case> {
    vec![
        Case::closed("5.5.1 a close without a payload", frame(0x88, b""), 1000),
        Case::closed("5.5.1 a close of one byte", frame(0x88, &[3]), 1002),
        Case::closed("5.5.1 a close with a reason", close(1000, b"bye"), 1000),
        Case::closed(
            "5.5.1 a close with a reason, a byte at a time",
            close(1000, b"bye"),
            1000,
        )
        .cut(Cut::Everywhere),
        Case::closed("5.5.1 the longest reason", close(4000, &[b'a'; 123]), 4000),
        Case::closed("5.5.1 a reason longer by a byte", close(4000, &[b'a'; 124]), 1002),
        Case::closed("7.1.6 a reason in UTF-8", close(1000, "päuschen €🦀".as_bytes()), 1000),
        Case::closed("7.1.6 a reason that is not UTF-8", close(1000, b"\xFF"), 1007),
        Case::closed("7.1.6 a reason that breaks off", close(1000, b"\xE2\x82"), 1007),
        Case::closed("7.1.6 a reason with a surrogate", close(1000, b"\xED\xA0\x80"), 1007),
        Case::closed("7.1.6 a reason in an overlong form", close(1000, b"\xC0\xAF"), 1007),
    ]
}

fn order() -> Vec<Case> {
    let bye = close(1000, b"");
    let text = vec![Got::Text("first".to_owned())];
    let then = |more: &[u8]| [&bye[..], more].concat();
    vec![
        Case::closed(
            "7.1.2 what was sent before a close is answered",
            [frame(0x81, b"first"), bye.clone()].concat(),
            1000,
        )
        .after(text),
        Case::closed("5.5.1 text after a close", then(&frame(0x81, b"late")), 1000),
        Case::closed("5.5.1 a ping after a close", then(&frame(0x89, b"late")), 1000),
        Case::closed("5.5.1 a second close", then(&close(4000, b"")), 1000),
        Case::closed("5.5.1 noise after a close", then(&[0xFF; 1000]), 1000),
        Case::closed(
            "7.1.7 text after a violation",
            [frame(0x83, b""), frame(0x81, b"late")].concat(),
            1002,
        ),
        Case::closed(
            "7.1.7 both close at once: a violation, then a close",
            [frame(0x83, b""), bye.clone()].concat(),
            1002,
        ),
        Case::closed(
            "7.1.7 a violation, then a megabyte",
            [frame(0x83, b""), vec![0; 1_000_000]].concat(),
            1002,
        ),
    ]
}
