//! What every engine owes (the contract of `trait Engine`), asked of each engine through the same tests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test, what is not as it should be is a panic"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use throughline::delivery::{
    Ack, ChannelName, Delivery, Draft, Engine, EngineErrorKind, Gap, Health, IdempotencyKey, Joined, LogPolicy,
    Outside, Position, Publication, Published, Resume, Since, Subscription, subscribe,
};
use throughline::engine::redis::Prefix;
use throughline::engine::{MemoryEngine, RedisEngine, RedisSettings};

use crate::support::deadline::until;
use crate::support::redis::Redis;
use crate::support::redis_cluster::Cluster;

/// Time that stands until it is moved, and numbers that never repeat.
#[derive(Debug)]
struct Simulated {
    now_ms: AtomicU64,
    drawn: AtomicU64,
}

impl Outside for Simulated {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn random(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::SeqCst)
    }
}

const POLICY: LogPolicy = LogPolicy {
    count_max: 10,
    bytes_max: 1 << 20,
    age_ms_max: 60_000,
    position_ttl_ms: 3_600_000,
};

/// An engine, and what its time is.
struct World {
    outside: Arc<Simulated>,
    engine: Arc<dyn Engine>,
    keeper: Keeper,
}

/// What keeps the logs.
enum Keeper {
    Memory(Arc<MemoryEngine>),
    Redis(Vec<Redis>),
}

fn simulated() -> Arc<Simulated> {
    Arc::new(Simulated {
        now_ms: AtomicU64::new(1_000),
        drawn: AtomicU64::new(0),
    })
}

fn memory() -> World {
    let outside = simulated();
    let memory = Arc::new(MemoryEngine::new(Arc::clone(&outside) as Arc<dyn Outside>));
    World {
        outside,
        engine: Arc::clone(&memory) as Arc<dyn Engine>,
        keeper: Keeper::Memory(memory),
    }
}

async fn on_redis(keepers: Vec<Redis>, url: String) -> World {
    let outside = simulated();
    let settings = RedisSettings {
        url,
        prefix: Prefix::default(),
    };
    let engine = RedisEngine::start(settings, Arc::clone(&outside) as Arc<dyn Outside>).unwrap();
    until("Redis", || engine.check().is_ok()).await;
    World {
        outside,
        engine: Arc::new(engine),
        keeper: Keeper::Redis(keepers),
    }
}

async fn redis() -> World {
    let redis = Redis::start(&[]).await;
    let url = redis.url();
    on_redis(vec![redis], url).await
}

async fn two_redis() -> World {
    let both = vec![Redis::start(&[]).await, Redis::start(&[]).await];
    let url = format!("{}#one\n{}#two", both[0].url(), both[1].url());
    on_redis(both, url).await
}

async fn redis_cluster() -> World {
    // Time that leaps must not make the nodes believe that the others have failed.
    let cluster = Cluster::start(3, 0, &["--cluster-node-timeout", "1000000000"]).await;
    let url = cluster.url();
    on_redis(cluster.primaries, url).await
}

/// What an engine keeps of its channels.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// The position of one channel.
    Position,
    More,
}

impl World {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }

    fn pass_ms(&self, ms: u64) {
        self.outside.now_ms.fetch_add(ms, Ordering::SeqCst);
        match &self.keeper {
            Keeper::Memory(memory) => memory.sweep(),
            Keeper::Redis(all) => all.iter().for_each(|redis| redis.pass_ms(ms)),
        }
    }

    async fn kept(&self) -> Kept {
        match &self.keeper {
            Keeper::Memory(memory) => match memory.channel_counts() {
                (0, 0) => Kept::Nothing,
                (1, 1) => Kept::Position,
                _ => Kept::More,
            },
            Keeper::Redis(all) => {
                let mut keys = Vec::new();
                for redis in all {
                    keys.extend(redis.ask::<Vec<String>>(&["KEYS", "*"]).await);
                }
                match &keys[..] {
                    [] => Kept::Nothing,
                    [only] if only.ends_with(":top") => Kept::Position,
                    _ => Kept::More,
                }
            }
        }
    }

    async fn publish(&self, draft: Draft) -> Result<Published, EngineErrorKind> {
        self.engine()
            .publish(&[draft])
            .await
            .remove(0)
            .map_err(|error| error.kind())
    }

    async fn publish_many(&self, count: u64) -> Position {
        self.publish_each(count).await.pop().unwrap()
    }

    async fn publish_each(&self, count: u64) -> Vec<Position> {
        let drafts: Vec<_> = (0..count).map(|n| draft(&n.to_string())).collect();
        let results = self.engine().publish(&drafts).await;
        results.into_iter().map(|result| result.unwrap().position).collect()
    }

    async fn subscribe(&self, since: Since) -> (Joined, Subscription) {
        subscribe(self.engine(), channel(), since).await.unwrap()
    }
}

fn channel() -> ChannelName {
    ChannelName::parse("c").unwrap()
}

fn draft(data: &str) -> Draft {
    Draft {
        channel: channel(),
        data: data.to_owned().into(),
        event: None,
        sender: None,
        key: None,
        policy: POLICY,
        ack: Ack::Stored,
    }
}

fn keyed(data: &str, publisher: &str) -> Draft {
    let key = IdempotencyKey {
        publisher: Arc::from(publisher),
        key: "k".into(),
        nth: 0,
    };
    Draft {
        key: Some(key),
        ..draft(data)
    }
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let delivery = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await;
    delivery
        .expect("a delivery within 10 s")
        .expect("a subscription that goes on")
}

async fn offsets(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    for _ in 0..count {
        match next(subscription).await {
            Delivery::Publication(publication) => offsets.push(publication.position.offset),
            other @ (Delivery::Gap(_) | Delivery::Ended(_)) => panic!("{other:?} after {offsets:?}"),
        }
    }
    offsets
}

async fn a_fresh_reader_gets_what_comes_and_an_early_one_all_there_is(world: World) {
    let top = world.publish_many(3).await;
    let (joined, mut now) = world.subscribe(Since::Now).await;
    assert_eq!(
        joined,
        Joined {
            position: top,
            resume: Resume::Fresh
        }
    );
    let (_, mut start) = world.subscribe(Since::Start).await;
    let (_, mut last) = world.subscribe(Since::Last(1)).await;
    world.publish_many(2).await;
    assert_eq!(offsets(&mut now, 2).await, [4, 5]);
    assert_eq!(offsets(&mut start, 5).await, [1, 2, 3, 4, 5]);
    assert_eq!(offsets(&mut last, 3).await, [3, 4, 5]);
}

async fn a_reader_that_comes_back_misses_nothing_that_the_window_holds(world: World) {
    let left_at = world.publish_many(3).await;
    world.publish_many(10).await;
    let (joined, mut subscription) = world.subscribe(Since::After(left_at)).await;
    assert_eq!(
        joined,
        Joined {
            position: left_at,
            resume: Resume::Complete
        }
    );
    assert_eq!(offsets(&mut subscription, 10).await, (4..=13).collect::<Vec<_>>());
}

async fn a_reader_that_was_away_too_long_is_told_exactly_what_it_lost(world: World) {
    let left_at = world.publish_many(2).await;
    let missed = world.publish_each(11).await;
    let (joined, mut subscription) = world.subscribe(Since::After(left_at)).await;
    assert_eq!(
        joined,
        Joined {
            position: left_at,
            resume: Resume::Gap
        }
    );
    let Delivery::Gap(gap) = next(&mut subscription).await else {
        panic!("the gap comes first")
    };
    assert_eq!(
        gap,
        Gap {
            from: left_at,
            to: missed[0]
        }
    );
    assert_eq!(offsets(&mut subscription, 10).await, (4..=13).collect::<Vec<_>>());
}

async fn a_reader_that_is_lapped_catches_up_from_the_window_or_is_told(world: World) {
    let (_, mut lapped) = world.subscribe(Since::Now).await;
    let (_, mut witness) = world.subscribe(Since::Now).await;
    let top = world.publish_many(200).await;
    // Publications reach the tail in their own time. When one reader has the last one, all have been there.
    while witness.cursor() != top {
        next(&mut witness).await;
    }
    let Delivery::Gap(gap) = next(&mut lapped).await else {
        panic!("the tail and the window have passed it by")
    };
    assert_eq!((gap.from.offset, gap.to.offset), (0, 190));
    assert_eq!(offsets(&mut lapped, 10).await, (191..=200).collect::<Vec<_>>());

    let wide = LogPolicy {
        count_max: 1_000,
        ..POLICY
    };
    let drafts = vec![
        Draft {
            policy: wide,
            ..draft("1")
        };
        500
    ];
    for result in world.engine().publish(&drafts).await {
        result.unwrap();
    }
    assert_eq!(offsets(&mut lapped, 500).await, (201..=700).collect::<Vec<_>>());
}

async fn live_readers_need_no_window(world: World) {
    let none = LogPolicy { count_max: 0, ..POLICY };
    let (joined, mut live) = world.subscribe(Since::Now).await;
    for _ in 0..3 {
        world
            .publish(Draft {
                policy: none,
                ..draft("1")
            })
            .await
            .unwrap();
    }
    assert_eq!(offsets(&mut live, 3).await, [1, 2, 3]);
    let (late, _) = world.subscribe(Since::After(joined.position)).await;
    assert_eq!(late.resume, Resume::Gap);
}

async fn a_repeated_key_is_answered_with_the_first_position(world: World) {
    let first = world.publish(keyed("1", "ada")).await.unwrap();
    assert!(!first.duplicate);
    assert_eq!(
        world.publish(keyed("1", "ada")).await,
        Ok(Published {
            duplicate: true,
            ..first
        })
    );
    assert_eq!(
        world.publish(keyed("2", "ada")).await,
        Err(EngineErrorKind::KeyMismatch)
    );
    let of_another = world.publish(keyed("2", "bob")).await.unwrap();
    assert_eq!((of_another.duplicate, of_another.position.offset), (false, 2));
    world.pass_ms(4 * 60_000);
    assert!(
        world.publish(keyed("1", "ada")).await.unwrap().duplicate,
        "a key lives for five minutes"
    );
    world.pass_ms(2 * 60_000);
    assert!(!world.publish(keyed("1", "ada")).await.unwrap().duplicate);
}

async fn nothing_happened_is_complete_for_as_long_as_positions_live(world: World) {
    let (unused, subscription) = world.subscribe(Since::Now).await;
    drop(subscription);
    world.pass_ms(POLICY.position_ttl_ms / 2);
    let (joined, subscription) = world.subscribe(Since::After(unused.position)).await;
    assert_eq!(
        joined.resume,
        Resume::Complete,
        "a channel that never had a publication"
    );
    drop(subscription);

    let top = world.publish_many(20).await;
    world.pass_ms(POLICY.age_ms_max + 1);
    world.pass_ms(POLICY.position_ttl_ms / 2);
    assert_eq!(world.kept().await, Kept::Position, "only its position is left");
    let (joined, subscription) = world.subscribe(Since::After(top)).await;
    assert_eq!(
        joined,
        Joined {
            position: top,
            resume: Resume::Complete
        }
    );
    drop(subscription);
}

async fn a_channel_that_is_born_again_is_never_taken_for_the_one_before(world: World) {
    let old = world.publish_many(5).await;
    for _ in 0..3 {
        world.pass_ms(POLICY.age_ms_max + POLICY.position_ttl_ms);
    }
    assert_eq!(world.kept().await, Kept::Nothing, "it costs nothing any more");
    let top = world.publish_many(5).await;
    assert_ne!(old.epoch, top.epoch);
    let (joined, mut subscription) = world.subscribe(Since::After(old)).await;
    assert_eq!(
        joined,
        Joined {
            position: old,
            resume: Resume::Gap
        }
    );
    let Delivery::Gap(gap) = next(&mut subscription).await else {
        panic!("the gap comes first")
    };
    assert_eq!(
        gap,
        Gap {
            from: old,
            to: Position::origin(top.epoch)
        }
    );
    assert_eq!(offsets(&mut subscription, 5).await, [1, 2, 3, 4, 5]);
}

async fn a_forged_or_future_position_is_a_gap_and_never_an_error(world: World) {
    let top = world.publish_many(5).await;
    let future = Position { offset: 6, ..top };
    let foreign: Position = "zzzz-3".parse().unwrap();
    for from in [
        future,
        foreign,
        Position {
            offset: u64::MAX,
            ..top
        },
    ] {
        let (joined, mut subscription) = world.subscribe(Since::After(from)).await;
        assert_eq!(
            joined,
            Joined {
                position: from,
                resume: Resume::Gap
            }
        );
        let Delivery::Gap(gap) = next(&mut subscription).await else {
            panic!("the gap comes first")
        };
        assert_eq!(
            gap,
            Gap {
                from,
                to: Position::origin(top.epoch)
            }
        );
        assert_eq!(offsets(&mut subscription, 5).await, [1, 2, 3, 4, 5]);
    }
}

async fn many_publishers_give_one_order_to_all_readers(world: World) {
    let wide = LogPolicy {
        count_max: 10_000,
        bytes_max: 1 << 30,
        ..POLICY
    };
    let readers: Vec<_> = futures_util::future::join_all((0..8).map(|_| world.subscribe(Since::Now))).await;
    let publishers = (0..4).map(|publisher| {
        let engine = world.engine();
        tokio::spawn(async move {
            for n in 0..500 {
                let data = format!("[{publisher},{n}]");
                engine
                    .publish(&[Draft {
                        policy: wide,
                        ..draft(&data)
                    }])
                    .await
                    .remove(0)
                    .unwrap();
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut seen: Vec<Vec<bytes::Bytes>> = Vec::new();
    for (_, mut subscription) in readers {
        let mut data = Vec::new();
        for offset in 1..=2000 {
            let Delivery::Publication(publication) = next(&mut subscription).await else {
                panic!("a gap at {offset}")
            };
            assert_eq!(publication.position.offset, offset);
            data.push(publication.data.clone());
        }
        seen.push(data);
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

async fn a_publish_that_is_dropped_half_way_still_wakes_the_readers(world: World) {
    let mut readers: Vec<_> = futures_util::future::join_all((0..2_000).map(|_| world.subscribe(Since::Now))).await;
    let waiting: Vec<_> = readers.iter_mut().map(|(_, subscription)| next(subscription)).collect();
    let mut waiting = Box::pin(futures_util::future::join_all(waiting));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let engine = world.engine();
    let drafts = [draft("1")];
    let mut publish = engine.publish(&drafts);
    assert!(
        futures_util::poll!(&mut publish).is_pending(),
        "so many readers are not woken at once"
    );
    drop(publish);
    assert_eq!(waiting.await.len(), 2_000);
}

async fn words_and_data_are_kept_as_they_were(world: World) {
    let (_, mut subscription) = world.subscribe(Since::Now).await;
    let words = [None, Some(""), Some("-"), Some("a\nb 7"), Some("日本")];
    let mut expected = Vec::new();
    for event in words {
        for sender in words {
            let (event, sender): (Option<Box<str>>, Option<Box<str>>) = (event.map(Into::into), sender.map(Into::into));
            let drafted = Draft {
                event: event.clone(),
                sender: sender.clone(),
                ..draft("\"1\\n\"")
            };
            world.publish(drafted).await.unwrap();
            let Delivery::Publication(live) = next(&mut subscription).await else {
                panic!("nothing is missing")
            };
            assert_eq!(
                (&live.event, &live.sender, &live.data[..]),
                (&event, &sender, &b"\"1\\n\""[..])
            );
            expected.push((event, sender));
        }
    }
    let page = world.engine().history(&channel(), Since::Last(5), 5).await.unwrap();
    let kept = page.publications.iter();
    let kept: Vec<_> = kept
        .map(|publication| (publication.event.clone(), publication.sender.clone()))
        .collect();
    assert_eq!(kept, expected[expected.len() - 5..]);
}

async fn bytes_and_age_bound_the_window(world: World) {
    let data = "1".repeat(1_000);
    let size = Publication::new(&draft(&data), "e-0".parse().unwrap(), 0).bytes_max();
    let narrow = LogPolicy {
        bytes_max: 5 * size + size / 2,
        ..POLICY
    };
    for _ in 0..8 {
        let policy = narrow;
        world.publish(Draft { policy, ..draft(&data) }).await.unwrap();
    }
    let held = || async {
        let page = world.engine().history(&channel(), Since::Start, 99).await.unwrap();
        let offsets = page.publications.iter().map(|publication| publication.position.offset);
        (page.start.offset, offsets.collect::<Vec<_>>(), page.top.offset)
    };
    assert_eq!(held().await, (3, vec![4, 5, 6, 7, 8], 8));
    world.pass_ms(POLICY.age_ms_max / 2);
    world.publish(draft("1")).await.unwrap();
    world.pass_ms(POLICY.age_ms_max / 2 + 1_000);
    assert_eq!(held().await, (8, vec![9], 9));
    world.pass_ms(POLICY.age_ms_max);
    assert_eq!(held().await, (9, vec![], 9));
    let policy = LogPolicy {
        bytes_max: size / 2,
        ..POLICY
    };
    world.publish(Draft { policy, ..draft(&data) }).await.unwrap();
    assert_eq!(held().await, (10, vec![], 10), "one that does not fit is not kept");
}

async fn a_batch_for_many_channels_is_answered_in_its_order(world: World) {
    let name = |n: usize| ChannelName::parse(&format!("{{}}c:{}", n % 40)).unwrap();
    let batch: Vec<_> = (0..120)
        .map(|n| Draft {
            channel: name(n),
            ..draft(&n.to_string())
        })
        .collect();
    let answers = world.engine().publish(&batch).await;
    let landed: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().position).collect();
    let offsets: Vec<_> = landed.iter().map(|position| position.offset).collect();
    let rounds = |n: u64| std::iter::repeat_n(n, 40);
    assert_eq!(offsets, rounds(1).chain(rounds(2)).chain(rounds(3)).collect::<Vec<_>>());
    for n in 0..40 {
        let page = world.engine().history(&name(n), Since::Start, 9).await.unwrap();
        let held: Vec<_> = page.publications.iter().map(|held| held.position).collect();
        assert_eq!(held, [landed[n], landed[n + 40], landed[n + 80]]);
    }
}

/// Asks the same of every engine.
macro_rules! every_engine {
    ($($test:ident)+) => {
        mod of_memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::memory()).await;
            })+
        }

        mod of_redis {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::redis().await).await;
            })+
        }

        mod of_two_redis {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::two_redis().await).await;
            })+
        }

        mod of_a_redis_cluster {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::redis_cluster().await).await;
            })+
        }
    };
}

every_engine! {
    a_fresh_reader_gets_what_comes_and_an_early_one_all_there_is
    a_reader_that_comes_back_misses_nothing_that_the_window_holds
    a_reader_that_was_away_too_long_is_told_exactly_what_it_lost
    a_reader_that_is_lapped_catches_up_from_the_window_or_is_told
    live_readers_need_no_window
    a_repeated_key_is_answered_with_the_first_position
    nothing_happened_is_complete_for_as_long_as_positions_live
    a_channel_that_is_born_again_is_never_taken_for_the_one_before
    a_forged_or_future_position_is_a_gap_and_never_an_error
    many_publishers_give_one_order_to_all_readers
    words_and_data_are_kept_as_they_were
    bytes_and_age_bound_the_window
    a_publish_that_is_dropped_half_way_still_wakes_the_readers
    a_batch_for_many_channels_is_answered_in_its_order
}
