//! A call about one channel, asked where the channel is kept.

use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::link::Link;
use super::redirect::Redirect;
use super::shard::Shard;
use super::topology::Target;
use crate::delivery::{ChannelName, EngineError, EngineErrorKind};

/// How long a slot that is on its way is left alone.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

/// Which of a shard's connections a call goes out on.
pub(super) type Way = fn(&Shard) -> &Link;

/// The answer, wherever the way to it leads. It is waited for until `deadline`.
///
/// # Errors
/// If there is none: then it may have been carried out.
pub(super) async fn ask(
    shared: &Shared,
    (channel, way): (&ChannelName, Way),
    call: &Cmd,
    deadline: Instant,
) -> Result<Value, EngineError> {
    let answered = timeout_at(deadline, follow(shared, (channel, way), call, deadline)).await;
    answered.unwrap_or_else(|_| {
        if let Some(home) = shared.shard(channel) {
            way(&home).doubt();
        }
        Err(EngineErrorKind::Unavailable.into())
    })
}

async fn follow(
    shared: &Shared,
    (channel, way): (&ChannelName, Way),
    call: &Cmd,
    deadline: Instant,
) -> Result<Value, EngineError> {
    let mut target = Target::Owner;
    loop {
        let (home, mut connection) = shared.connection((channel, &target), way, deadline).await?;
        match shared.scripts.call(&mut connection, call, target.manner()).await {
            Ok(Value::ServerError(error)) => {
                let Some(redirect) = Redirect::of_error(&error) else {
                    home.tell_refusal(&error);
                    way(&home).doubt();
                    return Err(EngineErrorKind::Unavailable.into());
                };
                target = shared.follow(redirect);
                if target == Target::Owner {
                    tokio::time::sleep(ON_ITS_WAY).await;
                }
            }
            Ok(answer) => {
                way(&home).note_answer();
                return Ok(answer);
            }
            Err(error) => {
                tracing::debug!(redis = %home.place, %error, "a call was not answered");
                way(&home).doubt();
                return Err(EngineErrorKind::Unavailable.into());
            }
        }
    }
}
