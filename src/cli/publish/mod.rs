//! `throughline publish`: put one publication, or every line of standard input, into a channel's log.

mod data;
mod draft;
mod input;
mod lines;

use std::process::ExitCode;

use hyper::Request;
use hyper::header::CONTENT_TYPE;
use serde_json::value::RawValue;
use tokio::select;

use self::data::Form;
use self::draft::{Draft, random_key};
use self::input::InputError;
use self::lines::{Lines, Stop};
use super::client::deadline::HEAD_MAX;
use super::client::push::one_line;
use super::client::{Connect, Failure, Peer, http, terminal};
use super::exit::{Exit, fail};
use super::subscribe::interrupted;

/// What stands for standard input.
const STDIN: &str = "-";

/// Publish to a channel, and print where it landed: the server's answer, one a line.
///
/// JSON is published as it is, anything else as a JSON string; but what begins with `{`, `[` or `"` must be JSON,
/// unless --text is said.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Publish {
    /// The channel to publish to
    channel: String,

    /// What to publish; - reads standard input, whole
    #[arg(
        allow_negative_numbers = true,
        required_unless_present = "lines",
        conflicts_with = "lines"
    )]
    data: Option<String>,

    /// Publish each line of standard input, in order. A line that is refused ends it, when others that were
    /// sent with it may be published already; a lost connection does not, and nothing is published twice
    #[arg(short, long)]
    lines: bool,

    /// Take it as text, even if it is JSON
    #[arg(long, conflicts_with = "json")]
    text: bool,

    /// Refuse what is not JSON
    #[arg(long)]
    json: bool,

    /// A word for what it is, at most 64 bytes
    #[arg(long, value_name = "NAME")]
    event: Option<String>,

    /// An idempotency key: repeated with the same key within 5 minutes, it is published once. With --lines each line's
    /// key is this, a dash and the line's number [default: a random one]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// With --lines: without keys, of which a server remembers a million. For more lines than that in 5 minutes; a
    /// lost connection then ends it
    #[arg(long, requires = "lines", conflicts_with = "key")]
    no_keys: bool,

    #[command(flatten)]
    connect: Connect,
}

impl Publish {
    fn form(&self) -> Form {
        match (self.text, self.json) {
            (true, _) => Form::Text,
            (_, true) => Form::Json,
            _ => Form::Either,
        }
    }
}

/// Publishes, and prints the server's answers.
pub(crate) async fn run(args: Publish) -> ExitCode {
    let peer = match args.connect.clone().peer() {
        Ok(peer) => peer,
        Err((flag, why)) => return terminal::reject(flag, &why),
    };
    let key = args.key.clone().unwrap_or_else(random_key);
    if args.lines {
        return publish_lines(&args, peer, key).await;
    }
    match publish_one(&args, &peer, &key).await {
        Ok(answer) => terminal::print(&answer).break_value().unwrap_or(Exit::Done.into()),
        Err(Stop::Failed { failure, .. }) => {
            let code = terminal::give_up(&failure);
            if let Failure::Broken(_) = failure {
                terminal::talk(format_args!(
                    "whether it was published is not known; it is repeated safely with --key {key}"
                ));
            }
            code
        }
        Err(Stop::Data(why)) => fail(Exit::Data, why),
        Err(Stop::Input(error)) => unreadable(&error),
    }
}

async fn publish_one(args: &Publish, peer: &Peer, key: &str) -> Result<String, Stop> {
    let given = match args.data.as_deref() {
        Some(STDIN) => &input::whole(tokio::io::stdin()).await.map_err(Stop::Input)?,
        given => given.unwrap_or_default(),
    };
    let draft = Draft {
        channel: &args.channel,
        data: args.form().read(given).map_err(Stop::Data)?,
        event: args.event.as_deref(),
        idempotency_key: Some(key.to_owned()),
    };
    let failed = |failure| Stop::Failed { failure, line: None };
    ask(&draft, peer).await.map_err(failed)
}

async fn ask(draft: &Draft<'_>, peer: &Peer) -> Result<String, Failure> {
    let body = draft.body().map_err(|error| Failure::Violation(error.to_string()))?;
    let mut http = http::Connection::open(peer).await?;
    let request = Request::post(peer.endpoint("/v1/publish", "")).header(CONTENT_TYPE, "application/json");
    let answer = http::read(http.ask(request, body, HEAD_MAX).await?).await?;
    let answer: &RawValue = serde_json::from_slice(&answer).map_err(|error| {
        Failure::Violation(format!(
            "the answer is not JSON ({error}): {peer} does not seem to be Throughline; check --url"
        ))
    })?;
    Ok(one_line(answer.get()))
}

async fn publish_lines(args: &Publish, peer: Peer, key: String) -> ExitCode {
    let mut input = input::lines(tokio::io::stdin());
    let key = (!args.no_keys).then_some(key);
    let mut lines = Lines::new(peer, args, key.clone());
    let ended = select! {
        ended = lines.publish(&mut input) => Some(ended),
        () = interrupted() => None,
    };
    let code = match ended {
        Some(Ok(())) => return Exit::Done.into(),
        None => Exit::Interrupted.into(),
        Some(Err(Stop::Input(error))) => unreadable(&error),
        Some(Err(Stop::Data(why))) => fail(Exit::Data, why),
        Some(Err(Stop::Failed { failure, line })) => {
            if let Some(line) = line {
                let beyond = lines.published_beyond;
                terminal::talk(format_args!(
                    "line {line} was refused, while {beyond} lines of the same request after it are published"
                ));
            }
            terminal::give_up(&failure)
        }
    };
    let go_on = match key {
        Some(key) => format!("the same input with --key {key} goes on within 5 minutes, and repeats nothing"),
        None => "what came after it may or may not be published".to_owned(),
    };
    match lines.published {
        0 => terminal::talk("as far as is known nothing was published"),
        line => terminal::talk(format_args!("published as far as line {line}; {go_on}")),
    }
    code
}

fn unreadable(error: &InputError) -> ExitCode {
    match error {
        InputError::Data(why) => fail(Exit::Data, why),
        InputError::Io(error) => fail(Exit::Io, format_args!("standard input cannot be read: {error}")),
    }
}
