//! What the limit of open files allows: segment files, connections, and what there is of either always. Pure.

/// Descriptors of the process itself: executable, sockets of the console, the lock.
const PROCESS: usize = 32;
/// Of one shard besides segment files: io_uring's rings, event descriptors, sixteen journal files opened twice, files of
/// operations under way.
const SHARD: usize = 64;
/// Segment files that a shard works well with, and those that it can do with.
const SHARD_FILES: usize = 256;
const SHARD_FILES_MIN: usize = 8;
/// Connections that a broker of any use must serve.
const CONNECTIONS_MIN: usize = 32;

/// How many of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorPlan {
    /// Segment and index files that a shard keeps open.
    pub(crate) shard_files: usize,
    /// Connections of the broker.
    pub(crate) connections: usize,
}

/// The limit is too low for so many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, and {shards} shards need {needed} at least: raise it (ulimit -n {needed}, \
     LimitNOFILE= of a systemd unit), or run on fewer cores (ringlog.cores)"
)]
pub struct TooFewDescriptors {
    limit: usize,
    shards: usize,
    needed: usize,
}

impl DescriptorPlan {
    /// Divides `limit`. A quarter of what is free goes to segment files, as far as they are of use.
    pub(crate) fn new(
        limit: usize,
        shards: usize,
        connections_wanted: usize,
    ) -> Result<DescriptorPlan, TooFewDescriptors> {
        let fixed = PROCESS + shards * SHARD;
        let needed = fixed + shards * SHARD_FILES_MIN + CONNECTIONS_MIN;
        if limit < needed {
            return Err(TooFewDescriptors {
                limit,
                shards,
                needed,
            });
        }
        let free = limit - fixed;
        let shard_files = (free / 4 / shards).clamp(SHARD_FILES_MIN, SHARD_FILES);
        Ok(DescriptorPlan {
            shard_files,
            connections: connections_wanted.min(free - shards * shard_files),
        })
    }

    /// What the limit allows, for the log.
    pub(crate) fn sentence(&self, limit: usize) -> String {
        format!(
            "the limit of open files is {limit}: {} connections and {} segment files per shard",
            self.connections, self.shard_files
        )
    }

    /// What the limit does not allow, for the log.
    pub(crate) fn warning(&self, limit: usize, connections_wanted: usize) -> Option<String> {
        let is_short = self.connections < connections_wanted.min(1_000);
        is_short.then(|| {
            format!(
                "{}; raise it (ulimit -n, LimitNOFILE= of a systemd unit)",
                self.sentence(limit)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let plan = |shard_files, connections| {
            Ok(DescriptorPlan {
                shard_files,
                connections,
            })
        };
        // (limit, shards, connections wanted) -> plan
        let table = [
            ((1024, 2, usize::MAX), plan(108, 648)),
            ((300, 2, usize::MAX), plan(17, 106)),
            ((20_000, 2, usize::MAX), plan(256, 19_328)),
            ((20_000, 2, 100), plan(256, 100)),
            ((1_048_576, 64, usize::MAX), plan(256, 1_028_064)),
        ];
        for ((limit, shards, wanted), expected) in table {
            assert_eq!(
                DescriptorPlan::new(limit, shards, wanted),
                expected,
                "{limit}"
            );
        }
        let refused = DescriptorPlan::new(64, 2, 100).unwrap_err().to_string();
        assert!(refused.contains("ulimit -n 208"), "{refused}");
        assert!(plan(17, 106).unwrap().warning(300, usize::MAX).is_some());
        assert!(plan(17, 100).unwrap().warning(300, 100).is_none());
    }
}
