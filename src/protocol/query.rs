//! Query strings: names and values, some of which are there several times.

use std::borrow::Cow;

use super::{Code, Problem};

/// A name and its value, decoded.
pub type QueryPair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The names and values of a query, in their order.
///
/// # Errors
/// `bad_channel` or `bad_request` for a value that is not UTF-8: it is never taken for another one.
pub fn read_query(query: &str) -> Result<Vec<QueryPair<'_>>, Problem> {
    for pair in query.split('&') {
        if str::from_utf8(&percent_decoded(pair)).is_err() {
            let code = if pair.starts_with("channel=") {
                Code::BadChannel
            } else {
                Code::BadRequest
            };
            // A token may be in the value, under whatever name.
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            let shown: String = name.chars().take(64).collect();
            let detail = format!("the value of `{shown}` in the query is not UTF-8 behind its `%`");
            return Err(Problem::new(code, detail));
        }
    }
    Ok(form_urlencoded::parse(query.as_bytes()).collect())
}

/// The bytes behind `%XX`; what is not of that form stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            decoded.push(high * 16 + low);
            rest = after;
        } else {
            decoded.push(*first);
            rest = tail;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_is_refused_and_never_replaced() {
        assert_eq!(read_query("channel=%ff").unwrap_err().code, Code::BadChannel);
        assert_eq!(read_query("since=a%C3").unwrap_err().code, Code::BadRequest);
        let read = read_query("channel=gr%C3%BCn+1&channel=%EF%BF%BD&x=%zz").unwrap();
        assert_eq!(
            read.iter().map(|(_, value)| &**value).collect::<Vec<_>>(),
            ["grün 1", "\u{fffd}", "%zz"]
        );
    }
}
