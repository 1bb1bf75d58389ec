//! What happened in a run, counted: a test that saw no gap has not tested gaps.

use std::collections::BTreeMap;
use std::fmt;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    Histories,
    IdleHistories,
    Publications,
    Duplicates,
    Reconnects,
    TransportChanges,
    NodeChanges,
    DropsMidFrame,
    DropsMidEvent,
    DropsMidAnswer,
    Resubscriptions,
    ResumesFresh,
    ResumesComplete,
    ResumesGap,
    Gaps,
    GapsByPoll,
    LagsInTime,
    LappedOverWebSocket,
    LappedOverEventSource,
    LappedBetweenPolls,
}

use Happening as H;

impl Happening {
    /// Everything that must have happened before a run has shown anything.
    pub(crate) const ALL: [Self; 20] = [
        H::Histories,
        H::IdleHistories,
        H::Publications,
        H::Duplicates,
        H::Reconnects,
        H::TransportChanges,
        H::NodeChanges,
        H::DropsMidFrame,
        H::DropsMidEvent,
        H::DropsMidAnswer,
        H::Resubscriptions,
        H::ResumesFresh,
        H::ResumesComplete,
        H::ResumesGap,
        H::Gaps,
        H::GapsByPoll,
        H::LagsInTime,
        H::LappedOverWebSocket,
        H::LappedOverEventSource,
        H::LappedBetweenPolls,
    ];

    fn words(self) -> &'static str {
        match self {
            H::Histories => "histories",
            H::IdleHistories => "histories of idle channels",
            H::Publications => "publications delivered",
            H::Duplicates => "publications repeated by their publisher",
            H::Reconnects => "reconnects",
            H::TransportChanges => "changes of transport",
            H::NodeChanges => "changes of node",
            H::DropsMidFrame => "drops in the middle of a frame",
            H::DropsMidEvent => "drops in the middle of an event",
            H::DropsMidAnswer => "drops in the middle of an answer",
            H::Resubscriptions => "resubscriptions on an open connection",
            H::ResumesFresh => "resumes fresh",
            H::ResumesComplete => "resumes complete",
            H::ResumesGap => "resumes gap",
            H::Gaps => "gaps",
            H::GapsByPoll => "gaps of these by long-poll",
            H::LagsInTime => "lags, back in time",
            H::LappedOverWebSocket => "lags, lapped, over WebSocket",
            H::LappedOverEventSource => "lags, lapped, over Server-Sent Events",
            H::LappedBetweenPolls => "lags, lapped, between two polls",
        }
    }
}

/// How often each thing happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(BTreeMap<Happening, u64>);

impl Tally {
    pub(crate) fn add(&mut self, happening: Happening) {
        self.add_many(happening, 1);
    }

    pub(crate) fn add_many(&mut self, happening: Happening, count: u64) {
        *self.0.entry(happening).or_default() += count;
    }

    pub(crate) fn count(&self, happening: Happening) -> u64 {
        self.0.get(&happening).copied().unwrap_or_default()
    }

    pub(crate) fn take_over(&mut self, other: &Self) {
        for (happening, count) in &other.0 {
            self.add_many(*happening, *count);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Happening::ALL
            .iter()
            .try_for_each(|happening| writeln!(f, "{:>9}  {}", self.count(*happening), happening.words()))
    }
}
