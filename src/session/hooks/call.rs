//! One question to the app: signed, sent in turn and within its deadline, its answer understood or failed closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::carried::Carried;
use super::decision::{Decision, Granted};
use super::{Hooks, signature};
use crate::protocol::{Code, Hook, HookAnswer, Problem, read_answer};
use crate::session::outgoing::{Answer, NoAnswer, Request};

/// The longest answer to `connect` and `subscribe`.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long it holds that there was no answer, so that a crowd does not ask an app that is down for each one in it.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);

/// The longest that an answer may hold, in seconds: a day.
const CACHE_S_MAX: u64 = 24 * 60 * 60;

/// What an entry takes beside what the app said.
const ENTRY_BYTES: usize = 512;

/// What came of a question.
pub(super) struct Told {
    pub(super) decision: Decision,
    pub(super) holds: Duration,
    /// About what it takes to keep it.
    pub(super) bytes: usize,
}

impl Decision {
    /// There is no answer.
    pub(super) fn failure() -> Self {
        const RETRY_MS: u64 = 1000;
        let detail = "the app that decides about this gives no answer now; try again";
        Self {
            decided: Err(Problem::new(Code::Overloaded, detail).retry_after_ms(RETRY_MS)),
            is_failure: true,
        }
    }
}

impl Hooks {
    /// One of the places for questions that are on their way; `None`: there was none in time.
    pub(super) async fn turn(&self, hook: Hook, until: Instant) -> Option<SemaphorePermit<'_>> {
        let turn = timeout_at(until, self.turns[hook as usize].acquire()).await;
        let turn = turn.ok().and_then(Result::ok);
        if turn.is_none() {
            self.around.metrics.note_hook(hook.as_str(), "failed");
            let why = format!(
                "all {} questions at once wait for their answers",
                self.settings.in_flight_max
            );
            self.note_failure(hook, &why);
        }
        turn
    }

    /// Asks, and understands the answer.
    pub(super) async fn call(
        &self,
        asked: (Hook, String),
        user: Option<&str>,
        carried: Option<&Arc<Carried>>,
        until: Instant,
    ) -> Told {
        let (hook, body) = asked;
        let began = Instant::now();
        let answered = self.exchange(hook, body, carried, until).await;
        let took = began.elapsed().as_secs_f64();
        let told = match answered {
            Ok(answer) => self.understand(hook, &answer, user),
            // What was left of the time says less than all of it.
            Err(NoAnswer::Late(_)) => Err(NoAnswer::Late(self.settings.time_max).to_string()),
            Err(why) => Err(why.to_string()),
        };
        let (told, outcome) = match told {
            Ok(told) => {
                self.note_answered(hook);
                let is_allowed = told.decision.decided.is_ok();
                (told, if is_allowed { "allowed" } else { "refused" })
            }
            Err(why) => {
                self.note_failure(hook, &why);
                let failure = Told {
                    decision: Decision::failure(),
                    holds: if hook == Hook::Publish {
                        Duration::ZERO
                    } else {
                        FAILURE_HOLDS
                    },
                    bytes: ENTRY_BYTES,
                };
                (failure, "failed")
            }
        };
        self.around.metrics.note_hook(hook.as_str(), outcome);
        self.around.metrics.note_hook_took(hook.as_str(), took);
        told
    }

    async fn exchange(
        &self,
        hook: Hook,
        body: String,
        carried: Option<&Arc<Carried>>,
        until: Instant,
    ) -> Result<Answer, NoAnswer> {
        let now_s = self.around.outside.now_ms() / 1000;
        let signed = self.signing.as_ref().map(|signing| signing.sign(now_s, &body));
        let mut headers: Vec<(&str, &[u8])> = vec![("content-type", b"application/json")];
        if let Some(signed) = &signed {
            headers.push((signature::HEADER, signed.as_bytes()));
        }
        let carried = carried.map_or(&[][..], |carried| &carried.headers);
        headers.extend(carried.iter().map(|(name, value)| (&**name, &**value)));
        let answer_bytes_max = match hook {
            Hook::Connect | Hook::Subscribe => ANSWER_BYTES_MAX,
            // What replaces a publication may be as long as any that can be published, and escaped.
            Hook::Publish => ANSWER_BYTES_MAX + 2 * self.settings.publication_bytes_max,
        };
        let request = Request {
            url: self.settings.url(hook).unwrap_or_default(),
            headers: &headers,
            body: Some(Bytes::from(body)),
            time_max: until.saturating_duration_since(Instant::now()),
            answer_bytes_max: Some(answer_bytes_max),
        };
        self.around.ask.ask(request).await
    }

    /// # Errors
    /// What is wrong with the answer, for whoever maintains the app.
    fn understand(&self, hook: Hook, answer: &Answer, user: Option<&str>) -> Result<Told, String> {
        if answer.status != 200 {
            let status = answer.status;
            return Err(format!(
                "the answer's status is {status}; a decision is always 200, a refusal too: {{\"allow\":false}}"
            ));
        }
        let HookAnswer { decided, cache_s } = read_answer(hook, &answer.body)?;
        let decided = match decided {
            Ok(allowed) => Ok(Granted::read(allowed, user)?),
            Err(refused) => Err(refused),
        };
        if let Ok(Granted { data: Some(data), .. }) = &decided
            && data.len() > self.settings.publication_bytes_max
        {
            let bytes_max = self.settings.publication_bytes_max;
            return Err(format!("`data` has more than {bytes_max} bytes"));
        }
        Ok(Told {
            holds: self.holds(hook, &decided, cache_s),
            decision: Decision {
                decided,
                is_failure: false,
            },
            bytes: ENTRY_BYTES + answer.body.len(),
        })
    }

    /// For how long something is decided: never beyond what the decision itself says.
    fn holds(&self, hook: Hook, decided: &Result<Granted, Problem>, cache_s: Option<u64>) -> Duration {
        let usual_s = match hook {
            Hook::Connect | Hook::Subscribe => self.settings.cache_s,
            // What one publication says tells nothing of the next.
            Hook::Publish => 0,
        };
        let holds = Duration::from_secs(cache_s.unwrap_or(usual_s).min(CACHE_S_MAX));
        let ends_ms = match decided {
            Ok(granted) => granted
                .expires_at_ms
                .map(|expires_at_ms| expires_at_ms.saturating_sub(self.around.outside.now_ms())),
            Err(refused) => refused.retry_ms,
        };
        ends_ms.map_or(holds, |ms| holds.min(Duration::from_millis(ms)))
    }

    /// The first failure is a warning, for the operator has to do something; the others are more of the same.
    fn note_failure(&self, hook: Hook, why: &str) {
        let url = self.settings.url(hook).unwrap_or_default();
        // What stands behind the question mark may be a secret.
        let url = url.split('?').next().unwrap_or_default();
        let hook_word = hook.as_str();
        if self.are_unwell[hook as usize].swap(true, Ordering::Relaxed) {
            tracing::debug!(hook = hook_word, url, why, "the app gives no answer");
        } else {
            tracing::warn!(
                hook = hook_word,
                url,
                why,
                "the app gives no answer: whom it should decide about is refused, until it does"
            );
        }
    }

    /// The app lets somebody in and says that it is over: it is a mistake, or its clock is behind.
    pub(super) fn note_over(&self) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                hook = Hook::Connect.as_str(),
                "the app lets a client in until an `expires_at` that lies in the past: it must be in milliseconds since \
                 1970, and its clock right"
            );
        }
    }

    fn note_answered(&self, hook: Hook) {
        if self.are_unwell[hook as usize].swap(false, Ordering::Relaxed) {
            tracing::info!(hook = hook.as_str(), "the app answers again");
        }
    }
}
