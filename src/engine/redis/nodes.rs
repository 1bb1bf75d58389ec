//! What a Cluster's node says of all nodes (`CLUSTER INFO`, `CLUSTER NODES`): who has which slots.

use std::ops::RangeInclusive;

use super::slot::SLOTS;
use super::topology::{NOBODY, Route};

/// The Cluster, as one node sees it. The greatest is to be believed: a node that is cut off from the others says that
/// the Cluster has failed, or knows an older epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct View {
    pub(super) is_well: bool,
    pub(super) epoch: u64,
    /// In the order of their addresses.
    pub(super) primaries: Vec<Primary>,
    /// Those that can be asked, too.
    pub(super) replicas: Vec<Host>,
}

/// Host and port.
pub(super) type Host = (String, u16);

/// A node that takes publications.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Primary {
    pub(super) host: Host,
    /// The name that it announces, for which its certificate is.
    pub(super) hostname: Option<String>,
    slots: Vec<(u16, u16)>,
}

impl View {
    /// Reads what a node said that was reached at `host`.
    pub(super) fn read(info: &str, nodes: &str, host: &str) -> Option<Self> {
        let fact = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let mut view = Self {
            is_well: fact("cluster_state")? == "ok",
            epoch: fact("cluster_current_epoch")?.trim().parse().ok()?,
            primaries: Vec::new(),
            replicas: Vec::new(),
        };
        for line in nodes.lines() {
            view.take(line, host)?;
        }
        view.primaries.sort();
        // A node that belongs to no Cluster yet knows only itself.
        view.primaries
            .iter()
            .any(|primary| !primary.slots.is_empty())
            .then_some(view)
    }

    /// `<id> <ip>:<port>@<bus port>[,<hostname>] <flags> <primary> <ping> <pong> <epoch> <link> <slot> …`
    fn take(&mut self, line: &str, asked: &str) -> Option<()> {
        let mut words = line.split(' ');
        let (address, flags) = (words.nth(1)?, words.next()?);
        let flags: Vec<_> = flags.split(',').collect();
        if flags.iter().any(|flag| ["noaddr", "handshake"].contains(flag)) {
            return Some(());
        }
        let (address, names) = address.split_once(',').unwrap_or((address, ""));
        let address = address.split_once('@').map_or(address, |(address, _)| address);
        let (ip, port) = address.rsplit_once(':')?;
        // A node that nobody has met yet does not know its own address.
        let host = if ip.is_empty() || ip == "?" { asked } else { ip };
        let host = (host.to_owned(), port.parse().ok()?);
        if !flags.contains(&"master") {
            if !flags.contains(&"fail") {
                self.replicas.push(host);
            }
            return Some(());
        }
        let slots: Vec<_> = words.skip(5).filter_map(slots_of).collect();
        // One that failed and has no slots any more is nobody's concern; one that has none yet may be given some.
        if slots.is_empty() && flags.contains(&"fail") {
            return Some(());
        }
        let hostname = names
            .split(',')
            .next()
            .filter(|name| !name.is_empty() && !name.contains('='));
        self.primaries.push(Primary {
            host,
            hostname: hostname.map(str::to_owned),
            slots,
        });
        Some(())
    }

    /// Who has which slot, by the primaries' places.
    pub(super) fn route(&self) -> Route {
        let mut owners = vec![NOBODY; SLOTS];
        for (index, primary) in self.primaries.iter().enumerate() {
            let index = u16::try_from(index).unwrap_or(NOBODY);
            for (first, last) in &primary.slots {
                let range: RangeInclusive<usize> = usize::from(*first)..=usize::from(*last);
                if let Some(slots) = owners.get_mut(range) {
                    slots.fill(index);
                }
            }
        }
        Route::Slots(owners.into())
    }
}

/// `7` or `0-5460`; what is on its way, like `[93-<-id]`, is still with the one that has it.
fn slots_of(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:6\r\n";

    const NODES: &str = "\
aa 10.0.0.1:6379@16379,one.example myself,master - 0 0 1 connected 0-5460 [5461-<-bb]
bb 10.0.0.2:6379@16379 master - 0 1 2 connected 5461-10922 16383
cc 10.0.0.3:6379@16379,,shard-id=12 master,fail - 1 1 3 disconnected 10923-16382
dd 10.0.0.4:6379@16379 slave aa 0 1 1 connected
ee 10.0.0.5:6379@16379 slave,fail aa 0 1 1 connected
ff :0@0 master,noaddr - 1 1 1 disconnected
gg 10.0.0.6:6379@16379 master,fail - 1 1 1 disconnected
hh ::1:7000@17000 master - 0 1 4 connected
";

    #[test]
    fn primaries_have_slots_and_names() {
        let view = View::read(INFO, NODES, "asked").unwrap();
        assert!(view.is_well && view.epoch == 6);
        let hosts: Vec<_> = view.primaries.iter().map(|primary| &*primary.host.0).collect();
        assert_eq!(hosts, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1"]);
        assert_eq!(view.primaries[0].hostname.as_deref(), Some("one.example"));
        assert_eq!(view.primaries[2].hostname, None);
        assert_eq!(view.replicas, [("10.0.0.4".to_owned(), 6379)]);
        let Route::Slots(owners) = view.route() else {
            panic!("a Cluster has slots")
        };
        assert_eq!(
            [0, 5_460, 5_461, 10_923, 16_383].map(|slot| owners[slot]),
            [0, 0, 1, 2, 1]
        );
    }

    #[test]
    fn a_node_alone_does_not_know_its_address() {
        let view = View::read(
            INFO,
            "aa :7000@17000 myself,master - 0 0 0 connected 0-16383\n",
            "asked",
        )
        .unwrap();
        assert_eq!(view.primaries[0].host, ("asked".to_owned(), 7_000));
        assert_eq!(
            View::read(INFO, "aa :7000@17000 myself,master - 0 0 0 connected\n", "asked"),
            None
        );
    }

    #[test]
    fn a_node_that_is_cut_off_is_believed_less() {
        let view = |state: &str, epoch: u64| View {
            is_well: state == "ok",
            epoch,
            primaries: Vec::new(),
            replicas: Vec::new(),
        };
        assert!(view("fail", 7) < view("ok", 6) && view("ok", 6) < view("ok", 7));
    }
}
