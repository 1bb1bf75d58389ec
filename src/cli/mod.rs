//! The command line, a file for each command.

mod check;
mod client;
mod completions;
mod configured;
mod exit;
mod healthcheck;
mod history;
mod init;
mod key;
mod man;
mod operate;
mod publish;
mod reload;
mod serve;
mod service_manager;
mod show;
mod signals;
mod startup;
mod subscribe;
mod token;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A real-time edge: publish over HTTP, subscribe over WebSocket, Server-Sent Events or long-poll.
#[derive(Debug, clap::Parser)]
#[command(name = "throughline", version, arg_required_else_help = false, after_long_help = exit::HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve; also what happens without a command
    Serve(serve::Serve),
    Publish(publish::Publish),
    Subscribe(subscribe::Subscribe),
    History(history::History),
    Disconnect(operate::Disconnect),
    Unsubscribe(operate::Unsubscribe),
    Channels(operate::Channels),
    /// Say whether the configuration is well
    Check(check::Check),
    /// Look at the configuration
    Config(show::Config),
    /// Write a commented configuration file, with every key
    Init(init::Init),
    /// Make a token to try with, or explain one
    Token(token::Token),
    /// Make an API key, and the configuration that lets it in
    Key(key::Key),
    Healthcheck(healthcheck::Healthcheck),
    /// Print what this binary is
    Version(version::Version),
    /// Print a script that completes command lines in a shell
    Completions(completions::Completions),
    /// Print the manual page, or write all of them
    Man(man::Man),
}

/// Reads the command line. Where it makes no sense, or asks for help, the process ends here.
pub(crate) fn read_arguments() -> Arguments {
    let words: Vec<_> = std::env::args_os().collect();
    Arguments::try_parse_from(&words).unwrap_or_else(|error| hinted(error, &words).exit())
}

/// The server's flags come behind its command, which may be left out only with them: whoever left it out is told.
fn hinted(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let [program, flags @ ..] = words else { return error };
    let serve = OsString::from("serve");
    let with_command = [program, &serve].into_iter().chain(flags);
    if error.kind() == ErrorKind::UnknownArgument && Arguments::try_parse_from(with_command).is_ok() {
        let flag = flags.first().map(|flag| flag.to_string_lossy()).unwrap_or_default();
        let flag = flag.split_once('=').map_or(&*flag, |(flag, _)| flag);
        let hint = format!("to serve with it, name the command: 'throughline serve {flag} …'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

/// Carries out what was asked for.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    match arguments
        .command
        .unwrap_or_else(|| Command::Serve(serve::Serve::default()))
    {
        Command::Serve(serve) => serve::run(serve).await,
        Command::Publish(publish) => publish::run(publish).await,
        Command::Subscribe(subscribe) => subscribe::run(subscribe).await,
        Command::History(history) => history::run(history).await,
        Command::Disconnect(disconnect) => operate::disconnect(disconnect).await,
        Command::Unsubscribe(unsubscribe) => operate::unsubscribe(unsubscribe).await,
        Command::Channels(channels) => operate::channels(channels).await,
        Command::Check(check) => check::run(check).await,
        Command::Config(config) => show::run(config),
        Command::Init(init) => init::run(&init),
        Command::Token(token) => token::run(token).await,
        Command::Key(key) => key::run(key),
        Command::Healthcheck(healthcheck) => healthcheck::run(healthcheck).await,
        Command::Version(version) => version::run(&version),
        Command::Completions(completions) => completions::run(&completions),
        Command::Man(man) => man::run(&man),
    }
}

/// No runtime could be made to carry it out in.
pub(crate) fn no_runtime(error: &std::io::Error) -> ExitCode {
    exit::fail(
        exit::Exit::Unavailable,
        format_args!("no threads can be started: {error}; raise the limit on processes (ulimit -u)"),
    )
}
