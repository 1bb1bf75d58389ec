//! Heads that are too large.

use super::target::{Target, closed};

async fn too_large(sent: &[u8], what: &str) {
    let mut target = Target::start(&[]).await;
    target.answer(sent).await.is(413, "too_large").says(what);
    let mut link = target.link().await;
    let _ = link.send(sent).await;
    closed(&mut link).await;
    target.is_unharmed().await;
}

/// Each header costs its reader more than its bytes.
#[tokio::test]
async fn two_thousand_headers() {
    let head = format!(
        "GET /livez HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
        "a: b\r\n".repeat(2000)
    );
    too_large(head.as_bytes(), "100 headers").await;
}

/// A head that never ends must not be kept as it comes.
#[tokio::test]
async fn a_head_of_a_megabyte() {
    let head = format!(
        "GET /livez HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    too_large(head.as_bytes(), "32768 bytes").await;
}

/// The same in the first line.
#[tokio::test]
async fn a_first_line_of_a_megabyte() {
    let head = format!(
        "GET /v1/poll?{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "channel=a&".repeat(100_000)
    );
    too_large(head.as_bytes(), "16384 bytes").await;
}

/// Every name is looked up among all others.
#[tokio::test]
async fn very_many_parameters() {
    let mut target = Target::start(&[]).await;
    let same = format!(
        "GET /v1/poll?wait=0{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "&channel=a".repeat(1500)
    );
    assert_eq!(
        target.answer(same.as_bytes()).await.status,
        200,
        "duplicates count once"
    );
    let others = (0..1000).map(|n| format!("&channel={n}")).collect::<Vec<_>>().concat();
    let others = format!("GET /v1/poll?wait=0{others} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    target.answer(others.as_bytes()).await.is(400, "too_many_channels");
    let names = vec!["\"a\""; 60_000].join(",");
    let body = format!("{{\"wait\":0,\"channels\":[{names}]}}");
    let posted = crate::support::http::post("/v1/poll", &[("content-type", "application/json")], body.as_bytes());
    assert_eq!(target.answer(&posted).await.status, 200);
    target.is_unharmed().await;
}

/// What is asked for is named in the answer, and not as a whole.
#[tokio::test]
async fn a_path_that_is_nowhere() {
    let mut target = Target::start(&[]).await;
    let request = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(16_000));
    target.answer(request.as_bytes()).await.is(404, "not_found");
    let request = format!("{} /v1/poll HTTP/1.1\r\nhost: localhost\r\n\r\n", "X".repeat(15_000));
    target.answer(request.as_bytes()).await.is(405, "method_not_allowed");
    let request = format!(
        "GET /v1/poll?x=%ff{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "x".repeat(16_000)
    );
    target.answer(request.as_bytes()).await.is(400, "bad_request");
    target.is_unharmed().await;
}
