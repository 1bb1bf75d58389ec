//! What changes while something is under way: the app takes its time about a publication or a subscription, and by the
//! time it answers an operator, a new configuration or the clock has said something else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::app::{App, Reply};
use support::client::{self, ask, auth, bearer, operate, token_of};
use support::deadline::{until, within};
use support::http;
use support::node::{Node, Setup, read_config};
use support::push::Push;
use support::tokens::{SECRET, api_key, now_s, token};
use support::websocket::{Said, WebSocket};
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

impl World {
    async fn start() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let app = App::start_gated(Arc::clone(&gate), |_| Reply::json(&json!({"allow": true}))).await;
        let mut setup = Setup::auth(&auth_text());
        let hooks = format!(
            "publish_url = \"{}\"\nsubscribe_url = \"{}\"\ntimeout_ms = 60000\ncache_s = 0",
            app.url("publish"),
            app.url("subscribe")
        );
        setup.hooks = toml::from_str(&hooks).unwrap();
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

    /// A WebSocket that follows `open`, and whose `command` waits for the app.
    async fn waiting(&self, token: &str, command: &Value) -> WebSocket {
        self.gate.add_permits(1);
        let headers = [("authorization", bearer(token))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let opened = WebSocket::open_with(self.node.address, &[("channel", "open")], &headers).await;
        let mut socket = opened.unwrap();
        for kind in ["welcome", "subscribed"] {
            assert_eq!(socket.push().await.unwrap().kind(), kind);
        }
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
            Said::Push(push) if push.kind() == "expiring" => {}
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
