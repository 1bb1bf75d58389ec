//! `[publishing]`: when publishers are answered.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, EngineKind, Fault};
use crate::delivery::{Ack, Replicas};

/// `[publishing]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Publishing {
    /// When a publisher is answered: when its publication is `stored`, or when it is `replicated`, too.
    pub ack: AckKind,
    /// With `replicated`: how many replicas must have it.
    #[schemars(range(min = 1))]
    pub ack_replicas: u32,
    /// With `replicated`: how long they are waited for, in milliseconds. Then the answer is a 503 with
    /// `outcome: "stored"`.
    #[schemars(range(min = 1, max = Replicas::TIMEOUT_MS_MAX))]
    pub ack_timeout_ms: u64,
}

/// When a publication is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckKind {
    /// When the engine has stored it.
    #[default]
    Stored,
    /// When replicas have it, too.
    Replicated,
}

impl Default for Publishing {
    fn default() -> Self {
        Self {
            ack: AckKind::Stored,
            ack_replicas: 1,
            ack_timeout_ms: Replicas::TIMEOUT_MS_DEFAULT,
        }
    }
}

impl Publishing {
    /// What it means.
    pub fn ack(&self) -> Ack {
        match (self.ack, NonZeroU32::new(self.ack_replicas)) {
            (AckKind::Replicated, Some(count)) => Ack::Replicated(Replicas {
                count,
                timeout_ms: self.ack_timeout_ms,
            }),
            _ => Ack::Stored,
        }
    }
}

impl Publishing {
    /// What is to be said where there cannot be replicas.
    pub(super) fn needs_replicas(key: &str) -> String {
        format!(
            "{key} = \"replicated\" needs an engine that has replicas: the memory engine has none; set engine.kind = \
             \"redis\", or {key} = \"stored\""
        )
    }
}

impl Config {
    /// The most replicas that any publisher waits for.
    pub fn ack_replicas_max(&self) -> Option<NonZeroU32> {
        let own = self
            .namespaces
            .iter()
            .map(|table| table.publishing(&self.publishing).ack());
        let wanted = own.chain([self.publishing.ack()]).filter_map(|ack| match ack {
            Ack::Stored => None,
            Ack::Replicated(replicas) => Some(replicas.count),
        });
        wanted.max()
    }

    /// Replicas that there cannot be.
    pub(super) fn ack_fault(&self) -> Option<Fault> {
        let is_well = self.publishing.ack == AckKind::Stored || self.engine.kind == EngineKind::Redis;
        (!is_well).then(|| Fault::of_key("publishing.ack", Publishing::needs_replicas("publishing.ack")))
    }
}
