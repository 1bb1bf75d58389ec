//! Storing a batch: to each Redis its part in one go, answers in the batch's order.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::Shared;
use super::link::BREAK_MAX;
use super::redirect::Redirect;
use super::replicated;
use super::scripts::read_published;
use super::shard::Shard;
use super::topology::Target;
use crate::delivery::{Ack, ChannelName, EngineError, EngineErrorKind, Published};

type Answer = Result<Published, EngineError>;

/// Between two attempts at what nobody keeps at the moment.
const PAUSE: Duration = Duration::from_millis(20);

/// The call that stores a draft.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) channel: ChannelName,
    pub(super) ack: Ack,
    pub(super) command: Cmd,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    Done(Answer),
    /// Nothing was done; it may be done there.
    Again(Target),
}

impl Outcome {
    /// Whether it raises doubts about whoever answered.
    pub(super) fn is_odd(&self) -> bool {
        let Self::Done(Err(error)) = self else { return false };
        matches!(error.kind(), EngineErrorKind::Unavailable | EngineErrorKind::Unanswered)
    }
}

/// Calls that go to one Redis and ask for one ack.
struct Part {
    home: Arc<Shard>,
    target: Target,
    ack: Ack,
    calls: Vec<usize>,
}

/// Stores what it can: what finds no Redis within a short break is not stored.
pub(super) async fn store(shared: &Arc<Shared>, calls: Vec<Call>) -> Vec<Answer> {
    let begin_before = Instant::now() + BREAK_MAX;
    let mut answers: Vec<Option<Answer>> = vec![None; calls.len()];
    let mut due: Vec<_> = (0..calls.len()).map(|at| (at, Target::Owner)).collect();
    loop {
        let (parts, homeless) = spread(shared, &calls, due);
        let sent = parts.iter().map(|part| send(shared, part, &calls, begin_before));
        let outcomes = join_all(sent).await;
        due = homeless.into_iter().map(|at| (at, Target::Owner)).collect();
        for (at, outcome) in outcomes.into_iter().flatten() {
            match outcome {
                Outcome::Done(answer) => answers[at] = Some(answer),
                Outcome::Again(target) => due.push((at, target)),
            }
        }
        due.sort_by_key(|(at, _)| *at);
        // One that would come after what was published later is not stored any more.
        due.retain(|(at, _)| !is_overtaken(&calls, &answers, *at));
        if due.is_empty() || Instant::now() + PAUSE >= begin_before {
            break;
        }
        if due.iter().any(|(_, target)| *target == Target::Owner) {
            tokio::time::sleep(PAUSE).await;
        }
    }
    let unavailable = || Err(EngineErrorKind::Unavailable.into());
    answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(unavailable))
        .collect()
}

fn is_overtaken(calls: &[Call], answers: &[Option<Answer>], at: usize) -> bool {
    let later = calls.iter().zip(answers).skip(at + 1);
    later
        .filter(|(call, _)| call.channel == calls[at].channel)
        .any(|(_, answer)| answer.is_some())
}

/// To whom the calls go, and those of which that is not known.
fn spread(shared: &Shared, calls: &[Call], due: Vec<(usize, Target)>) -> (Vec<Part>, Vec<usize>) {
    let map = shared.map();
    let (mut parts, mut homeless): (Vec<Part>, _) = (Vec::new(), Vec::new());
    for (at, target) in due {
        let Some(home) = map.target(&calls[at].channel, &target) else {
            homeless.push(at);
            continue;
        };
        let ack = calls[at].ack;
        let is_its = |part: &&mut Part| {
            Arc::ptr_eq(&part.home, home) && part.ack == ack && part.target.manner() == target.manner()
        };
        match parts.iter_mut().find(is_its) {
            Some(part) => part.calls.push(at),
            None => parts.push(Part {
                home: Arc::clone(home),
                target,
                ack,
                calls: vec![at],
            }),
        }
    }
    (parts, homeless)
}

async fn send(shared: &Arc<Shared>, part: &Part, calls: &[Call], begin_before: Instant) -> Vec<(usize, Outcome)> {
    let all_are = |outcome: &dyn Fn() -> Outcome| part.calls.iter().map(|_| outcome()).collect();
    let link = &part.home.publishing;
    let mut map = shared.map.subscribe();
    let connected = tokio::select! {
        connected = link.connection(begin_before) => Some(connected),
        Ok(()) = map.changed() => None,
    };
    let outcomes: Vec<_> = match (connected, part.ack) {
        (None, _) => all_are(&|| Outcome::Again(Target::Owner)),
        (Some(Err(_)), _) => all_are(&|| Outcome::Done(Err(EngineErrorKind::Unavailable.into()))),
        (Some(Ok(_)), Ack::Replicated(replicas)) => {
            let commands = part.calls.iter().map(|at| calls[*at].command.clone()).collect();
            let purpose = (replicas, part.target.manner());
            replicated::store(shared, &part.home, purpose, commands).await
        }
        (Some(Ok(mut connection)), Ack::Stored) => {
            let commands: Vec<_> = part.calls.iter().map(|at| &calls[*at].command).collect();
            let called = shared
                .scripts
                .call_all(&mut connection, &commands, part.target.manner());
            match called.await {
                Ok(answers) => answers
                    .iter()
                    .map(|answer| outcome(shared, &part.home, answer))
                    .collect(),
                Err(error) => {
                    tracing::debug!(redis = %part.home.place, %error, "publications were not answered");
                    all_are(&|| Outcome::Done(Err(EngineErrorKind::Unanswered.into())))
                }
            }
        }
    };
    if outcomes.iter().any(Outcome::is_odd) {
        link.doubt();
    }
    part.calls.iter().copied().zip(outcomes).collect()
}

/// What an answer means.
pub(super) fn outcome(shared: &Shared, home: &Shard, answer: &Value) -> Outcome {
    if let Some(redirect) = Redirect::of(answer).filter(|_| shared.is_cluster) {
        return Outcome::Again(shared.follow(redirect));
    }
    if let Value::ServerError(error) = answer {
        home.tell_refusal(error);
    }
    Outcome::Done(read_published(answer))
}
