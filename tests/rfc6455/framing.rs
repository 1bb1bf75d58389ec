//! §5.2, §5.3: opcodes, lengths, reserved bits, masks.

use super::peer::{Case, Cut, Got, MESSAGE_BYTES_MAX, frame, frame_with};

pub(crate) fn cases() -> Vec<Case> {
    [lengths(), forms_of_lengths(), reserved(), masks(), limits()]
        .into_iter()
        .flatten()
        .collect()
}

fn text_of(len: usize) -> String {
    "*".repeat(len)
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [
        0, 1, 124, 125, 126, 127, 128, 255, 256, 65_534, 65_535, 65_536, 65_537, 131_072,
    ] {
        let (text, bytes) = (text_of(len), vec![0xFE; len]);
        cases.push(Case::answered(
            format!("5.2 text of {len} bytes"),
            frame(0x81, text.as_bytes()),
            vec![Got::Text(text.clone())],
        ));
        cases.push(Case::answered(
            format!("5.2 binary of {len} bytes"),
            frame(0x82, &bytes),
            vec![Got::Binary(bytes)],
        ));
        // A byte at a time where that is quick, else cut within the header and within the payload.
        let cut = if len <= 256 { Cut::Everywhere } else { Cut::At(5) };
        let sent = frame(0x81, text.as_bytes());
        cases.push(
            Case::answered(
                format!("5.2 text of {len} bytes in pieces"),
                sent,
                vec![Got::Text(text)],
            )
            .cut(cut),
        );
    }
    cases
}

fn forms_of_lengths() -> Vec<Case> {
    let long = |len: u64| [&[127], &len.to_be_bytes()[..]].concat();
    let mut cases = Vec::new();
    for len in [0_u8, 1, 125] {
        let payload = vec![b'*'; usize::from(len)];
        let medium = frame_with(0x81, &[126, 0, len], &payload);
        cases.push(Case::closed(
            format!("5.2 length {len} in 16 bits is not minimal"),
            medium,
            1002,
        ));
        let sent = frame_with(0x82, &long(u64::from(len)), &payload);
        cases.push(Case::closed(
            format!("5.2 length {len} in 64 bits is not minimal"),
            sent,
            1002,
        ));
    }
    for len in [126_u16, 65_535] {
        let sent = frame_with(0x82, &long(u64::from(len)), &vec![0; usize::from(len)]);
        cases.push(Case::closed(
            format!("5.2 length {len} in 64 bits is not minimal"),
            sent,
            1002,
        ));
    }
    for (what, len) in [("2^63", 1 << 63), ("2^64 - 1", u64::MAX)] {
        let sent = frame_with(0x82, &long(len), b"");
        cases.push(Case::closed(
            format!("5.2 length {what} has its top bit set"),
            sent,
            1002,
        ));
    }
    cases
}

fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for (opcode, what) in [
        (0x1, "text"),
        (0x2, "binary"),
        (0x8, "close"),
        (0x9, "ping"),
        (0xA, "pong"),
    ] {
        for bits in 1..=7_u8 {
            let sent = frame(0x80 | bits << 4 | opcode, b"");
            let name = format!("5.2 reserved bits {bits:03b} of a {what} without an extension");
            cases.push(Case::closed(name, sent, 1002));
        }
    }
    let continued = [frame(0x01, b"a"), frame(0xC0, b"b")].concat();
    cases.push(Case::closed("5.2 rsv1 of a continuation", continued, 1002));
    let echoed = [frame(0x81, b"first"), frame(0xC1, b"second")].concat();
    let case = Case::closed("5.2 rsv1 after a message that is answered first", echoed, 1002);
    cases.push(case.after(vec![Got::Text("first".to_owned())]));
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        let name = format!("5.2 reserved opcode {opcode:X}");
        cases.push(Case::closed(name, frame(0x80 | opcode, b""), 1002));
        let name = format!("5.2 reserved opcode {opcode:X} with a payload, not final");
        cases.push(Case::closed(name, frame(opcode, b"payload"), 1002));
    }
    cases
}

fn masks() -> Vec<Case> {
    let mut cases = Vec::new();
    for (first, what) in [
        (0x81, "text"),
        (0x82, "binary"),
        (0x01, "first fragment"),
        (0x88, "close"),
        (0x89, "ping"),
        (0x8A, "pong"),
    ] {
        cases.push(Case::closed(format!("5.1 unmasked {what}"), vec![first, 0], 1002));
    }
    cases.push(Case::closed(
        "5.1 unmasked text of which only the header came",
        vec![0x81, 0x05],
        1002,
    ));
    let continued = [frame(0x01, b"a"), vec![0x80, 0]].concat();
    cases.push(Case::closed("5.1 unmasked continuation", continued, 1002));
    // §5.3: the mask may be any, zero too, and counts from the first byte of each frame.
    let plain = [&[0x81, 0x85, 0, 0, 0, 0], &b"plain"[..]].concat();
    let text = |text: &str| vec![Got::Text(text.to_owned())];
    cases.push(Case::answered("5.3 a mask of zeros", plain, text("plain")));
    let ones = [&[0x82, 0x83, 255, 255, 255, 255], &[0, 1, 2][..]].concat();
    cases.push(Case::answered(
        "5.3 a mask of ones",
        ones,
        vec![Got::Binary(vec![255, 254, 253])],
    ));
    for at in 0..17 {
        let name = format!("5.3 a payload cut after byte {at} keeps its mask");
        let case = Case::answered(name, frame(0x81, b"elevenbytes"), text("elevenbytes"));
        cases.push(case.cut(Cut::At(at)));
    }
    let several = [frame(0x81, b"a"), frame(0x82, b""), frame(0x81, b"b")].concat();
    let expected = vec![
        Got::Text("a".to_owned()),
        Got::Binary(vec![]),
        Got::Text("b".to_owned()),
    ];
    cases.push(Case::answered("5.1 several frames at once", several, expected));
    cases
}

fn limits() -> Vec<Case> {
    let max = text_of(MESSAGE_BYTES_MAX);
    let announced = |len: u64| frame_with(0x82, &[&[127], &len.to_be_bytes()[..]].concat(), b"");
    vec![
        Case::answered(
            "10.4 a message of the greatest length",
            frame(0x81, max.as_bytes()),
            vec![Got::Text(max)],
        ),
        Case::closed(
            "10.4 a message longer by a byte",
            announced(MESSAGE_BYTES_MAX as u64 + 1),
            1009,
        ),
        Case::closed("10.4 a message of 2^63 - 1 bytes", announced((1 << 63) - 1), 1009),
        Case::closed("10.4 a message of 4 GiB", announced(1 << 32), 1009),
    ]
}
