//! `throughline serve`: reads the configuration, says where everything is, serves, drains.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throughline::Edge;
use throughline::config::{Address, Config, Connections, Loaded, LogFormat, Openness};
use throughline::delivery::{Engine, Listing};
use throughline::engine::{Contents, RedisEngine, RedisPresence, System};
use throughline::http::HttpClient;
use throughline::server::{self, Listener, Settings, Tls, TlsError};
use throughline::session::identity::FetchKeys;

use super::configured::Configured;
use super::exit::{Exit, fail};
use super::reload::Reload;
use super::service_manager;
use super::signals::Signals;
use super::startup::{Logs, Startup};
use crate::telemetry::{self, Format};

/// How long the drain may take beyond its window: publications, sessions that do not leave, requests.
const LEAVE_TIME: Duration = Duration::from_secs(15);

/// How long the end waits for webhooks that are not taken yet.
const WEBHOOKS_TIME: Duration = Duration::from_secs(5);

/// How long a service manager is asked to wait for the snapshot, beyond what a stop usually takes.
const SNAPSHOT_TIME: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    configured: Configured,
}

pub(crate) async fn run(serve: Serve) -> ExitCode {
    let openness = serve.configured.openness();
    let configured = serve.configured.clone();
    let loaded = match serve.configured.load_but_addresses() {
        Ok(loaded) => loaded,
        Err(error) => return fail(Exit::Config, error),
    };
    let config = &loaded.config;
    let format = log_format(config.log.format);
    let filter = match telemetry::begin(format, config.log.level.as_str()) {
        Ok(filter) => filter,
        Err(why) => return fail(Exit::Config, why),
    };
    open_as_many_files_as_allowed();
    let tls = match load_tls(config) {
        Ok(tls) => tls,
        Err(error) => return fail(Exit::Config, error),
    };
    let (mut listeners, mut addresses, are_handed_over) = match listen(&loaded, openness) {
        Ok(listening) => listening,
        Err(ended) => return ended,
    };
    let urls = addresses.iter().map(|address| url(address, tls.as_deref())).collect();
    let operators = match listen_for_operators(&loaded, openness) {
        Ok(operators) => operators,
        Err(ended) => return ended,
    };
    let operations = operators.map(|(listener, address)| {
        let tls = tls.as_deref().filter(|_| !address.is_local());
        let url = url(&address, tls);
        listeners.push(listener);
        addresses.push(address);
        url
    });
    let signals = match Signals::take() {
        Ok(signals) => signals,
        Err(error) => return fail(Exit::Unavailable, format_args!("no signals can be had: {error}")),
    };
    // Last of all that can fail: a snapshot that is loaded is gone from the disk.
    let edge = match build(&loaded, &addresses) {
        Ok(edge) => edge,
        Err(why) => return fail(Exit::Config, why),
    };
    Startup {
        urls,
        operations,
        are_handed_over,
        config: loaded.file(),
        openness: config.openness(openness),
        logs: logs(config, &edge),
    }
    .announce(format);
    service_manager::is_ready();
    let drain = config.drain_window() + LEAVE_TIME + WEBHOOKS_TIME;
    let settings = Settings {
        drain_window: config.drain_window(),
        connections: config.connections.clone(),
        tls: tls.clone(),
    };
    let reload = Reload {
        configured,
        begun: loaded.clone(),
        holds: loaded,
        addresses,
        edge: edge.clone(),
        tls,
        filter,
    };
    server::run(listeners, edge.clone(), settings, signals.told_to_stop(reload, drain)).await;
    finish(&edge).await
}

/// Delivers webhooks, and writes the snapshot, where they are kept.
async fn finish(edge: &Edge) -> ExitCode {
    edge.finish_webhooks(WEBHOOKS_TIME).await;
    if edge.loaded().is_some() {
        service_manager::needs(SNAPSHOT_TIME);
    }
    match edge.save().await {
        Ok(None) => tracing::info!("stopped"),
        Ok(Some(Contents {
            channels,
            publications,
            keys,
        })) => tracing::info!(channels, publications, keys, "stopped; the snapshot is written"),
        Err(error) => return fail(Exit::Io, error),
    }
    Exit::Done.into()
}

/// What was handed over, or else what is configured; where that is; and which of the two it is.
fn listen(loaded: &Loaded<Config>, openness: Openness) -> Result<(Vec<Listener>, Vec<Address>, bool), ExitCode> {
    let config = &loaded.config;
    let handed_over = server::handed_over().map_err(|error| {
        fail(
            Exit::Config,
            format_args!("cannot take what LISTEN_FDS hands over: {error}"),
        )
    })?;
    let are_handed_over = !handed_over.is_empty();
    let listeners = if are_handed_over {
        handed_over
    } else {
        let wrong = |fault| fail(Exit::Config, loaded.placed(fault));
        let addresses = config.addresses(openness).map_err(wrong)?;
        config.operations_clash().map_or(Ok(()), Err).map_err(wrong)?;
        bind(&addresses, config)?
    };
    let mut addresses = Vec::new();
    for listener in &listeners {
        let address = listener.address().map_err(|error| fail(Exit::Unavailable, error))?;
        address
            .check(config.openness(openness))
            .map_err(|fault| fail(Exit::Config, fault))?;
        addresses.push(address);
    }
    Ok((listeners, addresses, are_handed_over))
}

/// Where operators look, if that is a place of its own. It is this process's alone, whoever hands over the others.
fn listen_for_operators(loaded: &Loaded<Config>, openness: Openness) -> Result<Option<(Listener, Address)>, ExitCode> {
    let wrong = |fault| fail(Exit::Config, loaded.placed(fault));
    let Some(address) = loaded.config.operations_address(openness).map_err(wrong)? else {
        return Ok(None);
    };
    let connections = Connections {
        reuse_port: false,
        ..loaded.config.connections.clone()
    };
    let listener = Listener::bind(&address, &connections).map_err(|error| {
        let why = format_args!("cannot listen on {address}: {error}; see `operations.listen` in the configuration");
        fail(Exit::Unavailable, why)
    })?;
    let address = listener.address().map_err(|error| fail(Exit::Unavailable, error))?;
    Ok(Some((listener.for_operators(), address)))
}

/// Where the logs are when the server is not running.
fn logs<'a>(config: &'a Config, edge: &Edge) -> Logs<'a> {
    if let Ok(Some(place)) = config.redis().map(|redis| redis.and_then(|redis| redis.place().ok())) {
        return Logs::Redis(place);
    }
    match config.engine.snapshot.as_deref().zip(edge.loaded()) {
        Some((path, loaded)) => Logs::Snapshot(path, loaded),
        None => Logs::Nowhere,
    }
}

/// The edge, with the engine that is configured.
fn build(loaded: &Loaded<Config>, addresses: &[Address]) -> Result<Edge, String> {
    let placed = |fault| loaded.placed(fault).to_string();
    let config = &loaded.config;
    let client = Arc::new(HttpClient::default());
    let fetch: Arc<dyn FetchKeys> = Arc::clone(&client) as Arc<dyn FetchKeys>;
    let terms = config.terms(&fetch, addresses).map_err(placed)?;
    let mut builder = Edge::builder()
        .terms(terms)
        .timings(config.timings())
        .presence(config.presence())
        .asking(client);
    if let Some(webhooks) = config.webhooks.settings().map_err(placed)? {
        builder = builder.webhooks(webhooks);
    }
    if let Some(hooks) = config.hooks() {
        builder = builder.hooks(hooks);
    }
    if let Some(settings) = config.redis().map_err(placed)? {
        let engine = RedisEngine::start(settings, Arc::new(System));
        let engine = Arc::new(engine.map_err(|error| format!("engine.redis.url: {error}"))?);
        let presence = RedisPresence::new(Arc::clone(&engine), config.presence().lease);
        return Ok(builder
            .engine(Arc::clone(&engine) as Arc<dyn Engine>)
            .presence_port(Arc::new(presence))
            .listing(Arc::clone(&engine) as Arc<dyn Listing>)
            .health(engine)
            .build());
    }
    match &config.engine.snapshot {
        None => Ok(builder.build()),
        Some(file) => match builder.snapshot(file) {
            Ok(builder) => Ok(builder.build()),
            Err(error) => Err(format!("engine.snapshot: {error}")),
        },
    }
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
            let hint = if error.kind() == ErrorKind::AddrInUse {
                "; choose another address with --listen, or port 0 for any"
            } else {
                "; see --listen, or `listen` in the configuration"
            };
            fail(
                Exit::Unavailable,
                format_args!("cannot listen on {address}: {error}{hint}"),
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
