//! Server-Sent Events as a strict parser sees them: every string comes back as it was, every line stands where it must.
//!
//! `THROUGHLINE_SEED` repeats the strings of a run that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "says how to repeat what failed")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use support::event_source::{Answer, EventSource};
use support::event_stream::Item;
use support::http;
use support::link::Receive;
use support::node::{Node, Setup};
use support::publisher::{Published, Publisher, publish_numbers};
use support::push::Push;
use support::text::{channel_name, hostile, hostile_within};
use support::whole_cursor::Reader;
use support::written::{Written, batch};

const STRINGS: usize = 10_000;

/// Publications of one request.
const BATCH: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_strings_come_back_as_they_were_on_one_channel() {
    come_back_as_they_were(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_strings_come_back_as_they_were_on_several_channels() {
    come_back_as_they_were(7).await;
}

/// One reader is there all the time, another comes when all is over; both must see what was published.
async fn come_back_as_they_were(channels: usize) {
    let seed = std::env::var("THROUGHLINE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("THROUGHLINE_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let node = Node::start(Setup::window(STRINGS));
    let names: Vec<_> = (0..channels).map(|_| channel_name(&mut rng)).collect();
    let mut live = Reader::open(&node, &names, "now", &mut rng).await;
    let mut publisher = Publisher::new(node.address);
    let mut sent = BTreeMap::new();
    for _ in 0..STRINGS / BATCH {
        let items: Vec<_> = (0..BATCH).map(|_| Written::random(&mut rng, &names)).collect();
        let answers = publisher
            .publish(&batch(&items), &format!("{:x}", rng.u64(..)))
            .await
            .unwrap();
        if rng.u8(..10) == 0 {
            repeated(&mut publisher, &items, &answers).await;
        }
        for (item, answer) in items.into_iter().zip(answers) {
            assert!(!answer.duplicate && answer.channel == item.channel);
            sent.insert(answer.place.to_string(), item);
        }
        for _ in 0..BATCH {
            live.receives_one_of(&sent).await;
        }
    }
    assert_eq!(sent.len(), STRINGS);
    let mut late = Reader::open(&node, &names, &vec!["start"; channels].join("."), &mut rng).await;
    for _ in 0..STRINGS {
        late.receives_one_of(&sent).await;
    }
}

/// The items that have a key of their own once more, under another key for the request: they are duplicates.
async fn repeated(publisher: &mut Publisher, items: &[Written], answers: &[Published]) {
    let is_keyed = |(item, _): &(&Written, &Published)| item.is_keyed;
    let (again, first): (Vec<_>, Vec<_>) = items.iter().zip(answers).filter(is_keyed).unzip();
    let answers = publisher.publish(&batch(again), "not needed").await.unwrap();
    assert_eq!(answers.len(), first.len());
    for (first, again) in first.into_iter().zip(answers) {
        assert!(
            again.duplicate && again.place == first.place,
            "{first:?}, then {again:?}"
        );
    }
}

/// A body of plain text is one JSON string; neither it nor what comes in the query and the header is touched.
#[tokio::test]
async fn text_bodies_come_back_as_strings() {
    let mut rng = Rng::new();
    println!("THROUGHLINE_SEED={}", rng.get_seed());
    let node = Node::start(Setup::window(9));
    let name = channel_name(&mut rng);
    let mut stream = EventSource::open(node.address, Receive::Usual, &[("channel", &name)])
        .await
        .unwrap();
    stream.event().await.unwrap();
    stream.event().await.unwrap();
    let mut publisher = Publisher::new(node.address);
    for _ in 0..1_000 {
        let (text, event) = (hostile(&mut rng, 60), hostile_within(&mut rng, 64));
        // What a header may hold, as a quoted string (RFC 9651 §3.3.3); the number keeps one key from being two.
        let letters: String = (0..rng.usize(..60)).map(|_| rng.char(' '..='~')).collect();
        let key = format!("{letters}{:x}", rng.u64(..));
        let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
        let target = http::target("/v1/publish", &[("channel", &name), ("event", &event)]);
        let headers = [("content-type", "text/plain"), ("idempotency-key", quoted.as_str())];
        let request = http::post(&target, &headers, text.as_bytes());
        let mut answers = Vec::new();
        for expected in [false, true] {
            let (status, answer) = publisher.send(&request).await.unwrap();
            assert_eq!(
                (status, answer["duplicate"].as_bool()),
                (200, Some(expected)),
                "{key:?}: {answer}"
            );
            answers.push(answer["position"].clone());
        }
        assert_eq!(answers[0], answers[1]);
        let push = Push::parse(stream.event().await.unwrap().data).unwrap();
        let data: String = serde_json::from_str(&push.data.unwrap()).unwrap();
        assert_eq!((data, push.value["event"].as_str()), (text, Some(event.as_str())));
        assert_eq!(push.value["position"], answers[0]);
    }
}

#[tokio::test]
async fn a_stream_begins_with_padding_a_delay_and_a_welcome() {
    let node = Node::start(Setup::window(9));
    for _ in 0..20 {
        let mut stream = EventSource::open(node.address, Receive::Usual, &[("channel", "a")])
            .await
            .unwrap();
        let head = &stream.head;
        assert_eq!(head.header("content-type"), "text/event-stream; charset=utf-8");
        assert_eq!(head.header("cache-control"), "no-cache, no-store, no-transform");
        assert_eq!(head.header("x-accel-buffering"), "no");
        assert_eq!(head.header("content-encoding"), "");
        let mut items = Vec::new();
        while items.len() < 6 {
            items.push(stream.next().await.unwrap().unwrap());
        }
        let [
            Item::Comment(padding),
            Item::Empty { id: None },
            Item::Retry(ms),
            Item::Empty { id: None },
            Item::Event(welcome),
            Item::Event(subscribed),
        ] = &items[..]
        else {
            panic!("{items:?}");
        };
        assert!(padding.len() >= 2048);
        assert!((1000..=3000).contains(ms), "{ms}");
        let said = Push::parse(welcome.data.clone()).unwrap();
        assert_eq!(
            (welcome.kind.as_str(), said.kind(), &welcome.id),
            ("welcome", "welcome", &None)
        );
        assert_eq!(said.value["heartbeat_ms"], Setup::default().timings.heartbeat_ms);
        assert!(!said.text_of("session").is_empty());
        let said = Push::parse(subscribed.data.clone()).unwrap();
        assert_eq!(
            (subscribed.kind.as_str(), said.text_of("resume")),
            ("subscribed", "fresh")
        );
        assert_eq!(subscribed.id.as_deref(), Some(said.text_of("position")));
    }
}

#[tokio::test]
async fn a_quiet_stream_has_heartbeats_that_leave_the_id_alone() {
    let mut setup = Setup::window(9);
    setup.timings.heartbeat_ms = 64;
    let node = Node::start(setup);
    let mut stream = EventSource::open(node.address, Receive::Usual, &[("channel", "a")])
        .await
        .unwrap();
    stream.event().await.unwrap();
    let last_event_id = stream.event().await.unwrap().last_event_id;
    for _ in 0..3 {
        let event = stream.event().await.unwrap();
        assert_eq!(
            (event.kind.as_str(), event.data.as_str()),
            ("heartbeat", r#"{"type":"heartbeat"}"#)
        );
        assert_eq!((event.id, &event.last_event_id), (None, &last_event_id));
    }
}

#[tokio::test]
async fn a_gap_carries_the_cursor_after_it() {
    let node = Node::start(Setup::window(2));
    let last = publish_numbers(&node, "a", 5).await;
    let other = publish_numbers(&node, "b", 1).await;
    let since = format!("{}.{other}", last.at(1));
    let query = [("channel", "a"), ("channel", "b"), ("since", since.as_str())];
    let mut stream = EventSource::open(node.address, Receive::Usual, &query).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..6 {
        let event = stream.event().await.unwrap();
        told.push((event.kind, event.id));
    }
    let after = |offset| Some(format!("{}.{other}", last.at(offset)));
    let expected = [
        ("welcome", None),
        ("subscribed", None),
        ("subscribed", after(1)),
        ("gap", after(3)),
        ("message", after(4)),
        ("message", after(5)),
    ];
    assert_eq!(told, expected.map(|(kind, id)| (kind.to_owned(), id)));
}

#[tokio::test]
async fn without_a_cursor_there_is_no_id_on_anything() {
    let node = Node::start(Setup::window(2));
    publish_numbers(&node, "a", 3).await;
    publish_numbers(&node, "b", 1).await;
    for channels in [&["a"][..], &["a", "b"]] {
        let mut query: Vec<_> = channels.iter().map(|channel| ("channel", *channel)).collect();
        query.extend([("since", "x-1"), ("cursor", "none")]);
        let body = json!({"channels": channels, "since": "x-1", "cursor": "none"}).to_string();
        let requests = [
            http::get(&http::target("/v1/sse", &query), &[]),
            http::post("/v1/sse", &[("content-type", "application/json")], body.as_bytes()),
        ];
        for request in requests {
            let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
            for expected in ["welcome"]
                .into_iter()
                .chain(channels.iter().map(|_| "subscribed"))
                .chain(["gap", "message", "message"])
            {
                let event = stream.event().await.unwrap();
                assert_eq!(
                    (event.kind.as_str(), event.id, event.last_event_id.as_str()),
                    (expected, None, "")
                );
            }
        }
    }
}

#[tokio::test]
async fn last_event_id_wins_and_since_has_other_names() {
    let node = Node::start(Setup::window(9));
    let last = publish_numbers(&node, "a", 4).await;
    let (third, second) = (last.at(3).to_string(), last.at(2).to_string());
    let get = |query: &[(&str, &str)], header: &str| {
        let mut all = vec![("channel", "a")];
        all.extend(query);
        http::get(&http::target("/v1/sse", &all), &[("last-event-id", header)])
    };
    let post = |body: Value, media_type: &str| {
        http::post("/v1/sse", &[("content-type", media_type)], body.to_string().as_bytes())
    };
    let requests = [
        get(&[("since", &second)], &third),
        get(&[("since", "no cursor at all")], &third),
        get(&[("lastEventId", &second), ("last_event_id", &second)], &third),
        get(&[("since", &third)], ""),
        get(&[("last_event_id", &third)], ""),
        get(&[("lastEventId", &third)], ""),
        get(&[("lastEventID", &third)], ""),
        get(&[("since", ""), ("lastEventId", &third)], ""),
        post(json!({"channels": ["a"], "since": third}), "application/json"),
        post(json!({"channels": ["a"], "since": third}), "text/plain"),
        post(json!({"channels": ["a"], "since": third}), "text/plain;charset=UTF-8"),
        post(json!({"channels": ["a"], "last_event_id": third}), "text/plain"),
        post(json!({"channels": ["a"], "lastEventId": third}), "text/plain"),
        post(json!({"channels": ["a"], "lastEventID": third}), "text/plain"),
    ];
    for request in requests {
        let shown = String::from_utf8_lossy(&request).into_owned();
        let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
        stream.event().await.unwrap();
        let subscribed = Push::parse(stream.event().await.unwrap().data).unwrap();
        assert_eq!(
            (subscribed.text_of("position"), subscribed.text_of("resume")),
            (third.as_str(), "complete"),
            "{shown}"
        );
        let publication = Push::parse(stream.event().await.unwrap().data).unwrap();
        assert_eq!(publication.place("position").unwrap(), last, "{shown}");
    }
}

/// A header that cannot be understood is refused: to forget it would lose publications, or store them twice.
#[tokio::test]
async fn headers_beyond_ascii_are_not_forgotten() {
    let node = Node::start(Setup::window(9));
    refused(&node, "/v1/sse?channel=a", &[("last-event-id", "ä")], 400, "bad_cursor").await;
    let mut publisher = Publisher::new(node.address);
    for key in ["schön", "\"schön\""] {
        let request = http::post(
            "/v1/publish",
            &[("idempotency-key", key)],
            br#"{"channel":"a","data":1}"#,
        );
        let (first, _) = publisher.send(&request).await.unwrap();
        let (second, answer) = publisher.send(&request).await.unwrap();
        let is_known = second == 200 && answer["duplicate"] == true;
        assert!(
            is_known || (first, second) == (400, 400),
            "{key}: {first}, then {second} {answer}"
        );
    }
}

#[tokio::test]
async fn a_drained_stream_ends_with_all_that_was_acknowledged_a_delay_and_a_closing() {
    let mut node = Node::start(Setup {
        drain_window: Duration::from_millis(200),
        ..Setup::window(999)
    });
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = EventSource::open(node.address, Receive::Usual, &[("channel", "a")])
            .await
            .unwrap();
        stream.event().await.unwrap();
        stream.event().await.unwrap();
        streams.push(stream);
    }
    let last = publish_numbers(&node, "a", 500).await;
    node.begin_shutdown();
    for mut stream in streams {
        for offset in 1..=500 {
            assert_eq!(stream.event().await.unwrap().id, Some(last.at(offset).to_string()));
        }
        let Some(Item::Retry(retry_ms)) = stream.next().await.unwrap() else {
            panic!()
        };
        assert_eq!(stream.next().await.unwrap(), Some(Item::Empty { id: None }));
        let closing = stream.event().await.unwrap();
        let push = Push::parse(closing.data).unwrap();
        assert_eq!(
            (closing.kind.as_str(), closing.id, push.text_of("code")),
            ("closing", None, "draining")
        );
        assert_eq!(push.value["retry_ms"], retry_ms);
        assert_eq!(closing.last_event_id, last.to_string(), "the id to come back with");
        assert_eq!(stream.next().await.unwrap(), None);
    }
    node.stopped().await;
}

#[tokio::test]
async fn a_native_event_source_is_told_to_come_back_where_others_get_the_status() {
    let node = Node::start(Setup::window(9));
    node.refuse_sessions().await;
    let accept = ("accept", "text/event-stream");
    let browsers: [&[(&str, &str)]; 2] = [
        &[accept, ("sec-fetch-mode", "cors")],
        &[accept, ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")],
    ];
    for headers in browsers {
        let request = http::get("/v1/sse?channel=a", headers);
        let mut stream = EventSource::send(node.address, Receive::Usual, &request).await.unwrap();
        assert_eq!(stream.head.header("content-type"), "text/event-stream; charset=utf-8");
        let Some(Item::Retry(retry_ms)) = stream.next().await.unwrap() else {
            panic!()
        };
        let closing = stream.event().await.unwrap();
        let push = Push::parse(closing.data).unwrap();
        assert_eq!(
            (closing.kind.as_str(), closing.id, push.text_of("code")),
            ("closing", None, "draining")
        );
        assert_eq!(push.value["retry_ms"], retry_ms);
        assert_eq!(stream.next().await.unwrap(), None);
        refused(&node, "/v1/sse?channel=", headers, 400, "bad_channel").await;
    }
    let others: [&[(&str, &str)]; 3] = [&[], &[accept], &[("user-agent", "Mozilla/5.0"), ("accept", "*/*")]];
    for headers in others {
        let head = refused(&node, "/v1/sse?channel=a", headers, 503, "draining").await;
        assert!(head.header("retry-after").parse::<u64>().unwrap() > 0);
    }
}

async fn refused(node: &Node, target: &str, headers: &[(&str, &str)], status: u16, code: &str) -> http::Head {
    let answer = EventSource::request(node.address, Receive::Usual, &http::get(target, headers))
        .await
        .unwrap();
    let Answer::Refusal(head, body) = answer else {
        panic!("{headers:?} got a stream")
    };
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (head.status, problem["code"].as_str()),
        (status, Some(code)),
        "{headers:?}"
    );
    assert_eq!(head.header("content-type"), "application/problem+json");
    head
}
