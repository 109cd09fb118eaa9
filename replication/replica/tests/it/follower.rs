//! Scripts of one partition's replication, as a follower sees it: commands, `----`, expected outputs.
//!
//! Broker 2 follows, with registration 20. `start end=.. durable=.. hw=.. last=EPOCH` (no `last`: an empty log),
//! `leader BROKER|none EPOCH`, `accepted EPOCH`, `diverged EPOCH at=EPOCH:END own=EPOCH:END`, `start_over EPOCH OFFSET`,
//! `frame EPOCH BASE END last=EPOCH hw=OFFSET`, `durable END`, `truncated END last=EPOCH`, `disconnected`.

use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use ringlog_replica::{
    EpochEnd, FollowerLog, FollowerOutput, FollowerReplica, Frame, SubscribeAnswer,
};

use crate::script::{check, epoch, number, text};

#[test]
fn following() {
    check(include_str!("../scripts/following.txt"), run);
}

#[test]
fn truncation() {
    check(include_str!("../scripts/truncation.txt"), run);
}

fn epoch_end(line: &str, key: &str) -> Option<EpochEnd> {
    let (epoch, end) = text(line, key)?.split_once(':').unwrap();
    Some(EpochEnd {
        epoch: LeaderEpoch(epoch.parse().unwrap()),
        end_offset: Offset(end.parse().unwrap()),
    })
}

fn run(slot: &mut Option<FollowerReplica>, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let offset = |at: usize| Offset(words[at].parse().unwrap());
    let leader_epoch = |at: usize| LeaderEpoch(words[at].parse().unwrap());
    if words[0] == "start" {
        let log = FollowerLog {
            log_end_offset: Offset(number(line, "end")),
            durable_end_offset: Offset(number(line, "durable")),
            last_epoch: epoch(line, "last"),
            high_watermark: Offset(number(line, "hw")),
        };
        *slot = Some(FollowerReplica::new(BrokerId(2), BrokerEpoch(20), log));
    }
    let follower = slot.as_mut().expect("start comes first");
    let mut printed = String::new();
    match words[0] {
        "start" => {}
        "leader" => {
            let leader = words[1].parse().ok().map(BrokerId);
            follower.handle_leader(leader, leader_epoch(2));
        }
        "accepted" => {
            follower.handle_subscribe_answer(leader_epoch(1), SubscribeAnswer::Accepted, None);
        }
        "diverged" => {
            let answer = SubscribeAnswer::Diverged(epoch_end(line, "at").unwrap());
            follower.handle_subscribe_answer(leader_epoch(1), answer, epoch_end(line, "own"));
        }
        "start_over" => {
            let answer = SubscribeAnswer::StartOver(offset(2));
            follower.handle_subscribe_answer(leader_epoch(1), answer, None);
        }
        "frame" => {
            let frame = Frame {
                leader_epoch: leader_epoch(1),
                base_offset: offset(2),
                end_offset: offset(3),
                last_epoch: epoch(line, "last"),
                high_watermark: Offset(number(line, "hw")),
            };
            if let Err(refusal) = follower.handle_frame(frame) {
                printed = format!("{refusal}\n");
            }
        }
        "durable" => follower.handle_durable(offset(1)),
        "truncated" => follower.handle_truncated(offset(1), epoch(line, "last")),
        "disconnected" => follower.handle_disconnected(),
        other => panic!("unknown command {other}"),
    }
    printed + &outputs(follower)
}

fn outputs(follower: &mut FollowerReplica) -> String {
    let mut printed = String::new();
    while let Some(output) = follower.poll_output() {
        printed += &match output {
            FollowerOutput::Truncate {
                to,
                below_high_watermark,
            } => {
                let loss = if below_high_watermark {
                    ", committed records too"
                } else {
                    ""
                };
                format!("truncate to {to}{loss}\n")
            }
            FollowerOutput::StartOver(at) => format!("start over at {at}\n"),
            FollowerOutput::Subscribe(leader, subscription) => format!(
                "subscribe to {leader} in epoch {}: end {}, last epoch {}\n",
                subscription.leader_epoch, subscription.log_end_offset, subscription.last_epoch
            ),
            FollowerOutput::Acknowledge(epoch, end) => {
                format!("acknowledge {end} in epoch {epoch}\n")
            }
            FollowerOutput::HighWatermark(offset) => format!("high watermark {offset}\n"),
        };
    }
    printed
}
