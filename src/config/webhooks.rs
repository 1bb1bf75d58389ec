//! `[webhooks]`: an app is told what happens to channels.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, OneOrMany, Secret, asked};
use crate::delivery::LogPolicy;
use crate::session::webhooks::{EventKind, SigningSecret, WebhookSettings};

/// The most receivers.
const URLS_MAX: usize = 8;

/// `[webhooks]`: an app is told over HTTP what happens to channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Who is told: an `http://…` or `https://…`, or a list of such, each of which is told everything.
    pub url: OneOrMany,
    /// Signs every delivery as Standard Webhooks says: `whsec_` and 24 to 64 random bytes in base64.
    pub secret: Option<Secret>,
    /// Signs them too, while a receiver still has the earlier secret.
    pub previous_secret: Option<Secret>,
    /// What is told: `channel_occupied`, `channel_vacated`, `member_joined`, `member_left`.
    pub events: Vec<String>,
    /// The most events in one delivery.
    #[schemars(range(min = 1, max = 10_000))]
    pub batch_count_max: usize,
    /// How long a receiver may take to answer, in milliseconds.
    #[schemars(range(min = 10, max = 60_000))]
    pub timeout_ms: u64,
    /// The most events that are kept for receivers that do not take them; the oldest are lost first.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub backlog_count: usize,
    /// The most bytes that they may take.
    #[schemars(range(min = 65_536))]
    pub backlog_bytes: usize,
    /// How long they are kept at most, in seconds.
    #[schemars(range(min = 1, max = 604_800))]
    pub backlog_age_s: u64,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            url: OneOrMany::default(),
            secret: None,
            previous_secret: None,
            events: EventKind::ALL.map(|kind| kind.as_str().to_owned()).to_vec(),
            batch_count_max: 100,
            timeout_ms: 5_000,
            backlog_count: 10_000,
            backlog_bytes: 16 * 1024 * 1024,
            backlog_age_s: 3_600,
        }
    }
}

impl Webhooks {
    /// What the node is given; `None`: nobody is told anything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn settings(&self) -> Result<Option<WebhookSettings>, Fault> {
        let urls = self.url.to_vec();
        if urls.is_empty() {
            return Ok(None);
        }
        if urls.len() > URLS_MAX {
            let why = format!("webhooks.url names {} receivers; there may be {URLS_MAX}", urls.len());
            return Err(Fault::of_key("webhooks.url", why));
        }
        urls.iter().try_for_each(|url| check_url(url))?;
        let Some(secret) = &self.secret else {
            let why = "webhooks.url needs webhooks.secret, by which receivers know that it is this server that tells them; \
                       `echo whsec_$(openssl rand -base64 32)` makes one";
            return Err(Fault::of_key("webhooks.secret", why.to_owned()));
        };
        let mut secrets = vec![read_secret("webhooks.secret", secret)?];
        if let Some(previous) = &self.previous_secret {
            secrets.push(read_secret("webhooks.previous_secret", previous)?);
        }
        Ok(Some(WebhookSettings {
            urls,
            secrets,
            events: self.kinds()?,
            batch_count_max: self.batch_count_max,
            timeout: Duration::from_millis(self.timeout_ms),
            backlog: LogPolicy {
                count_max: self.backlog_count,
                bytes_max: self.backlog_bytes,
                age_ms_max: self.backlog_age_s.saturating_mul(1000),
                position_ttl_ms: 0,
            },
        }))
    }

    fn kinds(&self) -> Result<Vec<EventKind>, Fault> {
        let read = |word: &String| {
            let kind = EventKind::ALL.into_iter().find(|kind| kind.as_str() == word);
            kind.ok_or_else(|| {
                let all = EventKind::ALL.map(EventKind::as_str).join(", ");
                Fault::of_key(
                    "webhooks.events",
                    format!("webhooks.events has {word:?}; there are {all}"),
                )
            })
        };
        self.events.iter().map(read).collect()
    }
}

fn read_secret(key: &str, secret: &Secret) -> Result<SigningSecret, Fault> {
    SigningSecret::parse(secret.reveal()).map_err(|error| Fault::of_key(key, format!("{key} {error}")))
}

fn check_url(url: &str) -> Result<(), Fault> {
    let why = asked::why_not(url, "receivers know this server by webhooks.secret");
    let fault = |why| {
        Fault::of_key(
            "webhooks.url",
            format!("webhooks.url {why}, like https://app.example/webhooks"),
        )
    };
    why.map(fault).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<WebhookSettings>, String> {
        let webhooks: Webhooks = toml::from_str(text).unwrap();
        webhooks.settings().map_err(|fault| fault.to_string())
    }

    #[test]
    fn nothing_is_told_unless_there_is_a_receiver() {
        assert!(read("").unwrap().is_none());
        let secret = "secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        let settings = read(&format!(
            "url = \"https://app.example/x\"\n{secret}\nevents = [\"member_left\"]"
        ));
        let settings = settings.unwrap().unwrap();
        assert_eq!((settings.urls.len(), settings.events), (1, vec![EventKind::MemberLeft]));
        let settings = read(&format!(
            "url = [\"http://a\", \"http://b:1/c?d\"]\n{secret}\nprevious_{secret}"
        ));
        assert_eq!(settings.unwrap().unwrap().secrets.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let secret = "secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        for (text, words) in [
            ("url = \"https://app.example\"", "needs webhooks.secret"),
            (
                "url = \"https://app.example\"\nsecret = \"hunter2\"",
                "must be `whsec_`",
            ),
            (
                &*format!("url = \"app.example\"\n{secret}"),
                "like https://app.example/webhooks",
            ),
            (
                &*format!("url = \"ftp://app.example/secret\"\n{secret}"),
                "like https://",
            ),
            (
                &*format!("url = \"http://a\"\n{secret}\nevents = [\"joined\"]"),
                "there are channel_occupied",
            ),
            (
                &*format!("url = \"https://ada:hunter2@app.example\"\n{secret}"),
                "must not have a user or a password",
            ),
            (&*format!("url = {:?}\n{secret}", ["http://a"; 9]), "there may be 8"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(words) && !why.contains("hunter2"), "{text}: {why}");
        }
    }
}
