//! `publish --lines`: each line a publication, in order, several to a request.
//!
//! While one request is under way the next lines are read; what has come by its answer goes into the next request, so
//! a slow input is published line by line and a fast one in large requests. Every line has an idempotency key, so that
//! a request without an answer is repeated without publishing anything twice.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Publish;
use super::draft::Draft;
use super::input::{InputError, Line};
use crate::cli::client::backoff::Backoff;
use crate::cli::client::deadline::HEAD_MAX;
use crate::cli::client::failure::{Comeback, Failure, Refusal};
use crate::cli::client::push::one_line;
use crate::cli::client::terminal::talk;
use crate::cli::client::{Peer, http};

/// The most lines in a request.
const REQUEST_LINES_MAX: usize = 500;

/// A request with so many bytes of data takes no further line.
const REQUEST_BYTES_ENOUGH: usize = 1024 * 1024;

/// For how long a server that cannot be heard is asked again.
const UNHEARD_MAX: Duration = Duration::from_secs(30);

/// For how long a server that says when to come back is asked again: idempotency keys live about so long.
const PUT_OFF_MAX: Duration = Duration::from_secs(6 * 60);

/// Why it ended before the input did.
#[derive(Debug)]
pub(super) enum Stop {
    Input(InputError),
    /// A line is not what it should be.
    Data(String),
    Failed {
        failure: Failure,
        /// Of the server's refusal, if it refused a line.
        line: Option<u64>,
    },
}

/// Lines on their way to the server.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    peer: Peer,
    args: &'a Publish,
    /// What the lines' keys begin with, if they have any.
    key: Option<String>,
    http: Option<http::Connection>,
    waiting: VecDeque<(u64, Draft<'a>)>,
    request_lines_max: usize,
    backoff: Backoff,
    /// Why it was last tried again: said once, as long as nothing else happens.
    told: String,
    /// When the server last took something.
    progress_at: Instant,
    /// The newest line up to which all are published.
    pub(super) published: u64,
    /// How many after a refused one are published too, those of its request.
    pub(super) published_beyond: u64,
}

/// What the server says of several publications.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ItemAnswer {
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    code: String,
    detail: String,
    retry_ms: Option<u64>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(peer: Peer, args: &'a Publish, key: Option<String>) -> Self {
        Self {
            peer,
            args,
            key,
            http: None,
            waiting: VecDeque::new(),
            request_lines_max: REQUEST_LINES_MAX,
            backoff: Backoff::default(),
            told: String::new(),
            progress_at: Instant::now(),
            published: 0,
            published_beyond: 0,
        }
    }

    /// Publishes all lines; prints what the server says of each.
    pub(super) async fn publish(&mut self, input: &mut mpsc::Receiver<Result<Line, InputError>>) -> Result<(), Stop> {
        while let Some(line) = input.recv().await {
            let mut next = Some(line);
            let mut bytes = 0;
            while let Some(line) = next.take() {
                match line.map_err(Stop::Input).and_then(|line| self.draft(&line)) {
                    Ok(draft) => {
                        bytes += draft.1.bytes();
                        self.waiting.push_back(draft);
                    }
                    Err(stop) => {
                        self.send_all().await?;
                        return Err(stop);
                    }
                }
                if self.waiting.len() < REQUEST_LINES_MAX && bytes < REQUEST_BYTES_ENOUGH {
                    next = input.try_recv().ok();
                }
            }
            self.send_all().await?;
        }
        Ok(())
    }

    fn draft(&self, line: &Line) -> Result<(u64, Draft<'a>), Stop> {
        let data = self.args.form().read(&line.text);
        let data = data.map_err(|why| Stop::Data(format!("line {}: {why}", line.number)))?;
        let draft = Draft {
            channel: &self.args.channel,
            data,
            event: self.args.event.as_deref(),
            idempotency_key: self.key.as_ref().map(|key| format!("{key}-{}", line.number)),
        };
        Ok((line.number, draft))
    }

    /// Until nothing waits: what the server did not take is sent again.
    async fn send_all(&mut self) -> Result<(), Stop> {
        self.progress_at = Instant::now();
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(self.request_lines_max);
            let failure = match self.send(count).await {
                Ok(None) => continue,
                Ok(Some((line, refusal))) if refusal.comeback == Comeback::Never => {
                    let failure = Failure::Refused(refusal);
                    return Err(Stop::Failed {
                        failure,
                        line: Some(line),
                    });
                }
                Ok(Some((_, refusal))) => Failure::Refused(refusal),
                Err(Failure::Refused(refusal)) if refusal.code == "too_large" && count > 1 => {
                    self.request_lines_max = count / 2;
                    continue;
                }
                Err(failure) => {
                    self.http = None;
                    failure
                }
            };
            self.pause_after(failure).await?;
        }
        Ok(())
    }

    /// One request. Gives the first line that was refused.
    async fn send(&mut self, count: usize) -> Result<Option<(u64, Refusal)>, Failure> {
        self.published_beyond = 0;
        let drafts: Vec<&Draft<'_>> = self.waiting.iter().take(count).map(|(_, draft)| draft).collect();
        let body = serde_json::to_vec(&drafts).map_err(|error| Failure::Violation(error.to_string()))?;
        let answer = self.ask(body.into()).await?;
        let broken = |error: serde_json::Error| Failure::Violation(format!("not an answer to several: {error}"));
        let answer: Answer<'_> = serde_json::from_slice(&answer).map_err(broken)?;
        if answer.results.len() != count {
            let what = format!("{} results for {count} publications", answer.results.len());
            return Err(Failure::Violation(what));
        }
        let mut printed = String::new();
        let mut refused: Option<(u64, Refusal)> = None;
        for result in answer.results {
            let ItemAnswer { error } = serde_json::from_str(result.get()).map_err(broken)?;
            match (error, &refused) {
                (Some(error), None) => {
                    let line = self.waiting.front().map_or(0, |(line, _)| *line);
                    refused = Some((line, error.refusal()));
                }
                (None, None) => {
                    if let Some((line, _)) = self.waiting.pop_front() {
                        self.published = line;
                        self.progress_at = Instant::now();
                    }
                    printed.push_str(&one_line(result.get()));
                    printed.push('\n');
                }
                // One that is refused does not hold up the others of its request; they come again as duplicates.
                (None, Some(_)) => self.published_beyond += 1,
                (Some(_), Some(_)) => {}
            }
        }
        print(printed.trim_end());
        Ok(refused)
    }

    async fn ask(&mut self, body: Bytes) -> Result<Bytes, Failure> {
        let mut kept = self.http.take();
        let is_reusable = match &mut kept {
            Some(http) => http.is_reusable().await,
            None => false,
        };
        let mut http = match kept.filter(|_| is_reusable) {
            Some(http) => http,
            None => http::Connection::open(&self.peer).await?,
        };
        let request = Request::post(self.peer.endpoint("/v1/publish", "")).header(CONTENT_TYPE, "application/json");
        let answer = http::read(http.ask(request, body, HEAD_MAX).await?).await?;
        self.backoff.connected();
        self.http = Some(http);
        Ok(answer)
    }

    /// Waits until it is time to try again, if that makes sense.
    async fn pause_after(&mut self, failure: Failure) -> Result<(), Stop> {
        let patience = match (&failure, self.published) {
            // Where nobody was from the beginning, the address is likely to be wrong.
            (Failure::Unreachable { .. }, 0) => Duration::ZERO,
            (Failure::Refused(_), _) => PUT_OFF_MAX,
            // Without keys, what may have been published is not published again.
            (Failure::Broken(_), _) if self.key.is_none() => Duration::ZERO,
            _ => UNHEARD_MAX,
        };
        let delay = self.backoff.after(failure.comeback());
        let Some(delay) = delay.filter(|_| self.progress_at.elapsed() < patience) else {
            return Err(Stop::Failed { failure, line: None });
        };
        let why = failure.to_string();
        if self.told != why {
            talk(format_args!("trying again: {why}"));
            self.told = why;
        }
        sleep(delay).await;
        Ok(())
    }
}

impl ItemError {
    fn refusal(self) -> Refusal {
        Refusal::from_push(&self.code, &self.detail, self.retry_ms)
    }
}

/// Publishing goes on when nobody reads what became of it.
fn print(lines: &str) {
    if !lines.is_empty() {
        let _ = crate::cli::client::terminal::print(lines);
    }
}
