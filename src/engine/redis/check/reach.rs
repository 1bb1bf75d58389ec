//! Getting to a Redis, step by step, so that it is known which step fails: name, port, TLS, greeting.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisError};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::super::link::is_pong;
use super::super::look::look;
use super::super::trouble::Trouble;
use super::ask;

/// How long each step may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Connects, or says what stands in the way.
pub(super) async fn reach(info: &ConnectionInfo) -> Result<(Client, MultiplexedConnection), Trouble> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => open_tcp(host, *port).await?,
        ConnectionAddr::Unix(path) => {
            let opened = UnixStream::connect(path).await;
            opened.map_err(|error| Trouble::NoSocket(error.to_string()))?;
        }
        _ => {}
    }
    let settings = info.redis_settings().clone();
    match greet(info).await {
        // That the database cannot be chosen is seen again; what else cannot be done is seen in the first one.
        Err(Trouble::Unknown(command)) if command == "SELECT" => {
            greet(&info.clone().set_redis_settings(settings.set_db(0))).await
        }
        Err(Trouble::Sentinel | Trouble::Denied(_)) => {
            greet(&info.clone().set_redis_settings(settings.set_db(0))).await
        }
        Err(Trouble::Unknown(command)) if command == "HELLO" => {
            let greeted = greet_as(ProtocolVersion::RESP2, info).await;
            greeted.map_err(|_| Trouble::Unknown(command))
        }
        greeted => greeted,
    }
}

async fn open_tcp(host: &str, port: u16) -> Result<(), Trouble> {
    let found = match timeout(TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(Trouble::Nameless(error.to_string())),
        Err(_) => return Err(Trouble::Nameless("no name server answered within 3 s".to_owned())),
    };
    match timeout(TIMEOUT, TcpStream::connect(&found[..])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Trouble::Away(error.to_string())),
        Err(_) => Err(Trouble::Late),
    }
}

/// TLS, who we are, and the database.
async fn greet(info: &ConnectionInfo) -> Result<(Client, MultiplexedConnection), Trouble> {
    greet_as(ProtocolVersion::RESP3, info).await
}

async fn greet_as(
    protocol: ProtocolVersion,
    info: &ConnectionInfo,
) -> Result<(Client, MultiplexedConnection), Trouble> {
    let redis = info.redis_settings().clone().set_protocol(protocol);
    let client = Client::open(info.clone().set_redis_settings(redis)).map_err(|error| Trouble::of(&error))?;
    let greeting = async {
        let mut connection = connect(&client).await?;
        match ask(&mut connection, &["PING"]).await {
            Ok(answer) if !is_pong(&answer) => Err(Trouble::Stranger(None).into()),
            // Whether it may be asked at all is seen later.
            Err(error) if error.is_io_error() => Err(error),
            _ => Ok(connection),
        }
    };
    match timeout(TIMEOUT, greeting).await {
        Ok(Ok(connection)) => Ok((client, connection)),
        Ok(Err(error)) => Err(look(Trouble::of(&error).at(info.addr()), info).await),
        Err(_) => Err(look(Trouble::Late, info).await),
    }
}

/// Another connection to it.
pub(super) async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    client.get_multiplexed_async_connection_with_config(&config).await
}
