//! Which channels somebody follows on this node, for an app that is told when the first comes and the last has gone.
//!
//! It is for channels without presence, which knows the same over all nodes. Where presence is switched on or off while
//! somebody follows a channel, one takes over from the other, and nobody is told that it was empty.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::presence::Presences;
use super::{Node, Session};
use crate::delivery::{ChannelName, PresenceEvent, PresenceEvents};

/// How long nobody has to be on a channel before it is vacated: a client that reconnects, or polls again, changes
/// nothing.
const VACATED_AFTER: Duration = Duration::from_secs(5);

/// How often it is looked whether a channel is vacated.
const TICK: Duration = Duration::from_millis(500);

/// The channels that somebody follows, or did a moment ago.
#[derive(Debug)]
pub(super) struct Occupancies {
    events: Arc<dyn PresenceEvents>,
    presences: Weak<Presences>,
    channels: Mutex<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    known: HashMap<ChannelName, Occupied>,
    /// Those that nobody followed any more at some time, each once: the longest ago first.
    emptied: VecDeque<(Instant, ChannelName)>,
}

/// Whether it was said of a channel that it is occupied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    NotYet,
    ByPresence,
}

#[derive(Debug)]
struct Occupied {
    subscriptions: usize,
    /// Since when nobody has followed it, as of the last time when somebody went.
    empty_since: Instant,
    is_emptied: bool,
}

impl Occupancies {
    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody follows a channel for as long as what is returned is kept.
    fn enter(self: &Arc<Self>, channel: &ChannelName, said: Said) -> Occupant {
        match self.channels().known.entry(channel.clone()) {
            Entry::Occupied(mut known) => known.get_mut().subscriptions += 1,
            Entry::Vacant(vacant) => {
                vacant.insert(Occupied {
                    subscriptions: 1,
                    empty_since: Instant::now(),
                    is_emptied: false,
                });
                if said == Said::NotYet {
                    self.events.note(channel, PresenceEvent::Occupied);
                }
            }
        }
        Occupant {
            occupancies: Arc::clone(self),
            channel: channel.clone(),
        }
    }

    /// Something happened on a channel with presence.
    pub(super) fn note_of_presence(&self, channel: &ChannelName, event: &PresenceEvent) {
        let is_turn = matches!(event, PresenceEvent::Occupied | PresenceEvent::Vacated);
        // Held while it is told: whoever takes over meanwhile comes after it.
        let channels = self.channels();
        if !(is_turn && channels.known.contains_key(channel)) {
            self.events.note(channel, event.clone());
        }
    }

    /// Whether presence has taken over a channel.
    fn is_taken_over(&self, channel: &ChannelName) -> bool {
        let presences = self.presences.upgrade();
        presences.is_some_and(|presences| presences.has_here(channel))
    }

    fn leave(&self, channel: &ChannelName) {
        let mut channels = self.channels();
        let Some(known) = channels.known.get_mut(channel) else {
            return;
        };
        known.subscriptions -= 1;
        if known.subscriptions == 0 {
            known.empty_since = Instant::now();
            if !std::mem::replace(&mut known.is_emptied, true) {
                let since = known.empty_since;
                channels.emptied.push_back((since, channel.clone()));
            }
        }
    }

    /// Tells of the channels that nobody has followed since then.
    fn vacate(&self, since: Instant) {
        let mut channels = self.channels();
        while channels.emptied.front().is_some_and(|(emptied, _)| *emptied <= since) {
            let Some((_, channel)) = channels.emptied.pop_front() else {
                return;
            };
            let Some(known) = channels.known.get_mut(&channel) else {
                continue;
            };
            known.is_emptied = false;
            if known.subscriptions > 0 {
                continue;
            }
            if known.empty_since > since {
                // Somebody came and went meanwhile.
                known.is_emptied = true;
                let emptied = (known.empty_since, channel);
                channels.emptied.push_back(emptied);
                continue;
            }
            channels.known.remove(&channel);
            if !self.is_taken_over(&channel) {
                self.events.note(&channel, PresenceEvent::Vacated);
            }
        }
        let (used, room) = (channels.known.len(), channels.known.capacity());
        if room > 64 && used < room / 4 {
            channels.known.shrink_to(used * 2);
        }
    }
}

/// Somebody who follows a channel.
#[derive(Debug)]
pub(super) struct Occupant {
    occupancies: Arc<Occupancies>,
    channel: ChannelName,
}

impl Drop for Occupant {
    fn drop(&mut self) {
        self.occupancies.leave(&self.channel);
    }
}

async fn look(occupancies: Weak<Occupancies>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(occupancies) = occupancies.upgrade() else {
            return;
        };
        if let Some(since) = Instant::now().checked_sub(VACATED_AFTER) {
            occupancies.vacate(since);
        }
    }
}

impl Node {
    /// From now on, tells of channels without presence when the first of this node comes and the last has gone, and what
    /// happens on those with presence. Must be called inside a tokio runtime, and once.
    pub fn tell_occupancy(&self, events: Arc<dyn PresenceEvents>) {
        let occupancies = Arc::new(Occupancies {
            events,
            presences: Arc::downgrade(&self.presences),
            channels: Mutex::default(),
        });
        tokio::spawn(look(Arc::downgrade(&occupancies)));
        self.presences.tell_with(Arc::clone(&occupancies));
        // The second time nothing is told.
        let _ = self.occupancies.set(occupancies);
    }

    /// Tells at once of the channels that nobody follows any more: for the end, when no one comes back to this node.
    pub fn vacate(&self) {
        if let Some(occupancies) = self.occupancies.get() {
            occupancies.vacate(Instant::now());
        }
    }
}

impl Session {
    /// A subscription to a channel has begun: it is followed, for as long as that lasts.
    pub(super) fn occupy(&mut self, channel: &ChannelName) {
        if self.node().presences_on(channel).is_none() {
            self.occupy_as(channel, Said::NotYet);
        }
    }

    fn occupy_as(&mut self, channel: &ChannelName, said: Said) {
        let occupant = self.node().occupancies.get().map(|all| all.enter(channel, said));
        self.subscriptions.occupy(channel, occupant);
    }

    /// Presence may have been switched on or off where the session is subscribed: it enters or leaves.
    pub(super) fn follow_presence(&mut self) {
        let channels: Vec<_> = self.subscriptions.channels().cloned().collect();
        for channel in channels {
            let attendance = self.aside.attendance();
            let is_told = attendance.and_then(|attendance| attendance.is_told_on(&channel));
            let presences = self.node().presences_on(&channel);
            match (presences, is_told) {
                (Some(presences), None) => {
                    let place = presences.place_unseen(&channel);
                    self.enter(Some(place), 0);
                    // After it has entered: so the channel is not empty in between.
                    self.subscriptions.occupy(&channel, None);
                }
                (None, Some(is_told)) => {
                    self.occupy_as(&channel, if is_told { Said::ByPresence } else { Said::NotYet });
                    self.leave(&channel);
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<String>>);

    impl PresenceEvents for Told {
        fn note(&self, channel: &ChannelName, event: PresenceEvent) {
            self.0.lock().unwrap().push(format!("{channel} {event:?}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_and_the_last_are_told_of_and_nobody_in_between() {
        let told = Arc::new(Told::default());
        let occupancies = Arc::new(Occupancies {
            events: Arc::clone(&told) as Arc<dyn PresenceEvents>,
            presences: Weak::new(),
            channels: Mutex::default(),
        });
        tokio::spawn(look(Arc::downgrade(&occupancies)));
        let (a, b) = (ChannelName::parse("a").unwrap(), ChannelName::parse("b").unwrap());
        let (first, second, other) = (
            occupancies.enter(&a, Said::NotYet),
            occupancies.enter(&a, Said::NotYet),
            occupancies.enter(&b, Said::NotYet),
        );
        drop(first);
        tokio::time::sleep(2 * VACATED_AFTER).await;
        assert_eq!(*told.0.lock().unwrap(), ["a Occupied", "b Occupied"]);
        // A hundred polls, one after the other.
        drop(second);
        for _ in 0..100 {
            tokio::time::sleep(VACATED_AFTER / 5).await;
            drop(occupancies.enter(&a, Said::NotYet));
        }
        assert_eq!(told.0.lock().unwrap().len(), 2);
        assert_eq!(occupancies.channels().emptied.len(), 1);
        tokio::time::sleep(VACATED_AFTER + 2 * TICK).await;
        assert_eq!(told.0.lock().unwrap()[2..], ["a Vacated"]);
        drop(other);
        occupancies.vacate(Instant::now());
        assert_eq!(told.0.lock().unwrap()[3..], ["b Vacated"]);
        assert!(occupancies.channels().known.is_empty() && occupancies.channels().emptied.is_empty());
        drop(occupancies.enter(&b, Said::NotYet));
        assert_eq!(told.0.lock().unwrap()[4..], ["b Occupied"]);
    }
}
