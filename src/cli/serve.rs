//! `throughline serve`: reads the configuration, says where everything is, serves, drains.

use std::net::SocketAddr;
use std::process::ExitCode;

use throughline::config::{Config, ConfigError, Loaded, LogFormat};
use throughline::{Edge, server};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::configured::Configured;
use super::exit::{Exit, fail};
use super::startup::Startup;
use crate::telemetry::{self, Format};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    configured: Configured,
}

pub(crate) async fn run(serve: Serve) -> ExitCode {
    let (loaded, address) = match configured(serve.configured) {
        Ok(configured) => configured,
        Err(error) => return fail(Exit::Config, error),
    };
    let config = &loaded.config;
    let format = log_format(config.log.format);
    if let Err(why) = telemetry::begin(format, config.log.level.as_str()) {
        return fail(Exit::Config, why);
    }
    let bound = server::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            let hint = "another process may listen there; choose another with --listen, or port 0 for any";
            return fail(
                Exit::Unavailable,
                format_args!("cannot listen on {address}: {error}; {hint}"),
            );
        }
    };
    let (terminate, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            return fail(Exit::Unavailable, format_args!("no signals can be had: {error}"));
        }
    };
    let edge = Edge::builder()
        .window(config.log_policy())
        .limits(config.limits())
        .timings(config.timings())
        .build();
    let startup = Startup {
        urls: vec![format!("http://{address}")],
        config: loaded.file(),
    };
    startup.announce(format);
    let window = config.drain_window();
    server::run(
        listener,
        edge,
        config.connections.clone(),
        window,
        told_to_stop(terminate, interrupt),
    )
    .await;
    tracing::info!("stopped");
    Exit::Done.into()
}

fn configured(configured: Configured) -> Result<(Loaded<Config>, SocketAddr), ConfigError> {
    let openness = configured.openness();
    let loaded = configured.load()?;
    let address = loaded.config.address(openness);
    let address = address.map_err(|fault| loaded.placed(fault))?;
    Ok((loaded, address))
}

fn log_format(configured: LogFormat) -> Format {
    match configured {
        LogFormat::Auto => Format::of_stderr(),
        LogFormat::Pretty => Format::Pretty,
        LogFormat::Json => Format::Json,
    }
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
        std::process::exit(i32::from(Exit::Interrupted as u8));
    });
}
