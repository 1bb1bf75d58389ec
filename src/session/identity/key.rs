//! A key that tokens are checked with. It is bound to its algorithm: what a token names cannot change how it is used.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};

use super::voucher::Voucher;

/// The shortest secret of HS256, in bytes (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;

/// A point of P-256, uncompressed, in bytes.
const P256_POINT_BYTES: usize = 65;

/// What an RSA public key of 2048 bits takes at least, in bytes of DER.
const RSA_2048_BYTES_MIN: usize = 256;

/// The most keys of one issuer.
const KEYS_COUNT_MAX: usize = 64;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    Hs256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// By its name in a token's header; nothing else is an algorithm, least of all `none`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A key, its algorithm, and its name if it has one.
#[derive(Clone)]
pub struct Key {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    material: DecodingKey,
}

/// Why something is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadKey(String);

impl BadKey {
    pub(super) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl Key {
    /// A shared secret.
    ///
    /// # Errors
    /// [`BadKey`], if it is too short to be safe.
    pub fn from_secret(secret: &[u8]) -> Result<Self, BadKey> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(BadKey(format!(
                "a secret for HS256 must have at least {SECRET_BYTES_MIN} bytes, but it has {}",
                secret.len()
            )));
        }
        Ok(Self {
            id: None,
            algorithm: Algorithm::Hs256,
            material: DecodingKey::from_secret(secret),
        })
    }

    /// A public key in PEM; its kind says its algorithm.
    ///
    /// # Errors
    /// [`BadKey`], if it is neither RSA, P-256 nor Ed25519, or not a public key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadKey> {
        const PRIVATE: &[u8] = b"PRIVATE KEY-----";
        if pem.windows(PRIVATE.len()).any(|part| part == PRIVATE) {
            return Err(BadKey::new(
                "this is a private key, not a public key; it belongs to the issuer alone",
            ));
        }
        let tried = [
            (Algorithm::Rs256, DecodingKey::from_rsa_pem(pem)),
            (Algorithm::Es256, DecodingKey::from_ec_pem(pem)),
            (Algorithm::EdDsa, DecodingKey::from_ed_pem(pem)),
        ];
        let found = tried
            .into_iter()
            .find_map(|(algorithm, key)| Some((algorithm, key.ok()?)));
        let (algorithm, material) = found.ok_or_else(|| {
            BadKey("not a public key in PEM (`BEGIN PUBLIC KEY`) of RSA, P-256 or Ed25519".to_owned())
        })?;
        // Another curve, or too few bits to be safe: no signature would ever fit.
        let bytes = material.try_get_as_bytes().map_or(0, <[u8]>::len);
        match algorithm {
            Algorithm::Es256 if bytes != P256_POINT_BYTES => Err(BadKey::new("the curve is not P-256, as ES256 needs")),
            Algorithm::Rs256 if bytes < RSA_2048_BYTES_MIN => Err(BadKey::new("the RSA key has less than 2048 bits")),
            Algorithm::Hs256 | Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => Ok(Self {
                id: None,
                algorithm,
                material,
            }),
        }
    }

    /// The keys of a JWK set that can check signatures; others are passed over, and secrets too: what a server
    /// publishes is none.
    ///
    /// # Errors
    /// [`BadKey`], if it is no JWK set, or has too many keys.
    pub fn from_jwks(json: &[u8]) -> Result<Vec<Self>, BadKey> {
        let set: JwkSet = serde_json::from_slice(json)
            .map_err(|error| BadKey(format!("not a JWK set ({:?}, line {})", error.classify(), error.line())))?;
        if set.keys.len() > KEYS_COUNT_MAX {
            return Err(BadKey(format!("more than {KEYS_COUNT_MAX} keys")));
        }
        Ok(set.keys.iter().filter_map(Self::from_jwk).collect())
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::Rs256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::Es256,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDsa,
            AlgorithmParameters::EllipticCurve(_)
            | AlgorithmParameters::OctetKeyPair(_)
            | AlgorithmParameters::OctetKey(_)
            | AlgorithmParameters::Other(_)
            | _ => return None,
        };
        let is_for_it = jwk
            .common
            .key_algorithm
            .is_none_or(|named| named.to_string() == algorithm.name());
        let is_for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        if !is_for_it || !is_for_signatures {
            return None;
        }
        Some(Self {
            id: jwk.common.key_id.as_deref().map(Into::into),
            algorithm,
            material: DecodingKey::from_jwk(jwk).ok()?,
        })
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether a token that names this algorithm and key may be checked with it. A key or a token without a name fits
    /// every other one.
    pub(super) fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let is_named = match (&self.id, id) {
            (Some(own), Some(id)) => &**own == id,
            _ => true,
        };
        self.algorithm == algorithm && is_named
    }

    /// What tells it from other keys.
    pub(super) fn voucher(&self, issuer: &[u8]) -> Voucher {
        match self.material.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => Voucher::of(&[issuer, self.algorithm.name().as_bytes(), bytes]),
            DecodingKeyKind::RsaModulusExponent { n, e } => Voucher::of(&[issuer, b"components", n, e]),
        }
    }

    /// Whether it is the same, whatever it is called.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.voucher(b"") == other.voucher(b"")
    }

    /// Whether it has signed this.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verify = |algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]| {
            UnparsedPublicKey::new(algorithm, bytes)
                .verify(message, signature)
                .is_ok()
        };
        match (self.algorithm, self.material.kind()) {
            (Algorithm::Hs256, DecodingKeyKind::SecretOrDer(secret)) => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
                ring::hmac::verify(&key, message, signature).is_ok()
            }
            (Algorithm::Rs256, DecodingKeyKind::SecretOrDer(key)) => verify(&RSA_PKCS1_2048_8192_SHA256, key),
            (Algorithm::Rs256, DecodingKeyKind::RsaModulusExponent { n, e }) => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            (Algorithm::Es256, DecodingKeyKind::SecretOrDer(key)) => verify(&ECDSA_P256_SHA256_FIXED, key),
            (Algorithm::EdDsa, DecodingKeyKind::SecretOrDer(key)) => verify(&ED25519, key),
            (Algorithm::Hs256 | Algorithm::Es256 | Algorithm::EdDsa, DecodingKeyKind::RsaModulusExponent { .. }) => {
                false
            }
        }
    }
}

/// Not what it is made of.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_could_check_nothing_is_refused_at_once() {
        let algorithm_of = |pem: &[u8]| Key::from_pem(pem).map(|key| key.algorithm().name());
        assert_eq!(
            algorithm_of(include_bytes!("../../../fixtures/keys/rsa.pub.pem")),
            Ok("RS256")
        );
        assert_eq!(
            algorithm_of(include_bytes!("../../../fixtures/keys/ec.pub.pem")),
            Ok("ES256")
        );
        assert_eq!(
            algorithm_of(include_bytes!("../../../fixtures/keys/ed.pub.pem")),
            Ok("EdDSA")
        );
        for (pem, expected) in [
            (&include_bytes!("../../../fixtures/keys/ec384.pub.pem")[..], "P-256"),
            (include_bytes!("../../../fixtures/keys/rsa1024.pub.pem"), "2048"),
            (include_bytes!("../../../fixtures/keys/rsa.pem"), "private"),
            (include_bytes!("../../../fixtures/keys/ec.pem"), "private"),
            (b"", "not a public key"),
        ] {
            let error = Key::from_pem(pem).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
