//! What nodes owe each other when one of them crashes (the contract of `trait Heirs`), with a real Redis and a Cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use support::deadline::until_told;
use support::redis::{Redis, engine};
use support::redis_cluster::Cluster;
use throughline::delivery::{
    ChannelName, Claim, Heirs, Places, Presence, PresenceEvent, Report, SessionKey, Settled, Who,
};
use throughline::engine::RedisPresence;

const LEASE: Duration = Duration::from_secs(60);

fn channels(names: &[&str]) -> Vec<ChannelName> {
    names.iter().map(|name| ChannelName::parse(name).unwrap()).collect()
}

fn came(names: &[&str]) -> Places {
    Places {
        came: channels(names),
        went: Vec::new(),
    }
}

/// One session of this user comes.
fn arrival(user: &str) -> Report {
    Report {
        came: vec![(SessionKey(1), Some(Who::new(user, None)))],
        number: 1,
        ..Report::default()
    }
}

fn shown(settled: Settled) -> Vec<String> {
    let shown = |event: PresenceEvent| match event {
        PresenceEvent::Occupied => "occupied".to_owned(),
        PresenceEvent::Vacated => "vacated".to_owned(),
        PresenceEvent::Joined(member) => format!("joined {}", member.who.user()),
        PresenceEvent::Left(member) => format!("left {}", member.who.user()),
    };
    settled.events.into_iter().map(shown).collect()
}

/// Of the nodes whose leases ended the only one: it takes over so many of its channels.
async fn claim(heirs: &dyn Heirs, settled: &[&str], count_max: usize) -> Vec<String> {
    let known = heirs.say(&Places::default()).await.unwrap();
    let Some(node) = known.ended.into_iter().next() else {
        return Vec::new();
    };
    let claim = Claim {
        node,
        settled: channels(settled),
        count_max,
    };
    let claimed = heirs.claim(&claim).await.unwrap();
    claimed.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_a_node_had_is_taken_over_by_one_and_comes_back_to_it_if_it_lives() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let [first, second, third] = [(); 3].map(|()| RedisPresence::new(engine.clone(), LEASE));
    let [of_first, of_second, of_third] = [&first, &second, &third].map(|presence| presence.heirs().unwrap());
    let pass_leases = |count: u64| redis.pass_ms(count * 60_000 + 1_000);

    assert!(!of_first.say(&came(&["a", "b", "c"])).await.unwrap().is_known);
    assert!(of_first.say(&Places::default()).await.unwrap().is_known);
    let a = ChannelName::parse("a").unwrap();
    first.report(&a, &arrival("ada")).await.unwrap();
    assert!(claim(of_second, &[], 9).await.is_empty(), "its lease holds");
    let settled = of_second.settle(&a).await.unwrap();
    assert!(settled.events.is_empty() && settled.lease_ms.is_some_and(|ms| ms <= 60_000));

    pass_leases(1);
    assert_eq!(claim(of_second, &[], 2).await, ["a", "b"]);
    assert_eq!(claim(of_third, &[], 2).await, ["c"], "the others are taken");
    let settled = of_second.settle(&a).await.unwrap();
    assert_eq!(settled.lease_ms, None);
    assert_eq!(shown(settled), ["left ada", "vacated"]);
    assert!(shown(of_third.settle(&a).await.unwrap()).is_empty(), "it is told once");

    // It was only asleep. Whoever thinks that it has crashed takes nothing away from it any more.
    assert!(!of_first.say(&came(&["a", "b", "c"])).await.unwrap().is_known);
    assert!(claim(of_second, &["a", "b"], 9).await.is_empty());
    assert!(of_first.say(&Places::default()).await.unwrap().is_known);
    let went = Places {
        went: channels(&["b"]),
        came: Vec::new(),
    };
    assert!(of_first.say(&went).await.unwrap().is_known);

    // Whoever has taken it over may crash as well.
    pass_leases(1);
    assert_eq!(claim(of_second, &[], 9).await, ["a", "c"]);
    assert!(claim(of_third, &[], 9).await.is_empty());
    pass_leases(2);
    assert_eq!(claim(of_third, &[], 9).await, ["a", "c"]);
    assert!(claim(of_third, &["a", "c"], 9).await.is_empty());
    let known = of_third.say(&Places::default()).await.unwrap();
    assert!(known.ended.is_empty(), "nothing is left");
    assert_eq!(
        redis.ask::<Vec<String>>(&["KEYS", "*presence*"]).await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn it_is_the_same_in_a_cluster() {
    let cluster = Cluster::start(3, 0, &[]).await;
    let engine = engine(&cluster.url()).await;
    let [first, second] = [(); 2].map(|()| RedisPresence::new(engine.clone(), Duration::from_millis(1)));
    let names = ["a", "b", "c", "d", "e", "f"];
    first.heirs().unwrap().say(&came(&names)).await.unwrap();
    for channel in channels(&names) {
        first.report(&channel, &arrival("ada")).await.unwrap();
    }
    let heirs = second.heirs().unwrap();
    let mut claimed = Vec::new();
    until_told("all of them", async || {
        claimed.extend(claim(heirs, &[], 2).await);
        claimed.sort();
        claimed.dedup();
        claimed == names
    })
    .await;
    for channel in channels(&names) {
        until_told("the end of its lease", async || {
            shown(heirs.settle(&channel).await.unwrap()) == ["left ada", "vacated"]
        })
        .await;
    }
}
