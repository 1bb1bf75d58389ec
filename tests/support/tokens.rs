//! Tokens as an issuer makes them, and as an attacker does: any header, any claims, any signature.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

/// The secret of the issuer `hs`, and of all tests that have only one.
pub(crate) const SECRET: &str = "a secret for tests, of which everybody knows";

/// An API key of 43 times the same character.
pub(crate) fn api_key(character: char) -> String {
    format!("tlk_{}", character.to_string().repeat(43))
}

/// The hash of a key, as it stands in a configuration.
pub(crate) fn hash(key: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let digits = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.map(|digit| char::from_digit(digit.into(), 16));
    digits.map(|digit| digit.expect("below 16")).collect()
}

pub(crate) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970").as_secs()
}

pub(crate) fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// How a message is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signer<'a> {
    Hmac(&'a [u8]),
    Rsa,
    Ec,
    Ed,
    /// These very bytes, whatever is signed.
    Bytes(&'a [u8]),
}

/// A private key of `fixtures/keys`.
fn private(name: &str) -> Vec<u8> {
    let path = format!("{}/fixtures/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let decoded = base64::engine::general_purpose::STANDARD.decode(lines);
    decoded.expect("PEM is base64")
}

impl Signer<'_> {
    pub(crate) fn sign(self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(secret) => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
                ring::hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::Rsa => {
                let key = RsaKeyPair::from_pkcs8(&private("rsa")).expect("a key");
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("it signs");
                signature
            }
            Self::Ec => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &private("ec"), &random);
                let signed = key.expect("a key").sign(&random, message);
                signed.expect("it signs").as_ref().to_vec()
            }
            Self::Ed => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&private("ed")).expect("a key");
                key.sign(message).as_ref().to_vec()
            }
            Self::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

/// A token of any header and claims, both as they are.
pub(crate) fn forge(header: &str, claims: &str, signer: Signer<'_>) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = signer.sign(message.as_bytes());
    format!("{message}.{}", encode(signature))
}

/// A token as it should be, by the secret: of a user, for so many seconds, with these grants.
pub(crate) fn token(user: &str, seconds: u64, grants: &Value) -> String {
    let claims = json!({"sub": user, "exp": now_s() + seconds, "throughline": grants});
    forge(
        r#"{"alg":"HS256"}"#,
        &claims.to_string(),
        Signer::Hmac(SECRET.as_bytes()),
    )
}
