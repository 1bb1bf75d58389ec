//! `throughline publish`: put one publication into a channel's log.

use std::process::ExitCode;

use bytes::Bytes;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::client::deadline::HEAD_MAX;
use super::client::push::one_line;
use super::client::{Failure, Target, http, terminal, url};

/// Publish to a channel, and print where it landed
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// The channel to publish to
    channel: String,

    /// What to publish: JSON as it is, anything else as a JSON string
    #[arg(allow_negative_numbers = true)]
    data: String,

    /// Where the server is; the environment's `THROUGHLINE_URL` is the default, if set
    #[arg(long, value_name = "URL", default_value = url::default_url())]
    url: Target,

    /// A word for what it is, at most 64 bytes
    #[arg(long, value_name = "NAME")]
    event: Option<String>,

    /// An idempotency key: repeated with the same key, it is published once
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// The body of `POST /v1/publish`.
#[derive(Serialize)]
struct Draft<'a> {
    channel: &'a str,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
}

/// Publishes once, and prints the server's answer.
pub(crate) async fn run(args: Publish) -> ExitCode {
    match publish(&args).await {
        Ok(answer) => terminal::print(&answer).break_value().unwrap_or(ExitCode::SUCCESS),
        Err(failure) => {
            let code = terminal::give_up(&failure);
            if let Failure::Broken(_) = failure {
                terminal::talk("whether it was published is not known; with the same --key it can be repeated safely");
            }
            code
        }
    }
}

async fn publish(args: &Publish) -> Result<String, Failure> {
    let body = body(args).map_err(|error| Failure::Violation(error.to_string()))?;
    let mut http = http::Connection::open(&args.url).await?;
    let request = Request::post(args.url.endpoint("/v1/publish", "")).header(CONTENT_TYPE, "application/json");
    let answer = http::read(http.ask(request, body, HEAD_MAX).await?).await?;
    let answer: &RawValue = serde_json::from_slice(&answer)
        .map_err(|error| Failure::Violation(format!("the answer is not JSON: {error}")))?;
    Ok(one_line(answer.get()))
}

fn body(args: &Publish) -> serde_json::Result<Bytes> {
    let data = match serde_json::from_str::<Box<RawValue>>(&args.data) {
        Ok(json) => json,
        Err(_) => to_raw_value(&args.data)?,
    };
    let (event, idempotency_key) = (args.event.as_deref(), args.key.as_deref());
    let draft = Draft {
        channel: &args.channel,
        data: &data,
        event,
        idempotency_key,
    };
    Ok(serde_json::to_vec(&draft)?.into())
}
