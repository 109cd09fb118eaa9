//! A shard whose cluster somebody makes by hand: it has its storage, its partitions and its streams, but no metadata log.
//! For tests of what the metadata decides, by whoever plays the controller.

use std::collections::BTreeSet;
use std::rc::Rc;

use metadata::{MetadataImage, MetadataRecord};
use model::Offset;
use runtime::Io;
use runtime::mailbox::{Inbox, Sender};
use storage::{OpenError, Storage, StorageOptions};

use crate::message::Envelope;
use crate::partition_table;
use crate::peer::Peers;
use crate::shard::{Shard, ShardOptions};
use crate::tasks;

/// Recovers a broker's data directory, before its shards start.
pub async fn recover<I: Io>(io: &I, options: &ShardOptions, count: u16) -> Result<(), OpenError> {
    let owner = |id| partition_table::owner(id, count);
    let recovered = storage::recover_data_dir(io, &options.storage, owner, count).await;
    recovered.map(drop)
}

/// Starts a shard that knows the cluster as `image`.
pub async fn start<I: Io>(
    io: I,
    options: ShardOptions,
    inbox: Inbox<Envelope>,
    senders: Vec<Sender<Envelope>>,
    image: MetadataImage,
    planted: Option<replica::PlantedFault>,
) -> Result<Rc<Shard<I>>, OpenError> {
    let storage_options = StorageOptions {
        shard_count: u16::try_from(senders.len()).expect("shard count fits u16"),
        ..options.storage.clone()
    };
    let storage = Storage::open(io.clone(), storage_options).await?;
    let peers = Peers::new(options.shard, senders);
    let shard = Shard::assemble(io, options, storage, image, peers);
    if let Some(fault) = planted {
        shard.partitions.plant(fault);
    }
    shard.open_partitions(&BTreeSet::new());
    tasks::start(&shard, inbox, Vec::new());
    Ok(shard)
}

/// Has a shard hear of records that end before `end`.
pub fn hear<I: Io>(shard: &Rc<Shard<I>>, end: Offset, records: &[MetadataRecord]) {
    shard.apply_metadata(end, records);
}
