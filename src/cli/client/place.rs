//! Where we stand on one channel, and whether the server keeps its promise there: publications in offset order, none
//! twice, none left out, unless a `gap` says which.

use std::fmt;

use super::failure::{Comeback, Failure};
use super::position::{Order, Position};
use super::push::{Body, Gap, Publication, Resume, Subscribed, Unsubscribed};

#[derive(Debug)]
pub(crate) struct Place {
    /// Unknown where the server chooses it, until it says which.
    pub(crate) channel: Option<String>,
    pub(crate) element: Element,
    chosen_by: Chooser,
    stage: Stage,
}

/// Who wants the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chooser {
    /// We name it.
    Us,
    /// It comes after those that we name: a token subscribes it, or the configuration.
    Server,
}

/// A cursor element.
#[derive(Debug)]
pub(crate) enum Element {
    At(Position),
    /// Known to the server only, until it says where that is: `now`, `start`, `last:N`.
    Relative(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server has not said yet where it begins.
    Asked,
    /// The server has said that a gap comes before anything else.
    GapAnnounced,
    Following,
    /// Refused, and not to be asked for again.
    Ended,
}

impl Place {
    /// On a channel that we ask for.
    pub(crate) fn asked_for(channel: String) -> Self {
        Self {
            channel: Some(channel),
            element: Element::Relative("now".to_owned()),
            chosen_by: Chooser::Us,
            stage: Stage::Asked,
        }
    }

    /// On a channel that the server subscribes us to, and that it has told.
    pub(crate) fn granted(channel: String) -> Self {
        Self {
            chosen_by: Chooser::Server,
            ..Self::asked_for(channel)
        }
    }

    /// On a channel that the server subscribes us to, and that it has still to tell.
    pub(crate) fn granted_at(element: &str) -> Self {
        Self {
            channel: None,
            element: element.into(),
            chosen_by: Chooser::Server,
            stage: Stage::Asked,
        }
    }

    /// A stream was asked for, and begins with a `subscribed`.
    pub(crate) fn ask_stream(&mut self) {
        self.stage = Stage::Asked;
    }

    /// A poll was asked for, which says `subscribed` only where it was given no position.
    pub(crate) fn ask_poll(&mut self) {
        self.stage = match self.element {
            Element::At(_) => Stage::Following,
            Element::Relative(_) => Stage::Asked,
        };
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    pub(crate) fn is_asked_for(&self) -> bool {
        self.chosen_by == Chooser::Us
    }

    /// Whether a push whose channel we do not know may be for this place, whose channel we do not know either: an epoch
    /// belongs to one channel.
    pub(crate) fn awaits(&self, push: &Body) -> bool {
        let at = match &self.element {
            Element::At(position) => Some(position),
            Element::Relative(_) => None,
        };
        self.channel.is_none()
            && match push {
                Body::Subscribed(subscribed) => match at {
                    Some(at) => subscribed.resume != Resume::Fresh && subscribed.position.is_at(at),
                    None => subscribed.resume == Resume::Fresh,
                },
                Body::Publication(publication) => {
                    at.is_some_and(|at| publication.position.order_after(at) == Order::Next)
                }
                Body::Gap(gap) => at.is_some_and(|at| gap.from.is_at(at)),
                Body::Welcome(_) | Body::Unsubscribed(_) | Body::Closing(_) | Body::Other => false,
            }
    }

    pub(crate) fn begin(&mut self, subscribed: &Subscribed) -> Result<(), Failure> {
        let Subscribed { position, resume, .. } = subscribed;
        let is_as_asked = match &self.element {
            Element::Relative(_) => *resume == Resume::Fresh,
            Element::At(given) => *resume != Resume::Fresh && position.is_at(given),
        };
        if !is_as_asked {
            return Err(self.violation(&format!("subscribed at {position} as {resume:?}")));
        }
        self.stage = if *resume == Resume::Gap {
            Stage::GapAnnounced
        } else {
            Stage::Following
        };
        self.element = Element::At(position.clone());
        Ok(())
    }

    pub(crate) fn advance(&mut self, publication: &Publication) -> Result<(), Failure> {
        let position = &publication.position;
        let why_not = match (self.stage, &self.element) {
            (Stage::Ended, _) => Some("after its unsubscribed"),
            (Stage::Asked, _) | (_, Element::Relative(_)) => Some("before its subscribed"),
            (Stage::GapAnnounced, _) => Some("before the gap that was announced"),
            (Stage::Following, Element::At(at)) => match position.order_after(at) {
                Order::Next => None,
                Order::Repeated => Some("twice, or out of order"),
                Order::Ahead => Some("without those before it, and no gap said so"),
                Order::Elsewhere => Some("of another epoch, and no gap said so"),
            },
        };
        if let Some(why_not) = why_not {
            return Err(self.violation(&format!("publication {position} came {why_not}")));
        }
        self.element = Element::At(position.clone());
        Ok(())
    }

    pub(crate) fn skip(&mut self, gap: &Gap) -> Result<(), Failure> {
        let Gap { from, to, .. } = gap;
        let why_not = match (self.stage, &self.element) {
            (Stage::Ended, _) => Some("came after its unsubscribed"),
            (Stage::Asked, _) | (_, Element::Relative(_)) => Some("came before its subscribed"),
            (_, Element::At(at)) if !from.is_at(at) => Some("does not begin where we stand"),
            _ if from == to => Some("says that nothing is lost"),
            _ => None,
        };
        if let Some(why_not) = why_not {
            return Err(self.violation(&format!("gap {from}..{to} {why_not}")));
        }
        self.element = Element::At(to.clone());
        self.stage = Stage::Following;
        Ok(())
    }

    /// A subscription that may come back is asked for again, from where it stands.
    pub(crate) fn end(&mut self, unsubscribed: &Unsubscribed) {
        self.stage = match unsubscribed.refusal().comeback {
            Comeback::Never => Stage::Ended,
            Comeback::Backoff | Comeback::After(_) => Stage::Asked,
        };
    }

    /// Holds the server's account of where we stand against ours. What we do not know is taken from it.
    pub(crate) fn reconcile(&mut self, element: &str) -> Result<(), Failure> {
        let Ok(theirs) = element.parse::<Position>() else {
            return Ok(());
        };
        match &self.element {
            Element::At(ours) if !self.is_ended() && !ours.is_at(&theirs) => {
                Err(self.violation(&format!("the server's cursor says {theirs}")))
            }
            Element::At(_) => Ok(()),
            Element::Relative(_) => {
                self.element = Element::At(theirs);
                Ok(())
            }
        }
    }

    fn violation(&self, what: &str) -> Failure {
        let channel = self.channel.as_deref().unwrap_or("a channel that was not told");
        Failure::Violation(format!("{channel}: {what} (we stand at {})", self.element))
    }
}

impl From<&str> for Element {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Relative(text.to_owned()), Self::At)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(position) => position.fmt(f),
            Self::Relative(text) => f.write_str(text),
        }
    }
}
