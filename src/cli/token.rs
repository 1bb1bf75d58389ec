//! `throughline token`: makes a token to try with, and explains one.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        (key, config.auth.issuers.first())
    } else {
        let signs = config
            .auth
            .signing_issuer()
            .map_err(|fault| loaded.placed(fault).to_string())?;
        let (secret, issuer) = signs.ok_or(NO_SECRET)?;
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
    let text = explain(token, now_ms);
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
