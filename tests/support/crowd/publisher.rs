//! A publisher that repeats under the same key until it is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Ground, channel_name};
use crate::support::http;
use crate::support::publisher::Publisher;

/// Publishes 0, 1, 2 … to one channel.
pub(super) async fn publish(ground: Arc<Ground>, channel: usize, pause: Duration) {
    let mut is_publishing = ground.is_publishing.subscribe();
    let mut spread = channel;
    let mut publisher = Publisher::new(ground.node(spread));
    for number in 0_u64.. {
        let is_time = |is: &bool| *is || ground.is_over.load(Ordering::SeqCst);
        let _ = is_publishing.wait_for(is_time).await.map(|_| ());
        if ground.is_over.load(Ordering::SeqCst) {
            return;
        }
        let body = json!({"channel": channel_name(channel), "data": number}).to_string();
        let key = format!("{channel}-{number}");
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let request = http::post("/v1/publish", &headers, body.as_bytes());
        for attempt in 0.. {
            let mut is_sent_on = true;
            let asked = Instant::now();
            match publisher.send(&request).await {
                Ok((200, answer)) => {
                    let position = answer["position"].as_str().unwrap().to_owned();
                    let known = ground.positions[channel].lock().unwrap().insert(number, position);
                    assert_eq!(known, None);
                    ground.acked.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Ok((503, answer)) => {
                    assert!(
                        matches!(
                            answer["code"].as_str(),
                            Some("engine_unavailable" | "overloaded" | "draining")
                        ),
                        "{answer}"
                    );
                    let took_ms = u64::try_from(asked.elapsed().as_millis()).unwrap();
                    ground.slowest_refusal_ms.fetch_max(took_ms, Ordering::SeqCst);
                    ground.refusals.fetch_add(1, Ordering::SeqCst);
                    is_sent_on = answer["code"] == "draining";
                    if is_sent_on {
                        spread += 1;
                        publisher = Publisher::new(ground.node(spread));
                    }
                }
                Ok((status, answer)) => panic!("{status}: {answer}"),
                // The node is gone: another takes it.
                Err(_) => {
                    spread += 1;
                    publisher = Publisher::new(ground.node(spread));
                }
            }
            ground.sent_on.fetch_add(u64::from(is_sent_on), Ordering::SeqCst);
            let has_failed = !is_sent_on || attempt > 0;
            ground.failed.fetch_add(u64::from(has_failed), Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(pause).await;
    }
}
