//! One receiver: batch by batch, in order, each again and again until it is taken or too old.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Shared;
use super::backlog::Batch;
use crate::delivery::Publication;
use crate::protocol::Object;
use crate::session::outgoing::{Request, host};

/// The first pause before a retry; each further one is twice as long.
const PAUSE_MS_MIN: u64 = 500;

/// The longest pause.
const PAUSE_MS_MAX: u64 = 60_000;

/// The same when the process is about to end.
const PAUSE_MS_ENDING: u64 = 250;

/// Sends for as long as this future lives.
pub(super) async fn send(shared: Arc<Shared>, receiver: usize) {
    let Some(url) = shared.settings.urls.get(receiver) else {
        return;
    };
    let begin = shared.receivers.borrow().get(receiver).map(|receiver| receiver.taken);
    let Some(mut at) = begin else { return };
    loop {
        let now_ms = shared.outside.now_ms();
        let Some(batch) = shared.backlog.next(&at, shared.settings.batch_count_max, now_ms) else {
            shared.backlog.added(receiver).await;
            continue;
        };
        // What fell out before it was taken is named by the next one.
        if let (true, Some(end)) = (deliver(&shared, receiver, url, &batch).await, batch.end()) {
            shared
                .metrics
                .note_webhook_events("delivered", batch.events.len() as u64);
            shared.note_taken(receiver, end);
            at = end;
        }
    }
}

/// Whether it was taken; if not, some of it has fallen out of the log meanwhile.
async fn deliver(shared: &Shared, receiver: usize, url: &str, batch: &Batch) -> bool {
    let outside = &shared.outside;
    let id = format!("msg_{:016x}{:016x}", outside.random(), outside.random());
    let body = body(batch);
    let mut failed = 0;
    while shared.backlog.holds(batch, outside.now_ms()) {
        match attempt(shared, url, &id, body.clone()).await {
            Ok(()) => {
                shared.metrics.note_webhook_attempt("taken");
                if failed > 0 {
                    tracing::info!(receiver = host(url), failed, "webhooks are taken again");
                }
                return true;
            }
            Err(why) => {
                shared.metrics.note_webhook_attempt("failed");
                // Once is enough for the log: the metrics count.
                if failed == 0 {
                    tracing::warn!(receiver = host(url), why, "a webhook was not taken; it is sent again");
                }
                shared.note_failed(receiver);
                pause(shared, failed).await;
                failed += 1;
            }
        }
    }
    false
}

async fn attempt(shared: &Shared, url: &str, id: &str, body: Bytes) -> Result<(), String> {
    let at_s = shared.outside.now_ms() / 1000;
    let signatures: Vec<_> = shared
        .settings
        .secrets
        .iter()
        .map(|secret| secret.sign(id, at_s, &body))
        .collect();
    let (at, signatures) = (at_s.to_string(), signatures.join(" "));
    let headers: [(&str, &[u8]); 4] = [
        ("content-type", b"application/json"),
        ("webhook-id", id.as_bytes()),
        ("webhook-timestamp", at.as_bytes()),
        ("webhook-signature", signatures.as_bytes()),
    ];
    let request = Request {
        url,
        headers: &headers,
        body: Some(body),
        time_max: shared.settings.timeout,
        answer_bytes_max: None,
    };
    match shared.ask.ask(request).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(format!("the answer is {}, not 200", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits before the next attempt: longer each time, by chance between a half and the whole, and never long when the
/// process is about to end.
async fn pause(shared: &Shared, failed: u32) {
    let whole_ms = PAUSE_MS_MIN.saturating_mul(1 << failed.min(10)).min(PAUSE_MS_MAX);
    let pause_ms = whole_ms / 2 + shared.outside.random() % (whole_ms / 2 + 1);
    let mut is_ending = shared.is_ending.subscribe();
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        () = async { drop(is_ending.wait_for(|is_ending| *is_ending).await) } => {
            tokio::time::sleep(Duration::from_millis(PAUSE_MS_ENDING.min(pause_ms))).await;
        }
    }
}

fn body(batch: &Batch) -> Bytes {
    let lost = (batch.lost > 0).then_some(batch.lost);
    let events = batch.events.iter().map(|event| event_json(event));
    Object::new()
        .array("events", events)
        .optional_number("lost", lost)
        .finish()
        .into()
}

/// What happened, and where it stands.
fn event_json(event: &Publication) -> String {
    let begin = Object::new()
        .text("type", event.event.as_deref().unwrap_or_default())
        .text("position", &event.position.to_string())
        .number("time", event.time_ms)
        .finish();
    // Both are objects with fields: the second goes on where the first ends.
    let fields = String::from_utf8_lossy(&event.data);
    format!("{},{}", begin.trim_end_matches('}'), fields.trim_start_matches('{'))
}
