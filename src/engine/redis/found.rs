//! Where the primaries are at this moment, for whoever wants to know it once.

use redis::ConnectionInfo;

use super::check::{Finding, Weight, seeds};
use super::slot::{SLOTS, slot_of_name};
use super::topology::Route;
use super::url::{BadUrl, Sites, Way};
use super::{cluster, sentinel};

/// A primary that keeps logs, or why it is not known where it is.
#[derive(Debug)]
pub(super) struct Found {
    /// What channels are spread by, or what the Cluster is called by.
    pub(super) name: String,
    pub(super) primary: Result<ConnectionInfo, Finding>,
    /// A name that is no channel's, whose keys this one keeps.
    pub(super) own_name: String,
    pub(super) kind: Kind,
}

/// How it stands to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It knows nothing of them.
    Apart,
    /// It is a node of a Cluster.
    InCluster,
}

/// No channel has this name.
const NAME: &str = "$check";

/// All primaries to which a URL leads.
///
/// # Errors
/// [`BadUrl`].
pub(super) async fn primaries(url: &str) -> Result<Vec<Found>, BadUrl> {
    let mut all = Vec::new();
    match Sites::parse(url)? {
        Sites::Apart(sites) => {
            for site in sites {
                let found = |primary| Found {
                    name: site.name.to_string(),
                    primary,
                    own_name: NAME.to_owned(),
                    kind: Kind::Apart,
                };
                match &site.way {
                    Way::Straight(info) => all.push(found(Ok(info.clone()))),
                    Way::Sentinels(service) => match sentinel::primary(service).await {
                        Some(info) => all.push(found(Ok(info))),
                        None => all.extend(seeds::of_sentinels(service).await.into_iter().map(Err).map(found)),
                    },
                }
            }
        }
        Sites::Cluster(nodes) => {
            let found = |info: &ConnectionInfo, primary, own_name| Found {
                name: info.addr().to_string(),
                primary,
                own_name,
                kind: Kind::InCluster,
            };
            match cluster::primaries(&nodes).await {
                Some((primaries, route)) => {
                    all.extend(unserved(&route).map(|why| found(&nodes[0], Err(why), NAME.to_owned())));
                    for (index, info) in primaries.iter().enumerate() {
                        // One that has no slots keeps nothing that could be tried.
                        if let Some(name) = name_kept_by(index, &route) {
                            all.push(found(info, Ok(info.clone()), name));
                        }
                    }
                }
                None => {
                    for (node, why) in nodes.iter().zip(seeds::of_cluster(&nodes).await) {
                        all.push(found(node, Err(why), NAME.to_owned()));
                    }
                }
            }
        }
    }
    Ok(all)
}

fn unserved(route: &Route) -> Option<Finding> {
    let count = (0..SLOTS).filter(|slot| route.owner(*slot).is_none()).count();
    (count > 0).then(|| Finding {
        weight: Weight::Fault,
        what: format!("{count} of the Cluster's {SLOTS} slots are nobody's: their channels are refused"),
        fix: "give them to a primary: redis-cli --cluster fix HOST:PORT, or CLUSTER ADDSLOTSRANGE".to_owned(),
    })
}

fn name_kept_by(index: usize, route: &Route) -> Option<String> {
    // Enough for one who has a single slot to be found, nearly always.
    const TRIED_MAX: usize = 200_000;
    let names = (0..TRIED_MAX).map(|number| format!("{NAME}-{number}"));
    names
        .into_iter()
        .find(|name| route.owner(slot_of_name(name)) == Some(index))
}
