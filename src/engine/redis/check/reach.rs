//! Getting to a Redis, step by step, so that it is known which step fails: name, port, TLS, greeting.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion, RedisError};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::rustls;

use super::{Finding, Weight};

/// How long each step may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Connects, or says what stands in the way.
pub(super) async fn reach(info: &ConnectionInfo) -> Result<(Client, MultiplexedConnection), Finding> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => open_tcp(host, *port).await?,
        ConnectionAddr::Unix(path) => {
            let opened = UnixStream::connect(path).await;
            opened
                .map_err(|error| unreachable(&error, "see `unixsocket` and `unixsocketperm` of Redis, and the path"))?;
        }
        _ => {}
    }
    greet(info).await
}

fn unreachable(error: &dyn std::fmt::Display, fix: &str) -> Finding {
    Finding::new(Weight::Unreachable, format!("it cannot be reached: {error}"), fix)
}

async fn open_tcp(host: &str, port: u16) -> Result<(), Finding> {
    let no_name = |error: &dyn std::fmt::Display| {
        let what = format!("the name {host} leads nowhere: {error}");
        let fix = format!("see whether {host} is spelled right, and known to the name server of this machine");
        Finding::new(Weight::Unreachable, what, fix)
    };
    let found = match timeout(TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(no_name(&error)),
        Err(_) => return Err(no_name(&"no name server answered within 3 s")),
    };
    match timeout(TIMEOUT, TcpStream::connect(&found[..])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(unreachable(
            &error,
            "start Redis, or see whether the port is right and `bind` in redis.conf has an address that others reach",
        )),
        Ok(Err(error)) => Err(unreachable(&error, "see the way there: routes, firewalls")),
        Err(_) => Err(unreachable(
            &"no answer within 3 s",
            "see whether a firewall is in the way, or the machine is down",
        )),
    }
}

/// TLS, who we are, and the database.
async fn greet(info: &ConnectionInfo) -> Result<(Client, MultiplexedConnection), Finding> {
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(info.clone().set_redis_settings(redis)).map_err(|error| refused(&error, info))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    match timeout(TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok((client, connection)),
        Ok(Err(error)) => Err(refused(&error, info)),
        Err(_) => Err(no_greeting(info)),
    }
}

fn no_greeting(info: &ConnectionInfo) -> Finding {
    let fix = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        "see whether this is the port with TLS (`tls-port`); without TLS the URL begins with redis://"
    } else {
        "see whether Redis stands still, or this is the port with TLS (`tls-port`): then the URL begins with rediss://"
    };
    Finding::new(Weight::Unreachable, "it takes the connection and does not answer", fix)
}

fn refused(error: &RedisError, info: &ConnectionInfo) -> Finding {
    let fault = |what: String, fix: &str| Finding::new(Weight::Fault, what, fix);
    match error.code() {
        Some("WRONGPASS") => {
            return fault(
                "the user or the password is wrong, or the user is off".to_owned(),
                "redis://USER:PASSWORD@…, percent-encoded; `ACL LIST` shows the users; without a user it is `default`",
            );
        }
        Some("NOAUTH") => {
            return fault(
                "it wants a password, and the URL has none".to_owned(),
                "redis://USER:PASSWORD@…, or redis://:PASSWORD@… for `requirepass`; best in a file, by engine.redis.url_file",
            );
        }
        Some("LOADING") => {
            let what = "it is loading its data";
            return Finding::new(Weight::Unreachable, what, "wait until it has, and check again");
        }
        _ => {}
    }
    if error.kind() == ErrorKind::RESP3NotSupported {
        return fault(
            "it is older than Redis 6".to_owned(),
            "use Redis 6.2 or later, or Valkey",
        );
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return fault(
            format!("it does not let us in: {error}"),
            "see user and password in the URL; without `requirepass` and users there is no password",
        );
    }
    if let Some(tls) = tls_error(error) {
        return tls_refused(tls);
    }
    if error.is_connection_dropped() || error.is_timeout() {
        return no_greeting(info);
    }
    fault(
        format!("it refuses the connection: {error}"),
        "see the URL: user, password, and the database (`databases` in redis.conf)",
    )
}

fn tls_refused(error: &rustls::Error) -> Finding {
    use rustls::CertificateError as Bad;
    let bad = if let rustls::Error::InvalidCertificate(bad) = error {
        Some(bad)
    } else {
        None
    };
    let fix = if matches!(bad, Some(Bad::UnknownIssuer)) {
        "name the file with the authority that signed its certificate in SSL_CERT_FILE"
    } else if matches!(bad, Some(Bad::NotValidForName | Bad::NotValidForNameContext { .. })) {
        "use the host name that stands in its certificate"
    } else if matches!(bad, Some(Bad::Expired | Bad::ExpiredContext { .. })) {
        "give it a certificate that has not expired"
    } else if matches!(error, rustls::Error::InvalidMessage(_)) {
        "what answers there does not speak TLS: the URL begins with redis://, or has another port"
    } else {
        "see `tls-port`, `tls-cert-file` and `tls-auth-clients no` of Redis"
    };
    Finding::new(Weight::Fault, format!("TLS fails: {error}"), fix)
}

/// What TLS says, however deep it is wrapped.
fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        // The library keeps what it wraps in an `Arc`, which is an error of its own to `source`.
        let shared = error.downcast_ref::<Arc<dyn Error + Send + Sync>>();
        let error: &(dyn Error + 'static) = match shared {
            Some(shared) => &**shared,
            None => error,
        };
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls);
        }
        next = error.source();
    }
    None
}
