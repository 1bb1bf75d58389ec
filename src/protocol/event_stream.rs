//! Pushes as Server-Sent Events (WHATWG HTML §9.2).

/// What every stream begins with, so that middleboxes that hold back the first 2 KiB let the first event through.
pub fn padding() -> String {
    const PADDING_BYTES: usize = 2048;
    format!(":{}\n\n", " ".repeat(PADDING_BYTES))
}

/// How long a native client waits before it comes back.
pub fn retry(retry_ms: u64) -> String {
    format!("retry: {retry_ms}\n\n")
}

/// A push that is not a publication. `json` has no line ends, for JSON escapes them in strings.
pub fn event(kind: &str, json: &str, id: Option<&str>) -> String {
    let id = id.map(id_line).unwrap_or_default();
    format!("{id}event: {kind}\ndata: {json}\n\n")
}

/// The line that carries the cursor.
pub fn id_line(cursor: &str) -> String {
    format!("id: {cursor}\n")
}
