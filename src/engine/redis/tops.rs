//! Comparing tops: what was lost on its way, the last publication too, shows in that the log has more, or another past.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::Shared;
use super::channel::Channel;
use super::entry::{Top, bytes_of};
use super::link::ANSWER_TIMEOUT;
use super::shard::Shard;
use crate::delivery::Position;

/// How often.
const PERIOD: Duration = Duration::from_secs(2);

/// How long what is on its way may take, before a difference counts.
const GRACE: Duration = Duration::from_millis(300);

/// Tops that are asked for in one command.
const TOPS_MAX: usize = 250;

/// Compares for as long as this future lives: every few seconds, and when there is a reason.
pub(super) async fn run(shared: Arc<Shared>, home: Arc<Shard>) {
    loop {
        let _ = tokio::time::timeout(PERIOD, home.compare_now.notified()).await;
        for channels in shared.wanted_on(&home).chunks(TOPS_MAX) {
            let before: Vec<_> = channels.iter().map(|channel| channel.live_top()).collect();
            // If Redis is away, there is nothing to compare with; when it is back, there will be a reason.
            let Some(tops) = ask(&shared, &home, channels).await else {
                break;
            };
            compare(&shared, channels, (&before, tops)).await;
        }
    }
}

/// The tops that Redis has. Those of channels with readers are kept alive.
async fn ask(shared: &Shared, home: &Shard, channels: &[Arc<Channel>]) -> Option<Vec<Option<Top>>> {
    if !home.reading.is_up() {
        return None;
    }
    let now = Instant::now();
    let mut pipeline = redis::pipe();
    // What lies in several slots of a Cluster cannot be asked for in one command.
    let at_once = if shared.is_cluster { 1 } else { TOPS_MAX };
    for some in channels.chunks(at_once) {
        let asking = pipeline.cmd("MGET");
        for channel in some {
            asking.arg(&channel.keys.top);
        }
    }
    let questions = pipeline.len();
    for channel in channels {
        if let Some(ttl_ms) = channel.renewal_ms(now) {
            pipeline.cmd("PEXPIRE").arg(&channel.keys.top).arg(ttl_ms);
        }
    }
    let mut connection = home.reading.connection(now + ANSWER_TIMEOUT).await.ok()?;
    let asked = pipeline.len();
    let answers = connection.send_packed_commands(&pipeline, 0, asked).await.ok()?;
    let read = |top| bytes_of(top).and_then(|bytes| Top::read(&bytes));
    let mut tops = Vec::with_capacity(channels.len());
    for answer in answers.into_iter().take(questions) {
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

async fn compare(
    shared: &Arc<Shared>,
    channels: &[Arc<Channel>],
    (before, tops): (&[Option<Position>], Vec<Option<Top>>),
) {
    let is_well = |at: usize, top: Option<&Top>| channels[at].is_at(top) && !Channel::has_lost(before[at], top);
    let differing: HashMap<usize, Option<Top>> = tops
        .into_iter()
        .enumerate()
        .filter(|(at, top)| {
            if let Some(top) = top {
                channels[*at].note_ttl(top);
                channels[*at].doubt_above(shared, top);
            }
            !is_well(*at, top.as_ref())
        })
        .collect();
    if differing.is_empty() {
        return;
    }
    tokio::time::sleep(GRACE).await;
    for (at, top) in differing {
        if !is_well(at, top.as_ref()) {
            channels[at].fill(shared);
        }
    }
}
