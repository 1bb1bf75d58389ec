//! Strings that break what is careless: line ends, NUL, separators that JavaScript takes for line ends, and the like.

use fastrand::Rng;

/// What has broken event streams, JSON and frames before.
const HOSTILE: [&str; 38] = [
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\r\r",
    "\r\n\r\n",
    "\0",
    "\u{2028}",
    "\u{2029}",
    "\u{85}",
    "\u{feff}",
    "\"",
    "\\",
    "\\\"",
    "\\u0000",
    "\\n",
    "'",
    "\u{b}",
    "\u{c}",
    "\u{8}",
    "\t",
    "\u{1b}",
    "\u{1f}",
    "\u{7f}",
    "\u{80}",
    "\u{9f}",
    "data: ",
    "\ndata: x",
    "\nid: 1-1",
    "\nevent: e",
    ":",
    " ",
    "\u{10ffff}",
    "😀",
    "𝄞",
    "e\u{301}",
    "\u{fffd}",
    "\u{ffff}",
];

/// A string of up to about `pieces` pieces, most of them hostile.
pub(crate) fn hostile(rng: &mut Rng, pieces: usize) -> String {
    (0..rng.usize(..=pieces)).map(|_| piece(rng)).collect()
}

fn piece(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0..=4 => HOSTILE[rng.usize(..HOSTILE.len())].to_owned(),
        5 => rng.char(..).to_string(),
        6 => rng.char('\0'..' ').to_string(),
        _ => rng.alphanumeric().to_string(),
    }
}

/// Like [`hostile`], of so many bytes at most and not empty.
pub(crate) fn hostile_within(rng: &mut Rng, bytes_max: usize) -> String {
    let mut text = hostile(rng, bytes_max / 2);
    while text.len() > bytes_max {
        text.pop();
    }
    if text.is_empty() { "x".to_owned() } else { text }
}

/// The name of a channel with all that the rules allow (protocol §1).
pub(crate) fn channel_name(rng: &mut Rng) -> String {
    let is_allowed = |c: &char| !c.is_control() && !c.is_whitespace() && !matches!(c, ',' | '*' | '"' | '\\');
    let mut name: String = hostile(rng, 40).chars().filter(is_allowed).collect();
    while name.len() > 200 {
        name.pop();
    }
    let name = name.trim_start_matches('$');
    // Different in any case.
    format!("{name}{:x}", rng.u64(..))
}
