//! Long-poll: the cursor is the session, and the server keeps nothing between two polls.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::{Transports, read_request};
use crate::delivery::{ChannelName, Cursor, Position, Since};
use crate::http;
use crate::metrics::Transport;
use crate::protocol::{Framed, Object, Problem, Push, StreamRequest};
use crate::session::limits::Arrival;
use crate::session::{Closed, Output, Session};

/// `GET`, `POST /v1/poll`
pub(super) async fn answer(State(transports): State<Arc<Transports>>, request: Request) -> Response {
    match poll(&transports, request).await {
        Ok(answer) => http::json(answer.finish()),
        Err(problem) => problem.into_response(),
    }
}

async fn poll(transports: &Arc<Transports>, request: Request) -> Result<Answer, Problem> {
    let seat = transports.seat(&request, Arrival::Poll)?;
    let StreamRequest { channels, wait_s, .. } = read_request(transports, request, None).await?;
    let mut answer = Answer::new(&channels, transports.node.limits().answer_bytes_max);
    // While the node drains, what is waiting is given, and then the reason why there is no waiting for more.
    let mut session = Session::open_last(&transports.node, Transport::Poll, seat);
    let closing = session.refusal();
    let asked: Vec<_> = channels.iter().map(|(_, since)| *since).collect();
    let mut is_immediate = false;
    for (key, (channel, joined)) in session.join(channels).await?.into_iter().enumerate() {
        if let Ok(joined) = &joined {
            answer.positions[key] = Since::After(joined.position);
        }
        match (asked[key], joined) {
            (Since::After(_), Ok(_)) => {}
            (_, Ok(joined)) => {
                is_immediate = true;
                answer.add(Output::Push(Box::new(Push::Subscribed {
                    channel,
                    joined,
                    id: None,
                })));
            }
            (_, Err(problem)) => {
                answer.add(Output::Push(Box::new(Push::Unsubscribed {
                    channel,
                    problem: Some(problem),
                    id: None,
                })));
            }
        }
    }
    answer.take_ready(&mut session);
    if let Some(problem) = closing {
        answer.add(Output::Push(Box::new(Push::Closing(problem))));
    } else if answer.pushes.is_empty() && !is_immediate {
        let wait = Duration::from_secs(wait_s);
        if let Ok(output) = tokio::time::timeout(wait, session.next()).await {
            answer.add(output);
            answer.take_ready(&mut session);
        }
    }
    session.note_written();
    session.note_closed(Closed::Answered);
    Ok(answer)
}

/// What one poll is told.
struct Answer {
    positions: Vec<Since>,
    pushes: Vec<String>,
    bytes: usize,
    bytes_max: usize,
    /// Whether nothing fits any more, or nothing may follow.
    is_full: bool,
}

impl Answer {
    fn new(channels: &[(ChannelName, Since)], bytes_max: usize) -> Self {
        Self {
            positions: channels.iter().map(|(_, since)| *since).collect(),
            pushes: Vec::new(),
            bytes: 0,
            bytes_max,
            is_full: false,
        }
    }

    /// Takes what the session has at once, as far as it fits.
    fn take_ready(&mut self, session: &mut Session) {
        while !self.is_full
            && let Some(output) = session.next().now_or_never()
        {
            self.add(output);
        }
    }

    /// Adds a publication or a gap if it fits. What does not is left out, and the cursor stays before it: the next poll
    /// reads it again. What is said only once is always added.
    fn add(&mut self, output: Output) {
        match output {
            Output::Publication { key, publication } => {
                let json = Framed::of(&publication).json().to_owned();
                self.add_if_it_fits(key, json, publication.position);
            }
            Output::Gap { key, channel, gap } => {
                let json = Push::Gap { channel, gap }.to_json();
                self.add_if_it_fits(key, json, gap.to);
            }
            Output::Push(push) => self.add_json(push.to_json()),
            Output::Ending(ending) => {
                if let Some(problem) = ending.problem {
                    self.add_json(Push::Closing(problem).to_json());
                }
                self.is_full = true;
            }
        }
    }

    /// The first push fits always.
    fn add_if_it_fits(&mut self, key: usize, json: String, position: Position) {
        self.is_full |= !self.pushes.is_empty() && self.bytes + json.len() > self.bytes_max;
        if !self.is_full {
            self.positions[key] = Since::After(position);
            self.add_json(json);
        }
    }

    fn add_json(&mut self, json: String) {
        self.bytes += json.len();
        self.pushes.push(json);
    }

    fn finish(self) -> String {
        let cursor: Cursor = self.positions.into_iter().collect();
        Object::new()
            .text("cursor", &cursor.to_string())
            .array("pushes", self.pushes)
            .finish()
    }
}
