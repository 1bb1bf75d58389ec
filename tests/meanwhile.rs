//! What changes while something is under way: the app takes its time about a publication or a subscription, and by the
//! time it answers an operator, a new configuration or the clock has said something else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use support::app::{App, Reply};
use support::client::{self, ask, auth, bearer, operate, token_of};
use support::deadline::{until, within};
use support::http;
use support::node::{Node, Setup, read_config};
use support::push::Push;
use support::tokens::{SECRET, api_key, now_s, token};
use support::websocket::{Said, WebSocket};
use throughline::delivery::{ChannelName, Draft, Engine, EngineError, Page, Published, Since, Tail};
use throughline::engine::{MemoryEngine, System};
use throughline::http::HttpClient;
use throughline::session::identity::FetchKeys;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What comes between the question and its answer.
const CHANGES: [&str; 4] = ["disconnect", "key", "nobody", "expiry"];

/// `[auth]`, whose publisher may read what was published.
fn auth_text() -> String {
    auth().replace("\"publish\"", "\"publish\", \"history\"")
}

/// A node, and its app, which answers as often as the test lets it, and with yes.
struct World {
    node: Node,
    app: App,
    gate: Arc<Semaphore>,
}

/// An engine that keeps publications to `slow` until the test says so.
#[derive(Debug)]
struct Held {
    memory: MemoryEngine,
    gate: Semaphore,
    has_begun: Semaphore,
}

impl Engine for Held {
    fn publish<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Vec<Result<Published, EngineError>>> {
        Box::pin(async move {
            if batch[0].channel.as_str() == "slow" {
                self.has_begun.add_permits(1);
                let _passed = self.gate.acquire().await.expect("it is never closed");
            }
            self.memory.publish(batch).await
        })
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, EngineError>> {
        self.memory.history(channel, after, limit)
    }

    fn attach<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Tail, EngineError>> {
        self.memory.attach(channel)
    }
}

impl World {
    async fn start() -> Self {
        Self::start_on(None).await
    }

    async fn start_on(engine: Option<Arc<dyn Engine>>) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let app = App::start_gated(Arc::clone(&gate), |_| Reply::json(&json!({"allow": true}))).await;
        let mut setup = Setup::auth(&auth_text());
        let hooks = format!(
            "publish_url = \"{}\"\nsubscribe_url = \"{}\"\ntimeout_ms = 60000\ncache_s = 0",
            app.url("publish"),
            app.url("subscribe")
        );
        setup.hooks = toml::from_str(&hooks).unwrap();
        setup.engine = engine;
        // The clock of the connections ticks 32 times in it.
        setup.timings.heartbeat_ms = 60_000;
        Self {
            node: Node::start(setup),
            app,
            gate,
        }
    }

    /// A token that is about to expire if that is what comes between.
    fn token(change: &str) -> String {
        match change {
            "expiry" => token("ada", 5, &json!({})),
            _ => token_of("ada"),
        }
    }

    /// Lets it come; `token` is a client's.
    async fn change(&self, change: &str) {
        let text = match change {
            "key" => auth_text().replace(SECRET, "another secret, which came after the first one"),
            _ => auth_text(),
        };
        let policies = match change {
            "nobody" => "[[namespaces]]\nname = \"default\"\nsubscribe = \"nobody\"\npublish = \"nobody\"",
            _ => "",
        };
        match change {
            "disconnect" => {
                let ada = json!({"user": "ada", "deny_s": 60});
                let (status, answer) = operate(self.node.address, "/v1/disconnect", &ada).await;
                assert_eq!(status, 200, "{answer}");
            }
            "expiry" => {
                let until_s = now_s() + 5;
                until("the end of the token", || now_s() > until_s).await;
            }
            _ => {
                let fetch: Arc<dyn FetchKeys> = Arc::new(HttpClient::default());
                let authority = Setup::auth(&text).auth.authority(&fetch).unwrap();
                self.node
                    .edge()
                    .node()
                    .set_terms(authority, read_config(policies).policies());
            }
        }
    }

    /// A client asks over HTTP to publish this.
    fn publish(&self, token: &str, body: &Value) -> JoinHandle<(u16, Value)> {
        let address = self.node.address;
        let request = http::post(
            "/v1/publish",
            &[("authorization", &bearer(token))],
            body.to_string().as_bytes(),
        );
        tokio::spawn(async move { ask(address, &request).await })
    }

    /// A back end publishes, about whom nobody is asked.
    async fn publish_as_app(&self, channel: &str) {
        let body = json!({"channel": channel, "data": "after it"});
        let (status, answer) = within("the answer", self.publish(&api_key('P'), &body)).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }

    /// A WebSocket that follows `open`.
    async fn following(&self, token: &str) -> WebSocket {
        self.gate.add_permits(1);
        let headers = [("authorization", bearer(token))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let opened = WebSocket::open_with(self.node.address, &[("channel", "open")], &headers).await;
        let mut socket = opened.unwrap();
        for kind in ["welcome", "subscribed"] {
            assert_eq!(socket.push().await.unwrap().kind(), kind);
        }
        socket
    }

    /// The same, whose `command` waits for the app.
    async fn waiting(&self, token: &str, command: &Value) -> WebSocket {
        let mut socket = self.following(token).await;
        let asked = self.app.asked().len();
        socket.command(command).await.unwrap();
        within("the question", self.app.count_reaches(asked + 1)).await;
        socket
    }

    async fn history(&self, channel: &str) -> usize {
        let target = format!("/v1/history?channel={channel}&limit=1000");
        let request = http::get(&target, &[("authorization", &bearer(&api_key('P')))]);
        let (status, answer) = ask(self.node.address, &request).await;
        assert_eq!(status, 200, "{answer}");
        answer["publications"].as_array().unwrap().len()
    }
}

/// By what a client is refused after it.
fn refusal(change: &str) -> &'static str {
    match change {
        "disconnect" => "denied",
        "key" => "token_invalid",
        "nobody" => "forbidden",
        _ => "token_expired",
    }
}

fn words(push: &Push) -> String {
    let words = [push.kind(), push.channel(), push.text_of("code")];
    words.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All that a client is told until it is closed.
async fn told(socket: &mut WebSocket) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        match within("what comes next", socket.next()).await.unwrap() {
            Said::Push(push) if matches!(push.kind(), "expiring" | "heartbeat") => {}
            Said::Push(push) => told.push(words(&push)),
            Said::Closed { .. } => return told,
        }
    }
}

/// The app has its say about a publication, and whoever else has one is asked again after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_app_allows_is_not_published_by_whom_it_is_no_longer_for() {
    for change in CHANGES {
        let world = World::start().await;
        let token = World::token(change);
        let item = json!({"channel": "a", "data": 1});
        let mut socket = world
            .waiting(&token, &json!({"type": "publish", "id": 1, "channel": "a", "data": 2}))
            .await;
        let one = world.publish(&token, &item);
        let batch = world.publish(&token, &json!([item, item]));
        within("the questions", world.app.count_reaches(5)).await;
        world.change(change).await;
        world.gate.add_permits(4);
        let (status, answer) = within("the answer", one).await.unwrap();
        assert_eq!(client::code_of(&answer), refusal(change), "{change} {status}");
        let (_, answer) = within("the answer", batch).await.unwrap();
        for nth in [0, 1] {
            let result = &answer["results"][nth];
            assert_eq!(client::code_of(&result["error"]), refusal(change), "{answer}");
        }
        let mut said = String::new();
        while !said.starts_with("error") {
            let push = within("the reply", socket.push()).await.unwrap();
            said = words(&push);
        }
        assert_eq!(said, format!("error {}", refusal(change)));
        assert_eq!(world.history("a").await, 0, "{change}");
    }
}

/// Of a batch the app is asked about a few at once; about the rest nobody asks it once their publisher is gone.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_no_more_is_asked_about_when_its_publisher_is_gone() {
    for change in ["disconnect", "key", "expiry"] {
        let world = World::start().await;
        let items: Vec<_> = (0..100).map(|nth| json!({"channel": "a", "data": nth})).collect();
        let batch = world.publish(&World::token(change), &json!(items));
        within("the first questions", world.app.count_reaches(16)).await;
        world.change(change).await;
        world.gate.add_permits(100);
        let (_, answer) = within("the answer", batch).await.unwrap();
        let results = answer["results"].as_array().unwrap();
        let refused = results
            .iter()
            .filter(|result| client::code_of(&result["error"]) == refusal(change));
        assert_eq!(refused.count(), 100, "{change}");
        assert_eq!((world.app.asked().len(), world.history("a").await), (16, 0), "{change}");
    }
}

/// A command waits for the app, which never answers; its session ends all the same, gets nothing more, and is told that
/// the command was not carried out.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_who_may_not_come_any_more_when_the_app_answers() {
    for change in ["disconnect", "key", "expiry"] {
        for target in ["/v1/sse?channel=slow", "/v1/poll?channel=slow&wait=0"] {
            let world = World::start().await;
            let authorization = bearer(&World::token(change));
            let request = http::get(target, &[("authorization", &authorization)]);
            let address = world.node.address;
            let answer = tokio::spawn(async move { ask(address, &request).await });
            within("the question", world.app.count_reaches(1)).await;
            world.change(change).await;
            world.gate.add_permits(1);
            let (status, answer) = within("the answer", answer).await.unwrap();
            assert_ne!(status, 200, "{change} {target}");
            assert_eq!(answer["code"], refusal(change), "{change} {target} {answer}");
        }
        let world = World::start().await;
        let (address, authorization) = (world.node.address, bearer(&World::token(change)));
        let opening = tokio::spawn(async move {
            let headers = [("authorization", &*authorization)];
            WebSocket::open_with(address, &[("channel", "slow")], &headers).await
        });
        within("the question", world.app.count_reaches(1)).await;
        world.change(change).await;
        world.gate.add_permits(1);
        let opened = within("the answer", opening).await.unwrap();
        assert!(opened.is_err(), "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_once_though_a_command_is_under_way() {
    for change in ["disconnect", "key", "expiry"] {
        for command in [
            json!({"type": "publish", "id": 1, "channel": "slow", "data": 1}),
            json!({"type": "subscribe", "id": 1, "channel": "slow"}),
        ] {
            let world = World::start().await;
            let mut socket = world.waiting(&World::token(change), &command).await;
            world.change(change).await;
            if change != "expiry" {
                world.publish_as_app("open").await;
            }
            let code = refusal(change);
            let expected = [format!("error {code}"), format!("closing {code}")];
            assert_eq!(told(&mut socket).await, expected, "{change} {command}");
            assert_eq!(world.history("slow").await, 0, "{change}");
        }
    }
}

/// So does a subscription that is no longer allowed, and one that an operator ends; the session goes on with its command.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_at_once_though_a_command_is_under_way() {
    for change in ["unsubscribe", "nobody"] {
        let world = World::start().await;
        let command = json!({"type": "subscribe", "id": 1, "channel": "slow"});
        let mut socket = world.waiting(&token_of("ada"), &command).await;
        let code = if change == "nobody" {
            world.change(change).await;
            "forbidden"
        } else {
            let open = json!({"user": "ada", "channel": "open"});
            assert_eq!(operate(world.node.address, "/v1/unsubscribe", &open).await.0, 200);
            "denied"
        };
        world.publish_as_app("open").await;
        let ended = within("the end", socket.push()).await.unwrap();
        assert_eq!(words(&ended), format!("unsubscribed open {code}"), "{change}");
        world.gate.add_permits(1);
        let begun = within("the reply", socket.push()).await.unwrap();
        assert_eq!(words(&begun), "subscribed slow", "{change}");
        if change == "nobody" {
            // It was allowed before.
            let ended = within("the end", socket.push()).await.unwrap();
            assert_eq!(words(&ended), "unsubscribed slow forbidden");
        }
    }
}

/// What became of a publication that the engine has is not known before it says so. So it is waited for; its publisher is
/// told, and nothing else, before the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_the_engine_has_is_not_called_refused() {
    let engine = Arc::new(Held {
        memory: MemoryEngine::new(Arc::new(System)),
        gate: Semaphore::new(0),
        has_begun: Semaphore::new(0),
    });
    let world = World::start_on(Some(Arc::clone(&engine) as Arc<dyn Engine>)).await;
    let command = json!({"type": "publish", "id": 1, "channel": "slow", "data": 1});
    let mut socket = world.waiting(&token_of("ada"), &command).await;
    world.gate.add_permits(1);
    let has_begun = within("the publication", engine.has_begun.acquire()).await;
    has_begun.unwrap().forget();
    world.change("disconnect").await;
    world.publish_as_app("open").await;
    engine.gate.add_permits(1);
    assert_eq!(told(&mut socket).await, ["published slow", "closing denied"]);
    assert_eq!(world.history("slow").await, 1);
}

/// A new token that came in time takes the place of the one that has expired since.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_that_came_in_time_keeps_the_session() {
    let world = World::start().await;
    let short = World::token("expiry");
    let refresh = json!({"type": "refresh", "id": 1, "token": token_of("ada")});
    let mut other = world.following(&short).await;
    let mut socket = world.waiting(&short, &refresh).await;
    assert_eq!(told(&mut other).await, ["closing token_expired"]);
    world.gate.add_permits(1);
    for expected in ["expiring", "refreshed", "publication open"] {
        let push = within("what comes next", socket.push()).await.unwrap();
        assert_eq!(words(&push), expected);
        if expected == "refreshed" {
            world.publish_as_app("open").await;
        }
    }
}
