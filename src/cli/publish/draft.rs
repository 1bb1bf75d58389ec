//! A publication that is asked for, and the body that asks for it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

/// A publication that is asked for: an item of `POST /v1/publish`.
#[derive(Debug, Serialize)]
pub(super) struct Draft<'a> {
    pub(super) channel: &'a str,
    pub(super) data: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idempotency_key: Option<String>,
}

impl Draft<'_> {
    /// The body for it alone.
    pub(super) fn body(&self) -> serde_json::Result<Bytes> {
        serde_json::to_vec(self).map(Bytes::from)
    }

    /// About how many bytes of a body it takes.
    pub(super) fn bytes(&self) -> usize {
        self.data.get().len()
    }
}

/// A key that nobody else has.
pub(super) fn random_key() -> String {
    // Without randomness from the system the process and the time tell runs apart.
    let random = || getrandom::u64().ok();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map(|since| since.as_nanos()).unwrap_or_default();
    match (random(), random()) {
        (Some(one), Some(two)) => format!("{one:016x}{two:016x}"),
        _ => format!("{:x}-{nanos:x}", std::process::id()),
    }
}
