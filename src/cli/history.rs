//! `throughline history`: what a channel's window holds.

use std::process::ExitCode;

use bytes::Bytes;
use form_urlencoded::Serializer;
use hyper::Request;
use serde::Deserialize;

use super::client::deadline::HEAD_MAX;
use super::client::position::Position;
use super::client::push::{Gap, Publication, one_line};
use super::client::terminal::{self, talk};
use super::client::{Connect, Failure, Peer, http};
use super::exit::Exit;

/// Print what a channel's window holds, oldest first, one a line: CHANNEL POSITION EVENT DATA
///
/// EVENT is - where there is none. Gaps go to stderr, and so does where to go on if there is more.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// The channel to read
    channel: String,

    /// Only what comes after this: a position, `start` or `last:N`
    #[arg(long, value_name = "CURSOR")]
    since: Option<String>,

    /// Only what comes before this position; without --since the newest of that
    #[arg(long, value_name = "POSITION")]
    before: Option<String>,

    /// So many at most [default: the server's, 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Print the server's answer as it came, on one line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: Connect,
}

/// Which way somebody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Forwards,
    /// From a position on, page by page.
    Backwards,
}

#[derive(Deserialize)]
struct Answer {
    publications: Vec<Publication>,
    top: Position,
    gap: Option<Lost>,
}

#[derive(Deserialize)]
struct Lost {
    from: Position,
    to: Position,
}

pub(crate) async fn run(args: History) -> ExitCode {
    let (query, is_json) = (args.query(), args.json);
    let order = if args.before.is_some() {
        Order::Backwards
    } else {
        Order::Forwards
    };
    let channel = args.channel;
    let peer = match args.connect.peer() {
        Ok(peer) => peer,
        Err((flag, why)) => return terminal::reject(flag, &why),
    };
    let printed = match ask(&peer, &query).await {
        Ok(answer) if is_json => terminal::print(&one_line(&String::from_utf8_lossy(&answer))),
        Ok(answer) => match serde_json::from_slice(&answer) {
            Ok(answer) => print(&channel, order, &answer),
            Err(error) => {
                let what = format!("not an answer to history ({error}); is {peer} Throughline? Check --url");
                return terminal::give_up(&Failure::Violation(what));
            }
        },
        Err(failure) => return terminal::give_up(&failure),
    };
    printed.break_value().unwrap_or(Exit::Done.into())
}

impl History {
    fn query(&self) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let mut query = Serializer::new(String::new());
        query.append_pair("channel", &self.channel);
        for (name, value) in [("since", &self.since), ("before", &self.before), ("limit", &limit)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

async fn ask(peer: &Peer, query: &str) -> Result<Bytes, Failure> {
    let mut http = http::Connection::open(peer).await?;
    let request = Request::get(peer.endpoint("/v1/history", query));
    http::read(http.ask(request, Bytes::new(), HEAD_MAX).await?).await
}

fn print(channel: &str, order: Order, answer: &Answer) -> std::ops::ControlFlow<ExitCode> {
    if let Some(lost) = &answer.gap {
        let gap = Gap {
            channel: channel.to_owned(),
            from: lost.from.clone(),
            to: lost.to.clone(),
        };
        talk(&gap);
    }
    for publication in &answer.publications {
        terminal::print(&publication.columns())?;
    }
    if let Some(last) = answer.publications.last()
        && order == Order::Forwards
        && last.position != answer.top
    {
        talk(format_args!("there is more: go on with --since {}", last.position));
    }
    std::ops::ControlFlow::Continue(())
}
