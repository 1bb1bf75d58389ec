//! The command line, a file for each command.

mod client;
mod key;
mod publish;
mod serve;
mod subscribe;
mod token;

use std::process::ExitCode;

/// A real-time edge: publish over HTTP, subscribe over WebSocket, Server-Sent Events or long-poll.
#[derive(Debug, clap::Parser)]
#[command(version, arg_required_else_help = false)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve; also what happens without a command.
    Serve(serve::Serve),
    /// Publish DATA to CHANNEL.
    Publish(publish::Publish),
    /// Print what is published to channels, reconnecting and resuming.
    Subscribe(subscribe::Subscribe),
    /// Make a token to try with, or explain one.
    Token(token::Token),
    /// Make an API key, and the configuration that lets it in.
    Key(key::Key),
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
        Command::Token(token) => token::run(token).await,
        Command::Key(key) => key::run(key),
    }
}
