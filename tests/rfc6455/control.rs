//! §5.5: pings and pongs.

use super::peer::{Case, Cut, Got, frame, frame_with};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [0, 1, 2, 64, 124, 125] {
        let payload = vec![0xFF; len];
        let pong = vec![Got::Pong(payload.clone())];
        let sent = frame(0x89, &payload);
        cases.push(Case::answered(
            format!("5.5.2 a ping of {len} bytes"),
            sent.clone(),
            pong.clone(),
        ));
        let name = format!("5.5.2 a ping of {len} bytes, a byte at a time");
        cases.push(Case::answered(name, sent, pong).cut(Cut::Everywhere));
        let name = format!("5.5.3 a pong of {len} bytes that nobody asked for");
        cases.push(Case::answered(name, frame(0x8A, &payload), vec![]));
    }
    for (opcode, what) in [(0x8, "close"), (0x9, "ping"), (0xA, "pong")] {
        for len in [126, 127, 65_536] {
            let name = format!("5.5 a {what} of {len} bytes");
            cases.push(Case::closed(name, frame(0x80 | opcode, &vec![b'a'; len]), 1002));
        }
        let name = format!("5.5 a {what} of 2 bytes in the long form");
        cases.push(Case::closed(name, frame_with(0x80 | opcode, &[126, 0, 2], b"ab"), 1002));
    }
    let ten: Vec<u8> = (0..10).flat_map(|n| frame(0x89, &[n])).collect();
    let pongs = (0..10).map(|n| Got::Pong(vec![n])).collect();
    cases.push(Case::answered("5.5.2 ten pings at once", ten, pongs));
    let mixed = [frame(0x8A, b"unasked"), frame(0x89, b"asked"), frame(0x8A, b"unasked")];
    let asked = vec![Got::Pong(b"asked".to_vec())];
    cases.push(Case::answered("5.5.3 pongs around a ping", mixed.concat(), asked));
    cases
}
