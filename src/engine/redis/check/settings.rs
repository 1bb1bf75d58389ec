//! How a Redis is set up: version, role, what it throws away, what it keeps on disk, its replicas.

use std::collections::HashMap;
use std::num::NonZeroU32;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::super::look::role_of;
use super::super::trouble::Trouble;
use super::{Finding, Weight, ask};

/// The oldest version with all that is needed.
const VERSION_MIN: (u32, u32) = (6, 2);

/// What it says of itself.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// `INFO`, as far as it may be seen.
    info: HashMap<String, String>,
    /// `CONFIG GET`, likewise.
    config: HashMap<String, String>,
    /// The first word of `ROLE`.
    role: Option<String>,
    /// Why the two cannot be seen.
    unseen: (Option<Trouble>, Option<Trouble>),
}

/// The connections that one node has: to publish, to read, and to be told of publications.
const CONNECTIONS: u64 = 3;

/// Those that it opens beside, where acks wait for replicas.
const CONNECTIONS_FOR_REPLICAS: u64 = 4;

impl Settings {
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> Self {
        const NAMES: [&str; 5] = [
            "maxmemory-policy",
            "save",
            "min-replicas-to-write",
            "cluster-require-full-coverage",
            "maxclients",
        ];
        let mut seen = Self::default();
        match ask(connection, &["INFO"]).await {
            Ok(Value::BulkString(bytes)) => seen.info = read_info(&String::from_utf8_lossy(&bytes)),
            Ok(Value::VerbatimString { text, .. }) => seen.info = read_info(&text),
            Ok(_) => {}
            Err(error) => {
                seen.unseen.0 = Some(Trouble::of(&error));
                if error.is_io_error() {
                    // What else is asked would wait as long.
                    return seen;
                }
            }
        }
        for name in NAMES {
            let answer = ask(connection, &["CONFIG", "GET", name]).await;
            match answer.and_then(|answer| Ok(redis::from_redis_value::<HashMap<String, String>>(answer)?)) {
                Ok(found) => seen.config.extend(found),
                Err(error) => seen.unseen.1 = Some(Trouble::of(&error)),
            }
        }
        let role = ask(connection, &["ROLE"]).await;
        seen.role = role.ok().and_then(|role| role_of(&role).map(str::to_owned));
        seen
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.info.get(name)?.parse().ok()
    }

    fn config_number(&self, name: &str) -> Option<u64> {
        self.config.get(name)?.parse().ok()
    }

    pub(super) fn is_replica(&self) -> bool {
        let role = self.info.get("role").or(self.role.as_ref());
        role.is_some_and(|role| role == "slave")
    }

    pub(super) fn is_sentinel(&self) -> bool {
        let is = |of: Option<&String>| of.is_some_and(|word| word == "sentinel");
        is(self.role.as_ref()) || is(self.info.get("redis_mode"))
    }

    /// Replicas whose link is up.
    fn replicas(&self) -> u64 {
        let is_online = |(name, value): &(&String, &String)| {
            let number = name.strip_prefix("slave");
            number.is_some_and(|number| number.parse::<u32>().is_ok()) && value.contains("state=online")
        };
        self.info
            .iter()
            .filter(is_online)
            .count()
            .try_into()
            .unwrap_or_default()
    }

    fn version(&self) -> Option<(&'static str, &str)> {
        let valkey = self.info.get("valkey_version").map(|version| ("Valkey", &**version));
        valkey.or_else(|| self.info.get("redis_version").map(|version| ("Redis", &**version)))
    }

    /// What it is, in a few words.
    pub(super) fn about(&self) -> Option<String> {
        let (name, version) = self.version()?;
        let role = if self.is_replica() { "a replica" } else { "a primary" };
        Some(match self.replicas() {
            0 => format!("{name} {version}, {role} without replicas"),
            1 => format!("{name} {version}, {role} with 1 replica"),
            replicas => format!("{name} {version}, {role} with {replicas} replicas"),
        })
    }

    /// Whether it says that it has fewer replicas.
    pub(super) fn lacks(&self, replicas: NonZeroU32) -> bool {
        !self.info.is_empty() && self.replicas() < u64::from(replicas.get())
    }

    /// What is wrong with it, where acks wait for so many replicas.
    pub(super) fn findings(&self, wanted: Option<NonZeroU32>) -> Vec<Finding> {
        let found = [self.unseen(), self.old_version(), self.wrong_role(), self.eviction()];
        let lasting = [
            self.persistence(),
            self.replication(wanted),
            self.lone_primary(wanted),
            self.coverage(),
            self.room(wanted),
        ];
        found.into_iter().chain(lasting).flatten().collect()
    }

    /// What tells this process from every other.
    pub(super) fn run_id(&self) -> Option<&str> {
        self.info.get("run_id").map(String::as_str)
    }

    /// A Cluster that stops as a whole when a part of it does.
    fn coverage(&self) -> Option<Finding> {
        let is = |of: &HashMap<String, String>, name: &str, value: &str| of.get(name).is_some_and(|is| is == value);
        let is_whole_or_none =
            is(&self.info, "cluster_enabled", "1") && is(&self.config, "cluster-require-full-coverage", "yes");
        is_whole_or_none.then(|| {
            Finding::new(
                Weight::Warning,
                "while some slots have no primary, publications to all others are refused, too \
                 (cluster-require-full-coverage yes)",
                "CONFIG SET cluster-require-full-coverage no on every node, and the same in redis.conf",
            )
        })
    }

    fn unseen(&self) -> Option<Finding> {
        let (what, command, trouble) = if self.info.is_empty() {
            ("how it is set up cannot be seen", "INFO", self.unseen.0.as_ref())
        } else {
            let trouble = self.unseen.1.as_ref()?;
            ("not all of how it is set up can be seen", "CONFIG GET", Some(trouble))
        };
        let look =
            "see for yourself: version, role, maxmemory-policy, appendonly, save, maxclients, min-replicas-to-write";
        let (why, fix) = match trouble {
            Some(Trouble::Denied(_)) => (
                format!("the user may not do {command}"),
                "allow it, for this check: ACL SETUSER … +info +config|get",
            ),
            Some(trouble) => (trouble.to_string(), look),
            None => (format!("{command} is answered with what cannot be read"), look),
        };
        Some(Finding::new(Weight::Warning, format!("{what}: {why}"), fix))
    }

    /// It takes too few connections, at all or at the moment.
    pub(super) fn room(&self, replicas: Option<NonZeroU32>) -> Option<Finding> {
        let most = self.number("maxclients").or_else(|| self.config_number("maxclients"))?;
        let beside = replicas.map_or(0, |_| CONNECTIONS_FOR_REPLICAS);
        let needed = CONNECTIONS + beside;
        if most < needed {
            let what = format!("it takes {most} connections (maxclients), and each node needs {needed}");
            let fix =
                "CONFIG SET maxclients 10000, and the same in redis.conf: replicas, Sentinels and tools need some, too";
            return Some(Finding::new(Weight::Fault, what, fix));
        }
        // This one is among them.
        let taken = self.number("connected_clients")?.saturating_sub(1);
        (taken + needed > most).then(|| {
            let what = format!(
                "of the {most} connections that it takes (maxclients), {taken} are taken, and a node needs {needed}"
            );
            Finding::new(Weight::Unreachable, what, Trouble::Full.fix())
        })
    }

    fn old_version(&self) -> Option<Finding> {
        // Valkey says the version of the Redis that it is like.
        let version = self.info.get("redis_version")?;
        let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
        let version_is = (numbers.next()?, numbers.next().unwrap_or(0));
        (version_is < VERSION_MIN).then(|| {
            let what = format!("Redis {version} is too old");
            Finding::new(Weight::Fault, what, "use Redis 6.2 or later, or Valkey")
        })
    }

    fn wrong_role(&self) -> Option<Finding> {
        let of = |name: &str| self.info.get(name).map_or("", String::as_str);
        self.is_replica().then(|| {
            let (host, port) = (of("master_host"), of("master_port"));
            Finding::new(
                Weight::Fault,
                format!("it is a replica of {host}:{port}, and takes no publications"),
                Trouble::Replica.fix(),
            )
        })
    }

    fn eviction(&self) -> Option<Finding> {
        let seen = self
            .info
            .get("maxmemory_policy")
            .or_else(|| self.config.get("maxmemory-policy"));
        let policy = seen?;
        (policy != "noeviction").then(|| {
            Finding::new(
                Weight::Fault,
                format!(
                    "maxmemory-policy is {policy}: when it is full it throws away logs, and idempotency keys, so that a \
                     repeated publication is stored twice"
                ),
                "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
            )
        })
    }

    fn persistence(&self) -> Option<Finding> {
        if self.number("aof_enabled") != Some(0) {
            return None;
        }
        let what = match self.config.get("save").map(String::as_str) {
            Some("") => {
                "nothing is kept on disk (appendonly no, save \"\"): a restart loses every log, and readers are told a gap"
            }
            Some(_) => {
                "only snapshots are kept on disk (appendonly no): a crash loses what came after the last one, and readers are told a gap"
            }
            None => {
                "appendonly is no: a crash loses what came after the last snapshot, if there are any, and readers are told a gap"
            }
        };
        let fix = "CONFIG SET appendonly yes, and the same in redis.conf, if logs have to survive a restart";
        Some(Finding::new(Weight::Warning, what, fix))
    }

    fn replication(&self, wanted: Option<NonZeroU32>) -> Option<Finding> {
        if self.info.is_empty() {
            return None;
        }
        let here = self.replicas();
        let least = self.config_number("min-replicas-to-write").unwrap_or(0);
        if least > here {
            let what =
                format!("min-replicas-to-write is {least}, and {here} replicas are here: publications are refused");
            return Some(Finding::new(
                Weight::Fault,
                what,
                "start replicas, or lower min-replicas-to-write",
            ));
        }
        let wanted = wanted.map_or(0, |wanted| u64::from(wanted.get()));
        (wanted > here).then(|| {
            Finding::new(
                Weight::Fault,
                format!("acks wait for {wanted} of its replicas, and it has {here}: no publication is acknowledged"),
                "start replicas, or lower ack_replicas",
            )
        })
    }

    /// A primary that goes on alone when it is cut off.
    fn lone_primary(&self, wanted: Option<NonZeroU32>) -> Option<Finding> {
        let goes_on_alone = self.config_number("min-replicas-to-write") == Some(0);
        (wanted.is_none() && goes_on_alone && self.replicas() > 0).then(|| {
            Finding::new(
                Weight::Warning,
                "it has replicas, but acknowledges without them (min-replicas-to-write 0): a primary that is cut off goes \
                 on, and a failover loses what it took meanwhile",
                "CONFIG SET min-replicas-to-write 1, or publishing.ack = \"replicated\"",
            )
        })
    }
}

fn read_info(text: &str) -> HashMap<String, String> {
    let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(info: &str, config: &[(&str, &str)]) -> Settings {
        let config = config
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings {
            info: read_info(info),
            config: config.collect(),
            ..Settings::default()
        }
    }

    const WELL: &str =
        "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";

    /// Weights and the beginnings of what is said.
    fn said(settings: &Settings, wanted: u32) -> Vec<(Weight, String)> {
        let findings = settings.findings(NonZeroU32::new(wanted));
        let begin = |what: String| what.split(':').next().unwrap_or_default().to_owned();
        findings
            .into_iter()
            .map(|finding| (finding.weight, begin(finding.what)))
            .collect()
    }

    #[test]
    fn what_is_well_has_no_findings() {
        assert_eq!(said(&settings(WELL, &[]), 0), []);
        let replica = format!("{WELL}connected_slaves:1\r\nslave0:ip=::1,port=1,state=online,offset=1,lag=0\r\n");
        let with_replica = settings(&replica, &[("min-replicas-to-write", "1")]);
        assert_eq!(said(&with_replica, 1), []);
        assert_eq!(with_replica.about().unwrap(), "Redis 7.0.15, a primary with 1 replica");
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        let of = |from: &str, to: &str| settings(&WELL.replace(from, to), &[]);
        let fault = |what: &str| vec![(Weight::Fault, what.to_owned())];
        assert_eq!(said(&of("7.0.15", "6.0.16"), 0), fault("Redis 6.0.16 is too old"));
        assert_eq!(
            said(&of("noeviction", "volatile-lru"), 0),
            fault("maxmemory-policy is volatile-lru")
        );
        let replica = of("role:master", "role:slave\r\nmaster_host:h\r\nmaster_port:1");
        assert_eq!(said(&replica, 0), fault("it is a replica of h"));
        let alone = "acks wait for 2 of its replicas, and it has 0";
        assert_eq!(said(&settings(WELL, &[]), 2), fault(alone));
        let refuses = "min-replicas-to-write is 1, and 0 replicas are here";
        assert_eq!(
            said(&settings(WELL, &[("min-replicas-to-write", "1")]), 0),
            fault(refuses)
        );
        for (save, what) in [
            ("", "nothing is kept on disk"),
            ("3600 1", "only snapshots are kept on disk"),
        ] {
            let unkept = settings(&WELL.replace("aof_enabled:1", "aof_enabled:0"), &[("save", save)]);
            let [(Weight::Warning, told)] = &said(&unkept, 0)[..] else {
                panic!("{save}")
            };
            assert!(told.starts_with(what), "{told}");
        }
        assert_eq!(said(&settings("", &[]), 0)[0].0, Weight::Warning);
        let in_cluster = |whole: &str| {
            let info = format!("{WELL}cluster_enabled:1\r\n");
            said(&settings(&info, &[("cluster-require-full-coverage", whole)]), 0)
        };
        assert!(in_cluster("yes")[0].1.starts_with("while some slots have no primary"));
        assert_eq!(in_cluster("no"), []);
    }
}
