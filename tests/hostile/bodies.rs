//! Bodies that are wrong, or larger than they look.

use super::target::{Target, answer, closed};
use crate::support::http;

/// A publisher's typing error must be found at night, from the message alone.
#[tokio::test]
async fn bad_json_is_told_with_line_and_column() {
    let mut target = Target::start(&[]).await;
    for (body, place) in [
        ("{\"channel\":\"a\",\n\"data\":}", "line 2 column 8"),
        ("{\"channel\":\"a\",\"data\":1", "line 1 column 23"),
        ("[{\"channel\":\"a\",\"data\":1},]", "line 1 column 27"),
        ("", "line 1 column 0"),
        ("nonsense", "line 1 column 2"),
    ] {
        target.publish(body).await.is(400, "bad_json").says(place);
    }
    target.publish("\u{7f}").await.is(400, "bad_json");
    target.is_unharmed().await;
}

/// A parser that recurses would overflow its stack.
#[tokio::test]
async fn json_ten_thousand_deep_is_refused() {
    let mut target = Target::start(&[]).await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        target.publish(&deep).await.is(400, "bad_json").says("deep");
        let inside = format!("{{\"channel\":\"a\",\"data\":{deep}}}");
        target.publish(&inside).await.is(400, "bad_json").says("deep");
        let never_closed = format!("{{\"channel\":\"a\",\"data\":{}", open.repeat(10_000));
        target.publish(&never_closed).await.is(400, "bad_json");
    }
    target.is_unharmed().await;
}

/// Two readers of one envelope could take different channels from it.
#[tokio::test]
async fn duplicate_keys_are_refused() {
    let mut target = Target::start(&[]).await;
    let twice = "{\"channel\":\"a\",\"data\":1,\n\"channel\":\"b\"}";
    target
        .publish(twice)
        .await
        .is(400, "bad_json")
        .says("`channel` is there twice at line 2");
    target
        .publish(r#"{"channel":"a","data":1,"d\u0061ta":2}"#)
        .await
        .is(400, "bad_json");
    // A name of a megabyte is not sent back.
    let long = "k".repeat(1 << 20);
    target
        .publish(&format!("{{\"{long}\":1,\"{long}\":2}}"))
        .await
        .is(400, "bad_json");
    target.is_unharmed().await;
}

/// Names and cursors are the only words of a client's that are kept.
#[tokio::test]
async fn bad_names_and_cursors_are_refused() {
    let mut target = Target::start(&[]).await;
    for name in [
        "",
        "%20",
        "%0a",
        "a,b",
        "a*",
        "%22",
        "%5C",
        "$x",
        "%ff",
        "%C3",
        "%ed%a0%80",
    ] {
        let request = http::get(&format!("/v1/poll?channel={name}"), &[]);
        target.answer(&request).await.is(400, "bad_channel");
    }
    let long = "n".repeat(256);
    target
        .answer(&http::get(&format!("/v1/sse?channel={long}"), &[]))
        .await
        .is(400, "bad_channel")
        .says("256 bytes");
    let deep = vec!["now"; 129].join(".");
    let long = "x".repeat(8193);
    for cursor in [
        "-",
        "a-",
        "-1",
        "a-01",
        "a-1-",
        "a-b",
        "a-18446744073709551616",
        "last:",
        "last:-1",
        "now.now",
        "..",
        &deep,
        &long,
    ] {
        let request = http::get(&http::target("/v1/poll", &[("channel", "a"), ("since", cursor)]), &[]);
        target.answer(&request).await.is(400, "bad_cursor");
        let request = http::get("/v1/sse?channel=a", &[("last-event-id", cursor)]);
        target.answer(&request).await.is(400, "bad_cursor");
    }
    // A cursor that is merely a lie is a gap, and no error.
    let lie = target
        .answer(&http::get("/v1/poll?channel=a&since=zzzz-18446744073709551615", &[]))
        .await;
    assert_eq!(
        (lie.status, lie.body["pushes"][0]["type"].as_str()),
        (200, Some("gap")),
        "{lie:?}"
    );
    target.is_unharmed().await;
}

/// A length is believed as far as it is allowed, whether it was announced or grew.
#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let mut target = Target::start(&[]).await;
    for (place, announced) in [
        ("/v1/publish", "4194305"),
        ("/v1/publish", "9223372036854775807"),
        ("/v1/poll", "262145"),
    ] {
        let head = format!("POST {place} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {announced}\r\n\r\n");
        let mut link = target.link().await;
        link.send(head.as_bytes()).await.expect("room");
        // Some of it has to come before the server counts.
        let _ = link.send(&vec![b' '; 5 << 20]).await;
        answer(&mut link).await.is(413, "too_large");
        closed(&mut link).await;
    }
    let mut chunked = b"POST /v1/publish HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..80 {
        chunked.extend(b"10000\r\n");
        chunked.extend(vec![b' '; 0x10000]);
        chunked.extend(b"\r\n");
    }
    target.answer(&chunked).await.is(413, "too_large");
    target.is_unharmed().await;
}

/// Four megabytes of `{}` would be a hundred in memory.
#[tokio::test]
async fn a_body_of_a_million_items_costs_what_a_thousand_do() {
    let mut target = Target::start(&[]).await;
    for item in ["{}", "{\"a\":1}", "{\"channel\":\"a\",\"data\":1}"] {
        let count = (4 << 20) / (item.len() + 1) - 1;
        let body = format!("[{}]", vec![item; count].join(","));
        target
            .publish(&body)
            .await
            .is(413, "too_large")
            .says("publications in one request");
    }
    let names = format!("{{\"data\":1,\"channels\":[{}]}}", vec!["\"a\""; 1_000_000].join(","));
    target.publish(&names).await.is(413, "too_large");
    let fields: Vec<_> = (0..200_000).map(|n| format!("\"{n}\":{n}")).collect();
    target
        .publish(&format!("{{{}}}", fields.join(",")))
        .await
        .is(400, "bad_json")
        .says("more than 32 fields");
    target.is_unharmed().await;
}

/// One body of a quarter of a megabyte for a thousand channels would be a quarter of a gigabyte.
#[tokio::test]
async fn data_for_many_channels_counts_once_for_each() {
    let mut target = Target::start(&[]).await;
    let channels: Vec<_> = (0..1000).map(|n| format!("\"c{n}\"")).collect();
    let data = "x".repeat(250_000);
    let body = format!("{{\"channels\":[{}],\"data\":\"{data}\"}}", channels.join(","));
    target.publish(&body).await.is(413, "too_large").says("1000 channels");
    target.is_unharmed().await;
}

/// A name that is none is named in the answer, and not as a whole.
#[tokio::test]
async fn what_is_refused_item_by_item_is_not_sent_back() {
    let mut target = Target::start(&[]).await;
    let long = "n".repeat(1 << 20);
    let body = format!("[{{\"channel\":\"{long}\",\"data\":1}},{{\"channel\":\"a\",\"data\":1}}]");
    let answer = target.publish(&body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["results"][0]["error"]["code"], "bad_channel");
    assert_eq!(answer.body["results"][1]["channel"], "a");
    assert!(answer.bytes < 4096, "{} bytes", answer.bytes);
    target.is_unharmed().await;
}

/// Extensions and trailers of a chunked body are read and thrown away: for ever, if nobody counts.
#[tokio::test]
async fn chunks_with_more_around_them_than_in_them_are_refused() {
    let mut target = Target::start(&[]).await;
    let head = "POST /v1/publish HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let megabyte = "x".repeat(1 << 20);
    target
        .answer(format!("{head}1;{megabyte}\r\n{{\r\n").as_bytes())
        .await
        .is(413, "too_large");
    let trailers = "a: b\r\n".repeat(100_000);
    target
        .answer(format!("{head}1\r\n{{\r\n0\r\n{trailers}\r\n").as_bytes())
        .await
        .is(413, "too_large");
    let many = "1;x=y\r\n \r\n".repeat(100_000);
    target
        .answer(format!("{head}{many}0\r\n\r\n").as_bytes())
        .await
        .is(413, "too_large");
    // An empty chunk ends the body, so what follows is a request of its own.
    let mut link = target.link().await;
    let twice = format!("{head}0\r\n\r\nGET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    link.send(twice.as_bytes()).await.expect("room");
    answer(&mut link).await.is(400, "bad_json");
    assert_eq!(answer(&mut link).await.status, 200);
    target.is_unharmed().await;
}

/// A body where none is expected is nobody's, and must not become the next request.
#[tokio::test]
async fn a_body_that_nobody_asked_for_is_no_request() {
    let mut target = Target::start(&[]).await;
    let mut link = target.link().await;
    let inner = "GET /v1/history?channel=secret HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let request = format!(
        "GET /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{inner}",
        inner.len()
    );
    link.send(request.as_bytes()).await.expect("room");
    link.send(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .expect("room");
    let came = String::from_utf8(closed(&mut link).await).expect("text");
    assert!(!came.contains("\"publications\""), "{came}");
    target.is_unharmed().await;
}
