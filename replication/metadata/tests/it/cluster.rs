//! A cluster in memory: an image, and decisions applied to it the way a driver does, through their bytes.

use model::{BrokerEpoch, BrokerId, TopicId};
use ringlog_metadata::controller::{
    BrokerRegistrationRequest, CreateTopicsRequest, NewTopic, change_fencing, create_topics,
    register_broker,
};
use ringlog_metadata::record::BrokerEndpoint;
use ringlog_metadata::{MetadataDelta, MetadataImage, MetadataRecord, Uuid};

pub(crate) struct Cluster {
    pub(crate) image: MetadataImage,
}

impl Cluster {
    /// Brokers numbered from 1, all active, with racks as given.
    pub(crate) fn new(racks: &[Option<&str>]) -> Cluster {
        let mut cluster = Cluster {
            image: MetadataImage::new("AAAAAAAAAAAAAAAAAAAAAQ"),
        };
        for (at, rack) in racks.iter().enumerate() {
            let id = at as i32 + 1;
            let request = BrokerRegistrationRequest {
                cluster_id: cluster.image.cluster_id().to_owned(),
                broker_id: BrokerId(id),
                incarnation_id: Uuid([id as u8; 16]),
                endpoints: vec![BrokerEndpoint {
                    name: "PLAINTEXT".to_owned(),
                    host: format!("host-{id}"),
                    port: 9092,
                    security_protocol: 0,
                }],
                rack: rack.map(str::to_owned),
                log_dirs: vec![Uuid([100 + id as u8; 16])],
                ..BrokerRegistrationRequest::default()
            };
            let epoch = BrokerEpoch(cluster.image.end_offset().0);
            let decision = register_broker(&cluster.image, &request, epoch, false);
            assert_eq!(decision.results, Ok(epoch));
            cluster.commit(&decision.records);
            cluster.fence(id, false);
        }
        cluster
    }

    pub(crate) fn commit(&mut self, records: &[MetadataRecord]) -> MetadataDelta {
        let stored: Vec<MetadataRecord> = records
            .iter()
            .map(|record| MetadataRecord::decode(&record.encode()).unwrap())
            .collect();
        assert_eq!(stored, records);
        let (base, before) = (self.image.end_offset(), self.image.clone());
        let delta = self.image.apply_batch(base, &stored).unwrap();
        check_difference(&before, &self.image, &delta);
        delta
    }

    pub(crate) fn fence(&mut self, id: i32, fenced: bool) -> MetadataDelta {
        let decision = change_fencing(&self.image, BrokerId(id), fenced, &|_| false);
        self.commit(&decision.records)
    }

    /// What a broker registers with that starts anew, on the disk that it had and with nothing to say for it.
    pub(crate) fn returns(&self, id: i32) -> BrokerRegistrationRequest {
        let before = self.image.broker(BrokerId(id)).unwrap();
        BrokerRegistrationRequest {
            cluster_id: self.image.cluster_id().to_owned(),
            broker_id: BrokerId(id),
            incarnation_id: Uuid([before.incarnation.0[0].wrapping_add(50); 16]),
            endpoints: before.endpoints.clone(),
            log_dirs: before.log_dirs.clone(),
            ..BrokerRegistrationRequest::default()
        }
    }

    /// Registers a broker that starts, and lifts its fence.
    pub(crate) fn start(&mut self, request: &BrokerRegistrationRequest) {
        self.register(request);
        self.fence(request.broker_id.0, false);
    }

    pub(crate) fn register(&mut self, request: &BrokerRegistrationRequest) {
        let epoch = BrokerEpoch(self.image.end_offset().0);
        let decision = register_broker(&self.image, request, epoch, false);
        assert_eq!(decision.results, Ok(epoch));
        self.commit(&decision.records);
    }

    pub(crate) fn create(&mut self, name: &str, partitions: i32, replicas: i16) -> TopicId {
        let topic_id = topic_id(name);
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: name.to_owned(),
                topic_id,
                partition_count: partitions,
                replication_factor: replicas,
                ..NewTopic::default()
            }],
            ..CreateTopicsRequest::default()
        };
        let decision = create_topics(&self.image, &request, &|_| Ok(()));
        assert!(decision.results[0].1.is_ok(), "{:?}", decision.results);
        self.commit(&decision.records);
        topic_id
    }
}

/// An id that depends on the name alone.
pub(crate) fn topic_id(name: &str) -> TopicId {
    let mut id = [7u8; 16];
    for (at, byte) in name.bytes().enumerate() {
        id[at % 16] = id[at % 16].wrapping_mul(31).wrapping_add(byte);
    }
    TopicId(id)
}

/// What two images tell of the records between them is what the records themselves told, but for values that were set to
/// what they were.
fn check_difference(before: &MetadataImage, after: &MetadataImage, told: &MetadataDelta) {
    let found = after.changes_since(before);
    let mut expected = told.clone();
    expected.unclean_elections = 0;
    expected.configs.retain(|key| found.configs.contains(key));
    expected.brokers.retain(|id| found.brokers.contains(id));
    expected.features_changed &= found.features_changed;
    assert_eq!(found, expected);
}
