//! Those that a URL names so that they say where Redis is: why each of them does not.

use futures_util::future::join_all;
use redis::{ConnectionInfo, Value};

use super::super::cluster::what_it_says;
use super::super::look::look;
use super::super::trouble::Trouble;
use super::super::url::Service;
use super::reach::reach;
use super::{Finding, Weight, ask};

/// Why Sentinels do not say where the primary is.
pub(in super::super) async fn of_sentinels(service: &Service) -> Vec<Finding> {
    let asked = service.sentinels.iter().map(|sentinel| async move {
        let why = of_sentinel(sentinel, service).await;
        Finding {
            what: format!(
                "no Sentinel says where the primary is: {}: {}",
                sentinel.addr(),
                why.what
            ),
            ..why
        }
    });
    join_all(asked).await
}

async fn of_sentinel(sentinel: &ConnectionInfo, service: &Service) -> Finding {
    let mut connection = match reach(sentinel).await {
        Ok((_, connection)) => connection,
        Err(trouble) => return finding_of_sentinel(&trouble),
    };
    let Err(error) = ask(&mut connection, &["SENTINEL", "MASTER", &service.name]).await else {
        return late();
    };
    let trouble = look(Trouble::of(&error), sentinel).await;
    let mut why = finding_of_sentinel(&trouble);
    if trouble == Trouble::NoService {
        why.what = format!("it watches nothing that is called {}", service.name);
        let masters = ask(&mut connection, &["SENTINEL", "MASTERS"]).await;
        let names = names_of(masters.unwrap_or(Value::Nil));
        if !names.is_empty() {
            why.fix = format!("the URL ends with /{}, which it watches", names.join(" or with /"));
        }
    }
    why
}

fn finding_of_sentinel(trouble: &Trouble) -> Finding {
    Finding::new(trouble.weight(), trouble.to_string(), trouble.fix_of_sentinel())
}

/// What Sentinels watch.
pub(super) fn names_of(masters: Value) -> Vec<String> {
    let masters: Vec<Value> = redis::from_redis_value(masters).unwrap_or_default();
    let facts = masters.into_iter().filter_map(|facts| {
        let facts: std::collections::HashMap<String, String> = redis::from_redis_value(facts).ok()?;
        facts.get("name").cloned()
    });
    facts.collect()
}

/// Why nodes of a Cluster do not say who has which slots, in their order.
pub(in super::super) async fn of_cluster(nodes: &[ConnectionInfo]) -> Vec<Finding> {
    let asked = nodes.iter().map(|node| async {
        let why = of_node(node).await;
        Finding {
            what: format!("no node of the Cluster says who has which slots: {}", why.what),
            ..why
        }
    });
    join_all(asked).await
}

async fn of_node(node: &ConnectionInfo) -> Finding {
    let mut connection = match reach(node).await {
        Ok((_, connection)) => connection,
        Err(trouble) => return Finding::from(&trouble),
    };
    match what_it_says(&mut connection).await {
        Ok((info, _)) if info.contains("cluster_slots_assigned:0") => Finding::from(&Trouble::NoSlots),
        Ok(_) => late(),
        Err(error) => {
            let trouble = look(Trouble::of(&error), node).await;
            let mut why = Finding::from(&trouble);
            if matches!(trouble, Trouble::Denied(_)) {
                let user = node.redis_settings().username().unwrap_or("default");
                why.fix = format!("ACL SETUSER {user} +cluster");
            }
            why
        }
    }
}

/// It did not answer when it was asked first, and does now.
fn late() -> Finding {
    let what = "it answers, but not within 0.4 s";
    Finding::new(
        Weight::Unreachable,
        what,
        "see what holds it up, or the way there, and check again",
    )
}
