//! URLs: where Redis is, alone, behind Sentinels, several side by side, or a Cluster.

use std::fmt;
use std::sync::Arc;

use redis::{ConnectionInfo, IntoConnectionInfo, RedisError};

/// How many of them may be side by side.
const SITES_MAX: usize = 64;

const SENTINEL_PORT: u16 = 26_379;
const PORT: u16 = 6_379;

/// What the URLs say.
#[derive(Debug)]
pub(super) enum Sites {
    /// One, or several that know nothing of each other.
    Apart(Vec<Site>),
    /// Nodes of a Cluster, which know the others.
    Cluster(Vec<ConnectionInfo>),
}

/// One that keeps logs.
#[derive(Debug)]
pub(super) struct Site {
    /// What channels are spread by.
    pub(super) name: Arc<str>,
    pub(super) database: i64,
    pub(super) way: Way,
}

impl Site {
    /// Whether the URLs lead to the same, whoever they say that one is.
    fn is_same_place(&self, other: &Self) -> bool {
        let is_same_way = match (&self.way, &other.way) {
            (Way::Straight(one), Way::Straight(other)) => one.addr() == other.addr(),
            (Way::Sentinels(one), Way::Sentinels(other)) => {
                let is_shared = |at: &ConnectionInfo| other.sentinels.iter().any(|other| other.addr() == at.addr());
                one.name == other.name && one.sentinels.iter().any(is_shared)
            }
            _ => false,
        };
        is_same_way && self.database == other.database
    }
}

/// How it is found.
#[derive(Debug)]
pub(super) enum Way {
    Straight(ConnectionInfo),
    Sentinels(Service),
}

/// A primary that Sentinels watch.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) sentinels: Vec<ConnectionInfo>,
    /// How to talk to the primary; its address is one of a Sentinel.
    pub(super) primary: ConnectionInfo,
}

impl Sites {
    /// In a few words, without users and passwords.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Apart(sites) => {
                let names: Vec<_> = sites.iter().map(|site| &*site.name).collect();
                names.join(", ")
            }
            Self::Cluster(seeds) => {
                let seeds: Vec<_> = seeds.iter().map(|seed| seed.addr().to_string()).collect();
                format!("the Cluster of {}", seeds.join(", "))
            }
        }
    }

    /// Reads URLs with white space between them.
    pub(super) fn parse(text: &str) -> Result<Self, BadUrl> {
        let urls: Vec<_> = text.split_whitespace().map(Url::split).collect::<Result<_, _>>()?;
        if let [url] = &urls[..]
            && url.kind == Kind::Cluster
        {
            return url.cluster().map(Self::Cluster);
        }
        if urls.iter().any(|url| url.kind == Kind::Cluster) {
            return Err(BadUrl::new("a Cluster stands alone: it spreads the channels by itself"));
        }
        if urls.is_empty() {
            return Err(BadUrl::new(
                "it is empty, and so may be the variable or the file that it comes from; leave the key out for \
                 redis://127.0.0.1:6379/0",
            ));
        }
        if urls.len() > SITES_MAX {
            let count = urls.len();
            return Err(BadUrl::new(format!(
                "at most {SITES_MAX} of them, and here are {count}"
            )));
        }
        let sites: Vec<_> = urls.iter().map(Url::site).collect::<Result<_, _>>()?;
        for (at, site) in sites.iter().enumerate() {
            for before in &sites[..at] {
                if before.name == site.name {
                    return Err(BadUrl::new(format!("{} is named twice", site.name)));
                }
                if before.is_same_place(site) {
                    let why = format!(
                        "{} and {} are the same Redis and the same database",
                        before.name, site.name
                    );
                    return Err(BadUrl::new(why));
                }
            }
        }
        Ok(Self::Apart(sites))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Sentinel,
    Cluster,
}

/// A URL in parts, percent-encoded as they were.
#[derive(Debug)]
struct Url<'a> {
    kind: Kind,
    /// `redis` or `rediss`, for those that have several hosts.
    scheme: &'a str,
    user: Option<&'a str>,
    hosts: Vec<&'a str>,
    path: &'a str,
    query: &'a str,
    name: Option<&'a str>,
    /// Without the name.
    whole: &'a str,
}

impl<'a> Url<'a> {
    fn split(url: &'a str) -> Result<Self, BadUrl> {
        let (whole, name) = match url.split_once('#') {
            Some((whole, name)) => (whole, Some(name)),
            None => (url, None),
        };
        let (full_scheme, rest) = whole.split_once("://").ok_or_else(|| BadUrl::new("it has no `://`"))?;
        let (kind, scheme) = match full_scheme {
            "redis+sentinel" => (Kind::Sentinel, "redis"),
            "rediss+sentinel" => (Kind::Sentinel, "rediss"),
            "redis+cluster" => (Kind::Cluster, "redis"),
            "rediss+cluster" => (Kind::Cluster, "rediss"),
            "redis" | "rediss" | "redis+unix" | "unix" | "valkey" | "valkeys" | "valkey+unix" => {
                (Kind::Plain, full_scheme)
            }
            "sentinel" | "redis-sentinel" => {
                return Err(BadUrl::new(
                    "Sentinels are written redis+sentinel://host:26379,host:26379/service",
                ));
            }
            "rediss-sentinel" => {
                return Err(BadUrl::new(
                    "Sentinels with TLS are written rediss+sentinel://host:26379,host:26379/service",
                ));
            }
            _ => return Err(BadUrl::new(format!("the scheme {full_scheme}:// is not known"))),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if name.is_some_and(|name| name.is_empty() || name.len() > 64) {
            return Err(BadUrl::new("a name after `#` has 1 to 64 characters"));
        }
        Ok(Self {
            kind,
            scheme,
            user,
            hosts: hosts.split(',').collect(),
            path,
            query,
            name,
            whole,
        })
    }

    /// How to talk to one of several hosts.
    fn host(&self, host: &str, (user, port, database): (Option<&str>, u16, &str)) -> Result<ConnectionInfo, BadUrl> {
        if host.is_empty() {
            return Err(BadUrl::new("a host is missing"));
        }
        let has_port = host.rsplit_once(']').map_or(host, |(_, after)| after).contains(':');
        let port = if has_port { String::new() } else { format!(":{port}") };
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        info(&format!("{}://{user}{host}{port}/{database}", self.scheme))
    }

    fn site(&self) -> Result<Site, BadUrl> {
        if self.kind == Kind::Sentinel {
            return self.service();
        }
        // The only fragment that the library knows.
        let is_insecure = self.name == Some("insecure") && self.scheme == "rediss";
        let info = info(&if is_insecure {
            format!("{}#insecure", self.whole)
        } else {
            self.whole.to_owned()
        })?;
        let database = info.redis_settings().db();
        let name = self.name.filter(|_| !is_insecure);
        Ok(Site {
            name: name
                .map_or_else(|| format!("{}/{database}", info.addr()), str::to_owned)
                .into(),
            database,
            way: Way::Straight(info),
        })
    }

    fn service(&self) -> Result<Site, BadUrl> {
        let (service, database) = self.path.split_once('/').unwrap_or((self.path, ""));
        if service.is_empty() {
            return Err(BadUrl::new(
                "the name of the primary that the Sentinels watch is missing: redis+sentinel://host:26379/mymaster",
            ));
        }
        let (mut user, mut password) = ("", None);
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sentinel_username", value)) => user = value,
                Some(("sentinel_password", value)) => password = Some(value),
                _ => {
                    return Err(BadUrl::new(
                        "behind `?`, sentinel_username=… and sentinel_password=… are known",
                    ));
                }
            }
        }
        let sentinel_user = password.map(|password| format!("{user}:{password}"));
        let sentinels = self.hosts.iter().map(|host| {
            let of_sentinel = (sentinel_user.as_deref(), SENTINEL_PORT, "");
            self.host(host, of_sentinel)
        });
        let primary = self.host(self.hosts[0], (self.user, SENTINEL_PORT, database))?;
        let database = primary.redis_settings().db();
        Ok(Site {
            name: self
                .name
                .map_or_else(|| format!("{service}/{database}"), str::to_owned)
                .into(),
            database,
            way: Way::Sentinels(Service {
                name: service.to_owned(),
                sentinels: sentinels.collect::<Result<_, _>>()?,
                primary,
            }),
        })
    }

    fn cluster(&self) -> Result<Vec<ConnectionInfo>, BadUrl> {
        if !matches!(self.path, "" | "0") {
            return Err(BadUrl::new("a Cluster has the database 0 alone"));
        }
        if !self.query.is_empty() {
            return Err(BadUrl::new("a Cluster's URL has nothing behind `?`"));
        }
        let hosts = self.hosts.iter().map(|host| self.host(host, (self.user, PORT, "")));
        hosts.collect()
    }
}

fn info(url: &str) -> Result<ConnectionInfo, BadUrl> {
    url.into_connection_info().map_err(|error| BadUrl::of(&error))
}

/// A URL that says nothing about where Redis is. It is not shown: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadUrl(String);

impl BadUrl {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    pub(super) fn of(error: &RedisError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not the URL of a Redis, like redis://127.0.0.1:6379/0, rediss://user:password@host, redis+unix:///path, \
             redis+sentinel://host,host/mymaster or redis+cluster://host,host: {}",
            self.0
        )
    }
}

impl std::error::Error for BadUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(text: &str) -> Vec<Site> {
        match Sites::parse(text) {
            Ok(Sites::Apart(sites)) => sites,
            other => panic!("{other:?}"),
        }
    }

    fn service(text: &str) -> Service {
        match apart(text).remove(0).way {
            Way::Sentinels(service) => service,
            Way::Straight(info) => panic!("{info:?}"),
        }
    }

    fn addresses(infos: &[ConnectionInfo]) -> Vec<String> {
        infos.iter().map(|info| info.addr().to_string()).collect()
    }

    #[test]
    fn sentinels_have_ports_of_their_own_and_users_of_their_own() {
        let service = service(
            "redis+sentinel://app:p%40ss@one,two:5000,[::1]/mymaster/3?sentinel_username=s&sentinel_password=q%2F",
        );
        assert_eq!(addresses(&service.sentinels), ["one:26379", "two:5000", "::1:26379"]);
        let (sentinel, primary) = (service.sentinels[0].redis_settings(), service.primary.redis_settings());
        assert_eq!((sentinel.username(), sentinel.password()), (Some("s"), Some("q/")));
        assert_eq!(
            (primary.username(), primary.password(), primary.db()),
            (Some("app"), Some("p@ss"), 3)
        );
        assert_eq!(service.name, "mymaster");
    }

    #[test]
    fn tls_is_for_sentinels_and_primary_alike() {
        let service = service("rediss+sentinel://one/m");
        let is_tls = |info: &ConnectionInfo| matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. });
        assert!(is_tls(&service.primary) && service.sentinels.iter().all(is_tls));
    }

    #[test]
    fn several_are_told_apart_by_address_or_by_the_name_that_they_are_given() {
        let sites = apart("redis://one\nredis://u:p@two:7000/1#second  redis+sentinel://s/m");
        let names: Vec<_> = sites.iter().map(|site| &*site.name).collect();
        assert_eq!(names, ["one:6379/0", "second", "m/0"]);
        assert_eq!(sites[1].database, 1);
        assert_eq!(
            apart("redis://a/1 redis://a/2 redis+sentinel://s/m redis+sentinel://s/n").len(),
            4
        );
    }

    #[test]
    fn a_cluster_is_known_by_some_of_its_nodes() {
        match Sites::parse("rediss+cluster://app:x@one,two:7000").unwrap() {
            Sites::Cluster(seeds) => assert_eq!(addresses(&seeds), ["one:6379", "two:7000"]),
            Sites::Apart(sites) => panic!("{sites:?}"),
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, why) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("redis://:hunter2@a/1#x redis://a/1#y", "x and y are the same Redis"),
            (
                "redis+sentinel://a,b/m#x redis+sentinel://b,c/m#y",
                "x and y are the same Redis",
            ),
            ("redis", "`://`"),
            ("http://:hunter2@host", "http://"),
            ("redis://:hunter2@host/x", "database"),
            ("redis+sentinel://:hunter2@host", "mymaster"),
            ("redis+sentinel://:hunter2@host,/m", "host is missing"),
            ("redis+sentinel://host/m?sentinel_pasword=hunter2", "sentinel_password"),
            ("redis+sentinel://host:hunter2/m", "did not parse"),
            ("sentinel://:hunter2@host/m", "redis+sentinel://"),
            ("redis+cluster://:hunter2@host/1", "database 0"),
            ("redis+cluster://a redis://b", "stands alone"),
            ("redis://u:hunter2@a redis://v:hunter2@a", "a:6379/0 is named twice"),
        ] {
            let said = Sites::parse(url).unwrap_err().to_string();
            assert!(said.contains(why) && !said.contains("hunter2"), "{url}: {said}");
        }
    }
}
