//! A token as it comes: three parts, of which only the header is believed, and only as far as to choose a key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::api_key::PREFIX;
use super::{Algorithm, Refusal};

/// The longest token, in bytes. It is asked before anything is read.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The longest `kid`, in bytes.
const KEY_ID_BYTES_MAX: usize = 256;

/// A token, taken apart.
pub(super) struct Compact<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// What is signed.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    /// The claims, as JSON that nobody has vouched for yet.
    pub(super) payload: Vec<u8>,
}

/// A header. What would let it name keys of its own, or change how it is to be read, is only looked for.
#[derive(Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "given")]
    alg: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    kid: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    jku: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    jwk: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    x5u: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    x5c: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    crit: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    b64: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    zip: Option<Value>,
}

/// A field that is `null` is there, and is `null`.
pub(super) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl<'a> Compact<'a> {
    pub(super) fn read(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        if token
            .get(..7)
            .is_some_and(|begin| begin.eq_ignore_ascii_case("bearer "))
        {
            return Err(Refusal::Scheme);
        }
        if token.starts_with(PREFIX) {
            return Err(Refusal::ApiKey);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::NotCompact)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::NotCompact)?;
        // A fourth part is no base64.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::NotCompact);
        let (algorithm, key_id) = read_header(&decode(header)?)?;
        Ok(Self {
            algorithm,
            key_id,
            message: message.as_bytes(),
            signature: decode(signature)?,
            payload: decode(payload)?,
        })
    }
}

fn read_header(json: &[u8]) -> Result<(Algorithm, Option<String>), Refusal> {
    if json.first() != Some(&b'{') {
        return Err(Refusal::NotCompact);
    }
    let header: Header = serde_json::from_slice(json).map_err(|_| Refusal::NotCompact)?;
    for (name, value) in [
        ("jku", &header.jku),
        ("jwk", &header.jwk),
        ("x5u", &header.x5u),
        ("x5c", &header.x5c),
        ("crit", &header.crit),
        ("b64", &header.b64),
        ("zip", &header.zip),
    ] {
        if value.is_some() {
            return Err(Refusal::HeaderParameter(name));
        }
    }
    let key_id = match header.kid {
        None => None,
        Some(Value::String(id)) if id.len() <= KEY_ID_BYTES_MAX => Some(id),
        Some(_) => return Err(Refusal::UnknownKey),
    };
    let name = header.alg.as_ref().and_then(Value::as_str).unwrap_or_default();
    let algorithm = Algorithm::parse(name).ok_or(Refusal::Algorithm)?;
    Ok((algorithm, key_id))
}
