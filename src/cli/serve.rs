//! `throughline serve`: reads the configuration, says where everything is, serves, drains.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use throughline::config::{Config, ConfigError, Openness};
use throughline::http::HttpFetch;
use throughline::session::identity::{Authority, FetchKeys};
use throughline::{Edge, server};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code for a configuration that is wrong (`EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

/// The exit code for an address that cannot be had (`EX_UNAVAILABLE`).
const EXIT_UNAVAILABLE: u8 = 69;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Serve {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen; port 0 takes any that is free [default: 127.0.0.1:8000].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Listen beyond this machine although everybody may publish and subscribe.
    #[arg(long)]
    insecure: bool,
}

pub(crate) async fn run(serve: Serve) -> ExitCode {
    let (config, address, authority) = match configured(serve) {
        Ok(configured) => configured,
        Err(error) => return fail(&error.to_string(), EXIT_CONFIG),
    };
    let bound = server::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            let hint = "another process may listen there; choose another with --listen, or port 0 for any";
            return fail(
                &format!("cannot listen on {address}: {error}; {hint}"),
                EXIT_UNAVAILABLE,
            );
        }
    };
    let (terminate, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return fail(&format!("no signals can be had: {error}"), EXIT_UNAVAILABLE),
    };
    let mut builder = Edge::builder()
        .window(config.log_policy())
        .limits(config.limits())
        .timings(config.timings());
    let openness = match authority {
        Some(authority) => {
            builder = builder.authority(authority);
            "Credentials are needed: `throughline token` makes one to try."
        }
        None => "Everything is open: whoever reaches this address may publish and subscribe.",
    };
    let edge = builder.build();
    announce(address, openness);
    let window = config.drain_window();
    server::run(
        listener,
        edge,
        config.connections,
        window,
        told_to_stop(terminate, interrupt),
    )
    .await;
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

fn configured(serve: Serve) -> Result<(Config, SocketAddr, Option<Authority>), ConfigError> {
    let mut config = Config::load(serve.config.as_deref(), std::env::vars())?;
    if let Some(listen) = serve.listen {
        config.listen = listen;
    }
    config.check()?;
    let openness = if serve.insecure {
        Openness::Insecure
    } else {
        Openness::LoopbackOnly
    };
    let address = config.address(openness)?;
    let fetch: Arc<dyn FetchKeys> = Arc::new(HttpFetch::default());
    let authority = config.auth.authority(&fetch)?;
    Ok((config, address, authority))
}

/// Says where everything is, with lines to try.
fn announce(address: SocketAddr, openness: &str) {
    let url = format!("http://{address}");
    let _ = write!(
        std::io::stderr().lock(),
        "throughline {version} listens on {url}\n\
         \n  \
           subscribe   curl -N '{url}/v1/sse?channel=news'\n  \
           publish     curl -d '{{\"channel\":\"news\",\"data\":\"hello\"}}' {url}/v1/publish\n  \
           WebSocket   ws://{address}/v1/ws?channel=news\n  \
           long-poll   {url}/v1/poll?channel=news\n  \
           health      {url}/livez  {url}/readyz\n\
         \n  \
           {openness} Stop with ctrl-c.\n\n",
        version = env!("CARGO_PKG_VERSION"),
    );
}

/// Ready at the first signal. A second one ends the process at once.
async fn told_to_stop(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining; a second signal stops at once");
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("stopped by a second signal");
        #[expect(clippy::exit, reason = "what a second signal asks for")]
        std::process::exit(130);
    });
}

fn fail(message: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "error: {message}");
    ExitCode::from(code)
}
