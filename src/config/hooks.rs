//! `[hooks]`: the app is asked, and decides.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Secret, asked};
use crate::protocol;
use crate::session::hooks::HookSettings;

/// The longest that a client may be kept waiting for an answer, in milliseconds: below what a drain waits.
const TIMEOUT_MS_MAX: u64 = 10_000;

/// The longest that an answer may hold, in seconds.
const CACHE_S_MAX: u64 = 24 * 60 * 60;

/// The shortest secret, in bytes: as much as its HMAC has.
const SECRET_BYTES_MIN: usize = 32;

/// Headers that say something of one connection or one message, and would be wrong in another.
const NOT_FORWARDED: [&str; 18] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "throughline-signature",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// `[hooks]`: the app is asked over HTTP when a client comes, subscribes or publishes, and decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// Who is asked when a client comes, on every transport, after its token, if it shows one, was verified: `http://…` or
    /// `https://…`.
    pub connect_url: Option<String>,
    /// Who is asked when a client subscribes, each time; decides instead of what was granted.
    pub subscribe_url: Option<String>,
    /// Who is asked when a client publishes; decides instead of what was granted.
    pub publish_url: Option<String>,
    /// How long an answer may take, in milliseconds; then the client is refused and told to come back.
    #[schemars(range(min = 10, max = TIMEOUT_MS_MAX))]
    pub timeout_ms: u64,
    /// How long an answer holds for the same client and channel, in seconds, unless it says it itself.
    #[schemars(range(max = CACHE_S_MAX))]
    pub cache_s: u64,
    /// The most answers that are kept.
    #[schemars(range(max = 1_000_000))]
    pub cache_count_max: usize,
    /// The most questions that are on their way at once, for each of the three; the others wait for their turn, within
    /// the same time.
    #[schemars(range(min = 1, max = 10_000))]
    pub in_flight_max: usize,
    /// Signs every question, in the header `throughline-signature`; at least 32 bytes.
    pub secret: Option<Secret>,
    /// The headers of a client's request that go along, and no others; `cookie` under an allowed origin only.
    pub forward_headers: Vec<String>,
    /// Whether the client's address stands in the question.
    pub forward_address: bool,
}

impl Default for Hooks {
    fn default() -> Self {
        let settings = HookSettings::default();
        Self {
            connect_url: None,
            subscribe_url: None,
            publish_url: None,
            timeout_ms: u64::try_from(settings.time_max.as_millis()).unwrap_or(TIMEOUT_MS_MAX),
            cache_s: settings.cache_s,
            cache_count_max: settings.cache_count_max,
            in_flight_max: settings.in_flight_max,
            secret: None,
            forward_headers: Vec::new(),
            forward_address: settings.sends_address,
        }
    }
}

impl Hooks {
    /// Whether the app is asked anything.
    pub fn is_configured(&self) -> bool {
        self.urls().any(|(_, url)| url.is_some())
    }

    fn urls(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let urls = [
            ("hooks.connect_url", &self.connect_url),
            ("hooks.subscribe_url", &self.subscribe_url),
            ("hooks.publish_url", &self.publish_url),
        ];
        urls.into_iter().map(|(key, url)| (key, url.as_deref()))
    }

    /// What the node is given, where publications have so many bytes at most; `None`: the app is not asked.
    pub fn settings(&self, publication_bytes_max: usize) -> Option<HookSettings> {
        let name = |name: &String| Arc::from(name.to_ascii_lowercase());
        self.is_configured().then(|| HookSettings {
            connect_url: self.connect_url.clone(),
            subscribe_url: self.subscribe_url.clone(),
            publish_url: self.publish_url.clone(),
            time_max: Duration::from_millis(self.timeout_ms),
            cache_s: self.cache_s,
            cache_count_max: self.cache_count_max,
            in_flight_max: self.in_flight_max,
            secret: self
                .secret
                .as_ref()
                .map(|secret| protocol::Secret::new(secret.reveal().to_owned())),
            headers: self.forward_headers.iter().map(name).collect(),
            sends_address: self.forward_address,
            publication_bytes_max,
        })
    }

    /// Each thing that is wrong.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.urls().filter_map(|(key, url)| url_fault(key, url?)).collect();
        let mut seen = HashSet::new();
        for name in &self.forward_headers {
            let lower = name.to_ascii_lowercase();
            let why = if HeaderName::from_bytes(name.as_bytes()).is_err() {
                "is not the name of a header"
            } else if NOT_FORWARDED.contains(&&*lower) || lower.starts_with("sec-websocket-") {
                "belongs to one connection or one message, and cannot be forwarded; leave it out"
            } else if !seen.insert(lower) {
                "is there twice"
            } else {
                continue;
            };
            let why = format!("hooks.forward_headers: {name:?} {why}");
            faults.push(Fault::of_key("hooks.forward_headers", why));
        }
        if let Some(secret) = &self.secret
            && secret.reveal().len() < SECRET_BYTES_MIN
        {
            let why =
                format!("hooks.secret: must have at least {SECRET_BYTES_MIN} bytes; `openssl rand -hex 32` makes one");
            faults.push(Fault::of_key("hooks.secret", why));
        }
        if !self.is_configured() && *self != Self::default() {
            let why = "hooks: the app is not asked anything; add hooks.connect_url, hooks.subscribe_url or \
                       hooks.publish_url, or leave the section out";
            let key = if self.secret.is_some() {
                "hooks.secret"
            } else if !self.forward_headers.is_empty() {
                "hooks.forward_headers"
            } else {
                "hooks.connect_url"
            };
            faults.push(Fault::of_key(key, why));
        }
        faults
    }
}

fn url_fault(key: &'static str, url: &str) -> Option<Fault> {
    let why = asked::why_not(url, "the app knows this edge by hooks.secret")?;
    Some(Fault::of_key(key, format!("{key}: {why}")))
}
