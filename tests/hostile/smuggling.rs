//! Request smuggling (RFC 9112 §11.2): what two parsers may read differently is refused, and ends the connection.

use super::target::{Target, answer, closed};

/// Behind each doubtful request stands another one, which nobody may ever answer.
async fn refused(head: &str, body: &str) {
    let mut target = Target::start(&[]).await;
    let mut link = target.link().await;
    let smuggled = "GET /v1/history?channel=smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let sent = format!("POST /v1/publish HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n{body}{smuggled}");
    link.send(sent.as_bytes()).await.expect("room");
    answer(&mut link).await.is(400, "bad_request");
    assert_eq!(closed(&mut link).await, b"", "nothing follows");
    target.is_unharmed().await;
}

/// A proxy that goes by the one and a server that goes by the other see different requests.
#[tokio::test]
async fn content_length_with_transfer_encoding() {
    refused("content-length: 6\r\ntransfer-encoding: chunked", "0\r\n\r\nX").await;
    refused("transfer-encoding: chunked\r\ncontent-length: 6", "0\r\n\r\nX").await;
}

/// One takes the first, the other the last.
#[tokio::test]
async fn two_content_lengths() {
    refused("content-length: 0\r\ncontent-length: 60", "").await;
    refused("content-length: 5\r\ncontent-length: 5", "hello").await;
    refused("content-length: 5, 5", "hello").await;
}

/// One reads +5 as 5, another as nothing.
#[tokio::test]
async fn content_lengths_that_are_no_numbers() {
    for length in ["+5", "-5", "0x5", "5 5", "5;", "", "18446744073709551616"] {
        refused(&format!("content-length: {length}"), "hello").await;
    }
}

/// One ends lines at LF, another only at CR LF.
#[tokio::test]
async fn bare_line_feeds() {
    refused("x: y\ncontent-length: 5", "hello").await;
    refused("x: y\n\ncontent-length: 5", "hello").await;
}

/// One continues the value, another begins a header (RFC 9112 §5.2).
#[tokio::test]
async fn folded_lines() {
    refused("x: y\r\n content-length: 5", "hello").await;
    refused("transfer-encoding:\r\n chunked", "0\r\n\r\n").await;
}

/// One trims the name, another does not know it (RFC 9112 §5.1).
#[tokio::test]
async fn spaces_before_the_colon() {
    refused("content-length : 5", "hello").await;
    refused("transfer-encoding\t: chunked", "0\r\n\r\n").await;
}

/// Codings that only one of two knows, or that come twice.
#[tokio::test]
async fn other_transfer_encodings() {
    for encoding in [
        "gzip, chunked",
        "chunked, chunked",
        "xchunked",
        "identity",
        "chunked;q=1",
        "\"chunked\"",
    ] {
        refused(&format!("transfer-encoding: {encoding}"), "0\r\n\r\n").await;
    }
    refused("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n").await;
}

/// Sizes that wrap around, and lines that end otherwise.
#[tokio::test]
async fn chunks_of_doubtful_size() {
    for chunks in [
        "ffffffffffffffff1\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhelloX\r\n",
        " 5\r\nhello\r\n",
        "\r\n",
    ] {
        let mut target = Target::start(&[]).await;
        let mut link = target.link().await;
        let sent = format!(
            "POST /v1/publish HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET /v1/history?channel=x HTTP/1.1\r\n\r\n"
        );
        link.send(sent.as_bytes()).await.expect("room");
        let came = String::from_utf8(closed(&mut link).await).expect("text");
        assert!(
            came.starts_with("HTTP/1.1 400") && !came.contains("publications"),
            "{chunks:?}: {came}"
        );
        target.is_unharmed().await;
    }
}

/// A client that asks for another protocol has perhaps begun to speak it, so nothing behind the refusal is a request.
#[tokio::test]
async fn requests_behind_an_upgrade() {
    let mut target = Target::start(&[]).await;
    let mut link = target.link().await;
    let sent = "GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nGET /v1/history?channel=x HTTP/1.1\r\nhost: localhost\r\n\r\n";
    link.send(sent.as_bytes()).await.expect("room");
    answer(&mut link).await.is(400, "bad_request");
    assert_eq!(closed(&mut link).await, b"", "nothing follows");
    // To HTTP/2 nobody switches by an upgrade: the request is answered as what it is.
    let mut link = target.link().await;
    link.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n").await.expect("room");
    assert_eq!(answer(&mut link).await.status, 200);
    target.is_unharmed().await;
}
