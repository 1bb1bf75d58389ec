//! What a token says, read strictly: a claim of the wrong kind is refused, and never passed over.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::compact::given;
use super::{Action, ChannelPattern, Grants, Identity, Lifetime, Refusal};
use crate::delivery::{ChannelName, Who};
use crate::protocol::Fields;

/// The longest `sub`, in bytes.
pub(super) const SUBJECT_BYTES_MAX: usize = 255;

/// The longest `throughline.info`, in bytes of compact JSON: it is told to everybody on a channel.
pub(super) const INFO_BYTES_MAX: usize = 256;

/// The latest time that is read, in seconds: in the year 10000, and far from where milliseconds would overflow.
const TIME_S_MAX: f64 = 253_402_300_800.0;

/// What somebody has signed. Claims that nobody asks for are passed over; one that is there twice is refused.
#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "given")]
    iss: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    sub: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    aud: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    nbf: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    iat: Option<Value>,
    #[serde(default, deserialize_with = "own")]
    throughline: Option<Own>,
}

/// What is for this server alone: an object without a field twice, or something else.
enum Own {
    Fields(Fields),
    Twice,
    Other,
}

impl<'de> Deserialize<'de> for Own {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        if !json.get().starts_with('{') {
            return Ok(Self::Other);
        }
        match serde_json::from_str(json.get()) {
            Ok(fields) => Ok(Self::Fields(fields)),
            Err(error) if error.is_data() => Ok(Self::Twice),
            Err(error) => Err(D::Error::custom(error)),
        }
    }
}

/// What is `null` is there, and no object.
fn own<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Own>, D::Error> {
    Own::deserialize(deserializer).map(Some)
}

impl Claims {
    pub(super) fn read(payload: &[u8]) -> Result<Self, Refusal> {
        if payload.first() != Some(&b'{') {
            return Err(Refusal::NotCompact);
        }
        serde_json::from_slice(payload).map_err(|_| Refusal::NotCompact)
    }

    /// Who says that they issued it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.iss.as_ref().and_then(Value::as_str)
    }

    /// Which of these is meant, the first of several; where none is configured, a token that is meant for anybody in
    /// particular is not meant for us.
    pub(super) fn audience<'a>(&self, accepted: &'a [String]) -> Result<Option<&'a str>, Refusal> {
        let names = match &self.aud {
            None if accepted.is_empty() => return Ok(None),
            None => &[],
            Some(Value::Array(names)) if names.iter().all(Value::is_string) => &names[..],
            Some(name) => std::slice::from_ref(name),
        };
        let is_meant = |known: &&String| names.iter().any(|name| name.as_str() == Some(known));
        let meant = accepted.iter().find(is_meant).ok_or(Refusal::Audience)?;
        Ok(Some(meant))
    }

    /// Who it is, if the times are right.
    pub(super) fn identity(&self, leeway_s: u64, now_ms: u64) -> Result<Identity, Refusal> {
        let slack_ms = leeway_s.saturating_mul(1000);
        let Some(expires_at_ms) = time_ms("exp", self.exp.as_ref())? else {
            return Err(Refusal::Claim("exp", "there: a token that never ends is not accepted"));
        };
        let begins_ms = time_ms("nbf", self.nbf.as_ref())?.unwrap_or_default();
        let issued_ms = time_ms("iat", self.iat.as_ref())?.unwrap_or_default();
        if now_ms >= expires_at_ms.saturating_add(slack_ms) {
            return Err(Refusal::Expired);
        }
        if begins_ms > now_ms.saturating_add(slack_ms) {
            return Err(Refusal::NotYet);
        }
        if issued_ms > now_ms.saturating_add(slack_ms) {
            return Err(Refusal::FromTheFuture);
        }
        let who = Who::new(self.user()?, self.info()?.as_deref());
        let lifetime = Lifetime::new(expires_at_ms, slack_ms, now_ms);
        Ok(Identity::of_user(who, self.grants()?, lifetime))
    }

    fn user(&self) -> Result<&str, Refusal> {
        let user = match &self.sub {
            None => None,
            Some(Value::String(user)) => Some(&**user),
            Some(_) => return Err(Refusal::Claim("sub", "a string, with quotes around a number too")),
        };
        user.filter(|user| is_user(user)).ok_or(Refusal::Claim("sub", ""))
    }

    /// What others are told of the user.
    fn info(&self) -> Result<Option<String>, Refusal> {
        let Some(Own::Fields(given)) = &self.throughline else {
            return Ok(None);
        };
        let Some(info) = given.get("info").filter(|info| !info.is_null()) else {
            return Ok(None);
        };
        let json = info.to_string();
        if json.len() > INFO_BYTES_MAX {
            return Err(Refusal::Claim("throughline.info", "JSON of at most 256 bytes"));
        }
        Ok(Some(json))
    }

    fn grants(&self) -> Result<Grants, Refusal> {
        match &self.throughline {
            None => Ok(Grants::default()),
            Some(Own::Fields(given)) => Grants::read(given),
            Some(Own::Twice) => Err(Refusal::Twice("throughline")),
            Some(Own::Other) => Err(Refusal::Claim("throughline", "an object")),
        }
    }
}

/// Whether a user may be called this.
pub(in crate::session) fn is_user(name: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

impl Grants {
    /// Reads what the claim `throughline` says.
    pub(in crate::session) fn read(given: &Fields) -> Result<Self, Refusal> {
        let mut channels = Vec::new();
        for name in texts("throughline.channels", given.get("channels"))? {
            let bad = |_| Refusal::Claim("throughline.channels", "an array of channels' names");
            channels.push(ChannelName::parse(name).map_err(bad)?);
        }
        let mut granted = Vec::new();
        for (action, name) in [
            (Action::Subscribe, "throughline.subscribe"),
            (Action::Publish, "throughline.publish"),
            (Action::History, "throughline.history"),
            (Action::Presence, "throughline.presence"),
        ] {
            granted.push((action, patterns(name, given.get(action.verb()))?));
        }
        Ok(Self::new(granted, channels))
    }
}

/// Seconds since 1970, maybe with a fraction. A number in a string is none.
fn time_ms(name: &'static str, value: Option<&Value>) -> Result<Option<u64>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let seconds = value.as_f64();
    if seconds.is_some_and(|seconds| seconds > TIME_S_MAX) {
        return Err(Refusal::Claim(
            name,
            "in seconds since 1970, and is too far away; are these milliseconds?",
        ));
    }
    let Some(seconds) = seconds.filter(|seconds| *seconds >= 0.0) else {
        return Err(Refusal::Claim(name, "a number: seconds since 1970"));
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked right above to be a time that has room"
    )]
    let ms = (seconds * 1000.0) as u64;
    Ok(Some(ms))
}

fn texts<'a>(name: &'static str, value: Option<&'a Value>) -> Result<Vec<&'a str>, Refusal> {
    let bad = || Refusal::Claim(name, "an array of strings");
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(|value| value.as_str().ok_or_else(bad)).collect(),
        Some(_) => Err(bad()),
    }
}

fn patterns(name: &'static str, value: Option<&Value>) -> Result<Vec<ChannelPattern>, Refusal> {
    let bad = |_| Refusal::Claim(name, "an array of channels' names, each maybe with a `*` at its end");
    let texts = texts(name, value)?.into_iter();
    texts.map(|text| ChannelPattern::parse(text).map_err(bad)).collect()
}
