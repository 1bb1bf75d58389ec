//! Long-poll: the cursor is the session, and the server keeps nothing between two polls.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Transports, note_refused, read_request, subscribed};
use crate::delivery::{ChannelName, Cursor, Joined, Position, Since};
use crate::http;
use crate::metrics::Transport;
use crate::protocol::{Code, Framed, Object, PresenceAsk, Problem, Push, StreamRequest};
use crate::session::limits::Arrival;
use crate::session::{Closed, JoinResult, Output, Session};

/// How long an answer waits for the members of its channels.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);

/// For how long the refusal of a poll is put off whose engine is away.
const REFUSAL_DELAY_MAX: Duration = Duration::from_secs(1);

/// `GET`, `POST /v1/poll`
pub(super) async fn answer(State(transports): State<Arc<Transports>>, request: Request) -> Response {
    match poll(&transports, request).await {
        Ok(answer) => http::json(answer.finish()),
        Err(problem) => {
            note_refused(Transport::Poll, &problem);
            problem.into_response()
        }
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
    if let Err(problem) = session.poll_again(&names, handed_back.as_deref()) {
        session.note_closed(Closed::Code(problem.code));
        return Err(problem);
    }
    let closing = session.refusal();
    let wait = Duration::from_secs(wait_s);
    let joined = answer.join(&mut session, channels, (presence, wait)).await?;
    let mut is_immediate = false;
    for (key, (channel, joined)) in joined.into_iter().enumerate() {
        match joined {
            Ok(joined) => is_immediate |= answer.note_joined(key, channel, joined),
            // It may be there before the poll has to be answered, and until then there is no hurry to say that it is not.
            Err(problem) if problem.retry_ms.is_some() => answer.late.push((key, unsubscribed(channel, problem))),
            Err(problem) => {
                is_immediate = true;
                answer.add(Output::Push(Box::new(unsubscribed(channel, problem))));
            }
        }
    }
    answer.take_ready(&mut session);
    answer.take_members(&mut session).await;
    if let Some(problem) = closing {
        answer.take_time(&mut session);
        answer.add(Output::Push(Box::new(Push::Closing(problem))));
    } else if answer.pushes.is_empty() && !is_immediate {
        answer.wait(&mut session, wait).await;
    } else {
        answer.take_time(&mut session);
    }
    answer.tell_late();
    // Who was sent away is not kept for a next poll: it leaves like any other session.
    if !answer.is_sent_away {
        answer.session = session.answered(&names);
    }
    session.note_written();
    session.note_closed(Closed::Answered);
    Ok(answer)
}

fn unsubscribed(channel: ChannelName, problem: Problem) -> Push {
    Push::Unsubscribed {
        channel,
        problem: Some(problem),
        id: None,
    }
}

/// What one poll is told.
struct Answer {
    positions: Vec<Since>,
    /// Where it was asked to begin.
    asked: Vec<Since>,
    pushes: Vec<String>,
    /// What is said of channels that cannot be had yet, should they not be there by then, and their keys.
    late: Vec<(usize, Push)>,
    /// What the next poll hands back, where presence is on.
    session: Option<String>,
    bytes: usize,
    bytes_max: usize,
    /// Whether nothing fits any more, or nothing may follow.
    is_full: bool,
    /// Whether an operator has ended it.
    is_sent_away: bool,
}

impl Answer {
    fn new(channels: &[(ChannelName, Since)], bytes_max: usize) -> Self {
        let asked: Vec<_> = channels.iter().map(|(_, since)| *since).collect();
        Self {
            positions: asked.clone(),
            asked,
            pushes: Vec::new(),
            late: Vec::new(),
            session: None,
            bytes: 0,
            bytes_max,
            is_full: false,
            is_sent_away: false,
        }
    }

    /// Subscribes. Where none can be had for now, the refusal of a poll that may wait comes a little later, in case one can:
    /// its client may be one that comes back at once.
    async fn join(
        &self,
        session: &mut Session,
        channels: Vec<(ChannelName, Since)>,
        (presence, wait): (PresenceAsk, Duration),
    ) -> Result<Vec<JoinResult>, Problem> {
        let until = Instant::now() + wait.min(REFUSAL_DELAY_MAX);
        let mut joined = session.join(channels.clone(), presence).await;
        while joined
            .as_ref()
            .is_err_and(|problem| problem.code == Code::EngineUnavailable)
            && Instant::now() < until
        {
            tokio::time::sleep(REFUSAL_DELAY_MAX / 4).await;
            match tokio::time::timeout_at(until, session.join(channels.clone(), presence)).await {
                Ok(again) => joined = again,
                Err(_elapsed) => return joined,
            }
        }
        joined
    }

    /// A subscription has begun; says whether that is worth an answer.
    fn note_joined(&mut self, key: usize, channel: ChannelName, joined: Joined) -> bool {
        self.positions[key] = Since::After(joined.position);
        self.late.retain(|(late, _)| *late != key);
        let is_told = !matches!(self.asked[key], Since::After(_));
        if is_told {
            self.add_json(subscribed(channel, joined).to_json());
        }
        is_told
    }

    /// Says which channels cannot be had yet. The next poll asks for them again.
    fn tell_late(&mut self) {
        for (_, push) in std::mem::take(&mut self.late) {
            self.add_json(push.to_json());
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
            match next {
                // It goes on from where the client knows: that is not worth an answer.
                Ok(Output::Joined { key, channel, joined }) if matches!(self.asked[key], Since::After(_)) => {
                    self.note_joined(key, channel, joined);
                }
                Ok(output) => break Some(output),
                Err(_elapsed) if Instant::now() >= until => break None,
                Err(_elapsed) => session.tell_time(),
            }
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
            Output::Joined { key, channel, joined } => {
                self.note_joined(key, channel, joined);
            }
            // Who is on a channel is told anew to a client that did not get it, so it need not fit.
            Output::Presence(frame) => self.add_json(frame.json().to_owned()),
            Output::Push(push) => {
                // A channel that could not be had yet may turn out to be refused.
                if let Push::Unsubscribed { channel: refused, .. } = &*push {
                    let is_it = |late: &Push| matches!(late, Push::Unsubscribed { channel, .. } if channel == refused);
                    self.late.retain(|(_, late)| !is_it(late));
                }
                self.add_json(push.to_json());
            }
            Output::Ending(ending) => {
                if let Some(problem) = ending.problem {
                    self.is_sent_away = problem.code == Code::Denied;
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
