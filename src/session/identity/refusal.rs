//! Every reason for which credentials are refused. None says anything of what stands in them.

use std::fmt;

use super::claims::SUBJECT_BYTES_MAX;
use super::compact::TOKEN_BYTES_MAX;
use crate::protocol::{Code, Problem};

/// Why credentials are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is longer than any that is read.
    TooLong,
    /// It is not three parts of base64url, the first of which is a JSON object.
    NotCompact,
    /// The word of the header `Authorization` stands before it.
    Scheme,
    /// It is an API key.
    ApiKey,
    /// It has a field twice, of which one might mean less than the other.
    Twice(&'static str),
    /// Its header names keys or extensions of its own.
    HeaderParameter(&'static str),
    /// Its header names no algorithm that is accepted.
    Algorithm,
    /// Nobody whose tokens are accepted has issued it.
    Issuer,
    /// The issuer has no such key for this algorithm.
    UnknownKey,
    /// The issuer's keys cannot be had now.
    KeysUnavailable,
    /// It was signed with another key, or changed since.
    Signature,
    /// A claim is missing, or not of its kind.
    Claim(&'static str, &'static str),
    /// It was issued for somebody else.
    Audience,
    /// `exp` is past.
    Expired,
    /// `nbf` is still to come.
    NotYet,
    /// `iat` is still to come.
    FromTheFuture,
    /// No API key here is this one.
    UnknownApiKey,
    /// There are none, and without them nobody is let in.
    Missing,
}

impl Refusal {
    /// The word by which it is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong | Self::NotCompact | Self::Scheme | Self::ApiKey => "not_a_token",
            Self::Twice(_) | Self::Claim(..) => "claims",
            Self::HeaderParameter(_) | Self::Algorithm => "header",
            Self::Issuer => "issuer",
            Self::UnknownKey => "unknown_key",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet | Self::FromTheFuture => "not_yet",
            Self::UnknownApiKey => "unknown_api_key",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the token has more than {TOKEN_BYTES_MAX} bytes"),
            Self::NotCompact => f.write_str("this is not a JWT: three parts in base64url, joined by dots"),
            Self::Scheme => f.write_str(
                "`Bearer` stands before the token: it belongs into the header `Authorization` alone; leave it out here",
            ),
            Self::ApiKey => f.write_str(
                "this is an API key and not a token; a key comes in a header, as `Authorization: Bearer …` or `X-API-Key`",
            ),
            Self::Twice(name) => write!(f, "the token's `{name}` has a field twice"),
            Self::HeaderParameter(name) => write!(f, "the token's header has `{name}`, which is not accepted"),
            Self::Algorithm => f.write_str(
                "the token's `alg` is not that of its issuer's keys; there are HS256, RS256, ES256 and EdDSA",
            ),
            Self::Issuer => f.write_str("the token's `iss` is none whose tokens are accepted here"),
            Self::UnknownKey => f.write_str("the token's issuer has no key of its `kid` and `alg`"),
            Self::KeysUnavailable => f.write_str("the keys of the token's issuer cannot be had now; try again"),
            Self::Signature => f.write_str("the token's signature does not fit"),
            Self::Claim("sub", "") => {
                write!(
                    f,
                    "`sub` must be 1 to {SUBJECT_BYTES_MAX} bytes without control characters"
                )
            }
            Self::Claim(name, right) => write!(f, "the token's `{name}` must be {right}"),
            Self::Audience => f.write_str("the token's `aud` does not name this server"),
            Self::Expired => f.write_str("the token has expired; come with a new one"),
            Self::NotYet => f.write_str("the token's `nbf` is still to come: it is not valid yet"),
            Self::FromTheFuture => f.write_str("the token's `iat` is still to come: is its issuer's clock right?"),
            Self::UnknownApiKey => f.write_str("there is no such API key here"),
            Self::Missing => f.write_str(
                "credentials are needed: send a token as `Authorization: Bearer …`, or as docs/protocol.md §9 says",
            ),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        const RETRY_MS: u64 = 5_000;
        let detail = refusal.to_string();
        match refusal {
            Refusal::Expired => Self::new(Code::TokenExpired, detail),
            Refusal::Missing => Self::new(Code::Unauthenticated, detail),
            Refusal::KeysUnavailable => Self::new(Code::Overloaded, detail).retry_after_ms(RETRY_MS),
            Refusal::TooLong
            | Refusal::NotCompact
            | Refusal::Scheme
            | Refusal::ApiKey
            | Refusal::Twice(_)
            | Refusal::HeaderParameter(_)
            | Refusal::Algorithm
            | Refusal::Issuer
            | Refusal::UnknownKey
            | Refusal::Signature
            | Refusal::Claim(..)
            | Refusal::Audience
            | Refusal::NotYet
            | Refusal::FromTheFuture
            | Refusal::UnknownApiKey => Self::new(Code::TokenInvalid, detail),
        }
    }
}
