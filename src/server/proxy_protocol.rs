//! The PROXY protocol, version 2: a proxy says, before anything else, for whom it connects.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::proxy_refusals::{Refusal, Refusals};
use crate::config::Connections;
use crate::http::Peer;

/// How long the header may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest header, with whatever a proxy adds to the addresses.
const HEADER_BYTES_MAX: usize = 2048;

/// The version of the protocol, in the upper half of the byte after the signature.
const VERSION: u8 = 2;

/// What every header has: a signature, the command, the family and the length of the rest.
const FIXED_BYTES: usize = 16;

/// The proxies that are believed. A connection from elsewhere, or without a header, is refused.
#[derive(Debug)]
pub(super) struct Proxies {
    believed: Vec<IpNet>,
    refusals: Refusals,
}

impl Proxies {
    /// Those of the configuration, if the protocol is spoken.
    pub(super) fn new(connections: &Connections) -> Option<Self> {
        connections
            .speaks_proxy_protocol()
            .then(|| Self::believing(connections.proxy_protocol_from.clone()))
    }

    fn believing(believed: Vec<IpNet>) -> Self {
        let refusals = Refusals::default();
        Self { believed, refusals }
    }

    /// Reads the header of a connection from `peer`, and says whose connection it is.
    ///
    /// # Errors
    /// Why the connection is refused.
    pub(super) async fn read(&self, stream: &mut (impl AsyncRead + Unpin), peer: Peer) -> io::Result<Peer> {
        let read = self.read_unnoted(stream, peer).await;
        match &read {
            Ok(_) => self.refusals.note_none(),
            Err(refusal) => self.refusals.note(refusal, peer),
        }
        Ok(read?)
    }

    async fn read_unnoted(&self, stream: &mut (impl AsyncRead + Unpin), peer: Peer) -> Result<Peer, Refusal> {
        let is_believed = |ip: IpAddr| self.believed.iter().any(|network| network.contains(&ip));
        if !peer.ip.is_some_and(is_believed) {
            return Err(Refusal::Stranger);
        }
        let read = tokio::time::timeout(HEADER_TIMEOUT, read_header(stream));
        let bytes = read.await.unwrap_or(Err(Refusal::Silent))?;
        let header = Header::try_from(&bytes[..]).map_err(|error| Refusal::Malformed(error.to_string()))?;
        Ok(match (header.command, header.addresses) {
            (Command::Proxy, Addresses::IPv4(addresses)) => ip(addresses.source_address.into()),
            (Command::Proxy, Addresses::IPv6(addresses)) => ip(addresses.source_address.into()),
            // The proxy speaks for itself, to see whether we live, or for somebody who has no IP address.
            (Command::Local, _) | (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => peer,
        })
    }
}

fn ip(address: IpAddr) -> Peer {
    Peer {
        ip: Some(address.to_canonical()),
    }
}

/// Reads no byte more than the header has: what follows it is not ours.
async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Refusal> {
    let mut bytes = vec![0; FIXED_BYTES];
    let mut len = 0;
    while len < FIXED_BYTES {
        match stream.read(&mut bytes[len..]).await? {
            0 if len == 0 => return Err(Refusal::Silent),
            0 => break,
            came => len += came,
        }
        // Whoever speaks something else may wait for an answer, and not send so much.
        let expected = ppp::v2::PROTOCOL_PREFIX;
        let len = len.min(expected.len());
        if bytes[..len] != expected[..len] {
            return Err(Refusal::of_other(&bytes));
        }
    }
    if len < FIXED_BYTES {
        return Err(Refusal::Malformed("it is cut off".to_owned()));
    }
    let version = bytes[12] >> 4;
    if version != VERSION {
        return Err(Refusal::Malformed(format!("its version is {version}, not {VERSION}")));
    }
    let more = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if FIXED_BYTES + more > HEADER_BYTES_MAX {
        return Err(Refusal::Malformed("it is too long".to_owned()));
    }
    bytes.resize(FIXED_BYTES + more, 0);
    stream.read_exact(&mut bytes[FIXED_BYTES..]).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    async fn read(header: &[u8]) -> io::Result<(Peer, usize)> {
        let proxies = Proxies::believing(vec!["127.0.0.0/8".parse().unwrap()]);
        let peer = ip("127.0.0.1".parse().unwrap());
        let mut rest = [header, b"GET"].concat();
        let mut stream = std::io::Cursor::new(std::mem::take(&mut rest));
        let peer = proxies.read(&mut stream, peer).await?;
        Ok((peer, usize::try_from(stream.position()).unwrap()))
    }

    #[tokio::test]
    async fn a_header_names_the_client() {
        let v4 = [SIGNATURE, b"\x21\x11\0\x0c\x01\x02\x03\x04\x7f\0\0\x01\0\x01\0\x02"].concat();
        assert_eq!(read(&v4).await.unwrap(), (ip("1.2.3.4".parse().unwrap()), v4.len()));
        let local = [SIGNATURE, b"\x20\x00\0\0"].concat();
        assert_eq!(read(&local).await.unwrap().0, ip("127.0.0.1".parse().unwrap()));
        let mapped = [
            SIGNATURE,
            b"\x21\x21\0\x24",
            &[0; 10],
            b"\xff\xff\x05\x06\x07\x08",
            &[0; 20],
        ]
        .concat();
        assert_eq!(read(&mapped).await.unwrap().0, ip("5.6.7.8".parse().unwrap()));
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        for header in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
            [SIGNATURE, b"\x21\x11\xff\xff"].concat(),
            [SIGNATURE, b"\x31\x11\0\x0c\x01\x02\x03\x04\x7f\0\0\x01\0\x01\0\x02"].concat(),
            [SIGNATURE, b"\x21\x11\0\x04\x01\x02\x03\x04"].concat(),
            [SIGNATURE, b"\x21"].concat(),
        ] {
            assert!(read(&header).await.is_err(), "{header:?}");
        }
        let other_version = [SIGNATURE, b"\x11\x11\0\x0c\x01\x02\x03\x04\x7f\0\0\x01\0\x01\0\x02"].concat();
        let told = read(&other_version).await.unwrap_err().to_string();
        assert!(told.ends_with("its version is 1, not 2"), "{told}");
        let proxies = Proxies::believing(vec!["10.0.0.0/8".parse().unwrap()]);
        let peer = ip("11.0.0.1".parse().unwrap());
        assert!(proxies.read(&mut &b""[..], peer).await.is_err());
        assert!(proxies.read(&mut &b""[..], Peer::LOCAL).await.is_err());
    }
}
