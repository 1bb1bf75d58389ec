//! How a client stands with a limit, and the structured fields that say so (draft-ietf-httpapi-ratelimit-headers-10).

use std::fmt::Write as _;

use super::limit::Limit;

/// How a client stands with one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Which limit.
    pub(super) limit: Limit,
    /// What it allows.
    pub(super) allowance: Allowance,
    /// How much of it is left.
    pub(super) remaining: u32,
}

/// What a limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// So many at once, all of which come back over a time.
    Bucket {
        /// How many at once.
        quota: u32,
        /// In how many seconds an empty bucket is full.
        window_s: u64,
        /// In how many milliseconds there is more than there is now; 0 if it is full.
        more_in_ms: u64,
    },
    /// So many at a time.
    Concurrent {
        /// How many.
        quota: u32,
    },
}

impl Standing {
    /// In how many milliseconds there is more than there is now.
    pub(super) fn retry_ms(&self) -> u64 {
        match self.allowance {
            Allowance::Bucket { more_in_ms, .. } => more_in_ms,
            Allowance::Concurrent { .. } => 0,
        }
    }

    fn write_policy(&self, text: &mut String) {
        let name = self.limit.name();
        let _ = match self.allowance {
            Allowance::Bucket { quota, window_s, .. } => write!(text, "\"{name}\";q={quota};w={window_s}"),
            Allowance::Concurrent { quota } => write!(text, "\"{name}\";q={quota};qu=\"concurrent-requests\""),
        };
    }

    fn write_state(&self, text: &mut String) {
        let (name, remaining) = (self.limit.name(), self.remaining);
        let _ = match self.allowance {
            Allowance::Bucket { more_in_ms, .. } => {
                write!(text, "\"{name}\";r={remaining};t={}", more_in_ms.div_ceil(1000))
            }
            Allowance::Concurrent { .. } => write!(text, "\"{name}\";r={remaining}"),
        };
    }
}

/// How a client stands with every limit that an answer has to do with.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<Standing>);

impl Tally {
    /// Of several standings with one limit (a batch has to do with many channels) the worst is told.
    pub(super) fn note(&mut self, standing: Standing) {
        match self.0.iter_mut().find(|known| known.limit == standing.limit) {
            None => self.0.push(standing),
            Some(known) if standing.remaining <= known.remaining => *known = standing,
            Some(_) => {}
        }
    }

    /// The values of `RateLimit-Policy` and `RateLimit`; `None` if no limit has to do with the answer.
    pub(super) fn fields(&self) -> Option<(String, String)> {
        let list = |write: fn(&Standing, &mut String)| {
            let mut text = String::new();
            for standing in &self.0 {
                if !text.is_empty() {
                    text.push_str(", ");
                }
                write(standing, &mut text);
            }
            text
        };
        (!self.0.is_empty()).then(|| (list(Standing::write_policy), list(Standing::write_state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(remaining: u32, more_in_ms: u64) -> Standing {
        Standing {
            limit: Limit::IpPublish,
            allowance: Allowance::Bucket {
                quota: 100,
                window_s: 1,
                more_in_ms,
            },
            remaining,
        }
    }

    #[test]
    fn fields_are_as_in_the_protocol() {
        let mut tally = Tally::default();
        assert_eq!(tally.fields(), None);
        tally.note(publish(99, 10));
        let fields = ("\"ip-publish\";q=100;w=1", "\"ip-publish\";r=99;t=1");
        assert_eq!(tally.fields(), Some((fields.0.to_owned(), fields.1.to_owned())));
        tally.note(Standing {
            limit: Limit::IpOpenConnections,
            allowance: Allowance::Concurrent { quota: 7 },
            remaining: 6,
        });
        let (policy, state) = tally.fields().unwrap();
        assert!(policy.ends_with(", \"ip-open-connections\";q=7;qu=\"concurrent-requests\""));
        assert!(state.ends_with(", \"ip-open-connections\";r=6"), "{state}");
    }

    #[test]
    fn the_worst_of_a_batch_is_told() {
        let mut tally = Tally::default();
        for remaining in [5, 0, 3] {
            tally.note(publish(remaining, 2_001));
        }
        assert_eq!(tally.fields().unwrap().1, "\"ip-publish\";r=0;t=3");
    }
}
