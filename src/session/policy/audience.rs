//! Who an action of a namespace is for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may do something with the channels of a namespace. Each admits whom the one before it admits, and more.
///
/// It is about clients: a back end does what the scopes and the channels of its API key say, whatever the audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// No client, whatever it was granted.
    Nobody,
    /// Those to whom the channel was granted, by a token's patterns.
    Granted,
    /// Every user whose token was verified.
    Identified,
    /// Everybody, also without a token.
    Anyone,
}
