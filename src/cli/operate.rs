//! `throughline disconnect`, `unsubscribe` and `channels`: what operators ask for, with an API key as the token.

use std::process::ExitCode;

use bytes::Bytes;
use form_urlencoded::Serializer;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use serde_json::json;

use super::client::deadline::HEAD_MAX;
use super::client::push::one_line;
use super::client::{Connect, Failure, Peer, http, terminal};
use super::exit::Exit;

/// Whose sessions are meant.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Who {
    /// All sessions of a user: a token's `sub`
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// One session, as its `welcome` names it
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

/// End a user's or a session's connections on every node, and refuse them for a while; print the server's answer
///
/// Needs an API key with the scope `operator`.
#[derive(Debug, clap::Args)]
pub(crate) struct Disconnect {
    #[command(flatten)]
    who: Who,

    /// Refuse them for so many seconds, a day at most; 0 takes back what was refused before
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    deny: u64,

    /// Ask for a new token instead of sending them away
    #[arg(long, conflicts_with = "deny")]
    new_token: bool,

    #[command(flatten)]
    connect: Connect,
}

/// End a user's or a session's subscription on every node, and refuse it for a while; print the server's answer
///
/// Needs an API key with the scope `operator`.
#[derive(Debug, clap::Args)]
pub(crate) struct Unsubscribe {
    /// The channel
    channel: String,

    #[command(flatten)]
    who: Who,

    /// Refuse it for so many seconds, a day at most; 0 takes back what was refused before
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    deny: u64,

    #[command(flatten)]
    connect: Connect,
}

/// Print the channels that are followed on the node that is asked, by name: the server's answer, on one line
///
/// Needs an API key with the scope `operator`.
#[derive(Debug, clap::Args)]
pub(crate) struct Channels {
    /// Only those whose names begin so
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,

    /// Only those after this name: the `next` of an answer
    #[arg(long, value_name = "NAME")]
    after: Option<String>,

    /// So many at most [default: the server's, 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    #[command(flatten)]
    connect: Connect,
}

pub(crate) async fn disconnect(args: Disconnect) -> ExitCode {
    let code = args.new_token.then_some("token_expired");
    let body = json!({"user": args.who.user, "session": args.who.session, "deny_s": args.deny, "code": code});
    ask(args.connect, |peer| posted(peer, "/v1/disconnect"), body.to_string()).await
}

pub(crate) async fn unsubscribe(args: Unsubscribe) -> ExitCode {
    let Unsubscribe { channel, who, deny, .. } = &args;
    let body = json!({"user": who.user, "session": who.session, "channel": channel, "deny_s": deny}).to_string();
    ask(args.connect, |peer| posted(peer, "/v1/unsubscribe"), body).await
}

pub(crate) async fn channels(args: Channels) -> ExitCode {
    let limit = args.limit.map(|limit| limit.to_string());
    let mut query = Serializer::new(String::new());
    for (name, value) in [("prefix", &args.prefix), ("after", &args.after), ("limit", &limit)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let request = |peer: &Peer| Request::get(peer.endpoint("/v1/channels", &query));
    ask(args.connect, request, String::new()).await
}

fn posted(peer: &Peer, path: &str) -> hyper::http::request::Builder {
    Request::post(peer.endpoint(path, "")).header(CONTENT_TYPE, "application/json")
}

async fn ask(connect: Connect, request: impl FnOnce(&Peer) -> hyper::http::request::Builder, body: String) -> ExitCode {
    let peer = match connect.peer() {
        Ok(peer) => peer,
        Err((flag, why)) => return terminal::reject(flag, &why),
    };
    let asked = async {
        let mut http = http::Connection::open(&peer).await?;
        http::read(http.ask(request(&peer), Bytes::from(body), HEAD_MAX).await?).await
    };
    let answered: Result<Bytes, Failure> = asked.await;
    match answered {
        Ok(answer) => {
            let printed = terminal::print(&one_line(&String::from_utf8_lossy(&answer)));
            printed.break_value().unwrap_or(Exit::Done.into())
        }
        Err(failure) => terminal::give_up(&failure),
    }
}
