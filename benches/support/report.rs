//! The report: medians, their spread, and the bars beside them.

use super::Options;
use super::delivery::{Flight, Measured, Outcome};
use super::memory::Kind;
use super::publisher::PAYLOAD_BYTES;
use super::terms::{Crowd, Extent};

/// At most this many times the bare loop's CPU time for a delivery.
const RATIO_MAX: f64 = 1.3;

/// At most this many bytes of user memory for an idle WebSocket connection.
const IDLE_BYTES_MAX: f64 = 1_500.0;

/// At most this many times the open server's CPU time for a delivery, with everything on.
const GUARDED_RATIO_MAX: f64 = 1.05;

/// At most this many bytes more for an idle WebSocket connection, with everything on.
const GUARDED_BYTES_MAX: f64 = 150.0;

/// A median and what it lies between.
#[derive(Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

/// Which cores the servers and the subscribers had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placement {
    /// A server one, its subscribers the others.
    Apart,
    /// All had all.
    Shared,
}

pub(crate) fn delivery_title(options: Options) {
    let Options {
        subscribers,
        rounds,
        publications,
        ..
    } = options;
    println!("Server CPU time per delivery, in µs: medians of {rounds} rounds of {publications} publications,");
    println!("{subscribers} WebSocket subscribers on one channel, {PAYLOAD_BYTES} bytes of data.");
}

pub(crate) fn delivery(placement: Placement, outcome: &Outcome) {
    let title = match placement {
        Placement::Apart => "server on one core",
        Placement::Shared => "all cores for all",
    };
    println!(
        "\n{title:<34}{:>7}{:>17}{:>8}{:>8}{:>8}{:>15}",
        "total", "(low – high)", "user", "system", "× bare", "(low – high)"
    );
    row("bare loop of write()", &outcome.bare, &outcome.bare);
    println!();
    for (flight, measured) in &outcome.throughline {
        let ratio = row(&name(*flight), measured, &outcome.bare);
        let is_judged = (placement, *flight) == (Placement::Apart, Flight::ONE);
        let bar = if is_judged {
            bar(ratio, RATIO_MAX, "×")
        } else {
            String::new()
        };
        println!("{bar}");
    }
    row("everything on, 1 in flight", &outcome.guarded, &outcome.bare);
    println!();
    for (_, open) in outcome.throughline.iter().filter(|(flight, _)| *flight == Flight::ONE) {
        let ratio = ratio(&outcome.guarded, open);
        println!(
            "{:<34}{ratio:>7.3}{}",
            "everything on, × open",
            bar(ratio, GUARDED_RATIO_MAX, "×")
        );
    }
}

pub(crate) fn memory_title(options: Options) {
    println!(
        "\nUser memory (RssAnon) per idle connection, in bytes: {} held, subscribed.\n\n{:<34}{:>7}{:>16}",
        options.idle, "", "open", "everything on"
    );
}

pub(crate) fn memory(kind: Kind, open: f64, guarded: f64) {
    let (name, bar) = match kind {
        Kind::WebSocket => {
            let bars = [
                bar(open, IDLE_BYTES_MAX, ""),
                bar(guarded - open, GUARDED_BYTES_MAX, " more"),
            ];
            ("WebSocket", bars.concat())
        }
        Kind::EventSource => ("Server-Sent Events", String::new()),
        Kind::Poll => ("long-poll, parked", String::new()),
    };
    println!("{name:<34}{open:>7.0}{guarded:>16.0}{bar}");
}

pub(crate) fn parts_title() {
    println!(
        "\nWhat an idle WebSocket takes more than at an open server, in bytes, one thing switched on after the other.\n"
    );
}

pub(crate) fn part(crowd: Crowd, extent: Extent, bytes: f64) {
    let crowd = match crowd {
        Crowd::OneUser => "all of one user",
        Crowd::Users => "each of its own user",
    };
    let part = match extent {
        Extent::Limits => "limits",
        Extent::Tokens => "tokens",
        Extent::Presence => "presence",
        Extent::All => "hooks, webhooks",
    };
    println!("{:<34}{bytes:>7.0}", format!("{crowd}: {part}"));
}

/// Prints a row without its end; gives the ratio to the bare loop, round by round.
fn row(name: &str, measured: &Measured, bare: &Measured) -> f64 {
    let ratio = spread(ratios(measured, bare));
    let total = spread(per_delivery_us(measured));
    let user = total.median * user_share(measured);
    print!(
        "{name:<34}{:>7.2}{:>17}",
        total.median,
        format!("({:.2} – {:.2})", total.low, total.high)
    );
    print!("{user:>8.2}{:>8.2}", total.median - user);
    print!(
        "{:>8.2}{:>15}",
        ratio.median,
        format!("({:.2} – {:.2})", ratio.low, ratio.high)
    );
    ratio.median
}

/// Of one to another, round by round: the median.
fn ratio(measured: &Measured, yard: &Measured) -> f64 {
    spread(ratios(measured, yard)).median
}

fn ratios(measured: &Measured, yard: &Measured) -> Vec<f64> {
    let pairs = per_delivery_us(measured).into_iter().zip(per_delivery_us(yard));
    pairs.map(|(total, yard)| total / yard).collect()
}

fn name(flight: Flight) -> String {
    match flight {
        Flight::ONE => "throughline, 1 in flight".to_owned(),
        Flight::Batch(count) => format!("throughline, batches of {count}"),
        Flight::Requests(count) => format!("throughline, {count} requests at a time"),
    }
}

fn bar(figure: f64, most: f64, unit: &str) -> String {
    format!("   ≤ {most}{unit}  {}", if figure <= most { "ok" } else { "over" })
}

fn per_delivery_us(measured: &Measured) -> Vec<f64> {
    measured
        .rounds
        .iter()
        .map(|time| time.total_ns as f64 / 1_000.0 / measured.deliveries as f64)
        .collect()
}

/// Over all rounds together: one alone has too few of the clock's ticks.
fn user_share(measured: &Measured) -> f64 {
    let user: u64 = measured.rounds.iter().map(|time| time.user_ticks).sum();
    let system: u64 = measured.rounds.iter().map(|time| time.system_ticks).sum();
    user as f64 / (user + system).max(1) as f64
}

fn spread(mut figures: Vec<f64>) -> Spread {
    figures.sort_by(f64::total_cmp);
    let [low, .., high] = figures[..] else {
        let only = figures.first().copied().unwrap_or(f64::NAN);
        return Spread {
            low: only,
            median: only,
            high: only,
        };
    };
    let middle = figures.len() / 2;
    let median = if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        f64::midpoint(figures[middle - 1], figures[middle])
    };
    Spread { low, median, high }
}
