//! What a client may send or ask for: every bound, with its default.

/// The bounds on a client's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message that a WebSocket client may send, in bytes.
    pub message_bytes_max: usize,
    /// The most fragments that a message may come in.
    pub message_fragments_max: u32,
    /// How long a message may take from its first byte to its last, in milliseconds.
    pub message_time_ms_max: u64,
    /// The largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// The largest `data` of a publication, in bytes of compact JSON.
    pub publication_bytes_max: usize,
    /// The most publications that one request may ask for.
    pub publish_items_max: usize,
    /// The most bytes of `data` that one request may ask for, counted for each channel that it goes to.
    pub publish_bytes_max: usize,
    /// The most channels that one session may be subscribed to.
    pub channels_max: usize,
    /// The most publications in one answer of `history`.
    pub history_count_max: usize,
    /// The most bytes of pushes in one answer of long-poll or `history`; at least one push always fits.
    pub answer_bytes_max: usize,
}

impl Limits {
    /// The longest `event` of a publication, in bytes.
    pub const EVENT_BYTES_MAX: usize = 64;
    /// The longest idempotency key, in bytes.
    pub const KEY_BYTES_MAX: usize = 128;
    /// The deepest nesting of JSON, the whole body counted.
    pub const JSON_DEPTH_MAX: usize = 64;
    /// The longest that a long-poll may wait, in seconds.
    pub const WAIT_S_MAX: u64 = 55;
    /// How long it waits unless told, in seconds.
    pub const WAIT_S_DEFAULT: u64 = 25;
    /// The largest body of a subscribing request, in bytes: names, a cursor and a token.
    pub const STREAM_BODY_BYTES_MAX: usize = 256 * 1024;
    /// Malformed messages in a row after which a WebSocket is closed.
    pub const MALFORMED_MAX: u8 = 10;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 320 * 1024,
            message_fragments_max: 1024,
            message_time_ms_max: 10_000,
            body_bytes_max: 4 * 1024 * 1024,
            publication_bytes_max: 256 * 1024,
            publish_items_max: 1000,
            publish_bytes_max: 16 * 1024 * 1024,
            channels_max: 128,
            history_count_max: 1000,
            answer_bytes_max: 1024 * 1024,
        }
    }
}
