//! The model: one reader's life on one channel, and what it may be told next.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::Violation;
use super::ledger::Ledger;
use crate::support::place::Place;
use crate::support::push::Push;

/// From where a reader asks to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Now,
    Start,
    Last(u64),
    After(Place),
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Start => f.write_str("start"),
            Self::Last(count) => write!(f, "last:{count}"),
            Self::After(place) => place.fmt(f),
        }
    }
}

/// What a push was to this history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Fresh,
    Complete,
    /// The resume is a gap, which must come next.
    ResumesInGap,
    Publication,
    /// A gap; whether it was one that the resume had announced.
    Gap {
        announced: bool,
    },
    Unsubscribed,
}

#[derive(Debug)]
enum Stage {
    /// Not subscribed.
    Off,
    /// A `subscribed` must come first.
    Asked { ask: Ask, acked: u64 },
    /// A `gap` must come first.
    Announced { acked: u64 },
    /// Publications come, and gaps. Up to `whole_to` nothing may be lost any more, for it was said that all follows.
    On { whole_to: u64 },
}

/// One reader's life on one channel.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) ledger: Arc<Ledger>,
    /// Everything up to here was received, or said to be lost.
    cursor: Option<Place>,
    stage: Stage,
    /// `unsubscribe` was said, and not yet answered.
    is_leaving: bool,
    time: u64,
    trail: VecDeque<String>,
}

impl History {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            cursor: None,
            stage: Stage::Off,
            is_leaving: false,
            time: 0,
            trail: VecDeque::new(),
        }
    }

    pub(crate) fn cursor(&self) -> Option<&Place> {
        self.cursor.as_ref()
    }

    pub(crate) fn offset(&self) -> u64 {
        self.cursor.as_ref().map_or(0, |cursor| cursor.offset)
    }

    /// Whether it was said where the subscription began.
    pub(crate) fn is_on(&self) -> bool {
        matches!(self.stage, Stage::Announced { .. } | Stage::On { .. })
    }

    pub(crate) fn is_off(&self) -> bool {
        matches!(self.stage, Stage::Off)
    }

    /// It is about to be asked for, on a transport that always says where it begins.
    pub(crate) fn ask(&mut self, ask: Ask) {
        self.note(format!("asks for {ask}"));
        let acked = self.ledger.acked();
        self.stage = Stage::Asked { ask, acked };
    }

    /// It is about to be asked for by long-poll, which does not repeat the position that it was given.
    pub(crate) fn ask_poll(&mut self, ask: Ask) {
        match ask {
            Ask::After(_) => {
                self.note(format!("polls after {ask}"));
                self.stage = Stage::On { whole_to: 0 };
            }
            Ask::Now | Ask::Start | Ask::Last(_) => self.ask(ask),
        }
    }

    /// `unsubscribe` is about to be said; publications may come until it is answered.
    pub(crate) fn leave(&mut self) {
        self.note("unsubscribes".to_owned());
        self.is_leaving = true;
    }

    /// The connection is gone.
    pub(crate) fn hang_up(&mut self, how: &str) {
        self.note(how.to_owned());
        self.stage = Stage::Off;
        self.is_leaving = false;
    }

    /// Takes what the server said about this channel.
    pub(crate) fn take(&mut self, push: &Push) -> Result<Told, Violation> {
        self.note(push.shown());
        let told = match push.kind() {
            "subscribed" => self.subscribed(push),
            "publication" => self.publication(push),
            "gap" => self.gap(push),
            "unsubscribed" => self.unsubscribed(push),
            other => Err(Violation(format!("{other:?} is no word for a channel"))),
        };
        told.map_err(|violation| self.explain(&violation))
    }

    /// What is wrong, with what came before it.
    pub(crate) fn explain(&self, violation: &Violation) -> Violation {
        let trail: Vec<_> = self.trail.iter().map(|line| format!("    {line}")).collect();
        Violation(format!(
            "{violation}\n  on {} (window {}, {} acknowledged, {} started) in the end:\n{}",
            self.ledger.channel.name,
            self.ledger.window,
            self.ledger.acked(),
            self.ledger.started(),
            trail.join("\n")
        ))
    }

    fn note(&mut self, line: String) {
        const TRAIL_LINES: usize = 12;
        if self.trail.len() == TRAIL_LINES {
            self.trail.pop_front();
        }
        self.trail.push_back(line);
    }

    fn subscribed(&mut self, push: &Push) -> Result<Told, Violation> {
        let Stage::Asked { ask, acked } = &self.stage else {
            return Err(Violation("`subscribed` without being asked for".to_owned()));
        };
        let acked = *acked;
        let place = read(push, "position")?;
        self.ledger.see_place(&place)?;
        let (told, stage) = match (ask, push.text_of("resume")) {
            (Ask::After(given), "complete") if *given == place => (Told::Complete, Stage::On { whole_to: acked }),
            (Ask::After(given), "gap") if *given == place => (Told::ResumesInGap, Stage::Announced { acked }),
            (Ask::Now | Ask::Start | Ask::Last(_), "fresh") => {
                self.began_rightly(ask, acked, &place)?;
                (Told::Fresh, Stage::On { whole_to: acked })
            }
            (_, resume) => return Err(Violation(format!("{ask} was answered {resume:?} at {place}"))),
        };
        self.cursor = Some(place);
        self.stage = stage;
        Ok(told)
    }

    /// The log's top was somewhere from `acked`, before asking, to what is started by now; the rest follows.
    fn began_rightly(&self, ask: &Ask, acked: u64, place: &Place) -> Result<(), Violation> {
        let window = self.ledger.window;
        let held = match ask {
            Ask::Now | Ask::After(_) => 0,
            Ask::Start => window,
            Ask::Last(count) => window.min(*count),
        };
        let (least, most) = (acked.saturating_sub(held), self.ledger.started().saturating_sub(held));
        must!(
            (least..=most).contains(&place.offset),
            "{ask} began at {place}, but should have within {least}..={most}"
        );
        Ok(())
    }

    fn publication(&mut self, push: &Push) -> Result<Told, Violation> {
        self.must_be_on("a publication")?;
        let place = read(push, "position")?;
        let cursor = self.cursor.as_ref().ok_or_else(|| Violation("no cursor".to_owned()))?;
        let how = if place.offset <= cursor.offset {
            "comes again"
        } else {
            "leaves some out"
        };
        must!(
            place == cursor.at(cursor.offset + 1),
            "{place} {how}: the cursor stood at {cursor}"
        );
        self.ledger.see(&place, push)?;
        let time = push.value["time"].as_u64().unwrap_or_default();
        must!(time >= self.time, "time goes back from {} to {time}", self.time);
        self.time = time;
        self.cursor = Some(place);
        Ok(Told::Publication)
    }

    fn gap(&mut self, push: &Push) -> Result<Told, Violation> {
        let (announced, whole_to) = match self.stage {
            Stage::Announced { acked } => (true, acked),
            Stage::On { whole_to } => (false, whole_to),
            Stage::Off | Stage::Asked { .. } => return Err(Violation("a gap without a subscription".to_owned())),
        };
        let (from, to) = (read(push, "from")?, read(push, "to")?);
        self.ledger.see_place(&to)?;
        let cursor = self.cursor.as_ref().ok_or_else(|| Violation("no cursor".to_owned()))?;
        must!(
            *cursor == from,
            "the gap begins at {from}, but the cursor stood at {cursor}"
        );
        must!(to.offset > from.offset, "nothing is missing from {from} to {to}");
        let gone = self.ledger.started().saturating_sub(self.ledger.window);
        must!(
            to.offset <= gone,
            "up to {to} is said to be lost, but the window holds all that is after {gone}"
        );
        must!(
            announced || from.offset >= whole_to,
            "lost after {from}, although it was said that everything up to {whole_to} would follow"
        );
        self.cursor = Some(to);
        self.stage = Stage::On { whole_to };
        Ok(Told::Gap { announced })
    }

    fn unsubscribed(&mut self, push: &Push) -> Result<Told, Violation> {
        must!(
            self.is_leaving && push.text_of("code") == "requested",
            "unsubscribed, but nobody asked for it"
        );
        self.is_leaving = false;
        self.stage = Stage::Off;
        Ok(Told::Unsubscribed)
    }

    fn must_be_on(&self, what: &str) -> Result<(), Violation> {
        match self.stage {
            Stage::On { .. } => Ok(()),
            Stage::Off => Err(Violation(format!("{what} without a subscription"))),
            Stage::Asked { .. } => Err(Violation(format!("{what} before `subscribed`"))),
            Stage::Announced { .. } => Err(Violation(format!("{what} before the gap that was announced"))),
        }
    }
}

fn read(push: &Push, field: &str) -> Result<Place, Violation> {
    let place = push.place(field);
    place.ok_or_else(|| Violation(format!("`{field}` is no position in {}", push.text)))
}
