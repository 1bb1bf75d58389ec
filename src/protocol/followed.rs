//! What an operator asks about channels, and what is answered.

use super::query::read_query;
use super::{Code, Object, Problem};
use crate::delivery::Followed;

/// Channels that are answered unless told.
const LIMIT_DEFAULT: usize = 100;

/// The most channels that are answered at once.
const LIMIT_MAX: usize = 1_000;

/// Which channels are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedQuery {
    /// What their names begin with.
    pub prefix: String,
    /// The name after which to go on.
    pub after: String,
    /// How many at most.
    pub limit: usize,
}

impl FollowedQuery {
    /// Reads a query.
    ///
    /// # Errors
    /// `bad_request`.
    pub fn read(query: &str) -> Result<Self, Problem> {
        let mut asked = Self {
            prefix: String::new(),
            after: String::new(),
            limit: LIMIT_DEFAULT,
        };
        for (name, value) in read_query(query)? {
            match &*name {
                "prefix" => asked.prefix = value.into_owned(),
                "after" => asked.after = value.into_owned(),
                "limit" => {
                    let limit: Option<usize> = value.parse().ok();
                    let bad = || {
                        let detail = format!("`limit` must be a whole number from 1 on, not {value:?}");
                        Problem::new(Code::BadRequest, detail)
                    };
                    asked.limit = limit.filter(|limit| *limit > 0).ok_or_else(bad)?.min(LIMIT_MAX);
                }
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The answer: what was found, which may be one more than was asked for; then `next` says where to go on.
    pub fn answer(&self, found: &[Followed]) -> String {
        let shown = &found[..found.len().min(self.limit)];
        let channels = shown.iter().map(|followed| {
            Object::new()
                .text("channel", followed.channel.as_str())
                .number("subscriptions", followed.subscriptions as u64)
                .text("top", &followed.top.to_string())
                .finish()
        });
        let next = shown.last().filter(|_| found.len() > self.limit);
        Object::new()
            .array("channels", channels)
            .optional_text("next", next.map(|followed| followed.channel.as_str()))
            .finish()
    }
}
