//! A snapshot brings back what there was, or is refused as a whole; and it is good for one life.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use support::clock::Clock;
use support::folder::Folder;
use throughline::delivery::{
    Ack, ChannelName, Draft, Engine, EngineErrorKind, IdempotencyKey, LogPolicy, Page, Position, Published, Since,
};
use throughline::engine::{Contents, MemoryEngine, Snapshot};

const POLICY: LogPolicy = LogPolicy {
    count_max: 5,
    bytes_max: 1 << 20,
    age_ms_max: 60_000,
    position_ttl_ms: 3_600_000,
};

/// As the engine has it; written down here so that a change of it is noticed.
const KEY_TTL_MS: u64 = 300_000;

struct World {
    folder: Folder,
    clock: Arc<Clock>,
}

impl World {
    fn new() -> Self {
        Self {
            folder: Folder::new("snapshot"),
            clock: Clock::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("snapshot")
    }

    fn engine(&self) -> MemoryEngine {
        MemoryEngine::new(self.clock.clone())
    }

    fn save(&self, engine: &MemoryEngine) -> Contents {
        Snapshot::hold(self.path()).unwrap().save(engine).unwrap()
    }

    fn load(&self) -> MemoryEngine {
        let loaded = Snapshot::hold(self.path()).unwrap().load(self.clock.clone());
        loaded.unwrap().0
    }

    /// What loading says, in words.
    fn refusal(&self) -> String {
        let loaded = Snapshot::hold(self.path()).unwrap().load(self.clock.clone());
        let error = loaded.expect_err("what is damaged is not loaded");
        assert!(error.is_damage(), "{error}");
        error.to_string()
    }
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn draft(channel: &str, data: &str) -> Draft {
    Draft {
        channel: name(channel),
        data: data.to_owned().into(),
        event: Some(format!("event of {data}").into()),
        sender: Some(format!("sender of {data}").into()),
        key: None,
        policy: POLICY,
        ack: Ack::Stored,
    }
}

fn keyed(channel: &str, data: &str, key: &str) -> Draft {
    Draft {
        key: Some(IdempotencyKey {
            publisher: "somebody".into(),
            key: key.into(),
            nth: 3,
        }),
        ..draft(channel, data)
    }
}

async fn publish(engine: &MemoryEngine, draft: Draft) -> Result<Published, EngineErrorKind> {
    let mut results = engine.publish(&[draft]).await;
    results.remove(0).map_err(|error| error.kind())
}

async fn store(engine: &MemoryEngine, channel: &str, count: u64) -> Position {
    let mut last = None;
    for n in 0..count {
        last = Some(publish(engine, draft(channel, &n.to_string())).await.unwrap().position);
    }
    last.unwrap()
}

async fn page(engine: &MemoryEngine, channel: &str, since: Since) -> Page {
    engine.history(&name(channel), since, 1_000).await.unwrap()
}

/// What a reader sees of a page.
fn shown(page: &Page) -> String {
    format!("{page:?}")
}

#[tokio::test]
async fn what_there_was_is_there_again() {
    let world = World::new();
    let engine = world.engine();
    let top = store(&engine, "a", 8).await;
    world.clock.advance_ms(7);
    store(&engine, "a", 1).await;
    let first = publish(&engine, keyed("b", "1", "k")).await.unwrap();
    let unused = page(&engine, "never:published", Since::Now).await.top;
    let before = [
        page(&engine, "a", Since::Start).await,
        page(&engine, "b", Since::Start).await,
    ];
    let contents = world.save(&engine);
    assert_eq!((contents.channels, contents.publications, contents.keys), (3, 6, 1));

    let engine = world.load();
    let after = [
        page(&engine, "a", Since::Start).await,
        page(&engine, "b", Since::Start).await,
    ];
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(shown(before), shown(after), "epochs, positions, times, events and data");
    }
    assert_eq!(page(&engine, "a", Since::After(top)).await.gap, None);
    assert_eq!(page(&engine, "never:published", Since::After(unused)).await.gap, None);
    let again = publish(&engine, keyed("b", "1", "k")).await.unwrap();
    assert_eq!((again.position, again.duplicate), (first.position, true));
    let other = publish(&engine, keyed("b", "2", "k")).await;
    assert_eq!(other, Err(EngineErrorKind::KeyMismatch));
    let next = store(&engine, "a", 1).await;
    assert_eq!((next.epoch, next.offset), (top.epoch, 10));
}

#[tokio::test]
async fn what_is_saved_twice_is_the_same_once_more() {
    let world = World::new();
    let engine = world.engine();
    for channel in 0..300 {
        publish(&engine, keyed(&format!("c{channel}"), "{}", "k"))
            .await
            .unwrap();
    }
    for key in 0..3_000 {
        publish(&engine, keyed("many", &key.to_string(), &key.to_string()))
            .await
            .unwrap();
    }
    let saved = world.save(&engine);
    assert_eq!(saved.keys, 3_300);
    let engine = world.load();
    for key in 0..3_000 {
        let draft = keyed("many", &key.to_string(), &key.to_string());
        assert!(publish(&engine, draft).await.unwrap().duplicate, "key {key}");
    }
    assert_eq!(world.save(&engine), saved);
}

/// Time goes on while no process runs: windows, keys and positions are as old as the wall clock says.
#[tokio::test]
async fn what_is_too_old_by_now_is_gone() {
    let world = World::new();
    let engine = world.engine();
    let top = store(&engine, "a", 2).await;
    publish(&engine, keyed("k", "1", "k")).await.unwrap();
    world.save(&engine);

    world.clock.advance_ms(POLICY.age_ms_max + 1);
    let engine = world.load();
    let aged = page(&engine, "a", Since::Start).await;
    assert_eq!((aged.publications.len(), aged.top), (0, top));
    assert!(publish(&engine, keyed("k", "1", "k")).await.unwrap().duplicate);
    world.save(&engine);

    world.clock.advance_ms(KEY_TTL_MS);
    let engine = world.load();
    assert!(!publish(&engine, keyed("k", "1", "k")).await.unwrap().duplicate);
    engine.sweep();
    assert_eq!(engine.channel_counts(), (2, 1), "the first one sleeps");
    world.save(&engine);

    let engine = world.load();
    assert_eq!(engine.channel_counts(), (2, 1));
    assert_eq!(page(&engine, "a", Since::After(top)).await.gap, None);
    engine.sweep();
    world.save(&engine);
    world.clock.advance_ms(48 * 3_600_000);
    let engine = world.load();
    engine.sweep();
    engine.sweep();
    assert_ne!(page(&engine, "a", Since::Now).await.top.epoch, top.epoch);
}

#[tokio::test]
async fn a_clock_that_was_set_back_reorders_nothing_and_keeps_nothing_for_longer() {
    let world = World::new();
    let engine = world.engine();
    publish(&engine, keyed("a", "1", "k")).await.unwrap();
    let time_ms = page(&engine, "a", Since::Start).await.publications[0].time_ms;
    world.save(&engine);

    world.clock.set_back_ms(10_000_000);
    let engine = world.load();
    store(&engine, "a", 1).await;
    let times: Vec<_> = page(&engine, "a", Since::Start)
        .await
        .publications
        .iter()
        .map(|one| one.time_ms)
        .collect();
    assert_eq!(times, [time_ms, time_ms]);
    assert!(publish(&engine, keyed("a", "1", "k")).await.unwrap().duplicate);
    world.clock.advance_ms(KEY_TTL_MS + 1);
    assert!(!publish(&engine, keyed("a", "1", "k")).await.unwrap().duplicate);
}

/// A small snapshot with a record of each kind.
async fn small(world: &World) -> Vec<u8> {
    let engine = world.engine();
    publish(&engine, keyed("a", "1", "k")).await.unwrap();
    publish(&engine, draft("a", "2")).await.unwrap();
    store(&engine, "b", 1).await;
    world.clock.advance_ms(POLICY.age_ms_max + 1);
    engine.sweep();
    store(&engine, "c", 2).await;
    assert_eq!(engine.channel_counts(), (3, 1));
    world.save(&engine);
    fs::read(world.path()).unwrap()
}

#[tokio::test]
async fn a_bit_that_flipped_anywhere_is_noticed() {
    let world = World::new();
    let whole = small(&world).await;
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            fs::write(world.path(), &flipped).unwrap();
            let said = world.refusal();
            assert!(said.contains("Remove the file"), "{said}");
            assert_eq!(fs::read(world.path()).unwrap(), flipped, "it is left as it is");
        }
    }
    fs::write(world.path(), &whole).unwrap();
    world.load();
}

#[tokio::test]
async fn a_file_that_is_cut_short_anywhere_is_noticed_and_so_is_a_longer_one() {
    let world = World::new();
    let whole = small(&world).await;
    for len in 0..whole.len() {
        fs::write(world.path(), &whole[..len]).unwrap();
        let said = world.refusal();
        assert!(
            said.contains("cut short") || (len < 16 && said.contains("is not a snapshot")),
            "{len}: {said}"
        );
    }
    fs::write(world.path(), [&whole[..], b"\0"].concat()).unwrap();
    assert!(world.refusal().contains("more follows"));
    fs::write(world.path(), [&whole[..], &whole].concat()).unwrap();
    assert!(world.refusal().contains("more follows"));
}

/// Where each block begins, and where the file ends.
fn blocks(snapshot: &[u8]) -> Vec<usize> {
    let mut starts = vec![20];
    while let Some(&at) = starts.last().filter(|at| **at < snapshot.len()) {
        let len = u32::from_le_bytes(snapshot[at..at + 4].try_into().unwrap());
        starts.push(at + 8 + len as usize);
    }
    starts
}

/// Each block is right for itself: only that it stands in its place tells.
#[tokio::test]
async fn blocks_that_are_left_out_repeated_or_swapped_are_noticed() {
    let world = World::new();
    let whole = small(&world).await;
    let starts = blocks(&whole);
    assert_eq!(starts.last(), Some(&whole.len()));
    for two in starts.windows(2) {
        let (before, block, after) = (&whole[..two[0]], &whole[two[0]..two[1]], &whole[two[1]..]);
        fs::write(world.path(), [before, after].concat()).unwrap();
        world.refusal();
        fs::write(world.path(), [before, block, block, after].concat()).unwrap();
        world.refusal();
    }
    for three in starts.windows(3) {
        let (first, second) = (&whole[three[0]..three[1]], &whole[three[1]..three[2]]);
        fs::write(
            world.path(),
            [&whole[..three[0]], second, first, &whole[three[2]..]].concat(),
        )
        .unwrap();
        world.refusal();
    }
}

#[tokio::test]
async fn another_version_and_another_file_are_named() {
    let world = World::new();
    let mut whole = small(&world).await;
    whole[16] = 9;
    fs::write(world.path(), &whole).unwrap();
    let said = world.refusal();
    assert!(
        said.contains("format version 9") && said.contains("reads version 2"),
        "{said}"
    );
    for foreign in [&b""[..], b"{}", b"#!/bin/sh\necho a file of somebody else\n"] {
        fs::write(world.path(), foreign).unwrap();
        assert!(world.refusal().contains("is not a snapshot"));
    }
    fs::remove_file(world.path()).unwrap();
    fs::create_dir(world.path()).unwrap();
    world.refusal();
}

#[tokio::test]
async fn it_is_consumed_by_loading() {
    let world = World::new();
    let engine = world.engine();
    let top = store(&engine, "a", 1).await;
    world.save(&engine);
    assert_eq!(page(&world.load(), "a", Since::Now).await.top, top);
    assert!(!world.path().exists());
    assert_ne!(page(&world.load(), "a", Since::Now).await.top.epoch, top.epoch);
}

#[tokio::test]
async fn its_place_belongs_to_one_at_a_time() {
    let world = World::new();
    let held = Snapshot::hold(world.path()).unwrap();
    let refused = Snapshot::hold(world.path()).unwrap_err().to_string();
    assert!(
        refused.contains("another process") && refused.contains("snapshot"),
        "{refused}"
    );
    drop(held);
    Snapshot::hold(world.path()).unwrap();
    let nowhere = world.folder.path().join("no such folder/snapshot");
    let refused = Snapshot::hold(nowhere).unwrap_err().to_string();
    assert!(refused.contains("folder must be there"), "{refused}");
}

#[tokio::test]
async fn nobody_else_may_read_it() {
    let world = World::new();
    fs::write(
        world.folder.path().join("snapshot.part"),
        "what another end left behind",
    )
    .unwrap();
    world.save(&world.engine());
    let mode = fs::metadata(world.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!world.folder.path().join("snapshot.part").exists());
}

#[tokio::test]
async fn a_sealed_engine_stores_nothing_and_gives_birth_to_nothing() {
    let world = World::new();
    let engine = world.engine();
    let top = store(&engine, "a", 3).await;
    world.save(&engine);
    let unavailable = Err(EngineErrorKind::Unavailable);
    assert_eq!(publish(&engine, draft("a", "late")).await, unavailable);
    assert_eq!(publish(&engine, draft("new", "late")).await, unavailable);
    assert!(engine.history(&name("new"), Since::Now, 1).await.is_err());
    assert!(engine.attach(&name("new")).await.is_err());
    assert_eq!(page(&engine, "a", Since::Start).await.publications.len(), 3);
    let engine = world.load();
    assert_eq!(page(&engine, "a", Since::Now).await.top, top);
}

/// Publishers go on while it is written: what they are told is stored is in it, all of it and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_while_it_was_sealed_is_in_it() {
    for _ in 0..50 {
        let world = World::new();
        let engine = Arc::new(world.engine());
        let publishers: Vec<_> = (0..4)
            .map(|channel| {
                let engine = Arc::clone(&engine);
                let channel = format!("c{channel}");
                tokio::spawn(async move {
                    let mut acked = None;
                    while let Ok(published) = publish(&engine, draft(&channel, "1")).await {
                        acked = Some(published.position);
                        tokio::task::yield_now().await;
                    }
                    (channel, acked)
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let sealed = Arc::clone(&engine);
        let hold = Snapshot::hold(world.path()).unwrap();
        tokio::task::spawn_blocking(move || hold.save(&sealed).unwrap())
            .await
            .unwrap();
        let engine = world.load();
        for publisher in publishers {
            let (channel, acked) = publisher.await.unwrap();
            if let Some(acked) = acked {
                assert_eq!(page(&engine, &channel, Since::Now).await.top, acked);
            }
        }
    }
}
