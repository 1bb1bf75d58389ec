//! `throughline healthcheck`: whether a server is ready, for a container that has nothing but this binary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use throughline::config::Address;

use super::client::deadline::{HEAD_MAX, within};
use super::client::terminal::talk;
use super::client::{Failure, Peer, Target, http, tls};
use super::configured::ConfigFile;
use super::exit::{Exit, fail};

/// Ask a server whether it is ready (`GET /readyz`): exit code 0 if so, else 1, whatever the reason.
#[derive(Debug, clap::Args)]
pub(crate) struct Healthcheck {
    /// Where the server is [default: where the configuration has operators look, or else where it listens]
    #[arg(long, value_name = "URL")]
    url: Option<Target>,

    /// For how long to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10))]
    timeout: u64,

    /// Believe whoever answers at an `https://` URL, as a server asked by its address must be
    #[arg(long)]
    insecure_skip_verify: bool,

    #[command(flatten)]
    config: ConfigFile,
}

pub(crate) async fn run(args: Healthcheck) -> ExitCode {
    let timeout = Duration::from_secs(args.timeout);
    let peer = match args.peer() {
        Ok(peer) => peer,
        Err(why) => return fail(Exit::Refused, why),
    };
    match within(timeout, "answer", ask(&peer)).await.flatten() {
        Ok(()) => {
            talk(format_args!("ready: {peer}"));
            Exit::Done.into()
        }
        Err(failure) => fail(Exit::Refused, format_args!("not ready: {peer}: {failure}")),
    }
}

async fn ask(peer: &Peer) -> Result<(), Failure> {
    let mut http = http::Connection::open(peer).await?;
    let request = Request::get(peer.endpoint("/readyz", ""));
    http.ask(request, Bytes::new(), HEAD_MAX).await.map(|_| ())
}

impl Healthcheck {
    fn peer(self) -> Result<Peer, String> {
        let is_own = self.url.is_none();
        let target = if let Some(target) = self.url {
            target
        } else {
            let loaded = self.config.load().map_err(|error| error.to_string())?;
            let config = &loaded.config;
            let is_local = |listen: &str| Address::parse(listen).is_ok_and(|address| address.is_local());
            let (listen, is_plain) = match &config.operations.listen {
                // Where operators look there is no TLS on this machine.
                Some(listen) => (listen.as_str(), is_local(listen)),
                None => (config.listen.texts().first().map_or("", String::as_str), false),
            };
            let is_secure = config.tls.cert_file.is_some() && !is_plain;
            target_of(listen, if is_secure { "https" } else { "http" })?
        };
        // Whoever listens where this configuration says so is asked by its address, which no certificate names.
        let trust = if self.insecure_skip_verify || is_own {
            tls::Trust::Anyone
        } else {
            tls::Trust::Machine
        };
        let tls = target.is_secure().then(|| tls::connector(&trust)).transpose()?;
        Ok(Peer::new(target, tls, None))
    }
}

/// Where to ask a server that listens there.
fn target_of(listen: &str, scheme: &str) -> Result<Target, String> {
    if listen.starts_with("unix:") {
        return listen.parse();
    }
    let wrong = || format!("listen = {listen:?}: not an `ADDR:PORT`; say where the server is with --url");
    let mut address = listen
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(wrong)?;
    if address.port() == 0 {
        return Err("listen has port 0, which is any that was free; say where the server is with --url".to_owned());
    }
    address.set_ip(reachable(address.ip()));
    format!("{scheme}://{address}").parse()
}

/// A server that listens on every address is asked at this machine's own.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_where_it_listens() {
        for (listen, url) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8000", "http://[::1]:8000"),
            ("unix:/run/t.sock", "unix:/run/t.sock"),
        ] {
            assert_eq!(target_of(listen, "http").unwrap().to_string(), url);
        }
        assert!(target_of("127.0.0.1:0", "http").unwrap_err().contains("--url"));
        assert!(target_of("nonsense", "http").unwrap_err().contains("--url"));
    }
}
