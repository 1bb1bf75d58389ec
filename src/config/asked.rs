//! URLs of those whom this process asks: which can be asked, and what of one may be shown.

use axum::http::Uri;
use axum::http::uri::Authority;

/// Why nobody can be asked there, if so; `instead` says how this process shows who it is. Nothing of the URL is
/// repeated, which may have a secret in it.
pub(super) fn why_not(url: &str, instead: &str) -> Option<String> {
    let uri: Option<Uri> = url.parse().ok();
    let authority = uri.as_ref().and_then(Uri::authority);
    let is_http = matches!(uri.as_ref().and_then(Uri::scheme_str), Some("http" | "https"));
    match authority {
        Some(authority) if authority.as_str().contains('@') => Some(format!(
            "must not have a user or a password before the `@`, which would not be sent; {instead}"
        )),
        Some(authority) if is_http && is_well(authority) => None,
        _ => Some("must be a URL that begins with https:// (or http://)".to_owned()),
    }
}

/// Whether it is a host, and behind a colon a port: not the beginning of a password.
fn is_well(authority: &Authority) -> bool {
    let host = authority.host();
    !host.is_empty() && (authority.as_str() == host || authority.port_u16().is_some())
}

/// A text as one may show it: of a URL neither user and password nor the query, whether it is well or not.
pub(super) fn masked(text: &str) -> String {
    const MASK: &str = "***";
    let Some((scheme @ ("http" | "https"), rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let has_user = |uri: Uri| {
        let authority = uri.authority();
        authority.is_none_or(|authority| !is_well(authority) || authority.as_str().contains('@'))
    };
    let has_user = text.parse().map_or(true, has_user);
    let (user, rest) = match rest.rsplit_once('@') {
        // What is no URL may have a password anywhere before it.
        Some((_, host)) if has_user => ("***@", host),
        // The path may have one.
        _ => ("", rest),
    };
    match rest.find(['?', '#']) {
        Some(at) => format!("{scheme}://{user}{}{}{MASK}", &rest[..at], &rest[at..=at]),
        None => format!("{scheme}://{user}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_no_secret_is_shown() {
        for (text, expected) in [
            ("https://app.example/keys", "https://app.example/keys"),
            ("https://app.example/keys?key=hunter2", "https://app.example/keys?***"),
            ("https://ada:hunter2@app.example/keys", "https://***@app.example/keys"),
            ("https://ada:hun/ter2@app.example/keys", "https://***@app.example/keys"),
            ("https://ada:hun?ter2@app.example", "https://***@app.example"),
            (
                "https://app.example/@us/keys#hunter2",
                "https://app.example/@us/keys#***",
            ),
            ("ada@app.example?hunter", "ada@app.example?hunter"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn a_password_is_not_taken_and_not_repeated() {
        assert_eq!(why_not("https://app.example:8443/keys?x=1", ""), None);
        let why = why_not("https://ada:hunter2@app.example/keys", "show it so").unwrap();
        assert!(why.contains("before the `@`") && why.ends_with("show it so"), "{why}");
        for url in [
            "app.example",
            "ftp://app.example",
            "https://",
            "/keys",
            "https://ada:hun ter2@app.example",
            "https://ada:hun/ter2@app.example",
        ] {
            assert!(why_not(url, "").unwrap().contains("begins with https://"), "{url}");
        }
    }
}
