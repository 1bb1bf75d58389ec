//! The flags that say where the server is, and who asks.

use std::path::PathBuf;

use hyper::header::HeaderValue;

use super::peer::Peer;
use super::tls;
use super::url::{self, Target};

/// Where the server is, and who asks.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Connect {
    /// Where the server is, as `http://`, `https://`, `ws://` or `wss://`, or as `unix:` and a socket's path; the
    /// environment's `THROUGHLINE_URL` is the default, if set
    #[arg(long, value_name = "URL", default_value = url::default_url())]
    url: Target,

    /// Who asks: sent as `Authorization: Bearer`. Others see a command's flags; the variable is safer
    #[arg(long, value_name = "TOKEN", env = "THROUGHLINE_TOKEN", hide_env_values = true)]
    token: Option<Token>,

    /// Trust the certificates that this file (PEM) signed, and no others [default: whom this machine trusts, or
    /// `SSL_CERT_FILE`]
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Believe whoever answers at an `https://` URL to be the server: anyone on the way can read and change everything
    #[arg(long, conflicts_with = "cacert")]
    insecure_skip_verify: bool,
}

/// A token, which is not printed.
#[derive(Clone)]
struct Token(String);

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

impl Connect {
    /// The server, ready to be connected to.
    ///
    /// # Errors
    /// The flag that makes no sense, and why.
    pub(crate) fn peer(self) -> Result<Peer, (&'static str, String)> {
        let token = self.token.filter(|token| !token.0.is_empty());
        let bearer = token.as_ref().map(bearer).transpose()?;
        let trust = if self.insecure_skip_verify {
            tls::Trust::Anyone
        } else {
            self.cacert.map_or(tls::Trust::Machine, tls::Trust::SignedBy)
        };
        let tls = if self.url.is_secure() {
            Some(tls::connector(&trust).map_err(|why| ("--cacert", why))?)
        } else {
            None
        };
        Ok(Peer::new(self.url, tls, bearer))
    }
}

/// Marked as sensitive, so that no library prints it either.
fn bearer(token: &Token) -> Result<HeaderValue, (&'static str, String)> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.0.trim()));
    let mut value = value.map_err(|_| ("--token", "a token has no control characters".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
