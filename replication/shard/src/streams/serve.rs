//! What followers say to the leaders of this shard.

use model::BrokerEpoch;
use replica::stream::{Acknowledged, Answer, Answered, SubscribeRefusal, Subscribed};
use replica::{EpochEnd, FollowerFetch, ReplicaError, SubscribeAnswer, Subscription};
use runtime::Io;

use super::followed::OutOfOrder;
use super::{PeerShard, Streams};
use crate::partition::AcknowledgeTarget;

/// Answers of one stream that wait. A follower asks once for each partition, so these are the partitions of a large shard.
const ANSWERS_MAX: usize = 1 << 16;

impl<I: Io> Streams<I> {
    /// A follower's shard asks for what follows its logs.
    pub(super) fn subscribed(
        &self,
        from: PeerShard,
        process: BrokerEpoch,
        asked: &[Subscribed],
    ) -> Result<(), OutOfOrder> {
        for one in asked {
            let answer = self.answer(from, process, one);
            let mut led = self.led.borrow_mut();
            if answer == Answer::Log(SubscribeAnswer::Accepted) {
                led.serve(from, one.partition, one.leader_epoch, one.log_end_offset);
            } else {
                led.leave(from, one.partition);
            }
            let stream = led.stream(from).expect("it has just asked");
            stream.answer(Answered {
                partition: one.partition,
                leader_epoch: one.leader_epoch,
                answer,
            });
            if stream.answer_count() > ANSWERS_MAX {
                return Err(OutOfOrder::Credit);
            }
        }
        self.events.stream_wanted.raise();
        Ok(())
    }

    fn answer(&self, from: PeerShard, process: BrokerEpoch, asked: &Subscribed) -> Answer {
        let Some(partition) = self.partitions.get(asked.partition) else {
            return Answer::Refused(SubscribeRefusal::UnknownPartition);
        };
        let subscription = Subscription {
            broker: from.broker,
            broker_epoch: process,
            leader_epoch: asked.leader_epoch,
            log_end_offset: asked.log_end_offset,
            last_epoch: asked.last_epoch,
        };
        let known = self
            .storage
            .end_offset_for_epoch(&partition.log, asked.last_epoch);
        let epoch_end = known.map(|(epoch, end_offset)| EpochEnd { epoch, end_offset });
        match partition.subscribe(self.io.now(), &subscription, epoch_end) {
            None => Answer::Refused(SubscribeRefusal::NotLeader),
            Some(Ok(answer)) => Answer::Log(answer),
            Some(Err(error)) => {
                tracing::debug!(%from, partition = %asked.partition, %error, "a follower is refused");
                Answer::Refused(refusal(&error))
            }
        }
    }

    /// A follower's shard tells what is durable there. Adds who need not wait any more.
    pub(super) fn acknowledged(
        &self,
        from: PeerShard,
        process: BrokerEpoch,
        told: &[Acknowledged],
        acknowledged: &mut Vec<AcknowledgeTarget>,
    ) {
        let now = self.io.now();
        let eligible = {
            let image = self.cache.image();
            let broker = image.broker(from.broker);
            broker.is_some_and(|broker| broker.is_active() && broker.epoch == process)
        };
        for one in told {
            let Some(partition) = self.partitions.get(one.partition) else {
                continue;
            };
            let fetch = FollowerFetch {
                broker: from.broker,
                broker_epoch: process,
                leader_epoch: one.leader_epoch,
                fetch_offset: one.durable_end_offset,
                eligible,
            };
            match partition.follower_durable(now, fetch, acknowledged) {
                Ok(()) => {}
                Err(error @ ReplicaError::BeyondLogEnd { .. }) => {
                    tracing::error!(%from, partition = %one.partition, %error, "a follower has what its leader does not have");
                }
                // It was told under an epoch that is over, or is about to subscribe anew.
                Err(error) => {
                    tracing::debug!(%from, partition = %one.partition, %error, "nothing is acknowledged");
                }
            }
        }
        // There may be credit again.
        self.events.stream_wanted.raise();
    }
}

fn refusal(error: &ReplicaError) -> SubscribeRefusal {
    match error {
        ReplicaError::NotAReplica(_) => SubscribeRefusal::NotAReplica,
        ReplicaError::FencedLeaderEpoch { .. } => SubscribeRefusal::EpochOver,
        ReplicaError::UnknownLeaderEpoch { .. } => SubscribeRefusal::EpochAhead,
        ReplicaError::StaleBrokerEpoch { .. } => SubscribeRefusal::ProcessOver,
        ReplicaError::NotSubscribed(_) | ReplicaError::BeyondLogEnd { .. } => {
            unreachable!("a subscription is not refused for that: {error}")
        }
    }
}
