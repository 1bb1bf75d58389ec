//! A look at what is there, where an error says little: who answers, and in which language.

use std::time::Duration;

use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::link::dial;
use super::trouble::Trouble;

/// How long each step may take.
const STEP_MAX: Duration = Duration::from_secs(1);

/// How long it may take to say something unasked.
const GREETING_MAX: Duration = Duration::from_millis(100);

/// As much as is shown of what somebody says who is no Redis.
const SHOWN_MAX: usize = 60;

/// The same trouble, or what a look says of it. It takes a few seconds at most. A password is sent only to whoever was
/// sent it before, and has answered since: to ask whether that is a Sentinel.
pub(super) async fn look(trouble: Trouble, info: &ConnectionInfo) -> Trouble {
    if let Trouble::Unknown(command) = &trouble {
        let is_sentinel = ["CLUSTER", "SELECT"].contains(&command.as_str()) && is_sentinel(info).await;
        return if is_sentinel { Trouble::Sentinel } else { trouble };
    }
    let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = info.addr() else {
        return trouble;
    };
    if !trouble.is_vague() {
        return trouble;
    }
    let address = (host.as_str(), *port);
    let wants_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let heard = match listen(address).await {
        Ok(heard) => heard,
        Err(found) => return found,
    };
    match heard.as_deref().map(Speech::of) {
        Some(Speech::Redis(line)) => {
            said_by_redis(&line).unwrap_or(if wants_tls { Trouble::SpeaksPlainly } else { trouble })
        }
        // Over TLS it is known to be somebody else; without, only what it says there is.
        Some(Speech::Other(what)) => Trouble::Stranger(Some(what)),
        Some(Speech::Tls | Speech::Nothing) | None => {
            if !wants_tls && speaks_tls(address, info).await {
                return Trouble::SpeaksTls;
            }
            match (trouble, heard) {
                (Trouble::Stranger(None), _) if wants_tls => {
                    Trouble::Stranger(Some("something else with TLS".to_owned()))
                }
                (Trouble::Late, None) => Trouble::Silent,
                // Whoever speaks TLS ends what is none, be it late or not.
                (Trouble::Late, Some(_)) if !wants_tls => Trouble::HangsUp,
                (other, _) => other,
            }
        }
    }
}

/// What is said there, unasked or when asked as a Redis is without TLS: `None` if nothing is, though the connection stays.
async fn listen(address: (&str, u16)) -> Result<Option<Vec<u8>>, Trouble> {
    let away = |why: String| Trouble::Away(why);
    let mut stream = match timeout(STEP_MAX, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(away(error.to_string())),
        Err(_) => return Err(Trouble::Late),
    };
    let mut heard = vec![0; 256];
    if let Ok(count) = timeout(GREETING_MAX, stream.read(&mut heard)).await {
        heard.truncate(count.unwrap_or(0));
        return Ok(Some(heard));
    }
    if stream.write_all(b"PING\r\n\r\n").await.is_err() {
        return Ok(Some(Vec::new()));
    }
    match timeout(STEP_MAX, stream.read(&mut heard)).await {
        Ok(count) => {
            heard.truncate(count.unwrap_or(0));
            Ok(Some(heard))
        }
        Err(_) => Ok(None),
    }
}

/// What somebody says.
#[derive(Debug, PartialEq, Eq)]
enum Speech {
    Nothing,
    /// The first line.
    Redis(String),
    Tls,
    /// What it seems to be.
    Other(String),
}

impl Speech {
    fn of(heard: &[u8]) -> Self {
        let line = heard.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
        let line: String = String::from_utf8_lossy(line).chars().take(SHOWN_MAX).collect();
        match heard {
            [] => Self::Nothing,
            // An alert, or the beginning of a handshake.
            [0x15 | 0x16, 0x03, ..] => Self::Tls,
            _ if line == "+PONG" || is_refusal(&line) => Self::Redis(line),
            _ if line.starts_with("HTTP/") => Self::Other(format!("an HTTP server ({line})")),
            // Some take what is no request for one of a version that has no headers.
            _ if is_page(&line) => Self::Other("an HTTP server".to_owned()),
            _ if line.chars().all(|c| c.is_ascii_graphic() || c == ' ') => {
                Self::Other(format!("something that says {line:?}"))
            }
            _ => Self::Other("something else".to_owned()),
        }
    }
}

fn is_page(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.starts_with("<!doctype html") || line.starts_with("<html")
}

/// `-CODE words`.
fn is_refusal(line: &str) -> bool {
    let code = line.strip_prefix('-').and_then(|line| line.split(' ').next());
    code.is_some_and(|code| code.len() > 1 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
}

/// What a Redis says to whoever connects.
fn said_by_redis(line: &str) -> Option<Trouble> {
    let (code, detail) = line.strip_prefix('-')?.split_once(' ')?;
    let said = Trouble::of_words(code, detail);
    matches!(said, Trouble::Full | Trouble::Protected | Trouble::Loading).then_some(said)
}

/// Whether it begins TLS, whoever its certificate is signed by.
async fn speaks_tls((host, port): (&str, u16), info: &ConnectionInfo) -> bool {
    let address = ConnectionAddr::TcpTls {
        host: host.to_owned(),
        port,
        insecure: false,
        tls_params: None,
    };
    let info = info.clone().set_addr(address);
    let Ok(client) = redis::Client::open(info.set_redis_settings(RedisConnectionInfo::default())) else {
        return false;
    };
    match dial(&client, AsyncConnectionConfig::new()).await {
        Ok(_) => true,
        Err(error) => !matches!(
            Trouble::of(&error),
            Trouble::Late | Trouble::HangsUp | Trouble::SpeaksPlainly | Trouble::Away(_) | Trouble::Nameless(_)
        ),
    }
}

/// Whether it says that it is a Sentinel.
async fn is_sentinel(info: &ConnectionInfo) -> bool {
    let settings = info.redis_settings().clone().set_db(0);
    let Ok(client) = redis::Client::open(info.clone().set_redis_settings(settings)) else {
        return false;
    };
    let Ok(mut connection) = dial(&client, AsyncConnectionConfig::new()).await else {
        return false;
    };
    let role = connection.send_packed_command(&redis::cmd("ROLE")).await;
    role.is_ok_and(|role| role_of(&role) == Some("sentinel"))
}

/// The first word of what `ROLE` is answered.
pub(super) fn role_of(answer: &Value) -> Option<&str> {
    let Value::Array(parts) = answer else { return None };
    let Value::BulkString(role) = parts.first()? else {
        return None;
    };
    std::str::from_utf8(role).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_is_told_by_the_first_words() {
        let other = |what: &str| Speech::Other(what.to_owned());
        for (heard, expected) in [
            (&b""[..], Speech::Nothing),
            (b"+PONG\r\n", Speech::Redis("+PONG".to_owned())),
            (
                b"-NOAUTH Authentication required.\r\n",
                Speech::Redis("-NOAUTH Authentication required.".to_owned()),
            ),
            (b"\x15\x03\x01\x00\x02", Speech::Tls),
            (
                b"HTTP/1.1 400 Bad Request\r\nserver: x",
                other("an HTTP server (HTTP/1.1 400 Bad Request)"),
            ),
            (b"<!DOCTYPE HTML>\n<html>", other("an HTTP server")),
            (b"SSH-2.0-x\r\n", other("something that says \"SSH-2.0-x\"")),
            (b"ERROR\r\n", other("something that says \"ERROR\"")),
            (b"J\0\0\0\x0a8.0", other("something else")),
        ] {
            assert_eq!(Speech::of(heard), expected);
        }
    }
}
