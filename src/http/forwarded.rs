//! What a proxy says of the request that it forwards: `Forwarded` (RFC 7239), read strictly, and `X-Forwarded-For`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hop as a proxy named it: an address, or something that is none (`unknown`, an obfuscated name, garbage).
pub(super) type Hop = Option<IpAddr>;

/// The hops of an `X-Forwarded-For`, the client first; an empty element is none (RFC 9110 §5.6.1).
pub(super) fn x_forwarded_for(value: &str) -> Vec<Hop> {
    let elements = value.split(',').map(|element| element.trim_matches([' ', '\t']));
    elements.filter(|element| !element.is_empty()).map(node).collect()
}

/// What one proxy says in `Forwarded`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Whom it forwards for.
    pub(super) hop: Hop,
    /// The `Host` that it was asked with.
    pub(super) host: Option<String>,
    /// The scheme that it was asked by.
    pub(super) proto: Option<String>,
}

/// The elements of a `Forwarded`, the client's first. `None`: it breaks the grammar, so nothing in it can be told apart.
pub(super) fn forwarded(value: &str) -> Option<Vec<Element>> {
    let mut rest = Rest(value.as_bytes());
    let mut elements = Vec::new();
    loop {
        rest.skip_white_space();
        if rest.is_empty() {
            return Some(elements);
        }
        if rest.take(b',') {
            continue;
        }
        elements.push(element(&mut rest)?);
        rest.skip_white_space();
        if !rest.is_empty() && !rest.take(b',') {
            return None;
        }
    }
}

/// Reads pairs up to a comma, of which each may be there once.
fn element(rest: &mut Rest<'_>) -> Option<Element> {
    let mut names: Vec<String> = Vec::new();
    let mut element = Element::default();
    loop {
        // Between two semicolons there may be nothing.
        if let Some(name) = rest.token() {
            let name = name.to_ascii_lowercase();
            if !rest.take(b'=') || names.contains(&name) {
                return None;
            }
            let value = rest.value()?;
            match &*name {
                "for" => element.hop = node(&value),
                "host" => element.host = Some(value),
                "proto" => element.proto = Some(value),
                _ => {}
            }
            names.push(name);
        }
        if !rest.take(b';') {
            return (!names.is_empty()).then_some(element);
        }
    }
}

/// An address with or without a port: `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`. Anything else is no address.
fn node(text: &str) -> Hop {
    let (address, port) = if let Some(inner) = text.strip_prefix('[') {
        let (address, port) = inner.split_once(']')?;
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':')?),
        };
        (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), port)
    } else if let Ok(address) = text.parse::<Ipv6Addr>() {
        (IpAddr::V6(address), None)
    } else {
        let (address, port) = match text.split_once(':') {
            Some((address, port)) => (address, Some(port)),
            None => (text, None),
        };
        (IpAddr::V4(address.parse::<Ipv4Addr>().ok()?), port)
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

/// A port, or an obfuscated one (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    let is_obfuscated = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match text.strip_prefix('_') {
        Some(name) => is_obfuscated(name),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn skip_white_space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.0.first() == Some(&byte);
        if is_there {
            self.0 = &self.0[1..];
        }
        is_there
    }

    fn token(&mut self) -> Option<String> {
        let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let length = self.0.iter().take_while(|byte| is_of_token(byte)).count();
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        (length > 0).then(|| String::from_utf8_lossy(token).into_owned())
    }

    /// A token or a quoted string.
    fn value(&mut self) -> Option<String> {
        if !self.take(b'"') {
            return self.token();
        }
        let mut text = Vec::new();
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return String::from_utf8(text).ok(),
                b'\\' => {
                    let (escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    text.push(*escaped);
                }
                byte => text.push(*byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(hops: Vec<Hop>) -> Vec<String> {
        let text = |hop: Hop| hop.map_or_else(|| "?".to_owned(), |address| address.to_string());
        hops.into_iter().map(text).collect()
    }

    #[test]
    fn x_forwarded_for_in_all_its_forms() {
        for (value, expected) in [
            ("192.0.2.1", &["192.0.2.1"] as &[&str]),
            ("192.0.2.1, 198.51.100.2:4711", &["192.0.2.1", "198.51.100.2"]),
            (
                "2001:db8::1,[2001:db8::2],[2001:db8::3]:80",
                &["2001:db8::1", "2001:db8::2", "2001:db8::3"],
            ),
            ("::ffff:192.0.2.1", &["192.0.2.1"]),
            (",, 192.0.2.1 ,", &["192.0.2.1"]),
            ("unknown, _hidden, 192.0.2.1", &["?", "?", "192.0.2.1"]),
            (
                "192.0.2.1:, 192.0.2.1:x, 192.0.2.256, 192.0.2, 0300.0.2.1, \"192.0.2.1\"",
                &["?"; 6],
            ),
            (
                "[192.0.2.1], [::1, ::1], [::1]80, [::1]:, fe80::1%eth0, 192.0.2.1 192.0.2.2",
                &["?"; 7],
            ),
            ("", &[]),
        ] {
            assert_eq!(texts(x_forwarded_for(value)), expected, "{value}");
        }
    }

    #[test]
    fn forwarded_by_its_grammar() {
        for (value, expected) in [
            ("for=192.0.2.1", &["192.0.2.1"] as &[&str]),
            ("For=\"192.0.2.1:4711\"", &["192.0.2.1"]),
            ("for=\"[2001:db8:cafe::17]:4711\"", &["2001:db8:cafe::17"]),
            (
                "for=192.0.2.1;proto=http;by=203.0.113.43, for=198.51.100.2",
                &["192.0.2.1", "198.51.100.2"],
            ),
            ("proto=https;for=192.0.2.1;host=\"a,b;c\"", &["192.0.2.1"]),
            ("for=unknown, for=_SEVKISEK, for=\"_gazonk:_p\"", &["?", "?", "?"]),
            ("proto=https, for=192.0.2.1", &["?", "192.0.2.1"]),
            (", for=192.0.2.1 ,, for=\"1\\92.0.2.2\"", &["192.0.2.1", "192.0.2.2"]),
            ("for=192.0.2.1;;proto=http;", &["192.0.2.1"]),
            (
                "for=2001, for=\"192.0.2.1:_port\", for=\"192.0.2.1:123456\"",
                &["?", "192.0.2.1", "?"],
            ),
        ] {
            let elements = forwarded(value).unwrap();
            let hops = elements.into_iter().map(|element| element.hop).collect();
            assert_eq!(texts(hops), expected, "{value}");
        }
    }

    #[test]
    fn forwarded_that_breaks_the_grammar_is_nothing() {
        for value in [
            "192.0.2.1",
            "for",
            "for=",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=192.0.2.1 198.51.100.2",
            "for=[2001:db8::1]",
            "for=192.0.2.1:80",
            "for=\"192.0.2.1",
            "for=\", for=198.51.100.2",
            "for=\"192.0.2.1\"x",
            "for=\"192.0.2.1\\",
            "for=192.0.2.1;for=192.0.2.1",
            ";",
            "=192.0.2.1",
            "for=192.0.2.1; proto=http",
        ] {
            assert_eq!(forwarded(value), None, "{value}");
        }
    }
}
