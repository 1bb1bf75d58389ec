//! `throughline token`: makes a token to try with, and explains one.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use throughline::config::{Auth, IssuerTable};
use throughline::http::HttpClient;
use throughline::session::identity::{
    Authority, ChannelPattern, FetchKeys, GrantClaims, MintedClaims, SigningKey, explain, mint,
};

use super::client::terminal::print;
use super::configured::ConfigFile;
use super::exit::{Exit, fail};

/// The longest input that is taken for a token, in bytes.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

/// Where nothing can sign.
const NO_SECRET: &str = "no issuer in the configuration has a `secret` or `secret_file`; name a configuration with \
                         --config, or a private key with --key-file";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Token {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    minted: Minted,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Say whether the configuration accepts a token, what it says, and what is wrong with it
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    file: ConfigFile,
    /// The token; without it, it is read from standard input, where no process list and no history shows it
    token: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Minted {
    #[command(flatten)]
    file: ConfigFile,
    /// A private key in PEM (PKCS#8) that signs, instead of the configuration's first issuer with a secret
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The issuer of the configuration whose token it is, by its `issuer`; needed with --key-file where several publish
    /// their keys
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// The user
    #[arg(long, value_name = "USER", default_value = "dev")]
    sub: String,
    /// For how long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    exp: u64,
    /// Channels that may be subscribed to: a name, or with a trailing * what they begin with; repeat for several
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// Channels that may be published to
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// Channels whose window may be read
    #[arg(long, value_name = "PATTERN")]
    history: Vec<String>,
    /// Channels whose members may be seen
    #[arg(long, value_name = "PATTERN")]
    presence: Vec<String>,
    /// Channels that the server subscribes at once
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
}

pub(crate) async fn run(asked: Token) -> ExitCode {
    let done = match asked.action {
        Some(Action::Verify(verify)) => verified(verify).await,
        None => minted(asked.minted).map(|token| (token, Exit::Done)),
    };
    match done {
        Ok((text, exit)) => print(&text).break_value().unwrap_or(exit.into()),
        Err(error) => fail(Exit::Config, error),
    }
}

fn minted(asked: Minted) -> Result<String, String> {
    let patterns = [
        &asked.subscribe,
        &asked.publish,
        &asked.history,
        &asked.presence,
        &asked.channel,
    ];
    for pattern in patterns.into_iter().flatten() {
        ChannelPattern::parse(pattern).map_err(|error| format!("{pattern}: {error}"))?;
    }
    let loaded = asked.file.load().map_err(|error| error.to_string())?;
    let config = &loaded.config;
    let (key, issuer) = if let Some(path) = &asked.key_file {
        let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let key = SigningKey::from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))?;
        (key, key_holder(&config.auth, asked.issuer.as_deref())?)
    } else {
        let signs = config
            .auth
            .signing_issuer(asked.issuer.as_deref())
            .map_err(|fault| loaded.placed(fault).to_string())?;
        let (secret, issuer) = match (signs, &asked.issuer) {
            (Some(signs), _) => signs,
            (None, None) => return Err(NO_SECRET.to_owned()),
            (None, Some(name)) => {
                named(&config.auth, name)?;
                return Err(format!(
                    "the issuer {name:?} has neither `secret` nor `secret_file`; name its private key with --key-file"
                ));
            }
        };
        (SigningKey::from_secret(&secret), Some(issuer))
    };
    let now_s = now_ms() / 1000;
    let claims = MintedClaims {
        iss: issuer.and_then(|issuer| issuer.issuer.clone()),
        aud: issuer.and_then(|issuer| issuer.audience.to_vec().into_iter().next()),
        sub: asked.sub,
        iat: now_s,
        exp: now_s.saturating_add(asked.exp),
        throughline: GrantClaims {
            subscribe: asked.subscribe,
            publish: asked.publish,
            history: asked.history,
            presence: asked.presence,
            channels: asked.channel,
        },
    };
    mint(&claims, &key).map_err(|error| error.to_string())
}

/// The issuer by this name.
fn named<'a>(auth: &'a Auth, name: &str) -> Result<&'a IssuerTable, String> {
    let found = auth
        .issuers
        .iter()
        .find(|issuer| issuer.issuer.as_deref() == Some(name));
    found.ok_or_else(|| {
        let names = names(auth.issuers.iter());
        format!("--issuer {name:?}: the configuration has no such issuer; {names}")
    })
}

/// Whose token it is that a private key signs: of the issuer that is named, or of the only one that has public keys.
fn key_holder<'a>(auth: &'a Auth, name: Option<&str>) -> Result<Option<&'a IssuerTable>, String> {
    if let Some(name) = name {
        return named(auth, name).map(Some);
    }
    let has_secret = |issuer: &&IssuerTable| issuer.secret.is_some() || issuer.secret_file.is_some();
    let public: Vec<_> = auth.issuers.iter().filter(|issuer| !has_secret(issuer)).collect();
    match public.as_slice() {
        [] => Ok(auth.issuers.first()),
        [one] => Ok(Some(one)),
        _ => Err(format!(
            "several issuers of the configuration have public keys; say whose token this is with --issuer NAME; {}",
            names(public.iter().copied())
        )),
    }
}

fn names<'a>(issuers: impl Iterator<Item = &'a IssuerTable>) -> String {
    let names: Vec<_> = issuers
        .filter_map(|issuer| issuer.issuer.as_deref())
        .map(|name| format!("{name:?}"))
        .collect();
    if names.is_empty() {
        "none there has an `issuer`".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    }
}

async fn verified(asked: Verify) -> Result<(String, Exit), String> {
    let token = match asked.token {
        Some(token) => token,
        None => read_token().map_err(|error| format!("standard input: {error}"))?,
    };
    let fetch: Arc<dyn FetchKeys> = Arc::new(HttpClient::default());
    let loaded = asked.file.load().map_err(|error| error.to_string())?;
    let authority = loaded.config.auth.authority(&fetch);
    let authority: Option<Authority> = authority.map_err(|fault| loaded.placed(fault).to_string())?;
    let authority = authority.ok_or("the configuration has no [auth]: everything is open, and tokens mean nothing")?;
    let (token, now_ms) = (token.trim(), now_ms());
    // Refused as it is, and explained all the same.
    let bare = token.split_once(' ').map_or(token, |(_, behind)| behind.trim_start());
    let text = explain(bare, now_ms);
    Ok(match authority.verify(token, now_ms).await {
        Ok(_) => (text + "accepted", Exit::Done),
        Err(refusal) => (format!("{text}refused: {refusal}"), Exit::Refused),
    })
}

fn read_token() -> std::io::Result<String> {
    let mut token = String::new();
    std::io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut token)?;
    Ok(token)
}

fn now_ms() -> u64 {
    let since: Duration = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
