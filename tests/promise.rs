//! The promise, checked in thousands of random histories over real sockets, and in a few that are no accident.
//!
//! `THROUGHLINE_HISTORIES` sets how many. `THROUGHLINE_SEED` lives through one world only, which a failure names; with
//! both, through the same world again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::print_stdout,
    reason = "says what happened, for a test without gaps has tested no gaps"
)]

mod support;

use std::sync::Arc;

use serde_json::json;
use support::clock::Clock;
use support::link::Receive;
use support::node::Setup;
use support::place::Place;
use support::poll::Poll;
use support::promise::Violation;
use support::promise::channels::Load;
use support::promise::connection::{Arrival, Connection, Since, Transport};
use support::promise::desk::Desk;
use support::promise::history::{Ask, History, Told};
use support::promise::run::run;
use support::promise::tally::Happening;
use support::push::Push;
use support::websocket::WebSocket;
use throughline::engine::MemoryEngine;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_keeps_the_promise() {
    let (seed, histories) = (variable("THROUGHLINE_SEED"), variable("THROUGHLINE_HISTORIES"));
    let began = std::time::Instant::now();
    let outcome = match seed {
        None => {
            let first = fastrand::u64(..1 << 48);
            println!("seeds from {first} on");
            run(histories.unwrap_or(2_000), None, first..).await
        }
        Some(seed) => {
            let worlds = if histories.is_some() { usize::MAX } else { 1 };
            run(histories.unwrap_or(1), None, std::iter::repeat_n(seed, worlds)).await
        }
    };
    let tally = outcome.unwrap_or_else(|broken| panic!("{broken}\n\nbefore that:\n{}", broken.tally));
    println!("{tally}in {:.1?}", began.elapsed());
    // Some things happen once in fifty histories: a short run proves nothing by not having seen them.
    if seed.is_none() && tally.count(Happening::Histories) >= 1_000 {
        for happening in Happening::ALL {
            assert!(tally.count(happening) > 0, "this never happened: {happening:?}");
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: not a number")))
}

/// What a reader that stops reading has on its way: the server's batch, its HTTP buffer and the kernel's. Far less than
/// what is published to it meanwhile.
const SMALL_BUFFER_BYTES: u32 = 16 * 1024;
const WINDOW: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_that_is_back_in_time_misses_nothing() {
    for transport in [Transport::WebSocket, Transport::EventSource] {
        let gaps = gaps_of_a_stalled_reader(transport, WINDOW as u64).await.unwrap();
        assert_eq!(gaps, 0, "over {transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_that_is_lapped_is_told_what_it_lost_and_goes_on() {
    for transport in [Transport::WebSocket, Transport::EventSource] {
        let gaps = gaps_of_a_stalled_reader(transport, 3 * WINDOW as u64).await.unwrap();
        assert_eq!(gaps, 1, "over {transport:?}");
    }
}

/// A reader joins, reads nothing while so many large publications are published, then reads to the top.
async fn gaps_of_a_stalled_reader(transport: Transport, count: u64) -> Result<u64, Violation> {
    let setup = Setup {
        send_buffer_bytes: SMALL_BUFFER_BYTES as usize,
        ..Setup::window(WINDOW)
    };
    let mut desk = Desk::new(setup, Load::Heavy);
    let mut history = History::new(Arc::clone(&desk.ledger));
    history.ask(Ask::Now);
    let mut connection = connect(transport, &desk, "now").await?;
    while !history.is_on() {
        read(&mut connection, &mut history).await?;
    }
    desk.publish(count).await?;
    let mut gaps = 0;
    while history.offset() < count {
        let told = read(&mut connection, &mut history).await?;
        gaps += told.iter().filter(|told| matches!(told, Told::Gap { .. })).count() as u64;
    }
    desk.ledger.settle()?;
    Ok(gaps)
}

async fn connect(transport: Transport, desk: &Desk, since: &str) -> Result<Connection, Violation> {
    let (address, receive, channel) = (
        desk.node.address,
        Receive::Bytes(SMALL_BUFFER_BYTES),
        &*desk.ledger.channel.name,
    );
    let query = [("channel", channel), ("since", since), ("wait", "0")];
    Ok(match transport {
        Transport::WebSocket => Connection::WebSocket(WebSocket::open(address, receive, &query).await?),
        Transport::EventSource => Connection::event_source(address, receive, Since::Query, &[channel], since).await?,
        Transport::Poll => {
            let mut poll = Poll::new(address, receive);
            poll.get(&query).await?;
            Connection::Poll(poll)
        }
    })
}

/// Reads once, and gives what it brings to the model.
async fn read(connection: &mut Connection, history: &mut History) -> Result<Vec<Told>, Violation> {
    let pushes = pushes(connection.read().await?);
    pushes
        .iter()
        .filter(|push| push.kind() != "welcome")
        .map(|push| history.take(push))
        .collect()
}

fn pushes(arrivals: Vec<Arrival>) -> Vec<Push> {
    let pushes = arrivals.into_iter().flat_map(|arrival| match arrival {
        Arrival::Push(push) | Arrival::Event { push, .. } => vec![push],
        Arrival::Answer(answer) => answer.pushes,
    });
    pushes.collect()
}

/// What a reader is told at first, `welcome` excepted: so many pushes. A poll's cursor stands after the last of them.
async fn first_pushes(transport: Transport, desk: &Desk, since: &Place, count: usize) -> Result<Vec<Push>, Violation> {
    let mut connection = connect(transport, desk, &since.to_string()).await?;
    let mut all = Vec::new();
    while all.len() < count {
        for arrival in connection.read().await? {
            match arrival {
                Arrival::Push(push) | Arrival::Event { push, .. } => all.push(push),
                Arrival::Answer(answer) => {
                    let last = answer
                        .pushes
                        .last()
                        .map(|push| push.place("to").or(push.place("position")));
                    let expected = last.flatten().unwrap_or_else(|| since.clone());
                    assert_eq!(answer.cursor, expected.to_string());
                    return Ok(answer.pushes);
                }
            }
        }
        all.retain(|push| push.kind() != "welcome");
    }
    Ok(all)
}

/// That a resume from `since` is a gap up to `to`, and then the rest.
async fn resumes_in_gap(desk: &Desk, since: &Place, to: &Place, rest: u64) -> Result<(), Violation> {
    for transport in Transport::ALL {
        let is_poll = transport == Transport::Poll;
        let rest = usize::try_from(rest).unwrap();
        let told = first_pushes(transport, desk, since, 2 + rest).await?;
        if !is_poll {
            assert_eq!((told[0].kind(), told[0].text_of("resume")), ("subscribed", "gap"));
            assert_eq!(told[0].place("position").as_ref(), Some(since));
        }
        let told = &told[usize::from(!is_poll)..];
        assert_eq!(told.len(), 1 + rest, "{transport:?}: {told:?}");
        assert_eq!(told[0].kind(), "gap", "{transport:?}");
        assert_eq!(told[0].place("from").as_ref(), Some(since));
        assert_eq!(told[0].place("to").as_ref(), Some(to));
        for (offset, push) in (to.offset + 1..).zip(&told[1..]) {
            assert_eq!(push.place("position"), Some(to.at(offset)), "{transport:?}");
        }
    }
    Ok(())
}

/// That a resume from `since` is complete, and nothing follows.
async fn resumes_complete_at_the_top(desk: &Desk, since: &Place) -> Result<(), Violation> {
    for transport in Transport::ALL {
        let told = first_pushes(transport, desk, since, 1).await?;
        if transport == Transport::Poll {
            assert!(told.is_empty(), "{told:?}");
            continue;
        }
        assert_eq!((told[0].kind(), told[0].text_of("resume")), ("subscribed", "complete"));
        assert_eq!(told[0].place("position").as_ref(), Some(since));
    }
    Ok(())
}

/// A command that is carried out in a moment must not leave the connection deaf for the next one.
#[tokio::test]
async fn a_command_is_heard_whatever_was_asked_before() {
    let desk = Desk::new(Setup::window(9), Load::Idle);
    let commands = [
        json!({"type": "history", "channel": "a"}),
        json!({"type": "publish", "channel": "a", "data": 1}),
        json!({"type": "subscribe", "channel": "b"}),
        json!({"type": "unsubscribe", "channel": "b"}),
        json!({"type": "no such command"}),
    ];
    for query in [&[][..], &[("channel", "c")]] {
        for command in &commands {
            let mut socket = WebSocket::open(desk.node.address, Receive::Usual, query).await.unwrap();
            for _ in 0..=query.len() {
                socket.push().await.unwrap();
            }
            socket.command(command).await.unwrap();
            socket.push().await.unwrap();
            socket.command(&json!({"type": "ping"})).await.unwrap();
            assert_eq!(socket.push().await.unwrap().kind(), "pong", "after {command}");
        }
    }
}

#[tokio::test]
async fn an_idle_channel_is_complete_however_often_one_comes_back() {
    let mut desk = Desk::new(Setup::window(5), Load::Light);
    let mut connection = connect(Transport::Poll, &desk, "now").await.unwrap();
    let told = pushes(connection.read().await.unwrap());
    let origin = told[0].place("position").unwrap();
    assert_eq!((told[0].text_of("resume"), origin.offset), ("fresh", 0));
    for _ in 0..3 {
        resumes_complete_at_the_top(&desk, &origin).await.unwrap();
    }
    let first = desk.publish(1).await.unwrap().unwrap();
    assert_eq!(
        first,
        origin.at(1),
        "the channel's life began when it was first asked for"
    );
    resumes_complete_at_the_top(&desk, &first).await.unwrap();
}

/// A desk whose engine the test sweeps, and whose time it moves.
fn desk_with_clock(window: usize) -> (Desk, Arc<MemoryEngine>, Arc<Clock>) {
    let clock = Clock::new();
    let engine = Arc::new(MemoryEngine::new(clock.clone()));
    let setup = Setup {
        engine: Some(engine.clone()),
        ..Setup::window(window)
    };
    (Desk::new(setup, Load::Light), engine, clock)
}

#[tokio::test]
async fn a_window_that_is_too_old_is_a_gap_for_those_who_missed_it_alone() {
    let (mut desk, engine, clock) = desk_with_clock(5);
    let top = desk.publish(3).await.unwrap().unwrap();
    clock.advance_ms(Setup::default().window.age_ms_max + 1);
    for _ in 0..2 {
        resumes_complete_at_the_top(&desk, &top).await.unwrap();
        resumes_in_gap(&desk, &top.at(1), &top, 0).await.unwrap();
        engine.sweep();
    }
    let next = desk.publish(1).await.unwrap().unwrap();
    assert_eq!(next, top.at(4), "epoch and top outlive the window");
    resumes_in_gap(&desk, &top.at(2), &top, 1).await.unwrap();
}

#[tokio::test]
async fn a_channel_that_was_forgotten_begins_a_new_epoch() {
    let (mut desk, engine, clock) = desk_with_clock(5);
    let old = desk.publish(3).await.unwrap().unwrap();
    clock.advance_ms(2 * Setup::default().window.position_ttl_ms + 1);
    engine.sweep();
    desk.begin_another_life();
    let new = desk.publish(2).await.unwrap().unwrap();
    assert_eq!(new.offset, 2);
    assert_ne!(new.epoch, old.epoch);
    resumes_in_gap(&desk, &old, &new.at(0), 2).await.unwrap();
    resumes_in_gap(&desk, &old.at(1), &new.at(0), 2).await.unwrap();
}

#[tokio::test]
async fn a_channel_is_not_forgotten_while_somebody_reads_it() {
    let (mut desk, engine, clock) = desk_with_clock(5);
    let mut history = History::new(Arc::clone(&desk.ledger));
    history.ask(Ask::Start);
    let mut connection = connect(Transport::EventSource, &desk, "start").await.unwrap();
    desk.publish(1).await.unwrap();
    for offset in 1..=3 {
        while history.offset() < offset {
            read(&mut connection, &mut history).await.unwrap();
        }
        clock.advance_ms(Setup::default().window.position_ttl_ms * 2);
        engine.sweep();
        desk.publish(1).await.unwrap();
    }
}

/// A position that nobody ever gave out is a gap, never an error: what follows is all that the window holds.
#[tokio::test]
async fn a_forged_position_is_a_gap() {
    let mut desk = Desk::new(Setup::window(2), Load::Light);
    let top = desk.publish(5).await.unwrap().unwrap();
    for forged in ["x-0", "x-4", "0123456789abcdef-5-tag", &format!("{}-5-tag", top.epoch)] {
        resumes_in_gap(&desk, &Place::parse(forged).unwrap(), &top.at(3), 2)
            .await
            .unwrap();
    }
    for offset in [0, 1, 2, 6, u64::MAX - 1, u64::MAX] {
        resumes_in_gap(&desk, &top.at(offset), &top.at(3), 2).await.unwrap();
    }
}
