//! Scripts of one partition's replication, as its leader sees it: commands, `----`, expected outputs.
//!
//! Broker 1 leads. `start|metadata replicas=.. isr=.. epoch=.. version=.. min=.. end=.. durable=.. hw=..` (durable: the
//! end), `append END`, `durable END`, `subscribe BROKER END last=EPOCH ends=EPOCH:END epoch=.. process=..` (ends: what
//! this log has for the last epoch; as much as the follower, if not given), `fetch BROKER OFFSET [fenced] epoch=..
//! process=..`, `eligible|ineligible BROKER`, `isr_result VERSION ok|rejected|outdated|not_now`, `advance MILLISECONDS`.
//! The log starts at 0, or at `log_start=..` of a subscription.

use std::time::Duration;

use model::{BrokerEpoch, BrokerId, LeaderEpoch, MonotonicTime, Offset, PartitionEpoch};
use ringlog_replica::{
    Assignment, EpochEnd, FollowerFetch, IsrRefusal, LeaderLog, LeaderReplica, LeaderSettings,
    LogEnds, Output, SubscribeAnswer, Subscription,
};

use crate::script::{check, epoch, number, text};

#[test]
fn high_watermark() {
    check_leader(include_str!("../scripts/high_watermark.txt"));
}

#[test]
fn isr() {
    check_leader(include_str!("../scripts/isr.txt"));
}

#[test]
fn sessions() {
    check_leader(include_str!("../scripts/sessions.txt"));
}

fn check_leader(script: &str) {
    let mut now = MonotonicTime(0);
    check(script, |leader, line| run(leader, &mut now, line));
}

fn brokers(line: &str, key: &str) -> Vec<BrokerId> {
    let list = text(line, key).unwrap_or_default();
    let ids = list.split(',').filter(|id| !id.is_empty());
    ids.map(|id| BrokerId(id.parse().unwrap())).collect()
}

fn start(now: MonotonicTime, line: &str, assignment: Assignment<'_>) -> LeaderReplica {
    let settings = LeaderSettings {
        min_insync_replicas: number(line, "min").max(1) as u32,
        replica_lag_max: Duration::from_secs(30),
    };
    let end = number(line, "end");
    let durable = text(line, "durable").map_or(end, |durable| durable.parse().unwrap());
    let ends = LogEnds {
        log_end_offset: Offset(end),
        durable_end_offset: Offset(durable),
    };
    let high_watermark = Offset(number(line, "hw"));
    LeaderReplica::take_over(now, BrokerId(1), settings, assignment, ends, high_watermark)
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
        *slot = Some(start(*now, line, assignment));
    }
    let leader = slot.as_mut().expect("start comes first");
    let mut printed = String::new();
    match words[0] {
        "start" => {}
        "metadata" => leader.handle_metadata(*now, assignment),
        "append" => leader.handle_append(*now, offset(1)),
        "durable" => leader.handle_durable(*now, offset(1)),
        "subscribe" => printed = subscribe(leader, line),
        "fetch" => {
            let fetch = FollowerFetch {
                broker: BrokerId(words[1].parse().unwrap()),
                broker_epoch: BrokerEpoch(number(line, "process")),
                leader_epoch: leader_epoch(leader, line),
                fetch_offset: offset(2),
                eligible: !words.contains(&"fenced"),
            };
            if let Err(error) = leader.handle_follower_fetch(*now, fetch) {
                printed = format!("{error}\n");
            }
        }
        "eligible" | "ineligible" => {
            let broker = BrokerId(words[1].parse().unwrap());
            leader.handle_eligibility(*now, broker, words[0] == "eligible");
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

/// The epoch that a follower takes for the present one: the leader's, if none is given.
fn leader_epoch(leader: &LeaderReplica, line: &str) -> LeaderEpoch {
    match epoch(line, "epoch") {
        LeaderEpoch::NONE => leader.leader_epoch(),
        given => given,
    }
}

fn subscribe(leader: &mut LeaderReplica, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let subscription = Subscription {
        broker: BrokerId(words[1].parse().unwrap()),
        broker_epoch: BrokerEpoch(number(line, "process")),
        leader_epoch: leader_epoch(leader, line),
        log_end_offset: Offset(words[2].parse().unwrap()),
        last_epoch: epoch(line, "last"),
    };
    let epoch_end = match text(line, "ends").map(|ends| ends.split_once(':')) {
        Some(Some((epoch, end))) => Some(EpochEnd {
            epoch: LeaderEpoch(epoch.parse().unwrap()),
            end_offset: Offset(end.parse().unwrap()),
        }),
        Some(None) => None,
        None => Some(EpochEnd {
            epoch: subscription.last_epoch,
            end_offset: subscription.log_end_offset,
        }),
    };
    let log = LeaderLog {
        log_start_offset: Offset(number(line, "log_start")),
        epoch_end,
    };
    match leader.handle_subscribe(&subscription, log) {
        Ok(SubscribeAnswer::Accepted) => String::new(),
        Ok(SubscribeAnswer::Diverged(at)) => {
            format!("diverged at epoch {}, end {}\n", at.epoch, at.end_offset)
        }
        Ok(SubscribeAnswer::StartOver(at)) => format!("start over at {at}\n"),
        Err(error) => format!("{error}\n"),
    }
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
                let member = |(id, process): &(BrokerId, BrokerEpoch)| match process.0 {
                    0 | -1 => id.to_string(),
                    process => format!("{id}@{process}"),
                };
                let isr: Vec<String> = proposal.isr.iter().map(member).collect();
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
