//! The memory engine as the records of a snapshot, and back.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Awake, Channel, MemoryEngine, lock};
use crate::delivery::{Ack, ChannelName, Draft, IdempotencyKey, Log, Outside, Position, Publication, Since};
use crate::engine::idempotency::Fingerprints;
use crate::engine::snapshot::{Contents, Reader, Record, What, Writer};

/// Keys that are copied out of a channel at a time: its shard is locked only for so long, and no more memory taken.
const KEYS_CHUNK: usize = 1024;

impl MemoryEngine {
    /// Writes everything, channel by channel. The engine must be sealed: then nothing that is written can change.
    pub(in crate::engine) fn dump<W: Write>(&self, writer: &mut Writer<W>) -> io::Result<Contents> {
        let mut contents = Contents::default();
        writer.record(&Record::Engine {
            sealed_ms: self.outside.now_ms(),
            fingerprints: self.fingerprints.secret(),
        })?;
        for at in 0..self.shards.len() {
            let names: Vec<ChannelName> = lock(&self.shards[at]).keys().cloned().collect();
            for name in names {
                contents.channels += 1;
                self.dump_channel(at, &name, (writer, &mut contents))?;
            }
        }
        Ok(contents)
    }

    fn dump_channel<W: Write>(
        &self,
        shard: usize,
        name: &ChannelName,
        (writer, contents): (&mut Writer<W>, &mut Contents),
    ) -> io::Result<()> {
        let mut channels = lock(&self.shards[shard]);
        let awake = match channels.get_mut(name) {
            Some(Channel::Awake(awake)) => awake,
            Some(Channel::Dormant { top, until_ms }) => {
                let (top, until_ms) = (top.to_string(), *until_ms);
                drop(channels);
                let name = name.as_str();
                let top = &top;
                return writer.record(&Record::Dormant { name, top, until_ms });
            }
            None => return Err(io::Error::other(format!("the channel {name} went away"))),
        };
        if awake.live.strong_count() > 0 {
            awake.active_ms = self.outside.now_ms();
        }
        let page = awake.log.read(Since::Start, usize::MAX);
        let (time_ms, active_ms, policy) = (awake.log.time_ms(), awake.active_ms, awake.policy);
        drop(channels);
        writer.record(&Record::Channel {
            name: name.as_str(),
            start: &page.start.to_string(),
            time_ms,
            active_ms,
            policy: policy.map(Into::into),
        })?;
        for publication in &page.publications {
            contents.publications += 1;
            writer.record(&Record::Publication {
                time_ms: publication.time_ms,
                event: publication.event.as_deref(),
                sender: publication.sender.as_deref(),
                data: &publication.data,
            })?;
        }
        let mut written = 0;
        loop {
            let chunk = match lock(&self.shards[shard]).get(name) {
                Some(Channel::Awake(awake)) => awake.keys.some_from(written, KEYS_CHUNK),
                Some(Channel::Dormant { .. }) | None => Vec::new(),
            };
            if chunk.is_empty() {
                return Ok(());
            }
            written += chunk.len();
            contents.keys += chunk.len() as u64;
            for (at_ms, key, position, fingerprint) in chunk {
                writer.record(&Record::Key {
                    publisher: &key.publisher,
                    key: &key.key,
                    nth: key.nth as u64,
                    at_ms,
                    position: &position.to_string(),
                    fingerprint,
                })?;
            }
        }
    }

    /// Reads everything; what does not end as it should leaves nothing behind.
    pub(in crate::engine) fn restore<R: Read>(
        mut reader: Reader<R>,
        outside: Arc<dyn Outside>,
    ) -> Result<(Self, Contents), What> {
        let Record::Engine {
            sealed_ms,
            fingerprints,
        } = reader.record()?
        else {
            return Err(reader.nonsense());
        };
        // A clock that was set back meanwhile: what was measured by it is as old as it was then.
        let set_back_ms = sealed_ms.saturating_sub(outside.now_ms());
        let mut engine = Self::new(outside);
        engine.fingerprints = Fingerprints::of(fingerprints);
        let mut restored = Restored {
            engine,
            contents: Contents::default(),
            open: None,
            set_back_ms,
        };
        loop {
            match restored.take(&reader.record()?) {
                Some(false) => {}
                Some(true) => {
                    reader.ends()?;
                    return Ok((restored.engine, restored.contents));
                }
                None => return Err(reader.nonsense()),
            }
        }
    }
}

/// An engine that is being read.
struct Restored {
    engine: MemoryEngine,
    contents: Contents,
    /// The channel whose publications and keys come.
    open: Option<(ChannelName, Box<Awake>)>,
    set_back_ms: u64,
}

impl Restored {
    /// Takes one record, and says whether it was the last. `None`: it makes no sense here.
    fn take(&mut self, record: &Record<'_>) -> Option<bool> {
        match *record {
            Record::Engine { .. } => return None,
            Record::Dormant { name, top, until_ms } => {
                self.close()?;
                let (name, top) = (ChannelName::parse_own(name).ok()?, top.parse().ok()?);
                let until_ms = until_ms.saturating_sub(self.set_back_ms);
                self.engine.dormant.fetch_add(1, Ordering::Relaxed);
                self.insert(name, Channel::Dormant { top, until_ms })?;
            }
            Record::Channel {
                name,
                start,
                time_ms,
                active_ms,
                policy,
            } => {
                self.close()?;
                let start: Position = start.parse().ok()?;
                let awake = Awake {
                    log: Log::resumed(start, time_ms),
                    policy: policy.map(Into::into),
                    active_ms: active_ms.saturating_sub(self.set_back_ms),
                    ..Awake::at(start)
                };
                self.open = Some((ChannelName::parse_own(name).ok()?, Box::new(awake)));
            }
            Record::Publication {
                time_ms,
                event,
                sender,
                data,
            } => self.publication(time_ms, [event, sender], data)?,
            Record::Key {
                publisher,
                key,
                nth,
                at_ms,
                position,
                fingerprint,
            } => {
                let (_, awake) = self.open.as_mut()?;
                let key = IdempotencyKey {
                    publisher: publisher.into(),
                    key: key.into(),
                    nth: usize::try_from(nth).ok()?,
                };
                let at_ms = at_ms.saturating_sub(self.set_back_ms);
                awake.keys.remember(key, fingerprint, position.parse().ok()?, at_ms);
                self.engine.keys.fetch_add(1, Ordering::Relaxed);
                self.contents.keys += 1;
            }
            Record::End {
                channels,
                publications,
                keys,
            } => {
                self.close()?;
                let counted = Contents {
                    channels,
                    publications,
                    keys,
                };
                return (counted == self.contents).then_some(true);
            }
        }
        Some(false)
    }

    fn publication(&mut self, time_ms: u64, words: [Option<&str>; 2], data: &[u8]) -> Option<()> {
        let [event, sender] = words;
        let (channel, awake) = self.open.as_mut()?;
        let top = awake.log.top();
        let position = Position {
            offset: top.offset.checked_add(1)?,
            ..top
        };
        let draft = Draft {
            channel: channel.clone(),
            data: data.to_vec().into(),
            event: event.map(Into::into),
            sender: sender.map(Into::into),
            key: None,
            policy: awake.policy?,
            ack: Ack::Stored,
        };
        let publication = Arc::new(Publication::new(&draft, position, time_ms));
        // The bounds are those of the next publication's policy, which may be another than the last one's.
        awake.log.push(publication, usize::MAX, usize::MAX);
        self.contents.publications += 1;
        Some(())
    }

    /// The open channel is whole.
    fn close(&mut self) -> Option<()> {
        match self.open.take() {
            Some((name, awake)) => self.insert(name, Channel::Awake(awake)),
            None => Some(()),
        }
    }

    fn insert(&mut self, name: ChannelName, channel: Channel) -> Option<()> {
        self.contents.channels += 1;
        let before = lock(&self.engine.shards[self.engine.shard_of(&name)]).insert(name, channel);
        before.is_none().then_some(())
    }
}
