//! Which keys hold as soon as they are read again.

/// Sections and keys whose values are taken while the server runs. All others hold until it ends.
const TAKEN: [&str; 8] = [
    "auth",
    "limits",
    "log.level",
    "namespaces",
    "origins",
    "rates",
    "trusted_proxies",
    "window",
];

/// Whether a key's value is taken while the server runs.
pub fn is_taken_at_once(key: &str) -> bool {
    let stands_below = |above: &&str| {
        key.strip_prefix(*above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    TAKEN.iter().any(|above| stands_below(&above))
}
