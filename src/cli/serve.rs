//! `throughline serve`: reads the configuration, says where everything is, serves, drains.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throughline::Edge;
use throughline::config::{Address, Config, ConfigError, Listen, Openness};
use throughline::server::{self, Listener, Settings, Tls, TlsError};
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
    /// Where to listen, `ADDR:PORT` or `unix:/path`; port 0 takes any that is free; may be repeated [default:
    /// 127.0.0.1:8000].
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Listen beyond this machine although everybody may publish and subscribe.
    #[arg(long)]
    insecure: bool,
}

pub(crate) async fn run(serve: Serve) -> ExitCode {
    let (config, addresses) = match configured(serve) {
        Ok(configured) => configured,
        Err(error) => return fail(&error.to_string(), EXIT_CONFIG),
    };
    open_as_many_files_as_allowed();
    let tls = match load_tls(&config) {
        Ok(tls) => tls,
        Err(error) => return fail(&error.to_string(), EXIT_CONFIG),
    };
    let mut listeners = Vec::new();
    for address in addresses {
        match Listener::bind(&address, &config.connections) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                let hint = "another process may listen there; choose another with --listen, or port 0 for any";
                return fail(
                    &format!("cannot listen on {address}: {error}; {hint}"),
                    EXIT_UNAVAILABLE,
                );
            }
        }
    }
    let (terminate, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return fail(&format!("no signals can be had: {error}"), EXIT_UNAVAILABLE),
    };
    let edge = Edge::builder()
        .window(config.log_policy())
        .limits(config.limits())
        .timings(config.timings())
        .build();
    let scheme = if tls.is_some() { Scheme::Tls } else { Scheme::Plain };
    for address in listeners.iter().filter_map(|listener| listener.address().ok()) {
        announce(&address, scheme);
    }
    if let Some(tls) = &tls {
        reload_when_told(Arc::clone(tls));
    }
    let settings = Settings {
        drain_window: config.drain_window(),
        connections: config.connections,
        tls,
    };
    server::run(listeners, edge, settings, told_to_stop(terminate, interrupt)).await;
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

fn configured(serve: Serve) -> Result<(Config, Vec<Address>), ConfigError> {
    let mut config = Config::load(serve.config.as_deref(), std::env::vars())?;
    if !serve.listen.is_empty() {
        config.listen = Listen::Many(serve.listen);
    }
    config.check()?;
    let openness = if serve.insecure {
        Openness::Insecure
    } else {
        Openness::LoopbackOnly
    };
    let addresses = config.addresses(openness)?;
    Ok((config, addresses))
}

/// Each connection is a file, and the usual soft limit is for programs that cannot have many (`select`).
fn open_as_many_files_as_allowed() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// What TCP listeners speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Plain,
    Tls,
}

fn load_tls(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    let (Some(cert_file), Some(key_file)) = (&config.tls.cert_file, &config.tls.key_file) else {
        return Ok(None);
    };
    Tls::load(cert_file, key_file).map(|tls| Some(Arc::new(tls)))
}

/// Looks for a new certificate at each SIGHUP, for as long as the process lives.
fn reload_when_told(tls: Arc<Tls>) {
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => drop(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tls.reload_and_tell();
            }
        })),
        Err(error) => tracing::warn!(%error, "SIGHUP cannot be had; certificates are still looked at by themselves"),
    }
}

/// Says where everything is, with lines to try.
fn announce(address: &Address, scheme: Scheme) {
    let Address::Tcp(address) = address else {
        let _ = writeln!(
            std::io::stderr().lock(),
            "throughline {} listens on {address}",
            env!("CARGO_PKG_VERSION")
        );
        return;
    };
    let (http, ws) = match scheme {
        Scheme::Plain => ("http", "ws"),
        Scheme::Tls => ("https", "wss"),
    };
    let url = format!("{http}://{address}");
    let _ = write!(
        std::io::stderr().lock(),
        "throughline {version} listens on {url}\n\
         \n  \
           subscribe   curl -N '{url}/v1/sse?channel=news'\n  \
           publish     curl -d '{{\"channel\":\"news\",\"data\":\"hello\"}}' {url}/v1/publish\n  \
           WebSocket   {ws}://{address}/v1/ws?channel=news\n  \
           long-poll   {url}/v1/poll?channel=news\n  \
           health      {url}/livez  {url}/readyz\n\
         \n  \
           Everything is open: whoever reaches this address may publish and subscribe. Stop with ctrl-c.\n\n",
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
