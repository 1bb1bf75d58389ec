//! What a node of a Cluster answers when a channel's slot is not, or not wholly, its own.

use redis::{ServerError, Value};

use super::Shared;
use super::topology::Target;

/// How a node is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Manner {
    /// As the one that keeps the slot.
    Plain,
    /// For this once, as one that does not keep it yet (`ASKING`).
    Asking,
}

/// Nothing was done: it is to be asked elsewhere, or again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot is another's.
    Moved(String),
    /// These keys are with another already.
    Ask(String),
    /// Some of the keys are here, and some elsewhere: soon they will be together.
    TryAgain,
}

impl Redirect {
    pub(super) fn of(answer: &Value) -> Option<Self> {
        let Value::ServerError(error) = answer else { return None };
        Self::of_error(error)
    }

    pub(super) fn of_error(error: &ServerError) -> Option<Self> {
        // <slot> <host>:<port>
        let address = || {
            let (_, address) = error.details()?.split_once(' ')?;
            Some(address.to_owned())
        };
        match error.code() {
            "MOVED" => address().map(Self::Moved),
            "ASK" => address().map(Self::Ask),
            "TRYAGAIN" | "CLUSTERDOWN" => Some(Self::TryAgain),
            _ => None,
        }
    }
}

impl Shared {
    /// Where to go next. Whoever is sent on has the map looked at again.
    pub(super) fn follow(&self, redirect: Redirect) -> Target {
        self.look_again.notify_one();
        let (address, manner) = match redirect {
            Redirect::Moved(address) => (address, Manner::Plain),
            Redirect::Ask(address) => (address, Manner::Asking),
            Redirect::TryAgain => return Target::Owner,
        };
        // Without a host it is the host that was asked: the map knows it.
        if address.starts_with(':') {
            Target::Owner
        } else {
            Target::At { address, manner }
        }
    }
}
