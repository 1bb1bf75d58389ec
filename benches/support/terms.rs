//! On what terms a server is run: open to all, as it is without a configuration, or with everything on that guards and
//! watches a service in production.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::routing::post;
use throughline::session::identity::{GrantClaims, MintedClaims, NewApiKey, SigningKey, mint};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::cores::Cores;
use super::process::Process;

const SECRET: &str = "a secret of the benchmark that is long enough for HS256";
const ISSUER: &str = "https://app.example";
const AUDIENCE: &str = "throughline";
const ORIGIN: &str = "https://www.app.example";
const TOKEN_LIFE_S: u64 = 3_600;

/// No configuration: nobody shows anything.
pub(crate) static OPEN: Terms = Terms { guarded: None };

/// How a server is configured, and what its clients have to show.
pub(crate) struct Terms {
    guarded: Option<Guarded>,
}

/// How much is on, each with all that stands before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Extent {
    /// Limits that bind everybody, and trusted proxies.
    Limits,
    /// Everybody shows a token; API keys and origins.
    Tokens,
    /// Everybody is present on the channel.
    Presence,
    /// The app is asked about each subscription and told who comes.
    All,
}

/// Whose the connections are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crowd {
    /// All of one user, by one token.
    OneUser,
    /// Each of a user of its own, by a token of its own.
    Users,
}

struct Guarded {
    extent: Extent,
    crowd: Crowd,
    directory: PathBuf,
    api_key: String,
    signing: SigningKey,
    app: JoinHandle<()>,
    now_s: u64,
}

impl Terms {
    /// Tokens, API keys, namespaces, presence, hooks, webhooks, origins, trusted proxies and limits that bind everybody
    /// are on, and the operators have their own listener.
    pub(crate) async fn guarded() -> io::Result<Terms> {
        Terms::with(Extent::All, Crowd::Users).await
    }

    /// So much of that is on, for such a crowd.
    pub(crate) async fn with(extent: Extent, crowd: Crowd) -> io::Result<Terms> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let app = listener.local_addr()?.to_string();
        let NewApiKey { key, hash } = NewApiKey::from_random(&std::array::from_fn(|_| fastrand::u8(..)));
        let directory = std::env::temp_dir().join(format!("throughline-bench-{}-{hash:.16}", std::process::id()));
        fs::create_dir(&directory)?;
        let router = Router::new()
            .route("/hooks", post(|| async { r#"{"allow":true}"# }))
            .route("/webhooks", post(|| async { "" }));
        let app_task = tokio::spawn(async move {
            // Ends with the benchmark.
            let _ = axum::serve(listener, router).await;
        });
        let guarded = Guarded {
            extent,
            crowd,
            directory,
            api_key: key,
            signing: SigningKey::from_secret(SECRET.as_bytes()),
            app: app_task,
            now_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_err(io::Error::other)?
                .as_secs(),
        };
        fs::write(guarded.path(), configuration(extent, &app, &hash))?;
        Ok(Terms { guarded: Some(guarded) })
    }

    /// The server, on these terms.
    pub(crate) fn serve(&self, cores: &Cores) -> io::Result<Process> {
        let Some(guarded) = &self.guarded else {
            return Process::throughline(cores);
        };
        let path = guarded.path().to_string_lossy().into_owned();
        Process::throughline_with(cores, &[("THROUGHLINE_CONFIG", path)])
    }

    /// The header lines of the `number`-th client.
    pub(crate) fn client(&self, number: usize) -> io::Result<String> {
        let Some(guarded) = &self.guarded else {
            return Ok(String::new());
        };
        let number = if guarded.crowd == Crowd::OneUser { 0 } else { number };
        // As a proxy says it that is trusted.
        let mut lines = format!("X-Forwarded-For: 203.0.113.{}\r\n", number % 250);
        if guarded.extent >= Extent::Tokens {
            let token = guarded.token(number)?;
            let _ = write!(lines, "Authorization: Bearer {token}\r\nOrigin: {ORIGIN}\r\n");
        }
        Ok(lines)
    }

    /// The header lines of a back end.
    pub(crate) fn back_end(&self) -> String {
        self.guarded
            .as_ref()
            .map_or_else(String::new, |guarded| format!("X-API-Key: {}\r\n", guarded.api_key))
    }
}

impl Guarded {
    fn token(&self, number: usize) -> io::Result<String> {
        let claims = MintedClaims {
            iss: Some(ISSUER.to_owned()),
            aud: Some(AUDIENCE.to_owned()),
            sub: format!("user-{number}"),
            iat: self.now_s,
            exp: self.now_s + TOKEN_LIFE_S,
            throughline: GrantClaims {
                subscribe: vec!["*".to_owned()],
                ..GrantClaims::default()
            },
        };
        mint(&claims, &self.signing).map_err(io::Error::other)
    }

    fn path(&self) -> PathBuf {
        self.directory.join("throughline.toml")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.app.abort();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn configuration(extent: Extent, app: &str, key_hash: &str) -> String {
    let parts = [
        (Extent::Limits, LIMITS.to_owned()),
        (Extent::Tokens, tokens(key_hash)),
        (Extent::Presence, PRESENCE.to_owned()),
        (Extent::All, hooks(app)),
    ];
    let is_on = |(least, part): (Extent, String)| (extent >= least).then_some(part);
    parts.into_iter().filter_map(is_on).collect()
}

const LIMITS: &str = r#"trusted_proxies = ["127.0.0.0/8"]
origins = ["https://*.app.example"]

[operations]
listen = "127.0.0.1:0"

[rates]
ip_connections_per_s = 100000
ip_connections_burst = 100000
ip_open_connections_max = 20000
ip_polls_per_s = 100000
ip_polls_burst = 100000
ip_publications_per_s = 100000
ip_publications_burst = 100000
user_publications_per_s = 100000
user_publications_burst = 100000
key_publications_per_s = 100000
key_publications_burst = 100000
channel_publications_per_s = 100000
channel_publications_burst = 100000
"#;

fn tokens(key_hash: &str) -> String {
    format!(
        r#"
[auth]
[[auth.issuers]]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
secret = "{SECRET}"

[[auth.api_keys]]
name = "app"
hash = "{key_hash}"
scopes = ["publish", "history", "presence"]
channels = ["*"]
"#
    )
}

const PRESENCE: &str = r#"
[[namespaces]]
name = "*"
publish = "granted"
presence_on = true
publication_bytes_max = 4096
"#;

fn hooks(app: &str) -> String {
    format!(
        r#"
[hooks]
subscribe_url = "http://{app}/hooks"
publish_url = "http://{app}/hooks"
secret = "{SECRET}"
forward_headers = ["origin"]
forward_address = true

[webhooks]
url = "http://{app}/webhooks"
secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
"#
    )
}
