//! Why a Redis cannot be used: each way has its words, what would be right, and how bad it is.
//!
//! The check and the running server say the same of the same. What anybody may read (`/readyz`) names no address, no
//! user and nothing that came from the other side.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use redis::{ConnectionAddr, ErrorKind, RedisError, RedisResult, ServerError};
use tokio_rustls::rustls;

use super::check::Weight;

/// What stands in the way.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// Nothing takes connections there, or nothing leads there.
    Away(String),
    /// Its Unix socket cannot be connected to.
    NoSocket(String),
    /// The name of the host is nobody's.
    Nameless(String),
    /// It did not answer in time, be it the machine or who listens there.
    Late,
    /// It takes connections and says nothing.
    Silent,
    /// It ends connections without a word.
    HangsUp,
    /// What answers is no Redis: what it is, or the beginning of what it says.
    Stranger(Option<String>),
    /// There is TLS, and the URL says that there is none.
    SpeaksTls,
    /// There is no TLS, and the URL says that there is.
    SpeaksPlainly,
    Tls(rustls::Error),
    /// The authorities that certificates are checked by cannot be read here.
    NoAuthorities(String),
    WrongPassword,
    WantsPassword,
    /// It takes connections from its own machine only.
    Protected,
    /// It has as many connections as it may.
    Full,
    Loading,
    /// Commands that it does not know.
    Unknown(String),
    /// What the user may not do, as Redis says it.
    Denied(String),
    NoDatabase,
    /// A Sentinel, where a Redis should be.
    Sentinel,
    NoSentinel,
    /// A Sentinel that does not know the name.
    NoService,
    /// A Sentinel that knows the name, and does not say where the primary is.
    NoPrimary,
    /// A node of a Cluster, where a Redis should be that keeps all.
    InCluster,
    NoCluster,
    /// A node that knows none that has slots.
    NoSlots,
    /// A Cluster of before version 7.
    OldCluster,
    Replica,
    /// A slot was given away in the middle of an answer: what is answered to what is not known any more.
    GivenAway,
    /// An answer that is not of the kind that was asked for.
    Unreadable(String),
    /// Whatever else it says.
    Refused(String),
}

impl Trouble {
    /// What an error says.
    pub(super) fn of(error: &RedisError) -> Self {
        if let Some(known) = cause::<Self>(error) {
            return known.clone();
        }
        if let Some(tls) = cause::<rustls::Error>(error) {
            let is_other_language = matches!(tls, rustls::Error::InvalidMessage(_));
            return if is_other_language {
                Self::SpeaksPlainly
            } else {
                Self::Tls(tls.clone())
            };
        }
        if let Some(code) = error.code() {
            return Self::of_words(code, error.detail().unwrap_or_default());
        }
        let kind = error.kind();
        if kind == ErrorKind::Parse {
            Self::Stranger(None)
        } else if kind == ErrorKind::RESP3NotSupported {
            Self::Unknown("HELLO".to_owned())
        } else if kind == ErrorKind::AuthenticationFailed {
            Self::WrongPassword
        } else if kind == ErrorKind::UnexpectedReturnType {
            Self::Unreadable(error.to_string())
        } else {
            Self::of_io(error)
        }
    }

    /// What a Redis says that refuses something.
    pub(super) fn of_refusal(error: &ServerError) -> Self {
        Self::of_words(error.code(), error.details().unwrap_or_default())
    }

    pub(super) fn of_words(code: &str, detail: &str) -> Self {
        match code {
            "WRONGPASS" => Self::WrongPassword,
            "NOAUTH" => Self::WantsPassword,
            "DENIED" => Self::Protected,
            "LOADING" => Self::Loading,
            "NOPERM" => Self::Denied(detail.to_owned()),
            "MOVED" => Self::InCluster,
            // The library leaves out the word before it.
            _ if detail.contains("no permissions to run") => Self::Denied(detail.to_owned()),
            _ if detail.starts_with("max number of clients") => Self::Full,
            _ if detail.contains("cluster support disabled") => Self::NoCluster,
            _ if detail.starts_with("No such master") => Self::NoService,
            _ if detail.contains("not allowed in cluster mode") => Self::InCluster,
            _ if detail.contains("DB index is out of range") => Self::NoDatabase,
            _ => match unknown_command(detail).as_deref() {
                Some("SENTINEL") => Self::NoSentinel,
                Some(command) => Self::Unknown(command.to_owned()),
                None => Self::Refused(shown(code, detail)),
            },
        }
    }

    fn of_io(error: &RedisError) -> Self {
        if error.is_timeout() {
            return Self::Late;
        }
        // Of the library that reads them there is no more to go by.
        if error.to_string().contains("PEM") {
            return Self::NoAuthorities(error.to_string());
        }
        match cause::<io::Error>(error) {
            Some(io) if [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied].contains(&io.kind()) => {
                Self::NoSocket(io.to_string())
            }
            Some(io) if io.kind() == io::ErrorKind::ConnectionRefused => Self::Away(io.to_string()),
            _ if error.is_connection_dropped() => Self::HangsUp,
            Some(io) if io.to_string().starts_with("failed to lookup address") => Self::Nameless(io.to_string()),
            _ => Self::Away(error.to_string()),
        }
    }

    /// The same, met where this address leads.
    pub(super) fn at(self, address: &ConnectionAddr) -> Self {
        let is_socket = matches!(address, ConnectionAddr::Unix(_));
        // A network may refuse it, too.
        if let (Self::NoSocket(why), false) = (&self, is_socket) {
            return Self::Away(why.clone());
        }
        self
    }

    /// Whether a look at what is there could say more.
    pub(super) fn is_vague(&self) -> bool {
        matches!(
            self,
            Self::Late | Self::HangsUp | Self::Stranger(None) | Self::SpeaksPlainly | Self::Unknown(_)
        )
    }

    pub(super) fn weight(&self) -> Weight {
        match self {
            Self::Away(_)
            | Self::NoSocket(_)
            | Self::Nameless(_)
            | Self::Late
            | Self::Silent
            | Self::HangsUp
            | Self::Full
            | Self::Loading
            | Self::NoPrimary
            | Self::GivenAway
            | Self::NoSlots => Weight::Unreachable,
            Self::Stranger(_)
            | Self::SpeaksTls
            | Self::SpeaksPlainly
            | Self::Tls(_)
            | Self::NoAuthorities(_)
            | Self::WrongPassword
            | Self::WantsPassword
            | Self::Protected
            | Self::Unknown(_)
            | Self::Denied(_)
            | Self::NoDatabase
            | Self::Sentinel
            | Self::NoSentinel
            | Self::NoService
            | Self::InCluster
            | Self::NoCluster
            | Self::OldCluster
            | Self::Replica
            | Self::Unreadable(_)
            | Self::Refused(_) => Weight::Fault,
        }
    }

    /// What it is, for anybody to read: nothing of the other side's is in it.
    pub(super) fn brief(&self) -> &'static str {
        match self {
            Self::Away(_) | Self::NoSocket(_) => "nothing takes connections there",
            Self::Nameless(_) => "its name leads nowhere",
            Self::Late => "it does not answer",
            Self::Silent => "it takes the connection and does not answer",
            Self::HangsUp => "it takes the connection and ends it without a word",
            Self::Stranger(_) => "what answers there is no Redis",
            Self::SpeaksTls => "it speaks TLS there, and the URL says that it does not",
            Self::SpeaksPlainly => "it does not speak TLS there, and the URL says that it does",
            Self::Tls(_) => "TLS fails",
            Self::NoAuthorities(_) => "the authorities for TLS cannot be read here",
            Self::WrongPassword => "the user or the password is wrong, or the user is off",
            Self::WantsPassword => "it wants a password, and the URL has none",
            Self::Protected => "it takes connections from its own machine only (protected-mode)",
            Self::Full => "it has as many connections as it may (maxclients)",
            Self::Loading => "it is loading its data",
            Self::Unknown(_) => "a command that is needed is not known there: renamed, disabled or too new",
            Self::Denied(_) => "the user may not do all that is needed",
            Self::NoDatabase => "it has no database of that number",
            Self::Sentinel => "it is a Sentinel, which keeps nothing",
            Self::NoSentinel => "it is no Sentinel: it does not know SENTINEL",
            Self::NoService => "the Sentinel watches nothing of that name",
            Self::NoPrimary => "the Sentinel does not say where the primary is",
            Self::InCluster => "it is a node of a Cluster: other nodes keep channels, too",
            Self::NoCluster => "it is a Redis by itself, and no node of a Cluster",
            Self::NoSlots => "it knows no node that has slots",
            Self::OldCluster => "a Cluster needs Redis 7 or later: this one does not know SPUBLISH",
            Self::Replica => "it is a replica, and takes no publications",
            Self::GivenAway => "a slot was given away in the middle of an answer",
            Self::Unreadable(_) => "it is answered with what cannot be read",
            Self::Refused(_) => "it refuses what it is asked",
        }
    }

    /// What would be right.
    pub(super) fn fix(&self) -> &'static str {
        match self {
            Self::Away(_) => {
                "start Redis, or see whether host and port are right, `bind` in redis.conf has an address that others \
                 reach, and no firewall is in the way"
            }
            Self::NoSocket(_) => "see `unixsocket` and `unixsocketperm` of Redis, and the path",
            Self::Nameless(_) => "see whether the host is spelled right, and known to the name server of this machine",
            Self::Late => "see whether a firewall is in the way, or the machine is down, or Redis stands still",
            Self::Silent => {
                "see whether Redis stands still, or something else listens there; if it is a Redis with TLS \
                 (`tls-port`), the URL begins with rediss://, and if without, with redis://"
            }
            Self::HangsUp => "see whether this is the port of Redis, and what stands before it",
            Self::Stranger(_) => "see host and port in the URL: Redis is at another",
            Self::SpeaksTls => {
                "the URL begins with rediss:// instead of redis://, or has the port without TLS (`port`)"
            }
            Self::SpeaksPlainly => {
                "the URL begins with redis:// instead of rediss://, or has the port with TLS (`tls-port`)"
            }
            Self::Tls(error) => fix_of_tls(error),
            Self::NoAuthorities(_) => "see SSL_CERT_FILE and SSL_CERT_DIR, and who may read what they name",
            Self::WrongPassword => {
                "redis://USER:PASSWORD@…, percent-encoded; `ACL LIST` shows the users; without a user it is `default`"
            }
            Self::WantsPassword => {
                "redis://USER:PASSWORD@…, or redis://:PASSWORD@… for `requirepass`; best in a file, by \
                 engine.redis.url_file"
            }
            Self::Protected => "give it a password (`requirepass`, or users by ACL SETUSER) and the URL, too",
            Self::Full => {
                "raise `maxclients` (and the open files that it may have), or see who is connected: CLIENT LIST"
            }
            Self::Loading => "wait until it has, and check again",
            Self::Unknown(_) => {
                "remove its `rename-command` from redis.conf; a service that keeps it from its users cannot be used"
            }
            Self::Denied(_) => "`throughline check --connect` names all rights that are missing",
            Self::NoDatabase => "use a lower number behind the port, or raise `databases` in redis.conf",
            Self::Sentinel => {
                "the URL is redis+sentinel://HOST:PORT/NAME, with the name of the primary that it watches"
            }
            Self::NoSentinel => "the URL begins with redis://, or has the port of a Sentinel (26379)",
            Self::NoService => "the name behind the host in the URL is that of `sentinel monitor` in sentinel.conf",
            Self::NoPrimary => "see what SENTINEL MASTER says there of the name: its flags, ip, port and config-epoch",
            Self::InCluster => "the URL begins with redis+cluster://",
            Self::NoCluster => "the URL begins with redis://, or `cluster-enabled yes` in redis.conf",
            Self::NoSlots => "make the Cluster: redis-cli --cluster create HOST:PORT HOST:PORT …",
            Self::OldCluster => "use Redis 7 or later, or Valkey",
            Self::Replica => "lead the URL to the primary, or to its Sentinels, who know which that is",
            Self::GivenAway => "it is connected to again by itself",
            Self::Unreadable(_) | Self::Refused(_) => {
                "see whether this is a Redis, and not something before it that lacks what is asked"
            }
        }
    }

    /// What would be right, if it is a Sentinel's: it has users of its own.
    pub(super) fn fix_of_sentinel(&self) -> &'static str {
        if matches!(self, Self::WrongPassword | Self::WantsPassword) {
            "the Sentinels' own user and password are ?sentinel_username=…&sentinel_password=… behind the name"
        } else if matches!(self, Self::Denied(_)) {
            "allow it to their user: ACL SETUSER … +sentinel +role"
        } else {
            self.fix()
        }
    }
}

/// What it is, in full.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) | Self::NoSocket(why) => write!(f, "it cannot be reached: {why}"),
            Self::Nameless(why) => write!(f, "its name leads nowhere: {why}"),
            Self::Stranger(Some(what)) => write!(f, "what answers there is no Redis, but {what}"),
            Self::Tls(error) => write!(f, "TLS fails: {error}"),
            Self::NoAuthorities(why) => write!(f, "the authorities for TLS cannot be read here: {why}"),
            Self::Unknown(command) if command == "HELLO" => {
                f.write_str("it does not know HELLO: that is renamed or disabled, or this is older than Redis 6")
            }
            Self::Unknown(commands) => {
                let are = if commands.contains(' ') { "they are" } else { "that is" };
                write!(f, "it does not know {commands}: {are} renamed or disabled")
            }
            Self::Denied(why) => write!(f, "the user may not do all that is needed: {why}"),
            Self::Unreadable(why) => write!(f, "it is answered with what cannot be read: {why}"),
            Self::Refused(why) => write!(f, "it refuses what it is asked: {why}"),
            Self::Stranger(None)
            | Self::Late
            | Self::Silent
            | Self::HangsUp
            | Self::SpeaksTls
            | Self::SpeaksPlainly
            | Self::WrongPassword
            | Self::WantsPassword
            | Self::Protected
            | Self::Full
            | Self::Loading
            | Self::NoDatabase
            | Self::Sentinel
            | Self::NoSentinel
            | Self::NoService
            | Self::NoPrimary
            | Self::InCluster
            | Self::NoCluster
            | Self::NoSlots
            | Self::OldCluster
            | Self::GivenAway
            | Self::Replica => f.write_str(self.brief()),
        }
    }
}

impl Error for Trouble {}

impl From<Trouble> for RedisError {
    fn from(trouble: Trouble) -> Self {
        io::Error::other(trouble).into()
    }
}

fn fix_of_tls(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else {
        return "see `tls-port`, `tls-cert-file` and `tls-auth-clients no` of Redis";
    };
    if matches!(bad, Bad::UnknownIssuer) {
        "name the file with the authority that signed its certificate in SSL_CERT_FILE"
    } else if matches!(bad, Bad::NotValidForName | Bad::NotValidForNameContext { .. }) {
        "use the host name that stands in its certificate"
    } else if matches!(bad, Bad::Expired | Bad::ExpiredContext { .. }) {
        "give it a certificate that has not expired"
    } else {
        "see `tls-cert-file` of Redis, and SSL_CERT_FILE here"
    }
}

/// Those who answered, or of those who did not the one with the gravest trouble: its place among them, and why.
pub(super) fn answered<T>(asked: Vec<RedisResult<T>>) -> Result<Vec<T>, (usize, RedisError)> {
    let (mut answers, mut gravest) = (Vec::new(), None);
    for (at, asked) in asked.into_iter().enumerate() {
        match (asked, &gravest) {
            (Ok(answer), _) => answers.push(answer),
            (Err(error), Some((_, known))) if Trouble::of(&error).weight() <= Trouble::of(known).weight() => {}
            (Err(error), _) => gravest = Some((at, error)),
        }
    }
    match gravest {
        Some(gravest) if answers.is_empty() => Err(gravest),
        _ => Ok(answers),
    }
}

/// The command that is not known. What Redis says of its arguments is left out: of `HELLO` they are the password.
pub(super) fn unknown_command(detail: &str) -> Option<String> {
    if detail.to_ascii_lowercase().contains("redis command called from script") {
        return Some("a command that a script calls".to_owned());
    }
    let rest = detail.strip_prefix("unknown command")?.trim_start();
    let quote = rest.chars().next().filter(|quote| "'`".contains(*quote))?;
    let name = rest[1..].split(quote).next()?;
    Some(name.to_ascii_uppercase())
}

/// What a Redis says, without what it repeats of what it was told.
pub(super) fn shown(code: &str, detail: &str) -> String {
    let detail = detail.split(", with args beginning with").next().unwrap_or_default();
    format!("{code} {detail}").trim_end().to_owned()
}

/// What is at the bottom of an error, however deep it is wrapped.
fn cause<T: Error + 'static>(error: &RedisError) -> Option<&T> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        // The library keeps what it wraps in an `Arc`, which is an error of its own to `source`.
        let shared = error.downcast_ref::<Arc<dyn Error + Send + Sync>>();
        let error: &(dyn Error + 'static) = match shared {
            Some(shared) => &**shared,
            None => error,
        };
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<T>()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_told_apart() {
        for (code, detail, expected) in [
            ("ERR", "max number of clients reached", Trouble::Full),
            ("ERR", "This instance has cluster support disabled", Trouble::NoCluster),
            ("ERR", "No such master with that name", Trouble::NoService),
            ("ERR", "SELECT is not allowed in cluster mode", Trouble::InCluster),
            ("ERR", "DB index is out of range", Trouble::NoDatabase),
            (
                "ERR",
                "unknown command 'SENTINEL', with args beginning with: 'MASTER' 'm' ",
                Trouble::NoSentinel,
            ),
            (
                "ERR",
                "unknown command `ROLE`, with args beginning with: ",
                Trouble::Unknown("ROLE".to_owned()),
            ),
        ] {
            assert_eq!(Trouble::of_words(code, detail), expected, "{detail}");
        }
    }

    #[test]
    fn the_password_that_redis_repeats_is_not_shown() {
        let detail = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'app' 'hunter2' ";
        let said = Trouble::of_words("ERR", detail).to_string();
        assert!(said.contains("HELLO") && !said.contains("hunter2"), "{said}");
        let detail = "odd, with args beginning with: 'hunter2'";
        assert_eq!(Trouble::of_words("ERR", detail), Trouble::Refused("ERR odd".to_owned()));
    }

    #[test]
    fn what_is_wrapped_is_found_again() {
        assert_eq!(Trouble::of(&RedisError::from(Trouble::Sentinel)), Trouble::Sentinel);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(matches!(Trouble::of(&RedisError::from(refused)), Trouble::Away(_)));
        let late = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(Trouble::of(&RedisError::from(late)), Trouble::Late);
    }

    /// It was said to be out of reach, by whom it had just answered.
    #[test]
    fn what_answers_with_something_odd_is_not_out_of_reach() {
        let odd = RedisError::from((ErrorKind::UnexpectedReturnType, "no map"));
        for error in [odd, Trouble::NoPrimary.into(), Trouble::GivenAway.into()] {
            let said = Trouble::of(&error).to_string();
            assert!(!said.contains("reached"), "{said}");
        }
    }

    /// What a network refuses was taken for a Unix socket's permissions.
    #[test]
    fn only_where_a_unix_socket_should_be_is_one_missed() {
        let refused = RedisError::from(io::Error::from(io::ErrorKind::PermissionDenied));
        let at = |address: ConnectionAddr| Trouble::of(&refused).at(&address);
        let host = ConnectionAddr::Tcp("localhost".to_owned(), 6379);
        assert!(matches!(at(host), Trouble::Away(_)));
        let path = ConnectionAddr::Unix("/run/redis.sock".into());
        assert!(matches!(at(path), Trouble::NoSocket(_)));
    }
}
