//! What of a request goes along when the app is asked about its sender: what the configuration lists, and nothing else.

use std::sync::Arc;

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue, request};

use super::client_address::ClientAddress;
use super::credential::may_use_cookies;
use crate::protocol::{Code, Problem};
use crate::session::hooks::{Carried, Hooks};

/// What goes along of this request. A cookie does only where it would count as a token, too: a browser sends it
/// whoever's page asks.
///
/// # Errors
/// `too_large`.
pub fn carried(head: &request::Parts, hooks: &Hooks) -> Result<Option<Arc<Carried>>, Problem> {
    let mut headers = Vec::new();
    let mut is_cookie_withheld = false;
    for name in hooks.headers() {
        if **name == *COOKIE.as_str() {
            let Some(cookies) = cookies(&head.headers) else {
                continue;
            };
            is_cookie_withheld = !may_use_cookies(head);
            if !is_cookie_withheld {
                headers.push((Arc::clone(name), cookies));
            }
        } else {
            let values = head.headers.get_all(&**name).into_iter();
            headers.extend(values.map(|value| (Arc::clone(name), Box::from(value.as_bytes()))));
        }
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > Carried::BYTES_MAX {
        let (most, names) = (Carried::BYTES_MAX, hooks.headers().join(", "));
        let detail =
            format!("the headers that the app is shown ({names}) have {bytes} bytes together; at most {most} may be");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let client = head.extensions.get::<ClientAddress>().filter(|_| hooks.sends_address());
    let carried = Carried {
        headers: hooks.share_headers(headers),
        address: client.map(|client| client.address),
        is_cookie_withheld,
    };
    Ok((carried != Carried::default()).then(|| Arc::new(carried)))
}

/// Over HTTP/2 they may come one by one (RFC 9113 §8.2.3); in HTTP/1.1 they are one line.
fn cookies(headers: &HeaderMap) -> Option<Box<[u8]>> {
    let values: Vec<&[u8]> = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    (!values.is_empty()).then(|| values.join(b"; ".as_slice()).into())
}
