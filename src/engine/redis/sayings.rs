//! What Sentinels say, and what of it is believed.
//!
//! Each failover has a configuration epoch of its own, greater than all before. The greatest that was heard is remembered,
//! and no Sentinel is believed that knows an older one: it was away, and names a primary that was replaced since. That
//! one may be up again and take publications, until somebody tells it that it is a replica now.
//!
//! While a failover is on its way to another, the primary that is to be replaced is left: what it took would be lost.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// For how long a primary is left that is to be replaced. A failover that takes longer does not come about.
const LEFT_MAX: Duration = Duration::from_secs(5);

/// For how long a primary must be away before a majority that knows an older epoch is believed: then the Sentinels were
/// made anew, and count from the beginning.
const ANEW_AFTER: Duration = Duration::from_secs(10);

/// What one says about the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saying {
    pub(super) config_epoch: u64,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) failover: Failover,
}

/// Whether another is about to be made the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failover {
    None,
    Begun,
}

impl Saying {
    /// Reads the answers to `SENTINEL MASTER` and `SENTINEL GET-MASTER-ADDR-BY-NAME`.
    pub(super) fn read(facts: &HashMap<String, String>, (host, port): (String, String)) -> Option<Self> {
        let mut flags = facts.get("flags")?.split(',');
        Some(Self {
            config_epoch: facts.get("config-epoch")?.parse().ok()?,
            host,
            port: port.parse().ok()?,
            failover: if flags.any(|flag| flag == "failover_in_progress") {
                Failover::Begun
            } else {
                Failover::None
            },
        })
    }

    fn is_same_place(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Whether the primary of now can be used, and says that it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primary {
    Up,
    Away,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    /// That one is the primary from now on.
    Move(Saying),
    /// The primary is about to be replaced.
    Leave,
}

/// The one that counts: of those with the greatest epoch, what most say.
pub(super) fn newest(answers: &[Saying]) -> Option<&Saying> {
    let epoch = answers.iter().map(|saying| saying.config_epoch).max()?;
    let of_epoch = || answers.iter().filter(|saying| saying.config_epoch == epoch);
    let votes = |saying: &&Saying| of_epoch().filter(|other| other.is_same_place(saying)).count();
    of_epoch().max_by_key(|saying| (votes(saying), &saying.host, saying.port))
}

/// Whether the primary is left because it is about to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    Since(Instant),
    /// It was, for as long as that is done, and the failover is still not over.
    InVain,
}

/// What is believed.
#[derive(Debug)]
pub(super) struct Belief {
    /// How many Sentinels there are to be asked.
    sentinels: usize,
    /// Where the primary is, by the greatest epoch that was heard.
    current: Option<Saying>,
    leaving: Leaving,
    /// Since when it is away, and only an older epoch is heard.
    old_since: Option<Instant>,
    /// What was not believed; the log has it.
    refused: Option<Saying>,
}

impl Belief {
    pub(super) fn new(sentinels: usize) -> Self {
        Self {
            sentinels,
            current: None,
            leaving: Leaving::No,
            old_since: None,
            refused: None,
        }
    }

    /// Weighs what those say who answered.
    pub(super) fn weigh(&mut self, answers: &[Saying], primary: Primary, now: Instant) -> Verdict {
        let Some(newest) = newest(answers) else {
            return self.weigh_failover(self.last_heard(), now);
        };
        let Some(current) = &mut self.current else {
            return self.believe(newest);
        };
        if newest.config_epoch < current.config_epoch {
            return self.weigh_older(answers, newest, (primary, now));
        }
        (self.old_since, self.refused) = (None, None);
        // Two that say different things at the same epoch are no reason to go from one to the other and back.
        let same = answers
            .iter()
            .filter(|saying| saying.config_epoch == newest.config_epoch && saying.is_same_place(current));
        let same: Vec<_> = same.collect();
        if same.is_empty() {
            return self.believe(newest);
        }
        current.config_epoch = newest.config_epoch;
        let failover = same.iter().map(|saying| saying.failover).max();
        self.weigh_failover(failover.unwrap_or(Failover::None), now)
    }

    fn believe(&mut self, saying: &Saying) -> Verdict {
        *self = Self::new(self.sentinels);
        self.current = Some(saying.clone());
        Verdict::Move(saying.clone())
    }

    /// As long as nobody says otherwise.
    fn last_heard(&self) -> Failover {
        match self.leaving {
            Leaving::No => Failover::None,
            Leaving::Since(_) | Leaving::InVain => Failover::Begun,
        }
    }

    fn weigh_failover(&mut self, failover: Failover, now: Instant) -> Verdict {
        let Some(current) = &self.current else {
            return Verdict::Stay;
        };
        let redis = current.place();
        let is_long = |since| now.duration_since(since) >= LEFT_MAX;
        match (self.leaving, failover) {
            (Leaving::No, Failover::Begun) => {
                tracing::warn!(redis, "Sentinels are replacing the primary; it is left until they have");
                self.leaving = Leaving::Since(now);
                Verdict::Leave
            }
            (Leaving::Since(since), Failover::Begun) if is_long(since) => {
                tracing::warn!(redis, "the primary was not replaced in time; going on with it");
                self.leaving = Leaving::InVain;
                Verdict::Move(current.clone())
            }
            (Leaving::Since(_), Failover::None) => {
                tracing::warn!(redis, "the primary was not replaced; going on with it");
                self.leaving = Leaving::No;
                Verdict::Move(current.clone())
            }
            (Leaving::InVain, Failover::None) => {
                self.leaving = Leaving::No;
                Verdict::Stay
            }
            (Leaving::No, Failover::None) | (Leaving::Since(_) | Leaving::InVain, Failover::Begun) => Verdict::Stay,
        }
    }

    /// All who answered know an older epoch.
    fn weigh_older(&mut self, answers: &[Saying], newest: &Saying, (primary, now): (Primary, Instant)) -> Verdict {
        let Some(current) = &mut self.current else {
            return Verdict::Stay;
        };
        let is_majority =
            answers.len() * 2 > self.sentinels && answers.iter().all(|saying| saying.is_same_place(newest));
        if is_majority && newest.is_same_place(current) {
            current.config_epoch = newest.config_epoch;
            return self.weigh_failover(newest.failover, now);
        }
        let (redis, epoch, known) = (newest.place(), newest.config_epoch, current.config_epoch);
        if self.refused.as_ref() != Some(newest) {
            let current = current.place();
            tracing::warn!(
                redis,
                epoch,
                known,
                current,
                "a Sentinel names a primary that was replaced since (its configuration epoch is older); not believed"
            );
            self.refused = Some(newest.clone());
        }
        if primary == Primary::Up || !is_majority {
            self.old_since = None;
        } else if now.duration_since(*self.old_since.get_or_insert(now)) >= ANEW_AFTER {
            tracing::warn!(
                redis,
                epoch,
                known,
                "most Sentinels name this primary, and the one that was known is away; believed, as if they were made anew"
            );
            return self.believe(newest);
        }
        self.weigh_failover(self.last_heard(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(config_epoch: u64, port: u16) -> Saying {
        Saying {
            config_epoch,
            host: "h".to_owned(),
            port,
            failover: Failover::None,
        }
    }

    fn failing(config_epoch: u64, port: u16) -> Saying {
        Saying {
            failover: Failover::Begun,
            ..say(config_epoch, port)
        }
    }

    /// Of three Sentinels, after some have said `first`.
    fn after(first: &[Saying]) -> (Belief, Instant) {
        let (mut belief, now) = (Belief::new(3), Instant::now());
        belief.weigh(first, Primary::Up, now);
        (belief, now)
    }

    #[test]
    fn the_greatest_epoch_counts_and_most_of_those_that_have_it() {
        let answers = [say(1, 9), say(2, 5), say(2, 4), say(2, 4)];
        assert_eq!(newest(&answers), Some(&say(2, 4)));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn who_was_away_and_names_the_old_one_is_not_believed_whether_the_new_one_is_up_or_not() {
        let (mut belief, now) = after(&[say(0, 1)]);
        assert_eq!(
            belief.weigh(&[say(0, 1), say(1, 2)], Primary::Up, now),
            Verdict::Move(say(1, 2))
        );
        for primary in [Primary::Up, Primary::Away, Primary::Away] {
            assert_eq!(belief.weigh(&[say(0, 1)], primary, now), Verdict::Stay);
        }
        let late = now + ANEW_AFTER * 10;
        assert_eq!(
            belief.weigh(&[say(0, 1)], Primary::Away, late),
            Verdict::Stay,
            "one of three is no majority"
        );
        assert_eq!(
            belief.weigh(&[say(0, 1), say(2, 3)], Primary::Up, late),
            Verdict::Move(say(2, 3))
        );
    }

    #[test]
    fn a_majority_that_was_made_anew_is_believed_when_the_primary_has_been_away_for_long() {
        let (mut belief, now) = after(&[say(7, 1)]);
        let anew = [say(0, 2), say(0, 2)];
        assert_eq!(belief.weigh(&anew, Primary::Up, now + ANEW_AFTER), Verdict::Stay);
        assert_eq!(belief.weigh(&anew, Primary::Away, now + ANEW_AFTER), Verdict::Stay);
        assert_eq!(
            belief.weigh(&anew, Primary::Up, now + ANEW_AFTER * 2),
            Verdict::Stay,
            "it was back"
        );
        assert_eq!(belief.weigh(&anew, Primary::Away, now + ANEW_AFTER * 3), Verdict::Stay);
        assert_eq!(
            belief.weigh(&[say(0, 2), say(0, 3)], Primary::Away, now + ANEW_AFTER * 4),
            Verdict::Stay,
            "they do not agree"
        );
        assert_eq!(belief.weigh(&anew, Primary::Away, now + ANEW_AFTER * 5), Verdict::Stay);
        assert_eq!(
            belief.weigh(&anew, Primary::Away, now + ANEW_AFTER * 6),
            Verdict::Move(say(0, 2))
        );
    }

    #[test]
    fn a_majority_that_counts_anew_and_names_the_same_is_followed_in_its_count() {
        let (mut belief, now) = after(&[say(7, 1)]);
        assert_eq!(belief.weigh(&[say(0, 1), say(0, 1)], Primary::Up, now), Verdict::Stay);
        assert_eq!(belief.weigh(&[say(1, 2)], Primary::Up, now), Verdict::Move(say(1, 2)));
    }

    #[test]
    fn who_leads_a_failover_is_not_taken_back_to_the_old_one() {
        let (mut belief, now) = after(&[say(0, 1)]);
        // The others come to know of it one after the other.
        assert_eq!(
            belief.weigh(&[say(0, 1), say(1, 2)], Primary::Up, now),
            Verdict::Move(say(1, 2))
        );
        assert_eq!(
            belief.weigh(&[say(1, 9), say(1, 2)], Primary::Up, now),
            Verdict::Stay,
            "one who has named it still does"
        );
        assert_eq!(belief.weigh(&[say(1, 9)], Primary::Up, now), Verdict::Move(say(1, 9)));
    }

    #[test]
    fn a_primary_that_is_about_to_be_replaced_is_left_for_a_while() {
        let (mut belief, now) = after(&[say(0, 1)]);
        let during = [say(0, 1), failing(0, 1)];
        assert_eq!(belief.weigh(&during, Primary::Up, now), Verdict::Leave);
        assert_eq!(belief.weigh(&during, Primary::Away, now + LEFT_MAX / 2), Verdict::Stay);
        assert_eq!(
            belief.weigh(&[say(1, 2)], Primary::Away, now + LEFT_MAX / 2),
            Verdict::Move(say(1, 2))
        );
        // One that does not come about.
        let now = now + LEFT_MAX;
        assert_eq!(belief.weigh(&[failing(1, 2)], Primary::Up, now), Verdict::Leave);
        assert_eq!(
            belief.weigh(&[], Primary::Away, now + LEFT_MAX),
            Verdict::Move(say(1, 2)),
            "nobody says that it is over"
        );
        assert_eq!(
            belief.weigh(&[failing(1, 2)], Primary::Up, now + LEFT_MAX * 9),
            Verdict::Stay
        );
        assert_eq!(
            belief.weigh(&[say(1, 2)], Primary::Up, now + LEFT_MAX * 9),
            Verdict::Stay
        );
        assert_eq!(
            belief.weigh(&[failing(1, 2)], Primary::Up, now + LEFT_MAX * 10),
            Verdict::Leave
        );
        assert_eq!(
            belief.weigh(&[say(1, 2)], Primary::Up, now + LEFT_MAX * 10),
            Verdict::Move(say(1, 2))
        );
    }

    #[test]
    fn what_a_sentinel_says_is_read() {
        let facts = |flags: &str| {
            let facts = [("flags", flags), ("config-epoch", "3"), ("ip", "old"), ("port", "1")];
            facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        };
        let address = || ("h".to_owned(), "2".to_owned());
        assert_eq!(Saying::read(&facts("master"), address()), Some(say(3, 2)));
        let during = "s_down,o_down,master,failover_in_progress";
        assert_eq!(Saying::read(&facts(during), address()), Some(failing(3, 2)));
    }
}
