//! The server as we reach it: a target, how its certificate is judged, and who asks.

use std::fmt;
use std::io;

use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::failure::Failure;
use super::url::{Dial, Target};

/// The server as we reach it.
#[derive(Clone)]
pub(crate) struct Peer {
    target: Target,
    tls: Option<TlsConnector>,
    bearer: Option<HeaderValue>,
}

/// Bytes to and from the server, whatever carries them.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Peer {
    pub(crate) fn new(target: Target, tls: Option<TlsConnector>, bearer: Option<HeaderValue>) -> Self {
        Self { target, tls, bearer }
    }

    pub(crate) fn authority(&self) -> &str {
        self.target.authority()
    }

    /// The value of `Authorization`.
    pub(crate) fn bearer(&self) -> Option<&HeaderValue> {
        self.bearer.as_ref()
    }

    /// The request target of an endpoint such as `/v1/ws`.
    pub(crate) fn endpoint(&self, path: &str, query: &str) -> String {
        self.target.endpoint(path, query)
    }

    /// A connection, past its TLS handshake if there is one.
    pub(crate) async fn dial(&self) -> Result<Box<dyn Stream>, Failure> {
        let unreachable = |error: io::Error| Failure::Unreachable {
            place: self.target.to_string(),
            cause: error.to_string(),
        };
        let (stream, host) = match self.target.dial() {
            Dial::Unix(path) => {
                return Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?));
            }
            Dial::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                (stream, host)
            }
        };
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let untrusted = |cause: String| Failure::Insecure {
            place: self.target.to_string(),
            cause,
        };
        let name = ServerName::try_from(host.clone()).map_err(|error| untrusted(error.to_string()))?;
        match tls.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            // What rustls itself says will be said again; what the network does may not.
            Err(error) if error.get_ref().is_some() => Err(untrusted(error.to_string())),
            Err(error) => Err(Failure::broken("the TLS handshake broke off", &error)),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
