//! What a namespace allows, and how long its window is.

mod audience;
mod policies;
mod verdict;

pub use audience::Audience;
pub use policies::Policies;

use super::identity::Action;
use crate::delivery::{Ack, LogPolicy};

/// Whether the channels of a namespace belong to users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Personal {
    /// They do not.
    #[default]
    No,
    /// `NAMESPACE:{sub}` belongs to the user `sub` alone, whatever others were granted.
    Owned,
    /// The same, and the server subscribes each user to it.
    SubscribedAtConnect,
}

/// What a namespace allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How much of each channel's log is kept.
    pub window: LogPolicy,
    /// When publishers are answered.
    pub ack: Ack,
    /// Who may follow its channels.
    pub subscribe: Audience,
    /// Which clients may publish.
    pub publish: Audience,
    /// Who may read the window.
    pub history: Audience,
    /// Who may see who is there.
    pub presence: Audience,
    /// Whether it is known who is there.
    pub presence_on: bool,
    /// Whether its channels belong to users.
    pub personal: Personal,
    /// The largest `data` of a publication, in bytes of compact JSON; never more than
    /// [`Limits::publication_bytes_max`](crate::protocol::Limits::publication_bytes_max).
    pub publication_bytes_max: usize,
}

impl Policy {
    /// What holds unless somebody says otherwise: everything for those to whom it was granted, over this window.
    pub const fn granted(window: LogPolicy) -> Self {
        Self {
            window,
            ack: Ack::Stored,
            subscribe: Audience::Granted,
            publish: Audience::Granted,
            history: Audience::Granted,
            presence: Audience::Granted,
            presence_on: false,
            personal: Personal::No,
            publication_bytes_max: usize::MAX,
        }
    }

    /// Whom an action is for.
    pub fn audience(&self, action: Action) -> Audience {
        match action {
            Action::Subscribe => self.subscribe,
            Action::Publish => self.publish,
            Action::History => self.history,
            Action::Presence => self.presence,
        }
    }
}
