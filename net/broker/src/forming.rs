//! How a broker with a new data directory comes to its cluster: it asks the others whether there is one.
//!
//! A cluster is begun by one broker: of those that the configuration names as voters the one with the lowest number, and only
//! after each of the others has said that it is new, too. So a voter whose directory was wiped never begins a second cluster
//! beside the first: some other one knows that. All others join.
//!
//! A broker that belongs to no cluster yet shows [`NO_CLUSTER`] in its handshakes. Whoever belongs to one refuses it with the
//! cluster's name, and whoever does not takes the probe.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use client::{ClientError, Cluster, ClusterOptions};
use model::{BrokerId, MonotonicTime};
use peer::{BookEntry, PeerNetwork, ProbeError, Refusal};
use protocol::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumRequestPartition, DescribeQuorumRequestTopic,
};
use runtime::Io;
use shard::contacts::PEER_LISTENER;

use crate::data_directory::Birth;
use crate::identity::Standing;
use crate::plan::PeerPlan;

/// The cluster of a broker that has none. Names of clusters have no control characters.
pub(crate) const NO_CLUSTER: &str = "\0none";

/// Pause between two rounds of questions.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// How often it is said who is waited for.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);

/// What another broker has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It belongs to this cluster.
    Cluster(String),
    /// It is new.
    New,
    /// It is this broker itself.
    Oneself,
    /// Nothing, or nothing that helps.
    Nothing(String),
}

/// A broker that is asked. Those that are named by address only have a number below zero, until it is known.
pub(crate) type Asked = BTreeMap<BrokerId, Told>;

/// What follows from the answers. `voters` are all that the configuration names, this broker maybe among them.
pub(crate) fn decide(me: BrokerId, voters: &[BrokerId], told: &Asked) -> Option<Birth> {
    let named = told.values().find_map(|told| match told {
        Told::Cluster(name) => Some(name.clone()),
        Told::New | Told::Oneself | Told::Nothing(_) => None,
    });
    if let Some(name) = named {
        return Some(Birth {
            cluster_id: Some(name),
            standing: Standing::Joined,
        });
    }
    let is_first = voters.iter().min() == Some(&me);
    let mut others = voters.iter().filter(|voter| **voter != me);
    let all_new = others.all(|voter| told.get(voter) == Some(&Told::New));
    // The file that Kafka ships names the broker itself: nobody else is meant.
    let names_itself = !told.is_empty() && told.values().all(|told| *told == Told::Oneself);
    let founds = (is_first && all_new) || (voters.is_empty() && names_itself);
    founds.then_some(Birth {
        cluster_id: None,
        standing: Standing::Founder,
    })
}

/// Where the brokers listen for others that listen for clients at one of these addresses. Asks until one of them answers.
pub(crate) async fn meet<I: Io>(io: &I, plan: &PeerPlan) -> Vec<(String, u16)> {
    let mut complained_at = None;
    loop {
        for (host, port) in &plan.join {
            match ask_client_port(io, plan, host, *port).await {
                Ok(found) if !found.is_empty() => return found,
                Ok(_) => complain_of(io, &mut complained_at, host, *port, "it names no broker"),
                Err(error) => {
                    complain_of(io, &mut complained_at, host, *port, &error.to_string());
                }
            }
        }
        io.sleep(ROUND_PAUSE).await;
    }
}

fn complain_of<I: Io>(
    io: &I,
    complained_at: &mut Option<MonotonicTime>,
    host: &str,
    port: u16,
    why: &str,
) {
    let now = io.now();
    if complained_at.is_none_or(|at| now.since(at) >= COMPLAINT_INTERVAL) {
        *complained_at = Some(now);
        tracing::info!(%host, port, why, "this broker waits for one of the cluster that it is to join");
    }
}

async fn ask_client_port<I: Io>(
    io: &I,
    plan: &PeerPlan,
    host: &str,
    port: u16,
) -> Result<Vec<(String, u16)>, ClientError> {
    let options = ClusterOptions {
        resolve: Rc::new(plan.resolve),
        ..ClusterOptions::default()
    };
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let mut cluster = Cluster::connect(io, &format!("{host}:{port}"), options).await?;
    let request = DescribeQuorumRequest {
        topics: vec![DescribeQuorumRequestTopic {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![DescribeQuorumRequestPartition { partition_index: 0 }],
        }],
    };
    let response = cluster.ask_any(&request).await?;
    let listeners = response.nodes.iter().flat_map(|node| &node.listeners);
    let peers = listeners.filter(|listener| *listener.name == *PEER_LISTENER);
    Ok(peers
        .map(|peer| (peer.host.to_string(), peer.port))
        .collect())
}

/// Asks until there is an answer: for ever, if the others do not come.
pub(crate) async fn form<I: Io>(
    io: &I,
    network: &PeerNetwork<I>,
    me: BrokerId,
    plan: &PeerPlan,
) -> Birth {
    let voters: Vec<BrokerId> = plan.voters.iter().map(|voter| voter.node).collect();
    let book = seeds(plan, me);
    let set = network.set_book(book.clone());
    set.expect("a configuration names few brokers");
    let mut complained_at = None;
    loop {
        let mut told = Asked::new();
        for broker in book.keys() {
            told.insert(*broker, ask(network, *broker).await);
        }
        if let Some(birth) = decide(me, &voters, &told) {
            return birth;
        }
        let now = io.now();
        if complained_at.is_none_or(|at| now.since(at) >= COMPLAINT_INTERVAL) {
            complained_at = Some(now);
            complain(&book, &told);
        }
        io.sleep(ROUND_PAUSE).await;
    }
}

fn complain(book: &BTreeMap<BrokerId, BookEntry>, told: &Asked) {
    for (broker, told) in told {
        let Told::Nothing(why) = told else { continue };
        let address = book[broker].addresses.first();
        let (host, port) = address.expect("a seed has an address");
        tracing::info!(%host, port, %why, "this broker waits for another one of the cluster");
    }
}

async fn ask<I: Io>(network: &PeerNetwork<I>, broker: BrokerId) -> Told {
    match network.probe(broker).await {
        Ok(_) => Told::New,
        Err(ProbeError::Refused(Refusal::Cluster(name))) if name != NO_CLUSTER => {
            Told::Cluster(name)
        }
        Err(ProbeError::Refused(Refusal::Oneself)) => Told::Oneself,
        // Named by its address alone, it is new, too.
        Err(ProbeError::Refused(Refusal::Node(_))) => Told::New,
        Err(error) => Told::Nothing(error.to_string()),
    }
}

/// The brokers that the configuration names, but for this one: voters by their numbers, others by numbers below zero.
pub(crate) fn seeds(plan: &PeerPlan, me: BrokerId) -> BTreeMap<BrokerId, BookEntry> {
    let entry = |host: &str, port: u16| BookEntry {
        addresses: vec![(host.to_owned(), port)],
        directory: None,
    };
    let voters = plan.voters.iter().filter(|voter| voter.node != me);
    let voters = voters.map(|voter| {
        let address = &voter.address;
        (voter.node, entry(&address.host, address.port))
    });
    let named = plan.seeds.iter().zip(1..);
    let named = named.map(|((host, port), turn)| (BrokerId(-turn), entry(host, *port)));
    voters.chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(told: &[(i32, &str)]) -> Asked {
        let one = |(broker, said): &(i32, &str)| {
            let said = match *said {
                "new" => Told::New,
                "me" => Told::Oneself,
                "" => Told::Nothing(String::new()),
                name => Told::Cluster(name.to_owned()),
            };
            (BrokerId(*broker), said)
        };
        told.iter().map(one).collect()
    }

    #[test]
    fn one_begins_when_all_are_new_and_the_others_join() {
        let joins = |name: &str| {
            Some(Birth {
                cluster_id: Some(name.to_owned()),
                standing: Standing::Joined,
            })
        };
        let founds = Some(Birth {
            cluster_id: None,
            standing: Standing::Founder,
        });
        let table = [
            (
                1,
                vec![1, 2, 3],
                told(&[(2, "new"), (3, "new")]),
                founds.clone(),
            ),
            (1, vec![1, 2, 3], told(&[(2, "new"), (3, "")]), None),
            (1, vec![1, 2, 3], told(&[(2, ""), (3, "c")]), joins("c")),
            (2, vec![1, 2, 3], told(&[(1, "new"), (3, "new")]), None),
            (2, vec![1, 2, 3], told(&[(1, "c"), (3, "new")]), joins("c")),
            // Not a voter, or nobody is one: it never begins a cluster.
            (4, vec![5, 6], told(&[(5, "new"), (6, "new")]), None),
            (4, vec![], told(&[(-1, "new")]), None),
            (4, vec![], told(&[(-1, "c")]), joins("c")),
            (1, vec![1], told(&[]), founds.clone()),
            (1, vec![], told(&[(-1, "me")]), founds),
            (1, vec![], told(&[(-1, "me"), (-2, "")]), None),
            (1, vec![], told(&[(-1, "me"), (-2, "new")]), None),
        ];
        for (me, voters, told, expected) in table {
            let voters: Vec<_> = voters.into_iter().map(BrokerId).collect();
            assert_eq!(
                decide(BrokerId(me), &voters, &told),
                expected,
                "{me} {told:?}"
            );
        }
    }
}
