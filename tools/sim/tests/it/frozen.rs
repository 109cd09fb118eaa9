//! A broker whose process was stopped for longer than a disk may take: its disk has answered meanwhile, and it goes on.

use std::rc::Rc;
use std::time::Duration;

use ringlog_sim::cluster::{BrokerSettings, Cluster, SHARDS_MAX};
use ringlog_sim::history::History;
use ringlog_sim::workload::{self, Client, WorkloadSettings};
use runtime::Io;
use runtime::sim::{Generator, Simulation};

const SEEDS: u64 = 10;

#[test]
fn a_frozen_broker_does_not_blame_its_disk() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 1, SHARDS_MAX);
        let random = Generator::new(seed, 7);
        let cluster = Cluster::new(&simulation, vec![BrokerSettings::draw(&random)]);
        let io = simulation.io(simulation.client(), 0);
        let client = Client {
            io: io.clone(),
            bootstrap: cluster.bootstrap(&[0]),
            history: Rc::new(History::default()),
            broker: cluster.broker(0).clone(),
            settings: Rc::new(WorkloadSettings {
                plain_producers: 4,
                pause_us_max: 500,
                ..WorkloadSettings::draw(&random)
            }),
            random: Rc::new(random),
        };
        simulation.block_on(simulation.client(), async {
            cluster.start(0);
            cluster.await_start(0, &io).await.unwrap();
            workload::create_first_topics(&client).await.unwrap();
            workload::start(&client);
            for _ in 0..4 {
                io.sleep(Duration::from_millis(20)).await;
                simulation.pause(0, Duration::from_secs(45));
                io.sleep(Duration::from_secs(46)).await;
                let fenced = cluster.broker(0).fence_reason();
                assert_eq!(fenced, None, "seed {seed}");
            }
        });
        cluster.ended();
    }
}
