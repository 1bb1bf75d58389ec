//! What a session is carrying out, and what becomes of it when the session ends before it is done.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use super::{Done, Session};
use crate::protocol::{CommandId, Ending};

/// One thing that is under way, beside which the session goes on with everything else.
pub(super) struct Working {
    doing: BoxFuture<'static, Done>,
    stage: Stage,
    /// Whether the policies have changed since it began.
    is_outdated: bool,
}

/// How far it has come, and who waits for it.
pub(super) enum Stage {
    /// No client's command: it can be given up without a word.
    Unasked,
    /// A command that has changed nothing yet: it can be given up, and its client is told so.
    Asked(Option<CommandId>),
    /// The same for a new token, which may be what keeps the session.
    Renewing(Option<CommandId>),
    /// The engine has it, which answers soon: what becomes of it cannot be told before.
    Storing,
}

impl Working {
    pub(super) fn new(stage: Stage, doing: impl Future<Output = Done> + Send + 'static) -> Self {
        Self {
            doing: Box::pin(doing),
            stage,
            is_outdated: false,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        Pin::new(&mut self.doing).poll(cx)
    }

    /// The policies have changed: what was allowed before may not be any more.
    pub(super) fn note_new_policies(&mut self) {
        self.is_outdated = true;
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated
    }
}

impl Session {
    /// The last thing that is said, as soon as what is under way can be given up, or is done.
    pub(super) fn end_early(&mut self, ending: Ending) -> Poll<Ending> {
        let is_told_to_end = self.told_to_end().is_some();
        let stage = self.working.as_ref().map(|working| &working.stage);
        match stage {
            Some(Stage::Storing) => return Poll::Pending,
            // It came before the end of the token that it takes the place of.
            Some(Stage::Renewing(_)) if !is_told_to_end => return Poll::Pending,
            Some(Stage::Renewing(_) | Stage::Asked(_) | Stage::Unasked) | None => {}
        }
        if let Some(given_up) = self.working.take()
            && let Stage::Asked(id) | Stage::Renewing(id) = given_up.stage
            && let Some(problem) = &ending.problem
        {
            self.reply_error(id, problem.clone());
        }
        Poll::Ready(ending)
    }
}
