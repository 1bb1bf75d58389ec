//! `throughline subscribe` where the server adds channels to those that it names: by the token, by the configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;

use command::proxy::Way;
use command::{Folder, Server, ended, first_line};
use serde_json::Value;

const TRANSPORTS: [&str; 3] = ["ws", "sse", "poll"];

/// What is named, what the token adds, and what the configuration adds to everybody.
const CHANNELS: [&str; 3] = ["b", "a", "user:ada"];

const CONFIG: &str = r#"
    [[auth.issuers]]
    issuer = "me"
    secret = "a secret for tests, of which everybody knows"
    [[namespaces]]
    name = "user"
    personal = true
    subscribe_at_connect = true
    publish = "granted"
    [[namespaces]]
    name = "closed"
    subscribe = "nobody"
"#;

/// A server, and how to come as Ada, to whom the token gives these channels.
struct Place {
    folder: Folder,
    server: Server,
    token: String,
}

impl Place {
    async fn new(channels: &[&str]) -> Self {
        let folder = Folder::new();
        folder.write("throughline.toml", CONFIG);
        let mut arguments = vec!["token", "--sub", "ada", "--subscribe", "b", "--publish", "*"];
        for channel in channels {
            arguments.extend(["--channel", channel]);
        }
        let made = folder.run(&arguments).await;
        made.says(0, &[]);
        let server = Server::start(&folder).await;
        let token = made.stdout.trim().to_owned();
        Self { folder, server, token }
    }

    fn command(&self, arguments: &[&str], url: &str) -> tokio::process::Command {
        let mut command = self.folder.command(&[arguments, &["--url", url]].concat());
        command.env("THROUGHLINE_TOKEN", &self.token);
        command
    }

    /// Publishes to a channel, and says at which position it stands.
    async fn publish(&self, channel: &str, data: &str) -> String {
        let command = self.command(&["publish", channel, data], &self.server.url());
        let ran = command::finish(command).await;
        ran.says(0, &[]);
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
        answer["position"].as_str().unwrap().to_owned()
    }
}

/// Channel and data of a line.
fn parts(line: &str) -> (String, String) {
    let parts: Vec<_> = line.trim_end().split(' ').collect();
    (parts[0].to_owned(), parts[3].to_owned())
}

fn all_with(data: &str) -> Vec<(String, String)> {
    let mut all: Vec<_> = CHANNELS.map(|channel| (channel.to_owned(), data.to_owned())).into();
    all.sort();
    all
}

#[tokio::test]
async fn added_channels_are_printed_and_resumed() {
    let place = Place::new(&["a"]).await;
    for transport in TRANSPORTS {
        let way = Way::start(place.server.address).await;
        let arguments = ["subscribe", "b", "--transport", transport, "--json"];
        let mut process = place.command(&arguments, &way.url()).spawn().unwrap();
        let mut began = Vec::new();
        while began.len() < CHANNELS.len() {
            let push: Value = serde_json::from_str(&first_line(&mut process).await).unwrap();
            if push["type"] == "subscribed" {
                began.push(push["channel"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(began, CHANNELS, "{transport}");
        for data in ["1", "2", "3"] {
            // What is published while nobody can listen comes only to a reader that goes on where it was, everywhere.
            if data != "1" {
                way.cut();
            }
            for channel in CHANNELS {
                place.publish(channel, data).await;
            }
            way.mend();
            let mut came = Vec::new();
            while came.len() < CHANNELS.len() {
                let push: Value = serde_json::from_str(&first_line(&mut process).await).unwrap();
                match push["type"].as_str().unwrap() {
                    "publication" => {
                        came.push((push["channel"].as_str().unwrap().to_owned(), push["data"].to_string()));
                    }
                    "subscribed" => assert_eq!(push["resume"], "complete", "{transport}: {push}"),
                    kind => assert!(["welcome", "heartbeat"].contains(&kind), "{transport}: {push}"),
                }
            }
            came.sort();
            assert_eq!(came, all_with(data), "{transport}");
        }
        command::interrupt(&process).await;
        let ran = ended(process).await;
        ran.says(130, &["reconnecting in"]);
        assert!(!ran.stderr.contains("refused on"), "{transport}: {ran:#?}");
    }
}

#[tokio::test]
async fn a_cursor_with_the_added_channels_is_gone_on_from() {
    let place = Place::new(&["a"]).await;
    let mut cursor = Vec::new();
    for channel in CHANNELS {
        cursor.push(place.publish(channel, "0").await);
    }
    for channel in CHANNELS {
        place.publish(channel, "1").await;
    }
    let cursor = cursor.join(".");
    for transport in TRANSPORTS {
        let arguments = [
            "subscribe",
            "b",
            "--since",
            &cursor,
            "--count",
            "3",
            "--transport",
            transport,
        ];
        let ran = command::finish(place.command(&arguments, &place.server.url())).await;
        ran.says(0, &[]);
        let mut came: Vec<_> = ran.stdout.lines().map(parts).collect();
        came.sort();
        assert_eq!(came, all_with("1"), "{transport}");
    }
    let too_long = format!("{cursor}.now");
    for transport in TRANSPORTS {
        let arguments = ["subscribe", "b", "--since", &too_long, "--transport", transport];
        let ran = command::finish(place.command(&arguments, &place.server.url())).await;
        ran.says(1, &["bad_cursor"]);
    }
}

#[tokio::test]
async fn an_added_channel_that_is_refused_is_said_once_and_the_others_go_on() {
    let place = Place::new(&["closed:1"]).await;
    for transport in TRANSPORTS {
        let before = place.publish("b", "0").await;
        place.publish("b", "1").await;
        let way = Way::start(place.server.address).await;
        let arguments = [
            "subscribe",
            "b",
            "--since",
            &before,
            "--count",
            "2",
            "--transport",
            transport,
        ];
        let mut process = place.command(&arguments, &way.url()).spawn().unwrap();
        assert_eq!(parts(&first_line(&mut process).await).1, "1", "{transport}");
        way.cut();
        place.publish("b", "2").await;
        way.mend();
        let ran = ended(process).await;
        ran.says(0, &[]);
        assert_eq!(parts(&ran.stdout).1, "2", "{transport}: {ran:#?}");
        assert_eq!(
            ran.stderr.matches("refused on closed:1").count(),
            1,
            "{transport}: {ran:#?}"
        );
    }
}
