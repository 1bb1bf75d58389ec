//! Fetches an issuer's keys over HTTP: no redirects, a deadline, a bound on what is read.

use std::time::Duration;

use futures_util::future::BoxFuture;
use ureq::tls::{RootCerts, TlsConfig};

use crate::session::identity::{FetchKeys, JWKS_BYTES_MAX};

/// How long a whole exchange may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches with the certificates that this machine trusts.
#[derive(Debug)]
pub struct HttpFetch {
    agent: ureq::Agent,
}

impl Default for HttpFetch {
    fn default() -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(FETCH_TIMEOUT))
            .max_redirects(0)
            .user_agent(concat!("throughline/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.new_agent(),
        }
    }
}

impl FetchKeys for HttpFetch {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        let (agent, url) = (self.agent.clone(), url.to_owned());
        Box::pin(async move {
            // On a thread that may block, for at most the time-out.
            let fetching = tokio::task::spawn_blocking(move || get(&agent, &url));
            fetching.await.unwrap_or_else(|error| Err(error.to_string()))
        })
    }
}

fn get(agent: &ureq::Agent, url: &str) -> Result<Vec<u8>, String> {
    let mut response = agent.get(url).call().map_err(|error| error.to_string())?;
    if response.status() != 200 {
        return Err(format!("the answer is {}, not 200", response.status()));
    }
    let body = response.body_mut().with_config().limit(JWKS_BYTES_MAX as u64);
    body.read_to_vec().map_err(|error| error.to_string())
}
