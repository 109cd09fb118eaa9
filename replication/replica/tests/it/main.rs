//! Scripts of one partition's replication, as its leader sees it: commands, `----`, expected outputs.
//!
//! Broker 1 leads. `start|metadata replicas=.. isr=.. epoch=.. version=.. min=.. end=.. hw=..`, `append END`,
//! `durable END`, `fetch BROKER OFFSET [fenced]`, `isr_result VERSION ok|rejected|outdated|not_now`, `advance MILLISECONDS`.

use std::time::Duration;

use model::{BrokerId, LeaderEpoch, MonotonicTime, Offset, PartitionEpoch};
use ringlog_replica::{
    Assignment, FollowerFetch, IsrRefusal, LeaderReplica, LeaderSettings, Output,
};

#[test]
fn high_watermark() {
    check(include_str!("../scripts/high_watermark.txt"));
}

#[test]
fn isr() {
    check(include_str!("../scripts/isr.txt"));
}

fn check(script: &str) {
    let mut now = MonotonicTime(0);
    let mut leader: Option<LeaderReplica> = None;
    let mut actual = String::new();
    for block in script.split("\n\n") {
        let commands = block.split("\n----").next().unwrap_or_default();
        actual.push_str(commands.trim_end());
        actual.push_str("\n----\n");
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            actual.push_str(&run(&mut leader, &mut now, line));
        }
        actual.push('\n');
    }
    assert!(
        actual.trim_end() == script.trim_end(),
        "the outputs differ; the script as it ran:\n{actual}"
    );
}

fn brokers(line: &str, key: &str) -> Vec<BrokerId> {
    let list = text(line, key).unwrap_or_default();
    let ids = list.split(',').filter(|id| !id.is_empty());
    ids.map(|id| BrokerId(id.parse().unwrap())).collect()
}

fn text<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let mut fields = line
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    fields
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

fn number(line: &str, key: &str) -> i64 {
    text(line, key).map_or(0, |value| value.parse().unwrap())
}

fn run(slot: &mut Option<LeaderReplica>, now: &mut MonotonicTime, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let offset = |at: usize| Offset(words[at].parse().unwrap());
    let (replicas, isr) = (brokers(line, "replicas"), brokers(line, "isr"));
    let assignment = Assignment {
        leader_epoch: LeaderEpoch(number(line, "epoch") as i32),
        partition_epoch: PartitionEpoch(number(line, "version") as i32),
        replicas: &replicas,
        isr: &isr,
    };
    if words[0] == "start" {
        let settings = LeaderSettings {
            min_insync_replicas: number(line, "min").max(1) as u32,
            replica_lag_max: Duration::from_secs(30),
        };
        let (end, hw) = (Offset(number(line, "end")), Offset(number(line, "hw")));
        *slot = Some(LeaderReplica::new(
            *now,
            BrokerId(1),
            settings,
            assignment,
            end,
            hw,
        ));
    }
    let leader = slot.as_mut().expect("start comes first");
    let mut printed = String::new();
    match words[0] {
        "start" => {}
        "metadata" => leader.handle_metadata(*now, assignment),
        "append" => leader.handle_append(offset(1)),
        "durable" => leader.handle_durable(*now, offset(1)),
        "fetch" => {
            let fetch = FollowerFetch {
                broker: BrokerId(words[1].parse().unwrap()),
                fetch_offset: offset(2),
                eligible: !words.contains(&"fenced"),
            };
            if let Err(error) = leader.handle_follower_fetch(*now, fetch) {
                printed = format!("{error}\n");
            }
        }
        "isr_result" => {
            let version = PartitionEpoch(words[1].parse().unwrap());
            let result = match words[2] {
                "ok" => Ok(PartitionEpoch(version.0 + 1)),
                "rejected" => Err(IsrRefusal::Rejected),
                "outdated" => Err(IsrRefusal::Outdated),
                "not_now" => Err(IsrRefusal::NotNow),
                other => panic!("unknown result {other}"),
            };
            leader.handle_isr_result(*now, version, result);
        }
        "advance" => return advance(leader, now, words[1].parse().unwrap()),
        other => panic!("unknown command {other}"),
    }
    printed + &outputs(leader)
}

fn advance(leader: &mut LeaderReplica, now: &mut MonotonicTime, millis: u64) -> String {
    let end = now.plus(Duration::from_millis(millis));
    let mut printed = String::new();
    while let Some(at) = leader.next_timeout().filter(|at| *at <= end) {
        *now = at;
        leader.handle_timeout(at);
        printed.push_str(&outputs(leader));
    }
    *now = end;
    printed
}

fn outputs(leader: &mut LeaderReplica) -> String {
    let mut printed = String::new();
    while let Some(output) = leader.poll_output() {
        match output {
            Output::HighWatermark(offset) => {
                printed.push_str(&format!("high watermark {offset}\n"))
            }
            Output::ProposeIsr(proposal) => {
                let isr: Vec<String> = proposal.isr.iter().map(BrokerId::to_string).collect();
                let version = proposal.partition_epoch;
                printed.push_str(&format!(
                    "propose isr {} at version {version}\n",
                    isr.join(",")
                ));
            }
        }
    }
    printed
}
