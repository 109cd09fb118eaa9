//! Controller requests as messages, and the pure decisions behind them.

use std::rc::Rc;

use metadata::controller::{
    ControllerError, CreatePartitionsRequest, CreateTopicsRequest, CreatedTopic, DeletableTopic,
    DeletedTopic, allocate_producer_ids, create_partitions, create_topics, delete_topics,
};
use metadata::{ConfigMap, MetadataRecord};
use model::ProducerId;
use model::config::TopicConfig;
use runtime::Io;

use crate::shard::Shard;

/// A change of the cluster that somebody asks for.
#[derive(Debug)]
pub enum ControllerRequest {
    /// New topics.
    CreateTopics(CreateTopicsRequest),
    /// Topics to be deleted.
    DeleteTopics(Vec<DeletableTopic>),
    /// More partitions for topics.
    CreatePartitions(CreatePartitionsRequest),
    /// A block of producer ids.
    AllocateProducerIds,
}

/// What was decided. It is committed, and every shard of this broker knows it.
#[derive(Debug)]
pub enum ControllerReply {
    /// One per distinct name.
    CreateTopics(Vec<(String, Result<CreatedTopic, ControllerError>)>),
    /// One per topic.
    DeleteTopics(Vec<DeletedTopic>),
    /// One per distinct name.
    CreatePartitions(Vec<(String, Result<(), ControllerError>)>),
    /// Ids from `first` on.
    ProducerIds {
        /// The first id.
        first: ProducerId,
        /// How many.
        count: i64,
    },
    /// The request as a whole was refused.
    Refused(ControllerError),
}

impl<I: Io> Shard<I> {
    /// Decides about a request, given everything decided before.
    pub(crate) fn decide(
        self: &Rc<Self>,
        request: ControllerRequest,
    ) -> (Vec<MetadataRecord>, ControllerReply) {
        let image = self.image.borrow();
        match request {
            ControllerRequest::CreateTopics(request) => {
                let decision = create_topics(&image, &request, &|configs| {
                    self.check_topic_config(configs)
                });
                (
                    decision.records,
                    ControllerReply::CreateTopics(decision.results),
                )
            }
            ControllerRequest::DeleteTopics(topics) => {
                let enabled = self.options.config.delete_topic_enable;
                let decision = delete_topics(&image, &topics, enabled);
                (
                    decision.records,
                    ControllerReply::DeleteTopics(decision.results),
                )
            }
            ControllerRequest::CreatePartitions(request) => {
                let decision = create_partitions(&image, &request);
                (
                    decision.records,
                    ControllerReply::CreatePartitions(decision.results),
                )
            }
            ControllerRequest::AllocateProducerIds => {
                let broker = self.options.broker;
                let epoch = image
                    .broker(broker)
                    .map(|registration| registration.epoch)
                    .expect("a broker registers before it serves");
                let decision = allocate_producer_ids(&image, broker, epoch);
                let reply = match decision.results {
                    Ok(block) => ControllerReply::ProducerIds {
                        first: block.first,
                        count: block.count,
                    },
                    Err(error) => ControllerReply::Refused(error),
                };
                (decision.records, reply)
            }
        }
    }

    fn check_topic_config(&self, configs: &ConfigMap) -> Result<(), String> {
        TopicConfig::from_overrides(configs, &self.options.config)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}
