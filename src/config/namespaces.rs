//! `[[namespaces]]`: what each namespace allows, and how much of its channels is kept.

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AckKind, Config, EngineKind, Fault, Publishing};
use crate::delivery::{ChannelName, LogPolicy, Replicas};
use crate::session::limits::{NamespaceRates, Rate};
use crate::session::policy::{Audience, Personal, Policies, Policy};

/// The name that stands for every namespace without a table of its own. No channel can have it.
const REST: &str = "*";

/// `[[namespaces]]`. What is left out is as it is for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceTable {
    /// What stands before the first `:` of its channels' names.
    pub name: String,
    /// How much of each channel's log is kept.
    #[serde(default, skip_serializing_if = "NamespaceWindow::is_empty")]
    pub window: NamespaceWindow,
    /// When publishers are answered: `stored` or `replicated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<AckKind>,
    /// With `replicated`: how many replicas must have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_replicas: Option<u32>,
    /// With `replicated`: how long they are waited for, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_timeout_ms: Option<u64>,
    /// Who may follow its channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Audience>,
    /// Which clients may publish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Audience>,
    /// Who may read the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Audience>,
    /// Who may see who is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<Audience>,
    /// Whether it is known who is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_on: Option<bool>,
    /// Whether `NAME:{sub}` belongs to the user `sub` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personal: Option<bool>,
    /// Whether the server subscribes each user to its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe_at_connect: Option<bool>,
    /// The largest `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publication_bytes_max: Option<usize>,
    /// Publications to one of its channels, per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_publications_per_s: Option<u32>,
    /// The same, at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_publications_burst: Option<u32>,
    /// Publications of one user in it, per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_publications_per_s: Option<u32>,
    /// The same, at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_publications_burst: Option<u32>,
}

/// `[namespaces.window]`, or `window = {…}` in a namespace's table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceWindow {
    /// The most publications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// The most bytes, a publication's encoded form included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// The greatest age, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// For how long positions are remembered after the window is empty, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_ttl_s: Option<u64>,
}

impl NamespaceWindow {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn over(&self, window: LogPolicy) -> LogPolicy {
        let ms = |s: u64| s.saturating_mul(1000);
        LogPolicy {
            count_max: self.count.unwrap_or(window.count_max),
            bytes_max: self.bytes.unwrap_or(window.bytes_max),
            age_ms_max: self.age_s.map_or(window.age_ms_max, ms),
            position_ttl_ms: self.position_ttl_s.map_or(window.position_ttl_ms, ms),
        }
    }
}

impl NamespaceTable {
    pub(super) fn publishing(&self, of_all: &Publishing) -> Publishing {
        Publishing {
            ack: self.ack.unwrap_or(of_all.ack),
            ack_replicas: self.ack_replicas.unwrap_or(of_all.ack_replicas),
            ack_timeout_ms: self.ack_timeout_ms.unwrap_or(of_all.ack_timeout_ms),
        }
    }

    /// What is wrong with its acks.
    fn ack_faults(&self, config: &Config) -> Vec<String> {
        let mut faults = Vec::new();
        if self.ack_replicas == Some(0) {
            faults.push("ack_replicas must be at least 1; without replicas it is ack = \"stored\"".to_owned());
        }
        let times = 1..=Replicas::TIMEOUT_MS_MAX;
        if self.ack_timeout_ms.is_some_and(|own| !times.contains(&own)) {
            faults.push(format!("ack_timeout_ms must be from 1 to {}", Replicas::TIMEOUT_MS_MAX));
        }
        // Of one that says nothing itself, `[publishing]` is told.
        if self.ack == Some(AckKind::Replicated) && config.engine.kind == EngineKind::Memory {
            faults.push(Publishing::needs_replicas("ack"));
        }
        faults
    }

    fn policy(&self, of_all: Policy, publishing: &Publishing) -> Policy {
        let personal = match (self.personal, self.subscribe_at_connect) {
            (Some(true), Some(true)) => Personal::SubscribedAtConnect,
            (Some(true), _) => Personal::Owned,
            _ => Personal::No,
        };
        // A personal channel is its user's to read, and the app's to write.
        let (reading, writing) = match personal {
            Personal::No => (Audience::Granted, Audience::Granted),
            Personal::Owned | Personal::SubscribedAtConnect => (Audience::Identified, Audience::Nobody),
        };
        Policy {
            window: self.window.over(of_all.window),
            ack: self.publishing(publishing).ack(),
            subscribe: self.subscribe.unwrap_or(reading),
            publish: self.publish.unwrap_or(writing),
            history: self.history.unwrap_or(reading),
            presence: self.presence.unwrap_or(reading),
            presence_on: self.presence_on.unwrap_or(of_all.presence_on),
            personal,
            publication_bytes_max: self.publication_bytes_max.unwrap_or(of_all.publication_bytes_max),
        }
    }

    /// Whether it says how much each client may do.
    pub(super) fn has_rates(&self) -> bool {
        self.channel_publications_per_s.is_some() || self.user_publications_per_s.is_some()
    }

    /// What is wrong with it, and what would be right.
    fn faults(&self, config: &Config) -> Vec<String> {
        let mut faults = self.ack_faults(config);
        let mut unless = |is_well: bool, why: String| {
            if !is_well {
                faults.push(why);
            }
        };
        let name = &self.name;
        unless(
            is_name(name),
            format!(
                "name = {name:?}: must be what stands before the first `:` of channels' names, so 1 to 253 bytes without \
                 `:`, white space, `,`, `*`, `\"` and `\\`, not beginning with `$`; or \"*\", for all that have no table"
            ),
        );
        let bytes_max = config.limits.publication_bytes_max;
        unless(
            self.publication_bytes_max.is_none_or(|own| own <= bytes_max),
            format!(
                "publication_bytes_max: must be at most limits.publication_bytes_max, which is {bytes_max}; raise that one"
            ),
        );
        let is_personal = self.personal == Some(true);
        unless(
            is_personal || self.subscribe_at_connect != Some(true),
            "subscribe_at_connect is of personal channels; add `personal = true`, or leave it out".to_owned(),
        );
        unless(
            !is_personal || !matches!(&**name, REST | "default"),
            "personal: must be in a namespace that stands in its channels' names, like \"user\", for user:{sub}"
                .to_owned(),
        );
        unless(
            !is_personal || config.knows_users(),
            "personal: there are no users here; add [[auth.issuers]], or hooks.connect_url".to_owned(),
        );
        let mut rates = |what: &str, per_s: Option<u32>, burst: Option<u32>| {
            unless(
                per_s.is_some() == burst.is_some(),
                format!("{what}_per_s and {what}_burst need each other"),
            );
            unless(
                per_s.is_none_or(|per_s| per_s <= Rate::PER_S_MAX) && burst != Some(0),
                format!(
                    "{what}_per_s must be at most {}, and {what}_burst at least 1",
                    Rate::PER_S_MAX
                ),
            );
        };
        rates(
            "channel_publications",
            self.channel_publications_per_s,
            self.channel_publications_burst,
        );
        rates(
            "user_publications",
            self.user_publications_per_s,
            self.user_publications_burst,
        );
        faults
    }
}

impl Config {
    /// Whether a client can be somebody.
    fn knows_users(&self) -> bool {
        !self.auth.issuers.is_empty() || self.hooks.connect_url.is_some()
    }
}

fn is_name(name: &str) -> bool {
    // Behind it stand at least a `:` and one more character.
    name == REST || (!name.is_empty() && !name.contains(':') && ChannelName::parse(&format!("{name}:x")).is_ok())
}

impl Config {
    /// What each namespace allows.
    pub fn policies(&self) -> Policies {
        let of_all = Policy {
            publication_bytes_max: self.limits.publication_bytes_max,
            presence_on: self.presence.enabled,
            ack: self.publishing.ack(),
            ..Policy::granted(self.log_policy())
        };
        let publishing = &self.publishing;
        let table_of_rest = self.namespaces.iter().find(|table| table.name == REST);
        let rest = table_of_rest.map_or(of_all, |table| table.policy(of_all, publishing));
        let named = self.namespaces.iter().filter(|table| table.name != REST);
        Policies::new(
            rest,
            named.map(|table| (table.name.as_str().into(), table.policy(of_all, publishing))),
        )
    }

    /// The rates that namespaces have of their own.
    pub(super) fn namespace_rates(&self) -> HashMap<Box<str>, NamespaceRates> {
        let rate = |per_s: Option<u32>, burst: Option<u32>| Some(Rate::new(per_s?, burst?));
        let rates = self.namespaces.iter().map(|table| {
            let channel = rate(table.channel_publications_per_s, table.channel_publications_burst);
            let of_all = Rate::new(
                self.rates.channel_publications_per_s,
                self.rates.channel_publications_burst,
            );
            let user = rate(table.user_publications_per_s, table.user_publications_burst);
            let rates = NamespaceRates {
                channel_publications: channel.unwrap_or(of_all),
                user_publications: user.unwrap_or(Rate::new(0, 0)),
            };
            (table.name.as_str().into(), rates)
        });
        rates.collect()
    }

    /// What is wrong with the namespaces.
    pub(super) fn namespace_faults(&self) -> Vec<Fault> {
        let mut names = HashSet::new();
        let mut faults = Vec::new();
        for (at, table) in self.namespaces.iter().enumerate() {
            let mut wrong = |why: &str| {
                faults.push(Fault::of_key(
                    format!("namespaces[{at}]"),
                    format!("namespaces[{at}].{why}"),
                ));
            };
            table.faults(self).iter().for_each(|why| wrong(why));
            if !names.insert(&table.name) {
                wrong(&format!(
                    "name = {:?}: has a table already; make one of the two",
                    table.name
                ));
            }
        }
        faults
    }
}
