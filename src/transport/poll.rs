//! Long-poll: the cursor is the session, and the server keeps nothing between two polls.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Transports, read_request};
use crate::delivery::{ChannelName, Cursor, Position, Since};
use crate::http;
use crate::metrics::Transport;
use crate::protocol::{Framed, Object, Problem, Push, StreamRequest};
use crate::session::limits::Arrival;
use crate::session::{Closed, Output, Session};

/// How long an answer waits for the members of its channels.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);

/// `GET`, `POST /v1/poll`
pub(super) async fn answer(State(transports): State<Arc<Transports>>, request: Request) -> Response {
    match poll(&transports, request).await {
        Ok(answer) => http::json(answer.finish()),
        Err(problem) => problem.into_response(),
    }
}

async fn poll(transports: &Arc<Transports>, request: Request) -> Result<Answer, Problem> {
    let seat = transports.seat(request.extensions(), Arrival::Poll)?;
    let (identity, asked) = read_request(transports, request, None).await?;
    let StreamRequest {
        channels,
        wait_s,
        presence,
        session: handed_back,
        ..
    } = asked;
    let names: Vec<_> = channels.iter().map(|(channel, _)| channel.clone()).collect();
    let mut answer = Answer::new(&channels, transports.node.limits().answer_bytes_max);
    // While the node drains, what is waiting is given, and then the reason why there is no waiting for more.
    let mut session = Session::open_last(&transports.node, Transport::Poll, identity, seat);
    session.poll_again(&names, handed_back.as_deref());
    let closing = session.refusal();
    let asked: Vec<_> = channels.iter().map(|(_, since)| *since).collect();
    let mut is_immediate = false;
    for (key, (channel, joined)) in session.join(channels, presence).await?.into_iter().enumerate() {
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
    answer.take_members(&mut session).await;
    if let Some(problem) = closing {
        answer.take_time(&mut session);
        answer.add(Output::Push(Box::new(Push::Closing(problem))));
    } else if answer.pushes.is_empty() && !is_immediate {
        answer.wait(&mut session, Duration::from_secs(wait_s)).await;
    } else {
        answer.take_time(&mut session);
    }
    answer.session = session.answered(&names);
    session.note_written();
    session.note_closed(Closed::Answered);
    Ok(answer)
}

/// What one poll is told.
struct Answer {
    positions: Vec<Since>,
    pushes: Vec<String>,
    /// What the next poll hands back, where presence is on.
    session: Option<String>,
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
            session: None,
            bytes: 0,
            bytes_max,
            is_full: false,
        }
    }

    /// Says that the token is about to expire along with an answer. It is worth one of its own only when it comes while
    /// a poll waits, or else the next poll would be answered at once, and the next.
    fn take_time(&mut self, session: &mut Session) {
        session.tell_time_ahead();
        if !self.is_full {
            for push in session.take_replies() {
                self.add_json(push.to_json());
            }
        }
    }

    /// Waits for what is worth an answer: also that the token is about to expire, or has.
    async fn wait(&mut self, session: &mut Session, wait: Duration) {
        let until = Instant::now() + wait;
        // A poll that begins when the client could have been told already has it told at its end.
        session.tell_time_ahead();
        let told: Vec<_> = session.take_replies().collect();
        let next = loop {
            let due = session.due_in_ms().map(|ms| Instant::now() + Duration::from_millis(ms));
            let next = tokio::time::timeout_at(due.map_or(until, |due| due.min(until)), session.next()).await;
            if next.is_ok() || Instant::now() >= until {
                break next.ok();
            }
            session.tell_time();
        };
        for push in told {
            self.add_json(push.to_json());
        }
        if let Some(output) = next {
            self.add(output);
            self.take_ready(session);
        }
    }

    /// Waits for what a client that knows nothing yet is told of who is there: it comes with the next tick, at which
    /// the client itself is among them.
    async fn take_members(&mut self, session: &mut Session) {
        let until = Instant::now() + MEMBERS_TIMEOUT;
        while !self.is_full && session.awaits_members() {
            match tokio::time::timeout_at(until, session.next()).await {
                Ok(output) => self.add(output),
                Err(_elapsed) => return,
            }
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
            // Who is on a channel is told anew to a client that did not get it, so it need not fit.
            Output::Presence(frame) => self.add_json(frame.json().to_owned()),
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
            .optional_text("session", self.session.as_deref())
            .array("pushes", self.pushes)
            .finish()
    }
}
