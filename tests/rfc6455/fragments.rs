//! §5.4: messages in fragments, with control frames between them.

use super::peer::{Case, Cut, FRAGMENTS_MAX, Got, MESSAGE_BYTES_MAX, frame};

pub(crate) fn cases() -> Vec<Case> {
    [lawful(), unlawful(), limits()].into_iter().flatten().collect()
}

fn text(text: &str) -> Vec<Got> {
    vec![Got::Text(text.to_owned())]
}

fn pong(payload: &[u8]) -> Got {
    Got::Pong(payload.to_vec())
}

fn lawful() -> Vec<Case> {
    let two = [frame(0x01, b"frag"), frame(0x80, b"ment")].concat();
    let empty = [frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")].concat();
    let middle = [frame(0x01, b""), frame(0x00, b"middle"), frame(0x80, b"")].concat();
    let binary = [frame(0x02, &[1]), frame(0x00, &[2]), frame(0x80, &[3])].concat();
    let with_ping = [frame(0x01, b"a"), frame(0x89, b"?"), frame(0x80, b"b")].concat();
    let unasked = [frame(0x01, b"a"), frame(0x8A, b"?"), frame(0x80, b"b")].concat();
    let many_pings = [
        frame(0x01, b"a"),
        frame(0x89, b"1"),
        frame(0x00, b"b"),
        frame(0x89, b"2"),
        frame(0x80, b"c"),
    ];
    let large = [frame(0x01, &vec![b'x'; 70_000]), frame(0x80, &vec![b'y'; 70_000])].concat();
    let mut cases = vec![
        Case::answered("5.4 two fragments", two.clone(), text("fragment")),
        Case::answered("5.4 two fragments a byte at a time", two, text("fragment")).cut(Cut::Everywhere),
        Case::answered("5.4 three empty fragments", empty, text("")),
        Case::answered("5.4 empty fragments around", middle, text("middle")),
        Case::answered("5.4 binary in fragments", binary, vec![Got::Binary(vec![1, 2, 3])]),
        Case::answered(
            "5.4 a ping between fragments",
            with_ping.clone(),
            vec![pong(b"?"), text("ab").remove(0)],
        ),
        Case::answered(
            "5.4 a ping between fragments a byte at a time",
            with_ping,
            vec![pong(b"?"), text("ab").remove(0)],
        )
        .cut(Cut::Everywhere),
        Case::answered("5.4 a pong between fragments", unasked, text("ab")),
        Case::answered(
            "5.4 pings between all fragments",
            many_pings.concat(),
            vec![pong(b"1"), pong(b"2"), text("abc").remove(0)],
        ),
        Case::answered(
            "5.4 fragments of the long form",
            large,
            text(&("x".repeat(70_000) + &"y".repeat(70_000))),
        ),
    ];
    let closed = [frame(0x01, b"half"), frame(0x88, &1000_u16.to_be_bytes())].concat();
    cases.push(Case::closed("5.4 a close between fragments", closed, 1000));
    let twice = [
        frame(0x01, b"a"),
        frame(0x80, b"b"),
        frame(0x02, b"c"),
        frame(0x80, b"d"),
    ];
    let both = vec![Got::Text("ab".to_owned()), Got::Binary(b"cd".to_vec())];
    cases.push(Case::answered(
        "5.4 a message after one in fragments",
        twice.concat(),
        both,
    ));
    cases
}

fn unlawful() -> Vec<Case> {
    let mut cases = Vec::new();
    for (first, what) in [(0x80, "final continuation"), (0x00, "continuation")] {
        for payload in [&b""[..], b"payload"] {
            let name = format!("5.4 a {what} of {} bytes of nothing", payload.len());
            cases.push(Case::closed(name, frame(first, payload), 1002));
        }
        let after_whole = [frame(0x81, b"whole"), frame(first, b"more")].concat();
        let case = Case::closed(format!("5.4 a {what} after a whole message"), after_whole, 1002);
        cases.push(case.after(text("whole")));
    }
    for (begun, begins) in [
        (0x01, 0x81),
        (0x01, 0x01),
        (0x02, 0x82),
        (0x02, 0x02),
        (0x01, 0x82),
        (0x02, 0x81),
    ] {
        let name = format!("5.4 a message {begins:02x} inside a message {begun:02x}");
        let sent = [frame(begun, b"half"), frame(begins, b"other")].concat();
        cases.push(Case::closed(name, sent, 1002));
    }
    for (opcode, what) in [(0x8, "close"), (0x9, "ping"), (0xA, "pong")] {
        cases.push(Case::closed(
            format!("5.4 a {what} in fragments"),
            frame(opcode, b""),
            1002,
        ));
        let inside = [frame(0x01, b"a"), frame(opcode, b""), frame(0x80, b"b")].concat();
        cases.push(Case::closed(
            format!("5.4 a {what} in fragments between fragments"),
            inside,
            1002,
        ));
    }
    cases
}

fn limits() -> Vec<Case> {
    let fragments = |count: u32| {
        let mut sent = frame(0x01, b"a");
        for _ in 2..count {
            sent.extend(frame(0x00, b"a"));
        }
        sent.extend(frame(0x80, b"a"));
        sent
    };
    let whole = "a".repeat(usize::try_from(FRAGMENTS_MAX).expect("few"));
    let half = vec![b'a'; MESSAGE_BYTES_MAX / 2];
    let too_big = [frame(0x01, &half), frame(0x00, &half), frame(0x80, b"a")].concat();
    vec![
        Case::answered("10.4 the most fragments", fragments(FRAGMENTS_MAX), text(&whole)),
        Case::closed("10.4 a fragment too many", fragments(FRAGMENTS_MAX + 1), 1009),
        Case::closed("10.4 131,000 fragments of a byte", fragments(131_000), 1009),
        Case::closed("10.4 fragments that are too long together", too_big, 1009),
    ]
}
