//! CPU time of a server for each delivery: one publication in flight, and several.

use std::io;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::audience::Audience;
use super::bare::Control;
use super::connect::{self, Client, Connected};
use super::cores::Cores;
use super::process::{CpuTime, Process};
use super::publisher::{Publisher, Request};
use super::terms::{self, Terms};
use super::{Options, frames};

const CHANNEL: &str = "fanout";
const CONNECTING_MAX: usize = 32;

/// How the publications of a round follow each other; the next come when everyone has received these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flight {
    /// One request with so many publications.
    Batch(usize),
    /// So many requests at a time, on connections of their own, with one publication each.
    Requests(usize),
}

impl Flight {
    pub(crate) const ONE: Flight = Flight::Batch(1);
    const ALL: [Flight; 4] = [Flight::ONE, Flight::Batch(10), Flight::Batch(16), Flight::Requests(16)];

    fn publications(self) -> usize {
        match self {
            Flight::Batch(count) | Flight::Requests(count) => count,
        }
    }
}

/// The CPU time of one server in every round, and the deliveries of a round.
pub(crate) struct Measured {
    pub(crate) rounds: Vec<CpuTime>,
    pub(crate) deliveries: usize,
}

/// What was measured, of both servers in turn.
pub(crate) struct Outcome {
    pub(crate) bare: Measured,
    pub(crate) throughline: Vec<(Flight, Measured)>,
    /// With everything on, one in flight.
    pub(crate) guarded: Measured,
}

struct Throughline<'a> {
    terms: &'a Terms,
    process: Process,
    audience: Audience,
    publishers: Vec<Publisher>,
}

struct Bare {
    process: Process,
    audience: Audience,
    control: Control,
}

/// Starts the two servers on their cores, and measures them in turn.
pub(crate) async fn measure(options: Options, cores: &Cores) -> io::Result<Outcome> {
    cores.move_here()?;
    let mut throughline = Throughline::start(options.subscribers, cores, &terms::OPEN).await?;
    let everything_on = Terms::guarded().await?;
    let mut guarded = Throughline::start(options.subscribers, cores, &everything_on).await?;
    let frame = throughline.specimen().await?;
    let mut bare = Bare::start(options.subscribers, &frame, cores).await?;
    let warm_up = options.publications.div_ceil(4);
    bare.round(warm_up).await?;
    for flight in Flight::ALL {
        throughline.round(flight, warm_up).await?;
    }
    guarded.round(Flight::ONE, warm_up).await?;
    let mut outcome = Outcome {
        bare: Measured {
            rounds: Vec::new(),
            deliveries: options.publications * options.subscribers,
        },
        throughline: Vec::new(),
        guarded: Measured {
            rounds: Vec::new(),
            deliveries: options.publications * options.subscribers,
        },
    };
    for flight in Flight::ALL {
        let deliveries = flight.flights(options.publications) * flight.publications() * options.subscribers;
        outcome.throughline.push((
            flight,
            Measured {
                rounds: Vec::new(),
                deliveries,
            },
        ));
    }
    for _ in 0..options.rounds {
        outcome.bare.rounds.push(bare.round(options.publications).await?);
        for (flight, measured) in &mut outcome.throughline {
            measured
                .rounds
                .push(throughline.round(*flight, options.publications).await?);
        }
        let round = guarded.round(Flight::ONE, options.publications).await?;
        outcome.guarded.rounds.push(round);
    }
    throughline.audience.assert_complete()?;
    guarded.audience.assert_complete()?;
    bare.audience.assert_complete()?;
    Ok(outcome)
}

impl Flight {
    /// How many flights carry at least so many publications.
    fn flights(self, publications: usize) -> usize {
        publications.div_ceil(self.publications())
    }
}

impl<'a> Throughline<'a> {
    async fn start(subscribers: usize, cores: &Cores, terms: &'a Terms) -> io::Result<Self> {
        let process = terms.serve(cores)?;
        let address = process.address;
        let client = |number| Client {
            server: &process,
            terms,
            number,
        };
        let connections = (0..subscribers).map(|number| connect::websocket(client(number), CHANNEL));
        let connections: Vec<Connected> = stream::iter(connections).buffered(CONNECTING_MAX).try_collect().await?;
        let most = Flight::ALL.into_iter().map(Flight::publications).max().unwrap_or(1);
        let publishers = try_join_all((0..most).map(|_| Publisher::connect(address))).await?;
        Ok(Throughline {
            terms,
            process,
            audience: Audience::seat(connections),
            publishers,
        })
    }

    /// One publication's frame, as every subscriber gets it.
    async fn specimen(&mut self) -> io::Result<Vec<u8>> {
        let client = Client {
            server: &self.process,
            terms: self.terms,
            number: 0,
        };
        let mut probe = connect::websocket(client, CHANNEL).await?;
        self.flight(Flight::ONE, &Request::new(CHANNEL, 1, self.terms)).await?;
        loop {
            if let Some((_, length)) = frames::next(&probe.rest) {
                probe.rest.truncate(length);
                return Ok(probe.rest);
            }
            probe.stream.readable().await?;
            match probe.stream.try_read_buf(&mut probe.rest) {
                Ok(0) => return Err(io::Error::other("the server ended a connection")),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    async fn round(&mut self, flight: Flight, publications: usize) -> io::Result<CpuTime> {
        let request = match flight {
            Flight::Batch(count) => Request::new(CHANNEL, count, self.terms),
            Flight::Requests(_) => Request::new(CHANNEL, 1, self.terms),
        };
        for publisher in &mut self.publishers {
            publisher.revive().await?;
        }
        let before = self.process.cpu_time()?;
        for _ in 0..flight.flights(publications) {
            self.flight(flight, &request).await?;
        }
        Ok(self.process.cpu_time()?.since(before))
    }

    async fn flight(&mut self, flight: Flight, request: &Request) -> io::Result<()> {
        self.audience.expect(flight.publications());
        match flight {
            Flight::Batch(_) => drop(self.publishers[0].publish(request).await?),
            Flight::Requests(count) => {
                try_join_all(self.publishers.iter_mut().take(count).map(|one| one.publish(request))).await?;
            }
        }
        self.audience.caught_up().await
    }
}

impl Bare {
    async fn start(subscribers: usize, frame: &[u8], cores: &Cores) -> io::Result<Bare> {
        let process = Process::bare(cores)?;
        let control = Control::connect(process.address, subscribers, frame)?;
        let mut connections = Vec::with_capacity(subscribers);
        for number in 0..subscribers {
            let stream = connect::tcp(process.address, number).await?;
            connections.push(Connected {
                stream,
                rest: Vec::new(),
            });
        }
        Ok(Bare {
            process,
            audience: Audience::seat(connections),
            control,
        })
    }

    async fn round(&mut self, publications: usize) -> io::Result<CpuTime> {
        let before = self.process.cpu_time()?;
        for _ in 0..publications {
            self.audience.expect(1);
            self.control.round()?;
            self.audience.caught_up().await?;
        }
        Ok(self.process.cpu_time()?.since(before))
    }
}
