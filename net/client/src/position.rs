//! Places in partitions: named ones, and the offsets they are at.

use std::collections::BTreeMap;

use model::{Offset, PartitionIndex, Timestamp};
use runtime::Io;

use crate::cluster::Cluster;
use crate::error::ClientError;
use crate::records::OffsetSpec;

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record there is.
    Start,
    /// Behind the last one.
    End,
    /// An offset.
    Offset(Offset),
    /// So many records before the end.
    BeforeEnd(i64),
    /// The first record as late as this or later; the end if there is none.
    Time(Timestamp),
}

/// First offset and end of each partition.
#[derive(Clone, Debug)]
pub struct Bounds(BTreeMap<PartitionIndex, (Offset, Offset)>);

impl Bounds {
    /// Asks for those of a topic.
    pub async fn ask<I: Io>(cluster: &mut Cluster<I>, topic: &str) -> Result<Bounds, ClientError> {
        let starts = cluster.offsets(topic, OffsetSpec::Earliest).await?;
        let ends = cluster.offsets(topic, OffsetSpec::Latest).await?;
        let ends: BTreeMap<PartitionIndex, Offset> = ends.into_iter().collect();
        let bounds = starts
            .into_iter()
            .filter_map(|(partition, start)| Some((partition, (start, *ends.get(&partition)?))));
        Ok(Bounds(bounds.collect()))
    }

    /// Of one partition.
    pub fn of(&self, partition: PartitionIndex) -> Option<(Offset, Offset)> {
        self.0.get(&partition).copied()
    }

    /// A place in each partition. It may be one where no record is.
    pub async fn places<I: Io>(
        &self,
        cluster: &mut Cluster<I>,
        topic: &str,
        position: Position,
    ) -> Result<BTreeMap<PartitionIndex, Offset>, ClientError> {
        let all = self.0.iter();
        Ok(match position {
            Position::Start => all.map(|(p, (low, _))| (*p, *low)).collect(),
            Position::End => all.map(|(p, (_, high))| (*p, *high)).collect(),
            Position::Offset(offset) => all.map(|(p, _)| (*p, offset)).collect(),
            Position::BeforeEnd(count) => all
                .map(|(p, (low, high))| (*p, (*low).max(high.plus(-count))))
                .collect(),
            Position::Time(time) => {
                let found = cluster.offsets(topic, OffsetSpec::Time(time)).await?;
                let place = |(partition, offset): (PartitionIndex, Offset)| match offset {
                    Offset::NONE => Some((partition, self.of(partition)?.1)),
                    offset => Some((partition, offset)),
                };
                found.into_iter().filter_map(place).collect()
            }
        })
    }
}
