//! Calls of scripts that belong together: those on the same keys are carried out in their order, or not at all.
//!
//! Redis may be told to forget its scripts (`SCRIPT FLUSH`) between two calls of a pipeline, and be told them again by
//! somebody else between the next two. Then the later of two publications to a channel would be stored, and the earlier
//! one refused: sent again, it would come after the other.
//! In a transaction (`MULTI`) nothing comes in between: all of its scripts are known, or none is.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisResult, Value};

use super::redirect::Manner;
use super::scripts::Scripts;

/// The places of calls on the same keys, in their order.
pub(super) type Run = Vec<usize>;

/// The calls by what they are on: `EVALSHA <script> <how many keys> <first key> …`.
pub(super) fn runs(calls: &[&Cmd]) -> Vec<Run> {
    if calls.len() == 1 {
        return vec![vec![0]];
    }
    let mut runs: Vec<Run> = Vec::new();
    let mut known = HashMap::new();
    for (at, call) in calls.iter().enumerate() {
        let key = match call.args_iter().nth(3) {
            Some(Arg::Simple(key)) => key,
            Some(_) | None => &[],
        };
        let run = *known.entry(key).or_insert_with(|| {
            runs.push(Vec::new());
            runs.len() - 1
        });
        runs[run].push(at);
    }
    runs
}

/// Whether scripts are made known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loading<'a> {
    /// They are known.
    No,
    /// Each transaction begins with that.
    First(&'a Scripts),
}

/// Carries runs out, and puts down how each call was answered.
///
/// # Errors
/// If the answers did not come: each call may have been carried out or not.
pub(super) async fn transact(
    connection: &mut MultiplexedConnection,
    (calls, runs): (&[&Cmd], &[Run]),
    (manner, loading): (Manner, Loading<'_>),
    answers: &mut [Value],
) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    for run in runs {
        add(&mut pipeline, (calls, run), (manner, loading));
    }
    let count = pipeline.len();
    let said = connection.send_packed_commands(&pipeline, 0, count).await?;
    let mut said = said.into_iter();
    for run in runs {
        if manner == Manner::Asking {
            said.next();
        }
        if is_one_call(run, loading) {
            answers[run[0]] = said.next().ok_or_else(unreadable)?;
            continue;
        }
        let loads = usize::from(matches!(loading, Loading::First(_)));
        let said: Vec<_> = said.by_ref().take(run.len() + loads + 2).collect();
        let outcome = outcome(said, run.len() + loads)?.into_iter().skip(loads);
        for (at, answer) in run.iter().zip(outcome) {
            answers[*at] = answer;
        }
    }
    Ok(())
}

fn is_one_call(run: &Run, loading: Loading<'_>) -> bool {
    run.len() == 1 && matches!(loading, Loading::No)
}

fn add(pipeline: &mut Pipeline, (calls, run): (&[&Cmd], &Run), (manner, loading): (Manner, Loading<'_>)) {
    // It holds for the whole of a transaction.
    if manner == Manner::Asking {
        pipeline.cmd("ASKING");
    }
    if is_one_call(run, loading) {
        pipeline.add_command(calls[run[0]].clone());
        return;
    }
    pipeline.cmd("MULTI");
    if let Loading::First(scripts) = loading {
        pipeline.add_command(scripts.loading(calls[run[0]]));
    }
    for at in run {
        pipeline.add_command(calls[*at].clone());
    }
    pipeline.cmd("EXEC");
}

/// The calls' answers, from what was said to `MULTI`, to each of them, and to `EXEC`.
fn outcome(mut said: Vec<Value>, count: usize) -> RedisResult<Vec<Value>> {
    let (Some(end), true) = (said.pop(), said.len() == count + 1) else {
        return Err(unreadable());
    };
    let mut queued = said.split_off(1);
    match (end, said.pop()) {
        (Value::Array(answers), _) if answers.len() == count => Ok(answers),
        // There was no transaction, for the user may not begin one: each was carried out by itself.
        (Value::ServerError(_), Some(Value::ServerError(_))) => Ok(queued),
        // One was refused before the transaction began, or all of it was: nothing was done. The reason counts for all.
        (Value::ServerError(end), _) => {
            let is_error = |answer: &&Value| matches!(answer, Value::ServerError(_));
            let why = queued.iter().find(is_error).cloned();
            let why = why.unwrap_or(Value::ServerError(end));
            for answer in &mut queued {
                if !matches!(answer, Value::ServerError(_)) {
                    *answer = why.clone();
                }
            }
            Ok(queued)
        }
        _ => Err(unreadable()),
    }
}

fn unreadable() -> redis::RedisError {
    (
        ErrorKind::UnexpectedReturnType,
        "a transaction was answered with what cannot be read",
    )
        .into()
}
