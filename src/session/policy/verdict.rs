//! Whether somebody may do something with a channel, by its policy and by what was granted.

use super::{Audience, Personal, Policy};
use crate::delivery::ChannelName;
use crate::protocol::{Code, Problem};
use crate::session::identity::{Action, Identity};

impl Policy {
    /// Whether somebody may do this, by the policy and by what was granted.
    ///
    /// # Errors
    /// `forbidden`; `unauthenticated` for whoever came without a token, for one may help.
    pub fn check(&self, identity: &Identity, action: Action, channel: &ChannelName) -> Result<(), Problem> {
        self.check_final(identity, action, channel)?;
        self.check_granted(identity, action, channel)
    }

    /// What no grant and nobody else's word can open.
    ///
    /// # Errors
    /// `forbidden`, if it is for no client, or if the channel is another user's.
    pub fn check_final(&self, identity: &Identity, action: Action, channel: &ChannelName) -> Result<(), Problem> {
        if identity.is_back_end() {
            return Ok(());
        }
        if self.audience(action) == Audience::Nobody {
            return Err(for_no_client(action, channel));
        }
        if self.personal == Personal::No || owns(identity, channel) {
            return Ok(());
        }
        Err(if identity.is_anonymous() {
            needs_token(action, channel)
        } else {
            of_another(channel)
        })
    }

    /// Whether the audience has this one in it; to be asked after [`Policy::check_final`].
    ///
    /// # Errors
    /// `forbidden`, `unauthenticated`.
    pub fn check_granted(&self, identity: &Identity, action: Action, channel: &ChannelName) -> Result<(), Problem> {
        if identity.is_granted(action, channel) {
            return Ok(());
        }
        let is_in = match self.audience(action) {
            Audience::Nobody | Audience::Granted => false,
            Audience::Identified => identity.user().is_some(),
            Audience::Anyone => !identity.is_back_end(),
        };
        if is_in {
            return Ok(());
        }
        Err(if identity.is_anonymous() {
            needs_token(action, channel)
        } else {
            not_granted(action, channel)
        })
    }
}

impl Policy {
    /// Whether `data` of so many bytes may be published.
    ///
    /// # Errors
    /// `too_large`.
    pub fn check_size(&self, channel: &ChannelName, data_bytes: usize) -> Result<(), Problem> {
        let bytes_max = self.publication_bytes_max;
        if data_bytes <= bytes_max {
            return Ok(());
        }
        let namespace = channel.namespace();
        let detail =
            format!("`data` has {data_bytes} bytes; at most {bytes_max} are allowed in the namespace {namespace}");
        Err(Problem::new(Code::TooLarge, detail))
    }
}

/// A channel's owner is the user whose `sub` is all that stands behind the namespace, byte by byte: what looks alike is
/// not alike, and a longer name is another user's.
fn owns(identity: &Identity, channel: &ChannelName) -> bool {
    let owner = channel.as_str().split_once(':').map(|(_, owner)| owner);
    owner.is_some() && owner == identity.user()
}

fn for_no_client(action: Action, channel: &ChannelName) -> Problem {
    let (verb, namespace) = (action.verb(), channel.namespace());
    let detail = format!(
        "no client may {} {channel}, whatever its token grants: the namespace {namespace} has `{verb} = \"nobody\"`",
        action.words()
    );
    Problem::new(Code::Forbidden, detail)
}

fn of_another(channel: &ChannelName) -> Problem {
    let namespace = channel.namespace();
    let detail = format!(
        "{channel} is not this user's: in the namespace {namespace} each user has one channel, which is named by exactly \
         the `sub` of its token"
    );
    Problem::new(Code::Forbidden, detail)
}

fn needs_token(action: Action, channel: &ChannelName) -> Problem {
    let detail = format!(
        "credentials are needed to {} {channel}: send a token as `Authorization: Bearer …`, or as docs/protocol.md §9 \
         says",
        action.words()
    );
    Problem::new(Code::Unauthenticated, detail)
}

fn not_granted(action: Action, channel: &ChannelName) -> Problem {
    let detail = format!(
        "these credentials do not allow to {} {channel}; ask for ones that do",
        action.words()
    );
    Problem::new(Code::Forbidden, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::LogPolicy;

    const WINDOW: LogPolicy = LogPolicy {
        count_max: 1,
        bytes_max: 1,
        age_ms_max: 1,
        position_ttl_ms: 1,
    };

    fn of_audience(audience: Audience) -> Policy {
        Policy {
            subscribe: audience,
            publish: audience,
            history: audience,
            presence: audience,
            ..Policy::granted(WINDOW)
        }
    }

    #[test]
    fn each_audience_has_the_one_before_it_in_it() {
        let channel = ChannelName::parse("a:1").unwrap();
        let audiences = [
            Audience::Nobody,
            Audience::Granted,
            Audience::Identified,
            Audience::Anyone,
        ];
        for (identity, narrowest) in [
            (Identity::itself(), 0),
            (Identity::anybody(), 1),
            (Identity::anonymous(), 3),
        ] {
            for action in [Action::Subscribe, Action::Publish, Action::History, Action::Presence] {
                for (at, audience) in audiences.into_iter().enumerate() {
                    let is_in = of_audience(audience).check(&identity, action, &channel).is_ok();
                    assert_eq!(is_in, at >= narrowest, "{action:?} {audience:?} {identity:?}");
                }
            }
        }
    }

    #[test]
    fn where_there_are_no_users_nobody_owns_a_personal_channel() {
        let policy = Policy {
            personal: Personal::Owned,
            ..of_audience(Audience::Anyone)
        };
        for name in ["user:", "user:7", "user", ":"] {
            let channel = ChannelName::parse(name).unwrap();
            for identity in [Identity::anybody(), Identity::anonymous()] {
                assert!(policy.check(&identity, Action::Subscribe, &channel).is_err(), "{name}");
            }
            assert!(policy.check(&Identity::itself(), Action::Publish, &channel).is_ok());
        }
    }
}
