//! `throughline serve`: reads the configuration, says where everything is, serves, drains.

use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throughline::Edge;
use throughline::config::{Address, Config, LogFormat};
use throughline::server::{self, Listener, Settings, Tls, TlsError};

use super::configured::Configured;
use super::exit::{Exit, fail};
use super::signals::Signals;
use super::startup::Startup;
use crate::telemetry::{self, Format};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    configured: Configured,
}

pub(crate) async fn run(serve: Serve) -> ExitCode {
    let openness = serve.configured.openness();
    let loaded = match serve.configured.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(Exit::Config, error),
    };
    let config = &loaded.config;
    let format = log_format(config.log.format);
    if let Err(why) = telemetry::begin(format, config.log.level.as_str()) {
        return fail(Exit::Config, why);
    }
    let addresses = match config.addresses(openness) {
        Ok(addresses) => addresses,
        Err(fault) => return fail(Exit::Config, loaded.placed(fault)),
    };
    open_as_many_files_as_allowed();
    let tls = match load_tls(config) {
        Ok(tls) => tls,
        Err(error) => return fail(Exit::Config, error),
    };
    let listeners = match bind(&addresses, config) {
        Ok(listeners) => listeners,
        Err(ended) => return ended,
    };
    let signals = match Signals::take() {
        Ok(signals) => signals,
        Err(error) => return fail(Exit::Unavailable, format_args!("no signals can be had: {error}")),
    };
    let edge = Edge::builder()
        .window(config.log_policy())
        .limits(config.limits())
        .timings(config.timings())
        .rates(config.rates())
        .trusted_proxies(config.trusted_proxies.clone())
        .rates(config.rates())
        .trusted_proxies(config.trusted_proxies.clone())
        .build();
    let addresses = listeners.iter().filter_map(|listener| listener.address().ok());
    Startup {
        urls: addresses.map(|address| url(&address, tls.as_deref())).collect(),
        config: loaded.file(),
    }
    .announce(format);
    let settings = Settings {
        drain_window: config.drain_window(),
        connections: config.connections.clone(),
        tls: tls.clone(),
    };
    server::run(listeners, edge, settings, signals.told_to_stop(tls)).await;
    tracing::info!("stopped");
    Exit::Done.into()
}

fn log_format(configured: LogFormat) -> Format {
    match configured {
        LogFormat::Auto => Format::of_stderr(),
        LogFormat::Pretty => Format::Pretty,
        LogFormat::Json => Format::Json,
    }
}

fn bind(addresses: &[Address], config: &Config) -> Result<Vec<Listener>, ExitCode> {
    let bound = addresses.iter().map(|address| {
        Listener::bind(address, &config.connections).map_err(|error| {
            let hint = "another process may listen there; choose another with --listen, or port 0 for any";
            fail(
                Exit::Unavailable,
                format_args!("cannot listen on {address}: {error}; {hint}"),
            )
        })
    });
    bound.collect()
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

fn load_tls(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    let (Some(cert_file), Some(key_file)) = (&config.tls.cert_file, &config.tls.key_file) else {
        return Ok(None);
    };
    Tls::load(cert_file, key_file).map(|tls| Some(Arc::new(tls)))
}

/// Where a client finds it. TLS is for TCP alone.
fn url(address: &Address, tls: Option<&Tls>) -> String {
    match address {
        Address::Tcp(address) if tls.is_some() => format!("https://{address}"),
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(_) => address.to_string(),
    }
}
