//! Bytes of metadata records: unsigned varint frame version 1, unsigned varint type, unsigned varint version, then
//! the record as a flexible struct. It is the value of a record of `__cluster_metadata`; the key is null.
//!
//! Invariants: reading never panics and allocates at most a small multiple of the input; writing then reading gives
//! an equal record; the lowest version that can carry the record is written, version 1 of partitions at least.

use bytes::{BufMut, Bytes, BytesMut};
use model::primitives::{
    PrimitiveError, Reader, put_compact_count, put_compact_nullable_string, put_compact_string,
    put_no_tagged_fields, put_tagged_fields, put_uuid, put_uvarint,
};
use model::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
};

use super::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, ConfigRecord,
    ConfigResourceType, FeatureLevelRecord, FenceBrokerRecord, LeaderChange, LeaderRecoveryState,
    MetadataRecord, PartitionChangeRecord, PartitionRecord, ProducerIdsRecord,
    RegisterBrokerRecord, RemoveTopicRecord, TopicRecord, UnfenceBrokerRecord,
    UnregisterBrokerRecord, Uuid,
};

/// Longest record that is read: a registration with some thousand directories fits many times over.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

const FRAME_VERSION: u32 = 1;
/// Tag of a broker's shard count. Kafka numbers its own tags from 0 and passes over those it does not know.
const SHARD_COUNT_TAG: u32 = 10_000;
const BROKER_ID_BYTES: usize = 4;
const UUID_BYTES: usize = 16;
/// Three strings or integers and their end: no element of an array of structs is shorter.
const STRUCT_BYTES_MIN: usize = 4;

/// Why bytes are not a metadata record that this program knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`RECORD_BYTES_MAX`].
    #[error("a metadata record has {0} bytes, at most {RECORD_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not a frame this program knows.
    #[error("metadata record frame version {0} is not 1")]
    UnknownFrame(u32),
    /// A type this program does not know.
    #[error("metadata record type {0} is not known")]
    UnknownType(u32),
    /// A version this program does not know.
    #[error("metadata record type {record_type} has no version {version} that is known")]
    UnknownVersion {
        /// The record's type.
        record_type: u32,
        /// The record's version.
        version: u32,
    },
    /// Cut off or not well-formed.
    #[error("a metadata record is malformed: {0}")]
    Malformed(#[from] PrimitiveError),
    /// A number that stands for nothing.
    #[error("a metadata record has the value {value} in {field}")]
    BadValue {
        /// Kafka's name of the field.
        field: &'static str,
        /// What was found.
        value: i64,
    },
    /// Bytes after the record.
    #[error("{0} bytes follow a metadata record")]
    TrailingBytes(usize),
}

impl MetadataRecord {
    /// Kafka's number of the type.
    pub fn record_type(&self) -> u32 {
        match self {
            MetadataRecord::RegisterBroker(_) => 0,
            MetadataRecord::UnregisterBroker(_) => 1,
            MetadataRecord::Topic(_) => 2,
            MetadataRecord::Partition(_) => 3,
            MetadataRecord::Config(_) => 4,
            MetadataRecord::PartitionChange(_) => 5,
            MetadataRecord::FenceBroker(_) => 7,
            MetadataRecord::UnfenceBroker(_) => 8,
            MetadataRecord::RemoveTopic(_) => 9,
            MetadataRecord::FeatureLevel(_) => 12,
            MetadataRecord::ProducerIds(_) => 15,
            MetadataRecord::BrokerRegistrationChange(_) => 17,
            MetadataRecord::NoOp => 20,
        }
    }

    /// The version that [`MetadataRecord::encode`] writes.
    pub fn version(&self) -> u32 {
        match self {
            MetadataRecord::RegisterBroker(record) => {
                3 + u32::from(record.cordoned_log_dirs.is_some())
            }
            MetadataRecord::Partition(record) => {
                let elr = &record.eligible_leader_replicas;
                1 + u32::from(elr.is_some() || record.last_known_elr.is_some())
            }
            MetadataRecord::PartitionChange(record) => {
                let elr = &record.eligible_leader_replicas;
                1 + u32::from(elr.is_some() || record.last_known_elr.is_some())
            }
            MetadataRecord::BrokerRegistrationChange(record) => {
                2 + u32::from(record.cordoned_log_dirs.is_some())
            }
            _ => 0,
        }
    }

    /// The record as the value of a metadata log record.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_uvarint(&mut out, FRAME_VERSION);
        put_uvarint(&mut out, self.record_type());
        put_uvarint(&mut out, self.version());
        self.write_body(&mut out);
        out.freeze()
    }

    fn write_body(&self, out: &mut BytesMut) {
        match self {
            MetadataRecord::RegisterBroker(record) => return write_register_broker(out, record),
            MetadataRecord::Partition(record) => return write_partition(out, record),
            MetadataRecord::PartitionChange(record) => return write_partition_change(out, record),
            MetadataRecord::BrokerRegistrationChange(record) => {
                return write_broker_change(out, record);
            }
            MetadataRecord::UnregisterBroker(record) => {
                write_broker_epoch(out, record.broker_id, record.broker_epoch);
            }
            MetadataRecord::FenceBroker(record) => write_broker_epoch(out, record.id, record.epoch),
            MetadataRecord::UnfenceBroker(record) => {
                write_broker_epoch(out, record.id, record.epoch);
            }
            MetadataRecord::Topic(record) => {
                put_compact_string(out, &record.name);
                put_uuid(out, record.topic_id);
            }
            MetadataRecord::Config(record) => {
                out.put_i8(record.resource_type.code());
                put_compact_string(out, &record.resource_name);
                put_compact_string(out, &record.name);
                put_compact_nullable_string(out, record.value.as_deref());
            }
            MetadataRecord::RemoveTopic(record) => put_uuid(out, record.topic_id),
            MetadataRecord::FeatureLevel(record) => {
                put_compact_string(out, &record.name);
                out.put_i16(record.feature_level);
            }
            MetadataRecord::ProducerIds(record) => {
                write_broker_epoch(out, record.broker_id, record.broker_epoch);
                out.put_i64(record.next_producer_id.0);
            }
            MetadataRecord::NoOp => {}
        }
        put_no_tagged_fields(out);
    }

    /// Reads the value of a metadata log record.
    pub fn decode(value: &[u8]) -> Result<MetadataRecord, RecordError> {
        if value.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong(value.len()));
        }
        let mut reader = Reader::new(value);
        let frame = reader.uvarint()?;
        if frame != FRAME_VERSION {
            return Err(RecordError::UnknownFrame(frame));
        }
        let record_type = reader.uvarint()?;
        let version = reader.uvarint()?;
        let version_max = version_max(record_type).ok_or(RecordError::UnknownType(record_type))?;
        if version > version_max {
            return Err(RecordError::UnknownVersion {
                record_type,
                version,
            });
        }
        let record = read_body(&mut reader, record_type, version)?;
        match reader.remaining() {
            0 => Ok(record),
            rest => Err(RecordError::TrailingBytes(rest)),
        }
    }
}

/// Highest version that is read of a type; `None` for an unknown type.
fn version_max(record_type: u32) -> Option<u32> {
    match record_type {
        0 => Some(4),
        3 | 5 => Some(2),
        17 => Some(3),
        1 | 2 | 4 | 7 | 8 | 9 | 12 | 15 | 20 => Some(0),
        _ => None,
    }
}

fn write_broker_epoch(out: &mut BytesMut, id: BrokerId, epoch: BrokerEpoch) {
    out.put_i32(id.0);
    out.put_i64(epoch.0);
}

fn write_brokers(out: &mut impl BufMut, brokers: &[BrokerId]) {
    put_compact_count(out, brokers.len());
    for broker in brokers {
        out.put_i32(broker.0);
    }
}

fn write_uuids(out: &mut impl BufMut, ids: &[Uuid]) {
    put_compact_count(out, ids.len());
    for id in ids {
        out.put_slice(&id.0);
    }
}

/// Tagged fields in the order in which they are added, which must be that of their tags.
#[derive(Default)]
struct Tags(Vec<(u32, Vec<u8>)>);

impl Tags {
    fn brokers(&mut self, tag: u32, brokers: Option<&Vec<BrokerId>>) {
        if let Some(brokers) = brokers {
            let mut payload = Vec::new();
            write_brokers(&mut payload, brokers);
            self.0.push((tag, payload));
        }
    }

    fn uuids(&mut self, tag: u32, ids: Option<&Vec<Uuid>>) {
        if let Some(ids) = ids {
            let mut payload = Vec::new();
            write_uuids(&mut payload, ids);
            self.0.push((tag, payload));
        }
    }

    fn bytes(&mut self, tag: u32, payload: &[u8]) {
        self.0.push((tag, payload.to_vec()));
    }

    fn write(&self, out: &mut BytesMut) {
        let fields: Vec<(u32, &[u8])> = self.0.iter().map(|(t, p)| (*t, p.as_slice())).collect();
        put_tagged_fields(out, &fields);
    }
}

fn write_register_broker(out: &mut BytesMut, record: &RegisterBrokerRecord) {
    out.put_i32(record.broker_id.0);
    out.put_u8(0); // IsMigratingZkBroker: there is no ZooKeeper to migrate from.
    out.put_slice(&record.incarnation_id.0);
    out.put_i64(record.broker_epoch.0);
    put_compact_count(out, record.endpoints.len());
    for endpoint in &record.endpoints {
        put_compact_string(out, &endpoint.name);
        put_compact_string(out, &endpoint.host);
        out.put_u16(endpoint.port);
        out.put_i16(endpoint.security_protocol);
        put_no_tagged_fields(out);
    }
    put_compact_count(out, record.features.len());
    for feature in &record.features {
        put_compact_string(out, &feature.name);
        out.put_i16(feature.min_supported_version);
        out.put_i16(feature.max_supported_version);
        put_no_tagged_fields(out);
    }
    put_compact_nullable_string(out, record.rack.as_deref());
    out.put_u8(u8::from(record.fenced));
    out.put_u8(u8::from(record.in_controlled_shutdown));
    let mut tags = Tags::default();
    tags.uuids(0, Some(&record.log_dirs).filter(|dirs| !dirs.is_empty()));
    tags.uuids(1, record.cordoned_log_dirs.as_ref());
    if let Some(count) = record.shard_count {
        tags.bytes(SHARD_COUNT_TAG, &count.to_be_bytes());
    }
    tags.write(out);
}

fn write_partition(out: &mut BytesMut, record: &PartitionRecord) {
    out.put_i32(record.partition_id.0);
    put_uuid(out, record.topic_id);
    write_brokers(out, &record.replicas);
    write_brokers(out, &record.isr);
    write_brokers(out, &record.removing_replicas);
    write_brokers(out, &record.adding_replicas);
    out.put_i32(record.leader.map_or(-1, |leader| leader.0));
    out.put_i32(record.leader_epoch.0);
    out.put_i32(record.partition_epoch.0);
    write_uuids(out, &record.directories);
    let mut tags = Tags::default();
    if record.leader_recovery_state == LeaderRecoveryState::Recovering {
        tags.bytes(0, &[1]);
    }
    tags.brokers(1, record.eligible_leader_replicas.as_ref());
    tags.brokers(2, record.last_known_elr.as_ref());
    tags.write(out);
}

fn write_partition_change(out: &mut BytesMut, record: &PartitionChangeRecord) {
    out.put_i32(record.partition_id.0);
    put_uuid(out, record.topic_id);
    let mut tags = Tags::default();
    tags.brokers(0, record.isr.as_ref());
    match record.leader {
        LeaderChange::Unchanged => {}
        LeaderChange::NoLeader => tags.bytes(1, &(-1i32).to_be_bytes()),
        LeaderChange::Leader(leader) => tags.bytes(1, &leader.0.to_be_bytes()),
    }
    tags.brokers(2, record.replicas.as_ref());
    tags.brokers(3, record.removing_replicas.as_ref());
    tags.brokers(4, record.adding_replicas.as_ref());
    match record.leader_recovery_state {
        None => {}
        Some(LeaderRecoveryState::Recovered) => tags.bytes(5, &[0]),
        Some(LeaderRecoveryState::Recovering) => tags.bytes(5, &[1]),
    }
    tags.brokers(6, record.eligible_leader_replicas.as_ref());
    tags.brokers(7, record.last_known_elr.as_ref());
    tags.uuids(8, record.directories.as_ref());
    tags.write(out);
}

fn write_broker_change(out: &mut BytesMut, record: &BrokerRegistrationChangeRecord) {
    write_broker_epoch(out, record.broker_id, record.broker_epoch);
    let mut tags = Tags::default();
    match record.fenced {
        None => {}
        Some(true) => tags.bytes(0, &[1]),
        Some(false) => tags.bytes(0, &[0xff]), // -1: unfence
    }
    if record.in_controlled_shutdown {
        tags.bytes(1, &[1]);
    }
    tags.uuids(2, record.log_dirs.as_ref());
    tags.uuids(3, record.cordoned_log_dirs.as_ref());
    tags.write(out);
}

fn read_body(
    reader: &mut Reader<'_>,
    record_type: u32,
    version: u32,
) -> Result<MetadataRecord, RecordError> {
    let record = match record_type {
        0 => return read_register_broker(reader, version).map(MetadataRecord::RegisterBroker),
        3 => return read_partition(reader, version).map(MetadataRecord::Partition),
        5 => return read_partition_change(reader).map(MetadataRecord::PartitionChange),
        17 => return read_broker_change(reader).map(MetadataRecord::BrokerRegistrationChange),
        1 => MetadataRecord::UnregisterBroker(UnregisterBrokerRecord {
            broker_id: BrokerId(reader.i32()?),
            broker_epoch: BrokerEpoch(reader.i64()?),
        }),
        2 => MetadataRecord::Topic(TopicRecord {
            name: reader.compact_string()?.to_owned(),
            topic_id: reader.uuid()?,
        }),
        4 => MetadataRecord::Config(ConfigRecord {
            resource_type: read_resource_type(reader)?,
            resource_name: reader.compact_string()?.to_owned(),
            name: reader.compact_string()?.to_owned(),
            value: reader.compact_nullable_string()?.map(str::to_owned),
        }),
        7 => MetadataRecord::FenceBroker(FenceBrokerRecord {
            id: BrokerId(reader.i32()?),
            epoch: BrokerEpoch(reader.i64()?),
        }),
        8 => MetadataRecord::UnfenceBroker(UnfenceBrokerRecord {
            id: BrokerId(reader.i32()?),
            epoch: BrokerEpoch(reader.i64()?),
        }),
        9 => MetadataRecord::RemoveTopic(RemoveTopicRecord {
            topic_id: reader.uuid()?,
        }),
        12 => MetadataRecord::FeatureLevel(FeatureLevelRecord {
            name: reader.compact_string()?.to_owned(),
            feature_level: reader.i16()?,
        }),
        15 => MetadataRecord::ProducerIds(ProducerIdsRecord {
            broker_id: BrokerId(reader.i32()?),
            broker_epoch: BrokerEpoch(reader.i64()?),
            next_producer_id: ProducerId(reader.i64()?),
        }),
        20 => MetadataRecord::NoOp,
        other => return Err(RecordError::UnknownType(other)),
    };
    reader.skip_tagged_fields()?;
    Ok(record)
}

fn read_resource_type(reader: &mut Reader<'_>) -> Result<ConfigResourceType, RecordError> {
    let code = reader.i8()?;
    ConfigResourceType::from_code(code).ok_or(RecordError::BadValue {
        field: "ResourceType",
        value: i64::from(code),
    })
}

fn read_brokers(reader: &mut Reader<'_>) -> Result<Vec<BrokerId>, RecordError> {
    let count = reader.compact_array_count(BROKER_ID_BYTES)?;
    let mut brokers = Vec::with_capacity(count);
    for _ in 0..count {
        brokers.push(BrokerId(reader.i32()?));
    }
    Ok(brokers)
}

fn read_uuids(reader: &mut Reader<'_>) -> Result<Vec<Uuid>, RecordError> {
    let count = reader.compact_array_count(UUID_BYTES)?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(Uuid(reader.array()?));
    }
    Ok(ids)
}

fn read_nullable_brokers(payload: &[u8]) -> Result<Option<Vec<BrokerId>>, RecordError> {
    match payload {
        [0] => Ok(None),
        _ => read_brokers(&mut Reader::new(payload)).map(Some),
    }
}

fn read_nullable_uuids(payload: &[u8]) -> Result<Option<Vec<Uuid>>, RecordError> {
    match payload {
        [0] => Ok(None),
        _ => read_uuids(&mut Reader::new(payload)).map(Some),
    }
}

fn leader_of(id: i32) -> Result<Option<BrokerId>, RecordError> {
    match id {
        -1 => Ok(None),
        0.. => Ok(Some(BrokerId(id))),
        _ => Err(RecordError::BadValue {
            field: "Leader",
            value: i64::from(id),
        }),
    }
}

fn recovery_of(code: i8) -> Result<Option<LeaderRecoveryState>, RecordError> {
    match code {
        -1 => Ok(None),
        0 => Ok(Some(LeaderRecoveryState::Recovered)),
        1 => Ok(Some(LeaderRecoveryState::Recovering)),
        _ => Err(RecordError::BadValue {
            field: "LeaderRecoveryState",
            value: i64::from(code),
        }),
    }
}

fn read_register_broker(
    reader: &mut Reader<'_>,
    version: u32,
) -> Result<RegisterBrokerRecord, RecordError> {
    let broker_id = BrokerId(reader.i32()?);
    if version >= 2 {
        reader.bool()?; // IsMigratingZkBroker
    }
    let incarnation_id = Uuid(reader.array()?);
    let broker_epoch = BrokerEpoch(reader.i64()?);
    let mut endpoints = Vec::new();
    for _ in 0..reader.compact_array_count(STRUCT_BYTES_MIN)? {
        endpoints.push(BrokerEndpoint {
            name: reader.compact_string()?.to_owned(),
            host: reader.compact_string()?.to_owned(),
            port: reader.u16()?,
            security_protocol: reader.i16()?,
        });
        reader.skip_tagged_fields()?;
    }
    let mut features = Vec::new();
    for _ in 0..reader.compact_array_count(STRUCT_BYTES_MIN)? {
        features.push(BrokerFeature {
            name: reader.compact_string()?.to_owned(),
            min_supported_version: reader.i16()?,
            max_supported_version: reader.i16()?,
        });
        reader.skip_tagged_fields()?;
    }
    let mut record = RegisterBrokerRecord {
        broker_id,
        incarnation_id,
        broker_epoch,
        endpoints,
        features,
        rack: reader.compact_nullable_string()?.map(str::to_owned),
        fenced: reader.bool()?,
        in_controlled_shutdown: version >= 1 && reader.bool()?,
        log_dirs: Vec::new(),
        cordoned_log_dirs: None,
        shard_count: None,
    };
    reader.tagged_fields(|tag, payload| -> Result<(), RecordError> {
        match tag {
            0 => record.log_dirs = read_uuids(&mut Reader::new(payload))?,
            1 => record.cordoned_log_dirs = read_nullable_uuids(payload)?,
            SHARD_COUNT_TAG => record.shard_count = Some(read_shard_count(payload)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(record)
}

fn read_partition(reader: &mut Reader<'_>, version: u32) -> Result<PartitionRecord, RecordError> {
    let mut record = PartitionRecord {
        partition_id: PartitionIndex(reader.i32()?),
        topic_id: reader.uuid()?,
        replicas: read_brokers(reader)?,
        isr: read_brokers(reader)?,
        removing_replicas: read_brokers(reader)?,
        adding_replicas: read_brokers(reader)?,
        leader: leader_of(reader.i32()?)?,
        leader_recovery_state: LeaderRecoveryState::Recovered,
        leader_epoch: LeaderEpoch(reader.i32()?),
        partition_epoch: PartitionEpoch(reader.i32()?),
        directories: Vec::new(),
        eligible_leader_replicas: None,
        last_known_elr: None,
    };
    if version >= 1 {
        record.directories = read_uuids(reader)?;
    }
    reader.tagged_fields(|tag, payload| -> Result<(), RecordError> {
        match tag {
            0 => {
                let code = Reader::new(payload).i8()?;
                record.leader_recovery_state = recovery_of(code)?.unwrap_or_default();
            }
            1 => record.eligible_leader_replicas = read_nullable_brokers(payload)?,
            2 => record.last_known_elr = read_nullable_brokers(payload)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(record)
}

fn read_partition_change(reader: &mut Reader<'_>) -> Result<PartitionChangeRecord, RecordError> {
    let partition_id = PartitionIndex(reader.i32()?);
    let topic_id: TopicId = reader.uuid()?;
    let mut record = PartitionChangeRecord {
        partition_id,
        topic_id,
        ..PartitionChangeRecord::default()
    };
    reader.tagged_fields(|tag, payload| -> Result<(), RecordError> {
        match tag {
            0 => record.isr = read_nullable_brokers(payload)?,
            1 => {
                record.leader = match Reader::new(payload).i32()? {
                    -2 => LeaderChange::Unchanged,
                    id => leader_of(id)?.map_or(LeaderChange::NoLeader, LeaderChange::Leader),
                };
            }
            2 => record.replicas = read_nullable_brokers(payload)?,
            3 => record.removing_replicas = read_nullable_brokers(payload)?,
            4 => record.adding_replicas = read_nullable_brokers(payload)?,
            5 => record.leader_recovery_state = recovery_of(Reader::new(payload).i8()?)?,
            6 => record.eligible_leader_replicas = read_nullable_brokers(payload)?,
            7 => record.last_known_elr = read_nullable_brokers(payload)?,
            8 => record.directories = read_nullable_uuids(payload)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(record)
}

fn read_broker_change(
    reader: &mut Reader<'_>,
) -> Result<BrokerRegistrationChangeRecord, RecordError> {
    let mut record = BrokerRegistrationChangeRecord {
        broker_id: BrokerId(reader.i32()?),
        broker_epoch: BrokerEpoch(reader.i64()?),
        ..BrokerRegistrationChangeRecord::default()
    };
    reader.tagged_fields(|tag, payload| -> Result<(), RecordError> {
        match tag {
            0 => record.fenced = read_switch(payload, "Fenced")?,
            1 => {
                let switch = read_switch(payload, "InControlledShutdown")?;
                record.in_controlled_shutdown = switch == Some(true);
            }
            2 => record.log_dirs = read_nullable_uuids(payload)?,
            3 => record.cordoned_log_dirs = read_nullable_uuids(payload)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(record)
}

fn read_shard_count(payload: &[u8]) -> Result<u16, RecordError> {
    match Reader::new(payload).u16()? {
        0 => Err(RecordError::BadValue {
            field: "ShardCount",
            value: 0,
        }),
        count => Ok(count),
    }
}

/// -1 off, 0 unchanged, 1 on.
fn read_switch(payload: &[u8], field: &'static str) -> Result<Option<bool>, RecordError> {
    match Reader::new(payload).i8()? {
        -1 => Ok(Some(false)),
        0 => Ok(None),
        1 => Ok(Some(true)),
        value => Err(RecordError::BadValue {
            field,
            value: i64::from(value),
        }),
    }
}
