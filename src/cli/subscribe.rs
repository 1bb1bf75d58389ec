//! `throughline subscribe`: print what is published, from a cursor on and through reconnects.

use std::future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::process::ExitCode;

use tokio::{select, signal};
use tokio_stream::StreamExt;

use super::client::push::{Body, Publication, Push};
use super::client::terminal::{self, talk, word};
use super::client::{Cursor, Failure, Happening, Target, Transport, pushes, url};

/// What a shell makes of a command that ctrl-c ended.
const EXIT_INTERRUPTED: u8 = 130;

/// Print the publications of channels as they come, one a line: CHANNEL POSITION EVENT DATA
///
/// EVENT is - where there is none. Lost connections are resumed where they were left; gaps and talk go to stderr.
#[derive(Debug, clap::Args)]
pub(crate) struct Subscribe {
    /// The channels to subscribe to
    #[arg(value_name = "CHANNEL", required = true)]
    channels: Vec<String>,

    /// Where the server is; the environment's `THROUGHLINE_URL` is the default, if set
    #[arg(long, value_name = "URL", default_value = url::default_url())]
    url: Target,

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
}

/// Subscribes until the count is reached, ctrl-c is pressed, nobody reads stdout, or the server refuses for good.
pub(crate) async fn run(args: Subscribe) -> ExitCode {
    select! {
        code = subscribe(args) => code,
        () = interrupted() => EXIT_INTERRUPTED.into(),
    }
}

async fn interrupted() {
    if signal::ctrl_c().await.is_err() {
        // Without a handler the signal itself ends the process.
        future::pending::<()>().await;
    }
}

async fn subscribe(args: Subscribe) -> ExitCode {
    let cursor = match Cursor::new(args.channels, args.since.as_deref()) {
        Ok(cursor) => cursor,
        Err(why) => return terminal::reject("--since", &why),
    };
    let connected = format!("connected to {} by {}", args.url, args.transport);
    let mut printer = Printer {
        format: if args.json { Format::Json } else { Format::Columns },
        publications_left: args.count,
    };
    let mut happenings = pin!(pushes(args.url, cursor, args.transport));
    while let Some(happening) = happenings.next().await {
        match happening {
            Ok(Happening::Connected) => talk(&connected),
            Ok(Happening::Reconnecting { delay, why }) => {
                talk(format_args!("reconnecting in {} ms: {why}", delay.as_millis()));
            }
            Ok(Happening::Push(push)) => {
                if let ControlFlow::Break(code) = printer.print(&push) {
                    return code;
                }
            }
            Err(failure) => return terminal::give_up(&failure),
        }
    }
    ExitCode::SUCCESS
}

struct Printer {
    format: Format,
    publications_left: Option<u64>,
}

enum Format {
    /// Publications on stdout, in columns; what else matters on stderr.
    Columns,
    /// Every push on stdout, as it came.
    Json,
}

impl Printer {
    /// Breaks off after the last publication that was asked for.
    fn print(&mut self, push: &Push) -> ControlFlow<ExitCode> {
        match self.format {
            Format::Columns => print_columns(&push.body)?,
            Format::Json => terminal::print(&push.line())?,
        }
        if push.is_publication() {
            self.publications_left = self.publications_left.map(|left| left - 1);
        }
        match self.publications_left {
            Some(0) => ControlFlow::Break(ExitCode::SUCCESS),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn print_columns(body: &Body) -> ControlFlow<ExitCode> {
    match body {
        Body::Publication(publication) => terminal::print(&columns(publication))?,
        Body::Gap(gap) => talk(format_args!("gap on {}: lost {}..{}", gap.channel, gap.from, gap.to)),
        Body::Unsubscribed(unsubscribed) => {
            talk(format_args!(
                "refused on {}: {}",
                unsubscribed.channel,
                Failure::Refused(unsubscribed.refusal())
            ));
        }
        Body::Welcome(_) | Body::Subscribed(_) | Body::Closing(_) | Body::Other => {}
    }
    ControlFlow::Continue(())
}

fn columns(publication: &Publication) -> String {
    let event = publication.event.as_deref().map_or_else(|| "-".to_owned(), word);
    format!(
        "{} {} {event} {}",
        publication.channel,
        publication.position,
        publication.data_line()
    )
}
