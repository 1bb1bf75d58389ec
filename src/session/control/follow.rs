//! Following the control channel, and carrying out what it says.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};

use super::denials::Who;
use super::{Node, Progress};
use crate::delivery::{
    ChannelName, Delivery, Engine, EngineErrorKind, Offset, Position, Publication, Since, Subscription, subscribe,
};
use crate::protocol::{Ending, Problem, Reason, Removal, Subject};
use crate::session::SessionId;
use crate::session::identity::{Identity, TokenMark};
use crate::session::registry::{Shared, Urgency};

/// How long to wait for an engine that is away.
const RETRY: Duration = Duration::from_millis(200);

/// How often denials that are over are forgotten.
const SWEEP_PERIOD: Duration = Duration::from_secs(30);

/// Removals that are carried out at once: all sessions are looked at for them.
const BATCH_MAX: usize = 256;

/// Sessions that are told before others get a turn.
const TELL_CHUNK: usize = 256;

/// One removal, and where it stands.
struct Told {
    who: Who,
    removal: Removal,
    position: Position,
    until_ms: u64,
}

/// Follows for as long as the node is there. It holds the node only while it carries something out.
pub(super) async fn follow(node: Weak<Node>, engine: Arc<dyn Engine>) {
    let mut since = Since::Start;
    loop {
        let begun = begin(&engine, since).await;
        if let Some((top, mut subscription)) = begun {
            note_progress(&node, top, subscription.cursor());
            while hear(&node, top, &mut subscription).await.is_some() {}
            since = Since::After(subscription.cursor());
        }
        if node.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What was decided up to the top is what a node has to know before it lets anybody in.
async fn begin(engine: &Arc<dyn Engine>, since: Since) -> Option<(Position, Subscription)> {
    let channel = ChannelName::control();
    let (_, subscription) = subscribe(Arc::clone(engine), channel.clone(), since).await.ok()?;
    let page = engine.history(&channel, Since::Now, 0).await.ok()?;
    Some((page.top, subscription))
}

/// Waits for something, and carries it out with all that is there by then. `None`: there is nothing more to be heard.
async fn hear(node: &Weak<Node>, top: Position, subscription: &mut Subscription) -> Option<()> {
    let Ok(first) = tokio::time::timeout(SWEEP_PERIOD, subscription.next()).await else {
        let node = node.upgrade()?;
        let now_ms = node.now_ms();
        let count = node.control.change(|denials| denials.sweep(now_ms));
        node.metrics().note_denials(count);
        return Some(());
    };
    let mut batch = Vec::new();
    let mut next = Some(first?);
    while let Some(delivery) = next {
        match delivery {
            Delivery::Publication(publication) => batch.push(publication),
            Delivery::Gap(_) => tracing::warn!(
                "the engine has lost removals that operators asked for: whom this node does not know to be refused may \
                 come back"
            ),
            Delivery::Ended(_) => break,
        }
        let has_room = batch.len() < BATCH_MAX;
        next = has_room.then(|| subscription.next().now_or_never().flatten()).flatten();
    }
    let node_here = node.upgrade()?;
    carry_out(&node_here, &batch).await;
    drop(node_here);
    note_progress(node, top, subscription.cursor());
    Some(())
}

fn note_progress(node: &Weak<Node>, top: Position, at: Position) {
    if let Some(node) = node.upgrade() {
        let is_at_top = at.epoch != top.epoch || at.offset >= top.offset;
        node.control.progress.send_modify(|progress| {
            *progress = Progress {
                is_whole: progress.is_whole || is_at_top,
                at: Some(at),
            };
        });
    }
}

/// Refuses first, and then ends: whoever comes in between is seen by one of the two.
async fn carry_out(node: &Arc<Node>, batch: &[Arc<Publication>]) {
    let told: Vec<_> = batch.iter().filter_map(|publication| read(publication)).collect();
    let now_ms = node.now_ms();
    let count = node.control.change(|denials| {
        denials.sweep(now_ms);
        for told in &told {
            let until = (told.until_ms, told.position.offset);
            denials.note(told.who.clone(), told.removal.channel.clone(), until, now_ms);
        }
    });
    node.metrics().note_denials(count);
    let met = node
        .registry()
        .find(|names, identity| told.iter().any(|told| told.who.is(names, identity)));
    let mut counts = vec![0; told.len()];
    for chunk in met.chunks(TELL_CHUNK) {
        for session in chunk {
            let identity = session.identity();
            for (told, count) in told.iter().zip(&mut counts) {
                if told.who.is(session.names(), &identity) {
                    *count += 1;
                    tell(node, session, &identity, told);
                }
            }
        }
        tokio::task::yield_now().await;
    }
    for (told, count) in told.iter().zip(counts) {
        node.metrics().note_removal(told.removal.verb(), count);
        node.control.note_carried_out(told.position, count);
    }
}

fn read(publication: &Publication) -> Option<Told> {
    let read = Removal::read_told(&publication.data).and_then(|removal| {
        let who = match &removal.subject {
            Subject::User(user) => Who::User((**user).into()),
            Subject::Session(session) => Who::Session(SessionId::parse(session)?),
            Subject::Token(mark) => Who::Token(TokenMark::parse(mark)?),
        };
        Some(Told {
            who,
            position: publication.position,
            until_ms: publication.time_ms.saturating_add(removal.deny_s * 1000),
            removal,
        })
    });
    if read.is_none() {
        tracing::error!(
            "a removal cannot be read; does a newer version, or anybody else, write to the control channel?"
        );
    }
    read
}

/// Tells a session what was decided about it.
fn tell(node: &Arc<Node>, session: &Shared, identity: &Identity, told: &Told) {
    let removal = &told.removal;
    match &removal.channel {
        None => {
            let ending = Ending::from(Problem::new(removal.reason.code(), words(removal)));
            node.registry().end_one(session, ending, Urgency::Now);
        }
        Some(channel) => {
            let why = Problem::new(removal.reason.code(), words(removal));
            node.registry().unsubscribe(session, channel.clone(), why);
        }
    }
    if matches!(told.who, Who::Session(_)) && removal.deny_s > 0 {
        refuse_behind(node, identity, told);
    }
}

fn words(removal: &Removal) -> String {
    let what = match (&removal.channel, removal.reason) {
        (Some(channel), _) => format!("an operator has ended this subscription to {channel}"),
        (None, Reason::Denied) => "an operator has sent you away".to_owned(),
        (None, Reason::TokenExpired) => "an operator asks for a new token: come back with one".to_owned(),
    };
    match removal.deny_s {
        0 => what,
        deny_s => format!("{what}; you are refused for {deny_s} s"),
    }
}

/// A session has no name that it could come back under. So what it came with is refused: here at once, elsewhere as soon
/// as the other nodes are told.
fn refuse_behind(node: &Arc<Node>, identity: &Identity, told: &Told) {
    let until = (told.until_ms, told.position.offset);
    refuse_as_well(node, identity, &told.removal, until);
}

/// The same for a poll that comes when its name has been refused for a while.
pub(super) fn refuse_behind_poll(node: &Arc<Node>, identity: &Identity, channel: Option<&ChannelName>, left_ms: u64) {
    let removal = Removal {
        // Said anew below.
        subject: Subject::Session(Box::default()),
        channel: channel.cloned(),
        deny_s: left_ms.div_ceil(1000).min(Removal::DENY_S_MAX),
        reason: Reason::Denied,
    };
    // Where it stands in the log is known when this node hears of it, too.
    let until = (node.now_ms().saturating_add(left_ms), Offset::MAX);
    refuse_as_well(node, identity, &removal, until);
}

fn refuse_as_well(node: &Arc<Node>, identity: &Identity, removal: &Removal, until: (u64, Offset)) {
    let subject = match Who::behind(identity) {
        Some(Who::Token(mark)) => Subject::Token(mark.to_string().into()),
        Some(Who::User(_)) => Subject::User(identity.user().unwrap_or_default().into()),
        // Where everything is open there is nothing to be known again.
        Some(Who::Session(_)) | None => return,
    };
    if let Some(who) = Who::behind(identity) {
        let (channel, now_ms) = (removal.channel.clone(), node.now_ms());
        node.control.change(|denials| denials.note(who, channel, until, now_ms));
    }
    let removal = Removal {
        subject,
        ..removal.clone()
    };
    let node = Arc::clone(node);
    tokio::spawn(async move {
        match node.tell(&removal).await {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), EngineErrorKind::NotReplicated(_)) => {
                tracing::warn!(%error, "a failover may let a session's token in again; disconnect its user");
            }
            Err(error) => {
                tracing::warn!(%error, "other nodes were not told that a session's token is refused; disconnect its user");
            }
        }
    });
}
