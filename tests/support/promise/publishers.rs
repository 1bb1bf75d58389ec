//! Publishers: they publish what readers wait for, one by one, to many channels, in batches, and sometimes twice.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::value::RawValue;

use super::Violation;
use super::ledger::{Ledger, Sent};
use super::tally::{Happening, Tally};
use super::world::World;
use crate::support::publisher::{Published, Publisher};

/// The most items of one request.
const ITEMS_MAX: usize = 8;

/// One item of a request: whose it is, and what it says.
type Item = (Arc<Ledger>, Sent);

/// Publishes until the world is over.
pub(super) async fn publish(world: Arc<World>, mut rng: Rng) -> Result<Tally, Violation> {
    let mut tally = Tally::default();
    let mut client = Publisher::new(world.nodes[rng.usize(..world.nodes.len())]);
    let mut bell = world.bell();
    while !world.is_over() {
        let items = gather(&world, &mut rng);
        if items.is_empty() {
            bell.changed().await.map_err(std::io::Error::other)?;
            continue;
        }
        let (body, key) = (body_of(&items), format!("{:x}", rng.u64(..)));
        let published = client.publish(&body, &key).await?;
        record(items, &published)?;
        if rng.u8(..10) == 0 {
            let again = client.publish(&body, &key).await?;
            must_be_the_same(&published, &again)?;
            tally.add_many(Happening::Duplicates, again.len() as u64);
        }
        if rng.u8(..20) == 0 {
            world.engine.sweep();
        }
    }
    Ok(tally)
}

/// What is wanted, as far as one request takes it.
fn gather(world: &World, rng: &mut Rng) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let count = if rng.bool() { 1 } else { rng.usize(1..=ITEMS_MAX) };
    let mut ledgers = world.ledgers.clone();
    rng.shuffle(&mut ledgers);
    for ledger in ledgers {
        while items.len() < count && ledger.claim() {
            let data = ledger.channel.data(rng);
            let event = (rng.u8(..4) == 0).then(|| "li\"ke\n".to_owned());
            items.push((Arc::clone(&ledger), Sent { data, event }));
        }
    }
    items
}

fn body_of(items: &[Item]) -> String {
    #[derive(serde::Serialize)]
    struct Asked<'a> {
        channel: &'a str,
        data: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a str>,
    }
    let asked = |(ledger, sent): &Item| {
        let asked = Asked {
            channel: &ledger.channel.name,
            data: serde_json::from_str(&sent.data).expect("it is JSON"),
            event: sent.event.as_deref(),
        };
        serde_json::to_string(&asked).expect("it can be written")
    };
    match items {
        [item] => asked(item),
        items => format!("[{}]", items.iter().map(asked).collect::<Vec<_>>().join(",")),
    }
}

fn record(items: Vec<Item>, published: &[Published]) -> Result<(), Violation> {
    must!(
        published.len() == items.len(),
        "{} items were given {} answers",
        items.len(),
        published.len()
    );
    for ((ledger, sent), published) in items.into_iter().zip(published) {
        must!(
            published.channel == ledger.channel.name && !published.duplicate,
            "a publication to {} was answered {published:?}",
            ledger.channel.name
        );
        ledger.record(&published.place, sent)?;
    }
    Ok(())
}

fn must_be_the_same(first: &[Published], again: &[Published]) -> Result<(), Violation> {
    let repeated = first.iter().map(|first| Published {
        duplicate: true,
        ..first.clone()
    });
    must!(
        repeated.eq(again.iter().cloned()),
        "{first:?} was repeated under the same key, and answered {again:?}"
    );
    Ok(())
}
