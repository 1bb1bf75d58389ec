//! `[auth]`: whose tokens and which API keys let in.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::without_line_end;
use super::{Fault, Secret, asked};
use crate::http::HttpClient;
use crate::session::identity::{
    Algorithm, ApiKey, Authority, ChannelPattern, FetchKeys, Issuer, IssuerKeys, Key, RemoteKeys, Scope,
};

/// The most that clocks may be apart, in seconds.
const LEEWAY_S_MAX: u64 = 600;

/// `[auth]`. While it has neither issuers nor API keys, everything is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whose tokens are accepted: tables `[[auth.issuers]]`, each with exactly one of `secret`, `secret_file`,
    /// `public_key_file`, `jwks_file` and `jwks_url`, and with `issuer`, `audience` and `algorithm` where wanted.
    pub issuers: Vec<IssuerTable>,
    /// The back ends' keys: tables `[[auth.api_keys]]`, as `throughline key` prints them, each with `name`, `hash`,
    /// `scopes` and `channels`.
    pub api_keys: Vec<ApiKeyTable>,
    /// How far the issuers' clocks may be from this one, in seconds.
    #[schemars(range(max = LEEWAY_S_MAX))]
    pub leeway_s: u64,
    /// The cookie in which browsers bring their token.
    pub cookie: Option<String>,
}

/// `[[auth.issuers]]`: exactly one of the keys' sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerTable {
    /// What `iss` must be; only a sole issuer may do without.
    pub issuer: Option<String>,
    /// One of these must be in `aud`.
    pub audience: OneOrMany,
    /// What its keys are for: `HS256`, `RS256`, `ES256` or `EdDSA`; unless told, what they are.
    pub algorithm: Option<String>,
    /// A secret, for HS256.
    pub secret: Option<Secret>,
    /// A file with a secret, without the line end after it.
    pub secret_file: Option<PathBuf>,
    /// A file with a public key in PEM.
    pub public_key_file: Option<PathBuf>,
    /// A file with a JWK set.
    pub jwks_file: Option<PathBuf>,
    /// Where a JWK set is.
    pub jwks_url: Option<String>,
}

/// `[[auth.api_keys]]`, as `throughline key` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyTable {
    /// Whose it is.
    pub name: String,
    /// The key's SHA-256 in hexadecimal digits.
    pub hash: String,
    /// What it is for: `publish`, `history`, `presence`, `operator`.
    pub scopes: Vec<String>,
    /// On which channels: names, or with a trailing `*` what they begin with.
    pub channels: Vec<String>,
}

/// A text, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    /// All of them.
    pub fn to_vec(&self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(many) => many.clone(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            api_keys: Vec::new(),
            leeway_s: 5,
            cookie: None,
        }
    }
}

impl Auth {
    /// What issuers publish under their `jwks_url`: how many keys that can be used, or what is wrong with it.
    pub async fn fetch_keys(&self, fetch: &dyn FetchKeys) -> Vec<(&str, Result<usize, String>)> {
        let mut found = Vec::new();
        for url in self.issuers.iter().filter_map(|issuer| issuer.jwks_url.as_deref()) {
            let fetched = fetch.fetch(url).await;
            let read = |bytes: Vec<u8>| Key::from_jwks(&bytes).map_err(|error| error.to_string());
            found.push((url, fetched.and_then(read).map(|keys| keys.len())));
        }
        found
    }

    /// The key that names the file with an issuer's keys, if there is one.
    pub fn file_key(&self, at: usize) -> Option<String> {
        let issuer = self.issuers.get(at)?;
        let files = [
            ("secret_file", &issuer.secret_file),
            ("public_key_file", &issuer.public_key_file),
            ("jwks_file", &issuer.jwks_file),
        ];
        let (name, _) = files.into_iter().find(|(_, file)| file.is_some())?;
        Some(format!("auth.issuers[{at}].{name}"))
    }

    /// Whether anybody is asked for anything.
    pub fn is_configured(&self) -> bool {
        !self.issuers.is_empty() || !self.api_keys.is_empty()
    }

    /// The first issuer whose secret is known, with it, among those of this name, if one is given: it can sign tokens to
    /// try with.
    ///
    /// # Errors
    /// [`Fault`], if the secret's file cannot be read.
    pub fn signing_issuer(&self, name: Option<&str>) -> Result<Option<(Vec<u8>, &IssuerTable)>, Fault> {
        let is_meant = |issuer: &&IssuerTable| name.is_none() || issuer.issuer.as_deref() == name;
        for issuer in self.issuers.iter().filter(is_meant) {
            if let Some(secret) = &issuer.secret {
                return Ok(Some((secret.reveal().as_bytes().to_vec(), issuer)));
            }
            if let Some(path) = &issuer.secret_file {
                let bad = |error| wrong(format!("auth.issuers: {}: {error}", path.display()));
                let secret = std::fs::read(path).map_err(bad)?;
                return Ok(Some((without_line_end(&secret).to_vec(), issuer)));
            }
        }
        Ok(None)
    }

    /// All that is wrong with it, with the files that it names too. Nothing is fetched.
    pub fn faults(&self) -> Vec<Fault> {
        let fetch: Arc<dyn FetchKeys> = Arc::new(HttpClient::default());
        let issuers = self.issuers.iter().enumerate();
        let of_issuers = issuers.filter_map(|(at, table)| table.read(at, &fetch).err());
        let keys = self.api_keys.iter().enumerate();
        let of_keys = keys.filter_map(|(at, table)| table.read(at).err());
        self.fault().into_iter().chain(of_issuers).chain(of_keys).collect()
    }

    /// What is wrong with it as a whole.
    fn fault(&self) -> Option<Fault> {
        if !self.is_configured() {
            let why = "auth.cookie: without issuers and API keys everything is open; add [[auth.issuers]]";
            return self.cookie.is_some().then(|| Fault::of_key("auth.cookie", why));
        }
        let mut names = HashSet::new();
        let is_doubtful = |issuer: &IssuerTable| issuer.issuer.is_none() && self.issuers.len() > 1;
        let mut issuers = self.issuers.iter();
        issuers
            .any(|issuer| !names.insert(&issuer.issuer) || is_doubtful(issuer))
            .then(|| wrong("auth.issuers: of several, each must have an `issuer` of its own"))
    }

    /// Reads the keys. `None`: everything is open.
    ///
    /// # Errors
    /// [`Fault`] names the table and the key, and what would be right; never what a secret says.
    pub fn authority(&self, fetch: &Arc<dyn FetchKeys>) -> Result<Option<Authority>, Fault> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        if !self.is_configured() {
            return Ok(None);
        }
        let issuers = self.issuers.iter().enumerate();
        let api_keys = self.api_keys.iter().enumerate();
        Ok(Some(Authority {
            issuers: issuers
                .map(|(at, table)| table.read(at, fetch))
                .collect::<Result<_, _>>()?,
            api_keys: api_keys.map(|(at, table)| table.read(at)).collect::<Result<_, _>>()?,
            leeway_s: self.leeway_s,
            cookie: self.cookie.clone(),
        }))
    }
}

impl IssuerTable {
    fn read(&self, at: usize, fetch: &Arc<dyn FetchKeys>) -> Result<Issuer, Fault> {
        let place = format!("auth.issuers[{at}]");
        self.read_at(&place, fetch).map_err(|why| Fault::of_key(place, why))
    }

    fn read_at(&self, place: &str, fetch: &Arc<dyn FetchKeys>) -> Result<Issuer, String> {
        let keys = self.keys(place, fetch)?;
        let algorithm = match self.algorithm.as_deref() {
            None => None,
            Some(name) => Some(
                Algorithm::parse(name)
                    .ok_or_else(|| format!("{place}.algorithm = {name:?}: must be HS256, RS256, ES256 or EdDSA"))?,
            ),
        };
        if let (IssuerKeys::Fixed(keys), Some(algorithm)) = (&keys, algorithm)
            && let Some(other) = keys.iter().find(|key| key.algorithm() != algorithm)
        {
            let (named, found) = (algorithm.name(), other.algorithm().name());
            return Err(format!("{place}.algorithm = {named:?}: but the key is one for {found}"));
        }
        Ok(Issuer {
            name: self.issuer.clone(),
            audience: self.audience.to_vec(),
            algorithm,
            keys,
        })
    }

    fn keys(&self, place: &str, fetch: &Arc<dyn FetchKeys>) -> Result<IssuerKeys, String> {
        let at = |key: &str, error: &dyn fmt::Display| format!("{place}.{key}: {error}");
        let read = |key: &str, path: &Path| {
            std::fs::read(path).map_err(|error| at(key, &format_args!("{}: {error}", path.display())))
        };
        let one = |key: Key| IssuerKeys::Fixed(Arc::new([key]));
        match (
            &self.secret,
            &self.secret_file,
            &self.public_key_file,
            &self.jwks_file,
            &self.jwks_url,
        ) {
            (Some(secret), None, None, None, None) => Key::from_secret(secret.reveal().as_bytes())
                .map(one)
                .map_err(|error| at("secret", &error)),
            (None, Some(path), None, None, None) => Key::from_secret(without_line_end(&read("secret_file", path)?))
                .map(one)
                .map_err(|error| at("secret_file", &error)),
            (None, None, Some(path), None, None) => Key::from_pem(&read("public_key_file", path)?)
                .map(one)
                .map_err(|error| at("public_key_file", &error)),
            (None, None, None, Some(path), None) => match Key::from_jwks(&read("jwks_file", path)?) {
                Ok(keys) if !keys.is_empty() => Ok(IssuerKeys::Fixed(keys.into())),
                Ok(_) => Err(at("jwks_file", &"no key in it is for RS256, ES256 or EdDSA signatures")),
                Err(error) => Err(at("jwks_file", &error)),
            },
            (None, None, None, None, Some(url)) => {
                match asked::why_not(url, "public keys are fetched without a password") {
                    None => Ok(IssuerKeys::Remote(RemoteKeys::new(url.clone(), Arc::clone(fetch)))),
                    Some(why) => Err(at("jwks_url", &why)),
                }
            }
            _ => Err(format!(
                "{place}: needs exactly one of `secret`, `secret_file`, `public_key_file`, `jwks_file` and `jwks_url`"
            )),
        }
    }
}

impl ApiKeyTable {
    fn read(&self, at: usize) -> Result<ApiKey, Fault> {
        let place = format!("auth.api_keys[{at}]");
        self.read_at(&place).map_err(|why| Fault::of_key(place, why))
    }

    fn read_at(&self, place: &str) -> Result<ApiKey, String> {
        let mut scopes = Vec::new();
        for word in &self.scopes {
            let bad = || format!("{place}.scopes: {word:?} is none of publish, history, presence and operator");
            scopes.push(Scope::parse(word).ok_or_else(bad)?);
        }
        let mut channels = Vec::new();
        for text in &self.channels {
            let bad = |error| format!("{place}.channels: {text:?}: {error}");
            channels.push(ChannelPattern::parse(text).map_err(bad)?);
        }
        ApiKey::new(&self.name, &self.hash, &scopes, &channels).map_err(|error| format!("{place}: {error}"))
    }
}

/// Of the issuers, wherever they stand; the text says which.
fn wrong(why: impl Into<String>) -> Fault {
    Fault::of_key("auth.issuers", why)
}
