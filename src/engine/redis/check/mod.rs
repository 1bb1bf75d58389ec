//! Whether a Redis is what this engine needs: it is tried, and each thing that is wrong is said with its fix.

mod reach;
mod rights;
pub(super) mod seeds;
mod settings;

use std::collections::HashMap;
use std::num::NonZeroU32;

use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, RedisResult, Value};

use self::reach::reach;
use self::rights::Rights;
use self::settings::Settings;
use super::found::{Found, Kind, primaries};
use super::needs::Needs;
use super::trouble::Trouble;
use super::{BadUrl, RedisSettings};

/// What was found out about one Redis.
#[derive(Debug)]
pub struct Checked {
    /// Where it is.
    pub place: String,
    /// What it is, if it could be asked.
    pub about: Option<String>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// What it is.
    pub what: String,
    /// What would be right.
    pub fix: String,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It works, but something may be lost.
    Warning,
    /// Nothing is there, or not at the moment.
    Unreachable,
    /// It cannot work, or will lose what it may not lose.
    Fault,
}

impl Finding {
    fn new(weight: Weight, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            weight,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl From<&Trouble> for Finding {
    fn from(trouble: &Trouble) -> Self {
        Self::new(trouble.weight(), trouble.to_string(), trouble.fix())
    }
}

/// Tries a Redis: whether it can be reached, whether everything may be done there that the engine does, and whether it
/// is set up to keep what it is given. `replicas` are those that are waited for.
///
/// It writes a few keys of its own, which are removed, and expire after ten seconds at the latest.
///
/// # Errors
/// [`BadUrl`].
pub async fn check(settings: &RedisSettings, replicas: Option<NonZeroU32>) -> Result<Vec<Checked>, BadUrl> {
    let (mut all, mut known) = (Vec::new(), HashMap::new());
    for found in primaries(&settings.url).await? {
        let (mut checked, one) = check_one(&found, settings, replicas).await;
        if let Some(one) = one
            && let Some(before) = known.insert(one, found.name.clone())
        {
            checked.findings.push(Finding::new(
                Weight::Fault,
                format!("{} and {before} are the same Redis and the same database", found.name),
                "name it once: two names for one spread no load, and a channel would move to itself",
            ));
        }
        all.push(checked);
    }
    Ok(all)
}

/// A process, and the number of a database in it.
type One = (String, i64);

async fn check_one(found: &Found, settings: &RedisSettings, replicas: Option<NonZeroU32>) -> (Checked, Option<One>) {
    let mut checked = Checked {
        place: found.name.clone(),
        about: None,
        findings: Vec::new(),
    };
    let info = match &found.primary {
        Ok(info) => info,
        Err(why) => {
            checked.findings.push(why.clone());
            return (checked, None);
        }
    };
    checked.place = info.addr().to_string();
    let (client, mut connection) = match reach(info).await {
        Ok(reached) => reached,
        Err(trouble) => {
            checked.findings.push(Finding::from(&trouble));
            return (checked, None);
        }
    };
    let set_up = Settings::ask(&mut connection).await;
    if let Some(finding) = of_another_kind(&mut connection, &set_up, (found, info, settings)).await {
        checked.findings.push(finding);
        return (checked, None);
    }
    checked.about = set_up.about();
    checked.findings.extend(set_up.findings(replicas));
    let database = info.redis_settings().db();
    let one = set_up.run_id().map(|process| (process.to_owned(), database));
    if set_up.is_replica() {
        // What it refuses as a replica says nothing about the rights.
        return (checked, one);
    }
    let user = info.redis_settings().username().unwrap_or("default");
    let rights = Rights::new((&client, database), user, settings, found);
    // That there are too few was said.
    let waited_for = replicas.filter(|replicas| !set_up.lacks(*replicas));
    let mut findings = rights.findings(&mut connection, (replicas, waited_for)).await;
    if set_up.room(replicas).is_some() {
        // That there is none was said.
        findings.retain(|finding| *finding != Finding::from(&Trouble::Full));
    }
    checked.findings.extend(findings);
    (checked, one)
}

/// What a URL of another kind leads to. Nothing else can be said of it then.
async fn of_another_kind(
    connection: &mut MultiplexedConnection,
    set_up: &Settings,
    (found, info, settings): (&Found, &ConnectionInfo, &RedisSettings),
) -> Option<Finding> {
    if set_up.is_sentinel() {
        let mut finding = Finding::from(&Trouble::Sentinel);
        let masters = ask(connection, &["SENTINEL", "MASTERS"]).await;
        if let [name, ..] = &seeds::names_of(masters.unwrap_or(Value::Nil))[..] {
            finding.fix = format!("the URL is redis+sentinel://{}/{name}", info.addr());
        }
        return Some(finding);
    }
    if found.kind == Kind::InCluster {
        return None;
    }
    let keys = Needs::alone(&settings.prefix, info.redis_settings().db());
    let kept = keys.try_keys(connection).await;
    let trouble = kept.map_err(|error| Trouble::of(&error)).err()?;
    (trouble == Trouble::InCluster).then(|| Finding::from(&trouble))
}

/// Asks something; what the server refuses is an error.
async fn ask(connection: &mut MultiplexedConnection, words: &[&str]) -> RedisResult<Value> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    let answer = connection.send_packed_command(&command).await?;
    if let Value::ServerError(error) = answer {
        return Err(error.into());
    }
    Ok(answer)
}
