//! Comparing tops: what was lost on its way, the last publication too, shows in that the log has more, or another past.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use redis::{Pipeline, Value};
use tokio::time::Instant;

use super::channel::Channel;
use super::entry::{Top, bytes_of};
use super::link::ANSWER_TIMEOUT;
use super::shard::Shard;
use super::{READINGS_MAX, Shared};
use crate::delivery::Position;

/// How often.
const PERIOD: Duration = Duration::from_secs(2);

/// How long what is on its way may take, before a difference counts.
const GRACE: Duration = Duration::from_millis(300);

/// Tops that are asked for in one command.
const TOPS_MAX: usize = 250;

/// Live ends that are filled in at once: half of the readings, so that the readers who are woken get theirs, too.
const FILLS_MAX: usize = READINGS_MAX / 2;

/// Compares for as long as this future lives: every few seconds, and when there is a reason.
pub(super) async fn run(shared: Arc<Shared>, home: Arc<Shard>) {
    loop {
        let _ = tokio::time::timeout(PERIOD, home.compare_now.notified()).await;
        let mut differing = look(&shared, &home).await;
        if differing.is_empty() {
            continue;
        }
        // Once, however many there are.
        tokio::time::sleep(GRACE).await;
        differing.retain(|seen| !seen.is_well());
        fill_in(&shared, differing).await;
    }
}

/// A channel, where its live end was before Redis was asked for its top, and what Redis said.
struct Seen {
    channel: Arc<Channel>,
    before: Option<Position>,
    top: Option<Top>,
}

impl Seen {
    fn is_well(&self) -> bool {
        let top = self.top.as_ref();
        self.channel.is_at(top) && !Channel::has_lost(self.before, top)
    }
}

/// The channels of which Redis and this node do not know the same.
async fn look(shared: &Arc<Shared>, home: &Arc<Shard>) -> Vec<Seen> {
    let mut differing = Vec::new();
    for channels in shared.wanted_on(home).chunks(TOPS_MAX) {
        let before: Vec<_> = channels.iter().map(|channel| channel.live_top()).collect();
        // If Redis is away, there is nothing to compare with; when it is back, there will be a reason.
        let Some(tops) = ask(shared, home, channels).await else {
            break;
        };
        let seen = channels.iter().zip(before).zip(tops);
        differing.extend(seen.filter_map(|((channel, before), top)| {
            if let Some(top) = &top {
                channel.note_ttl(top);
                channel.doubt_above(shared, top);
            }
            let channel = Arc::clone(channel);
            let seen = Seen { channel, before, top };
            (!seen.is_well()).then_some(seen)
        }));
    }
    differing
}

/// Fills in those live ends, a few at once. If Redis does not answer, the others are left: when it does again, the tops
/// are compared again.
async fn fill_in(shared: &Arc<Shared>, differing: Vec<Seen>) {
    let channels = stream::iter(differing).map(|seen| Ok(seen.channel));
    let _ = channels
        .try_for_each_concurrent(FILLS_MAX, |channel| async move {
            if channel.filled(shared).await { Ok(()) } else { Err(()) }
        })
        .await;
}

/// The tops that Redis has. Those of channels with readers are kept alive.
async fn ask(shared: &Shared, home: &Shard, channels: &[Arc<Channel>]) -> Option<Vec<Option<Top>>> {
    if !home.reading.is_up() {
        return None;
    }
    let now = Instant::now();
    let mut pipeline = asking(shared, channels);
    let questions = pipeline.len();
    for channel in channels {
        if let Some(ttl_ms) = channel.renewal_ms(now) {
            pipeline.cmd("PEXPIRE").arg(&channel.keys.top).arg(ttl_ms);
        }
    }
    let mut connection = home.reading.connection(now + ANSWER_TIMEOUT).await.ok()?;
    let asked = pipeline.len();
    let mut answers = connection.send_packed_commands(&pipeline, 0, asked).await.ok()?;
    answers.truncate(questions);
    read(shared, answers)
}

/// Asks for the tops of channels.
pub(super) fn asking(shared: &Shared, channels: &[Arc<Channel>]) -> Pipeline {
    let mut pipeline = redis::pipe();
    // What lies in several slots of a Cluster cannot be asked for in one command.
    let at_once = if shared.is_cluster { 1 } else { TOPS_MAX };
    for some in channels.chunks(at_once) {
        let asking = pipeline.cmd("MGET");
        for channel in some {
            asking.arg(&channel.keys.top);
        }
    }
    pipeline
}

/// Reads what was answered; `None` if it was refused.
pub(super) fn read(shared: &Shared, answers: Vec<Value>) -> Option<Vec<Option<Top>>> {
    let read = |top| bytes_of(top).and_then(|bytes| Top::read(&bytes));
    let mut tops = Vec::new();
    for answer in answers {
        if let Value::Array(some) = answer {
            tops.extend(some.into_iter().map(read));
        } else if shared.is_cluster {
            // It is kept elsewhere now: not known here, so it is read from there.
            shared.look_again.notify_one();
            tops.push(None);
        } else {
            return None;
        }
    }
    Some(tops)
}
