//! Makes tokens, for development and for tests: what a real issuer does elsewhere.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Serialize;

use super::{Algorithm, BadKey};

/// A key that signs tokens.
pub struct SigningKey {
    algorithm: Algorithm,
    material: EncodingKey,
}

/// What a token says.
#[derive(Debug, Default, Serialize)]
pub struct Claims {
    /// Who issues it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom it is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// The user.
    pub sub: String,
    /// When it was issued, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// What it allows.
    pub throughline: GrantClaims,
}

/// What a token allows, as patterns; those that are empty are left out.
#[derive(Debug, Default, Serialize)]
pub struct GrantClaims {
    /// Channels that may be subscribed to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    /// Channels that may be published to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// Channels whose window may be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
    /// Channels whose members may be seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub presence: Vec<String>,
    /// Channels that the server subscribes at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
}

impl SigningKey {
    /// A shared secret.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self {
            algorithm: Algorithm::Hs256,
            material: EncodingKey::from_secret(secret),
        }
    }

    /// A private key in PEM; its kind says its algorithm.
    ///
    /// # Errors
    /// [`BadKey`], if it is none of RSA, P-256 or Ed25519.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadKey> {
        let tried = [
            (Algorithm::Rs256, EncodingKey::from_rsa_pem(pem)),
            (Algorithm::Es256, EncodingKey::from_ec_pem(pem)),
            (Algorithm::EdDsa, EncodingKey::from_ed_pem(pem)),
        ];
        let found = tried
            .into_iter()
            .find_map(|(algorithm, key)| Some((algorithm, key.ok()?)));
        let (algorithm, material) = found.ok_or_else(|| {
            BadKey::new("not a private key in PEM (PKCS#8, `BEGIN PRIVATE KEY`) of RSA, P-256 or Ed25519")
        })?;
        Ok(Self { algorithm, material })
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BadKey> {
        let bad = || BadKey::new("the private key cannot sign");
        let der = self.material.as_bytes();
        let random = SystemRandom::new();
        match self.algorithm {
            Algorithm::Hs256 => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, der);
                Ok(ring::hmac::sign(&key, message).as_ref().to_vec())
            }
            Algorithm::Rs256 => {
                let key = RsaKeyPair::from_der(der).map_err(|_| bad())?;
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map_err(|_| bad())?;
                Ok(signature)
            }
            Algorithm::Es256 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
                let signed = key.map_err(|_| bad())?.sign(&random, message).map_err(|_| bad())?;
                Ok(signed.as_ref().to_vec())
            }
            Algorithm::EdDsa => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| bad())?;
                Ok(key.sign(message).as_ref().to_vec())
            }
        }
    }
}

/// Not what it is made of.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A token that says this.
///
/// # Errors
/// [`BadKey`], if the key cannot sign.
pub fn mint(claims: &impl Serialize, key: &SigningKey) -> Result<String, BadKey> {
    let header = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, key.algorithm.name());
    let claims = serde_json::to_vec(claims).map_err(|_| BadKey::new("the claims are no JSON"))?;
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(message.as_bytes())?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
