//! `throughline subscribe`: print what is published, from a cursor on and through reconnects.

use std::collections::HashSet;
use std::future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::{select, signal};
use tokio_stream::StreamExt;

use super::client::push::{Body, Push};
use super::client::terminal::{self, talk};
use super::client::{Connect, Cursor, Failure, Happening, Transport, pushes};
use super::exit::Exit;

/// Print the publications of channels as they come, one a line: CHANNEL POSITION EVENT DATA
///
/// EVENT is - where there is none. Lost connections are resumed where they were left; gaps and talk go to stderr.
#[derive(Debug, clap::Args)]
pub(crate) struct Subscribe {
    /// The channels to subscribe to; those that the server subscribes this token to come besides
    #[arg(value_name = "CHANNEL", required = true)]
    channels: Vec<String>,

    /// How to receive
    #[arg(long, value_enum, default_value_t = Transport::Ws)]
    transport: Transport,

    /// Where to begin: per channel a position, `now`, `start` or `last:N`, joined by dots
    #[arg(long, value_name = "CURSOR")]
    since: Option<String>,

    /// End after this many publications
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Print every push, of any type, as it came: one JSON object a line
    #[arg(long)]
    json: bool,

    /// End when no publication came for so long, from the start or from the one before: well, unless --count was
    /// asked for and not reached
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    wait: Option<u64>,

    #[command(flatten)]
    connect: Connect,
}

/// Subscribes until the count is reached, ctrl-c is pressed, nobody reads stdout, or the server refuses for good.
pub(crate) async fn run(args: Subscribe) -> ExitCode {
    select! {
        code = subscribe(args) => code,
        () = interrupted() => Exit::Interrupted.into(),
        () = terminal::nobody_reads() => Exit::Done.into(),
    }
}

/// Ready at ctrl-c.
pub(crate) async fn interrupted() {
    if signal::ctrl_c().await.is_err() {
        // Without a handler the signal itself ends the process.
        future::pending::<()>().await;
    }
}

async fn subscribe(args: Subscribe) -> ExitCode {
    let cursor = Cursor::new(args.channels, args.since.as_deref());
    let peer = match args.connect.peer() {
        Ok(peer) => peer,
        Err((flag, why)) => return terminal::reject(flag, &why),
    };
    let connected = format!("connected to {peer} by {}", args.transport);
    let wait = args.wait.map(Duration::from_secs);
    let mut deadline = pin!(deadline(wait));
    let mut printer = Printer {
        was_connected: false,
        format: if args.json { Format::Json } else { Format::Columns },
        publications_left: args.count,
        refused: HashSet::new(),
    };
    let mut happenings = pin!(pushes(peer, cursor, args.transport));
    loop {
        let happening = select! {
            biased;
            happening = happenings.next() => happening,
            () = &mut deadline => return printer.waited_long_enough(),
        };
        match happening {
            Some(Ok(Happening::Connected)) => {
                printer.was_connected = true;
                talk(&connected);
            }
            Some(Ok(Happening::Reconnecting { delay, why })) => {
                talk(format_args!("reconnecting in {} ms: {why}", delay.as_millis()));
            }
            Some(Ok(Happening::Push(push))) => {
                if let ControlFlow::Break(code) = printer.print(&push) {
                    return code;
                }
                if push.is_publication() {
                    deadline.set(self::deadline(wait));
                }
            }
            Some(Err(failure)) => return terminal::give_up(&failure),
            None => return Exit::Done.into(),
        }
    }
}

/// Ready after so long; without that, never.
async fn deadline(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => future::pending().await,
    }
}

struct Printer {
    was_connected: bool,
    format: Format,
    publications_left: Option<u64>,
    /// The channels whose refusal was told: it may come with every connection, and with every poll.
    refused: HashSet<String>,
}

enum Format {
    /// Publications on stdout, in columns; what else matters on stderr.
    Columns,
    /// Every push on stdout, as it came.
    Json,
}

impl Printer {
    /// Nothing came for as long as somebody would wait.
    fn waited_long_enough(&self) -> ExitCode {
        if !self.was_connected {
            talk("nobody served there for as long as --wait says");
            return Exit::Unavailable.into();
        }
        let Some(left) = self.publications_left else {
            return Exit::Done.into();
        };
        talk(format_args!(
            "nothing came for as long as --wait says, and {left} are missing of --count"
        ));
        Exit::Temporary.into()
    }

    /// Breaks off after the last publication that was asked for.
    fn print(&mut self, push: &Push) -> ControlFlow<ExitCode> {
        match self.format {
            Format::Columns => self.print_columns(&push.body)?,
            Format::Json => terminal::print(&push.line())?,
        }
        if push.is_publication() {
            self.publications_left = self.publications_left.map(|left| left - 1);
        }
        match self.publications_left {
            Some(0) => ControlFlow::Break(Exit::Done.into()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn print_columns(&mut self, body: &Body) -> ControlFlow<ExitCode> {
        match body {
            Body::Publication(publication) => terminal::print(&publication.columns())?,
            Body::Gap(gap) => talk(gap),
            Body::Unsubscribed(unsubscribed) => {
                if self.refused.insert(unsubscribed.channel.clone()) {
                    let why = Failure::Refused(unsubscribed.refusal());
                    talk(format_args!("refused on {}: {why}", unsubscribed.channel));
                }
            }
            Body::Subscribed(subscribed) => {
                self.refused.remove(&subscribed.channel);
            }
            Body::Welcome(_) | Body::Closing(_) | Body::Other => {}
        }
        ControlFlow::Continue(())
    }
}
