//! Which keys hold as soon as they are read again.

/// Sections and keys whose values are taken while the server runs. All others hold until it ends.
const TAKEN: [&str; 9] = [
    "auth",
    "hooks",
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
    let stands_in = |above: &&str| {
        key.strip_prefix(*above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    TAKEN.iter().any(stands_in)
}
