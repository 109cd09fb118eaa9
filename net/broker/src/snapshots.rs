//! Snapshots of the metadata log on their way between brokers.
//!
//! A snapshot is read into memory as a whole, as at a start; its size is bounded ([`SNAPSHOT_BYTES_MAX`]). One is fetched at a
//! time: the quorum asks for the next when it was told what became of the last.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use model::BrokerId;
use peer::{NoPiece, PeerNetwork, Piece, SnapshotSink, SnapshotSource};
use quorum::SnapshotMark;
use runtime::Io;
use shard::{Shard, others};
use storage::SNAPSHOT_BYTES_MAX;

/// Those of this broker, for others.
pub(crate) struct Snapshots<I: Io>(pub(crate) Rc<Shard<I>>);

impl<I: Io> SnapshotSource for Snapshots<I> {
    async fn read(&self, name: &str, offset: u64, length: usize) -> Result<Piece, NoPiece> {
        match others::read_snapshot(&self.0, name, offset, length).await {
            Ok(Some((total, bytes))) => Ok(Piece { total, bytes }),
            Ok(None) => Err(NoPiece::Unknown),
            Err(error) => {
                tracing::warn!(name, %error, "a snapshot cannot be read for another broker");
                Err(NoPiece::Failed)
            }
        }
    }
}

/// What has come so far.
#[derive(Default)]
struct InMemory(Vec<u8>);

impl SnapshotSink for InMemory {
    async fn write(&mut self, offset: u64, bytes: Bytes) -> io::Result<()> {
        assert_eq!(offset, self.0.len() as u64, "pieces come in order");
        if offset + bytes.len() as u64 > SNAPSHOT_BYTES_MAX {
            let why = format!("it has more than {SNAPSHOT_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.0.extend_from_slice(&bytes);
        Ok(())
    }
}

/// Fetches the snapshot that a broker has offered, and says what became of it.
pub(crate) async fn fetch<I: Io>(
    network: &PeerNetwork<I>,
    shard: &Rc<Shard<I>>,
    from: BrokerId,
    mark: &SnapshotMark,
) {
    let name = others::snapshot_name(mark);
    tracing::info!(%from, snapshot = name, "this broker lacks what the others' metadata log begins behind: it fetches a snapshot");
    let mut sink = InMemory::default();
    match peer::fetch(network, from.into(), &name, 0, &mut sink).await {
        Ok(_) => others::snapshot_fetched(shard, mark, &sink.0.into()),
        Err(error) => {
            tracing::warn!(%from, snapshot = name, %error, "a snapshot of the metadata log is not fetched");
            others::snapshot_not_fetched(shard);
        }
    }
}
